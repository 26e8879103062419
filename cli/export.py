"""``export``: the jobs of the library as a table for other programs, with the fields of ``list --json``.

Rows go from the store to the file page by page, so memory does not grow with the library.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import msgspec

from ..errors import UsageError
from ..events.job import JobRow, State
from ..events.projections import JOBS, LISTED, job_id_of, list_prefix
from . import output
from .bibtex import as_tex, name_of
from .draft import draft_of, text_draft_of
from .inputs import InputSet
from .library import Tables, as_line, opened, scanned

FIELDS = {
    **dict.fromkeys(("doi", "arxiv_id", "pmcid", "pmid", "url", "title", "label", "job_id", "state"), str),
    "generation": int,
    **dict.fromkeys(("reason", "source", "pdf_url", "sha256", "path"), str),
    **dict.fromkeys(("bytes", "attempts"), int),
    "title_check": str,
}
"""The fields of a job and their types, in order: those of ``library.as_line``."""
LOOKUP_ROWS = 500
"""Jobs of a list that are asked of the store at once."""
ROW_GROUP = 10_000
"""Rows of a Parquet file that are written, and later read, together."""
KEY_BITS = 1 << 25
"""Bits by which BibTeX keys given before are recognised: 4 MiB, however many there are."""

Line = dict[str, Any]
_LIST_ID = re.compile(r"[0-9a-f]{16}")


def export(args: argparse.Namespace) -> int:
    """``quire export``: all jobs, or those of a state or list."""
    to_file = args.output not in (None, "-")
    if args.format == "parquet" and not to_file:
        raise UsageError("parquet is no text; say where it goes: --output FILE.parquet")
    state = _state_named(args.state) if args.state else None
    with opened(args) as library:
        lines = _lines(library.store, state=state, list_id=_list_named(args.list) if args.list else None)
        if not to_file:
            _write_text(sys.stdout, args.format, lines)
            return 0
        file = Path(args.output)
        count = _Count(lines)
        if args.format == "parquet":
            _write_parquet(file, count)
        else:
            with text_draft_of(file) as stream:
                _write_text(stream, args.format, count)
    output.warn(f"{file}: {count.seen} jobs")
    return 0


class _Count:
    """Lines that are counted as they pass."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = lines
        self.seen = 0

    def __iter__(self) -> Iterator[Line]:
        for line in self._lines:
            self.seen += 1
            yield line


def _state_named(text: str) -> State:
    try:
        return State(text.upper())
    except ValueError:
        raise UsageError(f"--state {text}: one of {', '.join(State)}") from None


def _list_named(text: str) -> str:
    """A list by its id, or by the file that made it."""
    if _LIST_ID.fullmatch(text):
        return text
    with InputSet([text]) as inputs:
        return inputs.list_id


def _lines(tables: Tables, *, state: State | None, list_id: str | None) -> Iterator[Line]:
    jobs = scanned(tables, JOBS) if list_id is None else _of_list(tables, list_id)
    for key, row in jobs:
        if state is None or row.state is state:
            yield as_line(job_id_of(key), row)


def _of_list(tables: Tables, list_id: str) -> Iterator[tuple[bytes, JobRow]]:
    keys = (key for _, key in scanned(tables, LISTED, list_prefix(list_id)))
    empty = True
    while page := list(islice(keys, LOOKUP_ROWS)):
        empty = False
        rows: list[JobRow | None] = tables.rows(JOBS, page)
        yield from ((key, row) for key, row in zip(page, rows, strict=True) if row is not None)
    if empty:
        raise UsageError(f"list {list_id}: this library has no such list; was another file given to `run`?")


def _write_text(stream: TextIO, form: str, lines: Iterable[Line]) -> None:
    if form == "csv":
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    elif form == "jsonl":
        stream.writelines(msgspec.json.encode(line).decode() + "\n" for line in lines)
    else:
        keys = _Keys()
        stream.writelines(_bibtex_entry(keys.key_of(line), line) for line in lines)


# -- BibTeX


class _Keys:
    """Keys for entries, none given twice; which ones were given is kept in bits, not in names.

    Where two keys share their bit, the later one gets the start of its job's id although it is new: harmless.
    """

    def __init__(self) -> None:
        self._given = bytearray(KEY_BITS // 8)

    def key_of(self, line: Line) -> str:
        """The label, else the strongest identifier, in the characters of a key; unique in this export."""
        named = line["label"] or _work_id(line)
        key = re.sub(r"[^A-Za-z0-9:./+_-]+", "_", named).strip("_") or line["job_id"][:16]
        return key if self._is_new(key.lower()) else f"{key}-{line['job_id'][:16]}"

    def _is_new(self, key: str) -> bool:
        place = int.from_bytes(_digest(key), "big") % KEY_BITS
        byte, bit = place >> 3, 1 << (place & 7)
        seen = self._given[byte] & bit
        self._given[byte] |= bit
        return not seen


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()[:8]


def _work_id(line: Line) -> str:
    return next(
        (line[name] for name in ("doi", "arxiv_id", "pmcid", "pmid", "url", "title") if line[name]), ""
    )


def _bibtex_entry(key: str, line: Line) -> str:
    """One entry; ``file`` is written as JabRef does, and read by Zotero as well, relative to the library."""
    arxiv = line["arxiv_id"]
    fields = {
        "title": as_tex(line["title"]),
        "doi": _doi_field(line["doi"]),
        "eprint": arxiv,
        "archiveprefix": "arXiv" if arxiv else "",
        "pmid": line["pmid"],
        "pmcid": line["pmcid"],
        "url": _url_field(line["url"]),
        "file": f":{_escaped_path(line['path'])}:PDF" if line["path"] else "",
    }
    said = "".join(f",\n  {name} = {{{value}}}" for name, value in fields.items() if value)
    kind = "misc" if arxiv and not line["doi"] else "article"
    return f"@{kind}{{{key}{said}\n}}\n\n"


def _doi_field(doi: str) -> str:
    """A DOI as it is; as the URL of its resolver where its characters mean something to BibTeX."""
    return doi if name_of(doi) == doi else "https://doi.org/" + quote(doi, safe="/:;()._-")


def _url_field(url: str) -> str:
    return url if name_of(url) == url else re.sub(r"[\\{}$\s]", lambda found: quote(found[0]), url)


def _escaped_path(path: str) -> str:
    return re.sub(r"([\\:;])", r"\\\1", path)


# -- Parquet


def _write_parquet(file: Path, lines: Iterable[Line]) -> None:
    try:
        # Not by an import statement: pyarrow is an extra, and comes without types.
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError(
            "parquet needs the package pyarrow: python -m pip install 'quire[parquet]'"
        ) from None
    kinds = {str: pyarrow.string(), int: pyarrow.int64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in FIELDS.items()])
    rows = iter(lines)
    with draft_of(file) as stream, parquet.ParquetWriter(stream, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
