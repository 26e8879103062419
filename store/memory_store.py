"""An event store in memory: the same promises as LMDB's but durability, for tests and small embeddings.

It keeps the encoded commits and table values, not objects, so that what would not survive a disk does
not survive here either.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from ..errors import InvariantError, UsageError
from ..events.record import AppendResult, Batch, Head, Recorded
from .codec import CHAIN_BYTES, GENESIS, Commit, CommitCodec, Draft
from .digests import Digests, StreamsDigest
from .interface import READ_LIMIT, Domain
from .projecting import Projector, TableChange, check_keys, digest_of

POLL_S = 0.02
"""How often a waiting read looks for events of other processes, in seconds."""


class WallClock(Protocol):
    """What a store needs of a clock."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        ...


class MemoryTables:
    """The projection tables of a domain as sorted maps of bytes."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._data: dict[str, dict[bytes, bytes]] = {table: {} for table in projector.decoders}
        # Keys in order, from the first scan on; before it, sorting each new key in would be quadratic.
        self._order: dict[str, list[bytes]] = {}

    def __repr__(self) -> str:
        return f"<MemoryTables rows={ {name: len(data) for name, data in self._data.items()} }>"

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under a key."""
        return self._data[table].get(key)

    def fold(self, events: Sequence[Recorded[Any]]) -> None:
        """Take in events that follow those taken in before; raises as ``Projector.changes``."""
        changes = self._projector.changes(events, self.get)
        for change in changes:  # all of them first: what is refused must leave no trace
            self._check(change)
        for change in changes:
            self._apply(change)

    def _check(self, change: TableChange) -> None:
        data, gone = self._data[change.table], set(change.deletes)
        absent = next((key for key in change.deletes if key not in data), None)
        if absent is not None:
            raise InvariantError(f"{change.table}: {absent[:80]!r} was to be removed and is not there")
        taken = next((key for key, _ in change.inserts if key in data and key not in gone), None)
        if taken is not None:
            raise InvariantError(f"{change.table}: the entry {taken[:80]!r} stands for two rows")

    def _apply(self, change: TableChange) -> None:
        data, order = self._data[change.table], self._order.get(change.table)
        for key in change.deletes:
            del data[key]
            if order is not None:
                del order[bisect_left(order, key)]
        for key, value in change.inserts + change.puts:
            _put(data, order, key, value)

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """As ``EventStore.rows``."""
        decode, data = self._projector.decoder(table), self._data[table]
        check_keys(table, keys)
        found = [data.get(key) for key in keys]
        return [None if value is None else decode(value) for value in found]

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """As ``EventStore.scan``."""
        decode, data = self._projector.decoder(table), self._data[table]
        check_keys(table, (prefix, after))
        order = self._order.get(table)
        if order is None:
            order = self._order[table] = sorted(data)
        start = max(bisect_left(order, prefix), bisect_right(order, after) if after else 0)
        found: list[tuple[bytes, Any]] = []
        for key in order[start : start + min(limit, READ_LIMIT)]:
            if not key.startswith(prefix):
                break
            found.append((key, decode(data[key])))
        return found

    def digest(self) -> str:
        """SHA-256 (hex) over all tables."""
        return digest_of((name, sorted(self._data[name].items())) for name in sorted(self._data))


def _put(data: dict[bytes, bytes], order: list[bytes] | None, key: bytes, value: bytes) -> None:
    if order is not None and key not in data:
        insort(order, key)
    data[key] = value


class MemoryStore:
    """An ``EventStore`` that lives as long as the process."""

    def __init__(self, domain: Domain, *, run_id: str, clock: WallClock) -> None:
        self._domain = domain
        self.run_id = run_id
        """Written on every event from now on."""
        self._clock = clock
        self._codec = CommitCodec(domain)
        # Everything below changes in ``append`` and ``rebuild`` alone, under this lock.
        self._changed = threading.Condition(threading.RLock())
        self._tables = MemoryTables(Projector(domain))
        self._commits: list[Commit] = []
        self._starts: list[int] = []
        self._streams: dict[str, tuple[int, int]] = {}
        self._stream_commits: dict[str, list[tuple[int, int]]] = {}
        self._head = Head(0, 0, GENESIS)
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryStore head={self._head.position} commits={self._head.commits}>"

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``; never out of room."""
        with self._changed:
            self._check_open()
            draft = Draft(self._head.position, time_ns=self._clock.wall_ns(), run_id=self.run_id)
            draft.judge(batches, lambda stream: self._streams.get(stream, (0, 0)))
            if draft.entries:
                self._keep(draft)
                self._changed.notify_all()
            return draft.results

    def _keep(self, draft: Draft) -> None:
        value = self._codec.encode(self._head.chain, draft)
        self._tables.fold(draft.recorded)
        first = self._head.position + 1
        self._commits.append((first, value))
        self._starts.append(first)
        for stream, version in draft.touched.items():
            self._streams[stream] = draft.states[stream]
            self._stream_commits.setdefault(stream, []).append((version, len(self._commits) - 1))
        self._head = Head(draft.position, len(self._commits), value[:CHAIN_BYTES])

    def read(self, after: int = 0, *, limit: int = READ_LIMIT, wait_s: float = 0.0) -> list[Recorded[Any]]:
        """As ``EventStore.read``."""
        left = wait_s
        with self._changed:
            while True:
                self._check_open()
                found = self._read(after, min(limit, READ_LIMIT))
                if found or left <= 0:
                    return found
                if not self._changed.wait(min(POLL_S, left)):
                    left -= POLL_S

    def _read(self, after: int, limit: int) -> list[Recorded[Any]]:
        found: list[Recorded[Any]] = []
        for index in range(max(bisect_right(self._starts, after + 1) - 1, 0), len(self._commits)):
            found.extend(event for event in self._decoded(index) if event.position > after)
            if len(found) >= limit:
                break
        return found[:limit]

    def _decoded(self, index: int) -> list[Recorded[Any]]:
        previous = self._commits[index - 1][1][:CHAIN_BYTES] if index else GENESIS
        return self._codec.decode(self._commits[index], previous)

    def read_stream(self, stream: str, after: int = 0, *, limit: int = READ_LIMIT) -> list[Recorded[Any]]:
        """As ``EventStore.read_stream``."""
        limit = min(limit, READ_LIMIT)
        with self._changed:
            self._check_open()
            places = self._stream_commits.get(stream, [])
            found: list[Recorded[Any]] = []
            for _, index in places[max(bisect_right(places, (after + 1, len(self._commits))) - 1, 0) :]:
                found += [e for e in self._decoded(index) if e.stream == stream and e.version > after]
                if len(found) >= limit:
                    break
            return found[:limit]

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """As ``EventStore.rows``."""
        with self._changed:
            self._check_open()
            return self._tables.rows(table, keys)

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """As ``EventStore.scan``."""
        with self._changed:
            self._check_open()
            return self._tables.scan(table, prefix, after=after, limit=limit)

    def head(self) -> Head:
        """As ``EventStore.head``."""
        with self._changed:
            self._check_open()
            return self._head

    def commits(self, after: int = 0, *, bytes_max: int = 1 << 24) -> list[Commit]:
        """Raw commits that start behind position ``after``, about ``bytes_max`` bytes; for the audit."""
        with self._changed:
            self._check_open()
            return taken(iter(self._commits[bisect_right(self._starts, after) :]), bytes_max)

    def digest(self) -> Digests:
        """The head, and digests of the tables and of the index of streams as they are at it."""
        with self._changed:
            self._check_open()
            return Digests(self._head, self._tables.digest(), self._streams_digest())

    def _streams_digest(self) -> str:
        digest = StreamsDigest()
        for stream, state in self._streams.items():
            digest.state(stream, *state)
        for stream, places in self._stream_commits.items():
            for version, index in places:
                digest.commit(stream, version, self._starts[index])
        return digest.hexdigest()

    def statistics(self) -> Mapping[str, int]:
        """Counts that tell how full the store is: events, commits, streams, bytes of the log."""
        with self._changed:
            return {
                "events": self._head.position,
                "commits": self._head.commits,
                "streams": len(self._streams),
                "bytes": sum(len(value) for _, value in self._commits),
            }

    def rebuild(self) -> None:
        """As ``EventStore.rebuild``."""
        with self._changed:
            self._check_open()
            tables = MemoryTables(Projector(self._domain))
            for index in range(len(self._commits)):
                tables.fold(self._decoded(index))
            self._tables = tables

    def close(self) -> None:
        """As ``EventStore.close``; the events are gone."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the store is closed: open it again")


def taken(commits: Iterable[Commit], bytes_max: int) -> list[Commit]:
    """The first commits up to about ``bytes_max`` bytes, at least one if there is any."""
    found: list[Commit] = []
    size = 0
    for commit in commits:
        found.append(commit)
        size += len(commit[1])
        if size >= bytes_max:
            break
    return found
