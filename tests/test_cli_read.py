"""The commands that read a library: help, settings, status, list, explain, log, replay, audit, retry."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quire.cli.library import find_job, open_library
from quire.cli.output import human_bytes, human_time, table
from quire.cli.story import Story
from quire.cli.words import WORDS, words_for
from quire.config.loader import Flag, load
from quire.events import facts
from quire.events.facts import JobLeased, OperationCompleted
from quire.events.job import stream_of
from quire.events.keys import job_key
from quire.events.projections import JOBS, PARKED_NS
from quire.events.record import Recorded

sys.path.insert(0, str(Path(__file__).parent))
from command import FRESH, HOME, LOST, SHA, WAITS, append, fill, here, lines, quire, started, turn

IDENTITY = ["doi", "arxiv_id", "pmcid", "pmid", "url", "title", "label", "job_id"]
LIST_NAMES = [
    *IDENTITY,
    *["state", "generation", "reason", "source", "pdf_url", "sha256", "path", "bytes", "attempts"],
    "title_check",
]
EVENT_NAMES = ["position", "stream", "version", "epoch", "time", "type", "run_id", "data"]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A library with one job of each kind: home, failed, waiting, never taken up."""
    path = tmp_path_factory.mktemp("cli") / "lib"
    fill(path)
    return path


# -- help and usage


def test_help_imports_none_of_the_heavy_libraries():
    """``quire --help`` and the parser's import bring in none of the libraries behind the commands."""
    code = (
        "import sys\nfrom quire.cli.main import main\n"
        "try: main(['run', '--help'])\nexcept SystemExit: pass\n"
        "print(len(sys.modules), *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    count, *names = done.stderr.split()
    heavy = {"yaml", "httpx", "lxml", "pykka", "lmdb", "aiohttp", "msgspec", "asyncio", "idna", "pikepdf"}
    assert "usage: quire run" in done.stdout
    assert not heavy & set(names)
    assert int(count) < 150


def test_every_command_has_help():
    """Each command that the summary names explains itself and exits 0."""
    summary = quire("--help").stdout
    commands = re.findall(r"^    ([a-z]+) ", summary, re.MULTILINE)
    assert {"run", "resume", "demo", "status", "list", "retry", "explain", "log", "replay", "audit"} <= set(
        commands
    )
    from quire.cli.main import build_parser

    for command in commands:
        with pytest.raises(SystemExit) as left:
            build_parser().parse_args([command, "--help"])
        assert left.value.code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "required: COMMAND"),
        (("fly",), "invalid choice"),
        (("run",), "what shall be run? give an INPUT"),
        (("run", "no-such.txt", "--dry-run"), "no-such.txt: there is no such file"),
        (("run", "x.txt", "--workers", "0"), "expected a number from 1"),
        (("log", "--after", "-1"), "--after: expected a number from 0 on, got '-1'; see quire log --help"),
        (("status", "--library", "/nonexistent"), "there is no library at /nonexistent"),
        (("resume", "--library", "/nonexistent"), "there is no library at /nonexistent"),
        (("config", "show", "--fallback-tier", "archive=2"), "expected NAME:parallel=N"),
        (("config", "show", "--fallback-tier", "arch:parallel=2"), "did you mean archive?"),
        (("config", "show", "--pacing", "none"), "--pacing: web.pacing: none is accepted only together"),
    ],
)
def test_usage_errors_exit_2_and_say_why(words, said):
    """What is wrong in the request is told on stderr, with exit code 2 and an empty stdout."""
    done = here(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, "one line that matters"


def test_config_show_never_shows_a_key():
    """A secret is told of, with its origin, and its value stands nowhere."""
    env = {"QUIRE_SOURCES__OPENALEX__API_KEY": "s3cret-key"}
    for words in (("--origin",), ("--json",), ("--json", "--origin"), ()):
        done = quire("config", "show", *words, env=env)
        assert "s3cret" not in done.stdout + done.stderr
        assert "(set, not shown)" in done.stdout


def test_config_show_tells_value_and_origin(tmp_path):
    """Each run flag is a setting, and the account says flag, variable, file:line or default."""
    file = tmp_path / "q.yaml"
    file.write_text("web:\n  offline: true\n")
    flags = "--fallback-total-timeout-ms 9 --fallback-max-attempts 8 --fallback-max-concurrent 7"
    more = "--fallback-tier archive:parallel=6 --disable-wayback-fallback --json --origin --config"
    env = {"QUIRE_OPS__STALE_AFTER_S": "5"}
    done = quire("config", "show", *flags.split(), *more.split(), file, env=env)
    found = json.loads(done.stdout)
    budgets = found["settings"]["fallback"]["budgets"]
    assert [budgets[k] for k in ("total_timeout_ms", "total_attempts", "max_concurrent")] == [9, 8, 7]
    assert found["settings"]["fallback"]["tiers"][3]["parallel"] == 6
    assert found["settings"]["fallback"]["disabled"] == ["wayback_pdf"]
    origins = found["origins"]
    assert origins["fallback.disabled"] == "--disable-wayback-fallback"
    assert origins["web.offline"] == f"{file}:2"
    assert origins["ops.stale_after_s"] == "QUIRE_OPS__STALE_AFTER_S"
    assert origins["web.pacing"] == "default"


# -- reading a library


def test_list_json_has_exactly_the_promised_names(library):
    """A line per job with the names of the SPEC in their order; a paper at home has hash and path."""
    found = lines(here("list", "--json", "--library", library).stdout)
    assert len(found) == 4
    assert all(list(line) == LIST_NAMES for line in found)
    home = next(line for line in found if line["doi"] == "10.1000/home")
    assert (home["state"], home["sha256"], home["bytes"]) == ("INDEXED", SHA, 2000)
    assert (home["path"], home["source"]) == (f"objects/ab/{SHA}.pdf", "arxiv_pdf")
    lost = next(line for line in found if line["doi"] == "10.1000/lost")
    assert (lost["state"], lost["reason"], lost["attempts"], lost["path"]) == ("FAILED", "exhausted", 2, "")


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ("--state failed", 1),
        ("--reason exhausted", 1),
        ("--source arxiv_pdf", 1),
        ("--state INDEXED --reason x", 0),
    ],
)
def test_list_filters(library, flags, count):
    """State in any case, reason and source; together they narrow."""
    assert len(here("list", *flags.split(), "--library", library).stdout.splitlines()) == count


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("list --source foo", "no job matches --source foo; the sources are unpaywall_pdf, arxiv_pdf"),
        ("list --source pmc_pdf", "no job matches --source pmc_pdf\n"),
        ("list --reason foo --json", "no job matches --reason foo"),
        ("log --stream nope", "no event behind position 0 is of the stream nope"),
        ("list --state failed", ""),
    ],
)
def test_a_filter_that_nothing_passes_is_told(library, words, said):
    """Exit 0 and an empty stdout stay, and stderr says that nothing matches; else stderr is empty."""
    done = here(*words.split(), "--library", library)
    assert (done.returncode, bool(done.stdout)) == (0, not said)
    assert said in done.stderr
    assert bool(done.stderr) is bool(said)


def test_a_failure_says_whether_the_next_run_tries_it_again(tmp_path):
    """``list`` marks it and ``explain`` tells both kinds apart; JSON keeps its names."""
    where = ("--library", tmp_path / "lib")
    fill(tmp_path / "lib")
    assert "may be tried again" not in here("list", *where).stdout
    assert "It failed for good, until `quire retry`." in here("explain", "l-lost", *where).stdout
    with open_library(
        load([Flag(("library",), str(tmp_path / "lib"), "--library")], environ={}).settings, readonly=False
    ) as opened:
        failed = facts.JobStateChanged("PLANNED", "FAILED", reason="http_503", may_retry=True)
        append(opened.store, FRESH, JobLeased("w", 1, "b"), failed, epoch=1, opens=True)
    marked = [line for line in here("list", *where).stdout.splitlines() if "(may be tried again)" in line]
    assert ["10.1000/fresh" in line for line in marked] == [True]
    assert "may be tried again by the next run" in here("explain", "10.1000/fresh", *where).stdout
    assert {"reason": "http_503"}.items() <= json.loads(
        here("explain", "10.1000/fresh", "--json", *where).stdout
    ).items()


def test_status_counts_by_state_reason_and_source(library):
    """The counts are those of the tallies, and a lease is shown with its owner."""
    found = json.loads(here("status", "--json", "--leases", "--library", library).stdout)
    assert found["states"] == {"PLANNED": 1, "LEASED": 1, "INDEXED": 1, "FAILED": 1}
    assert (found["jobs"], found["home"], found["unfinished"], found["failed"]) == (4, 1, 2, 1)
    assert (found["reasons"], found["sources"]) == ({"exhausted": 1}, {"arxiv_pdf": 1})
    assert (found["waiting"], found["leases"]) == ({"rate_wait": 1}, [])


def test_status_counts_without_looking_at_jobs(library, monkeypatch):
    """The cost of the status does not grow with the jobs: no row of a job is read."""
    from quire.cli.status import status_of
    from quire.events.projections import COUNTS

    class Watched:
        def rows(self, table, keys):
            raise AssertionError(table)

        def scan(self, table, prefix=b"", *, after=b"", limit=10_000):
            assert table == COUNTS
            return [(prefix + b"state:FAILED", 3)] if not after else []

    assert status_of(Watched())["failed"] == 3


@pytest.mark.parametrize(
    "name",
    ["10.1000/LOST", "https://doi.org/10.1000/lost", "doi:10.1000/lost", job_key(LOST)[:9], "l-lost"],
)
def test_explain_tells_each_turn_once_and_what_to_do(library, name):
    """A line a turn with the sentence for its reason, the verdict, and advice; by any of the work's names."""
    text = here("explain", name, "--library", library).stdout
    assert re.search(r"1  unpaywall_pdf +no PDF +12 ms  at h.org: The service knows no open copy", text)
    assert text.count("unpaywall_pdf") == text.count("doi_redirect_pdf") == 1
    assert "The server answered with this HTTP status: 404." in text
    assert "         The URL gave a web page instead of a PDF. (HTTP 200)" in text
    assert "FAILED: Every source had its turn, and none had a PDF." in text
    assert "Ask the library or the authors for a copy." in text


def test_explain_json_has_the_story_and_every_event(library):
    """The line of ``list``, the verdict, the turns with the URLs they opened, and all events in words."""
    found = json.loads(here("explain", "10.1000/lost", "--json", "--library", library).stdout)
    assert list(found)[: len(LIST_NAMES)] == LIST_NAMES
    assert found["advice"]
    assert [part["source"] for part in found["story"]] == ["unpaywall_pdf", "doi_redirect_pdf"]
    assert found["story"][1]["visits"] == [
        {"url": "https://h.org/a.pdf", "came": ["The URL gave a web page instead of a PDF. (HTTP 200)"]}
    ]
    every = here("explain", "10.1000/lost", "--all", "--library", library).stdout
    assert all(f"{step['position']:>8}  {step['time']}  {step['words']}" in every for step in found["steps"])


def test_explain_tells_takeovers_waits_replays_and_generations_in_a_line_each():
    """What came between the turns has its place among them; a lease that changed no hands is silent."""
    told = [
        JobLeased("w1", 1, "b"),
        *turn("arxiv_pdf", 1, "rate_wait", 0)[:1],
        JobLeased("w2", 1, "b", takeover=True),
        facts.CrashRecovery("o" * 64, "FALLBACK", "again", "w1"),
        OperationCompleted(f"{1:064d}", "FALLBACK", "ABANDONED", {"reason": "owner_gone"}),
        facts.IdempotencyReplay("p" * 64, "HEAD"),
        facts.IdempotencyReplay("q" * 64, "HEAD"),
        facts.JobWaiting("offline", PARKED_NS),
        facts.JobRequeued(2, "run_again"),
        *turn("wayback_pdf", 1, "no_capture", 200),
    ]
    story = Story(Recorded(n, "job/x", n, 1, n * 10**18, "r", 0, event) for n, event in enumerate(told, 1))
    first, taken, gone, replays, waits, again, last = story.parts
    assert (first.outcome, first.reason, last.generation) == ("skipped", "owner_gone", 2)
    assert "died or fell silent" in taken.words
    assert "worker w1 died" in gone.words
    assert "2 results of before" in replays.words
    assert "for a run whose settings let it through" in waits.words
    assert "generation 2. The list was run again." in again.words


def test_a_name_is_looked_up_by_keys_and_indexes_before_any_scan(library):
    """An identifier, a URL, a PDF's hash and a job id's start cost no look at every job."""

    class Watched:
        def __init__(self, store) -> None:
            self.store = store
            self.rows = store.rows

        def scan(self, table, prefix=b"", **more):
            assert prefix or table != JOBS, "every job was looked at"
            return self.store.scan(table, prefix, **more)

    with open_library(load([Flag(("library",), str(library), "--library")], environ={}).settings) as opened:
        watched = Watched(opened.store)
        for name, work in (
            ("arXiv:2101.00001v2", WAITS),
            ("https://x.org/a.pdf", HOME),
            (SHA, HOME),
            (job_key(FRESH)[:7], FRESH),
        ):
            assert find_job(watched, name) == job_key(work)
        with pytest.raises(AssertionError, match="every job"):
            find_job(watched, "l-lost")


def test_explain_refuses_a_name_that_nobody_has(library):
    """An unknown work is a usage error, not an empty answer."""
    assert here("explain", "10.1000/never", "--library", library).returncode == 2


def test_every_event_of_a_job_has_words():
    """No event that a job's stream can hold is explained by its tag alone."""
    elsewhere = {facts.BreakerChanged, facts.LibraryCreated, facts.RunStarted, facts.RunFinished}
    said = {*WORDS, facts.OperationCompleted}
    assert set(facts.AnyEvent.__args__) - elsewhere == said
    assert words_for("exhausted")[1]


def test_log_json_has_exactly_the_promised_names(library):
    """A line per event, positions without gaps; --stream and --after narrow it."""
    found = lines(here("log", "--json", "--library", library).stdout)
    assert [line["position"] for line in found] == list(range(1, len(found) + 1))
    assert all(list(line) == EVENT_NAMES for line in found)
    assert found[0]["data"]["work"]["doi"] == "10.1000/home"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    stream = stream_of(job_key(LOST))
    some = lines(here("log", "--json", "--stream", stream, "--after", 4, "--library", library).stdout)
    assert {line["stream"] for line in some} == {stream}
    assert some[0]["position"] > 4


def test_replay_gives_the_status_as_of_then(library):
    """At a position only what stood before it counts; a time before the log is an empty library."""
    found = json.loads(here("replay", "--at", 4, "--json", "--library", library).stdout)
    assert (found["position"], found["states"]) == (4, {"PLANNED": 4})
    early = json.loads(here("replay", "--at", "2001-01-01T00:00:00Z", "--json", "--library", library).stdout)
    assert (early["position"], early["jobs"]) == (0, 0)
    assert here("replay", "--at", "soon", "--library", library).returncode == 2
    assert here("replay", "--at", 10**6, "--library", library).returncode == 2


def test_audit_says_what_is_missing_and_exits_3(library):
    """The names of the promise; a PDF that the log says is there and that is not makes it fail."""
    done = here("audit", "--json", "--library", library)
    found = json.loads(done.stdout)
    assert list(found) == ["ok", "commits", "events", "head", "problems", "notes"]
    assert (done.returncode, found["ok"]) == (3, False)
    assert SHA in found["problems"][0]["path"]


def test_retry_opens_a_generation_and_rebuild_changes_nothing(tmp_path):
    """A failed work is planned anew; others are left alone and told; the projections fold to the same."""
    fill(tmp_path / "lib")
    where = ("--library", tmp_path / "lib")
    done = here("retry", "10.1000/lost", "10.1000/home", "--json", *where)
    assert json.loads(done.stdout) == {"requeued": 1, "refused": 0}
    assert "10.1000/home: is INDEXED, not FAILED" in done.stderr
    lost = next(
        line for line in lines(here("list", "--json", *where).stdout) if line["doi"] == "10.1000/lost"
    )
    assert (lost["state"], lost["generation"]) == ("PLANNED", 2)
    before = here("list", "--json", *where).stdout
    assert here("rebuild", *where).returncode == 0
    assert here("list", "--json", *where).stdout == before
    assert json.loads(here("retry", "--json", *where).stdout) == {"requeued": 0, "refused": 0}


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (("log", "--follow", "--json"), '"type":"lease_released"', '"type":"job_requeued"'),
        (("status", "--watch", "--json"), '"FAILED":1', '"PLANNED":2'),
    ],
)
def test_follow_and_watch_show_what_comes_until_ctrl_c(tmp_path, words, before, after):
    """What is there comes at once, what another process writes comes while they run, Ctrl-C exits 130."""
    fill(tmp_path / "lib")
    with started(*words, "--library", tmp_path / "lib") as process:
        seen = iter(process.stdout.readline, "")
        assert next(line for line in seen if before in line)
        assert here("retry", "10.1000/lost", "--library", tmp_path / "lib").returncode == 0
        assert next(line for line in seen if after in line)
        process.send_signal(signal.SIGINT)
        _, warned = process.communicate(timeout=20)
    assert (process.returncode, warned) == (130, "quire: interrupted\n")


def test_a_reader_who_leaves_early_is_no_error(library):
    """``quire log | head -1`` ends without a traceback."""
    command = f"{sys.executable} -m quire log --json --library {library} | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent
    )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


# -- messages


def test_a_defect_is_one_line_and_an_account_in_a_file(monkeypatch, capsys, library):
    """An error that nobody foresaw shows no traceback; the line says where the account is; exit 1."""
    from quire.cli import main, status

    def broken(_args):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(status, "status", broken)
    assert main.main(["status", "--library", str(library)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("quire: a defect of quire: ZeroDivisionError: by nought")
    account = Path(said.split()[-1])
    assert "Traceback" not in said
    assert "Traceback" in account.read_text()
    account.unlink()


def test_a_damaged_log_exits_3_and_says_so(tmp_path):
    """A byte that was flipped in the log is found by audit, and no command goes on as if nothing were."""
    fill(tmp_path / "lib")
    file = tmp_path / "lib" / "events" / "data.mdb"
    data = bytearray(file.read_bytes())
    at = data.find(b"10.1000/lost")
    while at >= 0:
        data[at] ^= 1
        at = data.find(b"10.1000/lost", at + 1)
    file.write_bytes(data)
    done = here("audit", "--library", tmp_path / "lib")
    assert done.returncode == 3
    assert "PROBLEM" in done.stdout
    read = here("rebuild", "--library", tmp_path / "lib")
    assert read.returncode == 3
    assert "audit" in read.stderr


# -- words


def test_sizes_times_and_tables_for_people():
    """Units of 1000, times by their size, numbers to the right."""
    assert [human_bytes(n) for n in (0, 999, 1500, 2_300_000_000)] == ["0 B", "999 B", "1.5 kB", "2.3 GB"]
    assert [human_time(s) for s in (0.44, 12, 185, 7800, 100_000)] == [
        "0.4 s", "12 s", "3 min 05 s", "2 h 10 min", "1 d 3 h",
    ]  # fmt: skip
    assert table([("a", 5), ("bb", 10)], header=("n", "x")) == "n    x\na    5\nbb  10"
