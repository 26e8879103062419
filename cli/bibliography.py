"""Bibliographies: which works the entries of BibTeX files and the records of RIS files name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..actors.outcome import Wanted
from ..events.work import normal_arxiv, normal_doi, parse_work
from . import bibtex
from .fields import BadLine, Entry, Refused, entry_of, wanted

RECORD_CHARS_MAX = 1 << 20
"""Longest RIS record that is kept, in characters."""
VALUES_MAX = 20
"""Values of one tag that are looked at."""

# -- BibTeX

_NO_WORKS = frozenset({"comment", "preamble", "control", "ieeetranbstctl", "set", "xdata"})
"""Blocks that style files and converters keep beside the entries."""
_BIBTEX_EXAMPLE = "@article{key, doi = {10.1371/journal.pone.0000217}}"


def read_bibtex(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    """One work per entry; its key is the label."""
    macros: dict[str, str] = {}
    for block in bibtex.blocks(lines):
        if block.kind == "string":
            trouble = _define(block, macros)
            if trouble:
                what = f"the @string {trouble}"
                yield Entry(
                    BadLine(file, block.line, what, '@string{name = "text"}'), block.raw, file, block.line
                )
        elif block.kind not in _NO_WORKS:
            yield entry_of(file, block.line, block.raw, _from_block, block, macros)


def macros_in(lines: Iterator[tuple[int, str]]) -> str:
    """The ``@string`` blocks of a file as they stand in it, for the head of another file."""
    return "".join(block.raw for block in bibtex.blocks(lines) if block.kind == "string")


def _define(block: bibtex.Block, macros: dict[str, str]) -> str:
    """Take in a definition; returns what is wrong with it."""
    if block.trouble:
        return block.trouble
    try:
        fields = bibtex.fields_from(block.body, 0)
    except bibtex.Malformed as error:
        return f"cannot be read: {error}"
    for name, pieces in fields.items():
        macros[name] = bibtex.value_of(pieces, macros)[: bibtex.MACRO_CHARS_MAX]
    return ""


def _from_block(block: bibtex.Block, macros: Mapping[str, str]) -> Wanted:
    named = f"the entry @{block.kind}{{{block.body.partition(',')[0].strip()[:60]}"
    if block.trouble:
        raise Refused(f"{named} {block.trouble}", "a } for every {, within one entry")
    try:
        key, pieces = bibtex.key_and_fields(block.body)
    except bibtex.Malformed as error:
        raise Refused(f"{named} cannot be read: {error}", _BIBTEX_EXAMPLE) from error
    return wanted(_from_entry(key, {name: bibtex.value_of(value, macros) for name, value in pieces.items()}))


def _from_entry(key: str, said: Mapping[str, str]) -> dict[str, Any]:
    name = {tag: bibtex.name_of(said.get(tag, "")) for tag in _NAMES}
    eprint, kind = name["eprint"], (name["archiveprefix"] or name["eprinttype"]).lower()
    arxiv = kind == "arxiv" or (not kind and normal_arxiv(eprint) is not None)
    in_pubmed = kind in ("pubmed", "pmid", "medline")
    return {
        "doi": name["doi"],
        "arxiv_id": [eprint if arxiv else "", name["arxivid"], name["arxiv"]],
        "pmcid": [name["pmcid"], name["pmc"], eprint if kind in ("pmc", "pmcid") else ""],
        "pmid": [name["pmid"], eprint if in_pubmed else ""],
        "url": [*_urls(name["url"]), *_urls(name["howpublished"]), *_urls(name["ee"]), *_urls(eprint)],
        "title": bibtex.text_of(said.get("title", "")),
        "label": key,
    }


_NAMES = (
    *("doi", "eprint", "archiveprefix", "eprinttype", "arxivid", "arxiv", "pmid", "pmcid", "pmc", "url"),
    *("howpublished", "ee"),
)
"""Fields that hold names and not text. Of arXiv: https://info.arxiv.org/help/hypertex/bibstyles/index.html."""


def _urls(text: str) -> list[str]:
    """The URLs in a field, which may hold several or none."""
    return re.findall(r"https?://\S+", text)[:VALUES_MAX]


# -- RIS

_TAG = re.compile(r"\ufeff?[ \t]*([A-Z][A-Z0-9])[ \t]{1,3}-(?:[ \t]+(.*))?$")
_TITLES = ("TI", "T1")
_LINKS = ("UR", "LK", "L2", "L1")
_KEPT = frozenset({"TY", "DO", "M3", "AN", "C2", "ID", "DB", "DP", *_TITLES, *_LINKS})
"""Tags that name a work; DB and DP say whose number AN is. https://en.wikipedia.org/wiki/RIS_(file_format)"""


class _Record:
    """An RIS record on its way."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.said: dict[str, list[str]] = {}
        self._last = ""
        self._raw: list[str] = []
        self._chars = 0

    def take(self, line: str, tag: str, value: str) -> None:
        """One line of it; without a tag it goes on with the value before."""
        self._chars += len(line)
        if self._chars > RECORD_CHARS_MAX:
            return
        self._raw.append(line)
        values = self.said.setdefault(tag or self._last, [])
        if tag:
            self._last = tag
            if tag in _KEPT and len(values) < VALUES_MAX:
                values.append(value)
        elif values and self._last in _TITLES:
            values[-1] = f"{values[-1]} {value}"

    def entry(self, file: str) -> Entry:
        """What it says."""
        return entry_of(file, self.line, "".join(self._raw), _from_ris, self.said, self._chars)


def read_ris(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    """One work per record; a record without its ``ER`` ends where the next begins."""
    record: _Record | None = None
    for number, line in lines:
        found = _TAG.match(line)
        tag, value = (found[1], (found[2] or "").strip()) if found else ("", line.strip())
        if record is not None and tag == "TY":
            yield record.entry(file)
            record = None
        if record is None:
            if tag in ("", "ER"):
                continue  # between records databases write what they like
            record = _Record(number)
        record.take(line, tag, value)
        if tag == "ER":
            yield record.entry(file)
            record = None
    if record is not None:
        yield record.entry(file)


def _from_ris(said: Mapping[str, list[str]], chars: int) -> Wanted:
    if chars > RECORD_CHARS_MAX:
        raise Refused(
            "the record is too long", f"at most {RECORD_CHARS_MAX} characters, and an ER at its end"
        )
    origin = " ".join(said.get("DB", []) + said.get("DP", [])).lower()
    numbers = said.get("AN", [])
    in_pubmed = any(name in origin for name in ("pubmed", "nlm", "medline"))
    linked = [*numbers, *(link for tag in _LINKS for link in said.get(tag, []))]
    return wanted(
        {
            "doi": said.get("DO") or [text for text in said.get("M3", []) if normal_doi(text)],
            "pmcid": [text for text in said.get("C2", []) if text.upper().startswith("PMC")],
            "pmid": [text for text in numbers if in_pubmed and text.isdecimal()],
            "url": [text for text in linked if parse_work(text)],
            "title": [text for tag in _TITLES for text in said.get(tag, [])],
            "label": said.get("ID", []),
        }
    )
