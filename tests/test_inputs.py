"""Lists of works: every form, every encoding, and lines that cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.actors.outcome import Wanted
from quire.actors.runtime.ports import SystemClock
from quire.cli import lines as lines_module
from quire.cli import repeats as repeats_module
from quire.cli.failures import write_failures
from quire.cli.inputs import BadLine, InputSet, form_of
from quire.cli.repeats import Repeats
from quire.errors import UsageError
from quire.events.facts import JobLeased, JobPlanned, JobStateChanged, WorkIdentified
from quire.events.job import JobRow, State
from quire.events.keys import job_key
from quire.events.projections import job_row_key
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.testing.web import Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import append, fill, here, quire, rehearsal, rehearsed

LIST = "ab" * 8
DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def read(tmp_path: Path, name: str, data: bytes | str) -> list[Wanted | BadLine]:
    file = tmp_path / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    with InputSet([str(file)]) as inputs:
        return list(inputs)


def works(items: list[Wanted | BadLine]) -> list[str]:
    return [item.work.work_id if isinstance(item, Wanted) else f"bad:{item.line}" for item in items]


def test_a_text_file_has_one_identifier_per_line_and_comments(tmp_path):
    """Comments go, a bare number is not guessed, the rest is read on."""
    text = "# list\n10.1000/A # good\n\n123\nhttps://x.org/a#f\nnot one\narXiv:2101.00001v2\nPMC12\npmid:7"
    items = read(tmp_path, "a.txt", text)
    assert works(items) == [
        "doi:10.1000/a", "bad:4",
        "url:https://x.org/a", "bad:6", "arxiv:2101.00001", "pmcid:PMC12", "pmid:7",
    ]  # fmt: skip
    assert items[1] == BadLine(
        str(tmp_path / "a.txt"), 4, "the bare number 123 could be several things", "pmid:123 or PMC123"
    )
    assert "'not one' is no identifier" in str(items[3])


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf%s", b"%s"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path, data, end):
    """A list reads the same however its lines end and with or without a mark."""
    lines = data % end.join(["doi,title", "10.1000/a,Über", "10.1000/b,x", ""]).encode()
    items = read(tmp_path, "a.csv", lines)
    assert works(items) == ["doi:10.1000/a", "doi:10.1000/b"]
    assert items[0].work.title == "Über"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets_are_read(tmp_path, encoding):
    """Umlauts of a title survive in every encoding that spreadsheets write."""
    items = read(tmp_path, "a.csv", "doi;title\n10.1000/a;Müller–Lüdenscheidt\n".encode(encoding))
    assert items == [Wanted(Work(doi="10.1000/a", title="Müller–Lüdenscheidt"))]


def test_columns_are_found_in_any_case_and_order(tmp_path):
    """All our columns, label before id before key, empty words as nothing, 1.0 as 1."""
    header = "Key\tID\tTitle\tDOI\tPMID\tarXiv_ID\tPMCID\tURL\tother\n"
    text = header + "k\ti\tT\tn/a\t12.0\t\tPMC3\t-\tz\nk2\t\t\t10.1000/x\n"
    first, second = read(tmp_path, "a.tsv", text)
    assert first == Wanted(Work(pmid="12", pmcid="PMC3", title="T"), label="i")
    assert second == Wanted(Work(doi="10.1000/x"), label="k2")


def test_a_value_in_the_wrong_column_is_taken_for_what_it_is(tmp_path):
    """A DOI written as URL, an arXiv id in the DOI column; but no guess for a bare number there."""
    text = "doi,url\n,https://doi.org/10.1000/Y\narXiv:2101.00001,\n12345,\n,www.x.org\n"
    assert works(read(tmp_path, "a.csv", text)) == ["doi:10.1000/y", "arxiv:2101.00001", "bad:4", "bad:5"]


def test_a_stray_quote_does_not_swallow_the_file(tmp_path):
    """Quoted line breaks hold together; a quote that is never closed costs one line at most."""
    text = (
        'doi,title\n10.1000/a,"two\nlines"\n10.1000/b,5" disc\n10.1000/c,"open\n10.1000/d,"lone\n'
        + "".join(f"10.1000/n{n},t\n" for n in range(200))
    )
    items = read(tmp_path, "a.csv", text)
    assert works(items) == [
        "doi:10.1000/a",
        "doi:10.1000/b",
        "doi:10.1000/c",
        "doi:10.1000/d",
        *(f"doi:10.1000/n{n}" for n in range(200)),
    ]
    assert items[0].work.title == "two lines"


def test_a_table_without_known_columns_is_refused_as_a_whole(tmp_path):
    """Without a column that names works nothing is guessed: the message names the columns."""
    with pytest.raises(
        UsageError, match=r"a\.csv:1: no column is named doi, arxiv_id, pmcid, pmid, url or title"
    ):
        read(tmp_path, "a.csv", "name,year\nx,1\n")


def test_records_of_every_service_are_read(tmp_path):
    """Our own names, Unpaywall, OpenAlex, Crossref alone and in its envelope; wrong lines are told."""
    lines = [
        {"DOI": "10.1000/C", "title": ["Cross"], "URL": "http://dx.doi.org/10.1000/c"},
        {"status": "ok", "message": {"DOI": "10.1000/m", "title": []}},
        {"doi": "10.1000/u", "doi_url": "https://doi.org/10.1000/u", "title": "U", "oa_locations": []},
        {
            "id": "https://openalex.org/W1", "doi": None, "display_name": "O",
            "ids": {"pmid": "https://pubmed.ncbi.nlm.nih.gov/99", "pmcid": "https://www.ncbi.nlm.nih.gov/pmc/articles/5"},
            "primary_location": {"landing_page_url": "https://pub.org/1"},
        },
        {"pmid": 12, "Label": "mine"},
        {"title": "Only a title"},
        {"doi": {"a": 1}},
        [1],
    ]  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines) + "\n{broken\n"
    items = read(tmp_path, "a.jsonl", text)
    assert items[:6] == [
        Wanted(Work(doi="10.1000/c", title="Cross")),
        Wanted(Work(doi="10.1000/m")),
        Wanted(Work(doi="10.1000/u", title="U")),
        Wanted(Work(pmid="99", pmcid="PMC5", url="https://pub.org/1", title="O"), label="W1"),
        Wanted(Work(pmid="12"), label="mine"),
        Wanted(Work(title="Only a title")),
    ]
    assert works(items[6:]) == ["bad:7", "bad:8", "bad:9"]


def test_real_unpaywall_records_are_all_read():
    """1,128 recorded Unpaywall records give 1,128 works with a DOI each, straight from the .gz."""
    file = DATA / "api" / "unpaywall_records.jsonl.gz"
    if not file.exists():
        pytest.skip("the recorded answers in ../shared/data are not here")
    with InputSet([str(file)]) as inputs:
        items = list(inputs)
    assert len(items) == 1128
    assert all(
        isinstance(item, Wanted) and item.work.work_id.startswith(("doi:", "arxiv:")) for item in items
    )


@pytest.mark.parametrize("service", ["crossref", "openalex"])
def test_real_records_of_other_services_are_read(tmp_path, service):
    """Each recorded answer that holds one work with a DOI gives that DOI."""
    files = sorted((DATA / "api" / service).glob("*_10.*.json")) if DATA.exists() else []
    if not files:
        pytest.skip("the recorded answers in ../shared/data are not here")
    lines, expected = [], []
    for file in files:
        try:
            record = json.loads(file.read_text())
        except json.JSONDecodeError:
            continue  # an answer in another format
        inner = record.get("message", record) if isinstance(record, dict) else {}
        doi = inner.get("DOI") or inner.get("doi") if isinstance(inner, dict) else None
        if doi:
            lines.append(json.dumps(record))
            expected.append("doi:" + doi.lower().removeprefix("https://doi.org/"))
    assert len(expected) >= 5
    assert works(read(tmp_path, "a.jsonl", "\n".join(lines))) == expected


def test_the_list_id_is_the_hash_of_the_bytes_of_all_inputs(tmp_path):
    """First 16 hex digits of SHA-256 over the bytes, compressed or not as they are."""
    a, b = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    a.write_bytes(b"10.1000/a\r\n")
    b.write_bytes(gzip.compress(b"10.1000/b\n"))
    with InputSet([str(a), str(b)]) as inputs:
        assert inputs.list_id == hashlib.sha256(a.read_bytes() + b.read_bytes()).hexdigest()[:16]
        assert works(list(inputs)) == ["doi:10.1000/a", "doi:10.1000/b"]


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b'{"doi": "10.1000/a"}\n', "jsonl"),
        (b"# my list\n10.1000/a\n", "txt"),
        (b"title;DOI\nx;10.1000/a\n", "csv"),
        (b"doi\n10.1000/a\n", "csv"),
        (b"doi\ttitle\n10.1000/a\tx\n", "tsv"),
        (gzip.compress(b"10.1000/a\n"), "txt"),
    ],
)
def test_standard_input_is_sniffed_and_can_be_read_twice(monkeypatch, data, form):
    """Standard input is kept, so that it is hashed and read; its form is seen from its first line."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with InputSet(["-"]) as inputs:
        assert inputs.inputs[0].form == form
        assert inputs.list_id == hashlib.sha256(data).hexdigest()[:16]
        assert works(list(inputs)) == works(list(inputs)) == ["doi:10.1000/a"]


def test_files_that_cannot_be_used_are_refused(tmp_path):
    """No such file, a folder, a JSON array, a damaged .gz: a message, no traceback."""
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"10.1000/a\n" * 5000)[:40])
    (tmp_path / "x.json").write_text("[]")
    (tmp_path / "plain.csv.gz").write_text("doi\n10.1000/a\n")
    for name, said in (
        ("no.txt", "no such file"),
        (".", "is not a file"),
        ("x.json", "jq -c"),
        ("cut.txt.gz", "damaged"),
        ("plain.csv.gz", "not gzip"),
    ):
        with pytest.raises(UsageError, match=said), InputSet([str(tmp_path / name)]) as inputs:
            list(inputs)


def test_an_overlong_line_is_one_bad_line(tmp_path, monkeypatch):
    """A line beyond the bound is told and read over; the next one counts."""
    monkeypatch.setattr(lines_module, "LINE_CHARS_MAX", 100)
    assert works(read(tmp_path, "a.txt", "10.1000/" + "a" * 500 + "\n10.1000/b\n")) == [
        "bad:1",
        "doi:10.1000/b",
    ]


def test_memory_does_not_grow_with_the_list(tmp_path):
    """20,000 rows are read with less than 2 MB at any moment."""
    file = tmp_path / "big.csv"
    file.write_text(
        "doi,title\n" + "".join(f"10.1000/n{n},A title of some length {n}\n" for n in range(20_000))
    )
    with InputSet([str(file)]) as inputs:
        tracemalloc.start()
        assert sum(1 for _ in inputs) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000


# -- guessed columns, headings, citations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1000/a,One\n10.1000/b,Two\n", ["doi:10.1000/a", "doi:10.1000/b"]),
        ("Paper;Where\nOne;https://doi.org/10.1000/a\nTwo;\n", ["doi:10.1000/a", "bad:3"]),
        ("Where\n10.1000/a\n10.1000/b\n", ["doi:10.1000/a", "doi:10.1000/b"]),
        ("nr,ref,licence\n1,PMC12,https://cc.org/by\n2,,https://cc.org/by\n3,PMC13,x\n",
         ["pmcid:PMC12", "bad:3", "pmcid:PMC13"]),
        ("a|https://x.org/1\nb|https://x.org/2\n", ["url:https://x.org/1", "url:https://x.org/2"]),
        ("DI\tTI\tPM\n10.1000/a\tT\t5\n", ["doi:10.1000/a"]),
        ("PubMed ID,Title\n7,T\n", ["pmid:7"]),
        ("Title,Identifier\nA title,10.1000/a\n", ["doi:10.1000/a"]),
    ],
)  # fmt: skip
def test_columns_without_known_names_are_found_by_what_they_hold(tmp_path, text, expected):
    """With no header, or one we do not know, columns of identifiers are found; licences are no papers."""
    assert works(read(tmp_path, "a.csv", text)) == expected


def test_a_title_is_kept_beside_a_guessed_column(tmp_path):
    """A column that is named by a known name is used as well, and the guess does not touch it."""
    items = read(tmp_path, "a.csv", "Title,Key,Where\nA title,k,10.1000/a\n")
    assert items == [Wanted(Work(doi="10.1000/a", title="A title"), label="k")]


@pytest.mark.parametrize(
    "text",
    ["amount,when\n1234.56789,2020\n9.5,2021\n", "id,count\n12345678,1\n", "x,y\n1,PMC1\n2,\n3,a\n4,b\n"],
)
def test_numbers_and_rare_values_are_no_columns_of_works(tmp_path, text):
    """Decimal numbers are no arXiv ids, bare numbers no PubMed ids, one hit in four no column."""
    with pytest.raises(UsageError, match="no column is named"):
        read(tmp_path, "a.csv", text)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a"])
def test_numbers_under_the_heading_pmid_are_pubmed_ids(tmp_path, name):
    """A file of numbers only, with ``pmid`` on top, whatever its suffix."""
    assert works(read(tmp_path, name, "pmid\n12345678\n7\nx\n")) == ["pmid:12345678", "pmid:7", "bad:4"]


def test_titles_under_their_heading_may_hold_commas(tmp_path):
    """One column has no delimiter."""
    items = read(tmp_path, "a.csv", 'title\nOne, two and three\n"Quoted, too"\n')
    assert [item.work.title for item in items] == ["One, two and three", "Quoted, too"]


def test_identifiers_within_a_citation_are_found(tmp_path):
    """A line copied from a reference list or from arXiv's listing gives its one work; two works are told."""
    text = (
        "Doe J. (2020). A title. Journal 12(3). https://doi.org/10.1000/a.\n"
        "[1]  arXiv:2411.00001 [pdf, html, other]\n"
        "Title: About something\n"
        "Roe R. Another. 2019; doi: 10.1000/b; PMID: 77; PMCID: PMC88.\n"
        "Both 10.1000/c and 10.1000/d\n"
        "See https://x.org/pdf/10.1000/e.pdf there\n"
    )
    items = read(tmp_path, "a.txt", text)
    assert works(items) == ["doi:10.1000/a", "arxiv:2411.00001", "bad:3", "doi:10.1000/b", "bad:5", "bad:6"]
    assert items[3] == Wanted(Work(doi="10.1000/b", pmid="77", pmcid="PMC88"))
    assert "names several works" in str(items[4])


def test_a_listing_of_many_papers_is_no_work(tmp_path):
    """A listing's URL is told; an abstract's, a PDF's and a bare id are papers."""
    text = (
        "https://arxiv.org/list/cs.CL/recent\nhttps://arxiv.org/abs/2101.00001\nhttps://arxiv.org/pdf/2101.00002v3\n"
        "hep-th/9901001\nhttps://pubmed.ncbi.nlm.nih.gov/?term=x\nhttps://pubmed.ncbi.nlm.nih.gov/77/\n"
    )
    items = read(tmp_path, "a.txt", text)
    expected = ["bad:1", "arxiv:2101.00001", "arxiv:2101.00002", "arxiv:hep-th/9901001", "bad:5", "pmid:77"]
    assert works(items) == expected
    assert "lists many papers" in str(items[0])


def test_a_value_that_cannot_be_read_does_not_hide_one_that_can(tmp_path):
    """A broken URL beside a DOI costs nothing; alone it is told."""
    items = read(tmp_path, "a.csv", "doi,url\n10.1000/a,www.x.org\n,www.x.org\nbroken,https://x.org/1\n")
    assert works(items) == ["doi:10.1000/a", "bad:3", "url:https://x.org/1"]


def test_a_page_of_search_results_is_as_many_records(tmp_path):
    """Results of OpenAlex, Crossref and Unpaywall, a page a line, give their records one by one."""
    pages = [
        {"meta": {}, "results": [{"id": "https://openalex.org/W1", "doi": "https://doi.org/10.1000/a"}, 5]},
        {"message": {"items": [{"DOI": "10.1000/b"}, {"DOI": "10.1000/c"}]}},
        {"results": [{"response": {"doi": "10.1000/d", "doi_url": "x"}, "score": 1}]},
    ]
    items = read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, pages)))
    assert works(items) == ["doi:10.1000/a", "bad:1", "doi:10.1000/b", "doi:10.1000/c", "doi:10.1000/d"]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("10.1000/a;b\n", "txt"),
        ("10.1000/a\tTitle\n10.1000/b\tTitle\n", "tsv"),
        ("10.1000/a,Title one\n10.1000/b,Title two\n", "csv"),
        ("https://x.org/a,b\n", "txt"),
        ("TY  - JOUR\n", "ris"),
        ("", "txt"),
        ("\x00\x01", "txt"),
    ],
)
def test_the_form_is_seen_from_the_first_lines(text, form):
    """Tables with and without header, lists, bibliographies, nothing."""
    assert form_of(text) == form


JUNK = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from([b"doi", b"10.1000/q", b",", b";", b"\t", b'"', b"\n", b"\r", b"{", b"[", b"7"]),
        max_size=60,
    ).map(b"".join),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=JUNK, suffix=st.sampled_from(["", ".txt", ".csv", ".tsv", ".jsonl", ".bib", ".ris"]))
def test_any_bytes_are_read_or_refused_in_words(tmp_path, junk, suffix):
    """No bytes lead to anything but entries and a UsageError, under every form."""
    file = tmp_path / f"any{suffix}"
    file.write_bytes(junk)
    with suppress(UsageError), InputSet([str(file)]) as inputs:  # a broken .gz, a table as a whole
        inputs.inputs[0].frame()
        for entry in inputs.entries():
            assert isinstance(entry.item, Wanted | BadLine)
            assert entry.line >= 1
            assert entry.raw


GOOD = {
    ".txt": (b"10.1000/first\n", b"10.1000/last\n"),
    ".csv": (b"doi,title\n10.1000/first,t\n", b"10.1000/last,t\n"),
    ".jsonl": (b'{"doi":"10.1000/first"}\n', b'{"doi":"10.1000/last"}\n'),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=JUNK, suffix=st.sampled_from(sorted(GOOD)))
def test_good_records_among_any_bytes_are_found(tmp_path, junk, suffix):
    """The record before the junk and the one after it are both read, in every form of lines."""
    first, last = GOOD[suffix]
    file = tmp_path / f"mixed{suffix}"
    file.write_bytes(first + junk + b"\n" + last)
    with InputSet([str(file)]) as inputs:
        found = works(list(inputs))
    assert "doi:10.1000/first" in found[:1]
    assert "doi:10.1000/last" in found[-1:] or (suffix == ".csv" and b'"' in junk)


# -- works named more than once


def test_a_work_named_again_is_told_with_both_places(tmp_path):
    """In another file, another spelling, another form: the line and the one where it was named first."""
    a, b = tmp_path / "a.txt", tmp_path / "b.bib"
    a.write_text("\n10.1000/A\n10.1000/c\nhttps://doi.org/10.1000/a\n")
    b.write_text("@misc{x, doi={10.1000/b}}\n\n@misc{y, doi={10.1000/c}}\n")
    repeats = Repeats()
    with InputSet([str(a), str(b)]) as inputs:
        told = [said for entry in inputs.entries() if (said := repeats.told(entry))]
    assert told == [
        f"{a}:4: doi:10.1000/a is named at {a}:2 already",
        f"{b}:3: doi:10.1000/c is named at {a}:3 already",
    ]


def test_a_work_named_again_under_another_name_is_told(tmp_path):
    """By an identifier that both share; arXiv's own DOI and its id are one name, a stranger is none."""
    file = tmp_path / "a.csv"
    rows = [
        "10.1000/a,2101.00001,7",
        "10.48550/arXiv.2101.00001,,",
        ",,pmid:7",
        ",2101.00001v2,",
        "10.1000/A,,",
        ",,8",
        "10.1000/b,,9",
    ]
    file.write_text("doi,arxiv_id,pmid\n" + "\n".join(rows) + "\n")
    repeats = Repeats()
    with InputSet([str(file)]) as inputs:
        told = [said for entry in inputs.entries() if (said := repeats.told(entry))]
    assert told == [
        f"{file}:3: arxiv:2101.00001 is named at {file}:2 already, under another name",
        f"{file}:4: pmid:7 is named at {file}:2 already, under another name",
        f"{file}:5: arxiv:2101.00001 is named at {file}:3 already",
        f"{file}:6: doi:10.1000/a is named at {file}:2 already",
    ]
    assert (repeats.twice, repeats.renamed) == (2, 2)


def test_what_is_remembered_of_a_list_is_bounded(tmp_path, monkeypatch):
    """Beyond the bound a repeat is not told; those remembered still are."""
    monkeypatch.setattr(repeats_module, "NAMES_MAX", 3)
    file = tmp_path / "a.txt"
    file.write_text("".join(f"10.1000/{n}\n" for n in (1, 2, 3, 4, 4, 3)))
    repeats = Repeats()
    with InputSet([str(file)]) as inputs:
        told = [said for entry in inputs.entries() if (said := repeats.told(entry))]
    assert told == [f"{file}:6: doi:10.1000/3 is named at {file}:3 already"]
    assert "3 names" in repr(repeats)


def test_a_run_and_its_rehearsal_tell_what_is_named_twice(tmp_path):
    """Counts on stderr, in the summary and as JSON; --dry-run names both places, and what is home by now."""
    a, b = tmp_path / "a.txt", tmp_path / "b.jsonl"
    a.write_text("10.5555/one\n10.5555/two\n10.5555/ONE\n")
    b.write_text('{"doi": "10.5555/two"}\n{"doi": "10.5555/three", "arxiv_id": "2101.00001"}\n')
    world = World.of(*(Paper(doi=f"10.5555/{name}") for name in ("one", "two", "three")))
    with serve(world) as served:
        library = tmp_path / "lib"
        rehearsed(served.url, library, a)
        foreseen = rehearsed(served.url, library, a, b, "--dry-run")
        told = json.loads(foreseen.stdout)
        done = quire("run", a, b, *(flag for flag in rehearsal(served.url, library) if flag != "--json"))
        c = tmp_path / "c.txt"
        c.write_text("arXiv:2101.00001\n")
        other = rehearsed(served.url, library, b, c)
        by_name = json.loads(rehearsed(served.url, library, c, "--dry-run").stdout)
    assert f"{a}:3: doi:10.5555/one is named at {a}:1 already" in foreseen.stderr
    assert f"{b}:1: doi:10.5555/two is named at {a}:2 already" in foreseen.stderr
    assert (told["works"], told["doubled"], told["home"], told["new"]) == (5, 2, 2, 1)
    assert "5 works: 1 new, 2 home already, 2 named twice" in done.stderr
    assert "3 jobs of 5 works (2 named twice, 2 already home) in" in done.stdout
    found = json.loads(other.stdout)
    assert (found["named_twice"], found["other_names"], found["home_before"]) == (0, 1, 2)
    assert found["skipped_duplicate"] == 1
    assert (by_name["home"], by_name["home_by_other_name"]) == (1, 0)


def test_a_rehearsal_names_a_bounded_number_of_repeats(tmp_path):
    """The first hundred with their places, then how many more."""
    file = tmp_path / "a.txt"
    file.write_text("10.1000/a\n" * 131)
    done = here("run", file, "--dry-run", "--library", tmp_path / "lib")
    assert done.stderr.count("is named at") == 100
    assert "… and 30 more works that were named before" in done.stderr


def test_a_new_name_of_a_paper_at_home_is_foreseen(tmp_path):
    """The library holds it by an identifier that it learned; the rehearsal says that no network is needed."""
    library, file = tmp_path / "lib", tmp_path / "a.csv"
    fill(library)
    file.write_text("doi,url\n10.1000/unheard,https://x.org/a.pdf\n10.1000/else,\n")
    found = json.loads(here("run", file, "--dry-run", "--json", "--library", library).stdout)
    assert (found["new"], found["home_by_other_name"]) == (2, 1)


@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"https://x.org/a\nhttps://x.org/b?c=1,2\n", ["url:https://x.org/a", "url:https://x.org/b?c=1,2"]),
        (b"pmid\n12\n34\n", ["pmid:12", "pmid:34"]),
        (b"pmid:12\nhttps://pubmed.ncbi.nlm.nih.gov/34/\n", ["pmid:12", "pmid:34"]),
        (b'{"pmid": 12}\n{"url": "https://x.org/a"}\n', ["pmid:12", "url:https://x.org/a"]),
        (b"TY  - JOUR\nUR  - https://x.org/a\nER  - \n", ["url:https://x.org/a"]),
        (b"@misc{a, url={https://x.org/a}}\n", ["url:https://x.org/a"]),
    ],
)
def test_urls_and_pubmed_ids_are_works_in_each_form(tmp_path, monkeypatch, data, expected, stdin):
    """From a file with an unknown suffix and from standard input alike."""
    if not stdin:
        assert works(read(tmp_path, "a.lst", data)) == expected
        return
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with InputSet(["-"]) as inputs:
        assert works(list(inputs)) == expected


# -- the failures, to be fed back in

BOOKS = "@string{p = {10.1000}}\n@misc{a, doi = p # {/a}}\n% note\n@misc{b,\n doi = p # {/b},\n}\n@misc{c\n"
LISTS = {
    "l.bib": (BOOKS, "@string{p = {10.1000}}\n@misc{b,\n doi = p # {/b},\n}\n"),
    "l.ris": (
        "TY  - JOUR\nDO  - 10.1000/a\nER  - \n\nTY  - X\nDO  - 10.1000/b\n",
        "TY  - X\nDO  - 10.1000/b\n",
    ),
    "l.csv": ('DOI,Title\n10.1000/a,x\n10.1000/b,"y\nz"\n', 'DOI,Title\n10.1000/b,"y\nz"\n'),
    "m.csv": ("10.1000/a,x\n10.1000/b,y\n", "10.1000/b,y\n"),
    "l.tsv": ("where\twhat\n10.1000/a\tx\n10.1000/b\ty\n", "where\twhat\n10.1000/b\ty\n"),
    "l.txt": ("doi\n10.1000/a\n10.1000/b # why\n", "doi\n10.1000/b # why\n"),
    "l.jsonl": ('{"results":[{"doi":"10.1000/a"},{"doi":"10.1000/b"}]}\n', '{"doi":"10.1000/b"}\n'),
}


class _Rows:
    """What is asked of a store: the job of one DOI has failed."""

    def rows(self, _table: str, keys: list[bytes]) -> list[JobRow | None]:
        lost = job_row_key(job_key(Work(doi="10.1000/b")))
        row = JobRow(Work(doi="10.1000/b"), 1, (LIST,), state=State.FAILED)
        return [row if key == lost else None for key in keys]


@pytest.mark.parametrize("name", LISTS)
def test_the_failures_have_the_form_of_the_input(tmp_path, name):
    """Of each form: the failed record as it stood, with what it needs around it, and it reads the same."""
    given_text, expected = LISTS[name]
    file = tmp_path / name
    file.write_text(given_text)
    (tmp_path / "lib").mkdir()
    with InputSet([str(file)]) as inputs:
        written = write_failures(_Rows(), tmp_path / "lib", list_id=LIST, inputs=inputs)
    assert written is not None
    assert written.suffix == file.suffix
    assert written.read_text() == expected
    with InputSet([str(written)]) as again:
        assert works(list(again)) == ["doi:10.1000/b"]


def test_a_failure_comes_back_under_the_name_it_was_asked_by(tmp_path):
    """What was learned of it since would make it another job: the record names the same one."""
    library, asked = Library.open(tmp_path / "lib"), Work(pmid="77")
    store = LmdbStore(library.events, QUIRE, run_id="r1", clock=SystemClock(), map_size=1 << 26)
    append(store, asked, JobPlanned(asked, "pdf", asked.resolver_url, LIST, label="mine"))
    append(store, asked, JobLeased("w1", 1, "boot"), epoch=1, opens=True)
    learned = WorkIdentified(Work(doi="10.1000/learned", pmid="77"), "pmc_pdf")
    append(store, asked, learned, JobStateChanged("PLANNED", "FAILED", reason="exhausted"), epoch=1)
    written = write_failures(store, library.path, list_id=LIST, inputs=None, name="openalex")
    store.close()
    assert written is not None
    assert written.name == f"openalex-{LIST[:8]}.jsonl"
    with InputSet([str(written)]) as inputs:
        assert list(inputs) == [Wanted(asked, label="mine")]


def test_mixed_inputs_give_failures_as_records(tmp_path):
    """Two tables with other columns make no one table: the failures come in quire's own names."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("doi\n10.1000/b\n")
    b.write_text("title,doi\nx,10.1000/b\n")
    with InputSet([str(a), str(b)]) as inputs:
        assert len({item.frame() for item in inputs.inputs}) == 2
        same = InputSet([str(a), str(a)])
        assert len({item.frame() for item in same.inputs}) == 1
