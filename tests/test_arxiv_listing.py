"""Listings of arXiv as lists of works: its mail, its pages, its Atom and OAI-PMH answers, its snapshot."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.actors.outcome import Wanted
from quire.cli.inputs import BadLine, Entry, InputSet
from quire.errors import UsageError

sys.path.insert(0, str(Path(__file__).parent))
from command import rehearsed

from quire.testing.web import Paper, World, serve

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "api" / "arxiv"
RULE = "-" * 78

MAIL = rf"""From: no-reply@arxiv.org
Subject: cs daily Subj-class mailing 50001 1

{RULE}
{RULE}
 send mail only to cs@arxiv.org, do not reply to no-reply@arxiv.org.
{RULE}
Submissions to:
Computation and Language
{RULE}
\\
arXiv:2401.12345
Date: Mon, 22 Jan 2024 18:59:59 GMT   (123kb,D)

Title: A made-up study of lists
  that go on in the next line
Authors: Ada Writer, Bob Reader
Categories: cs.CL
Comments: 9 pages
DOI: 10.5555/made.up
\\
  As shown in the abstract, made-up papers are short. See also
arXiv:2301.00001 for a paper that this mail does not list.
\\ ( https://arxiv.org/abs/2401.12345 ,  123kb)
{RULE}
\\
arXiv:2401.99999 (*cross-listing*)
Date: Mon, 22 Jan 2024 10:00:00 GMT   (5kb)

Title: Another one
Authors: C. Third
\\
  Text.
\\ ( https://arxiv.org/abs/2401.99999 ,  5kb)
%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%--%%
{RULE}
\\
arXiv:cs/0112017
replaced with revised version Mon, 22 Jan 2024 12:00:00 GMT   (7kb)

Title: An old one
\\ ( https://arxiv.org/abs/cs/0112017 ,  7kb)
{RULE}
\\
arXiv:24O1.00001
Title: One with a letter in its number
\\
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><title>Computation and Language</title><meta charset="utf-8"></head><body>
<div id="dlpage"><h1>Computation and Language</h1><p>See <a href="/abs/1001.0001">the first paper</a>.</p>
<dl id='articles'>
  <dt><a name='item1'>[1]</a>
    <a href ="/abs/2401.12345" title="Abstract" id="2401.12345">arXiv:2401.12345</a>
    [<a href="/pdf/2401.12345" title="Download PDF">pdf</a>]</dt>
  <dd><div class='meta'><div class='list-title mathjax'><span class='descriptor'>Title:</span>
    Lists &amp; their ω<br></div><div class='list-authors'><a href="/search/">A. Writer</a></div></div></dd>
  <dt><a href="https://arxiv.org/abs/hep-th/9901001v2" title="Abstract">arXiv:hep-th/9901001</a></dt>
  <dd><div class='list-title mathjax'>Title: Old &lt;b&gt;</div></dd>
  <dt><a href="/abs/nonsense" title="Abstract">arXiv:nonsense</a></dt><dd></dd>
  <dt><a href="https://elsewhere.example/abs/2401.00009" title="Abstract">arXiv:2401.00009</a></dt><dd></dd>
</dl></div></body></html>
"""
SEARCH = """<html><body><ol><li class="arxiv-result"><div><p class="list-title is-inline-block">
<a href="https://arxiv.org/abs/2401.12345">arXiv:2401.12345</a></p>
<p class="title is-5 mathjax">Lists &amp; their ω</p></div></li></ol></body></html>"""
ATOM = """<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns="http://www.w3.org/2005/Atom">
  <title>arXiv Query</title><id>http://arxiv.org/api/x</id>
  <entry><id>http://arxiv.org/abs/2401.12345v2</id><title>Lists and
   their ω</title><author><name>A. Writer</name></author>
   <link href="https://arxiv.org/abs/2401.12345v2" rel="alternate" type="text/html"/>
   <arxiv:doi>10.5555/made.up</arxiv:doi></entry>
  <entry><id>http://arxiv.org/abs/hep-th/9901001v1</id><title>Old</title></entry>
  <entry><id>http://arxiv.org/api/errors#incorrect_id</id><title>Error</title>
   <summary>incorrect id format for 1234</summary></entry>
</feed>
"""
_OAI = """<?xml version="1.0" encoding="UTF-8"?>
<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><responseDate>2026-01-01T00:00:00Z</responseDate>
<ListRecords>%s<resumptionToken>6511260|1001</resumptionToken></ListRecords></OAI-PMH>
"""
OAI = (
    _OAI
    % """
<record><header><identifier>oai:arXiv.org:2401.12345</identifier></header><metadata>
 <arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>2401.12345</id><title>Lists and their ω</title>
  <doi>10.5555/made.up 10.5555/second</doi></arXiv></metadata></record>
<record><header><identifier>oai:arXiv.org:hep-th/9901001</identifier></header><metadata>
 <oai_dc:dc xmlns:oai_dc="http://www.openarchives.org/OAI/2.0/oai_dc/"
  xmlns:dc="http://purl.org/dc/elements/1.1/">
  <dc:title>Old</dc:title><dc:identifier>http://arxiv.org/abs/hep-th/9901001</dc:identifier></oai_dc:dc>
 </metadata></record>
<record><header status="deleted"><identifier>oai:arXiv.org:0704.0002</identifier></header></record>
"""
)
SNAPSHOT = (
    '{"id":"0704.0001","submitter":"A. Writer","title":"Lists\\n  and more","doi":"10.5555/a 10.5555/b",'
    '"categories":"hep-ph","versions":[{"version":"v1"}]}\n'
    '{"id":"hep-th/9901001","title":"Old","doi":null,"authors_parsed":[["Writer","A.",""]]}\n'
    '{"id":"my own label","title":"A title","doi":"10.5555/c"}\n'
)
BOMB = """<?xml version="1.0"?>
<!DOCTYPE feed [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;">]>
<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/abs/2401.12345</id>
<title>&c;</title></entry></feed>
"""
OUTSIDE = """<!DOCTYPE feed SYSTEM "file:///etc/passwd" [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/abs/2401.12345</id>
<title>&x;</title></entry></feed>
"""


def entries(tmp_path: Path, name: str, data: str | bytes) -> list[Entry]:
    file = tmp_path / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    with InputSet([str(file)]) as inputs:
        return list(inputs.entries())


def works(found: list[Entry]) -> list[str]:
    return [
        entry.item.work.work_id if isinstance(entry.item, Wanted) else f"bad:{entry.item.line}"
        for entry in found
    ]


def identified(found: list[Entry]) -> list[tuple[str, str, str]]:
    """DOI, arXiv id and title of each work."""
    named = [entry.item.work for entry in found if isinstance(entry.item, Wanted)]
    return [(work.doi, work.arxiv_id, work.title) for work in named]


# -- the mail


def test_the_mail_has_a_work_per_block(tmp_path):
    """New, cross-listed and replaced papers; no paper of an abstract; a bad id is told with its line."""
    found = entries(tmp_path, "digest.txt", MAIL)
    assert identified(found) == [
        ("10.5555/made.up", "2401.12345", "A made-up study of lists that go on in the next line"),
        ("", "2401.99999", "Another one"),
        ("", "cs/0112017", "An old one"),
    ]
    lines = MAIL.splitlines()
    assert [lines[entry.line - 1].partition(" ")[0] for entry in found] == [
        "arXiv:2401.12345", "arXiv:2401.99999", "arXiv:cs/0112017", "arXiv:24O1.00001",
    ]  # fmt: skip
    assert isinstance(found[-1].item, BadLine)
    assert "24O1.00001" in found[-1].item.what


@pytest.mark.parametrize("change", ["crlf", "quoted", "utf-16", "gzip", "stdin"])
def test_the_mail_is_read_however_it_was_saved(tmp_path, monkeypatch, change):
    """Line ends, the marks of a forwarded mail, encodings, compression, and standard input."""
    data = {
        "crlf": MAIL.replace("\n", "\r\n").encode(),
        "quoted": "".join(f"> {line}\n" for line in MAIL.splitlines()).encode(),
        "utf-16": MAIL.encode("utf-16"),
        "gzip": gzip.compress(MAIL.encode()),
        "stdin": MAIL.encode(),
    }[change]
    if change == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with InputSet(["-"]) as inputs:
            found = list(inputs.entries())
    else:
        found = entries(tmp_path, "a.txt", data)
    assert identified(found) == identified(entries(tmp_path, "plain.txt", MAIL))
    assert len(identified(found)) == 3


# -- pages


def test_a_saved_page_has_a_work_per_paper(tmp_path):
    """Links in the text are no papers, nor are those of other hosts; a link that names none is told."""
    found = entries(tmp_path, "list.html", PAGE)
    assert identified(found) == [
        ("", "2401.12345", "Lists & their ω"),
        ("", "hep-th/9901001", "Old <b>"),
    ]
    assert works(found)[2:] == ["bad:12"]
    assert found[0].line == 6


def test_search_results_and_other_pages(tmp_path):
    """The page of a search is read; a page that lists nothing is one bad line."""
    assert identified(entries(tmp_path, "s.htm", SEARCH)) == [("", "2401.12345", "Lists & their ω")]
    for text in ("<html><body><p>Reference: arXiv</p></body></html>", "<!doctype html>", "<html>"):
        (only,) = entries(tmp_path, "x.html", text)
        assert "no paper of arXiv" in str(only.item)


# -- XML


@pytest.mark.parametrize(("name", "text"), [("a.atom", ATOM), ("a.xml", OAI)])
def test_answers_of_the_services_have_a_work_per_record(tmp_path, name, text):
    """Atom and both formats of OAI-PMH: ids, DOIs and titles; errors and deleted records are told."""
    found = entries(tmp_path, name, text)
    first, second = identified(found)
    assert first == ("10.5555/made.up", "2401.12345", "Lists and their ω")
    assert second == ("", "hep-th/9901001", "Old")
    assert works(found)[2].startswith("bad:")
    assert "incorrect id format" in str(found[2].item) or "is deleted" in str(found[2].item)
    assert all(0 < entry.line < 14 for entry in found)


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, "\ufeff" + BOMB, BOMB.replace("<!DOC", "<!--x--><!DOC")])
def test_a_document_type_is_refused_before_it_is_parsed(tmp_path, text):
    """Entities that grow, and files of this machine: refused as a whole, nothing read."""
    for name in ("bomb.xml", "bomb.txt"):
        with pytest.raises(UsageError, match="document type"):
            entries(tmp_path, name, text)


def test_broken_and_foreign_xml_is_told(tmp_path):
    """What stands before the break is read; XML of another kind is refused by the name of its root."""
    cut = ATOM[: ATOM.index("<id>http://arxiv.org/api/errors")]
    found = entries(tmp_path, "cut.xml", cut)
    assert works(found)[:2] == ["doi:10.5555/made.up", "arxiv:hep-th/9901001"]
    assert "not well-formed from here on" in str(found[2].item)
    with pytest.raises(UsageError, match=r"neither Atom nor OAI-PMH: its root is .*rdf"):
        entries(tmp_path, "x.xml", "<?xml version='1.0'?><rdf:RDF xmlns:rdf='u:rdf'/>")
    with pytest.raises(UsageError, match="no XML document"):
        entries(tmp_path, "x.xml", "<?xml version='1.0'?>")
    deep = "<feed xmlns='http://www.w3.org/2005/Atom'>" + "<a>" * 5_000
    assert works(entries(tmp_path, "deep.xml", deep)) == ["bad:1"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded answers are not here")
def test_real_answers_are_read_whole(tmp_path):
    """Every entry of the recorded answers names its arXiv id; none is bad."""
    files = sorted(DATA.glob("*.xml"))
    assert files
    for file in files:
        with InputSet([str(file)]) as inputs:
            found = list(inputs.entries())
        assert len(found) == file.read_text().count("<entry>")
        assert all(isinstance(entry.item, Wanted) and entry.item.work.arxiv_id for entry in found)


_MEASURED = """
import re, sys
from quire.cli.inputs import InputSet

def peak(file):
    with InputSet([file]) as inputs:
        count = sum(1 for _ in inputs.entries())
    print(count, re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

for file in sys.argv[1:]:
    peak(file)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("form", ["atom", "page", "mail"])
def test_memory_does_not_grow_with_a_listing(tmp_path, form):
    """Fifty times the records, the same peak of the process but for the ids of a page (400 bytes each)."""
    entry = ATOM[ATOM.index("  <entry>") : ATOM.index("  <entry><id>http://arxiv.org/abs/hep-th")]
    item = PAGE[PAGE.index("  <dt><a name") : PAGE.index('  <dt><a href="https://arxiv.org')]
    block = MAIL[MAIL.index("\\\\\narXiv:2401.12345") : MAIL.index("\\\\\narXiv:2401.99999")]
    head, record, tail = {
        "atom": (ATOM[: ATOM.index("  <entry>")], entry, "</feed>"),
        "page": (PAGE[: PAGE.index("  <dt>")], item, "</dl></body></html>"),
        "mail": ("", block, ""),
    }[form]
    files = [tmp_path / str(count) for count in (300, 15_000)]
    for file in files:
        file.write_text(head + record * int(file.name) + tail)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, files)],
        capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
    )  # fmt: skip
    (few, before_kib), (many, after_kib) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (300, 15_000)
    assert after_kib - before_kib < (9_000 if form == "page" else 4_000)


# -- the snapshot


def test_the_snapshot_is_read_by_its_arxiv_ids(tmp_path):
    """Its id is an arXiv id and no label, also in the file as arXiv names it; a label stays a label."""
    for name in ("s.jsonl", "arxiv-metadata-oai-snapshot.json"):
        found = entries(tmp_path, name, SNAPSHOT)
        assert identified(found) == [
            ("10.5555/a", "0704.0001", "Lists and more"),
            ("", "hep-th/9901001", "Old"),
            ("10.5555/c", "", "A title"),
        ]
    assert isinstance(found[2].item, Wanted)
    assert found[2].item.label == "my own label"
    with pytest.raises(UsageError, match="one record per line"):
        entries(tmp_path, "pretty.json", json.dumps([{"id": "0704.0001"}], indent=2))


# -- whatever comes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.sampled_from([MAIL, PAGE, SEARCH, ATOM, OAI]),
    cuts=st.tuples(st.integers(0, 2_000), st.integers(0, 2_000)),
    junk=st.binary(max_size=40),
)
def test_damaged_listings_are_read_or_refused_in_words(tmp_path, source, cuts, junk):
    """Cut and mended with any bytes: works, bad lines, or one refusal, never anything else."""
    data = source.encode()
    start, end = sorted(cut % len(data) for cut in cuts)
    found: list[Entry] = []
    with suppress(UsageError):
        found = entries(tmp_path, "x.dat", data[:start] + junk + data[end:])
    for entry in found:
        assert isinstance(entry.item, Wanted | BadLine)
        assert str(entry.item)


def test_listings_run_and_their_failures_come_back_as_records(tmp_path):
    """A page, an answer and the mail in one run: one paper in all of them is one job; failures are JSONL."""
    files = [tmp_path / name for name in ("list.html", "answer.xml", "mail.txt")]
    for file, text in zip(files, (PAGE, OAI, MAIL), strict=True):
        file.write_text(text)
    world = World.of(Paper(arxiv_id="hep-th/9901001"), Paper(doi="10.5555/made.up"))
    with serve(world) as served:
        done = rehearsed(served.url, tmp_path / "lib", *files)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["named_twice"], found["other_names"]) == (2, 1), done.stderr
    assert found["finalized"] == 2
    failed = [json.loads(line) for line in Path(found["failures_file"]).read_text().splitlines()]
    assert {record.get("arxiv_id") for record in failed} == {"2401.12345", "2401.99999", "cs/0112017"}
