# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""Damage to files of lines: lists, tables, bibliographies, headers, robots.txt."""

from __future__ import annotations

import random

from . import odd

LINES_MAX = 400
"""Lines of a body that are looked at; the rest stays as it is."""
_PIECES = (
    b"@article{", b"@string{a = ", b"@comment{", b"}", b"{{{{", b'"', b'""', b" = {", b" # ", b"doi = ", b"TY  - JOUR",
    b"ER  - ", b"DO  - ", b"TI  - ", b"doi,title", b"pmid", b"10.1000/x", b"PMC12", b"pmid:7", b"arXiv:2101.00001",
    b"https://", b"User-agent: *", b"Disallow: /", b"Allow: *$", b"Crawl-delay: 1e400", b"Disallow: " + b"*a" * 40,
    b"Sitemap:", b"# ", b"\\'", b"\\url{", b"$", b"; path=/; domain=.", b"; max-age=-99999999999999", b"; expires=",
    b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 99 Jan 99999 99:99:99 +9999", b"bytes 5-9/10", b"bytes */*", b"W/\"x\"",
    b"library: ", b"- ", b"? ", b"&a [*a]", b"!!python/object:os.system x", b"<<: *a", b"|", b"%YAML 9.9", b"1:60:60",
)  # fmt: skip


def _placed(lines: list[bytes], chance: random.Random) -> int:
    return chance.randrange(min(len(lines), LINES_MAX))


def stirred(raw: bytes, chance: random.Random) -> bytes:
    """A body after one change to its lines."""
    lines = raw.split(b"\n", LINES_MAX)
    at, kind = _placed(lines, chance), chance.randrange(9)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines[at:at] = [lines[at]] * chance.choice((1, 3, 300))
    elif kind == 2:
        lines[at], other = lines[_placed(lines, chance)], lines[at]
        lines[_placed(lines, chance)] = other
    elif kind == 3:
        lines[at] += lines.pop(_placed(lines, chance)) if len(lines) > at + 1 else b""
    elif kind == 4:
        lines[at] = lines[at].rstrip() + chance.choice(
            (b"\r", b" ", b"\x85", b"\xe2\x80\xa8", b"\x1c", b"\\", b"\x00")
        )
    elif kind == 5:
        lines[at] = _within(lines[at], chance.choice(odd.RUNS) * chance.choice(odd.RUN_TIMES), chance)
    elif kind == 6:
        lines[at] = _within(lines[at], chance.choice(odd.URLS).encode("utf-8", "replace"), chance)
    else:
        lines[at] = _within(lines[at], chance.choice(_PIECES), chance)
    return b"\n".join(lines)


def _within(line: bytes, piece: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(line))
    return line[:start] + piece + line[chance.choice((start, len(line))) :]
