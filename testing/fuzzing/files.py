# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""Files as targets: PDFs that are proved, lists of works, settings."""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from ...actors.outcome import Wanted
from ...actors.sources.finding import explained
from ...cli.fields import BadLine
from ...cli.inputs import InputSet
from ...config.loader import load
from ...errors import UsageError
from ...store.proof import prove
from ..web.pdf import make_pdf
from .target import Seen, Target, check, check_work

_FIRST, _LAST = "10.1000/first", "10.1000/last"
_REASON_LINES_MAX = 400
"""Lines of a refusal of settings; it tells all that is wrong at once."""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="quire-fuzz-")  # gone with the process


def folder() -> Path:
    """Where bodies are put that a parser reads from the disk."""
    return Path(_folder().name)


def put(name: str, raw: bytes) -> Path:
    """The body as a file."""
    path = folder() / name
    path.write_bytes(raw)
    return path


# -- PDFs


def _pdf(raw: bytes) -> Seen:
    proof = prove(put("body.pdf", raw))
    check(proof.bytes == len(raw), "a proof knows the size of its file")
    check(proof.sound == (proof.reason == ""), "a proof is sound or says why not")
    check(proof.sound == (proof.level == "page" and proof.pages > 0), "a sound file has a page")
    check(proof.sound or explained(proof.reason), f"{proof.reason!r} is in the table")
    return Seen(proof.reason or "sound", proof)


def _cut(raw: bytes) -> Seen:
    """A sound file, cut: the body is the size, and where to cut as millionths of it."""
    size, millionths = (int.from_bytes(part, "little") for part in (raw[:2], raw[2:6]))
    whole = make_pdf(f"cut {size}", size=1_024 + size)
    end = 1 + millionths % (len(whole) - 1)
    proof = prove(put("cut.pdf", whole[:end]))
    tells_all = whole.rindex(b"%%EOF") <= end  # what is cut off then says nothing that a reader needs
    check(
        proof.sound == tells_all or end > whole.rindex(b"%%EOF"),
        f"a file cut at {end} of {len(whole)} is refused",
    )
    check(proof.sound or explained(proof.reason), f"{proof.reason!r} is in the table")
    return Seen("sound" if proof.sound else proof.reason, proof)


def _made_pdfs() -> list[bytes]:
    whole = make_pdf("fuzz", size=2_000)
    packed_file = gzip.compress(whole)
    return [whole, b"junk before\n" + whole, whole[:-7], whole[:1_500], whole + b"<html>", b"<html><title>no", b"<?xml?>",
            b'{"error": 1}', b"", b"plain", packed_file, b"%PDF-1.4\n%%EOF",
            whole.replace(b"/Count 1", b"/Count 0").replace(b"/Kids [4 0 R]", b"/Kids [     ]"),
            b"%PDF-1.4\n" + b"\x00" * 400 + b"\n%%EOF\n"]  # fmt: skip


def _made_cuts() -> list[bytes]:
    return [at.to_bytes(2, "little") + (at * 7919).to_bytes(4, "little") for at in (0, 9, 77, 500, 3_000)] + [
        b"\x00\x00" + (1_017).to_bytes(4, "little")
    ]


# -- lists of works


def _list(suffix: str, first: str, last: str) -> Callable[[bytes], Seen]:
    """The body between a good record and another: both are read, whatever stands between."""
    before, after = first.encode(), last.encode()

    def read(raw: bytes) -> Seen:
        form, said = _entries(put(f"list{suffix}", before + raw + after))
        works = [work for work in said if isinstance(work, Wanted)]
        found = [work.work.doi for work in works]
        # A list may be taken for another form by its looks, and a quote may hold lines that follow it.
        if form == suffix[1:] and (form != "csv" or b'"' not in raw):
            check(_FIRST in found[:1], "the record before is read")
            check(_LAST in found[-1:], "the record after is read")
        bad = any(isinstance(item, BadLine) for item in said)
        return Seen("bad_lines" if bad else "works" if len(works) > 2 else "none", said)

    return read


def _entries(path: Path) -> tuple[str, list[Wanted | BadLine]]:
    said: list[Wanted | BadLine] = []
    with InputSet([str(path)]) as inputs:
        inputs.inputs[0].frame()
        for entry in inputs.entries():
            check(entry.line >= 1, "an entry knows its line")
            msgspec.json.encode(entry.raw)
            if isinstance(entry.item, Wanted):
                check(entry.item.work.work_id, "what is wanted has a name")
                check_work(entry.item.work)
            msgspec.msgpack.encode(entry.item)
            said.append(entry.item)
        return inputs.inputs[0].form, said


def _alone(suffix: str) -> Callable[[bytes], Seen]:
    """The body as a whole file, which may be refused as a whole in words."""

    def read(raw: bytes) -> Seen:
        try:
            _, said = _entries(put(f"alone{suffix}", raw))
        except UsageError as refused:
            check(0 < len(str(refused)) < 4_096, "a refusal says why")
            return Seen("refused", str(refused))
        bad = any(isinstance(item, BadLine) for item in said)
        return Seen("bad_lines" if bad else "works" if said else "none", said)

    return read


_TXT = [b"10.1000/x\n# a comment\nPMC123\nhttps://journal.example/x.pdf\n", b"nonsense\n12345\n", b"",
        b"A. Writer, A title. 2020. doi:10.1000/y.\narXiv:2101.00001v2 [cs.CL]\n"]  # fmt: skip
_CSV = [b"10.1000/a,A title,PMC7\n,,\n10.1000/b,Another,\n", b"nonsense,x,y\n", b"", b'10.1000/c;"x"\n']
_JSONL = [b'{"doi": "10.1000/a", "title": "A title"}\n{"DOI": "10.1000/b", "title": ["B"]}\n', b"{nonsense\n[1]\n", b"",
          b'{"id": "https://openalex.org/W1", "ids": {"pmid": "https://pubmed.ncbi.nlm.nih.gov/12"}, "title": null}\n',
          b'{"message": {"items": [{"DOI": "10.1000/c"}, 7]}}\n{"results": [{"doi": "10.1000/d"}]}\n']  # fmt: skip
_BIB = [b'@string{j = "Journal"}\n@article{a,\n  title = {On {\\"U}bung} # j,\n  doi = "10.1000/a",\n}\n', b"",
        b"@article{b, doi = }\n@misc{c, eprint={2101.00001}, archivePrefix={arXiv}}\n@article{d, title={open\n"]  # fmt: skip
_RIS = [b"TY  - JOUR\nTI  - A title\n  that goes on\nDO  - 10.1000/a\nUR  - https://journal.example/a\nER  - \n", b"",
        b"TY  - JOUR\nER  - \nTY  - CHAP\nDO  - nonsense\nDB  - PubMed\nAN  - 12\n"]  # fmt: skip


def _table() -> list[bytes]:
    return [b"doi,title\n10.1000/a,A\n", b"title;pmid\nA;12\n;x\n", b"a,b\nc,d\n", b"", b"10.1000/a\tA\n10.1000/b\tB\n",
            b'"doi"|"title"\n"10.1000/a"|"x ""y""\nz"\n']  # fmt: skip


def _packed_lists() -> list[bytes]:
    sound = gzip.compress(b"10.1000/x\nnonsense\n")
    return [
        sound,
        gzip.compress(b"10.1000/a\n"),
        sound[:-6],
        b"10.1000/x\n",
        b"",
        sound + b"more",
        gzip.compress(b""),
    ]


# -- settings


def _config(raw: bytes) -> Seen:
    file = put("settings.yaml", raw)
    try:
        loaded = load(config=file, environ={})
    except UsageError as refused:
        lines = str(refused).splitlines()
        check(lines, "a refusal says why")
        return Seen("refused", lines[:_REASON_LINES_MAX])
    msgspec.json.encode(loaded.settings)
    said = any(origin.kind == "file" for origin in loaded.origins.values())
    return Seen("taken" if said else "defaults", loaded.values)


def _settings() -> list[bytes]:
    tree = {"works_in_hand": 8, "fallback": {"budgets": {"total_attempts": 9}, "profile": None,
            "policies": {"arxiv_pdf": {"retries_max": 1}}}, "web": {"contact_email": "me@university.edu"}}  # fmt: skip
    full = load(environ={})
    nested: dict[str, object] = {}
    for path, value in full.values.items():
        *above, name = path.split(".")
        at: dict[str, object] = nested
        for key in above:
            below = at.setdefault(key, {})
            at = below if isinstance(below, dict) else {}
        at[name] = value
    return [json.dumps(tree).encode(), b"", b"works_in_hand: 8\nweb:\n  pacing: polite\n", b"nonsense: [1\n",
            b"works_in_hand: many\n", b"a: &a [*a]\n", json.dumps(nested).encode(),
            b"fallback: &f\n  tiers:\n    archive: {parallel: 2}\n"]  # fmt: skip


TARGETS: tuple[Target, ...] = (
    Target("pdf", _pdf, _made_pdfs,
           frozenset({"sound", "truncated", "html", "xml", "json", "empty", "no_pdf_header", "gzip", "too_small",
                      "damaged", "no_pages"}), recorded=("pdfs/*/*",)),
    Target("pdf_cut", _cut, _made_cuts, frozenset({"truncated", "sound"})),
    Target("list_txt", _list(".txt", f"{_FIRST}\n", f"\n{_LAST}\n"), lambda: _TXT,
           frozenset({"works", "bad_lines", "none"}), kind="lines"),
    Target("list_csv", _list(".csv", f"doi,title,pmcid\n{_FIRST},t,\n", f"\n{_LAST},t,\n"), lambda: _CSV,
           frozenset({"works", "bad_lines", "none"}), kind="lines"),
    Target("list_jsonl", _list(".jsonl", f'{{"doi":"{_FIRST}"}}\n', f'\n{{"doi":"{_LAST}"}}\n'), lambda: _JSONL,
           frozenset({"works", "bad_lines", "none"}), kind="json", recorded=("api/unpaywall_records.jsonl.gz",)),
    Target("list_bib", _list(".bib", f"@misc{{first, doi={{{_FIRST}}}}}\n", f"\n@misc{{last, doi={{{_LAST}}}}}\n"),
           lambda: _BIB, frozenset({"works", "bad_lines", "none"}), kind="lines",
           recorded=("api/crossref/*bibtex*.txt",)),
    Target("list_ris", _list(".ris", f"TY  - JOUR\nDO  - {_FIRST}\nER  - \n", f"\nTY  - JOUR\nDO  - {_LAST}\nER  - \n"),
           lambda: _RIS, frozenset({"works", "bad_lines", "none"}), kind="lines"),
    Target("table", _alone(".csv"), _table, frozenset({"works", "bad_lines", "refused", "none"}), kind="lines"),
    Target("list_gz", _alone(".txt.gz"), _packed_lists, frozenset({"works", "bad_lines", "refused", "none"})),
    Target("list_any", _alone(""), lambda: [*_TXT, *_CSV, *_JSONL, *_BIB, *_RIS, *_table()],
           frozenset({"works", "bad_lines", "none"}), kind="lines", recorded=("api/arxiv/*",)),
    Target("config", _config, _settings, frozenset({"taken", "refused", "defaults"}), kind="json"),
)  # fmt: skip
