"""What is true of a server that did a thing: its deed, as the ledger names it, and the words that may follow.

Written from what HTTP and PDF say about each fault, not from quire's code: a reason that quire gives for
what a server did must be among those that are true of it. ``http_NNN`` is true of every answer of that
status, ``html_instead`` of every page with a status of success.
"""

from __future__ import annotations

_SILENCE = frozenset({"read_timeout", "deadline", "stalled"})
_LOST = frozenset({"reset", "bad_answer"})
_MIDWAY = frozenset({"reset", "short_body"})
"""A reset after some bytes of a body with a length: the connection was broken, and the body is short."""
_CUT = frozenset({"truncated", "damaged"})
_BROKEN_OFF = frozenset({"short_body"})

TRUE: dict[str, frozenset[str]] = {
    "slow_start": frozenset({"deadline"}),
    "slow_drip": frozenset({"deadline"}),
    "crawl": frozenset({"deadline"}),
    "silent": _SILENCE,
    "silent_once": _SILENCE,
    "stall": _SILENCE,
    "stall_once": _SILENCE,
    "hang_up": _LOST,
    "hang_up_once": _LOST,
    "reset_early": _LOST,
    "reset_early_once": _LOST,
    "reset": _MIDWAY,
    "reset_once": _MIDWAY,
    "ranges_refused": _MIDWAY,
    "range_elsewhere": _MIDWAY | {"bad_range"},
    "range_other_total": _MIDWAY | {"bad_range"},
    "range_restarts": _MIDWAY | _CUT,
    "range_416": _MIDWAY | {"bad_range", "http_416"},
    "edited": _MIDWAY,
    "edited_joined": _MIDWAY | {"bad_range"},
    "part_206": frozenset({"bad_range"}),
    "unsaid_206": frozenset({"bad_range"}),
    "chunked_cut": _BROKEN_OFF,
    "chunked_cut_once": _BROKEN_OFF,
    "too_long": _BROKEN_OFF,
    "short_once": _BROKEN_OFF,
    "gzip_cut": _BROKEN_OFF,
    "gzip_broken": frozenset({"bad_encoding", "damaged"}),
    "gzip_bomb": frozenset({"inflates_too_far"}),
    "gzip_hidden": frozenset({"not_a_pdf", "gzip"}),  # it may show a PDF's header: what was stored as it is
    "junk_far": frozenset({"not_a_pdf", "no_pdf_header"}),
    "truncated": _CUT,
    "too_short": _CUT | {"bad_answer"},
    "overrun": frozenset({"bad_answer"}),
    "empty": frozenset({"empty_body", "empty"}),
    "tiny": frozenset({"too_small"}),
    "json_error": frozenset({"not_a_pdf", "json"}),
    "redirect_loop": frozenset({"redirect_loop"}),
    "redirect_private": frozenset({"address_refused"}),
    "redirect_scheme": frozenset({"bad_redirect", "address_refused", "bad_url"}),
    "redirect_endless": frozenset({"too_many_redirects"}),
    "redirect_nowhere": frozenset({"bad_redirect"}),
    "redirect_home": frozenset({"soft_404"}),
    "html": frozenset({"html_instead"}),
    "page": frozenset({"html_instead", "no_pdf_link"}),
    "html_as_pdf": frozenset({"html_instead", "soft_404"}),
    "challenge": frozenset({"blocked_challenge", "html_instead"}),
    "script_wall": frozenset({"blocked_challenge", "blocked_cookie", "html_instead"}),
    "captcha": frozenset({"blocked_captcha", "blocked_challenge", "html_instead"}),
    "cookie_wall": frozenset({"blocked_cookie", "html_instead"}),
    "login": frozenset({"blocked_login", "html_instead"}),
    "paywall": frozenset({"paywall", "html_instead"}),
    "soft_404": frozenset({"soft_404", "html_instead"}),
}
"""Deed → reasons that are true of it. A deed that is not here is true of nothing but its status."""

NAMED: dict[str, str] = {
    "challenge": "blocked_challenge",
    "captcha": "blocked_captcha",
    "cookie_wall": "blocked_cookie",
    "login": "blocked_login",
    "paywall": "paywall",
    "soft_404": "soft_404",
}
"""Wall → the reason that calls it by its name."""

WALL_DEEDS = frozenset({*NAMED, "script_wall"})
HOST_WALLS = frozenset({"challenge", "captcha", "script_wall"})
"""Walls that stand before a whole host: whoever met one there would meet it at every other URL."""
SLOW_DEEDS = frozenset(deed for deed, reasons in TRUE.items() if "deadline" in reasons)
"""Deeds that use up a turn's time."""


_BREAKING = _SILENCE | _LOST | _BROKEN_OFF


def is_failure(deed: str, status: int) -> bool:
    """Whether a breaker may count it against the host."""
    return status == 429 or status >= 500 or bool(TRUE.get(deed, frozenset()) & _BREAKING)
