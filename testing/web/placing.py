"""How a paper comes to stand in a world: each copy by the way its source works, and the truth about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ...config.settings import SOURCES, SourceName
from ...errors import InvariantError, UsageError
from ...events.work import normal_arxiv, normal_doi, normal_pmcid, normal_pmid
from .artifacts import GOOD_FATES, Artifact
from .catalogue import BucketArticle, Capture, Catalogue, Entry
from .exchange import host_of, redirect, url_key
from .fates import COOKIE
from .lies import PRIVATE_URL
from .papers import Copy, Paper, Placed
from .publishers import OPEN_PLATFORMS, Landing, Platform, landing_pages, sciencedirect_pdf_url

PRESSES = ("alder-press", "birch-letters", "cedar-journals", "elm-society", "hazel-open", "larch-university")
"""Made-up publishers."""


def place(catalogue: Catalogue, given: Paper, *, seed: int) -> Placed:
    """Put a paper and its copies into the registers of a world.

    Raises:
        UsageError: an identifier is none, or a copy's source lacks the identifier it works by.
    """
    paper = _normal(given)
    put = _Placing(catalogue, paper, seed)
    catalogue.enter(put.entry)
    for copy in _copies(paper):
        put.copy(copy)
    put.finish()
    return Placed(paper=paper, good=tuple(put.good), why="; ".join(put.why) or "no source knows a PDF")


def _normal(paper: Paper) -> Paper:
    arxiv = normal_arxiv(paper.arxiv_id) if paper.arxiv_id else ("", "")
    named = {
        "doi": normal_doi(paper.doi) if paper.doi else "",
        "arxiv_id": arxiv[0] if arxiv else None,
        "pmcid": normal_pmcid(paper.pmcid) if paper.pmcid else "",
        "pmid": normal_pmid(paper.pmid) if paper.pmid else "",
    }
    wrong = [name for name, value in named.items() if value is None]
    if wrong:
        raise UsageError(f"{wrong[0]} of {paper!r} is not in the form of one: correct it")
    first = next((v for v in (*named.values(), paper.url, paper.title) if v), None)
    if first is None:
        raise UsageError("a Paper needs an identifier, a URL or a title: give it one")
    title = paper.title or f"On the matter of {paper.content or first}"
    return msgspec.structs.replace(paper, **named, title=title)


def _copies(paper: Paper) -> tuple[Copy, ...]:
    if paper.copies is not None:
        return paper.copies
    source: SourceName = "unpaywall_pdf"
    if paper.arxiv_id and not paper.doi:
        source = "arxiv_pdf"
    elif (paper.pmcid or paper.pmid) and not paper.doi:
        source = "pmc_pdf"
    elif paper.url and not paper.doi:
        source = "landing_scrape_pdf"
    return (Copy(source=source, at=paper.at, fate=paper.fate),)


class _Placing:
    """The work of placing one paper."""

    def __init__(self, catalogue: Catalogue, paper: Paper, seed: int) -> None:
        self.catalogue, self.paper = catalogue, paper
        self.entry = Entry(doi=paper.doi, arxiv_id=paper.arxiv_id, pmcid=paper.pmcid, pmid=paper.pmid,
                           title=paper.title)  # fmt: skip
        self.work_id = paper.work().work_id
        digest = hashlib.sha256(f"{seed} {self.work_id}".encode()).hexdigest()
        self.slug = digest[:10]
        self.press = f"{PRESSES[int(digest[10:14], 16) % len(PRESSES)]}-{self.slug[:4]}.example"
        self.hops = int(digest[14], 16) % 2
        self.good: list[Artifact] = []
        self.why: list[str] = []
        self.locations: list[dict[str, Any]] = []
        self.doi_target = ""

    def copy(self, copy: Copy) -> None:
        """One copy, by the way its source works."""
        lacking = {
            "unpaywall_pdf": not self.paper.doi,
            "arxiv_pdf": not self.paper.arxiv_id,
            "pmc_pdf": not (self.paper.pmcid or self.paper.doi or self.paper.pmid),
            "doi_redirect_pdf": not self.paper.doi,
            "landing_scrape_pdf": not (self.paper.doi or self.paper.url),
            "europe_pmc_pdf": not (self.paper.doi or self.paper.pmid or self.paper.pmcid),
        }
        if lacking.get(copy.source):
            raise UsageError(
                f"{copy.source} cannot lead to {self.work_id}: give the Paper the identifier it needs"
            )
        _WAYS[copy.source](self, copy)

    def artifact(self, copy: Copy, url: str) -> Artifact:
        """The PDF of a copy."""
        return Artifact(
            url=url,
            fate=copy.fate,
            content=self.paper.content or self.work_id,
            # It is printed, so twins must share it; one with a title of its own is served another's PDF.
            title=f"On the matter of {self.paper.content}" if self.paper.content else self.paper.title,
            size=self.paper.size,
            stall_s=copy.stall_s,
            shape=copy.shape,
        )

    def made_up(self, copy: Copy, host: str) -> str:
        """The URL of a copy."""
        if copy.fate == "refused":
            return copy.at or PRIVATE_URL.replace("paper", self.slug)
        return copy.at or f"https://{host}/files/{self.slug}-{len(self.why)}.pdf"

    def say(self, copy: Copy, artifact: Artifact, *, barred: str = "") -> None:
        """Note what came of a copy."""
        if artifact.fate in GOOD_FATES and not barred:
            self.good.append(artifact)
        self.why.append(f"{copy.source}: {barred or artifact.fate}")

    def unpaywall(self, copy: Copy) -> None:
        """A location of the record."""
        host = self.press if not self.locations else f"repository-{self.slug}.example"
        artifact = self.catalogue.put(self.artifact(copy, self.made_up(copy, host)))
        self.locations.append(location(artifact.url, landing=f"https://doi.org/{self.paper.doi}",
                                       host_type="repository" if self.locations else "publisher",
                                       best=not self.locations))  # fmt: skip
        self.say(copy, artifact)

    def arxiv(self, copy: Copy) -> None:
        """The file at arXiv."""
        url = f"https://arxiv.org/pdf/{self.paper.arxiv_id}"
        self.say(copy, self.catalogue.put(self.artifact(copy, url)))

    def pmc(self, copy: Copy) -> None:
        """The object in the bucket; an older version without a PDF stands beside it."""
        pmcid = self.entry.pmcid or f"PMC{9_000_000 + int(self.slug[:6], 16) % 900_000}"
        self.entry.pmcid = pmcid
        self.catalogue.by_pmcid.setdefault(pmcid, self.entry)
        artifact = self.artifact(copy, f"https://pmc-oa-opendata.s3.amazonaws.com/{pmcid}.2/{pmcid}.2.pdf")
        self.catalogue.artifacts.setdefault(url_key(artifact.url), artifact)
        right = hashlib.md5(artifact.data(), usedforsecurity=False).hexdigest()
        wrong = hashlib.md5(b"another file", usedforsecurity=False).hexdigest()
        old = BucketArticle(pmcid=pmcid, version=1, doi=self.paper.doi, title=self.paper.title, artifact=None)
        new = msgspec.structs.replace(
            old, version=2, artifact=artifact, md5=right if copy.md5_right else wrong
        )
        self.catalogue.bucket[pmcid] = [old, new]
        self.say(copy, artifact, barred="" if copy.md5_right else "md5 of other bytes")

    def redirect(self, copy: Copy) -> None:
        """The DOI leads to the file itself."""
        artifact = self.catalogue.put(self.artifact(copy, self.made_up(copy, self.press)))
        self.lead_doi_to(artifact.url)
        self.say(copy, artifact, barred=self.barred(artifact.url))

    def landing(self, copy: Copy) -> None:
        """The DOI (or the URL) leads to a page, and the page to the file; a URL may be the file's own."""
        if copy.at and copy.at == self.paper.url:
            artifact = self.catalogue.put(self.artifact(copy, copy.at))
            self.say(copy, artifact, barred=self.barred(copy.at))
            return
        if copy.platform == "sciencedirect":
            page_url = f"https://www.sciencedirect.com/science/article/pii/S{int(self.slug, 16):016d}"
            url = sciencedirect_pdf_url(page_url)
        else:
            page_url = self.page_url()
            url = self.made_up(copy, host_of(page_url))
        artifact = self.catalogue.put(self.artifact(copy, url))
        self.show(copy.platform, page_url, artifact)
        if not self.paper.url:
            self.lead_doi_to(page_url)
        closed = "" if copy.platform in OPEN_PLATFORMS else f"the landing page is {copy.platform}"
        self.say(copy, artifact, barred=closed or self.barred(page_url) or self.barred(url))

    def page_url(self) -> str:
        """Where the landing page stands."""
        return self.paper.url or f"https://www.{self.press}/article/view/{self.slug}"

    def show(self, platform: Platform, url: str, artifact: Artifact | None = None) -> None:
        """Put up a landing page with the pages that belong to it."""
        cookie = COOKIE if artifact and artifact.fate == "needs_cookie" else ""
        landing = Landing(url=url, pdf_url=artifact.url if artifact else "", title=self.paper.title,
                          doi=self.paper.doi, cookie=cookie)  # fmt: skip
        for page_url, reply in landing_pages(platform, landing):
            self.catalogue.serve(page_url, reply)

    def europe_pmc(self, copy: Copy) -> None:
        """A PDF that Europe PMC lists."""
        self.entry.in_europe_pmc = True
        rendered = f"https://europepmc.org/articles/{self.entry.pmcid}?pdf=render" if self.entry.pmcid else ""
        taken = rendered in self.entry.render_urls
        url = copy.at or ("" if taken else rendered) or self.made_up(copy, f"europepmc-{self.slug}.example")
        artifact = self.catalogue.put(self.artifact(copy, url))
        self.entry.render_urls.append(artifact.url)
        self.say(copy, artifact)

    def wayback(self, copy: Copy) -> None:
        """A capture of a PDF that is gone from its own place (Unpaywall's, or the URL the user has)."""
        gone = self.paper.url or copy.at or f"https://old.{self.press}/pdf/{self.slug}.pdf"
        self.catalogue.put(self.artifact(Copy(at=gone, fate="missing"), gone))
        if self.paper.doi and not self.paper.url:
            self.locations.append(location(gone, landing=f"https://doi.org/{self.paper.doi}",
                                           best=not self.locations))  # fmt: skip
        artifact = self.artifact(copy, gone)
        pdf = Capture(timestamp="20190704101500", url=gone, media_type="application/pdf", status="200",
                      artifact=artifact, listed=copy.indexed)  # fmt: skip
        change = msgspec.structs.replace
        dull = change(pdf, artifact=None, listed=True)
        captures = [change(dull, timestamp="20150101000000", media_type="text/html", status="404"), pdf]
        if copy.indexed:
            captures += [
                change(dull, timestamp="20200101000000", media_type="warc/revisit", status="-"),
                change(dull, timestamp="20210101000000", media_type="text/html", status="302"),
            ]
        self.catalogue.captures.setdefault(url_key(gone), captures)
        self.say(copy, artifact)

    def barred(self, url: str) -> str:
        """Why robots.txt keeps us from a URL; ``""`` where it does not."""
        rules = self.paper.robots
        if not rules or host_of(url) != host_of(self.page_url()):
            return ""
        path = urlsplit(url).path
        barring = rules == "error" or any(
            path.startswith(line.partition(":")[2].strip())
            for line in rules.splitlines()
            if line.lower().startswith("disallow:") and line.partition(":")[2].strip()
        )
        return "robots.txt keeps us out" if barring else ""

    def lead_doi_to(self, url: str) -> None:
        """Where doi.org sends, by one hop more for some; the first copy that says so stays."""
        if not self.paper.doi or self.doi_target:
            return
        self.doi_target = url
        if self.hops:
            hop = f"https://link.{self.press}/resolve/{self.slug}"
            self.catalogue.serve(hop, redirect(url, status=303))
            url = hop
        self.catalogue.doi_targets[self.paper.doi] = url

    def finish(self) -> None:
        """The record of Unpaywall, the landing page where nothing else stands there, and robots.txt."""
        if self.paper.doi:
            self.catalogue.unpaywall[self.paper.doi] = record(self.paper, self.locations)
            if not self.doi_target:
                self.show(self.paper.landing, self.page_url())
                self.lead_doi_to(self.page_url())
        if self.paper.url:
            self.show(self.paper.landing, self.paper.url)
        if self.paper.robots:
            self.catalogue.robots[host_of(self.page_url())] = self.paper.robots


_WAYS: dict[str, Callable[[_Placing, Copy], None]] = {
    "unpaywall_pdf": _Placing.unpaywall,
    "arxiv_pdf": _Placing.arxiv,
    "pmc_pdf": _Placing.pmc,
    "doi_redirect_pdf": _Placing.redirect,
    "landing_scrape_pdf": _Placing.landing,
    "europe_pmc_pdf": _Placing.europe_pmc,
    "wayback_pdf": _Placing.wayback,
}
if set(_WAYS) != set(SOURCES):
    raise InvariantError(
        "quire.testing.web does not play every source that the settings name: add the missing"
    )


def location(
    pdf: str | None, *, landing: str, host_type: str = "repository", best: bool = False
) -> dict[str, Any]:
    """An OA location as Unpaywall writes it."""
    return {
        "url": pdf or landing, "pmh_id": None, "is_best": best, "license": "cc-by", "oa_date": "2020-01-01",
        "updated": "2026-01-01T00:00:00.000000", "version": "publishedVersion",
        "evidence": "open (via page says license)",
        "host_type": host_type, "endpoint_id": None, "url_for_pdf": pdf, "url_for_landing_page": landing,
        "repository_institution": None,
    }  # fmt: skip


def record(paper: Paper, locations: list[dict[str, Any]]) -> dict[str, Any]:
    """A record as Unpaywall writes it."""
    best = locations[0] if locations else None
    return {
        "doi": paper.doi, "doi_url": f"https://doi.org/{paper.doi}", "title": paper.title,
        "genre": "journal-article",
        "is_paratext": False, "published_date": "2020-01-01", "year": 2020,
        "journal_name": "Journal of Made-up Results",
        "journal_issns": None, "journal_issn_l": None, "journal_is_oa": False, "journal_is_in_doaj": False,
        "publisher": "Alder Press", "is_oa": bool(locations),
        "oa_status": "hybrid" if locations else "closed",
        "has_repository_copy": len(locations) > 1, "best_oa_location": best, "first_oa_location": best,
        "oa_locations": locations, "oa_locations_embargoed": [], "data_standard": 2, "z_authors": None,
        "updated": "2026-01-01T00:00:00.000000",
    }  # fmt: skip
