# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""Damage to HTML and XML: tags that never close, deep nests, odd bases and URLs, entities, charsets."""

from __future__ import annotations

import random
import re

from . import odd

NESTED = (50, 2_000, 10_000)
MANY = (10, 300, 5_000)
_ATTRIBUTE = re.compile(rb"""(?:href|src|content|data-href|action|value)\s*=\s*["']([^"'<>]{0,400})["']""")
_TAG = re.compile(rb"<[^<>]{1,400}>")
_NAMES = (b"div", b"a", b"table", b"tr", b"p", b"b", b"font", b"li", b"select", b"svg", b"math", b"template", b"form",
          b"iframe", b"frameset", b"noscript", b"style", b"title", b"script", b"textarea", b"x:y", b"\xc3\xa9",
          b"head", b"body", b"html", b"meta", b"base")  # fmt: skip
_METAS = (b"citation_pdf_url", b"citation_title", b"citation_doi", b"citation_pmid", b"citation_arxiv_id", b"og:url",
          b"bepress_citation_pdf_url", b"eprints.document_url", b"wkhealth_pdf_url", b"dc.identifier")  # fmt: skip
_PIECES = (
    b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]>&b;",
    b"<?xml version='1.0' encoding='utf-16'?>", b"&#0;", b"&#xD800;", b"&#99999999999;", b"&amp", b"&", b"</html>",
    b"</head>", b"<body>", b"</a>", b"<a>", b"<script>", b"</script>", b"<script>window.location='/x';</script>",
    b"<plaintext>", b"<meta charset=utf-7>", b"<meta charset=zip>", b"<meta charset=idna>", b"<frame src=/f>",
    b"<script type='application/ld+json'>{\"encoding\":[{\"contentUrl\":\"/x.pdf\"}]}</script>",
    b"<iframe src='/v?file=/x.pdf'></iframe>", b"<input name=redirectURL value='%68%74%74%70'>",
    b"<embed type=application/pdf src=/e.pdf>", b"<a class='obj_galley_link pdf' href='/g/1/2'>PDF</a>",
    b"<section id=references>", b"<div class='supplementary-material'>", b"<base>", b"<base href>",
)  # fmt: skip


def _url(chance: random.Random) -> bytes:
    return chance.choice(odd.URLS).encode("utf-8", "surrogatepass")


def _piece(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(_PIECES)
    if kind < 0.55:
        return b'<a href="%s">PDF</a>' % _url(chance)
    if kind < 0.65:
        return b'<base href="%s">' % _url(chance)
    if kind < 0.85:
        return b'<meta name="%s" content="%s">' % (chance.choice(_METAS), _url(chance))
    return _refresh(chance)


def _refresh(chance: random.Random) -> bytes:
    blank = chance.choice((b"", b" ", b" " * 3000, b"\t" * 900))
    said = chance.choice(
        (b"0;url=/x", b'0;%s"x"y' % blank, b"%s0;%s url=%s'" % (blank, blank, blank), b"9;" * 1000)
    )
    return b"<meta http-equiv=refresh content='%s'>" % said


def _nested(chance: random.Random) -> bytes:
    name, times = chance.choice(_NAMES), chance.choice(NESTED)
    return b"<%s class=pdf>" % name * times + chance.choice((b"", b"</%s>" % name * times))


def _many(chance: random.Random) -> bytes:
    return b'<a href="/p/%d.pdf">PDF</a>' % chance.randrange(9) * chance.choice(MANY)


def _attributes(chance: random.Random) -> bytes:
    huge = b"a" * chance.choice((500, 20_000, odd.LONG_CHARS))
    named = b" ".join(b"a%d=%d" % (at, at) for at in range(chance.choice((5, 1000))))
    return chance.choice((b"<a href='/%s.pdf'>PDF</a>" % huge, b"<p class='%s'>" % huge, b"<a %s>" % named))


def _at(raw: bytes, chance: random.Random) -> int:
    """A place between two tags, as far as can be told."""
    return raw.find(b"<", chance.randint(0, len(raw))) % (len(raw) + 1)


def _replaced(raw: bytes, pattern: re.Pattern[bytes], group: int, by: bytes, chance: random.Random) -> bytes:
    found = pattern.search(raw, chance.randint(0, len(raw))) or pattern.search(raw)
    return raw[: found.start(group)] + by + raw[found.end(group) :] if found else raw + by


def stirred(raw: bytes, chance: random.Random) -> bytes:
    """A page after one change to its markup."""
    kind = chance.random()
    if kind < 0.3:
        return _replaced(raw, _ATTRIBUTE, 1, _url(chance), chance)
    if kind < 0.5:
        return _replaced(raw, _TAG, 0, chance.choice((b"", _piece(chance))), chance)
    at = _at(raw, chance)
    make = _piece if kind < 0.94 else chance.choice((_nested, _many, _attributes))
    return raw[:at] + make(chance) + raw[at:]
