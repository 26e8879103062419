"""Titles and texts brought to one form, so that what looks the same to a reader is the same to a program.

A title comes out of a record with tags, entities or LaTeX in it; a text comes out of a PDF with ligatures,
hyphens at line ends, odd spaces and capitals. Both lose here what does not tell them apart: case, accents,
punctuation, and how a Greek letter is written.
"""

from __future__ import annotations

import html
import re
import unicodedata

_HYPHENS = "\u00ad\u2010\u2011\ufffe\x02"
"""Soft hyphen, hyphens, and what PDFium writes for a hyphen at the end of a line (U+FFFE or U+0002)."""
_BROKEN_WORD = re.compile(rf"(?<=[^\W\d_])[-{_HYPHENS}][ \t]*[\r\n]+[ \t]*(?=[^\W\d_])|[\u00ad\ufffe\x02]\s*")
_INLINE = r"(?:\w+:)?(?:i|b|u|em|strong|sub|sup|inf|it|italic|bold|sc|span|scp|mi|mn|mo)"
_FORMULA_TWICE = re.compile(r"<((?:\w+:)?(?:tex-math|annotation))\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
"""The same formula once more, in another notation."""
_INLINE_TAG = re.compile(rf"</?{_INLINE}(?:\s[^<>]{{0,300}})?/?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][\w:-]{0,40}(?:\s[^<>]{0,500})?/?>")
_ACCENT = re.compile(r"\\(?:[\"'`^~=.]|[cdHbtruvk](?![A-Za-z]))\s*\{?\s*\\?([A-Za-z])\}?")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_GREEK = re.findall(
    r"\w+",
    """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma sigma
    tau upsilon phi chi psi omega
    """,
)
_GREEK_NAMES = {chr(0x3B1 + at): name for at, name in enumerate(_GREEK)}
_LONE_GREEK = re.compile(r"(?<![\u0370-\u03ff])[\u03b1-\u03c9](?![\u0370-\u03ff])")
"""A Greek letter as a symbol; within a Greek word it is a letter like others."""
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i",
                          "ħ": "h", "ŋ": "n", "’": "'", "‘": "'"})  # fmt: skip
"""Letters with a stroke or joined, which no decomposition takes apart."""
_WITHOUT_SPACES = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: each sign is a word there."""
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|[^\W_{_WITHOUT_SPACES}]+")

_FUNCTION_WORDS = {
    line.split()[0]: frozenset(line.split()[1:])
    for line in """
    en  the of and in to for with on by is are was were that from as a an at this we or be it its
    es  el la los las de del y en con por para una un que se su al es como entre
    pt  o a os as de da do dos das e em no na com por para uma um que se ao como
    fr  le la les de des du et en dans par pour une un que qui sur au aux est avec
    it  il lo la gli le di del della dei e in nel nella con per una un che si da sul
    de  der die das den dem des und in im mit von zu zur zum fur auf ein eine ist bei
    nl  de het een van en in op met voor door te dat die is zijn aan bij uit tot als
    sv  och i att det som en ett pa av for med till den ar om hos fran vid eller inte
    pl  i w z na do nie sie oraz przez dla od po jest jak ze pod nad jako przy czy
    tr  ve bir bu ile icin olarak olan da de gibi daha cok en ise hem sonra
    id  dan di yang dengan untuk pada dari dalam ini itu oleh sebagai adalah atau ke
    """.strip().splitlines()
}
"""Language → words, without accents, that any text of it is full of."""
_TEXT_WORDS_MAX = 1_500
_OF_A_TEXT_MIN = 0.1
"""Least share of function words in a running text of the language; English has 0.3 by this list."""
_OF_A_TITLE_MIN = 0.12
_SCRIPT_LETTERS_MAX = 400


def without_markup(title: str) -> str:
    """A record's title without tags, entities (also escaped twice) and LaTeX."""
    plain = html.unescape(html.unescape(title))
    plain = _TAG.sub(" ", _INLINE_TAG.sub("", _FORMULA_TWICE.sub(" ", plain)))
    if "\\" in plain:
        plain = _COMMAND.sub(_spoken, _ACCENT.sub(r"\1", plain))
    return " ".join(re.sub(r"[${}]|(?<=\S)[\^_](?=\S)", "", plain).split())


def _spoken(command: re.Match[str]) -> str:
    name = command[1].lower().removeprefix("var")
    return f" {name} " if name in _GREEK else " "


def words_of(text: str) -> list[str]:
    """The words of a title or text in the form in which they are compared."""
    folded = unicodedata.normalize("NFKC", _BROKEN_WORD.sub("", text)).casefold().translate(_LETTERS)
    apart = unicodedata.normalize("NFKD", folded)
    bare = unicodedata.normalize("NFC", "".join(c for c in apart if not unicodedata.combining(c)))
    named = _LONE_GREEK.sub(lambda found: f" {_GREEK_NAMES[found[0]]} ", bare)
    return _WORD.findall(named.replace("'", ""))


def joined(text: str) -> str:
    """A text in one line-breaking-proof form for identifiers: NFKC, lower case, one kind of hyphen."""
    even = unicodedata.normalize("NFKC", text).lower()
    return re.sub(r"[\u2010-\u2015\u2212]", "-", re.sub(r"[\u00ad\u200b\ufffe\x02]\s*", "", even))


def language_of_text(words: list[str]) -> str:
    """The language of a running text by its function words; ``""`` for one that is not known here."""
    return _language(words[:_TEXT_WORDS_MAX], _OF_A_TEXT_MIN)


def language_of_title(words: list[str]) -> str:
    """The language of a title; English where nothing tells, as the records of most services are."""
    return _language(words, _OF_A_TITLE_MIN) or "en"


def _language(words: list[str], share_min: float) -> str:
    if not words:
        return ""
    counts = {name: sum(word in known for word in words) for name, known in _FUNCTION_WORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] >= share_min * len(words) else ""


def script_of(words: list[str]) -> str:
    """The script that most letters are of, by its name in Unicode (``LATIN``, ``CYRILLIC``, ``CJK``)."""
    letters = [c for c in "".join(words)[:_SCRIPT_LETTERS_MAX] if c.isalpha()]
    names = [unicodedata.name(c, "").split(" ")[0] for c in letters]
    # Japanese mixes kana and Chinese signs; which of them is in front tells nothing.
    names = ["CJK" if name in ("HIRAGANA", "KATAKANA") else name for name in names]
    return max(set(names), key=names.count) if names else ""
