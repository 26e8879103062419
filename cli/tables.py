"""Tables with comma, semicolon, tab or bar between the cells, with column names or without.

Columns are found by their names. Where none is named so that we know it, the first rows are looked at: a
column counts when at least half of its cells are identifiers of a kind that says what it is. A bare number
is never guessed, nor a title.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from ..errors import UsageError
from ..events.work import parse_work
from .fields import IDENTITY, Entry, Refused, Told, by_column, column, entry_of, told
from .lines import LINE_CHARS_MAX, check_length

RECORD_LINES_MAX = 50
"""Lines that one quoted field may span; beyond, the quote counts as a stray one."""
SAMPLE_LINES = 50
"""Lines from which columns without a known name are guessed."""
DELIMITERS = "\t,;|"
SINGLE = "\x1f"
"""Delimiter of a table of one column: none that text holds, so that a title may hold commas."""
_SCHEMES = {"doi": "doi", "arxiv": "arxiv_id", "pmcid": "pmcid", "pmid": "pmid", "url": "url"}
_ARXIV_MONTH = re.compile(r"\d\d(?:0[1-9]|1[0-2])\.")
_DECIMAL = re.compile(r"\d+\.\d+")


class Layout(NamedTuple):
    """How a table is to be read."""

    delimiter: str
    columns: tuple[str, ...]
    """What each column holds, under names that ``column`` knows; others hold nothing of use."""
    has_header: bool
    """Whether the first line names the columns."""


def layout_of(sample: list[str]) -> Layout | None:
    """The layout of a table that begins with these lines; None when no column of it names works."""
    lines = [line for line in sample if line.strip()]
    if not lines:
        return None
    named = _named_layout(lines[0])
    if named is not None and any(column(name) in IDENTITY[:-1] for name in named.columns):
        return named
    tried = (_guessed_layout(lines, delimiter) for delimiter in (*DELIMITERS, SINGLE))
    return next((layout for layout in tried if layout is not None), named)


def _named_layout(header: str) -> Layout | None:
    """The layout by the names in the first line; None when no name there is known."""
    delimiter = max(DELIMITERS, key=header.count)
    delimiter = delimiter if delimiter in header else SINGLE
    names = tuple(_next_cells(csv.reader([header], delimiter=delimiter)) or ())
    return Layout(delimiter, names, True) if {column(name) for name in names} & set(IDENTITY) else None


def _guessed_layout(lines: list[str], delimiter: str) -> Layout | None:
    numbered = iter(list(enumerate(lines, 1)))
    rows = [cells for _, _, cells in _rows(numbered, delimiter) if cells is not None]
    width = len(rows[0]) if rows else 0
    even = sum(len(cells) == width for cells in rows)
    if (width < 2 and delimiter != SINGLE) or 2 * even <= len(rows):
        return None
    kinds = [[_kind(row[place]) for row in rows if len(row) == width] for place in range(width)]
    held = _chosen([_dominant(kind) for kind in kinds])
    if not held:
        return None
    has_header = not any(kinds[place][0] for place in held)
    names = rows[0] if has_header else [""] * width
    titles = {place: "title" for place, name in enumerate(names) if column(name) == "title"}
    titles |= {place: "label" for place, name in enumerate(names) if column(name) == "label"}
    known = {**titles, **held}
    return Layout(delimiter, tuple(known.get(place, "") for place in range(width)), has_header)


def _kind(cell: str) -> str:
    """What a cell holds by its look: a name of ``IDENTITY``, ``""`` for nothing known, ``-`` for nothing."""
    text = cell.strip()
    if not text:
        return "-"
    work = parse_work(text)
    if work is None or (_DECIMAL.fullmatch(text) and not _ARXIV_MONTH.match(text)):
        return ""
    return _SCHEMES[work.identifiers()[0][0]] if work.identifiers() else ""


def _dominant(kinds: list[str]) -> str:
    """The kind of at least half of a column's cells that hold anything; its first may be a name."""
    filled = [kind for kind in (kinds if kinds[0] else kinds[1:]) if kind != "-"]
    best = max(set(filled) - {""}, key=filled.count, default="")
    return best if 2 * filled.count(best) >= len(filled) else ""


def _chosen(kinds: list[str]) -> dict[int, str]:
    """The first column of each kind; one of URLs only where nothing better is: it may be a licence's."""
    first = {kind: place for place, kind in reversed(list(enumerate(kinds))) if kind}
    if set(first) - {"url"}:
        first.pop("url", None)
    return {place: kind for kind, place in first.items()}


def read_table(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    """One work per row.

    Raises:
        UsageError: no column of it names works.
    """
    lines = ((number, line) for number, line in lines if line.strip())
    sample = list(islice(lines, SAMPLE_LINES))
    if not sample:
        return
    layout = layout_of([line for _, line in sample])
    if layout is None:
        raise UsageError(
            f"{file}:{sample[0][0]}: no column is named {', '.join(IDENTITY[:-1])} or {IDENTITY[-1]}, "
            "and none holds identifiers; name the columns in the first line, or write one work a line (.txt)"
        )
    rest = chain(sample[1:] if layout.has_header else sample, lines)
    for number, raw, cells in _rows(rest, layout.delimiter):
        if cells is None or any(cell.strip() for cell in cells):
            yield entry_of(file, number, raw, _from_row, raw, layout.columns, cells)


def _from_row(raw: str, columns: Iterable[str], cells: list[str] | None) -> Told:
    check_length(raw)
    if cells is None:
        raise Refused("the row cannot be read", f"cells of at most {csv.field_size_limit()} characters")
    return told(by_column(zip(columns, cells, strict=False)))


def _rows(lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, str, list[str] | None]]:
    """Number of the first line, text and cells of each row; no cells where the csv module gives up.

    The lines of a row are gathered by counting quotes: the csv module alone would let one stray quote
    swallow the rest of the file.
    """
    waiting: list[tuple[int, str]] = []
    while True:
        held = waiting or [line for line in [next(lines, None)] if line]
        if not held:
            return
        span = _span(held, lines)
        waiting = held[span:]
        raw = [line for _, line in held[:span]]
        start = 0
        reader = csv.reader(raw, delimiter=delimiter)
        while start < span:
            cells = _next_cells(reader)
            yield held[start][0], "".join(raw[start : reader.line_num]), cells
            start = reader.line_num


def _next_cells(reader: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error:
        return None


def _span(held: list[tuple[int, str]], lines: Iterator[tuple[int, str]]) -> int:
    """How many of the held lines the first row takes; more are fetched as its open quote asks for them."""
    quotes = held[0][1].count('"')
    span = 1
    chars = len(held[0][1])
    while quotes % 2 and span < RECORD_LINES_MAX and chars < LINE_CHARS_MAX:
        if span == len(held):
            more = next(lines, None)
            if more is None:
                break
            held.append(more)
        quotes += held[span][1].count('"')
        chars += len(held[span][1])
        span += 1
    return 1 if quotes % 2 else span
