"""A worker without threads, web and disk: the real planner, lease manager, reconciler, resolver and journal.

Its sources, its finalizer, the disk and the gates of the web are played: what they answer, and when, is
decided by the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

from ..actors.directory import Directory
from ..actors.holdings import Holdings
from ..actors.job_in_hand import JobInHand
from ..actors.lease_manager import LeaseManager
from ..actors.messages import Came, ChunkPlanned, Idle
from ..actors.planner import Planner
from ..actors.reconciler import Reconciler
from ..actors.resolver import Resolver
from ..actors.runtime.actor import Actor
from ..actors.runtime.journal import Journal
from ..actors.runtime.system import NEVER, System
from ..actors.web.exchange import Web
from ..actors.web.slots import MemorySlots
from ..config.settings import Quire
from ..events.record import AppendResult, Batch, Fenced
from ..store.interface import EventStore
from ..store.library import Library
from ..store.objects import Objects
from .hand_scheduler import HandClock, HandScheduler
from .played import PlayedFinalizer, PlayedSources, Shelf, finders_of

STOP_S = 1.0
"""Time that its actors get to stop, in seconds; nothing is waited for here."""


class LateWords:
    """The store as a worker's journal sees it; it counts how often that worker was told that it is late."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.counts: Counter[tuple[str, int | None]] = Counter()
        """Stream and epoch → appends that held refused words about it."""

    def __repr__(self) -> str:
        return f"<LateWords {self.counts.total()}>"

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``."""
        results = self._store.append(batches)
        late = (b for b, result in zip(batches, results, strict=True) if isinstance(result, Fenced))
        self.counts.update({(batch.stream, batch.epoch) for batch in late})
        return results


class Worker:
    """One process of quire on a shared store: it can sleep, and it can die."""

    def __init__(
        self,
        name: str,
        *,
        store: EventStore,
        clock: HandClock,
        settings: Quire,
        sources: tuple[str, ...],
        shelf: Shelf,
        web: Web,
        is_alive: Callable[[str], bool],
        watch: Callable[[Came | Idle], None],
        report: Callable[[ChunkPlanned], None],
    ) -> None:
        self.name = name
        self.alive = True
        self.asleep = False
        self.list_id = ""
        """The list it works on; ``""`` when it has nothing to do or drains."""
        self.to_unpark: dict[str, int] = {}
        """Jobs that another run's setting held back when it was sent to work: it takes them up."""
        self.errand = 0
        """How often it was sent to work; an answer to an errand before says nothing of this one."""
        self.directory = Directory()
        self.scheduler = HandScheduler(clock)
        self.system = System(scheduler=self.scheduler, clock=clock, on_fatal=self._failed)
        self.fatal: list[str] = []
        """What ended its actors for good."""
        self._store, self._clock, self._settings = store, clock, settings
        self.late_words = LateWords(store)
        self._is_alive, self._watch, self._report = is_alive, watch, report
        self.shelf, self._web = shelf, web
        self._names = sources
        self.sources = PlayedSources(self.directory, shelf)
        self.finalizer = PlayedFinalizer(self.directory, shelf)
        self.resolver = self._resolver()
        self.leases = self._lease_manager()
        self._start()

    def __repr__(self) -> str:
        return f"<Worker {self.name} {'asleep' if self.asleep else 'awake'}, {len(self.jobs)} in hand>"

    @property
    def offline(self) -> bool:
        """Whether its settings forbid the network: what it takes up it parks."""
        return self._settings.web.offline

    @property
    def jobs(self) -> dict[str, JobInHand]:
        """The jobs that its resolver has in hand."""
        return self.resolver._desk.jobs

    def stop(self) -> None:
        """End as a process does that is asked to, phase by phase; not while it sleeps."""
        to = self.directory
        phases = [[to.planner], [to.leases], [to.resolver], [to.adapters[self._names[0]]]]
        self.system.stop([*phases, [to.reconciler, to.finalizer], [to.journal]], timeout_s=STOP_S)

    def _resolver(self) -> Resolver:
        return Resolver(
            directory=self.directory,
            settings=self._settings,
            finders=finders_of(self._names),
            web=self._web,
            holdings=Holdings(self._store, cast(Objects, self.shelf)),
            clock=self._clock,
            scheduler=self.scheduler,
            slots=MemorySlots(),
        )

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

        self.directory.journal = start("journal", Journal(cast(EventStore, self.late_words), batches_max=64))
        sources = start("sources", self.sources)
        self.directory.adapters.update(dict.fromkeys(self._names, sources))
        self.directory.finalizer = start("finalizer", self.finalizer)
        self.directory.resolver = start("resolver", self.resolver)
        objects = cast(Objects, self.shelf)
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
