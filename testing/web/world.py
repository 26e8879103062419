"""A simulated scholarly web: one pure function from a call to a reply, and the truth about what can be had.

Build one in a few lines::

    from quire.testing.web import Copy, Paper, World, serve

    world = World.of(
        Paper(doi="10.1234/one", at="https://repository.example/one.pdf"),
        Paper(doi="10.1234/two", fate="truncated"),
        Paper(arxiv_id="2101.00001"),
        Paper(
            doi="10.1234/three",
            copies=(Copy(fate="missing"), Copy(source="landing_scrape_pdf", platform="ojs")),
        ),
        Paper(doi="10.1234/closed", copies=()),
    )
    with serve(world) as served:  # then: quire run --stand-in URL
        ...
    assert world.truth("10.1234/one").obtainable

Same papers and seed: same world, byte for byte. Nothing here reads a clock or draws by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ...errors import UsageError
from ...events.work import parse_work
from .artifacts import GOOD_FATES, Artifact, Fate
from .catalogue import Catalogue, Hiccup
from .demo import demo_hiccups, demo_papers
from .exchange import Call, Reply, host_of, html, json, text, url_key
from .fates import answer
from .papers import Paper, Placed
from .placing import place
from .publishers import DECOY_HOST
from .records import Mix, place_records
from .services import SERVICES
from .wall_shapes import walled
from .walls import BUSY, NOT_FOUND, UNAVAILABLE, wall_page

COLUMNS = ("doi", "arxiv_id", "pmcid", "pmid", "url", "title")
"""Of the CSV form of a list."""


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What a faultless harvester would make of a work."""

    obtainable: bool
    good_urls: tuple[str, ...]
    """Where a sound PDF of it is served, in the order of its copies."""
    sha256s: frozenset[str]
    """Hashes, in hex, of the bytes that count as this work's PDF."""
    why: str
    """The sources that lead to it with their fates, or why none does."""


class World:
    """A simulated scholarly web. Filled when it is made, then only read: safe for any number of threads."""

    def __init__(self, *, seed: int = 1) -> None:
        self.seed = seed
        self.catalogue = Catalogue()
        self._placed: dict[str, Placed] = {}

    def __repr__(self) -> str:
        return f"<World seed={self.seed} works={len(self._placed)} {self.catalogue!r}>"

    @classmethod
    def of(cls, *papers: Paper, seed: int = 1, answers: Mapping[str, Any] | None = None) -> World:
        """A world of these papers.

        Args:
            papers: what there is.
            seed: draws hosts and paths.
            answers: URL, with its query, → what is served there, also in place of what a paper puts there:
                bytes as they are, text as a page, a ``Reply`` as it says, anything else as JSON.

        Raises:
            UsageError: two papers are the same work, or a paper is not right in itself.
        """
        world = cls(seed=seed)
        for paper in papers:
            world.add(paper)
        for url, given in (answers or {}).items():
            world.serve(url, given)
        return world

    @classmethod
    def demo(cls, works: int = 200, *, seed: int = 1) -> World:
        """A world of works of every kind, faults included, that a run goes through in under half a minute."""
        world = cls.of(*demo_papers(works, seed), seed=seed)
        for url, kind in demo_hiccups(works):
            world.hiccup(url, kind)
        return world

    @classmethod
    def from_unpaywall(
        cls, records: Iterable[Mapping[str, Any]], *, seed: int = 1, mix: Mix | None = None
    ) -> World:
        """A world that serves real Unpaywall records and gives each of their URLs a fate (see ``Mix``).

        Landing pages are closed. The other services know nothing of these works, except arXiv, which has the
        papers that the records place there. Records without a DOI, and the second of a DOI, are left out.
        """
        world = cls(seed=seed)
        for placed in place_records(world.catalogue, records, seed=seed, mix=mix or Mix()):
            world.remember(placed)
        return world

    def add(self, paper: Paper) -> Placed:
        """Put one more paper in, before anything is asked.

        Raises:
            UsageError: the work is there already, or the paper is not right in itself.
        """
        placed = place(self.catalogue, paper, seed=self.seed)
        self.remember(placed)
        return placed

    def serve(self, url: str, answer: Any) -> None:
        """Answer a URL with what one gives, as ``answers`` of ``of``; before anything is asked.

        Raises:
            UsageError: the URL is none, or the answer cannot be written as JSON.
        """
        if not host_of(url) or "://" not in url:
            raise UsageError(f"{url!r} is no URL: give it whole, with https:// and its query")
        reply = _reply(url, answer)
        self.catalogue.places[url_key(url)] = lambda _call: reply

    def remember(self, placed: Placed) -> None:
        """Know the truth about a paper that stands in the catalogue already."""
        work_id = placed.paper.work().work_id
        if work_id in self._placed:
            raise UsageError(f"{work_id} is in this world already: give each Paper an identifier of its own")
        self._placed[work_id] = placed

    def hiccup(self, url: str, kind: Hiccup) -> None:
        """Let a service fail for the questions whose URL, without its query, is this one."""
        self.catalogue.hiccups[url_key(url).partition("?")[0]] = kind

    def answer(self, call: Call) -> Reply:
        """What the simulated web answers; it never raises, whatever is asked."""
        key = url_key(call.url)
        hiccup = self.catalogue.hiccups.get(key.partition("?")[0])
        failing = _failing(hiccup, call) if hiccup else None
        if failing:
            return failing
        found = self.catalogue.places.get(key) or self.catalogue.places.get(
            key.replace("/pdfdirect/", "/pdf/")
        )
        return found(call) if found else self._by_host(call)

    def _by_host(self, call: Call) -> Reply:
        host = host_of(call.url)
        try:
            parts = urlsplit(call.url)
        except ValueError:
            return html(NOT_FOUND, status=400)
        if parts.path == "/robots.txt":
            return self._robots(host)
        service = SERVICES.get(host)
        if service:
            return service(self.catalogue, call, parts)
        if host == DECOY_HOST and parts.path.endswith(".pdf"):
            return answer(Artifact(url=call.url, content=f"decoy {parts.path}", title="Another paper"), call)
        return walled("login", call.url) if host.startswith("sso.") else html(NOT_FOUND, status=404)

    def _robots(self, host: str) -> Reply:
        rules = self.catalogue.robots.get(host)
        if rules == "error":
            return html(UNAVAILABLE, status=503)
        return text(rules) if rules else html(NOT_FOUND, status=404)

    def truth(self, work: str) -> Truth:
        """The truth about a work, by work id (``doi:10.…``) or in any form a list takes.

        Raises:
            UsageError: no such work was put into this world.
        """
        placed = self._placed.get(work) or self._placed.get(_work_id(work))
        if placed is None:
            raise UsageError(f"there is no work {work!r} in this world; world.work_ids() names them")
        return Truth(
            obtainable=bool(placed.good),
            good_urls=tuple(a.url for a in placed.good),
            sha256s=frozenset(a.sha256 for a in placed.good),
            why=placed.why,
        )

    def work_ids(self) -> list[str]:
        """The works of this world, in the order they were put in."""
        return list(self._placed)

    def obtainable(self) -> list[str]:
        """The work ids of all that can be had."""
        return [work_id for work_id, placed in self._placed.items() if placed.good]

    def fate(self, url: str) -> Fate | None:
        """The fate of the PDF at a URL; None where no PDF was put."""
        return self.catalogue.fate(url)

    def is_good(self, url: str) -> bool:
        """Whether a faultless harvester gets a PDF from this URL."""
        return self.fate(url) in GOOD_FATES

    def inputs(self) -> list[str]:
        """The works as lines of a plain list; works known by title alone have no such line."""
        return [line for placed in self._placed.values() if (line := placed.paper.line())]

    def rows(self) -> list[dict[str, str]]:
        """All works as rows of a CSV list with ``COLUMNS``, those known by title alone included."""
        works = (placed.paper.work() for placed in self._placed.values())
        return [{name: getattr(work, name) for name in COLUMNS} for work in works]


def _reply(url: str, answer: Any) -> Reply:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, str):
        return html(answer)
    if isinstance(answer, bytes):
        return Reply(headers=(("Content-Type", _media_type(answer)),), body=answer)
    try:
        return json(answer)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the answer for {url} cannot be written as JSON: {error}") from None


def _media_type(body: bytes) -> str:
    start = body.lstrip()[:1]
    if body.startswith(b"%PDF-"):
        return "application/pdf"
    return {b"{": "application/json", b"[": "application/json", b"<": "text/html"}.get(
        start, "application/octet-stream"
    )


def _work_id(text_of_work: str) -> str:
    work = parse_work(text_of_work.removeprefix("url:"))
    return work.work_id if work else ""


def _failing(kind: Hiccup, call: Call) -> Reply | None:
    if kind in ("busy_once", "unavailable_once"):
        if call.number:
            return None
        busy = kind == "busy_once"
        retry = (("Retry-After", "1"),) if busy else ()
        return html(BUSY if busy else UNAVAILABLE, status=429 if busy else 503, headers=retry)
    if kind == "html":
        return html(wall_page("html", call.url))
    if kind == "wrong_shape":
        return json(["this", 1, {"is": "not"}, None, "the expected shape"])
    broken = b'{"doi": "10.5555/' if kind == "malformed" else b""
    return Reply(headers=(("Content-Type", "application/json"),), body=broken)
