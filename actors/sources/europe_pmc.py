"""Europe PMC: full-text URLs of a record (https://europepmc.org/RestfulWebService, ``search``, ``core``)."""

from __future__ import annotations

from typing import Any, NamedTuple
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
from .preference import DEFAULT, Preference

OPEN_CODES = frozenset({"OA", "F"})
"""``availabilityCode``: open access, and free."""
_OPEN_WORDS = frozenset({"open access", "free"})
OWN_SITE = "europe_pmc"
"""Its own name in ``site``, in lower case."""
_OWN_SITES = (OWN_SITE, "pubmedcentral")


class EuropePmc:
    """The source ``europe_pmc_pdf``."""

    name = "europe_pmc_pdf"

    def __init__(self, settings: EuropePmcEndpoint, thresholds: Thresholds, wanted: Preference) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds
        self._wanted = wanted

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
        return from_answer(
            answer, full_texts(answer.body, lookup.work, truncated=answer.truncated, wanted=self._wanted)
        )


def query_of(work: Work) -> str:
    """The query for one work by its strongest identifier; ``""`` without one."""
    if work.doi:
        escaped = work.doi.replace("\\", "\\\\").replace('"', '\\"')
        return f'DOI:"{escaped}"'
    if work.pmcid:
        return f"PMCID:{work.pmcid}"
    return f"EXT_ID:{work.pmid} AND SRC:MED" if work.pmid else ""


def full_texts(body: bytes, work: Work, *, truncated: bool = False, wanted: Preference = DEFAULT) -> Found:
    """The PDFs that a search answer names for a work. Never raises.

    Europe PMC's own copies come first, then the others as the record has them, open access before free; a
    preference for another version goes before that, as far as a version is stated.
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
    every = [copy for result in mine for copy in _open_copies(result)]
    copies = [copy for copy in every if wanted.wants(copy.version, copy.host)]
    pdfs = sorted((copy for copy in copies if copy.style == "pdf"), key=lambda copy: _rank(copy, wanted))
    candidates = distinct(
        Candidate(url=copy.url, rule=f"europe_pmc_{copy.site}", version=copy.version) for copy in pdfs
    )
    missing = "no_pdf_location" if copies else "unwanted_copies" if every else "no_oa_location"
    return Found(
        candidates=candidates,
        reason="" if candidates else missing,
        seen=distinct_urls(copy.url for copy in copies if copy.style == "html" and copy.url),
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


class _Copy(NamedTuple):
    """One open full text of a result."""

    url: str
    style: str
    """``pdf``, ``html``, ``doi``."""
    site: str
    code: str
    version: str
    """As far as the result states it."""

    @property
    def host(self) -> str:
        """The kind of its host, as far as the site's name says it."""
        return "repository" if self.site in _OWN_SITES else ""


def _open_copies(result: dict[str, Any]) -> list[_Copy]:
    """The open full texts that a result lists, and the rendered PDF of an article that it says to hold."""
    listed = result.get("fullTextUrlList")
    locations = records_of(listed, "fullTextUrl") if isinstance(listed, dict) else []
    copies = [_copy(location, result) for location in locations if _is_open(location)]
    pmcid = normal_pmcid(text_of(result, "pmcid"))
    if pmcid and text_of(result, "inEPMC") == "Y" and text_of(result, "hasPDF") == "Y":
        url = f"https://europepmc.org/articles/{pmcid}?pdf=render"
        copies.append(_Copy(url, "pdf", OWN_SITE, "F", _version(OWN_SITE, result)))
    return copies


def _is_open(location: dict[str, Any]) -> bool:
    is_open = text_of(location, "availabilityCode").upper() in OPEN_CODES
    return is_open or text_of(location, "availability").lower() in _OPEN_WORDS


def _copy(location: dict[str, Any], result: dict[str, Any]) -> _Copy:
    said = text_of(location, "site").lower()[:30]
    site = said if said.isidentifier() else "site"
    return _Copy(
        url=web_url(text_of(location, "url")) or "",
        style=text_of(location, "documentStyle").lower(),
        site=site,
        code=text_of(location, "availabilityCode").upper(),
        version=_version(site, result),
    )


def _version(site: str, result: dict[str, Any]) -> str:
    """A preprint's copies are submitted versions; an author manuscript is what the archives hold of it."""
    if text_of(result, "source").upper() == "PPR":
        return "submittedVersion"
    flags = ("authMan", "epmcAuthMan", "nihAuthMan")
    manuscript = any(text_of(result, flag).upper() == "Y" for flag in flags)
    return "acceptedVersion" if manuscript and site in _OWN_SITES else ""


def _rank(copy: _Copy, wanted: Preference) -> tuple[tuple[int, int, int], bool]:
    return wanted.rank(copy.version, best=copy.site == OWN_SITE), copy.code != "OA"


def _identified(result: dict[str, Any], work: Work) -> Work | None:
    learned = Work(
        doi=normal_doi(text_of(result, "doi")) or "",
        pmcid=normal_pmcid(text_of(result, "pmcid")) or "",
        pmid=normal_pmid(text_of(result, "pmid")) or "",
        title=text_of(result, "title")[:400],
    )
    return learned if work.merged(learned) != work else None
