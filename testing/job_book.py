"""What may become of a job, told event by event from SPEC's rules: the model of JobMachine.

The book reads the log behind the actors. An event that the rules do not allow at that place is a failure,
and what the tables must show is worked out from the book alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..events.facts import (
    CrashRecovery,
    IdempotencyReplay,
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
)
from ..events.job import STREAM_PREFIX
from ..events.projections import EVERYTHING
from ..events.record import Recorded
from ..events.work import Work

MILESTONES = (
    "PLANNED",
    "LEASED",
    "HEAD_DONE",
    "RESUME_OK",
    "STREAMING",
    "FINALIZED",
    "INDEXED",
)
"""The way of a generation, forward only; from anywhere on it may fail."""
AT_AN_END = ("INDEXED", "FAILED")
POISON = "poison"


@dataclass
class OpEntry:
    """An effect as the book knows it."""

    kind: str
    what: str
    """The source or URL that it is about."""
    epoch: int
    code: str = ""
    """``""`` while it is in flight."""
    repeated: bool = False


@dataclass
class Entry:
    """A job as the book knows it."""

    work: Work
    planned_at: int
    lists: list[str]
    priority: int
    state: str = "PLANNED"
    generation: int = 1
    epoch: int = 0
    version: int = 1
    holder: str = ""
    until_ns: int = 0
    alone: bool = False
    takeovers: int = 0
    not_before_ns: int = 0
    reason: str = ""
    may_retry: bool = False
    source: str = ""
    ops: dict[str, OpEntry] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Its generation is over."""
        return self.state in AT_AN_END

    def over(self) -> set[str]:
        """The sources whose turn of this generation ended with a result."""
        turns = (op for op in self.ops.values() if op.kind == "FALLBACK")
        return {op.what for op in turns if op.code in ("NON_RETRYABLE", "RETRYABLE")}

    def answered(self) -> set[str]:
        """The ops of kind HEAD whose answer is final."""
        return {name for name, op in self.ops.items() if op.kind == "HEAD" and op.code == "NON_RETRYABLE"}


class JobBook:
    """All jobs; ``is_gone`` says of a worker, at the time of a claim, whether its lease may be taken."""

    def __init__(self, is_gone: Callable[[str, int], bool], *, lonely_after: int) -> None:
        self.jobs: dict[str, Entry] = {}
        self.position = 0
        self._is_gone = is_gone
        self._lonely_after = lonely_after
        self._rules: dict[type, Callable[[Entry, Any, Recorded[Any]], None]] = {
            JobListed: self._listed,
            JobLeased: self._leased,
            LeaseRenewed: self._renewed,
            LeaseReleased: self._released,
            JobStateChanged: self._changed,
            JobWaiting: self._waits,
            JobRequeued: self._requeued,
            OperationStarted: self._started,
            OperationCompleted: self._completed,
            IdempotencyReplay: self._replayed,
            CrashRecovery: self._recovered,
        }

    def __repr__(self) -> str:
        return f"<JobBook {len(self.jobs)} jobs at position {self.position}>"

    def take(self, recorded: Recorded[Any]) -> None:
        """Take the next event of the log, if the rules allow it."""
        assert recorded.position == self.position + 1
        self.position += 1
        job_id = recorded.stream.removeprefix(STREAM_PREFIX)
        event = recorded.event
        if isinstance(event, JobPlanned):
            assert job_id not in self.jobs, "a work is planned once"
            self.jobs[job_id] = Entry(event.work, recorded.position, [event.list_id], event.priority)
            return
        job = self.jobs[job_id]
        job.version += 1
        assert recorded.version == job.version, "versions of a job have no gaps"
        wanted = job.epoch + isinstance(event, JobLeased)
        assert recorded.epoch == wanted, f"epoch {recorded.epoch} wrote {event}; the job is at {wanted}"
        if type(event) in self._rules:
            self._rules[type(event)](job, event, recorded)

    # Lists and generations

    def _listed(self, job: Entry, event: JobListed, _: Recorded[Any]) -> None:
        assert event.list_id not in job.lists, "a job is put on a list once"
        job.lists.append(event.list_id)

    def _requeued(self, job: Entry, event: JobRequeued, _: Recorded[Any]) -> None:
        assert job.state == "FAILED", f"a job that is {job.state} opens no generation"
        assert event.generation == job.generation + 1
        assert job.may_retry or event.reason == "retry_failed", "a final failure is retried by a person alone"
        job.state, job.generation, job.ops = "PLANNED", event.generation, {}
        job.reason, job.may_retry, job.takeovers = "", False, 0
        job.not_before_ns = event.not_before_ns

    # Leases

    def _leased(self, job: Entry, event: JobLeased, recorded: Recorded[Any]) -> None:
        assert not job.finished, "a finished job is leased to nobody"
        assert event.takeover == bool(job.holder)
        if job.holder and job.holder != event.worker:
            assert self._is_gone(job.holder, job.until_ns), f"{event.worker} took a job of {job.holder}"
        deaths = job.takeovers + bool(job.holder)
        lonely = deaths >= self._lonely_after
        assert event.alone == lonely or job.alone, f"after {deaths} deaths it runs alone: {event}"
        job.alone = event.alone or (job.alone and bool(job.holder))
        job.holder, job.until_ns, job.epoch = event.worker, event.until_ns, recorded.epoch
        job.takeovers, job.not_before_ns, job.reason = job.takeovers + event.takeover, 0, ""

    def _renewed(self, job: Entry, event: LeaseRenewed, _: Recorded[Any]) -> None:
        if job.holder:  # else it was on its way when its owner let go, and says nothing
            job.until_ns = event.until_ns

    def _released(self, job: Entry, _event: LeaseReleased, _: Recorded[Any]) -> None:
        assert job.holder, "a lease that nobody has is released"
        job.holder, job.alone = "", False

    # States and effects

    def _changed(self, job: Entry, event: JobStateChanged, _: Recorded[Any]) -> None:
        assert event.before == job.state, f"a step from {event.before}, and the job is {job.state}"
        assert not job.finished, f"{job.state} is an end"
        if event.state != "FAILED":
            assert MILESTONES.index(event.state) > MILESTONES.index(job.state), "states go forward only"
        elif event.reason == POISON:
            assert job.alone, "a job is poison when it killed its worker with nothing beside it"
        job.state, job.takeovers, job.may_retry = event.state, 0, event.may_retry
        job.reason = event.reason or job.reason
        job.source = event.artifact.source if event.artifact else job.source
        if job.finished:
            job.ops, job.not_before_ns = {}, 0

    def _waits(self, job: Entry, event: JobWaiting, _: Recorded[Any]) -> None:
        assert not job.finished
        job.not_before_ns, job.reason = event.not_before_ns, event.reason

    def _started(self, job: Entry, event: OperationStarted, recorded: Recorded[Any]) -> None:
        before = job.ops.get(event.op_id)
        what = str(event.about.get("source") or event.about.get("url") or "")
        if before is not None:
            assert before.code not in ("", "OK", "NON_RETRYABLE"), f"{event.kind} of {what!r} is redone"
        if event.kind == "FALLBACK":
            assert what not in job.over(), f"the turn of {what!r} had its result, and is redone"
        repeated = before is not None and (before.repeated or before.code not in ("", "ABANDONED"))
        job.ops[event.op_id] = OpEntry(event.kind, what, recorded.epoch, repeated=repeated)

    def _completed(self, job: Entry, event: OperationCompleted, _: Recorded[Any]) -> None:
        op = job.ops[event.op_id]
        assert not op.code, f"{op.kind} of {op.what!r} ended twice"
        op.code = event.code
        if event.code != "ABANDONED" and not op.repeated:
            job.takeovers = 0

    def _replayed(self, job: Entry, event: IdempotencyReplay, _: Recorded[Any]) -> None:
        assert job.ops[event.op_id].code in ("OK", "NON_RETRYABLE"), "what has no result is replayed"

    def _recovered(self, job: Entry, event: CrashRecovery, _: Recorded[Any]) -> None:
        op = job.ops[event.op_id]
        assert not op.code, "what had ended is recovered"
        assert op.epoch < job.epoch, "an effect of the owner itself is recovered"

    # What the tables must show

    def lists_of(self, job: Entry) -> list[str]:
        """The lists of a job, and the list of everything."""
        return [EVERYTHING, *(name for name in job.lists if name != EVERYTHING)]

    def claimable(self, list_id: str) -> list[str]:
        """The free jobs of a list, in the order in which they are claimed."""
        free = [
            (job.priority, job.planned_at, job_id)
            for job_id, job in self.jobs.items()
            if not job.finished and not job.holder and not job.not_before_ns and list_id in self.lists_of(job)
        ]
        return [job_id for _, _, job_id in sorted(free)]

    def waiting(self, list_id: str) -> list[str]:
        """The jobs of a list that a gate holds back, soonest first."""
        held = [
            (job.not_before_ns, job_id)
            for job_id, job in self.jobs.items()
            if not job.finished and not job.holder and job.not_before_ns and list_id in self.lists_of(job)
        ]
        return [job_id for _, job_id in sorted(held)]

    def counts(self) -> dict[str, int]:
        """The tallies of all lists."""
        names = Counter[str]()
        for job in self.jobs.values():
            for list_id in self.lists_of(job):
                names.update(f"{list_id}|{word}" for word in self._words(job))
        return dict(names)

    def _words(self, job: Entry) -> list[str]:
        words = [f"state:{job.state}"]
        if job.state == "FAILED":
            return [*words, f"reason:{job.reason}", f"failed:{'retryable' if job.may_retry else 'final'}"]
        if job.finished:
            return [*words, f"source:{job.source}"]
        words.append("unfinished")
        if job.holder:
            words.append("leased")
        elif job.not_before_ns:
            words.append(f"waiting:{job.reason}")
        return words
