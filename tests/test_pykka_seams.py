"""Every underscore name of pykka that quire stands on, so that an upgrade that moves one fails here."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from quire.actors.runtime.actor import Actor
from quire.actors.runtime.mailbox import ActorStoppedError, Mailbox
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import RestartPolicy, System
from quire.errors import InvariantError

WAIT_S = 5.0


class Echo(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def handle(self, message: Any) -> Any:
        self.seen.append(message)
        return message


@pytest.fixture
def system():
    scheduler = ThreadScheduler(disk_threads=1)
    yield System(scheduler=scheduler, clock=SystemClock(), on_fatal=lambda name, error: None)
    scheduler.close()


def test_create_actor_inbox_is_called_by_init_and_shared_with_the_ref():
    """``Actor.__init__`` takes its inbox from ``_create_actor_inbox`` and gives the ref the same one."""
    actor = Echo()
    assert isinstance(actor.actor_inbox, Mailbox)
    assert actor.actor_ref.actor_inbox is actor.actor_inbox
    assert actor.actor_inbox.messages_max == Echo.mailbox_max


def test_start_calls_start_actor_loop_after_registering():
    """pykka's own ``start`` ends in ``_start_actor_loop``, which refuses and leaves nothing registered."""
    with pytest.raises(InvariantError, match=r"System\.start"):
        Echo.start()
    assert pykka.ActorRegistry.get_all() == []


def test_a_started_actor_is_not_in_the_global_registry(system):
    """``ActorRegistry.stop_all``, which any pykka actor's SystemExit calls, does not reach quire's actors."""
    address = system.start("echo", Echo)
    assert pykka.ActorRegistry.get_all() == []
    pykka.ActorRegistry.stop_all()
    assert address.ask("alive", timeout_s=WAIT_S) == "alive"


def test_the_actor_loop_is_ours(system):
    """``_actor_loop`` is what the scheduler runs; pykka's ``_actor_loop_running`` is never entered."""
    ran = []

    class Told(Echo):
        def _actor_loop_running(self) -> None:
            ran.append("pykka")

        def _actor_loop(self) -> None:
            ran.append("ours")
            super()._actor_loop()

    assert system.start("told", Told).ask(1, timeout_s=WAIT_S) == 1
    assert ran == ["ours"]


def test_the_loop_given_to_spawn_leads_a_stepping_scheduler_to_step():
    """A scheduler that spawns no thread finds ``step`` at ``loop.__self__``."""

    class Stepping(ThreadScheduler):
        def spawn(self, loop, *, name):
            self.loop = loop

    scheduler = Stepping(disk_threads=1)
    system = System(scheduler=scheduler, clock=SystemClock(), on_fatal=lambda name, error: None)
    address = system.start("echo", Echo)
    actor = scheduler.loop.__self__
    address.tell(1)
    address.tell(2)
    assert actor.step(1)  # started()
    assert actor.step(1)
    assert actor.seen == [1]
    assert actor.step(1)
    assert not actor.step(1)
    assert actor.seen == [1, 2]


def test_envelope_has_message_and_reply_to():
    """``Envelope(message, reply_to)`` with exactly these slots: the form in which asks and stops wait."""
    future = pykka.ThreadingFuture()
    envelope = Envelope("m", future)
    assert (envelope.message, envelope.reply_to) == ("m", future)
    assert Envelope("m").reply_to is None
    assert Envelope.__slots__ == ["message", "reply_to"]


def test_the_ref_puts_envelopes_and_stops_with_actor_stop(system):
    """pykka's ``ActorRef`` tells, asks and stops through ``put(Envelope)``, the stop as ``_ActorStop``."""
    made = []

    def make() -> Echo:
        made.append(Echo())
        return made[-1]

    system.start("echo", make)
    ref = made[0].actor_ref
    ref.tell("told")
    assert ref.ask("asked", timeout=WAIT_S) == "asked"
    assert ref.stop(timeout=WAIT_S) is True
    assert made[0].seen == ["told", "asked"]
    assert ref.stop(timeout=WAIT_S) is False
    assert isinstance(_ActorStop(), tuple)


def test_a_stop_through_the_ref_gets_into_a_full_mailbox():
    """``_ActorStop`` is known in its envelope and is not held to the bound."""
    mailbox = Mailbox(1)
    mailbox.offer("full")
    mailbox.put(Envelope(_ActorStop()))
    assert len(mailbox) == 2


def test_the_ref_of_a_successor_leads_to_the_mailbox_of_the_name(system):
    """``ActorRef.actor_inbox`` is what the ref puts into, so it has to move with the mailbox."""
    made = []

    class Frail(Echo):
        def handle(self, message: Any) -> Any:
            return 1 / message

    def make() -> Frail:
        made.append(Frail())
        return made[-1]

    address = system.start("frail", make, policy=RestartPolicy(backoff_s=0))
    with pytest.raises(ZeroDivisionError):
        address.ask(0, timeout_s=WAIT_S)
    assert address.ask(1, timeout_s=WAIT_S) == 1
    assert made[1].actor_ref.ask(2, timeout=WAIT_S) == 0.5


def test_the_ref_of_a_gone_actor_raises_what_pykka_promises():
    """``ActorStoppedError`` is a ``pykka.ActorDeadError``, so that pykka's callers know it."""
    mailbox = Mailbox(1)
    mailbox.close("test")
    with pytest.raises(pykka.ActorDeadError) as caught:
        mailbox.put(Envelope(1))
    assert isinstance(caught.value, ActorStoppedError)


def test_actor_stop_from_inside_is_in_order(system):
    """pykka's public ``Actor.stop()`` ends the actor after what waits, through our lane."""
    handled = []
    gate = threading.Event()

    class Quits(Actor):
        def handle(self, message: Any) -> None:
            handled.append(message)
            if message == "quit":
                gate.wait(WAIT_S)
                self.stop()

    address = system.start("quits", Quits)
    address.tell("quit")
    address.tell("before")
    gate.set()
    assert system.stop([[address]], timeout_s=WAIT_S) == []
    assert handled == ["quit", "before"]


def test_future_gives_back_value_and_exc_info():
    """``ThreadingFuture``: ``set_exception`` takes a triple, ``get`` raises it, or ``pykka.Timeout``."""
    future = pykka.ThreadingFuture()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0)
    error = ValueError("x")
    future.set_exception((ValueError, error, None))
    with pytest.raises(ValueError, match="x") as caught:
        future.get(timeout=0)
    assert caught.value is error


def test_no_name_of_ours_hides_one_of_pykkas():
    """Only the seams are overridden; a new pykka attribute with one of our names is noticed."""
    ours = {name for name in vars(Actor) if not name.startswith("__")} | set(Actor.__annotations__)
    theirs = set(dir(pykka.ThreadingActor)) | set(pykka.Actor.__annotations__)
    seams = {"_create_actor_inbox", "_start_actor_loop", "_actor_loop", "actor_inbox"}
    assert {name for name in ours & theirs if not name.startswith("_abc")} == seams
