# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""The seven sources as targets: each finder is asked through a web that answers with the body at hand."""

from __future__ import annotations

import functools
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ...actors.sources.catalog import finders
from ...actors.sources.finding import CANDIDATES_MAX, Found, Lookup, explained
from ...actors.web.exchange import Answer, Download, Gate, Request, Role, WebError
from ...actors.web.guard import BadUrl, place
from ...config.loader import load
from ...config.settings import Mappings, Quire, Resolver
from ...errors import InvariantError
from ...events.work import Work, normal_doi, normal_url, parse_work
from .message import Message, packed
from .target import Seen, Target, check, check_found, check_work, message_of, outcome_of, ran

WORK = Work(
    doi="10.1000/x", pmid="12", url="https://journal.example/10.1000/x.pdf", title="On the finding of papers"
)


@functools.cache
def settings() -> Quire:
    """The defaults, whatever this machine's environment says."""
    return load(environ={}).settings


@functools.cache
def _finders() -> Mapping[str, Any]:
    return finders(settings().sources, settings().fallback.thresholds, resolvers=RESOLVERS)


HOST_CHARS_MAX = 253
_ASKED = "https://resolver.example/{doi}"
RESOLVERS = (
    Resolver(name="page", url=_ASKED, mode="html", selector="a[href*=pdf], meta[name=citation_pdf_url]"),
    Resolver(name="json", url=_ASKED, mode="json", selector=".oa_locations",
             mappings=Mappings(url="url_for_pdf", pageURL="url_for_landing_page")),
)  # fmt: skip
"""Sources as users make them, one of each mode."""


class OneAnswer:
    """A web in which a part of a URL names the answer; all else is a 404."""

    def __init__(self, answers: Mapping[str, Message]) -> None:
        self._answers = answers

    def __repr__(self) -> str:
        return f"<OneAnswer to {', '.join(self._answers)}>"

    async def fetch(self, request: Request) -> Answer:
        """The answer at once."""
        for part, message in self._answers.items():
            if part in request.url:
                return message.answer()
        return Answer(url=request.url, status=404, headers={}, body=b"")

    async def open(self, request: Request) -> Download:
        """Never: finders open no PDF."""
        raise InvariantError(f"a finder opened {request.url[:200]}")

    def gate(self, url: str, role: Role) -> Gate | None:
        """Never held back."""
        return None

    async def close(self) -> None:
        """Nothing is open."""


def asked(work: Work = WORK, **more: Any) -> Lookup:
    """A question to a source."""
    said = {"email": "me@university.example", "timeout_s": 5.0, "retries_max": 0, "robots": False}
    return Lookup(work=work, **{**said, **more})


def answered(
    name: str, lookup: Lookup, answers: Mapping[str, Message], *, candidates_max: int = CANDIDATES_MAX
) -> Seen:
    """How a source answers; its own errors of the web are answers as well."""
    try:
        found: Found = ran(_finders()[name].find(OneAnswer(answers), lookup))
    except WebError as error:
        check(explained(error.reason), f"an error has a reason of the table: {error.reason!r}")
        return Seen(error.reason, (error.outcome, error.reason, error.status))
    if name != "crossref":
        check_found(found, candidates_max=candidates_max)
    else:
        check(explained(found.reason), f"{found.reason!r} is in the table")
        check(not found.candidates, "the identifier names no candidates")
    check(len(found.host) <= HOST_CHARS_MAX, "a host is short")
    return outcome_of(found)


_OWN_DOI = re.compile(rb'"doi"\s*:\s*"(10\.[^"\\]{1,200})"', re.IGNORECASE)
_OWN_TITLE = re.compile(rb'"title"\s*:\s*\[?\s*"([^"\\]{5,300})"')
_OURS = "10.1000/"
"""Prefix of the DOIs in bodies of our own, which say themselves whether they are of another work."""
_STRANGER_EVERY = 5
"""One body in so many is read for another work than the one that it is about."""


def _meant(body: bytes, work: Work) -> Work:
    """Mostly the work that a recorded answer is about, so that it is read to its end; else the given one."""
    if zlib.crc32(body) % _STRANGER_EVERY == 0:
        return work
    doi, title = _OWN_DOI.search(body[:400_000]), _OWN_TITLE.search(body[:400_000])
    known = normal_doi(doi[1].decode("utf-8", "replace")) if doi and work.doi else None
    if known and known.startswith(_OURS):
        return work
    named = title[1].decode("utf-8", "replace") if title and work.title else work.title
    return msgspec.structs.replace(work, doi=known or work.doi, title=named)


def _reader(
    name: str, part: str, *, also: Mapping[str, bytes] | None = None, work: Work = WORK, follow: bool = False
) -> Callable[[bytes], Seen]:
    others = {key: message_of(packed(body)) for key, body in (also or {}).items()}

    def read(raw: bytes) -> Seen:
        message = message_of(raw)
        lookup = asked(_meant(message.body, work)) if follow else asked(work)
        return answered(name, lookup, {**others, part: message})

    return read


def _json(*values: Any) -> list[bytes]:
    return [packed(json.dumps(value).encode()) for value in values]


_WRONG = [packed(b""), packed(b"<!DOCTYPE html><title>Down</title>"), packed(b"{"), packed(b"[1]"),
          packed(b"{}", status=503), packed(b"{}", status=403)]  # fmt: skip
_WRONG_REASONS = frozenset(
    {"empty_answer", "html_answer", "malformed_answer", "other_shape", "http_503", "http_403"}
)


def _unpaywall() -> list[bytes]:
    location = {
        "url_for_pdf": "https://repo.example/x.pdf", "url_for_landing_page": "https://repo.example/x",
        "url": "https://repo.example/x.pdf", "host_type": "repository", "version": "acceptedVersion",
        "pmh_id": "oai:pubmedcentral.nih.gov:1234567", "evidence": "oa repository (via OAI-PMH doi match)",
    }  # fmt: skip
    arxiv = {**location, "pmh_id": "oai:arXiv.org:2101.00001", "host_type": "publisher", "url_for_pdf": None}
    record = {
        "doi": "10.1000/x", "title": "On the finding of papers", "oa_status": "green", "is_oa": True,
        "best_oa_location": location, "oa_locations": [location, arxiv],
    }  # fmt: skip
    empty = {**record, "best_oa_location": None, "oa_locations": []}
    page = {**arxiv, "url": "https://repo.example/x"}
    pages = {**record, "best_oa_location": page, "oa_locations": [page]}
    unknown = packed(b'{"error": true}', status=404)
    refused = packed(b'{"message": "Please use your own email"}', status=422)
    return [*_json(record, empty, pages, {**record, "doi": "10.1000/y"}), unknown, refused, *_WRONG]


def _europe_pmc() -> list[bytes]:
    urls = [
        {"availability": "Open access", "availabilityCode": "OA", "documentStyle": style, "site": site, "url": url}
        for style, site, url in (("pdf", "Europe_PMC", "https://europepmc.org/x?pdf=render"),
                                 ("html", "PubMedCentral", "https://pmc.example/x"))
    ]  # fmt: skip
    result = {"id": "12", "source": "MED", "pmid": "12", "pmcid": "PMC77", "doi": "10.1000/x", "title": "On finding",
              "fullTextUrlList": {"fullTextUrl": urls}}  # fmt: skip

    def answer(*results: Any) -> dict[str, Any]:
        return {"version": "6.9", "hitCount": len(results), "resultList": {"result": list(results)}}

    pages = {**result, "fullTextUrlList": {"fullTextUrl": urls[1:]}}
    closed = {**result, "fullTextUrlList": None}
    other = {**result, "doi": "10.1000/y"}
    return [*_json(answer(result), answer(pages), answer(closed), answer(other), answer()), *_WRONG]


def _crossref() -> list[bytes]:
    def answer(*titles: str) -> dict[str, Any]:
        items = [{"DOI": f"10.1000/{at}", "title": [title], "score": 9.5} for at, title in enumerate(titles)]
        return {"status": "ok", "message-type": "work-list", "message": {"items": items}}

    return [*_json(answer("On the finding of papers", "Other"), answer("Other"), answer()), *_WRONG]


def _converter() -> list[bytes]:
    def answer(**record: Any) -> dict[str, Any]:
        return {"status": "ok", "records": [{"requested-id": "10.1000/x", "doi": "10.1000/x", **record}]}

    return [
        *_json(answer(pmcid="PMC77", pmid=12), answer(), answer(doi="10.1000/y"), answer(pmcid="PMC77", live="false")),
        packed(b'{"status": "error", "message": "none"}', status=400), *_WRONG,
    ]  # fmt: skip


_LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>bucket</Name><Prefix>PMC77.</Prefix><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated>"
    b"<Contents><Key>PMC77.1/PMC77.1.pdf</Key><Size>9</Size></Contents>"
    b"<Contents><Key>PMC77.2/PMC77.2.xml</Key><Size>9</Size></Contents></ListBucketResult>"
)
_RECORD = {
    "pmcid": "PMC77.2", "version": 2, "is_manuscript": False, "xml_url": "s3://bucket/PMC77.2/PMC77.2.xml",
    "pdf_url": "s3://bucket/PMC77.2/PMC77.2.pdf?md5=0123456789abcdef0123456789abcdef",
}  # fmt: skip


def _cdx_row(at: str, *, mime: str = "application/pdf", status: str = "200", digest: str = "A" * 32) -> str:
    return f"org,example)/x.pdf {at} https://journal.example/x.pdf {mime} {status} {digest} 1234"


def _cdx() -> list[bytes]:
    rows = [_cdx_row("20190101000000"), _cdx_row("20200101000000", digest="B" * 32), _cdx_row("20200001000000"),
            _cdx_row("20210101000000", mime="warc/revisit", status="-"), "too short"]  # fmt: skip
    wide = _cdx_row("20180101000000") + " - - - -"
    excluded = b"org.archive.util.io.RuntimeIOException: org.archive.wayback.exception.AdministrativeAccessControlException: Blocked Site Error"
    return [packed("\n".join([*rows, wide]).encode()), packed(b""), packed(excluded, status=403),
            packed(b"<html>Down", status=200), packed(b"", status=429), packed(rows[1].encode() * 50)]  # fmt: skip


def _available() -> list[bytes]:
    closest = {"status": "200", "available": True, "timestamp": "20130919044612",
               "url": "http://web.archive.org/web/20130919044612/http://journal.example/x.pdf"}  # fmt: skip

    def answer(closest: Any) -> dict[str, Any]:
        return {"url": "journal.example/x.pdf", "archived_snapshots": {"closest": closest} if closest else {}}

    return [*_json(answer(closest), answer(None), answer({**closest, "url": "http://h.example/"})), *_WRONG]


_IN_PMC = Work(doi="10.1000/x", pmcid="PMC77")
_PAGE = Work(url="https://journal.example/10.1000/x")
_BY_DOI = Work(doi="10.1000/x")


_ASK_FOREIGN = ("landing_scrape_pdf", "wayback_pdf")
"""Sources whose first request holds a URL that others wrote, at any length."""


def check_asked(url: str, *, own: bool) -> None:
    """A request can be sent as it stands; one that is not of an endpoint of our own may be refused instead."""
    try:
        check(place(url).url == url or not own, f"a request travels as it was meant: {url[:120]!r}")
    except BadUrl as refused:
        check(not own and explained(refused.reason), f"a request can be sent: {url[:120]!r}")


def _names(raw: bytes) -> Seen:
    """What a line of a list is taken for, and what every source would ask for it first."""
    text = raw.decode("utf-8", "replace")[:4096]
    work = parse_work(text) or Work(title=" ".join(text.split())[:300])
    check_work(work)
    check(not work.url or normal_url(work.url) == work.url, f"a URL is in its normal form: {work.url[:80]!r}")
    lookup, asked_for = asked(work, seen=(text,)), []
    for name, finder in _finders().items():
        if not finder.lacks(lookup):
            url, _ = finder.first_request(lookup)
            check_asked(url, own=name not in _ASK_FOREIGN)
            asked_for.append(url)
    return Seen(work.work_id.partition(":")[0] or "nothing", asked_for)


def _identifiers() -> list[bytes]:
    return [b"arXiv:2101.00001v2", b"https://arxiv.org/abs/math.GT/0309136v1", b"10.48550/arXiv.2101.00001", b"10.1000/x",
            b"https://doi.org/10.1000%2Fx", b"PMC123", b"pmid:12", b"https://journal.example/x.pdf", b"hep-th/9901001",
            b"A title", b""]  # fmt: skip


_API = "api"
TARGETS: tuple[Target, ...] = (
    Target("unpaywall", _reader("unpaywall_pdf", "unpaywall", follow=True), _unpaywall,
           _WRONG_REASONS | {"found", "no_oa_location", "no_pdf_location", "other_work", "not_known", "email_refused"},
           kind="json", framed=True,
           recorded=(f"{_API}/unpaywall/*.json", f"{_API}/unpaywall_records.jsonl.gz")),
    Target("europe_pmc", _reader("europe_pmc_pdf", "europepmc", follow=True), _europe_pmc,
           _WRONG_REASONS | {"found", "no_pdf_location", "no_oa_location", "other_work", "not_known"},
           kind="json", framed=True, recorded=(f"{_API}/europepmc/*",)),
    Target("crossref", _reader("crossref", "crossref", follow=True), _crossref,
           _WRONG_REASONS | {"identified", "title_unlike", "not_known"},
           kind="json", framed=True, recorded=(f"{_API}/crossref/*.json",)),
    Target("pmc_converter", _reader("pmc_pdf", "idconv", also={"list-type": _LISTING,
                                    "/metadata/": json.dumps(_RECORD).encode()}, work=_BY_DOI), _converter,
           _WRONG_REASONS | {"found", "not_in_pmc", "other_work", "embargoed", "not_known"},
           kind="json", framed=True, recorded=(f"{_API}/ncbi/*.json",)),
    Target("pmc_listing", _reader("pmc_pdf", "list-type", also={"/metadata/": json.dumps(_RECORD).encode()},
                                  work=_IN_PMC),
           lambda: [packed(_LISTING), packed(b"<ListBucketResult></ListBucketResult>"), *_WRONG],
           frozenset({"found", "not_in_pmc", "other_shape", "http_503"}),
           kind="markup", framed=True, recorded=(f"{_API}/ncbi_oa/*",)),
    Target("pmc_record", _reader("pmc_pdf", "/metadata/", also={"list-type": _LISTING}, work=_IN_PMC),
           lambda: [*_json(_RECORD, {**_RECORD, "pdf_url": None}, {**_RECORD, "pdf_url": "s3://b/../x"},
                           {**_RECORD, "pdf_url": "https://h.example/x.pdf"}), *_WRONG],
           _WRONG_REASONS | {"found", "no_pdf_in_pmc"}, kind="json", framed=True),
    Target("wayback_cdx", _reader("wayback_pdf", "/cdx/", work=_PAGE), _cdx,
           frozenset({"found", "no_capture", "capture_excluded", "html_answer", "http_429"}),
           kind="lines", framed=True, recorded=(f"{_API}/wayback/*.txt",)),
    Target("wayback_available", _reader("wayback_pdf", "/available", also={"/cdx/": b""}), _available,
           _WRONG_REASONS | {"found", "no_capture"},
           kind="json", framed=True, recorded=(f"{_API}/wayback/*.json",)),
    Target("custom_json", _reader("custom:json", "resolver.example"), _unpaywall,
           frozenset({"found", "no_oa_location", "empty_answer", "html_answer", "malformed_answer", "http_503"}),
           kind="json", framed=True,
           recorded=(f"{_API}/unpaywall/*.json", f"{_API}/unpaywall_records.jsonl.gz")),
    Target("names", _names, _identifiers, frozenset({"doi", "arxiv", "pmcid", "pmid", "url", "title", "nothing"}),
           kind="lines"),
)  # fmt: skip
