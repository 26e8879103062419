"""Proof: whole PDFs are accepted, everything else is refused, and nothing makes it raise."""

import json
import time
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.errors import StoreFailedError
from quire.store.proof import Proof, prove

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
CUTS = (25, 50, 75, 99)


def a_pdf(path: Path, pages: int = 1, **options: Any) -> bytes:
    with pikepdf.new() as pdf:
        for _ in range(pages):
            pdf.add_blank_page()
        pdf.save(path, **options)
    return path.read_bytes()


def proved(path: Path, data: bytes, **options: Any) -> Proof:
    path.write_bytes(data)
    return prove(path, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.pdf"


def labelled() -> list[dict[str, Any]]:
    index = DATA / "pdfs" / "index.jsonl"
    if not index.exists():
        pytest.skip("the shared data is not here")
    return [json.loads(line) for line in index.read_text().splitlines()]


def is_sound(label: dict[str, Any]) -> bool:
    """Two independent readers open it without fault, and it has a header and a page."""
    read = label["pypdf"].startswith("ok:") and label["pypdf"] != "ok:0"
    return bool(label["header_in_1024"] and label["qpdf"] == "ok" and read and label["pages"])


def test_sound(file: Path) -> None:
    """A whole PDF passes every level, and its pages are counted."""
    data = a_pdf(file, 3)
    assert prove(file) == Proof("page", True, "", len(data), 3)
    assert prove(file, length=len(data)).sound


@pytest.mark.parametrize(
    "options", [{}, {"linearize": True}, {"object_stream_mode": pikepdf.ObjectStreamMode.generate}]
)
def test_every_cut(file: Path, options: dict[str, Any]) -> None:
    """Cut anywhere before its end mark, in each way PDFs are laid out, it is refused."""
    data = a_pdf(file, 40, **options)
    end = data.rindex(b"startxref")
    for kept in range(0, end, max(end // 200, 1)):
        assert not proved(file, data[:kept]).sound, kept
    for kept in range(end, data.rindex(b"%%EOF") - 1):
        assert not proved(file, data[:kept]).sound, data[kept - 20 : kept]


def test_cut_behind_the_first_part_of_a_linearised_file(file: Path) -> None:
    """A linearised file has an end mark early on; cut right behind it, it falls short of its own length."""
    data = a_pdf(file, 1, linearize=True)
    first = data.index(b"%%EOF") + 6
    assert first < len(data) - 100
    assert proved(file, data[:first]).reason == "truncated"
    assert proved(file, data).sound


def test_cut_within_a_second_revision(file: Path) -> None:
    """A revision that begins behind the last end mark and does not end is a cut file."""
    data = a_pdf(file)
    assert proved(file, data + b"9 0 obj\n<< /Type /Page >>\nendobj\nxref\n0 1\n").reason == "truncated"


@pytest.mark.parametrize(
    "mend",
    [
        lambda data: b"\r\n\r\nHTTP junk before\n" + data,
        lambda data: data.replace(b"%%EOF", b""),
        lambda data: data + b"\0" * 3000,
        lambda data: data + b"\n<!-- served in 3 ms -->\n",
    ],
    ids=["junk before", "no end mark", "padding", "junk after"],
)
def test_real_pdfs_with_blemishes(file: Path, mend: Any) -> None:
    """What a library repairs without loss is a real PDF."""
    assert proved(file, mend(a_pdf(file, 2))).sound


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>login</html>", "html"),
        (b'{"error": "no"}', "json"),
        (b"<?xml version='1.0'?><error/>", "xml"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"x" * 2000 + b"%PDF-1.4", "no_pdf_header"),
        (b"%PDF-1.4\n%%EOF\n", "too_small"),
        (b"%PDF-1.4\n" + b"x" * 500, "truncated"),
        (b"%PDF-1.4\n" + b"x" * 500 + b"startxref\n12\n%%EOF\n", "damaged"),
        (b"%PDF-1.4\n<html><body>" + b"challenge " * 100 + b"</body></html>", "truncated"),
    ],
)
def test_refused(file: Path, data: bytes, reason: str) -> None:
    """What is no PDF is refused with a short reason."""
    proof = proved(file, data)
    assert (proof.sound, proof.reason) == (False, reason)


def test_length(file: Path) -> None:
    """Another length than was promised is refused, shorter or longer."""
    data = a_pdf(file)
    assert prove(file, length=len(data) + 1).reason == "short_body"
    assert prove(file, length=len(data) - 1).reason == "long_body"


def test_no_pages(file: Path) -> None:
    """A PDF without a page is no paper."""
    with pikepdf.new() as pdf:
        pdf.save(file)
    assert prove(file).reason == "no_pages"


def test_encrypted(file: Path) -> None:
    """A PDF that opens without a password is accepted, one that asks for it is refused and named so."""
    a_pdf(file, encryption=pikepdf.Encryption(owner="o", user=""))
    assert prove(file).sound
    a_pdf(file, encryption=pikepdf.Encryption(owner="o", user="u"))
    proof = prove(file)
    assert (proof.sound, proof.level, proof.reason) == (False, "tail", "password_required")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hostile(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever the bytes, there is a verdict."""
    file = tmp_path_factory.mktemp("hostile") / "file.pdf"
    whole = bytearray(a_pdf(file, 2))
    for _ in range(data.draw(st.integers(0, 30))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(proved(file, bytes(whole)), Proof)
    assert isinstance(proved(file, b"%PDF-1.4\n" + data.draw(st.binary(max_size=400)) + b"%%EOF"), Proof)


def test_the_disk_is_not_the_file(tmp_path: Path) -> None:
    """A file that cannot be read is no verdict on the file."""
    with pytest.raises(StoreFailedError):
        prove(tmp_path / "none.pdf")


def test_labelled_files(file: Path) -> None:
    """Of real files, 99 % of the sound are accepted, and none that no library opens."""
    labels = labelled()
    sound = [label for label in labels if is_sound(label)]
    accepted = [label for label in sound if prove(DATA / label["file"]).sound]
    assert len(accepted) >= 0.99 * len(sound) > 50
    unreadable = [label for label in labels if label["qpdf"] != "ok" or not label["header_in_1024"]]
    assert len(unreadable) > 10
    assert [label["file"] for label in unreadable if prove(DATA / label["file"]).sound] == []


def test_labelled_files_cut(file: Path) -> None:
    """Every sound real file that is cut is refused, but where nothing is lost save the mark ``%%EOF``."""
    for label in filter(is_sound, labelled()):
        data = (DATA / label["file"]).read_bytes()
        for percent in CUTS:
            kept = len(data) * percent // 100
            if data[kept:].strip() != b"%%EOF" or not data[:kept].endswith((b"\n", b"\r")):
                assert not proved(file, data[:kept]).sound, (label["file"], percent)


def test_fast(file: Path) -> None:
    """A file of 30 MB is proved without being read whole: well under a second."""
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.pages[0].Contents = pdf.make_stream(b"0 0 m\n" * 5_000_000)
        pdf.save(file, compress_streams=False)
    assert file.stat().st_size > 25_000_000
    began = time.perf_counter()
    assert prove(file).sound
    assert time.perf_counter() - began < 1
