"""One actor and its mailbox: order, bound, stops, and that nothing put into a mailbox is ever lost."""

from __future__ import annotations

import threading
import time
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from quire.actors.runtime.actor import Actor
from quire.actors.runtime.mailbox import ActorStoppedError, AskTimeoutError, Mailbox, MailboxFullError
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import NEVER, System
from quire.errors import QuireError

WAIT_S = 5.0


def until(met) -> bool:
    """Whether a condition is met within WAIT_S."""
    ticks = (time.sleep(0.002) for _ in range(int(WAIT_S / 0.002)))
    return any(met() or tick for tick in ticks) or met()


class Recorder(Actor):
    """Keeps what it handled; waits on a gate where told to."""

    def __init__(self, log: list[Any] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log
        self.entered = threading.Event()
        self.gate = threading.Event()

    def handle(self, message: Any) -> Any:
        if message == "wait":
            self.entered.set()
            assert self.gate.wait(WAIT_S)
        self.log.append(message)
        return message


@pytest.fixture
def system():
    scheduler = ThreadScheduler(disk_threads=1)
    yield System(scheduler=scheduler, clock=SystemClock(), on_fatal=lambda name, error: None)
    scheduler.close()


def start(system: System, actor: Actor, **options: Any):
    return system.start("actor", lambda: actor, **options)


# Order and hooks.


def test_tells_are_handled_in_order_between_started_and_stopping(system):
    """started, every message in order, stopping: all in the actor's one thread."""
    threads = set()

    class Whole(Recorder):
        def started(self) -> None:
            threads.add(threading.current_thread().name)
            self.log.append(("started", self.me.name, self.system is system))

        def handle(self, message: Any) -> None:
            threads.add(threading.current_thread().name)
            self.log.append(message)

        def stopping(self) -> None:
            threads.add(threading.current_thread().name)
            self.log.append("stopping")

    actor = Whole()
    address = start(system, actor)
    for number in range(1000):
        address.tell(number)
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert actor.log == [("started", "actor", True), *range(1000), "stopping"]
    assert threads == {"actor"}


def test_an_ask_keeps_its_place_among_tells(system):
    """An ask is handled after the tells before it and before those after it."""
    actor = Recorder()
    address = start(system, actor)
    address.tell("wait")
    assert actor.entered.wait(WAIT_S)
    address.tell(1)
    asked = threading.Thread(target=address.ask, args=("ask",), kwargs={"timeout_s": WAIT_S})
    asked.start()
    assert until(lambda: address.waiting == 2)
    address.tell(2)
    actor.gate.set()
    asked.join(WAIT_S)
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert actor.log == ["wait", 1, "ask", 2]


def test_handle_all_gets_what_was_drained_bounded_and_in_order(system):
    """``handle_all`` sees runs of tells, never more than ``drain_max``, and no asks."""
    runs: list[list[int]] = []

    class Batching(Recorder):
        drain_max = 10

        def handle_all(self, messages):
            if messages[0] == "wait":
                self.handle("wait")
            runs.append([m for m in messages if m != "wait"])

    actor = Batching()
    address = start(system, actor)
    address.tell("wait")
    assert actor.entered.wait(WAIT_S)
    for number in range(25):
        address.tell(number)
    actor.gate.set()
    assert address.ask("asked", timeout_s=WAIT_S) == "asked"
    assert [len(run) for run in runs] == [0, 10, 10, 5]
    assert [number for run in runs for number in run] == list(range(25))


# The bound.


def test_a_full_mailbox_refuses_and_does_not_wait(system):
    """A tell to a full mailbox raises at once, and what it refused is not handled."""

    class Small(Recorder):
        mailbox_max = 3

    actor = Small()
    address = start(system, actor)
    address.tell("wait")
    assert actor.entered.wait(WAIT_S)
    for number in range(3):
        address.tell(number)
    with pytest.raises(MailboxFullError, match="'actor' holds 3"):
        address.tell("too many")
    with pytest.raises(MailboxFullError):
        address.ask("too many", timeout_s=WAIT_S)
    assert issubclass(MailboxFullError, QuireError)
    address.answer("asked for")
    address.stop()  # a stop always gets in
    actor.gate.set()
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert actor.log == ["wait", 0, 1, 2, "asked for"]


# Stops.


def test_a_graceful_stop_is_in_order(system):
    """What was told before the stop is handled, what was told after it is a dead letter."""
    actor = Recorder()
    address = start(system, actor)
    address.tell("wait")
    address.tell("before")
    address.stop()
    address.tell("after")
    actor.gate.set()
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert actor.log == ["wait", "before"]
    assert [letter.message for letter in system.dead_letters().last] == ["after"]


@pytest.mark.parametrize("batched", [False, True])
def test_an_urgent_stop_overtakes_what_waits(system, batched):
    """After ``stop_now`` only the message (or batch) in hand is finished; the rest are dead letters."""

    class Batching(Recorder):
        drain_max = 1

        def handle_all(self, messages):
            super().handle_all(messages)

        def stopping(self) -> None:
            self.log.append("stopping")

    actor = Batching() if batched else Recorder()
    address = start(system, actor)
    for message in ("wait", 1, 2):
        address.tell(message)
    assert actor.entered.wait(WAIT_S)
    for message in (3, 4):
        address.tell(message)
    address.stop_now()
    actor.gate.set()
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert actor.log == ["wait"]
    assert [letter.message for letter in system.dead_letters().last] == [1, 2, 3, 4]


def test_a_stopped_actor_takes_dead_letters_quietly_and_refuses_asks(system):
    """tell to a stopped actor returns and is counted; ask raises ``ActorStoppedError``."""
    address = start(system, Recorder())
    system.stop([[address]], timeout_s=WAIT_S)
    address.tell("late")
    address.answer("later")
    with pytest.raises(ActorStoppedError, match="'actor' is stopped"):
        address.ask("anyone?", timeout_s=WAIT_S)
    letters = system.dead_letters()
    assert letters.count == 2
    assert [(letter.to, letter.message) for letter in letters.last] == [("actor", "late"), ("actor", "later")]
    assert "stopped" in repr(address)
    assert "actor" in repr(address)


def test_an_ask_that_waits_when_the_actor_stops_is_answered(system):
    """Asks behind a stop, graceful or urgent, get ``ActorStoppedError`` and not silence."""
    actor = Recorder()
    address = start(system, actor)
    address.tell("wait")
    assert actor.entered.wait(WAIT_S)
    address.stop_now()
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    address.mailbox.put(Envelope("asked", future))
    actor.gate.set()
    with pytest.raises(ActorStoppedError, match="gone"):
        future.get(timeout=WAIT_S)


def test_an_ask_that_races_a_stop_is_always_answered(system):
    """Whatever the interleaving of ask and stop, the asker hears within its time."""
    silent = []

    def asks(address) -> None:
        try:
            while True:
                address.ask("x", timeout_s=WAIT_S)
        except ActorStoppedError:
            pass
        except AskTimeoutError as error:
            silent.append(error)

    for number in range(60):
        address = system.start(f"racer-{number}", Recorder)
        askers = [threading.Thread(target=asks, args=(address,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        address.stop_now() if number % 2 else address.stop()
        for asker in askers:
            asker.join(2 * WAIT_S)
    assert silent == []


def test_a_put_between_check_and_close_is_buried_not_lost():
    """The exact interleaving: the check says open, the owner closes and sweeps, then the put happens."""
    buried = []
    mailbox = Mailbox(10)
    mailbox.bury = lambda message, why: buried.append((message, why))

    class ClosesUnderneath:
        def __init__(self, real):
            self.real = real

        def qsize(self):
            mailbox.close("closed meanwhile")  # the offer is past its check
            return 0

        def put(self, item):
            self.real.put(item)

        def get_nowait(self):
            return self.real.get_nowait()

    mailbox._queue = ClosesUnderneath(mailbox._queue)
    assert mailbox.offer("late")
    assert buried == [("late", "closed meanwhile")]


def test_no_ask_goes_unanswered_for_longer_than_it_waits(system):
    """An ask whose actor is busy raises after its timeout, naming actor and message."""
    actor = Recorder()
    address = start(system, actor)
    address.tell("wait")
    with pytest.raises(AskTimeoutError, match=r"'actor' .*0.05 s to 'q'"):
        address.ask("q", timeout_s=0.05)
    actor.gate.set()


# Failures, without restart; restarts are in test_system.


def test_a_failing_ask_gives_the_asker_the_original_exception(system):
    """The asker gets the very exception that the handler raised."""
    error = ValueError("the reason")

    class Fails(Actor):
        def handle(self, message: Any) -> Any:
            raise error

    address = start(system, Fails(), policy=NEVER)
    with pytest.raises(ValueError, match="the reason") as caught:
        address.ask("x", timeout_s=WAIT_S)
    assert caught.value is error


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_an_asker_is_not_made_to_leave_by_the_actor(system, leave):
    """SystemExit in a handler reaches the asker as ``ActorStoppedError``: it must not end the process."""

    class Leaves(Actor):
        def handle(self, message: Any) -> Any:
            raise leave

    other = system.start("other", Recorder)
    address = start(system, Leaves(), policy=NEVER)
    with pytest.raises(ActorStoppedError) as caught:
        address.ask("x", timeout_s=WAIT_S)
    assert isinstance(caught.value.__cause__, leave)
    assert other.ask("alive", timeout_s=WAIT_S) == "alive"


def test_an_ask_for_which_the_actor_dies_is_answered(system):
    """Asks that wait when their actor fails for good get ``ActorStoppedError`` with the cause in words."""

    class Fails(Recorder):
        def handle(self, message: Any) -> Any:
            super().handle(message)
            raise ValueError("broken")

    actor = Fails()
    address = start(system, actor, policy=NEVER)
    address.tell("wait")
    assert actor.entered.wait(WAIT_S)
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    address.mailbox.put(Envelope("asked", future))
    actor.gate.set()
    with pytest.raises(ActorStoppedError, match="broken"):
        future.get(timeout=WAIT_S)


def test_an_actor_that_handles_nothing_says_so(system):
    """An actor without ``handle`` fails with the type of the message instead of swallowing it."""
    address = start(system, Actor(), policy=NEVER)
    with pytest.raises(NotImplementedError, match="Actor does not handle str"):
        address.ask("x", timeout_s=WAIT_S)
