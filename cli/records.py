"""Records as JSON, one per line: those of Unpaywall, OpenAlex and Crossref, and quire's own names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..actors.outcome import Wanted
from .fields import BadLine, Entry, Refused, by_column, entry_of, wanted
from .lines import check_length

_EXAMPLE = '{"doi": "…"} on one line'


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


def _from_record(record: Any) -> Wanted:
    """A record of our own, of Unpaywall, of OpenAlex or of Crossref (also in its ``message``)."""
    for envelope in ("message", "response"):
        if isinstance(record, dict) and isinstance(record.get(envelope), dict):
            record = record[envelope]
    if not isinstance(record, dict):
        raise Refused("not a JSON object", _EXAMPLE)
    if "DOI" in record:
        return wanted({"doi": record["DOI"], "title": record.get("title")})
    if isinstance(record.get("ids"), dict) or "openalex.org/" in str(record.get("id", "")):
        return _from_openalex(record)
    if "oa_locations" in record or "doi_url" in record:
        return wanted({"doi": record.get("doi"), "title": record.get("title")})
    return wanted(by_column(record.items()))


def _from_openalex(record: dict[str, Any]) -> Wanted:
    """https://docs.openalex.org/api-entities/works/work-object: identifiers are URLs."""
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
