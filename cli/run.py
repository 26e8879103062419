"""``run`` and ``resume``: works in, papers home, a summary and the right exit code."""

from __future__ import annotations

import argparse
import hashlib
import heapq
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from ..actors.outcome import Planned, Wanted
from ..actors.runtime.ports import SystemClock
from ..actors.session import Session
from ..config.settings import Quire
from ..errors import UsageError
from ..events.job import HOME, JobRow, State
from ..events.keys import job_key
from ..events.projections import EVERYTHING, JOBS, job_row_key
from ..store.library import Library
from . import output
from .config import as_arguments, settings_of
from .failures import write_failures
from .inputs import BadLine, InputSet
from .log import open_library
from .main import EXIT_INTERRUPTED
from .status import Tables, counts_of, under

SOME_FAILED = 1
BAD_LINES_SHOWN = 20
"""Bad lines that a run prints; ``--dry-run`` prints all of them."""
LOOKUP_ROWS = 500
WORKER_STOP_S = 180
"""How long further processes may take to end after the last job, in seconds."""


class Interrupts:
    """Ctrl-C: the first one ends the run in order, the second one at once."""

    def __init__(self) -> None:
        self.seen = 0
        self._session: Session | None = None
        self._workers: Workers | None = None

    def watch(self, session: Session, workers: Workers) -> None:
        """End these in order from now on."""
        self._session, self._workers = session, workers
        if self.seen:
            session.interrupt()

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle one signal; plain writes only, since it may come in the middle of a print."""
        self.seen += 1
        if self._workers is not None:
            self._workers.interrupt()
        if self.seen > 1:
            os._exit(EXIT_INTERRUPTED)
        os.write(2, b"\nfinishing what is in hand; Ctrl-C again stops at once, and nothing is lost\n")
        if self._session is not None:
            self._session.interrupt()


@contextmanager
def _interrupts() -> Iterator[Interrupts]:
    handler = Interrupts()
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class Workers:
    """Further processes that work on the same list, each a ``quire resume`` of its own."""

    def __init__(self, args: argparse.Namespace, list_id: str) -> None:
        command = [sys.executable, "-m", "quire", "resume", "--json", "--worker-of", list_id]
        # In sessions of their own: Ctrl-C on the terminal reaches them once, through us.
        self._processes = [
            subprocess.Popen([*command, *as_arguments(args)], stdout=subprocess.PIPE, start_new_session=True)
            for _ in range(args.workers - 1)
        ]

    def __repr__(self) -> str:
        return f"<Workers {[process.pid for process in self._processes]}>"

    def interrupt(self) -> None:
        """Hand a Ctrl-C on."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def finish(self) -> dict[str, int]:
        """Wait for their end; their bytes and requests, summed."""
        total = {"bytes": 0, "requests": 0}
        for process in self._processes:
            try:
                said, _ = process.communicate(timeout=WORKER_STOP_S)
            except subprocess.TimeoutExpired:
                output.warn(
                    f"worker {process.pid} does not end and is stopped; its works are taken up next time"
                )
                process.kill()
                said, _ = process.communicate()
            if process.returncode not in (0, SOME_FAILED, EXIT_INTERRUPTED):
                output.warn(f"worker {process.pid} ended with exit code {process.returncode}")
            if said.strip():
                summary = msgspec.json.decode(said)
                total = {name: count + summary[name] for name, count in total.items()}
        return total


def run(args: argparse.Namespace) -> int:
    """``quire run``: bring home the works of lists."""
    settings = settings_of(args).settings
    with InputSet(args.inputs) as inputs:
        if args.dry_run:
            return _dry_run(args, settings, inputs)
        return run_list(args, settings, inputs, _list_id(inputs, args))


def _list_id(inputs: InputSet, args: argparse.Namespace) -> str:
    """The list of the inputs; a sample is a list of its own, so that working it leaves the rest alone."""
    if args.sample is None:
        return inputs.list_id
    return hashlib.sha256(f"{inputs.list_id}:{args.sample}:{args.seed}".encode()).hexdigest()[:16]


def resume(args: argparse.Namespace) -> int:
    """``quire resume``: go on with what is left in the library; also the body of a further worker."""
    settings = settings_of(args).settings
    Library.open_existing(Path(settings.library))
    return run_list(args, settings, None, args.worker_of or EVERYTHING)


def run_list(args: argparse.Namespace, settings: Quire, inputs: InputSet | None, list_id: str) -> int:
    """Plan the inputs, where there are any, work the list to its end, and report; returns the exit code."""
    names = inputs.names if inputs else ()
    with _interrupts() as interrupts, Session(settings, inputs=names, list_id=list_id) as session:
        progress = output.Progress(SystemClock())
        reader = _Reader(inputs, args, interrupts)
        planned = _planned(session, reader, list_id, args)
        if inputs is not None and not reader.read:
            raise UsageError(f"{', '.join(names)}: there is no work in it; see the lines named above")
        workers = Workers(args, list_id)
        interrupts.watch(session, workers)
        _work(session, list_id, progress, quiet=getattr(args, "worker_of", None) is not None)
        others = workers.finish()
        summary = _summary(session, planned, list_id, progress.elapsed_s)
        for name, count in others.items():
            summary[name] += count
        if getattr(args, "worker_of", None) is None:
            file = write_failures(session.store, session.library.path, list_id=list_id, inputs=inputs)
            summary["failures_file"] = str(file) if file else ""
        return _report(args, session, list_id, summary, reader, interrupted=bool(interrupts.seen))


class _Reader:
    """The works of the inputs on their way to the planner; bad lines are told on the way."""

    def __init__(self, inputs: InputSet | None, args: argparse.Namespace, interrupts: Interrupts) -> None:
        self._inputs = inputs or ()
        self._sample: int | None = getattr(args, "sample", None)
        self._seed: int = getattr(args, "seed", 0)
        self._interrupts = interrupts
        self._shown_max = sys.maxsize if getattr(args, "dry_run", False) else BAD_LINES_SHOWN
        self.read = 0
        self.bad = 0

    def __iter__(self) -> Iterator[Wanted]:
        return self._all() if self._sample is None else iter(self._drawn(self._sample))

    def _all(self) -> Iterator[Wanted]:
        for item in self._inputs:
            if self._interrupts.seen:
                return
            if isinstance(item, Wanted):
                self.read += 1
                yield item
            else:
                self._tell(item)
        if self.bad > self._shown_max:
            output.warn(f"… and {self.bad - self._shown_max} more such lines; --dry-run names all")

    def _drawn(self, count: int) -> list[Wanted]:
        """The works with the smallest hashes of seed and work: the same ones for the same seed and list."""

        def lot(item: Wanted) -> bytes:
            return hashlib.sha256(f"{self._seed}:{item.work.work_id}".encode()).digest()

        return heapq.nsmallest(count, self._all(), key=lot)

    def _tell(self, line: BadLine) -> None:
        self.bad += 1
        if self.bad <= self._shown_max:
            output.warn(str(line))


def _planned(session: Session, reader: _Reader, list_id: str, args: argparse.Namespace) -> Planned:
    if not hasattr(args, "inputs"):
        jobs = sum(under(counts_of(session.store, list_id), "state").values())
        return Planned(works=jobs, unfinished=jobs)
    planned = session.plan(reader, list_id=list_id, retry_failed=args.retry_failed)
    output.warn(_planned_text(planned))
    return planned


def _planned_text(planned: Planned) -> str:
    parts = [f"{planned.works} works: {planned.new} new"]
    for count, what in (
        (planned.unfinished, "unfinished"),
        (planned.requeued, "tried again"),
        (planned.home, "home already"),
        (planned.failed, "failed for good or not yet due (--retry-failed takes them too)"),
        (planned.doubled, "named twice"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


def _work(session: Session, list_id: str, progress: output.Progress, *, quiet: bool) -> None:
    for done, _ in enumerate(session.work(list_id), 1):
        if progress.due and not quiet:
            progress.show(_progress_text(session.store, list_id, done, progress.elapsed_s))
    progress.end()


def _progress_text(store: Tables, list_id: str, done: int, elapsed_s: float) -> str:
    counts = counts_of(store, list_id)
    states, unfinished = under(counts, "state"), counts.get("unfinished", 0)
    home = sum(states.get(state, 0) for state in HOME)
    text = f"{home} home, {states.get('FAILED', 0)} failed, {unfinished} to go"
    left = output.remaining(unfinished, done, elapsed_s)
    return f"{text} ({left})" if left else text


def _summary(session: Session, planned: Planned, list_id: str, elapsed_s: float) -> dict[str, Any]:
    """The object of ``--json``: states are those of the whole list, bytes and requests those of this run."""
    counts = counts_of(session.store, list_id)
    states = under(counts, "state")
    jobs = sum(states.values())
    spent = session.statistics()
    return {
        "run_id": session.run_id,
        "works": planned.works,
        "jobs": jobs,
        "planned_before": max(0, jobs - planned.new),
        "finalized": states.get(State.INDEXED, 0),
        "deduped": states.get(State.DEDUPED, 0),
        "skipped_duplicate": states.get(State.SKIPPED_DUPLICATE, 0),
        "failed": states.get(State.FAILED, 0),
        "waiting": counts.get("unfinished", 0),
        "bytes": spent.get("bytes", 0),
        "requests": spent.get("requests", 0),
        "elapsed_s": round(elapsed_s, 3),
        "failures_file": "",
    }


def _report(
    args: argparse.Namespace,
    session: Session,
    list_id: str,
    summary: dict[str, Any],
    reader: _Reader,
    *,
    interrupted: bool,
) -> int:
    if args.json:
        output.say_json(summary)
    else:
        output.say(_summary_text(summary, counts_of(session.store, list_id)))
    if interrupted:
        output.warn("interrupted; go on with the same command, or with: quire resume")
        return EXIT_INTERRUPTED
    return SOME_FAILED if summary["failed"] or summary["waiting"] or reader.bad else 0


def _summary_text(summary: dict[str, Any], counts: dict[str, int]) -> str:
    lines = [
        f"{summary['jobs']} jobs of {summary['works']} works in {output.human_time(summary['elapsed_s'])}: "
        f"{summary['finalized']} finalized, {summary['deduped']} deduped, "
        f"{summary['skipped_duplicate']} held already, {summary['failed']} failed, "
        f"{summary['waiting']} waiting",
        f"  {output.human_bytes(summary['bytes'])} in {summary['requests']} requests",
    ]
    for title, kind in (("by source", "source"), ("failed", "reason"), ("waiting", "waiting")):
        if found := under(counts, kind):
            lines.append(f"  {title:<9}  {output.counted(found)}")
    if summary["failures_file"]:
        lines.append(f"  the failures, to be fed back in: {summary['failures_file']}")
    return "\n".join(lines)


# -- dry run ----------------------------------------------------------------------------------------


def _dry_run(args: argparse.Namespace, settings: Quire, inputs: InputSet) -> int:
    """Say what a run would do; nothing is written and nothing is asked."""
    reader = _Reader(inputs, args, Interrupts())
    if (Path(settings.library) / "events" / "data.mdb").exists():
        with open_library(settings) as (store, *_):
            planned = _foreseen(store, reader, retry_failed=args.retry_failed)
    else:
        planned = _foreseen(None, reader, retry_failed=args.retry_failed)
    if args.json:
        output.say_json({**msgspec.structs.asdict(planned), "bad_lines": reader.bad})
    else:
        output.say(f"{_planned_text(planned)}; {reader.bad} bad lines; nothing was planned")
    return SOME_FAILED if reader.bad else 0


def _foreseen(store: Tables | None, reader: _Reader, *, retry_failed: bool) -> Planned:
    counts = dict.fromkeys(("works", "doubled", "new", "unfinished", "requeued", "home", "failed"), 0)
    # Eight bytes of each key: 64 bits tell a million works apart, and the list stays small in memory.
    seen: set[int] = set()
    held: list[bytes] = []
    for wanted in reader:
        key = job_row_key(job_key(wanted.work))
        short = int.from_bytes(key[:8], "big")
        counts["works"] += 1
        if short in seen:
            counts["doubled"] += 1
            continue
        seen.add(short)
        held.append(key)
        if len(held) == LOOKUP_ROWS:
            _foresee(store, held, counts, retry_failed=retry_failed)
            held = []
    _foresee(store, held, counts, retry_failed=retry_failed)
    return Planned(**counts)


def _foresee(store: Tables | None, keys: list[bytes], counts: dict[str, int], *, retry_failed: bool) -> None:
    rows: list[JobRow | None] = store.rows(JOBS, keys) if store and keys else [None] * len(keys)
    for row in rows:
        if row is None:
            counts["new"] += 1
        elif row.home:
            counts["home"] += 1
        elif not row.finished:
            counts["unfinished"] += 1
        else:
            counts["requeued" if retry_failed or row.may_retry else "failed"] += 1
