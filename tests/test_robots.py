"""robots.txt of every real shape is read as RFC 9309 says, and remembered for its time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.actors.web.robots import ROBOTS_BYTES_MAX, RobotsCache, from_status, parse

RULES = "User-agent: *\nDisallow: /private\nAllow: /private/open\nCrawl-delay: 5\n"


@pytest.mark.parametrize(
    "body",
    [
        RULES.encode(),
        RULES.replace("\n", "\r\n").encode(),
        RULES.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + RULES.encode(),
        b"\xff\xfe" + RULES.encode("utf-16-le"),
        b"\xfe\xff" + RULES.encode("utf-16-be"),
        RULES.upper().replace("/PRIVATE/OPEN", "/private/open").replace("/PRIVATE", "/private").encode(),
        ("# caf\xe9\n" + RULES).encode("latin-1"),
        b"Sitemap: https://h.example/s.xml\n\n" + RULES.encode() + b"\0\0",
        b"<html>oops</html>\n" + RULES.encode(),
        b"User-agent: Googlebot\nDisallow: /\n\n" + RULES.encode(),
    ],
)
def test_shapes_met_in_the_wild_mean_the_same(body):
    """Line ends, marks, encodings, case, junk: the rules are found."""
    rules = parse(body)
    assert not rules.allows("https://h.example/private/x")
    assert rules.allows("https://h.example/private/open/x")
    assert rules.allows("https://h.example/public?x=/private")
    assert rules.crawl_delay_s == 5


def test_a_group_for_quire_stands_above_the_rest():
    """The most telling group is obeyed alone."""
    rules = parse(b"User-agent: *\nDisallow: /\n\nUser-agent: quire\nDisallow: /no$\nDisallow: /*.php\n")
    assert rules.allows("https://h.example/paper")
    assert not rules.allows("https://h.example/no")
    assert rules.allows("https://h.example/nothing")
    assert not rules.allows("https://h.example/a/b.php?x=1")


@pytest.mark.parametrize(
    "body", [b"", b"<!DOCTYPE html><html><body>404</body></html>", b'{"error": 404}', b"\0" * 99]
)
def test_what_is_no_robots_file_forbids_nothing(body):
    """A soft 404 in its place is no rule."""
    assert parse(body).allows("https://h.example/x")


def test_only_the_first_512_kib_count():
    """What comes after is not read, and a line that is cut there is no rule."""
    filler = b"# filler\n" * (ROBOTS_BYTES_MAX // 9)
    head = b"User-agent: *\nDisallow: /a\n"
    rules = parse(head + filler + b"Disallow: /late\n")
    assert not rules.allows("https://h.example/a")
    assert rules.allows("https://h.example/late")
    exact = head + b"#" * (ROBOTS_BYTES_MAX - len(head) - len(b"\nDisallow: /")) + b"\nDisallow: /abc\n"
    assert parse(exact).allows("https://h.example/x")


@pytest.mark.parametrize("delay", ["nan", "inf", "-1", "0", "x", "1e999"])
def test_a_senseless_crawl_delay_is_none(delay):
    """And a huge one is bounded."""
    assert parse(f"User-agent: *\nCrawl-delay: {delay}\n".encode()).crawl_delay_s == 0
    assert math.isclose(parse(b"User-agent: *\nCrawl-delay: 99999999\n").crawl_delay_s, 3600)


@pytest.mark.parametrize(
    ("status", "allowed"), [(200, True), (404, True), (401, True), (500, False), (503, False)]
)
def test_statuses(status, allowed):
    """4xx: everything is allowed; 5xx: nothing."""
    assert from_status(status, b"").allows("https://h.example/x") is allowed


def test_rules_are_kept_for_their_time():
    """A day, by a clock that does not jump; also a no."""
    now_s = 0
    cache = RobotsCache(ttl_s=86_400, now_ns=lambda: now_s * 10**9)
    cache.put("https://h.example", from_status(503, b""))
    now_s = 86_399
    kept = cache.get("https://h.example")
    assert kept is not None
    assert kept.access == "none"
    now_s = 86_400
    assert cache.get("https://h.example") is None


def test_the_cache_is_bounded():
    """The origins not used for longest go."""
    cache = RobotsCache(ttl_s=10, now_ns=lambda: 0)
    for number in range(5000):
        cache.put(f"https://h{number}.example", from_status(404, b""))
        cache.get("https://h0.example")
    assert cache.get("https://h0.example") is not None
    assert cache.get("https://h1.example") is None


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(body):
    """Any file is rules."""
    rules = parse(b"User-agent: *\n" + body)
    rules.allows("https://h.example/x")
    assert 0 <= rules.crawl_delay_s <= 3600
