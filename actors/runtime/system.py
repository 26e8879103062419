"""The system: starts actors by name, has them replaced when they fail, and stops them in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from ...errors import UsageError
from .actor import Actor
from .address import Address, DeadLetterOffice, DeadLetters
from .ports import NANOSECONDS, Clock, Scheduler, stand_by
from .supervision import NEVER, RESTART, ActorStatistics, Child, RestartPolicy

__all__ = ["NEVER", "RESTART", "ActorStatistics", "RestartPolicy", "System"]

log = logging.getLogger(__name__)


class System:
    """The parent of all actors of a process."""

    def __init__(
        self, *, scheduler: Scheduler, clock: Clock, on_fatal: Callable[[str, BaseException], None]
    ) -> None:
        """``on_fatal`` gets name and error of an actor that failed for good.

        It is called in that actor's thread (on the scheduler's pool, where no successor could be built),
        so it may stop the system but not close the scheduler.
        """
        self.scheduler = scheduler
        self.clock = clock
        self._on_fatal = on_fatal
        self._office = DeadLetterOffice()
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()  # guards _children

    def __repr__(self) -> str:
        states = [child.address.state for child in self._listed()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return f"<System {counts or 'empty'}, {self._office.letters().count} dead letters>"

    def start(self, name: str, make: Callable[[], Actor], *, policy: RestartPolicy = RESTART) -> Address:
        """Start an actor under a name that no living actor has, and give its address.

        ``make`` builds a new actor each time it is called: now, and for each restart (then on the
        scheduler's pool). What it raises now is raised here; what it raises later is a failure.

        Raises:
            UsageError: the name is in use.
        """
        actor = make()
        address = Address(name, actor.actor_inbox, self._office, partial(stand_by, self.scheduler))
        child = Child(self, address, make, policy)
        with self._lock:
            if name in self._children and not self._children[name].gone.is_set():
                raise UsageError(f"an actor named {name!r} is running: give the new one another name")
            self._children[name] = child
        try:
            child.begin(actor)
        except BaseException:
            child.gone.set()  # the name is free again
            raise
        return address

    def stop(self, phases: Sequence[Sequence[Address]], *, timeout_s: float) -> list[str]:
        """Stop actors orderly, phase by phase, and say which did not stop in time.

        Each actor handles what waits and then ends; a phase begins when the one before has ended. When
        ``timeout_s`` seconds have passed, the rest is told to stop after the message in hand. Not for
        an actor that is among those to be stopped: it would wait for itself.
        """
        deadline = self.clock.boot_ns() + int(timeout_s * NANOSECONDS)
        late: list[str] = []
        for phase in phases:
            children = [self._child(address) for address in phase]
            for child in children:
                child.address.stop()
            self._stand_by(children, (deadline - self.clock.boot_ns()) / NANOSECONDS)
            self._step(children)
            for child in children:
                left_s = 0.0 if child.stepped else (deadline - self.clock.boot_ns()) / NANOSECONDS
                if not child.gone.wait(max(0.0, left_s)):
                    child.address.stop_now()
                    late.append(child.address.name)
        return late

    def dead_letters(self) -> DeadLetters:
        """The messages that nobody handled."""
        return self._office.letters()

    def statistics(self) -> dict[str, ActorStatistics]:
        """Name → handled, waiting and restarts, in the order of starting."""
        return {child.address.name: child.statistics() for child in self._listed()}

    def fatal(self, name: str, error: BaseException) -> None:
        """Tell the owner of the system that an actor failed for good; called by its supervision."""
        try:
            self._on_fatal(name, error)
        except Exception:
            log.exception("on_fatal failed for actor %s", name)

    def _listed(self) -> list[Child]:
        with self._lock:
            return list(self._children.values())

    def _child(self, address: Address) -> Child:
        with self._lock:
            child = self._children.get(address.name)
        if child is None or child.address is not address:
            raise UsageError(f"{address!r} is not of this system, or its name was given to another since")
        return child

    def _stand_by(self, children: Sequence[Child], left_s: float) -> None:
        def gone() -> bool:
            return all(child.gone.is_set() for child in children)

        stand_by(self.scheduler, gone, timeout_s=max(0.0, left_s))

    @staticmethod
    def _step(children: Sequence[Child]) -> None:
        """Where the scheduler gave no threads, nobody else runs the actors while we wait for them."""
        while any([child.step() for child in children]):  # noqa: C419 - all of them take their turn
            pass  # bounded by the stop that waits in each mailbox behind a bounded number of messages
