"""``quire export``: every job in every format, the same fields, whole files or none."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.outcome import Wanted
from quire.cli import export as module
from quire.cli.bibliography import read_bibtex
from quire.cli.export import FIELDS, _bibtex_entry, _Keys
from quire.cli.library import as_line
from quire.cli.lines import numbered
from quire.events.job import JobRow
from quire.events.keys import job_key
from quire.events.work import Work, parse_work

sys.path.insert(0, str(Path(__file__).parent))
from command import HOME, LIST, LOST, SHA, clean, fill, quire

FORMATS = ("csv", "jsonl", "bibtex")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A library with one job of each kind: home, failed, waiting, never taken up."""
    path = tmp_path_factory.mktemp("export") / "lib"
    fill(path)
    return path


def listed(library: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in quire("list", "--json", "--library", library).stdout.splitlines()]


def exported(library: Path, *words: object) -> str:
    done = quire("export", "--library", library, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_back(text: str) -> dict[str, Wanted]:
    lines = numbered(io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline=None))
    return {entry.item.label: entry.item for entry in read_bibtex("x.bib", lines)}


def test_the_fields_are_those_of_list():
    """The declared fields, in their order and types, are those of a line of ``list --json``."""
    line = as_line("ab" * 32, JobRow(HOME, 1, (LIST,)))
    assert list(line) == list(FIELDS)
    assert {name: type(value) for name, value in line.items()} == FIELDS


def test_jsonl_and_csv_say_what_list_says(library):
    """All jobs with all fields, the same values, numbers as numbers."""
    expected = listed(library)
    assert [json.loads(line) for line in exported(library, "--format", "jsonl").splitlines()] == expected
    rows = list(csv.DictReader(io.StringIO(exported(library, "--format", "csv"))))
    assert rows == [{name: str(value) for name, value in line.items()} for line in expected]
    assert len(expected) == 4


def test_bibtex_reads_back_as_the_same_works_and_names_the_file(library, tmp_path):
    """Each job is an entry under its label; a paper at home has a file field as JabRef writes it."""
    text = exported(library, "--format", "bibtex")
    found = read_back(text)
    assert {item.work.work_id for item in found.values()} == {line_id(line) for line in listed(library)}
    assert found["l-home"].work == HOME
    assert text.count("file = {") == 1
    file = tmp_path / "x.bib"
    exported(library, "--format", "bibtex", "--output", file)
    (path,) = [line.split(":")[1] for line in file.read_text().splitlines() if "file = {:" in line]
    assert path == f"objects/{SHA[:2]}/{SHA}.pdf"


def line_id(line: dict[str, object]) -> str:
    return Work(**{n: line[n] for n in ("doi", "arxiv_id", "pmcid", "pmid", "url", "title")}).work_id


def test_state_and_list_choose_the_jobs(library, tmp_path):
    """By state; by the list's id; by the file of the list; an unknown one is told and leaves no file."""
    lost = exported(library, "--format", "jsonl", "--state", "failed")
    assert [json.loads(line)["doi"] for line in lost.splitlines()] == [LOST.doi]
    assert len(exported(library, "--format", "jsonl", "--list", LIST).splitlines()) == 4
    assert not exported(library, "--format", "jsonl", "--list", LIST, "--state", "STREAMING")
    other = tmp_path / "other.txt"
    other.write_text("10.1000/a\n")
    out = tmp_path / "out.csv"
    done = quire("export", "--library", library, "--format", "csv", "--list", other, "--output", out)
    assert done.returncode == 2
    assert "no such list" in done.stderr
    assert list(tmp_path.iterdir()) == [other]
    wrong = quire("export", "--library", library, "--format", "csv", "--state", "nope")
    assert wrong.returncode == 2
    assert "INDEXED" in wrong.stderr


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_replaced_as_a_whole(library, tmp_path, form):
    """The old file stays until the new one is whole; nothing is left beside it; stdout stays empty."""
    out = tmp_path / f"out.{form}"
    out.write_text("old")
    assert exported(library, "--format", form, "--output", out) == ""
    assert out.read_text() == exported(library, "--format", form)
    assert list(tmp_path.iterdir()) == [out]


def test_a_break_in_the_middle_keeps_the_old_file(tmp_path):
    """When writing fails half-way the old file is still there, and no draft."""
    from quire.cli.draft import text_draft_of

    out = tmp_path / "out.csv"
    out.write_text("old")

    def written() -> None:
        with text_draft_of(out) as stream:
            stream.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        written()
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_parquet_holds_the_same_rows(library, tmp_path):
    """Types and values of a Parquet file are those of the list."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    out = tmp_path / "out.parquet"
    exported(library, "--format", "parquet", "--output", out)
    table = parquet.read_table(out)
    assert table.to_pylist() == listed(library)
    assert {field.name: str(field.type) for field in table.schema}["bytes"] == "int64"


def test_parquet_without_its_package_says_what_to_install(library, tmp_path):
    """A missing pyarrow is a usage error with the command; a missing --output as well. No file is left."""
    code = (
        "import sys\nsys.modules['pyarrow'] = None\n"
        "from quire.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    words = [
        "export",
        "--library",
        str(library),
        "--format",
        "parquet",
        "--output",
        str(tmp_path / "o.parquet"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, env=clean()
    )
    assert done.returncode == 2
    assert "pip install 'quire[parquet]'" in done.stderr
    assert not list(tmp_path.iterdir())
    assert "--output" in quire("export", "--library", library, "--format", "parquet").stderr


def entry_of(work: Work, label: str = "k", path: str = "") -> str:
    line = as_line(job_key(work), JobRow(work, 1, (LIST,), label=label))
    return _bibtex_entry(label, {**line, "path": path})


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=60).map(lambda text: " ".join(text.split())),
    st.from_regex(r"10\.1000/[!-~]{1,30}", fullmatch=True),
    st.from_regex(r"https://x\.org/[!-\[\]-z|~]{0,30}", fullmatch=True),
)
def test_any_work_survives_bibtex(title, doi, url):
    """Whatever stands in title, DOI and URL, the entry reads back as the same work."""
    named, linked = parse_work(doi), parse_work(url)
    work = Work(title=title).merged(named or Work(doi="10.1000/x")).merged(linked or Work())
    found = read_back(entry_of(work))
    assert list(found) == ["k"]
    expected = Work(title="" if title.lower() in NOTHING else title).merged(work)
    assert found["k"].work == (expected if title.lower() not in NOTHING else _untitled(work))


NOTHING = {"", "-", "n/a", "na", "none", "null", "nan"}


def _untitled(work: Work) -> Work:
    return Work(work.doi, work.arxiv_id, work.pmcid, work.pmid, work.url, "", work.arxiv_version)


def test_keys_are_those_of_the_user_and_never_given_twice(monkeypatch):
    """A label is the key as it is; a second one gets the job's id; odd characters become underscores."""
    keys = _Keys()
    first, second, third = (
        as_line(f"{n:064x}", JobRow(Work(doi=f"10.1000/{n}"), 1, (LIST,), label="Doe 2020, {a}" if n else ""))
        for n in (1, 2, 0)
    )
    assert keys.key_of(first) == "Doe_2020_a"
    assert keys.key_of(second) == f"Doe_2020_a-{2:016x}"[:10] + f"-{0:016x}"
    assert keys.key_of(third) == "10.1000/0"
    monkeypatch.setattr(module, "KEY_BITS", 8)
    crowded = _Keys()
    lines = [as_line(f"{n:08x}" * 8, JobRow(Work(doi=f"10.1000/{n}"), 1, (LIST,))) for n in range(100)]
    assert len({crowded.key_of(line) for line in lines}) == 100


def test_paths_with_odd_characters_are_escaped_as_jabref_does():
    """Colon, semicolon and backslash of a path are escaped within the file field."""
    assert r"file = {:a\:b\;c\\d.pdf:PDF}" in entry_of(HOME, path=r"a:b;c\d.pdf")


def test_memory_does_not_grow_with_the_library(tmp_path):
    """20,000 lines are written as BibTeX and CSV with little memory beyond the table of keys."""
    row = JobRow(HOME, 1, (LIST,), label="x")

    for form in FORMATS:
        out = (tmp_path / form).open("w")
        tracemalloc.start()
        lines = (as_line(f"{n:064x}", row) for n in range(20_000))
        module._write_text(out, form, lines)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        out.close()
        assert peak < module.KEY_BITS // 8 + 500_000
