"""Proof that a file is a whole PDF, by levels: header, length, tail, opens, page.

The tail decides about truncation: a library rebuilds the page tree of nearly any cut file, so that a file
opens is no proof that all of it is there. A PDF ends with ``startxref``, an offset and ``%%EOF``
(ISO 32000-1, 7.5.5); where ``%%EOF`` alone is missing, the offset's line must be whole and lead to a
cross-reference section. (A cut exactly before ``%%EOF`` is therefore a real PDF: no byte of it that says
anything is lost.) A linearised file also states its own length (Annex F), and what follows the last
``%%EOF`` must not be more of the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
import pikepdf

from .disk_faults import storage_faults

Level = Literal["none", "header", "length", "tail", "opens", "page"]
BYTES_MIN = 128
HEADER_WINDOW = 1024
"""``%PDF-`` stands within these first bytes."""
TAIL_WINDOW = 16_384
"""Bytes at the end that are searched for the end marks; some servers append padding or markup."""
_GZIP = b"\x1f\x8b"
_LINEARIZED = re.compile(rb"/Linearized\b")
_LINEAR_LENGTH = re.compile(rb"/L\s+(\d{1,12})\b")
_STARTXREF = re.compile(rb"startxref\s+(\d{1,12})\s")
_PARTIAL_MARK = re.compile(rb"%%?E?O?$")
_OBJECT = re.compile(rb"(?:^|\s)\d+\s+\d+\s+obj\b|\bendobj\b|\bendstream\b|\bxref\b")
_XREF_AT = re.compile(rb"\s*(?:xref\b|\d+\s+\d+\s+obj\b)")


class Proof(msgspec.Struct, frozen=True):
    """What could be proved of a file."""

    level: Level
    """The highest level it passed."""
    sound: bool
    """It passed all of them: a whole PDF with a page that anybody can open."""
    reason: str = ""
    """Short code of what failed; ``""`` when sound."""
    bytes: int = 0
    pages: int = 0


def prove(path: Path, *, length: int | None = None, bytes_min: int = BYTES_MIN) -> Proof:
    """The proof of a file; its bytes never make it raise, however hostile.

    A PDF that asks for a user password is refused (``password_required``): nobody could read what was
    brought home. One that only restricts printing or copying (an empty user password) is accepted.

    Args:
        path: the file.
        length: the size that was promised (Content-Length); not checked when None.
        bytes_min: least size, in bytes.

    Raises:
        StoreFailedError: the disk would not give the bytes, which says nothing of the file.
    """
    with storage_faults(path), path.open("rb") as file:
        size = file.seek(0, 2)
        start = _at(file, 0, HEADER_WINDOW)
        offset = start.find(b"%PDF-")
        if offset < 0 or start.startswith(_GZIP):  # a packed PDF that would not shrink shows its header too
            return Proof("none", False, _kind_of(start), size)
        if size < bytes_min:
            return Proof("header", False, "too_small", size)
        if length is not None and length != size:
            return Proof("header", False, "short_body" if size < length else "long_body", size)
        cut = _cut(file, size, offset, start)
    if cut:
        return Proof("length", False, cut, size)
    return _opened(path, size)


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(max(place, 0))
    return file.read(size)


def _kind_of(start: bytes) -> str:
    """What a file without a PDF header is, as far as one look tells."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not text:
        return "empty"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")) or b"<html" in text:
        return "html"
    if text.startswith(_GZIP):
        return "gzip"
    if text.startswith(b"<"):
        return "xml"
    return "json" if text.startswith((b"{", b"[")) else "no_pdf_header"


def _cut(file: BinaryIO, size: int, offset: int, start: bytes) -> str:
    """Why the file's end is not the end of a PDF; ``""`` when it is."""
    if _LINEARIZED.search(start):
        stated = _LINEAR_LENGTH.search(start)
        if stated and size - offset < int(stated[1]):
            return "truncated"
    tail = _at(file, size - TAIL_WINDOW, TAIL_WINDOW)
    mark = tail.rfind(b"%%EOF")
    after = tail[mark + 5 :] if mark >= 0 else tail
    if mark >= 0:
        return "truncated" if _OBJECT.search(after) else ""
    found = list(_STARTXREF.finditer(tail))
    if not found or _OBJECT.search(tail[found[-1].end() :]) or _PARTIAL_MARK.search(tail):
        return "truncated"
    place = int(found[-1][1]) + offset
    whole = place < size and _XREF_AT.match(_at(file, place, 64))
    return "" if whole else "truncated"


def _opened(path: Path, size: int) -> Proof:
    level: Level = "tail"
    try:
        with pikepdf.open(path) as pdf:
            level = "opens"
            pages = len(pdf.pages)
    except pikepdf.PasswordError:
        return Proof(level, False, "password_required", size)
    except Exception:  # noqa: BLE001 - whatever a parser says of hostile bytes, they are not proved
        return Proof(level, False, "no_pages" if level == "opens" else "damaged", size)
    if pages < 1:
        return Proof(level, False, "no_pages", size)
    return Proof("page", True, "", size, pages)
