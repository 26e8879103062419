"""Letting go jobs before the time that they wait for: a breaker was closed early, or the clock was set back.

A job waits until the time that its gate was said to open. Where the operator closes a breaker that was to
stay open for days, nothing would take the job up before. Which host it waits for is not in its row: all that
wait for a breaker are let go, and those whose host is still open wait again, which costs a lease each.

That time is on the wall clock, since it must outlive the boot. When the clock is set back by an hour, a wait
of a second would last an hour and a second. A wait that was written down at a time which is still to come is
let go: the gates count on the boot clock, and say anew how long it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ..events.facts import AnyEvent, JobWaiting
from ..events.job import JobRow, stream_of
from ..events.projections import EVERYTHING, JOBS, PARKED_NS, WAITING, job_id_of, list_prefix
from ..events.record import Batch
from ..store.interface import EventStore

PAGE = 256
"""Entries that one look at the index reads."""
WAKES_PER_LOOK = 200
"""Jobs that a worker lets go at once, so that neither journal nor leases wait for a long backlog."""
WAITED_FOR = "breaker_open"
"""The reason of the jobs that wait for a breaker."""
WOKEN = "breaker_closed"
"""Why they need not wait any more."""
SET_BACK = "clock_set_back"
"""Why jobs need not wait that began to at a time which is still to come."""
LAST_WORDS = 16
"""Events at the end of a job's stream among which its wait is looked for: others may have listed it since."""
LATEST = 64
"""Events at the end of the log in which a step of the clock is looked for when a worker starts."""


def woken(store: EventStore, *, wall_ns: int) -> Iterator[Batch[AnyEvent]]:
    """A batch for each job that waits for a breaker beyond now; it is refused where the job has moved on."""
    for job_id, row in _waiting(store, wall_ns):
        if row.reason == WAITED_FOR:
            yield _let_go(job_id, row, WOKEN)


def overslept(store: EventStore, *, wall_ns: int) -> Iterator[Batch[AnyEvent]]:
    """A batch for each job that began to wait later than now; it is refused where the job has moved on."""
    for job_id, row in _waiting(store, wall_ns):
        if _began_ns(store, job_id, row) > wall_ns:
            yield _let_go(job_id, row, SET_BACK)


def went_back(store: EventStore, *, by_ns: int) -> bool:
    """Whether the newest events tell of a wall clock that was set back by more than that."""
    newest = store.read(max(0, store.head().position - LATEST), limit=LATEST)
    return any(later.time_ns < one.time_ns - by_ns for one, later in pairwise(newest))


def _let_go(job_id: str, row: JobRow, reason: str) -> Batch[AnyEvent]:
    return Batch(stream_of(job_id), (JobWaiting(reason, 0),), expected_version=row.version)


def _began_ns(store: EventStore, job_id: str, row: JobRow) -> int:
    """Wall-clock time at which a job's wait was written down; 0 where that is too long ago to tell."""
    said = store.read_stream(stream_of(job_id), max(0, row.version - LAST_WORDS), limit=LAST_WORDS)
    return next((one.time_ns for one in reversed(said) if isinstance(one.event, JobWaiting)), 0)


def _waiting(store: EventStore, wall_ns: int) -> Iterator[tuple[str, JobRow]]:
    """The jobs that wait beyond now; not those held back by a setting of a run."""
    prefix = list_prefix(EVERYTHING)
    after = prefix + max(0, wall_ns).to_bytes(8, "big")
    end = prefix + PARKED_NS.to_bytes(8, "big")
    while True:
        page = store.scan(WAITING, prefix, after=after, limit=PAGE)
        keys = [key for entry, key in page if entry < end]
        for key, row in zip(keys, store.rows(JOBS, keys), strict=True):
            if row is not None and row.waiting and row.lease is None:
                yield job_id_of(key), row
        if len(keys) < PAGE:
            return
        after = page[-1][0]
