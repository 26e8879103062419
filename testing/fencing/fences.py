"""Fences read off a log: under each epoch of a job only the run that opened it may have spoken.

The store refuses what comes under an older epoch. Whoever reads the log need not believe it: an epoch that
goes back, a word by another run than the one that leased the job, and a word after its lease was given back
are all seen here. (But for a renewal: the lease manager may ask for one while the resolver's last word is on
its way. It renews nothing then, and it is the owner's own.)
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...actors.waking import SET_BACK, WOKEN
from ...events.facts import (
    CrashRecovery,
    FallbackAttempt,
    FallbackSummary,
    IdempotencyReplay,
    JobLeased,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    LeaseRenewed,
    OperationCompleted,
    OperationStarted,
    RunStarted,
    WorkIdentified,
    type_of,
)
from ...events.job import STREAM_PREFIX
from ...events.record import Recorded

OWNERS_WORDS = (
    CrashRecovery,
    FallbackAttempt,
    FallbackSummary,
    IdempotencyReplay,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    LeaseRenewed,
    OperationCompleted,
    OperationStarted,
    WorkIdentified,
)
"""What only the owner of a job says; to plan, list and requeue it is anybody's."""


class Tenure(msgspec.Struct):
    """One worker's time with a job."""

    epoch: int
    worker: str
    run: str
    over: bool = False
    """The lease was given back."""


class Takeover(msgspec.Struct, frozen=True):
    """A lease that was taken from somebody who had not given it back."""

    position: int
    stream: str
    loser: str
    """The worker that had the job."""
    winner: str


class Fences:
    """The owners of all jobs, folded from the log; and every word that none of them could say."""

    def __init__(self) -> None:
        self.position = 0
        self.stale: list[str] = []
        """What stands in the log under an epoch that was over, or by a run that had no lease."""
        self.takeovers: list[Takeover] = []
        self.workers: dict[int, str] = {}
        """Process id → its latest worker."""
        self._tenures: dict[str, Tenure] = {}

    def __repr__(self) -> str:
        return f"<Fences to {self.position}, {len(self.takeovers)} takeovers, {len(self.stale)} stale>"

    def tell(self, recorded: Recorded[Any]) -> None:
        """Take in the next event."""
        self.position = recorded.position
        event = recorded.event
        if isinstance(event, RunStarted):
            self.workers[event.pid] = event.worker
        elif isinstance(event, JobLeased):
            self._leased(recorded, event)
        elif recorded.stream.startswith(STREAM_PREFIX):
            self._said(recorded)

    def held_by(self, worker: str) -> list[str]:
        """Streams of the jobs that a worker has leased now."""
        return [name for name, one in self._tenures.items() if one.worker == worker and not one.over]

    def taken_from(self, worker: str, after: int) -> list[Takeover]:
        """What was taken from a worker behind a position."""
        return [one for one in self.takeovers if one.loser == worker and one.position > after]

    def _leased(self, recorded: Recorded[Any], event: JobLeased) -> None:
        before = self._tenures.get(recorded.stream)
        due = before.epoch + 1 if before is not None else 1
        if recorded.epoch != due:
            self._wrong(recorded, f"opens epoch {recorded.epoch} where {due} was due")
        if before is not None and not before.over:
            self.takeovers.append(Takeover(recorded.position, recorded.stream, before.worker, event.worker))
        self._tenures[recorded.stream] = Tenure(recorded.epoch, event.worker, recorded.run_id)

    def _said(self, recorded: Recorded[Any]) -> None:
        tenure, event = self._tenures.get(recorded.stream), recorded.event
        if recorded.epoch != (tenure.epoch if tenure is not None else 0):
            self._wrong(recorded, f"speaks under epoch {recorded.epoch}, now is {tenure}")
        elif tenure is not None and _is_owners(event):
            if recorded.run_id != tenure.run:
                self._wrong(recorded, f"is by run {recorded.run_id}, the owner is {tenure}")
            elif tenure.over and not isinstance(event, LeaseRenewed):
                self._wrong(recorded, f"comes after its lease was given back by {tenure}")
            tenure.over = tenure.over or isinstance(event, LeaseReleased)

    def _wrong(self, recorded: Recorded[Any], what: str) -> None:
        kind = type_of(recorded.event)
        self.stale.append(f"{recorded.stream} at {recorded.position}: {kind} {what}")


def _is_owners(event: Any) -> bool:
    if isinstance(event, JobWaiting):
        return event.reason not in (WOKEN, SET_BACK)
    return isinstance(event, OWNERS_WORDS)
