"""BibTeX: the blocks of a file one by one, their fields, and TeX to text and back.

Why our own: the libraries at hand (bibtexparser 2, pybtex) want the whole file as one string, and lists of
half a million entries are real. What counts is what BibTeX itself does: braces balance also within quotes, a
backslash protects none of them, and text outside of blocks is comment. Beyond BibTeX, a line that starts a
block ends one that was never closed, so that one missing brace costs one entry and not the file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

BLOCK_CHARS_MAX = 1 << 20
"""Longest block that is kept, in characters; entries with abstracts have a few thousand."""
MACRO_CHARS_MAX = 1_000
"""Longest text that an ``@string`` stands for, in characters."""

_START = re.compile(r"@[ \t]*([A-Za-z][\w-]*)\s*([{(])")
_CUT_START = re.compile(r"@[ \t]*[A-Za-z][\w-]*[ \t]*\n")
"""A block's start whose brace stands on the next line."""
_FRESH = re.compile(
    r"[ \t]*@[ \t]*(?:(?i:string|preamble|comment)[ \t]*[{(]|[A-Za-z][\w-]*[ \t]*\{[^\s{},=]*\s*(?:,|$))"
)
"""A line that can only be the start of a block."""
_BRACES = re.compile(r"[{}]")
_BRACES_QUOTES = re.compile(r'[{}"]')
_PARENS = re.compile(r'[{}")]')
_GAP = re.compile(r"(?:[\s,]+|%[^\n]*)*")
_NAME = re.compile(r"([^\s=,{}\"#()'%@]+)\s*=\s*")
_WORD = re.compile(r'[^\s,#{}"=]*')
_MACRO = re.compile(r"[A-Za-z][^/]*")
_JOINT = re.compile(r"\s*#\s*")


class Malformed(Exception):
    """A block cannot be read; the message says at what."""


class Block(NamedTuple):
    """``@kind{body}``."""

    kind: str
    """In lower case: ``article``, ``string`` …"""
    body: str
    line: int
    """Of its start, from 1."""
    raw: str
    """All of it, with a line end."""
    trouble: str
    """``""`` where it is whole, else what is wrong with it."""


class _Open:
    """A block whose end has not come yet."""

    def __init__(self, kind: str, opener: str, line: int, head: str) -> None:
        self.kind, self.line, self.head = kind.lower(), line, head
        self._parts: list[str] = []
        self._chars = 0
        self._depth = 1 if opener == "{" else 0
        self._in_parens = opener == "("
        self._quoted = False

    def end_in(self, text: str, start: int) -> int | None:
        """Where it ends in this line, behind its closing brace; None where it does not."""
        for token in (_PARENS if self._in_parens else _BRACES).finditer(text, start):
            mark = token[0]
            if mark == '"':
                self._quoted ^= self._depth == 0
            elif mark == ")":
                if self._depth == 0 and not self._quoted:
                    return token.end()
            else:
                self._depth = max(0, self._depth + (1 if mark == "{" else -1))
                if self._depth == 0 and not self._in_parens:
                    return token.end()
        return None

    def take(self, text: str) -> None:
        self._chars += len(text)
        if self._chars <= BLOCK_CHARS_MAX:
            self._parts.append(text)

    def closed(self) -> Block:
        text = "".join(self._parts)
        trouble = f"is longer than {BLOCK_CHARS_MAX} characters" if self._chars > BLOCK_CHARS_MAX else ""
        return Block(self.kind, text[:-1], self.line, f"{self.head}{text}\n", trouble)

    def cut(self) -> Block:
        return self.closed()._replace(trouble="is never closed")


def blocks(lines: Iterator[tuple[int, str]]) -> Iterator[Block]:
    """The blocks of a file in order; what is outside of them is comment."""
    block: _Open | None = None
    before = ""
    for number, given in lines:
        line = before + given
        before, at = "", 0
        if block is not None and _FRESH.match(line):
            yield block.cut()
            block = None
        while True:
            if block is None:
                start = _START.search(line, at)
                if start is None:
                    break
                block, at = _Open(start[1], start[2], number, start[0]), start.end()
            end = block.end_in(line, at)
            block.take(line[at:end])
            if end is None:
                break
            yield block.closed()
            block, at = None, end
        if block is None and _CUT_START.fullmatch(line.lstrip()):
            before = line.rstrip("\n") + " "
    if block is not None:
        yield block.cut()


def key_and_fields(body: str) -> tuple[str, dict[str, list[tuple[bool, str]]]]:
    """The key of an entry, and its fields by their names in lower case; see ``fields_from``.

    Raises:
        Malformed: something in it is no field.
    """
    comma = body.find(",")
    head = body if comma < 0 else body[:comma]
    if "=" in head:
        return "", fields_from(body, 0)
    return head.strip(), fields_from(body, len(head))


def fields_from(body: str, at: int) -> dict[str, list[tuple[bool, str]]]:
    """The fields from a place on: name → the pieces that ``#`` joins, each with whether it is a bare word.

    The first of several with one name counts. A comma that is missing, or doubled, does not matter.

    Raises:
        Malformed: something is no field.
    """
    fields: dict[str, list[tuple[bool, str]]] = {}
    while (at := _after(_GAP, body, at)) < len(body):
        name = _NAME.match(body, at)
        if name is None:
            raise Malformed(f"{body[at : at + 60].splitlines()[0]!r} is no field")
        pieces, at = _pieces(body, name.end(), name[1])
        fields.setdefault(name[1].lower(), pieces)
    return fields


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _pieces(body: str, at: int, name: str) -> tuple[list[tuple[bool, str]], int]:
    pieces: list[tuple[bool, str]] = []
    while True:
        mark = body[at : at + 1]
        if mark in ("{", '"'):
            end = _closing(body, at, mark)
            if end is None:
                raise Malformed(f"the value of {name} is never closed")
            pieces.append((False, body[at + 1 : end - 1]))
        else:
            end = _after(_WORD, body, at)
            pieces.append((True, body[at:end]))
        joint = _JOINT.match(body, end)
        if joint is None:
            return pieces, end
        at = joint.end()


def _closing(body: str, at: int, mark: str) -> int | None:
    """Behind the end of a value that is open at a place."""
    depth = 0
    for token in (_BRACES if mark == "{" else _BRACES_QUOTES).finditer(body, at if mark == "{" else at + 1):
        if token[0] == '"':
            if depth == 0:
                return token.end()
            continue
        depth += 1 if token[0] == "{" else -1
        if depth == 0 and mark == "{":
            return token.end()
        if depth < 0:
            return None
    return None


def value_of(pieces: list[tuple[bool, str]], macros: Mapping[str, str]) -> str:
    """The value of joined pieces; a macro that nobody defined is empty, as it is to BibTeX."""
    return "".join(
        macros.get(piece.lower(), "") if is_word and _MACRO.fullmatch(piece) else piece
        for is_word, piece in pieces
    )


# -- TeX and text

_SYMBOLS = {
    "ss": "ß", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ",
    "aa": "å", "AA": "Å", "i": "ı", "j": "ȷ", "dh": "ð", "DH": "Ð", "th": "þ", "TH": "Þ", "dj": "đ",
    "DJ": "Đ", "textasciitilde": "~", "sim": "~", "textasciicircum": "^", "textbackslash": "\\",
    "textunderscore": "_", "textbraceleft": "{", "textbraceright": "}", "textless": "<", "textgreater": ">",
    "lt": "<", "gt": ">", "textbar": "|", "textendash": "–", "textemdash": "—", "textquoteright": "’",
    "textquoteleft": "‘", "textquotedblleft": "“", "textquotedblright": "”", "textquotesingle": "'",
    "textquotedbl": '"', "textdollar": "$", "textregistered": "®", "texttrademark": "™", "textdegree": "°",
    "textmu": "µ", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "pi": "π", "sigma": "σ", "tau": "τ", "omega": "ω", "times": "×", "pm": "±",
    "infty": "∞", "leq": "≤", "geq": "≥",
}  # fmt: skip
_ACCENTS = {
    "`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", "=": "\u0304", "u": "\u0306", ".": "\u0307",
    '"': "\u0308", "r": "\u030a", "H": "\u030b", "v": "\u030c", "d": "\u0323", "c": "\u0327", "k": "\u0328",
    "b": "\u0331",
}  # fmt: skip
_TEX = re.compile(
    r"\\(?:(?P<accent>[`'^\"~=.]|[uvHckrbd](?![A-Za-z])) ?\{? ?(?P<on>\\?[A-Za-z])(?![A-Za-z])(?: ?\})?"
    r"|(?P<accent1>[`'^\"~=.]) ?(?P<on1>\\?[A-Za-z])"
    r"|href ?\{[^{}]*\}"
    r"|(?P<symbol>[A-Za-z]+)(?:\{\}| ?)"
    r"|(?P<escaped>[&%$#_{}])"
    r"|(?P<space>[ ,;:!])"
    r"|.?)"
    r"|(?P<dash>-{2,3})|(?P<tie>~)|[{}$]"
)
_TEX_IN_NAMES = re.compile(
    r"\\(?:(?P<symbol>[A-Za-z]+)(?:\{\}| ?)|(?P<escaped>[&%$#_{}~^\\])|.?)"
    r"|\$(?P<math>[<>_]|\\sim ?)\$|[{}]"
)
_WRAPPED = re.compile(r"\\(?:url|path|nolinkurl)\s*\{(.*)\}", re.DOTALL)
_LINKED = re.compile(r"\\href\s*\{([^{}]*)\}\s*\{.*\}", re.DOTALL)


def text_of(tex: str) -> str:
    """A title in TeX as text on one line: accents, symbols and dashes put in, commands and braces dropped."""
    return " ".join(_TEX.sub(_as_text, " ".join(tex.split())).split())


def _as_text(found: re.Match[str]) -> str:
    accent = found["accent"] or found["accent1"]
    if accent:
        letter = (found["on"] or found["on1"]).removeprefix("\\")
        return unicodedata.normalize("NFC", letter + _ACCENTS[accent])
    if found["symbol"]:
        return _SYMBOLS.get(found["symbol"], "")
    if found["dash"]:
        return "–" if len(found["dash"]) == 2 else "—"
    return found["escaped"] or (" " if found["tie"] or found["space"] else "")


def name_of(tex: str) -> str:
    """A DOI, URL or other name in TeX as it is meant: escapes and braces dropped, nothing else altered."""
    tex = " ".join(tex.split())
    inner = _WRAPPED.fullmatch(tex) or _LINKED.fullmatch(tex)
    return " ".join(_TEX_IN_NAMES.sub(_as_name, inner[1] if inner else tex).split())


def _as_name(found: re.Match[str]) -> str:
    if found["symbol"]:
        return _SYMBOLS.get(found["symbol"], "")
    if found["math"]:
        return found["math"] if found["math"] in "<>_" else "~"
    return found["escaped"] or ""


_TO_TEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\textbraceleft{}",
        "}": r"\textbraceright{}", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)  # fmt: skip


def as_tex(text: str) -> str:
    """Text for a braced field, so that ``text_of`` gives it back; white space becomes single spaces."""
    return " ".join(text.split()).translate(_TO_TEX).replace("--", "-{}-").replace("--", "-{}-")
