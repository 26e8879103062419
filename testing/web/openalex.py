"""OpenAlex in a simulated web: ``/works`` with filters, cursors and the errors of the service.

https://docs.openalex.org/how-to-use-the-api/get-lists-of-entities/paging. Of the filters it knows a few,
and they are matched or let through, as the world has no institutions or years: a list is what this is for.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from urllib.parse import SplitResult, parse_qs

from .catalogue import Catalogue, Entry
from .exchange import Call, Reply, json, number

PER_PAGE_MAX = 200
SEARCHED = ("title.search", "default.search", "title_and_abstract.search")
FILTERS = (
    *("doi", "ids.pmid", "is_oa", "open_access.is_oa", "has_doi", "institutions.ror", "institutions.id"),
    *("authorships.institutions.ror", "publication_year", "from_publication_date", "type", *SEARCHED),
)
"""Fields that may be filtered by; any other is refused in the service's way."""


def openalex(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/works?filter=&search=&per-page=&cursor=``: one page; 400 for what it does not understand."""
    if parts.path.rstrip("/") != "/works":
        return json({"error": "Not Found", "message": "The requested URL was not found"}, status=404)
    asked = parse_qs(parts.query)
    wrong = _wrong_filter(asked.get("filter", [""])[0])
    if wrong:
        return _refused(wrong)
    per_page = number(asked, "per-page", 25)
    if not 1 <= per_page <= PER_PAGE_MAX:
        return _refused(f"per-page parameter must be between 1 and {PER_PAGE_MAX}")
    start = _start(asked.get("cursor", ["*"])[0])
    if start is None:
        return _refused("Cursor value is invalid.")
    return json(_page(_matching(catalogue, asked), start, per_page))


def _refused(message: str) -> Reply:
    return json({"error": "Invalid query parameters error.", "message": message}, status=400)


def _wrong_filter(text: str) -> str:
    for part in filter(None, text.split(",")):
        name, colon, _ = part.partition(":")
        if not colon:
            return f"Filter {part} is not of the form field:value."
        if name not in FILTERS:
            return f"{name} is not a valid field. Valid fields are: {', '.join(FILTERS)}."
    return ""


def cursor_of(start: int) -> str:
    """The cursor that goes on at a place of the list."""
    return base64.b64encode(f"[{start}, 'quire']".encode()).decode()


def _start(cursor: str) -> int | None:
    if cursor == "*":
        return 0
    try:
        return int(base64.b64decode(cursor, validate=True)[1:].partition(b",")[0])
    except (ValueError, binascii.Error):
        return None


@lru_cache(maxsize=4)
def _entries(catalogue: Catalogue) -> tuple[Entry, ...]:
    """Each work once; a world is only read once it is asked."""
    registers = (catalogue.by_doi, catalogue.by_arxiv, catalogue.by_pmcid, catalogue.by_pmid)
    found = {id(entry): entry for register in registers for entry in register.values()}
    return tuple(found.values())


def _matching(catalogue: Catalogue, asked: dict[str, list[str]]) -> list[Entry]:
    entries = list(_entries(catalogue))
    words = asked.get("search", [""])[0]
    for part in filter(None, asked.get("filter", [""])[0].split(",")):
        name, _, value = part.partition(":")
        words = value if name in SEARCHED else words
        if name == "doi":
            wanted = {doi.lower().removeprefix("https://doi.org/") for doi in value.split("|")}
            entries = [entry for entry in entries if entry.doi in wanted]
    return [entry for entry in entries if words.lower() in entry.title.lower()]


def _page(entries: list[Entry], start: int, per_page: int) -> dict[str, object]:
    chosen = entries[start : start + per_page]
    cursor = cursor_of(start + per_page) if chosen else None
    meta = {"count": len(entries), "db_response_time_ms": 7, "page": None, "per_page": per_page}
    return {
        "meta": {**meta, "next_cursor": cursor, "groups_count": None},
        "results": [_work(entry, start + place) for place, entry in enumerate(chosen)],
        "group_by": [],
    }


def _work(entry: Entry, place: int) -> dict[str, object]:
    """A work as the service writes it: identifiers as URLs, an arXiv paper by its landing page alone."""
    name = f"https://openalex.org/W{4_000_000_000 + place}"
    ids = {
        "openalex": name,
        "doi": f"https://doi.org/{entry.doi}" if entry.doi else "",
        "pmid": f"https://pubmed.ncbi.nlm.nih.gov/{entry.pmid}" if entry.pmid else "",
        "pmcid": f"https://www.ncbi.nlm.nih.gov/pmc/articles/{entry.pmcid[3:]}" if entry.pmcid else "",
    }
    landing = f"http://arxiv.org/abs/{entry.arxiv_id}" if entry.arxiv_id else ids["doi"] or None
    return {
        "id": name,
        "doi": ids["doi"] or None,
        "title": entry.title or None,
        "ids": {kind: value for kind, value in ids.items() if value},
        "primary_location": {"landing_page_url": landing, "pdf_url": None},
    }
