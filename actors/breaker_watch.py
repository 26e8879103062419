"""The breaker watch: tells the log what this worker's breakers do, and them what the log says of others.

What is said of a host follows the version of its stream that was known (``SharedBreakers.basis``): the store
refuses a word that another worker's, or the operator's, came before, and then theirs holds. One append of a
host is on its way at a time, so that none can follow by chance on what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..errors import QuireError
from ..events.facts import AnyEvent, BreakerChanged
from ..events.projections import HOST_PREFIX
from ..events.record import Appended, Batch
from ..store.interface import EventStore
from .directory import Directory
from .runtime.actor import Actor
from .runtime.journal import Append, Journaled
from .runtime.ports import Clock, Scheduler
from .shared_breakers import SharedBreakers
from .waking import WAKES_PER_LOOK, woken

LOOK_S = 0.5
"""How often the log is looked at, in seconds."""
HOST_BYTES_MAX = 300
"""A longer host is no name of the DNS: its breaker is this worker's own affair."""


class Look:
    """Time to look at the log."""


class BreakerWatch(Actor):
    """Keeps the breakers of this worker and of the log the same."""

    def __init__(
        self,
        shared: SharedBreakers,
        *,
        directory: Directory,
        store: EventStore,
        clock: Clock,
        scheduler: Scheduler,
    ) -> None:
        super().__init__()
        self._shared = shared
        self._to = directory
        self._store = store
        self._clock = clock
        self._scheduler = scheduler
        self._on_their_way: dict[str, list[BreakerChanged]] = {}
        """Hosts of which an append is with the journal, and what is to be said of them after it."""
        self._waking: Iterator[Batch[AnyEvent]] = iter(())

    def __repr__(self) -> str:
        return f"<BreakerWatch {self._shared!r}, {len(self._on_their_way)} appends on their way>"

    def started(self) -> None:
        """Begin to look."""
        self._again()

    def fatal(self, error: BaseException) -> bool:
        """A fault of the machine is not mended by starting anew."""
        return isinstance(error, QuireError)

    def handle(self, message: Any) -> None:
        """Do what the message asks for."""
        match message:
            case BreakerChanged():
                self._changed(message)
            case Journaled():
                self._journaled(message)
            case Look():
                self._look()
                self._again()

    def _changed(self, event: BreakerChanged) -> None:
        if len(event.host.encode()) > HOST_BYTES_MAX:
            return
        if event.host in self._on_their_way:
            self._on_their_way[event.host].append(event)
        else:
            self._say(event.host, (event,))

    def _say(self, host: str, events: tuple[BreakerChanged, ...]) -> None:
        version = self._shared.basis(host)
        if version is None:
            return  # what others said came first, and holds
        self._on_their_way[host] = []
        batch = Batch(HOST_PREFIX + host, events, expected_version=version)
        self._to.journal.tell(Append(batch, self.me, host))

    def _journaled(self, message: Journaled) -> None:
        for host, result in message.results:
            later = self._on_their_way.pop(host)
            if later:
                self._say(host, tuple(later))
            elif not isinstance(result, Appended):
                self._shared.look()

    def _look(self) -> None:
        """Learn the news. Jobs are let go one look later: what put them to wait before is in the log then."""
        wakes, self._shared.opened_early = self._shared.opened_early, False
        self._shared.look()
        if wakes:
            self._waking = woken(self._store, wall_ns=self._clock.wall_ns())
        for batch in islice(self._waking, WAKES_PER_LOOK):
            self._to.journal.tell(Append(batch, None))

    def _again(self) -> None:
        self._scheduler.later(LOOK_S, lambda: self.me.tell(Look()))
