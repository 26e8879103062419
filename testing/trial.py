"""A trial of a source of one's own: its finder, quire's real web client, the simulated web over loopback."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import get_args

import msgspec

from ..actors.runtime.scheduler import ThreadScheduler
from ..actors.sources.catalog import finders
from ..actors.sources.finding import Finder, Found, Lookup
from ..actors.web.client import WebClient, lone_client
from ..actors.web.exchange import Request, Role, WebError
from ..config.loader import Flag, load
from ..config.resolvers import source_name
from ..config.settings import Quire
from ..errors import UsageError
from ..events.work import Work
from .web.exchange import url_key
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
    """Candidate's URL → ``""`` when a PDF begins there, else the web's reason, such as ``http_404``.

    Nothing is downloaded: what shows only behind the first bytes (a file that is cut short, another article's
    PDF) is ``""`` here, and found out in a run.
    """

    @property
    def pdfs(self) -> list[str]:
        """The candidates at which a PDF opens, in the finder's order."""
        return [url for url, reason in self.opened.items() if not reason]


def try_finder(finder: Finder, work: Work, served: Served) -> Trial:
    """Ask a finder for a work and open each candidate, all requests going to the simulated web.

    Raises:
        UsageError: what its ``first_request`` says is no URL and role, or not what it asks first.
        whatever the finder raises besides ``WebError``: in quire that would end its adapter.
    """
    settings = load(_flags(served), environ={}).settings
    return _trial(settings, finder, work, served)


def try_resolver(resolvers: str | Path, work: Work, served: Served, *, name: str = "") -> Trial:
    """Ask a source that is written in YAML for a work, as ``try_finder`` does.

    Args:
        resolvers: the YAML (or JSON) text, or the file: settings with ``resolvers``, a list, or one alone.
        work: what is asked for.
        served: the simulated web.
        name: which of them, as its ``name`` says; the first where it is left out.

    Raises:
        UsageError: the settings are wrong, with file and line; or there is no such resolver.
    """
    text = resolvers.read_text("utf-8") if isinstance(resolvers, Path) else resolvers
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        file = Path(folder) / "resolvers.yaml"
        if isinstance(resolvers, Path):
            file = resolvers  # messages then name it
        else:
            file.write_text(text, "utf-8")
        whole = any(line.startswith("resolvers:") for line in text.splitlines())
        flags = [] if whole else [Flag(("resolvers",), str(file), "trial")]
        settings = load([*_flags(served), *flags], config=file if whole else None, environ={}).settings
    names = [source_name(one.name) for one in settings.resolvers]
    wanted = source_name(name) if name else next(iter(names), "")
    if wanted not in names:
        raise UsageError(f"there is no resolver {name!r}; there are {', '.join(names) or 'none'}")
    made = finders(settings.sources, settings.fallback.thresholds, resolvers=settings.resolvers)
    return _trial(settings, made[wanted], work, served)


def _flags(served: Served) -> list[Flag]:
    return [
        Flag(("web", "stand_in"), served.url, "trial"),
        Flag(("web", "pacing"), "none", "trial"),
        Flag(("web", "contact_email"), "trial@quire.test", "trial"),
    ]


def _trial(settings: Quire, finder: Finder, work: Work, served: Served) -> Trial:
    scheduler = ThreadScheduler(disk_threads=1)
    web = lone_client(settings, scheduler)
    lookup = Lookup(work=work, email="trial@quire.test", timeout_s=TIMEOUT_S, retries_max=0, robots=False)
    try:
        return asyncio.run(_tried(finder, lookup, web, served))
    finally:
        scheduler.close()


async def _tried(finder: Finder, lookup: Lookup, web: WebClient, served: Served) -> Trial:
    nothing = Found(candidates=())
    before = len(served.ledger)
    try:
        lacks = finder.lacks(lookup)
        if lacks:
            return Trial(nothing, lacks, {})
        first = _first_said(finder, lookup)
        try:
            found = await finder.find(web, lookup)
            opened = {one.url: await _opened(web, finder, one.url, one.referer) for one in found.candidates}
        finally:
            _check_first(finder, first, [entry.url for entry in served.ledger][before:])
        return Trial(found, found.reason, opened)
    except WebError as error:
        return Trial(nothing, error.reason, {})
    finally:
        await web.close()


def _first_said(finder: Finder, lookup: Lookup) -> str:
    said: object = finder.first_request(lookup)
    if isinstance(said, tuple) and len(said) == 2 and isinstance(said[0], str) and said[1] in get_args(Role):
        return said[0]
    raise UsageError(
        f"first_request of {finder.name} gives {said!r:.80}: give a URL and a role, one of "
        f"{', '.join(get_args(Role))}; breakers and limits are asked by it before the turn"
    )


def _check_first(finder: Finder, said: str, asked: list[str]) -> None:
    """Compare what a finder says that it asks first with what it did; robots.txt is asked by the client."""
    real = next((url for url in asked if not url_key(url).endswith("/robots.txt")), said)
    if url_key(real) != url_key(said):
        raise UsageError(
            f"first_request of {finder.name} says {said}, and what it asked first was {real}: breakers "
            "and limits would be those of another host; let it say the same"
        )


async def _opened(web: WebClient, finder: Finder, url: str, referer: str) -> str:
    request = Request(url=url, role="artifact", source=finder.name, deadline_s=TIMEOUT_S, referer=referer)
    try:
        download = await web.open(request)
    except WebError as error:
        return error.reason
    await download.close()
    return ""
