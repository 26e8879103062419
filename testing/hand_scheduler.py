"""A scheduler without threads, and a clock that somebody moves: actors run when a test says so.

Smaller than the simulation: no chance, no web. A test steps what it wants to see run, in its order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..actors.runtime.actor import Actor
from ..actors.runtime.ports import NANOSECONDS, Cancel
from ..errors import InvariantError

T = TypeVar("T")
STEPS_MAX = 100_000
"""Steps that ``settle`` takes at most: more is two actors that talk without end."""


class HandClock:
    """Wall clock and boot clock, moved by hand; a ``Clock``."""

    def __init__(self) -> None:
        self.boot_id = "boot"
        self.boot = 1_000 * NANOSECONDS
        self.wall = 1_700_000_000 * NANOSECONDS

    def __repr__(self) -> str:
        return f"<HandClock {self.boot / NANOSECONDS:.3f} s since boot>"

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return self.wall

    def boot_ns(self) -> int:
        """Nanoseconds since boot."""
        return self.boot

    def move(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.boot += int(seconds * NANOSECONDS)
        self.wall += int(seconds * NANOSECONDS)

    def jump(self, seconds: float) -> None:
        """Set the wall clock; the boot clock knows of no jumps."""
        self.wall += int(seconds * NANOSECONDS)


class HandScheduler:
    """A ``Scheduler``: keeps the actors, timers and blocking work of one process until they are stepped."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._actors: dict[str, Actor] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._work: deque[Callable[[], None]] = deque()
        self._sequence = 0

    def __repr__(self) -> str:
        return f"<HandScheduler {len(self._actors)} actors, {len(self._timers)} timers>"

    def spawn(self, loop: Callable[[], None], *, name: str) -> None:
        """Keep the actor, to be stepped; it takes the place of the one before of its name."""
        self._actors[name] = loop.__self__  # type: ignore[attr-defined]  # the bound method of an actor

    def later(self, delay_s: float, call: Callable[[], None]) -> Cancel:
        """Keep a call until the clock has come to its time and ``fire`` is called."""
        self._sequence += 1
        number = self._sequence
        heapq.heappush(self._timers, (self._clock.boot + int(delay_s * NANOSECONDS), number, call))
        return lambda: self._cancelled.add(number)

    def block(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Keep blocking work until it is stepped."""

        def run() -> None:
            try:
                result: T | BaseException = work()
            except Exception as error:  # noqa: BLE001 - it is the answer
                result = error
            done(result)

        self._work.append(run)

    def gather(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> Cancel:
        """Not to be had here: there is no loop."""
        work.close()
        raise InvariantError(f"no coroutines run by hand: {done!r} would never be called")

    async def aside(self, work: Callable[[], T]) -> T:
        """Do it here and now: nobody else waits for the thread."""
        return work()

    def stand_by(self, ready: Callable[[], bool], *, timeout_s: float | None) -> float | None:
        """Run what is to run until ``ready`` or until all are at rest; no time passes meanwhile."""
        for _ in range(STEPS_MAX):
            if ready() or not self._turn():
                break
        return 0.0

    def close(self) -> None:
        """Forget everything."""
        self._actors.clear()
        self._timers.clear()
        self._work.clear()

    def step(self, name: str, messages: int) -> bool:
        """Let one actor handle at most so many messages; False when there was nothing to do."""
        actor = self._actors.get(name)
        return actor is not None and actor.step(messages)

    def fire(self) -> None:
        """Make each call whose time has come, once: what is asked for meanwhile waits for the next time."""
        now, last = self._clock.boot, self._sequence
        again = []
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            if timer[1] > last:
                again.append(timer)
            elif timer[1] not in self._cancelled:
                timer[2]()
        for timer in again:
            heapq.heappush(self._timers, timer)

    def settle(self) -> None:
        """Step actors and blocking work until nothing moves.

        Raises:
            InvariantError: it does not come to rest.
        """
        for _ in range(STEPS_MAX):
            if not self._turn():
                return
        raise InvariantError(f"the actors do not come to rest within {STEPS_MAX} steps")

    def _turn(self) -> bool:
        moved = False
        for actor in list(self._actors.values()):
            moved |= actor.step()
        while self._work:
            self._work.popleft()()
            moved = True
        return moved
