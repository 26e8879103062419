"""The network as one turn of a source sees it: no URL is asked twice, and no wall is run against twice.

A finder fetches pages, and now and then the page is the PDF. Fetched as a page and then opened as a PDF it
would be asked for twice; so a page is opened like a PDF, and where it is one it stays open until the turn
takes it. A host that has shown a browser check or a captcha shows it again: the turn's other candidates there
are passed over, unless they alone come dressed: with the referer or cookies of a page that named them.
"""

from __future__ import annotations

from ...events.keys import canonical_url
from ..runtime.ports import Scheduler
from ..web.encoding import PDF_MARK
from ..web.exchange import Answer, Download, Gate, Request, Role, Web, WebError
from ..web.walls import HOST_WALLS, wall_reason
from .finding import host_of

GONE = frozenset({404, 410})
"""Statuses whose page need not be read to know why there is no PDF."""


class TurnWeb:
    """The web port of one turn; its coroutines run on the scheduler's event loop."""

    def __init__(self, web: Web, scheduler: Scheduler) -> None:
        self._web = web
        self._scheduler = scheduler
        self._asked: dict[str, bool] = {}
        """URL → whether all is known of it: it was a page itself, or was asked by somebody dressed."""
        self._kept: dict[str, Download] = {}
        self._walled: dict[str, bool] = {}
        """Host → whether whoever met its wall was dressed."""

    def __repr__(self) -> str:
        return f"<TurnWeb asked={len(self._asked)} kept={len(self._kept)} walled={sorted(self._walled)}>"

    async def fetch(self, request: Request) -> Answer:
        """As ``Web.fetch``; a landing page that turns out to be a PDF is kept open, and its body is a mark.

        Raises:
            WebError: also ``asked_already`` and ``walled_host``.
        """
        if request.role != "landing":
            return await self._web.fetch(request)
        self.admit(request)
        try:
            download = await self._web.open(request)
        except WebError as error:
            if error.page is None or error.reason == "soft_404":
                raise
            self._came(error.page.hops, error.page.url)
            return error.page
        before = self._kept.pop(download.url, None)
        if before is not None:
            await before.close()
        self._kept[download.url] = download
        self._came(download.hops, download.url)
        return Answer(
            url=download.url,
            status=download.status,
            headers=download.headers,
            body=PDF_MARK,
            hops=download.hops,
            retry_count=download.retry_count,
        )

    async def open(self, request: Request) -> Download:
        """As ``Web.open``; of a page that came instead it is said which wall it is, if it is one.

        Raises:
            WebError: a wall is not worth another try, whatever its status.
        """
        try:
            return await self._web.open(request)
        except WebError as error:
            await self._tell_wall(request, error)
            raise

    def gate(self, url: str, role: Role) -> Gate | None:
        """As ``Web.gate``."""
        return self._web.gate(url, role)

    async def close(self) -> None:
        """Close what was kept and not taken; the network itself stays as it is."""
        while self._kept:
            _, download = self._kept.popitem()
            await download.close()

    def taken(self, url: str) -> Download | None:
        """The open answer that was kept of a URL; it is the caller's from now on."""
        return self._kept.pop(url, None)

    def admit(self, request: Request) -> None:
        """Say that a URL is asked now.

        Raises:
            WebError: it was asked in this turn already, or its host shows a wall to whoever comes so.
        """
        dressed = is_dressed(request)
        identity = _identity(request.url)
        for known, reason in (
            (self._asked.get(identity), "asked_already"),
            (self._walled.get(host_of(request.url)), "walled_host"),
        ):
            if known is not None and (known or not dressed):
                raise WebError("nonretryable", reason, url=request.url)
        self._asked[identity] = dressed

    def again(self, url: str) -> None:
        """Let a URL be asked once more: its stream broke."""
        self._asked.pop(_identity(url), None)

    @property
    def keeps(self) -> bool:
        """Whether an open answer waits to be taken."""
        return bool(self._kept)

    async def _tell_wall(self, request: Request, error: WebError) -> None:
        page = error.page
        if page is None or error.status in GONE or page.body.lstrip()[:1] in (b"{", b"["):
            return  # nothing to look at, or data of a service, which is no wall however short it is
        wall = await self._scheduler.aside(lambda: wall_reason(page, request.url))
        if wall == "not_a_pdf":
            return
        error.reason = wall
        if error.outcome == "retryable":
            error.outcome = "nonretryable"
        if wall in HOST_WALLS:
            host = host_of(page.url)
            self._walled[host] = self._walled.get(host, False) or is_dressed(request)

    def _came(self, hops: tuple[str, ...], url: str) -> None:
        """A page came; what only led to it may lead elsewhere whoever comes with its cookies."""
        for hop in hops:
            self._asked.setdefault(_identity(hop), False)
        self._asked[_identity(url)] = True


def is_dressed(request: Request) -> bool:
    """Whether a request comes with the referer or cookies of a page that named its URL."""
    return bool(request.referer or request.cookies)


def _identity(url: str) -> str:
    try:
        return canonical_url(url)
    except ValueError:
        return url
