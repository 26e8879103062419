"""What the user of a session asked for, what the actors say of it, and the fault that may end it all.

The user's thread waits here; the actors, on threads of their own, never do.
"""

from __future__ import annotations

import queue
from typing import Any

from ..errors import InvariantError, QuireError
from .messages import Came, ChunkPlanned, Idle
from .outcome import Planned
from .runtime.ports import Scheduler, stand_by


class Errands:
    """The errands of one session, numbered, so that what is said of one left early is told from the next."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._number = 0
        # What the planner and the lease manager tell; None stands for the fault that ended the session.
        self.plans: queue.SimpleQueue[ChunkPlanned | None] = queue.SimpleQueue()
        self.outcomes: queue.SimpleQueue[Came | Idle | None] = queue.SimpleQueue()
        self.fault: QuireError | None = None
        """Why the session had to stop; None while it goes on."""

    def __repr__(self) -> str:
        return f"<Errands {self._number}{f' ended by {self.fault!r}' if self.fault else ''}>"

    def begin(self) -> int:
        """The number of a new errand."""
        self._number += 1
        return self._number

    def planned(self, errand: int) -> Planned:
        """What became of the next chunk of an errand; raises the fault of the session."""
        while True:
            told: ChunkPlanned = self._next(self.plans)
            if told.errand == errand:
                return told.planned

    def came(self, errand: int) -> Came | Idle:
        """What is said next of an errand's jobs; raises the fault of the session."""
        while True:
            told: Came | Idle = self._next(self.outcomes)
            if told.errand == errand:
                return told

    def _next(self, mail: queue.SimpleQueue[Any]) -> Any:
        """What is told next; a session that had to stop says so each time that it is asked."""
        stand_by(self._scheduler, lambda: self.fault is not None or not mail.empty(), timeout_s=None)
        told = None if self.fault else mail.get()
        if told is None:
            raise self.fault or InvariantError("a session without a fault was told that it has one")
        return told

    def fail(self, name: str, error: BaseException) -> None:
        """An actor failed for good: whoever waits for outcomes is told, and the session ends."""
        if not isinstance(error, QuireError):
            fault: QuireError = InvariantError(f"a defect of quire: the {name} failed for good: {error!r}")
            fault.__cause__ = error
        else:
            fault = error
        self.fault = self.fault or fault
        self.plans.put(None)
        self.outcomes.put(None)
