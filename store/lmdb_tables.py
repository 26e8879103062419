"""The projection tables of a log: kept by one version of the code, and folded anew by another.

Beside them stands a record of the code that keeps them and of the position that they show, so that tables
of other code are neither read nor written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..errors import DamagedError, UsageError
from ..events.record import Recorded
from .lmdb_environment import Environment
from .lmdb_layout import META, NAMES, NUMBER, SYSTEM, TABLES, Txn
from .lmdb_writes import change, put
from .projecting import Projector, digest_of

REBUILD_EVENTS = 4_000
"""Events folded at once when projections are rebuilt."""


class Tables:
    """The projection tables in one environment; each method works in a transaction of its caller's."""

    def __init__(self, environment: Environment, projector: Projector) -> None:
        self._environment = environment
        self._db = environment.db
        self._projector = projector

    def __repr__(self) -> str:
        return f"<Tables of {self._environment.path}: {self._projector!r}>"

    # Whose they are, and up to where

    def stand_at(self, txn: Txn, position: int) -> bool:
        """Whether they are kept by our code and show the log up to a position."""
        return bool(txn.get(TABLES, db=self._db[META]) == self._record(position))

    def _are_ours(self, txn: Txn) -> bool:
        value = txn.get(TABLES, db=self._db[META])
        return value is not None and value[NUMBER.size :] == self._projector.fingerprint

    def _ours(self, txn: Txn, table: str) -> Any:
        """The handle of a table; raises UsageError where other code keeps them."""
        if not self._are_ours(txn):
            raise UsageError(
                f"the projections of the log at {self._environment.path} are kept by another version of the "
                "program: use that one, or open the log once for writing with this one"
            )
        if table.encode() not in self._db:
            raise DamagedError(
                f"the log at {self._environment.path} lacks its table {table}: run `quire rebuild`"
            )
        return self._db[table.encode()]

    def _record(self, position: int) -> bytes:
        return NUMBER.pack(position) + self._projector.fingerprint

    # Writing

    def fold(self, txn: Txn, recorded: Sequence[Recorded[Any]], position: int) -> None:
        """Take in events that end at a position, and follow those taken in before."""
        self._apply(txn, recorded)
        put(txn, self._db[META], TABLES, self._record(position))

    def rebuild(self, txn: Txn, commits: Iterable[list[Recorded[Any]]], position: int) -> None:
        """Empty them, and fold all commits of a log that ends at a position."""
        self._empty(txn)
        folded: list[Recorded[Any]] = []
        for recorded in commits:
            folded += recorded
            if len(folded) >= REBUILD_EVENTS:
                self._apply(txn, folded)
                folded = []
        self.fold(txn, folded, position)

    def _apply(self, txn: Txn, recorded: Sequence[Recorded[Any]]) -> None:
        def get(table: str, key: bytes) -> bytes | None:
            value: bytes | None = txn.get(key, db=self._db[table.encode()])
            return value

        for wanted in self._projector.changes(recorded, get):
            change(txn, self._db[wanted.table.encode()], wanted)

    def _empty(self, txn: Txn) -> None:
        """Empty our tables and those of projections that are no more (never dropped: one could be in use).

        Their names are kept in a record, since LMDB's own list of databases is no guide to what may be
        emptied: its 1.0 engine gives each name with a NUL behind it, and ``:commits`` was not recognised.
        """
        meta, ours = self._db[META], set(self._projector.decoders)
        for name in ours.union(self._names(txn) or ()):
            txn.drop(self._environment.handle(txn, name.encode()), delete=False)
        put(txn, meta, NAMES, msgspec.msgpack.encode(sorted(ours)))

    # Reading

    def values(self, txn: Txn, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values under the keys, in their order, not decoded."""
        db = self._ours(txn, table)
        return [txn.get(key, db=db) for key in keys]

    def scan(
        self, txn: Txn, table: str, prefix: bytes, *, after: bytes, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """As ``EventStore.scan``, with values that are not decoded."""
        found: list[tuple[bytes, bytes]] = []
        cursor = txn.cursor(self._ours(txn, table))
        if cursor.set_range(max(prefix, after + b"\0" if after else b"")):
            for key, value in cursor.iternext():
                if len(found) >= limit or not key.startswith(prefix):
                    break
                found.append((key, value))
        return found

    def digest(self, txn: Txn, position: int) -> str:
        """As ``Digests.tables``, where the log ends at a position."""
        if not self._are_ours(txn):
            return ""
        names = sorted(self._projector.decoders)
        lacking = [name for name in names if name.encode() not in self._db]
        if lacking or not self.stand_at(txn, position) or self._names(txn) is None:
            return f"they show another position, or lack one of {names}"
        return digest_of((name, iter(txn.cursor(self._db[name.encode()]))) for name in names)

    def _names(self, txn: Txn) -> list[str] | None:
        """The names of the tables that the last rebuild folded; None where the record is damaged.

        A name of the log's own is damage too: to empty that one would be to empty the log.
        """
        kept = txn.get(NAMES, db=self._db[META])
        try:
            names = msgspec.msgpack.decode(kept, type=list[str]) if kept else []
        except msgspec.MsgspecError:
            return None
        return None if any(name.encode() in SYSTEM for name in names) else names
