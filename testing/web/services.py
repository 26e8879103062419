"""The services that quire asks, as their recorded answers look: doi.org, Unpaywall, arXiv, Crossref, NCBI.

The web archive, Europe PMC and the PMC bucket are in ``archives``. Every function here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from urllib.parse import SplitResult, parse_qs, quote, unquote

from ...events.work import normal_arxiv, normal_doi, normal_pmcid, normal_pmid, normal_title
from . import archives
from .catalogue import Catalogue, Entry
from .exchange import Call, Reply, html, json, number, redirect, text
from .openalex import openalex
from .wall_shapes import walled
from .walls import NOT_FOUND, page

Service = Callable[[Catalogue, Call, SplitResult], Reply]

_PLACEHOLDER = re.compile(r"@example\.(com|org|net|edu)$|^your[_.-]?e?-?mail|^YOUR_", re.IGNORECASE)
CROSSREF_ROWS_MAX = 20
CONVERTER_IDS_MAX = 200


def unpaywall(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/v2/{doi}?email=``: the record, 404 for a DOI it does not know, 422 for an e-mail that is none."""
    email = parse_qs(parts.query).get("email", [""])[0]
    if "@" not in email:
        return _unpaywall_error(
            422, "Email address required in API call, see http://unpaywall.org/products/api"
        )
    if _PLACEHOLDER.search(email):
        said = "Please use your own email address in API calls. See http://unpaywall.org/products/api"
        return _unpaywall_error(422, said)
    doi = unquote(parts.path).removeprefix("/v2/").lower()
    record = catalogue.unpaywall.get(doi)
    if record is None:
        return _unpaywall_error(404, f"'{doi}' isn't in Unpaywall. See https://support.unpaywall.org/")
    return json(record)


def _unpaywall_error(status: int, message: str) -> Reply:
    return json({"HTTP_status_code": status, "error": True, "message": message}, status=status)


def doi_org(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/{doi}``: 302 to where the DOI leads, 404 for one that is not registered, 400 for what is no DOI."""
    doi = normal_doi(unquote(parts.path.lstrip("/")))
    if doi is None:
        return html(_doi_error("Not a DOI", unquote(parts.path)), status=400)
    target = catalogue.doi_targets.get(doi)
    if target is None:
        return html(_doi_error("DOI Not Found", doi), status=404)
    return redirect(target, headers=(("Vary", "Accept"),))


def _doi_error(title: str, doi: str) -> str:
    words = (
        "This name cannot be found in the system. It may have been mistyped, or not be registered yet. " * 8
    )
    return page(f"Error: {title}", f"<main><h1>{title}</h1><p>{escape(doi)}</p><p>{words}</p></main>")


def arxiv(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/abs/{id}``: the abstract page of a paper it holds (PDFs are places of their own); else 404."""
    kind, _, rest = unquote(parts.path).lstrip("/").partition("/")
    found = normal_arxiv(rest) if kind == "abs" else None
    entry = catalogue.by_arxiv.get(found[0]) if found else None
    if entry is None:
        return html(NOT_FOUND, status=404)
    pdf = f"https://arxiv.org/pdf/{entry.arxiv_id}"
    head = f'<meta name="citation_pdf_url" content="{pdf}"/>'
    body = (
        f'<div id="abs"><h1 class="title">{escape(entry.title)}</h1>'
        f'<blockquote class="abstract">{"Abstract. " * 60}</blockquote>'
        f'<div class="full-text"><ul><li><a href="/pdf/{entry.arxiv_id}" class="abs-button '
        f'download-pdf">View PDF</a></li></ul></div></div>'
    )
    return html(page(f"[{entry.arxiv_id}] {entry.title}", body, head=head))


def pmc_site(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """The id converter, and article pages behind a browser check."""
    if parts.path.startswith("/tools/idconv/"):
        return _id_converter(catalogue, parts)
    return walled("captcha", call.url) if "/articles/" in parts.path else html(NOT_FOUND, status=404)


def _id_converter(catalogue: Catalogue, parts: SplitResult) -> Reply:
    asked = parse_qs(parts.query)
    ids = [i for i in asked.get("ids", [""])[0].split(",") if i][:CONVERTER_IDS_MAX]
    if not ids:
        return json({"status": "error", "message": "Missing required parameter: ids"}, status=400)
    records = [_converted(catalogue, identifier.strip()) for identifier in ids]
    answer = {
        "status": "ok",
        "response-date": "2026-09-01 12:00:00",
        "request": {"ids": ids, "format": "json", "versions": "no", "showaiid": "no"},
        "records": records,
    }
    return json(answer)


def _converted(catalogue: Catalogue, identifier: str) -> dict[str, str | int]:
    """One record; a PubMed id is a number there, and PubMed papers outside PMC are an error."""
    doi, pmcid, pmid = normal_doi(identifier), None, normal_pmid(identifier)
    if identifier.upper().startswith("PMC"):
        pmcid = normal_pmcid(identifier)
    entry = (
        catalogue.by_doi.get(doi or "")
        or catalogue.by_pmcid.get(pmcid or "")
        or catalogue.by_pmid.get(pmid or "")
    )
    if entry is None or not entry.pmcid:
        error = "Identifier not found in PMC"
        return {"requested-id": identifier, "status": "error", "errmsg": error}
    record: dict[str, str | int] = {"requested-id": identifier, "pmcid": entry.pmcid}
    if entry.pmid:
        record["pmid"] = int(entry.pmid)
    if entry.doi:
        record["doi"] = entry.doi
    return record


def ncbi(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """The old PMC pages (walled), the old converter (moved), and OA service (gone)."""
    if parts.path.startswith("/pmc/utils/idconv"):
        moved = f"https://pmc.ncbi.nlm.nih.gov/tools/idconv/api/v1/articles/?{parts.query}"
        return redirect(moved, status=301)
    if parts.path.startswith("/pmc/articles"):
        return walled("captcha", call.url)
    return html(NOT_FOUND, status=404)


def pubmed(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/{pmid}/``: the abstract, with a link to the DOI and to PMC, but never a PDF."""
    entry = catalogue.by_pmid.get(parts.path.strip("/"))
    if entry is None:
        return html(NOT_FOUND, status=404)
    links = (
        f'<a class="id-link" href="https://doi.org/{quote(entry.doi)}">{escape(entry.doi)}</a>'
        if entry.doi
        else ""
    )
    body = (
        f'<main><h1 class="heading-title">{escape(entry.title)}</h1>{links}<p>{"Abstract. " * 80}</p></main>'
    )
    return html(page(f"{entry.title} - PubMed", body))


def crossref(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/works?query…=`` with scores, and ``/works/{doi}``; 404 in plain text for a DOI it does not know."""
    path = unquote(parts.path).rstrip("/")
    if path != "/works":
        entry = catalogue.by_doi.get(path.removeprefix("/works/").lower())
        if entry is None:
            return text("Resource not found.", status=404)
        message = _crossref_work(entry, 1.0)
        return json({"status": "ok", "message-type": "work", "message-version": "1.0.0", "message": message})
    return _crossref_search(catalogue, parse_qs(parts.query))


def _crossref_search(catalogue: Catalogue, asked: dict[str, list[str]]) -> Reply:
    names = ("query.bibliographic", "query.title", "query")
    words = " ".join(asked.get(name, [""])[0] for name in names)
    rows = min(max(0, number(asked, "rows", CROSSREF_ROWS_MAX)), CROSSREF_ROWS_MAX)
    wanted = set(normal_title(words).split())
    scored = [(_score(wanted, entry.title), doi) for doi, entry in catalogue.by_doi.items()]
    best = sorted(((score, doi) for score, doi in scored if score > 0), key=lambda s: (-s[0], s[1]))
    items = [_crossref_work(catalogue.by_doi[doi], score) for score, doi in best[:rows]]
    message = {
        "facets": {},
        "total-results": len(best),
        "items": items,
        "items-per-page": rows,
        "query": {"start-index": 0, "search-terms": None},
    }
    return json({"status": "ok", "message-type": "work-list", "message-version": "1.0.0", "message": message})


def _score(wanted: set[str], title: str) -> float:
    have = set(normal_title(title).split())
    common = len(wanted & have)
    return round(90.0 * common / len(wanted | have), 4) if common else 0.0


def _crossref_work(entry: Entry, score: float) -> dict[str, object]:
    return {
        "DOI": entry.doi,
        "type": "journal-article",
        "title": [entry.title],
        "author": [{"given": "Ada", "family": "Writer", "sequence": "first", "affiliation": []}],
        "container-title": ["Journal of Made-up Results"],
        "publisher": "Alder Press",
        "issued": {"date-parts": [[2020]]},
        "score": score,
        "URL": f"https://doi.org/{entry.doi}",
    }


SERVICES: dict[str, Service] = {
    "api.unpaywall.org": unpaywall,
    "doi.org": doi_org,
    "dx.doi.org": doi_org,
    "www.doi.org": doi_org,
    "arxiv.org": arxiv,
    "export.arxiv.org": arxiv,
    "www.arxiv.org": arxiv,
    "pmc.ncbi.nlm.nih.gov": pmc_site,
    "www.ncbi.nlm.nih.gov": ncbi,
    "pubmed.ncbi.nlm.nih.gov": pubmed,
    "api.crossref.org": crossref,
    "api.openalex.org": openalex,
    "pmc-oa-opendata.s3.amazonaws.com": archives.pmc_bucket,
    "www.ebi.ac.uk": archives.europe_pmc,
    "web.archive.org": archives.web_archive,
    "archive.org": archives.availability,
}
"""Which service answers for a host where no place of its own does."""
