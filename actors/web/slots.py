"""Where the slots of all limits are counted: one small queue per key, in memory or shared by processes.

A queue is one number, the time from which the next request is free (GCRA with a burst of one), and the few
slots that were given back from its middle. Its arithmetic is pure; who keeps it, and under which lock, is the
business of the ``Slots`` at hand: ``MemorySlots`` for one process, ``slot_table.SlotTable`` for a library.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

SPARE_MAX = 12
"""Slots given back from the middle of a queue that are kept for others; the latest are lost beyond it."""
KEYS_MAX = 8_192
"""Queues that ``MemorySlots`` keeps; the idle ones go first."""


class Slots(Protocol):
    """Hands out the slots of every key; safe to use from any thread.

    Times are nanoseconds on the boot clock.
    """

    def peek(self, key: str, now_ns: int) -> int:
        """The slot that ``reserve`` would give."""
        ...

    def reserve(self, key: str, now_ns: int, interval_ns: int) -> int:
        """Take the next slot; the one after it is ``interval_ns`` later."""
        ...

    def give_back(self, key: str, at_ns: int, now_ns: int, interval_ns: int) -> None:
        """Hand a slot that is not used to whoever reserves next."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


class Queue(NamedTuple):
    """One key's slots."""

    next_ns: int = 0
    """The first slot after all that were handed out."""
    spare: tuple[int, ...] = ()
    """Earlier ones that came back, in order."""

    def first_free(self, now_ns: int) -> int:
        """The next slot, not before now."""
        # A slot in the past is no right to go twice now: only future ones may be handed on.
        return next((slot for slot in self.spare if slot >= now_ns), max(now_ns, self.next_ns))

    def taken(self, now_ns: int, interval_ns: int) -> tuple[Queue, int]:
        """What is left without the next slot, and that slot."""
        at_ns = self.first_free(now_ns)
        spare = tuple(slot for slot in self.spare if slot > at_ns)
        return Queue(self.next_ns if at_ns in self.spare else at_ns + interval_ns, spare), at_ns

    def with_returned(self, at_ns: int, now_ns: int, interval_ns: int) -> Queue:
        """The queue after a slot came back unused."""
        if at_ns + interval_ns >= self.next_ns:
            return Queue(min(at_ns, self.next_ns), tuple(slot for slot in self.spare if slot < at_ns))
        spare = sorted(slot for slot in {*self.spare, at_ns} if slot >= now_ns)
        return Queue(self.next_ns, tuple(spare[:SPARE_MAX]))

    def is_idle(self, now_ns: int) -> bool:
        """Whether it may be forgotten without letting anybody go too early."""
        return self.next_ns <= now_ns


class MemorySlots:
    """Slots of one process: for embedders without a library, and for tests with a clock of their own."""

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemorySlots keys={len(self._queues)}>"

    def peek(self, key: str, now_ns: int) -> int:
        """The slot that ``reserve`` would give."""
        return self._queues.get(key, Queue()).first_free(now_ns)

    def reserve(self, key: str, now_ns: int, interval_ns: int) -> int:
        """Take the next slot."""
        with self._lock:
            if len(self._queues) >= KEYS_MAX and key not in self._queues:
                self._queues = {k: queue for k, queue in self._queues.items() if not queue.is_idle(now_ns)}
            self._queues[key], at_ns = self._queues.get(key, Queue()).taken(now_ns, interval_ns)
            return at_ns

    def give_back(self, key: str, at_ns: int, now_ns: int, interval_ns: int) -> None:
        """Hand a slot that is not used to whoever reserves next."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is not None:
                self._queues[key] = queue.with_returned(at_ns, now_ns, interval_ns)

    def close(self) -> None:
        """Nothing is held open."""
