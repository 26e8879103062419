"""Deterministic simulation: one seed, one life, the same bytes; and a planted defect does not get through."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.actors.reconciler import Reconciler
from quire.actors.runtime.actor import Actor
from quire.actors.runtime.journal import Journal, Journaled
from quire.actors.runtime.ports import Clock, Scheduler, Stepping
from quire.actors.runtime.system import System
from quire.errors import InvariantError
from quire.store import codec
from quire.testing.simulation import (
    Day,
    Death,
    Killed,
    Machine,
    Pause,
    Process,
    Script,
    SeededRandom,
    Shift,
    StalledError,
    VirtualClock,
    Weather,
    chance_of,
    live,
    pair_of,
)
from quire.testing.simulation import life as life_module
from quire.testing.simulation.campaign import Pair, main
from quire.testing.simulation.web import HarmedLedger
from quire.testing.web import Paper

SEEDS = range(1, 21)
WORKS = 4
"""At most, so that a life takes a fifth of a second."""


def machine(seed: int = 1) -> Machine:
    return Machine(VirtualClock(chance_of(seed, "clock")), chance_of(seed, "machine"), steps_max=100_000)


def started(within: Machine, name: str = "p") -> Process:
    return within.start(name, disk_threads=2)


def run(process: Process, work: Any) -> Any:
    """What a coroutine gives on a process."""
    told: list[Any] = []
    process.gather(work, told.append)
    process.run_until(lambda: bool(told), timeout_s=None)
    return told[0]


# One seed, one life


def test_a_seed_lived_twice_gives_the_same_bytes() -> None:
    """Twenty lives, each on a log in memory and on LMDB: the same bytes, every promise kept."""
    pairs = [pair_of(seed, works=WORKS) for seed in SEEDS]
    assert {pair.first.seed: pair.problems for pair in pairs if pair.problems} == {}
    assert len({pair.first.fingerprint.chain for pair in pairs}) == len(SEEDS)
    lives = [pair.second for pair in pairs]
    assert sum(sum(life.deaths.values()) for life in lives) >= 10
    assert sum(life.takeovers for life in lives) >= 5
    assert sum(life.hours for life in lives) >= 24
    assert all(life.home == life.obtainable for life in lives)


def test_another_hash_seed_and_another_engine_change_nothing() -> None:
    """A process with another PYTHONHASHSEED and LMDB's other engine writes the same log."""
    other = {**os.environ, "PYTHONHASHSEED": "4711", "LMDB_DEFAULT_LIB_VERSION": "1"}
    command = [sys.executable, "-m", "quire.testing.simulation", "--json", "--store", "lmdb"]
    done = subprocess.run(
        [*command, "--first", "7", "--seeds", "2", "--works", str(WORKS)],
        env=other, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    told = [msgspec.json.decode(line, type=Pair) for line in done.stdout.splitlines()]
    ours = [live(seed, works=WORKS).fingerprint for seed in (7, 8)]
    assert [pair.first.fingerprint for pair in told] == ours
    assert [pair.second.fingerprint for pair in told] == ours


def test_a_life_uses_no_thread_no_socket_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing real runs: with threads, sockets and sleeping forbidden a life is lived to its end."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a simulation touched the real world")

    monkeypatch.setattr(threading.Thread, "start", forbidden)
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(time, "sleep", forbidden)
    monkeypatch.setattr(threading.Condition, "wait", forbidden)
    life = live(3, works=WORKS)
    assert life.problems == []
    assert life.requests > 0


def test_a_trace_tells_each_step_and_is_the_same_twice() -> None:
    """``--trace`` prints every step of a life, so that two runs can be compared where they part."""
    first, second = io.StringIO(), io.StringIO()
    for out in (first, second):
        assert main(["--first", "5", "--seeds", "1", "--trace", "--works", "2"], out=out) == 0
    steps = [line for line in first.getvalue().splitlines() if line[:1].isdigit()]
    assert steps == [line for line in second.getvalue().splitlines() if line[:1].isdigit()]
    assert any(line.endswith(" journal") for line in steps)


# It finds what is planted


def caught(monkeypatch: pytest.MonkeyPatch, *, lives: int, works: int = WORKS) -> list[str]:
    """The problems of the first life that has any."""
    monkeypatch.setattr(life_module, "DAY_S_MAX", 900.0)
    for seed in range(1, lives + 1):
        problems = live(seed, works=works).problems
        if problems:
            return problems
    return []


def test_a_lost_acknowledgement_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that forgets one answer in seven leaves somebody waiting, and the life says so."""
    counts = {"answers": 0}

    def handle_all(self: Journal, messages: Any) -> None:
        results = self._commit(messages)
        for message, result in zip(messages, results, strict=True):
            counts["answers"] += message.reply_to is not None
            if message.reply_to is not None and counts["answers"] % 7:
                message.reply_to.answer(Journaled(((message.tag, result),)))

    monkeypatch.setattr(Journal, "handle_all", handle_all)
    problems = caught(monkeypatch, lives=20)
    assert any("somebody still waits" in problem for problem in problems), problems


def test_a_dropped_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the epoch's guard a worker that slept past its lease writes on: the order of steps shows it."""
    refused = codec.refused

    def unfenced(batch: Any, state: Any) -> Any:
        refusal = refused(batch, state)
        return None if isinstance(refusal, codec.Fenced) else refusal

    def sleeper(seed: int) -> Script:
        """Two workers on short leases, one of which sleeps for a minute with works in hand."""
        papers = tuple(Paper(doi=f"10.5555/fence.{n}") for n in range(4))
        asleep = Shift("finish", 0, 4, pauses=(Pause(150 + 10 * seed, 60.0),))
        day = Day((asleep, Shift("finish", 0, 4)), Weather(), (), False, False, 1.0)
        return Script(seed, papers, 10.0, False, (day,))

    assert [live(seed, script=sleeper(seed)).problems for seed in range(1, 6)] == [[]] * 5
    monkeypatch.setattr(codec, "refused", unfenced)
    assert any(live(seed, script=sleeper(seed)).problems for seed in range(1, 21))


def test_a_forgotten_salvage_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that was whole when its worker died, and is asked for once more, shows in the account."""
    monkeypatch.setattr(Reconciler, "_salvage", lambda *_: None)
    assert any("asked for" in problem for problem in caught(monkeypatch, lives=40, works=8))


def test_chance_that_leaks_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that comes from the system makes two lives differ, and the report says how to replay them."""
    monkeypatch.setattr(SeededRandom, "uuid", lambda _: uuid.uuid4().hex)
    out = io.StringIO()
    assert main(["--first", "4", "--seeds", "1", "--works", "1"], out=out) == 1
    assert "1 differences" in out.getvalue()
    assert "python -m quire.testing.simulation --first 4 --seeds 1 --trace --works 1" in out.getvalue()


# The machine


def test_time_is_what_the_timers_say() -> None:
    """An hour of sleep takes no time, and who sleeps less wakes first."""
    within = machine()
    process = started(within)
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(name)

    async def all_of_them() -> float:
        await asyncio.gather(sleeper("hour", 3_600), sleeper("second", 1), sleeper("minute", 60))
        return asyncio.get_running_loop().time()

    before = time.perf_counter()
    run(process, all_of_them())
    assert woken == ["second", "minute", "hour"]
    assert 3_600 <= within.clock.elapsed_s < 3_601
    assert time.perf_counter() - before < 5


def test_timeouts_and_cancels_are_real_in_virtual_time() -> None:
    """``asyncio.timeout`` ends a wait; a cancelled coroutine runs its ``finally`` and says so."""
    process = started(machine())
    tidied: list[str] = []

    async def late() -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(10)
        except TimeoutError:
            return "late"
        return "in time"

    async def long() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            tidied.append("tidied")

    assert run(process, late()) == "late"
    told: list[Any] = []
    cancel = process.gather(long(), told.append)
    process.later(1.0, cancel)
    process.run_until(lambda: bool(told), timeout_s=None)
    assert tidied == ["tidied"]
    assert isinstance(told[0], asyncio.CancelledError)


def test_disk_work_answers_with_its_result_or_its_error() -> None:
    """``block`` and ``aside`` give what the work gave, or what it raised."""
    process = started(machine())
    told: list[Any] = []
    process.block(lambda: 1, told.append)
    process.block(lambda: [][0], told.append)
    process.run_until(lambda: len(told) == 2, timeout_s=None)
    assert sorted(type(one).__name__ for one in told) == ["IndexError", "int"]

    async def beside() -> int:
        return await process.aside(lambda: 7)

    assert run(process, beside()) == 7


def test_who_waits_for_nothing_is_told() -> None:
    """Where nothing is left to run, waiting is an error, not a hang."""
    process = started(machine())
    with pytest.raises(StalledError, match="nothing is left to run"):
        process.run_until(lambda: False, timeout_s=None)


def test_waiting_ends_with_its_time() -> None:
    """A bounded wait ends in virtual time, also while timers go on for ever."""
    within = machine()
    process = started(within)

    def again() -> None:
        process.later(1.0, again)

    again()
    process.run_until(lambda: False, timeout_s=30)
    assert 30 <= within.clock.elapsed_s < 32


class Counter(Actor):
    """Counts its messages."""

    def __init__(self, counts: list[Any]) -> None:
        super().__init__()
        self._counts = counts

    def handle(self, message: Any) -> Any:
        """Count, and answer with the count."""
        self._counts.append(message)
        return len(self._counts)


def test_actors_ask_and_stop_without_a_thread() -> None:
    """Tell, ask, restart and an orderly stop work on a process as they do on threads."""
    within = machine()
    process = started(within)
    scheduler: Scheduler = process
    clock: Clock = within.clock
    counts: list[Any] = []
    system = System(scheduler=scheduler, clock=clock, on_fatal=lambda *_: None)
    one = system.start("one", lambda: Counter(counts))
    one.tell("first")
    assert one.ask("second", timeout_s=1) == 2
    one.tell("third")
    assert system.stop([[one]], timeout_s=1) == []
    assert counts == ["first", "second", "third"]
    assert isinstance(process, Stepping)


def ordered(seed: int) -> list[str]:
    """The order in which two actors come to their messages."""
    within = machine(seed)
    process = started(within)
    seen: list[str] = []
    system = System(scheduler=process, clock=within.clock, on_fatal=lambda *_: None)
    actors = [system.start(name, lambda: Counter(seen)) for name in ("a", "b")]
    for n in range(6):
        for actor in actors:
            actor.tell(f"{actor.name}{n}")
    process.run_until(lambda: len(seen) == 12, timeout_s=None)
    return seen


def test_the_seed_draws_the_order() -> None:
    """Each actor keeps the order of its messages; between two, every seed has its own, always the same."""
    orders = [ordered(seed) for seed in range(20)]
    assert orders == [ordered(seed) for seed in range(20)]
    assert len({tuple(order) for order in orders}) > 5
    assert all([m for m in order if m[0] == "a"] == [f"a{n}" for n in range(6)] for order in orders)


@pytest.mark.parametrize("point", ["step", "after_disk", "user"])
def test_a_killed_process_takes_no_step_more(point: Any) -> None:
    """At the drawn moment whoever waits gets ``Killed``; what was on its way stays undone."""
    within = machine()
    process = started(within)
    process.death = Death(point, 1)
    did: list[str] = []
    process.block(lambda: did.append("work"), lambda _: did.append("told"))
    with pytest.raises(Killed):
        process.run_until(lambda: "told" in did, timeout_s=None)
    assert did == (["work", "told"] if point == "after_disk" else [])
    assert within.living == ()


def test_a_stopped_process_stands_still_while_others_go_on() -> None:
    """A pause holds the actors, loop and timers of one process, and nobody else's."""
    within = machine()
    one, two = started(within, "one"), started(within, "two")
    one.pauses = [Pause(0, 100.0)]
    seen: list[tuple[str, float]] = []
    for process in (one, two):
        process.later(1.0, lambda name=process.name: seen.append((name, within.clock.elapsed_s)))  # type: ignore[misc]
    two.run_until(lambda: len(seen) == 2, timeout_s=None)
    assert [name for name, _ in seen] == ["two", "one"]
    assert seen[1][1] >= 100


def test_the_wall_clock_may_jump_and_the_boot_clock_does_not() -> None:
    """Setting the clock, and a reboot, do to the two clocks what they do on a machine."""
    clock = VirtualClock(chance_of(1, "clock"))
    wall, boot, named = clock.wall_ns(), clock.boot_ns(), clock.boot_id
    clock.step_wall(-3_600)
    assert (clock.wall_ns() - wall, clock.boot_ns()) == (-3_600 * 10**9, boot)
    clock.reboot()
    assert clock.boot_id != named
    with pytest.raises(InvariantError):
        clock.advance_to(-1)


def test_spoiled_answers_further_on_excuse_the_first_address() -> None:
    """A request that failed at the second hop is asked again from the first: the ledger knows why."""
    ledger = HarmedLedger()
    first, second = "https://a.example/one", "https://b.example/two"
    ledger.begin(first, "GET")
    ledger.leads(first, second)
    ledger.harm(second, arrived=False)
    ledger.begin(first, "GET")
    assert (ledger.asked(first), ledger.asked(second)) == (1, 0)
    ledger.harm(first, arrived=True)
    assert ledger.asked(first) == 0


def test_lives_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder and no open file is left, however often processes were killed."""
    monkeypatch.setattr(life_module, "SHARED_MEMORY", tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for seed in (2, 3, 4):
        live(seed, works=WORKS)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
