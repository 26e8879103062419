"""What the tests of the command share: a real process of it, and a library with one job of each kind."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path

from quire.actors.runtime.ports import SystemClock
from quire.cli.main import main
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
from quire.testing.web import World

LIST = "ab" * 8
SHA = "ab" * 32
HOME, LOST, WAITS, FRESH = (
    Work(doi="10.1000/home", title="Home"),
    Work(doi="10.1000/lost"),
    Work(arxiv_id="2101.00001"),
    Work(doi="10.1000/fresh", pmid="7"),
)
RUN_NAMES = [
    *["run_id", "works", "jobs", "planned_before", "finalized", "deduped", "skipped_duplicate", "failed"],
    *["waiting", "bytes", "requests", "elapsed_s", "failures_file"],
    *["list_id", "named_twice", "other_names", "home_before", "bad_lines"],
]


def clean(env: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without any setting of quire but those given."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("QUIRE_")}, **(env or {})}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "quire", *map(str, words)]


def quire(
    *words: object, env: dict[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*words),
        input=given,
        capture_output=True,
        timeout=60,
        env=clean(env),
        cwd=Path(__file__).parent,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def here(*words: object) -> subprocess.CompletedProcess[str]:
    """A command within this process, which costs no start; for those that only read."""
    out, err = io.StringIO(), io.StringIO()
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("QUIRE_")}
    handlers = list(logging.getLogger().handlers)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(word) for word in words])
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        os.environ.update(kept)
        logging.getLogger().handlers = handlers
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


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
    opened = OperationStarted("e" * 64, "HEAD", {"url": "https://h.org/a.pdf", "rule": "doi_redirect"})
    missed = {"reason": "html_instead", "status": 200}
    begun, *ended = turn("doi_redirect_pdf", 2, "http_404", 404)
    refused = OperationCompleted("e" * 64, "HEAD", "NON_RETRYABLE", missed)
    append(store, LOST, begun, opened, refused, *ended, epoch=1)
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
        FallbackAttempt(
            *("t", source, number, "no_pdf", reason, "doi:x", "pdf"),
            host="h.org",
            status=status,
            elapsed_ms=12,
        ),
    ]


def append(
    store: LmdbStore, work: Work, *events: object, epoch: int | None = None, opens: bool = False
) -> None:
    batch = Batch(stream_of(job_key(work)), tuple(events), epoch=epoch, opens_epoch=opens)
    (result,) = store.append([batch])
    assert type(result).__name__ == "Appended", result


def rehearsal(url: str, library: Path) -> list[object]:
    """The flags of a run against a simulated web."""
    flags: list[object] = ["--stand-in", url, "--pacing", "none", "--email", "reader@quire.example"]
    return [*flags, "--library", library, "--json"]


def rehearsed(
    url: str, library: Path, *words: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return quire("run", *rehearsal(url, library), *words, env=env)


@contextmanager
def started(
    *words: object, env: dict[str, str] | None = None, stderr: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the test, and not beyond it.

    It hears Ctrl-C also where the tests themselves were started in the background, which ignores it.
    """
    process = subprocess.Popen(
        command(*words), env=clean(env), cwd=Path(__file__).parent,
        stdout=subprocess.PIPE, stderr=stderr, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def dois_of(world: World) -> list[str]:
    return [row["doi"] for row in world.rows() if row["doi"]]


def list_of(world: World, file: Path) -> Path:
    """A list of the works of a world."""
    file.write_text("".join(f"{doi}\n" for doi in dois_of(world)))
    return file
