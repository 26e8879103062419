"""The simulated scholarly web: its answers, its truth, its faults on the wire, and its ledger."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import json
import signal
import socket
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import aiohttp
import httpx
import pikepdf
import pytest

from quire.errors import UsageError
from quire.events.work import parse_work
from quire.testing.web import (
    FATES,
    GOOD_FATES,
    OPEN_PLATFORMS,
    PDF_BYTES_MIN,
    PLATFORMS,
    Call,
    Copy,
    Mix,
    Paper,
    World,
    WorldTransport,
    make_pdf,
    pdf_sha256,
    serve,
)
from quire.testing.web.deeds import HOST_WALLS
from quire.testing.web.fates import answer
from quire.testing.web.wall_shapes import SHAPES, wall

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
AT = "https://repository.example/one.pdf"
SILENT = ("silent", "silent_once")
EMAIL = "email=reader@university.example"


def one(fate: str = "good", **more: object) -> World:
    return World.of(Paper(doi="10.1234/one", at=AT, fate=fate, size=more.pop("size", 50_000), **more))


def ask(url: str, world: World, number: int = 0, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return world.answer(Call(url=url, number=number, headers=named))


def body(url: str, world: World) -> object:
    reply = ask(url, world)
    assert reply.status == 200, (url, reply.status)
    return json.loads(reply.content())


def get(served, url: str, **headers: str) -> httpx.Response:
    with httpx.Client(timeout=1.5, trust_env=False) as client:
        return client.get(served.url + "/", headers={"X-Original-URL": url, **headers})


def raw(served, url: str) -> bytes:
    with httpx.Client(timeout=1.5, trust_env=False) as client:
        with client.stream("GET", served.url + "/", headers={"X-Original-URL": url}) as reply:
            return b"".join(reply.iter_raw())


# --- PDFs


@pytest.mark.parametrize("size", [PDF_BYTES_MIN, 1_500, 4_097, 60_000, 2_500_000])
def test_a_pdf_is_valid_of_the_exact_size_and_shows_its_title(size):
    """A made PDF opens without a complaint, has a page with its title, and exactly the size asked for."""
    data = make_pdf("seed", size=size, title="A (curious) title\\")
    assert len(data) == size
    with pikepdf.open(io.BytesIO(data)) as pdf:
        assert len(pdf.pages) == 1
        assert b"A  curious  title" in pdf.pages[0].Contents.read_bytes()
        check = getattr(pdf, "check_pdf_syntax", None) or pdf.check
        assert check() == []


def test_pdfs_differ_by_seed_and_do_not_compress():
    """Different seeds give different bytes, the same seed the same, and no server could shrink them."""
    assert make_pdf("a", size=5_000) == make_pdf("a", size=5_000) != make_pdf("b", size=5_000)
    assert len(gzip.compress(make_pdf("a", size=200_000))) > 195_000
    assert pdf_sha256("a", size=5_000) == hashlib.sha256(make_pdf("a", size=5_000)).hexdigest()


def test_a_pdf_too_small_to_be_one_is_refused():
    """A size below the least is the caller's mistake, and said so."""
    with pytest.raises(UsageError, match="at least"):
        make_pdf("a", size=PDF_BYTES_MIN - 1)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.6, 0.75])
def test_a_cut_pdf_cannot_be_repaired(share):
    """A truncated PDF leaves nothing that a library could mend into a document."""
    data = make_pdf("seed", size=20_000)
    with pytest.raises(pikepdf.PdfError):
        pikepdf.open(io.BytesIO(data[: int(len(data) * share)]))


def test_pdfs_are_quick_to_make():
    """A PDF of 200 KB takes well under a millisecond, so that a load test measures something else."""
    make_pdf("warm", size=200_000)
    best = min(_timed(lambda: [make_pdf(str(n), size=200_000) for n in range(50)]) for _ in range(3))
    assert best / 50 < 0.001


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# --- the world


def test_same_seed_same_world():
    """Two worlds of one seed give the same works and the same bytes; another seed another order."""
    first, second, other = World.demo(80, seed=3), World.demo(80, seed=3), World.demo(80, seed=4)
    assert first.inputs() == second.inputs() != other.inputs()
    for work_id in first.work_ids():
        assert first.truth(work_id) == second.truth(work_id)
    urls = [url for work_id in first.obtainable() for url in first.truth(work_id).good_urls]
    replies = [(ask(u, first, number=1), ask(u, second, number=1)) for u in urls]
    assert all((a.status, a.headers, a.content()) == (b.status, b.headers, b.content()) for a, b in replies)


def test_a_small_world_in_a_few_lines():
    """The example in the documentation holds: each paper has the truth it was given."""
    world = World.of(
        Paper(doi="10.1234/one", at=AT),
        Paper(doi="10.1234/two", fate="truncated"),
        Paper(arxiv_id="2101.00001"),
        Paper(
            doi="10.1234/three",
            copies=(Copy(fate="missing"), Copy(source="landing_scrape_pdf", platform="ojs")),
        ),
        Paper(doi="10.1234/closed", copies=()),
    )
    assert [world.truth(w).obtainable for w in world.work_ids()] == [True, False, True, True, False]
    assert world.truth("https://doi.org/10.1234/ONE").good_urls == (AT,)
    assert world.fate(AT) == "good"
    assert world.fate("https://nowhere.example/") is None
    assert world.inputs()[:3] == ["10.1234/one", "10.1234/two", "2101.00001"]


@pytest.mark.parametrize(
    "papers",
    [
        (Paper(doi="10.1234/one"), Paper(doi="10.1234/ONE")),
        (Paper(doi="not a doi"),),
        (Paper(),),
        (Paper(doi="10.1234/one", copies=(Copy(source="arxiv_pdf"),)),),
    ],
)
def test_a_world_that_makes_no_sense_is_refused(papers):
    """The same work twice, a wrong or missing identifier, or a source without what it needs: refused."""
    with pytest.raises(UsageError):
        World.of(*papers)


def test_the_truth_of_an_unknown_work_is_an_error():
    """A work that is not there has no truth."""
    with pytest.raises(UsageError, match="no work"):
        one().truth("10.1234/other")


def test_no_question_makes_the_world_raise():
    """Whatever is asked, an answer comes."""
    world = World.demo(40)
    hosts = ["api.unpaywall.org", "doi.org", "arxiv.org", "api.crossref.org", "web.archive.org",
             "archive.org", "www.ebi.ac.uk", "pmc.ncbi.nlm.nih.gov",
             "pubmed.ncbi.nlm.nih.gov", "x.example"]  # fmt: skip
    tails = ["", "/", "/v2/", "/%00%ff", "/works?rows=x&query=", "/web/2019id_/",
             "/cdx/search/cdx?limit=z&url=",
             "/rest/search?query=)", "/tools/idconv/?ids=,,", "/?list-type=2&prefix=PMC",
             "/[", "/?%"]  # fmt: skip
    for url in [f"https://{h}{t}" for h in hosts for t in tails] + ["", "x", "http://[", "http://a:99999/"]:
        assert 200 <= world.answer(Call(url=url)).status < 600


# --- the services


def test_unpaywall_answers_as_recorded():
    """A known DOI gives a v2 record, an unknown one 404, a placeholder e-mail 422."""
    world = one()
    record = body(f"https://api.unpaywall.org/v2/10.1234/one?{EMAIL}", world)
    assert record["best_oa_location"]["url_for_pdf"] == AT == record["oa_locations"][0]["url_for_pdf"]
    assert ask(f"https://api.unpaywall.org/v2/10.1234%2Fone?{EMAIL}", world).status == 200
    assert ask(f"https://api.unpaywall.org/v2/10.1234/other?{EMAIL}", world).status == 404
    for email in ("", "?email=", "?email=test@example.com", "?email=YOUR_EMAIL", "?email=nobody"):
        refused = ask(f"https://api.unpaywall.org/v2/10.1234/one{email}", world)
        assert refused.status == 422
        assert json.loads(refused.content())["HTTP_status_code"] == 422


def test_the_fields_of_a_record_are_those_of_the_recorded_ones():
    """Made records have the fields that Unpaywall's have today."""
    recorded = DATA / "api" / "unpaywall" / "paper-qa_10.1007_s40278-023-41815-2_200_dd2c59.json"
    if not recorded.exists():
        pytest.skip("the recorded answers (../shared/data) are not here")
    made = body(f"https://api.unpaywall.org/v2/10.1234/one?{EMAIL}", one())
    assert set(made) == set(json.loads(recorded.read_text()))


def test_doi_org_redirects_and_knows_what_is_no_doi():
    """302 for a registered DOI, 404 for another, 400 for what is none; the chain ends at a page."""
    world = World.of(*(Paper(doi=f"10.1234/{n}", copies=()) for n in range(8)))
    lengths = {_chain(world, f"https://doi.org/10.1234/{n}") for n in range(8)}
    assert lengths == {1, 2}
    assert ask("https://doi.org/10.1234/none", world).status == 404
    assert ask("https://doi.org/foo", world).status == 400


def _chain(world: World, url: str) -> int:
    for hops in range(9):
        reply = ask(url, world)
        if reply.status == 200:
            return hops
        url = reply.header("Location")
    raise AssertionError("no end")


def test_a_doi_with_odd_characters_resolves_however_it_is_escaped():
    """SICI-like DOIs are found percent-encoded or not."""
    doi = "10.1002/(sici)1097-4636(199823)43:4<338::aid-jbm16>3.0.co;2-b"
    world = World.of(Paper(doi=doi))
    for written in (doi, quote(doi, safe=""), quote(doi, safe="/:;()")):
        assert ask(f"https://doi.org/{written}", world).status == 302
        assert ask(f"https://api.unpaywall.org/v2/{written}?{EMAIL}", world).status == 200


@pytest.mark.parametrize("url", ["https://arxiv.org/pdf/2101.00001", "http://arxiv.org/pdf/2101.00001v3.pdf",
                                 "https://export.arxiv.org/pdf/2101.00001"])  # fmt: skip
def test_arxiv_serves_a_paper_under_all_its_names(url):
    """Version, ending and mirror make no difference; the abstract page names the PDF; others are 404."""
    world = World.of(Paper(arxiv_id="2101.00001"))
    assert ask(url, world).content().startswith(b"%PDF-")
    assert b"citation_pdf_url" in ask("https://arxiv.org/abs/2101.00001v2", world).content()
    assert ask("https://arxiv.org/pdf/2101.99999", world).status == 404


def test_the_pmc_bucket_leads_from_listing_to_metadata_to_the_object():
    """A listing names the versions, their metadata an s3 URL with the md5 of the object."""
    world = World.of(
        Paper(pmcid="PMC123", doi="10.1234/one", asked_by="pmcid", copies=(Copy(source="pmc_pdf"),))
    )
    host = "https://pmc-oa-opendata.s3.amazonaws.com"
    listing = ask(f"{host}/?list-type=2&prefix=PMC123.&delimiter=/", world).content().decode()
    assert "<CommonPrefixes><Prefix>PMC123.2/</Prefix></CommonPrefixes>" in listing
    plain = ask(f"{host}/?list-type=2&prefix=PMC123.", world).content().decode()
    assert "<Key>PMC123.2/PMC123.2.pdf</Key>" in plain
    assert "<KeyCount>5</KeyCount>" in plain
    assert "<KeyCount>0<" in ask(f"{host}/?list-type=2&prefix=PMC12.", world).content().decode()
    assert "pdf_url" not in body(f"{host}/metadata/PMC123.1.json", world)
    name, _, md5 = body(f"{host}/metadata/PMC123.2.json", world)["pdf_url"].partition("?md5=")
    data = ask(name.replace("s3://pmc-oa-opendata", host), world).content()
    assert hashlib.md5(data).hexdigest() == md5
    assert hashlib.sha256(data).hexdigest() in world.truth("PMC123").sha256s
    missing = ask(f"{host}/metadata/PMC9.1.json", world)
    assert missing.status == 404
    assert b"<Code>NoSuchKey</Code>" in missing.content()


def test_the_id_converter_knows_pmc_papers_alone():
    """A DOI or PubMed id of a PMC paper is converted; another is an error inside an answer of 200."""
    world = World.of(
        Paper(pmid="77", pmcid="PMC123", doi="10.1234/one", asked_by="pmid", copies=(Copy(source="pmc_pdf"),))
    )
    base = "https://pmc.ncbi.nlm.nih.gov/tools/idconv/api/v1/articles/?format=json&ids="
    for asked in ("77", "10.1234%2Fone", "PMC123"):
        (record,) = body(base + asked, world)["records"]
        assert (record["pmcid"], record["pmid"], record["doi"]) == ("PMC123", 77, "10.1234/one")
    (unknown,) = body(base + "78", world)["records"]
    assert unknown["status"] == "error"
    assert "pmcid" not in unknown
    assert b"g-recaptcha" in ask("https://pmc.ncbi.nlm.nih.gov/articles/PMC123/", world).content()


@pytest.mark.parametrize(
    "query", ['DOI:"10.1234/one"', "EXT_ID:77 AND SRC:MED", "PMCID:PMC123", "(DOI:10.1234/one)"]
)
def test_europe_pmc_lists_free_pdfs(query):
    """A core search by any identifier gives the full-text URLs; an unknown work gives no hit."""
    world = World.of(
        Paper(doi="10.1234/one", pmid="77", pmcid="PMC123", copies=(Copy(source="europe_pmc_pdf"),))
    )
    base = "https://www.ebi.ac.uk/europepmc/webservices/rest/search?resultType=core&format=json&query="
    (result,) = body(base + quote(query), world)["resultList"]["result"]
    pdfs = [u["url"] for u in result["fullTextUrlList"]["fullTextUrl"] if u["documentStyle"] == "pdf"]
    assert pdfs == ["https://europepmc.org/articles/PMC123?pdf=render"]
    assert ask(pdfs[0], world).content().startswith(b"%PDF-")
    assert body(base + quote('DOI:"10.1234/none"'), world)["hitCount"] == 0


def test_the_archive_leads_from_cdx_to_replay():
    """CDX filters, fields and forms work; replay by id_ gives the bytes, else a page around them."""
    gone = "https://old.example/a b.pdf?x=1"
    world = World.of(Paper(doi="10.1234/one", copies=(Copy(source="wayback_pdf", at=gone),)))
    assert ask(gone, world).status == 404
    base = f"https://web.archive.org/cdx/search/cdx?url={quote(gone, safe='')}"
    lines = ask(base, world).content().decode().splitlines()
    assert len(lines) == 4
    rules = "&filter=statuscode:200&filter=mimetype:application/pdf"
    names, row = body(f"{base}{rules}&output=json&limit=-1&fl=timestamp,original,robotflags", world)
    assert names == ["timestamp", "original", "robotflags"]
    assert row[1:] == [gone, "-"]
    assert len(ask(f"{base}&filter=!mimetype:warc/revisit", world).content().splitlines()) == 3
    replay = f"https://web.archive.org/web/{row[0]}id_/{row[1]}"
    assert hashlib.sha256(ask(replay, world).content()).hexdigest() in world.truth("10.1234/one").sha256s
    assert ask(replay.replace("id_", ""), world).content().startswith(b"<!DOCTYPE")
    assert ask(replay.replace(row[0], "20180101000000"), world).header("Location") == replay
    assert body("https://web.archive.org/cdx/search/cdx?output=json&url=https://x.example/", world) == []


def test_the_availability_service_knows_captures_that_cdx_does_not():
    """A capture outside the index is found by the availability service alone."""
    gone = "https://old.example/a.pdf"
    world = World.of(Paper(doi="10.1234/one", copies=(Copy(source="wayback_pdf", at=gone, indexed=False),)))
    base = f"https://web.archive.org/cdx/search/cdx?filter=mimetype:application/pdf&url={gone}"
    assert ask(base, world).content() == b""
    closest = body(f"https://archive.org/wayback/available?url={gone}", world)["archived_snapshots"][
        "closest"
    ]
    assert closest["available"]
    assert closest["url"].endswith(f"/{gone}")
    assert body("https://archive.org/wayback/available?url=x.example", world)["archived_snapshots"] == {}


def test_crossref_scores_titles():
    """The right title scores far above a near one; a DOI it does not know is 404 in plain text."""
    world = World.of(Paper(doi="10.1234/one", title="On the growth of hazel in wet years", asked_by="title"),
                     Paper(doi="10.1234/two", title="On the growth of alder"))  # fmt: skip
    found = body(
        "https://api.crossref.org/works?query.bibliographic=on+the+growth+of+hazel+in+wet+years&rows=5", world
    )
    first, second = found["message"]["items"]
    assert (first["DOI"], second["DOI"]) == ("10.1234/one", "10.1234/two")
    assert first["score"] > 2 * second["score"]
    assert ask("https://api.crossref.org/works/10.1234/none", world).status == 404
    assert body("https://api.crossref.org/works?query=zzz", world)["message"]["items"] == []


@pytest.mark.parametrize(("kind", "statuses"), [("busy_once", [429, 200]), ("unavailable_once", [503, 200]),
                                                ("malformed", [200, 200]),
                                                ("empty", [200, 200])])  # fmt: skip
def test_a_service_can_fail_for_one_question(kind, statuses):
    """A hiccup hits the one URL it is set for, whatever its query, and passes where it says once."""
    world = World.of(Paper(doi="10.1234/one"), Paper(doi="10.1234/two"))
    world.hiccup("https://api.unpaywall.org/v2/10.1234/one", kind)
    url = f"https://api.unpaywall.org/v2/10.1234/one?{EMAIL}"
    assert [ask(url, world, number=n).status for n in (0, 1)] == statuses
    assert body(url.replace("one", "two"), world)["is_oa"]


def test_robots_are_per_host():
    """A host's rules are served where it has some; other hosts have none; a broken one answers 503."""
    world = World.of(
        Paper(url="https://a.example/article/1", robots="User-agent: *\nDisallow: /article/\n"),
        Paper(url="https://b.example/article/1", robots="error"),
        Paper(url="https://c.example/article/1", robots="User-agent: *\nDisallow: /admin/\n"),
        Paper(url="https://d.example/article/1"),
    )
    statuses = [ask(f"https://{h}.example/robots.txt", world).status for h in "abcd"]
    assert statuses == [200, 503, 200, 404]
    assert [world.truth(w).obtainable for w in world.work_ids()] == [False, False, True, True]


# --- publishers


@pytest.mark.parametrize("platform", OPEN_PLATFORMS)
def test_an_open_landing_page_leads_to_its_pdf(platform):
    """Some page of an open platform names the PDF (whole, by path, or in parts), and the PDF is there."""
    world = World.of(Paper(doi="10.1234/one", copies=(Copy(source="landing_scrape_pdf", platform=platform),)))
    (pdf,) = world.truth("10.1234/one").good_urls
    assert ask(pdf, world).content().startswith(b"%PDF-")
    pages = b"".join(
        p(Call(url="")).content() for k, p in world.catalogue.places.items() if "files/" not in k
    )
    assert pdf.rpartition("/")[2].split("?")[0].encode() in pages or b"1-s2.0-" in pages
    assert len(pages) > 512


@pytest.mark.parametrize("platform", [p for p in PLATFORMS if p not in OPEN_PLATFORMS])
def test_a_wall_leads_nowhere(platform):
    """A closed page or a wall has no PDF of the paper, and its work cannot be had."""
    world = World.of(Paper(doi="10.1234/one", copies=(), landing=platform))
    assert not world.truth("10.1234/one").obtainable
    assert not any(b"%PDF-" in place(Call(url="")).content() for place in world.catalogue.places.values())


def test_cited_papers_are_sound_files_of_another_paper():
    """Who takes a reference's PDF gets a real file that counts for nobody."""
    world = World.of(Paper(doi="10.1234/one", copies=()))
    data = ask("https://elsewhere.example/cited/x.pdf", world).content()
    assert data.startswith(b"%PDF-")
    assert not world.truth("10.1234/one").sha256s


# --- the demo world


def test_the_demo_holds_every_kind():
    """Every source is somewhere the only one; there are twins, walls, titles, and most can be had."""
    world = World.demo(200, seed=1)
    assert len(world.work_ids()) == len(world.rows()) == 200
    whys = [world.truth(w).why for w in world.work_ids()]
    for source in ("unpaywall", "arxiv", "pmc", "doi_redirect", "landing_scrape", "europe_pmc", "wayback"):
        assert f"{source}_pdf: good" in whys, source
    assert 160 < len(world.obtainable()) < 200
    hashes = [world.truth(w).sha256s for w in world.obtainable()]
    assert len(hashes) - len(set(hashes)) >= 1
    assert {c for row in world.rows() for c, v in row.items() if v} >= {
        "doi",
        "arxiv_id",
        "pmcid",
        "pmid",
        "url",
        "title",
    }
    assert all(parse_work(line) for line in world.inputs())
    assert sum("stall" in why for why in whys) <= 2


def test_every_good_url_of_the_demo_serves_its_bytes():
    """The truth is what is served: the hash at each good URL is one of the work's."""
    world = World.demo(200, seed=1)
    for work_id in world.obtainable():
        truth = world.truth(work_id)
        captures = {c.url: c.artifact for cs in world.catalogue.captures.values() for c in cs if c.artifact}
        for url in truth.good_urls:
            data = (
                answer(captures[url], Call(url=url)).content() if url in captures else _followed(world, url)
            )
            assert hashlib.sha256(data).hexdigest() in truth.sha256s, (work_id, url)
            with pikepdf.open(io.BytesIO(data)) as pdf:
                assert len(pdf.pages) == 1


def _followed(world: World, url: str) -> bytes:
    for _ in range(5):
        reply = ask(url, world, number=1, cookie="quire_visit=yes", referer="https://x.example/")
        if reply.status == 200:
            return reply.content()
        url = reply.header("Location")
    raise AssertionError(url)


def test_a_demo_of_any_size_can_be_made():
    """Small and large demos are whole: each size has exactly so many works."""
    assert [len(World.demo(n).work_ids()) for n in (1, 2, 10, 500)] == [1, 2, 10, 500]


# --- real records


def real_records() -> list[dict]:
    path = DATA / "api" / "unpaywall_records.jsonl.gz"
    if not path.exists():
        pytest.skip("the real Unpaywall records (../shared/data) are not here")
    return [json.loads(line) for line in gzip.open(path)]


def test_real_records_are_served_as_they_are_and_the_mix_is_kept():
    """Each record is Unpaywall's answer for its DOI; the shares of fates are those of the mix, by URL."""
    records = real_records()
    world = World.from_unpaywall(records, seed=1)
    assert len(world.work_ids()) == len(records)
    for record in records[::50]:
        assert body(f"https://api.unpaywall.org/v2/{quote(record['doi'])}?{EMAIL}", world) == record
    urls = {loc["url_for_pdf"] for r in records for loc in r["oa_locations"] if loc["url_for_pdf"]}
    fates = [world.fate(url) for url in urls]
    assert None not in fates
    assert 0.66 < sum(f == "good" for f in fates) / len(fates) < 0.74
    assert 0.04 < fates.count("truncated") / len(fates) < 0.08


def test_the_truth_of_real_records_is_exact():
    """A work can be had exactly when one of its PDF URLs, asked as a client would, gives a whole PDF."""
    records = real_records()
    world = World.from_unpaywall(records, seed=7)
    for record in records:
        urls = [loc["url_for_pdf"] for loc in record["oa_locations"] if loc["url_for_pdf"]]
        arxiv = [loc["url"] for loc in record["oa_locations"] if "arxiv.org/abs" in (loc["url"] or "")]
        urls += [url.replace("/abs/", "/pdf/") for url in arxiv]
        hashes = {hashlib.sha256(data).hexdigest() for u in urls if (data := _whole_pdf(world, u))}
        truth = world.truth(record["doi"])
        assert truth.obtainable == bool(hashes), record["doi"]
        assert truth.sha256s == hashes


def _whole_pdf(world: World, url: str) -> bytes:
    for _ in range(4):
        reply = ask(url, world)
        if reply.status != 302:
            data = reply.content()
            return data if data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF") else b""
        url = reply.header("Location")
    return b""


def test_landing_pages_of_real_records_have_no_pdf():
    """What is no PDF URL is a closed page, or one of the services'."""
    records = real_records()[:200]
    world = World.from_unpaywall(records, seed=1)
    for record in records:
        for loc in record["oa_locations"]:
            reply = ask(loc["url_for_landing_page"], world) if loc["url_for_landing_page"] else None
            if reply and not world.fate(loc["url_for_landing_page"]):
                assert not reply.content().startswith(b"%PDF-")
                assert reply.status in (200, 302)


def test_a_mix_says_what_it_is_made_of():
    """A mix can be written in a line, holds any fate, and must add up to one."""
    mix = Mix.parse("good=0.5,reset_once=0.3,missing=0.2")
    assert dict(mix.shares())["reset_once"] == 0.3
    record = {
        "doi": "10.1234/x",
        "title": "T",
        "best_oa_location": None,
        "oa_locations": [{"url_for_pdf": AT}],
    }
    assert World.from_unpaywall([record], mix=Mix.parse("reset_once=1")).fate(AT) == "reset_once"
    for wrong in ("good=0.5", "splendid=1", "good=x"):
        with pytest.raises(UsageError):
            World.from_unpaywall([record], mix=Mix.parse(wrong))


# --- on the wire


@pytest.fixture
def good():
    with serve(one()) as served:
        yield served


def test_the_server_answers_for_the_original_url(good):
    """X-Original-URL decides; without it an absolute target, or Host and path; HEAD has no body."""
    data = get(good, AT).content
    assert hashlib.sha256(data).hexdigest() in good.world.truth("10.1234/one").sha256s
    assert get(good, "https://nowhere.example/").status_code == 404
    with httpx.Client(trust_env=False) as client:
        by_host = client.get(f"{good.url}/one.pdf", headers={"Host": "repository.example"})
        head = client.head(f"{good.url}/", headers={"X-Original-URL": AT})
    assert by_host.content == data
    assert head.headers["content-length"] == str(len(data))
    assert head.content == b""
    with httpx.Client(proxy=good.url, trust_env=False) as proxied:
        assert proxied.get(AT.replace("https", "http")).content == data


def test_a_connection_is_kept_and_requests_may_come_in_pieces_or_heaps(good):
    """Two requests in one packet, and one in single bytes, are answered in order on one connection."""
    question = f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}x\r\n\r\n".encode()
    with _connected(good) as sock:
        sock.sendall(question + question)
        time.sleep(0.05)
        for byte in question:
            sock.sendall(bytes([byte]))
        received = b""
        while received.count(b"HTTP/1.1 404") < 3 or not received.endswith(b"</html>\n"):
            received += sock.recv(65536)
    assert received.count(b"HTTP/1.1 404") == 3
    assert good.ledger.asked(AT + "x") == 3


def _connected(served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_a_range_is_served_under_its_validator(good):
    """A part is given for a range with the right If-Range, the whole for a wrong one, 416 past the end."""
    whole = get(good, AT)
    etag = whole.headers["etag"]
    part = get(good, AT, Range="bytes=1000-", **{"If-Range": etag})
    assert part.status_code == 206
    assert part.content == whole.content[1000:]
    assert part.headers["content-range"] == f"bytes 1000-{len(whole.content) - 1}/{len(whole.content)}"
    assert get(good, AT, Range="bytes=1000-", **{"If-Range": '"other"'}).status_code == 200
    assert get(good, AT, Range="bytes=99999999-").status_code == 416


async def _outcome(url: str, original: str) -> tuple[str, int]:
    """What an independent client makes of it: a word and the bytes it got."""
    got = 0
    try:
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            answer = await session.get(url, headers={"X-Original-URL": original}, allow_redirects=False)
            async for chunk in answer.content.iter_any():
                got += len(chunk)
        return str(answer.status), got
    except TimeoutError:
        return "timeout", got
    except (aiohttp.ClientPayloadError, aiohttp.ClientOSError, ConnectionResetError) as error:
        return ("reset" if "reset" in f"{error!r} {error.__cause__!r}".lower() else "short"), got


WIRE = {"good": "200", "chunked": "200", "no_length": "200", "slow_start": "200", "slow_drip": "200",
        "missing": "404", "gone": "410", "forbidden": "403", "server_error": "500", "busy": "429",
        "redirect_loop": "302", "too_long": "short", "truncated": "200", "reset": "reset",
        "reset_once": "reset", "stall": "timeout", "stall_once": "timeout", "gzip_bomb": "200"}  # fmt: skip


@pytest.mark.parametrize("fate", WIRE)
def test_faults_are_real_on_the_wire(fate):
    """An independent client sees the fault as what it is, after as many bytes as were promised to arrive."""
    size = 50_000
    with serve(one(fate, size=size)) as served:
        word, got = asyncio.run(_outcome(served.url, AT))
        (entry,) = served.ledger
        whole = fate in ("good", "chunked", "no_length", "slow_start", "slow_drip", "too_long")
        assert word == WIRE[fate]
        if whole:
            assert got == size
        elif fate in ("truncated", "reset", "reset_once", "stall", "stall_once"):
            assert got == int(size * 0.6)
        if fate in ("reset", "reset_once"):
            assert not entry.completed
        if fate.startswith("stall"):
            assert _until(lambda: entry.left)
            assert not entry.completed
        if fate == "gzip_bomb":
            assert got < 100_000


def test_a_length_that_is_too_short_is_a_lie():
    """Content-Length names less than what comes, all of which is sent before the connection ends."""
    with serve(one("too_short")) as served, _connected(served) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode())
        received = b""
        while piece := sock.recv(65536):
            received += piece
    head, _, data = received.partition(b"\r\n\r\n")
    assert b"Content-Length: 30000" in head
    assert len(data) == 50_000


def _drain(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def _until(condition, seconds: float = 3.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_reset_is_a_rst_and_not_an_end():
    """After the promised bytes the socket gives ECONNRESET, not a quiet end of file."""
    with serve(one("reset")) as served, _connected(served) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            _drain(sock)


def test_a_stall_ends_by_itself_after_its_time():
    """A stalled answer keeps its socket open and silent for its time, and is reset then."""
    papers = Paper(doi="10.1234/one", copies=(Copy(at=AT, fate="stall", stall_s=0.5),))
    with serve(World.of(papers)) as served, _connected(served) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode())
        start = time.monotonic()
        with pytest.raises(ConnectionResetError):
            _drain(sock)
        assert 0.4 < time.monotonic() - start < 3


@pytest.mark.parametrize("fate", sorted(GOOD_FATES))
def test_good_fates_can_be_had_over_http(fate):
    """Every good fate gives the whole of its PDF to a client that retries, follows, and brings its cookie."""
    world = one(fate)
    with serve(world) as served:
        headers = {"Cookie": "quire_visit=yes", "Referer": "https://x.example/"}
        data = b""
        url = AT
        for _ in range(4):
            if data:
                break
            try:
                reply = get(served, url, **headers)
            except httpx.DecodingError:
                data = raw(served, url)  # the coding is a lie
                continue
            except httpx.HTTPError:
                continue
            url = reply.headers.get("location", url)
            data = reply.content if reply.status_code in (200, 206) else data
        assert hashlib.sha256(data).hexdigest() in world.truth("10.1234/one").sha256s


@pytest.mark.parametrize("fate", [f for f in FATES if f not in GOOD_FATES and f != "refused"])
def test_bad_fates_never_give_the_pdf(fate):
    """No number of tries brings the whole PDF out of a bad fate."""
    world = one(fate)
    digest = next(iter(one("good").truth("10.1234/one").sha256s))
    for number in (0, 1, 2):
        reply = ask(AT, world, number=number, cookie="quire_visit=yes", referer="x")
        honest = reply.fault.kind == "none"
        assert not (honest and hashlib.sha256(reply.content()).hexdigest() == digest)
    assert not world.truth("10.1234/one").obtainable


def test_a_refused_address_serves_a_sound_pdf_so_that_a_breach_shows():
    """The trap is armed: who asks a private address gets a PDF, and the ledger knows."""
    world = World.of(Paper(doi="10.1234/one", copies=(Copy(fate="refused"),)))
    record = body(f"https://api.unpaywall.org/v2/10.1234/one?{EMAIL}", world)
    private = record["best_oa_location"]["url_for_pdf"]
    assert private.startswith("http://169.254.")
    assert ask(private, world).content().startswith(b"%PDF-")
    assert not world.truth("10.1234/one").obtainable


# --- breaks, lies and walls


@pytest.mark.parametrize(
    ("fate", "ends"),
    [("hang_up", b""), ("chunked_cut", b"30000"), ("reset_early", None)],
)
def test_how_a_connection_ends(fate, ends):
    """hang_up closes without a byte, chunked_cut without its last chunk, reset_early with a RST."""
    with serve(one(fate)) as served, _connected(served) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode())
        if ends is None:
            with pytest.raises(ConnectionResetError):
                _drain(sock)
            return
        data = b"".join(iter(lambda: sock.recv(65536), b""))
        assert (not data) if not ends else (b"7530\r\n" in data and not data.endswith(b"0\r\n\r\n"))
        (entry,) = served.ledger
        assert (entry.did, entry.completed, entry.status) == (fate, False, 200 if ends else 0)


def test_retry_after_as_a_date_is_told_when_it_is_sent():
    """The date lies in the future by about what was asked for, and the second request gets the file."""
    with serve(one("busy_dated_once")) as served:
        reply = get(served, AT)
        date = parsedate_to_datetime(reply.headers["retry-after"]).timestamp()
        assert 0 < date - time.time() <= 2.1
        assert get(served, AT).status_code == 200


def test_what_overruns_comes_after_a_whole_file():
    """An overrun sends more than its length says, behind the file and on an open connection."""
    with serve(one("overrun")) as served, _connected(served) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode())
        received = b""
        while not received.endswith(b"\n" * 700):
            received += sock.recv(65536)
        head, _, data = received.partition(b"\r\n\r\n")
        assert b"Content-Length: 50000" in head
        assert len(data) == 50_700


@pytest.mark.parametrize("fate", ["range_elsewhere", "range_other_total", "range_restarts", "edited_joined"])
def test_a_lie_about_a_part_is_one(fate):
    """Joined to what was held, the part that is sent makes another file than the true one, or says so."""
    world = one(fate)
    (truth,) = world.truth("10.1234/one").sha256s
    first = ask(AT, world)
    held = first.content()[: first.fault.bytes]
    rest = ask(AT, world, number=1, range=f"bytes={len(held)}-", if_range=first.header("etag"))
    assert (first.fault.kind, rest.status) == ("reset", 206)
    honest = rest.header("content-range") == f"bytes {len(held)}-49999/50000"
    assert not (honest and hashlib.sha256(held + rest.content()).hexdigest() == truth)
    assert hashlib.sha256(ask(AT, world, number=2).content()).hexdigest() == truth


def test_walls_have_several_shapes():
    """A shape changes status and words; shape 0 is what it always was; the same shape gives the same page."""
    for name, (statuses, pages) in SHAPES.items():
        replies = [wall(name, AT, shape=n) for n in range(len(statuses) * (len(pages) + 1))]
        assert {reply.status for reply in replies} == set(statuses)
        assert len({reply.content() for reply in replies if reply.status != 302}) == len(pages) + 1
        assert wall(name, AT, shape=1) == replies[1]


def test_the_hard_mix_adds_up_and_holds_every_fault():
    """Its shares are 1 in all, and no fate of a server is left out of it or of the walls of whole hosts."""
    named = {fate for fate, share in Mix.hard().shares() if share > 0} | HOST_WALLS | {"html_as_pdf"}
    assert set(FATES) - named == {"refused", "other_article", "needs_cookie", "needs_referer"}


# --- the ledger


def test_the_ledger_says_what_was_done():
    """The name of the fate for a fault, sound for the file, and where a redirect led."""
    with serve(one("busy_once")) as served:
        get(served, AT)
        get(served, AT)
        get(served, "https://doi.org/10.1234/one")
        get(served, "https://sso.repository.example/x")
        assert [entry.did for entry in served.ledger] == ["busy_once", "sound", "redirected", "login"]
        assert list(served.ledger)[2].leads_to.startswith("https://")


def test_the_ledger_counts_per_url_and_knows_who_left(good):
    """Asked, completed, bytes, order and number are those of what happened; escapes make no difference."""
    get(good, AT)
    get(good, AT.replace("one", "%6Fne"))
    get(good, AT.replace("https", "http"))
    assert _until(lambda: not good.ledger.open_now())  # the client has the last bytes before the server knows
    assert (good.ledger.asked(AT), good.ledger.completed(AT)) == (2, 2)
    assert [(e.order, e.number, e.bytes) for e in good.ledger] == [
        (0, 0, 50_000),
        (1, 1, 50_000),
        (2, 0, 50_000),
    ]
    assert good.ledger.hosts() == ["repository.example"]
    assert len(good.ledger) == 3
    assert good.ledger.body_bytes() == 150_000


def test_a_client_that_leaves_is_seen():
    """A big answer that is dropped half-way is asked, not completed, and marked as left."""
    with serve(one(size=40_000_000)) as served:
        with _connected(served) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode())
            sock.recv(1000)
        assert _until(lambda: not served.ledger.open_now())
        (entry,) = served.ledger
        assert entry.left
        assert not entry.completed
        assert entry.bytes < 40_000_000
        assert (served.ledger.asked(AT), served.ledger.completed(AT)) == (1, 0)


def test_the_ledger_knows_how_many_were_open_at_once():
    """Concurrency is counted per host and in all."""
    world = World.of(
        *(
            Paper(doi=f"10.1234/{n}", at=f"https://h{n % 2}.example/{n}.pdf", fate="slow_start")
            for n in range(6)
        )
    )

    async def all_at_once(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            asked = [{"X-Original-URL": f"https://h{n % 2}.example/{n}.pdf"} for n in range(6)]
            await asyncio.gather(*(client.get(url, headers=h) for h in asked))

    with serve(world) as served:
        asyncio.run(all_at_once(served.url))
        assert (served.ledger.concurrency(), served.ledger.concurrency("h0.example")) == (6, 3)
        assert served.ledger.open_now() == 0


# --- the face inside the process


@pytest.mark.parametrize(
    "fate", [f for f in FATES if f not in ("stall", "stall_once", "refused", "gzip_bomb", *SILENT, "crawl")]
)
def test_both_faces_answer_alike(fate):
    """Status, headers, bytes and kind of error are the same with and without a socket."""

    async def inside() -> tuple[object, ...]:
        transport = WorldTransport(one(fate))
        async with httpx.AsyncClient(transport=transport) as client:
            return await _face(client, AT, {})

    async def outside(url: str) -> tuple[object, ...]:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return await _face(client, url, {"X-Original-URL": AT})

    with serve(one(fate)) as served:
        assert asyncio.run(inside()) == asyncio.run(outside(served.url))


async def _face(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> tuple[object, ...]:
    try:
        reply = await client.get(url, headers=headers)
    except httpx.HTTPError as error:
        return (type(error).__name__,)
    reply.headers.pop("retry-after", None)  # may be a date
    return (reply.status_code, sorted(reply.headers.items()), reply.content)


def test_a_stall_inside_the_process_takes_no_time_of_the_machine():
    """The transport waits by the sleep it is given, and ends a stall by the client's read timeout."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> WorldTransport:
        transport = WorldTransport(one("stall"), sleep=sleep)
        async with httpx.AsyncClient(transport=transport, timeout=7) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(AT)
        return transport

    transport = asyncio.run(run())
    assert slept == [7]
    (entry,) = transport.ledger
    assert entry.left
    assert not entry.completed
    assert entry.bytes == 30_000


# --- as a process, and its speed


def test_it_runs_as_a_process_of_its_own(tmp_path):
    """The first line is its address; /_ledger gives the requests as JSON lines; a signal ends it with 0."""
    records = tmp_path / "records.jsonl"
    records.write_text(
        json.dumps({"doi": "10.1234/x", "title": "T", "oa_locations": [{"url_for_pdf": AT}]}) + "\n"
    )
    command = [sys.executable, "-m", "quire.testing.web", "--records", str(records), "--mix", "good=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        reply = httpx.get(url, headers={"X-Original-URL": AT}, trust_env=False)
        assert reply.content.startswith(b"%PDF-")
        (line,) = httpx.get(f"{url}/_ledger", trust_env=False).text.splitlines()
        assert json.loads(line)["url"] == AT
        assert json.loads(line)["completed"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_file_of_records_that_is_none_is_refused(tmp_path, capsys):
    """A missing file or a line that is no JSON ends with 2 and a word on where."""
    from quire.testing.web.__main__ import main

    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\nnot json\n")
    assert main(["--records", str(broken)]) == 2
    assert "line 2" in capsys.readouterr().err
    assert main(["--records", str(tmp_path / "none")]) == 2


def test_a_mix_that_cannot_be_had_is_refused_with_the_fates(capsys):
    """A name that is no fate ends with 2 and all fates, also without records; --help names them too."""
    from quire.testing.web.__main__ import main

    assert main(["--mix", "bad=1"]) == 2
    assert ", ".join(FATES) in capsys.readouterr().err
    assert main(["--mix", "good=1"]) == 2
    assert "--records" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(fate in said for fate in FATES)


def test_it_writes_the_list_of_its_works(tmp_path):
    """With --inputs the list is there before the address is told; a place that is none ends with 2."""
    from quire.testing.web.__main__ import main

    file = tmp_path / "works.txt"
    command = [sys.executable, "-m", "quire.testing.web", "--works", "12", "--inputs", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert file.read_text().splitlines() == World.demo(12).inputs()
    finally:
        process.kill()
        process.communicate()
    assert main(["--inputs", str(tmp_path / "none" / "x")]) == 2


def test_the_rows_make_a_list_that_a_user_could_have(tmp_path):
    """The CSV form holds every work, one identifier each."""
    out = io.StringIO()
    world = World.demo(60)
    writer = csv.DictWriter(out, fieldnames=list(world.rows()[0]))
    writer.writerows(world.rows())
    assert all(sum(map(bool, row.values())) == 1 for row in world.rows())


def test_the_server_is_fast_enough_to_share_a_core():
    """Small answers come at 1,500 a second and bodies at 200 MB/s, with the client on the same machine."""
    small = f"GET / HTTP/1.1\r\nHost: x\r\nX-Original-URL: {AT}\r\n\r\n".encode()
    with serve(one(size=2_000)) as served:
        assert max(_rate(served, small, answers=600) for _ in range(3)) > 1_500
    with serve(one(size=200_000)) as served:
        assert max(_rate(served, small, answers=200) for _ in range(3)) * 0.2 > 200


def _rate(served, question: bytes, *, answers: int) -> float:
    """Answers a second on one connection, each asked for when the one before has come."""
    with _connected(served) as sock:
        start = time.perf_counter()
        view = memoryview(bytearray(1 << 20))
        for _ in range(answers):
            sock.sendall(question)
            got, wanted = 0, -1
            while got != wanted:
                got += sock.recv_into(view[got:])
                if wanted < 0:
                    head, _, _ = bytes(view[:got]).partition(b"\r\n\r\n")
                    length = head.lower().rpartition(b"content-length: ")[2].split(b"\r\n")[0]
                    wanted = len(head) + 4 + int(length)
        return answers / (time.perf_counter() - start)
