"""Going on with a file of which some bytes are held: what may be asked for, and which answers are honest.

A part is worth nothing if its two halves come from different files. So a range is asked for only together
with a strong validator (RFC 9110 13.1.5), and a 206 is believed only when it says that it begins where we
stand and ends where the file ends. Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
import msgspec

from .cookies import http_date_s
from .exchange import Request

VALIDATOR_CHARS_MAX = 256
"""A longer validator is not used."""
DATE_AGE_MIN_S = 1.0
"""Last-Modified counts as strong when the answer's Date is this much later; RFC 9110 8.8.2.2."""
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)


class BadRange(ValueError):
    """A 206 that is no honest continuation; the message says why."""


class Span(msgspec.Struct, frozen=True):
    """What a believed 206 holds: the bytes from ``start`` to the end of a file of ``total``."""

    start: int
    total: int


def is_strong(validator: str) -> bool:
    """Whether this may stand in an ``If-Range``: a strong ETag or an HTTP date."""
    if len(validator) > VALIDATOR_CHARS_MAX or not validator.isascii() or not validator.isprintable():
        return False
    return bool(_STRONG_ETAG.fullmatch(validator)) or (
        not validator.startswith(('"', "W/", "w/")) and http_date_s(validator) is not None
    )


def strong_validator(headers: Mapping[str, str]) -> str:
    """The validator to keep with a part, or ``""`` when the answer has none that is strong.

    ``headers``: names in lower case. A strong ETag comes first; with a weak one, or none, a Last-Modified
    that is older than the answer itself.
    """
    etag = headers.get("etag", "").strip()
    if _STRONG_ETAG.fullmatch(etag) and is_strong(etag):
        return etag
    modified, now = headers.get("last-modified", "").strip(), headers.get("date", "").strip()
    modified_s, now_s = http_date_s(modified), http_date_s(now)
    is_settled = modified_s is not None and now_s is not None and now_s - modified_s >= DATE_AGE_MIN_S
    return modified if is_settled and is_strong(modified) else ""


def is_resuming(request: Request) -> bool:
    """Whether the request asks for the rest of a file: bytes are held, and a strong validator with them."""
    return request.range_start > 0 and is_strong(request.if_range)


def range_headers(request: Request) -> dict[str, str]:
    """``Range`` and ``If-Range``, both or neither."""
    if not is_resuming(request):
        return {}
    return {"Range": f"bytes={request.range_start}-", "If-Range": request.if_range}


def span_of(request: Request, response: httpx.Response, *, length: int | None) -> Span:
    """What a 206 holds, when it may be believed.

    ``length``: its Content-Length, where it has one. A 206 that nobody asked for must hold the whole file.

    Raises:
        BadRange: it begins elsewhere, does not reach the end, is of another version, or contradicts itself.
    """
    headers = response.headers
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise BadRange(f"a part of a body encoded as {coding[:40]!r}")
    said = headers.get("content-range", "").strip()
    found = _CONTENT_RANGE.fullmatch(said)
    if found is None:
        raise BadRange(f"Content-Range {said[:80]!r} does not say where the part begins and the file ends")
    start, last, total = (int(number) for number in found.groups())
    wanted = request.range_start if is_resuming(request) else 0
    if start != wanted:
        raise BadRange(f"the part begins at {start}, not at {wanted}")
    if not start <= last == total - 1:
        raise BadRange(f"{said[:80]!r} does not reach the end of the file")
    if length is not None and length != total - start:
        raise BadRange(f"{said[:80]!r} with a Content-Length of {length}")
    if is_resuming(request):
        _check_version(request.if_range, headers)
    return Span(start, total)


def _check_version(validator: str, headers: httpx.Headers) -> None:
    """Refuse a part that says itself that it is of another version than the one asked for."""
    name = "etag" if validator.startswith('"') else "last-modified"
    said = headers.get(name, validator).strip()
    if said != validator:
        raise BadRange(f"the part is of version {said[:80]!r}, not of {validator!r}")
