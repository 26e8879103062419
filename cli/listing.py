"""The pages of a query to OpenAlex: asked one after the other, with words for whatever may go wrong.

Memory holds one page and the cursors that were asked.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import msgspec

from ..actors.openalex import (
    FIRST,
    SERVICE,
    Page,
    Progress,
    Query,
    page_of,
    said_by,
)
from ..actors.web.exchange import Answer, Request, WebError
from ..config.settings import Quire
from ..errors import EnvironmentFault, UsageError
from ..events.facts import QueryPaged
from . import output
from .fields import BadLine, Entry, entry_of
from .records import work_of_openalex

MALFORMED_TRIES = 3
"""How often a page is asked for whose answer cannot be read."""
STARTS_MAX = 2
"""How often one run begins a listing: the second time because its cursor was refused."""
PAGES_SPARE = 10
"""Pages beyond twice those that the count allows for; a listing that goes on for longer has no end."""
LOOK_S = 0.2
"""How often a wait for an answer looks whether Ctrl-C came, in seconds."""
SAID_EVERY = 50
"""Pages between two lines about how far the listing is."""
_CURSOR_REFUSED = frozenset({400, 403, 404, 410, 422})
_TOO_MANY = 429
_EXAMPLE = "a record with an id, a DOI or a title"

Say = Callable[[str], None]


class Stopped(Exception):
    """Ctrl-C came while an answer was awaited."""


class Asks(Protocol):
    """A question put to the network; its answer comes by the queue."""

    def __call__(self, request: Request) -> queue.SimpleQueue[Answer | BaseException]:
        """Begin to ask."""
        ...


class Listed(NamedTuple):
    """One page with the cursor that it was asked with."""

    asked: str
    page: Page


class Listing:
    """The pages of a query that are still to be asked.

    ``settings`` say how it is asked, ``progress`` from where on, ``ask`` asks the network, ``say`` prints a
    line, and ``stopped`` tells whether Ctrl-C came.
    """

    def __init__(
        self,
        query: Query,
        settings: Quire,
        *,
        progress: Progress,
        ask: Asks,
        say: Say,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._query = query
        self._options = settings.sources.openalex
        self._email = settings.web.contact_email or ""
        self._ask = ask
        self._say = say
        self._stopped = stopped
        self.progress = progress
        self.cut = False
        """Whether it was stopped before its end."""
        self.in_circle = False
        """Whether it ended because it came back to where it was."""

    def __repr__(self) -> str:
        return f"<Listing of {self._query.text!r}: {self.progress.works} works, {self.progress.pages} pages>"

    def pages(self) -> Iterator[Listed]:
        """Page after page; whoever takes one asks for the next only when its works are durable.

        Raises:
            UsageError: the service refuses the query; in its own words.
            EnvironmentFault: no answer can be had now; the same command goes on later.
        """
        if self.progress.finished:
            return
        starts, first_count = 1, self.progress.count
        while not self.progress.finished:
            asked = self.progress.cursor
            try:
                answered = self._page(asked)
            except Stopped:
                self.cut = True
                return
            if answered is None:
                if starts >= STARTS_MAX:
                    raise EnvironmentFault(f"{SERVICE} refused its own cursor twice; {self._outlook()}")
                starts += 1
                self._say(
                    f"{SERVICE} no longer knows the cursor {asked[:60]}; it is listed from the beginning"
                )
                self.progress = Progress()
                continue
            first_count = first_count or answered.count
            listed = Listed(asked, self._checked(asked, answered))
            yield listed
            self._went_on(listed)
        self._ended(first_count)

    def _page(self, cursor: str) -> Page | None:
        """The page under a cursor; None where a cursor that was good once is refused."""
        wrong = ""
        for _ in range(MALFORMED_TRIES):
            answer = self._answer(cursor)
            if answer.status != 200:
                if cursor != FIRST and answer.status in _CURSOR_REFUSED:
                    return None
                raise self._refused(answer)
            page = page_of(answer)
            if isinstance(page, Page):
                return page
            wrong = page
        raise EnvironmentFault(
            f"{SERVICE}: its answer cannot be read, {MALFORMED_TRIES} times: {wrong}; {self._outlook()}"
        )

    def _answer(self, cursor: str) -> Answer:
        mail = self._ask(self._query.request(self._options, cursor=cursor, email=self._email))
        while True:
            try:
                answer = mail.get(timeout=LOOK_S)
                break
            except queue.Empty:
                if self._stopped():
                    raise Stopped from None
        if isinstance(answer, WebError):
            if answer.reason == "offline":
                raise UsageError("--openalex asks the network; leave --offline (web.offline) out") from answer
            raise EnvironmentFault(f"{SERVICE} cannot be asked: {answer}; {self._outlook()}") from answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _refused(self, answer: Answer) -> Exception:
        said = said_by(answer, secret=self._options.api_key or "")
        if answer.status == _TOO_MANY:
            more = "an address (--email) or a key (sources.openalex.api_key) raises the limit"
            return EnvironmentFault(f"{SERVICE} says too many requests: {said}; {self._outlook()}; {more}")
        if answer.status >= 500:
            return EnvironmentFault(f"{SERVICE} fails (HTTP {answer.status}): {said}; {self._outlook()}")
        return UsageError(f"{SERVICE} refuses {self._query.text} (HTTP {answer.status}): {said}")

    def _outlook(self) -> str:
        if not self.progress.works:
            return "nothing was listed; the same command tries again"
        return (
            f"{self.progress.works} of {self.progress.count} works are listed and planned; "
            "the same command goes on from there, and `quire resume` works those"
        )

    def _checked(self, asked: str, page: Page) -> Page:
        """The page; one that leads back, or on without end, is made the last."""
        pages_max = 2 * (page.count // self._options.per_page + 1) + PAGES_SPARE
        leads_back = page.cursor in self.progress.asked or page.cursor == asked
        if page.cursor and (leads_back or self.progress.pages >= pages_max):
            self.in_circle = True
            return msgspec.structs.replace(page, cursor="")
        return page

    def _went_on(self, listed: Listed) -> None:
        self.progress = self.progress.after(self.event(listed), 0)
        done = self.progress
        if done.pages == 1 or done.pages % SAID_EVERY == 0:
            self._say(f"{SERVICE}: {done.works} of {done.count} works listed")

    def event(self, listed: Listed, list_id: str = "") -> QueryPaged:
        """What the log says of a page that is planned."""
        page = listed.page
        return QueryPaged(
            SERVICE, self._query.text, list_id, listed.asked, page.cursor, len(page.works), page.count
        )

    def whole_event(self, list_id: str) -> QueryPaged:
        """What the log says of a listing that was planned in one go."""
        done = self.progress
        return QueryPaged(SERVICE, self._query.text, list_id, FIRST, "", done.works, done.count)

    def _ended(self, first_count: int) -> None:
        done = self.progress
        words = (
            f"{SERVICE}: all {output.many(done.works, 'work')} listed in {output.many(done.pages, 'page')}"
        )
        if self.in_circle:
            words = (
                f"{SERVICE} gave a page twice, so the listing ends here: {done.works} of {done.count} works; "
                "--refresh asks anew"
            )
        elif done.works != done.count or first_count != done.count:
            before = f" ({first_count} at the beginning)" if first_count != done.count else ""
            words += f"; it counts {done.count}{before}"
        self._say(words)


def entries_of(page: Page, number: int) -> Iterator[Entry]:
    """The works of a page; its lines are their places in it."""
    file = f"{SERVICE} page {number}"
    for line, record in enumerate(page.works, start=1):
        if isinstance(record, dict):
            yield entry_of(file, line, "", work_of_openalex, record)
        else:
            yield Entry(BadLine(file, line, "not a record", _EXAMPLE), "", file, line)
