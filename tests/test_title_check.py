"""The title check: what a PDF's first pages show of a work, over real titles, real PDFs and hostile bytes."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.events.work import Work
from quire.store import pdf_text
from quire.store.likeness import by_letters, by_words, likeness
from quire.store.pdf_text import PAGE_CHARS_MAX, PAGES_MAX, first_text
from quire.store.title_check import DOUBT, SURE, check_title, forms_of, identifier_in, verdict_of
from quire.store.title_words import without_markup, words_of
from quire.testing.web import make_pdf

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
TITLE = "Phosphate restriction slows the decline of kidney function in adult mice"
BODY = (
    "We fed two groups of animals for a year and looked at what became of them. The first group was given "
    "what it liked; the second was given less of it. At the end of the year the weight of all animals was "
    "taken and the blood was examined by the usual methods. None of the differences that were found can be "
    "explained by chance alone, and most of them are in line with what is known from the work of others in "
    "this field. The limits of the study are its size and the short time for which it could be carried on. "
    "It is to be hoped that somebody will take it up again with more animals and with more time.\n"
)


def text_of(*lines: str) -> str:
    return "\r\n".join([*lines, BODY])


def shown(text: str, **work: str) -> str:
    return verdict_of(text, Work(**work))


@pytest.mark.parametrize(
    ("printed", "title"),
    [
        (TITLE.upper(), TITLE),
        ("Phosphate restric-\r\ntion slows the decline of kid\ufffe\r\nney function in adult mice", TITLE),
        ("P h o s p h a t e restriction slows the decline of kidney function in adult mice", TITLE),
        ("Phosphaterestrictionslowsthedeclineofkidneyfunctioninadultmice", TITLE),
        ("The eﬀect of inﬂammation on ﬁbrosis in mice", "The effect of inflammation on fibrosis in mice"),
        ("Phosphate restriction slows\r\nOPEN ACCESS\r\nReceived on 7 May 2020, accepted on 1 June\r\n"
         "the decline of kidney function\r\nin adult mice", TITLE),
        ("Phosphate restrictlon slows the decIine of kidney functlon in aduIt mice", TITLE),
        ("Signalling by TNF-α in β-cells of the rat", "Signalling by TNF-alpha in &beta;-cells of the rat"),
        ("Emission of CO2 from soils of Galicia", "Emission of CO<sub>2</sub> from soils of Galicia"),
        ("Poincaré maps of Hölder flows in ℝ3", r"Poincar\'e maps of H{\"o}lder flows in $\mathbb{R}^3$"),
        ("Decay of ϕ mesons in dense matter", r"Decay of $\phi$ mesons in {\it dense} matter"),
        ("Øvre grenser for sjøisens tykkelse", "Ovre grenser for sjoisens tykkelse"),
        ("Phosphate restriction and the kidney", "Phosphate restriction and the kidney: A randomised trial"),
        ("Riego y calidad del agua en Jaén", "Irrigation and water / Riego y calidad del agua en Jaen"),
        ("磷酸盐限制对成年小鼠肾功能的影响", "磷酸盐限制对成年小鼠肾功能的影响"),
        ("Влияние фосфатов на функцию почек", "Влияние фосфатов на функцию почек"),
    ],
)  # fmt: skip
def test_a_title_is_found_however_it_is_set(printed: str, title: str) -> None:
    """Capitals, line ends, ligatures, spaces, accents, Greek, markup and slips of OCR hide no title."""
    assert shown(text_of(printed), title=title) == "title"


@pytest.mark.parametrize(
    ("text", "work", "expected"),
    [
        (text_of("Growth of wheat under salt stress"), {"title": TITLE}, "mismatch"),
        (text_of("x"), {"title": "Editorial"}, "unknown"),
        (text_of("x"), {"title": "Letters to the Editor: a Reply"}, "unknown"),
        (text_of("x"), {"title": "Front Matter Volume 8 Issue 3 1962"}, "unknown"),
        (text_of("x"), {"doi": "10.1000/abc"}, "unknown"),
        ("", {"title": TITLE}, "no_text"),
        ("Downloaded by guest on 7 May\r\n" * 30, {"title": TITLE}, "no_text"),
        (BODY + "7. References\r\n[1] " + TITLE, {"title": TITLE}, "unknown"),
        ("REFERENCES\r\n1. https://doi.org/10.1000/abc", {"title": TITLE, "doi": "10.1000/abc"}, "no_text"),
        (BODY + "References\r\n1. doi:10.1000/abc\r\n", {"title": TITLE, "doi": "10.1000/abc"}, "unknown"),
        (BODY + "See doi:10.1000/other", {"title": TITLE, "doi": "10.1000/abc"}, "mismatch"),
    ],
)  # fmt: skip
def test_what_is_not_shown_is_told_apart(text: str, work: dict[str, str], expected: str) -> None:
    """Another article, nothing to tell by, no text, and a work that is only cited are different verdicts."""
    assert shown(text, **work) == expected


ES = (
    "Se estudiaron las aguas de la cuenca del río durante un año y se tomaron muestras en los puntos "
    "que se indican en la figura. Los resultados de los análisis se comparan con los de otros autores "
    "y con las normas de la Unión. En la mayor parte de los casos no se superan los límites que se "
    "han fijado para el consumo, aunque en algunas de las muestras del verano se observa un aumento "
    "de las sales disueltas en el agua que se explica por la falta de lluvias y por el riego de los "
    "campos que hay a lo largo del curso del río. "
)


@pytest.mark.parametrize(
    ("text", "title", "expected"),
    [
        (ES, "Water quality in the basin of the Guadalquivir river", "unknown"),
        (ES, "Calidad de las aguas de la cuenca del Ebro en el siglo XX", "mismatch"),
        (BODY, "Calidad de las aguas de la cuenca del Ebro en el siglo XX", "unknown"),
        ("本研究对成年小鼠进行了为期一年的观察。" * 20, TITLE, "unknown"),
        ("Исследование проводилось в течение одного года на взрослых мышах. " * 12, TITLE, "unknown"),
        ("".join(chr(ord(c) + 3) if c.isalpha() else c for c in BODY), TITLE, "unknown"),
    ],
)
def test_a_title_that_may_be_translated_is_no_mismatch(text: str, title: str, expected: str) -> None:
    """English titles of papers in other tongues, and fonts that say other letters, are not flagged."""
    assert shown(text, title=title) == expected


@pytest.mark.parametrize(
    ("printed", "doi", "found"),
    [
        ("https://doi.org/10.1371/JOURNAL.pone.0000217", "10.1371/journal.pone.0000217", True),
        ("doi: 10.1371/jour\r\nnal.pone.\r\n0000217 Received", "10.1371/journal.pone.0000217", True),
        ("10.1002/(sici)97\u201302(1998)17:15<1::aid>3", "10.1002/(sici)97-02(1998)17:15<1::aid>3", True),
        ("10.1000/123", "10.1000/12", False),
        ("110.1000/12", "10.1000/12", False),
        ("10.1007/978-3-540-1_5", "10.1007/978-3-540-1", False),
    ],
)  # fmt: skip
def test_a_doi_is_found_over_line_ends_and_only_whole(printed: str, doi: str, found: bool) -> None:
    """Case and line ends do not hide a DOI; one that goes on is another one."""
    assert (identifier_in(printed, Work(doi=doi)) == "doi") is found


@pytest.mark.parametrize(
    ("printed", "arxiv_id", "found"),
    [
        ("arXiv:2101.00001v3  [cs.CL]  4 Jan 2021", "2101.00001", True),
        ("a\r\nr\r\nX\r\ni\r\nv\r\n:2101.00001v3", "2101.00001", True),
        ("arXiv:math.GT/0309136v1", "math/0309136", True),
        ("arXiv:math/0309136", "math/0309136", True),
        ("arXiv:2101.000012", "2101.00001", False),
        ("2101.00001", "2101.00001", False),
    ],
)
def test_arxivs_stamp_is_found(printed: str, arxiv_id: str, found: bool) -> None:
    """The stamp of any version, upright or turned, old id or new; a bare number is no stamp."""
    assert (identifier_in(printed, Work(arxiv_id=arxiv_id)) == "arxiv") is found


def test_markup_goes_and_comparisons_stay() -> None:
    """Tags and LaTeX leave a title; a less-than sign is no tag."""
    assert (
        without_markup("Linewidth &lt;400 kHz and &amp;lt;i&amp;gt;k&amp;lt;/i&amp;gt;")
        == "Linewidth <400 kHz and k"
    )
    assert without_markup("<mml:math><mml:mi>x</mml:mi></mml:math><tex-math>$x$</tex-math> y") == "x y"
    assert words_of(without_markup(r"$\alpha$-decay of {\it Fe}")) == ["alpha", "decay", "of", "fe"]


WORDS = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "of", "the"]), min_size=1, max_size=8
)


@given(title=WORDS, before=WORDS, after=WORDS)
def test_a_title_within_a_text_is_like_it(title: list[str], before: list[str], after: list[str]) -> None:
    """What stands there to the letter has likeness 1 by each measure; all are between 0 and 1."""
    text = [*before, *title, *after]
    assert likeness(title, text) == by_letters("".join(title), "".join(text)) == 1
    assert by_words(title, text) == pytest.approx(1)
    for measure in (likeness(title, before), by_words(title, before)):
        assert 0 <= measure <= 1


def plain_distance(wanted: str, letters: str) -> int:
    """The fewest edits, by the textbook."""
    row = list(range(len(wanted) + 1))
    fewest = row[-1]
    for letter in letters:
        new = [0]
        for at, own in enumerate(wanted):
            new.append(min(row[at] + (own != letter), row[at + 1] + 1, new[at] + 1))
        row, fewest = new, min(fewest, new[-1])
    return fewest


@given(wanted=st.text("abc", min_size=1, max_size=70), letters=st.text("abc", max_size=90))
def test_the_search_by_letters_is_the_textbooks(wanted: str, letters: str) -> None:
    """The bit-parallel search counts the edits that the plain table counts."""
    assert by_letters(wanted, letters) == pytest.approx(1 - plain_distance(wanted, letters) / len(wanted))


# -- over PDFs


def real_titles() -> list[str]:
    file = DATA / "api" / "unpaywall_records.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"no real records at {file.name}")
    with gzip.open(file, "rt") as lines:
        return [title for line in lines if (title := json.loads(line).get("title"))]


def test_no_real_title_is_flagged_on_its_own_pdf(tmp_path: Path) -> None:
    """PDFs with the real titles of 1,104 records: none is a mismatch, and all that tell are found."""
    file, counts = tmp_path / "a.pdf", Counter[str]()
    for number, title in enumerate(real_titles()):
        file.write_bytes(make_pdf(str(number), size=5_000, title=title))
        verdict = check_title(file, Work(title=title))
        counts[verdict] += 1
        latin = title.isascii()
        assert verdict == "title" or not (latin and list(forms_of(title))), (verdict, title)
    assert counts["mismatch"] == 0
    assert counts["title"] > 0.95 * counts.total()


def test_anothers_pdf_is_flagged_and_never_taken_for_it(tmp_path: Path) -> None:
    """Real titles against the PDFs of other real titles: nine in ten are flagged, none is found."""
    titles, file, counts = real_titles(), tmp_path / "a.pdf", Counter[str]()
    for number in range(0, len(titles), 4):
        other = titles[(number * 7 + 13) % len(titles)]
        if words_of(other) == words_of(titles[number]):
            continue
        file.write_bytes(make_pdf(str(number), size=5_000, title=titles[number]))
        counts[check_title(file, Work(title=other, doi="10.9999/none"))] += 1
    assert counts["title"] == counts["doi"] == 0
    assert counts["mismatch"] > 0.88 * counts.total()


def pdfs() -> Iterator[Path]:
    index = DATA / "pdfs" / "index.jsonl"
    if not index.is_file():
        pytest.skip("no real PDFs beside the repository")
    for line in index.read_text().splitlines():
        yield DATA / json.loads(line)["file"]


def test_real_and_hostile_files_give_a_verdict() -> None:
    """No file of the data raises; none shows a title that is not in it; scans and stubs are never flagged."""
    counts = Counter(check_title(file, Work(title=TITLE, doi="10.9999/none")) for file in pdfs())
    assert set(counts) <= {"no_text", "unknown", "mismatch"}
    assert counts["no_text"] > 100


@pytest.mark.parametrize(
    ("named", "title", "expected"),
    [
        ("pdf-hul-86-govdocs-445892.pdf", "Mountain Search Flying: Course Syllabus, Second Sortie", "title"),
        ("pdf-hul-86-govdocs-445892.pdf", TITLE, "mismatch"),
        ("crazyones.pdf", "Here's to the crazy ones. The misfits. The rebels.", "title"),
        ("crazyones.pdf", "The Crazy Ones", "unknown"),
        ("crazyones-pdfa.pdf", "Here's to the crazy ones", "title"),
        ("pdflatex-4-pages.pdf", "Hello, here is some text without a meaning", "title"),
    ],
)
def test_sound_pdfs_whose_title_is_known(named: str, title: str, expected: str) -> None:
    """The few sound PDFs of the data that have a title: found where it tells, never flagged."""
    file = next(file for file in pdfs() if file.name.endswith(named))
    assert check_title(file, Work(title=title)) == expected


def test_a_stamp_that_stands_on_its_side_is_read(tmp_path: Path) -> None:
    """arXiv prints its stamp turned by a right angle in the margin."""
    file = tmp_path / "a.pdf"
    file.write_bytes(make_pdf("a", size=20_000, title="Any title at all"))
    with pikepdf.open(file, allow_overwriting_input=True) as pdf:
        stamp = b"BT /F1 20 Tf 0 1 -1 0 30 200 Tm (arXiv:2101.00001v2  [cs.CL]  4 Jan 2021) Tj ET"
        pdf.pages[0].contents_add(stamp)
        pdf.save()
    assert check_title(file, Work(arxiv_id="2101.00001", title=TITLE)) == "arxiv"
    assert check_title(file, Work(arxiv_id="2101.00002", title=TITLE)) == "mismatch"


def test_only_the_first_pages_are_read_and_not_without_end(tmp_path: Path) -> None:
    """Pages beyond the third are not looked at, and no page gives more than its bound."""
    file = tmp_path / "a.pdf"
    with pikepdf.new() as pdf:
        for number in range(PAGES_MAX + 1):
            page = pikepdf.open(_bytes_in(tmp_path, f"Page number {number} of a long account of the matter"))
            pdf.pages.append(page.pages[0])
        line = b"(" + b"word " * 20 + b") '"
        pdf.pages[0].contents_add(b"BT /F1 1 Tf 1 TL 0 790 Td " + b" ".join([line] * 700) + b" ET")
        pdf.save(file)
    text = first_text(file)
    assert f"number {PAGES_MAX - 1} of" in text
    assert f"number {PAGES_MAX} of" not in text
    assert len(text) < PAGES_MAX * PAGE_CHARS_MAX
    assert text.index("Page number 1") <= PAGE_CHARS_MAX + 10


def _bytes_in(folder: Path, title: str) -> Path:
    file = folder / f"{len(title)}{title[12]}.pdf"
    file.write_bytes(make_pdf(title, size=6_000, title=title))
    return file


def test_cut_and_hostile_bytes_never_raise(tmp_path: Path) -> None:
    """Nothing, noise, and a PDF cut or bitten anywhere give a text or none."""
    whole = make_pdf("a", size=6_000, title=TITLE)
    bitten = [whole[:at] + b"\xff\x00<<(" + whole[at + 5 :] for at in range(0, len(whole), 301)]
    file = tmp_path / "a.pdf"
    for content in (
        b"",
        b"%PDF-1.4\n",
        bytes(5_000),
        *(whole[: len(whole) * n // 9] for n in range(9)),
        *bitten,
    ):
        file.write_bytes(content)
        assert isinstance(first_text(file), str)
    assert first_text(tmp_path / "none.pdf") == ""


def test_many_threads_read_one_after_another(tmp_path: Path) -> None:
    """PDFium is not thread-safe; the pool's threads get each their own text all the same."""
    found: dict[int, str] = {}
    files = [_bytes_in(tmp_path, f"Page number {number} of a long account") for number in range(8)]

    def read(number: int) -> None:
        for _ in range(20):
            found[number] = first_text(files[number])

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(f"number {number} of" in found[number] for number in range(8))


def test_a_file_that_keeps_the_reader_busy_costs_the_others_their_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the reader in vain goes on with no text."""
    monkeypatch.setattr(pdf_text, "WAIT_S", 0.05)
    file = tmp_path / "a.pdf"
    file.write_bytes(make_pdf("a", size=6_000, title=TITLE))
    with pdf_text._READER:
        assert check_title(file, Work(title=TITLE)) == "no_text"
    assert check_title(file, Work(title=TITLE)) == "title"


def test_a_work_that_nothing_is_known_of_is_not_read(tmp_path: Path) -> None:
    """Without DOI, arXiv id and title there is nothing to look for; the file is not even opened."""
    assert check_title(tmp_path / "none.pdf", Work(pmid="7")) == "unknown"


def test_the_thresholds_leave_room() -> None:
    """Doubt lies between what is met by chance and what is sure."""
    assert 0.56 < DOUBT < SURE < 1
