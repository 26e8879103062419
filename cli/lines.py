"""Lists of one identifier per line, and the numbered lines that every form is read from."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from ..actors.outcome import Wanted
from ..events.work import Work, normal_arxiv, normal_doi, parse_work, with_doi
from .fields import IDENTITY, Entry, Refused, column, entry_of, sound, wanted

LINE_CHARS_MAX = 16 << 20
"""Longest line, in characters; the largest OpenAlex records are below 5 MB."""

_EXAMPLE = "a DOI, an arXiv id, PMC1234567, pmid:12345678 or a URL"
_BARE_NUMBER = re.compile(r"\d+")
_COMMENT = re.compile(r"(?:^|\s)#")
_IN_TEXT = re.compile(
    r"(?:^|(?<=[\s(\[])|(?<=doi:)|(?<=doi\.org/))(?P<doi>10\.[0-9]{4,9}(?:\.[0-9]+)*/[^\s\"<>]+)"
    r"|\barxiv:\s?(?P<arxiv>[a-z-]+(?:\.[a-z]{2})?/[0-9]{7}(?:v[0-9]+)?|[0-9]{4}\.[0-9]{4,5}(?:v[0-9]+)?)"
    r"|\b(?P<pmcid>PMC[0-9]{2,9})\b|\bPMID:?\s?(?P<pmid>[0-9]{1,9})\b",
    re.IGNORECASE,
)
"""Identifiers that say what they are, within a citation or a copied line of a listing."""
_AFTER_DOI = ".,;:)]}'\"»”"


def numbered(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Number and text of each line, with its end; an overlong one is read over and comes cut."""
    number = 0
    while line := text.readline(LINE_CHARS_MAX):
        number += 1
        rest = line
        while rest and not rest.endswith("\n"):
            rest = text.readline(LINE_CHARS_MAX)
        yield number, line if line.endswith("\n") else line + "\n"


def check_length(line: str) -> None:
    """Let a line pass that was not cut.

    Raises:
        Refused: it was.
    """
    if len(line) > LINE_CHARS_MAX:
        raise Refused("the line is too long", f"at most {LINE_CHARS_MAX} characters")


def bare(line: str) -> str:
    """A line without its comment and what surrounds it."""
    comment = _COMMENT.search(line)
    return (line[: comment.start()] if comment else line).strip()


def heading(line: str) -> str:
    """What all lines below hold, where a line is nothing but the name of a column; else ``""``."""
    holds = column(bare(line))
    return holds if holds in IDENTITY else ""


def read_lines(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    """One work per line; a first line such as ``pmid`` says what the others hold."""
    holds: str | None = None
    for number, line in lines:
        text = bare(line)
        if not text:
            continue
        if holds is None:
            holds = heading(line)
            if holds:
                continue
        yield entry_of(file, number, line, _from_line, line, text, holds)


def _from_line(line: str, text: str, holds: str) -> Wanted:
    check_length(line)
    return wanted({holds: text}) if holds else Wanted(sound(_named(text)))


def _named(text: str) -> Work:
    if _BARE_NUMBER.fullmatch(text):
        raise Refused(
            f"the bare number {text[:120]} could be several things", f"pmid:{text} or PMC{text}"[:250]
        )
    work = parse_work(text) or _within(text)
    if work is None:
        raise Refused(f"{text[:120]!r} is no identifier", _EXAMPLE)
    return work


def _within(text: str) -> Work | None:
    """The one work whose identifiers stand within a citation.

    Raises:
        Refused: they are those of several works.
    """
    found = Work()
    for match in _IN_TEXT.finditer(text):
        work = _marked(match)
        if work is not None:
            known = dict(found.identifiers())
            if any(known.get(scheme, value) != value for scheme, value in work.identifiers()):
                raise Refused(f"{text[:120]!r} names several works", "one work per line")
            found = found.merged(work)
    return found if found.work_id else None


def _marked(match: re.Match[str]) -> Work | None:
    kind, text = match.lastgroup, match[0]
    if kind == "doi":
        doi = normal_doi(text.rstrip(_AFTER_DOI))
        return with_doi(doi) if doi else None
    if kind == "arxiv":
        arxiv = normal_arxiv(match["arxiv"])
        return Work(arxiv_id=arxiv[0], arxiv_version=arxiv[1]) if arxiv else None
    return parse_work(text)
