"""The lease manager: claims free jobs for this worker, keeps their leases alive, takes over dead owners'.

A grant is one atomic step for a job: it names the version of the row it was decided on and the next
epoch, and the store refuses it when either has moved. Losing such a race is ordinary: look again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec

from ..config.settings import Quire
from ..events.facts import AnyEvent, Event, JobLeased, JobStateChanged, LeaseReleased, LeaseRenewed
from ..events.job import JobRow, LeaseHeld, State, fold_job, stream_of
from ..events.projections import (
    CLAIMABLE,
    COUNTS,
    EVERYTHING,
    JOBS,
    LEASED,
    PARKED_NS,
    WAITING,
    count_name,
    job_id_of,
    list_prefix,
)
from ..events.record import Appended, Batch, Recorded
from ..store.interface import EventStore
from ..store.library import Library
from .directory import Directory
from .holdings import inside_rollout
from .messages import Came, Drain, Idle, LetGo, Lost, Taken, Work
from .outcome import Outcome, outcome_of
from .runtime.actor import Actor
from .runtime.journal import Append, Journaled
from .runtime.ports import NANOSECONDS, Clock, Scheduler
from .waking import WAKES_PER_LOOK, overslept, went_back

POLL_S = 0.25
"""How often waiting jobs and other workers' leases are looked at, in seconds."""
PAGE = 64
"""Entries that one look at an index reads."""
STEP_NS = NANOSECONDS
"""The wall clock was set back when it lost more than this against the boot clock between two looks."""
POISON = "poison"
"""The reason of a job that killed its worker while nothing ran beside it, and had done nothing new there."""


class Poll:
    """Time to look again."""


class Renew:
    """Time to renew the leases."""


class Grant(msgspec.Struct, frozen=True):
    """A claim on its way to the log: the row it was decided on, and the events it appends."""

    row: JobRow
    events: tuple[Event, ...]
    dead_worker: str = ""
    alone: bool = False
    doomed: bool = False
    """It is leased only to be failed."""


class Held(msgspec.Struct, frozen=True):
    """A lease of ours: its epoch, and the errand that it was taken on."""

    epoch: int
    errand: int


class LeaseManager(Actor):
    """Holds this worker's leases."""

    def __init__(
        self,
        *,
        worker: str,
        directory: Directory,
        settings: Quire,
        store: EventStore,
        clock: Clock,
        scheduler: Scheduler,
        library: Library,
        watch: Callable[[Came | Idle], None],
    ) -> None:
        super().__init__()
        self.in_hand: dict[str, Held] = {}
        self._worker = worker
        self._to = directory
        self._settings = settings
        self._store = store
        self._clock = clock
        self._scheduler = scheduler
        self._library = library
        self._watch = watch
        self._list_id: str | None = None
        self._errand = 0
        self._draining = False
        self._asked: dict[str, Grant] = {}
        self._alone = False
        self._parked: Iterator[tuple[str, JobRow]] | None = None
        self._crowded = False
        """The last look at what is due had no room for all of it: it goes before what is fresh."""
        self._wall_off_ns = self._off_ns()
        self._set_back = False
        self._waking: Iterator[Batch[AnyEvent]] = iter(())
        """The wall clock was set back, and those who wait by it were not yet looked at."""

    def __repr__(self) -> str:
        return f"<LeaseManager of {self._worker[:8]}, {len(self.in_hand)} in hand, {len(self._asked)} asked>"

    def started(self) -> None:
        """Begin to look and to renew."""
        self._set_back = went_back(self._store, by_ns=STEP_NS)
        self._again(POLL_S, Poll())
        self._again(self._settings.lease.ttl_s * self._settings.lease.renew_fraction, Renew())

    def fatal(self, _error: BaseException) -> bool:
        """Always: what is under way here stands in no log; a new session goes on from the ledger."""
        return True

    def handle(self, message: Any) -> None:
        """Do what the message asks for."""
        match message:
            case LetGo():
                self._let_go(message)
            case Journaled():
                self._journaled(message)
            case Poll():
                self._mind_the_clock()
                self._crowded = True
                self._claim(self._due)
                self._again(POLL_S, message)
            case Renew():
                self._renew()
                self._again(self._settings.lease.ttl_s * self._settings.lease.renew_fraction, message)
            case Work():
                self._list_id, self._errand, self._draining = message.list_id, message.errand, False
                self._parked = self._free_to_us(message.list_id)
                self._claim(self._due)
            case Drain():
                self._draining = True
                self._claim(self._next)

    def stopping(self) -> None:
        """Take nothing more."""
        self._draining = True

    # Claiming

    def _claim(self, choose: Callable[[str], Iterator[tuple[str, JobRow]]]) -> None:
        """Fill the hand with what ``choose`` gives; say so when nothing is left to do."""
        if self._list_id is None:
            return
        if not self._draining:
            self._fill(choose(self._list_id))
        if not self.in_hand and not self._asked and (self._draining or not self._left(self._list_id)):
            self._list_id = None
            self._watch(Idle(self._errand))

    def _fill(self, jobs: Iterator[tuple[str, JobRow]]) -> None:
        """Ask for jobs while there is room; one that may be poison only when there is nothing else to do."""
        lonely: tuple[str, JobRow] | None = None
        for job_id, row in jobs:
            if self._room() <= 0:
                return
            if job_id in self.in_hand or job_id in self._asked:
                continue
            if self._lonely(row):
                lonely = lonely or (job_id, row)
            else:
                self._ask_for(job_id, row, lonely=False)
        if lonely is not None and not self.in_hand and not self._asked:
            self._ask_for(*lonely, lonely=True)

    def _room(self) -> int:
        if self._alone:
            return 0
        return self._settings.works_in_hand - len(self.in_hand) - len(self._asked)

    def _next(self, list_id: str) -> Iterator[tuple[str, JobRow]]:
        """What a place that became free is for.

        The hand of a busy worker is full whenever it looks, and each place that becomes free in between would
        go to a fresh job: those of dead owners would wait until the list has no fresh ones left.
        """
        return self._due(list_id) if self._crowded else self._fresh(list_id)

    def _fresh(self, list_id: str) -> Iterator[tuple[str, JobRow]]:
        """Free jobs, by priority and age; one that another worker took since the index was read is not."""
        for _, key in self._entries(CLAIMABLE, list_prefix(list_id)):
            yield from ((job_id, row) for job_id, row in self._row(key) if row.lease is None)

    def _due(self, list_id: str) -> Iterator[tuple[str, JobRow]]:
        """Jobs of dead owners, those whose time has come, free ones, and those parked by another run."""
        for _, key in self._entries(LEASED, b""):
            for job_id, row in self._row(key):
                if row.lease is not None and self._wanted(row, list_id) and self._is_over(job_id, row.lease):
                    yield job_id, row
        prefix = list_prefix(list_id)
        now = self._clock.wall_ns().to_bytes(8, "big")
        for entry, key in self._entries(WAITING, prefix):
            if entry[len(prefix) : len(prefix) + 8] > now:
                break
            yield from ((job_id, row) for job_id, row in self._row(key) if row.lease is None)
        self._crowded = False
        yield from self._fresh(list_id)
        while self._parked is not None and self._room() > 0:
            job = next(self._parked, None)
            if job is None:
                self._parked = None
            else:
                yield job

    def _free_to_us(self, list_id: str) -> Iterator[tuple[str, JobRow]]:
        """Jobs held back by a setting of another run that does not hold in this one; walked once a run."""
        offline, rollout = self._settings.web.offline, self._settings.fallback.rollout
        for _, key in self._entries(WAITING, list_prefix(list_id) + PARKED_NS.to_bytes(8, "big")):
            for job_id, row in self._row(key):
                # The walk takes minutes: another worker may have taken the job up since its entry was read.
                held_back = row.lease is None and row.not_before_ns >= PARKED_NS
                still = offline and row.reason == "offline"
                if held_back and not still and inside_rollout(rollout, job_id):
                    yield job_id, row

    def _entries(self, index: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The entries of an index, page by page; no read transaction is held between them."""
        after = b""
        while True:
            page = self._store.scan(index, prefix, after=after, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def _row(self, key: bytes) -> Iterator[tuple[str, JobRow]]:
        """The row as it is now, if the job is still there to be taken."""
        (row,) = self._store.rows(JOBS, [key])
        if row is not None and not row.finished:
            yield job_id_of(key), row

    def _wanted(self, row: JobRow, list_id: str) -> bool:
        return list_id == EVERYTHING or list_id in row.lists

    def _is_over(self, job_id: str, lease: LeaseHeld) -> bool:
        """Whether an owner is dead (its lock is free), silent for too long, or of another boot."""
        if lease.worker == self._worker:
            # Ours, and nobody here knows of it: a word about it was lost between two of its epochs.
            return job_id not in self.in_hand
        if lease.boot_id != self._clock.boot_id or lease.until_ns < self._clock.boot_ns():
            return True
        return not self._library.is_alive(lease.worker)

    def _lonely(self, row: JobRow) -> bool:
        deaths = row.takeovers + (row.lease is not None)
        return deaths >= self._settings.lease.lonely_after_takeovers

    def _ask_for(self, job_id: str, row: JobRow, *, lonely: bool) -> None:
        """Ask the log for the job."""
        self._alone = lonely
        grant = self._grant(row, lonely)
        self._asked[job_id] = grant
        batch = Batch(
            stream_of(job_id),
            grant.events,
            expected_version=row.version,
            epoch=row.epoch + 1,
            opens_epoch=True,
        )
        self._to.journal.tell(Append(batch, self.me, (job_id, row.epoch + 1)))

    def _grant(self, row: JobRow, lonely: bool) -> Grant:
        until = self._clock.boot_ns() + int(self._settings.lease.ttl_s * NANOSECONDS)
        dead = row.lease.worker if row.lease is not None else ""
        leased = JobLeased(self._worker, until, self._clock.boot_id, bool(dead), lonely)
        # What it did while alone clears it: its deaths before that count no more.
        if row.lease is not None and row.lease.alone and self._lonely(row):
            failed = JobStateChanged(row.state, State.FAILED, POISON)
            return Grant(row, (leased, failed, LeaseReleased(POISON)), dead, lonely, doomed=True)
        return Grant(row, (leased,), dead, lonely)

    def _journaled(self, message: Journaled) -> None:
        for (job_id, epoch), result in message.results:
            # The epoch tells a claim from a renewal of the lease before it, whose answer may come later.
            grant = self._asked.get(job_id)
            if grant is None or grant.row.epoch + 1 != epoch:
                if not isinstance(result, Appended):
                    self._refused(job_id, epoch)
                continue
            del self._asked[job_id]
            if isinstance(result, Appended):
                self._granted(job_id, grant, result)
            elif grant.alone:
                self._alone = False
        self._claim(self._next)

    def _granted(self, job_id: str, grant: Grant, result: Appended) -> None:
        if grant.doomed:
            self._alone = False
            self._watch(Came(self._errand, _poisoned(job_id, grant.row)))
            return
        recorded: Recorded[Any] = Recorded(
            position=result.position,
            stream=stream_of(job_id),
            version=result.version,
            epoch=grant.row.epoch + 1,
            time_ns=0,
            run_id="",
            cause=0,
            event=grant.events[0],
        )
        row = fold_job(grant.row, recorded)
        if row is not None:
            self.in_hand[job_id] = Held(row.epoch, self._errand)
            self._to.reconciler.tell(Taken(job_id, row, grant.dead_worker))

    # Keeping and letting go

    def _mind_the_clock(self) -> None:
        """Let go those who would wait too long because the wall clock was set back."""
        off_ns = self._off_ns()
        self._set_back = self._set_back or off_ns < self._wall_off_ns - STEP_NS
        self._wall_off_ns = off_ns
        if self._set_back:
            self._set_back = False
            self._waking = overslept(self._store, wall_ns=self._clock.wall_ns())
        for batch in islice(self._waking, WAKES_PER_LOOK):
            self._to.journal.tell(Append(batch, None))

    def _off_ns(self) -> int:
        return self._clock.wall_ns() - self._clock.boot_ns()

    def _renew(self) -> None:
        until = self._clock.boot_ns() + int(self._settings.lease.ttl_s * NANOSECONDS)
        for job_id, held in self.in_hand.items():
            batch = Batch(stream_of(job_id), (LeaseRenewed(until),), epoch=held.epoch)
            self._to.journal.tell(Append(batch, self.me, (job_id, held.epoch)))

    def _refused(self, job_id: str, epoch: int) -> None:
        """A renewal was refused: somebody else has the job, unless it is ours again under a later epoch."""
        held = self.in_hand.get(job_id)
        if held is not None and held.epoch == epoch:
            del self.in_hand[job_id]
            self._alone = False
            self._to.resolver.tell(Lost(job_id, epoch))

    def _let_go(self, message: LetGo) -> None:
        held = self.in_hand.get(message.job_id)
        if held is None or held.epoch != message.epoch:
            return  # of a lease before the one that is held now
        del self.in_hand[message.job_id]
        self._alone = False
        if message.outcome is not None:
            self._watch(Came(held.errand, message.outcome))
        self._claim(self._next)

    def _left(self, list_id: str) -> bool:
        """Whether unfinished jobs are left that time, or another worker's end, could open to us."""
        if self._parked is not None:
            return True
        rows = self._store.rows(
            COUNTS,
            [count_name(list_id, name) for name in ("unfinished", "waiting:offline", "waiting:rollout")],
        )
        unfinished, *parked = (count or 0 for count in rows)
        return bool(unfinished > sum(parked))

    def _again(self, delay_s: float, message: Any) -> None:
        self._scheduler.later(delay_s, lambda: self.me.tell(message))


def _poisoned(job_id: str, row: JobRow) -> Outcome:
    return msgspec.structs.replace(outcome_of(job_id, row), state=State.FAILED, reason=POISON)
