"""Links in the body: bad sections are cut away, then what is left is scored.

The score is a sum of small named reasons, so that a wrong choice can be explained and mended by one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import lxml.etree

from .page_repairs import SUPPLEMENT, joined, same_article, site_of
from .page_rules import FOREIGN_SECTIONS, FURNITURE

ANCHORS_MAX = 4000
"""Links looked at on one page."""
TEXT_CHARS_MAX = 160
"""Characters of a link's text that are looked at."""
SCORE_MIN = 4
"""Below this a link is not taken for a PDF of the article."""
WORDS_OF_SECTION_MAX = 4
"""A class of more words than this says more than what kind of section it marks."""
TIED_MAX = 3
"""More equally good, different links than this, and the page is a list of articles."""

SIGNPOSTS_MAX = 3
"""Frames or entries of one kind that are followed."""
REFRESH_S_MAX = 15
"""A refresh after a longer time than this, in seconds, is no redirect."""
SHELL_CHARS_MAX = 500
"""A page that shows less text than this may be a shell around a frame or a script."""

_SHOWN = "//body//text()[not(parent::script or parent::style or parent::noscript)]"
_REFRESH = re.compile(
    r"""^\s*+(\d{1,4}(?:\.\d{0,3})?)\s*+[;,]\s*+(?:url\s*+=\s*+)?["']?([^"']++)["']?\s*+$""",
    re.IGNORECASE | re.DOTALL,
)
"""Possessive throughout: three runs that may share blanks take cubic time over 3,000 of them."""
_LOCATION = re.compile(
    r"""(?:window|document|top|self|parent)\.location(?:\.href)?\s*=\s*["']([^"'\s]{1,2000})["']"""
    r"""|\blocation\.(?:replace|assign)\(\s*["']([^"'\s]{1,2000})["']"""
)
_CUT = "quire-cut"
_KEPT_TAGS = frozenset({"html", "body", "main", "article", "a"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class Scored(NamedTuple):
    """A link and what speaks for it."""

    url: str
    score: int


class Mark(NamedTuple):
    """One reason for or against a link."""

    name: str
    weight: int
    pattern: re.Pattern[str]


def _mark(name: str, weight: int, pattern: str) -> Mark:
    return Mark(name, weight, re.compile(pattern, re.IGNORECASE))


TEXT_MARKS: tuple[Mark, ...] = (
    _mark("is_pdf", 5, r"^\W*(?:(?:view|download|open|get|read|see|article|full.?text|text|the|in|as)\W+)*"
          r"e?pdf(?:\W+(?:version|file|article|full.?text|download"
          r"|galley))*(?:\W*[(\[]?[\d.,]+ ?[kmg]i?b?[)\]]?)?\W*$"),
    _mark("names_pdf", 3, r"\bpdf\b|\bpdf"),
    _mark("full_text", 2, r"full.?(?:text|article|paper)|télécharger|texte intégral|volltext|texto completo"
          r"|herunterladen|descargar|baixar|скачать|全文|ダウンロード"),
    _mark("download", 1, r"download"),
    _mark("with_cover", -1, r"\bcover\b"),
    _mark("beside", -12, r"suppl|figures?\b|\btables?\b|table of contents|\btoc\b|contents page"
                         r"|author guide|guideline"
          r"|instructions?\b|licen[cs]e|flyer|first page|preview|user guide|checklist|purchase"
          r"|\bbuy\b|\brent\b|\bzip\b"
          r"|agreement|copyright|permission|\bform\b|poster|slides|presentation|cover letter|peer.?review"
          r"|reviewer|reporting summary|disclosure|reprints?\b|citation|ris\b|bibtex|endnote"
          r"|brochure|policy|plugin"
          r"|acrobat|reader\b|sample|issue pdf|full issue|entire issue|front matter|media kit"
          r"|prepublication"),
)  # fmt: skip
HINT_MARKS: tuple[Mark, ...] = (
    _mark("dressed_as_pdf", 2, r"pdf"),
    _mark("dressed_as_download", 1, r"download"),
    _mark("dressed_as_other", -6, r"suppl|figure|citation|xref|bibr|reference|related|permission|purchase"),
)
"""Applied to class, id, title, rel, label, image text and the like."""
URL_MARKS: tuple[Mark, ...] = (
    _mark("ends_in_pdf", 3, r"\.pdf(?:$|[?#])"),
    _mark("speaks_of_pdf", 2, r"(?:^|[/=?&._-])e?pdf(?:[/=?&._-]|$)|pdfft"),
    _mark("speaks_of_download", 1, r"download|bitstream|viewcontent"),
    _mark("other_format", -8, r"\.(?:epub|xml|html?|zip|docx?|pptx?|xlsx?|jpe?g|png|gif|ris|bib|tgz"
                              r"|gz|mp4)(?:$|[?#])"),
    _mark("other_service", -12, r"crossmark|/login|/cart|permissions|showcitformats|/share|facebook"
                                r"|twitter|mailto"),
)  # fmt: skip


def cut_foreign_sections(tree: Any) -> None:
    """Remove scripts and what stands beside the article: references, related, supplements."""
    _cut(tree, FOREIGN_SECTIONS, ("script", "style", "noscript", "template", "svg"))


def cut_furniture(tree: Any) -> None:
    """Remove navigation and footers, in which a link is scarcely the article's."""
    _cut(tree, FURNITURE, ("nav", "footer"))


def _cut(tree: Any, words: frozenset[str], tags: tuple[str, ...]) -> None:
    """Rename, then strip in one pass: dropping elements one by one copies the text around each."""
    for element in tree.iter():
        if isinstance(element.tag, str) and element.tag not in _KEPT_TAGS and _is_called(element, words):
            element.tag = _CUT
    lxml.etree.strip_elements(tree, _CUT, *tags, with_tail=False)


def _is_called(element: Any, words: frozenset[str]) -> bool:
    for name in ("id", "class"):
        for token in (element.get(name) or "")[:400].split():
            parts = [part.lower() for part in _WORD.findall(token)]
            single = len(parts) <= WORDS_OF_SECTION_MAX and not words.isdisjoint(parts)
            if single or any(f"{one}-{two}" in words for one, two in pairwise(parts)):
                return True
    return False


def text_within(element: Any, *, at_most: int = TEXT_CHARS_MAX) -> str:
    """The first characters of an element's text, with single spaces; bounded, however deep it is nested."""
    pieces: list[str] = []
    length = 0
    for piece in islice(element.itertext(), 200):
        pieces.append(piece[:at_most])
        length += len(piece)
        if length > 4 * at_most:
            break
    return " ".join("".join(pieces).split())[:at_most]


def _total(marks: tuple[Mark, ...], text: str) -> int:
    return sum(mark.weight for mark in marks if mark.pattern.search(text)) if text else 0


def _hints(anchor: Any) -> str:
    """Class, id and the like of a link, of its parent, and of the images in it."""
    parent = anchor.getparent()
    own = [
        anchor.get(name) or "" for name in ("class", "id", "title", "rel", "aria-label", "type", "download")
    ]
    around = [parent.get("class") or ""] if parent is not None else []
    images = [
        image.get(name) or ""
        for image in islice(anchor.iter("img", "i"), 3)
        for name in ("alt", "src", "class")
    ]
    return " ".join((*own, *around, *images))[:600]


def _in_prose(anchor: Any) -> bool:
    """Whether a link stands within a running text of some length."""
    parent = anchor.getparent()
    return (
        parent is not None
        and parent.tag in ("p", "cite", "dd")
        and len(text_within(parent, at_most=400)) > 200
    )


def score(anchor: Any, url: str, page_url: str) -> int:
    """How much speaks for a link being the article's PDF."""
    text = text_within(anchor)
    parts = urlsplit(url)
    address = f"{parts.path}?{parts.query}" if parts.query else parts.path
    total = _total(TEXT_MARKS, text) + _total(HINT_MARKS, _hints(anchor)) + _total(URL_MARKS, address)
    if site_of(url) != site_of(page_url):
        total -= 1
    return total - 4 if _in_prose(anchor) else total


def scored_anchors(tree: Any, base: str, page_url: str) -> list[Scored]:
    """The links worth trying, best first, ties in the order of the page; the tree has been cut already."""
    best: dict[str, int] = {}
    for anchor in islice(tree.iter("a", "area"), ANCHORS_MAX):
        url = joined(base, anchor.get("href") or "")
        if url and not SUPPLEMENT.search(url) and same_article(url, page_url) and _differs(url, page_url):
            best[url] = max(score(anchor, url, page_url), best.get(url, SCORE_MIN - 1))
    worthy = (Scored(url, total) for url, total in best.items() if total >= SCORE_MIN)
    return sorted(worthy, key=lambda link: -link.score)


def _differs(url: str, page_url: str) -> bool:
    return url.split("#")[0].rstrip("/") != page_url.split("#")[0].rstrip("/")


def lists_articles(links: list[Scored]) -> bool:
    """Whether so many links are equally good that the page is a table of contents."""
    return sum(1 for link in links if link.score == links[0].score) > TIED_MAX if links else False


def signposts(tree: Any) -> Iterator[str]:
    """Where a page sends its reader: refreshes, frames, scripted redirects, a chooser's entries."""
    for meta in islice(tree.iter("meta"), 2000):
        is_refresh = (meta.get("http-equiv") or "").lower() == "refresh"
        refresh = _REFRESH.match((meta.get("content") or "")[:3000]) if is_refresh else None
        if refresh and float(refresh.group(1)) <= REFRESH_S_MAX:
            yield refresh.group(2)
    for value in tree.xpath("//input[@name='redirectURL']/@value")[:1]:
        yield unquote(str(value))
    yield from tree.xpath("//frame/@src")[:SIGNPOSTS_MAX]
    yield from tree.xpath("//*[contains(@class,'resource-line')]//a/@href")[:SIGNPOSTS_MAX]
    shown = sum(len(text.strip()) for text in tree.xpath(_SHOWN)[:2000])
    for script in tree.xpath("//script[not(@src)]")[:40]:
        code = (script.text or "").strip()[:4000]
        # A script that begins with it sends everybody away; one within a shell page may do so later.
        found = _LOCATION.match(code) or (_LOCATION.search(code) if shown < SHELL_CHARS_MAX else None)
        if found:
            yield found.group(1) or found.group(2)
    if shown < SHELL_CHARS_MAX:
        yield from tree.xpath("//iframe/@src")[:SIGNPOSTS_MAX]
