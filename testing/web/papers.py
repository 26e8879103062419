"""Papers as a test describes them: identifiers, the copies there are, and how the user asks."""

from __future__ import annotations

from typing import Literal

import msgspec

from ...config.settings import SourceName
from ...errors import UsageError
from ...events.work import Work
from .artifacts import Artifact, Fate, check_fate
from .faults import STALL_S
from .publishers import Platform

AskedBy = Literal["doi", "arxiv_id", "pmcid", "pmid", "url", "title", "arxiv_doi"]


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One way to a paper's PDF."""

    source: SourceName = "unpaywall_pdf"
    """The source that leads to it."""
    at: str = ""
    """Its URL; made up where it is empty. arXiv and the PMC bucket have theirs by identifier."""
    fate: Fate = "good"
    platform: Platform = "meta"
    """Of the landing page, where the source is ``landing_scrape_pdf``."""
    stall_s: float = STALL_S
    """Silence in seconds, where the fate is ``stall`` or ``silent``."""
    shape: int = 0
    """Which of its ways the fate takes, where it has several (``Artifact.shape``)."""
    md5_right: bool = True
    """In the PMC bucket: whether the metadata name the md5 of the bytes."""
    indexed: bool = True
    """In the web archive: whether the CDX index lists the capture, and not the availability service alone."""

    def __post_init__(self) -> None:
        """Raises UsageError for a fate that there is not."""
        check_fate(self.fate)


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """A paper of a made-up world.

    ``at`` and ``fate`` are short for one copy that Unpaywall (or, for an arXiv id, PMCID, PMID or URL, the
    source that it belongs to) leads to; ``copies`` says it at length, best first. One of the two.

    Raises:
        UsageError: there is no such fate, or both ways are taken.
    """

    doi: str = ""
    arxiv_id: str = ""
    pmcid: str = ""
    pmid: str = ""
    url: str = ""
    title: str = ""
    at: str = ""
    fate: Fate = "good"
    copies: tuple[Copy, ...] | None = None
    """``()`` for a paper of which there is no PDF anywhere."""
    content: str = ""
    """What its bytes are made from; two papers of one content are one file. Its work id where empty."""
    size: int = 20_000
    """Bytes of its PDF."""
    asked_by: AskedBy | None = None
    """The identifier the user has; the strongest where None. The services know all of them."""
    landing: Platform = "closed"
    """Where its DOI leads, unless a copy is found by way of the DOI."""
    robots: str = ""
    """The robots.txt of its publisher's host; ``""`` for none, ``error`` for a server error."""

    def __post_init__(self) -> None:
        """See the class for what it raises."""
        check_fate(self.fate)
        if self.copies is not None and (self.at or self.fate != "good"):
            raise UsageError("a Paper with copies says at and fate in each Copy: leave them out of the Paper")

    def work(self) -> Work:
        """The work that a user asks for."""
        if self.asked_by == "arxiv_doi":
            return Work(arxiv_id=self.arxiv_id)
        full = Work(doi=self.doi, arxiv_id=self.arxiv_id, pmcid=self.pmcid, pmid=self.pmid, url=self.url,
                    title=self.title)  # fmt: skip
        scheme = next((scheme for scheme, _ in full.identifiers()), "title")
        named: str = self.asked_by or {"arxiv": "arxiv_id"}.get(scheme, scheme)
        return Work(**{named: getattr(full, named)})

    def line(self) -> str:
        """The work as one line of a list; ``""`` for one that is known by title alone."""
        work = self.work()
        if self.asked_by == "arxiv_doi":
            return f"10.48550/arXiv.{self.arxiv_id}"
        if work.pmid:
            return f"pmid:{work.pmid}"
        return work.doi or work.arxiv_id or work.pmcid or work.url


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A paper as it stands in a world."""

    paper: Paper
    good: tuple[Artifact, ...]
    """What a faultless harvester can bring home."""
    why: str
    """Which source leads to it, or why none does."""
