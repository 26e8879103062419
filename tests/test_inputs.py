"""Lists of works: every form, every encoding, and lines that cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from quire.actors.outcome import Wanted
from quire.cli import inputs as module
from quire.cli.inputs import BadLine, InputSet
from quire.errors import UsageError
from quire.events.work import Work

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
    for name, said in (
        ("no.txt", "no such file"),
        (".", "is not a file"),
        ("x.json", "jq -c"),
        ("cut.txt.gz", "damaged"),
    ):
        with pytest.raises(UsageError, match=said), InputSet([str(tmp_path / name)]) as inputs:
            list(inputs)


def test_an_overlong_line_is_one_bad_line(tmp_path, monkeypatch):
    """A line beyond the bound is told and read over; the next one counts."""
    monkeypatch.setattr(module, "LINE_CHARS_MAX", 100)
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
