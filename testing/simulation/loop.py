"""An asyncio event loop in virtual time, run one callback after the other by whoever owns it.

Only what coroutines ask of a loop is here: callbacks, timers, futures and tasks. There are no sockets, no
signals and no executor; whatever asks for one gets asyncio's own ``NotImplementedError``.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVarTuple, Unpack

from ...actors.runtime.ports import NANOSECONDS

Ts = TypeVarTuple("Ts")


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated process; ``now_ns`` is its clock."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._stepping = self._abandoned = False
        super().__init__()
        self._now_ns = now_ns
        self._callbacks: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._sequence = 0
        self.complaints: list[str] = []
        """What asyncio would have logged: exceptions of callbacks, and of tasks that nobody looked at."""

    def __repr__(self) -> str:
        return f"<VirtualLoop {len(self._callbacks)} ready, {len(self._timers)} timers>"

    # For its owner

    @property
    def has_work(self) -> bool:
        """Whether a callback could run now."""
        return bool(self._callbacks)

    def next_ns(self) -> int | None:
        """When the next timer is due, in nanoseconds of its clock."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def wake(self) -> None:
        """Make ready what is due."""
        while (due_ns := self.next_ns()) is not None and due_ns <= self._now_ns():
            self._callbacks.append(heapq.heappop(self._timers)[2])

    def step(self, callbacks_max: int) -> None:
        """Run so many of the callbacks that are ready."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize)
        asyncio._set_running_loop(self)
        self._stepping = True
        try:
            for _ in range(min(callbacks_max, len(self._callbacks))):
                handle = self._callbacks.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            self._stepping = False
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def abandon(self) -> None:
        """Its process is gone: what Python finds left over is not to be ended in order."""
        self._abandoned = True

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._abandoned:
            self.create_task(generator.aclose())

    # What asyncio asks of a loop

    def time(self) -> float:
        """Seconds on the virtual clock."""
        return self._now_ns() / NANOSECONDS

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run a callback after those that are ready, in their order."""
        handle = asyncio.Handle(callback, args, self, context)
        self._callbacks.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As ``call_soon``: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback after ``delay`` seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a time of ``time()``; those of the same instant in the order of asking."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        due_ns = max(self._now_ns(), int(when * NANOSECONDS) + 1)  # never before its time by rounding
        heapq.heappush(self._timers, (due_ns, self._sequence, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is dropped when it is met."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **named: Any) -> asyncio.Task[Any]:
        """A task of this loop."""
        work: Coroutine[Any, Any, Any] = coro
        return asyncio.Task(work, loop=self, **named)

    def __del__(self) -> None:
        """Nothing of the system is open."""

    def is_running(self) -> bool:
        """While its owner steps it."""
        return self._stepping

    def is_closed(self) -> bool:
        """Never."""
        return False

    def get_debug(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what is told, for the verdict."""
        error = context.get("exception")
        self.complaints.append(f"{context.get('message')}: {error!r}")
