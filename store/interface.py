"""The interface of an event store, and the shape of the projections it keeps.

Everything above the store knows this file alone; LMDB, memory and any later back end stand behind it.
Promises of every back end (checked by ``EventStoreContract``):

* position order is commit order, gapless from 1; versions of a stream are gapless from 1;
* the batches of one ``append`` share a commit, and each stands or falls alone, judged in order, seeing
  those before it: the epoch first (``Fenced``), then the version (``Conflict``);
* ``Appended`` has the position of the batch's first event, and the version of its last;
* ``Recorded.epoch`` is the epoch that the stream had when the event was written: the one that the batch
  named or opened, else that of the event before it, 0 where the stream has never had one;
* a commit has one time, that of its append, and is read as a whole or not at all;
* when ``append`` returns, what it says is durable, and the projections show it;
* ``append`` of an empty sequence does nothing; a call whose batches are all refused writes nothing, and a
  call that raises leaves nothing of itself;
* what was appended can be read again: an event that no reader could decode is refused, never acknowledged;
* the head's chain is 32 zero bytes while the log is empty, and changes with each commit: it depends on all
  commits up to there and not on the last alone;
* tables that were kept under another ``Domain.schema`` or another ``Projection.version``, or for another
  set of projections, are folded anew when the store is opened; a log with events of a higher schema than
  the domain's is refused then (``UsageError``, "newer"), older events are lifted when they are read;
* after ``close`` every call but ``close`` raises ``UsageError`` ("closed");
* where a back end can be shared, two processes on one folder keep all of this together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..events.record import AppendResult, Batch, Head, Recorded

Row = TypeVar("Row")
READ_LIMIT = 10_000
"""Events that one read returns at most."""


def _no_tallies(_row: Any) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Projection(Generic[Row]):
    """A table folded from the log, one row at a time, with indexes and counts derived from its rows.

    The store keeps, in the transaction of the events themselves: the table ``name`` (key → row); for each
    index the table ``name.index`` (entry → key of the row); and the table ``name.tally`` (name in UTF-8 →
    count, without a row where it would be 0). Keys, entries and tallied names have 1 to 500 bytes. One that
    is shorter or longer, and an entry of two rows, is an ``InvariantError`` of the append, which keeps
    nothing.
    """

    name: str
    version: int
    """Raise it with any change of the code below: the store then rebuilds its tables when it is opened."""
    row: type[Row]
    """A msgspec struct; packed as msgpack."""
    key: Callable[[Recorded[Any]], bytes | None]
    """The key (1 to 500 bytes) of the row that an event concerns, or None."""
    fold: Callable[[Row | None, Recorded[Any]], Row | None]
    """The row after an event; None removes it. Pure: from its arguments alone, and they stay as they are."""
    indexes: Mapping[str, Callable[[bytes, Row], Iterable[bytes]]] = field(default_factory=dict)
    """Index name → the entries (1 to 500 bytes, unique over all rows) that a row has under it."""
    tallies: Callable[[Row], Iterable[str]] = _no_tallies
    """The names under which a row is counted."""


@dataclass(frozen=True)
class Domain:
    """What a store keeps: the union of its events, their schema version, upcasters and projections."""

    events: Any
    """A union of tagged ``array_like`` msgspec structs, or one alone; no classes derived from them."""
    projections: tuple[Projection[Any], ...]
    schema: int = 1
    """Raise it when an event changes its fields, and add an upcaster; each commit says its own schema."""
    upcasters: Mapping[int, Callable[[list[Any]], list[Any]]] = field(default_factory=dict)
    """Schema version → a function that lifts an event, as plain ``[tag, field, …]``, to the next version."""


class EventStore(Protocol):
    """An append-only log of events with its projections. Threads: any number may read, one appends."""

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """Append many batches in one durable commit and say of each, in their order, what became of it.

        Raises:
            UsageError: the store is closed; ``batches`` is no list of batches; or an event is none of the
                domain's or holds what its type does not allow, so that it could not be read again. The
                message names the type and the field. Nothing of this call is kept.
            InvariantError: a batch that nobody can mean: without events, opening an epoch that it does not
                name, or for a stream whose name has not 1 to 500 bytes of UTF-8; or a projection broke a
                rule (``Projection``). Nothing of this call is kept.
            StorageFullError: no room; nothing of this call is kept, and a later call may succeed.
            StoreFailedError: the disk failed; nothing of this call may be relied on until it is reopened.
        """
        ...

    def read(self, after: int = 0, *, limit: int = READ_LIMIT, wait_s: float = 0.0) -> list[Recorded[Any]]:
        """Events behind position ``after`` in order, at most ``limit`` and never more than 10,000.

        With ``wait_s`` an empty answer is given only after that many seconds without a new event (tail).

        Raises:
            DamagedError: the log cannot be decoded at a position, which the message names.
            UsageError: the store is closed.
        """
        ...

    def read_stream(self, stream: str, after: int = 0, *, limit: int = READ_LIMIT) -> list[Recorded[Any]]:
        """Events of one stream behind its version ``after``; none where it has none. Raises as ``read``."""
        ...

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """Rows (or tallies, or index targets) under the keys, in their order; None where there is none.

        Raises:
            UsageError: the domain has no such table, a key is not bytes, or the store is closed.
            DamagedError: a row cannot be decoded.
        """
        ...

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """Key and row in key order: keys that start with ``prefix`` and are greater than ``after``.

        At most ``limit`` and never more than 10,000; raises as ``rows``.
        """
        ...

    def head(self) -> Head:
        """The end of the log; position 0, no commits and a chain of 32 zero bytes where it is empty."""
        ...

    def rebuild(self) -> None:
        """Drop every projection and fold the log anew; the log stays as it is. Raises as ``append``."""
        ...

    def close(self) -> None:
        """Release the store; calling it twice is harmless."""
        ...
