"""Name look-ups have threads of their own, bounded, and no look-up holds up another's answer for ever."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.web import names
from quire.actors.web.guard import Guard
from quire.actors.web.names import GuardedResolver, Lookups

sys.path.insert(0, str(Path(__file__).parent))
from loopback import Aside, run


def test_a_silent_name_server_holds_up_no_disk_work(monkeypatch):
    """With every look-up hanging, work on the disk pool of one thread still gets done at once."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: released.wait(10) and [])
    scheduler = ThreadScheduler(disk_threads=1)
    results: list[object] = []
    ended = threading.Event()

    async def work() -> float:
        resolver = GuardedResolver(Guard(), scheduler)
        asked = [asyncio.create_task(resolver.resolve(f"h{n}.example")) for n in range(20)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        for _ in range(20):
            await scheduler.aside(lambda: None)
        took_s = time.monotonic() - began
        released.set()
        assert await asyncio.gather(*asked) == [[]] * 20
        await resolver.close()
        return took_s

    scheduler.gather(work(), lambda result: (results.append(result), ended.set()))
    try:
        assert ended.wait(10)
        assert isinstance(results[0], float), results
        assert results[0] < 1
    finally:
        released.set()
        scheduler.close()


def test_look_ups_are_bounded(monkeypatch):
    """No more threads than the bound, none before the first question, and a full queue is an OSError."""
    monkeypatch.setattr(names, "LOOKUPS_WAITING_MAX", 5)

    async def test():
        started: list[str] = []

        class Counting(Aside):
            def spawn(self, loop, *, name):
                started.append(name)
                return super().spawn(loop, name=name)

        lookups = Lookups(Counting(), threads_max=2)
        assert started == []
        released = threading.Event()
        tasks = [asyncio.create_task(lookups.run(lambda: released.wait(5)))]
        for _ in range(6):
            tasks.append(asyncio.create_task(lookups.run(lambda: released.wait(5))))
            await asyncio.sleep(0.02)
        assert len(started) == 2
        with pytest.raises(OSError, match="names wait"):
            await lookups.run(lambda: None)
        released.set()
        assert await asyncio.gather(*tasks) == [True] * 7
        lookups.close()

    run(test)


def test_one_question_after_the_other_takes_one_thread():
    """Threads are begun only while more is asked than they can do; closing ends them, asking begins anew."""

    async def test():
        threads: list[threading.Thread] = []

        class Keeping(Aside):
            def spawn(self, loop, *, name):
                threads.append(super().spawn(loop, name=name))
                return threads[-1]

        lookups = Lookups(Keeping(), threads_max=4)
        for n in range(5):
            assert await lookups.run(lambda n=n: n) == n
            while "unfinished=0" not in repr(lookups):  # the thread counts just after it told us
                await asyncio.sleep(0.001)
        assert len(threads) == 1
        lookups.close()
        await asyncio.to_thread(threads[0].join, 2)
        assert not threads[0].is_alive()
        assert await lookups.run(lambda: "again") == "again"
        lookups.close()

    run(test)


def test_errors_and_cancels_come_through():
    """A failing look-up raises where it was awaited; a cancelled one that has not begun never runs."""

    async def test():
        lookups = Lookups(Aside(), threads_max=1)
        ran: list[int] = []

        def fail() -> None:
            raise socket.gaierror(-2, "Name or service not known")

        with pytest.raises(socket.gaierror):
            await lookups.run(fail)
        released = threading.Event()
        first = asyncio.create_task(lookups.run(lambda: released.wait(5)))
        second = asyncio.create_task(lookups.run(lambda: ran.append(2)))
        await asyncio.sleep(0.02)
        second.cancel()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        released.set()
        await lookups.run(lambda: ran.append(3))
        assert ran == [3]
        lookups.close()

    run(test)


def test_a_hung_look_up_that_nobody_waits_for_keeps_no_other_waiting():
    """A cancelled look-up still holds its thread: the next one gets another."""

    async def test():
        lookups = Lookups(Aside(), threads_max=2)
        released = threading.Event()
        hung = asyncio.create_task(lookups.run(lambda: released.wait(5)))
        await asyncio.sleep(0.02)
        hung.cancel()
        assert await asyncio.wait_for(lookups.run(lambda: "other"), 1) == "other"
        released.set()
        lookups.close()

    run(test)
