"""A source that the user made: asks its address for a work and takes the PDF's address out of the answer.

The fields are those of Zotero's custom PDF resolvers (https://www.zotero.org/support/kb/custom_pdf_resolvers).
What is found passes the same guard, limits, robots.txt and proof as any other candidate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from ...config.resolvers import PLACEHOLDER, PLACEHOLDERS, source_name
from ...config.settings import DoiEndpoint, LandingOptions, Resolver, Thresholds
from ...events.work import Work
from ..web.exchange import Answer, Request, Role, Web
from ..web.page_repairs import web_url
from ..web.walls import Sight, wall_of
from .finding import (
    Candidate,
    Found,
    Lookup,
    accepted,
    distinct,
    distinct_urls,
    from_answer,
    nothing,
    quoted_doi,
)
from .landing_scrape import LandingScrape, inline
from .preference import Preference

if TYPE_CHECKING:
    from .selectors import Addresses

PAGES_MAX = 2
"""Landing pages of one answer that are read."""
LACKS = {"doi": "no_doi", "pmid": "no_pmid", "pmcid": "no_pmcid", "arxiv": "no_arxiv_id"}
"""Placeholder → the reason when the work has nothing to put there."""
_ACCEPT = {
    "html": "text/html,application/xhtml+xml,application/pdf;q=0.9,*/*;q=0.5",
    "json": "application/json,*/*;q=0.5",
}


def address_of(template: str, work: Work) -> str | None:
    """The address for one work: identifiers escaped as a path where they stand in it, whole in a query.

    None where what comes of it is no web address. An identifier that the work lacks leaves its place empty.
    """
    path, mark, query = template.partition("?")

    def in_path(name: str) -> str:
        return quoted_doi(getattr(work, PLACEHOLDERS[name]))

    def in_query(name: str) -> str:
        return quote(getattr(work, PLACEHOLDERS[name]), safe="")

    path = PLACEHOLDER.sub(lambda found: in_path(found[1]), path)
    return web_url(path + mark + PLACEHOLDER.sub(lambda found: in_query(found[1]), query))


class Custom:
    """A source ``custom:…``."""

    def __init__(
        self,
        resolver: Resolver,
        thresholds: Thresholds,
        wanted: Preference,
        *,
        landing: LandingOptions,
        doi: DoiEndpoint,
        aside: Callable[[Callable[[], Found]], Awaitable[Found]] = inline,
    ) -> None:
        """``landing`` and ``doi`` are for the landing pages that a JSON answer names."""
        self.name = source_name(resolver.name)
        self._resolver = resolver
        self._needs = tuple(dict.fromkeys(PLACEHOLDER.findall(resolver.url)))
        self._thresholds = thresholds
        self._wanted = wanted
        self._aside = aside
        bounds = msgspec.structs.replace(landing, depth_max=min(PAGES_MAX, landing.depth_max))
        self._pages = _Pages(self.name, bounds, thresholds, wanted, doi=doi, aside=aside)

    def __repr__(self) -> str:
        return f"Custom({self.name!r}, {self._resolver.url!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs each identifier that its address names."""
        missing = (LACKS[name] for name in self._needs if not getattr(lookup.work, PLACEHOLDERS[name]))
        lacking = next(missing, None)
        return lacking or (None if address_of(self._resolver.url, lookup.work) else "bad_url")

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """Its address for the work: a page, or a service that answers with JSON."""
        url = address_of(self._resolver.url, lookup.work) or self._resolver.url
        return url, "landing" if self._resolver.mode == "html" else "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """What the selector leads to; landing pages are read where no PDF is named beside them.

        Raises:
            WebError: there was no answer, or an error status.
        """
        answer = await self._ask(web, lookup)
        found = from_answer(answer, await self._aside(partial(self._read, answer)))
        if found.candidates or not found.seen:
            return found
        return await self._read_on(web, lookup, found)

    async def _ask(self, web: Web, lookup: Lookup) -> Answer:
        url, role = self.first_request(lookup)
        request = Request(
            url=url,
            role=role,
            source=self.name,
            retries_max=lookup.retries_max,
            deadline_s=lookup.timeout_s,
            robots=lookup.robots,
            accept=_ACCEPT[self._resolver.mode],
        )
        return await web.fetch(request)

    def _read(self, answer: Answer) -> Found:
        """What one answer gives; landing pages come as ``seen``."""
        from .selectors import in_json, on_page  # lxml is felt at start-up

        if 200 <= answer.status < 300 and _is_pdf(answer):
            return Found(
                candidates=(Candidate(url=answer.url, rule="custom_is_pdf", cookies=answer.cookies),)
            )
        if self._resolver.mode == "json":
            accepted(answer, self._thresholds)
            return self._taken(answer, in_json(answer, self._resolver))
        wall = wall_of(Sight(answer))
        if wall and wall.reason.startswith("blocked_"):
            return nothing(wall.reason)
        accepted(answer, self._thresholds)
        addresses = on_page(answer, self._resolver)
        said = wall or (wall_of(Sight(answer), weak=True) if addresses.reason == "no_pdf_link" else None)
        return nothing(said.reason) if said and not addresses.pdfs else self._taken(answer, addresses)

    def _taken(self, answer: Answer, addresses: Addresses) -> Found:
        in_html = self._resolver.mode == "html"
        candidates = distinct(
            Candidate(
                url=url,
                rule=f"custom_{self._resolver.mode}",
                referer=answer.url if in_html else "",
                cookies=answer.cookies,
            )
            for url in addresses.pdfs
            if self._wanted.wants_page(url)
        )
        missing = "unwanted_copies" if addresses.pdfs else addresses.reason or "no_pdf_location"
        reason = "" if candidates else missing
        return Found(candidates=candidates, reason=reason, seen=distinct_urls(addresses.pages))

    async def _read_on(self, web: Web, lookup: Lookup, found: Found) -> Found:
        """What the landing reader finds on the pages, with the account of the whole turn."""
        pages = await self._pages.find(
            web, msgspec.structs.replace(lookup, work=Work(), seen=found.seen, pages=())
        )
        return msgspec.structs.replace(
            pages,
            identified=None,
            seen=distinct_urls((*found.seen, *pages.seen)),
            retry_count=found.retry_count + pages.retry_count,
        )


class _Pages(LandingScrape):
    """The landing reader on pages that a user's source names, asked for in that source's name."""

    def __init__(
        self,
        name: str,
        settings: LandingOptions,
        thresholds: Thresholds,
        wanted: Preference,
        *,
        doi: DoiEndpoint,
        aside: Callable[[Callable[[], Found]], Awaitable[Found]],
    ) -> None:
        super().__init__(settings, thresholds, wanted, doi=doi, aside=aside)
        self.name = name


def _is_pdf(answer: Answer) -> bool:
    return answer.body.lstrip()[:5] == b"%PDF-" or answer.content_type == "application/pdf"
