"""A worker without threads, web and disk: the real planner, lease manager, reconciler and journal.

Hands play the rest. They stand where the resolver stands and hold the real ``JobInHand`` of each job; what
becomes of it is decided by the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ..actors.directory import Directory
from ..actors.job_in_hand import JobInHand
from ..actors.lease_manager import LeaseManager
from ..actors.messages import Came, ChunkPlanned, Idle, LetGo, Lost, Resolve
from ..actors.planner import Planner
from ..actors.reconciler import Reconciler
from ..actors.runtime.actor import Actor
from ..actors.runtime.journal import Append, Journal, Journaled
from ..actors.runtime.system import NEVER, System
from ..config.settings import Quire
from ..events import fallback
from ..events.facts import Event
from ..events.job import stream_of
from ..events.record import Appended, Batch
from ..store.interface import EventStore
from ..store.library import Library
from ..store.objects import Objects
from .hand_scheduler import HandClock, HandScheduler

PLAN = fallback.Plan(
    tiers=(("first", 2, ("ann", "bob")), ("second", 1, ("eve",))),
    timeouts_ms={"ann": 4_000, "bob": 4_000, "eve": 4_000},
    total_timeout_ms=60_000,
    total_attempts=5,
    max_concurrent=2,
)
"""A small plan: three sources in two tiers."""


class NoObjects:
    """A library's objects, of which there are none: nothing is salvaged."""

    def has(self, _sha256: str, _size: int) -> bool:
        """It is not there."""
        return False

    def part_path(self, job_id: str, epoch: int) -> Path:
        """A path where nothing is."""
        return Path(f"no-such-folder/{job_id}.{epoch}")


class Hands(Actor):
    """Holds the jobs that a worker has in hand, as the resolver does."""

    def __init__(self, directory: Directory, clock: HandClock) -> None:
        super().__init__()
        self.jobs: dict[str, JobInHand] = {}
        self.open: dict[str, tuple[str, str]] = {}
        """Job → kind and id of the op that these hands left in flight."""
        self.heard: dict[str, set[str]] = {}
        """Job → ops whose result these hands wrote themselves, perhaps not yet in the log."""
        self._to = directory
        self._clock = clock

    def handle(self, message: Any) -> None:
        """Take a job, drop it, or hear what became of an append."""
        match message:
            case Resolve():
                now_ms = self._clock.boot_ns() // 1_000_000
                self.jobs[message.job_id] = JobInHand(message.job_id, message.row, PLAN, now_ms=now_ms)
                self.open.pop(message.job_id, None)
                self.heard[message.job_id] = set()
            case Lost():
                self._drop(message.job_id, message.epoch)
            case Journaled():
                for (job_id, epoch, over), result in message.results:
                    if over or not isinstance(result, Appended):
                        self._drop(job_id, epoch)
                        self._to.leases.tell(LetGo(job_id, epoch))

    def commit(self, job: JobInHand, events: Sequence[Event], *, over: bool = False) -> None:
        """Append under the job's epoch, as the desk does."""
        batch = Batch(stream_of(job.job_id), tuple(events), epoch=job.epoch)
        job.letting_go = job.letting_go or over
        self._to.journal.tell(Append(batch, self.me, (job.job_id, job.epoch, over)))

    def _drop(self, job_id: str, epoch: int) -> None:
        job = self.jobs.get(job_id)
        if job is not None and job.epoch == epoch:
            del self.jobs[job_id]
            self.open.pop(job_id, None)


class Worker:
    """One process of quire on a shared store: it can sleep, and it can die."""

    def __init__(
        self,
        name: str,
        *,
        store: EventStore,
        clock: HandClock,
        settings: Quire,
        is_alive: Callable[[str], bool],
        watch: Callable[[Came | Idle], None],
        report: Callable[[ChunkPlanned], None],
    ) -> None:
        self.name = name
        self.alive = True
        self.asleep = False
        self.list_id = ""
        """The list it works on; ``""`` when it has nothing to do or drains."""
        self.errand = 0
        """How often it was sent to work; an answer to an errand before says nothing of this one."""
        self.directory = Directory()
        self.scheduler = HandScheduler(clock)
        self.system = System(scheduler=self.scheduler, clock=clock, on_fatal=self._failed)
        self.fatal: list[str] = []
        """What ended its actors for good."""
        self._store, self._clock, self._settings = store, clock, settings
        self._is_alive, self._watch, self._report = is_alive, watch, report
        self.hands = Hands(self.directory, clock)
        self.leases = self._lease_manager()
        self._start()

    def __repr__(self) -> str:
        return f"<Worker {self.name} {'asleep' if self.asleep else 'awake'}, {len(self.hands.jobs)} in hand>"

    def _lease_manager(self) -> LeaseManager:
        return LeaseManager(
            worker=self.name,
            directory=self.directory,
            settings=self._settings,
            store=self._store,
            clock=self._clock,
            scheduler=self.scheduler,
            library=cast(Library, self),
            watch=self._watch,
        )

    def _start(self) -> None:
        def start(name: str, actor: Actor) -> Any:
            return self.system.start(name, lambda: actor, policy=NEVER)

        self.directory.journal = start("journal", Journal(self._store, batches_max=64))
        self.directory.resolver = start("hands", self.hands)
        objects = cast(Objects, NoObjects())
        self.directory.reconciler = start("reconciler", Reconciler(directory=self.directory, objects=objects))
        self.directory.leases = start("leases", self.leases)
        planner = Planner(
            directory=self.directory,
            retry=self._settings.retry,
            store=self._store,
            clock=self._clock,
            report=self._report,
        )
        self.directory.planner = start("planner", planner)

    def _failed(self, name: str, error: BaseException) -> None:
        self.fatal.append(f"{name}: {error!r}")

    def is_alive(self, worker: str) -> bool:
        """As ``Library.is_alive``."""
        return self._is_alive(worker)

    def run(self) -> None:
        """Let its timers fire and its actors run until nothing moves, unless it sleeps or is dead."""
        if self.alive and not self.asleep:
            self.scheduler.fire()
            self.scheduler.settle()
