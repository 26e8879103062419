"""What a log tells of its jobs, gathered in one pass: the facts that an account judges."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from ..actors.finalizer import PART_BUSY
from ..actors.job_in_hand import OWNER_GONE
from ..actors.lease_manager import POISON
from ..events.facts import (
    CrashRecovery,
    JobLeased,
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    OperationCompleted,
    OperationStarted,
    RunStarted,
)
from ..events.job import FINISHED, HOME, STREAM_PREFIX, JobRow, State, fold_job
from ..events.record import Recorded
from ..store.objects import OBJECT_DAMAGED

PAGE_READER = "landing_scrape_pdf"
"""The source that may find a PDF where it looks for a page, before it is a candidate."""
POISON_TAKEOVERS_MIN = 3
"""Deaths without progress after which a job runs alone; only then may a further one make it poison."""


class Look(msgspec.Struct):
    """A turn of the page reader: what it opened, and whether it had a result."""

    opened: set[str] = set()
    """URLs of its HEAD ops."""
    op_id: str = ""
    ok: bool = False


class Story:
    """One pass over the log; ``tell`` it every event."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        """What is wrong by the log alone, in words."""
        self.events = 0
        self.rows: dict[str, JobRow] = {}
        self.planned: dict[str, list[str]] = defaultdict(list)
        """Work id, as it was planned → its jobs."""
        self.leases: Counter[str] = Counter()
        """Job → times that it was taken up."""
        self.takeovers = 0
        self.states_in_flight: Counter[str] = Counter()
        self.ops_in_flight: Counter[str] = Counter()
        self.deaths: set[str] = set()
        """Workers of which an effect in flight was found."""
        self.poisoned = 0
        self.condemned: set[str] = set()
        """Jobs whose last failure is a poison that the log bears out."""
        self.runs: dict[str, int] = {}
        """Run → wall-clock time of its first event of a job, in nanoseconds."""
        self.sessions = 0
        self.ops: dict[str, OperationStarted] = {}
        self.started: Counter[str] = Counter()
        """Op → times that it was begun."""
        self.ends: dict[str, list[OperationCompleted]] = defaultdict(list)
        self.job_of: dict[str, str] = {}
        self.dressed: Counter[str] = Counter()
        """HEAD op → times that it was begun again with a referer or cookies after a final answer without."""
        self.looks: dict[str, list[Look]] = defaultdict(list)
        """Job → turns of the page reader."""
        self.turns: Counter[tuple[str, str]] = Counter()
        """Job and source → turns begun, those of each take-up."""
        self.busy: Counter[tuple[str, str]] = Counter()
        """Job and hash → times that the bytes were locked by somebody else."""
        self.refusing: Counter[tuple[str, str]] = Counter()
        """Job and hash → deaths while the bytes were being proved."""
        self.refused: set[tuple[str, str]] = set()
        self.streamed: set[str] = set()
        """Hashes of bytes that were streamed whole."""
        self._finished: Counter[tuple[str, int]] = Counter()
        self._finalised: Counter[str] = Counter()
        self._came_home: Counter[str] = Counter()
        self._damaged: Counter[str] = Counter()
        self._alone: dict[str, int] = {}
        """Job → deaths without progress at its last lease, where that was to run alone."""

    def __repr__(self) -> str:
        return f"<Story of {self.events} events, {len(self.rows)} jobs>"

    def tell(self, recorded: Recorded[Any]) -> None:
        """Take in the next event."""
        self.events += 1
        self.sessions += isinstance(recorded.event, RunStarted)
        if not recorded.stream.startswith(STREAM_PREFIX):
            return
        self.runs.setdefault(recorded.run_id, recorded.time_ns)
        job_id = recorded.stream[len(STREAM_PREFIX) :]
        before = self.rows.get(job_id)
        row = fold_job(before, recorded)
        self._note(job_id, before, row, recorded.event)
        if row is not None:
            self.rows[job_id] = row

    def end(self) -> None:
        """All was told: judge how often each thing happened."""
        for (job_id, generation), times in self._finished.items():
            if times > 1:
                self.problems.append(f"job {job_id} was finished {times} times in generation {generation}")
        for job_id, row in self.rows.items():
            due = 1 + self._damaged[job_id]
            stored = self._finalised[job_id]
            if self._came_home[job_id] > due:
                self.problems.append(f"job {job_id} came home {self._came_home[job_id]} times")
            if stored > due or (stored < 1 and row.home and row.state is not State.SKIPPED_DUPLICATE):
                self.problems.append(f"job {job_id} is {row.state} and was finalised {stored} times")
        self.problems += [
            f"{work} has {len(jobs)} jobs: {', '.join(job[:8] for job in jobs)}"
            for work, jobs in self.planned.items()
            if len(jobs) > 1
        ]

    def _note(self, job_id: str, before: JobRow | None, row: JobRow | None, event: Any) -> None:
        if isinstance(event, JobPlanned):
            if before is not None:
                self.problems.append(f"job {job_id} was planned twice")
            else:
                self.planned[event.work.work_id].append(job_id)
        elif isinstance(event, JobLeased) and row is not None:
            self._leased(job_id, row, event)
        elif isinstance(event, CrashRecovery):
            self.ops_in_flight[event.kind] += 1
            self.deaths.add(event.dead_worker)
        elif isinstance(event, JobRequeued):
            self._damaged[job_id] += event.reason == OBJECT_DAMAGED
            self._alone.pop(job_id, None)
            self.condemned.discard(job_id)
        elif isinstance(event, JobStateChanged) and before is not None:
            self._changed(job_id, before, event)
        elif isinstance(event, OperationStarted):
            self._begun(job_id, event)
        elif isinstance(event, OperationCompleted):
            self._ended(job_id, event)

    def _leased(self, job_id: str, row: JobRow, event: JobLeased) -> None:
        self.leases[job_id] += 1
        if event.takeover:
            self.takeovers += 1
            self.states_in_flight[row.state] += 1
        if not event.alone:
            self._alone.pop(job_id, None)
        elif job_id not in self._alone:
            self._alone[job_id] = row.takeovers

    def _changed(self, job_id: str, row: JobRow, event: JobStateChanged) -> None:
        self._finished[(job_id, row.generation)] += event.state in FINISHED
        self._finalised[job_id] += event.state == State.FINALIZED
        self._came_home[job_id] += event.state in HOME
        if event.reason != POISON:
            return
        self.poisoned += 1
        deaths = self._alone.get(job_id, 0)
        if deaths >= POISON_TAKEOVERS_MIN:
            self.condemned.add(job_id)
        else:
            self.problems.append(
                f"job {job_id} was given up as poison after {deaths} deaths without progress"
            )

    def _begun(self, job_id: str, event: OperationStarted) -> None:
        ends, source = self.ends[event.op_id], str(event.about.get("source", ""))
        if ends and ends[-1].code == "NON_RETRYABLE" and event.about.get("dressed"):
            self.dressed[event.op_id] += 1
        self.ops[event.op_id], self.job_of[event.op_id] = event, job_id
        self.started[event.op_id] += 1
        if event.kind == "FALLBACK":
            self.turns[(job_id, source)] += 1
            if source == PAGE_READER:
                self.looks[job_id].append(Look(set(), event.op_id))
        elif event.kind == "HEAD" and source == PAGE_READER and self.looks[job_id]:
            self.looks[job_id][-1].opened.add(str(event.about["url"]))

    def _ended(self, job_id: str, event: OperationCompleted) -> None:
        self.ends[event.op_id].append(event)
        if event.kind == "FALLBACK" and event.code == "OK":
            for look in self.looks[job_id][-1:]:
                look.ok = look.op_id == event.op_id
        elif event.kind == "STREAM" and event.code == "OK":
            self.streamed.add(str(event.result.get("sha256", "")))
        elif event.kind == "FINALIZE":
            self._proved((job_id, str(self.ops[event.op_id].about["sha256"])), event)

    def _proved(self, bytes_of: tuple[str, str], end: OperationCompleted) -> None:
        reason = end.result.get("reason")
        if reason == PART_BUSY:
            self.busy[bytes_of] += 1
        elif end.code == "NON_RETRYABLE":
            self.refused.add(bytes_of)
        self.refusing[bytes_of] += end.code == "ABANDONED" and reason == OWNER_GONE
