"""What may become of a job, told event by event from SPEC's rules: the model of JobMachine.

The book reads the log behind the actors. An event that the rules do not allow at that place is a failure,
and what the tables must show is worked out from the book alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..config.settings import Retry
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
from ..events.projections import EVERYTHING, PARKED_NS
from ..events.record import Recorded
from .hand_scheduler import HandClock
from .job_effects import EffectRules
from .job_entry import HOME, WAYS, Entry, OpEntry
from .played import Shelf

POISON = "poison"


class JobBook:
    """All jobs.

    ``is_gone`` says of a worker, at the time of a claim, whether its lease may be taken. The book is read at
    least once between two steps of the clock.
    """

    def __init__(
        self,
        is_gone: Callable[[str, int], bool],
        *,
        lonely_after: int,
        retry: Retry,
        sources: Sequence[str],
        shelf: Shelf,
        clock: HandClock,
    ) -> None:
        self.jobs: dict[str, Entry] = {}
        self.position = 0
        self.ways: Counter[tuple[str, str]] = Counter()
        """Steps between states that were taken; from FAILED to PLANNED by a new generation."""
        self.effects = EffectRules(shelf, clock)
        self._is_gone = is_gone
        self._lonely_after = lonely_after
        self._retry = retry
        self._sources = set(sources)
        self._shelf = shelf
        self._clock = clock
        self._rules: dict[type, Callable[[Entry, Any, Recorded[Any]], None]] = {
            JobListed: self._listed,
            JobLeased: self._leased,
            LeaseRenewed: self._renewed,
            LeaseReleased: self._released,
            JobStateChanged: self._changed,
            JobWaiting: self._waits,
            JobRequeued: self._requeued,
            OperationStarted: self.effects.started,
            OperationCompleted: self.effects.completed,
            IdempotencyReplay: self.effects.replayed,
            CrashRecovery: self.effects.recovered,
        }
        self._ends: dict[str, Callable[[Entry, JobStateChanged], None]] = {
            "LEASED": self._taken_up,
            "FINALIZED": self._finalized,
            "INDEXED": self._indexed,
            "DEDUPED": self._deduped,
            "SKIPPED_DUPLICATE": self._skipped,
            "FAILED": self._failed,
        }

    def __repr__(self) -> str:
        return f"<JobBook {len(self.jobs)} jobs at position {self.position}>"

    def take(self, recorded: Recorded[Any]) -> None:
        """Take the next event of the log, if the rules allow it."""
        assert recorded.position == self.position + 1
        self.position += 1
        if not recorded.stream.startswith(STREAM_PREFIX):
            return
        job_id = recorded.stream.removeprefix(STREAM_PREFIX)
        event = recorded.event
        if isinstance(event, JobPlanned):
            assert job_id not in self.jobs, "a work is planned once"
            self.jobs[job_id] = Entry(job_id, event.work, recorded.position, [event.list_id], event.priority)
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

    def _requeued(self, job: Entry, event: JobRequeued, recorded: Recorded[Any]) -> None:
        assert job.state == "FAILED", f"a job that is {job.state} opens no generation"
        assert event.generation == job.generation + 1
        assert event.not_before_ns == 0, "who asks for a failed job gets it at once"
        if event.reason != "retry_failed":
            assert self.may_go_again(job, recorded.time_ns), f"not yet, or by a person alone: {job}"
        self._step(job, "PLANNED")
        job.generation, job.ops, job.must_store = event.generation, {}, set()
        job.reason, job.may_retry, job.takeovers, job.failed_ns = "", False, 0, 0

    def may_go_again(self, job: Entry, wall_ns: int) -> bool:
        """Whether a failed job opens a generation when its work is asked for; else it is a dead letter."""
        rest_ns = int(self._retry.backoff_s * 2 ** (job.generation - 1)) * 1_000_000_000
        rested = not job.failed_ns <= wall_ns < job.failed_ns + rest_ns  # before: the clock was set back
        return job.may_retry and job.generation < self._retry.generations_max and rested

    # Leases

    def _leased(self, job: Entry, event: JobLeased, recorded: Recorded[Any]) -> None:
        assert not job.finished, "a finished job is leased to nobody"
        if job.not_before_ns != PARKED_NS:
            assert recorded.time_ns >= job.not_before_ns, f"{job} was taken before its gate opens"
        assert event.takeover == bool(job.holder)
        if job.holder and job.holder != event.worker:
            assert self._is_gone(job.holder, job.until_ns), f"{event.worker} took a job of {job.holder}"
        deaths = job.takeovers + bool(job.holder)
        lonely = deaths >= self._lonely_after
        assert event.alone == lonely or job.alone, f"after {deaths} deaths it runs alone: {event}"
        job.alone = event.alone or (job.alone and bool(job.holder))
        job.dead_worker = job.holder
        self.effects.take_up(job)
        job.holder, job.until_ns, job.epoch = event.worker, event.until_ns, recorded.epoch
        job.takeovers, job.not_before_ns, job.reason = job.takeovers + event.takeover, 0, ""

    def _renewed(self, job: Entry, event: LeaseRenewed, _: Recorded[Any]) -> None:
        if job.holder:  # else it was on its way when its owner let go, and says nothing
            job.until_ns = event.until_ns

    def _released(self, job: Entry, _event: LeaseReleased, _: Recorded[Any]) -> None:
        assert job.holder, "a lease that nobody has is released"
        job.holder, job.alone = "", False

    # States and effects

    def _step(self, job: Entry, state: str) -> None:
        self.ways[job.state, state] += 1
        job.state = state

    def _changed(self, job: Entry, event: JobStateChanged, recorded: Recorded[Any]) -> None:
        assert event.before == job.state, f"a step from {event.before}, and the job is {job.state}"
        assert event.state in WAYS[job.state], f"no step leads from {job.state} to {event.state}"
        if event.state in self._ends:
            self._ends[event.state](job, event)
        self._step(job, event.state)
        job.takeovers, job.may_retry = 0, event.may_retry
        job.reason = event.reason or job.reason
        if event.artifact:
            job.source, job.sha256 = event.artifact.source, event.artifact.sha256
        if job.finished:
            job.ops, job.not_before_ns, job.must_store = {}, 0, set()
            job.failed_ns = 0 if job.home else recorded.time_ns

    def _taken_up(self, job: Entry, _event: JobStateChanged) -> None:
        held = [one for one in self._others(job) if self._same_work(one, job)]
        assert not held, f"{job.job_id[:8]} goes to the network for what {held[0].job_id[:8]} holds"

    def _finalized(self, job: Entry, event: JobStateChanged) -> None:
        sha256 = event.artifact.sha256 if event.artifact else ""
        done = [op for op in job.of_kind("FINALIZE") if (op.what, op.code) == (sha256, "OK")]
        assert done, f"{sha256[:8]} is finalised, and the ledger has no such effect"

    def _indexed(self, job: Entry, _event: JobStateChanged) -> None:
        others = [one for one in self._others(job) if one.sha256 == job.sha256]
        assert not others, f"{job.sha256[:8]} is indexed twice, by {others}"
        self._ended_ok(job, "INDEX")

    def _deduped(self, job: Entry, _event: JobStateChanged) -> None:
        target = self.jobs[self._ended_ok(job, "DEDUPE").target]
        assert target is not job, f"{job} points to itself"
        assert target in self._others(job), f"{job} points to {target}, which has nothing"
        assert target.sha256 == job.sha256, f"{job} points to {target}, which has other bytes"

    def _ended_ok(self, job: Entry, kind: str) -> OpEntry:
        done = [op for op in job.of_kind(kind) if (op.what, op.code) == (job.sha256, "OK")]
        assert done, f"the ledger has no {kind} of {job.sha256[:8]}"
        return done[-1]

    def _skipped(self, job: Entry, event: JobStateChanged) -> None:
        sha256 = event.artifact.sha256 if event.artifact else ""
        assert [one for one in self._others(job) if one.sha256 == sha256], f"nobody holds {sha256[:8]}"
        assert not job.of_kind("STREAM"), "bytes were asked for, and it is called skipped"

    def _others(self, job: Entry) -> list[Entry]:
        """The other jobs that are home, with their object on disk."""
        home = [one for one in self.jobs.values() if one is not job and one.home]
        return [one for one in home if self._shelf.has(one.sha256)]

    def _same_work(self, one: Entry, other: Entry) -> bool:
        return bool(set(one.work.identifiers()) & set(other.work.identifiers()))

    def _failed(self, job: Entry, event: JobStateChanged) -> None:
        if event.reason == POISON:
            assert job.alone, "a job is poison when it killed its worker with nothing beside it"
            return
        turns = job.of_kind("FALLBACK")
        if event.reason == "exhausted":
            assert job.over() == self._sources, f"exhausted, and not each source had its turn: {turns}"
        hope = event.reason != "exhausted" or any(op.code == "RETRYABLE" for op in turns)
        assert event.may_retry == (hope and job.generation < self._retry.generations_max), f"{event}: {job}"

    def _waits(self, job: Entry, event: JobWaiting, recorded: Recorded[Any]) -> None:
        assert not job.finished
        job.not_before_ns, job.reason = event.not_before_ns, event.reason
        wait_ns = event.not_before_ns - recorded.time_ns
        job.opens_boot_ns = self._clock.boot - (self._clock.wall - recorded.time_ns) + wait_ns

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
        if job.state in HOME:
            return [*words, f"source:{job.source or 'held'}"]
        words.append("unfinished")
        if job.holder:
            words.append("leased")
        elif job.not_before_ns:
            words.append(f"waiting:{job.reason}")
        return words
