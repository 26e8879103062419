"""From what a record of any form says (a DOI here, a title there) to the work that it names, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..actors.outcome import Wanted
from ..events.keys import canonical_url
from ..events.work import Work, normal_arxiv, normal_doi, normal_pmcid, normal_pmid, parse_work, with_doi

IDENTITY = ("doi", "arxiv_id", "pmcid", "pmid", "url", "title")
"""What names a work, strongest first."""
TITLE_CHARS_MAX = 1_000
LABEL_CHARS_MAX = 200
VALUES_MAX = 20
"""Values of one field that are looked at, where a record lists several."""

_LABELS = ("label", "id", "key", "citation_key")
"""Of several labels the first in this order counts."""
_COLUMNS = {
    **{name: name for name in IDENTITY},
    **dict.fromkeys(("di", "doi_link", "doi_url", "digital_object_identifier", "article_doi"), "doi"),
    **dict.fromkeys(("arxiv", "arxivid"), "arxiv_id"),
    **dict.fromkeys(("pmc", "pmc_id"), "pmcid"),
    **dict.fromkeys(("pm", "pubmed", "pubmed_id", "pubmedid", "medline_pmid"), "pmid"),
    **dict.fromkeys(("uri", "link"), "url"),
    **dict.fromkeys(("ti", "article_title", "document_title"), "title"),
    **dict.fromkeys(_LABELS, "label"),
}
"""Column or field, in plain spelling → what it holds; also as Scopus, Web of Science and PubMed name it."""
_NOTHING = frozenset({"", "-", "n/a", "na", "none", "null", "nan"})
_LISTING = re.compile(
    r"^https?://(?:(?:www\.|export\.)?arxiv\.org/(?:list|search|find|archive|year|a)(?:[/?#]|$)"
    r"|pubmed\.ncbi\.nlm\.nih\.gov/?\?term=|scholar\.google\.[a-z.]+/)",
    re.IGNORECASE,
)
_EXAMPLES = {
    "doi": "10.1371/journal.pone.0000217",
    "arxiv_id": "2101.00001",
    "pmcid": "PMC1234567",
    "pmid": "12345678",
    "url": "https://example.org/article/7",
}


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
    """One record of an input: what it says, where, and the text that says it."""

    item: Wanted | BadLine
    raw: str
    """Its lines as they stand in the file, line ends made ``\\n``."""
    file: str
    line: int
    passed_over: str = ""
    """What in it could not be read, where the rest names a work all the same."""


class Told(NamedTuple):
    """What a record says that names a work."""

    wanted: Wanted
    passed_over: str


class Refused(Exception):
    """A record names no work: what is wrong with it, and what would be right."""

    def __init__(self, what: str, would_be_right: str) -> None:
        super().__init__(what)
        self.what, self.would_be_right = what, would_be_right


def entry_of(file: str, line: int, raw: str, parse: Callable[..., Wanted | Told], *given: Any) -> Entry:
    """The entry of a record that ``parse`` reads; a refusal becomes a ``BadLine``."""
    try:
        said = parse(*given)
    except Refused as refused:
        return Entry(BadLine(file, line, refused.what, refused.would_be_right), raw, file, line)
    if isinstance(said, Told):
        return Entry(said.wanted, raw, file, line, said.passed_over)
    return Entry(said, raw, file, line)


def column(name: str) -> str:
    """What a column or field of this name holds: a name of ``IDENTITY``, ``label`` or ``""``."""
    return _COLUMNS.get(_key(name), "")


def _key(name: str) -> str:
    return re.sub(r"[\s_.-]+", "_", name.strip(" \t\r\n\"'#\ufeff").lower())


def by_column(cells: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The cells by what they hold; of several that hold the same, the first that holds anything."""
    fields: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for name, value in cells:
        holds = column(name)
        if holds == "label":
            labels[_key(name)] = value
        elif holds and not fields.get(holds):
            fields[holds] = value
    fields["label"] = next((labels[name] for name in _LABELS if labels.get(name)), "")
    return fields


def wanted(fields: Mapping[str, Any]) -> Wanted:
    """As ``told``, without a word of what was passed over: for records that nobody wrote by hand."""
    return told(fields).wanted


def told(fields: Mapping[str, Any]) -> Told:
    """The work of a record whose fields are named as in ``IDENTITY``, and its ``label``.

    A value that cannot be read is passed over when another one identifies the work.

    Raises:
        Refused: nothing in it names a work, or all that should cannot be read.
    """
    work = Work(title=_first(fields.get("title"))[:TITLE_CHARS_MAX])
    refusal: Refused | None = None
    for name in IDENTITY[:-1]:
        for text in texts_of(fields.get(name)):
            try:
                work = work.merged(identified(name, text))
            except Refused as refused:
                refusal = refusal or refused
    if refusal is not None and not work.identifiers():
        raise refusal
    if not work.work_id:
        raise Refused("no identifier and no title", "a value for one of " + ", ".join(IDENTITY))
    label = _first(fields.get("label"))[:LABEL_CHARS_MAX]
    return Told(Wanted(work, label=label), refusal.what if refusal else "")


def texts_of(value: Any) -> list[str]:
    """A value, or each of a list, as text on one line; what says nothing (``""``, ``n/a``) is left out."""
    values = value[:VALUES_MAX] if isinstance(value, list) else [value]
    return [text for item in values if (text := _text(item)).lower() not in _NOTHING]


def _first(value: Any) -> str:
    return next(iter(texts_of(value)), "")


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list | bool):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())


def identified(name: str, text: str) -> Work:
    """The work that one field's value names; an identifier in the wrong field is taken for what it is.

    Raises:
        Refused: it names none.
    """
    work: Work | None = None
    if name == "doi":
        doi = normal_doi(text)
        work = with_doi(doi) if doi else None
    elif name == "arxiv_id":
        arxiv = normal_arxiv(text)
        work = Work(arxiv_id=arxiv[0], arxiv_version=arxiv[1]) if arxiv else None
    elif name == "pmcid":
        pmcid = normal_pmcid(text.removesuffix(".0"))
        work = Work(pmcid=pmcid) if pmcid else None
    elif name == "pmid":
        pmid = normal_pmid(text.removesuffix(".0"))
        work = Work(pmid=pmid) if pmid else None
    work = work or parse_work(text)
    if work is None:
        raise Refused(f"{name} {text[:120]!r} is none", f"such as {_EXAMPLES[name]}")
    return sound(work)


def sound(work: Work) -> Work:
    """The work, if its URL can be read and is that of one paper.

    Raises:
        Refused: it cannot, or it is a listing.
    """
    if work.url:
        try:
            canonical_url(work.url)
        except ValueError as error:
            raise Refused(f"the URL {work.url[:120]!r} cannot be read", _EXAMPLES["url"]) from error
        if _LISTING.match(work.url):
            raise Refused(f"{work.url[:120]} lists many papers", "the papers that it lists, one per line")
    return work
