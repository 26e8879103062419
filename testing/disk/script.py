"""The script that a disk is tried with: a small run on a library, by the product's own store, step by step.

It is the same at every run of a seed, so that its n-th system call is the same call each time; and it goes on
where an earlier run ended, as the product does. Behind every step that promises something it makes a mark:
what is marked must be there whatever happens to the disk afterwards.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...errors import InvariantError, StorageFullError
from ...events.facts import (
    Artifact,
    Event,
    JobLeased,
    JobPlanned,
    JobStateChanged,
    LeaseReleased,
    LibraryCreated,
    OperationCompleted,
    OperationStarted,
    OpKind,
    RunFinished,
    RunStarted,
)
from ...events.job import JobRow, State, stream_of
from ...events.keys import job_key, op_key
from ...events.projections import JOBS, LIBRARY, LIBRARY_STREAM, RUN_PREFIX, job_row_key
from ...events.record import Appended, Batch
from ...events.work import Work
from ...store.domain import QUIRE
from ...store.library import Library
from ...store.lmdb_store import LmdbStore
from ...store.objects import Part
from ...version import VERSION

ROUNDS = 3
JOBS_PER_ROUND = 2
PAPER_BYTES = (700, 6_000)
"""Bounds of a paper's size: a few sectors, none of them whole at the end."""
CHUNK_BYTES = 2_500
MAP_SIZE = 1 << 30
OPENED, DONE = "opened", "done"
_LIST = "cd" * 8

Mark = Callable[[str], None]


class Paper(msgspec.Struct, frozen=True):
    """A work of the script, and the bytes that it must come home with."""

    job_id: str
    work: Work
    data: bytes
    sha256: str


class TickingClock:
    """A clock that goes one second further each time it is read."""

    def __init__(self) -> None:
        self._now_ns = 1_700_000_000_000_000_000

    def wall_ns(self) -> int:
        """The next second, in nanoseconds."""
        self._now_ns += 1_000_000_000
        return self._now_ns


def papers(seed: int, rounds: int = ROUNDS) -> list[list[Paper]]:
    """The papers of a seed, by round; the last is, byte for byte, another work's as well."""
    chance = random.Random(seed)
    found: list[Paper] = []
    for number in range(rounds * JOBS_PER_ROUND):
        size = chance.randint(*PAPER_BYTES)
        data = found[0].data if number == rounds * JOBS_PER_ROUND - 1 else chance.randbytes(size)
        work = Work(doi=f"10.5555/disk.{seed}.{number}")
        found.append(Paper(job_key(work), work, data, _hash(data)))
    return [found[n : n + JOBS_PER_ROUND] for n in range(0, len(found), JOBS_PER_ROUND)]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def play(
    library: Path,
    *,
    seed: int,
    mark: Mark,
    turn: int = 0,
    map_size: int = MAP_SIZE,
    patience: int = 0,
    rounds: int = ROUNDS,
) -> None:
    """Play the script to its end, from where an earlier turn left it.

    Args:
        library: the folder of the library.
        seed: of the papers.
        mark: is told what is durable from now on.
        turn: how often it was played on this library before.
        map_size: of the log, in bytes.
        patience: times that an append which found no room is tried again in the same store.
        rounds: of papers; fewer make a shorter script.

    Raises:
        QuireError: as the product's store raises it.
    """
    opened = Library.open(library)
    store = LmdbStore(opened.events, QUIRE, run_id=f"run-{turn}", clock=TickingClock(), map_size=map_size)
    try:
        lock = opened.claim_worker(f"worker-{turn}")
        try:
            opened.remove_dead_locks()
            script = Script(opened, store, mark=mark, worker=f"worker-{turn}", patience=patience)
            script.run(papers(seed, rounds))
        finally:
            lock.release()
    finally:
        store.close()
    mark(DONE)


class Script:
    """One turn on a library that is open."""

    def __init__(self, library: Library, store: LmdbStore, *, mark: Mark, worker: str, patience: int) -> None:
        self._objects = library.objects
        self._store = store
        self._mark = mark
        self._worker = worker
        self._patience = patience

    def __repr__(self) -> str:
        return f"<Script of {self._worker} on {self._store!r}>"

    def run(self, rounds: Sequence[Sequence[Paper]]) -> None:
        """All of it: the library's first words, the rounds, a rebuild of the tables, the last word."""
        self._mark(OPENED)
        run = RUN_PREFIX + self._worker
        if self._store.rows(LIBRARY, [b"library"]) == [None]:
            created = LibraryCreated("disk", True, VERSION)
            self.append([Batch(LIBRARY_STREAM, (created,), expected_version=0)])
        self.append([Batch(run, (RunStarted(self._worker, _LIST, (), VERSION, 1),), expected_version=0)])
        for papers_ in rounds:
            self._round(papers_)
        self._store.rebuild()
        self.append([Batch(run, (RunFinished(self._worker, "ended", {}, 1),))])

    def append(self, batches: list[Batch[Any]]) -> None:
        """Append, and mark what the log promises then: its head and the chain up to it."""
        for left in range(self._patience, -1, -1):
            try:
                results = self._store.append(batches)
                break
            except StorageFullError:
                if not left:
                    raise
        refused = [result for result in results if not isinstance(result, Appended)]
        if refused:
            raise InvariantError(f"the script works alone, and was refused: {refused}")
        head = self._store.head()
        self._mark(f"log {head.position} {head.chain.hex()}")

    def _round(self, papers_: Sequence[Paper]) -> None:
        rows = dict(zip(papers_, self._rows(papers_), strict=True))
        new = [paper for paper in papers_ if rows[paper] is None]
        if new:
            self.append([_planned(paper) for paper in new])
        rows = dict(zip(papers_, self._rows(papers_), strict=True))
        left = {paper: row for paper, row in rows.items() if row is not None and not row.home}
        if left:
            self._bring_home(left)

    def _rows(self, papers_: Sequence[Paper]) -> list[JobRow | None]:
        return self._store.rows(JOBS, [job_row_key(paper.job_id) for paper in papers_])

    def _bring_home(self, left: dict[Paper, JobRow]) -> None:
        epochs = {paper: row.epoch + 1 for paper, row in left.items()}
        self.append([_leased(paper, epoch, self._worker) for paper, epoch in epochs.items()])
        self.append([_started(paper, epoch, "STREAM") for paper, epoch in epochs.items()])
        parts = {paper: self._stream(paper, epoch) for paper, epoch in epochs.items()}
        self.append([_streamed(paper, epoch) for paper, epoch in epochs.items()])
        for paper, part in parts.items():
            self._place(paper, part)
        self._objects.sync_folders()
        for paper in left:
            self._mark(f"object {paper.sha256} {len(paper.data)}")
        self.append([_finished(paper, epoch) for paper, epoch in epochs.items()])

    def _stream(self, paper: Paper, epoch: int) -> Part:
        """The paper's bytes in its part; what an earlier owner left is used if it is right."""
        part = self._objects.open_part(paper.job_id, epoch)
        if part is None:
            raise InvariantError(f"the part of {paper.job_id} is locked, and nobody else is there")
        if part.length > len(paper.data) or part.sha256() != _hash(paper.data[: part.length]):
            part.restart()
        part.note(f"etag {paper.sha256}")
        while part.length < len(paper.data):
            part.write(paper.data[part.length :][:CHUNK_BYTES])
        return part

    def _place(self, paper: Paper, part: Part) -> None:
        """As the finalizer: what is held already is not stored again."""
        if self._objects.has(paper.sha256, len(paper.data)) and self._objects.verify(paper.sha256):
            part.discard()
            self._objects.adopt(paper.sha256)
        else:
            self._objects.finalise(part)


def _planned(paper: Paper) -> Batch[Any]:
    event = JobPlanned(paper.work, "pdf", "", _LIST)
    return Batch(stream_of(paper.job_id), (event,), expected_version=0)


def _leased(paper: Paper, epoch: int, worker: str) -> Batch[Any]:
    event = JobLeased(worker, 60_000_000_000, "boot", takeover=epoch > 1)
    return Batch(stream_of(paper.job_id), (event,), epoch=epoch, opens_epoch=True)


def _started(paper: Paper, epoch: int, kind: OpKind) -> Batch[Any]:
    return Batch(stream_of(paper.job_id), (_begin(paper, kind),), epoch=epoch)


def _streamed(paper: Paper, epoch: int) -> Batch[Any]:
    return Batch(stream_of(paper.job_id), (_end(paper, "STREAM"), _begin(paper, "FINALIZE")), epoch=epoch)


def _finished(paper: Paper, epoch: int) -> Batch[Any]:
    artifact = Artifact(paper.sha256, len(paper.data), "script")
    events: tuple[Event, ...] = (
        _end(paper, "FINALIZE"),
        JobStateChanged(State.STREAMING, State.FINALIZED, artifact=artifact),
        JobStateChanged(State.FINALIZED, State.INDEXED),
        LeaseReleased("done"),
    )
    return Batch(stream_of(paper.job_id), events, epoch=epoch)


def _begin(paper: Paper, kind: OpKind) -> Event:
    return OperationStarted(op_key(kind, paper.job_id, sha256=paper.sha256), kind, {"sha256": paper.sha256})


def _end(paper: Paper, kind: OpKind) -> Event:
    return OperationCompleted(op_key(kind, paper.job_id, sha256=paper.sha256), kind, "OK", {})
