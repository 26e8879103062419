"""Unpaywall: a DOI's open copies, the best first (https://unpaywall.org/products/api, data standard 2)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from ...config.settings import Thresholds, UnpaywallEndpoint
from ...events.work import Work, normal_arxiv, normal_doi, normal_pmcid
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

_PMC_PLACES = (
    re.compile(r"ncbi\.nlm\.nih\.gov/(?:pmc/)?articles/(?:PMC)?(\d{1,9})\b", re.IGNORECASE),
    re.compile(r"europepmc\.org/articles?/PMC(\d{1,9})\b", re.IGNORECASE),
    re.compile(r"^oai:pubmedcentral\.nih\.gov:(\d{1,9})$", re.IGNORECASE),
)
_ARXIV_OAI = re.compile(r"^oai:arXiv\.org:(.+)$", re.IGNORECASE)


class Unpaywall:
    """The source ``unpaywall_pdf``."""

    name = "unpaywall_pdf"

    def __init__(self, settings: UnpaywallEndpoint, thresholds: Thresholds) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds

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
        return from_answer(answer, copies(answer.body, lookup.work, truncated=answer.truncated))


def refusal(answer: Answer) -> str:
    """The reason in a refusal that is an answer: an unknown DOI, or an address it does not take."""
    if answer.status == 404:
        return "not_known"
    if answer.status == 422 and b"email" in answer.body[:4096].lower():
        return "email_refused"
    return ""


def copies(body: bytes, work: Work, *, truncated: bool = False) -> Found:
    """The copies that a record names. Never raises.

    Order: the best location, then repositories, then publishers, each as the record has them.
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
    locations = _in_order(record)
    candidates = distinct(_candidate(location) for location in locations)
    seen = distinct_urls(page for location in locations for page in _pages(location))
    reason = "" if candidates else "no_pdf_location" if locations else "no_oa_location"
    return Found(
        candidates=candidates,
        reason=reason,
        seen=seen,
        identified=_identified(record, locations, work),
        meta={"locations": len(locations), "oa_status": text_of(record, "oa_status")[:40]},
    )


def _in_order(record: dict[str, Any]) -> list[dict[str, Any]]:
    listed = records_of(record, "oa_locations")
    repositories = [location for location in listed if location.get("host_type") == "repository"]
    others = [location for location in listed if location.get("host_type") != "repository"]
    return records_of(record, "best_oa_location", at_most=1) + repositories + others


def _candidate(location: dict[str, Any]) -> Candidate:
    return Candidate(
        url=web_url(text_of(location, "url_for_pdf")) or "",
        rule=f"unpaywall_{text_of(location, 'host_type')[:20] or 'location'}",
        version=text_of(location, "version")[:40],
    )


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
    return found[0] if found else ""
