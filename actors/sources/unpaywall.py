"""Unpaywall: a DOI's open copies, the best first (https://unpaywall.org/products/api, data standard 2)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

from ...config.settings import Thresholds, UnpaywallEndpoint
from ...events.work import Work, normal_arxiv, normal_doi, normal_pmcid, parse_work
from ..web.exchange import Answer, Role, Web
from ..web.page_repairs import web_url
from .finding import (
    Candidate,
    Found,
    Lookup,
    accepted,
    distinct,
    distinct_urls,
    from_answer,
    json_object,
    metadata,
    nothing,
    quoted_doi,
    records_of,
    text_of,
)
from .preference import DEFAULT, Preference

_PMC_PLACES = (
    re.compile(r"ncbi\.nlm\.nih\.gov/(?:pmc/)?articles/(?:PMC)?(\d{1,9})\b", re.IGNORECASE),
    re.compile(r"europepmc\.org/articles?/PMC(\d{1,9})\b", re.IGNORECASE),
    re.compile(r"^oai:pubmedcentral\.nih\.gov:(\d{1,9})$", re.IGNORECASE),
)
_ARXIV_OAI = re.compile(r"^oai:arXiv\.org:(.+)$", re.IGNORECASE)


class Unpaywall:
    """The source ``unpaywall_pdf``."""

    name = "unpaywall_pdf"

    def __init__(self, settings: UnpaywallEndpoint, thresholds: Thresholds, wanted: Preference) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds
        self._wanted = wanted

    def __repr__(self) -> str:
        return f"Unpaywall({self._endpoint!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a DOI and a contact address."""
        if not lookup.work.doi:
            return "no_doi"
        return None if re.fullmatch(r"[^@\s]+@[^@\s]+", lookup.email) else "no_email"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """Its only request."""
        email = quote(lookup.email, safe="@")
        return f"{self._endpoint}/{quoted_doi(lookup.work.doi)}?email={email}", "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """The record's PDF URLs, best first; landing pages go to ``seen``."""
        url, _ = self.first_request(lookup)
        answer = await metadata(web, self.name, url, lookup, accept="application/json")
        refused = refusal(answer)
        if refused:
            return from_answer(answer, nothing(refused))
        accepted(answer, self._thresholds)
        return from_answer(
            answer, copies(answer.body, lookup.work, truncated=answer.truncated, wanted=self._wanted)
        )


def refusal(answer: Answer) -> str:
    """The reason in a refusal that is an answer: an unknown DOI, or an address it does not take."""
    status = answer.status
    if 200 <= status < 300:  # an error said in the body alone
        record = json_object(answer.body) if b'"error"' in answer.body[:4096] else ""
        if isinstance(record, dict) and record.get("error") is True:
            said = text_of(record, "HTTP_status_code")
            status = int(said) if re.fullmatch(r"\d{3}", said, re.ASCII) else 404
    if status == 404:
        return "not_known"
    if status == 422 and b"email" in answer.body[:4096].lower():
        return "email_refused"
    return ""


def copies(body: bytes, work: Work, *, truncated: bool = False, wanted: Preference = DEFAULT) -> Found:
    """The copies that a record names. Never raises.

    Order: as ``wanted`` has it; by default the best location, then repositories, then publishers, and among
    equals the published version first. The pages of its locations are seen in the same order.
    """
    record = json_object(body)
    if isinstance(record, str):
        return nothing("truncated_answer" if truncated else record)
    if not isinstance(record.get("doi"), str) or not (
        "best_oa_location" in record or "oa_locations" in record
    ):
        return nothing("other_shape")
    if work.doi and normal_doi(record["doi"]) != work.doi:
        return nothing("other_work")
    every = _in_order(record, wanted)
    locations = [location for location in every if wanted.wants(*_kind(location))]
    candidates = distinct(map(_candidate, locations)) or distinct(map(_page_that_is_one, locations))
    seen = distinct_urls(page for location in locations for page in _pages(location))
    missing = "no_pdf_location" if locations else "unwanted_copies" if every else "no_oa_location"
    return Found(
        candidates=candidates,
        reason="" if candidates else missing,
        seen=seen,
        identified=_identified(record, every, work),
        meta={"locations": len(locations), "oa_status": text_of(record, "oa_status")[:40]},
    )


def _in_order(record: dict[str, Any], wanted: Preference) -> list[dict[str, Any]]:
    """Its locations, the best one twice: as the best, and among the others."""
    best = [(location, True) for location in records_of(record, "best_oa_location", at_most=1)]
    listed = [(location, False) for location in records_of(record, "oa_locations")]
    ordered = sorted(best + listed, key=lambda one: wanted.rank(*_kind(one[0]), best=one[1]))
    return [location for location, _ in ordered]


def _kind(location: dict[str, Any]) -> tuple[str, str]:
    """Its version and the kind of its host, as the record states them."""
    return text_of(location, "version")[:40], text_of(location, "host_type")[:20]


def _candidate(location: dict[str, Any]) -> Candidate:
    version, host = _kind(location)
    url = web_url(text_of(location, "url_for_pdf")) or ""
    return Candidate(
        url=url, rule=f"unpaywall_{host if host.isidentifier() else 'location'}", version=version
    )


def _page_that_is_one(location: dict[str, Any]) -> Candidate:
    """The plain URL of a location that ends as a PDF's; it counts where no location names a PDF."""
    url = web_url(text_of(location, "url")) or ""
    is_pdf = urlsplit(url).path.lower().endswith(".pdf")
    return Candidate(url=url if is_pdf else "", rule="unpaywall_url", version=_kind(location)[0])


def _pages(location: dict[str, Any]) -> list[str]:
    """Its landing page, and its plain URL where that is not the PDF."""
    pages = [web_url(text_of(location, "url_for_landing_page"))]
    if text_of(location, "url") != text_of(location, "url_for_pdf"):
        pages.append(web_url(text_of(location, "url")))
    return [page for page in pages if page]


def _identified(record: dict[str, Any], locations: list[dict[str, Any]], work: Work) -> Work | None:
    """Identifiers of copies that were matched by identifier; a match by title is a guess."""
    pmcid = arxiv_id = ""
    for location in locations:
        if "title" not in text_of(location, "evidence"):
            pmcid = pmcid or _pmcid(location)
            arxiv_id = arxiv_id or _arxiv(location)
    learned = Work(pmcid=pmcid, arxiv_id=arxiv_id, title=text_of(record, "title")[:400])
    return learned if work.merged(learned) != work else None


def _pmcid(location: dict[str, Any]) -> str:
    for name in ("url", "url_for_landing_page", "url_for_pdf", "pmh_id"):
        for place in _PMC_PLACES:
            found = place.search(text_of(location, name))
            if found:
                return normal_pmcid(found.group(1)) or ""
    return ""


def _arxiv(location: dict[str, Any]) -> str:
    named = _ARXIV_OAI.match(text_of(location, "pmh_id"))
    found = normal_arxiv(named.group(1)) if named else None
    if found:
        return found[0]
    pages = (parse_work(text_of(location, name)) for name in ("url_for_landing_page", "url", "url_for_pdf"))
    return next((page.arxiv_id for page in pages if page and page.arxiv_id), "")
