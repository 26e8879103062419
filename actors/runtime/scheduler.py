"""The scheduler of earnest runs: threads.

An actor has a thread of its own. Beside those there are, each started when it is first needed: one timer
thread, one thread with the asyncio loop (four loops ran at half the speed of one), and a bounded pool for
disk work. All are daemons: a process that has to go, goes, and what was durable stays durable.

``concurrent.futures`` is not used: its threads are joined at exit without a limit, its queue has no bound,
and a chunk written through ``run_in_executor`` pays for two futures.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ...errors import InvariantError, QuireError
from .ports import Cancel
from .threads import Job, Pool, Raised, SchedulerClosedError, SchedulerFullError, Timers, give, start_thread

__all__ = [
    "Gathered",
    "SchedulerClosedError",
    "SchedulerFullError",
    "SchedulerStatistics",
    "ThreadScheduler",
    "awaited",
]

T = TypeVar("T")
log = logging.getLogger(__name__)

CLOSE_S = 10.0
"""Seconds that ``close`` waits for what is running."""
COROUTINES_MAX = 100_000
"""Coroutines that may run on the loop at once."""


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """What waits and runs now."""

    timers: int
    jobs_waiting: int
    coroutines: int


class ThreadScheduler:
    """The ``Scheduler`` port on threads; for any thread, also for coroutines on its loop."""

    def __init__(self, *, disk_threads: int) -> None:
        """``disk_threads`` bounds the pool for blocking work."""
        self._timers = Timers()
        self._pool = Pool(disk_threads)
        self._loop = _Loop()

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<ThreadScheduler {now.timers} timers, {now.jobs_waiting} jobs waiting, "
            f"{now.coroutines} coroutines>"
        )

    def statistics(self) -> SchedulerStatistics:
        """What waits and runs now."""
        return SchedulerStatistics(len(self._timers), self._pool.waiting, self._loop.running)

    def spawn(self, loop: Callable[[], None], *, name: str) -> threading.Thread:
        """Run an actor's loop in a new thread."""
        return start_thread(loop, name)

    def later(self, delay_s: float, call: Callable[[], None]) -> Cancel:
        """Make a short call in the timer thread after ``delay_s`` seconds; what it raises is logged.

        Raises:
            SchedulerClosedError: it would never be made.
            SchedulerFullError: ``TIMERS_MAX`` are waiting.
        """
        return self._timers.add(delay_s, call)

    def block(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run blocking work on the pool; ``done`` gets result or exception there.

        ``done`` gets ``SchedulerClosedError`` or ``SchedulerFullError`` for work that is not taken.
        """
        self._pool.submit(work, lambda got: done(got.error if isinstance(got, Raised) else got))

    def gather(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> Cancel:
        """Run a coroutine on the loop; ``done`` gets result or exception there, once, also if cancelled."""
        return self._loop.run(work, done)

    async def aside(self, work: Callable[[], T]) -> T:
        """Await blocking work.

        When cancelled, work that has begun is waited for, so that nobody closes a file under a thread
        that is writing to it; work that has not begun is taken back.
        """
        return await awaited(self._pool.submit, work)

    def close(self) -> None:
        """Stop timers, loop and pool, and wait for what is running, at most ``CLOSE_S`` seconds in all.

        Coroutines are cancelled; waiting work is told ``SchedulerClosedError``. Twice is harmless.

        Raises:
            InvariantError: called from one of the threads that it would wait for.
        """
        threads = [*self._timers.threads(), *self._loop.threads(), *self._pool.threads()]
        if threading.current_thread() in threads:
            raise InvariantError("the scheduler cannot be closed from a thread of its own")
        deadline = time.monotonic() + CLOSE_S
        self._timers.close()
        self._loop.close(deadline)
        self._pool.close()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [thread.name for thread in threads if thread.is_alive()]
        if late:
            log.warning("still running %g s after close: %s", CLOSE_S, ", ".join(late))


class Submit(Protocol):
    """Has blocking work done somewhere, as ``Pool.submit`` does."""

    def __call__(self, work: Callable[[], T], done: Callable[[T | Raised], object], /) -> Job[T]:
        """Take the work; ``done`` gets its outcome."""
        ...


async def awaited(submit: Submit, work: Callable[[], T]) -> T:
    """Await submitted work, by the rules of ``ThreadScheduler.aside``."""
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[T | Raised] = loop.create_future()

    def settle(result: T | Raised) -> None:
        if not settled.done():
            settled.set_result(result)

    job = submit(work, lambda got: loop.call_soon_threadsafe(settle, got))
    try:
        result = await asyncio.shield(settled)
    except asyncio.CancelledError:
        if not job.take_back():
            await _outlast(settled)
        raise
    if isinstance(result, Raised):
        raise result.error
    return result


async def _outlast(future: asyncio.Future[Any]) -> None:
    """Wait for the future however often the task is cancelled meanwhile."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])


class LoopOwner(Protocol):
    """Who runs the event loop that coroutines are gathered on."""

    running: int
    """Coroutines begun and not finished."""

    def call(self, call: Callable[[], None]) -> None:
        """Make a call on the loop."""
        ...


class Gathered(Generic[T]):
    """One coroutine on the loop; calling it cancels the coroutine. ``start`` and what follows run there."""

    def __init__(
        self, owner: LoopOwner, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]
    ) -> None:
        self._owner = owner
        self._work = work
        self._done = done
        self._task: asyncio.Task[T | Raised] | None = None

    def __call__(self) -> None:
        """Cancel the coroutine."""
        self._owner.call(self._cancel)

    def start(self) -> None:
        """Begin; called on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._guarded())
        self._task.add_done_callback(self._finished)

    def refuse(self, error: QuireError) -> None:
        """Give an error instead of beginning."""
        self._work.close()
        give(self._done, error)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _guarded(self) -> T | Raised:
        try:
            return await self._work
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would end the loop of everybody
            return Raised(error)

    def _finished(self, task: asyncio.Task[T | Raised]) -> None:
        self._work.close()  # it was never begun if the cancel came first
        self._owner.running -= 1
        give(self._done, self._result(task))

    @staticmethod
    def _result(task: asyncio.Task[T | Raised]) -> T | BaseException:
        if task.cancelled():
            return asyncio.CancelledError()
        error = task.exception()
        if error is not None:
            return error
        result = task.result()
        return result.error if isinstance(result, Raised) else result


class _Loop:
    """The one asyncio loop and its thread."""

    def __init__(self) -> None:
        self.running = 0
        """Coroutines begun and not finished; raised under the lock, lowered on the loop."""
        self._lock = threading.Lock()  # guards _loop, _thread and _closed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> Gathered[T]:
        gathered = Gathered(self, work, done)
        refused = self._enter(gathered)
        if refused is not None:
            gathered.refuse(refused)
        return gathered

    def call(self, call: Callable[[], None]) -> None:
        """Make a call on the loop; on a closed one there is nothing left that it could concern."""
        with self._lock:
            if self._loop is not None and not self._closed:
                self._loop.call_soon_threadsafe(call)

    def threads(self) -> list[threading.Thread]:
        return [self._thread] if self._thread is not None else []

    def _enter(self, gathered: Gathered[Any]) -> QuireError | None:
        with self._lock:
            if self._closed:
                return SchedulerClosedError("the scheduler is closed: no coroutine is taken")
            if self.running >= COROUTINES_MAX:
                return SchedulerFullError(f"{COROUTINES_MAX} coroutines are running: send fewer")
            self.running += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = start_thread(self._serve, "quire-loop")
            self._loop.call_soon_threadsafe(gathered.start)
        return None

    def _serve(self) -> None:
        loop = self._loop
        if loop is not None:
            asyncio.set_event_loop(loop)
            loop.run_forever()
            loop.close()

    def close(self, deadline: float) -> None:
        """Cancel every coroutine, wait for them until the deadline (monotonic), stop the loop."""
        with self._lock:
            if self._closed or self._loop is None:
                self._closed = True
                return
            self._closed = True
            loop = self._loop
        quenched = asyncio.run_coroutine_threadsafe(_quench(deadline - time.monotonic()), loop)
        with contextlib.suppress(TimeoutError):
            quenched.result(max(0.0, deadline - time.monotonic()))
        loop.call_soon_threadsafe(loop.stop)


async def _quench(timeout_s: float) -> None:
    """Cancel all other tasks of the loop and wait for their ends."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=timeout_s)
    await asyncio.get_running_loop().shutdown_asyncgens()
