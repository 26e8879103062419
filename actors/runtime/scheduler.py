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
import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import msgspec

from ...errors import InvariantError, QuireError
from .ports import Cancel

T = TypeVar("T")
log = logging.getLogger(__name__)

CLOSE_S = 10.0
"""Seconds that ``close`` waits for what is running."""
TIMERS_MAX = 1_000_000
"""Timers that may be waiting."""
JOBS_WAITING_MAX = 100_000
"""Pieces of blocking work that may wait for a thread."""
COROUTINES_MAX = 100_000
"""Coroutines that may run on the loop at once."""


class SchedulerClosedError(QuireError):
    """The scheduler is closed or closing: stop; nothing is started any more."""


class SchedulerFullError(QuireError):
    """More is waiting than the scheduler's bound: send less, or later."""


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """What waits and runs now."""

    timers: int
    jobs_waiting: int
    coroutines: int


class ThreadScheduler:
    """The ``Scheduler`` port on threads; for any thread, also for coroutines on its loop."""

    def __init__(self, *, disk_threads: int) -> None:
        """``disk_threads`` bounds the pool for blocking work."""
        self._timers = _Timers()
        self._pool = _Pool(disk_threads)
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
        return _start_thread(loop, name)

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
        self._pool.submit(work, lambda got: done(got.error if isinstance(got, _Raised) else got))

    def gather(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> Cancel:
        """Run a coroutine on the loop; ``done`` gets result or exception there, once, also if cancelled."""
        return self._loop.run(work, done)

    async def aside(self, work: Callable[[], T]) -> T:
        """Await blocking work.

        When cancelled, work that has begun is waited for, so that nobody closes a file under a thread
        that is writing to it; work that has not begun is taken back.
        """
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[T | _Raised] = loop.create_future()

        def settle(result: T | _Raised) -> None:
            if not settled.done():
                settled.set_result(result)

        job = self._pool.submit(work, lambda got: loop.call_soon_threadsafe(settle, got))
        try:
            result = await asyncio.shield(settled)
        except asyncio.CancelledError:
            if not job.take_back():
                await _outlast(settled)
            raise
        if isinstance(result, _Raised):
            raise result.error
        return result

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


class _Raised:
    """An exception as a result: keeps StopIteration and SystemExit away from asyncio."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _outcome(work: Callable[[], T]) -> T | _Raised:
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - handed on to whoever asked
        return _Raised(error)


def _give(done: Callable[[Any], object], result: Any) -> None:
    """Hand a result over; a receiver that fails must not take the thread of all others with it."""
    try:
        done(result)
    except BaseException:
        log.exception("the receiver of %.200r failed", result)


async def _outlast(future: asyncio.Future[Any]) -> None:
    """Wait for the future however often the task is cancelled meanwhile."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])


def _start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class _Timer:
    """One call to be made; calling the timer takes it back."""

    __slots__ = ("_timers", "call")

    def __init__(self, timers: _Timers, call: Callable[[], None]) -> None:
        self._timers = timers
        self.call: Callable[[], None] | None = call

    def __call__(self) -> None:
        self._timers.cancel(self)


class _Timers:
    """One thread and a heap. All state below is guarded by ``_changed``; calls are made outside it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, _Timer]] = []
        self._sequence = 0  # calls of the same instant are made in the order of asking
        self._cancelled = 0  # of those in the heap
        self._closed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, delay_s: float, call: Callable[[], None]) -> _Timer:
        timer = _Timer(self, call)
        due = time.monotonic() + delay_s
        with self._changed:
            if self._closed:
                raise SchedulerClosedError("the scheduler is closed: no timer is taken")
            if len(self) >= TIMERS_MAX:
                raise SchedulerFullError(f"{TIMERS_MAX} timers are waiting: ask for fewer")
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, timer))
            if self._thread is None:
                self._thread = _start_thread(self._run, "quire-timers")
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def cancel(self, timer: _Timer) -> None:
        with self._changed:
            if timer.call is None:
                return
            timer.call = None
            self._cancelled += 1
            if self._cancelled * 2 > len(self._heap):  # else long timers, mostly cancelled, pile up
                self._heap = [entry for entry in self._heap if entry[2].call is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def threads(self) -> list[threading.Thread]:
        return [self._thread] if self._thread is not None else []

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._cancelled = 0
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except BaseException:
                log.exception("a timer's call failed")

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next call that is due; None when closed."""
        with self._changed:
            while not self._closed:
                wait_s = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait_s is not None and wait_s <= 0:
                    timer = heapq.heappop(self._heap)[2]
                    if timer.call is not None:
                        call, timer.call = timer.call, None
                        return call
                    self._cancelled -= 1
                else:
                    self._changed.wait(wait_s)
        return None


class _Job(Generic[T]):
    """Blocking work that is begun by a thread or taken back, whichever comes first."""

    __slots__ = ("_claim", "_done", "_work")

    def __init__(self, work: Callable[[], T], done: Callable[[T | _Raised], object]) -> None:
        self._work = work
        self._done = done
        self._claim = threading.Lock()  # locked once, by whoever comes first

    def take_back(self) -> bool:
        return self._claim.acquire(blocking=False)

    def refuse(self, error: QuireError) -> None:
        if self._claim.acquire(blocking=False):
            _give(self._done, _Raised(error))

    def run(self) -> None:
        if self._claim.acquire(blocking=False):
            _give(self._done, _outcome(self._work))


class _Pool:
    """A few threads and one queue."""

    def __init__(self, threads_max: int) -> None:
        self._threads_max = threads_max
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._lock = threading.Lock()  # guards _threads and _closed

    @property
    def waiting(self) -> int:
        return self._jobs.qsize()

    def submit(self, work: Callable[[], T], done: Callable[[T | _Raised], object]) -> _Job[T]:
        job = _Job(work, done)
        refused = self._enter(job)
        if refused is not None:
            job.refuse(refused)
        return job

    def _enter(self, job: _Job[Any]) -> QuireError | None:
        with self._lock:
            if self._closed:
                return SchedulerClosedError("the scheduler is closed: no work is taken")
            if self._jobs.qsize() >= JOBS_WAITING_MAX:
                return SchedulerFullError(f"{JOBS_WAITING_MAX} pieces of work are waiting: send fewer")
            self._jobs.put(job)
            if len(self._threads) < self._threads_max:
                self._threads.append(_start_thread(self._run, f"quire-disk-{len(self._threads)}"))
        return None

    def threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._threads)

    def close(self) -> None:
        """Refuse what waits and let the threads end; does not wait for them."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.refuse(SchedulerClosedError("the scheduler was closed before this work began"))
        for _ in self._threads:
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


class _Gathered(Generic[T]):
    """One coroutine on the loop; calling it cancels the coroutine. ``_start`` and what follows run there."""

    def __init__(
        self, owner: _Loop, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]
    ) -> None:
        self._owner = owner
        self._work = work
        self._done = done
        self._task: asyncio.Task[T | _Raised] | None = None

    def __call__(self) -> None:
        self._owner.call(self._cancel)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guarded())
        self._task.add_done_callback(self._finished)

    def refuse(self, error: QuireError) -> None:
        self._work.close()
        _give(self._done, error)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _guarded(self) -> T | _Raised:
        try:
            return await self._work
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would end the loop of everybody
            return _Raised(error)

    def _finished(self, task: asyncio.Task[T | _Raised]) -> None:
        self._work.close()  # it was never begun if the cancel came first
        self._owner.running -= 1
        _give(self._done, self._result(task))

    @staticmethod
    def _result(task: asyncio.Task[T | _Raised]) -> T | BaseException:
        if task.cancelled():
            return asyncio.CancelledError()
        error = task.exception()
        if error is not None:
            return error
        result = task.result()
        return result.error if isinstance(result, _Raised) else result


class _Loop:
    """The one asyncio loop and its thread."""

    def __init__(self) -> None:
        self.running = 0
        """Coroutines begun and not finished; raised under the lock, lowered on the loop."""
        self._lock = threading.Lock()  # guards _loop, _thread and _closed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> _Gathered[T]:
        gathered = _Gathered(self, work, done)
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

    def _enter(self, gathered: _Gathered[Any]) -> QuireError | None:
        with self._lock:
            if self._closed:
                return SchedulerClosedError("the scheduler is closed: no coroutine is taken")
            if self.running >= COROUTINES_MAX:
                return SchedulerFullError(f"{COROUTINES_MAX} coroutines are running: send fewer")
            self.running += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = _start_thread(self._serve, "quire-loop")
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
