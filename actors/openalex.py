"""OpenAlex as a list: which works a query names, page by page, and how far the log says that was asked.

https://docs.openalex.org/how-to-use-the-api/get-lists-of-entities/paging: a listing begins with the cursor
``*``, each page names the cursor of the next, and the last one names none. All of it is pure: questions go
out by ``Session.fetch``, and what a page's works are is for the readers of records to say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from ..config.settings import OpenAlexOptions
from ..errors import UsageError
from ..events.facts import QueryPaged
from ..events.record import Recorded
from ..store.interface import EventStore
from .sources.finding import json_object
from .web.exchange import Answer, Request
from .web.redaction import REDACTED, redact_text, redact_url

SERVICE = "OpenAlex"
QUERY_PREFIX = "query/"
"""Of the streams that hold how far a query was asked, one for each list."""
FIRST = "*"
"""The cursor that begins a listing."""
FIELDS = ("id", "doi", "title", "ids", "primary_location")
"""What is asked of each work: what names it."""
QUERY_CHARS_MAX = 4_000
"""Longest query; servers refuse longer URLs anyway."""
SAID_CHARS_MAX = 600
"""As much of the service's own words is shown; it may name every field that it knows."""
CURSOR_CHARS_MAX = 2_000

_EXAMPLE = "such as 'institutions.ror:https://ror.org/02nr0ka47,is_oa:true'"
_FILTER = re.compile(r"[a-z][a-z0-9_.-]*:.+", re.IGNORECASE | re.DOTALL)


class Query(msgspec.Struct, frozen=True):
    """What is asked for."""

    filter: str = ""
    """As https://docs.openalex.org/api-entities/works/filter-works has it."""
    search: str = ""
    """Words that titles, abstracts or full texts hold."""

    @property
    def text(self) -> str:
        """The query in its one spelling, by which its list is named."""
        parts = (("filter", self.filter), ("search", self.search))
        return "&".join(f"{name}={value}" for name, value in parts if value)

    def list_id(self, inputs: str = "") -> str:
        """The name of its list: 16 hex digits; ``inputs`` names the files that stand beside it."""
        return hashlib.sha256(f"openalex:{self.text}\n{inputs}".encode()).hexdigest()[:16]

    def url(self, options: OpenAlexOptions, *, cursor: str, email: str) -> str:
        """The question for one page."""
        asked = {
            "filter": self.filter,
            "search": self.search,
            "per-page": str(options.per_page),
            "cursor": cursor,
            "select": ",".join(FIELDS),
            "mailto": email,
            "api_key": options.api_key or "",
        }
        said = {name: value for name, value in asked.items() if value}
        return f"{options.endpoint.rstrip('/')}/works?{urlencode(said, safe=':,*|')}"

    def request(self, options: OpenAlexOptions, *, cursor: str, email: str) -> Request:
        """One page as it is asked of the network."""
        return Request(
            url=self.url(options, cursor=cursor, email=email),
            role="metadata",
            source="openalex",
            retries_max=options.retries_max,
            deadline_s=options.timeout_ms / 1000,
            accept="application/json",
            cached=False,  # a listing is asked once, or anew: what is wrong with a page must not be kept
        )


def query_of(text: str) -> Query:
    """The query that a user writes: a filter, ``filter=…&search=…``, or the address of either kind.

    Raises:
        UsageError: it is none.
    """
    text = text.strip()
    query = Query(filter=text)
    if re.match(r"https?://", text, re.IGNORECASE) or re.match(r"\??(?:filter|search)=", text):
        query = _of_parameters(text)
    elif not _FILTER.fullmatch(text):
        raise UsageError(f"--openalex {_shown(text)!r}: a filter is name:value, {_EXAMPLE}")
    if len(query.text) > QUERY_CHARS_MAX or not query.text.isprintable():
        raise UsageError(f"--openalex: at most {QUERY_CHARS_MAX} characters on one line, {_EXAMPLE}")
    return query


def _of_parameters(text: str) -> Query:
    is_url = "://" in text.partition("?")[0]
    try:
        parts = urlsplit(text if is_url else "?" + text.lstrip("?"))
    except ValueError:
        raise UsageError(f"--openalex {_shown(text)!r}: is no address, {_EXAMPLE}") from None
    if is_url and parts.path.rstrip("/").rpartition("/")[2] != "works":
        raise UsageError(f"--openalex {_shown(text)}: lists no works; its path should end with /works")
    given = parse_qs(parts.query)
    if len(given.get("search", [])) > 1:
        raise UsageError(f"--openalex {_shown(text)}: search= stands there twice; give one")
    named = (one.strip(" ,") for one in given.get("filter", []))
    filters = ",".join(filter(None, named))  # all of them hold, as those of one filter= do
    query = Query(filters, given.get("search", [""])[0].strip())
    if not query.text:
        raise UsageError(f"--openalex {_shown(text)}: has neither filter= nor search=")
    return query


def _shown(text: str) -> str:
    """What a user gave, for a message: an address that lacks its scheme may hold a key as well."""
    return (redact_text(text) if "://" in text else redact_url(text))[:120]


class Page(msgspec.Struct, frozen=True):
    """One page of a listing."""

    works: list[Any]
    """The records as they came."""
    cursor: str
    """Of the next page; ``""`` where there is none."""
    count: int
    """Works that the service counts for the whole query."""


def page_of(answer: Answer) -> Page | str:
    """The page of an answer that says 200, or what is wrong with it."""
    if answer.truncated:
        return f"it is larger than web.metadata_bytes_max lets in ({len(answer.body)} bytes)"
    record = json_object(answer.body)
    if isinstance(record, str):
        return {"empty_answer": "it is empty", "html_answer": "it is a web page"}.get(record, "it is no JSON")
    meta, works = record.get("meta"), record.get("results")
    if not isinstance(meta, dict) or not isinstance(works, list):
        return "it has no meta and results"
    cursor, count = meta.get("next_cursor"), meta.get("count")
    if cursor is not None and not (isinstance(cursor, str) and len(cursor) <= CURSOR_CHARS_MAX):
        return "its next_cursor is none"
    counted = count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else 0
    return Page(works, cursor if cursor and works else "", counted)


def said_by(answer: Answer, *, secret: str = "") -> str:
    """The service's own words in an answer that is no success; its status where it has none.

    ``secret``: the key that was sent, which the service may name in so many words.
    """
    record = json_object(answer.body)
    words = [record.get(name) for name in ("error", "message")] if isinstance(record, dict) else []
    said = ": ".join(" ".join(word.split()).rstrip(".") for word in words if isinstance(word, str))
    said = said.replace(secret, REDACTED) if secret else said
    return redact_text(said)[:SAID_CHARS_MAX] or f"HTTP {answer.status} without a word"


class Progress(msgspec.Struct, frozen=True):
    """How far a query was asked, as the log has it."""

    cursor: str = FIRST
    """What to ask next; ``""`` when the listing is finished."""
    pages: int = 0
    works: int = 0
    """Works listed so far, each as often as it was listed."""
    count: int = 0
    """As the service counted them last."""
    time_ns: int = 0
    """When the last page became durable, on the wall clock."""
    asked: frozenset[str] = frozenset()
    """Every cursor of this listing so far: one that comes again leads in a circle."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to ask."""
        return not self.cursor

    def after(self, paged: QueryPaged, time_ns: int) -> Progress:
        """With one more page; the first one of a listing begins anew."""
        before = Progress() if paged.asked == FIRST else self
        return Progress(
            paged.cursor,
            before.pages + 1,
            before.works + paged.works,
            paged.count,
            time_ns,
            before.asked | {paged.asked},
        )


def stream_of_query(list_id: str) -> str:
    """The stream of a list's query."""
    return QUERY_PREFIX + list_id


def progress_in(store: EventStore, list_id: str) -> Progress:
    """How far the log says that a list's query was asked."""
    stream, version = stream_of_query(list_id), 0
    progress = Progress()
    while events := store.read_stream(stream, version):
        progress = folded(progress, events)
        version = events[-1].version
    return progress


def folded(progress: Progress, events: Iterable[Recorded[Any]]) -> Progress:
    """The progress after these events."""
    for recorded in events:
        if isinstance(recorded.event, QueryPaged):
            progress = progress.after(recorded.event, recorded.time_ns)
    return progress
