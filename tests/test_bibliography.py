"""BibTeX and RIS: what the entries name, what is told of bad ones, and that nothing stops the rest."""

from __future__ import annotations

import io
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quire.actors.outcome import Wanted
from quire.cli.bibliography import macros_in, read_bibtex, read_ris
from quire.cli.bibtex import BLOCK_CHARS_MAX, as_tex, blocks, name_of, text_of
from quire.cli.fields import BadLine, Entry
from quire.cli.inputs import form_of
from quire.cli.lines import numbered
from quire.events.work import Work


def lines_of(text: str):
    return numbered(io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "replace")), "utf-8", newline=None))


def bib(text: str) -> list[Entry]:
    return list(read_bibtex("a.bib", lines_of(text)))


def ris(text: str) -> list[Entry]:
    return list(read_ris("a.ris", lines_of(text)))


def told(entries: list[Entry]) -> list[str]:
    return [
        entry.item.work.work_id if isinstance(entry.item, Wanted) else f"bad:{entry.item.line}"
        for entry in entries
    ]


ENTRY = r"""
Exported from somewhere, which is a comment to BibTeX.
@string{ jcb = "Journal of " # {Cell Biology} }
@comment{jabref-meta: grouping {nested}}
@Article{müller:2020,
  author  = {M{\"u}ller, J. and {The {\o}ther} Group},
  title   = "The {DNA} of {\"U}ber--{\'e}tudes \& \emph{more}: 5\% of $\alpha$~things",
  journal = jcb,
  month   = jan # "~1",
  doi     = {https://doi.org/10.1000/J.Cell\_Bio.7},
  pmid    = 12345678,
  url     = {https://x.org/a\_b\%20c?d=1\&e=2},
}
"""


def test_an_entry_gives_its_identifiers_its_title_and_its_key():
    """Quotes, braces, ``#``, numbers, TeX escapes and accents are read; the key is the label."""
    (entry,) = bib(ENTRY)
    assert entry.item == Wanted(
        Work(
            doi="10.1000/j.cell_bio.7",
            pmid="12345678",
            url="https://x.org/a_b%20c?d=1&e=2",
            title="The DNA of Über–études & more: 5% of α things",
        ),
        label="müller:2020",
    )
    assert entry.line == 5
    assert entry.raw.startswith("@Article{müller:2020,")
    assert entry.raw.endswith("}\n")


@pytest.mark.parametrize(
    ("fields", "work"),
    [
        ("eprint={2101.00001v2}, archivePrefix={arXiv}", Work(arxiv_id="2101.00001", arxiv_version="v2")),
        ("eprint={hep-th/9901001}, eprinttype={arxiv}", Work(arxiv_id="hep-th/9901001")),
        ("eprint={2101.00001}", Work(arxiv_id="2101.00001")),
        ("eprint={https://x.org/p.pdf}", Work(url="https://x.org/p.pdf")),
        ("eprint={1234567}, eprinttype={jstor}, title={T}", Work(title="T")),
        ("eprint={1234567}, eprinttype={pubmed}", Work(pmid="1234567")),
        ("pmcid={PMC77}, pmid={5}", Work(pmcid="PMC77", pmid="5")),
        (r"howpublished={\url{https://x.org/~me/a_b}}", Work(url="https://x.org/~me/a_b")),
        (r"howpublished={\href{https://x.org/a\%20b}{here}}", Work(url="https://x.org/a%20b")),
        (r"doi={10.1002/(SICI)1097-4571(1998)49:8{\textless}693::AID-ASI4{\textgreater}3.0.CO;2-O}",
         Work(doi="10.1002/(sici)1097-4571(1998)49:8<693::aid-asi4>3.0.co;2-o")),
        (r"doi={10.1007/978-3-540-78246-9{\_}18}", Work(doi="10.1007/978-3-540-78246-9_18")),
        ("doi=10.1000/unquoted", Work(doi="10.1000/unquoted")),
        ("doi = site # {/abc}", Work(doi="10.1000/abc")),
        ("doi={10.48550/arXiv.2101.00001}", Work(arxiv_id="2101.00001")),
        ("doi={no such}, pmid={5}", Work(pmid="5")),
        ("title={A} doi={10.1000/no-comma}", Work(doi="10.1000/no-comma", title="A")),
        ("note=, % title={commented out},\n doi={10.1000/a},,", Work(doi="10.1000/a")),
    ],
)  # fmt: skip
def test_the_fields_of_many_exporters_are_understood(fields, work):
    """Eprints by kind, URLs in url and href commands, old DOIs in TeX, macros, missing and doubled commas."""
    (entry,) = bib("@string{site = {10.1000}}\n@misc{k, " + fields + "\n}\n")
    assert entry.item == Wanted(work, label="k")


def test_entries_in_parentheses_on_one_line_and_without_keys_are_read():
    """``@type(…)``, several entries on a line, no key, the brace on the next line."""
    text = (
        '@article(a, doi = {10.1000/(a)}, note = "a ) b"), @misc{, doi={10.1000/b}} @misc{doi={10.1000/c}}\n'
        "@book\n{d, doi={10.1000/d}}@CONTROL{REVTEX41Control}\n"
    )
    entries = bib(text)
    assert told(entries) == ["doi:10.1000/(a)", "doi:10.1000/b", "doi:10.1000/c", "doi:10.1000/d"]
    assert [entry.item.label for entry in entries] == ["a", "", "", "d"]


def test_a_bad_entry_is_told_with_its_line_and_costs_no_other():
    """A brace that is never closed, a field without a value, an entry that names nothing."""
    text = (
        "@article{a, doi={10.1000/a}}\n"
        "@article{b,\n title={never {closed},\n doi={10.1000/b}\n"
        "@article{c, doi={10.1000/c}}\n"
        '@article{d, title="open, doi={10.1000/d}}\n'
        "@article{e, year={2020}}\n"
        "@article{f, doi={not one}}\n"
        "@article{g, what is this, doi={10.1000/g}}\n"
        "@string{broken}\n"
        "@article{h, doi={10.1000/h}}\n"
        "@article{i, doi={10.1000/i}\n"
    )
    entries = bib(text)
    assert told(entries) == [
        *("doi:10.1000/a", "bad:2", "doi:10.1000/c", "bad:6", "bad:7", "bad:8", "bad:9", "bad:10"),
        *("doi:10.1000/h", "bad:12"),
    ]
    said = [str(entry.item) for entry in entries if isinstance(entry.item, BadLine)]
    assert said[0] == (
        "a.bib:2: the entry @article{b is never closed; right would be: a } for every {, within one entry"
    )
    assert "the value of title is never closed" in said[1]
    assert "no identifier and no title" in said[2]
    assert "'what is this, doi={10.1000/g}' is no field" in said[4]


def test_definitions_are_kept_for_a_file_that_takes_entries_over():
    """``macros_in`` gives the @string blocks as they stand; entries read the same behind them."""
    text = "@string{p = {10.1000}}\n@string(q = {/x})\n@misc{a, doi = p # q}\n"
    macros = macros_in(lines_of(text))
    assert macros == "@string{p = {10.1000}}\n@string(q = {/x})\n"
    (entry,) = bib(text)
    assert bib(macros + entry.raw)[0].item == entry.item == Wanted(Work(doi="10.1000/x"), label="a")


def test_half_a_million_lines_take_little_memory_and_linear_time():
    """Twice the entries take about twice the time, and memory stays that of one entry."""
    one = (
        "@article{k%d,\n title={A {Title} number %d},\n doi={10.1000/n%d},\n abstract={"
        + "word " * 50
        + "}\n}\n"
    )

    def seconds(count: int) -> float:
        lines = ((n, line + "\n") for n, line in enumerate(_lines(one, count), 1))
        start = time.perf_counter()
        assert sum(1 for _ in read_bibtex("a", lines)) == count
        return time.perf_counter() - start

    short = min(seconds(1_000) for _ in range(3))
    assert seconds(4_000) < 12 * short + 0.5
    tracemalloc.start()
    seconds(1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def _lines(one: str, count: int):
    for n in range(count):
        yield from (one % (n, n, n)).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "@" * 200_000,
        "@a{" * 60_000,
        "{" * 200_000,
        "@article{k, title={" + "\\'" + " " * 200_000 + "}}",
        "@article{k, title={" + "\\'" * 100_000 + "}}",
        "@article{k, url={\\href" + "{" * 1000 + "}" * 1000 + "}}",
        "@article{k," + "a" * 200_000,
        "@article{k, a=" + "x#" * 100_000 + "}",
        "@article{k," + "%" * 100_000 + "\n" * 100_000 + "}",
        "@article{\n" * 30_000,
        "@string{a=a#a}\n" * 2 + "@string{" + "b={xx}, " * 1000 + "}",
    ],
    ids=range(11),
)
def test_no_text_takes_long(text):
    """Texts made to be slow are read in well under a few seconds."""
    start = time.perf_counter()
    bib(text)
    assert time.perf_counter() - start < 3


def test_a_macro_that_doubles_itself_stays_small():
    """A chain of definitions that doubles each time does not fill the memory."""
    text = (
        "@string{a = {xxxxxxxxxx}}\n" + "@string{a = a # a}\n" * 60 + "@misc{k, doi={10.1000/a}, title=a}\n"
    )
    (entry,) = bib(text)
    assert len(entry.item.work.title) <= 1_000


def test_an_overlong_entry_is_one_bad_entry():
    """A block beyond the bound is told and not kept; the next one counts."""
    text = (
        "@misc{a, note={" + "x" * (BLOCK_CHARS_MAX + 10) + "}, doi={10.1000/a}}\n@misc{b, doi={10.1000/b}}\n"
    )
    assert told(bib(text)) == ["bad:1", "doi:10.1000/b"]


PIECES = st.sampled_from(
    [*["@article{", "@misc(", "@string{", "k,", "doi=", "{10.1000/z}", '"', "{", "}", ")", ",", "#", "\\"],
     *["\n", "%", "title", "=", " ", "é", "@", "\\'e", "\\url{", "$", "jan", "\u2028", "\x00", "\r"]]
)  # fmt: skip


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=60).map("".join)))
def test_any_text_is_read_as_bibtex_and_the_good_entries_around_it_are_found(junk):
    """No text raises; an entry before it and one that starts a line after it are both found, in order."""
    text = f"@misc{{first, doi={{10.1000/first}}}}\n{junk}\n@misc{{last, doi={{10.1000/last}}}}\n"
    labels = [entry.item.label for entry in bib(text) if isinstance(entry.item, Wanted)]
    assert labels[0] == "first"
    assert labels[-1] == "last"


@settings(max_examples=300, deadline=None)
@example("a---b -- c")
@given(st.one_of(st.text(max_size=80), st.text("-{}\\~$^%&#_ a'\"", max_size=20)))
def test_text_survives_tex_and_back(text):
    """What ``as_tex`` writes, in balanced braces, ``text_of`` reads as the same words."""
    tex = as_tex(text)
    depth = 0
    for char in tex:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0
    assert text_of(tex) == " ".join(text.split())


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"{\'E}l{\`e}ve na{\"\i}ve \c{c}a \v{S}\v s \H{o} \aa\ \ss", "Élève naïve ça Šš ő å ß"),
        (r"M\"uller \& S{\o}n --- a\,b \textit{in vitro} $H_2O$", "Müller & Søn — a b in vitro H_2O"),
        (r"\href{https://x.org}{Shown} \LaTeX{} done", "Shown done"),
        (r"a\\b", "ab"),
    ],
)
def test_tex_in_titles_becomes_text(tex, text):
    """Accents with and without braces, symbols, dashes, spaces; unknown commands leave their argument."""
    assert text_of(tex).replace("ï", "ï") == text


def test_names_are_altered_nowhere_but_in_their_escapes():
    """A tilde, a dash or a dollar of a URL is no TeX."""
    assert name_of("https://x.org/~me/a--b/$c$/%7E") == "https://x.org/~me/a--b/$c$/%7E"


def test_blocks_know_their_lines():
    """The line of a block is that of its ``@``."""
    found = list(blocks(lines_of("x\n\n@a{b}\ny @c{d\n} @e{f}\n")))
    assert [(block.kind, block.body, block.line) for block in found] == [
        ("a", "b", 3),
        ("c", "d\n", 4),
        ("e", "f", 5),
    ]


# -- RIS

RECORD = """\
Provider: Somebody
Content: text/plain; charset="UTF-8"

TY  - JOUR
ID  - mine-1
AU  - Doe, J.
T1  - A title that goes on
over two lines
DO  - https://doi.org/10.1000/A
UR  - not a link
UR  - https://x.org/1
C2  - PMC77
DB  - PubMed
AN  - 12345
ER  -

"""


def test_a_record_gives_its_identifiers_its_title_and_its_id():
    """DO, UR, TI or T1, C2, AN of PubMed and ID are read; what databases write between records is not."""
    (entry,) = ris(RECORD)
    work = Work(
        doi="10.1000/a", pmcid="PMC77", pmid="12345", url="https://x.org/1",
        title="A title that goes on over two lines",
    )  # fmt: skip
    assert entry.item == Wanted(work, label="mine-1")
    assert entry.line == 4
    assert entry.raw.startswith("TY  - JOUR\n")
    assert entry.raw.endswith("ER  -\n")


def test_records_without_an_end_or_a_start_are_found():
    """A missing ER or TY costs nothing; a record that names nothing is told with its line."""
    text = (
        "TY  - JOUR\nDO  - 10.1000/a\nTY  - JOUR\nDO  - 10.1000/b\nER  - \nDO  - 10.1000/c\nER  - \nER  - \n"
        "TY  - JOUR\nAN  - 999\nER  - \nTY  - JOUR\nAN  - arXiv:2101.00001\r\nM3  - 10.1000/m\nER  - "
    )
    entries = ris(text)
    assert told(entries) == ["doi:10.1000/a", "doi:10.1000/b", "doi:10.1000/c", "bad:9", "doi:10.1000/m"]
    assert entries[4].item.work.arxiv_id == "2101.00001"


@settings(max_examples=200, deadline=2000)
@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(
            st.sampled_from(["TY  - JOUR", "ER  - ", "DO  - x", "TI  - t", "UR  - http://[", "  ", "é"])
        ).map("\n".join),
    )
)  # fmt: skip
def test_any_text_is_read_as_ris_and_the_good_records_around_it_are_found(junk):
    """No text raises; the record before it and the one after it are both found."""
    good = "TY  - JOUR\nID  - {0}\nDO  - 10.1000/{0}\nER  - \n"
    entries = ris(good.format("first") + junk + "\n" + good.format("last"))
    labels = [entry.item.label for entry in entries if isinstance(entry.item, Wanted)]
    assert labels[0] == "first"
    assert labels[-1] == "last"


def test_an_overlong_record_is_told():
    """A record beyond the bound is one bad record."""
    text = (
        "TY  - JOUR\nAB  - "
        + "x" * (1 << 20)
        + "\nDO  - 10.1000/a\nER  - \n"
        + "TY  - JOUR\nDO  - 10.1000/b\n"
    )
    assert told(ris(text)) == ["bad:1", "doi:10.1000/b"]


@pytest.mark.parametrize(
    ("text", "form"),
    [(ENTRY, "bib"), (RECORD, "ris"), ("% x\n\n@article{a,\n", "bib"), ("a@b.org {\n", "txt")],
)
def test_bibliographies_are_recognised_by_their_looks(text, form):
    """Standard input has no suffix: the first lines tell the form."""
    assert form_of(text) == form
