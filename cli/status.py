"""What the library holds: ``status``, ``list`` and ``retry``. Counts come from the kept tallies alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from ..actors.runtime.ports import NANOSECONDS
from ..config.settings import SOURCES
from ..errors import UsageError
from ..events.facts import JobRequeued
from ..events.job import HOME, JobRow, State, stream_of
from ..events.projections import EVERYTHING, JOBS, LEASED, job_id_of, job_row_key
from ..events.record import Appended, Batch
from . import output
from .damaged import DamagedPapers
from .library import Opened, Tables, as_line, counts_of, find_job, opened, scanned, under

WATCH_S = 1.0
"""Least time between two pictures of ``--watch``, in seconds."""
RETRY_BATCH = 500
"""Jobs requeued in one commit."""
_RETRY_REASON = "asked by the user"


def status_of(tables: Tables, list_id: str = EVERYTHING) -> dict[str, Any]:
    """The status as plain values."""
    counts = counts_of(tables, list_id)
    states = under(counts, "state")
    return {
        "jobs": sum(states.values()),
        "home": sum(states.get(state, 0) for state in HOME),
        "unfinished": counts.get("unfinished", 0),
        "leased": counts.get("leased", 0),
        "failed": states.get("FAILED", 0),
        "failed_retryable": counts.get("failed:retryable", 0),
        "failed_final": counts.get("failed:final", 0),
        "states": {state.value: states[state] for state in State if state in states},
        "waiting": under(counts, "waiting"),
        "reasons": under(counts, "reason"),
        "sources": under(counts, "source"),
    }


def status_text(found: dict[str, Any]) -> str:
    """The status for people."""
    lines = [
        f"{output.many(found['jobs'], 'work')}: {found['home']} home, {found['unfinished']} unfinished "
        f"({found['leased']} in hand), {found['failed']} failed "
        f"({found['failed_retryable']} may be tried again)"
    ]
    for title, key in (
        ("states", "states"),
        ("sources", "sources"),
        ("waiting", "waiting"),
        ("why", "reasons"),
    ):
        if found[key]:
            lines.append(f"  {title:<8} {output.counted(found[key])}")
    return "\n".join(lines)


def status(args: argparse.Namespace) -> int:
    """``quire status``: counts by state, reason and source; with ``--watch`` again as they change."""
    with opened(args) as library:
        _show_status(library, args)
        if args.watch:
            output.flush()
            _watch(library, args)
    return 0


def _watch(library: Opened, args: argparse.Namespace) -> None:
    """Show the status anew after each change, but not more often than once in ``WATCH_S``; until Ctrl-C."""
    store, clock = library.store, library.clock
    shown, shown_ns = store.head().position, clock.boot_ns()
    position = shown
    while True:
        store.read(position, limit=1, wait_s=WATCH_S)
        position = store.head().position
        if position > shown and clock.boot_ns() - shown_ns >= WATCH_S * NANOSECONDS:
            _show_status(library, args)
            output.flush()
            shown, shown_ns = position, clock.boot_ns()


def _show_status(library: Opened, args: argparse.Namespace) -> None:
    head = library.store.head()
    found: dict[str, Any] = {"library": str(library.library.path), "position": head.position}
    found |= status_of(library.store)
    if args.leases:
        found["leases"] = list(_leases(library))
    if args.json:
        output.say_json(found)
        return
    output.say(f"{found['library']} at position {head.position}")
    output.say(status_text(found))
    if args.leases:
        rows = [(x["job_id"][:12], x["work_id"], x["worker"], x["epoch"], _left(x)) for x in found["leases"]]
        output.say(output.table(rows, header=("job", "work", "worker", "epoch", "lease")))


def _left(lease: dict[str, Any]) -> str:
    if not lease["alive"]:
        return "its worker is dead"
    return f"{output.human_time(lease['left_s'])} left" if lease["left_s"] > 0 else "run out"


def _leases(library: Opened) -> Iterator[dict[str, Any]]:
    """Each lease with what is left of it; one of another boot has nothing left."""
    for _, key in scanned(library.store, LEASED):
        row: JobRow | None = library.store.rows(JOBS, [key])[0]
        if row is None or row.lease is None:
            continue  # let go of since the scan
        lease = row.lease
        same_boot = lease.boot_id == library.clock.boot_id
        left_ns = lease.until_ns - library.clock.boot_ns() if same_boot else 0
        yield {
            "job_id": job_id_of(key),
            "work_id": row.work.work_id,
            "state": row.state.value,
            "worker": lease.worker,
            "epoch": lease.epoch,
            "left_s": round(max(0, left_ns) / NANOSECONDS, 1),
            "alive": library.library.is_alive(lease.worker),
            "alone": lease.alone,
        }


def list_jobs(args: argparse.Namespace) -> int:
    """``quire list``: a line per job."""
    state = _state_named(args.state) if args.state else None
    reasons: set[str] = set()
    with opened(args) as (store, *_):
        shown = 0
        for key, row in scanned(store, JOBS):
            line = as_line(job_id_of(key), row)
            reasons.add(row.reason)
            if (
                (state is None or row.state is state)
                and args.reason in (None, line["reason"])
                and args.source in (None, line["source"])
                and args.title_check in (None, line["title_check"])
            ):
                _print_job(line, row, as_json=args.json)
                shown += 1
    if not shown:
        _tell_no_match(args, reasons - {""})
    return 0


def _tell_no_match(args: argparse.Namespace, reasons: Collection[str]) -> None:
    """Nothing printed may be a slip of the pen in a filter, so it is said; a library may also be empty."""
    asked = {
        "--state": args.state,
        "--reason": args.reason,
        "--source": args.source,
        "--title-check": args.title_check,
    }
    said = " ".join(f"{flag} {value}" for flag, value in asked.items() if value is not None)
    known = f"; the sources are {', '.join(SOURCES)}" if args.source not in (None, *SOURCES) else ""
    if args.reason is not None and args.reason not in reasons:
        known += (
            f"; --reason takes the codes that jobs have (here: {', '.join(sorted(reasons)) or 'none'}); "
            "`quire fallback stats --by reason` counts those of single turns"
        )
    output.warn(f"no job matches {said}{known}" if said else "there is no job in this library")


def _state_named(text: str) -> State:
    try:
        return State(text.upper())
    except ValueError:
        raise UsageError(f"--state {text}: one of {', '.join(State)}") from None


def _print_job(line: dict[str, Any], row: JobRow, *, as_json: bool) -> None:
    if as_json:
        output.say_json(line)
        return
    again = " (may be tried again)" * (row.state is State.FAILED and row.may_retry)
    other = " (its text does not show the work's title)" * (line["title_check"] == "mismatch")
    about = (line["path"] or line["reason"]) + again + other
    label = f"  [{row.label}]" if row.label else ""
    output.say(f"{line['job_id'][:12]}  {line['state']:<17}  {row.work.work_id[:60]:<40}  {about}{label}")


def retry(args: argparse.Namespace) -> int:
    """``quire retry``: open a new generation for failed jobs, however often they were tried.

    With ``--damaged`` for jobs at home whose paper is: the file is what their state stands for.
    """
    with opened(args, readonly=False) as library:
        papers = DamagedPapers(library)
        left, again = (papers.left_alone, papers.requeued) if args.damaged else (_left_alone, _requeued)
        jobs = _named(library, args.works, left, papers) if args.works else _all(library, left)
        requeued = refused = 0
        for batch in _chunks(jobs, RETRY_BATCH):
            results = library.store.append([again(job_id, row) for job_id, row in batch])
            done = sum(isinstance(result, Appended) for result in results)
            requeued, refused = requeued + done, refused + len(results) - done
    if args.json:
        output.say_json({"requeued": requeued, "refused": refused})
        return 0
    more = "; go on with: quire resume" if requeued else ""
    output.say(f"{output.many(requeued, 'work')} will be tried again{more}")
    if refused:
        output.warn(f"{refused} were taken up by somebody else meanwhile")
    return 0


def _requeued(job_id: str, row: JobRow) -> Batch[Any]:
    event = JobRequeued(generation=row.generation + 1, reason=_RETRY_REASON)
    return Batch(stream=stream_of(job_id), events=(event,), epoch=row.epoch or None)


def _left_alone(row: JobRow) -> str:
    """Why a job is left as it is; ``""`` of one that failed."""
    return "" if row.state is State.FAILED else f"is {row.state}, not FAILED"


def _all(library: Opened, left: Callable[[JobRow], str]) -> Iterator[tuple[str, JobRow]]:
    for key, row in scanned(library.store, JOBS):
        if not left(row):
            yield job_id_of(key), row


def _named(
    library: Opened, works: Iterable[str], left: Callable[[JobRow], str], papers: DamagedPapers
) -> list[tuple[str, JobRow]]:
    """The jobs of the works that are tried again; of one that is not it is told why, and what would do."""
    named: dict[str, JobRow] = {}
    for text in works:
        job_id = find_job(library.store, text)
        row: JobRow = library.store.rows(JOBS, [job_row_key(job_id)])[0]
        why = left(row)
        if not why:
            named[job_id] = row
            continue
        hint = "; its paper is gone or damaged: quire retry --damaged" if papers.damage(row) else ""
        output.warn(f"{text}: {why}; left as it is{hint}")
    return list(named.items())


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
