"""``run --openalex``: the works of a query as a list, from where the log says that its listing stopped.

A page is planned before its cursor is recorded. So a crash costs at most one page asked for again, whose
works are then known already.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from ..actors.openalex import FIRST, SERVICE, Progress, Query, progress_in, stream_of_query
from ..actors.outcome import Planned
from ..actors.runtime.scheduler import ThreadScheduler
from ..actors.session import Session
from ..actors.web.client import lone_client
from ..actors.web.exchange import Answer, Request
from ..config.settings import Quire
from ..events.job import HOME, State
from . import output
from .failures import failures_of
from .fields import Entry
from .library import counts_of, under
from .listing import Asks, Listed, Listing, Say, entries_of
from .reading import Reader, sum_of

CLOSE_S = 10.0
"""Time that the connections of a question of its own get to close, in seconds."""


class QueryRun:
    """A query within a run: listed, planned and recorded in one session."""

    def __init__(
        self,
        session: Session,
        query: Query,
        *,
        list_id: str,
        refresh: bool,
        say: Say,
        stopped: Callable[[], bool],
    ) -> None:
        self._session = session
        self._list_id = list_id
        progress = progress_in(session.store, list_id)
        if refresh and progress.finished:
            progress = Progress()
        self.listing = Listing(
            query, session.settings, progress=progress, ask=session.fetch, say=say, stopped=stopped
        )
        say(f"{SERVICE}: {query.text} is list {list_id}; {self._standing(progress)}")

    def __repr__(self) -> str:
        return f"<QueryRun {self._list_id} {self.listing!r}>"

    @staticmethod
    def _standing(progress: Progress) -> str:
        if progress.finished:
            when = output.iso_time(progress.time_ns)
            return f"its {output.many(progress.works, 'work')} were listed by {when}; --refresh asks anew"
        if progress.pages:
            return f"going on behind page {progress.pages} ({progress.works} of {progress.count} works)"
        return "asking for its works"

    def plan(self, reader: Reader, *, retry_failed: bool, files: Planned) -> Planned:
        """List what is left and plan it page by page; what became of the whole list.

        Args:
            reader: tells bad records, and stops with the run.
            retry_failed: also take up failures that would not be tried again.
            files: what became of the files beside the query, planned before.
        """
        known = self._again(files, retry_failed=retry_failed) if self.listing.progress.pages else files
        since = self._session.store.head().position
        for listed in self.listing.pages():
            if listed.asked == FIRST:  # whatever runs before listed comes again
                known, since = files, self._session.store.head().position
            works = reader.works_of(entries_of(listed.page, self.listing.progress.pages + 1))
            planned = self._session.plan(works, list_id=self._list_id, retry_failed=retry_failed, since=since)
            known = sum_of(known, planned)
            if reader.cut:
                break  # the page was not planned to its end
            if listed.page.works or self.listing.progress.works:  # an empty answer is asked for again
                self._record(listed)
        reader.cut = reader.cut or self.listing.cut
        return known

    def plan_drawn(self, reader: Reader, *, retry_failed: bool) -> Planned:
        """Plan a sample of the query and the files, which needs all of them; recorded when it is durable."""
        if self.listing.progress.finished:
            return self._again(Planned(), retry_failed=retry_failed)
        self.listing.progress = Progress()
        planned = self._session.plan(reader, list_id=self._list_id, retry_failed=retry_failed)
        reader.cut = reader.cut or self.listing.cut
        if not reader.cut:
            self._session.record(stream_of_query(self._list_id), self.listing.whole_event(self._list_id))
        return planned

    def entries(self) -> Iterator[Entry]:
        """All works of the query, none recorded: for a sample."""
        if self.listing.progress.finished:
            return
        for listed in self.listing.pages():
            yield from entries_of(listed.page, self.listing.progress.pages + 1)

    def _record(self, listed: Listed) -> None:
        self._session.record(stream_of_query(self._list_id), self.listing.event(listed, self._list_id))

    def _again(self, files: Planned, *, retry_failed: bool) -> Planned:
        """What is known of the list from runs before: its failures are tried again as those of a file are."""
        store = self._session.store
        failed = (
            wanted for wanted, row in failures_of(store, self._list_id) if row.may_retry or retry_failed
        )
        again = self._session.plan(failed, list_id=self._list_id, retry_failed=retry_failed)
        counts = counts_of(store, self._list_id)
        states = under(counts, "state")
        requeued = files.requeued + again.requeued
        return Planned(
            works=sum(states.values()) + files.doubled,
            doubled=files.doubled,
            new=files.new,
            unfinished=max(0, counts.get("unfinished", 0) - files.new - requeued),
            requeued=requeued,
            home=sum(n for state, n in states.items() if State(state) in HOME),
            failed=states.get(State.FAILED, 0),
        )


@contextmanager
def lone_web(settings: Quire) -> Iterator[Asks]:
    """A way to the network without a library, with all manners but limits shared between processes."""
    scheduler = ThreadScheduler(disk_threads=1)
    web = lone_client(settings, scheduler)

    def ask(request: Request) -> queue.SimpleQueue[Answer | BaseException]:
        mail: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        scheduler.gather(web.fetch(request), mail.put)
        return mail

    try:
        yield ask
    finally:
        closed = threading.Event()
        scheduler.gather(web.close(), lambda _: closed.set())
        closed.wait(CLOSE_S)
        scheduler.close()


class Foreseen(msgspec.Struct, frozen=True):
    """What a run would still ask of a query."""

    list_id: str
    listed: int
    """Works that runs before listed."""
    count: int
    """Works that the service counts."""
    pages: int
    """Pages that would be asked."""

    def __str__(self) -> str:
        if not self.pages:
            listed = output.many(self.listed, "work")
            return f"{SERVICE}: the query was listed before, {listed}; no page would be asked"
        return (
            f"{SERVICE} counts {output.many(self.count, 'work')}, {self.listed} of them listed before; "
            f"{output.many(self.pages, 'page')} would be asked"
        )


def foresee(query: Query, settings: Quire, *, list_id: str, progress: Progress, refresh: bool) -> Foreseen:
    """What a run would ask, by one page of it; nothing where the listing is finished.

    Raises:
        QuireError: as ``Listing.pages``.
    """
    progress = Progress() if refresh and progress.finished else progress
    if progress.finished:
        return Foreseen(list_id, progress.works, progress.count, 0)
    with lone_web(settings) as ask:
        listing = Listing(query, settings, progress=progress, ask=ask, say=output.warn)
        count = next(listing.pages()).page.count
    left = max(1, count - listing.progress.works)
    return Foreseen(list_id, listing.progress.works, count, -(-left // settings.sources.openalex.per_page))
