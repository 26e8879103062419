"""Reading lists of works: one identifier per line, tables, and records of Unpaywall, OpenAlex and Crossref.

Everything streams: memory does not grow with the list. A line that cannot be used becomes a ``BadLine``
that says what is wrong and what would be right, and the rest is read on. A bare number is never guessed.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, cast

import msgspec

from ..actors.outcome import Wanted
from ..errors import UsageError
from ..events.keys import canonical_url
from ..events.work import (
    Work,
    normal_arxiv,
    normal_doi,
    normal_pmcid,
    normal_pmid,
    parse_work,
    with_doi,
)

Form = Literal["txt", "csv", "tsv", "jsonl"]
FORMS: dict[str, Form] = {
    ".txt": "txt",
    ".list": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
LINE_CHARS_MAX = 16 << 20
"""Longest line, in characters; the largest OpenAlex records are below 5 MB."""
RECORD_LINES_MAX = 50
"""Lines that one quoted field of a table may span; beyond, the quote counts as a stray one."""
TITLE_CHARS_MAX = 1_000
LABEL_CHARS_MAX = 200
SNIFF_BYTES = 64 << 10

_COLUMNS = {
    "doi": "doi",
    "arxiv_id": "arxiv_id",
    "arxiv": "arxiv_id",
    "arxivid": "arxiv_id",
    "pmcid": "pmcid",
    "pmid": "pmid",
    "url": "url",
    "title": "title",
    "label": "label",
    "id": "label",
    "key": "label",
}
"""Column or field in lower case → what it holds; of several labels the first in this order counts."""
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_IDENTITY = ("doi", "arxiv_id", "pmcid", "pmid", "url", "title")
_NOTHING = frozenset({"", "-", "n/a", "na", "none", "null", "nan"})
_BARE_NUMBER = re.compile(r"\d+")
_EXAMPLES = {
    "doi": "10.1371/journal.pone.0000217",
    "arxiv_id": "2101.00001",
    "pmcid": "PMC1234567",
    "pmid": "12345678",
    "url": "https://example.org/article/7",
}
_EXAMPLE_LINE = "a DOI, an arXiv id, PMC1234567, pmid:12345678 or a URL"


class BadLine(msgspec.Struct, frozen=True):
    """A line of an input that names no work."""

    file: str
    line: int
    """From 1; of a record over several lines, its first."""
    what: str
    would_be_right: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}; right would be: {self.would_be_right}"


class Entry(NamedTuple):
    """One record of an input: what it says, and the text that says it."""

    item: Wanted | BadLine
    raw: str
    """Its lines as they stand in the file, line ends made ``\\n``."""


class _Refused(Exception):
    def __init__(self, what: str, would_be_right: str) -> None:
        self.what, self.would_be_right = what, would_be_right


def _cp1252(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8 are taken for Windows-1252, as spreadsheets write it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("quire-cp1252", _cp1252)


class Input:
    """One file, or standard input kept in a temporary file, since it is read twice."""

    def __init__(self, name: str) -> None:
        self.name = "standard input" if name == "-" else name
        self._spool: IO[bytes] | None = _spooled() if name == "-" else None
        self._path = Path(name)
        bare = name.lower().removesuffix(".gz")
        if self._spool is None and not self._path.is_file():
            kind = "is not a file" if self._path.exists() else "there is no such file"
            raise UsageError(f"{name}: {kind}")
        suffix = Path(bare).suffix
        if suffix == ".json":
            raise UsageError(
                f"{name}: write one record per line (.jsonl): jq -c '.[]' FILE.json > FILE.jsonl"
            )
        self.form: Form = FORMS.get(suffix) or self._sniffed()

    def __repr__(self) -> str:
        return f"Input({self.name!r}, {self.form})"

    def bytes(self) -> IO[bytes]:
        """Its bytes as they are, from the start."""
        if self._spool is not None:
            self._spool.seek(0)
            return cast("IO[bytes]", io.BufferedReader(_Unclosed(self._spool)))
        try:
            return self._path.open("rb")
        except OSError as error:
            raise UsageError(f"{self.name}: cannot be read: {error.strerror}") from error

    def text(self) -> io.TextIOWrapper:
        """Its text: decompressed, decoded, without byte order mark, line ends as they are."""
        stream = self.bytes()
        start = stream.read(4)
        stream.seek(0)
        if start[:2] == b"\x1f\x8b":
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
            start = stream.read(4)
            stream.seek(0)
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "quire-cp1252")
        return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=None)

    def entries(self) -> Iterator[Entry]:
        """Its records in order.

        Raises:
            UsageError: the file as a whole cannot be used: no column names, or broken compression.
        """
        read = {"txt": _read_lines, "jsonl": _read_records}.get(self.form, _read_table)
        try:
            with self.text() as text:
                yield from read(self.name, _lines(text))
        except _DAMAGED as error:
            raise UsageError(f"{self.name}: the compressed file is damaged: {error}") from error

    def header(self) -> str:
        """The line of column names; ``""`` for forms without one."""
        if self.form not in ("csv", "tsv"):
            return ""
        with self.text() as text:
            return next((line for _, line in _lines(text) if line.strip()), "")

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._spool is not None:
            self._spool.close()

    def _sniffed(self) -> Form:
        try:
            with self.text() as text:
                lines = [line.strip() for line in text.read(SNIFF_BYTES).splitlines()]
        except _DAMAGED as error:
            raise UsageError(f"{self.name}: the compressed file is damaged: {error}") from error
        first = next((line for line in lines if line and not line.startswith("#")), "")
        if first.startswith("{"):
            return "jsonl"
        named = {_column(cell) for cell in re.split(r"[,;\t]", first)}
        if named.isdisjoint(_IDENTITY):
            return "txt"
        return "tsv" if "\t" in first else "csv"


class _Unclosed(io.RawIOBase):
    """The spool as a stream whose end does not end the spool."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._spool.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        data = self._spool.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _spooled() -> IO[bytes]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as its Input, which closes it
    shutil.copyfileobj(sys.stdin.buffer, spool)
    return spool


class InputSet:
    """The inputs of one run, read as one list."""

    def __init__(self, names: Iterable[str]) -> None:
        self.inputs = [Input(name) for name in names]
        self.names = tuple(item.name for item in self.inputs)

    def __repr__(self) -> str:
        return f"InputSet({', '.join(self.names)})"

    def __enter__(self) -> InputSet:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for item in self.inputs:
            item.close()

    @property
    def list_id(self) -> str:
        """The name of the list: the first 16 hex digits of SHA-256 over the bytes of its inputs."""
        digest = hashlib.sha256()
        for item in self.inputs:
            with item.bytes() as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()[:16]

    def entries(self) -> Iterator[Entry]:
        """The records of all inputs in order."""
        for item in self.inputs:
            yield from item.entries()

    def __iter__(self) -> Iterator[Wanted | BadLine]:
        return (entry.item for entry in self.entries())


# -- the forms --------------------------------------------------------------------------------------


def _lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Number and text of each line; an overlong one is read over and comes cut, with its line end."""
    number = 0
    while line := text.readline(LINE_CHARS_MAX):
        number += 1
        rest = line
        while rest and not rest.endswith("\n"):
            rest = text.readline(LINE_CHARS_MAX)
        yield number, line if line.endswith("\n") else line + "\n"


def _entry(file: str, line: int, raw: str, parse: Any, *given: Any) -> Entry:
    try:
        if len(raw) > LINE_CHARS_MAX:
            raise _Refused("the line is too long", f"at most {LINE_CHARS_MAX} characters")
        return Entry(parse(*given), raw)
    except _Refused as refused:
        return Entry(BadLine(file, line, refused.what, refused.would_be_right), raw)


def _read_lines(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    for number, line in lines:
        bare = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if bare:
            yield _entry(file, number, line, _from_text, bare)


def _from_text(text: str) -> Wanted:
    if _BARE_NUMBER.fullmatch(text):
        raise _Refused(f"the bare number {text} could be several things", f"pmid:{text} or PMC{text}")
    work = parse_work(text)
    if work is None:
        raise _Refused(f"{text[:120]!r} is no identifier", _EXAMPLE_LINE)
    return Wanted(_sound(work))


def _read_records(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    for number, line in lines:
        if line.strip():
            yield _entry(file, number, line, _from_json, line)


def _from_json(line: str) -> Wanted:
    try:
        record = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError) as error:
        raise _Refused(f"not JSON: {error}", '{"doi": "…"} on one line') from error
    if not isinstance(record, dict):
        raise _Refused("not a JSON object", '{"doi": "…"}')
    return _from_record(record)


def _from_record(record: dict[str, Any]) -> Wanted:
    """A record of our own, of Unpaywall, of OpenAlex or of Crossref (also in its ``message``)."""
    if isinstance(record.get("message"), dict):
        record = record["message"]
    if "DOI" in record:
        return _wanted({"doi": record["DOI"], "title": record.get("title")})
    if isinstance(record.get("ids"), dict) or "openalex.org/" in str(record.get("id", "")):
        return _from_openalex(record)
    if "oa_locations" in record or "doi_url" in record:
        return _wanted({"doi": record.get("doi"), "title": record.get("title")})
    return _wanted(_by_column(record.items()))


def _from_openalex(record: dict[str, Any]) -> Wanted:
    """https://docs.openalex.org/api-entities/works/work-object: identifiers are URLs."""
    ids = record["ids"] if isinstance(record.get("ids"), dict) else {}
    place = record.get("primary_location")
    url = place.get("landing_page_url") if isinstance(place, dict) else None
    fields = {
        "doi": record.get("doi") or ids.get("doi"),
        "pmid": str(ids.get("pmid") or "").rstrip("/").rpartition("/")[2],
        "pmcid": str(ids.get("pmcid") or "").rstrip("/").rpartition("/")[2],
        "url": None if "//doi.org/" in str(url) else url,
        "title": record.get("title") or record.get("display_name"),
        "label": str(record.get("id") or ids.get("openalex") or "").rpartition("/")[2],
    }
    return _wanted(fields)


def _read_table(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    first, header = next(((n, line) for n, line in lines if line.strip()), (1, ""))
    delimiter = max(",;\t", key=header.count)
    columns = next(csv.reader([header], delimiter=delimiter), [])
    if {_column(name) for name in columns}.isdisjoint(_IDENTITY):
        raise UsageError(
            f"{file}:{first}: no column is named {', '.join(_IDENTITY[:-1])} or {_IDENTITY[-1]}; "
            "write the names in the first line, or one identifier per line in a .txt"
        )
    for number, raw, cells in _rows(lines, delimiter):
        if any(cell.strip() for cell in cells):
            yield _entry(file, number, raw, _from_row, columns, cells)


def _rows(lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, str, list[str]]]:
    """Number of the first line, text and cells of each row.

    The lines of a row are gathered by counting quotes: the csv module alone would let one stray quote
    swallow the rest of the file.
    """
    waiting: list[tuple[int, str]] = []
    while True:
        held = waiting or [line for line in [next(lines, None)] if line]
        if not held:
            return
        quotes = held[0][1].count('"')
        span = 1
        while quotes % 2 and span < RECORD_LINES_MAX:
            if span == len(held):
                more = next(lines, None)
                if more is None:
                    break
                held.append(more)
            quotes += held[span][1].count('"')
            span += 1
        if quotes % 2:
            span = 1
        raw = [line for _, line in held[:span]]
        waiting = held[span:]
        reader = csv.reader(raw, delimiter=delimiter)
        start = 0
        for cells in reader:
            yield held[start][0], "".join(raw[start : reader.line_num]), cells
            start = reader.line_num


def _from_row(columns: list[str], cells: list[str]) -> Wanted:
    return _wanted(_by_column(zip(columns, cells, strict=False)))


def _column(name: str) -> str:
    return _COLUMNS.get(name.strip().strip('"').lower().replace(" ", "_"), "")


def _by_column(cells: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The cells by what they hold; of several that hold the same, the first that holds anything."""
    fields: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for name, value in cells:
        column = _column(name)
        if column == "label":
            labels[name.strip().lower()] = value
        elif column and not fields.get(column):
            fields[column] = value
    fields["label"] = next((labels[k] for k in ("label", "id", "key") if labels.get(k)), "")
    return fields


# -- from fields to a work --------------------------------------------------------------------------


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = next((item for item in value if item), None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or isinstance(value, dict | bool) else " ".join(str(value).split())
    return "" if text.lower() in _NOTHING else text


def _wanted(fields: dict[str, Any]) -> Wanted:
    texts = {name: _text(value) for name, value in fields.items()}
    work = Work(title=texts.get("title", "")[:TITLE_CHARS_MAX])
    for name in _IDENTITY[:-1]:
        if texts.get(name):
            work = work.merged(_identified(name, texts[name]))
    if not work.work_id:
        raise _Refused("no identifier and no title", "a value for one of " + ", ".join(_IDENTITY))
    return Wanted(_sound(work), label=texts.get("label", "")[:LABEL_CHARS_MAX])


def _identified(name: str, text: str) -> Work:
    """The work that one column's value names; an identifier in the wrong column is taken for what it is."""
    work: Work | None = None
    if name == "doi":
        doi = normal_doi(text)
        work = with_doi(doi) if doi else None
    elif name == "arxiv_id":
        arxiv = normal_arxiv(text)
        work = Work(arxiv_id=arxiv[0], arxiv_version=arxiv[1]) if arxiv else None
    elif name == "pmcid":
        pmcid = normal_pmcid(text)
        work = Work(pmcid=pmcid) if pmcid else None
    elif name == "pmid":
        pmid = normal_pmid(text.removesuffix(".0"))
        work = Work(pmid=pmid) if pmid else None
    work = work or parse_work(text)
    if work is None:
        raise _Refused(f"{name} {text[:120]!r} is none", f"such as {_EXAMPLES[name]}")
    return work


def _sound(work: Work) -> Work:
    """The work, if its URL can be read."""
    if work.url:
        try:
            canonical_url(work.url)
        except ValueError as error:
            raise _Refused(f"the URL {work.url[:120]!r} cannot be read", _EXAMPLES["url"]) from error
    return work
