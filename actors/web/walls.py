"""Walls: pages that stand where a paper should be, told apart by what raised them.

A wall is never a PDF and never a reason for a retry storm. Strong signs are read before a page, and outweigh
whatever links it holds; weak ones count only where a page held nothing. A page with the head of an article
(``citation_…``) is no wall, whatever its scripts say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple
from urllib.parse import urlsplit

from .exchange import Answer

TINY_BYTES = 512
"""An HTML page below this holds nothing."""
SCRIPT_ONLY_BYTES = 5 * 1024
"""A page below this that asks for JavaScript holds nothing else."""
COOKIE_SCRIPT_BYTES = 3 * 1024
"""A script page below this that sets a cookie and reloads is a cookie wall."""
WALL_TEXT_CHARS = 2500
"""A wall has less visible text than this."""
SCANNED_BYTES = 400_000
"""The part of a page in which signs are looked for."""

BLOCKED = ("blocked_challenge", "blocked_cookie", "blocked_login", "blocked_captcha", "paywall", "soft_404")
"""The reasons that a wall can have."""
PAGE_KINDS = frozenset({"", "text/html", "application/xhtml+xml", "text/plain"})
"""Media types of what may be a page for a browser."""
HOST_WALLS = frozenset({"blocked_challenge", "blocked_captcha"})
"""Those that stand before a whole host, and not before one page."""


_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,300})", re.IGNORECASE)
_INVISIBLE = re.compile(r"<(script|style|svg|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,5000}>")
_ARTICLE = re.compile(
    r"<meta[^<>]{0,200}[\"'=](?:citation_(?:title|doi|pdf_url)|bepress_citation_title|dc\.title"
    r"|eprints\.title"
    r"|prism\.doi|wkhealth_title)"
)


class Sight:
    """What a wall is recognised by; each look is taken when it is first needed."""

    def __init__(self, answer: Answer, asked: str = "") -> None:
        self.url = answer.url
        self.asked = asked or (answer.hops[0] if answer.hops else answer.url)
        """The URL asked for, before redirects."""
        self.headers = answer.headers
        self.body = answer.body
        self.size = len(answer.body)
        """Of the body, in bytes."""

    def __repr__(self) -> str:
        return f"Sight({self.url!r}, {self.size} bytes)"

    @cached_property
    def raw(self) -> str:
        """The beginning of the page's source, lower case."""
        return self.body[:SCANNED_BYTES].decode("utf-8", "replace").lower()

    @cached_property
    def title(self) -> str:
        """The page's title, lower case, single spaces."""
        title = _TITLE.search(self.raw)
        return " ".join(title.group(1).split()) if title else ""

    @cached_property
    def text(self) -> str:
        """The visible text, single spaces; cut above ``WALL_TEXT_CHARS``."""
        return " ".join(_TAG.sub(" ", _INVISIBLE.sub(" ", self.raw)).split())[: WALL_TEXT_CHARS + 1]

    @cached_property
    def is_article(self) -> bool:
        """Whether the head is an article's."""
        return bool(_ARTICLE.search(self.raw))

    @cached_property
    def sells(self) -> bool:
        """Whether the page offers the article for money or to institutions; it may hold an open PDF still."""
        return any(offer in self.raw for offer in _OFFERS)


class Wall(NamedTuple):
    """One sign of a wall."""

    name: str
    reason: str
    shows: Callable[[Sight], bool]


def _titled(pattern: str) -> Callable[[Sight], bool]:
    found = re.compile(pattern)
    return lambda sight: bool(found.search(sight.title))


def _sourced(pattern: str) -> Callable[[Sight], bool]:
    """A sign in the source of a page that shows little."""
    found = re.compile(pattern)
    return lambda sight: len(sight.text) <= WALL_TEXT_CHARS and bool(found.search(sight.raw))


def _says(pattern: str, *, at_most: int = WALL_TEXT_CHARS) -> Callable[[Sight], bool]:
    found = re.compile(pattern)
    return lambda sight: len(sight.text) <= at_most and bool(found.search(sight.text))


def _located(pattern: str) -> Callable[[Sight], bool]:
    found = re.compile(pattern, re.IGNORECASE)
    return lambda sight: bool(found.search(sight.url))


def _marked(header: str, pattern: str) -> Callable[[Sight], bool]:
    found = re.compile(pattern, re.IGNORECASE)
    return lambda sight: bool(found.search(sight.headers.get(header, "")))


def _is_home(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return not parts.query and parts.path.strip("/").lower() in (
        "",
        "home",
        "index.html",
        "index.php",
        "en",
        "en-us",
    )


def _sent_home(sight: Sight) -> bool:
    return _is_home(sight.url) and not _is_home(sight.asked) and sight.asked != sight.url


def _sets_cookie_and_reloads(sight: Sight) -> bool:
    if sight.size > COOKIE_SCRIPT_BYTES or "document.cookie" not in sight.raw:
        return False
    return bool(re.search(r"location(?:\.(?:href|reload|replace|assign))?\s*[=(]|reload\(", sight.raw))


def _asks_for_password(sight: Sight) -> bool:
    return len(sight.text) <= WALL_TEXT_CHARS and bool(
        re.search(r"""<input[^<>]{0,300}type=["']?password""", sight.raw)
    )


STRONG: tuple[Wall, ...] = (
    Wall("cloudflare_header", "blocked_challenge", _marked("cf-mitigated", "challenge")),
    Wall("cloudflare_title", "blocked_challenge",
         _titled(r"^just a moment|^attention required! . cloudflare")),
    Wall("cloudflare", "blocked_challenge", _sourced(r"_cf_chl_|cf-chl|cf_chl_"
        r"|cf-browser-verification|challenges\.css")),
    Wall("captcha_title", "blocked_captcha", _titled(r"captcha|are you (?:a|not a) (?:robot|human)"
        r"|robot check")),
    Wall("radware", "blocked_captcha", _sourced(r"shieldsquare|validate\.perfdrive\.com"
        r"|radware (?:bot|captcha)")),
    Wall("captcha_widget", "blocked_captcha", _sourced(r"g-recaptcha[\"' ]|h-captcha[\"' ]"
        r"|px-captcha|recaptcha/challenge")),
    Wall("captcha_text", "blocked_captcha", _says(r"not a robot|are a human|unusual traffic"
        r"|complete the captcha|type the characters")),
    Wall("check_title", "blocked_challenge", _titled(
        r"checking your browser|pardon our interruption|security check|human verification|client challenge"
        r"|ddos-guard|ddos protection|one moment, please|verify(?:ing)? you are human"
        r"|bot (?:verification|detection)"
        r"|making sure you.re not a bot|^validate user$")),
    Wall("akamai", "blocked_challenge", _sourced(r"bm-verify|/_sec/cp_challenge"
        r"|sec-if-cpt-container|sec-bc-")),
    Wall("other_vendor", "blocked_challenge", _sourced(
        r"_incapsula_resource\?|incapsula incident|datadome\.co|captcha-delivery\.com"
        r"|awswafintegration|awswafcookiedomainlist"
        r"|sucuri_cloudproxy|ddos-guard/js-challenge|anubis_challenge|/\.within\.website/|__ddg\d?_")),
    Wall("check_text", "blocked_challenge", _says(
        r"checking your browser|verify you are human|browser is being checked|please wait while we verify"
        r"|enable javascript and cookies to continue|reference #[\da-f.]+ https?://errors\.edgesuite")),
    Wall("edge_denied", "blocked_challenge",
         lambda s: s.title == "access denied" and "reference #" in s.text),
    Wall("cookie_url", "blocked_cookie", _located(r"/cookieabsent|[?&]cookieset=1|/cookie_?(?:check"
        r"|error|required)|/nocookies?")),
    Wall("cookie_text", "blocked_cookie", _says(
        r"cookies (?:are )?(?:turned off|disabled)|cookies must be (?:enabled|turned on)|(?:enable"
        r"|accept|allow) (?:your )?(?:browser.s )?cookies"
        r"|requires? (?:the use of )?cookies|does not (?:accept|support) cookies"
        r"|set(?:ting)? (?:your browser )?to accept cookies", at_most=1500)),
    Wall("cookie_script", "blocked_cookie", _sets_cookie_and_reloads),
    Wall("login_url", "blocked_login", _located(
        r"[?&](?:samlrequest|samlresponse|relaystate)=|/saml2?/|/idp/profile|/shibboleth|/sso/"
        r"|[/.]sso\.|/ssostart|/wayf\b"
        r"|//(?:login|signin|sso|idp|auth|accounts|wayf|id\.elsevier)\.[^/]+/|openathens\.net"
        r"|/cas/login|/oauth2?/auth"
        r"|/(?:user/|account/)?(?:log-?in|sign-?in|logon)(?:[/.?]|$)|/action/showlogin"
        r"|/institutional-?login")),
    Wall("not_found_title", "soft_404", _titled(
        r"(?:page|file|doi|document|item|article|resource|content|record|object"
        r"|handle) (?:was )?not found|^not found|[|:\u2013-] ?not found$"
        r"|^404\b|\b404\b.{0,20}(?:error|not)|error 404|not a doi|page (?:does not|doesn.t) exist"
        r"|no longer available|page unavailable|item (?:was )?withdrawn|page introuvable"
        r"|nicht gefunden|no encontrada")),
    Wall("sent_home", "soft_404", _sent_home),
)  # fmt: skip
"""Signs that outweigh the links of a page, in the order in which they are asked."""

WEAK: tuple[Wall, ...] = (
    Wall("script_only", "blocked_challenge", lambda s: s.size <= SCRIPT_ONLY_BYTES and bool(
        re.search(r"(?:enable|turn on|activate|requires?|need) java-?script"
                  r"|javascript (?:is )?(?:disabled|required|must be)", s.raw))),
    Wall("password_form", "blocked_login", _asks_for_password),
    Wall("not_found_text", "soft_404", _says(
        r"(?:page|article|document|item|content|file|record)(?: you)?[^.]{0,60} (?:not found"
        r"|could ?n.t be found|could not be found|does not exist"
        r"|no longer (?:available|exists)|cannot be found|was not found)", at_most=1500)),
    Wall("tiny", "soft_404", lambda s: s.size < TINY_BYTES),
)  # fmt: skip
"""Signs that count only where a page held no link worth trying."""

_OFFERS = (
    "purchase pdf", "purchase access", "purchase article", "purchase this", "purchase instant", "buy article",
    "buy this article",
    "buy pdf", "buy chapter", "get access", "rent this article", "rent article", "pay-per-view",
    "access through your institution", "log in via an institution", "subscribe and save", "subscribe to read",
    "subscribe to access", "institutional login", "subscription required", "do not have access",
    "do not currently have access", "article purchase options", "access options",
)  # fmt: skip


def wall_of(sight: Sight, *, weak: bool = False) -> Wall | None:
    """The first wall that shows: strong signs, and weak ones where asked for; None for an ordinary page."""
    if sight.is_article:
        return None
    return next((wall for wall in (STRONG + WEAK if weak else STRONG) if wall.shows(sight)), None)


def wall_reason(answer: Answer, asked: str = "") -> str:
    """Why a page that came where a PDF was asked for is none: a wall, or ``not_a_pdf``. Never raises.

    The page of an error is a wall, or says no more than its status: the short page of an overloaded server is
    no wall, and a 403 in few words does not say that there is no such article.
    """
    sight = Sight(answer, asked)
    overloaded = answer.status == 429 or answer.status >= 500
    wall = wall_of(sight, weak=not overloaded)
    if wall and not (wall.reason == "soft_404" and answer.status >= 400):
        return wall.reason
    sold = sight.sells and not sight.is_article and not overloaded
    return "paywall" if sold else "not_a_pdf"


def stands(answer: Answer, asked: str = "") -> bool:
    """Whether an error's page is a wall that another try would meet again. Never raises.

    Only strong signs of a wall count: the short page of an overloaded server is none, and may pass.
    """
    if answer.content_type not in PAGE_KINDS:
        return False
    wall = wall_of(Sight(answer, asked))
    return wall is not None and wall.reason.startswith("blocked_")
