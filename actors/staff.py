"""The staff of a session: which actors there are, what each is given, and the order in which they start."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..config.settings import Quire
from ..store.interface import EventStore
from ..store.library import Library
from .breaker_watch import BreakerWatch
from .directory import Directory
from .finalizer import Finalizer
from .holdings import Holdings
from .lease_manager import LeaseManager
from .messages import Came, ChunkPlanned, Idle
from .planner import Planner
from .reconciler import Reconciler
from .resolver import Resolver
from .runtime.journal import Journal
from .runtime.ports import Clock, Scheduler
from .runtime.system import System
from .shared_breakers import SharedBreakers
from .sources.adapter import SourceAdapter
from .sources.catalog import finders
from .sources.finding import Finder
from .web.client import WebClient
from .web.slots import Slots


class Staff:
    """What the actors of one session work with."""

    def __init__(
        self,
        *,
        directory: Directory,
        settings: Quire,
        store: EventStore,
        library: Library,
        web: WebClient,
        slots: Slots,
        clock: Clock,
        scheduler: Scheduler,
    ) -> None:
        """``directory`` is filled by ``start``; ``slots`` are those that ``web`` counts its requests in."""
        self._to = directory
        self._settings = settings
        self._store = store
        self._library = library
        self._web = web
        self._slots = slots
        self._clock = clock
        self._scheduler = scheduler

    def __repr__(self) -> str:
        return f"<Staff of {self._library!r}>"

    def start(
        self,
        system: System,
        *,
        worker: str,
        run_id: str,
        plans: Callable[[ChunkPlanned], None],
        outcomes: Callable[[Came | Idle], None],
    ) -> None:
        """Start every actor and enter it in the directory, each after those that it talks to.

        Args:
            system: runs them.
            worker: the id that leases are held under.
            run_id: the id that the store writes under.
            plans: is told what became of each chunk of works.
            outcomes: is told of the jobs.
        """
        to = self._to
        shared = SharedBreakers(
            self._web.breakers, run_id=run_id, store=self._store, library=self._library, clock=self._clock
        )
        shared.load()
        bounds = self._settings.store.commit_batches_max
        to.journal = system.start("journal", lambda: Journal(self._store, batches_max=bounds))
        to.breakers = system.start("breakers", lambda: self._breaker_watch(shared))
        to.reconciler = system.start("reconciler", self._reconciler)
        catalog = finders(
            self._settings.sources,
            self._settings.fallback.thresholds,
            aside=self._scheduler.aside,
            resolvers=self._settings.resolvers,
        )
        for name, finder in catalog.items():
            to.adapters[name] = system.start(name, self._adapter_of(finder))
        to.finalizer = system.start("finalizer", self._finalizer)
        to.resolver = system.start("resolver", lambda: self._resolver(catalog))
        to.leases = system.start("leases", lambda: self._lease_manager(worker, outcomes))
        to.planner = system.start("planner", lambda: self._planner(plans))

    def _breaker_watch(self, shared: SharedBreakers) -> BreakerWatch:
        return BreakerWatch(
            shared, directory=self._to, store=self._store, clock=self._clock, scheduler=self._scheduler
        )

    def _reconciler(self) -> Reconciler:
        return Reconciler(directory=self._to, objects=self._library.objects)

    def _adapter_of(self, finder: Finder) -> Callable[[], SourceAdapter]:
        replaces = iter(_first_false())
        return lambda: SourceAdapter(
            replaces=next(replaces),
            finder=finder,
            directory=self._to,
            settings=self._settings,
            web=self._web,
            objects=self._library.objects,
            clock=self._clock,
            scheduler=self._scheduler,
        )

    def _finalizer(self) -> Finalizer:
        return Finalizer(
            directory=self._to,
            objects=self._library.objects,
            bounds=self._settings.download,
            scheduler=self._scheduler,
        )

    def _resolver(self, catalog: dict[str, Finder]) -> Resolver:
        return Resolver(
            directory=self._to,
            settings=self._settings,
            finders=catalog,
            web=self._web,
            holdings=Holdings(self._store, self._library.objects),
            clock=self._clock,
            scheduler=self._scheduler,
            slots=self._slots,
        )

    def _lease_manager(self, worker: str, outcomes: Callable[[Came | Idle], None]) -> LeaseManager:
        return LeaseManager(
            worker=worker,
            directory=self._to,
            settings=self._settings,
            store=self._store,
            clock=self._clock,
            scheduler=self._scheduler,
            library=self._library,
            watch=outcomes,
        )

    def _planner(self, plans: Callable[[ChunkPlanned], None]) -> Planner:
        return Planner(
            directory=self._to,
            retry=self._settings.retry,
            store=self._store,
            clock=self._clock,
            report=plans,
        )


def _first_false() -> Iterator[bool]:
    """Tells the first maker of an actor from those that replace it."""
    yield False
    while True:
        yield True
