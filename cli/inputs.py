"""The lists of works that a run is given: files of every form and encoding, and standard input.

Everything streams: memory does not grow with the list. A line that cannot be used becomes a ``BadLine``
that says what is wrong and what would be right, and the rest is read on. What a record says is the matter of
the readers: ``lines``, ``records``, ``tables``, ``bibliography`` and the three for listings of arXiv.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, cast

from ..actors.outcome import Wanted
from ..errors import UsageError
from ..events.work import parse_work
from . import arxiv_mail
from .bibliography import macros_in, read_bibtex, read_ris
from .fields import BadLine, Entry
from .lines import LINE_CHARS_MAX, bare, heading, numbered, read_lines
from .records import is_record, read_records
from .tables import SAMPLE_LINES, layout_of, read_table

__all__ = ["FORMS", "BadLine", "Entry", "Form", "Frame", "Input", "InputSet"]

Form = Literal["txt", "csv", "tsv", "jsonl", "bib", "ris", "mail", "page", "xml"]
"""The last three are listings of arXiv: its mail, a saved page, an answer of its services."""
LISTINGS: frozenset[Form] = frozenset({"mail", "page", "xml"})
"""Forms of which quire makes no file: their works come back as records."""
FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".bib": "bib",
    ".bibtex": "bib",
    ".ris": "ris",
}
"""Suffix → form; a file with any other suffix, ``.txt`` included, is looked into."""
READERS: dict[Form, Callable[[str, Iterator[tuple[int, str]]], Iterator[Entry]]] = {
    "txt": read_lines,
    "csv": read_table,
    "tsv": read_table,
    "jsonl": read_records,
    "bib": read_bibtex,
    "ris": read_ris,
    "mail": arxiv_mail.read_mail,
}
"""The readers of lines; a page and XML are no lines, and their parser is loaded when it is needed."""
SNIFF_CHARS = 64 << 10

_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_BIBTEX = re.compile(r"^[ \t]*@[ \t]*[A-Za-z]+[ \t]*[{(]", re.MULTILINE)
_RIS = re.compile(r"^[ \t]*TY[ \t]{1,3}-", re.MULTILINE)
_PAGE = re.compile(
    r"^\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
_XML = re.compile(r"^\s*<(?:\?xml|!doctype|!--|[A-Za-z_][\w.-]*(?::[\w.-]+)?[\s>])", re.IGNORECASE)


class Frame(NamedTuple):
    """What a file must have around records of an input, so that they read the same there."""

    form: Form
    preamble: str
    """What stands before the records: the line of column names, or definitions of BibTeX."""
    delimiter: str
    """Between the cells of a table; ``""`` for other forms."""


def _cp1252(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8 are taken for Windows-1252, as spreadsheets write it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("quire-cp1252", _cp1252)


class Input:
    """One file, or standard input kept in a temporary file, since it is read twice."""

    def __init__(self, name: str) -> None:
        # A name that is no UTF-8 comes with surrogates, which neither the log nor JSON can hold.
        self.name = "standard input" if name == "-" else os.fsencode(name).decode("utf-8", "replace")
        self._spool: IO[bytes] | None = _spooled() if name == "-" else None
        self._path = Path(name)
        if self._spool is None and not self._path.is_file():
            kind = "is not a file" if self._path.exists() else "there is no such file"
            raise UsageError(f"{self.name}: {kind}")
        suffix = Path(name.lower().removesuffix(".gz")).suffix
        if suffix == ".json" and not self._has_records():
            raise UsageError(
                f"{self.name}: write one record per line (.jsonl): jq -c '.[]' FILE.json > FILE.jsonl"
            )
        self.form: Form = FORMS.get(suffix) or self._sniffed(is_list=suffix in (".txt", ".list"))

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
        elif self._path.suffix.lower() == ".gz":
            stream.close()
            raise UsageError(f"{self.name}: is named .gz and is not gzip; unpack it, or name it by its form")
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "quire-cp1252")
        return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=None)

    def entries(self) -> Iterator[Entry]:
        """Its records in order.

        Raises:
            UsageError: the file as a whole cannot be used: nothing in a table names works, or broken
                compression.
        """
        try:
            with self.text() as text:
                yield from _read(self.form, self.name, text)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def frame(self) -> Frame:
        """What must surround its records in another file.

        Raises:
            UsageError: broken compression.
        """
        try:
            with self.text() as text:
                if self.form == "bib":
                    return Frame("bib", macros_in(numbered(text)), "")
                lines = (line for _, line in numbered(text) if line.strip())
                if self.form == "txt":
                    first = next((line for line in lines if bare(line)), "")
                    return Frame("txt", first if heading(first) else "", "")
                sample = list(islice(lines, SAMPLE_LINES)) if self.form in ("csv", "tsv") else []
        except _DAMAGED as error:
            raise self._damaged(error) from error
        layout = layout_of(sample)
        if layout is None:
            return Frame(self.form, "", "")
        return Frame(self.form, sample[0] if layout.has_header else "", layout.delimiter)

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._spool is not None:
            self._spool.close()

    def _damaged(self, error: BaseException) -> UsageError:
        return UsageError(f"{self.name}: the compressed file is damaged: {error}")

    def _has_records(self) -> bool:
        """Whether each line is a record, whatever the file is called; arXiv's snapshot is named so."""
        try:
            with self.text() as text:
                return is_record(text.readline(LINE_CHARS_MAX))
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _sniffed(self, *, is_list: bool) -> Form:
        try:
            with self.text() as text:
                start = text.read(SNIFF_CHARS)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        return form_of(start, is_list=is_list)


def _read(form: Form, name: str, text: io.TextIOWrapper) -> Iterator[Entry]:
    if form == "page":
        from .arxiv_page import read_page  # with lxml, which no other list needs

        return read_page(name, text)
    if form == "xml":
        from .arxiv_xml import read_xml

        return read_xml(name, text)
    return READERS[form](name, numbered(text))


def form_of(start: str, *, is_list: bool = False) -> Form:
    """The form of a text that begins so; ``is_list``: one column, even with a name, is no table."""
    if _PAGE.match(start):
        return "page"
    if _XML.match(start):
        return "xml"
    if arxiv_mail.LISTING.search(start):
        return "mail"
    lines = [line for line in start.splitlines(keepends=True) if bare(line)][:SAMPLE_LINES]
    if lines and lines[0].lstrip().startswith("{"):
        return "jsonl"
    if _RIS.search(start):
        return "ris"
    if _BIBTEX.search(start):
        return "bib"
    if all(parse_work(bare(line)) for line in lines):
        return "txt"  # a DOI or URL may hold any delimiter
    layout = layout_of(lines)
    if layout is None or (len(layout.columns) == 1 and (is_list or not layout.has_header)):
        return "txt"
    return "tsv" if layout.delimiter == "\t" else "csv"


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
