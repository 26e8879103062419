"""The resolver: brings every job in hand home, or says why not.

It runs all jobs by tells: a job is a row and a small machine, not an actor. What it does is in three
rooms: the desk (jobs, log, machine), the turns of the sources, and storing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..config.settings import Quire
from ..events.facts import JobWaiting, LeaseReleased
from ..events.projections import PARKED_NS
from .desk import Desk
from .directory import Directory
from .holdings import Holdings, inside_rollout
from .job_in_hand import JobInHand
from .messages import (
    AdapterRestarted,
    CancelTurn,
    CandidatesFound,
    Lost,
    NotStored,
    Opened,
    Rejected,
    Resolve,
    Stored,
    Streamed,
    TurnEnded,
)
from .runtime.actor import Actor
from .runtime.journal import Journaled
from .runtime.ports import Clock, Scheduler
from .sources.finding import Finder
from .storing import Storing
from .turns import Turns
from .web.exchange import Web
from .web.slots import Slots

TICK_S = 0.2
"""How often deadlines are looked at, in seconds."""


class Tick:
    """Time to look at the deadlines."""


class Resolver(Actor):
    """Runs the fallback machines of the jobs in hand."""

    def __init__(
        self,
        *,
        directory: Directory,
        settings: Quire,
        finders: Mapping[str, Finder],
        web: Web,
        holdings: Holdings,
        clock: Clock,
        scheduler: Scheduler,
        slots: Slots,
    ) -> None:
        """``slots`` line up the jobs that a rate holds back; see ``Desk``."""
        super().__init__()
        self._desk = Desk(
            me=lambda: self.me,
            directory=directory,
            settings=settings,
            finders=finders,
            web=web,
            holdings=holdings,
            clock=clock,
            slots=slots,
        )
        turns = Turns(self._desk)
        self._storing = Storing(self._desk, turns)
        self._scheduler = scheduler
        self._handlers: dict[type, Callable[[Any], None]] = {
            Resolve: self._resolve,
            Journaled: self._desk.journaled,
            CandidatesFound: turns.candidates_found,
            Opened: turns.opened,
            Rejected: turns.rejected,
            TurnEnded: turns.turn_ended,
            Streamed: self._storing.streamed,
            Stored: self._storing.stored,
            NotStored: self._storing.not_stored,
            AdapterRestarted: turns.adapter_restarted,
            Lost: self._lost,
            Tick: self._tick,
        }

    def started(self) -> None:
        """Begin to look at the clock."""
        self._scheduler.later(TICK_S, lambda: self.me.tell(Tick()))

    def fatal(self, _error: BaseException) -> bool:
        """Always: what is under way here stands in no log; a new session goes on from the ledger."""
        return True

    def handle(self, message: Any) -> None:
        """Do what the message asks for."""
        self._handlers[type(message)](message)

    def stopping(self) -> None:
        """Let every job go as it stands; its next owner goes on from the ledger."""
        for job in list(self._desk.jobs.values()):
            if job.letting_go:
                continue
            for turn in job.turns.values():
                self._desk.adapter(turn).tell(CancelTurn(turn.id))
            self._desk.commit(job, [LeaseReleased("shutdown")])

    def statistics(self) -> dict[str, int]:
        """Jobs and turns in hand."""
        jobs = self._desk.jobs
        return {"jobs": len(jobs), "turns": sum(len(job.turns) for job in jobs.values())}

    def _resolve(self, message: Resolve) -> None:
        """Take a job up: as a duplicate, with the bytes of a dead owner, or from its first source."""
        desk, row = self._desk, message.row
        job = JobInHand(message.job_id, row, desk.plan_of(row), now_ms=desk.now_ms())
        desk.jobs[job.job_id] = job
        if not inside_rollout(desk.settings.fallback.rollout, job.job_id):
            desk.let_go(job, [JobWaiting("rollout", PARKED_NS), LeaseReleased("rollout")])
            return
        self._storing.take_up(job, message.salvage)

    def _lost(self, message: Lost) -> None:
        job = self._desk.jobs.get(message.job_id)
        if job is not None and job.epoch == message.epoch:
            self._desk.drop(job)

    def _tick(self, _message: Tick) -> None:
        self._scheduler.later(TICK_S, lambda: self.me.tell(Tick()))
        now = self._desk.now_ms()
        for job in list(self._desk.jobs.values()):
            waits_for_disk = job.winner is not None and job.winner.turn is None
            commands = [] if job.letting_go or waits_for_disk else job.machine.tick(now)
            if commands:
                self._desk.do(job, commands, [])
        self._storing.ask_again_for_stale(now)
