"""PDFs made to measure: valid, of an exact size, quick to make, and different for every seed.

The file opens with its padding and ends with its page tree, so that a cut anywhere leaves nothing that a
library could repair into a document: a truncated PDF of this kind is never a PDF.
"""

from __future__ import annotations

import hashlib
import textwrap
from functools import lru_cache

from ...errors import UsageError

PDF_BYTES_MIN = 1_024
"""Smallest PDF that can be asked for."""
TITLE_CHARS_MAX = 400
"""Characters of the title that are printed on the page."""
ROOMY_BYTES = 4_096
"""Size from which on the whole title is printed, and an article's text below it; else its start alone."""
_TIGHT_CHARS = 80
_TEXT = (
    "This article stands for any other in a simulated web. It is here so that there is a text on the "
    "page, as there is in an article of a journal, and not the title alone. What it says is the same "
    "in all of them. The reader who came for results will find none: there are no methods, no data "
    "and no tables in it, and of the figures that were planned not one was drawn. We thank those who "
    "made the paper, the ink and the thread without which a gathering of leaves would fall apart, and "
    "who asked for nothing in return."
)
_POOL_BYTES = 1 << 20
_HEADER = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"


def make_pdf(seed: str, *, size: int, title: str = "") -> bytes:
    """A PDF of one page with its title as text: the same for the same arguments.

    Args:
        seed: what makes it this PDF and no other.
        size: its length in bytes, met exactly; at least ``PDF_BYTES_MIN``.
        title: printed on the page, above a text in English; the seed where none is given.

    Raises:
        UsageError: ``size`` is too small.
    """
    if size < PDF_BYTES_MIN:
        raise UsageError(f"a PDF of {size} bytes cannot be made: ask for at least {PDF_BYTES_MIN}")
    page = _page(title or seed, roomy=size >= ROOMY_BYTES)
    digest = hashlib.sha256(seed.encode()).digest()
    padding = size - _frame_bytes(len(page))
    return b"".join(_parts(page, digest, _padding(digest, padding)))


def pdf_sha256(seed: str, *, size: int, title: str = "") -> str:
    """The SHA-256 of ``make_pdf`` with the same arguments, in hex."""
    return hashlib.sha256(make_pdf(seed, size=size, title=title)).hexdigest()


@lru_cache(maxsize=16_384)
def _page(title: str, *, roomy: bool) -> bytes:
    """What is printed on the page."""
    plain = "".join(" " if c in "()\\" else c for c in title if c.isprintable())
    lines = textwrap.wrap(plain[: TITLE_CHARS_MAX if roomy else _TIGHT_CHARS], 60 if roomy else 80)
    lines += textwrap.wrap(_TEXT, 84) if roomy else []
    shown = b" ".join(b"(%s) '" % line.encode("cp1252", "replace").replace(b"?", b" ") for line in lines)
    return b"BT /F1 12 Tf 14 TL 72 720 Td %s ET" % shown


@lru_cache(maxsize=1)
def _pool() -> bytes:
    return hashlib.shake_128(b"quire.testing.web").digest(_POOL_BYTES)


def _padding(digest: bytes, length: int) -> bytes:
    """Bytes that do not compress: the digest, then the pool from a place that the digest names."""
    pool, start = _pool(), int.from_bytes(digest[:4], "big") % _POOL_BYTES
    head = digest[:length]
    wanted = length - len(head)
    turns = -(-(start + wanted) // _POOL_BYTES)
    return head + (pool if turns <= 1 else pool * turns)[start : start + wanted]


def _parts(page: bytes, digest: bytes, padding: bytes) -> list[bytes]:
    """The file in order; every number that depends on the padding has a fixed width."""
    objects = [
        b"<< /Length %010d >>\nstream\n%s\nendstream" % (len(padding), padding),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Page /Parent 5 0 R /MediaBox [0 0 612 792] /Contents 2 0 R"
        b" /Resources << /Font << /F1 3 0 R >> >> >>",
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        b"<< /Type /Catalog /Pages 5 0 R >>",
    ]
    parts, offset, xref = [_HEADER], len(_HEADER), b"xref\n0 7\n0000000000 65535 f \n"
    for number, content in enumerate(objects, 1):
        written = b"%d 0 obj\n%s\nendobj\n" % (number, content)
        parts.append(written)
        xref += b"%010d 00000 n \n" % offset
        offset += len(written)
    identity = digest[:16].hex().encode()
    trailer = b"trailer\n<< /Size 7 /Root 6 0 R /ID [<%s> <%s>] >>\n" % (identity, identity)
    return [*parts, xref, trailer, b"startxref\n%010d\n%%%%EOF\n" % offset]


@lru_cache(maxsize=2 * TITLE_CHARS_MAX)
def _frame_bytes(page_bytes: int) -> int:
    """Length of the file around its padding."""
    return sum(map(len, _parts(b"x" * page_bytes, bytes(32), b"")))
