"""Each source turns what its service answers into ordered candidates or a reason, never into an exception."""

from __future__ import annotations

import ast
import asyncio
import gzip
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.sources import europe_pmc, finding, pmc, unpaywall, wayback
from quire.actors.sources.catalog import IDENTIFIER, finders
from quire.actors.sources.finding import REASONS, Finder, Found, Lookup, distinct_urls, explained
from quire.actors.web.exchange import Answer, Download, Gate, Request, Role, WebError
from quire.actors.web.page_repairs import web_url
from quire.config.loader import load
from quire.config.settings import SOURCES
from quire.events.keys import canonical_url
from quire.events.work import Work, with_doi

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
API = DATA / "api"
needs_data = pytest.mark.skipif(not API.is_dir(), reason="the recorded answers are not here")
SETTINGS = load().settings
THRESHOLDS = SETTINGS.fallback.thresholds


class RecordedWeb:
    """Serves prepared answers; counts what is asked."""

    def __init__(self, answers: dict[str, Answer | WebError | bytes | int]) -> None:
        self.answers = answers
        self.asked: list[Request] = []

    async def fetch(self, request: Request) -> Answer:
        self.asked.append(request)
        for part, answer in self.answers.items():
            if part in request.url:
                if isinstance(answer, WebError):
                    raise answer
                if isinstance(answer, Answer):
                    return answer
                body, status = (answer, 200) if isinstance(answer, bytes) else (b"", answer)
                return Answer(url=request.url, status=status, headers={}, body=body)
        return Answer(url=request.url, status=404, headers={}, body=b"nothing here")

    async def open(self, request: Request) -> Download:
        raise AssertionError("finders never open PDFs")

    def gate(self, url: str, role: Role) -> Gate | None:
        return None

    async def close(self) -> None:
        pass


def lookup(work: Work, **more: Any) -> Lookup:
    return Lookup(
        **{
            "work": work,
            "email": "me@university.edu",
            "timeout_s": 5.0,
            "retries_max": 1,
            "robots": True,
            **more,
        }
    )


def finder(name: str) -> Finder:
    return finders(SETTINGS.sources, THRESHOLDS)[name]


def find(name: str, asked: Lookup, answers: dict[str, Any] | None = None) -> tuple[Found, RecordedWeb]:
    web = RecordedWeb(answers or {})
    assert finder(name).lacks(asked) is None
    return asyncio.run(finder(name).find(web, asked)), web


def urls(found: Found) -> list[str]:
    return [candidate.url for candidate in found.candidates]


def read(pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(API.glob(pattern))}


# --- all of them ----------------------------------------------------------------------------------


def test_catalog_has_the_seven() -> None:
    """Every configured source has a finder of its name, and each says why it cannot begin."""
    catalog = finders(SETTINGS.sources, THRESHOLDS)
    assert tuple(name for name in catalog if name != IDENTIFIER) == SOURCES
    for name, source in catalog.items():
        assert source.name == name
        assert source.lacks(lookup(Work(title="Only a title" if name in SOURCES else ""))) in REASONS


@pytest.mark.parametrize("name", SOURCES)
def test_first_request_is_the_first_request(name: str) -> None:
    """What the gates are told is what is asked first, or opened first where nothing is asked."""
    asked = lookup(
        Work(doi="10.1000/a(b)<c>", arxiv_id="2101.00001", pmid="12"), seen=("https://repo.example/x/1.pdf",)
    )
    web = RecordedWeb({})
    url, role = finder(name).first_request(asked)
    try:
        found = asyncio.run(finder(name).find(web, asked))
    except WebError:
        found = Found(candidates=())
    first = (
        (web.asked[0].url, web.asked[0].role)
        if web.asked
        else (found.candidates[0].url, found.candidates[0].role)
    )
    assert (url, role) == first


@pytest.mark.parametrize(
    "name", ["unpaywall_pdf", "pmc_pdf", "europe_pmc_pdf", "wayback_pdf", "landing_scrape_pdf"]
)
@pytest.mark.parametrize(
    ("status", "outcome"), [(500, "retryable"), (429, "retryable"), (403, "nonretryable")]
)
def test_statuses_become_outcomes(name: str, status: int, outcome: str) -> None:
    """A status that is no answer is an error with its outcome by the thresholds."""
    asked = lookup(Work(doi="10.1000/x"), seen=("https://repo.example/x/1.pdf",))
    with pytest.raises(WebError) as error:
        find(name, asked, {"": status})
    assert (error.value.outcome, error.value.reason, error.value.status) == (
        outcome,
        f"http_{status}",
        status,
    )


@pytest.mark.parametrize(
    "name", ["unpaywall_pdf", "pmc_pdf", "europe_pmc_pdf", "wayback_pdf", "landing_scrape_pdf"]
)
@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b"null", b"[]", b"7", b'"x"', b"{}", b"{", b"<!DOCTYPE html><html></html>", b"\xff\xfe\x00", b"[" * 200_000,  # noqa: E501
     b'{"doi": 1, "records": {}, "resultList": [], "oa_locations": 7}', b"<ListBucketResult><Key>PMC1</Key>"],
)  # fmt: skip
def test_any_shape_of_answer_is_an_outcome(name: str, body: bytes) -> None:
    """Malformed, empty, HTML and answers of another shape give no candidates and an explained reason."""
    found, _ = find(name, lookup(Work(doi="10.1000/x"), seen=("https://repo.example/x/1.pdf",)), {"": body})
    assert not found.candidates
    assert explained(found.reason)
    assert found.status == 200


# --- unpaywall ------------------------------------------------------------------------------------


def unpaywall_record(**more: Any) -> bytes:
    def location(url: str | None, host: str, landing: str | None = None, **rest: Any) -> dict[str, Any]:
        page = landing or f"https://{host}.example/page"
        return {
            "url": url or page,
            "url_for_pdf": url,
            "url_for_landing_page": page,
            "host_type": host,
            **rest,
        }

    best = location("https://pub.example/best.pdf", "publisher", version="publishedVersion")
    listed = [
        best,
        location("https://pub.example/second.pdf", "publisher"),
        location("https://repo.example/a.pdf", "repository", "https://repo.example/a", pmh_id="oai:arXiv.org:1304.0473v2",  # noqa: E501
                 evidence="oa repository (via OAI-PMH doi match)"),
        location("https://REPO.example:443/a.pdf#top", "repository"),
        location(None, "repository", "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC7151535"),
    ]  # fmt: skip
    return json.dumps({"doi": "10.1000/X", "best_oa_location": best, "oa_locations": listed, **more}).encode()


def test_unpaywall_order_pages_and_identifiers() -> None:
    """Best first, then repositories before publishers, each once; pages are seen; identifiers learned."""
    found, web = find(
        "unpaywall_pdf", lookup(Work(doi="10.1000/x")), {"api.unpaywall.org": unpaywall_record()}
    )
    assert urls(found) == [
        "https://pub.example/best.pdf",
        "https://repo.example/a.pdf",
        "https://pub.example/second.pdf",
    ]
    assert found.candidates[0].version == "publishedVersion"
    assert "https://repo.example/a" in found.seen
    assert found.identified is not None
    assert (found.identified.arxiv_id, found.identified.pmcid) == ("1304.0473", "PMC7151535")
    assert web.asked[0].url == "https://api.unpaywall.org/v2/10.1000/x?email=me@university.edu"


def test_unpaywall_learns_nothing_from_a_title_match() -> None:
    """A copy that was matched by its title is a guess, and teaches no identifier."""
    location = {"url_for_pdf": "https://a.example/x.pdf", "pmh_id": "oai:arXiv.org:1304.0473", "evidence": "via OAI-PMH title and first author match"}  # noqa: E501  # fmt: skip
    body = json.dumps({"doi": "10.1000/x", "oa_locations": [location]}).encode()
    assert unpaywall.copies(body, Work(doi="10.1000/x")).identified is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, b'{"error": true, "message": "not in Unpaywall"}', "not_known"),
        (422, b'{"message": "Please use your own email address in API calls."}', "email_refused"),
        (200, b'{"doi": "10.1000/other", "oa_locations": []}', "other_work"),
        (200, b'{"HTTP_status_code": 404, "error": true, "message": "not in Unpaywall"}', "not_known"),
        (200, b'{"HTTP_status_code": 422, "error": true, "message": "use your own email"}', "email_refused"),
        (200, b'{"HTTP_status_code": "x", "error": true}', "not_known"),
        (200, b'{"doi": "10.1000/x", "best_oa_location": null, "oa_locations": null}', "no_oa_location"),
        (200, b'{"results": [{"response": {}}]}', "other_shape"),
        (200, b'{"doi": "10.1000/x", "best_oa_location": null, "oa_locations": []}', "no_oa_location"),
        (200, b'{"doi": "10.1000/x", "oa_locations": [{"url": "https://a.example/p", "url_for_pdf": null}]}', "no_pdf_location"),  # noqa: E501
        (200, b'{"doi": "10.1000/x", "oa_locations": [{"url_for_pdf": "ftp://a.example/x.pdf"}]}', "no_pdf_location"),  # noqa: E501
    ],
)  # fmt: skip
def test_unpaywall_reasons(status: int, body: bytes, reason: str) -> None:
    """Each way of having no PDF has its own reason."""
    answer = Answer(url="https://api.unpaywall.org/v2/x", status=status, headers={}, body=body)
    found, _ = find("unpaywall_pdf", lookup(Work(doi="10.1000/x")), {"unpaywall": answer})
    assert (found.candidates, found.reason, found.status) == ((), reason, status)


@pytest.mark.parametrize(("email", "reason"), [("", "no_email"), ("nobody", "no_email"), ("a@b", None)])
def test_unpaywall_needs_an_address(email: str, reason: str | None) -> None:
    """Without a contact address the source cannot begin, and says so."""
    assert finder("unpaywall_pdf").lacks(lookup(Work(doi="10.1000/x"), email=email)) == reason


def test_unpaywall_takes_a_page_that_is_a_pdf() -> None:
    """Where no location names a PDF, a plain URL that ends as one is tried; else it is not."""
    plain = {"url": "https://a.example/x.PDF", "url_for_pdf": None, "host_type": "repository"}
    named = {"url": "https://b.example/y", "url_for_pdf": "https://b.example/y.pdf"}
    for locations, expected in (([plain], plain["url"]), ([plain, named], named["url_for_pdf"])):
        body = json.dumps({"doi": "10.1000/x", "oa_locations": locations}).encode()
        assert urls(unpaywall.copies(body, Work(doi="10.1000/x"))) == [expected]


@needs_data
def test_unpaywall_reads_every_recorded_record() -> None:
    """All recorded records give each distinct PDF URL once, the best first, or a reason; nothing is lost."""
    with gzip.open(API / "unpaywall_records.jsonl.gz", "rt") as lines:
        records = [json.loads(line) for line in lines]
    records += [json.loads(body) for body in read("unpaywall/*.json").values()]
    obtainable = 0
    for record in records:
        body = json.dumps(record).encode()
        found = unpaywall.copies(body, with_doi(str(record.get("doi", "")).lower()))
        locations = record.get("oa_locations") or []
        named = {
            canonical_url(web_url(loc["url_for_pdf"]) or "") for loc in locations if loc.get("url_for_pdf")
        }
        obtainable += bool(named)
        assert len(found.candidates) == min(len(named), finding.CANDIDATES_MAX)
        best = (record.get("best_oa_location") or {}).get("url_for_pdf")
        if best:
            assert unquote(canonical_url(urls(found)[0])) == unquote(canonical_url(best))
        assert bool(found.candidates) != bool(found.reason)
    assert obtainable > 700


# --- arXiv, DOI -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (lookup(Work(arxiv_id="2101.00001")), ["https://arxiv.org/pdf/2101.00001"]),
        (lookup(Work(arxiv_id="hep-th/9901001", arxiv_version="v2")),
         ["https://arxiv.org/pdf/hep-th/9901001v2", "https://arxiv.org/pdf/hep-th/9901001"]),
        (lookup(with_doi("10.48550/arxiv.2101.00001")), ["https://arxiv.org/pdf/2101.00001"]),
        (lookup(Work(doi="10.48550/arxiv.2101.00001")), ["https://arxiv.org/pdf/2101.00001"]),
        (lookup(Work(url="https://arxiv.org/abs/2101.00001")), ["https://arxiv.org/pdf/2101.00001"]),
        (lookup(Work(doi="10.1000/x"), seen=("http://arxiv.org/abs/1304.0473",)), ["https://arxiv.org/pdf/1304.0473"]),
    ],
)  # fmt: skip
def test_arxiv_needs_no_request(asked: Lookup, expected: list[str]) -> None:
    """The PDF's URL follows from an id, wherever it stands, without a request."""
    found, web = find("arxiv_pdf", asked)
    assert urls(found) == expected
    assert web.asked == []


def test_doi_redirect_is_one_candidate() -> None:
    """The resolver's URL, percent-encoded, is the only candidate, opened as a landing page."""
    found, web = find("doi_redirect_pdf", lookup(Work(doi="10.1002/(sici)1<1::aid>3.0.co;2-#")))
    assert urls(found) == ["https://doi.org/10.1002/(sici)1%3C1::aid%3E3.0.co;2-%23"]
    assert (found.candidates[0].role, web.asked) == ("landing", [])


# --- PMC ------------------------------------------------------------------------------------------

LISTING = (
    b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Prefix>PMC77.</Prefix>'
    b"<Contents><Key>PMC77.10/PMC77.10.pdf</Key></Contents><Contents><Key>PMC77.2/PMC77.2.xml</Key></Contents>"
    b"<Contents><Key>PMC77.9/x</Key></Contents><Contents><Key>PMC771.30/x</Key></Contents></ListBucketResult>"
)
MD5 = "0123456789abcdef0123456789abcdef"


def pmc_metadata(version: int) -> bytes:
    url = f"s3://pmc-oa-opendata/PMC77.{version}/a b.pdf?md5={MD5}"
    return json.dumps({"pmcid": "PMC77", "version": version, "pdf_url": url}).encode()


def test_pmc_takes_the_newest_version_with_its_md5() -> None:
    """Versions count as numbers, another article's keys do not; the s3 URL becomes https, the md5 is kept."""
    found, web = find(
        "pmc_pdf", lookup(Work(pmcid="PMC77")), {"list-type=2": LISTING, "PMC77.10.json": pmc_metadata(10)}
    )
    assert urls(found) == ["https://pmc-oa-opendata.s3.amazonaws.com/PMC77.10/a%20b.pdf"]
    assert found.candidates[0].md5 == MD5
    assert [request.role for request in web.asked] == ["metadata", "metadata"]
    assert pmc.versions_listed(LISTING, "PMC77") == [10, 9, 2]


def test_pmc_looks_at_an_older_version() -> None:
    """Where the newest version has no PDF, the one before is read."""
    answers = {
        "list-type=2": LISTING,
        "PMC77.10.json": b'{"pmcid": "PMC77", "pdf_url": null}',
        "PMC77.9.json": pmc_metadata(9),
    }
    assert urls(find("pmc_pdf", lookup(Work(pmcid="PMC77")), answers)[0])[0].endswith("/PMC77.9/a%20b.pdf")


@needs_data
def test_pmc_identifies_by_the_recorded_converter() -> None:
    """The recorded answer of the id converter gives the PMCID, which is told on and used."""
    body = (API / "ncbi" / "rcrossref_id_converter_200.json").read_bytes()
    listing = LISTING.replace(b"PMC77.", b"PMC2883744.")
    answers = {"idconv": body, "list-type=2": listing, "PMC2883744.10.json": pmc_metadata(10)}
    found, web = find("pmc_pdf", lookup(Work(doi="10.1038/ng.590")), answers)
    assert found.identified == Work(doi="10.1038/ng.590", pmcid="PMC2883744", pmid="20495566")
    assert found.candidates
    assert "ids=10.1038/ng.590&format=json" in web.asked[0].url


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            b'{"records": [{"doi": "10.1000/x", "status": "error", "errmsg": "not found in PMC"}]}',
            "not_in_pmc",
        ),
        (b'{"records": [{"doi": "10.1000/x", "pmcid": "PMC1", "live": "false"}]}', "embargoed"),
        (b'{"records": [{"doi": "10.1000/other", "pmcid": "PMC1"}]}', "other_work"),
        (b'{"records": []}', "not_in_pmc"),
        (b'{"status": "error", "message": "invalid"}', "not_known"),
    ],
)
def test_pmc_converter_reasons(body: bytes, reason: str) -> None:
    """Not in PMC, embargoed and somebody else's record are told apart."""
    found, web = find("pmc_pdf", lookup(Work(doi="10.1000/x")), {"idconv": body})
    assert (found.reason, len(web.asked)) == (reason, 1)


@pytest.mark.parametrize(
    "url", ["s3://pmc-oa-opendata/../x.pdf", "file:///etc/passwd", "s3://pmc-oa-opendata/", "s3://[", "7"]
)
def test_pmc_refuses_odd_addresses(url: str) -> None:
    """Only keys of the bucket and web addresses become candidates."""
    found = pmc.pdf_of(json.dumps({"pmcid": "PMC1", "pdf_url": url}).encode(), "https://bucket.example")
    assert (found.candidates, found.reason) == ((), "other_shape")


def test_pmc_reads_a_listing_in_parts() -> None:
    """A listing that the bucket cuts is asked on by its token, at most three times, and nothing is lost."""
    cut = LISTING.replace(b"</List", b"<NextContinuationToken>a/b+&amp;=</NextContinuationToken></List")
    answers = {
        "continuation-token=a%2Fb%2B%26%3D": LISTING.replace(b"PMC77.10/", b"PMC77.11/"),
        "list-type=2": cut,
        "PMC77.11.json": pmc_metadata(11),
    }
    found, web = find("pmc_pdf", lookup(Work(pmcid="PMC77")), answers)
    assert urls(found)[0].endswith("/PMC77.11/a%20b.pdf")
    assert len(web.asked) == 3
    endless, web = find("pmc_pdf", lookup(Work(pmcid="PMC99")), {"list-type=2": cut})
    assert (endless.reason, len(web.asked)) == ("not_in_pmc", pmc.LISTINGS_MAX)


def test_pmc_learns_from_the_record() -> None:
    """The record of the article asked for teaches DOI and PMID; one of another article teaches nothing."""
    record = json.loads(pmc_metadata(10)) | {"doi": "10.1000/X", "pmid": 12}
    for pmcid, learned in (("PMC77", Work(doi="10.1000/x", pmcid="PMC77", pmid="12")), ("PMC78", None)):
        body = json.dumps(record | {"pmcid": pmcid}).encode()
        answers = {"list-type=2": LISTING, "PMC77.10.json": body}
        found, _ = find("pmc_pdf", lookup(Work(pmcid="PMC77")), answers)
        assert found.candidates
        assert found.identified == learned


def test_pmc_converter_finds_the_right_record_among_others() -> None:
    """A record of another work before the right one does not hide it."""
    body = b'{"records": [{"doi": "10.1000/other", "pmcid": "PMC1"}, {"doi": "10.1000/x", "pmcid": "PMC2"}]}'
    named = pmc.converted(body, Work(doi="10.1000/x"))
    assert isinstance(named, Work)
    assert named.pmcid == "PMC2"


def test_pmc_tells_the_newest_versions_reason() -> None:
    """Where no version has a PDF, the reason is the newest one's."""
    answers = {"list-type=2": LISTING, "PMC77.10.json": b'{"pmcid": "PMC77", "pdf_url": null}'}
    assert find("pmc_pdf", lookup(Work(pmcid="PMC77")), answers)[0].reason == "no_pdf_in_pmc"


# --- Europe PMC -----------------------------------------------------------------------------------


def epmc(*locations: dict[str, str], **more: Any) -> bytes:
    result = {
        "doi": "10.1000/X",
        "pmid": "12",
        "pmcid": "PMC9",
        "fullTextUrlList": {"fullTextUrl": list(locations)},
        **more,
    }
    return json.dumps({"resultList": {"result": [result]}}).encode()


def place(url: str, style: str = "pdf", code: str = "OA", site: str = "Unpaywall") -> dict[str, str]:
    return {"url": url, "documentStyle": style, "availabilityCode": code, "site": site}


def test_europe_pmc_takes_open_pdfs_alone() -> None:
    """Open PDFs are candidates, its own copies first; open pages are seen; subscriptions are neither."""
    body = epmc(
        place("https://a.example/s.pdf", code="S"),
        place("https://doi.org/10.1000/x", "doi"),
        place("https://a.example/f.pdf", code="F"),
        place("https://a.example/o.pdf"),
        place("https://europepmc.org/articles/PMC9", "html", site="Europe_PMC"),
        place("https://europepmc.org/articles/PMC9?pdf=render", site="Europe_PMC"),
    )
    found, web = find("europe_pmc_pdf", lookup(Work(doi="10.1000/x")), {"europepmc": body})
    assert urls(found) == [
        "https://europepmc.org/articles/PMC9?pdf=render",
        "https://a.example/o.pdf",
        "https://a.example/f.pdf",
    ]
    assert found.seen == ("https://europepmc.org/articles/PMC9",)
    assert found.identified == Work(doi="10.1000/x", pmid="12", pmcid="PMC9")
    assert parse_qs(urlsplit(web.asked[0].url).query)["query"] == ['DOI:"10.1000/x"']


@pytest.mark.parametrize(
    ("work", "query"),
    [
        (Work(doi='10.1000/a"b\\c&d'), 'DOI:"10.1000/a\\"b\\\\c&d"'),
        (Work(pmcid="PMC9"), "PMCID:PMC9"),
        (Work(pmid="12"), "EXT_ID:12 AND SRC:MED"),
    ],
)
def test_europe_pmc_queries_are_quoted(work: Work, query: str) -> None:
    """A query reaches the service as it was meant, whatever stands in the DOI."""
    url, _ = finder("europe_pmc_pdf").first_request(lookup(work))
    assert parse_qs(urlsplit(url).query)["query"] == [query]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"hitCount": 0, "resultList": {"result": []}}', "not_known"),
        (epmc(doi="10.1000/other"), "other_work"),
        (epmc(), "no_oa_location"),
        (epmc(place("https://a.example", "html")), "no_pdf_location"),
        (epmc(fullTextUrlList=7), "no_oa_location"),
    ],
)
def test_europe_pmc_reasons(body: bytes, reason: str) -> None:
    """Each way of having no PDF has its own reason."""
    assert europe_pmc.full_texts(body, Work(doi="10.1000/x")).reason == reason


def test_europe_pmc_renders_what_it_holds() -> None:
    """An article that Europe PMC says to hold with a PDF has one there, also where the list is silent."""
    held = epmc(place("https://a.example/x.pdf"), inEPMC="Y", hasPDF="Y")
    work = Work(doi="10.1000/x")
    assert urls(europe_pmc.full_texts(held, work)) == [
        "https://europepmc.org/articles/PMC9?pdf=render",
        "https://a.example/x.pdf",
    ]
    for lacking in ({"inEPMC": "N", "hasPDF": "Y"}, {"inEPMC": "Y", "hasPDF": "N"}, {"pmcid": ""}):
        assert europe_pmc.full_texts(epmc(**{"inEPMC": "Y", "hasPDF": "Y"} | lacking), work).candidates == ()


def test_europe_pmc_reads_all_results_of_the_work() -> None:
    """Several results of one DOI are read together; a preprint of another DOI among them is not."""
    results = [json.loads(epmc(place(f"https://{n}.example/x.pdf"), doi=doi))["resultList"]["result"][0]
               for n, doi in (("a", "10.1000/x"), ("b", "10.1101/pre"), ("c", "10.1000/X"))]  # fmt: skip
    body = json.dumps({"hitCount": 3, "resultList": {"result": results}}).encode()
    found = europe_pmc.full_texts(body, Work(doi="10.1000/x"))
    assert urls(found) == ["https://a.example/x.pdf", "https://c.example/x.pdf"]


@needs_data
@pytest.mark.parametrize("name", ["PMC8071313", "PMC8118396", "PMC8151036", "PMC8164761", "PMC8270279"])
def test_europe_pmc_recorded(name: str) -> None:
    """Each recorded result gives its rendered PDF first."""
    result = json.loads((API / "europepmc" / f"pygetpapers_{name}.json").read_bytes())
    result = result.get("full", result)
    body = json.dumps({"resultList": {"result": [result]}}).encode()
    assert (
        urls(europe_pmc.full_texts(body, Work(pmcid=name)))[0]
        == f"https://europepmc.org/articles/{name}?pdf=render"
    )


# --- Wayback --------------------------------------------------------------------------------------


def cdx(*rows: tuple[str, ...]) -> bytes:
    return "\n".join(" ".join(row) for row in rows).encode()


def row(
    timestamp: str, mime: str = "application/pdf", status: str = "200", digest: str = "", tail: str = "99"
) -> tuple[str, ...]:
    return (
        "org,repo)/x.pdf",
        timestamp,
        "http://repo.example:80/x y.pdf".replace(" ", "%20"),
        mime,
        status,
        digest or timestamp,
        tail,
    )


def test_wayback_takes_the_newest_pdf_captures() -> None:
    """Status 200, PDF, no revisit, a real date, newest first; 7 and 11 fields; replayed as it was."""
    body = cdx(
        row("20190101000000"),
        row("20230101000000", "text/html"),
        row("20230201000000", "warc/revisit", "-"),
        row("20230301000000", status="404"),
        row("20000012170449"),
        ("gov,epa)/data", "junk"),
        row("20210101000000", tail="- - 99 1234 file.warc.gz"),
        row("20200101000000"),
    )
    found, web = find("wayback_pdf", lookup(Work(), seen=("http://repo.example/x%20y.pdf",)), {"/cdx/": body})
    assert urls(found) == [
        "https://web.archive.org/web/20210101000000id_/http://repo.example/x%20y.pdf",
        "https://web.archive.org/web/20200101000000id_/http://repo.example/x%20y.pdf",
    ]
    asked = parse_qs(urlsplit(web.asked[0].url).query)
    assert asked["url"] == ["http://repo.example/x%20y.pdf"]
    assert asked["filter"] == ["statuscode:200", "mimetype:application/pdf"]
    assert len(web.asked) == 1


def test_wayback_asks_for_three_urls_artifacts_first() -> None:
    """At most three URLs, artifact-like ones first, newest first; no resolver and no archive."""
    seen = ("https://a.example/1", "https://b.example/2.pdf", "https://doi.org/10.1/x", "https://c.example/3",
            "https://d.example/bitstream/4", "https://web.archive.org/web/1id_/http://e.example")  # fmt: skip
    assert wayback.worth_asking(lookup(Work(), seen=seen)) == (
        "https://d.example/bitstream/4",
        "https://b.example/2.pdf",
        "https://c.example/3",
    )
    found, web = find(
        "wayback_pdf", lookup(Work(), seen=seen), {"/cdx/": b"", "available": b'{"archived_snapshots": {}}'}
    )
    assert found.reason == "no_capture"
    assert len(web.asked) == 5


def test_wayback_falls_back_to_the_availability_api() -> None:
    """Where CDX has nothing, the closest capture is taken, replayed as it was."""
    closest = {"available": True, "status": "200", "timestamp": "20130919044612",
               "url": "http://web.archive.org/web/20130919044612/http://repo.example/x.pdf"}  # fmt: skip
    body = json.dumps({"archived_snapshots": {"closest": closest}}).encode()
    found, _ = find(
        "wayback_pdf", lookup(Work(url="http://repo.example/x.pdf")), {"/cdx/": b"", "available": body}
    )
    assert urls(found) == ["https://web.archive.org/web/20130919044612id_/http://repo.example/x.pdf"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no_capture"),
        (cdx(row("20230301000000", status="404")), "no_capture"),
        (b"urlkey timestamp original mimetype statuscode digest length\n", "malformed_answer"),
        (b"org.archive.util.io.RuntimeIOException: java.net.SocketTimeoutException: Read timed out now", "malformed_answer"),  # noqa: E501
        (b"<html><body>503 Service Unavailable</body></html>", "html_answer"),
        (b"org.archive.wayback.exception.RobotAccessControlException: Blocked By Robots", "capture_excluded"),
    ],
)  # fmt: skip
def test_wayback_tells_silence_from_nonsense(body: bytes, reason: str) -> None:
    """A table without a PDF is no capture; an error in words, or a page, could not be read."""
    found, _ = find("wayback_pdf", lookup(Work(url="https://a.example/1")), {"/cdx/": body})
    assert (found.candidates, found.reason) == ((), reason)


def test_wayback_leaves_time_for_its_other_questions() -> None:
    """No question but the last may take more than half of the time."""
    seen = ("https://a.example/1.pdf", "https://b.example/2.pdf")
    _, web = find("wayback_pdf", lookup(Work(), seen=seen), {"/cdx/": b"", "available": b"{}"})
    assert [request.deadline_s for request in web.asked] == [2.5, 2.5, 2.5, 5.0]


@needs_data
def test_wayback_reads_recorded_answers() -> None:
    """Recorded CDX answers are read without an exception; the blocked one is told as excluded."""
    for body in read("wayback/*.txt").values():
        assert wayback.captures(body) == []
        as_pdf = wayback.captures(body.replace(b"text/html", b"application/pdf"))
        assert as_pdf == sorted(as_pdf, reverse=True)
        assert all(wayback.is_timestamp(capture.timestamp) for capture in as_pdf)
    blocked = Answer(
        url="https://web.archive.org/cdx",
        status=403,
        headers={},
        body=read("wayback/*403*")["wayback_cdx_search_cdx_403_9f85ea.txt"],
    )
    found, _ = find("wayback_pdf", lookup(Work(url="https://nationalpost.com/health")), {"/cdx/": blocked})
    assert found.reason == "capture_excluded"


def test_wayback_goes_on_after_a_failed_question() -> None:
    """One failed question does not hide another's capture; when nothing else came, the failure is told."""
    down = WebError("retryable", "http_503", url="https://web.archive.org", status=503)
    seen = ("https://a.example/1.pdf", "https://b.example/2.pdf")
    answers = {quote("https://b.example/2.pdf", safe=""): down, "/cdx/": cdx(row("20190101000000"))}
    assert len(find("wayback_pdf", lookup(Work(), seen=seen), answers)[0].candidates) == 1
    with pytest.raises(WebError, match="http_503"):
        find("wayback_pdf", lookup(Work(), seen=seen), {"": down})


# --- landing --------------------------------------------------------------------------------------


def page(html: str, url: str = "https://journal.example/a", **more: Any) -> Answer:
    return Answer(
        **{"url": url, "status": 200, "headers": {"content-type": "text/html"}, "body": html.encode(), **more}
    )


DECLARES = '<head><meta name=citation_pdf_url content="/x.pdf"></head>'


def test_landing_reads_the_page_at_hand_first() -> None:
    """A page that was fetched already is not fetched again; its cookies and URL go with the candidate."""
    at_hand = page(DECLARES, hops=("https://doi.org/10.1000/x",), cookies=(("journal.example", "s", "1"),))
    found, web = find("landing_scrape_pdf", lookup(Work(doi="10.1000/x"), pages=(at_hand,)))
    assert urls(found) == ["https://journal.example/x.pdf"]
    assert found.candidates[0].referer == "https://journal.example/a"
    assert found.candidates[0].cookies == (("journal.example", "s", "1"),)
    assert web.asked == []


def test_landing_follows_to_the_article() -> None:
    """From the resolver through a refresh to the page, each fetched once, with the manners of the lookup."""
    answers = {
        "doi.org/10.1000/x": page(
            '<meta http-equiv=refresh content="0;url=https://journal.example/a">', "https://hub.example/r"
        ),
        "journal.example/a": page(DECLARES),
    }
    found, web = find("landing_scrape_pdf", lookup(Work(doi="10.1000/x")), answers)
    assert urls(found) == ["https://journal.example/x.pdf"]
    assert [request.url for request in web.asked] == [
        "https://doi.org/10.1000/x",
        "https://journal.example/a",
    ]
    assert all(request.robots and request.role == "landing" for request in web.asked)


def test_landing_fetches_no_page_twice() -> None:
    """The page that a redirect led to is not asked again under its own URL."""
    empty = page("x" * 600, "https://journal.example/a", hops=("https://journal.example/short",))
    asked = lookup(Work(url="https://journal.example/short"), seen=("https://journal.example/a",))
    found, web = find("landing_scrape_pdf", asked, {"": empty})
    assert [request.url for request in web.asked] == ["https://journal.example/short"]
    assert found.reason == "no_pdf_link"


def test_landing_goes_on_behind_a_page_that_sells() -> None:
    """A publisher that sells access does not hide the repository that another source saw."""
    sold = page(DECLARES + "<button>Purchase PDF</button>")
    answers = {"repo.example/1": page(DECLARES, "https://repo.example/1")}
    found, _ = find(
        "landing_scrape_pdf",
        lookup(Work(doi="10.1000/x"), pages=(sold,), seen=("https://repo.example/1",)),
        answers,
    )
    assert urls(found) == ["https://repo.example/x.pdf", "https://journal.example/x.pdf"]


def test_landing_is_bounded() -> None:
    """Endless refreshes end at ``depth_max`` pages, with a reason."""
    web_answers: dict[str, Any] = {"/": 0}

    class Endless(RecordedWeb):
        async def fetch(self, request: Request) -> Answer:
            self.asked.append(request)
            return page(
                f'<meta http-equiv=refresh content="0;url=/{len(self.asked)}">{"x" * 600}', request.url
            )

    web = Endless(web_answers)
    found = asyncio.run(
        finder("landing_scrape_pdf").find(web, lookup(Work(url="https://journal.example/start")))
    )
    assert len(web.asked) == SETTINGS.sources.landing_scrape_pdf.depth_max
    assert found.reason == "too_many_pages"


def test_landing_leaves_a_walled_host() -> None:
    """After a challenge the host's other pages are not asked for; other hosts are."""
    walled = page("<title>Just a moment...</title>", status=403)
    seen = ("https://journal.example/other", "https://repo.example/1")
    answers = {"repo.example/1": page(DECLARES, "https://repo.example/1")}
    asked = lookup(Work(doi="10.1000/x"), pages=(walled,), seen=seen)
    found, web = find("landing_scrape_pdf", asked, answers)
    assert [request.url for request in web.asked] == ["https://repo.example/1"]
    assert urls(found) == ["https://repo.example/x.pdf"]


def test_landing_begins_with_the_best_copys_page() -> None:
    """Pages are read in the order in which they were seen, resolvers last, with time left for the next."""
    seen = ("https://doi.org/10.1000/x", "https://best.example/1", "https://next.example/1")
    blank = page("x" * 600)
    _, web = find("landing_scrape_pdf", lookup(Work(doi="10.1000/x"), seen=seen), {"": blank})
    assert [(request.url, request.deadline_s) for request in web.asked] == [
        ("https://best.example/1", 2.5),
        ("https://next.example/1", 2.5),
        ("https://doi.org/10.1000/x", 5.0),
    ]


def test_landing_goes_on_as_a_reader_of_the_page() -> None:
    """What a page sends its reader to is asked with its address and cookies, as a browser would."""
    shell = page('<script>location.replace("/next")</script>', cookies=(("journal.example", "s", "1"),))
    found, web = find("landing_scrape_pdf", lookup(Work(), pages=(shell,)), {"/next": page(DECLARES)})
    assert (web.asked[0].referer, web.asked[0].cookies) == (shell.url, shell.cookies)
    assert urls(found) == ["https://journal.example/x.pdf"]


def test_landing_takes_a_page_that_is_the_pdf_first() -> None:
    """A page that turns out to be the PDF ends the search, whatever its media type says."""
    body = page("%PDF-1.4", "https://repo.example/1", headers={"content-type": "application/octet-stream"})
    seen = ("https://repo.example/1", "https://other.example/2")
    found, web = find("landing_scrape_pdf", lookup(Work(url=seen[0]), seen=seen), {"repo.example": body})
    assert (urls(found), len(web.asked)) == (["https://repo.example/1"], 1)


def test_landing_says_why_not() -> None:
    """A wall is told by its reason, whatever its status; a missing page by its status; data as no page."""
    walled = page("<title>Just a moment...</title>", status=403)
    found, web = find("landing_scrape_pdf", lookup(Work(url="https://journal.example/a")), {"": walled})
    assert (found.reason, found.status, len(web.asked)) == ("blocked_challenge", 403, 1)
    data = page("{}", headers={"content-type": "application/json"})
    assert (
        find("landing_scrape_pdf", lookup(Work(url="https://journal.example/a")), {"": data})[0].reason
        == "not_html"
    )
    with pytest.raises(WebError, match="http_404"):
        find("landing_scrape_pdf", lookup(Work(url="https://journal.example/a")), {})


def test_landing_tries_what_failed_before_last() -> None:
    """A PDF URL that an earlier source met goes behind the others, and does not end the search."""
    at_hand = page(DECLARES.replace("/x.pdf", "/met.pdf"))
    answers = {"repo.example/1": page(DECLARES, "https://repo.example/1")}
    asked = lookup(
        Work(doi="10.1000/x"),
        pages=(at_hand,),
        seen=("https://repo.example/1", "https://journal.example/met.pdf"),
    )
    assert urls(find("landing_scrape_pdf", asked, answers)[0]) == [
        "https://repo.example/x.pdf",
        "https://journal.example/met.pdf",
    ]


# --- fuzz, and the table --------------------------------------------------------------------------

WORK = Work(doi="10.1000/x", pmid="12")
PARSERS: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
    "unpaywall": (lambda body: unpaywall.copies(body, WORK), [unpaywall_record()]),
    "europe_pmc": (lambda body: europe_pmc.full_texts(body, WORK), [epmc(place("https://a.example/x.pdf"))]),
    "converter": (lambda body: pmc.converted(body, WORK), [b'{"records": [{"doi": "10.1000/x", "pmcid": "PMC1", "pmid": 12}]}']),  # noqa: E501
    "metadata": (lambda body: pmc.pdf_of(body, "https://bucket.example"), [pmc_metadata(1)]),
    "listing": (lambda body: pmc.versions_listed(body, "PMC77"), [LISTING]),
    "cdx": (wayback.captures, [cdx(row("20190101000000"), row("20200101000000"))]),
    "available": (wayback.available, [b'{"archived_snapshots": {"closest": {"available": true, "status": "200", "url":'  # noqa: E501
                                      b'"http://web.archive.org/web/20130919044612/http://a.example/x.pdf"}}}']),
}  # fmt: skip
RECORDED = {
    "unpaywall": "unpaywall/*.json",
    "europe_pmc": "europepmc/*.json",
    "converter": "ncbi/rcross*.json",
    "cdx": "wayback/*.txt",
}
ODD = [
    None,
    True,
    -1,
    10**30,
    1.5,
    "",
    "\x00",
    "http://[",
    "s3://x",
    "https://h:99999/",
    "x" * 9000,
    [],
    {},
    [[]],
    [{"url": 7}],
]


def mutated_json(value: Any, chance: random.Random) -> Any:
    """The value with something odd in one place or another."""
    if chance.random() < 0.06:
        return chance.choice(ODD)
    if isinstance(value, dict):
        return {key: mutated_json(item, chance) for key, item in value.items() if chance.random() > 0.03}
    return [mutated_json(item, chance) for item in value] if isinstance(value, list) else value


def mutated(body: bytes, seed: int) -> bytes:
    """The body cut, stirred or, where it is JSON, changed in its values."""
    chance = random.Random(seed)
    if chance.random() < 0.6 and body[:1] == b"{":
        try:
            return json.dumps(mutated_json(json.loads(body), chance)).encode()
        except ValueError:
            pass  # it was cut; its bytes are stirred instead
    raw = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        at = chance.randint(0, len(raw))
        raw[at : at + chance.randint(0, 30)] = chance.randbytes(chance.randint(0, 10))
    return bytes(raw[: chance.randint(0, len(raw))]) if chance.random() < 0.3 else bytes(raw)


@pytest.mark.parametrize("name", PARSERS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=120, deadline=None)
def test_mutated_answers_never_raise(name: str, seed: int) -> None:
    """Every parser answers for every mutation of real answers: sound candidates, or a reason in the table."""
    parse, made = PARSERS[name]
    bodies = made + [body[:20_000] for body in read(RECORDED.get(name, "nothing/*")).values()]
    found = parse(mutated(bodies[seed % len(bodies)], seed))
    if isinstance(found, str):
        assert found in REASONS
    if isinstance(found, Found):
        assert bool(found.candidates) != bool(explained(found.reason))
        assert len(distinct_urls(urls(found), at_most=99)) == len(found.candidates)
        assert all(url.lower().startswith(("http://", "https://")) for url in urls(found))


def _reason_codes(tree: ast.AST) -> set[str]:
    """String constants that stand where a reason stands."""
    codes: set[str] = set()
    deciding = {"lacks", "refusal", "json_object", "converted", "available", "wall_reason"}

    def constants(node: ast.AST | None) -> None:
        if isinstance(node, ast.IfExp):
            constants(node.body)
            constants(node.orelse)
        elif isinstance(node, ast.BoolOp):
            [constants(value) for value in node.values]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
            codes.add(node.value)

    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("nothing", "_found"):
                constants(node.args[0] if name == "nothing" else node.args[2])
            if name in ("WebError", "Wall") and len(node.args) > 1:
                constants(node.args[1])
            [constants(keyword.value) for keyword in node.keywords if keyword.arg == "reason"]
        if isinstance(node, ast.Assign) and getattr(
            node.targets[0], "id", getattr(node.targets[0], "attr", "")
        ) in ("reason", "spent"):
            constants(node.value)
        if isinstance(node, ast.FunctionDef) and node.name in deciding:
            [constants(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Return)]
    return codes


def test_every_reason_is_explained() -> None:
    """Each reason that the sources, the page reader and the walls can give has words in the table."""
    actors = Path(finding.__file__).parent.parent
    files = [p for p in (actors / "sources").glob("*.py") if p.name != "adapter.py"]
    files += [actors / "web" / "page.py", actors / "web" / "walls.py"]
    codes = set().union(*(_reason_codes(ast.parse(path.read_text())) for path in files))
    assert len(codes) > 25
    assert sorted(code for code in codes if not explained(code)) == []
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*(NNN)?", code) for code in REASONS)
    assert all(reason.means.endswith(".") for reason in REASONS.values())


def test_finding_is_light() -> None:
    """The catalogue and the table of reasons load without lxml and httpx, for a quick start."""
    code = "import sys, quire.actors.sources.catalog; print([m for m in ('lxml', 'httpx', 'pykka') if m in sys.modules])"  # noqa: E501
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
