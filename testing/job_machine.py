"""JobMachine: the life of jobs under several workers that plan, claim, work, sleep, die and come late.

Planner, lease manager, reconciler and journal are the real ones, and so are the job in hand with its
fallback machine and the ledger that it is made from; the resolver's decisions, the clock and death are
drawn. ``JobBook`` says of each event in the log whether it may stand there, and what the tables must show.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import msgspec
from hypothesis import strategies as st

from ..actors.job_in_hand import JobInHand, Miss
from ..actors.messages import Came, ChunkPlanned, Drain, Idle, PlanChunk
from ..actors.messages import Work as WorkOn
from ..actors.outcome import Wanted
from ..actors.runtime.ports import NANOSECONDS
from ..config.loader import load
from ..config.settings import Quire
from ..events import fallback
from ..events.facts import Artifact, AttemptOutcome, Event, IdempotencyReplay, JobWaiting, LeaseReleased
from ..events.job import State, stream_of
from ..events.keys import job_key, op_key
from ..events.projections import EVERYTHING
from ..events.record import Appended, Batch
from ..events.work import Work
from ..store.domain import QUIRE
from ..store.interface import EventStore
from ..store.memory_store import MemoryStore
from .hand_scheduler import HandClock
from .job_book import Entry, JobBook
from .job_checks import check_holders, check_memory, check_tables
from .scripted import ScriptedMachine, initialize, invariant, rule
from .worker import Worker

WORKS = tuple(Work(doi=f"10.1234/{name}") for name in ("one", "two", "three"))
LISTS = ("00000000000000a1", "00000000000000b2", EVERYTHING)
WORKERS = 2
WHO = st.integers(0, WORKERS - 1)
PICK = st.integers(0, 2)
ENDS: tuple[tuple[AttemptOutcome, str], ...] = (
    ("no_pdf", "none"),
    ("retryable", "http_503"),
    ("skipped", "breaker_open"),
)
"""How a turn ends; the last is a gate."""


LOOKS_S = (0.3, 0.3)
"""Times after which each worker has looked again: what one lost at the first look is taken at the next."""
HEADS = st.sampled_from(["", "NON_RETRYABLE", "RETRYABLE", "OK"])
"""How the opening of a URL ends; ``""`` leaves it in flight."""


@cache
def settings_of_the_machine() -> Quire:
    """The defaults, with a small hand, so that jobs are left for others."""
    return msgspec.structs.replace(load([], environ={}).settings, works_in_hand=2)


class JobMachine(ScriptedMachine):
    """Plan, claim, renew, expire, take over, fence, effects, milestones, fail, retry, wait, poison, pause."""

    works: ClassVar[tuple[Work, ...]] = WORKS

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.settings = settings_of_the_machine()
        self.store = self.open_store()
        self.book = JobBook(self._is_gone, lonely_after=self.settings.lease.lonely_after_takeovers)
        self.planned: list[ChunkPlanned] = []
        self.born = 0
        self.dead: set[str] = set()
        self.workers = [self._worker() for _ in range(WORKERS)]

    def open_store(self) -> EventStore:
        """The store under all workers."""
        return MemoryStore(QUIRE, run_id="run", clock=self.clock)

    def _worker(self) -> Worker:
        self.born += 1
        name = f"w{self.born}"
        return Worker(
            name,
            store=self.store,
            clock=self.clock,
            settings=self.settings,
            is_alive=lambda other: other not in self.dead,
            watch=lambda said: self._heard(name, said),
            report=self.planned.append,
        )

    def _is_gone(self, worker: str, until_ns: int) -> bool:
        return worker in self.dead or until_ns < self.clock.boot

    def _heard(self, name: str, said: Came | Idle) -> None:
        """A worker that has nothing in hand says that nothing is left: then nothing is."""
        worker = next(one for one in self.workers if one.name == name)
        if isinstance(said, Idle) and worker.list_id and said.errand == worker.errand:
            self._read_the_log()
            left = [job for job in self.book.jobs.values() if worker.list_id in self.book.lists_of(job)]
            assert all(job.finished for job in left), f"{name} is idle, and of {left} not all are finished"
            worker.list_id = ""

    # Planning

    @initialize()
    def begin(self) -> None:
        """All works are wanted, and every worker works."""
        self.plan(0, 7, 0, False)
        for who in range(WORKERS):
            self.work(who, 0)

    @rule(who=WHO, which=st.integers(1, 7), on=st.integers(0, 2), retry=st.booleans())
    def plan(self, who: int, which: int, on: int, retry: bool) -> None:
        """Plan some works for a list, once more perhaps: each is one job, whoever asks and how often."""
        worker, list_id = self.workers[who], LISTS[on]
        if worker.asleep:
            return
        works = [work for number, work in enumerate(self.works) if which >> number & 1]
        self._read_the_log()
        known = {job_key(work): self.book.jobs.get(job_key(work)) for work in works}
        wanted = _counts(list(known.values()), twice=len(works))
        asked = tuple(Wanted(work) for work in works + works)
        chunk = PlanChunk(asked, list_id, retry, self.store.head().position)
        worker.directory.planner.tell(chunk)
        worker.run()
        [told] = self.planned
        self.planned.clear()
        assert {name: getattr(told.planned, name) for name in wanted} == wanted, f"{told} for {known}"
        self._read_the_log()
        for work in works:
            assert list_id in self.book.jobs[job_key(work)].lists, "a job is on the list that asked for it"
            if retry:
                assert self.book.jobs[job_key(work)].state != "FAILED", "retry opens a generation"

    # Workers

    @rule(who=WHO, on=st.integers(0, 2))
    def work(self, who: int, on: int) -> None:
        """Work on a list, or go on with it after a pause."""
        worker = self.workers[who]
        worker.list_id = LISTS[on]
        worker.errand += 1
        worker.directory.leases.tell(WorkOn(LISTS[on], worker.errand))
        worker.run()

    @rule(who=WHO)
    def pause(self, who: int) -> None:
        """Take nothing more; what is in hand goes on."""
        worker = self.workers[who]
        before = set(worker.leases.in_hand)
        worker.list_id = ""
        worker.directory.leases.tell(Drain())
        if not worker.asleep:
            worker.run()
            assert set(worker.leases.in_hand) <= before, "a paused worker took a job"

    @rule(who=WHO)
    def sleep_or_wake(self, who: int) -> None:
        """Stop a worker as SIGSTOP does, or let it go on, late."""
        self.workers[who].asleep = not self.workers[who].asleep
        self.workers[who].run()

    @rule(who=WHO)
    def die(self, who: int) -> None:
        """Kill a worker with all that it had in hand and on the way; another starts in its place."""
        gone = self.workers[who]
        gone.alive = False
        self.dead.add(gone.name)
        self.workers[who] = self._worker()
        self.work(who, LISTS.index(gone.list_id) if gone.list_id else 0)

    @rule(seconds=st.sampled_from([0.3, 45.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes: leases are renewed or run out, gates open, claims are made."""
        for passed in (seconds, *LOOKS_S):
            self.clock.move(passed)
            for worker in self.workers:
                worker.run()
        self._check_nothing_is_left_lying()

    @rule(hours=st.sampled_from([-1, 1]))
    def clock_jumps(self, hours: int) -> None:
        """The wall clock is set; leases count on the clock since boot."""
        self.clock.jump(hours * 3600)
        for worker in self.workers:
            worker.run()

    # What a worker does with a job

    @rule(who=WHO, pick=PICK, end=st.sampled_from(ENDS))
    def turn(self, who: int, pick: int, end: tuple[AttemptOutcome, str]) -> None:
        """Begin turns of sources, or end one; when the fallback machine is done, so is the job."""
        worker, job = self._pick(who, pick)
        if job is None:
            return
        now_ms = self.clock.boot_ns() // 1_000_000
        events = job.step(State.LEASED)
        if job.turns:
            turn = next(iter(job.turns.values()))
            ended = job.machine.ended(turn.id.source, turn.id.attempt, fallback.Ended(*end), now_ms)
            events += job.turn_ended(turn, Miss(ended.outcome, ended.reason), now_ms)
            commands = job.machine.settle() or job.machine.advance(now_ms, _free)
        else:
            commands = job.machine.advance(now_ms, _free) or job.machine.settle()
        self._do(worker, job, commands, events)

    def _do(
        self, worker: Worker, job: JobInHand, commands: list[fallback.Command], events: list[Event]
    ) -> None:
        over = False
        for command in commands:
            if isinstance(command, fallback.Start):
                events.append(job.turn_started(command, self.clock.boot_ns() // 1_000_000))
            elif isinstance(command, fallback.Wait):
                opens_ns = self.clock.wall_ns() + command.wait_ms * 1_000_000
                events += [JobWaiting(command.reason, opens_ns, command.sources), LeaseReleased("waiting")]
                over = True
            elif isinstance(command, fallback.Finish):
                events += job.step(State.FAILED, reason=command.reason, may_retry=command.may_retry)
                events.append(LeaseReleased("failed"))
                over = True
        if events:
            self._commit(worker, job, events, over=over)

    @rule(who=WHO, pick=PICK, url=st.integers(0, 1), code=HEADS)
    def head(self, who: int, pick: int, url: int, code: str) -> None:
        """Open a URL, unless its answer is known; the end of what is in flight comes with the next call."""
        worker, job = self._pick(who, pick)
        if job is None:
            return
        op_id = op_key("HEAD", job.job_id, url=f"https://a.example/{url}")
        begun = worker.hands.open.pop(job.job_id, None)
        if begun is not None:
            self._commit(worker, job, [self._opened(worker, job, begun[1], code or "ABANDONED")])
        elif op_id in job.answered:
            self._commit(worker, job, [IdempotencyReplay(op_id, "HEAD")])
        elif not self._had_its_result(worker, job, op_id):
            events: list[Event] = [job.begin("HEAD", {"url": f"https://a.example/{url}"})]
            if code:
                events.append(self._opened(worker, job, op_id, code))
            else:
                worker.hands.open[job.job_id] = ("HEAD", op_id)
            self._commit(worker, job, events)

    def _opened(self, worker: Worker, job: JobInHand, op_id: str, code: str) -> Event:
        if code in ("OK", "NON_RETRYABLE"):
            worker.hands.heard[job.job_id].add(op_id)
        return job.end(op_id, "HEAD", code, reason="known")  # type: ignore[arg-type]  # drawn from the codes

    def _had_its_result(self, worker: Worker, job: JobInHand, op_id: str) -> bool:
        """Whether these hands heard the answer themselves, or it was good: then it is streamed, not asked."""
        self._read_the_log()
        op = self.book.jobs[job.job_id].ops.get(op_id)
        return op_id in worker.hands.heard[job.job_id] or (op is not None and op.code == "OK")

    @rule(who=WHO, pick=PICK)
    def milestone(self, who: int, pick: int) -> None:
        """The next step towards home, with the effect that leads to it."""
        worker, job = self._pick(who, pick)
        if job is None or job.turns or job.job_id in worker.hands.open:
            return
        ways = {
            State.PLANNED: State.LEASED,
            State.LEASED: State.HEAD_DONE,
            State.HEAD_DONE: State.STREAMING,
            State.RESUME_OK: State.STREAMING,
            State.STREAMING: State.FINALIZED,
            State.FINALIZED: State.INDEXED,
        }
        after = ways[job.state]
        artifact = Artifact("ab" * 32, 1000, "ann") if after is State.FINALIZED else None
        events: list[Event] = []
        if after in (State.STREAMING, State.INDEXED):
            kind = "STREAM" if after is State.STREAMING else "INDEX"
            begun = job.begin(kind, {"sha256": "ab" * 32, "epoch": job.epoch})  # type: ignore[arg-type]
            events += [begun, job.end(begun.op_id, begun.kind, "OK", sha256="ab" * 32)]
        events += job.step(after, artifact=artifact)
        over = after is State.INDEXED
        self._commit(worker, job, [*events, *([LeaseReleased("done")] if over else [])], over=over)

    @rule(who=WHO, pick=PICK, retry=st.booleans())
    def give_up(self, who: int, pick: int, retry: bool) -> None:
        """The job fails, for now or for good."""
        worker, job = self._pick(who, pick)
        if job is not None:
            events = job.step(State.FAILED, reason="exhausted", may_retry=retry)
            self._commit(worker, job, [*events, LeaseReleased("failed")], over=True)

    @rule(who=WHO, pick=PICK, seconds=st.sampled_from([1, 100]))
    def wait(self, who: int, pick: int, seconds: int) -> None:
        """A gate holds the job back: it waits, and costs no generation."""
        worker, job = self._pick(who, pick)
        if job is not None:
            opens_ns = self.clock.wall_ns() + seconds * NANOSECONDS
            self._commit(
                worker, job, [JobWaiting("breaker_open", opens_ns), LeaseReleased("waiting")], over=True
            )

    @rule(who=WHO, pick=PICK)
    def let_go(self, who: int, pick: int) -> None:
        """Let a job go as it stands."""
        worker, job = self._pick(who, pick)
        if job is not None:
            self._commit(worker, job, [LeaseReleased("shutdown")], over=True)

    @rule(pick=PICK, back=st.integers(1, 3))
    def come_late(self, pick: int, back: int) -> None:
        """Write under an epoch that is over: refused, always."""
        self._read_the_log()
        job_id, job = list(self.book.jobs.items())[pick % len(self.book.jobs)]
        if job.epoch == 0:
            return
        stale = Batch(stream_of(job_id), (LeaseReleased("late"),), epoch=max(job.epoch - back, 0))
        bare = Batch(stream_of(job_id), (LeaseReleased("late"),))
        results = self.store.append([stale, bare])
        assert not [one for one in results if isinstance(one, Appended)], f"a late owner wrote: {results}"

    def _pick(self, who: int, pick: int) -> tuple[Worker, JobInHand | None]:
        worker = self.workers[who]
        jobs = [job for job in worker.hands.jobs.values() if not job.letting_go]
        return worker, jobs[pick % len(jobs)] if jobs else None

    def _commit(self, worker: Worker, job: JobInHand, events: list[Event], *, over: bool = False) -> None:
        worker.hands.commit(job, events, over=over)
        worker.run()

    # What must hold

    @invariant()
    def the_log_and_the_tables_are_right(self) -> None:
        """Every event may stand where it stands, every table shows what the book says, one has the job."""
        before = self.book.position
        self._read_the_log()
        assert [worker.fatal for worker in self.workers if worker.fatal] == []
        check_holders(self.book, self.workers)
        check_memory(self.book, self.workers)
        if self.book.position != before or not self.steps:
            check_tables(self.store, self.book, LISTS)

    def _read_the_log(self) -> None:
        for recorded in self.store.read(self.book.position):
            self.book.take(recorded)

    def _check_nothing_is_left_lying(self) -> None:
        """Whoever is awake, has room and works on a list leaves nothing of it that may be taken."""
        self._read_the_log()
        for worker in self.workers:
            hand = worker.leases.in_hand
            if worker.asleep or not worker.list_id or len(hand) >= self.settings.works_in_hand:
                continue
            if any(self.book.jobs[job_id].alone for job_id in hand):
                continue
            left = [job for job in map(self.book.jobs.get, self._takeable(worker.list_id)) if job]
            left = [job for job in left if not self._may_be_poison(job) or not hand]
            assert not left, f"{worker} has room, and {left} lie there"

    def _takeable(self, list_id: str) -> list[str]:
        gone = [
            job_id
            for job_id, job in self.book.jobs.items()
            if not job.finished and job.holder and self._is_gone(job.holder, job.until_ns)
            if list_id in self.book.lists_of(job)
        ]
        return [*self.book.claimable(list_id), *gone]

    def _may_be_poison(self, job: Entry) -> bool:
        deaths = job.takeovers + bool(job.holder)
        return deaths >= self.settings.lease.lonely_after_takeovers

    def finish(self) -> None:
        """Once more, and the tables folded anew are the same."""
        self._read_the_log()
        self.store.rebuild()
        check_tables(self.store, self.book, LISTS)

    def release(self) -> None:
        """Forget the workers."""
        self.store.close()


def _counts(known: list[Entry | None], *, twice: int) -> dict[str, int]:
    """What must be counted whatever the clock says."""
    return {
        "works": 2 * twice,
        "new": sum(job is None for job in known),
        "home": sum(job is not None and job.state == "INDEXED" for job in known),
    }


def _free(source: str) -> fallback.Look:
    return fallback.Look(host=f"{source}.example")
