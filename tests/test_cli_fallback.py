"""``quire fallback``: the plan foreseen is the plan that is run, and the counts are those of the log."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.actors.runtime.ports import NANOSECONDS, SystemClock
from quire.cli.forecast import Forecaster, Step
from quire.cli.main import main
from quire.cli.turn_statistics import Group, grouped, rounded
from quire.config.loader import Flag, load
from quire.events.facts import BreakerChanged, FallbackAttempt
from quire.events.projections import HostRow
from quire.events.record import Batch, Recorded
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.testing.web import World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import HOME, LOST, append, fill, quire, rehearsed

EMAIL = Flag(("web", "contact_email"), "reader@quire.example", "--email")
PAPER = Work(doi="10.1000/a")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fallback") / "lib"
    fill(path)
    return path


def forecast(work: Work, *flags: Flag, hosts: tuple[HostRow, ...] = ()):
    settings = load([EMAIL, *flags], environ={}).settings
    return Forecaster(settings, SystemClock(), hosts=hosts).of(work)


def by_source(steps: tuple[Step, ...]) -> dict[str, Step]:
    return {step.source: step for step in steps}


def asked(found) -> list[tuple[str, int, int]]:
    return [(step.source, step.starts_ms, step.timeout_ms) for step in found.steps if step.turn]


# -- plan


def test_a_doi_is_asked_of_every_source_in_the_order_of_the_tiers():
    """Tiers in order, each starting when the turns before it can have ended at the latest."""
    found = forecast(PAPER)
    assert asked(found) == [
        ("unpaywall_pdf", 0, 6_000),
        ("pmc_pdf", 0, 8_000),
        ("doi_redirect_pdf", 8_000, 10_000),
        ("landing_scrape_pdf", 18_000, 12_000),
        ("europe_pmc_pdf", 18_000, 6_000),
    ]
    steps = by_source(found.steps)
    assert (steps["arxiv_pdf"].verdict, steps["arxiv_pdf"].reason) == ("passed_over", "no_arxiv_id")
    assert (steps["wayback_pdf"].verdict, steps["wayback_pdf"].reason) == ("depends", "no_url")
    assert (found.ends, found.attempts, found.longest_ms) == ("exhausted", 5, 30_000)
    assert steps["unpaywall_pdf"].url == "https://api.unpaywall.org/v2/10.1000/a?email=REDACTED"


def test_one_turn_at_a_time_where_a_tier_says_so():
    """``parallel`` and ``max_concurrent`` move the starts."""
    alone = forecast(PAPER, Flag(("fallback", "tiers", "direct_oa", "parallel"), 1, "--fallback-tier"))
    assert asked(alone)[:3] == [
        ("unpaywall_pdf", 0, 6_000),
        ("pmc_pdf", 6_000, 8_000),
        ("doi_redirect_pdf", 14_000, 10_000),
    ]
    single = forecast(PAPER, Flag(("fallback", "budgets", "max_concurrent"), 1, "x"))
    assert [start for _, start, _ in asked(single)] == [0, 6_000, 14_000, 24_000, 36_000]


def test_budgets_cut_the_plan():
    """What the attempts or the time do not reach is said to be not reached."""
    few = forecast(PAPER, Flag(("fallback", "budgets", "total_attempts"), 3, "x"))
    assert len(asked(few)) == 3
    assert by_source(few.steps)["europe_pmc_pdf"].verdict == "not_reached"
    assert few.ends == "budget_exhausted"
    short = forecast(PAPER, Flag(("fallback", "budgets", "total_timeout_ms"), 9_000, "x"))
    assert asked(short)[-1] == ("doi_redirect_pdf", 8_000, 1_000)
    assert (short.ends, short.longest_ms) == ("budget_exhausted", 9_000)


def test_gates_and_needs_hold_sources_back():
    """Offline, an open breaker of the log, no e-mail, a disabled source, a rollout: each with its reason."""
    offline = by_source(forecast(PAPER, Flag(("web", "offline"), True, "--offline")).steps)
    assert (offline["doi_redirect_pdf"].verdict, offline["doi_redirect_pdf"].reason) == (
        "held_back",
        "offline",
    )
    assert offline["unpaywall_pdf"].verdict == "asked"
    now = SystemClock().wall_ns()
    rows = (
        HostRow("doi.org", "open", "http_503", 5, now + 60 * NANOSECONDS, now),
        HostRow("api.unpaywall.org", "open", "http_503", 5, now - NANOSECONDS, now),
    )
    broken = forecast(PAPER, hosts=rows)
    assert by_source(broken.steps)["doi_redirect_pdf"].reason == "breaker_open"
    assert by_source(broken.steps)["unpaywall_pdf"].verdict == "asked"
    assert broken.ends == "breaker_open"
    nobody = forecast(PAPER, Flag(("web", "contact_email"), None, "x"))
    assert by_source(nobody.steps)["unpaywall_pdf"].reason == "no_email"
    disabled = forecast(PAPER, Flag(("fallback", "disabled"), ["pmc_pdf"], "x"))
    assert by_source(disabled.steps)["pmc_pdf"].reason == "disabled"
    assert forecast(PAPER, Flag(("fallback", "rollout", "percent"), 0, "x")).ends == "rollout"


def test_a_title_is_identified_first():
    """A work known by title alone begins with Crossref; the others depend on what it finds."""
    found = forecast(Work(title="A title of a paper"))
    assert found.steps[0].source == "crossref"
    assert by_source(found.steps)["unpaywall_pdf"].verdict == "depends"


@given(
    st.builds(
        Work,
        doi=st.sampled_from(["", "10.1000/a"]), arxiv_id=st.sampled_from(["", "2101.00001"]),
        pmid=st.sampled_from(["", "7"]), url=st.sampled_from(["", "https://x.org/1", "https://arxiv.org/abs/2101.1"]),
        title=st.just("T"),
    ),
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 40_000),
)  # fmt: skip
def test_every_plan_ends_and_names_each_source_once(work, attempts, concurrent, total_ms):
    """Whatever the work and the budgets: each source stands in the plan once, within attempts and time."""
    found = forecast(
        work,
        Flag(("fallback", "budgets", "total_attempts"), attempts, "x"),
        Flag(("fallback", "budgets", "max_concurrent"), concurrent, "x"),
        Flag(("fallback", "budgets", "total_timeout_ms"), total_ms, "x"),
    )
    sources = [step.source for step in found.steps if step.source != "crossref"]
    assert len(sources) == len(set(sources)) == 7
    assert found.attempts <= attempts
    assert found.longest_ms <= total_ms


def test_a_run_does_what_the_plan_foresaw(tmp_path):
    """In a real run where nobody has a PDF, the turns of the log are those foreseen, tier by tier."""
    work = tmp_path / "a.txt"
    work.write_text("10.5555/never.was\n")
    lib = tmp_path / "lib"
    with serve(World(seed=1)) as server:
        rehearsed(server.url, lib, work)
        flags = ["--library", lib, "--email", "reader@quire.example", "--json"]
        planned = json.loads(quire("fallback", "plan", "10.5555/never.was", *flags).stdout)
    told = quire("log", "--library", lib, "--json").stdout.splitlines()
    attempts = [e["data"] for e in map(json.loads, told) if e["type"] == "fallback_attempt"]
    first = [step["source"] for step in planned["steps"] if step["verdict"] == "asked"]
    happened = [a["source"] for a in attempts if a["outcome"] != "skipped" and a["attempt"]]
    assert set(first) == set(happened) - {"wayback_pdf"}
    assert planned["work_id"] == "doi:10.5555/never.was"


# -- the command


def test_plan_and_explain_need_no_library_and_ask_nothing(library, tmp_path):
    """A plan is made for any identifier; explain adds what the log has; a label names its job."""
    plain = quire("fallback", "plan", "10.1000/a", "--library", tmp_path / "none")
    assert plain.returncode == 0
    assert "doi_redirect_pdf" in plain.stdout
    assert "no_email" not in plain.stdout
    assert not (tmp_path / "none").exists()
    told = quire("fallback", "explain", "l-lost", "--library", library)
    assert "What the log says; the work is FAILED" in told.stdout
    assert told.stdout.count("h.org") == 2
    found = json.loads(quire("fallback", "explain", LOST.doi, "--library", library, "--json").stdout)
    assert found["plan"]["work_id"] == LOST.work_id
    assert [step["type"] for step in found["happened"]] == ["fallback_attempt"] * 2
    fresh = quire("fallback", "explain", "10.1000/unknown", "--library", library)
    assert "The log knows nothing of it." in fresh.stdout
    assert quire("fallback", "plan", "word", "--library", library).returncode == 2


def test_config_names_every_setting_of_the_plan_and_its_origin(tmp_path):
    """A flag, a file with its line and the defaults are told apart."""
    file = tmp_path / "q.yaml"
    file.write_text("fallback:\n  gates:\n    skip_if_breaker_open: false\n")
    words = ["--config", file, "--fallback-max-attempts", 7]
    text = quire("fallback", "config", *words).stdout
    assert "budgets.total_attempts" in text
    (line,) = [line for line in text.splitlines() if line.startswith("gates.skip_if_breaker_open")]
    assert "q.yaml" in line
    found = json.loads(quire("fallback", "config", *words, "--json").stdout)
    assert found["fallback"]["budgets"]["total_attempts"] == 7
    assert found["origins"]["fallback.budgets.total_attempts"] == "--fallback-max-attempts"
    assert all(path.startswith("fallback.") for path in found["origins"])


def test_dryrun_sums_the_plans_of_a_list(tmp_path):
    """Each source with how often it is asked, perhaps asked and not, and why; bad lines make exit 1."""
    file = tmp_path / "l.txt"
    file.write_text("10.1000/a\n2101.00001\nwhat\n10.1000/b\n")
    words = ["fallback", "dryrun", file, "--email", "reader@quire.example", "--library", tmp_path / "none"]
    done = quire(*words, "--json")
    assert done.returncode == 1
    assert "l.txt:3" in done.stderr
    found = json.loads(done.stdout)
    sources = {line["source"]: line for line in found["sources"]}
    assert (found["works"], found["bad_lines"], found["works_without_a_turn"]) == (3, 1, 0)
    assert (sources["unpaywall_pdf"]["asked"], sources["unpaywall_pdf"]["reasons"]) == (2, {"no_doi": 1})
    assert (sources["arxiv_pdf"]["asked"], sources["arxiv_pdf"]["reasons"]) == (1, {"no_arxiv_id": 2})
    assert "3 works" in quire(*words).stdout


# -- stats


def test_stats_count_the_turns_of_the_log(library, capsys):
    """By source, tier, host and reason; JSON for scripts; a library without turns says so."""

    def stats(*words: str) -> str:
        assert main(["fallback", "stats", "--library", str(library), *words]) == 0
        return capsys.readouterr().out

    found = json.loads(stats("--json"))
    assert found["by"] == "source"
    line = {"turns": 1, "success": 0, "share": 0.0, "skipped": 0, "p50_ms": 12, "p95_ms": 12}
    assert found["groups"] == [{"name": name, **line} for name in ("doi_redirect_pdf", "unpaywall_pdf")]
    reasons = json.loads(stats("--by", "reason", "--json"))
    assert {group["name"] for group in reasons["groups"]} == {"no_oa_location", "http_404"}
    assert "h.org" in stats("--by", "host")
    assert stats("--since", "2999-01-01") == "No source has had its turn.\n"
    assert stats("--since", "1h").count("unpaywall_pdf") == 1
    wrong = quire("fallback", "stats", "--since", "yesterday", "--library", library)
    assert (wrong.returncode, "24h" in wrong.stderr) == (2, True)


POSITIONS = count(1)


def recorded(outcome: str, elapsed_ms: int, *, time_ns: int = 10, **fields: str) -> Recorded[FallbackAttempt]:
    said = {"tier": "t", "source": "s", "reason": "", **fields}
    attempt = FallbackAttempt(
        said["tier"], said["source"], 1, outcome, said["reason"], "w", "pdf", host="h", elapsed_ms=elapsed_ms
    )
    return Recorded(next(POSITIONS), "job/1", 1, 1, time_ns, "r", 0, attempt)


def test_shares_leave_out_those_passed_over():
    """A skip is no turn: it counts apart, and takes no part in share and percentiles."""
    events = [
        recorded("success", 100),
        recorded("no_pdf", 300, reason="x"),
        recorded("skipped", 0, reason="no_doi"),
    ]
    (line,) = grouped(events, "source")
    assert (line["turns"], line["success"], line["share"], line["skipped"]) == (2, 1, 0.5, 1)
    assert (line["p50_ms"], line["p95_ms"]) == (100, 300)
    names = [line["name"] for line in grouped(events, "reason")]
    assert names == ["success", "x", "no_doi"]
    assert grouped([recorded("success", 1, time_ns=5)], "source", since_ns=6) == []


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_percentiles_are_those_of_the_sorted_durations(durations, share):
    """The nearest rank of all durations, to three digits."""
    group = Group()
    for elapsed_ms in durations:
        group.add(recorded("no_pdf", elapsed_ms).event)
    ordered = sorted(map(rounded, durations))
    rank = next(n for n in range(1, len(ordered) + 1) if n >= share * len(ordered))
    assert group.percentile_ms(share) == ordered[rank - 1]


def test_open_breakers_of_the_log_show_in_the_plan(tmp_path):
    """The breaker that the log left open holds its source back in the plan of the command."""
    path = tmp_path / "lib"
    fill(path)
    clock = SystemClock()
    store = LmdbStore(Library.open(path).events, QUIRE, run_id="r", clock=clock, map_size=1 << 30)
    until_ns = clock.wall_ns() + 600 * NANOSECONDS
    store.append([Batch("host/doi.org", (BreakerChanged("doi.org", "open", "http_503", 5, until_ns),))])
    append(store, HOME, FallbackAttempt("t", "s", 1, "success", "", "w", "pdf", elapsed_ms=5), epoch=1)
    store.close()
    found = json.loads(quire("fallback", "plan", "10.1000/fresh", "--library", path, "--json").stdout)
    assert by_name(found)["doi_redirect_pdf"]["reason"] == "breaker_open"
    stats = json.loads(quire("fallback", "stats", "--library", path, "--json").stdout)
    (line,) = [group for group in stats["groups"] if group["name"] == "s"]
    assert (line["turns"], line["success"], line["share"]) == (1, 1, 1.0)


def by_name(found: dict) -> dict[str, dict]:
    return {step["source"]: step for step in found["steps"]}
