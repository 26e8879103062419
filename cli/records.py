"""Records as JSON, one per line: those of Unpaywall, OpenAlex, Crossref and arXiv, and quire's own names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..actors.outcome import Wanted
from ..events.work import normal_arxiv
from .fields import BadLine, Entry, Refused, Told, by_column, entry_of, told, wanted
from .lines import check_length

_EXAMPLE = '{"doi": "…"} on one line'
_ARXIV_FIELDS = frozenset(
    {"authors_parsed", "categories", "journal-ref", "report-no", "submitter", "update_date"}
)
"""Fields by which a record of arXiv's metadata snapshot is known, if one of them stands in it."""


def read_records(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    """One record per line, or one page of search results per line."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = _decoded(line)
        except Refused as refused:
            yield Entry(BadLine(file, number, refused.what, refused.would_be_right), line, file, number)
            continue
        listed = _listed(record)
        if listed is None:
            yield entry_of(file, number, line, _from_record, record)
            continue
        for item in listed:
            raw = msgspec.json.encode(item).decode() + "\n"
            yield entry_of(file, number, raw, _from_record, item)


def is_record(line: str) -> bool:
    """Whether a line is a JSON object by itself."""
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError):
        return False


def _decoded(line: str) -> dict[str, Any]:
    check_length(line)
    try:
        record = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError) as error:
        raise Refused(f"not JSON: {error}", _EXAMPLE) from error
    if not isinstance(record, dict):
        raise Refused("not a JSON object", _EXAMPLE)
    return record


def _listed(record: dict[str, Any]) -> list[Any] | None:
    """The records of a page of results: of OpenAlex and Unpaywall, or of Crossref."""
    message = record.get("message")
    listed = message.get("items") if isinstance(message, dict) else record.get("results")
    return listed if isinstance(listed, list) else None


def _from_record(record: Any) -> Wanted | Told:
    """A record of our own, of Unpaywall, of OpenAlex, of arXiv or of Crossref (also in its ``message``)."""
    for envelope in ("message", "response"):
        if isinstance(record, dict) and isinstance(record.get(envelope), dict):
            record = record[envelope]
    if not isinstance(record, dict):
        raise Refused("not a JSON object", _EXAMPLE)
    if "DOI" in record:
        return wanted({"doi": record["DOI"], "title": record.get("title")})
    if isinstance(record.get("ids"), dict) or "openalex.org/" in str(record.get("id", "")):
        return work_of_openalex(record)
    if _is_arxivs(record):
        return _from_arxiv(record)
    if "oa_locations" in record or "doi_url" in record:
        return wanted({"doi": record.get("doi"), "title": record.get("title")})
    return told(by_column(record.items()))


def _is_arxivs(record: dict[str, Any]) -> bool:
    """Whether it is of the snapshot: its ``id``, elsewhere the user's own label, is then an arXiv id."""
    identifier = record.get("id")
    if not isinstance(identifier, str) or normal_arxiv(identifier) is None:
        return False
    return not _ARXIV_FIELDS.isdisjoint(record) or {"doi", "title"} <= record.keys()


def _from_arxiv(record: dict[str, Any]) -> Wanted:
    """https://www.kaggle.com/datasets/Cornell-University/arxiv; ``doi`` may name several."""
    doi = record.get("doi")
    return wanted(
        {
            "arxiv_id": record["id"],
            "doi": doi.split() if isinstance(doi, str) else None,
            "title": record.get("title"),
        }
    )


def work_of_openalex(record: dict[str, Any]) -> Wanted:
    """The work of a record of OpenAlex, whose identifiers are URLs; its OpenAlex id is the label.

    https://docs.openalex.org/api-entities/works/work-object

    Raises:
        Refused: it has no identifier and no title.
    """
    ids = record["ids"] if isinstance(record.get("ids"), dict) else {}
    place = record.get("primary_location")
    url = place.get("landing_page_url") if isinstance(place, dict) else None
    fields = {
        "doi": record.get("doi") or ids.get("doi"),
        "pmid": str(ids.get("pmid") or "").rstrip("/").rpartition("/")[2],
        "pmcid": str(ids.get("pmcid") or "").rstrip("/").rpartition("/")[2],
        "url": None if "//doi.org/" in str(url) else url,
        "title": record.get("title") or record.get("display_name"),
        "label": str(record.get("id") or ids.get("openalex") or "").rpartition("/")[2],
    }
    return wanted(fields)
