"""The threads below the scheduler: one for timers, a few for blocking work."""

from __future__ import annotations

import contextlib
import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ...errors import QuireError

T = TypeVar("T")
log = logging.getLogger(__name__)

TIMERS_MAX = 1_000_000
"""Timers that may be waiting."""
JOBS_WAITING_MAX = 100_000
"""Pieces of blocking work that may wait for a thread."""


class SchedulerClosedError(QuireError):
    """The scheduler is closed or closing: stop; nothing is started any more."""


class SchedulerFullError(QuireError):
    """More is waiting than the scheduler's bound: send less, or later."""


class Raised:
    """An exception as a result: keeps StopIteration and SystemExit away from asyncio."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def outcome_of(work: Callable[[], T]) -> T | Raised:
    """The result, or what was raised, whatever it was."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - handed on to whoever asked
        return Raised(error)


def give(done: Callable[[Any], object], result: Any) -> None:
    """Hand a result over; a receiver that fails must not take the thread of all others with it."""
    try:
        done(result)
    except BaseException:
        log.exception("the receiver of %.200r failed", result)


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """A running daemon thread."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class Timer:
    """One call to be made; calling the timer takes it back."""

    __slots__ = ("_timers", "call")

    def __init__(self, timers: Timers, call: Callable[[], None]) -> None:
        self._timers = timers
        self.call: Callable[[], None] | None = call

    def __call__(self) -> None:
        """Take the call back."""
        self._timers.cancel(self)


class Timers:
    """One thread and a heap. All state below is guarded by ``_changed``; calls are made outside it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0  # calls of the same instant are made in the order of asking
        self._cancelled = 0  # of those in the heap
        self._closed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Make a call after ``delay_s`` seconds, in the timer thread."""
        timer = Timer(self, call)
        due = time.monotonic() + delay_s
        with self._changed:
            if self._closed:
                raise SchedulerClosedError("the scheduler is closed: no timer is taken")
            if len(self) >= TIMERS_MAX:
                raise SchedulerFullError(f"{TIMERS_MAX} timers are waiting: ask for fewer")
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, timer))
            if self._thread is None:
                self._thread = start_thread(self._run, "quire-timers")
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Take a call back; harmless when it was made."""
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
        """The threads that were started."""
        return [self._thread] if self._thread is not None else []

    def close(self) -> None:
        """Forget what waits and end the thread; does not wait for it."""
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


class Job(Generic[T]):
    """Blocking work that is begun by a thread or taken back, whichever comes first."""

    __slots__ = ("_claim", "_done", "_work")

    def __init__(self, work: Callable[[], T], done: Callable[[T | Raised], object]) -> None:
        self._work = work
        self._done = done
        self._claim = threading.Lock()  # locked once, by whoever comes first

    def take_back(self) -> bool:
        """Whether it had not begun and now never will."""
        return self._claim.acquire(blocking=False)

    def refuse(self, error: QuireError) -> None:
        """Give an error instead of beginning."""
        if self._claim.acquire(blocking=False):
            give(self._done, Raised(error))

    def run(self) -> None:
        """Do the work, unless it was taken back."""
        if self._claim.acquire(blocking=False):
            give(self._done, outcome_of(self._work))


class Pool:
    """A few threads and one queue."""

    def __init__(self, threads_max: int) -> None:
        self._threads_max = threads_max
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._lock = threading.Lock()  # guards _threads and _closed

    @property
    def waiting(self) -> int:
        """Work that no thread has begun."""
        return self._jobs.qsize()

    def submit(self, work: Callable[[], T], done: Callable[[T | Raised], object]) -> Job[T]:
        """Have the work done by a thread; ``done`` gets the outcome there, or a refusal here."""
        job = Job(work, done)
        refused = self._enter(job)
        if refused is not None:
            job.refuse(refused)
        return job

    def _enter(self, job: Job[Any]) -> QuireError | None:
        with self._lock:
            if self._closed:
                return SchedulerClosedError("the scheduler is closed: no work is taken")
            if self._jobs.qsize() >= JOBS_WAITING_MAX:
                return SchedulerFullError(f"{JOBS_WAITING_MAX} pieces of work are waiting: send fewer")
            self._jobs.put(job)
            if len(self._threads) < self._threads_max:
                self._threads.append(start_thread(self._run, f"quire-disk-{len(self._threads)}"))
        return None

    def threads(self) -> list[threading.Thread]:
        """The threads that were started."""
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
