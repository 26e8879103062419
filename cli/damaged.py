"""The works at home whose paper is not: its file is gone, or not what it was. ``quire retry --damaged``.

That a generation ended well stands for a file. Where that is lost the end is no longer true, and a new
generation asks the sources anew; the bytes that come take the place of the damaged ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..events.facts import JobPlanned, JobRequeued, WorkIdentified
from ..events.job import JobRow, stream_of
from ..events.record import Batch, Recorded
from ..events.work import Work
from ..store.interface import READ_LIMIT, EventStore
from ..store.objects import OBJECT_DAMAGED, Damage
from .library import Opened


class DamagedPapers:
    """What is wrong with the files of a library; each is read once, when it is asked for."""

    def __init__(self, library: Opened) -> None:
        self._store: EventStore = library.store
        self._objects = library.library.objects
        self._found: dict[tuple[str, int], Damage] = {}

    def __repr__(self) -> str:
        return f"<DamagedPapers, {sum(map(bool, self._found.values()))} of {len(self._found)} that were read>"

    def damage(self, row: JobRow) -> Damage:
        """What is wrong with a job's file; ``""`` where it is whole, or the job is not home."""
        if not row.home or row.artifact is None:
            return ""
        named = (row.artifact.sha256, row.artifact.bytes)
        if named not in self._found:
            self._found[named] = self._objects.damage(*named)
        return self._found[named]

    def left_alone(self, row: JobRow) -> str:
        """Why a job is left as it is; ``""`` where its paper is damaged."""
        if not row.home:
            return f"is {row.state}, not at home"
        return "" if self.damage(row) else "its paper is whole"

    def requeued(self, job_id: str, row: JobRow) -> Batch[Any]:
        """A new generation of a job, unless anything has happened to it since its row was read."""
        work = work_of(self._store, job_id)
        event = JobRequeued(row.generation + 1, OBJECT_DAMAGED, work=work if work != row.work else None)
        return Batch(stream=stream_of(job_id), events=(event,), expected_version=row.version)


def work_of(store: EventStore, job_id: str) -> Work:
    """All that the log says of a job's work; the row of a finished one has its long texts cut."""
    work = Work()
    for recorded in _events_of(store, job_id):
        if isinstance(recorded.event, JobPlanned | WorkIdentified):
            work = work.merged(recorded.event.work)
    return work


def _events_of(store: EventStore, job_id: str) -> Iterator[Recorded[Any]]:
    after = 0
    while page := store.read_stream(stream_of(job_id), after, limit=READ_LIMIT):
        yield from page
        after = page[-1].version
