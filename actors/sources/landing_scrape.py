"""The landing scraper: reads the pages that a work's URLs lead to, and says what on them may be the PDF."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from ...config.settings import DoiEndpoint, LandingOptions, Thresholds
from ...events.keys import canonical_url
from ...events.work import Work
from ..web.exchange import Answer, Request, Role, Web, WebError
from ..web.page_repairs import web_url
from ..web.page_rules import PAGE_IS_PDF, PDF_PATH
from ..web.walls import HOST_WALLS
from .finding import Candidate, Found, Lookup, accepted, distinct, distinct_urls, host_of, quoted_doi
from .preference import Preference

_HTML_KINDS = (
    "",
    "text/html",
    "application/xhtml+xml",
    "text/plain",
    "application/pdf",
    "text/xml",
    "application/xml",
)


async def inline(work: Callable[[], Found]) -> Found:
    """Read the page where it is; the scheduler's ``aside`` does it on a thread."""
    return work()


RESOLVERS = ("doi.org", "dx.doi.org", "hdl.handle.net")
"""Hosts whose pages lead on to others."""


class LandingScrape:
    """The source ``landing_scrape_pdf``."""

    name = "landing_scrape_pdf"

    def __init__(
        self,
        settings: LandingOptions,
        thresholds: Thresholds,
        wanted: Preference,
        *,
        doi: DoiEndpoint,
        aside: Callable[[Callable[[], Found]], Awaitable[Found]] = inline,
    ) -> None:
        self._candidates_max = settings.candidates_max
        self._depth_max = settings.depth_max
        self._resolver = doi.endpoint.rstrip("/")
        self._thresholds = thresholds
        self._wanted = wanted
        self._aside = aside

    def __repr__(self) -> str:
        return f"LandingScrape(depth_max={self._depth_max})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a page, a landing URL, or a DOI to get to one."""
        return None if lookup.pages or self._starts(lookup) else "no_url"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """The first page to be fetched; the page at hand where there is one."""
        starts = self._starts(lookup)
        return (starts[0] if starts else lookup.pages[0].url), "landing"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """Read the pages at hand, then those that are known by URL, until one declares its PDF.

        At most ``depth_max`` pages are fetched, frames and refreshes included, none twice.

        Raises:
            WebError: no page could be read.
        """
        trail = _Trail(lookup, self._starts(lookup))
        failure: WebError | None = None
        for _ in range(self._depth_max + len(lookup.pages)):
            try:
                answer = await self._next_page(web, lookup, trail)
                if answer is None:
                    break
                trail.add(answer, await self._aside(partial(self._read, answer)))
            except WebError as error:
                failure = failure or error
                continue
            if trail.settled:
                break
        if not trail.read and failure:
            raise failure
        return trail.found(self._candidates_max)

    def _starts(self, lookup: Lookup) -> tuple[str, ...]:
        """URLs to begin at: the work's own, landing pages as seen (the best copy's first), the resolver last.

        A resolver's URL is behind the others also where a source saw it: its turn was before this one.
        """
        seen = [url for url in lookup.seen if not PDF_PATH.search(url)]
        seen.sort(key=lambda url: host_of(url) in RESOLVERS)
        resolver = (
            [f"{self._resolver}/{quoted_doi(lookup.work.doi)}"]
            if lookup.work.doi and not lookup.pages
            else []
        )
        known = (lookup.work.url, *seen, *resolver)
        clean = (web_url(url) for url in known if self._wanted.wants_page(url))
        return distinct_urls(url for url in clean if url)

    async def _next_page(self, web: Web, lookup: Lookup, trail: _Trail) -> Answer | None:
        if trail.at_hand:
            return trail.at_hand.popleft()
        step = trail.next_step()
        if step is None:
            return None
        url, page = step
        answer = await web.fetch(
            Request(
                url=url,
                role="landing",
                source=self.name,
                retries_max=lookup.retries_max,
                # One page that hangs leaves time for the others.
                deadline_s=lookup.timeout_s / (2 if trail.waiting else 1),
                robots=lookup.robots,
                referer=page.url if page else "",
                cookies=page.cookies if page else (),
                accept="text/html,application/xhtml+xml,application/pdf;q=0.9,*/*;q=0.5",
            )
        )
        trail.visit(answer)
        return answer

    def _read(self, answer: Answer) -> Found:
        """What one page gives; pages to follow come as ``seen``."""
        from ..web.page import read_page  # lxml is felt at start-up

        if answer.content_type not in _HTML_KINDS and not answer.body.startswith(b"%PDF-"):
            return Found(candidates=(), reason="not_html")
        reading = read_page(answer, links_max=self._candidates_max)
        if not reading.reason.startswith("blocked_"):
            accepted(answer, self._thresholds)
        candidates = tuple(
            Candidate(url=link.url, rule=link.rule, referer=answer.url, cookies=answer.cookies)
            for link in reading.links
            if self._wanted.wants_page(link.url)
        )
        unwanted = reading.links and not candidates
        declared = any(link.declared or link.rule == PAGE_IS_PDF for link in reading.links)
        settled = int(declared and not reading.sold)
        return Found(
            candidates=candidates,
            reason="unwanted_copies" if unwanted else reading.reason,
            seen=reading.follow,
            identified=reading.identified,
            meta={"settled": settled},
        )


class _Trail:
    """Where one turn has been and what it has found."""

    def __init__(self, lookup: Lookup, starts: tuple[str, ...]) -> None:
        self.at_hand = deque(lookup.pages)
        self.waiting: deque[tuple[str, Answer | None]] = deque((url, None) for url in starts)
        """URLs to read, with the page that led to each."""
        self.read: list[tuple[Answer, Found]] = []
        self.settled = False
        self._work = lookup.work
        self._met = {_identity(url) for url in lookup.seen}
        self._visited: set[str] = set()
        self._walled: set[str] = set()
        for page in lookup.pages:
            self.visit(page)

    def __repr__(self) -> str:
        return f"_Trail(read={len(self.read)}, waiting={len(self.waiting)})"

    def visit(self, answer: Answer) -> None:
        """Remember a page and the redirects to it, so that none is fetched twice."""
        self._visited.update(_identity(url) for url in (*answer.hops, answer.url))

    def next_step(self) -> tuple[str, Answer | None] | None:
        """The next URL that has not been visited and stands behind no wall, with the page that led to it."""
        while self.waiting:
            url, page = self.waiting.popleft()
            if _identity(url) not in self._visited and host_of(url) not in self._walled:
                self._visited.add(_identity(url))
                return url, page
        return None

    def add(self, answer: Answer, found: Found) -> None:
        """Take in what a page gave; its frames and refreshes are read before other pages."""
        self.read.append((answer, found))
        if found.reason in HOST_WALLS:
            self._walled.add(host_of(answer.url))
        self.waiting.extendleft((url, answer) for url in reversed(found.seen))
        fresh = any(self._is_fresh(candidate) for candidate in found.candidates)
        self.settled = self.settled or (bool(found.meta.get("settled")) and fresh)

    def _is_fresh(self, candidate: Candidate) -> bool:
        """Whether a candidate is not known from before, where it failed; a page that is a PDF did not."""
        return candidate.rule == PAGE_IS_PDF or _identity(candidate.url) not in self._met

    def found(self, candidates_max: int) -> Found:
        """Everything found: pages that declare a PDF first, URLs that were met before last."""
        by_page = sorted((found for _, found in self.read), key=lambda found: not found.meta.get("settled"))
        every = distinct((c for found in by_page for c in found.candidates), at_most=10 * candidates_max)
        ordered = sorted(every, key=lambda candidate: not self._is_fresh(candidate))[:candidates_max]
        reasons = [found.reason for _, found in self.read if found.reason]
        spent = (
            "too_many_pages" if self.waiting or any(found.seen for _, found in self.read) else "no_pdf_link"
        )
        answer = self.read[-1][0] if self.read else None
        return Found(
            candidates=tuple(ordered),
            reason="" if ordered else reasons[0] if reasons else spent,
            identified=self._identified(),
            seen=distinct_urls(answer.url for answer, _ in self.read),
            status=answer.status if answer else 0,
            host=host_of(answer.url) if answer else "",
            retry_count=sum(answer.retry_count for answer, _ in self.read),
            meta={"pages": len(self.read)},
        )

    def _identified(self) -> Work | None:
        """Identifiers that the pages declare, where they are not another work's."""
        for _, found in self.read:
            learned = found.identified
            differs = learned and self._work.doi and learned.doi not in ("", self._work.doi)
            if learned and not differs and self._work.merged(learned) != self._work:
                return learned
        return None


def _identity(url: str) -> str:
    try:
        return canonical_url(url).rstrip("/")
    except ValueError:
        return url
