"""``run`` and ``resume``: works in, papers home, a summary and the right exit code."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..actors.openalex import Query, query_of
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
from .query import QueryRun
from .reading import Reader, planned_text
from .summary import Standing, summary_text
from .workers import PARENT_LOOK_S, Interrupts, ParentWatch, Workers, interrupts

_UNPAYWALL = "unpaywall_pdf"


def run(args: argparse.Namespace) -> int:
    """``quire run``: bring home the works of lists."""
    settings = settings_of(args).settings
    query = query_of(args.openalex) if args.openalex is not None else None
    if not args.inputs and query is None:
        raise UsageError("what shall be run? give an INPUT, - for standard input, or --openalex FILTER")
    if args.refresh and query is None:
        raise UsageError("--refresh asks a query anew; give it with --openalex FILTER")
    with InputSet(args.inputs) as inputs:
        list_id = _list_id(inputs, query, args)
        if args.dry_run:
            return dry_run(args, settings, inputs, query, list_id)
        return run_list(args, settings, inputs, list_id, query)


def _list_id(inputs: InputSet, query: Query | None, args: argparse.Namespace) -> str:
    """The list of inputs and query; a sample is a list of its own: working it leaves the rest alone."""
    name = inputs.list_id if inputs.inputs else ""
    if query is not None:
        name = query.list_id(name)
    if args.sample is None:
        return name
    return hashlib.sha256(f"{name}:{args.sample}:{args.seed}".encode()).hexdigest()[:16]


def resume(args: argparse.Namespace) -> int:
    """``quire resume``: go on with what is left in the library; also the body of a further worker."""
    settings = settings_of(args).settings
    Library.open_existing(Path(settings.library))
    return run_list(args, settings, None, args.worker_of or EVERYTHING)


def run_list(
    args: argparse.Namespace,
    settings: Quire,
    inputs: InputSet | None,
    list_id: str,
    query: Query | None = None,
) -> int:
    """Plan inputs and query, as far as there are any, work the list, and report; returns the exit code."""
    if getattr(args, "worker_of", None) is not None:
        return _further_worker(args, settings, list_id)
    names = (*(inputs.names if inputs else ()), *((f"openalex:{query.text}",) if query else ()))
    _warn_of_no_address(settings)
    with interrupts() as stop, Session(settings, inputs=names, list_id=list_id) as session:
        progress = Progress(session.store, list_id, SystemClock())
        list_ = _List(session, args, inputs, list_id, query, progress.say, lambda: bool(stop.seen))
        reader = list_.reader
        timer = session.every(progress.interval_s, progress.show)
        try:
            planned = list_.planned()
            if inputs is not None and not planned.works and not stop.seen:
                raise UsageError(f"{', '.join(names)}: there is no work in it{reader.blame}")
            before = Standing.of(session.store, list_id)
            with Workers(args, list_id) as workers:
                spent = _work(session, list_id, stop, workers)
        finally:
            timer()
            progress.end()
        summary = _summary(session, planned, list_id, progress.elapsed_s, reader)
        for name, count in spent.items():
            summary[name] += count
        file = write_failures(
            session.store,
            session.library.path,
            list_id=list_id,
            inputs=None if query else inputs,  # what a query listed has no form of its own
            name="openalex" if query else "library",
        )
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


class _List:
    """What a run works on: the works of inputs and query on their way to the planner."""

    def __init__(
        self,
        session: Session,
        args: argparse.Namespace,
        inputs: InputSet | None,
        list_id: str,
        query: Query | None,
        say: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._session, self._args, self._list_id, self._say = session, args, list_id, say
        self._given = inputs is not None
        self._query: QueryRun | None = None
        if query is not None:
            self._query = QueryRun(
                session, query, list_id=list_id, refresh=args.refresh, say=say, stopped=stopped
            )
        drawn = self._query.entries() if self._query and args.sample is not None else ()
        self.reader = Reader(inputs, args, say, stopped, more=drawn)

    def __repr__(self) -> str:
        return f"<_List {self._list_id}: {self.reader!r}, {self._query!r}>"

    def planned(self) -> Planned:
        """Plan all of it, and say what became of it."""
        if not self._given:
            jobs = sum(under(counts_of(self._session.store, self._list_id), "state").values())
            return Planned(works=jobs, unfinished=jobs)
        retry = self._args.retry_failed
        if self._query is not None and self._args.sample is not None:
            planned = self._query.plan_drawn(self.reader, retry_failed=retry)
        else:
            planned = self._session.plan(self.reader, list_id=self._list_id, retry_failed=retry)
            if self._query is not None and not self.reader.cut:
                planned = self._query.plan(self.reader, retry_failed=retry, files=planned)
        self._say(planned_text(planned, renamed=self.reader.repeats.renamed))
        return planned


def _summary(
    session: Session, planned: Planned, list_id: str, elapsed_s: float, reader: Reader
) -> dict[str, Any]:
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
        "list_id": list_id,
        "named_twice": planned.doubled,
        "other_names": reader.repeats.renamed,
        "home_before": planned.home,
        "bad_lines": reader.bad,
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
