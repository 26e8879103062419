"""A PDF at a URL: its bytes, its fate, and how a server without faults sends it."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from ...errors import UsageError
from . import faults
from .exchange import Call, Reply
from .pdf import make_pdf, pdf_sha256

Fate = Literal[
    "good", "chunked", "no_length", "junk_before", "as_octets", "slow_start", "slow_drip", "redirected",
    "reset_once", "stall_once", "busy_once", "unavailable_once", "needs_cookie", "needs_referer",
    "busy_dated_once", "unavailable_timed_once", "gateway_once", "gateway_late_once", "silent_once",
    "hang_up_once", "reset_early_once", "chunked_cut_once", "short_once",
    "ranges_refused", "range_elsewhere", "range_other_total", "range_restarts", "range_416", "edited",
    "edited_joined", "pdf_as_html", "gzipped", "gzip_twice", "gzip_not", "coding_unknown", "overrun",
    "whole_206", "through_http",
    "missing", "gone", "forbidden", "server_error", "busy", "html", "html_as_pdf", "json_error", "empty",
    "tiny",
    "truncated", "too_long", "too_short", "reset", "stall", "gzip_bomb", "redirect_loop", "redirect_private",
    "challenge", "captcha", "cookie_wall", "login", "paywall", "soft_404", "script_wall", "refused",
    "busy_for_long", "unavailable_for_long", "silent", "hang_up", "reset_early", "chunked_cut", "crawl",
    "gzip_hidden", "gzip_cut", "gzip_broken", "junk_far", "part_206", "unsaid_206",
    "redirect_home", "redirect_scheme", "redirect_endless", "redirect_nowhere",
    "other_article",
]  # fmt: skip
"""What may become of a request for a PDF; ``GOOD_FATES`` are those from which a faultless harvester gets it.

``…_once`` goes wrong for the first request and serves every later one (a resumed one too). ``too_long`` and
``too_short`` are lies of Content-Length; ``truncated`` is cut short with a Content-Length that agrees.
Those of ``parts`` break off once and then lie about the rest.
``refused`` stands at an address that must never be asked: it serves a sound PDF, so that a breach shows.
"""

FATES: tuple[Fate, ...] = get_args(Fate)
GOOD_FATES: frozenset[Fate] = frozenset(FATES[: FATES.index("missing")])


def check_fate(fate: str) -> None:
    """Refuse a fate that is none, since nobody would notice what it does not do; raises UsageError."""
    if fate not in FATES:
        near = difflib.get_close_matches(str(fate), FATES, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise UsageError(f"there is no fate {fate!r}{meant}; there are {', '.join(FATES)}")


MODIFIED = "Tue, 03 Mar 2020 08:00:00 GMT"
KEPT_SHARE = 0.6
"""Share of the body that comes before a cut, a reset or a stall."""
_RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A PDF at a URL."""

    url: str
    fate: Fate = "good"
    content: str
    """What its bytes are made from: two artifacts of one content and size are the same file."""
    title: str = ""
    size: int = 20_000
    """Bytes."""
    stall_s: float = faults.STALL_S
    """How long it is silent where its fate is ``stall`` or ``silent``, in seconds."""
    shape: int = 0
    """Which of the ways that its fate may take: the words and status of a wall, the target of a redirect."""

    def data(self) -> bytes:
        """The file."""
        return make_pdf(self.content, size=self.size, title=self.title)

    @property
    def sha256(self) -> str:
        """The hash of the bytes that a reader ends up with, in hex."""
        if self.fate == "junk_before":
            return hashlib.sha256(self.junk() + self.data()).hexdigest()
        return _sha256(self.content, self.size, self.title)

    def junk(self) -> bytes:
        """What stands before the header where the fate is ``junk_before``; readers accept that."""
        return (
            b"\r\n\r\n<!-- served by "
            + hashlib.sha256(self.content.encode()).hexdigest()[:12].encode()
            + b" -->\n"
        )

    @property
    def etag(self) -> str:
        """A strong validator."""
        name = f"{self.content} {self.size} {self.title}"
        return f'"{hashlib.sha256(name.encode()).hexdigest()[:24]}"'

    @property
    def kept(self) -> int:
        """Bytes that come before it breaks off, where it does."""
        return int(self.size * KEPT_SHARE)

    def headers(self, media_type: str = "application/pdf") -> tuple[tuple[str, str], ...]:
        """Those of the whole file; the first is its type."""
        return (
            ("Content-Type", media_type),
            ("ETag", self.etag),
            ("Last-Modified", MODIFIED),
            ("Accept-Ranges", "bytes"),
        )

    def sound(self, call: Call) -> Reply:
        """The file, or the part of it that a valid range asks for (RFC 9110, 14)."""
        start = self.range_start(call)
        if start is None:
            return Reply(headers=self.headers(), body=self.data, did="sound")
        if start >= self.size:
            return Reply(status=416, headers=(("Content-Range", f"bytes */{self.size}"),))
        span = ("Content-Range", f"bytes {start}-{self.size - 1}/{self.size}")
        return Reply(status=206, headers=(*self.headers(), span), body=self.data()[start:], did="sound")

    def faulty(self, call: Call, fault: faults.Fault) -> Reply:
        """What a sound one would answer, with a fault on its way."""
        return msgspec.structs.replace(self.sound(call), fault=fault, did="")

    def range_start(self, call: Call) -> int | None:
        """Where a valid range begins that is asked for; None where the whole is to be sent."""
        found = _RANGE.match(call.headers.get("range", "").strip())
        if not found or found.group(2):
            return None
        validator = call.headers.get("if-range", self.etag)
        return int(found.group(1)) if validator in (self.etag, MODIFIED) else None

    def hop(self, number: int, *, scheme: str = "") -> str:
        """A URL of its own on the way to it."""
        own, _, rest = self.url.partition("://")
        return f"{scheme or own}://{rest}{'&' if '?' in rest else '?'}quire-hop={number}"

    def first_edition(self) -> Artifact:
        """Another file that stood at its URL before."""
        return msgspec.structs.replace(self, content=f"first edition of {self.content}")


@lru_cache(maxsize=16_384)
def _sha256(content: str, size: int, title: str) -> str:
    return pdf_sha256(content, size=size, title=title)


Answering = Callable[[Artifact, Call], Reply]
"""How one request for a PDF is answered."""
