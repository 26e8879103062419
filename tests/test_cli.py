"""The command: real processes, exit codes, the JSON promised to scripts, and what help may cost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from quire.actors.runtime.ports import SystemClock
from quire.cli.explain import _WORDS, words_for
from quire.cli.output import human_bytes, human_time, table
from quire.events import facts
from quire.events.facts import (
    Artifact,
    FallbackAttempt,
    JobLeased,
    JobPlanned,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    OperationCompleted,
    OperationStarted,
)
from quire.events.job import stream_of
from quire.events.keys import job_key
from quire.events.record import Batch
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.testing.web import Paper, World, serve

LIST = "ab" * 8
SHA = "ab" * 32
IDENTITY = ["doi", "arxiv_id", "pmcid", "pmid", "url", "title", "label", "job_id"]
LIST_NAMES = [
    *IDENTITY,
    *["state", "generation", "reason", "source", "pdf_url", "sha256", "path", "bytes", "attempts"],
]
RUN_NAMES = [
    *["run_id", "works", "jobs", "planned_before", "finalized", "deduped", "skipped_duplicate", "failed"],
    *["waiting", "bytes", "requests", "elapsed_s", "failures_file"],
]
EVENT_NAMES = ["position", "stream", "version", "epoch", "time", "type", "run_id", "data"]
HOME, LOST, WAITS, FRESH = (
    Work(doi="10.1000/home", title="Home"),
    Work(doi="10.1000/lost"),
    Work(arxiv_id="2101.00001"),
    Work(doi="10.1000/fresh", pmid="7"),
)


def quire(
    *words: object, env: dict[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "quire", *map(str, words)],
        input=given,
        capture_output=True,
        timeout=60,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("QUIRE_")}, **(env or {})},
        cwd=Path(__file__).parent,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A library with one job of each kind: home, failed, waiting, never taken up."""
    path = tmp_path_factory.mktemp("cli") / "lib"
    fill(path)
    return path


def fill(path: Path) -> None:
    events = Library.open(path).events
    store = LmdbStore(events, QUIRE, run_id="r1", clock=SystemClock(), map_size=1 << 30)
    for work in (HOME, LOST, WAITS, FRESH):
        planned = JobPlanned(work, "pdf", work.resolver_url, LIST, label=f"l-{work.work_id[-4:]}")
        append(store, work, planned)
    leased = JobLeased("w1", 1, "boot")
    for work in (HOME, LOST, WAITS):
        append(store, work, leased, JobStateChanged("PLANNED", "LEASED"), epoch=1, opens=True)
    artifact = Artifact(SHA, 2_000, "arxiv_pdf", "https://x.org/a.pdf", "has_page")
    steps = ["LEASED", "HEAD_DONE", "STREAMING", "FINALIZED", "INDEXED"]
    changes = [JobStateChanged(a, b, artifact=artifact) for a, b in pairwise(steps)]
    append(store, HOME, *changes, LeaseReleased("done"), epoch=1)
    append(store, LOST, *turn("unpaywall_pdf", 1, "no_oa_location", 200), epoch=1)
    append(store, LOST, *turn("doi_redirect_pdf", 2, "http_404", 404), epoch=1)
    failed = JobStateChanged("LEASED", "FAILED", reason="exhausted")
    append(store, LOST, failed, LeaseReleased("failed"), epoch=1)
    append(store, WAITS, JobWaiting("rate_wait", 10**18, ("arxiv_pdf",)), LeaseReleased("waiting"), epoch=1)
    store.close()


def turn(source: str, number: int, reason: str, status: int) -> list[object]:
    op_id = f"{number:064d}"
    about = {"source": source, "generation": 1, "attempt": number}
    return [
        OperationStarted(op_id, "FALLBACK", about),
        OperationCompleted(op_id, "FALLBACK", "NON_RETRYABLE", {"reason": reason}, 12),
        FallbackAttempt("t", source, number, "no_pdf", reason, "doi:x", "pdf", host="h.org", status=status),
    ]


def append(
    store: LmdbStore, work: Work, *events: object, epoch: int | None = None, opens: bool = False
) -> None:
    batch = Batch(stream_of(job_key(work)), tuple(events), epoch=epoch, opens_epoch=opens)
    (result,) = store.append([batch])
    assert type(result).__name__ == "Appended", result


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
        (("run",), "required: INPUT"),
        (("run", "no-such.txt", "--dry-run"), "no-such.txt: there is no such file"),
        (("run", "x.txt", "--workers", "0"), "expected a number from 1"),
        (("status", "--library", "/nonexistent"), "there is no library at /nonexistent"),
        (("resume", "--library", "/nonexistent"), "there is no library at /nonexistent"),
        (("config", "show", "--fallback-tier", "archive=2"), "expected NAME:parallel=N"),
        (("config", "show", "--fallback-tier", "arch:parallel=2"), "did you mean archive?"),
        (("config", "show", "--pacing", "none"), "--pacing: web.pacing: none is accepted only together"),
    ],
)
def test_usage_errors_exit_2_and_say_why(words, said):
    """What is wrong in the request is told on stderr, with exit code 2 and an empty stdout."""
    done = quire(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


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
    found = lines(quire("list", "--json", "--library", library).stdout)
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
    assert len(quire("list", *flags.split(), "--library", library).stdout.splitlines()) == count


def test_status_counts_by_state_reason_and_source(library):
    """The counts are those of the tallies, and a lease is shown with its owner."""
    found = json.loads(quire("status", "--json", "--leases", "--library", library).stdout)
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
    "name", ["10.1000/LOST", "https://doi.org/10.1000/lost", job_key(LOST)[:9], "l-lost"]
)
def test_explain_tells_every_turn_and_what_to_do(library, name):
    """Each source's turn with the sentence for its reason, why it failed, and advice; by any of its names."""
    text = quire("explain", name, "--library", library).stdout
    assert "Turn 1, unpaywall_pdf (t) at h.org: no_pdf, HTTP 200" in text
    assert "The service knows no open copy of this work." in text
    assert "The server answered with this HTTP status: 404." in text
    assert "FAILED, generation 1: Every source had its turn, and none led to a PDF." in text
    found = json.loads(quire("explain", name, "--json", "--library", library).stdout)
    assert list(found)[: len(LIST_NAMES)] == LIST_NAMES
    assert [step["source"] for step in found["steps"] if "source" in step] == [
        "unpaywall_pdf",
        "doi_redirect_pdf",
    ]


def test_explain_refuses_a_name_that_nobody_has(library):
    """An unknown work is a usage error, not an empty answer."""
    assert quire("explain", "10.1000/never", "--library", library).returncode == 2


def test_every_event_of_a_job_has_words():
    """No event that a job's stream can hold is explained by its tag alone."""
    elsewhere = {facts.BreakerChanged, facts.LibraryCreated, facts.RunStarted, facts.RunFinished}
    said = {*_WORDS, facts.OperationCompleted}
    assert set(facts.AnyEvent.__args__) - elsewhere == said
    assert words_for("exhausted")[1]


def test_log_json_has_exactly_the_promised_names(library):
    """A line per event, positions without gaps; --stream and --after narrow it."""
    found = lines(quire("log", "--json", "--library", library).stdout)
    assert [line["position"] for line in found] == list(range(1, len(found) + 1))
    assert all(list(line) == EVENT_NAMES for line in found)
    assert found[0]["data"]["work"]["doi"] == "10.1000/home"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    stream = stream_of(job_key(LOST))
    some = lines(quire("log", "--json", "--stream", stream, "--after", 4, "--library", library).stdout)
    assert {line["stream"] for line in some} == {stream}
    assert some[0]["position"] > 4


def test_replay_gives_the_status_as_of_then(library):
    """At a position only what stood before it counts; a time before the log is an empty library."""
    found = json.loads(quire("replay", "--at", 4, "--json", "--library", library).stdout)
    assert (found["position"], found["states"]) == (4, {"PLANNED": 4})
    early = json.loads(quire("replay", "--at", "2001-01-01T00:00:00Z", "--json", "--library", library).stdout)
    assert (early["position"], early["jobs"]) == (0, 0)
    assert quire("replay", "--at", "soon", "--library", library).returncode == 2
    assert quire("replay", "--at", 10**6, "--library", library).returncode == 2


def test_audit_says_what_is_missing_and_exits_3(library):
    """The names of the promise; a PDF that the log says is there and that is not makes it fail."""
    done = quire("audit", "--json", "--library", library)
    found = json.loads(done.stdout)
    assert list(found) == ["ok", "commits", "events", "head", "problems", "notes"]
    assert (done.returncode, found["ok"]) == (3, False)
    assert SHA in found["problems"][0]["path"]


def test_retry_opens_a_generation_and_rebuild_changes_nothing(tmp_path):
    """A failed work is planned anew; others are left alone and told; the projections fold to the same."""
    fill(tmp_path / "lib")
    where = ("--library", tmp_path / "lib")
    done = quire("retry", "10.1000/lost", "10.1000/home", "--json", *where)
    assert json.loads(done.stdout) == {"requeued": 1, "refused": 0}
    assert "10.1000/home: is INDEXED, not FAILED" in done.stderr
    lost = next(
        line for line in lines(quire("list", "--json", *where).stdout) if line["doi"] == "10.1000/lost"
    )
    assert (lost["state"], lost["generation"]) == ("PLANNED", 2)
    before = quire("list", "--json", *where).stdout
    assert quire("rebuild", *where).returncode == 0
    assert quire("list", "--json", *where).stdout == before
    assert json.loads(quire("retry", "--json", *where).stdout) == {"requeued": 0, "refused": 0}


def test_a_reader_who_leaves_early_is_no_error(library):
    """``quire log | head -1`` ends without a traceback."""
    command = f"{sys.executable} -m quire log --json --library {library} | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent
    )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


# -- running, over a simulated web on loopback


def test_dry_run_plans_nothing_and_names_bad_lines(library, tmp_path):
    """What would be new, home, unfinished, failed, and where the bad lines are; the log stays as it is."""
    file = tmp_path / "a.txt"
    file.write_text("10.1000/home\n10.1000/lost\n10.1000/new\n10.1000/new\n42\n10.1000/fresh\n")
    before = quire("log", "--json", "--library", library).stdout
    done = quire("run", file, "--dry-run", "--json", "--library", library)
    found = json.loads(done.stdout)
    expected = {"works": 5, "doubled": 1, "new": 1, "unfinished": 1, "home": 1, "failed": 1, "bad_lines": 1}
    assert {name: found[name] for name in expected} == expected
    assert f"{file}:5: the bare number 42" in done.stderr
    assert quire("log", "--json", "--library", library).stdout == before
    assert not (tmp_path / "fresh").exists()
    assert quire("run", file, "--dry-run", "--library", tmp_path / "fresh").returncode == 1
    assert not (tmp_path / "fresh").exists()


def rehearsed(
    url: str, library: Path, *words: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    flags = (
        "--stand-in",
        url,
        "--pacing",
        "none",
        "--email",
        "reader@quire.example",
        "--library",
        library,
        "--json",
    )
    return quire("run", *words, *flags, env=env)


def test_a_run_says_what_it_did_and_gives_the_failures_back(tmp_path):
    """The promised object; failures come back as rows of the input with its header; again is free."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(5)))
    file = tmp_path / "papers.csv"
    rows = "".join(f"n{n},{doi}\n" for n, doi in enumerate(dois_of(world)))
    file.write_text("key,doi\n" + rows + "gone,10.5555/never.was\n")
    with serve(world) as served:
        first = rehearsed(served.url, tmp_path / "lib", file)
        asked = len(served.ledger.entries())
        second = rehearsed(served.url, tmp_path / "lib", file)
        assert len(served.ledger.entries()) == asked
    found = json.loads(first.stdout)
    assert list(found) == RUN_NAMES
    assert first.returncode == 1
    assert (
        found["jobs"] == found["finalized"] + found["deduped"] + found["skipped_duplicate"] + found["failed"]
    )
    assert found["failed"] == 1
    assert found["finalized"] == 5
    assert found["requests"] > 0
    failures = Path(found["failures_file"]).read_text()
    assert failures.startswith("key,doi\n")
    assert "gone,10.5555/never.was\n" in failures
    assert failures.count("\n") == found["failed"] + 1
    again = json.loads(second.stdout)
    assert (again["planned_before"], again["requests"]) == (found["jobs"], 0)


def dois_of(world: World) -> list[str]:
    return [row["doi"] for row in world.rows() if row["doi"]]


def test_a_sample_is_the_same_for_the_same_seed(tmp_path):
    """--sample draws N works, the same ones for a seed, others for another."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(40)))
    file = tmp_path / "a.txt"
    file.write_text("\n".join(dois_of(world)))
    drawn = []
    with serve(world) as served:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            flags = ("--sample", 3, "--seed", seed)
            done = rehearsed(served.url, tmp_path / name, file, *flags)
            assert json.loads(done.stdout)["works"] == 3
            found = lines(quire("list", "--json", "--library", tmp_path / name).stdout)
            drawn.append({line["doi"] for line in found})
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_workers_share_a_list(tmp_path):
    """--workers 2: the works are done once between two processes, and the summary counts both."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(150)))
    file = tmp_path / "a.txt"
    file.write_text("\n".join(dois_of(world)))
    with serve(world) as served:
        few = {"QUIRE_WORKS_IN_HAND": "1"}
        done = rehearsed(served.url, tmp_path / "lib", file, "--workers", 2, env=few)
        found = json.loads(done.stdout)
    leased = [
        line["data"]["worker"]
        for line in lines(quire("log", "--json", "--library", tmp_path / "lib").stdout)
        if line["type"] == "job_leased"
    ]
    assert (len(leased), len(set(leased))) == (150, 2), done.stderr
    assert found["requests"] == len(served.ledger.entries())
    assert (found["waiting"], found["finalized"], done.returncode) == (0, 150, 0)


def test_ctrl_c_finishes_what_is_in_hand_and_exits_130(tmp_path):
    """After SIGINT the run ends in order, says how to go on, and the same command goes on."""
    world = World.of(*(Paper(doi=f"10.5555/slow.{n}") for n in range(400)))
    file = tmp_path / "a.txt"
    file.write_text("".join(f"10.5555/slow.{n}\n" for n in range(400)))
    with serve(world) as served:
        flags = f"--stand-in {served.url} --pacing none --email reader@quire.example --json --library".split()
        process = subprocess.Popen(
            [sys.executable, "-m", "quire", "run", file, *flags, tmp_path / "lib"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while len(served.ledger.entries()) < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, warned = process.communicate(timeout=40)
    assert process.returncode == 130, warned
    assert "finishing what is in hand" in warned
    assert "go on with the same command" in warned
    assert json.loads(said)["waiting"] > 0
    assert (
        json.loads(quire("status", "--json", "--leases", "--library", tmp_path / "lib").stdout)["leases"]
        == []
    )


def test_a_rehearsal_and_a_real_library_refuse_each_other(tmp_path):
    """A library of a rehearsal is refused by a real run, with exit code 2 and the reason."""
    file = tmp_path / "a.txt"
    file.write_text("10.5555/x.1\n")
    with serve(World.of(Paper(doi="10.5555/x.1"))) as served:
        rehearsed(served.url, tmp_path / "lib", file)
    done = quire("run", file, "--offline", "--library", tmp_path / "lib")
    assert done.returncode == 2
    assert "rehearsal" in done.stderr


def test_a_stand_in_that_is_down_or_a_list_without_works_is_told(tmp_path):
    """Nothing usable in a list is a usage error; standard input serves as a list."""
    done = quire("run", "-", "--offline", "--library", tmp_path / "lib", given=b"42\n")
    assert done.returncode == 2
    assert "standard input:1: the bare number 42" in done.stderr
    assert "there is no work in it" in done.stderr


def test_demo_compares_with_the_truth(tmp_path):
    """A small demo ends with the comparison, and its library is replaced only if it is one of a rehearsal."""
    done = quire("demo", "--works", 12, "--library", tmp_path / "demo", "--json")
    assert list(json.loads(done.stdout)) == RUN_NAMES
    assert "works that can be had" in done.stderr
    assert done.returncode in (0, 1)
    fill(tmp_path / "real")
    refused = quire("demo", "--works", 12, "--library", tmp_path / "real")
    assert refused.returncode == 2
    assert "not the library of a rehearsal" in refused.stderr


# -- words


def test_sizes_times_and_tables_for_people():
    """Units of 1000, times by their size, numbers to the right."""
    assert [human_bytes(n) for n in (0, 999, 1500, 2_300_000_000)] == ["0 B", "999 B", "1.5 kB", "2.3 GB"]
    assert [human_time(s) for s in (0.44, 12, 185, 7800, 100_000)] == [
        "0.4 s", "12 s", "3 min 05 s", "2 h 10 min", "1 d 3 h",
    ]  # fmt: skip
    assert table([("a", 5), ("bb", 10)], header=("n", "x")) == "n    x\na    5\nbb  10"
