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
from .summary import Standing, summary_text
from .workers import PARENT_LOOK_S, Interrupts, ParentWatch, Workers, interrupts

_UNPAYWALL = "unpaywall_pdf"


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
    _warn_of_no_address(settings)
    with interrupts() as stop, Session(settings, inputs=names, list_id=list_id) as session:
        progress = Progress(session.store, list_id, SystemClock())
        reader = Reader(inputs, args, progress.say, lambda: bool(stop.seen))
        timer = session.every(progress.interval_s, progress.show)
        try:
            planned = _planned(session, reader, list_id, args, progress)
            if inputs is not None and not reader.read and not stop.seen:
                raise UsageError(f"{', '.join(names)}: there is no work in it{reader.blame}")
            before = Standing.of(session.store, list_id)
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
        # Where Ctrl-C came and all that was left was in hand, the run is done like any other.
        left = bool(stop.seen) and bool(summary["waiting"] or reader.cut)
        text = summary_text(summary, counts_of(session.store, list_id), before)
        return _report(args, summary, text, bad=reader.bad, interrupted=left)


def _warn_of_no_address(settings: Quire) -> None:
    """Unpaywall answers nobody without an address, which costs most of a list, and silently."""
    if not (settings.web.contact_email or settings.web.offline or _UNPAYWALL in settings.fallback.disabled):
        output.warn("no contact address: Unpaywall will be skipped; give --email you@institute.edu")


def _work(session: Session, list_id: str, stop: Interrupts, workers: Workers) -> dict[str, int]:
    """Work the list to its end, ours and the further workers' part; what those spent."""
    stop.watch(session, workers, lambda: counts_of(session.store, list_id).get("leased", 0))
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
    args: argparse.Namespace, summary: dict[str, Any], text: str, *, bad: int, interrupted: bool
) -> int:
    """Print the summary, and return the exit code; ``bad``: lines of the inputs that named no work."""
    if args.json:
        output.say_json(summary)
    else:
        output.say(text)
    if interrupted:
        output.warn("interrupted; go on with the same command, or with: quire resume")
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if summary["failed"] or summary["waiting"] or bad else 0
