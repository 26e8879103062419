"""Europe PMC: full-text URLs of a record (https://europepmc.org/RestfulWebService, ``search``, ``core``)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ...config.settings import EuropePmcEndpoint, Thresholds
from ...events.work import Work, normal_doi, normal_pmcid, normal_pmid
from ..web.exchange import Role, Web
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
    records_of,
    text_of,
)

OPEN_CODES = frozenset({"OA", "F"})
"""``availabilityCode``: open access, and free."""
_OPEN_WORDS = frozenset({"open access", "free"})


class EuropePmc:
    """The source ``europe_pmc_pdf``."""

    name = "europe_pmc_pdf"

    def __init__(self, settings: EuropePmcEndpoint, thresholds: Thresholds) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds

    def __repr__(self) -> str:
        return f"EuropePmc({self._endpoint!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a DOI, a PMCID or a PMID."""
        return None if query_of(lookup.work) else "no_identifier"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """Its only request."""
        query = quote(query_of(lookup.work), safe=":/")
        return f"{self._endpoint}/search?query={query}&resultType=core&format=json", "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """The open PDFs of the record; its open pages go to ``seen``."""
        url, _ = self.first_request(lookup)
        answer = await metadata(web, self.name, url, lookup, accept="application/json")
        accepted(answer, self._thresholds)
        return from_answer(answer, full_texts(answer.body, lookup.work, truncated=answer.truncated))


def query_of(work: Work) -> str:
    """The query for one work by its strongest identifier; ``""`` without one."""
    if work.doi:
        escaped = work.doi.replace("\\", "\\\\").replace('"', '\\"')
        return f'DOI:"{escaped}"'
    if work.pmcid:
        return f"PMCID:{work.pmcid}"
    return f"EXT_ID:{work.pmid} AND SRC:MED" if work.pmid else ""


def full_texts(body: bytes, work: Work, *, truncated: bool = False) -> Found:
    """The PDFs that a search answer names for a work. Never raises.

    Europe PMC's own copies come first, then the others as the record has them, open access before free.
    """
    answer = json_object(body)
    if isinstance(answer, str):
        return nothing("truncated_answer" if truncated else answer)
    results_list = answer.get("resultList")
    if not isinstance(results_list, dict) or not isinstance(results_list.get("result"), list | dict):
        return nothing("other_shape")
    results = records_of(results_list, "result")
    if not results:
        return nothing("not_known")
    mine = [result for result in results if _is_of(result, work)]
    if not mine:
        return nothing("other_work")
    locations = [location for result in mine for location in _open_locations(result)]
    pdfs = [location for location in locations if text_of(location, "documentStyle").lower() == "pdf"]
    candidates = distinct(_candidate(location) for location in sorted(pdfs, key=_rank))
    seen = distinct_urls(
        page
        for location in locations
        if text_of(location, "documentStyle").lower() == "html"
        and (page := web_url(text_of(location, "url")))
    )
    reason = "" if candidates else "no_pdf_location" if locations else "no_oa_location"
    return Found(
        candidates=candidates,
        reason=reason,
        seen=seen,
        identified=_identified(mine[0], work),
        meta={"results": len(mine)},
    )


def _is_of(result: dict[str, Any], work: Work) -> bool:
    """Whether a result is the work asked for; what it does not say is not held against it."""
    said = (
        normal_doi(text_of(result, "doi")),
        normal_pmcid(text_of(result, "pmcid")),
        normal_pmid(text_of(result, "pmid")),
    )
    asked = (work.doi, work.pmcid, work.pmid)
    return next((mine == theirs for mine, theirs in zip(asked, said, strict=True) if mine and theirs), True)


def _open_locations(result: dict[str, Any]) -> list[dict[str, Any]]:
    listed = result.get("fullTextUrlList")
    locations = records_of(listed, "fullTextUrl") if isinstance(listed, dict) else []
    return [
        location
        for location in locations
        if text_of(location, "availabilityCode").upper() in OPEN_CODES
        or text_of(location, "availability").lower() in _OPEN_WORDS
    ]


def _rank(location: dict[str, Any]) -> tuple[bool, bool]:
    return text_of(location, "site") != "Europe_PMC", text_of(location, "availabilityCode").upper() != "OA"


def _candidate(location: dict[str, Any]) -> Candidate:
    site = text_of(location, "site").lower()[:30] or "site"
    return Candidate(url=web_url(text_of(location, "url")) or "", rule=f"europe_pmc_{site}")


def _identified(result: dict[str, Any], work: Work) -> Work | None:
    learned = Work(
        doi=normal_doi(text_of(result, "doi")) or "",
        pmcid=normal_pmcid(text_of(result, "pmcid")) or "",
        pmid=normal_pmid(text_of(result, "pmid")) or "",
        title=text_of(result, "title")[:400],
    )
    return learned if work.merged(learned) != work else None
