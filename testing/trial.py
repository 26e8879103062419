"""A trial of a source of one's own: its finder, quire's real web client, the simulated web over loopback."""

from __future__ import annotations

import asyncio

import msgspec

from ..actors.runtime.ports import SystemClock, SystemRandom
from ..actors.runtime.scheduler import ThreadScheduler
from ..actors.sources.finding import Finder, Found, Lookup
from ..actors.web.client import WebClient
from ..actors.web.exchange import Request, WebError
from ..config.loader import Flag, load
from ..events.work import Work
from .web.server import Served

TIMEOUT_S = 10.0
"""Seconds that one request of a trial has."""


class Trial(msgspec.Struct, frozen=True):
    """What a finder found, and what its candidates are worth."""

    found: Found
    """Candidates or a reason, as the finder gave them; empty where it lacked something or got no answer."""
    reason: str
    """Why it could not begin, or the web's reason why it got no answer; ``""`` when it had its say."""
    opened: dict[str, str]
    """Candidate's URL → ``""`` when a PDF opens there, else the web's reason, such as ``http_404``."""

    @property
    def pdfs(self) -> list[str]:
        """The candidates at which a PDF opens, in the finder's order."""
        return [url for url, reason in self.opened.items() if not reason]


def try_finder(finder: Finder, work: Work, served: Served) -> Trial:
    """Ask a finder for a work and open each candidate, all requests going to the simulated web.

    Raises:
        whatever the finder raises besides ``WebError``: in quire that would end its adapter.
    """
    flags = [
        Flag(("web", "stand_in"), served.url, "trial"),
        Flag(("web", "pacing"), "none", "trial"),
        Flag(("web", "contact_email"), "trial@quire.test", "trial"),
    ]
    settings = load(flags, environ={}).settings
    scheduler = ThreadScheduler(disk_threads=1)
    web = WebClient(
        settings.web,
        thresholds=settings.fallback.thresholds,
        gates=settings.fallback.gates,
        download=settings.download,
        clock=SystemClock(),
        random=SystemRandom(),
        scheduler=scheduler,
        on_breaker=lambda _event: None,
    )
    lookup = Lookup(work=work, email="trial@quire.test", timeout_s=TIMEOUT_S, retries_max=0, robots=False)
    try:
        return asyncio.run(_tried(finder, lookup, web))
    finally:
        scheduler.close()


async def _tried(finder: Finder, lookup: Lookup, web: WebClient) -> Trial:
    nothing = Found(candidates=())
    try:
        lacks = finder.lacks(lookup)
        if lacks:
            return Trial(nothing, lacks, {})
        found = await finder.find(web, lookup)
        opened = {one.url: await _opened(web, finder, one.url, one.referer) for one in found.candidates}
        return Trial(found, found.reason, opened)
    except WebError as error:
        return Trial(nothing, error.reason, {})
    finally:
        await web.close()


async def _opened(web: WebClient, finder: Finder, url: str, referer: str) -> str:
    request = Request(url=url, role="artifact", source=finder.name, deadline_s=TIMEOUT_S, referer=referer)
    try:
        download = await web.open(request)
    except WebError as error:
        return error.reason
    await download.close()
    return ""
