"""What happens when an actor fails: a new one takes its place, by policy, or its name is given up."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from ...errors import UsageError
from .actor import Actor
from .address import ActorState, Address
from .ports import NANOSECONDS, Surroundings

log = logging.getLogger(__name__)


class RestartPolicy(msgspec.Struct, frozen=True):
    """How often a failing actor is replaced before its name is given up."""

    restarts_max: int = 3
    """Restarts within the window; the failure after them is fatal."""
    window_s: float = 60
    """Seconds after which a restart is forgotten."""
    backoff_s: float = 0.1
    """Seconds before the first restart of a window; doubled for each one after."""

    def __post_init__(self) -> None:
        if self.restarts_max < 0 or self.window_s <= 0 or self.backoff_s < 0:
            raise UsageError(f"no such restart policy: {self!r}; counts and times are positive")


RESTART = RestartPolicy()
"""The default."""

NEVER = RestartPolicy(restarts_max=0)
"""The first failure is fatal."""


class ActorStatistics(msgspec.Struct, frozen=True):
    """One name's account."""

    name: str
    state: ActorState
    handled: int
    """Messages handled by all actors of this name so far."""
    waiting: int
    restarts: int


class Child:
    """One name in a system: its address, and the actors that play it one after another.

    No lock: one actor lives at a time and is the last to touch this record before its successor
    begins; other threads only read, or put a stop into the mailbox.
    """

    def __init__(
        self, system: Surroundings, address: Address, make: Callable[[], Actor], policy: RestartPolicy
    ) -> None:
        self.system = system
        self.address = address
        self.restarts = 0
        self.stepped = False
        """The scheduler gave its actor no thread: somebody has to step it."""
        self.gone = threading.Event()
        """Set when no actor will play this name any more and its mailbox is closed."""
        self._make = make
        self._policy = policy
        self._recent: deque[int] = deque(maxlen=max(1, policy.restarts_max))  # boot_ns of the restarts
        self._handled_before = 0
        self._actor: Actor | None = None

    def __repr__(self) -> str:
        return f"<Child {self.address.name} {self.address.state}, {self.restarts} restarts>"

    def statistics(self) -> ActorStatistics:
        """The account of this name now."""
        actor, before = self._actor, self._handled_before
        return ActorStatistics(
            self.address.name,
            self.address.state,
            before + (actor.handled if actor is not None else 0),
            self.address.waiting,
            self.restarts,
        )

    def begin(self, actor: Actor) -> None:
        """Let a new actor play the name from now on."""
        mailbox = self.address.mailbox
        actor.adopt(self.system, self.address, mailbox, self)
        self._actor = actor
        self.address.state = "running"
        actor._start_actor_loop()
        self.stepped = not actor.threaded

    def step(self) -> bool:
        """Step the actor where no thread does; False when there is nothing to step."""
        actor = self._actor
        return self.stepped and actor is not None and actor.step()

    # The end of an actor, told by itself.

    def ended(self, _actor: Actor) -> None:
        """The actor stopped as it was asked to."""
        self._close("stopped", "stopped before it came to this message")

    def failed(self, actor: Actor, error: BaseException) -> None:
        """The actor failed: replace it, or give the name up."""
        self._handled_before += actor.handled
        self._actor = None
        if actor.fatal(error):
            self._give_up(error)
        else:
            self._replace(error)

    def _replace(self, error: BaseException) -> None:
        now = self.system.clock.boot_ns()
        while self._recent and now - self._recent[0] > self._policy.window_s * NANOSECONDS:
            self._recent.popleft()
        if len(self._recent) >= self._policy.restarts_max:
            self._give_up(error)
            return
        delay_s = self._policy.backoff_s * 2 ** len(self._recent)
        self._recent.append(now)
        self.restarts += 1
        self.address.state = "restarting"
        log.warning("actor %s failed, a new one starts in %.3g s", self.address.name, delay_s, exc_info=error)
        self._later(delay_s, error)

    def _later(self, delay_s: float, error: BaseException) -> None:
        """Build the successor after the backoff, on the pool: a constructor may take its time."""
        scheduler = self.system.scheduler
        try:
            scheduler.later(delay_s, lambda: scheduler.block(self._make, self._born))
        except Exception:
            log.exception("the scheduler takes no restart of actor %s", self.address.name)
            self._give_up(error)

    def _born(self, actor: Actor | BaseException) -> None:
        if self.address.mailbox.urgent:
            self._close("stopped", "stopped while it was being restarted")
            return
        try:
            if isinstance(actor, BaseException):
                raise actor
            self.begin(actor)
        except BaseException as error:  # noqa: BLE001 - whatever a constructor raises is a failure
            self._actor = None
            self._replace(error)

    def _give_up(self, error: BaseException) -> None:
        log.error("actor %s failed for good", self.address.name, exc_info=error)
        self._close("failed", f"the actor failed for good: {error!r:.300}")
        self.system.fatal(self.address.name, error)

    def _close(self, state: ActorState, why: str) -> None:
        self.address.state = state
        self.address.mailbox.close(why)
        self.gone.set()
