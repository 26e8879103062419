"""``run`` and ``resume``: works in, papers home, a summary and the right exit code."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from ..actors.outcome import Planned
from ..actors.runtime.ports import SystemClock
from ..actors.session import Session
from ..config.settings import Quire
from ..errors import UsageError
from ..events.job import State
from ..events.projections import EVERYTHING
from ..store.library import Library
from . import output
from .config import settings_of
from .dry_run import dry_run
from .failures import write_failures
from .inputs import InputSet
from .library import counts_of, under
from .main import EXIT_INTERRUPTED, EXIT_SOME_FAILED
from .progress import Progress
from .reading import Reader, planned_text
from .workers import PARENT_LOOK_S, Interrupts, ParentWatch, Workers, interrupts


def run(args: argparse.Namespace) -> int:
    """``quire run``: bring home the works of lists."""
    settings = settings_of(args).settings
    with InputSet(args.inputs) as inputs:
        if args.dry_run:
            return dry_run(args, settings, inputs)
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
    if getattr(args, "worker_of", None) is not None:
        return _further_worker(args, settings, list_id)
    names = inputs.names if inputs else ()
    with interrupts() as stop, Session(settings, inputs=names, list_id=list_id) as session:
        progress = Progress(session.store, list_id, SystemClock())
        reader = Reader(inputs, args, progress.say, lambda: bool(stop.seen))
        timer = session.every(progress.interval_s, progress.show)
        try:
            planned = _planned(session, reader, list_id, args, progress)
            if inputs is not None and not reader.read and not stop.seen:
                raise UsageError(f"{', '.join(names)}: there is no work in it{reader.blame}")
            with Workers(args, list_id) as workers:
                spent = _work(session, list_id, stop, workers)
        finally:
            timer()
            progress.end()
        summary = _summary(session, planned, list_id, progress.elapsed_s)
        for name, count in spent.items():
            summary[name] += count
        file = write_failures(session.store, session.library.path, list_id=list_id, inputs=inputs)
        summary["failures_file"] = str(file) if file else ""
        return _report(args, session, list_id, summary, reader, interrupted=bool(stop.seen))


def _work(session: Session, list_id: str, stop: Interrupts, workers: Workers) -> dict[str, int]:
    """Work the list to its end, ours and the further workers' part; what those spent."""
    stop.watch(session, workers)
    for _ in session.work(list_id):
        pass  # an outcome is in the log when it is given, and the progress reads it there
    return workers.finish()


def _further_worker(args: argparse.Namespace, settings: Quire, list_id: str) -> int:
    """The body of a further process of a run; its parent plans, shows the progress and reports."""
    with interrupts() as stop, Session(settings, list_id=list_id) as session:
        stop.watch(session)
        timer = session.every(PARENT_LOOK_S, ParentWatch(session, args.parent))
        for _ in session.work(list_id):
            pass
        timer()
        spent = session.statistics()
        output.say_json({"bytes": spent.get("bytes", 0), "requests": spent.get("requests", 0)})
        return EXIT_INTERRUPTED if stop.seen else 0


def _planned(
    session: Session, reader: Reader, list_id: str, args: argparse.Namespace, progress: Progress
) -> Planned:
    if not hasattr(args, "inputs"):
        jobs = sum(under(counts_of(session.store, list_id), "state").values())
        return Planned(works=jobs, unfinished=jobs)
    planned = session.plan(reader, list_id=list_id, retry_failed=args.retry_failed)
    progress.say(planned_text(planned))
    return planned


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
    reader: Reader,
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
    return EXIT_SOME_FAILED if summary["failed"] or summary["waiting"] or reader.bad else 0


def _summary_text(summary: dict[str, Any], counts: dict[str, int]) -> str:
    jobs, works = output.many(summary["jobs"], "job"), output.many(summary["works"], "work")
    lines = [
        f"{jobs} of {works} in {output.human_time(summary['elapsed_s'])}: "
        f"{summary['finalized']} finalized, {summary['deduped']} deduped, "
        f"{summary['skipped_duplicate']} held already, {summary['failed']} failed, "
        f"{summary['waiting']} waiting",
        f"  {output.human_bytes(summary['bytes'])} in {output.many(summary['requests'], 'request')}",
    ]
    for title, kind in (("by source", "source"), ("failed", "reason"), ("waiting", "waiting")):
        if found := under(counts, kind):
            lines.append(f"  {title:<9}  {output.counted(found)}")
    if summary["failures_file"]:
        lines.append(f"  the failures, to be fed back in: {summary['failures_file']}")
    return "\n".join(lines)
