"""Identifiers: whatever people write is brought to one normal form, and nothing else is taken for one."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.events.keys import job_key
from quire.events.work import (
    Work,
    normal_arxiv,
    normal_doi,
    normal_pmcid,
    normal_pmid,
    normal_url,
    parse_work,
)

RECORDS = (
    Path(__file__).resolve().parents[1].parent / "shared" / "data" / "api" / "unpaywall_records.jsonl.gz"
)
SICI = "10.1002/(sici)1097-0258(19980815/30)17:15/16<1661::aid-sim968>3.0.co;2-2"


@pytest.mark.skipif(not RECORDS.exists(), reason="../shared/data is absent: no real Unpaywall records")
def test_real_dois_parse_to_themselves():
    """Each DOI of 1,128 real records is itself, bare and behind every resolver prefix."""
    with gzip.open(RECORDS, "rt") as lines:
        records = [json.loads(line) for line in lines]
    assert len(records) > 1_000
    for record in records:
        doi = record["doi"]
        work = parse_work(doi)
        assert work == (Work(doi=doi) if "48550" not in doi else work)
        for form in (record["doi_url"], f"doi:{doi}", f"DOI: {doi.upper()}", f"https://dx.doi.org/{doi}"):
            assert parse_work(form) == work, form


@pytest.mark.parametrize(
    ("text", "doi"),
    [
        ("10.1000/xyz123", "10.1000/xyz123"),
        ("10.1038/NPHYS1170", "10.1038/nphys1170"),
        ("https://doi.org/10.1038/nphys1170", "10.1038/nphys1170"),
        ("http://dx.doi.org/10.1038/nphys1170", "10.1038/nphys1170"),
        ("doi.org/10.1038/nphys1170", "10.1038/nphys1170"),
        ("info:doi/10.1038/nphys1170", "10.1038/nphys1170"),
        ("doi: https://doi.org/10.1038/nphys1170", "10.1038/nphys1170"),
        ("https://doi.org/https://doi.org/10.1038/nphys1170", "10.1038/nphys1170"),
        ("  DOI:10.1038/nphys1170\n", "10.1038/nphys1170"),
        ("\ufeff10.1038/nphys1170\u200b", "10.1038/nphys1170"),
        (SICI.upper(), SICI),
        ("https://doi.org/" + SICI.replace("<", "%3C").replace(">", "%3E"), SICI),
        ("10.1000/a%2Fb", "10.1000/a%2fb"),
        ("https://doi.org/10.1000/a%2Fb", "10.1000/a/b"),
        ("10.1000.10/123456", "10.1000.10/123456"),
        ("10.1000/ends.with.a.dot.", "10.1000/ends.with.a.dot"),
        ("10.1000//two--hyphens", "10.1000//two--hyphens"),
        *(
            (f"10.1000/x{end}", "10.1000/x")
            for end in (".", ",", ";", ":", ")", "].", "}", ">", '"', "\u201d).", " .")
        ),
        ("https://doi.org/10.1000/x.", "10.1000/x"),
        ("https://doi.org/10.1000/x?utm_source=a&utm_medium=b", "10.1000/x"),
        ("https://doi.org/10.1000/x?fbclid=IwAR0_z).", "10.1000/x"),
        ("https://doi.org/10.1000/x?q=1", "10.1000/x?q=1"),
        ("10.1016/S0140-6736(20)30183-5", "10.1016/s0140-6736(20)30183-5"),
        ("10.1016/S0140-6736(20)30183-5).", "10.1016/s0140-6736(20)30183-5"),
        ("10.1000/a(b)", "10.1000/a(b)"),
        ("10.1000/<x>", "10.1000/<x>"),
        ("10.1000/É", "10.1000/É"),
        ("10.1371/journal.pone.0000217.g001", "10.1371/journal.pone.0000217.g001"),
    ],
)
def test_doi(text, doi):
    """A DOI is lowered in ASCII and stripped of resolvers; nothing inside it is altered."""
    assert normal_doi(text) == doi
    assert parse_work(text) == Work(doi=doi)
    assert normal_doi(doi) == doi


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.1000",
        "10.1000/",
        "11.1000/x",
        "10.1/x",
        "10.1000/a b",
        "10.１０００/x",
        "10.1000/a\u200bb",
        "10.1000/\ud800",
        "10.1000/" + "x" * 600,
        "x10.1000/x",
    ],
)
def test_no_doi(text):
    """What is no DOI is not made one."""
    assert normal_doi(text) is None


@pytest.mark.parametrize(
    ("text", "identifier", "version"),
    [
        ("2101.00001", "2101.00001", ""),
        ("0704.0001v3", "0704.0001", "v3"),
        ("arXiv:2101.00001v2", "2101.00001", "v2"),
        ("arXiv:2101.00001v2 [cs.CL]", "2101.00001", "v2"),
        ("ARXIV: 2101.00001", "2101.00001", ""),
        ("https://arxiv.org/abs/2101.00001", "2101.00001", ""),
        ("https://arxiv.org/pdf/2101.00001v1.pdf", "2101.00001", "v1"),
        ("http://export.arxiv.org/abs/2101.00001?context=cs", "2101.00001", ""),
        ("https://www.arxiv.org/pdf/2101.00001#page=3", "2101.00001", ""),
        ("arxiv.org/abs/hep-th/9901001/", "hep-th/9901001", ""),
        ("hep-th/9901001v2", "hep-th/9901001", "v2"),
        ("HEP-TH/9901001", "hep-th/9901001", ""),
        ("math.GT/0309136", "math/0309136", ""),
        ("https://arxiv.org/pdf/cond-mat.mes-hall/0211034", None, None),
        ("10.48550/arXiv.2101.00001", "2101.00001", ""),
        ("https://doi.org/10.48550/arXiv.hep-th/9901001v1", "hep-th/9901001", "v1"),
        ("٢١٠١.٠٠٠٠١", None, None),
        ("2101.001", None, None),
    ],
)
def test_arxiv(text, identifier, version):
    """Old and new arXiv ids, as URL, DOI or citation; the version is kept apart from the identity."""
    work = parse_work(text)
    if identifier is None:
        assert work is None or not work.arxiv_id
        return
    assert work == Work(arxiv_id=identifier, arxiv_version=version)
    assert work.work_id == f"arxiv:{identifier}"
    assert normal_arxiv(identifier) == (identifier, "")


@pytest.mark.parametrize(
    ("text", "work"),
    [
        ("PMC1790863", Work(pmcid="PMC1790863")),
        ("pmc1790863", Work(pmcid="PMC1790863")),
        ("PMC1790863.2", Work(pmcid="PMC1790863")),
        ("PMCID: PMC1790863", Work(pmcid="PMC1790863")),
        ("https://www.ncbi.nlm.nih.gov/pmc/articles/PMC1790863/pdf/main.pdf", Work(pmcid="PMC1790863")),
        ("https://pmc.ncbi.nlm.nih.gov/articles/PMC1790863/", Work(pmcid="PMC1790863")),
        ("https://europepmc.org/article/PMC/PMC1790863", Work(pmcid="PMC1790863")),
        ("https://europepmc.org/articles/PMC1790863?pdf=render", Work(pmcid="PMC1790863")),
        ("pmid:17299597", Work(pmid="17299597")),
        ("PMID 17299597", Work(pmid="17299597")),
        ("https://pubmed.ncbi.nlm.nih.gov/17299597/", Work(pmid="17299597")),
        ("http://www.ncbi.nlm.nih.gov/pubmed/17299597", Work(pmid="17299597")),
        ("https://europepmc.org/article/MED/17299597", Work(pmid="17299597")),
        ("17299597", None),
        ("pmid:0", None),
        ("PMC0", None),
        ("PMCnothing", None),
    ],
)
def test_pubmed_and_pmc(text, work):
    """PMCIDs with and without prefix, PubMed ids only where they are named as such."""
    assert parse_work(text) == work


def test_numbers_in_their_own_column():
    """A column that says what it holds may hold bare numbers."""
    assert normal_pmcid("1790863") == "PMC1790863"
    assert normal_pmcid("001790863") == "PMC1790863"
    assert normal_pmid("17299597") == "17299597"
    assert normal_pmid("１７") is None


@pytest.mark.parametrize(
    "text", ["http://a:99999/", "http://[::1", "http://./", "https:///x", "ftp://a.org/x", "http://a b/", "x"]
)
def test_urls_that_cannot_be_read_name_no_work(text):
    """A URL without a key is refused here, not where the job is planned."""
    assert parse_work(text) is None


def test_a_url_is_one_work_however_it_is_written():
    """Spellings that canonical form makes equal are one job, also where the work was not parsed."""
    spellings = [
        "HTTP://Example.ORG:80/a/./b?x=1&utm_source=y#part",
        "http://example.org/a/b?x=1&utm_source=y",
    ]
    works = [parse_work(text) for text in spellings] + [Work(url=text) for text in spellings]
    assert len({job_key(work) for work in works}) == 1
    assert {work.work_id for work in works} == {"url:http://example.org/a/b?x=1&utm_source=y"}


def test_work_id_is_the_first_identifier():
    """doi, arxiv, pmcid, pmid, url, title: the first that is there; a title is compared without case."""
    fields = {"doi": "10.1/x", "arxiv_id": "2101.00001", "pmcid": "PMC1", "pmid": "1", "url": "http://a.org/"}
    wanted = ["doi:10.1/x", "arxiv:2101.00001", "pmcid:PMC1", "pmid:1", "url:http://a.org/"]
    for name, work_id in zip(list(fields), wanted, strict=True):
        assert Work(**fields, title="T").work_id == work_id
        del fields[name]
    assert Work(title=" A  Title\n").work_id == "title:a title"
    assert Work().work_id == ""


def test_resolver_urls():
    """Each identifier's own resolver; a title has none."""
    assert Work(doi=SICI).resolver_url.startswith("https://doi.org/10.1002/(sici)1097-0258(19980815/30)17:15")
    assert "%3C1661" in Work(doi=SICI).resolver_url
    assert Work(arxiv_id="2101.00001").resolver_url == "https://arxiv.org/abs/2101.00001"
    assert Work(pmcid="PMC1").resolver_url == "https://pmc.ncbi.nlm.nih.gov/articles/PMC1/"
    assert Work(pmid="1").resolver_url == "https://pubmed.ncbi.nlm.nih.gov/1/"
    assert Work(title="t").resolver_url == ""


@given(st.builds(Work, *[st.text(max_size=3)] * 7), st.builds(Work, *[st.text(max_size=3)] * 7))
def test_merging_never_overwrites(one, other):
    """What is known stays, gaps are filled, and merging the same again changes nothing."""
    merged = one.merged(other)
    for name in ("doi", "arxiv_id", "pmcid", "pmid", "url", "title"):
        assert getattr(merged, name) == (getattr(one, name) or getattr(other, name))
    assert merged.merged(other) == merged


@given(st.text() | st.from_regex(r"(https?://)?(doi\.org/|arxiv\.org/abs/|doi:|PMC|pmid:)?[0-9./a-zA-Z%é-]*"))
def test_any_text_gives_a_work_with_a_key_or_none(text):
    """No text breaks the parser; what it takes has a key and names itself."""
    work = parse_work(text)
    if work is not None:
        assert len(job_key(work)) == 64
        scheme, _, value = work.work_id.partition(":")
        again = parse_work(f"pmid:{value}" if scheme == "pmid" else value)
        assert again is not None
        assert again.work_id == work.work_id
        assert not work.url or normal_url(work.url) == work.url
