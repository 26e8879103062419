# ruff: noqa: E501 - pages are easier to read with their tags in one line
"""Pages that stand between a reader and a PDF, and pages of error: all made up, none copied."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

_FILLER = (
    "The library of this site holds articles from many years. Readers may search by author, subject or date, "
    "and editors look after every volume with care. "
) * 4


def page(title: str, body: str, *, head: str = "") -> str:
    """A whole page around a body."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n{head}\n'
        f"</head><body>\n{body}\n</body></html>\n"
    )


def _error(title: str, words: str) -> str:
    return page(title, f'<div id="main"><h1>{title}</h1><p>{words}</p><p>{_FILLER}</p></div>')


NOT_FOUND = _error("404 Not Found", "There is no document at this address.")
FORBIDDEN = _error("403 Forbidden", "You do not have permission to read this document.")
BUSY = _error("429 Too Many Requests", "Please slow down and come back in a moment.")
UNAVAILABLE = _error("503 Service Unavailable", "The service is resting for a moment.")


def _challenge(url: str) -> str:
    return page(
        "Just a moment...",
        '<div class="main-wrapper"><h1>One more step</h1><p>Checking your browser before you reach this site.</p>'
        '<form id="challenge-form" action="/cdn-cgi/l/chk_jschl"><input type="hidden" name="cf-chl-tk" value="0">'
        f"</form><noscript>Enable JavaScript and cookies to continue</noscript></div><p>{_FILLER}</p>",
        head='<script src="/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1?ray=0"></script>',
    )


def _captcha(url: str) -> str:
    return page(
        "Are you a robot?",
        "<h1>Please confirm that you are not a robot</h1><form method='post'>"
        f'<div class="g-recaptcha" data-sitekey="quire-testing"></div><button>Go on</button></form><p>{_FILLER}</p>',
        head='<script src="https://www.google.com/recaptcha/api.js" async></script>',
    )


def _cookie_wall(url: str) -> str:
    return page(
        "Cookies required",
        "<h1>Cookies are disabled</h1><p>This site needs cookies turned on. Your browser has cookies turned off, or "
        f'does not take them.</p><p><a href="/action/cookieAbsent">More about cookies</a></p><p>{_FILLER}</p>',
    )


def _login(url: str) -> str:
    return page(
        "Sign in",
        '<h1>Sign in with your institution</h1><form action="/idp/profile/SAML2/Redirect/SSO" method="post">'
        '<label>User <input name="j_username"></label><label>Password <input type="password" name="j_password">'
        f"</label><button>Sign in</button></form><p>{_FILLER}</p>",
    )


def _paywall(url: str) -> str:
    return page(
        "Get access",
        "<h1>Get access to this article</h1><p>You do not have access to the full text. Purchase access for 48 hours, "
        '<b>39.95</b>, or log in through your institution.</p><p><a class="buy" href="/purchase/cart">Add to cart</a> '
        f'<a href="/subscribe">Subscribe to the journal</a></p><p>{_FILLER}</p>',
    )


def _soft_404(url: str) -> str:
    return page(
        "Page not found",
        "<h1>Page not found</h1><p>The page you were looking for cannot be found. It may have been moved or deleted."
        f'</p><p><a href="/">Go to the home page</a></p><p>{_FILLER}</p>',
    )


def _script_wall(url: str) -> str:
    return page(
        "",
        "<noscript>Please enable JavaScript to view the page content.</noscript>",
        head="<script>document.cookie='bm-verify=0; path=/'; window.location.reload(true);</script>",
    )


def _html(url: str) -> str:
    return page(
        "Welcome to the repository",
        '<div id="content"><h1>Welcome to the repository</h1><p>Browse by year, by author or by subject.</p>'
        f'<ul><li><a href="/browse/year">Years</a></li><li><a href="/browse/author">Authors</a></li></ul>'
        f"<p>{_FILLER}</p></div>",
    )


_WALLS: dict[str, Callable[[str], str]] = {
    "challenge": _challenge,
    "captcha": _captcha,
    "cookie_wall": _cookie_wall,
    "login": _login,
    "paywall": _paywall,
    "soft_404": _soft_404,
    "script_wall": _script_wall,
    "html": _html,
}
WALLS = tuple(_WALLS)
"""Names of the walls."""


def wall_page(name: str, url: str) -> str:
    """The page of one wall, for the URL it stands at."""
    return _WALLS[name](url)
