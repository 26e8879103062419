"""JobMachine: the life of jobs under several workers that plan, claim, work, sleep, die and come late.

Planner, lease manager, reconciler, resolver and journal are the real ones; what sources, finalizer and gates
answer, the clock and death are drawn. ``JobBook`` says of each event in the log whether it may stand there,
and what the tables must show.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import ClassVar, cast

import msgspec
from hypothesis import strategies as st

from ..actors.messages import AdapterRestarted, Came, ChunkPlanned, Drain, Idle, PlanChunk, TurnId
from ..actors.messages import Work as WorkOn
from ..actors.outcome import Wanted
from ..actors.runtime.ports import NANOSECONDS
from ..actors.web.exchange import Web
from ..config.loader import load
from ..config.settings import Quire
from ..events.facts import LeaseReleased, RunStarted
from ..events.job import stream_of
from ..events.keys import job_key
from ..events.projections import EVERYTHING, PARKED_NS
from ..events.record import Appended, Batch
from ..events.work import Work
from ..store.domain import QUIRE
from ..store.interface import EventStore
from ..store.memory_store import MemoryStore
from .hand_scheduler import HandClock
from .job_book import JobBook
from .job_checks import check_holders, check_late_words, check_memory, check_tables
from .job_entry import Entry
from .job_halfway import HALFWAY, halfway
from .job_lives import LIVES, SOURCES
from .played import ANSWERS, URLS, PlayedGates, Shelf
from .scripted import ScriptedMachine, initialize, invariant, rule
from .worker import Worker

WORKS = (Work(doi="10.1234/one"), Work(doi="10.1234/two", arxiv_id="2301.00002"), Work(arxiv_id="2301.00002"))
"""The last two are one article under two names."""
LISTS = ("00000000000000a1", "00000000000000b2", EVERYTHING)
WORKERS = 2
WHO = st.integers(0, WORKERS - 1)
PICK = st.integers(0, 2)
LOOKS_S = (0.3, 0.3)
"""Times after which each worker has looked again: what one lost at the first look is taken at the next."""
WAKES_S = 1.0
"""A job that waits is taken up at most so long after its gate opens, by whoever has room; seconds."""
WHERE = st.sampled_from((URLS[0], *URLS))
"""Where a source finds a PDF; often where others found one."""
HOW = st.sampled_from(("good", "good", *ANSWERS))
IN_A_ROW = st.sampled_from([3, 0, 2, 4, 8])
"""Answers one after the other about a job. Of good ones two open its URL, three stream it, four store it."""
DEATHS = st.sampled_from(["killed", "placed", "stopped", *HALFWAY])
"""By SIGKILL; when bytes had got their names and nobody had said so; because it is asked to end; and at a
milestone that this version writes in one append with the next, and another may have written alone."""


@cache
def settings_of_the_machine(*, offline: bool = False) -> Quire:
    """The defaults with a small hand, so that jobs are left for others, three sources and two generations."""
    settings = load([], environ={}).settings
    named = [source for tier in settings.fallback.tiers for source in tier.sources]
    replace = msgspec.structs.replace
    return replace(
        settings,
        works_in_hand=2,
        web=replace(settings.web, offline=offline),
        retry=replace(settings.retry, generations_max=2),
        fallback=replace(settings.fallback, disabled=tuple(one for one in named if one not in SOURCES)),
    )


class JobMachine(ScriptedMachine):
    """Plan, claim, renew, expire, take over, fence, effects, milestones, fail, retry, wait, poison, pause."""

    works: ClassVar[tuple[Work, ...]] = WORKS

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.settings = settings_of_the_machine()
        self.store = self.open_store()
        self.shelf = Shelf()
        self.shut: dict[str, int] = {}
        """Host → time on the boot clock at which its breaker lets somebody through."""
        self.book = JobBook(
            self._is_gone,
            lonely_after=self.settings.lease.lonely_after_takeovers,
            retry=self.settings.retry,
            sources=SOURCES,
            shelf=self.shelf,
            clock=self.clock,
        )
        self.met: Counter[str] = Counter()
        """What the steps came to: questions answered and how, deaths, gates, plans."""
        self.planned: list[ChunkPlanned] = []
        self.born = 0
        self.dead: set[str] = set()
        self.workers = [self._worker() for _ in range(WORKERS)]

    def open_store(self) -> EventStore:
        """The store under all workers."""
        return MemoryStore(QUIRE, run_id="run", clock=self.clock)

    def _worker(self, *, offline: bool = False) -> Worker:
        self.born += 1
        name = f"w{self.born}"
        # As each session begins: by the time of it, whoever starts sees that the clock was set back before.
        run = Batch(f"run/{name}", (RunStarted(name, "", (), "", 0),), expected_version=0)
        self.store.append([run])
        return Worker(
            name,
            store=self.store,
            clock=self.clock,
            settings=settings_of_the_machine(offline=offline),
            sources=SOURCES,
            shelf=self.shelf,
            web=cast(Web, PlayedGates(self.clock, self.shut, offline=offline)),
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
            again = [self.book.jobs[job_id] for job_id in self._to_unpark(worker)]
            left = [job for job in left if not job.finished and job.not_before_ns != PARKED_NS] + again
            assert not left, f"{name} is idle, and {left} are not finished"
            worker.list_id = ""

    # Planning

    @initialize(life=st.sampled_from(sorted(LIVES)))
    def begin(self, life: str = "plain") -> None:
        """Works are wanted, and workers work; then some way into what is rare."""
        for step, *arguments in LIVES[life]:
            getattr(self, step)(*arguments)
            self.the_log_and_the_tables_are_right()

    @rule(who=WHO, which=st.integers(1, 7), on=st.integers(0, 2), retry=st.booleans())
    def plan(self, who: int, which: int, on: int, retry: bool) -> None:
        """Plan some works for a list, once more perhaps: each is one job, whoever asks and how often."""
        worker, list_id = self.workers[who], LISTS[on]
        if worker.asleep:
            return
        works = [work for number, work in enumerate(self.works) if which >> number & 1]
        self._read_the_log()
        known = [self.book.jobs.get(job_key(work)) for work in works]
        standing = Counter(self._standing(job, retry) for job in known)
        again = [job for job in known if job and self._standing(job, retry) == "requeued"]
        asked = tuple(Wanted(work) for work in works + works)
        worker.directory.planner.tell(PlanChunk(asked, list_id, retry, self.store.head().position))
        worker.run()
        [told] = self.planned
        self.planned.clear()
        standing.update(works=2 * len(works), doubled=len(works))
        assert Counter({**msgspec.structs.asdict(told.planned)}) == standing, f"{told} for {known}"
        self._read_the_log()
        assert all(job.state != "FAILED" for job in again), f"a generation was to open: {again}"
        assert all(list_id in self.book.jobs[job_key(work)].lists for work in works), (
            f"{list_id} asked for it"
        )
        self.met.update(f"planned: {what}" for what in standing)

    def _standing(self, job: Entry | None, retry: bool) -> str:
        """What a work counts as when it is asked for."""
        if job is None:
            return "new"
        if job.home:
            return "home"
        if job.state != "FAILED":
            return "unfinished"
        return "requeued" if retry or self.book.may_go_again(job, self.clock.wall) else "failed"

    # Workers

    @rule(who=WHO, on=st.integers(0, 2))
    def work(self, who: int, on: int) -> None:
        """Work on a list, or go on with it after a pause; what an offline run had parked is taken up."""
        worker = self.workers[who]
        worker.list_id = LISTS[on]
        worker.errand += 1
        self._read_the_log()
        worker.to_unpark = {} if worker.offline else self._parked(worker.list_id)
        worker.directory.leases.tell(WorkOn(LISTS[on], worker.errand))
        worker.run()

    def _to_unpark(self, worker: Worker) -> list[str]:
        """The jobs of its list that it was to take up, and nobody did since."""
        again = worker.to_unpark.items() & self._parked(worker.list_id).items()
        return [job_id for job_id, _ in again if not self._may_be_poison(self.book.jobs[job_id])]

    def _parked(self, list_id: str) -> dict[str, int]:
        """The jobs of a list that another run's setting holds back, with the epoch that was left."""
        jobs = map(self.book.jobs.__getitem__, self.book.waiting(list_id) if list_id else [])
        return {job.job_id: job.epoch for job in jobs if job.not_before_ns == PARKED_NS}

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

    @rule(who=WHO, how=DEATHS, after=IN_A_ROW, offline=st.sampled_from([False, False, True]))
    def die(self, who: int, how: str, after: int = 0, offline: bool = False) -> None:
        """End a worker with all that it had in hand and on the way; another starts in its place.

        One of its jobs comes some answers further before, so that each place is died at.
        """
        gone = self.workers[who]
        job_id = next(iter(gone.jobs), "")
        for _ in range(0 if gone.asleep else after):
            self._go_on(gone, job_id, "good", URLS[0])
        if how == "placed":
            for asked in gone.finalizer.asked.values():
                self.met["died with an object placed"] += self.shelf.place(asked)
        elif how in HALFWAY:
            batch = halfway(gone, how)
            if batch is not None:
                self.met[f"died at {how}"] += isinstance(self.store.append([batch])[0], Appended)
        elif how == "stopped" and not gone.asleep:
            gone.stop()
        gone.alive = False
        self.dead.add(gone.name)
        self.workers[who] = self._worker(offline=offline)
        self.met[how] += 1
        self.work(who, LISTS.index(gone.list_id) if gone.list_id else 0)

    @rule(source=st.sampled_from(SOURCES), seconds=st.sampled_from([1, 100]))
    def shut_a_gate(self, source: str, seconds: int) -> None:
        """A host's breaker opens: jobs that come to it wait, and it costs them no generation."""
        self.shut[source.replace("_", "-")] = self.clock.boot + seconds * NANOSECONDS

    @rule(seconds=st.sampled_from([0.3, 45.0, 130.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes: leases are renewed or run out, turns and budgets too, gates open, claims are made."""
        for passed in (seconds, *LOOKS_S):
            self.clock.move(passed)
            for worker in self.workers:
                worker.run()
        self._check_nothing_is_left_lying()
        self._check_nothing_is_waited_for_too_long()

    @rule(hours=st.sampled_from([-1, 1]))
    def clock_jumps(self, hours: int) -> None:
        """The wall clock is set, once between two looks of a worker; leases count on the clock since boot."""
        self.clock.jump(hours * 3600)
        for passed in (0.0, LOOKS_S[0]):
            self.clock.move(passed)
            for worker in self.workers:
                worker.run()

    # What becomes of a job

    @rule(who=WHO, pick=PICK, how=HOW, url=WHERE)
    def answer(self, who: int, pick: int, how: str, url: str) -> None:
        """Answer one question that a worker has asked: of a source's turn, or of the finalizer."""
        worker = self.workers[who]
        asking: list[str | TurnId] = [*worker.finalizer.asked, *worker.sources.asked]
        if asking:
            self._answer(worker, asking[pick % len(asking)], how, url)

    @rule(who=WHO, pick=PICK, how=HOW, url=WHERE, most=IN_A_ROW, alike=st.booleans())
    def hurry(self, who: int, pick: int, how: str, url: str, most: int, alike: bool) -> None:
        """Answer the next questions about a job: all alike, or well but for the last."""
        worker = self.workers[who]
        jobs = list(worker.jobs)
        for number in range(1, most + 1 if jobs and not worker.asleep else 0):
            self._go_on(worker, jobs[pick % len(jobs)], how if alike or number == most else "good", url)

    def _go_on(self, worker: Worker, job_id: str, how: str, url: str) -> None:
        """Answer what was asked last about a job, so that one of its turns comes through."""
        asking = job_id if job_id in worker.finalizer.asked else None
        turns = (turn for turn in reversed(worker.sources.asked) if turn.job_id == job_id)
        asked = asking or next(turns, None)
        if asked is not None:
            self._answer(worker, asked, how, url)

    def _answer(self, worker: Worker, asked: str | TurnId, how: str, url: str) -> None:
        if isinstance(asked, str):
            worker.finalizer.answer(asked, how)
            self.met[f"Finalize {how}"] += 1
        else:
            self.met[f"{worker.sources.answer(asked, how, url)} {how}"] += 1
        worker.run()

    @rule(who=WHO, source=st.sampled_from(SOURCES))
    def restart_an_adapter(self, who: int, source: str) -> None:
        """A source's adapter fails and is replaced: its turns are lost."""
        worker = self.workers[who]
        worker.sources.lost(source)
        worker.directory.resolver.tell(AdapterRestarted(source))
        worker.run()

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

    # What must hold

    @invariant()
    def the_log_and_the_tables_are_right(self) -> None:
        """Every event may stand where it stands, every table shows what the book says, one has the job."""
        before = self.book.position
        self._read_the_log()
        fatal = [worker.fatal for worker in self.workers if worker.fatal]
        assert not fatal, f"actors ended for good: {fatal}"
        check_holders(self.book, self.workers)
        check_memory(self.book, self.workers)
        check_late_words(self.workers)
        if self.book.position != before or not self.steps:
            check_tables(self.store, self.book, LISTS)

    def _read_the_log(self) -> None:
        for recorded in self.store.read(self.book.position):
            self.book.take(recorded)

    def _check_nothing_is_left_lying(self) -> None:
        """Whoever is awake, has room and works on a list leaves nothing of it that may be taken."""
        self._read_the_log()
        for worker in self.workers:
            if not worker.list_id or not self._has_room(worker):
                continue
            names = [*self._takeable(worker.list_id), *self._to_unpark(worker)]
            jobs = map(self.book.jobs.__getitem__, names)
            left = [job for job in jobs if not self._may_be_poison(job) or not worker.leases.in_hand]
            assert not left, f"{worker} has room, and {left} lie there"

    def _check_nothing_is_waited_for_too_long(self) -> None:
        """An effect of the disk that got no answer for long is abandoned, and asked for again."""
        oldest_ns = self.clock.boot - int((self.settings.ops.stale_after_s + WAKES_S) * NANOSECONDS)
        for worker in self.workers:
            mine = [job for job in self.book.jobs.values() if job.holder == worker.name]
            flying = [op for job in mine for op in job.of_kind("FINALIZE") if not op.code]
            stale = [op for op in flying if op.begun_boot_ns < oldest_ns]
            assert worker.asleep or not stale, f"{worker} waits for {stale}"

    def _has_room(self, worker: Worker) -> bool:
        hand = worker.leases.in_hand
        alone = any(self.book.jobs[job_id].alone for job_id in hand)
        return not worker.asleep and not alone and len(hand) < self.settings.works_in_hand

    def _takeable(self, list_id: str) -> list[str]:
        """What is free, what a gate holds no more, and what the dead had."""
        late_ns = self.clock.boot - int(WAKES_S * NANOSECONDS)
        due = [name for name in self.book.waiting(list_id) if self.book.jobs[name].opens_boot_ns < late_ns]
        gone = [
            job_id
            for job_id, job in self.book.jobs.items()
            if not job.finished and job.holder and self._is_gone(job.holder, job.until_ns)
            if list_id in self.book.lists_of(job)
        ]
        return [*self.book.claimable(list_id), *due, *gone]

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
