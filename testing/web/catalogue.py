"""What exists in a simulated web: the registers of its services. Filled once, then only read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec

from ...events.work import normal_title
from .artifacts import GOOD_FATES, Artifact, Fate
from .exchange import Call, Reply, url_key
from .fates import answer
from .lies import HOPS_ENDLESS

Hiccup = Literal["busy_once", "unavailable_once", "malformed", "empty", "html", "wrong_shape"]
"""How a service may fail for one question: the first time it is asked, or with an answer that is none."""

HOPS: dict[Fate, int] = {
    "redirected": 2,
    "redirect_loop": 2,
    "through_http": 1,
    "redirect_endless": HOPS_ENDLESS,
}
"""Fates with stations of their own on the way, and how many."""

Place = Callable[[Call], Reply]


class Entry(msgspec.Struct, kw_only=True):
    """A work as the services know it."""

    doi: str = ""
    arxiv_id: str = ""
    pmcid: str = ""
    pmid: str = ""
    title: str = ""
    render_urls: list[str] = []
    """PDFs that Europe PMC lists for it."""
    in_europe_pmc: bool = False


class BucketArticle(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an article in PubMed Central's bucket."""

    pmcid: str
    version: int
    doi: str
    title: str
    artifact: Artifact | None
    """None where the bucket has no PDF of it."""
    md5: str = ""
    """As the metadata says it."""

    @property
    def name(self) -> str:
        """``PMC123.1``."""
        return f"{self.pmcid}.{self.version}"


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """One capture in the web archive."""

    timestamp: str
    """14 digits."""
    url: str
    media_type: str
    status: str
    """``-`` for a revisit."""
    artifact: Artifact | None = None
    listed: bool = True
    """In the CDX index; one that is not is known to the availability service alone."""


class Catalogue:
    """The registers of one world."""

    def __init__(self) -> None:
        self.by_doi: dict[str, Entry] = {}
        self.by_arxiv: dict[str, Entry] = {}
        self.by_pmcid: dict[str, Entry] = {}
        self.by_pmid: dict[str, Entry] = {}
        self.by_title: dict[str, Entry] = {}
        self.unpaywall: dict[str, dict[str, Any]] = {}
        self.doi_targets: dict[str, str] = {}
        self.bucket: dict[str, list[BucketArticle]] = {}
        self.captures: dict[str, list[Capture]] = {}
        self.places: dict[str, Place] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.robots: dict[str, str] = {}
        self.hiccups: dict[str, Hiccup] = {}

    def __repr__(self) -> str:
        return (
            f"<Catalogue dois={len(self.by_doi)} places={len(self.places)} artifacts={len(self.artifacts)} "
            f"captures={len(self.captures)}>"
        )

    def enter(self, entry: Entry) -> None:
        """Make a work known under each identifier it has."""
        registers = (
            (self.by_doi, entry.doi),
            (self.by_arxiv, entry.arxiv_id),
            (self.by_pmcid, entry.pmcid),
            (self.by_pmid, entry.pmid),
            (self.by_title, normal_title(entry.title)),
        )
        for register, name in registers:
            if name:
                register.setdefault(name, entry)

    def serve(self, url: str, reply: Reply) -> None:
        """Answer a URL always alike; who comes first stays."""
        self.places.setdefault(url_key(url), lambda call: reply)

    def put(self, artifact: Artifact) -> Artifact:
        """Answer a URL with a PDF's fate; the first PDF stays, and is returned; a page gives way to it."""
        key = url_key(artifact.url)
        kept = self.artifacts.setdefault(key, artifact)
        self.places[key] = partial(answer, kept)
        for hop in range(1, HOPS.get(kept.fate, 0) + 1):
            self.places.setdefault(url_key(kept.hop(hop)), partial(answer, kept))
        return kept

    def fate(self, url: str) -> Fate | None:
        """The fate of the PDF at a URL; None where there is none."""
        artifact = self.artifacts.get(url_key(url))
        return artifact.fate if artifact else None

    def good(self, url: str) -> Artifact | None:
        """The PDF at a URL, if a faultless harvester gets it there."""
        artifact = self.artifacts.get(url_key(url))
        return artifact if artifact and artifact.fate in GOOD_FATES else None
