"""Whether a PDF's text is that of the work it was fetched for: the work's DOI, arXiv stamp or title in it.

A sound PDF of another article is the most harmful error there is: nobody looks for it. So the first pages
must show what the work is known by. The check errs on the side of ``unknown``: ``mismatch`` is said only
where there is enough text, in the language of a telling title, and nothing in it is like that title.

Rejected: a foreign DOI as a sign of another article (references print them), and likeness alone for short
titles (``Editorial`` stands in every issue). What is found only behind the heading of the references shows
that the work is cited there, so it proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..events.work import Work
from .likeness import likeness
from .pdf_text import first_text
from .title_words import (
    joined,
    language_of_text,
    language_of_title,
    script_of,
    without_markup,
    words_of,
)

TitleCheck = Literal["doi", "arxiv", "title", "mismatch", "no_text", "unknown"]
"""What a text shows: the DOI, arXiv's stamp, the title; none of them; it is no text; nothing to tell by."""

SURE = 0.8
"""Least likeness of a title that is there; nothing but the title itself comes near it."""
DOUBT = 0.6
"""Least likeness that is no mismatch; titles met at random in other articles stay below 0.56."""
TEXT_LETTERS_MIN = 400
"""Letters, in lines that differ, from which on a text is one; the stamp of a download on a scan has 100."""
TITLE_WORDS_MIN = 3
TITLE_LETTERS_MIN = 15
PART_WORDS_MIN = 4
PART_LETTERS_MIN = 24
"""From which on a title, or the part before its subtitle, tells one article from another."""
SIGN_LETTERS = 3
"""Letters that a sign of a script without spaces counts as."""
_GENERIC = frozenset(
    re.findall(
        r"\w+",
        """
    a an and the of to for in on from by with no not new its our their this issue issues volume vol
    number part section chapter special abstract abstracts acknowledgement acknowledgements
    acknowledgments announcement announcements answer appendix article articles author authors back book
    books brief case comment comments commentary conference congress content contents correction
    corrections corrigendum corrigenda cover discussion editor editors editorial editorials errata
    erratum foreword forward front general guest index information instructions introduction
    introductory invited journal letter letters list masthead matter meeting meetings message news note
    notes obituary opinion original page pages paper papers perspective preface preliminary president
    proceedings program programme publication report reports reply response retraction review reviewer
    reviewers reviews society study subject summary supplement supplementary table title i ii iii iv v
    vi vii viii ix x
    """,
    )
)
"""Words that a title may be made of and name no article."""
_REFERENCES = re.compile(
    r"^[ \t]*(?:\d{1,2}\.?[ \t]*)?(?:references?(?: and notes| cited)?|bibliography|literature(?: cited)?"
    r"|works cited|literatur(?:verzeichnis)?|r[eé]f[eé]rences(?: bibliographiques)?|bibliographie"
    r"|referencias(?: bibliogr[aá]ficas)?|bibliograf[ií]a|refer[eê]ncias(?: bibliogr[aá]ficas)?|bibliografia"
    r"|список литературы|литература|参考文献|引用文献|參考文獻)[ \t]*:?[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_SUBTITLE = re.compile(r"[:.?!]\s+|\s+[\u2013\u2014-]+\s+")
_OTHER_LANGUAGE = re.compile(r"\s+[/|=]\s+|\s*[\[\]]\s*")
"""What stands between a title and its translation."""
_GAP = r"\s{0,4}"
"""A line break, with the spaces around it, within an identifier."""


def check_title(path: Path, work: Work) -> TitleCheck:
    """What the first pages of a PDF show of the work; its bytes never make it raise.

    Args:
        path: the file, which was proved to be a PDF.
        work: what is known of the work by now.
    """
    if not (work.doi or work.arxiv_id or work.title):
        return "unknown"
    return verdict_of(first_text(path), work)


def verdict_of(text: str, work: Work) -> TitleCheck:
    """What a text shows of a work; pure."""
    text = "\n".join(text.splitlines())
    heading = _REFERENCES.search(text)
    body = text[: heading.start()] if heading else text
    named = identifier_in(body, work)
    if named is not None:
        return named
    forms, words = list(forms_of(work.title)), words_of(body)
    nearest = _nearest(forms, words)
    if nearest >= SURE:
        return "title"
    if not has_enough(text):
        return "no_text"
    if not forms or nearest >= DOUBT or _letters(words) < TEXT_LETTERS_MIN:
        return "unknown"
    if _may_be_translated(forms[0], words) or (heading and _stands_in(text[heading.end() :], work, forms)):
        return "unknown"
    return "mismatch"


def _nearest(forms: list[list[str]], words: list[str]) -> float:
    return max((likeness(form, words) for form in forms), default=0.0)


def _stands_in(text: str, work: Work, forms: list[list[str]]) -> bool:
    return identifier_in(text, work) is not None or _nearest(forms, words_of(text)) >= SURE


def identifier_in(text: str, work: Work) -> Literal["doi", "arxiv"] | None:
    """The identifier of the work that a text prints."""
    even = joined(text)
    if work.doi and prints_doi(even, work.doi):
        return "doi"
    return "arxiv" if work.arxiv_id and prints_arxiv(even, work.arxiv_id) else None


def prints_doi(even: str, doi: str) -> bool:
    """Whether a DOI stands in a text (as ``joined`` gives it), also over a line's end."""
    letters = _GAP.join(map(re.escape, joined(doi)))
    return re.search(rf"(?<![0-9]){letters}(?![a-z0-9_])", even) is not None


def prints_arxiv(even: str, arxiv_id: str) -> bool:
    """Whether arXiv's stamp of that id stands in a text (as ``joined`` gives it), of any version.

    Old ids have their subject class in the stamp (``arXiv:math.GT/0309136v1``).
    """
    archive, slash, number = arxiv_id.rpartition("/")
    subject = rf"(?:\.{_GAP}[a-z]{_GAP}[a-z])?" if slash else ""
    letters = _GAP.join(map(re.escape, "arxiv:" + archive))
    digits = _GAP.join(map(re.escape, slash + number))
    return re.search(rf"{letters}{_GAP}{subject}{_GAP}{digits}(?![0-9])", even) is not None


def forms_of(title: str) -> Iterator[list[str]]:
    """The words of a title in the forms in which it may be printed: whole, without subtitle, each language.

    Only forms that tell one article from another.
    """
    plain = without_markup(title)
    whole = words_of(plain)
    if is_telling(whole):
        yield whole
    parts = [_SUBTITLE.split(plain, maxsplit=1)[0], *_OTHER_LANGUAGE.split(plain)]
    for part in dict.fromkeys(part.strip() for part in parts):
        words = words_of(part)
        if words != whole and is_telling(words, least=PART_WORDS_MIN, letters=PART_LETTERS_MIN):
            yield words


def is_telling(words: list[str], *, least: int = TITLE_WORDS_MIN, letters: int = TITLE_LETTERS_MIN) -> bool:
    """Whether the words of a title name one article: enough of them, and not of those that stand on any."""
    own = [word for word in words if word not in _GENERIC and not word.isdigit()]
    return len(words) >= least and _letters(words) >= letters and len(own) >= 2


def has_enough(text: str) -> bool:
    """Whether there is text at all; lines that come again (a stamp, a running head) count once."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    return _letters(words_of("\n".join(lines))) >= TEXT_LETTERS_MIN


def _may_be_translated(title: list[str], text: list[str]) -> bool:
    """Whether a title that is not in the text may be one that only the record has.

    Also where the letters of a text are not what they look like: a font without a table of its letters gives
    words of no language.
    """
    script = script_of(text)
    if script_of(title) != script:
        return True
    return script == "LATIN" and language_of_text(text) != language_of_title(title)


def _letters(words: list[str]) -> int:
    return sum(len(word) if word.isascii() or len(word) > 1 else SIGN_LETTERS for word in words)
