# ruff: noqa: E501 - pages are easier to read with their tags in one line
"""The shapes that a wall may take: other words, other marks, other statuses. All made up, none copied.

Shape 0 of each is the page of ``walls``; further ones are what other sites would write. A wall that a program
cannot tell from any other page is a fair one too: then ``html_instead`` is the whole truth about it.
"""

from __future__ import annotations

import msgspec

from .exchange import Reply, html, redirect, url_key
from .walls import page, wall_page

_LONG = "This notice is shown once per visit and goes away when the visit is over. " * 6

_CHALLENGES = (
    page(
        "Checking your browser",
        f"<h2>One moment</h2><p>We are verifying that you are human. This takes a few seconds.</p><p>{_LONG}</p>",
        head='<script src="/_guard/puzzle.js" defer></script><meta http-equiv="refresh" content="9">',
    ),
    page(
        "Pardon our interruption",
        f"<h1>Pardon our interruption</h1><p>Something about your visit made us think of a program. Please wait while we verify your request.</p><p>{_LONG}</p>",
    ),
    page(
        "Security check",
        "<h1>Security check</h1><p>Enable JavaScript and cookies to continue.</p><div id='sec-if-cpt-container'></div>",
    ),
)
_CAPTCHAS = (
    page(
        "Captcha",
        '<h1>Type the characters you see</h1><img src="/captcha.png" alt="characters"><form><input name="typed"><button>Send</button></form>'
        + f"<p>{_LONG}</p>",
    ),
    page(
        "Human or not",
        f'<h1>We noticed unusual traffic from your network</h1><div class="h-captcha" data-sitekey="quire-testing"></div><p>{_LONG}</p>',
    ),
)
_COOKIES = (
    page(
        "A setting is needed",
        "<p>This library requires the use of cookies. Please enable your browser's cookies and load the page again.</p>",
    ),
    page(
        "Reload",
        "<p>Loading</p>",
        head="<script>document.cookie='visit=1; path=/'; window.location.href = window.location.href;</script>",
    ),
)
_LOGINS = (
    page(
        "Members' entrance",
        '<h1>Members only</h1><form action="/enter" method="post"><input name="name"><input type="password" name="secret"><button>Enter</button></form>',
    ),
    page(
        "Reader account",
        f'<h1>Please identify yourself</h1><form method="post"><label>Card number <input name="card"></label><label>PIN <input type=\'password\' name="pin"></label></form><p>{_LONG}</p>',
    ),
)
_PAYWALLS = (
    page(
        "Access options",
        f"<h1>Access options</h1><p>Buy this article for 29.00, or subscribe to read all of the journal.</p><p>{_LONG}</p>",
    ),
    page(
        "Order a copy",
        f"<h1>Order a copy</h1><table><tr><td>PDF, for one reader</td><td>31.50</td></tr><tr><td>For a library</td><td>ask us</td></tr></table><p>{_LONG}</p>",
    ),
)
_LOST = (
    page(
        "Document not found",
        f"<h1>Sorry</h1><p>The document you asked for does not exist in this repository.</p><p>{_LONG}</p>",
    ),
    page(
        "404",
        '<h1>404</h1><p>This item is no longer available.</p><form action="/search"><input name="q"></form>',
    ),
    page(
        "Seite nicht gefunden",
        f"<h1>Seite nicht gefunden</h1><p>Unter dieser Adresse gibt es kein Dokument.</p><p>{_LONG}</p>",
    ),
)
SHAPES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "challenge": ((403, 503, 200), _CHALLENGES),
    "captcha": ((200, 403, 429), _CAPTCHAS),
    "cookie_wall": ((200, 403), _COOKIES),
    "login": ((302, 200, 401, 403), _LOGINS),
    "paywall": ((200, 403, 402), _PAYWALLS),
    "soft_404": ((200,), _LOST),
}
"""Wall → its statuses, and the pages beside that of ``walls``."""


def wall(name: str, url: str, *, shape: int = 0) -> Reply:
    """What stands at the URL: the wall of that name, with the status and the words of the shape."""
    statuses, pages = SHAPES.get(name, ((200,), ()))
    status = statuses[shape % len(statuses)]
    if status == 302:
        sso = f"https://sso.{url_key(url).split('/')[0]}/idp/profile/SAML2/Redirect/SSO?SAMLRequest=1"
        return redirect(sso)
    words = shape // len(statuses) % (len(pages) + 1)
    said = pages[words - 1] if words else wall_page(name, url)
    return html(said, status=status)


def walled(name: str, url: str) -> Reply:
    """A wall of a whole host, by its name in the ledger."""
    return msgspec.structs.replace(html(wall_page(name, url)), did=name)
