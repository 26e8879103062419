"""Answers of arXiv's services, saved as XML: Atom of ``export.arxiv.org/api/query``, and OAI-PMH.

https://info.arxiv.org/help/api/user-manual.html and https://info.arxiv.org/help/oa/index.html. Records are
read one by one and let go, so that memory does not grow with the file. Nothing of a document type is
trusted: a file that declares one is refused before it is parsed, since these answers have none and
entities are how a small file grows without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from lxml import etree

from ..actors.outcome import Wanted
from ..errors import UsageError
from ..events.work import normal_arxiv
from .fields import BadLine, Entry, Refused, entry_of, wanted

PIECE_CHARS = 1 << 16
"""As much of a file is parsed at once."""
PROLOG_CHARS_MAX = 1 << 16
"""The root element begins within so many characters."""

_ROOT = re.compile(r"<[A-Za-z_]")
_EXAMPLE = "the whole answer of the service, saved as it came"
_ATOM = "{http://www.w3.org/2005/Atom}"
_OAI = "{http://www.openarchives.org/OAI/2.0/}"


def read_xml(file: str, text: TextIO) -> Iterator[Entry]:
    """One work per entry of Atom, or per record of OAI-PMH.

    Raises:
        UsageError: it is other XML, or declares a document type.
    """
    start = _prolog(file, text)
    parser = etree.XMLPullParser(
        events=("start", "end"),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    read: Callable[[Any], Wanted] | None = None
    try:
        for event, element in _events(parser, start, text):
            if read is None:
                read = _reader_of(file, element)
            if event == "end" and element.tag in (f"{_ATOM}entry", f"{_OAI}record", f"{_OAI}error"):
                yield entry_of(file, element.sourceline or 1, "", read, element)
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        what = f"not well-formed from here on: {error.msg}; what stands before was read"
        yield Entry(BadLine(file, line, what, _EXAMPLE), "", file, line)


def _prolog(file: str, text: TextIO) -> str:
    """The text up to the root element at least.

    Raises:
        UsageError: it declares a document type, or there is no root element.
    """
    start = text.read(PROLOG_CHARS_MAX).removeprefix("\ufeff").lstrip()
    root = _ROOT.search(start)
    before = start[: root.start()] if root else start
    if "<!doctype" in before.lower() or "<!entity" in before.lower():
        raise UsageError(f"{file}: declares a document type, which no answer of arXiv does; it is not read")
    if root is None:
        raise UsageError(f"{file}: is no XML document; right would be: {_EXAMPLE}")
    return start


def _events(parser: etree.XMLPullParser, start: str, text: TextIO) -> Iterator[tuple[str, Any]]:
    piece = start
    while piece:
        parser.feed(piece.encode("utf-8", "replace"))
        yield from parser.read_events()
        piece = text.read(PIECE_CHARS)
    parser.close()
    yield from parser.read_events()


def _reader_of(file: str, root: Any) -> Callable[[Any], Wanted]:
    if root.tag == f"{_ATOM}feed":
        return _from_atom
    if root.tag == f"{_OAI}OAI-PMH":
        return _from_oai
    raise UsageError(f"{file}: is XML, but neither Atom nor OAI-PMH: its root is {root.tag[:120]}")


def _from_atom(entry: Any) -> Wanted:
    """An entry; where the question was wrong, arXiv answers with one that says so."""
    said = _texts(entry)
    identifier = next(iter(said.get("id", ())), "")
    if "/api/errors" in identifier:
        raise Refused(f"arXiv said: {' '.join(said.get('summary', ['an error']))[:200]}", "a mended question")
    arxiv = [identifier] if normal_arxiv(identifier) else []
    links = [link.get("href") or "" for link in entry.iter(f"{_ATOM}link") if link.get("rel") == "alternate"]
    title = said.get("title", ())
    return wanted({"arxiv_id": arxiv, "doi": _dois(said), "url": [] if arxiv else links, "title": [*title]})


def _from_oai(record: Any) -> Wanted:
    """A record in one of arXiv's formats: ``arXiv``, ``arXivRaw``, ``arXivOld`` or ``oai_dc``."""
    if record.tag == f"{_OAI}error":
        raise Refused(f"the service said: {_text(record)[:200]}", "a mended question")
    header = record.find(f"{_OAI}header")
    named = _text(header.find(f"{_OAI}identifier")) if header is not None else ""
    if header is not None and header.get("status") == "deleted":
        raise Refused(f"the record {named[:120]} is deleted", "a record that is there")
    metadata = record.find(f"{_OAI}metadata")
    said = _texts(metadata) if metadata is not None else {}
    identifiers = said.get("identifier", [])
    arxiv = [named.rpartition("arXiv.org:")[2], *identifiers, *said.get("id", ())]
    return wanted(
        {
            "arxiv_id": [text for text in arxiv if normal_arxiv(text)],
            "doi": [*_dois(said), *(text for text in identifiers if text.lower().startswith("doi:"))],
            "title": said.get("title", []),
        }
    )


def _dois(said: dict[str, list[str]]) -> list[str]:
    """A field of arXiv may name several, with spaces between."""
    return [doi for text in said.get("doi", ()) for doi in text.split()]


def _texts(element: Any) -> dict[str, list[str]]:
    """The texts of the elements below, by local name; what stands deeper than one level counts as well."""
    found: dict[str, list[str]] = {}
    for child in element.iterdescendants():
        if isinstance(child.tag, str):
            local = child.tag.rpartition("}")[2]  # etree.QName raises for names that XML takes
            found.setdefault(local, []).append(_text(child))
    return found


def _text(element: Any) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())
