"""``quire fallback tune``: what it says would have been gained is what a replay of the record gains."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.runtime.ports import SystemClock
from quire.cli.main import main
from quire.cli.traces import Trace, TurnRecord, traces
from quire.cli.tuning import Tuner
from quire.cli.turn_statistics import grouped
from quire.config.loader import load
from quire.config.settings import SOURCES
from quire.events.facts import FallbackAttempt, JobRequeued
from quire.events.fallback_plan import Plan
from quire.events.record import Recorded
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.testing.web import World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import quire, rehearsed

PLAN = Plan.of(load([], environ={}).settings.fallback)
OUTCOMES = ("success", "no_pdf", "nonretryable", "retryable", "timeout", "error")


def turn(outcome: str, elapsed_ms: int, *, front_ms: int | None = None, reason: str = "x") -> TurnRecord:
    return TurnRecord(outcome, reason, elapsed_ms, elapsed_ms if front_ms is None else front_ms, "h")


def trace(number: int, **turns: TurnRecord) -> Trace:
    lacks = {source: "no_doi" for source in SOURCES if source not in turns}
    return Trace(f"{number:064x}", dict(turns), lacks)


def recorded(event, *, stream: str = "job/" + "ab" * 32, position: int = 1, time_ns: int = 10) -> Recorded:
    return Recorded(position, stream, 1, 1, time_ns, "run", 0, event)


def attempt(source: str, outcome: str, elapsed_ms: int, reason: str = "", **meta: int) -> FallbackAttempt:
    return FallbackAttempt("t", source, 1, outcome, reason, "w", "pdf", elapsed_ms=elapsed_ms, meta=meta)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tune")
    world = World.demo(60, seed=3)
    works = path / "works.txt"
    works.write_text("\n".join(world.inputs()))
    with serve(world) as server:
        rehearsed(server.url, path / "lib", works)
    return path / "lib"


def test_the_plan_in_force_comes_out_as_it_was_run(demo):
    """Replaying the record under the very plan gives the papers that came home, from recorded ends alone."""
    library = Library.open(demo)
    store = LmdbStore(library.events, QUIRE, run_id="t", clock=SystemClock(), map_size=1 << 30, readonly=True)
    found = traces(store.read(0, limit=100_000))
    store.close()
    tally = Tuner(found).tally(PLAN)
    assert tally.works == len(found) > 40
    assert tally.home == sum(one.home for one in found) > 30
    assert tally.drawn <= tally.recorded // 20  # a turn that was beaten has no end on record


def test_a_source_that_always_fails_slowly_is_put_behind():
    """Two sources side by side of which one never helps: taking it out of the way saves its turns."""
    works = [
        trace(
            n,
            unpaywall_pdf=turn("success", 200),
            arxiv_pdf=turn("no_pdf", 190),
            wayback_pdf=turn("no_pdf", 9),
        )
        for n in range(40)
    ]
    change = next(Tuner(works).proposals(PLAN))
    assert change.home == 0
    assert change.after.turns == 40 < change.before.turns == 80


def test_a_timeout_is_cut_to_what_the_successes_needed():
    """Where misses wait for their timeout and every success is quick, a shorter timeout saves that time."""
    works = [
        trace(n, arxiv_pdf=turn("success", 400) if n % 2 else turn("timeout", 8_000, reason="deadline"))
        for n in range(40)
    ]
    change = next(Tuner(works).proposals(PLAN))
    assert change.setting == "fallback.policies.arxiv_pdf.timeout_ms"
    assert (change.now, change.then, change.home) == ("8000", "500", 0)
    assert change.after.resolving_ms == 20 * 400 + 20 * 500


def test_no_change_costs_a_paper():
    """A slow success is kept, however much time a shorter timeout would save."""
    works = [trace(n, arxiv_pdf=turn("timeout", 8_000, reason="deadline")) for n in range(39)]
    works.append(trace(99, arxiv_pdf=turn("success", 9_000, front_ms=7_950)))
    assert all(change.home >= 0 for change in Tuner(works).proposals(PLAN))
    assert Tuner(works).tally(PLAN).home == 1


def test_what_a_longer_timeout_would_find_is_not_made_up():
    """A turn that its timeout cut stays a miss under a longer one."""
    works = [trace(n, arxiv_pdf=turn("timeout", 8_000, reason="deadline")) for n in range(20)]
    longer = msgspec.structs.replace(PLAN, timeouts_ms={**PLAN.timeouts_ms, "arxiv_pdf": 60_000})
    assert Tuner(works).tally(longer).home == 0


def test_a_beaten_turn_is_not_given_an_end_before_it_was_beaten():
    """A source that was still at it after 300 ms did not succeed at 10 ms, whatever others' turns say."""
    quick = [trace(n, unpaywall_pdf=turn("success", 10)) for n in range(5)]
    beaten = trace(77, arxiv_pdf=turn("success", 300))
    del beaten.lacks["unpaywall_pdf"]
    beaten.cut_ms["unpaywall_pdf"] = 300
    tally = Tuner([*quick, beaten]).tally(PLAN)
    assert tally.resolving_ms == 5 * 10 + 300
    assert (tally.recorded, tally.drawn) == (6, 1)


def test_sources_stay_behind_those_that_they_learn_from():
    """Nothing is proposed that puts the reader of pages before the source that brings them."""
    works = [
        trace(n, doi_redirect_pdf=turn("no_pdf", 5_000), landing_scrape_pdf=turn("success", 5))
        for n in range(30)
    ]
    for change in Tuner(works).proposals(PLAN):
        place = {s: i for i, (_, _, sources) in enumerate(change.plan.tiers) for s in sources}
        assert place["doi_redirect_pdf"] < place["landing_scrape_pdf"]


TURNS = st.builds(turn, st.sampled_from(OUTCOMES), st.integers(0, 15_000))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(SOURCES), TURNS, min_size=1), min_size=1, max_size=6))
def test_every_record_can_be_replayed(records):
    """Whatever the turns were, each replay ends, and each proposal is what its own plan tallies to."""
    works = [Trace(f"{n:064x}", dict(turns), {}) for n, turns in enumerate(records)]
    tuner = Tuner(works)
    assert tuner.tally(PLAN).works == len(works)
    for change in tuner.proposals(PLAN):
        assert tuner.tally(change.plan) == change.after
        assert change.home > 0 or change.gain > 0


def test_a_trace_is_one_generation():
    """A retried job gives two traces; skips by gates and cancelled turns are no ends."""
    events = [
        recorded(attempt("arxiv_pdf", "timeout", 8_000, "deadline")),
        recorded(attempt("pmc_pdf", "skipped", 50, "beaten")),
        recorded(attempt("wayback_pdf", "skipped", 0, "breaker_open")),
        recorded(attempt("europe_pmc_pdf", "skipped", 0, "no_doi")),
        recorded(JobRequeued(2, "retry")),
        recorded(attempt("arxiv_pdf", "success", 900, front_ms=300)),
    ]
    first, second = traces(events)
    assert first.turns == {"arxiv_pdf": TurnRecord("timeout", "deadline", 8_000, 8_000, "")}
    assert (first.cut_ms, first.lacks) == ({"pmc_pdf": 50}, {"europe_pmc_pdf": "no_doi"})
    assert second.turns["arxiv_pdf"].front_ms == 300


def test_tune_prints_settings_that_give_its_plan(demo, tmp_path):
    """What is to be pasted is accepted as settings, and a replay under it gains what was said."""
    said = quire("fallback", "tune", "--library", demo)
    assert said.returncode == 0, said.stderr
    value = json.loads(quire("fallback", "tune", "--library", demo, "--json").stdout)
    assert value["home_recorded"] == value["replayed"]["home"]
    if not value["changes"]:
        pytest.skip("no change would have paid for this library")
    pasted = tmp_path / "tuned.yaml"
    pasted.write_text(said.stdout[said.stdout.index("\nfallback:") :])
    again = json.loads(quire("fallback", "tune", "--library", demo, "--config", pasted, "--json").stdout)
    total = sum(change["turns"] for change in value["changes"])
    assert again["replayed"]["turns"] == value["replayed"]["turns"] + total


def test_a_log_that_says_too_little_is_refused(tmp_path, capsys):
    """Below twenty works nothing is proposed, and it is said why."""
    library = Library.open(tmp_path / "lib")
    LmdbStore(library.events, QUIRE, run_id="t", clock=SystemClock(), map_size=1 << 30).close()
    assert main(["fallback", "tune", "--library", str(tmp_path / "lib")]) == 2
    assert "0 works" in capsys.readouterr().err


def test_statistics_by_period_stand_in_the_order_of_time():
    """Turns fall into the period of their time, and the earliest comes first."""
    day_ns = 86_400 * 10**9
    events = [recorded(attempt("s", "success", 5), time_ns=ns) for ns in (3 * day_ns, day_ns, day_ns + 1)]
    lines = grouped(events, "period", period_s=86_400)
    assert [(line["name"], line["turns"]) for line in lines] == [
        ("1970-01-02T00:00:00Z", 2),
        ("1970-01-04T00:00:00Z", 1),
    ]
