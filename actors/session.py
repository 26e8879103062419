"""A session: one process's work on a library. It opens the library, starts the actors, and gives outcomes.

This is the embedded runtime: the command line is one of its users.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..config.settings import Quire
from ..errors import QuireError, UsageError
from ..events.facts import AnyEvent, LeaseReleased, LibraryCreated, RunFinished, RunStarted
from ..events.job import stream_of
from ..events.keys import job_key
from ..events.projections import (
    EVERYTHING,
    JOBS,
    LEASED,
    LIBRARY,
    LIBRARY_STREAM,
    RUN_PREFIX,
    job_id_of,
)
from ..events.record import Batch
from ..store.domain import QUIRE
from ..store.interface import EventStore
from ..store.library import Library, WorkerLock
from ..store.lmdb_store import LmdbStore
from ..version import VERSION
from .admission import admitted, check_list_id
from .directory import Directory
from .errands import Errands
from .messages import Came, Drain, PlanChunk, Work
from .outcome import Outcome, Planned, Wanted
from .runtime.journal import Append
from .runtime.mailbox import AskTimeoutError
from .runtime.ports import Cancel, Clock, Random, Scheduler, SystemClock, SystemRandom, stand_by
from .runtime.scheduler import ThreadScheduler
from .runtime.system import System
from .seen import SeenKeys
from .staff import Staff
from .web.cache_store import CacheStore
from .web.client import WebClient
from .web.client_settings import ClientSettings
from .web.exchange import Answer, Request
from .web.slot_table import SlotTable

if TYPE_CHECKING:
    import httpx

CHUNK_WORKS = 500
"""Works planned in one go."""
CHUNKS_AHEAD = 4
"""Chunks on their way at once."""
RECORD_S = 60.0
"""Time that an event of a session itself may take to become durable, in seconds."""
STOP_S = 10.0
"""Time that the actors get for an orderly end, in seconds."""


class Session:
    """One worker in one process; use it as a context manager.

    It opens the library (made where there is none) and starts the actors.

    Args:
        settings: all settings, as ``quire.config.loader`` gives them.
        inputs: names of the lists that are worked on; they are written into the log.
        list_id: the id that their works are planned under; written into the log.
        clock: the clock port.
        random: the chance port.
        scheduler: the port that runs everything.
        transport: the wire of the web port, in place of sockets.
        open_store: gives the log of a library for a run id, in place of LMDB's.
        process_id: what the log calls this process; the system's own id where left out.

    Raises:
        UsageError: the folder is no library, or one of the other kind (rehearsal or real).
        EnvironmentFault: the library cannot be opened or written here.
        DamagedError: the log cannot be read.
    """

    def __init__(
        self,
        settings: Quire,
        *,
        inputs: tuple[str, ...] = (),
        list_id: str = EVERYTHING,
        clock: Clock | None = None,
        random: Random | None = None,
        scheduler: Scheduler | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        open_store: Callable[[Library, str], EventStore] | None = None,
        process_id: int | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self.run_id = self._random.uuid()
        self.worker = self._random.uuid()
        self._scheduler = scheduler or ThreadScheduler(disk_threads=settings.download.disk_threads)
        self._transport = transport
        self._errands = Errands(self._scheduler)
        self._interrupted = False
        self._begun_ns = self.clock.boot_ns()
        self._closed = False
        self.library = Library.open(Path(settings.library), free_space_min=settings.download.free_space_min)
        self.store: EventStore = (open_store or self._lmdb)(self.library, self.run_id)
        process_id = os.getpid() if process_id is None else process_id
        self._begin(RunStarted(self.worker, list_id, inputs, VERSION, process_id))

    def __repr__(self) -> str:
        return f"<Session {self.run_id[:8]} on {self.library!r}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What it does for its user

    def plan(
        self,
        wanted: Iterable[Wanted],
        *,
        list_id: str,
        retry_failed: bool = False,
        since: int | None = None,
    ) -> Planned:
        """Make the works of a list jobs, each once, and say what became of them.

        Args:
            wanted: the works; read once, never held as a whole.
            list_id: 16 hex digits that name the list; the same list gives the same jobs.
            retry_failed: also take up failures that would not be tried again.
            since: the position of the log at which the list was begun, where it comes in several calls; what
                was planned behind it is a double.

        Raises:
            UsageError: a work has no identifier and no title, or a URL that is none.
            QuireError: the session had to stop.
        """
        check_list_id(list_id)
        errand = self._errands.begin()
        since = self.store.head().position if since is None else since
        total = Planned()
        ahead = 0
        # A repeat counts as one wherever it stands: the planner itself sees only its chunk, and the log.
        seen = SeenKeys()
        works = map(admitted, wanted)
        while chunk := tuple(islice(works, CHUNK_WORKS)):
            first = tuple(one for one in chunk if seen.is_new(job_key(one.work)))
            total = _sum(total, Planned(works=len(chunk) - len(first), doubled=len(chunk) - len(first)))
            self._to.planner.tell(PlanChunk(first, list_id, retry_failed, since, errand))
            ahead += 1
            if ahead >= CHUNKS_AHEAD:
                total = _sum(total, self._errands.planned(errand))
                ahead -= 1
        for _ in range(ahead):
            total = _sum(total, self._errands.planned(errand))
        return total

    def work(self, list_id: str = EVERYTHING) -> Iterator[Outcome]:
        """Bring the jobs of a list home; gives each outcome when it is durable.

        Ends when nothing is left that time could open, or after ``interrupt`` when nothing is in hand.

        Raises:
            QuireError: the session had to stop (disk full, log damaged, stand-in down); what is not done
                is taken up by the next run.
        """
        check_list_id(list_id)
        if self._interrupted:
            return
        errand = self._errands.begin()
        self._to.leases.tell(Work(list_id, errand))
        if self._interrupted:  # a signal between the two: its word was overtaken
            self._to.leases.tell(Drain())
        while isinstance(told := self._errands.came(errand), Came):
            yield told.outcome

    def interrupt(self) -> None:
        """Take up nothing more; ``work`` ends when what is in hand is done. Safe in a signal handler."""
        self._interrupted = True
        self._to.leases.tell(Drain())

    def fetch(self, request: Request) -> queue.SimpleQueue[Answer | BaseException]:
        """Ask the network under all our manners; the one answer, or why there is none, comes by the queue."""
        mail: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        self._scheduler.gather(self._web.fetch(request), mail.put)
        return mail

    def record(self, stream: str, event: AnyEvent) -> None:
        """Append an event to a stream that has no epoch; it is durable when this returns.

        Raises:
            QuireError: the session had to stop.
        """
        try:
            self._to.journal.ask(Append(Batch(stream, (event,)), None), timeout_s=RECORD_S)
        except QuireError as error:
            raise self._errands.fault or error from error

    def every(self, interval_s: float, call: Callable[[], None]) -> Cancel:
        """Make a short call, which must not block, every ``interval_s`` seconds until it is cancelled."""
        return Every(self._scheduler, interval_s, call)

    def statistics(self) -> dict[str, int]:
        """Counts of the session: ``requests``, ``bytes`` received, ``dead_letters``, messages by actor."""
        counts = {f"handled_{name}": one.handled for name, one in self._system.statistics().items()}
        return {**counts, **self._traffic(), "dead_letters": self._system.dead_letters().count}

    def close(self) -> None:
        """Stop in order: leases released, parts closed, everything said is durable. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        to = self._to
        phases = [
            [to.planner],
            [to.leases],
            [to.resolver],
            list(to.adapters.values()),
            [to.reconciler, to.finalizer, to.breakers],
        ]
        self._system.stop(phases, timeout_s=STOP_S)
        if self._errands.fault is None and self._finished():
            self._release_leases()
        late = self._system.stop([[to.journal]], timeout_s=STOP_S)
        closed = threading.Event()
        self._scheduler.gather(self._web.close(), lambda _: closed.set())
        closed.wait(stand_by(self._scheduler, closed.is_set, timeout_s=STOP_S))
        self._scheduler.close()
        if not late:  # a journal that is still in a commit must not lose its environment under it
            self.store.close()
        self._lock.release()

    # Inside

    def _begin(self, started: RunStarted) -> None:
        """Claim the library, say in its log that the run began, start the actors; or let go of everything."""
        lock: WorkerLock | None = None
        try:
            self._claim_library()
            self._lock = lock = self.library.claim_worker(self.worker)
            self.library.remove_dead_locks()
            self.store.append([Batch(RUN_PREFIX + self.run_id, (started,), expected_version=0)])
            self._start_actors()
        except BaseException:
            self._scheduler.close()
            self.store.close()
            if lock is not None:
                lock.release()
            raise

    def _lmdb(self, library: Library, run_id: str) -> EventStore:
        map_size = self.settings.store.map_size
        library.refuse_lost_log()
        return LmdbStore(library.events, QUIRE, run_id=run_id, clock=self.clock, map_size=map_size)

    def _claim_library(self) -> None:
        """Mark a new library as what it is; refuse one of the other kind."""
        rehearsal = self.settings.web.stand_in is not None
        (row,) = self.store.rows(LIBRARY, [b"library"])
        if row is None:
            created = LibraryCreated(self._random.uuid(), rehearsal, VERSION)
            self.store.append([Batch(LIBRARY_STREAM, (created,), expected_version=0)])
            (row,) = self.store.rows(LIBRARY, [b"library"])
        if row.rehearsal != rehearsal:
            kinds = ("a real library", "a rehearsal (made with web.stand_in)")
            raise UsageError(
                f"{self.library.path} is {kinds[row.rehearsal]}, and this run is "
                f"{'a rehearsal' if rehearsal else 'real'}: name another folder with --library"
            )

    def _finished(self) -> bool:
        """Record the end of the run; False where the journal, or this whole process, stood still too long."""
        elapsed_ms = (self.clock.boot_ns() - self._begun_ns) // 1_000_000
        event = RunFinished(
            self.worker, "interrupted" if self._interrupted else "ended", self._traffic(), elapsed_ms
        )
        ended = Append(Batch(RUN_PREFIX + self.run_id, (event,)), None)
        try:
            self._to.journal.ask(ended, timeout_s=STOP_S)  # behind it, all that was told before is durable
        except AskTimeoutError:
            return False  # its stop comes behind what waits; to raise here would leave store and lock open
        return True

    def _release_leases(self) -> None:
        """Let go what was granted while the actors stopped; a lease that is left would count as a death."""
        for _, key in self.store.scan(LEASED, self.worker.encode()):
            (row,) = self.store.rows(JOBS, [key])
            released = Batch(stream_of(job_id_of(key)), (LeaseReleased("shutdown"),), epoch=row.epoch)
            self._to.journal.tell(Append(released, None))

    def _traffic(self) -> dict[str, int]:
        web = self._web.statistics()
        return {"requests": web.requests, "bytes": web.bytes, "retries": web.retries}

    def _start_actors(self) -> None:
        self._system = System(scheduler=self._scheduler, clock=self.clock, on_fatal=self._errands.fail)
        self._slots = SlotTable(self.library.workers / "limits", boot_id=self.clock.boot_id)
        self._to = Directory()
        self._web = self._web_client()
        Staff(
            directory=self._to,
            settings=self.settings,
            store=self.store,
            library=self.library,
            web=self._web,
            slots=self._slots,
            clock=self.clock,
            scheduler=self._scheduler,
        ).start(
            self._system,
            worker=self.worker,
            run_id=self.run_id,
            plans=self._errands.plans.put,
            outcomes=self._errands.outcomes.put,
        )

    def _web_client(self) -> WebClient:
        settings = self.settings
        return WebClient(
            ClientSettings.of(settings),
            clock=self.clock,
            random=self._random,
            scheduler=self._scheduler,
            on_breaker=lambda event: self._to.breakers.tell(event),
            slots=self._slots,
            cache=CacheStore(
                self.library.path / "cache",
                bytes_max=settings.web.cache.bytes_max,
                free_space_min=settings.download.free_space_min,
                clock=self.clock,
            ),
            transport=self._transport,
        )


class Every:
    """A call that is made again and again; calling this object ends it."""

    def __init__(self, scheduler: Scheduler, interval_s: float, call: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._interval_s = interval_s
        self._call = call
        self._cancel: Cancel | None = scheduler.later(interval_s, self._turn)

    def __call__(self) -> None:
        """Make no further call."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def _turn(self) -> None:
        self._call()
        if self._cancel is not None:
            self._cancel = self._scheduler.later(self._interval_s, self._turn)


def _sum(one: Planned, other: Planned) -> Planned:
    return Planned(**{name: getattr(one, name) + getattr(other, name) for name in Planned.__struct_fields__})
