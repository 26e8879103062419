"""The planner: turns wanted works into jobs, each once, whoever asks for it and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..config.settings import Retry
from ..errors import InvariantError
from ..events.facts import Event, JobListed, JobPlanned, JobRequeued
from ..events.job import JobRow, State, stream_of
from ..events.keys import ARTIFACT, job_key, job_url
from ..events.projections import JOBS, job_row_key
from ..events.record import Appended, Batch
from ..store.interface import EventStore
from .directory import Directory
from .messages import ChunkPlanned, PlanChunk
from .outcome import Planned, Wanted
from .runtime.actor import Actor
from .runtime.journal import Append, Journaled
from .runtime.ports import NANOSECONDS, Clock

ROUNDS_MAX = 8
"""How often a work is decided anew when another process planned or worked on it in between."""


def backoff_ns(retry: Retry, generation: int) -> int:
    """How long a failed generation rests before the next, in nanoseconds."""
    return int(retry.backoff_s * 2 ** (generation - 1) * NANOSECONDS)


@dataclass
class Chunk:
    """A chunk on its way through the log."""

    asked: PlanChunk
    works: dict[str, Wanted]
    counts: dict[str, int]
    pending: dict[str, str] = field(default_factory=dict)
    """Job → what it counts as when its append is accepted."""
    rounds: int = 0


class Planner(Actor):
    """Answers each ``PlanChunk`` with one ``Planned`` when all of it is durable."""

    def __init__(
        self,
        *,
        directory: Directory,
        retry: Retry,
        store: EventStore,
        clock: Clock,
        report: Callable[[ChunkPlanned], None],
    ) -> None:
        super().__init__()
        self._to = directory
        self._retry = retry
        self._store = store
        self._clock = clock
        self._report = report
        self._chunks: dict[int, Chunk] = {}
        self._next = 0

    def handle(self, message: Any) -> None:
        """Plan a chunk, or go on with one."""
        if isinstance(message, PlanChunk):
            self._plan(message)
        elif isinstance(message, Journaled):
            for (number, job_id), result in message.results:
                self._journaled(self._chunks[number], job_id, isinstance(result, Appended))
            for number in {number for (number, _), _ in message.results}:
                self._go_on(number)

    def fatal(self, _error: BaseException) -> bool:
        """Always: a chunk that is lost with its planner would be waited for without end."""
        return True

    def _plan(self, asked: PlanChunk) -> None:
        works: dict[str, Wanted] = {}
        for wanted in asked.wanted:
            works.setdefault(job_key(wanted.work), wanted)
        counts = {"works": len(asked.wanted), "doubled": len(asked.wanted) - len(works)}
        self._next += 1
        self._chunks[self._next] = Chunk(asked, works, counts)
        self._go_on(self._next)

    def _go_on(self, number: int) -> None:
        """Decide what is undecided, append it, and report when nothing is left."""
        chunk = self._chunks.get(number)
        if chunk is None or chunk.pending:
            return
        chunk.rounds += 1
        rows = self._store.rows(JOBS, [job_row_key(job_id) for job_id in chunk.works])
        for (job_id, wanted), row in zip(list(chunk.works.items()), rows, strict=True):
            what, batch = self._decide(chunk.asked, job_id, wanted, row)
            if batch is None:
                self._count(chunk, job_id, what)
            elif chunk.rounds > ROUNDS_MAX:
                raise InvariantError(f"job {job_id}: its stream had moved at each of {ROUNDS_MAX} tries")
            else:
                chunk.pending[job_id] = what
                self._to.journal.tell(Append(batch, self.me, (number, job_id)))
        if not chunk.pending:
            del self._chunks[number]
            self._report(ChunkPlanned(chunk.asked.errand, Planned(**chunk.counts)))

    def _journaled(self, chunk: Chunk, job_id: str, accepted: bool) -> None:
        what = chunk.pending.pop(job_id)
        if accepted:
            self._count(chunk, job_id, what)

    def _count(self, chunk: Chunk, job_id: str, what: str) -> None:
        chunk.counts[what] = chunk.counts.get(what, 0) + 1
        del chunk.works[job_id]

    def _decide(
        self, asked: PlanChunk, job_id: str, wanted: Wanted, row: JobRow | None
    ) -> tuple[str, Batch[Event] | None]:
        """What a work counts as, and what to append for it."""
        stream = stream_of(job_id)
        if row is None:
            planned = JobPlanned(
                wanted.work,
                ARTIFACT,
                job_url(wanted.work),
                asked.list_id,
                label=wanted.label,
                priority=wanted.priority,
            )
            return "new", Batch(stream, (planned,), expected_version=0)
        events: list[Event] = []
        if asked.list_id not in row.lists:
            events.append(JobListed(asked.list_id))
        what = self._standing(row, asked)
        if what == "requeued":
            reason = "retry_failed" if asked.retry_failed else "run_again"
            events.append(JobRequeued(row.generation + 1, reason))
        if not events:
            return what, None
        if row.lease is not None:
            return what, Batch(stream, tuple(events), epoch=row.epoch)
        return what, Batch(stream, tuple(events), expected_version=row.version)

    def _standing(self, row: JobRow, asked: PlanChunk) -> str:
        if row.home:
            return "home"
        if row.state is not State.FAILED:
            return "doubled" if row.planned_at > asked.since and asked.list_id in row.lists else "unfinished"
        if asked.retry_failed or self._may_go_again(row):
            return "requeued"
        return "failed"

    def _may_go_again(self, row: JobRow) -> bool:
        waited_ns = self._clock.wall_ns() - row.failed_ns
        # A failure that is still to come: the clock was set back since, and how long ago it was nobody knows.
        rested = waited_ns < 0 or waited_ns >= backoff_ns(self._retry, row.generation)
        return row.may_retry and row.generation < self._retry.generations_max and rested
