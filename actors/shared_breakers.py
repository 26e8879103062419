"""The breakers of a library: what this worker's breakers learn from the log, and what of theirs it is told.

The log's rows of hosts are the shared truth. A look is one read of an index that is kept by position, so that
neither an idle library nor thousands of hosts cost anything; it gives what others changed since the last one.

A host is half open while somebody's probe is out. Nobody else probes until that probe is answered, its worker
is dead, or ``PROBE_S_MAX`` has passed. Who opened a breaker by itself is let try first (``HEAD_START_S``).
Beyond that two workers whose waits end between the same two looks may both probe: one request more.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..events.projections import HOSTS, HOSTS_CHANGED, HOSTS_TROUBLED, RUNS, HostRow
from ..store.interface import EventStore
from ..store.library import Library
from .runtime.ports import NANOSECONDS, Clock
from .web.breaker import AFTER, PROBE_S_MAX, Breakers, News

PAGE = 256
"""Entries that one look at an index reads."""
HEAD_START_S = 1.0
"""How much longer than the worker that opened a breaker the others wait, in seconds."""
EARLY_S = 5.0
"""A breaker that opens so much earlier than was said lets waiting jobs go, in seconds."""


class SharedBreakers:
    """The log's breakers as one worker follows them; for one thread at a time."""

    def __init__(
        self, breakers: Breakers, *, run_id: str, store: EventStore, library: Library, clock: Clock
    ) -> None:
        """``run_id`` is what this worker writes under: what it said itself is no news to it."""
        self._breakers = breakers
        self._run_id = run_id
        self._store = store
        self._library = library
        self._clock = clock
        self.opened_early = False
        """Whether a breaker lets requests pass much earlier than was said; for the reader to set back."""
        self._seen = 0
        self._probers: dict[str, str] = {}
        """Host → the other worker whose probe is out."""

    def __repr__(self) -> str:
        return f"<SharedBreakers to {self._seen}, {len(self._probers)} probes of others, {self._breakers!r}>"

    def load(self) -> None:
        """Begin with every host that is not closed, and with the news from here on."""
        self._seen = self._store.head().position
        for row in self._troubled():
            self._learn(row)

    def look(self) -> None:
        """Learn what others said since the last look, and which of their probes died."""
        for row in self._news():
            self._learn(row)
        for host, worker in list(self._probers.items()):
            if not self._library.is_alive(worker):
                del self._probers[host]
                self._breakers.learn(News(host, "open", "the probe died with its worker"))

    def basis(self, host: str) -> int | None:
        """The version of a host's stream that this worker's word may follow; None where it is overruled.

        Read before the look, so that what is said on this version has been learned.
        """
        row = self._row(host)
        self.look()
        if self._breakers.is_told(host):
            return None
        self._probers.pop(host, None)
        return row.version if row is not None else 0

    def _row(self, host: str) -> HostRow | None:
        row: HostRow | None = self._store.rows(HOSTS, [host.encode()])[0]
        return row

    def _troubled(self) -> Iterator[HostRow]:
        after = b""
        while True:
            keys = [key for _, key in self._store.scan(HOSTS_TROUBLED, after=after, limit=PAGE)]
            yield from (row for row in self._store.rows(HOSTS, keys) if row is not None)
            if len(keys) < PAGE:
                return
            after = keys[-1]

    def _news(self) -> Iterator[HostRow]:
        """The rows that others changed, each once; one that changes meanwhile comes with the next look."""
        while True:
            page = self._store.scan(HOSTS_CHANGED, after=self._seen.to_bytes(8, "big"), limit=PAGE)
            rows = self._store.rows(HOSTS, [key for _, key in page]) if page else []
            for (entry, _), row in zip(page, rows, strict=True):
                self._seen = int.from_bytes(entry, "big")
                if row is not None and row.position == self._seen and row.run_id != self._run_id:
                    yield row
            if len(page) < PAGE:
                return

    def _learn(self, row: HostRow) -> None:
        self._probers.pop(row.host, None)
        news = self._news_of(row)
        before_s = self._breakers.learn(news)
        self.opened_early = self.opened_early or before_s - news.wait_s > EARLY_S

    def _news_of(self, row: HostRow) -> News:
        reason = row.reason.removeprefix(AFTER)
        if row.state == "closed":
            return News(row.host, "closed", reason)
        if row.state == "half_open":
            worker = self._prober(row)
            if worker:
                self._probers[row.host] = worker
                return News(row.host, "half_open", reason, row.failures, PROBE_S_MAX)
            return News(row.host, "open", reason, row.failures)
        news = News(row.host, "open", reason, row.failures, left_s(row, wall_ns=self._clock.wall_ns()))
        if news.wait_s > 0 and not news.by_hand:
            return News(row.host, "open", reason, row.failures, news.wait_s + HEAD_START_S)
        return news

    def _prober(self, row: HostRow) -> str:
        """The worker whose probe is out; ``""`` where it is dead."""
        (run,) = self._store.rows(RUNS, [row.run_id.encode()])
        return run.worker if run is not None and self._library.is_alive(run.worker) else ""


def left_s(row: HostRow, *, wall_ns: int) -> float:
    """Seconds that a host's breaker stays open, as its row tells it; 0 when a request may go.

    Never longer than it was opened for: a wall clock that was set back does not shut a host off for hours.
    """
    if row.state != "open":
        return 0.0
    return max(0, min(row.until_ns - wall_ns, row.lasts_ns)) / NANOSECONDS
