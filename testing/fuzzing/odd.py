# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""What parsers stumble over: odd values, odd URLs, odd bytes. Made up, or known from the wild."""

from __future__ import annotations

from typing import Any

NEST = "\x01nest\x01"
"""Stands for a deep nest of lists once a tree is written out."""
HUGE = "\x01huge\x01"
"""Stands for a number of thousands of digits."""
NEST_DEPTHS = (20, 600, 20_000)
HUGE_DIGITS = (25, 400, 4_400)
LONG_CHARS = 200_000
"""A text longer than any field should be."""

URLS = (
    "http://[", "https://h:99999/x.pdf", "https://user:pass@h.example/x.pdf", "s3://bucket/../x", "//h.example/x",
    "javascript:alert(1)//.pdf", "data:application/pdf;base64,AAAA", "file:///etc/passwd", "https:///x.pdf",
    "https://127.0.0.1/x.pdf", "http://0x7f.1/x.pdf", "http://[::1]:80/x.pdf", "http://[fe80::1%25eth0]/x",
    "http://xn--/x", "http://xn--a/x", "https://é.example/ü?q=ä#f", "http://a。b．example/x", "http://.../x",
    "https://h.example/%zz/%00/..%2f..", "https://h.example/a b\tc\nd", "https://h.example/\u202ex.pdf",
    "https://h.example:/x", "https://h.example:-1/x", "https://h.example\\@evil.example/x", "HTTPS://H.EXAMPLE./x",
    "https://h.example/" + "a/" * 3000, "https://" + "a." * 300 + "example/x", "https://h.example/?" + "a&" * 3000,
    "http://ａｂｃ.example/x", "http://\ud800.example/x", "mailto:a@b.example", "#", "?", "", " ", "http:",
    "https://doi.org/10.1000/" + "x" * 700, "http://1.2.3.4.5/x", "http://h.example/a?file=https%3A%2F%2F[",
    "http://﹒/x", "http://℀.example/", "https://h.example/x?url=" + "%25" * 500,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**19, -(2**63), 1e308, float("nan"), float("inf"), "", " ", "\x00", "\ud800",
    "\udfff\ud800", "x" * 9000, "0" * 30, "9" * 25, "1e999", "null", "\u202e", "\ufeff", "é" * 600, [], {}, [[]],
    [None], [{"url": 7}], {"": ""}, {"$ref": "#"}, ["x"] * 5000, NEST, HUGE, "10.1000/x", "10.1000/" + "é" * 500,
    "10.1000/\u2028x", "PMC" + "9" * 30, "PMC٣٤", "²", "１２", "arXiv:2101.00001v9999999999", *URLS,
)  # fmt: skip
"""For a place in a tree of JSON, YAML or msgpack."""
TOKENS = (
    b"\x00", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r", b"\n",
    b"\r\n", b"\x0b\x0c\x1c\x1d\x1e\x85", b"\xe2\x80\xa8", b"\"", b"'", b"<", b">", b"&", b"{", b"}", b"[", b"]", b"(",
    b"\\", b"\\u0000", b"\\ud800", b"%", b"%00", b"%ff", b"%PDF-1.4", b"%%EOF", b"startxref\n9\n", b"-1", b"0x",
    b"99999999999999999999", b"1e999", b"NaN", b":", b";", b",", b"=", b"#", b"@", b"\x1f\x8b\x08\x00", b"PK\x03\x04",
    b"<html>", b"<!--", b"<![CDATA[", b"]]>", b"\xa0", "\u0130".encode(), "\u212a".encode(), "ﬁ".encode(),
    *(url[:200].encode("utf-8", "surrogatepass") for url in URLS),
)  # fmt: skip
"""For a place among bytes."""
RUNS = (b" ", b"\t", b"\n", b"\"", b"'", b"<", b">", b"&", b"/", b".", b"-", b"=", b"0", b"a", b"%", b"{", b"(", b"\\",
        b";", b",", b"@", b"../", b"a@", b"a.", b"\" ", b"</", b"<!", b"[[", b"%25", b"\x91", b"\x81\xa1a")  # fmt: skip
"""What is written many times over: the food of regular expressions that try every way."""
RUN_TIMES = (3, 30, 300, 3_000, 20_000)
