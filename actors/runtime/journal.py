"""The Journal: the only writer of the log. Many appends, one commit, one fsync, one answer to each sender.

Waiting appends are not an accident but the design: while one commit is in the disk's hands the next ones
gather, so that the number of fsyncs per second stays and the appends per commit grow with the load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import InvariantError
from ...events.record import AppendResult, Batch
from ...store.interface import EventStore
from .actor import Actor
from .address import Address


class Append(msgspec.Struct, frozen=True):
    """To the Journal: append this batch.

    Python's collector must see it, since it leads to an actor: one that is left in the mailbox, or in the
    traceback, of a session that had to stop would keep all of that session for the life of the process.
    """

    batch: Batch[Any]
    reply_to: Address | None
    """Who is told what became of it; None when nobody waits for it."""
    tag: Any = None
    """Comes back with the result."""


class Journaled(msgspec.Struct, frozen=True):
    """From the Journal, once per commit and sender: these appends are judged, and durable where appended."""

    results: tuple[tuple[Any, AppendResult], ...]
    """Tag and result of each, in the order of sending."""


class JournalStatistics(msgspec.Struct, frozen=True):
    """What the Journal has done since it was started."""

    commits: int
    batches: int
    longest_commit_ms: float


class Journal(Actor):
    """Appends to the store; to an ask with ``Append`` it answers with the one ``AppendResult``.

    A failure of the store is fatal whatever the restart policy: after a failed fsync nobody can say what is
    durable until the store is reopened, so nobody is answered and the process has to stop.
    """

    def __init__(self, store: EventStore, *, batches_max: int) -> None:
        """``batches_max`` bounds the batches of one commit."""
        super().__init__()
        self._batch_max = batches_max
        self._store = store
        self._commits = 0
        self._batches = 0
        self._longest_ns = 0

    def handle(self, message: Append) -> AppendResult:
        """Commit one append, which somebody asked for, by itself."""
        return self._commit([message])[0]

    def handle_all(self, messages: Sequence[Append]) -> None:
        """Commit all that has gathered; then, and not before, answer."""
        results = self._commit(messages)
        answers: dict[Address, list[tuple[Any, AppendResult]]] = {}
        for message, result in zip(messages, results, strict=True):
            if message.reply_to is not None:
                answers.setdefault(message.reply_to, []).append((message.tag, result))
        for address, told in answers.items():
            address.answer(Journaled(tuple(told)))

    def fatal(self, _error: BaseException) -> bool:
        """Always: see the class."""
        return True

    def statistics(self) -> JournalStatistics:
        """Commits, batches and the longest commit, for any thread."""
        return JournalStatistics(self._commits, self._batches, self._longest_ns / 1_000_000)

    def _commit(self, messages: Sequence[Append]) -> list[AppendResult]:
        clock = self.system.clock
        begun_ns = clock.boot_ns()
        results = self._store.append([message.batch for message in messages])
        self._longest_ns = max(self._longest_ns, clock.boot_ns() - begun_ns)
        if len(results) != len(messages):
            raise InvariantError(
                f"the store judged {len(results)} of {len(messages)} batches: a defect of the store"
            )
        self._commits += 1
        self._batches += len(messages)
        return results
