"""The text of a PDF's first pages, as far as its bytes give any.

PDFium (by way of ``pypdfium2``) reads it: it is what browsers open PDFs with, so hostile bytes are its daily
bread, and three pages cost some milliseconds. It is not thread-safe, therefore one lock stands before it; a
file that keeps it busy for ever costs the others their text, never their time: they wait ``WAIT_S`` and go on
without. It is imported when the first text is asked for.
"""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

PAGES_MAX = 3
"""First pages that are read: a repository's cover page, and the article's first two."""
PAGE_CHARS_MAX = 20_000
"""Characters of one page that are read; a dense page of a journal has 8,000."""
WAIT_S = 10.0
"""Longest wait for the one reader, in seconds."""
_READER = threading.Lock()


def first_text(path: Path) -> str:
    """The text of the first pages, page after page.

    Never raises for what the bytes are: a scan, a file with a password and a damaged one give ``""``.

    Args:
        path: the file.
    """
    if not _READER.acquire(timeout=WAIT_S):
        return ""
    try:
        return _read(path)
    except Exception:  # noqa: BLE001 - whatever a parser says of hostile bytes, they gave no text
        return ""
    finally:
        _READER.release()


def _read(path: Path) -> str:
    import pypdfium2  # not at import of the module: a run that checks no titles must not pay for it

    # Closed here and not by the garbage collector, which would do it on any thread and without the lock.
    with closing(pypdfium2.PdfDocument(path)) as pdf:
        return "\n".join(_page_text(pdf, number) for number in range(min(PAGES_MAX, len(pdf))))


def _page_text(pdf: Any, number: int) -> str:
    with closing(pdf[number]) as page, closing(page.get_textpage()) as text:
        count = min(text.count_chars(), PAGE_CHARS_MAX)
        return str(text.get_text_range(0, count)) if count > 0 else ""
