"""A job: one table of states, one row, and the fold that makes the row from its events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from ..errors import StateError
from . import ledger
from .facts import (
    Artifact,
    JobLeased,
    JobListed,
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    LeaseRenewed,
    OperationCompleted,
    OperationStarted,
    OpKind,
    WorkIdentified,
)
from .ledger import Ops
from .record import Recorded
from .work import Work

STREAM_PREFIX = "job/"
ROW_BYTES_MAX = 500
"""Largest packed row of a finished job, in bytes."""
_LABEL_CHARS_MAX = 40


class State(StrEnum):
    """The furthest milestone of a job's generation."""

    PLANNED = "PLANNED"
    LEASED = "LEASED"
    HEAD_DONE = "HEAD_DONE"
    RESUME_OK = "RESUME_OK"
    STREAMING = "STREAMING"
    FINALIZED = "FINALIZED"
    INDEXED = "INDEXED"
    DEDUPED = "DEDUPED"
    SKIPPED_DUPLICATE = "SKIPPED_DUPLICATE"
    FAILED = "FAILED"


_S = State
TRANSITIONS: dict[State, frozenset[State]] = {
    _S.PLANNED: frozenset({_S.LEASED, _S.SKIPPED_DUPLICATE, _S.FAILED}),
    _S.LEASED: frozenset({_S.HEAD_DONE, _S.SKIPPED_DUPLICATE, _S.FAILED}),
    _S.HEAD_DONE: frozenset({_S.RESUME_OK, _S.STREAMING, _S.FAILED}),
    _S.RESUME_OK: frozenset({_S.STREAMING, _S.FAILED}),
    _S.STREAMING: frozenset({_S.FINALIZED, _S.FAILED}),
    _S.FINALIZED: frozenset({_S.INDEXED, _S.DEDUPED, _S.FAILED}),
    _S.INDEXED: frozenset(),
    _S.DEDUPED: frozenset(),
    _S.SKIPPED_DUPLICATE: frozenset(),
    _S.FAILED: frozenset(),
}
"""The one table: state → what may follow within its generation."""

ORDER: dict[State, int] = {state: rank for rank, state in enumerate(State)}
HOME = frozenset({_S.INDEXED, _S.DEDUPED, _S.SKIPPED_DUPLICATE})
"""The states in which the paper is on disk and accounted for."""
FINISHED = HOME | {_S.FAILED}


def check_step(job_id: str, before: State, after: State) -> None:
    """Let a step of the table pass.

    Raises:
        StateError: the table does not hold it; names the job, from and to.
    """
    if after not in TRANSITIONS[before]:
        raise StateError(f"job {job_id}: no step from {before} to {after}")


class LeaseHeld(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who owns a job."""

    worker: str
    epoch: int
    until_ns: int
    """On the clock of ``boot_id``."""
    boot_id: str
    alone: bool = False


class JobRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that is known of a job now."""

    work: Work
    planned_at: int
    """Position of the event that planned it: its age."""
    lists: tuple[str, ...]
    label: str = ""
    priority: int = 0
    state: State = State.PLANNED
    generation: int = 1
    epoch: int = 0
    reason: str = ""
    """Why it failed or waits."""
    may_retry: bool = False
    failed_ns: int = 0
    """Wall-clock time of the failure; the backoff counts from here."""
    not_before_ns: int = 0
    """Wall-clock time before which it is not taken up; 0: at once."""
    lease: LeaseHeld | None = None
    takeovers: int = 0
    """Deaths of owners since the last milestone or op."""
    attempts: int = 0
    """Turns of sources, over all generations."""
    spent_ms: int = 0
    """Resolving time of this generation."""
    ops: Ops[OpKind] = {}
    artifact: Artifact | None = None
    version: int = 0
    """Version of the job's stream."""
    planned_as: str = ""
    """The work_id that the job's key was made of, where identifiers learned later come before it."""

    @property
    def work_id(self) -> str:
        """The work_id that the job's key was made of."""
        return self.planned_as or self.work.work_id

    @property
    def finished(self) -> bool:
        """Whether its generation has ended."""
        return self.state in FINISHED

    @property
    def home(self) -> bool:
        """Whether its paper is on disk."""
        return self.state in HOME

    @property
    def waiting(self) -> bool:
        """Whether a gate or a backoff holds it back."""
        return not self.finished and self.not_before_ns > 0


def stream_of(job_id: str) -> str:
    """The stream of a job."""
    return STREAM_PREFIX + job_id


def fold_job(row: JobRow | None, recorded: Recorded[Any]) -> JobRow | None:
    """The row after an event; the first must be ``job_planned``."""
    event = recorded.event
    if isinstance(event, JobPlanned):
        return JobRow(
            work=event.work,
            planned_at=recorded.position,
            lists=(event.list_id,),
            label=event.label[:_LABEL_CHARS_MAX],
            priority=event.priority,
            version=recorded.version,
        )
    if row is None:
        return None
    step = _FOLDS.get(type(event))
    row = step(row, event, recorded) if step else row
    return msgspec.structs.replace(row, version=recorded.version)


def _listed(row: JobRow, event: JobListed, _: Recorded[Any]) -> JobRow:
    row = msgspec.structs.replace(row, lists=tuple(dict.fromkeys((*row.lists, event.list_id))))
    return _packed(row) if row.finished else row


def _identified(row: JobRow, event: WorkIdentified, _: Recorded[Any]) -> JobRow:
    work = row.work.merged(event.work)
    planned_as = "" if work.work_id == row.work_id else row.work_id
    return msgspec.structs.replace(row, work=work, planned_as=planned_as)


def _leased(row: JobRow, event: JobLeased, recorded: Recorded[Any]) -> JobRow:
    lease = LeaseHeld(event.worker, recorded.epoch, event.until_ns, event.boot_id, event.alone)
    return msgspec.structs.replace(
        row,
        lease=lease,
        epoch=recorded.epoch,
        not_before_ns=0,
        reason="",
        takeovers=row.takeovers + event.takeover,
    )


def _renewed(row: JobRow, event: LeaseRenewed, _: Recorded[Any]) -> JobRow:
    if row.lease is None:
        return row
    return msgspec.structs.replace(row, lease=msgspec.structs.replace(row.lease, until_ns=event.until_ns))


def _released(row: JobRow, _event: LeaseReleased, _: Recorded[Any]) -> JobRow:
    return msgspec.structs.replace(row, lease=None)


def _waits(row: JobRow, event: JobWaiting, _: Recorded[Any]) -> JobRow:
    return msgspec.structs.replace(row, reason=event.reason, not_before_ns=event.not_before_ns)


def _requeued(row: JobRow, event: JobRequeued, _: Recorded[Any]) -> JobRow:
    return msgspec.structs.replace(
        row,
        work=event.work or row.work,
        state=State.PLANNED,
        generation=event.generation,
        reason="",
        may_retry=False,
        failed_ns=0,
        not_before_ns=event.not_before_ns,
        spent_ms=0,
        ops={},
        takeovers=0,
    )


def _op_started(row: JobRow, event: OperationStarted, recorded: Recorded[Any]) -> JobRow:
    ops = ledger.started(
        row.ops, event, epoch=recorded.epoch, time_ns=recorded.time_ns, version=recorded.version
    )
    return msgspec.structs.replace(row, ops=ops, attempts=row.attempts + (event.kind == "FALLBACK"))


def _op_completed(row: JobRow, event: OperationCompleted, _: Recorded[Any]) -> JobRow:
    spent = event.result.get("spent_ms", 0)
    op = row.ops.get(event.op_id)
    # What a dead owner had done already and is done again is no progress: else a job that kills its worker
    # within a stream would look sound at every opening of the URL, and kill for ever.
    progress = event.code != "ABANDONED" and not (op is not None and op.repeated)
    return msgspec.structs.replace(
        row,
        ops=ledger.completed(row.ops, event),
        spent_ms=max(row.spent_ms, spent if isinstance(spent, int) else 0),
        takeovers=0 if progress else row.takeovers,
    )


def _changed(row: JobRow, event: JobStateChanged, recorded: Recorded[Any]) -> JobRow:
    state = State(event.state)
    row = msgspec.structs.replace(
        row,
        state=state,
        reason=event.reason or row.reason,
        may_retry=event.may_retry,
        artifact=event.artifact or row.artifact,
        takeovers=0,
    )
    return _finished(row, recorded) if row.finished else row


def _finished(row: JobRow, recorded: Recorded[Any]) -> JobRow:
    """A finished job's row: its ops leave (the log has them), and it fits the bound."""
    failed_ns = recorded.time_ns if row.state is State.FAILED else 0
    return _packed(msgspec.structs.replace(row, ops={}, not_before_ns=0, failed_ns=failed_ns))


def _packed(row: JobRow) -> JobRow:
    """The row with its long texts cut, in the order of ``_CUTS``, until it fits; the log has all of them.

    A failed job keeps its identifiers, or its title where it has none: its next generation needs them.
    """
    for where, field in _CUTS:
        excess = _excess(row)
        if excess <= 0:
            break
        if not row.home and (where == "work" and (field != "title" or not row.work.identifiers())):
            continue
        part = getattr(row, where) if where else row
        if part is not None:
            text = "" if field == "pdf_url" else _cut(getattr(part, field), excess)
            part = msgspec.structs.replace(part, **{field: text})
            row = msgspec.structs.replace(row, **{where: part}) if where else part
    return row


def _excess(row: JobRow) -> int:
    """Bytes above the bound; a lease does not count, since it is released in the same commit."""
    return len(msgspec.msgpack.encode(msgspec.structs.replace(row, lease=None))) - ROW_BYTES_MAX


def _cut(text: str, excess: int) -> str:
    kept = text.encode()[: -(excess + len("…".encode()))].decode(errors="ignore")
    return f"{kept}…" if kept else ""


_CUTS = (
    ("work", "title"),
    ("artifact", "pdf_url"),
    ("", "planned_as"),
    ("work", "url"),
    ("", "label"),
    ("work", "doi"),
)
"""Where a finished row's long texts are, the most dispensable first."""


_FOLDS: dict[type, Any] = {
    JobListed: _listed,
    WorkIdentified: _identified,
    JobLeased: _leased,
    LeaseRenewed: _renewed,
    LeaseReleased: _released,
    JobWaiting: _waits,
    JobRequeued: _requeued,
    OperationStarted: _op_started,
    OperationCompleted: _op_completed,
    JobStateChanged: _changed,
}
