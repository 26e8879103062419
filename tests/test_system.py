"""Supervision, addresses, dead letters and shutdown: an actor may die, its messages may not vanish."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from quire.actors.runtime.actor import Actor
from quire.actors.runtime.address import LETTERS_KEPT
from quire.actors.runtime.mailbox import ActorStoppedError
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import NEVER, RestartPolicy, System
from quire.errors import UsageError

WAIT_S = 5.0
AT_ONCE = RestartPolicy(restarts_max=3, backoff_s=0)


def until(met: Callable[[], bool]) -> bool:
    """Whether a condition is met within WAIT_S."""
    ticks = (time.sleep(0.002) for _ in range(int(WAIT_S / 0.002)))
    return any(met() or tick for tick in ticks) or met()


class Poison(Exception):
    pass


class Eater(Actor):
    """Keeps what it handled in a list that outlives it; fails on what is an exception."""

    def __init__(self, eaten: list[Any]) -> None:
        super().__init__()
        self.eaten = eaten
        self.gate = threading.Event()

    def handle(self, message: Any) -> Any:
        if isinstance(message, threading.Event):
            assert message.wait(WAIT_S)
        elif isinstance(message, BaseException):
            raise message
        else:
            self.eaten.append(message)
        return message


class Fatal:
    """An ``on_fatal`` that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, BaseException]] = []
        self.called = threading.Event()

    def __call__(self, name: str, error: BaseException) -> None:
        self.calls.append((name, error))
        self.called.set()


class SteppedClock(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.ahead_ns = 0

    def boot_ns(self) -> int:
        return super().boot_ns() + self.ahead_ns


class Delays(ThreadScheduler):
    """Makes timers at once and keeps the delays that were asked for."""

    def __init__(self) -> None:
        super().__init__(disk_threads=2)
        self.delays: list[float] = []

    def later(self, delay_s, call):
        self.delays.append(delay_s)
        return super().later(0, call)


@pytest.fixture
def fatal():
    return Fatal()


@pytest.fixture
def scheduler():
    scheduler = Delays()
    yield scheduler
    scheduler.close()


@pytest.fixture
def clock():
    return SteppedClock()


@pytest.fixture
def system(scheduler, clock, fatal):
    return System(scheduler=scheduler, clock=clock, on_fatal=fatal)


def letters(system: System) -> list[Any]:
    return [letter.message for letter in system.dead_letters().last]


# Restarts.


@pytest.mark.parametrize("error", [Poison("p"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_new_actor_takes_over_the_mailbox_of_the_failed_one(system, error):
    """After a failing tell the rest of the queue is handled in order by a new object at the same address."""
    eaten: list[Any] = []
    made = []

    def make() -> Eater:
        made.append(Eater(eaten))
        return made[-1]

    address = system.start("eater", make, policy=AT_ONCE)
    gate = threading.Event()
    for message in (gate, 1, error, 2, 3):
        address.tell(message)
    gate.set()
    assert address.ask(4, timeout_s=WAIT_S) == 4
    assert eaten == [1, 2, 3, 4]
    assert len(made) == 2
    assert made[1].me is made[0].me is address
    assert letters(system) == [error]
    assert "failed on it" in system.dead_letters().last[0].why
    account = system.statistics()["eater"]
    assert (account.handled, account.restarts, account.state) == (5, 1, "running")


def test_a_failing_ask_is_a_failure_too(system):
    """The asker gets the exception, the actor is replaced, and what waited behind is handled."""
    eaten: list[Any] = []
    address = system.start("eater", lambda: Eater(eaten), policy=AT_ONCE)
    poison = Poison()
    with pytest.raises(Poison):
        address.ask(poison, timeout_s=WAIT_S)
    assert letters(system) == [poison]
    assert address.ask(1, timeout_s=WAIT_S) == 1
    assert system.statistics()["eater"].restarts == 1


def test_what_follows_an_ask_or_a_stop_behind_the_poison_is_kept(system):
    """The ask drained together with a failing tell is answered by the successor, and so is the stop."""
    eaten: list[Any] = []
    address = system.start("eater", lambda: Eater(eaten), policy=AT_ONCE)
    gate = threading.Event()
    address.tell(gate)
    address.tell(Poison())
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    address.mailbox.put(Envelope(7, future))
    gate.set()
    assert future.get(timeout=WAIT_S) == 7
    gate = threading.Event()
    address.tell(gate)
    address.tell(Poison())
    address.stop()
    gate.set()
    assert system.stop([[address]], timeout_s=WAIT_S) == []


def test_a_failed_batch_becomes_dead_letters_as_a_whole(system):
    """When an overridden ``handle_all`` fails, none of its messages is handled twice; later ones go on."""
    eaten: list[Any] = []

    class Batching(Eater):
        drain_max = 3

        def handle_all(self, messages):
            for message in messages:
                self.handle(message)

    address = system.start("eater", lambda: Batching(eaten), policy=AT_ONCE)
    assert address.ask("begun", timeout_s=WAIT_S)
    gate = threading.Event()
    address.tell(gate)
    assert until(lambda: address.waiting == 0)
    poison = Poison()
    for message in (1, poison, 2, 3, 4):
        address.tell(message)
    gate.set()
    assert address.ask(5, timeout_s=WAIT_S) == 5
    assert eaten == ["begun", 1, 3, 4, 5]
    assert letters(system) == [1, poison, 2]


def test_a_failure_of_started_is_answered_by_policy(system, scheduler):
    """An actor that cannot start is tried again, after doubling waits; messages wait for it."""
    eaten: list[Any] = []
    lives = []

    class SlowToCome(Eater):
        def started(self) -> None:
            lives.append(1)
            if len(lives) < 3:
                raise Poison

    address = system.start("late", lambda: SlowToCome(eaten), policy=RestartPolicy(backoff_s=0.25))
    address.tell(1)
    assert address.ask(2, timeout_s=WAIT_S) == 2
    assert eaten == [1, 2]
    assert scheduler.delays == [0.25, 0.5]


def test_a_failure_of_make_during_a_restart_is_answered_by_policy(system):
    """A constructor that fails counts as a failure, and the next one may succeed."""
    eaten: list[Any] = []
    makes = []

    def make() -> Eater:
        makes.append(1)
        if len(makes) == 2:
            raise Poison
        return Eater(eaten)

    address = system.start("eater", make, policy=AT_ONCE)
    address.tell(Poison())
    assert address.ask(1, timeout_s=WAIT_S) == 1
    assert system.statistics()["eater"].restarts == 2


def test_a_make_that_gives_the_same_object_again_is_refused(system, fatal):
    """A failed object is never used again, even when ``make`` offers it."""
    actor = Eater([])
    address = system.start("same", lambda: actor, policy=AT_ONCE)
    address.tell(Poison())
    assert fatal.called.wait(WAIT_S)
    assert "must build a new actor" in str(fatal.calls[0][1])


def test_at_the_cap_the_name_is_given_up(system, fatal):
    """After ``restarts_max`` the queue is dead letters, asks are answered, on_fatal hears name and error."""
    address = system.start("doomed", lambda: Eater([]), policy=RestartPolicy(restarts_max=1, backoff_s=0))
    gate, last = threading.Event(), Poison("last")
    for message in (gate, Poison("first"), last, "left"):
        address.tell(message)
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    address.mailbox.put(Envelope("asked", future))
    gate.set()
    assert fatal.called.wait(WAIT_S)
    assert fatal.calls == [("doomed", last)]
    with pytest.raises(ActorStoppedError, match="last"):
        future.get(timeout=WAIT_S)
    assert letters(system)[1:] == [last, "left", "asked"]
    assert address.state == "failed"
    address.tell("even later")
    assert letters(system)[-1] == "even later"


def test_restarts_outside_the_window_are_forgotten(system, clock, fatal):
    """The cap counts restarts within the window alone."""
    address = system.start(
        "old", lambda: Eater([]), policy=RestartPolicy(restarts_max=1, window_s=60, backoff_s=0)
    )
    for _ in range(3):
        address.tell(Poison())
        assert address.ask(1, timeout_s=WAIT_S) == 1
        clock.ahead_ns += 61_000_000_000
    assert system.statistics()["old"].restarts == 3
    assert fatal.calls == []


def test_never_means_never(system, fatal):
    """Under NEVER the first failure is fatal and no second actor is made."""
    made = []

    def make() -> Eater:
        made.append(1)
        return Eater([])

    address = system.start("once", make, policy=NEVER)
    address.tell(Poison())
    assert fatal.called.wait(WAIT_S)
    assert len(made) == 1


def test_on_fatal_may_stop_the_system(scheduler, clock):
    """Stopping everybody, the usual answer to a fatal failure, does not wait for the failed one itself."""
    late: list[list[str]] = []

    def stop_all(_name: str, _error: BaseException) -> None:
        late.append(system.stop([[other, address]], timeout_s=WAIT_S))

    system = System(scheduler=scheduler, clock=clock, on_fatal=stop_all)
    other = system.start("other", lambda: Eater([]))
    address = system.start("once", lambda: Eater([]), policy=NEVER)
    address.tell(Poison())
    assert until(lambda: bool(late))
    assert late == [[]]
    assert (other.state, address.state) == ("stopped", "failed")


def test_a_failing_on_fatal_does_not_stop_the_rest(scheduler, clock):
    """An on_fatal that raises is logged; asks are still answered and other actors live."""

    def broken(name: str, error: BaseException) -> None:
        raise RuntimeError("on_fatal itself")

    system = System(scheduler=scheduler, clock=clock, on_fatal=broken)
    other = system.start("other", lambda: Eater([]))
    address = system.start("once", lambda: Eater([]), policy=NEVER)
    address.tell(Poison())
    assert until(lambda: address.state == "failed")
    assert other.ask(1, timeout_s=WAIT_S) == 1


def test_system_exit_in_a_handler_leaves_the_process_running():
    """A process whose actor raises SystemExit goes on and ends with its own code."""
    program = """
import sys, threading
from quire.actors.runtime.actor import Actor
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import NEVER, System

class Leaves(Actor):
    def handle(self, message):
        if message == "leave":
            sys.exit(9)
        return message

fatal = threading.Event()
scheduler = ThreadScheduler(disk_threads=1)
system = System(scheduler=scheduler, clock=SystemClock(), on_fatal=lambda *_: fatal.set())
other = system.start("other", Leaves)
system.start("leaves", Leaves, policy=NEVER).tell("leave")
assert fatal.wait(5)
print(other.ask("still here", timeout_s=5))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "still here\n"), ran.stderr


# Names and starts.


def test_a_name_in_use_is_refused_and_a_free_one_may_be_used_again(system):
    """Two living actors never share a name."""
    first = system.start("name", lambda: Eater([]))
    with pytest.raises(UsageError, match="'name'"):
        system.start("name", lambda: Eater([]))
    system.stop([[first]], timeout_s=WAIT_S)
    second = system.start("name", lambda: Eater([]))
    assert second.ask(1, timeout_s=WAIT_S) == 1
    assert first != second
    assert len({first, second, first}) == 2
    with pytest.raises(UsageError, match="given to another"):
        system.stop([[first]], timeout_s=WAIT_S)


def test_what_make_raises_at_the_start_is_raised_to_the_caller(system):
    """The first constructor's error belongs to whoever starts, and the name stays free."""

    def make() -> Eater:
        raise Poison("constructor")

    with pytest.raises(Poison, match="constructor"):
        system.start("name", make)
    assert system.start("name", lambda: Eater([])).ask(1, timeout_s=WAIT_S) == 1


def test_a_start_that_the_scheduler_refuses_leaves_the_name_free(system, scheduler, monkeypatch):
    """If no thread can be had the error is raised and the name can be used again."""

    def refuse(loop, *, name):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "spawn", refuse)
        with pytest.raises(RuntimeError):
            system.start("name", lambda: Eater([]))
    assert system.start("name", lambda: Eater([])).ask(1, timeout_s=WAIT_S) == 1


def test_a_policy_that_makes_no_sense_is_refused():
    """Negative counts and times are a usage error."""
    with pytest.raises(UsageError):
        RestartPolicy(restarts_max=-1)


# Dead letters.


def test_dead_letters_are_all_counted_and_the_last_are_kept(system):
    """The count is exact, the memory is bounded."""
    address = system.start("gone", lambda: Eater([]))
    system.stop([[address]], timeout_s=WAIT_S)
    for number in range(LETTERS_KEPT + 50):
        address.tell(number)
    dead = system.dead_letters()
    assert dead.count == LETTERS_KEPT + 50
    assert [letter.message for letter in dead.last] == list(range(50, LETTERS_KEPT + 50))
    assert "150 dead letters" in repr(system)


# Shutdown.


def test_stop_goes_phase_by_phase(system):
    """A later phase still receives and handles what an earlier one sends at its very end."""
    log: list[Any] = []

    class Last(Eater):
        def stopping(self) -> None:
            log.append("last stopped")

    last = system.start("last", lambda: Last(log))

    class First(Eater):
        def handle(self, message: Any) -> None:
            time.sleep(0.01)
            last.tell(message)

        def stopping(self) -> None:
            last.tell("first stopped")

    first = system.start("first", lambda: First([]))
    for number in range(5):
        first.tell(number)
    assert system.stop([[first], [last]], timeout_s=WAIT_S) == []
    assert log == [0, 1, 2, 3, 4, "first stopped", "last stopped"]
    assert system.dead_letters().count == 0
    assert repr(system).startswith("<System 2 stopped")


def test_stop_names_who_did_not_stop_in_time(system):
    """A stuck actor is named, told to stop at once, and does not hold up the rest for ever."""
    gate = threading.Event()
    stuck = system.start("stuck", lambda: Eater([]))
    other = system.start("other", lambda: Eater([]))
    stuck.tell(gate)
    assert until(lambda: stuck.waiting == 0)
    stuck.tell("left")
    begun = time.monotonic()
    late = system.stop([[stuck], [other]], timeout_s=0.2)
    assert "stuck" in late
    assert time.monotonic() - begun < 2
    gate.set()
    assert until(lambda: stuck.state == "stopped")
    assert letters(system) == ["left"]


def test_a_failing_stopping_is_tried_again_and_then_given_up(system, fatal):
    """An actor that cannot stop orderly still stops, and on_fatal hears why."""

    class Sticky(Eater):
        def stopping(self) -> None:
            raise Poison("sticky")

    address = system.start("sticky", lambda: Sticky([]), policy=RestartPolicy(restarts_max=1, backoff_s=0))
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert until(lambda: bool(fatal.calls))
    assert str(fatal.calls[0][1]) == "sticky"


def test_an_urgent_stop_during_a_restart_is_obeyed(system):
    """Nobody is started any more for an actor that was stopped at once while it was being replaced."""
    gate, made, started = threading.Event(), [], []

    class Starting(Eater):
        def started(self) -> None:
            started.append(1)

    def make() -> Starting:
        made.append(1)
        if len(made) == 2:
            gate.wait(WAIT_S)
        return Starting([])

    address = system.start("eater", make, policy=AT_ONCE)
    address.tell(Poison())
    assert until(lambda: len(made) == 2)
    address.tell("left")
    address.stop_now()
    gate.set()
    assert until(lambda: address.state == "stopped")
    assert letters(system)[-1] == "left"
    assert len(started) == 1


def test_a_stop_steps_actors_that_have_no_thread(clock, fatal):
    """Under a stepping scheduler ``stop`` handles what waits itself, so that it can end at all."""

    class Threadless(ThreadScheduler):
        def spawn(self, loop, *, name):
            return None

    scheduler = Threadless(disk_threads=1)
    system = System(scheduler=scheduler, clock=clock, on_fatal=fatal)
    eaten: list[Any] = []
    one, two = (system.start(name, lambda: Eater(eaten)) for name in ("one", "two"))
    one.tell(1)
    two.tell(2)
    assert system.stop([[one, two]], timeout_s=WAIT_S) == []
    assert eaten == [1, 2]
    scheduler.close()


def test_a_restart_that_the_scheduler_refuses_gives_the_name_up(clock, fatal):
    """After the scheduler is closed a failing actor is fatal with its own error, not silent."""
    scheduler = ThreadScheduler(disk_threads=1)
    system = System(scheduler=scheduler, clock=clock, on_fatal=fatal)
    address = system.start("eater", lambda: Eater([]))
    scheduler.close()
    poison = Poison()
    address.tell(poison)
    assert fatal.called.wait(WAIT_S)
    assert fatal.calls == [("eater", poison)]
