"""The five ports: clock, random, web, store, scheduler.

Nothing else in quire reads a clock, draws a random number, opens a file or a socket, or starts a thread.
``quire.testing`` puts deterministic ones in their place.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
NANOSECONDS = 1_000_000_000


class Clock(Protocol):
    """Two times: the wall clock for people, the boot clock for deciding."""

    boot_id: str
    """Names the boot that ``boot_ns`` counts from; values of different boots cannot be compared."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC; may jump."""
        ...

    def boot_ns(self) -> int:
        """Nanoseconds since boot, suspended time included; never jumps, the same for all processes."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return time.time_ns()

    def boot_ns(self) -> int:
        """Nanoseconds since boot (CLOCK_BOOTTIME)."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Random(Protocol):
    """Chance."""

    def uuid(self) -> str:
        """A new unique id: 32 hex digits."""
        ...

    def jitter(self) -> float:
        """A number from 0 up to, not including, 1."""
        ...


class SystemRandom:
    """Chance from the operating system."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def uuid(self) -> str:
        """A new unique id: 32 hex digits."""
        return uuid.uuid4().hex

    def jitter(self) -> float:
        """A number from 0 up to, not including, 1."""
        return self._random.random()


class Cancel(Protocol):
    """Takes back what was asked for; harmless when it has happened already."""

    def __call__(self) -> None:
        """Take it back."""
        ...


class Scheduler(Protocol):
    """Runs everything that runs: actors, timers, blocking work and coroutines."""

    def spawn(self, loop: Callable[[], None], *, name: str) -> threading.Thread | None:
        """Run an actor's loop until it returns."""
        ...

    def later(self, delay_s: float, call: Callable[[], None]) -> Cancel:
        """Make a short call, which must not block, after ``delay_s`` seconds."""
        ...

    def block(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run blocking work (disk, verification) on a pool and give its result or exception to ``done``."""
        ...

    def gather(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> Cancel:
        """Run a coroutine on the one event loop and give its result or exception to ``done``.

        Cancelling is real: the coroutine is cancelled, its sockets are closed, and ``done`` gets
        ``asyncio.CancelledError``.
        """
        ...

    async def aside(self, work: Callable[[], T]) -> T:
        """Await blocking work from within a coroutine of ``gather``."""
        ...

    def close(self) -> None:
        """Stop timers, the pool and the event loop; waits for what is running, at most 10 s."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """What a ``Scheduler`` without threads may have as well: then who waits need not be stepped by others."""

    def run_until(self, ready: Callable[[], bool], *, timeout_s: float | None) -> None:
        """Run what is to run until it is so, or until ``timeout_s`` seconds (None: no end) are over."""
        ...


class Surroundings(Protocol):
    """The system, as far as the actors in it see it."""

    @property
    def scheduler(self) -> Scheduler:
        """Runs them."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    def fatal(self, name: str, error: BaseException) -> None:
        """Tell the owner of the system that the actor of this name failed for good."""
        ...


def stand_by(scheduler: Scheduler, ready: Callable[[], bool], *, timeout_s: float | None) -> float | None:
    """Called outside the actors by whoever is about to wait for ``ready``, ``timeout_s`` seconds at most.

    Returns how long the caller then has to wait itself: ``timeout_s`` where threads run what it waits for,
    and 0 where a stepping scheduler has run it by now.
    """
    if not isinstance(scheduler, Stepping):
        return timeout_s
    scheduler.run_until(ready, timeout_s=timeout_s)
    return 0.0
