"""Replay: the tables as they were at a position or a time, folded from the log into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..events.record import Recorded
from .interface import READ_LIMIT, Domain, EventStore
from .memory_store import MemoryTables
from .projecting import Projector


class View:
    """The projections at one place of the log; it answers like a store and changes by ``fold`` alone."""

    def __init__(self, domain: Domain) -> None:
        self._tables = MemoryTables(Projector(domain))
        self.position = 0
        """Position of the last event folded."""
        self.time_ns = 0
        """Wall-clock time of its commit."""

    def __repr__(self) -> str:
        return f"<View position={self.position}>"

    def fold(self, events: Sequence[Recorded[Any]]) -> None:
        """Take in the events that follow."""
        if events:
            self._tables.fold(events)
            self.position, self.time_ns = events[-1].position, events[-1].time_ns

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """As ``EventStore.rows``."""
        return self._tables.rows(table, keys)

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """As ``EventStore.scan``."""
        return self._tables.scan(table, prefix, after=after, limit=limit)

    def digest(self) -> str:
        """SHA-256 (hex) over all tables; equal to that of a store's kept tables at the same position."""
        return self._tables.digest()


def replay(
    store: EventStore, domain: Domain, *, position: int | None = None, time_ns: int | None = None
) -> View:
    """The tables as they were.

    Args:
        store: the log.
        domain: events and projections; they need not be those that the store keeps.
        position: the last event to take in; the whole log (as it is now) when None.
        time_ns: wall-clock time, nanoseconds UTC; the replay ends before the first commit that is later.

    Raises:
        DamagedError: the log cannot be decoded at a position, which the message names.
    """
    view = View(domain)
    end = store.head().position if position is None else position
    while view.position < end:
        events = store.read(view.position, limit=min(READ_LIMIT, end - view.position))
        wanted = _until(events, time_ns)
        view.fold(wanted)
        if not events or len(wanted) < len(events):
            break
    return view


def _until(events: list[Recorded[Any]], time_ns: int | None) -> list[Recorded[Any]]:
    if time_ns is None:
        return events
    later = next((place for place, event in enumerate(events) if event.time_ns > time_ns), len(events))
    return events[:later]
