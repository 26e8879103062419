"""PDFs made to measure: valid, of an exact size, quick to make, and different for every seed.

The file opens with its padding and ends with its page tree, so that a cut anywhere leaves nothing that a
library could repair into a document: a truncated PDF of this kind is never a PDF.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from ...errors import UsageError

PDF_BYTES_MIN = 1_024
"""Smallest PDF that can be asked for."""
TITLE_CHARS_MAX = 80
"""Characters of the title that are printed on the page."""
_POOL_BYTES = 1 << 20
_HEADER = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"


def make_pdf(seed: str, *, size: int, title: str = "") -> bytes:
    """A PDF of one page with its title as text: the same for the same arguments.

    Args:
        seed: what makes it this PDF and no other.
        size: its length in bytes, met exactly; at least ``PDF_BYTES_MIN``.
        title: printed on the page; the seed where none is given.

    Raises:
        UsageError: ``size`` is too small.
    """
    if size < PDF_BYTES_MIN:
        raise UsageError(f"a PDF of {size} bytes cannot be made: ask for at least {PDF_BYTES_MIN}")
    printed = _printable(title or seed)
    digest = hashlib.sha256(seed.encode()).digest()
    padding = size - _frame_bytes(len(printed))
    return b"".join(_parts(printed, digest, _padding(digest, padding)))


def pdf_sha256(seed: str, *, size: int, title: str = "") -> str:
    """The SHA-256 of ``make_pdf`` with the same arguments, in hex."""
    return hashlib.sha256(make_pdf(seed, size=size, title=title)).hexdigest()


def _printable(title: str) -> bytes:
    """ASCII without the characters that PDF strings escape: a title is as long on file as it is here."""
    plain = "".join(c if " " <= c <= "~" and c not in "()\\" else " " for c in title)
    return plain[:TITLE_CHARS_MAX].encode()


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


def _parts(title: bytes, digest: bytes, padding: bytes) -> list[bytes]:
    """The file in order; every number that depends on the padding has a fixed width."""
    page = b"BT /F1 14 Tf 72 720 Td (%s) Tj ET" % title
    objects = [
        b"<< /Length %010d >>\nstream\n%s\nendstream" % (len(padding), padding),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
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


@lru_cache(maxsize=TITLE_CHARS_MAX + 1)
def _frame_bytes(title_bytes: int) -> int:
    """Length of the file around its padding."""
    return sum(map(len, _parts(b"x" * title_bytes, bytes(32), b"")))
