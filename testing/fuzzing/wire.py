# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""What comes off the wire as targets: robots.txt, cookies, dates, ranges, encodings, addresses, secrets."""

from __future__ import annotations

import gzip
import zlib

import httpx

from ...actors.sources.finding import explained
from ...actors.web import robots
from ...actors.web.call import Arrival, location, retry_after_s
from ...actors.web.cookies import COOKIES_MAX, Cookies, http_date_s
from ...actors.web.encoding import (
    PIECE_BYTES_MAX,
    RATIO_FLOOR_BYTES,
    InflateError,
    Inflater,
    looks_like_html,
    looks_like_text,
    shows_pdf,
)
from ...actors.web.exchange import Request
from ...actors.web.guard import BadUrl, joined, literal_address, place, without_tracking
from ...actors.web.ranges import BadRange, is_strong, range_headers, span_of, strong_validator
from ...actors.web.redaction import redact_text, redact_url
from ...events.keys import canonical_host, canonical_url
from .message import packed
from .target import GUARD, Seen, Target, check, message_of

WALL_NS = 1_700_000_000_000_000_000
"""The moment at which everything here happens: late in 2023."""
RATIO_MAX = 200
_OUT_BYTES_MAX = 64 << 20
"""What a body of a megabyte may inflate to, and more: beyond, a bomb went off."""


def _robots(raw: bytes) -> Seen:
    message = message_of(raw)
    rules = robots.from_status(message.status, message.body)
    check(0 <= rules.crawl_delay_s <= robots.CRAWL_DELAY_MAX_S, "a delay is bounded")
    check(not rules.reason or explained(rules.reason), f"{rules.reason!r} is in the table")
    said = [rules.allows(url) for url in ("https://journal.example/", message.url, message.url + "?q=ü%zz$*")]
    return Seen(rules.access, (said, rules.crawl_delay_s))


def _cookies(raw: bytes) -> Seen:
    """The first line is the host; each further line is a ``Set-Cookie``."""
    first, *lines = raw.decode("latin-1").split("\n")
    host = canonical_host(first.strip()[:200]) or "journal.example"
    cookies = Cookies()
    cookies.take(host, lines, wall_ns=WALL_NS)
    taken = cookies.taken()
    check(len(taken) <= COOKIES_MAX, "cookies are bounded")
    for domain, name, value in taken:
        bare = domain.lstrip(".")
        check(
            host == bare or (domain.startswith(".") and host.endswith(domain)),
            f"a cookie is its host's: {domain!r}",
        )
        check(
            not any(ord(char) < 32 or char in ";\x7f" for char in name + value), "a cookie breaks no header"
        )
    header = cookies.header(host)
    header.encode("latin-1")
    check(Cookies(taken).taken() == taken, "cookies handed on stay as they are")
    return Seen("kept" if taken else "none", taken)


def _times(raw: bytes) -> Seen:
    text = raw.decode("latin-1")[:20_000]
    wait_s = retry_after_s(text, wall_ns=WALL_NS, max_s=900.0)
    check(0 <= wait_s <= 900, "a wait is bounded")
    date_s = http_date_s(text)
    check(date_s is None or abs(date_s) < 1e12, "a date is one of this calendar")
    return Seen("wait" if wait_s else "date" if date_s is not None else "none", (wait_s, date_s))


def _ranges(raw: bytes) -> Seen:
    """The headers of a 206, for a request that holds ten bytes behind the validator that they name."""
    message = message_of(raw)
    response = httpx.Response(206, headers=_sendable(message.headers))
    headers = dict(response.headers.items())
    validator = strong_validator(headers)
    check(not validator or is_strong(validator), "what is kept as a validator is strong")
    request = Request(url=message.url, role="artifact", range_start=10, if_range=validator)
    for name, value in range_headers(request).items():
        check(value.isascii() and value.isprintable(), f"{name} can be sent")
    arrival = Arrival(place(message.url), response, (), Cookies(), False)
    length = arrival.length
    check(length is None or 0 <= length < 10**18, "a length is a number of bytes")
    location(response)
    try:
        span = span_of(request, response, length=length)
    except BadRange:
        return Seen("bad_range", validator)
    check(
        span.start == (10 if validator else 0) and span.start < span.total,
        "a believed part begins where we stand",
    )
    return Seen("rest" if span.start else "whole", (validator, span.total))


def _sendable(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    pairs = (
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers
    )
    return [(name, value) for name, value in pairs if name]


def _inflate(raw: bytes) -> Seen:
    """A body under its Content-Encoding, fed in pieces of uneven size."""
    message = message_of(raw)
    coding = next((value for name, value in message.headers if name.lower() == "content-encoding"), "")
    size, total, digest = 1 + len(message.body) % 5_000, 0, 0
    try:
        inflater = Inflater(coding, ratio_max=RATIO_MAX)
        for at in range(0, len(message.body), size):
            for piece in inflater.feed(message.body[at : at + size]):
                check(len(piece) <= max(PIECE_BYTES_MAX, size), "a piece is bounded")
                total, digest = total + len(piece), zlib.crc32(piece, digest)
        inflater.finish()
    except InflateError as error:
        check(explained(error.reason), f"{error.reason!r} is in the table")
        return Seen(error.reason, total)
    check(
        total <= max(RATIO_FLOOR_BYTES, RATIO_MAX * len(message.body)) and total <= _OUT_BYTES_MAX,
        "no bomb goes off",
    )
    return Seen("inflated" if inflater.is_coded else "plain", (total, digest))


def _sniff(raw: bytes) -> Seen:
    pdf, html, text = shows_pdf(raw), looks_like_html(raw), looks_like_text(raw)
    check(pdf == (b"%PDF-" in raw[:1024]), "a PDF shows itself in its first kilobyte")
    check(text or not raw or any(byte < 32 for byte in raw[:1024]), "text is known")
    return Seen("pdf" if pdf else "html" if html else "text" if text else "nothing", (pdf, html, text))


def _urls(raw: bytes) -> Seen:
    """A URL from anywhere: taken apart, judged, brought to its identity; or refused with a reason."""
    text = raw.decode("utf-8", "surrogatepass" if raw.isascii() else "replace")
    try:
        canonical = canonical_url(text)
        check(canonical_url(canonical) == canonical, f"a canonical URL stays as it is: {canonical[:120]!r}")
    except ValueError:
        canonical = ""
    try:
        asked = without_tracking(place(text))
        GUARD.check(asked)
    except BadUrl as refused:
        check(explained(refused.reason), f"{refused.reason!r} is in the table")
        return Seen(refused.reason, canonical)
    check(place(asked.url) == asked, f"a URL that was sent leads to the same place: {asked.url[:120]!r}")
    check(all("!" <= char <= "~" for char in asked.url), "a URL that is sent is plain")
    check("\\" not in asked.host and "@" not in asked.site, "a host is a host")
    literal_address(asked.host)
    return Seen("asked", (canonical, asked))


def _redirect(raw: bytes) -> Seen:
    try:
        target = joined(place("https://journal.example/a/b?c"), raw)
        GUARD.check(target)
    except BadUrl as refused:
        check(explained(refused.reason), f"{refused.reason!r} is in the table")
        return Seen(refused.reason, str(refused))
    check(place(target.url) == target, f"a redirect's target leads to the same place: {target.url[:120]!r}")
    return Seen("followed", target)


SECRET = "s3cr3tS3CR3T"
ADDRESS = "reader.one@library.example"
_HIDING_PLACES = (
    "https://h.example/x?api_key={}", "https://h.example/x?a=1&X-Amz-Signature={}&b=2", "https://me:{}@h.example/x",
    "https://h.example/x;jsessionid={}?q", "https://h.example/x?access_token={}#y", "https://h.example/x#{}",
)  # fmt: skip


def _redaction(raw: bytes) -> Seen:
    """Noise around known secrets: whatever stands beside them, none of them comes out."""
    noise = raw.decode("utf-8", "replace")[:5_000]
    plain = "".join(char for char in noise if char.isalnum())[:20]
    for hidden in _HIDING_PLACES:
        url = hidden.format(SECRET)
        for text in (
            redact_url(url),
            redact_text(f"{noise} {url} {noise}"),
            redact_text(f"GET {url}\n{noise}"),
        ):
            check(SECRET not in text, f"a secret is kept: {hidden}")
    for text in (
        redact_text(f"{noise} {ADDRESS} {noise}"),
        redact_url(f"https://h.example/{plain}?q={ADDRESS}&r={plain}"),
    ):
        check(ADDRESS not in text, "an address is kept")
    once = redact_url(noise)
    check(redact_url(once) == once, "what is redacted stays as it is")
    redact_text(noise)
    return Seen("changed" if once != noise else "same", once)


def _made_robots() -> list[bytes]:
    files = (b"User-agent: *\nDisallow: /\n", b"User-agent: quire\nAllow: /article\nCrawl-delay: 2.5\n\nUser-agent: *\nDisallow: /*.pdf$\n",
             b"", b"<html><title>Not found</title>", b"User-agent: *\nCrawl-delay: 99999999\n", b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /a\rAllow: /a/b\n")  # fmt: skip
    return [*map(packed, files), packed(b"", status=404), packed(b"", status=503)]


def _made_ranges() -> list[bytes]:
    def of(**headers: str) -> bytes:
        return packed(b"", status=206, **headers)

    dates = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT", "Last_Modified": "Mon, 13 Nov 2023 22:13:20 GMT"}
    return [
        of(ETag='"abc"', Content_Range="bytes 10-99/100", Content_Length="90"), of(Content_Range="bytes 0-99/100"),
        of(ETag='W/"abc"', Content_Range="bytes 10-99/100"), of(**dates, Content_Range="bytes 10-99/100"),
        of(ETag='"a"', Content_Range="bytes 10-99/*"), of(Content_Encoding="gzip"), of(Location="/x", **dates),
    ]  # fmt: skip


def _made_encoded() -> list[bytes]:
    text = b"<html><p>An article of some length. " * 60
    zeros = bytes(4 << 20)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    made = [("gzip", gzip.compress(text)), ("deflate", zlib.compress(text)), ("deflate", raw.compress(text) + raw.flush()),
            ("gzip, deflate", zlib.compress(gzip.compress(text))), ("gzip", gzip.compress(text) + gzip.compress(b"more")),
            ("gzip", gzip.compress(zeros)), ("gzip, gzip", gzip.compress(gzip.compress(zeros))), ("gzip", text),
            ("br", b"\x0b\x02\x80abc\x03"), ("zstd", b"(\xb5/\xfd\x04\x00"), ("utf-8", text), ("", text),
            ("gzip", gzip.compress(text)[:-9]), ("gzip", gzip.compress(text)[:40] + b"damaged" * 9),
            ("gzip, gzip, gzip", text)]  # fmt: skip
    return [packed(body, Content_Encoding=coding) if coding else packed(body) for coding, body in made]


_COOKIES = [b"journal.example\nsid=abc; Path=/; HttpOnly\nold=1; Max-Age=0\nx=y; Domain=.journal.example",
            b"a.b.journal.example\ns=1; domain=journal.example; expires=Thu, 01 Jan 1970 00:00:00 GMT\n"
            b"t=2; domain=example\nu=3; domain=evil.example", b"journal.example\n=;\n;;;\nnonsense"]  # fmt: skip
_TIMES = [b"120", b"Tue, 14 Nov 2023 22:14:20 GMT", b"Tuesday, 14-Nov-23 22:14:20 GMT", b"Tue Nov 14 22:14:20 2023",
          b"1.5", b"-1", b"nan", b"soon", b"Mon, 01 Jan 1900 00:00:00 +0100", b"Tue, 14 Nov 2023 22:13:10 GMT"]  # fmt: skip
_URLS = [b"https://journal.example/a/../b?utm_source=x&q=%2F#f", b"http://127.0.0.1/x", "https://é.example/ü?q=ä".encode(),
         b"ftp://h.example/x", b"https://u:p@h.example/", b"http://[2001:db8::1]:8080/x", b"//h.example/x", b"https://h/x",
         b"HTTPS://WWW.Journal.Example:443/A", b"http://0x7f.1/"]  # fmt: skip
_LOCATIONS = [b"/x?y=%2f", b"//other.example/x", b"https://other.example/x#y", "/é".encode("latin-1"), b"", b"\x00",
              b"http://169.254.169.254/latest", b"javascript:alert(1)", b"?q"]  # fmt: skip
_NOISE = [b"GET https://h.example/x?email=a@b.example failed: Bearer abcdefghijkl", b"https://u:p@h.example/a;sid=1?q#f",
          b"plain words", b"?token=x&eyJhbGciOiJI.eyJzdWIiOiIx.abc", b"https://h.example/a%40b.example"]  # fmt: skip
_STARTS = [b"%PDF-1.4\n%\xe2\xe3", b"\n<!DOCTYPE html><title>x", b"<?xml version='1.0'?><html>", b"Plain words.", b"", b"\x89PNG\0\x01",
           b"\xef\xbb\xbf<html>", b" " * 1020 + b"%PDF-"]  # fmt: skip

TARGETS: tuple[Target, ...] = (
    Target("robots", _robots, _made_robots, frozenset({"rules", "all", "none"}), kind="lines", framed=True),
    Target("cookies", _cookies, lambda: _COOKIES, frozenset({"kept", "none"}), kind="lines"),
    Target("times", _times, lambda: _TIMES, frozenset({"wait", "date", "none"}), kind="lines"),
    Target("ranges", _ranges, _made_ranges, frozenset({"rest", "whole", "bad_range"}), framed=True),
    Target("inflate", _inflate, _made_encoded,
           frozenset({"inflated", "plain", "bad_encoding", "short_body", "inflates_too_far"}), framed=True),
    Target("sniff", _sniff, lambda: _STARTS, frozenset({"pdf", "html", "text", "nothing"}), kind="markup"),
    Target("urls", _urls, lambda: _URLS, frozenset({"asked", "bad_url", "address_refused"}), kind="lines"),
    Target("redirect", _redirect, lambda: _LOCATIONS,
           frozenset({"followed", "bad_redirect", "address_refused"}), kind="lines"),
    Target("redaction", _redaction, lambda: _NOISE, frozenset({"changed", "same"}), kind="lines"),
)  # fmt: skip
