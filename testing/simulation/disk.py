"""The disk of a simulated machine: one log and one folder, whatever happens to the processes that use them.

A log in memory outlives its processes here, as a file would; one in LMDB is closed with its last process and
opened by the next. Several processes of one machine share one open log, since LMDB may be opened only once
in a real process; what they share is what they would share through the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...events.facts import JobLeased
from ...events.job import STREAM_PREFIX
from ...events.projections import JOBS, job_row_key
from ...events.record import Appended, AppendResult, Batch, Head, Recorded
from ...store.domain import QUIRE
from ...store.interface import READ_LIMIT
from ...store.library import Library
from ...store.lmdb_store import LmdbStore
from ...store.memory_store import MemoryStore
from ...store.objects import Objects, Part
from .ports import VirtualClock
from .process import Process

StoreKind = Literal["lmdb", "memory"]
MAP_BYTES = 1 << 28
"""Address space for the log of one life."""
Log = LmdbStore | MemoryStore


class Fingerprint(msgspec.Struct, frozen=True):
    """What two lives of one seed must have in common."""

    events: int
    commits: int
    chain: str
    """The head of the hash chain, in hex."""
    log: str
    """SHA-256 over the bytes of every commit, in hex."""
    tables: str
    """Digest of the projections."""
    streams: str
    """Digest of the index of streams."""


class Disk:
    """What outlives processes."""

    def __init__(self, folder: Path, kind: StoreKind, clock: VirtualClock) -> None:
        self.folder = folder
        self._kind = kind
        self._clock = clock
        self._log: Log | None = None
        self._users: list[ProcessStore] = []
        self._owners: dict[str, Process] = {}
        self.robberies: list[str] = []
        """Leases that were taken over from somebody who lived and had them still, in words."""

    def __repr__(self) -> str:
        return f"<Disk {self._kind} at {self.folder}, used by {len(self._users)}>"

    def opener(self, process: Process) -> StoreOpener:
        """What opens the log for the session of a process."""
        return StoreOpener(self, process)

    def opened(self, path: Path, run_id: str) -> Log:
        """The open log."""
        if self._log is None:
            if self._kind == "memory":
                self._log = MemoryStore(QUIRE, run_id=run_id, clock=self._clock)
            else:
                self._log = LmdbStore(path, QUIRE, run_id=run_id, clock=self._clock, map_size=MAP_BYTES)
        return self._log

    def entered(self, store: ProcessStore) -> None:
        """One more process uses the log."""
        self._users.append(store)

    def owned(self, worker: str, process: Process) -> None:
        """A worker, by the name that leases are written to, lives in this process."""
        self._owners[worker] = process

    def robbed(self, log: Log, batches: Sequence[Batch[Any]], by: Process) -> dict[int, str]:
        """Which of the batches takes a job from another worker before its time; in words.

        The dead and the closed may be robbed at once, and the living when their lease has run out. When the
        grant was asked for it was earlier than now, so that what has not run out by now had not then.
        """
        found = {}
        for number, batch in enumerate(batches):
            if not any(isinstance(event, JobLeased) and event.takeover for event in batch.events):
                continue
            job_id = batch.stream.removeprefix(STREAM_PREFIX)
            (row,) = log.rows(JOBS, [job_row_key(job_id)])
            lease = row.lease if row is not None else None
            owner = self._owners.get(lease.worker) if lease is not None else None
            if lease is None or owner is None or owner is by or not owner.lives:
                continue
            left_ns = lease.until_ns - self._clock.boot_ns()
            if lease.boot_id == self._clock.boot_id and left_ns >= 0:
                found[number] = f"job {job_id} was taken from {owner.name}, which lived and had its lease"
        return found

    def left(self, store: ProcessStore) -> None:
        """A process is gone; with the last one a log on disk is closed."""
        if store in self._users:
            self._users.remove(store)
        if not self._users and isinstance(self._log, LmdbStore):
            self._log.close()
            self._log = None

    def fingerprint(self) -> Fingerprint:
        """What the log has come to."""
        log = self.opened(self.folder / "events", "reader")
        whole, after = hashlib.sha256(), 0
        while commits := log.commits(after):
            for first, value in commits:
                whole.update(first.to_bytes(8, "big") + value)
                after = first
        head, tables, streams = log.digest()
        return Fingerprint(head.position, head.commits, head.chain.hex(), whole.hexdigest(), tables, streams)

    def close(self) -> None:
        """Let go of the log."""
        if self._log is not None:
            self._log.close()
            self._log = None


class StoreOpener:
    """Opens the log, and watches the files, for the session of one process."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self._process = process
        self._store: ProcessStore | None = None
        self._parts: list[Part] = []

    def __repr__(self) -> str:
        return f"<StoreOpener of {self._process!r}>"

    def __call__(self, library: Library, run_id: str) -> ProcessStore:
        """The log for a run; from here on the library's parts are known, to be let go by a death."""
        library.objects = WatchedObjects(library.path, library.objects.free_space_min, self._parts)
        self._store = ProcessStore(self._disk, library.events, run_id, self._process)
        return self._store

    def died(self) -> None:
        """What the kernel does for a process that was killed: its files are closed, and stay."""
        for part in self._parts:
            part.close()
        if self._store is not None:
            self._disk.left(self._store)


class WatchedObjects(Objects):
    """Objects that note which parts were opened."""

    def __init__(self, library: Path, free_space_min: int, parts: list[Part]) -> None:
        super().__init__(library, free_space_min=free_space_min)
        self._opened = parts

    def open_part(self, job_id: str, epoch: int) -> Part | None:
        """As ``Objects.open_part``."""
        part = super().open_part(job_id, epoch)
        if part is not None:
            self._opened.append(part)
        return part


class ProcessStore:
    """The log as one process has it open: an ``EventStore`` that writes under its run id.

    The process may be killed just before or just after a commit.
    """

    def __init__(self, disk: Disk, path: Path, run_id: str, process: Process) -> None:
        self._disk = disk
        self._log = disk.opened(path, run_id)
        self._run_id = run_id
        self._process = process
        disk.entered(self)

    def __repr__(self) -> str:
        return f"<ProcessStore {self._run_id[:8]} of {self._log!r}>"

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``."""
        self._process.reached("before_commit")
        self._log.run_id = self._run_id
        robbed = self._disk.robbed(self._log, batches, self._process)
        results = self._log.append(batches)
        self._disk.robberies += [why for n, why in robbed.items() if isinstance(results[n], Appended)]
        self._process.reached("after_commit")
        return results

    def read(self, after: int = 0, *, limit: int = READ_LIMIT, wait_s: float = 0.0) -> list[Recorded[Any]]:
        """As ``EventStore.read``; never waits."""
        return self._log.read(after, limit=limit)

    def read_stream(self, stream: str, after: int = 0, *, limit: int = READ_LIMIT) -> list[Recorded[Any]]:
        """As ``EventStore.read_stream``."""
        return self._log.read_stream(stream, after, limit=limit)

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """As ``EventStore.rows``."""
        return self._log.rows(table, keys)

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """As ``EventStore.scan``."""
        return self._log.scan(table, prefix, after=after, limit=limit)

    def head(self) -> Head:
        """As ``EventStore.head``."""
        return self._log.head()

    def rebuild(self) -> None:
        """As ``EventStore.rebuild``."""
        self._log.rebuild()

    def close(self) -> None:
        """This process uses the log no more."""
        self._disk.left(self)
