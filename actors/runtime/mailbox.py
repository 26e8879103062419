"""The mailbox of an actor: bounded, closable, drained in one go, with a lane for stopping.

What pykka's default (``queue.Queue``) lacks and why it matters:

* *closable*: a message put while the actor ends would lie in a dead queue for ever and its asker would
  wait for ever. Here a message is handled, or refused, or given to ``bury``; never lost.
* *bounded without blocking*: a full mailbox refuses; a tell that waits would let two actors block each other.
* *a lane for stop*: the bound does not hold for stops, and an urgent stop overtakes what is waiting.
* *fast*: ``queue.SimpleQueue`` is C; a tell is put as it is, only an ask needs an envelope.

No lock: many threads put, one thread (the actor's) takes. The one race, a put that passes the check while
the owner closes, is settled by looking twice: whoever puts into a closed mailbox sweeps it as well.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from ...errors import QuireError


class MailboxFullError(QuireError):
    """The receiver is too far behind: send less, or later; nothing was put."""


class ActorStoppedError(QuireError, pykka.ActorDeadError):
    """The actor stopped or failed before it could answer: what was asked was not done."""


class AskTimeoutError(QuireError, pykka.Timeout):
    """No answer came in time; the message may still be handled later."""


Bury = Callable[[Any, str], None]
"""What is done with a message that nobody will handle: (message, why)."""


def _forget(_message: Any, _why: str) -> None:
    """The ``bury`` of a mailbox without a system: nobody keeps its dead letters."""


class Mailbox:
    """The waiting messages of one actor; also an ``ActorInbox`` to pykka's own ``ActorRef``."""

    def __init__(self, messages_max: int) -> None:
        self.name = "unnamed"
        self.messages_max = messages_max
        """The bound; several tells at the same instant may pass it by their number."""
        self.urgent = False
        """An urgent stop has been asked for: what waits is not to be handled any more."""
        self.bury: Bury = _forget
        self._closed = False
        self._why = ""
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._front: deque[Any] = deque()  # what was put back or awaited; the owner's alone until closed

    def __repr__(self) -> str:
        state = f"closed: {self._why}" if self._closed else f"{len(self)} of {self.messages_max} waiting"
        return f"<Mailbox {self.name}, {state}>"

    def __len__(self) -> int:
        return len(self._front) + self._queue.qsize()

    # Any thread.

    def offer(self, message: Any) -> bool:
        """Put a message; False when the mailbox is closed.

        Raises:
            MailboxFullError: as many as its bound are waiting.
        """
        waiting = self._queue
        if self._closed:
            return False
        if waiting.qsize() >= self.messages_max:
            raise MailboxFullError(
                f"the mailbox of actor {self.name!r} holds {self.messages_max} messages: send less, or later"
            )
        waiting.put(message)
        if self._closed:  # closed between the check and the put: the owner may not have seen it
            self._sweep()
        return True

    def force(self, message: Any) -> bool:
        """Put past the bound what is bounded elsewhere (stops, answers); False when closed."""
        if self._closed:
            return False
        self._queue.put(message)
        if self._closed:
            self._sweep()
        return True

    def put(self, envelope: Envelope[Any], /) -> None:
        """Put pykka's envelope, so that its ``ActorRef`` can tell, ask and stop.

        Raises:
            MailboxFullError: as in ``offer``; a stop always gets in.
            ActorStoppedError: the mailbox is closed.
        """
        if isinstance(envelope.message, _ActorStop):
            taken = self.force(envelope)
        elif envelope.reply_to is None:
            taken = self.offer(envelope.message)
        else:
            taken = self.offer(envelope)
        if not taken:
            raise ActorStoppedError(f"actor {self.name!r} is gone: {self._why}")

    def stop(self) -> bool:
        """Ask for a stop after what is waiting now; False when closed."""
        return self.force(Envelope(_ActorStop()))

    def stop_now(self) -> bool:
        """Ask for a stop after the message in hand; what waits is buried. False when closed."""
        self.urgent = True
        return self.stop()  # wakes the owner

    # The owner's thread alone.

    def drain(self, messages_max: int) -> tuple[list[Any], Envelope[Any] | None]:
        """Take, without waiting, the messages up to the first envelope (an ask or a stop), and that."""
        messages: list[Any] = []
        front, waiting = self._front, self._queue
        for _ in range(min(messages_max, len(self))):
            item = front.popleft() if front else waiting.get_nowait()
            if type(item) is Envelope:
                return messages, item
            messages.append(item)
        return messages, None

    def wait(self) -> None:
        """Wait until something can be drained."""
        if not self._front:
            self._front.append(self._queue.get())

    def put_back(self, items: Iterable[Any]) -> None:
        """Put what was drained and not touched before everything else, in its order."""
        self._front.extendleft(reversed(list(items)))

    def get(self) -> Envelope[Any]:
        """Wait for the next item, as an envelope: pykka's interface; quire's own loop drains."""
        self.wait()
        item = self._front.popleft()
        return item if type(item) is Envelope else Envelope(item)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return len(self) == 0

    @property
    def closed(self) -> bool:
        """Whether nothing is accepted any more."""
        return self._closed

    def close(self, why: str) -> None:
        """Accept nothing from now on and bury what waits; ``why`` is told to whoever asked or asks."""
        if not self._closed:
            self._why = why
            self._closed = True
        self._sweep()

    def _sweep(self) -> None:
        """Bury what is left; several threads may do so at once, each item is taken by one."""
        while True:
            try:
                item = self._front.popleft() if self._front else self._queue.get_nowait()
            except (IndexError, queue.Empty):
                return
            self._end(item)

    def _end(self, item: Any) -> None:
        if type(item) is not Envelope:
            self.bury(item, self._why)
            return
        stop = isinstance(item.message, _ActorStop)
        if not stop:
            self.bury(item.message, self._why)
        if item.reply_to is not None and stop:
            item.reply_to.set(None)
        elif item.reply_to is not None:
            error = ActorStoppedError(f"actor {self.name!r} is gone: {self._why}")
            item.reply_to.set_exception((ActorStoppedError, error, None))
