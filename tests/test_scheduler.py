"""The thread scheduler: timers in order, real cancelling, a bounded pool, and an end that ends."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from quire.actors.runtime import scheduler as module
from quire.actors.runtime import threads
from quire.actors.runtime.ports import Scheduler
from quire.actors.runtime.scheduler import SchedulerClosedError, SchedulerFullError, ThreadScheduler
from quire.errors import InvariantError

WAIT_S = 5.0


class Box:
    """Receives results, for ``done``."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.threads: list[str] = []
        self.arrived = threading.Semaphore(0)

    def __call__(self, result: Any) -> None:
        self.results.append(result)
        self.threads.append(threading.current_thread().name)
        self.arrived.release()

    def wait(self, count: int = 1) -> list[Any]:
        for _ in range(count):
            assert self.arrived.acquire(timeout=WAIT_S)
        return self.results


@pytest.fixture
def scheduler():
    scheduler: Scheduler = ThreadScheduler(disk_threads=2)
    yield scheduler
    scheduler.close()


def fails(error: BaseException) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


# Threads.


def test_nothing_is_started_before_it_is_needed():
    """A scheduler that was asked for nothing has no thread."""
    before = threading.active_count()
    scheduler = ThreadScheduler(disk_threads=4)
    assert threading.active_count() == before
    scheduler.close()


def test_spawn_runs_the_loop_in_a_named_daemon_thread(scheduler):
    """An actor's thread carries its name and does not hold the process."""
    box = Box()
    thread = scheduler.spawn(lambda: box(None), name="journal")
    box.wait()
    assert box.threads == ["journal"]
    assert thread.daemon


# Timers.


def test_timers_come_in_the_order_of_their_times_in_one_thread(scheduler):
    """The heap decides, not the order of asking; calls of one instant keep the order of asking."""
    box = Box()
    for delay_s in (0.06, 0.02, 0.04, 0.0):
        scheduler.later(delay_s, lambda delay_s=delay_s: box(delay_s))
    assert box.wait(4) == [0.0, 0.02, 0.04, 0.06]
    assert set(box.threads) == {"quire-timers"}


def test_a_timer_is_not_early(scheduler):
    """The call comes after the delay, not before."""
    box, begun = Box(), time.monotonic()
    scheduler.later(0.05, lambda: box(time.monotonic() - begun))
    assert box.wait()[0] >= 0.05


def test_a_cancelled_timer_is_silent(scheduler):
    """Cancelling before it is due takes the call back; after it, and twice, it is harmless."""
    box = Box()
    cancel = scheduler.later(0.02, lambda: box("cancelled"))
    cancel()
    cancel()
    fired = scheduler.later(0.0, lambda: box("fired"))
    box.wait()
    fired()
    scheduler.later(0.05, lambda: box("after"))
    assert box.wait() == ["fired", "after"]
    assert scheduler.statistics().timers == 0


def test_a_failing_timer_does_not_stop_the_others(scheduler):
    """Even SystemExit in a call leaves the timer thread running."""
    box = Box()
    scheduler.later(0.0, fails(SystemExit(1)))
    scheduler.later(0.01, lambda: box("next"))
    assert box.wait() == ["next"]


def test_cancelled_timers_do_not_pile_up(scheduler):
    """A million long timeouts that are all cancelled leave the heap small."""
    for _ in range(10_000):
        scheduler.later(3600, lambda: None)()
    assert len(scheduler._timers._heap) < 10


def test_timers_are_bounded(scheduler, monkeypatch):
    """One timer too many is refused with a name for it."""
    monkeypatch.setattr(threads, "TIMERS_MAX", 2)
    for _ in range(2):
        scheduler.later(3600, lambda: None)
    with pytest.raises(SchedulerFullError):
        scheduler.later(3600, lambda: None)


# Blocking work.


def test_block_gives_the_result_or_the_exception(scheduler):
    """``done`` gets either, also SystemExit, from a pool thread that lives on."""
    errors = [ValueError("x"), SystemExit(1), StopIteration()]
    for error in errors:
        box = Box()
        scheduler.block(fails(error), box)
        assert box.wait() == [error]
    box = Box()
    scheduler.block(lambda: 42, box)
    assert box.wait() == [42]
    assert box.threads[0].startswith("quire-disk-")


def test_the_pool_has_as_many_threads_as_it_may(scheduler):
    """``disk_threads`` pieces of work run at once, and no more."""
    gate, lock, now = threading.Event(), threading.Lock(), {"running": 0, "most": 0}

    def work() -> None:
        with lock:
            now["running"] += 1
            now["most"] = max(now["most"], now["running"])
        gate.wait(0.05)
        with lock:
            now["running"] -= 1

    box = Box()
    for _ in range(10):
        scheduler.block(work, box)
    box.wait(10)
    assert now["most"] == 2


def test_work_beyond_the_bound_is_refused_through_done(scheduler, monkeypatch):
    """What waits for the pool is bounded; the refusal is a result, not silence."""
    monkeypatch.setattr(threads, "JOBS_WAITING_MAX", 1)
    gate, box, refused = threading.Event(), Box(), Box()
    for _ in range(2):
        started = threading.Event()
        scheduler.block(lambda started=started: (started.set(), gate.wait(WAIT_S)), box)
        assert started.wait(WAIT_S)
    scheduler.block(lambda: "waits", box)
    scheduler.block(lambda: "too many", refused)
    assert isinstance(refused.wait()[0], SchedulerFullError)
    gate.set()
    assert "waits" in box.wait(3)


def test_a_failing_done_does_not_stop_the_pool(scheduler):
    """A receiver that raises is logged; the threads go on."""
    for _ in range(4):
        scheduler.block(lambda: 1, lambda result: fails(SystemExit(1))())
    box = Box()
    scheduler.block(lambda: 2, box)
    assert box.wait() == [2]


# Coroutines.


def test_gather_gives_the_result_or_the_exception(scheduler):
    """``done`` gets either, on the one loop thread, which SystemExit does not end."""

    async def raises(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    async def answers() -> int:
        await asyncio.sleep(0)
        return 42

    for error in (ValueError("x"), SystemExit(1), KeyboardInterrupt()):
        box = Box()
        scheduler.gather(raises(error), box)
        assert box.wait() == [error]
        assert box.threads == ["quire-loop"]
    box = Box()
    scheduler.gather(answers(), box)
    assert box.wait() == [42]


def test_cancelling_is_real(scheduler):
    """The coroutine is cancelled where it waits, its ``finally`` runs, and done gets CancelledError."""
    begun, closed, box = threading.Event(), threading.Event(), Box()

    async def hangs() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            closed.set()

    cancel = scheduler.gather(hangs(), box)
    assert begun.wait(WAIT_S)
    cancel()
    assert isinstance(box.wait()[0], asyncio.CancelledError)
    assert closed.is_set()
    cancel()


def test_cancelling_closes_the_socket(scheduler):
    """The other side of a connection sees its end as soon as the coroutine is cancelled."""
    accepted, ended, box = Box(), Box(), Box()

    async def serve() -> int:
        async def peer(reader, writer) -> None:
            accepted(None)
            ended(await reader.read())
            writer.close()

        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def connect(port: int) -> None:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.sleep(3600)
        finally:
            writer.close()

    port = Box()
    scheduler.gather(serve(), port)
    cancel = scheduler.gather(connect(port.wait()[0]), box)
    accepted.wait()
    cancel()
    assert ended.wait() == [b""]
    assert isinstance(box.wait()[0], asyncio.CancelledError)


def test_cancelling_before_the_beginning_still_answers(scheduler):
    """A coroutine that is cancelled before its first step never runs, and done is called once."""
    ran, held, box, gate = [], threading.Event(), Box(), threading.Event()

    async def holds_the_loop() -> None:
        held.set()
        gate.wait(WAIT_S)

    async def never() -> None:
        ran.append(1)

    scheduler.gather(holds_the_loop(), lambda result: None)
    assert held.wait(WAIT_S)
    work = never()
    scheduler.gather(work, box)()
    gate.set()
    assert isinstance(box.wait()[0], asyncio.CancelledError)
    assert ran == []
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


def test_a_failing_receiver_does_not_end_the_loop(scheduler):
    """A ``done`` that raises SystemExit on the loop leaves the others running."""

    async def nothing() -> int:
        return 1

    scheduler.gather(nothing(), lambda result: fails(SystemExit(1))())
    box = Box()
    scheduler.gather(nothing(), box)
    assert box.wait() == [1]
    assert scheduler.statistics().coroutines == 0


def test_coroutines_are_bounded(scheduler, monkeypatch):
    """One coroutine too many is refused through done, and closed."""
    monkeypatch.setattr(module, "COROUTINES_MAX", 1)
    first, second = Box(), Box()
    cancel = scheduler.gather(asyncio.sleep(3600), first)
    scheduler.gather(asyncio.sleep(0), second)
    assert isinstance(second.wait()[0], SchedulerFullError)
    cancel()
    first.wait()


# Aside.


def test_aside_runs_off_the_loop_and_gives_result_or_exception(scheduler):
    """Blocking work of a coroutine leaves the loop free and raises in the coroutine."""
    gate, box = threading.Event(), Box()

    async def both() -> tuple[Any, ...]:
        blocked = asyncio.ensure_future(scheduler.aside(lambda: gate.wait(WAIT_S)))
        named = await scheduler.aside(lambda: threading.current_thread().name)  # the loop is free meanwhile
        gate.set()
        with pytest.raises(ValueError, match="x"):
            await scheduler.aside(fails(ValueError("x")))
        with pytest.raises(SystemExit):
            await scheduler.aside(fails(SystemExit()))
        return await blocked, named

    scheduler.gather(both(), box)
    blocked, named = box.wait()[0]
    assert blocked is True
    assert named.startswith("quire-disk-")


def test_a_cancelled_aside_waits_for_work_that_has_begun(scheduler):
    """A file is not closed under the thread that writes to it: the cancel comes through after the work."""
    begun, gate, box, log = threading.Event(), threading.Event(), Box(), []

    def write() -> None:
        begun.set()
        gate.wait(WAIT_S)
        log.append("written")

    async def saves() -> None:
        try:
            await scheduler.aside(write)
        finally:
            log.append("closed")

    cancel = scheduler.gather(saves(), box)
    assert begun.wait(WAIT_S)
    cancel()
    cancel()
    time.sleep(0.05)
    assert log == []
    gate.set()
    assert isinstance(box.wait()[0], asyncio.CancelledError)
    assert log == ["written", "closed"]


def test_a_cancelled_aside_takes_back_work_that_has_not_begun(scheduler):
    """Work that still waits for a thread is never done after its coroutine was cancelled."""
    gate, ran, box, blocked = threading.Event(), [], Box(), Box()
    for _ in range(2):
        scheduler.block(lambda: gate.wait(WAIT_S), blocked)
    waits = threading.Event()

    async def saves() -> None:
        asyncio.get_running_loop().call_soon(waits.set)
        await scheduler.aside(lambda: ran.append(1))

    cancel = scheduler.gather(saves(), box)
    assert waits.wait(WAIT_S)
    cancel()
    assert isinstance(box.wait()[0], asyncio.CancelledError)
    gate.set()
    blocked.wait(2)
    scheduler.block(lambda: None, blocked)
    blocked.wait()
    assert ran == []


# The end.


def test_close_ends_everything_and_answers_everybody():
    """Coroutines are cancelled, waiting work is refused, running work is waited for, threads are gone."""
    before = set(threading.enumerate())
    scheduler = ThreadScheduler(disk_threads=1)
    begun, coroutine, running, waiting, never = threading.Event(), Box(), Box(), Box(), Box()
    scheduler.later(3600, lambda: never(1))
    scheduler.gather(asyncio.sleep(3600), coroutine)
    scheduler.block(lambda: (begun.set(), time.sleep(0.1)), running)
    assert begun.wait(WAIT_S)
    scheduler.block(lambda: None, waiting)
    scheduler.close()
    assert isinstance(coroutine.results[0], asyncio.CancelledError)
    assert len(running.results) == 1
    assert isinstance(waiting.results[0], SchedulerClosedError)
    assert never.results == []
    assert set(threading.enumerate()) <= before
    scheduler.close()


def test_a_closed_scheduler_refuses_and_says_so():
    """After close nothing is taken in silence."""
    scheduler = ThreadScheduler(disk_threads=1)
    cancel = scheduler.gather(asyncio.sleep(0), lambda result: None)
    scheduler.close()
    cancel()
    with pytest.raises(SchedulerClosedError):
        scheduler.later(0, lambda: None)
    box = Box()
    scheduler.block(lambda: 1, box)
    work = asyncio.sleep(0)
    scheduler.gather(work, box)
    assert [type(result) for result in box.wait(2)] == [SchedulerClosedError] * 2
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


def test_close_from_a_thread_of_its_own_is_refused(scheduler):
    """Waiting for oneself would take the whole time limit."""
    box = Box()
    scheduler.block(scheduler.close, box)
    assert isinstance(box.wait()[0], InvariantError)


def test_close_does_not_wait_for_ever(monkeypatch):
    """Work that hangs is left behind after the limit."""
    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    scheduler, gate, begun = ThreadScheduler(disk_threads=1), threading.Event(), threading.Event()
    scheduler.block(lambda: (begun.set(), gate.wait(WAIT_S)), lambda result: None)
    assert begun.wait(WAIT_S)
    started = time.monotonic()
    scheduler.close()
    assert time.monotonic() - started < 1
    gate.set()
