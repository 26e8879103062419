"""The interface of an event store, and the shape of the projections it keeps.

Everything above the store knows this file alone; LMDB, memory and any later back end stand behind it.
Promises of every back end (checked by ``EventStoreContract``):

* position order is commit order, gapless from 1; versions of a stream are gapless from 1;
* the batches of one ``append`` share a commit, and each stands or falls alone, judged in order, seeing
  those before it;
* when ``append`` returns, what it says is durable, and the projections show it;
* ``append`` of an empty sequence does nothing; a call whose batches are all refused writes nothing.
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
    index the table ``name.index`` (entry → key of the row); and the table ``name.tally`` (name → count).
    """

    name: str
    version: int
    """Raise it with any change of the code below: the store then rebuilds the table when it is opened."""
    row: type[Row]
    """A msgspec struct; packed as msgpack."""
    key: Callable[[Recorded[Any]], bytes | None]
    """The key of the row that an event concerns, or None."""
    fold: Callable[[Row | None, Recorded[Any]], Row | None]
    """The row after an event; None removes it. Pure."""
    indexes: Mapping[str, Callable[[bytes, Row], Iterable[bytes]]] = field(default_factory=dict)
    """Index name → the entries (at most 500 bytes, unique over all rows) that a row has under it."""
    tallies: Callable[[Row], Iterable[str]] = _no_tallies
    """The names under which a row is counted."""


@dataclass(frozen=True)
class Domain:
    """What a store keeps: the union of its events, their schema version, upcasters and projections."""

    events: Any
    """A union of tagged ``array_like`` structs."""
    projections: tuple[Projection[Any], ...]
    schema: int = 1
    upcasters: Mapping[int, Callable[[list[Any]], list[Any]]] = field(default_factory=dict)
    """Schema version → a function that lifts an event, as plain ``[tag, field, …]``, to the next version."""


class EventStore(Protocol):
    """An append-only log of events with its projections. Threads: any number may read, one appends."""

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """Append many batches in one durable commit and say of each what became of it.

        Raises:
            StorageFullError: no room; nothing of this call is kept, and a later call may succeed.
            StoreFailedError: the disk failed; nothing of this call may be relied on until it is reopened.
        """
        ...

    def read(self, after: int = 0, *, limit: int = READ_LIMIT, wait_s: float = 0.0) -> list[Recorded[Any]]:
        """Events behind position ``after`` in order, at most ``limit``.

        With ``wait_s`` an empty answer is given only after that many seconds without a new event (tail).

        Raises:
            DamagedError: the log cannot be decoded at a position, which the message names.
        """
        ...

    def read_stream(self, stream: str, after: int = 0, *, limit: int = READ_LIMIT) -> list[Recorded[Any]]:
        """Events of one stream behind its version ``after``."""
        ...

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """Rows (or tallies, or index targets) under the keys, in their order; None where there is none."""
        ...

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """Key and row in key order: keys that start with ``prefix`` and are greater than ``after``."""
        ...

    def head(self) -> Head:
        """The end of the log."""
        ...

    def rebuild(self) -> None:
        """Drop every projection and fold the log anew."""
        ...

    def close(self) -> None:
        """Release the store; calling it twice is harmless."""
        ...
