"""The event store on LMDB: one environment, one record per commit, projections in the same transaction.

Rules that cost others their data, kept here (DESIGN, "The log"): default sync flags only; what ``put``
returns is checked, since ``append=True`` out of order returns False in silence; the map is reserved once;
read transactions are short (an idle one keeps every page freed after it); slots of dead readers are
cleared at open; a store is used by the process that opened it, never by a fork of it; after a failed
write or fsync it says no until it is opened again. LMDB does not check the bytes it returns: the chain does.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from ..errors import (
    DamagedError,
    InvariantError,
    StoreFailedError,
    UsageError,
)
from ..events.record import AppendResult, Batch, Head, Recorded
from .codec import CHAIN_BYTES, GENESIS, Commit, CommitCodec, Draft, StreamState
from .disk_faults import environment_faults, storage_faults, sync_folder
from .interface import READ_LIMIT, Domain
from .lmdb_birth import create
from .lmdb_faults import READERS_MAX, translated
from .memory_store import POLL_S, WallClock, taken
from .projecting import Projector, TableChange, decoded, digest_of

MAP_SIZE = 64 << 30
"""Address space reserved for the log, in bytes; not disk."""
TABLES_MAX = 256
"""Named databases in the environment."""
FORMAT = 1
"""Layout of the environment; a higher one was written by a newer program."""
REBUILD_EVENTS = 4_000
"""Events folded at once when projections are rebuilt."""
COMMIT_BYTES_READ_MAX = 1 << 24

_COMMITS, _STREAMS, _STREAM_COMMITS, _META = b":commits", b":streams", b":stream_commits", b":meta"
_SYSTEM = (_COMMITS, _STREAMS, _STREAM_COMMITS, _META)
_HEAD, _TABLES, _NAMES, _FORMAT = b"head", b"tables", b"names", b"format"
_Txn = Any
"""A transaction; py-lmdb types its values as bytes or memoryview, and we never ask for the latter."""
_number = struct.Struct(">Q")
_pair = struct.Struct(">QQ")
_head = struct.Struct(">QQ32s")


class LmdbStore:
    """An ``EventStore`` in a folder; any number of processes may share it.

    Args:
        path: the environment's folder; it is created (not its parents) unless ``readonly``.
        domain: events and projections; tables kept by other code are rebuilt here and now.
        run_id: written on every event of this store.
        clock: stamps the commits.
        map_size: greatest size of the log, in bytes; address space, reserved once.
        readonly: never writes, never rebuilds, and leaves checking to whoever reads.

    Raises:
        UsageError: there is no log (``readonly``), it is open in this process already, or it was written by
            a newer program.
        DamagedError: the last commit is not what was written.
        EnvironmentFault: the folder cannot be opened or written.
    """

    def __init__(
        self,
        path: Path,
        domain: Domain,
        *,
        run_id: str,
        clock: WallClock,
        map_size: int = MAP_SIZE,
        readonly: bool = False,
    ) -> None:
        self.path = Path(path)
        self.run_id = run_id
        """Written on every event from now on."""
        self._clock = clock
        self._codec = CommitCodec(domain)
        self._projector = Projector(domain)
        self._readonly = readonly
        self._pid = os.getpid()
        self._failed = ""
        self._closed = False
        self._appended = threading.Condition()
        self._env = self._opened(map_size)
        try:
            self._db = self._databases()
            self._prepare()
        except BaseException:
            self._env.close()
            raise

    def __repr__(self) -> str:
        if self._closed:
            return f"<LmdbStore {self.path} closed>"
        state = f"failed: {self._failed}" if self._failed else f"head={self.head().position}"
        return f"<LmdbStore {self.path} {'readonly ' if self._readonly else ''}{state}>"

    # Opening

    def _opened(self, map_size: int) -> lmdb.Environment:
        new = not (self.path / "data.mdb").exists()
        if new and self._readonly:
            raise UsageError(f"there is no log at {self.path}: name the library that holds one")
        with translated(self.path):
            if new:
                create(self.path, map_size=map_size)
            env = lmdb.open(
                os.fspath(self.path),
                map_size=map_size,
                max_dbs=TABLES_MAX,
                max_readers=READERS_MAX,
                readonly=self._readonly,
                create=not self._readonly,
            )
            env.reader_check()
        if not self._readonly:
            self._sync_names(env)
        return env

    def _sync_names(self, env: lmdb.Environment) -> None:
        """Make the names of the log durable: with them every commit would be gone after a power loss.

        Not only by who made them: that one may have died in between, or not be there yet.
        """
        try:
            with environment_faults(f"cannot make the folder of {self.path} durable"):
                sync_folder(self.path)
                sync_folder(self.path.parent)
        except BaseException:
            env.close()
            raise

    def _databases(self) -> dict[bytes, Any]:
        names = [*_SYSTEM, *(table.encode() for table in self._projector.decoders)]
        with translated(self.path):
            try:
                if self._readonly:
                    return {name: self._database(name, None, create=False) for name in names}
                # A handle opened in a read transaction dies with it; this one writes only what is new.
                with self._env.begin(write=True) as txn:
                    return {name: self._database(name, txn, create=True) for name in names}
            except lmdb.NotFoundError:
                raise UsageError(
                    f"the log at {self.path} lacks tables of this program: open it once for writing, "
                    "or run `quire rebuild`"
                ) from None

    def _database(self, name: bytes, txn: _Txn | None, *, create: bool) -> Any:
        stream_commits = name == _STREAM_COMMITS
        return self._env.open_db(name, txn, create=create, dupsort=stream_commits, dupfixed=stream_commits)

    def _prepare(self) -> None:
        with self._reading() as txn:
            self._check_format(txn)
            tables = txn.get(_TABLES, db=self._db[_META])
            head = self._head(txn)
            last = None if self._readonly else self._last_two(txn)
        if last is not None:
            self._check_last(head, *last)
        if tables != self._tables_record(head.position) and not self._readonly:
            self.rebuild()

    def _check_format(self, txn: _Txn) -> None:
        value = txn.get(_FORMAT, db=self._db[_META])
        if value is not None and _number.unpack(value)[0] > FORMAT:
            raise UsageError(f"the log at {self.path} was written by a newer program: use that one")

    def _last_two(self, txn: _Txn) -> tuple[Commit | None, bytes]:
        """The last commit and the chain head before it."""
        cursor = txn.cursor(self._db[_COMMITS])
        if not cursor.last():
            return None, GENESIS
        commit = (_number.unpack(cursor.key())[0], cursor.value())
        return commit, cursor.value()[:CHAIN_BYTES] if cursor.prev() else GENESIS

    def _check_last(self, head: Head, last: Commit | None, previous: bytes) -> None:
        if last is None:
            position, chain = 0, GENESIS
        else:
            position, chain = self._codec.decode(last, previous)[-1].position, last[1][:CHAIN_BYTES]
        if (position, chain) != (head.position, head.chain):
            raise DamagedError(
                f"the head record of the log at {self.path} says position {head.position}, its last commit "
                f"ends at {position}: keep the library as it is and run `quire audit`"
            )

    def _tables_record(self, position: int) -> bytes:
        return _number.pack(position) + self._projector.fingerprint

    # Writing

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``.

        Raises:
            UsageError: the store is read-only, or another version of the program took the library over.
        """
        if not batches:
            return []
        with self._writing() as txn:
            draft = self._append(txn, batches)
        if draft.entries:
            with self._appended:
                self._appended.notify_all()
        return draft.results

    def _append(self, txn: _Txn, batches: Sequence[Batch[Any]]) -> Draft:
        head = self._head(txn)
        if txn.get(_TABLES, db=self._db[_META]) != self._tables_record(head.position):
            raise UsageError(
                f"another version of the program works on the log at {self.path}: stop one of the two"
            )
        draft = Draft(head.position, time_ns=self._clock.wall_ns(), run_id=self.run_id)
        draft.judge(batches, lambda stream: self._stream(txn, stream))
        if draft.entries:
            self._write(txn, head, draft)
        return draft

    def _write(self, txn: _Txn, head: Head, draft: Draft) -> None:
        key, value = _number.pack(head.position + 1), self._codec.encode(head.chain, draft)
        if not txn.put(key, value, append=True, db=self._db[_COMMITS]):
            raise DamagedError(
                f"the log at {self.path} has commits behind its head at position {head.position}: "
                "keep the library as it is and run `quire audit`"
            )
        for stream, version in draft.touched.items():
            name = stream.encode()
            _put(txn, self._db[_STREAMS], name, _pair.pack(*draft.states[stream]))
            _put(txn, self._db[_STREAM_COMMITS], name, _number.pack(version) + key)
        self._apply(txn, draft.recorded)
        new = _head.pack(draft.position, head.commits + 1, value[:CHAIN_BYTES])
        _put(txn, self._db[_META], _HEAD, new)
        _put(txn, self._db[_META], _TABLES, self._tables_record(draft.position))

    def _apply(self, txn: _Txn, recorded: Sequence[Recorded[Any]]) -> None:
        def get(table: str, key: bytes) -> bytes | None:
            value: bytes | None = txn.get(key, db=self._db[table.encode()])
            return value

        for change in self._projector.changes(recorded, get):
            _change(txn, self._db[change.table.encode()], change)

    def rebuild(self) -> None:
        """As ``EventStore.rebuild``: one transaction, in which the old tables serve until the new stand.

        Raises:
            DamagedError: the log cannot be folded; the old tables stay.
        """
        with self._writing() as txn:
            self._empty_tables(txn)
            folded: list[Recorded[Any]] = []
            for recorded in self._all_commits(txn):
                folded += recorded
                if len(folded) >= REBUILD_EVENTS:
                    self._apply(txn, folded)
                    folded = []
            self._apply(txn, folded)
            _put(txn, self._db[_META], _FORMAT, _number.pack(FORMAT))
            _put(txn, self._db[_META], _TABLES, self._tables_record(self._head(txn).position))

    def _empty_tables(self, txn: _Txn) -> None:
        """Empty our tables and those of projections that are no more (never dropped: one could be in use).

        Their names are kept in a record, since LMDB's own list of databases is no guide to what may be
        emptied: its 1.0 engine gives each name with a NUL behind it, and ``:commits`` was not recognised.
        """
        meta, ours = self._db[_META], set(self._projector.decoders)
        kept = txn.get(_NAMES, db=meta)
        for name in ours.union(msgspec.msgpack.decode(kept, type=list[str]) if kept else ()):
            table = name.encode()
            txn.drop(self._db.get(table) or self._env.open_db(table, txn, create=False), delete=False)
        _put(txn, meta, _NAMES, msgspec.msgpack.encode(sorted(ours)))

    def _all_commits(self, txn: _Txn) -> Iterator[list[Recorded[Any]]]:
        previous = GENESIS
        for key, value in txn.cursor(self._db[_COMMITS]):
            yield self._codec.decode((_number.unpack(key)[0], value), previous)
            previous = value[:CHAIN_BYTES]

    # Reading

    def read(self, after: int = 0, *, limit: int = READ_LIMIT, wait_s: float = 0.0) -> list[Recorded[Any]]:
        """As ``EventStore.read``; waiting takes a new short transaction every 20 ms or append of ours."""
        left, limit = wait_s, min(limit, READ_LIMIT)
        while True:
            found = self._read(after, limit)
            if found or left <= 0:
                return found
            with self._appended:
                if not self._appended.wait(min(POLL_S, left)):
                    left -= POLL_S

    def _read(self, after: int, limit: int) -> list[Recorded[Any]]:
        with self._reading() as txn:
            commits, previous = self._raw(txn, after, limit)
        found: list[Recorded[Any]] = []
        for commit in commits:
            found += self._codec.decode(commit, previous)
            previous = commit[1][:CHAIN_BYTES]
        skipped = max(after + 1 - commits[0][0], 0) if commits else 0
        return found[skipped : skipped + limit]

    def _raw(self, txn: _Txn, after: int, limit: int) -> tuple[list[Commit], bytes]:
        """The commits that hold the positions, and the chain head before the first."""
        cursor = txn.cursor(self._db[_COMMITS])
        wanted = _number.pack(after + 1)
        if not cursor.set_range(wanted):
            cursor.last()
        elif cursor.key() != wanted:
            cursor.prev()  # the commit before may hold the first wanted position
        if not cursor.key() and not cursor.first():
            return [], GENESIS
        start = cursor.key()
        previous = cursor.value()[:CHAIN_BYTES] if cursor.prev() else GENESIS
        cursor.set_key(start)
        commits: list[Commit] = []
        for key, value in cursor.iternext():
            position = _number.unpack(key)[0]
            if position > after + limit:
                break
            commits.append((position, value))
        return commits, previous

    def read_stream(self, stream: str, after: int = 0, *, limit: int = READ_LIMIT) -> list[Recorded[Any]]:
        """As ``EventStore.read_stream``."""
        limit = min(limit, READ_LIMIT)
        with self._reading() as txn:
            found: list[Recorded[Any]] = []
            for position in self._stream_positions(txn, stream.encode(), after):
                [commit], previous = self._raw(txn, position - 1, 1)
                recorded = self._codec.decode(commit, previous)
                found += [event for event in recorded if event.stream == stream and event.version > after]
                if len(found) >= limit:
                    break
        return found[:limit]

    def _stream_positions(self, txn: _Txn, name: bytes, after: int) -> Iterator[int]:
        """First positions of the commits that hold versions behind ``after``."""
        cursor = txn.cursor(self._db[_STREAM_COMMITS])
        if not cursor.set_range_dup(name, _pair.pack(after + 1, 0)):
            if not cursor.set_key(name):
                return
            cursor.last_dup()
        elif _pair.unpack(cursor.value())[0] > after + 1 and not cursor.prev_dup():
            cursor.set_key(name)
        for value in cursor.iternext_dup():
            yield _pair.unpack(value)[1]

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """As ``EventStore.rows``."""
        decode = self._projector.decoder(table)
        with self._reading() as txn:
            self._check_tables(txn)
            db = self._db[table.encode()]
            values = [txn.get(key, db=db) for key in keys]
        return [
            None if value is None else decoded(table, key, value, decode)
            for key, value in zip(keys, values, strict=True)
        ]

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """As ``EventStore.scan``."""
        decode, limit = self._projector.decoder(table), min(limit, READ_LIMIT)
        found: list[tuple[bytes, bytes]] = []
        with self._reading() as txn:
            self._check_tables(txn)
            cursor = txn.cursor(self._db[table.encode()])
            if cursor.set_range(max(prefix, after + b"\0" if after else b"")):
                for key, value in cursor.iternext():
                    if len(found) >= limit or not key.startswith(prefix):
                        break
                    found.append((key, value))
        return [(key, decoded(table, key, value, decode)) for key, value in found]

    def head(self) -> Head:
        """As ``EventStore.head``."""
        with self._reading() as txn:
            return self._head(txn)

    def commits(self, after: int = 0, *, bytes_max: int = COMMIT_BYTES_READ_MAX) -> list[Commit]:
        """Raw commits that start behind position ``after``, about ``bytes_max`` bytes; for the audit."""
        with self._reading() as txn:
            cursor = txn.cursor(self._db[_COMMITS])
            if not cursor.set_range(_number.pack(after + 1)):
                return []
            return taken(((_number.unpack(key)[0], value) for key, value in cursor.iternext()), bytes_max)

    def chain_at(self, position: int) -> bytes | None:
        """The chain head behind the commit that ends at a position; None where no commit ends there."""
        with self._reading() as txn:
            if position in (0, self._head(txn).position):
                return self._head(txn).chain if position else GENESIS
            cursor = txn.cursor(self._db[_COMMITS])
            if not cursor.set_key(_number.pack(position + 1)) or not cursor.prev():
                return None
            return bytes(cursor.value()[:CHAIN_BYTES])

    def digest(self) -> tuple[Head, str]:
        """The head, and the digest of all tables as they are at it; about a second per million rows."""
        with self._reading() as txn:
            self._check_tables(txn)
            names = sorted(self._projector.decoders)
            tables = ((name, iter(txn.cursor(self._db[name.encode()]))) for name in names)
            return self._head(txn), digest_of(tables)

    def statistics(self) -> Mapping[str, int]:
        """Counts that tell how full the store is: events, commits, streams, bytes of disk and of the map."""
        with self._reading() as txn:
            head, info = self._head(txn), self._env.info()
            return {
                "events": head.position,
                "commits": head.commits,
                "streams": txn.stat(self._db[_STREAMS])["entries"],
                "bytes": (info["last_pgno"] + 1) * txn.stat(self._db[_META])["psize"],
                "map_bytes": info["map_size"],
            }

    def copy_to(self, folder: Path) -> None:
        """Write the environment as it is now, without its free pages, into an empty folder, and fsync it.

        It may run while others write; what they commit meanwhile is not in the copy.

        Raises:
            StorageFullError: no room there.
            StoreFailedError: the disk failed.
        """
        self._check_usable()
        with translated(folder):
            self._env.copy(os.fspath(folder), compact=True)
        with storage_faults(folder):
            descriptor = os.open(folder / "data.mdb", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(folder)

    def close(self) -> None:
        """As ``EventStore.close``."""
        if not self._closed and os.getpid() == self._pid:
            self._env.close()
        self._closed = True

    def _head(self, txn: _Txn) -> Head:
        value = txn.get(_HEAD, db=self._db[_META])
        if value is None:
            return Head(0, 0, GENESIS)
        try:
            return Head(*_head.unpack(value))
        except struct.error:
            raise DamagedError(
                f"the head record of the log at {self.path} is damaged: run `quire audit`"
            ) from None

    def _stream(self, txn: _Txn, stream: str) -> StreamState:
        value = txn.get(stream.encode(), db=self._db[_STREAMS]) if stream else None
        return (0, 0) if value is None else _pair.unpack(value)

    def _check_tables(self, txn: _Txn) -> None:
        value = txn.get(_TABLES, db=self._db[_META])
        if value is None or value[_number.size :] != self._projector.fingerprint:
            raise UsageError(
                f"the projections of the log at {self.path} are kept by another version of the program: "
                "use that one, or open the log once for writing with this one"
            )

    @contextmanager
    def _reading(self) -> Iterator[_Txn]:
        self._check_usable()
        with translated(self.path), self._env.begin() as txn:
            yield txn

    @contextmanager
    def _writing(self) -> Iterator[_Txn]:
        self._check_usable()
        if self._readonly:
            raise UsageError(f"the log at {self.path} was opened read-only: open it for writing")
        if self._failed:
            raise StoreFailedError(f"the log at {self.path} failed before ({self._failed}): open it again")
        try:
            with translated(self.path), self._env.begin(write=True) as txn:
                yield txn
        except StoreFailedError as error:
            # What the kernel dropped in a failed fsync a second fsync calls written: never go on with it.
            self._failed = str(error)
            raise

    def _check_usable(self) -> None:
        if self._closed:
            raise UsageError(f"the store at {self.path} is closed: open it again")
        if os.getpid() != self._pid:
            raise InvariantError(f"the store at {self.path} was opened before a fork: open it in the child")


def _put(txn: _Txn, db: Any, key: bytes, value: bytes) -> None:
    if not txn.put(key, value, db=db):
        raise InvariantError(f"LMDB kept nothing under {key[:80]!r}: run `quire audit`")


def _change(txn: _Txn, db: Any, change: TableChange) -> None:
    for key in change.deletes:
        if not txn.delete(key, db=db):
            raise InvariantError(f"{change.table}: {key[:80]!r} was to be removed and is not there")
    if change.inserts and not _stored(txn, db, change.inserts, overwrite=False):
        raise InvariantError(f"{change.table}: an entry stands for two rows")
    if change.puts and not _stored(txn, db, change.puts, overwrite=True):
        raise InvariantError(f"{change.table}: LMDB kept less than it was given")


def _stored(txn: _Txn, db: Any, items: list[tuple[bytes, bytes]], *, overwrite: bool) -> bool:
    consumed, added = txn.cursor(db).putmulti(items, overwrite=overwrite)
    return bool(consumed == added == len(items))
