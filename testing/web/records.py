"""A world out of real Unpaywall records: the identifiers and URLs are real, the fates are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

import msgspec

from ...errors import UsageError
from ...events.work import normal_arxiv, normal_doi
from .artifacts import FATES, GOOD_FATES, Artifact, Fate
from .catalogue import Catalogue, Entry
from .deeds import HOST_WALLS
from .exchange import host_of, redirect, url_key
from .papers import Paper, Placed
from .publishers import Landing, landing_pages
from .services import SERVICES

SIZES = (4_096, 60_000)
"""Least and greatest size of the PDFs, in bytes."""
HARD_GOOD, HARD_BAD = 0.22, 0.22
"""Shares of a hard mix: sound files with a difficulty, and the faults that a plain mix has not."""
HARD_PLAIN = (0.06, 0.06, 0.04)
"""Of the plain faults: missing, html, truncated."""
HARD_WALLED = 0.04
"""Share of the hosts that show a wall to everybody."""
_HOST_WALLS: tuple[Fate, ...] = tuple(fate for fate in FATES if fate in HOST_WALLS)
_MILD = tuple(
    fate for fate in FATES if fate in GOOD_FATES and fate not in ("good", "needs_cookie", "needs_referer")
)
_PLAIN = ("missing", "html", "html_as_pdf", "truncated")
_NOT_OF_A_SERVER = ("refused", "other_article")
"""An address of its own, and a sound file that is about something else: nothing that a server does wrong."""
_BAD = tuple(fate for fate in FATES if fate not in (*GOOD_FATES, *_PLAIN, *_HOST_WALLS, *_NOT_OF_A_SERVER))
WALLED_HOSTS = frozenset({"www.ncbi.nlm.nih.gov", "pmc.ncbi.nlm.nih.gov"})
"""Hosts whose article pages stand behind a browser check, PDFs and all: their URLs are never good."""
_DOI_HOSTS = frozenset({"doi.org", "dx.doi.org", "www.doi.org"})
_SHARE_TOLERANCE = 1e-6


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of fates among the PDF URLs of a world; they add up to 1."""

    good: float = 0.70
    missing: float = 0.12
    html: float = 0.12
    truncated: float = 0.06
    others: tuple[tuple[Fate, float], ...] = ()
    """Further fates with their shares."""
    sizes: tuple[int, int] = SIZES
    """Least and greatest size of the PDFs, in bytes."""
    stall_s: float = 10.0
    """Silence of a stalled one, in seconds."""
    walled_hosts: float = 0.0
    """Share of the hosts that show a browser check or a captcha whatever is asked."""
    shapes: bool = False
    """Whether walls and redirects come in all their shapes, and not in the first alone."""

    @classmethod
    def hard(cls, *, stall_s: float = 10.0) -> Mix:
        """Everything that goes wrong, with the plain faults: two URLs in five simply sound."""
        mild = [(name, HARD_GOOD / len(_MILD)) for name in _MILD]
        bad = [(name, HARD_BAD / len(_BAD)) for name in _BAD]
        missing, html, truncated = HARD_PLAIN
        good = 1 - HARD_GOOD - HARD_BAD - sum(HARD_PLAIN)
        return cls(good=good, missing=missing, html=html, truncated=truncated, others=(*mild, *bad),
                   stall_s=stall_s, shapes=True, walled_hosts=HARD_WALLED)  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Mix:
        """The mix of ``good=0.9,missing=0.1``: fates that are not named get no share.

        Raises:
            UsageError: a name is no fate, a value no share, or they do not add up to 1.
        """
        shares: dict[str, float] = {}
        for pair in text.split(","):
            name, _, value = pair.partition("=")
            if name.strip() not in FATES or not value.strip().replace(".", "", 1).isdigit():
                raise UsageError(f"{pair!r} is not FATE=SHARE; the fates are {', '.join(FATES)}")
            shares[name.strip()] = float(value)
        good, missing, html, truncated = (
            shares.pop(name, 0.0) for name in ("good", "missing", "html", "truncated")
        )
        others = tuple((cast(Fate, name), share) for name, share in shares.items())
        mix = cls(good=good, missing=missing, html=html, truncated=truncated, others=others)
        mix.shares()
        return mix

    def shares(self) -> list[tuple[Fate, float]]:
        """All fates with a share, in a fixed order.

        Raises:
            UsageError: they do not add up to 1.
        """
        named: list[tuple[Fate, float]] = [
            ("good", self.good),
            ("missing", self.missing),
            ("html", self.html),
            ("truncated", self.truncated),
            *self.others,
        ]
        total = sum(share for _, share in named)
        if abs(total - 1) > _SHARE_TOLERANCE:
            raise UsageError(f"the shares of a Mix add up to {total:.4f}: make it 1")
        return named


def place_records(
    catalogue: Catalogue, records: Iterable[Mapping[str, Any]], *, seed: int, mix: Mix
) -> Iterator[Placed]:
    """Put each record into the catalogue as Unpaywall's answer for its DOI, and say what became of it.

    Every URL of a PDF gets its fate by the seed and the URL alone, so that two records that share a URL share
    its fate and its bytes. Records without a DOI, and the second of a DOI, are left out.
    """
    draw = _Draw(seed, mix)
    for record in records:
        doi = normal_doi(str(record.get("doi") or ""))
        if doi and doi not in catalogue.unpaywall:
            yield _place(catalogue, doi, record, draw)


class _Draw:
    """Fates by seed and URL."""

    def __init__(self, seed: int, mix: Mix) -> None:
        self._seed, self._mix, self._shares = seed, mix, mix.shares()

    def artifact(self, url: str, title: str) -> Artifact:
        """The PDF of a URL, with the fate that falls to it."""
        key = url_key(url)
        digest = hashlib.sha256(f"{self._seed} {key}".encode()).digest()
        fate = self._fate(int.from_bytes(digest[:8], "big") / 2**64)
        if fate == "html" and digest[8] % 2:
            fate = "html_as_pdf"
        low, high = self._mix.sizes
        size = low + int.from_bytes(digest[9:13], "big") % (high - low + 1)
        walled = self._wall(host_of(url)) or fate
        shape = int.from_bytes(digest[13:15], "big") if self._mix.shapes else 0
        return Artifact(url=url, fate=walled, content=f"{self._seed} {key}", title=title, size=size,
                        stall_s=self._mix.stall_s, shape=shape)  # fmt: skip

    def _wall(self, host: str) -> Fate | None:
        """The wall before a whole host: browser checks ask who comes, not what for."""
        if host in WALLED_HOSTS:
            return "captcha"
        digest = hashlib.sha256(f"{self._seed} host {host}".encode()).digest()
        if host in SERVICES or int.from_bytes(digest[:8], "big") / 2**64 >= self._mix.walled_hosts:
            return None
        return _HOST_WALLS[digest[8] % len(_HOST_WALLS)]

    def _fate(self, point: float) -> Fate:
        edge = 0.0
        for fate, share in self._shares:
            edge += share
            if point < edge:
                return fate
        return self._shares[0][0]


def _place(catalogue: Catalogue, doi: str, record: Mapping[str, Any], draw: _Draw) -> Placed:
    title = str(record.get("title") or doi)
    catalogue.unpaywall[doi] = dict(record)
    catalogue.enter(Entry(doi=doi, title=title))
    pdfs = [catalogue.put(artifact) for artifact in _drawn(catalogue, doi, record, title, draw)]
    for landing in _landing_urls(record):
        if host_of(landing) in _DOI_HOSTS:
            _lead_to_closed(catalogue, _doi_in(landing), title)
        else:
            _show_closed(catalogue, landing, title, doi)
    _lead_to_closed(catalogue, doi, title)
    good = _once([artifact for artifact in pdfs if artifact.fate in GOOD_FATES])
    why = "; ".join(f"{host_of(a.url)}: {a.fate}" for a in pdfs) or "no location has a PDF"
    return Placed(paper=Paper(doi=doi, title=title), good=tuple(good), why=why)


def _once(artifacts: list[Artifact]) -> list[Artifact]:
    return list({artifact.url: artifact for artifact in artifacts}.values())


def _drawn(
    catalogue: Catalogue, doi: str, record: Mapping[str, Any], title: str, draw: _Draw
) -> Iterator[Artifact]:
    for url in _pdf_urls(record):
        if host_of(url) in _DOI_HOSTS:
            yield _through_doi(catalogue, url, title, draw)
        else:
            yield draw.artifact(url, title)
    for identifier in _arxiv_ids(record):
        catalogue.enter(Entry(arxiv_id=identifier, title=title))
        yield draw.artifact(f"https://arxiv.org/pdf/{identifier}", title)


def _through_doi(catalogue: Catalogue, url: str, title: str, draw: _Draw) -> Artifact:
    """A DOI link that is said to be a PDF: doi.org sends on to the publisher's file, which has the fate."""
    doi = _doi_in(url)
    target = f"https://files.publisher.example/{quote(doi)}.pdf"
    catalogue.doi_targets[doi] = target
    catalogue.serve(url, redirect(target))
    artifact = draw.artifact(target, title)
    catalogue.artifacts.setdefault(url_key(url), artifact)
    return artifact


def _locations(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    best = record.get("best_oa_location")
    return [*([best] if best else []), *(record.get("oa_locations") or [])]


def _pdf_urls(record: Mapping[str, Any]) -> list[str]:
    named = (location.get("url_for_pdf") for location in _locations(record))
    return list(dict.fromkeys(str(url) for url in named if url))


def _landing_urls(record: Mapping[str, Any]) -> list[str]:
    """Pages that no PDF and no service of ours stands at."""
    pdfs = {url_key(url) for url in _pdf_urls(record)}
    named = (loc.get(name) for loc in _locations(record) for name in ("url_for_landing_page", "url"))
    ours = (*WALLED_HOSTS, "arxiv.org")
    urls = (str(url) for url in named if url)
    return [url for url in dict.fromkeys(urls) if url_key(url) not in pdfs and host_of(url) not in ours]


def _arxiv_ids(record: Mapping[str, Any]) -> list[str]:
    """The arXiv papers that its locations name, be it by an abstract page alone."""
    names = ("url_for_pdf", "url_for_landing_page", "url")
    urls = (str(loc.get(name) or "") for loc in _locations(record) for name in names)
    found = (normal_arxiv(url) for url in urls if host_of(url) == "arxiv.org")
    return list(dict.fromkeys(pair[0] for pair in found if pair))


def _doi_in(url: str) -> str:
    return url_key(url).partition("/")[2].lower()


def _lead_to_closed(catalogue: Catalogue, doi: str, title: str) -> None:
    """The DOI leads to a closed page, unless it leads somewhere already."""
    if doi not in catalogue.doi_targets:
        closed = f"https://www.publisher.example/doi/abs/{quote(doi)}"
        _show_closed(catalogue, closed, title, doi)
        catalogue.doi_targets[doi] = closed


def _show_closed(catalogue: Catalogue, url: str, title: str, doi: str) -> None:
    for page_url, reply in landing_pages("closed", Landing(url=url, title=title, doi=doi)):
        catalogue.serve(page_url, reply)
