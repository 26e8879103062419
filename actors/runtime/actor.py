"""The one base class of quire's actors: pykka's actor with a loop that loses nothing.

pykka's own loop stops for good at the first failing tell and leaves the queue behind it, stops *all*
actors of the process at SystemExit, and handles on after a failing ask as if nothing were wrong. Here
every failure ends this actor object and becomes a notice to the supervisor, which puts a new object in
its place behind the same mailbox.

The loop is made of ``step``, which never waits. Threads run ``_actor_loop``; a stepping scheduler gets the
same bound method from ``Scheduler.spawn`` and calls ``loop.__self__.step(1)`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from ...errors import InvariantError
from .mailbox import ActorStoppedError, Mailbox
from .ports import Surroundings

if TYPE_CHECKING:
    from .address import Address


class Supervisor(Protocol):
    """Who is told how an actor's life ends; called in the actor's thread, as the last thing there."""

    def failed(self, actor: Actor, error: BaseException) -> None:
        """It failed; what it did not handle is in its mailbox again."""
        ...

    def ended(self, actor: Actor) -> None:
        """It stopped because it was asked to."""
        ...


class Actor(pykka.ThreadingActor):
    """Handles its messages one after the other, in a thread of its own; made and started by ``System.start``.

    A failure of any hook or of ``handle`` ends the object. The message that failed becomes a dead
    letter. When ``handle_all`` is overridden and fails, all messages given to it do: which of them took
    effect is unknown here, and handling one twice is worse than reporting it.
    """

    mailbox_max: ClassVar[int] = 100_000
    """Bound of the mailbox, in messages."""
    drain_max: ClassVar[int] = 512
    """Messages that one call of ``handle_all`` gets at most."""

    me: Address
    """Its own address; set before ``started``."""
    system: Surroundings
    """The system it lives in, as far as an actor sees it; set before ``started``."""
    actor_inbox: Mailbox

    def __init__(self) -> None:
        super().__init__()
        self.handled = 0
        """Messages handled by this object."""
        self.threaded = True
        """Whether a thread runs its loop; where the scheduler gave none, somebody has to step it."""
        self._batch_max = self.drain_max
        self._supervisor: Supervisor | None = None
        self._begun = False
        self._by_one = type(self).handle_all is Actor.handle_all

    def __repr__(self) -> str:
        state = "stopped" if self.actor_stopped.is_set() else "running" if self._begun else "new"
        return f"<{type(self).__name__} {self.actor_inbox.name} {state}, {self.handled} handled>"

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do something now."""
        waits = not self._begun or self.actor_inbox.urgent or len(self.actor_inbox) > 0
        return waits and not self.actor_stopped.is_set()

    # Hooks.

    def started(self) -> None:
        """Prepare, in the actor's thread, before the first message."""

    def handle(self, message: Any) -> Any:
        """Handle one message; what is returned answers an ask."""
        raise NotImplementedError(f"{type(self).__name__} does not handle {type(message).__name__}")

    def handle_all(self, messages: Sequence[Any]) -> None:
        """Handle what was drained at once: tells in their order, at most ``drain_max``."""
        for message in messages:
            self.handle(message)

    def stopping(self) -> None:
        """Tidy up, in the actor's thread, after the last message of an orderly stop (not an urgent one)."""

    def fatal(self, _error: BaseException) -> bool:
        """Whether a failure must not be answered with a restart, whatever the policy says."""
        return False

    # What the system calls.

    def adopt(self, system: Surroundings, me: Address, mailbox: Mailbox, supervisor: Supervisor) -> None:
        """Give the new actor its place: behind this address, with the mailbox of its predecessor.

        Raises:
            InvariantError: the object has had a place already.
        """
        if self._supervisor is not None:
            raise InvariantError(
                f"{self!r} was started before: the make of {me.name!r} must build a new actor"
            )
        self.system, self.me, self._supervisor = system, me, supervisor
        self.actor_inbox = self.actor_ref.actor_inbox = mailbox

    def step(self, messages_max: int | None = None) -> bool:
        """Handle, without waiting, what waits (at most ``messages_max``); False when there was nothing."""
        if self.actor_stopped.is_set():
            return False
        if not self._begun:
            self._begin()
            return True
        if self.actor_inbox.urgent:
            self._finish()
            return True
        messages, envelope = self.actor_inbox.drain(messages_max or self._batch_max)
        if messages:
            self._handle_tells(messages, [] if envelope is None else [envelope])
        elif envelope is not None:
            self._handle_envelope(envelope)
        return bool(messages) or envelope is not None

    # pykka's seams; each has a test in tests/test_pykka_seams.py.

    @classmethod
    def _create_actor_inbox(cls) -> Mailbox:
        return Mailbox(cls.mailbox_max)

    def _start_actor_loop(self) -> None:
        """Run the loop on the scheduler; pykka's own ``start`` comes here as well, and is refused."""
        pykka.ActorRegistry.unregister(self.actor_ref)
        if self._supervisor is None:
            raise InvariantError(f"{self!r} has no system: start it with System.start")
        self.threaded = self.system.scheduler.spawn(self._actor_loop, name=self.me.name) is not None

    def _actor_loop(self) -> None:
        while not self.actor_stopped.is_set():
            if not self.step():
                self.actor_inbox.wait()

    # One life.

    def _begin(self) -> None:
        self._begun = True
        try:
            self.started()
        except BaseException as error:  # noqa: BLE001 - also SystemExit ends this actor alone
            self._fail(error)

    def _handle_tells(self, messages: list[Any], after: list[Envelope[Any]]) -> None:
        """Handle a drained run of tells; ``after`` is the ask or stop that was drained behind them."""
        before = self.handled
        try:
            if self._by_one:
                self._handle_each(messages)
            else:
                self.handle_all(messages)
                self.handled += len(messages)
        except BaseException as error:  # noqa: BLE001 - becomes a notice to the supervisor
            done = self.handled - before
            left = done + 1 if self._by_one else len(messages)
            self.actor_inbox.put_back([*messages[left:], *after])
            self._bury(messages[done:left], error)
            self._fail(error)
        else:
            self.actor_inbox.put_back([*messages[self.handled - before :], *after])

    def _handle_each(self, messages: list[Any]) -> None:
        """As the default ``handle_all``, but counting, so that a failure names its message."""
        handle, inbox = self.handle, self.actor_inbox
        for message in messages:
            handle(message)
            self.handled += 1
            if inbox.urgent:
                return

    def _handle_envelope(self, envelope: Envelope[Any]) -> None:
        if isinstance(envelope.message, _ActorStop):
            self._stop_orderly(envelope)
            return
        try:
            response = self.handle(envelope.message)
        except BaseException as error:  # noqa: BLE001 - becomes a notice to the supervisor
            self._bury([envelope.message], error)
            if envelope.reply_to is not None:
                envelope.reply_to.set_exception(self._told(error))
            self._fail(error)
            return
        self.handled += 1
        if envelope.reply_to is not None:
            envelope.reply_to.set(response)

    def _stop_orderly(self, envelope: Envelope[Any]) -> None:
        try:
            self.stopping()
        except BaseException as error:  # noqa: BLE001 - becomes a notice to the supervisor
            self.actor_inbox.put_back([envelope])  # the successor is to stop as well
            self._fail(error)
            return
        self._finish()
        if envelope.reply_to is not None:
            envelope.reply_to.set(None)

    def _finish(self) -> None:
        self.actor_stopped.set()
        if self._supervisor is not None:
            self._supervisor.ended(self)

    def _fail(self, error: BaseException) -> None:
        self.actor_stopped.set()
        if self._supervisor is not None:
            self._supervisor.failed(self, error)

    def _bury(self, messages: list[Any], error: BaseException) -> None:
        why = f"{type(self).__name__} failed on it: {error!r:.300}"
        for message in messages:
            self.actor_inbox.bury(message, why)

    def _told(self, error: BaseException) -> tuple[type[BaseException], BaseException, Any]:
        """What an asker is told of a failure: the original, unless raising that would end the asker."""
        if not isinstance(error, Exception):
            stopped = ActorStoppedError(f"actor {self.actor_inbox.name!r} failed with {error!r}")
            stopped.__cause__ = error
            error = stopped
        return type(error), error, error.__traceback__
