"""A saved listing page of arXiv: ``/list/cs.CL/recent``, ``/catchup`` or the results of a search.

Each paper has a link whose text is ``arXiv:2401.12345`` or whose title is ``Abstract``, and near it an
element of the class ``list-title`` or ``title``. The page is parsed piece by piece and what was read is let
go, all but some 400 bytes a paper that libxml2 keeps for ids; nothing that it refers to is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TextIO
from urllib.parse import urlsplit

from lxml import etree

from ..actors.outcome import Wanted
from .fields import BadLine, Entry, entry_of, wanted

PIECE_CHARS = 1 << 16
"""As much of a page is parsed at once."""

_PAPER = re.compile(r"^/abs/(?P<id>[^?#]+)$")
_HOST = re.compile(r"^(?:[a-z-]+\.)?arxiv\.org$", re.IGNORECASE)
_DESCRIPTOR = re.compile(r"^\s*Title:\s*", re.IGNORECASE)
_EXAMPLE = "a saved page of arxiv.org/list/… (HTML, not a web archive)"


class _Paper:
    """A paper of the page, whose title may still come."""

    def __init__(self, line: int, identifier: str) -> None:
        self.line = line
        self.identifier = identifier
        self.title = ""

    def entry(self, file: str) -> Entry:
        """What the page says of it."""
        return entry_of(file, self.line, self.identifier + "\n", _from_paper, self)


def _from_paper(paper: _Paper) -> Wanted:
    return wanted({"arxiv_id": paper.identifier, "title": paper.title})


def read_page(file: str, text: TextIO) -> Iterator[Entry]:
    """One work per paper of the page; a page without any is one bad line."""
    paper: _Paper | None = None
    empty = True
    for element in _elements(text):
        identifier = _identifier(element)
        if identifier:
            if paper is not None:
                yield paper.entry(file)
            paper, empty = _Paper(element.sourceline or 0, identifier), False
        elif paper is not None and not paper.title:
            paper.title = _title(element)
    if paper is not None:
        yield paper.entry(file)
    if empty:
        what = "no paper of arXiv is listed in this page"
        yield Entry(BadLine(file, 1, what, _EXAMPLE), "", file, 1)


def _elements(text: TextIO) -> Iterator[Any]:
    """The elements that may say something, each when it is whole."""
    parser = etree.HTMLPullParser(
        events=("end",),
        tag=("a", "div", "p", "span", "dd", "li"),
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    while piece := text.read(PIECE_CHARS):
        parser.feed(piece.encode("utf-8", "replace"))
        yield from _let_go(parser)
    try:
        parser.close()
    except etree.LxmlError:
        return  # nothing at all was in it
    yield from _let_go(parser)


def _let_go(parser: etree.HTMLPullParser) -> Iterator[Any]:
    """What is whole by now; the body of an entry is dropped behind it."""
    for _, whole in parser.read_events():
        element: Any = whole
        yield element
        if element.tag in ("dd", "li"):
            element.clear(keep_tail=True)
            _drop_before(element)


def _drop_before(element: Any) -> None:
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _identifier(element: Any) -> str:
    """The arXiv id of the link that stands for a paper; ``""`` of any other element."""
    if element.tag != "a":
        return ""
    try:
        parts = urlsplit(element.get("href") or "")
    except ValueError:
        return ""
    found = _PAPER.match(parts.path.strip())
    if not found or not (parts.hostname is None or _HOST.match(parts.hostname)):
        return ""
    named = (element.get("title") or "") == "Abstract" or _text_of(element).lower().startswith("arxiv:")
    return found["id"] if named else ""


def _title(element: Any) -> str:
    """The title in an element; on pages of results the links stand in a ``list-title`` of their own."""
    if {"list-title", "title"}.isdisjoint((element.get("class") or "").split()):
        return ""
    text = _DESCRIPTOR.sub("", _text_of(element)).strip()
    return "" if text.lower().startswith("arxiv:") else text


def _text_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())
