"""The projection engine: from the events of a commit to what changes in every table.

Back ends lend it one function that reads a value and apply the changes it returns, in their own
transaction. Rows are folded once per commit and key, however many events concern them, and a row that
ends as it was costs no write. Values are bytes here, the same in every back end, so that the digests of
two back ends, or of kept and rebuilt tables, can be compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ..errors import DamagedError, InvariantError, UsageError
from ..events.record import Recorded
from .interface import Domain, Projection

KEY_BYTES_MAX = 500
"""Longest key of a row, entry of an index, or name of a tally; LMDB's keys end at 511 bytes."""
TALLY = "tally"

Get = Callable[[str, bytes], bytes | None]
"""Value under a table and a key."""
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_count = msgspec.msgpack.Decoder(int).decode


class TableChange:
    """What changes in one table; applied in the order of its fields."""

    __slots__ = ("deletes", "inserts", "puts", "table")

    def __init__(self, table: str) -> None:
        self.table = table
        self.deletes: list[bytes] = []
        """Keys that are there and go."""
        self.inserts: list[tuple[bytes, bytes]] = []
        """Keys that must not be there yet."""
        self.puts: list[tuple[bytes, bytes]] = []
        """Keys that are new or get another value."""

    def __bool__(self) -> bool:
        return bool(self.deletes or self.inserts or self.puts)


class _Table:
    """One projection with its coders and the names of its tables."""

    def __init__(self, projection: Projection[Any]) -> None:
        self.projection = projection
        self.name = projection.name
        self.tally = f"{projection.name}.{TALLY}"
        self.indexes = [
            (f"{projection.name}.{name}", entries) for name, entries in projection.indexes.items()
        ]
        self.decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(projection.row).decode

    def row(self, key: bytes, get: Get) -> Any:
        value = get(self.name, key)
        return None if value is None else decoded(self.name, key, value, self.decode)

    def folded(self, events: Sequence[Recorded[Any]], get: Get) -> list[tuple[bytes, Any, Any]]:
        """Key, row before and row after, for each row that changed."""
        key_of, fold = self.projection.key, self.projection.fold
        before: dict[bytes, Any] = {}
        after: dict[bytes, Any] = {}
        for recorded in events:
            key = key_of(recorded)
            if key is None:
                continue
            if key not in after:
                before[key] = after[key] = self.row(_bounded(self.name, key), get)
            after[key] = fold(after[key], recorded)
        return [(key, old, after[key]) for key, old in before.items() if after[key] != old]

    def changes(self, events: Sequence[Recorded[Any]], get: Get) -> Iterable[TableChange]:
        changed = self.folded(events, get)
        if not changed:
            return
        yield self._row_changes(changed)
        for table, entries in self.indexes:
            yield _index_changes(table, entries, changed)
        yield self._tally_changes(changed, get)

    def _row_changes(self, changed: list[tuple[bytes, Any, Any]]) -> TableChange:
        change = TableChange(self.name)
        for key, _, row in changed:
            if row is None:
                change.deletes.append(key)
            else:
                change.puts.append((key, _encode(row)))
        return change

    def _tally_changes(self, changed: list[tuple[bytes, Any, Any]], get: Get) -> TableChange:
        change = TableChange(self.tally)
        names_of = self.projection.tallies
        sums: Counter[str] = Counter()
        for _, old, row in changed:
            if old is not None:
                sums.subtract(names_of(old))
            if row is not None:
                sums.update(names_of(row))
        for name, difference in sums.items():
            if difference:
                self._count(change, name, difference, get)
        return change

    def _count(self, change: TableChange, name: str, difference: int, get: Get) -> None:
        key = _bounded(self.tally, name.encode())
        value = get(self.tally, key)
        count = difference + (0 if value is None else decoded(self.tally, key, value, _decode_count))
        if count < 0:
            raise InvariantError(f"{self.tally} of {name!r} would be {count}: run `quire rebuild`")
        if count:
            change.puts.append((key, _encode(count)))
        else:
            change.deletes.append(key)


def _index_changes(
    table: str,
    entries: Callable[[bytes, Any], Iterable[bytes]],
    changed: list[tuple[bytes, Any, Any]],
) -> TableChange:
    """The entries that go and come; all deletes stand before all inserts, since an entry may change rows."""
    change = TableChange(table)
    owners: dict[bytes, bytes] = {}
    for key, old, row in changed:
        gone = set(entries(key, old)) if old is not None else set()
        come = set(entries(key, row)) if row is not None else set()
        change.deletes.extend(sorted(gone - come))
        for entry in sorted(come - gone):
            if owners.setdefault(_bounded(table, entry), key) != key:
                raise InvariantError(f"{table}: the entry {entry[:80]!r} stands for two rows")
    change.inserts.extend(owners.items())
    return change


def _bounded(table: str, key: bytes) -> bytes:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise InvariantError(f"{table}: a key has 1 to {KEY_BYTES_MAX} bytes, this one {len(key)}")
    return key


def check_keys(table: str, keys: Sequence[bytes]) -> None:
    """Look whether keys are bytes; raises UsageError, since text would be found nowhere."""
    wrong = [key for key in keys if not isinstance(key, bytes)]
    if wrong or isinstance(keys, bytes):
        given = keys if isinstance(keys, bytes | str) else wrong[0]
        raise UsageError(f"{table}: its keys are bytes, asked for by a list of them, and not {given!r:.80}")


def decoded(table: str, key: bytes, value: bytes, decode: Callable[[bytes], Any]) -> Any:
    """A value of a table, decoded; raises DamagedError when it cannot be."""
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(
            f"the projection {table} is damaged at key {key[:80]!r}: {error}; run `quire rebuild`"
        ) from error


class Projector:
    """All projections of a domain."""

    def __init__(self, domain: Domain) -> None:
        self._tables = [_Table(projection) for projection in domain.projections]
        self.decoders: dict[str, Callable[[bytes], Any]] = {}
        """Table → how its values are read; the tables of the domain, all of them."""
        for table in self._tables:
            self._name(table.name, table.decode)
            self._name(table.tally, _decode_count)
            for name, _ in table.indexes:
                self._name(name, bytes)
        versions = [[projection.name, projection.version] for projection in domain.projections]
        self.fingerprint = _encode([domain.schema, versions])
        """Names the code that keeps the tables; tables of another fingerprint are rebuilt."""

    def _name(self, table: str, decode: Callable[[bytes], Any]) -> None:
        if table.startswith(":"):
            raise InvariantError(f"a table must not be named {table!r}: the store's own names begin so")
        if table in self.decoders:
            raise InvariantError(f"two tables are named {table!r}: rename a projection or an index")
        self.decoders[table] = decode

    def __repr__(self) -> str:
        return f"<Projector {', '.join(self.decoders)}>"

    def changes(self, events: Sequence[Recorded[Any]], get: Get) -> list[TableChange]:
        """What the events of one commit change, table by table.

        Args:
            events: in log order; more than one commit's at once gives the same in the end.
            get: the value under a table and a key as it was before these events.

        Raises:
            DamagedError: a kept row cannot be decoded.
            InvariantError: a projection breaks a rule of its own (an entry of two rows, a key too long).
        """
        return [change for table in self._tables for change in table.changes(events, get) if change]

    def decoder(self, table: str) -> Callable[[bytes], Any]:
        """How the values of a table are read; raises UsageError for a table that the domain has not."""
        try:
            return self.decoders[table]
        except KeyError:
            raise UsageError(f"no table {table!r}; there are {', '.join(self.decoders)}") from None


def digest_of(tables: Iterable[tuple[str, Iterable[tuple[bytes, bytes]]]]) -> str:
    """SHA-256 (hex) over tables in order of their names, each with its keys and values in key order."""
    digest = hashlib.sha256()
    for name, items in tables:
        digest.update(b"%d:%s" % (len(name), name.encode()))
        for key, value in items:
            digest.update(b"%d:%d:" % (len(key), len(value)))
            digest.update(key)
            digest.update(value)
    return digest.hexdigest()
