"""The events: every fact that the log can hold, one record each.

Rules: a field is only ever added at the end, with a default; a tag is never reused; a changed meaning
is a new schema version with an upcaster. Durations are in milliseconds, times in nanoseconds.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .work import Work

SCHEMA_VERSION = 2
"""Raised with each changed meaning; ``upcasts`` reads what earlier versions wrote."""

Value = str | int
OpKind = Literal["HEAD", "STREAM", "FALLBACK", "RESOLUTION", "FINALIZE", "INDEX", "DEDUPE"]
OpCode = Literal["OK", "RETRYABLE", "NON_RETRYABLE", "ABANDONED"]
AttemptOutcome = Literal["success", "no_pdf", "nonretryable", "retryable", "timeout", "skipped", "error"]


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every event."""


class Artifact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A PDF on disk, by the hash of its bytes."""

    sha256: str
    bytes: int
    """Size in bytes."""
    source: str = ""
    """The source that led to it; ``""`` when it was held already."""
    pdf_url: str = ""
    proof: str = ""
    """The highest level of proof it passed."""
    title_check: str = ""
    """What its text shows of the work, as ``store.title_check`` says; ``""`` where nobody looked."""


class JobPlanned(Event, frozen=True, tag="job_planned"):
    """A work was asked for, for the first time in this library."""

    work: Work
    artifact_id: str
    url: str
    list_id: str
    label: str = ""
    priority: int = 0
    """Smaller goes first."""


class JobListed(Event, frozen=True, tag="job_listed"):
    """A known job was asked for by another list."""

    list_id: str


class WorkIdentified(Event, frozen=True, tag="work_identified"):
    """Identifiers of the work were learned on the way."""

    work: Work
    source: str


class JobLeased(Event, frozen=True, tag="job_leased"):
    """A worker owns the job, under the epoch of this event, until its time runs out."""

    worker: str
    until_ns: int
    """On the clock of ``boot_id`` (time since boot), never wall-clock."""
    boot_id: str
    takeover: bool = False
    """The owner before died or fell silent."""
    alone: bool = False
    """The job killed workers and is run with nothing beside it."""


class LeaseRenewed(Event, frozen=True, tag="lease_renewed"):
    """The owner is alive."""

    until_ns: int


class LeaseReleased(Event, frozen=True, tag="lease_released"):
    """The owner let the job go."""

    reason: str


class JobStateChanged(Event, frozen=True, tag="job_state_changed"):
    """The job reached a milestone of its generation."""

    before: str
    state: str
    reason: str = ""
    artifact: Artifact | None = None
    may_retry: bool = False
    """A failure for which another generation can help."""


class JobWaiting(Event, frozen=True, tag="job_waiting"):
    """A gate holds the job back; it costs no generation."""

    reason: str
    not_before_ns: int
    """Wall-clock time before which it is not taken up."""
    sources: tuple[str, ...] = ()


class JobRequeued(Event, frozen=True, tag="job_requeued"):
    """A failed job opens a new generation, or one that was home and whose paper was found damaged."""

    generation: int
    reason: str
    not_before_ns: int = 0
    work: Work | None = None
    """The work in full, where the row of the finished generation had no room for all of it."""


class OperationStarted(Event, frozen=True, tag="operation_started"):
    """An effect is about to happen."""

    op_id: str
    kind: OpKind
    about: dict[str, Value]


class OperationCompleted(Event, frozen=True, tag="operation_completed"):
    """An effect ended, or was given up."""

    op_id: str
    kind: OpKind
    code: OpCode
    result: dict[str, Value]
    elapsed_ms: int = 0


class IdempotencyReplay(Event, frozen=True, tag="idempotency_replay"):
    """A terminal result was used again instead of redoing the effect."""

    op_id: str
    kind: OpKind


class CrashRecovery(Event, frozen=True, tag="crash_recovery_event"):
    """An effect in flight of a dead owner was found and given its kind's rule."""

    op_id: str
    kind: OpKind
    rule: str
    dead_worker: str


class FallbackAttempt(Event, frozen=True, tag="fallback_attempt"):
    """One source's turn ended."""

    tier: str
    source: str
    attempt: int
    outcome: AttemptOutcome
    reason: str
    work_id: str
    artifact_id: str
    host: str = ""
    status: int = 0
    """The last HTTP status; 0 when there was none."""
    elapsed_ms: int = 0
    retry_count: int = 0
    url: str = ""
    length: int = 0
    from_cache: bool = False
    """All that the turn asked of services and pages was answered by the HTTP cache, without a request, and it
    asked at least one; the PDF itself never comes from there."""
    meta: dict[str, Value] = {}


class Step(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One turn, or a source passed over, as a summary tells it."""

    source: str
    outcome: AttemptOutcome
    reason: str = ""
    """A short code; ``""`` for a success, and in what schema 1 wrote."""


class FallbackSummary(Event, frozen=True, tag="fallback_summary"):
    """The resolving of one generation ended."""

    outcome: str
    reason: str
    tiers_touched: tuple[str, ...]
    attempts: int
    time_to_success_ms: int = 0
    winner_source: str = ""
    winner_host: str = ""
    path: tuple[Step, ...] = ()
    """Each turn that ended and each source passed over, in order."""


class BreakerChanged(Event, frozen=True, tag="breaker_changed"):
    """A host's breaker opened, half-opened or closed."""

    host: str
    state: Literal["open", "half_open", "closed"]
    reason: str
    failures: int
    until_ns: int = 0
    """Wall-clock time at which it half-opens."""


class LibraryCreated(Event, frozen=True, tag="library_created"):
    """The library's first event: what kind it is for good."""

    library_id: str
    rehearsal: bool
    quire_version: str


class RunStarted(Event, frozen=True, tag="run_started"):
    """A process began to work on the library."""

    worker: str
    list_id: str
    inputs: tuple[str, ...]
    quire_version: str
    pid: int


class RunFinished(Event, frozen=True, tag="run_finished"):
    """A process ended its work in order."""

    worker: str
    outcome: str
    counts: dict[str, int]
    elapsed_ms: int


class QueryPaged(Event, frozen=True, tag="query_paged"):
    """A page of the works that a service listed for a query is planned, all of it."""

    service: str
    query: str
    """As the list is named after it, such as ``filter=is_oa:true``."""
    list_id: str
    asked: str
    """The cursor that the page was asked with; ``*`` for the first, which begins the listing anew."""
    cursor: str
    """The cursor of the next page; ``""`` when the listing is finished."""
    works: int
    """Works in this page, those that could not be read included."""
    count: int
    """Works that the service counted for the whole query."""


AnyEvent = (
    JobPlanned
    | JobListed
    | WorkIdentified
    | JobLeased
    | LeaseRenewed
    | LeaseReleased
    | JobStateChanged
    | JobWaiting
    | JobRequeued
    | OperationStarted
    | OperationCompleted
    | IdempotencyReplay
    | CrashRecovery
    | FallbackAttempt
    | FallbackSummary
    | BreakerChanged
    | LibraryCreated
    | RunStarted
    | RunFinished
    | QueryPaged
)


def type_of(event: Event) -> str:
    """The event's tag, as the log and ``quire log`` name it."""
    return str(type(event).__struct_config__.tag)


def named(value: Any) -> Any:
    """An event or a part of one as plain values with field names, for JSON and people."""
    if isinstance(value, msgspec.Struct):
        return {name: named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [named(item) for item in value]
    return value
