"""How an actor is reached, and what becomes of messages that nobody handles."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec
import pykka
from pykka._envelope import Envelope

from .mailbox import ActorStoppedError, AskTimeoutError, Mailbox

LETTERS_KEPT = 100
"""Dead letters that are kept to be looked at; all are counted."""

ActorState = Literal["running", "restarting", "stopped", "failed"]


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that no actor handled to its end."""

    to: str
    message: Any
    why: str


class DeadLetters(msgspec.Struct, frozen=True):
    """The messages that nobody handled: how many, and the last of them."""

    count: int
    last: tuple[DeadLetter, ...]
    """At most ``LETTERS_KEPT``, oldest first."""


class DeadLetterOffice:
    """Counts dead letters and keeps the last; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._last: deque[DeadLetter] = deque(maxlen=LETTERS_KEPT)

    def __repr__(self) -> str:
        return f"<DeadLetterOffice {self._count} letters>"

    def add(self, to: str, message: Any, why: str) -> None:
        """Count and keep one letter."""
        letter = DeadLetter(to, message, why)
        with self._lock:
            self._count += 1
            self._last.append(letter)

    def letters(self) -> DeadLetters:
        """What there is now."""
        with self._lock:
            return DeadLetters(self._count, tuple(self._last))


class StandBy(Protocol):
    """As ``ports.stand_by``, with its scheduler."""

    def __call__(self, ready: Callable[[], bool], *, timeout_s: float | None) -> float | None:
        """Run what is to run until ``ready``, where no threads do; what is left to wait, in seconds."""
        ...


class _Reply(pykka.ThreadingFuture[Any]):
    """The answer to an ask, of which can be seen, without waiting, that it came."""

    came = False

    def set(self, value: Any | None = None) -> None:
        super().set(value)
        self.came = True

    def set_exception(self, exc_info: Any = None) -> None:
        super().set_exception(exc_info)
        self.came = True


class Address:
    """Where the actor of a name is reached, whichever object plays it now; equal to itself alone."""

    __slots__ = ("__weakref__", "_office", "_stand_by", "mailbox", "name", "state")

    def __init__(
        self, name: str, mailbox: Mailbox, office: DeadLetterOffice, stand_by: StandBy | None = None
    ) -> None:
        """``stand_by`` is called by whoever asks, before waiting; left out where threads run the actors."""
        self.name = name
        self.state: ActorState = "running"
        self.mailbox = mailbox
        self._office = office
        self._stand_by = stand_by
        mailbox.name = name
        mailbox.bury = self.bury

    def __repr__(self) -> str:
        return f"<Address {self.name} {self.state}, {len(self.mailbox)} waiting>"

    @property
    def waiting(self) -> int:
        """Messages in its mailbox now."""
        return len(self.mailbox)

    def tell(self, message: Any) -> None:
        """Put a message into the mailbox; never waits. To a stopped actor it is a dead letter.

        Raises:
            MailboxFullError: the actor is too far behind; nothing was put.
        """
        if not self.mailbox.offer(message):
            self.bury(message, f"told to an actor that is {self.state}")

    def answer(self, message: Any) -> None:
        """Tell what this actor itself has asked another for: gets in when the mailbox is full.

        Answers are bounded by the questions, and those by the mailbox of the one who answers; to
        refuse one would leave the asker waiting for ever.
        """
        if not self.mailbox.force(message):
            self.bury(message, f"answered to an actor that is {self.state}")

    def ask(self, message: Any, *, timeout_s: float) -> Any:
        """Tell and wait for the answer; for callers outside the actors, since it blocks the thread.

        Raises:
            AskTimeoutError: no answer within ``timeout_s`` seconds.
            ActorStoppedError: the actor was stopped before it came to the message.
            MailboxFullError: nothing was put.
            BaseException: what the actor raised on this message.
        """
        future = _Reply()
        if not self.mailbox.offer(Envelope(message, future)):
            raise ActorStoppedError(f"actor {self.name!r} is {self.state}: nobody answers {message!r:.200}")
        left_s: float | None = timeout_s
        if self._stand_by is not None:
            left_s = self._stand_by(lambda: future.came, timeout_s=timeout_s)
        try:
            return future.get(timeout=left_s)
        except AskTimeoutError:
            raise  # of an ask that the actor itself made
        except pykka.Timeout:
            raise AskTimeoutError(
                f"actor {self.name!r} ({self.state}, {self.waiting} waiting) gave no answer "
                f"within {timeout_s} s to {message!r:.200}"
            ) from None

    def stop(self) -> None:
        """Ask the actor to stop after what is waiting now; harmless when it has stopped."""
        self.mailbox.stop()

    def stop_now(self) -> None:
        """Ask the actor to stop after the message in hand; what waits becomes dead letters."""
        self.mailbox.stop_now()

    def bury(self, message: Any, why: str) -> None:
        """Make a message to this actor a dead letter."""
        self._office.add(self.name, message, why)
