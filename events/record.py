"""The envelope of every event: where it stands in the log and in its stream, when, and why."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

E = TypeVar("E")


class Recorded(msgspec.Struct, Generic[E], frozen=True, gc=False):
    """One event as it stands in the log."""

    position: int
    """Place in the whole log, from 1, without gaps."""
    stream: str
    version: int
    """Place in its stream, from 1, without gaps."""
    epoch: int
    """Fencing token under which it was written; 0 where its stream has never been leased."""
    time_ns: int
    """Wall-clock time of its commit, nanoseconds since 1970 UTC; for people, never for deciding."""
    run_id: str
    cause: int
    """Position of the event that led to this one; 0 when it came from outside."""
    event: E


class Batch(msgspec.Struct, Generic[E], frozen=True, gc=False):
    """Events to append to one stream, all or none, behind its guards.

    A stream that has an epoch needs a guard: the current ``epoch``, or the exact ``expected_version``.
    """

    stream: str
    events: tuple[E, ...]
    expected_version: int | None = None
    epoch: int | None = None
    opens_epoch: bool = False
    """The batch grants ``epoch``, which must be the stream's epoch + 1."""
    cause: int = 0


class Appended(msgspec.Struct, frozen=True, gc=False):
    """A batch that is durable."""

    position: int
    """Position of its first event."""
    version: int
    """Version of its stream after it."""


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """A batch that was refused: its stream is not at the expected version. Read again, decide again."""

    stream: str
    expected_version: int
    version: int


class Fenced(msgspec.Struct, frozen=True, gc=False):
    """A batch that was refused: its epoch is over, or it named none where one is needed. Stop this work."""

    stream: str
    epoch: int | None
    current_epoch: int


AppendResult = Appended | Conflict | Fenced


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of the log."""

    position: int
    """Position of the last event; 0 for an empty log."""
    commits: int
    chain: bytes
    """SHA-256 over everything up to here (32 bytes)."""
