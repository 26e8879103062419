"""Going on from a part: what is kept beside it, and when it may be used.

A part may be gone on from only by the URL that it came from, and only behind a strong validator of the
answer that it was begun with (RFC 9110, 13.1.5 and 14.2): the server then sends the rest, or the whole of
what it has now.
"""

from __future__ import annotations

import hashlib

import msgspec

from ...store.objects import ABOUT_BYTES_MAX, Objects, Part
from ..web.exchange import Digest, Download, WebError
from ..web.ranges import strong_validator


class Held(msgspec.Struct, frozen=True):
    """Bytes of an earlier try."""

    url_sha256: str
    """Of the URL, which may hold a token that must not lie on the disk."""
    validator: str
    boot_id: str
    """The boot in which it was written: parts are not fsynced, so a crash of the machine may have torn it."""
    total: int = 0
    """Declared length of the whole; 0 where the server did not say."""
    length: int = 0
    """Bytes that are held."""


def held_of(objects: Objects, job_id: str, url: str, *, boot_id: str) -> Held | None:
    """The part of a job that came from this URL and can be gone on from; reads the disk."""
    length, note = objects.left(job_id)
    if not length or not note:
        return None
    try:
        held = msgspec.json.decode(note, type=Held)
    except msgspec.DecodeError:
        return None
    if held.url_sha256 != _sha256(url) or held.boot_id != boot_id:
        return None
    if held.total and length >= held.total:
        return None  # whole, but never said to be so: there is no rest to ask for
    return msgspec.structs.replace(held, length=length)


def prepared(part: Part, url: str, download: Download, *, boot_id: str) -> Digest | None:
    """Make the part ready for the answer's bytes; the hash of what it holds when the answer goes on from it.

    Raises:
        WebError: the part is not what it was when the rest was asked for.
    """
    if download.resumed_at:
        if part.length != download.resumed_at:
            raise WebError("retryable", "part_changed", url=download.url)
        return part.digest()
    if part.length:
        part.restart()
    validator = strong_validator(download.headers)
    if validator and download.length:  # without a length nobody could tell whether there is a rest to ask for
        note = msgspec.json.encode(Held(_sha256(url), validator, boot_id, download.length)).decode()
        if len(note) <= ABOUT_BYTES_MAX:
            part.note(note)
    return None


def _sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
