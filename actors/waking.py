"""Letting go the jobs that wait for a breaker, when one was closed before its time.

A job waits until the time that its gate was said to open. Where the operator closes a breaker that was to
stay open for days, nothing would take the job up before. Which host it waits for is not in its row: all that
wait for a breaker are let go, and those whose host is still open wait again, which costs a lease each.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..events.facts import AnyEvent, JobWaiting
from ..events.job import stream_of
from ..events.projections import EVERYTHING, JOBS, PARKED_NS, WAITING, job_id_of, list_prefix
from ..events.record import Batch
from ..store.interface import EventStore

PAGE = 256
"""Entries that one look at the index reads."""
WAITED_FOR = "breaker_open"
"""The reason of the jobs that wait for a breaker."""
WOKEN = "breaker_closed"
"""Why they need not wait any more."""


def woken(store: EventStore, *, wall_ns: int) -> Iterator[Batch[AnyEvent]]:
    """A batch for each job that waits for a breaker beyond now; it is refused where the job has moved on."""
    prefix = list_prefix(EVERYTHING)
    after = prefix + max(0, wall_ns).to_bytes(8, "big")
    end = prefix + PARKED_NS.to_bytes(8, "big")
    while True:
        page = store.scan(WAITING, prefix, after=after, limit=PAGE)
        keys = [key for entry, key in page if entry < end]
        for key, row in zip(keys, store.rows(JOBS, keys), strict=True):
            if row is not None and row.waiting and row.lease is None and row.reason == WAITED_FOR:
                let_go = JobWaiting(WOKEN, 0)
                yield Batch(stream_of(job_id_of(key)), (let_go,), expected_version=row.version)
        if len(keys) < PAGE:
            return
        after = page[-1][0]
