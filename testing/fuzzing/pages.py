# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""Pages as targets: the landing scraper, and the classifier of walls."""

from __future__ import annotations

from typing import Any

import msgspec

from ...actors.web.page_repairs import decoded, joined, repaired, rewritten, same_article, unwrapped, web_url
from ...actors.web.walls import BLOCKED, wall_reason
from ...events.work import Work
from ..web.publishers import OPEN_PLATFORMS, Landing, landing_pages
from ..web.walls import WALLS, wall_page
from .message import packed
from .services import answered, asked, settings
from .target import Seen, Target, check, check_url, message_of

_URL = "https://journal.example/article/view/7"
_DOI = "10.1000/x"
_PAGES_GLOB = ("landing/pages/*", "landing/unlabelled/*", "landing/blocked/*")
_AGAIN_BYTES = 20_000
"""Of a page that is read again as the one that it leads to."""
_HTML = "text/html; charset=utf-8"


def _landing(raw: bytes) -> Seen:
    """The page at hand, and its beginning again wherever it leads."""
    message = message_of(raw)
    lookup = asked(Work(doi=_DOI), pages=(message.answer(),))
    here = {"://": message._replace(url=_URL, body=message.body[:_AGAIN_BYTES])}
    return answered("landing_scrape_pdf", lookup, here,
                    candidates_max=settings().sources.landing_scrape_pdf.candidates_max)  # fmt: skip


def _custom(raw: bytes) -> Seen:
    """The page under the selector of a source that a user made."""
    message = message_of(raw)
    return answered("custom:page", asked(Work(doi=_DOI)), {"resolver.example": message})


def _wall(raw: bytes) -> Seen:
    message = message_of(raw)
    answer = msgspec.structs.replace(message.answer(), hops=(message.url[::-1],))
    reason = wall_reason(answer)
    check(reason in (*BLOCKED, "not_a_pdf"), f"{reason!r} is a wall's reason")
    return Seen(reason, reason)


def _hrefs(raw: bytes) -> Seen:
    """The first line is the base, the second the link, the rest a page to be decoded."""
    base, href, *_ = [*raw.decode("utf-8", "replace").split("\n", 2), "", ""]
    url = joined(base, href)
    for text in (url, web_url(href)):
        if text:
            check(web_url(text) == text, f"a cleaned URL stays as it is: {text[:120]!r}")
            check_url(text)
    said: list[Any] = [url, decoded(raw, href)[:4096]]
    if url:
        said += [repaired(url), rewritten(url), unwrapped(url), same_article(url, base)]
        for changed in (*(found[0] for found in said[2:4] if found), unwrapped(url)):
            check_url(changed)
    return Seen("url" if url else "none", said)


def _made_pages() -> list[bytes]:
    landing = Landing(
        url=_URL, pdf_url="https://journal.example/files/7.pdf", title="On the finding of papers", doi=_DOI
    )
    in_pieces = msgspec.structs.replace(
        landing,
        pdf_url="https://www.sciencedirect.com/science/article/pii/S0000000000000001/pdfft?md5=0&pid=1-s2.0-S0000000000000001-main.pdf",
    )
    made = [
        reply.body
        for platform in OPEN_PLATFORMS
        for _, reply in landing_pages(platform, in_pieces if platform == "sciencedirect" else landing)
    ]
    kinds = [packed(body, url=_URL, content_type=_HTML) for body in made if isinstance(body, bytes) and body]
    further = [
        packed(b"", url=_URL, content_type=_HTML),
        packed(b"%PDF-1.4\n", url=_URL, content_type="application/pdf"),
        packed(b"\x89PNG\r\n\x1a\n", url=_URL, content_type="image/png"),
        packed(b"<html><p>" + b"An article of some length. " * 80, url=_URL, content_type=_HTML),
        packed(b"gone", url=_URL, status=404, content_type=_HTML),
    ]
    return [*kinds, *further, *_made_walls()]


def _made_walls() -> list[bytes]:
    return [packed(wall_page(name, _URL).encode(), url=_URL, content_type=_HTML) for name in WALLS]


def _made_hrefs() -> list[bytes]:
    pairs = (("https://j.example/a/b?c", "../x.pdf"), ("https://j.example/", "//h.example/x?y=ü"), ("", "#top"),
             ("https://onlinelibrary.wiley.com/doi/abs/10.1002/x", "/doi/pdf/10.1002/x"),
             ("https://www.mdpi.com/1/2/3", "https://www.biorxiv.org/content/10.1101/1v1"),
             ("https://j.example/a", "/viewer?file=https%3A%2F%2Fh.example%2Fx.pdf&a=1"),
             ("https://arxiv.org/abs/2101.00001v1", "https://arxiv.org/pdf/2101.00002"),
             ("https://drops.dagstuhl.de/x", "https://drops.dagstuhl.de/y.pdf/"))  # fmt: skip
    return [f"{base}\n{href}\n<meta charset=utf-8>".encode() for base, href in pairs]


TARGETS: tuple[Target, ...] = (
    Target("landing", _landing, _made_pages,
           frozenset({"found", "empty_page", "not_html", "no_pdf_link", "paywall", "blocked_challenge",
                      "blocked_captcha", "blocked_login", "soft_404", "http_404"}),
           kind="markup", framed=True, recorded=_PAGES_GLOB),
    Target("custom_page", _custom, _made_pages,
           frozenset({"found", "empty_page", "no_pdf_link", "blocked_challenge", "blocked_captcha", "http_404"}),
           kind="markup", framed=True, recorded=_PAGES_GLOB),
    Target("walls", _wall, _made_walls,
           frozenset({"not_a_pdf", "blocked_challenge", "blocked_captcha", "blocked_cookie", "blocked_login"}),
           kind="markup", framed=True, recorded=_PAGES_GLOB),
    Target("links", _hrefs, _made_hrefs, frozenset({"url", "none"}), kind="lines"),
)  # fmt: skip
