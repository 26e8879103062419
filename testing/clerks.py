"""What RuntimeMachine runs: clerks that write notes to the log, and a store that fails when it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from ..actors.runtime.actor import Actor
from ..actors.runtime.address import Address
from ..actors.runtime.journal import Append, Journaled
from ..errors import StorageFullError, StoreFailedError
from ..events.record import AppendResult, Batch
from ..store.interface import Domain, EventStore

Trouble = Literal["", "full", "before", "after"]
"""How the next append fails: no room, the disk before the write, or the disk after it."""
NO_VERSION = 10**9
"""A version that no stream comes to."""


class Noted(msgspec.Struct, frozen=True, array_like=True, tag="noted"):
    """A clerk wrote a note down."""

    number: int


NOTES = Domain(events=Noted, projections=())


class Note(msgspec.Struct, frozen=True):
    """Write this down."""

    number: int
    wrong: bool = False
    """With an expected version that is never right."""


class Break(msgspec.Struct, frozen=True):
    """Fail on this message."""

    number: int


class Question(msgspec.Struct, frozen=True):
    """Answer twice the number."""

    number: int


@dataclass
class Book:
    """What one clerk did, kept outside of it: it may be replaced."""

    handled: list[int] = field(default_factory=list)
    answers: list[tuple[int, AppendResult]] = field(default_factory=list)


@dataclass
class Office:
    """Where the clerks find the journal; another one after each failure of the store."""

    journal: Address = field(init=False)


class Clerk(Actor):
    """Writes each note through the journal."""

    mailbox_max: ClassVar[int] = 6

    def __init__(self, office: Office, book: Book) -> None:
        super().__init__()
        self._office = office
        self._book = book

    def handle(self, message: Any) -> Any:
        """Do what the message asks for."""
        match message:
            case Note():
                self._book.handled.append(message.number)
                expected = NO_VERSION if message.wrong else None
                batch = Batch(self.me.name, (Noted(message.number),), expected_version=expected)
                self._office.journal.tell(Append(batch, self.me, message.number))
            case Journaled():
                self._book.answers += message.results
            case Question():
                self._book.handled.append(message.number)
                return message.number * 2
            case _:
                raise RuntimeError(f"told to fail: {message!r}")
        return None


class TroubledStore:
    """Another store's ``append``, which fails once when it is told to."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.next: Trouble = ""

    def __repr__(self) -> str:
        return f"<TroubledStore {self._store!r} {self.next}>"

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``, or the trouble."""
        trouble, self.next = self.next, ""
        if trouble == "full":
            raise StorageFullError("no room, as the test wants it")
        if trouble == "before":
            raise StoreFailedError("the disk failed before the write, as the test wants it")
        results = self._store.append(batches)
        if trouble == "after":
            raise StoreFailedError("the disk failed after the write, as the test wants it")
        return results
