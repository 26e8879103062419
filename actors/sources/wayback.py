"""The Wayback Machine: captures of URLs that earlier sources met.

CDX first (https://github.com/internetarchive/wayback, wayback-cdx-server), then the availability API
(https://archive.org/help/wayback_api.php). A capture is replayed with ``id_``: the bytes as they were.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from ...config.settings import Thresholds, WaybackEndpoints
from ..web.exchange import Answer, Role, Web, WebError
from ..web.page_repairs import web_url
from .finding import (
    Candidate,
    Found,
    Lookup,
    accepted,
    distinct,
    distinct_urls,
    from_answer,
    host_of,
    json_object,
    metadata,
    nothing,
)
from .preference import Preference

URLS_MAX = 3
"""URLs whose captures are asked for."""
CAPTURES_MAX = 2
"""Captures tried of one URL, newest first."""
LINES_MAX = 5000
LINE_CHARS_MAX = 8192
FIELDS_MIN = 6
"""A CDX line has 7 fields, or 11; the six up to the digest are read."""
_ARTIFACT = re.compile(
    r"pdf|/bitstream|/download|viewcontent|/fulltext|/file|/content/|/document\b|printable", re.IGNORECASE
)
_EXCLUDED = re.compile(
    rb"AccessControlException|Blocked Site|blocked by robots|excluded from the Wayback", re.IGNORECASE
)
_REPLAY = re.compile(r"^https?://web\.archive\.org/web/(\d{14})(?:[a-z]{2}_)?/(.+)$")


class Capture(NamedTuple):
    """One capture of a URL."""

    timestamp: str
    """``YYYYMMDDhhmmss``, UTC."""
    original: str


class Wayback:
    """The source ``wayback_pdf``."""

    name = "wayback_pdf"

    def __init__(self, settings: WaybackEndpoints, thresholds: Thresholds, wanted: Preference) -> None:
        self._cdx = settings.cdx
        self._availability = settings.availability
        self._replay = settings.replay.rstrip("/")
        self._thresholds = thresholds
        self._wanted = wanted

    def __repr__(self) -> str:
        return f"Wayback({self._cdx!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a URL that somebody met, or the work's own."""
        if self._urls(lookup):
            return None
        return "unwanted_copies" if worth_asking(lookup) else "no_url"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """The CDX question for the first URL."""
        return self._cdx_url(self._urls(lookup)[0]), "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """The newest PDF captures of the URLs seen; what one question fails at is asked of the next.

        Raises:
            WebError: no question was answered.
        """
        urls = self._urls(lookup)
        candidates: list[Candidate] = []
        last: Found | None = None
        failure: WebError | None = None
        questions = [(self._cdx_url(url), self._from_cdx) for url in urls]
        questions += [
            (self._available_url(url), self._from_availability) for url in urls if _ARTIFACT.search(url)
        ]
        for number, (question, read) in enumerate(questions, 1):
            if candidates and read == self._from_availability:
                break
            # One question that hangs leaves time for the others, of another host among them.
            share = 1 if number == len(questions) else 2
            try:
                answer = await self._ask(web, lookup, question, timeout_s=lookup.timeout_s / share)
            except WebError as error:
                failure = failure or error
                continue
            last = from_answer(answer, read(answer))
            candidates += last.candidates
        if last is None:
            raise failure or WebError("no_pdf", "no_capture", url=urls[0])
        kept = distinct(candidates, at_most=URLS_MAX * CAPTURES_MAX)
        if not kept and failure:
            raise failure
        return Found(
            candidates=kept,
            reason="" if kept else last.reason or "no_capture",
            status=last.status,
            host=last.host,
            retry_count=last.retry_count,
            meta={"urls": len(urls)},
        )

    def _urls(self, lookup: Lookup) -> tuple[str, ...]:
        """The URLs to ask for, without those of versions that nobody wants."""
        return tuple(url for url in worth_asking(lookup) if self._wanted.wants_page(url))

    async def _ask(self, web: Web, lookup: Lookup, url: str, *, timeout_s: float) -> Answer:
        answer = await metadata(web, self.name, url, msgspec.structs.replace(lookup, timeout_s=timeout_s))
        return answer if _EXCLUDED.search(answer.body[:4096]) else accepted(answer, self._thresholds)

    def _cdx_url(self, url: str) -> str:
        asked = quote(url, safe="")
        return f"{self._cdx}?url={asked}&filter=statuscode:200&filter=mimetype:application/pdf&limit=-20"

    def _available_url(self, url: str) -> str:
        return f"{self._availability}?url={quote(url, safe='')}"

    def _from_cdx(self, answer: Answer) -> Found:
        if _EXCLUDED.search(answer.body[:4096]):
            return nothing("capture_excluded")
        return self._found(captures(answer.body), "wayback_cdx", silence(answer.body))

    def _from_availability(self, answer: Answer) -> Found:
        closest = available(answer.body)
        if isinstance(closest, str):
            return nothing(closest)
        return self._found([closest], "wayback_available", "no_capture")

    def _found(self, found: list[Capture], rule: str, reason: str) -> Found:
        candidates = tuple(
            Candidate(url=f"{self._replay}/{capture.timestamp}id_/{capture.original}", rule=rule, version="")
            for capture in found[:CAPTURES_MAX]
        )
        return Found(candidates=candidates, reason="" if candidates else reason)


def worth_asking(lookup: Lookup) -> tuple[str, ...]:
    """The URLs to ask for: artifact-like ones first, then by age, newest first."""
    known = [url for url in (*reversed(lookup.seen), lookup.work.url) if url and host_of(url)]
    foreign = [url for url in known if not host_of(url).endswith("archive.org") and not _is_resolver(url)]
    ordered = sorted(
        foreign, key=lambda url: not _ARTIFACT.search(urlsplit(url).path + "?" + urlsplit(url).query)
    )
    return distinct_urls((clean for url in ordered if (clean := web_url(url))), at_most=URLS_MAX)


def _is_resolver(url: str) -> bool:
    return host_of(url) in ("doi.org", "dx.doi.org", "hdl.handle.net")


def silence(body: bytes) -> str:
    """The reason of a CDX answer that names no PDF: no capture, or no such answer at all. Never raises."""
    if body[:512].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "html_answer"
    lines = [line[:LINE_CHARS_MAX].split() for line in body.split(b"\n", LINES_MAX)[:LINES_MAX]]
    is_table = any(len(fields) >= FIELDS_MIN and fields[1].isdigit() for fields in lines)
    return "no_capture" if is_table or not body.strip() else "malformed_answer"


def captures(body: bytes) -> list[Capture]:
    """The PDF captures in a CDX answer, newest first; other lines are skipped. Never raises."""
    found: dict[str, Capture] = {}
    for line in body.split(b"\n", LINES_MAX)[:LINES_MAX]:
        fields = line[:LINE_CHARS_MAX].decode("utf-8", "replace").split()
        if len(fields) < FIELDS_MIN or fields[3].lower() != "application/pdf" or fields[4] != "200":
            continue
        original = web_url(fields[2])
        if original and is_timestamp(fields[1]):
            found.setdefault(fields[5], Capture(fields[1], original))
            if fields[1] > found[fields[5]].timestamp:
                found[fields[5]] = Capture(fields[1], original)
    return sorted(found.values(), reverse=True)


def is_timestamp(text: str) -> bool:
    """Whether a text is a moment in the archive's form; it has some with month 0 and day 32."""
    if not re.fullmatch(r"[12]\d{13}", text):
        return False
    try:
        datetime.strptime(text, "%Y%m%d%H%M%S")
    except ValueError:
        return False
    return True


def available(body: bytes) -> Capture | str:
    """The closest capture that the availability API names, or a reason. Never raises."""
    answer = json_object(body)
    if isinstance(answer, str):
        return answer
    snapshots = answer.get("archived_snapshots")
    if not isinstance(snapshots, dict):
        return "other_shape"
    closest = snapshots.get("closest")
    if (
        not isinstance(closest, dict)
        or closest.get("available") is not True
        or str(closest.get("status")) != "200"
    ):
        return "no_capture"
    found = _REPLAY.match(str(closest.get("url")))
    original = web_url(found.group(2)) if found else None
    return (
        Capture(found.group(1), original)
        if found and original and is_timestamp(found.group(1))
        else "other_shape"
    )
