"""What answers at the URL of a PDF: its fate, from a sound file to a loop of redirects."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from . import faults, walls
from .exchange import Call, Reply, html, json, redirect
from .interruptions import INTERRUPTIONS, Answering
from .lies import LIES, PRIVATE
from .parts import PARTS
from .pdf import make_pdf, pdf_sha256
from .wall_shapes import wall

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

PRIVATE_URL = PRIVATE[0]
"""Where ``refused`` stands, and ``redirect_private`` leads unless its shape says otherwise."""
MODIFIED = "Tue, 03 Mar 2020 08:00:00 GMT"
COOKIE = "quire_visit"
"""Name of the cookie that ``needs_cookie`` asks for; its landing page sets it."""
OTHER_TITLE = "An entirely different account, bound under a borrowed cover"
"""What the PDF of ``other_article`` has for a title."""
SLOW_START_S = 0.4
DRIP_S = 0.02
DRIP_PIECES = 16
STALL_ONCE_S = 4.0
BOMB_BYTES = 1 << 25
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

    def answer(self, call: Call) -> Reply:
        """What one request for it gets, and under what name the ledger keeps that."""
        reply = _ANSWERS.get(self.fate, Artifact.sound)(self, call)
        return reply if reply.did else msgspec.structs.replace(reply, did=self.fate)

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


def _chunked(it: Artifact, call: Call) -> Reply:
    return msgspec.structs.replace(it.sound(call), framing="chunked")


def _no_length(it: Artifact, call: Call) -> Reply:
    return msgspec.structs.replace(it.sound(call), framing="close")


def _junk_before(it: Artifact, call: Call) -> Reply:
    return Reply(headers=it.headers()[:1], body=it.junk() + it.data())


def _as_octets(it: Artifact, call: Call) -> Reply:
    name = ("Content-Disposition", 'attachment; filename="../../paper.pdf"')
    return Reply(headers=(*it.headers("application/octet-stream"), name), body=it.data)


def _slow_start(it: Artifact, call: Call) -> Reply:
    return it.faulty(call, faults.slow_first_byte(SLOW_START_S))


def _slow_drip(it: Artifact, call: Call) -> Reply:
    return it.faulty(call, faults.slow_drip(piece=-(-it.size // DRIP_PIECES), seconds=DRIP_S))


def _redirected(it: Artifact, call: Call) -> Reply:
    if "quire-hop=2" in call.url:
        return it.sound(call)
    hop = 2 if "quire-hop=1" in call.url else 1
    status = 301 if hop == 1 else 307
    return redirect(it.hop(hop), status=status)


def _reset_once(it: Artifact, call: Call) -> Reply:
    return it.sound(call) if call.number else it.faulty(call, faults.reset(after=it.kept))


def _stall_once(it: Artifact, call: Call) -> Reply:
    silent = faults.stall(after=it.kept, seconds=STALL_ONCE_S)
    return it.sound(call) if call.number else it.faulty(call, silent)


def _busy(it: Artifact, call: Call) -> Reply:
    return html(walls.BUSY, status=429, headers=(("Retry-After", "1"),))


def _busy_once(it: Artifact, call: Call) -> Reply:
    return it.sound(call) if call.number else _busy(it, call)


def _unavailable_once(it: Artifact, call: Call) -> Reply:
    return it.sound(call) if call.number else html(walls.UNAVAILABLE, status=503)


def _needs_cookie(it: Artifact, call: Call) -> Reply:
    welcome = f"{COOKIE}=" in call.headers.get("cookie", "")
    return it.sound(call) if welcome else html(walls.FORBIDDEN, status=403)


def _needs_referer(it: Artifact, call: Call) -> Reply:
    return it.sound(call) if call.headers.get("referer") else html(walls.FORBIDDEN, status=403)


def _html_as_pdf(it: Artifact, call: Call) -> Reply:
    page = html(walls.wall_page("soft_404", it.url))
    return msgspec.structs.replace(page, headers=(("Content-Type", "application/pdf"),))


def _json_error(it: Artifact, call: Call) -> Reply:
    return json({"error": {"code": "NoAccess", "message": "This file is not available."}})


def _empty(it: Artifact, call: Call) -> Reply:
    return Reply(headers=it.headers()[:1])


def _tiny(it: Artifact, call: Call) -> Reply:
    return Reply(headers=it.headers()[:1], body=b"%PDF-1.4\n%%EOF\n")


def _truncated(it: Artifact, call: Call) -> Reply:
    """Without validators: its length agrees with its Content-Length, and asking again brings the same."""
    return Reply(headers=it.headers()[:1], body=it.data()[: it.kept])


def _too_long(it: Artifact, call: Call) -> Reply:
    return Reply(headers=it.headers()[:1], body=it.data, fault=faults.length_too_long(it.size // 2))


def _too_short(it: Artifact, call: Call) -> Reply:
    return Reply(headers=it.headers()[:1], body=it.data, fault=faults.length_too_short(it.size - it.kept))


def _reset(it: Artifact, call: Call) -> Reply:
    """Without validators, so that no resume can piece the file together."""
    return Reply(headers=it.headers()[:1], body=it.data, fault=faults.reset(after=it.kept))


def _stall(it: Artifact, call: Call) -> Reply:
    silent = faults.stall(after=it.kept, seconds=it.stall_s)
    return Reply(headers=it.headers()[:1], body=it.data, fault=silent)


def _gzip_bomb(it: Artifact, call: Call) -> Reply:
    return Reply(headers=(("Content-Type", "application/pdf"), ("Content-Encoding", "gzip")), body=_bomb)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(b"%PDF-1.4\n" + bytes(BOMB_BYTES)) + packer.flush()


def _redirect_loop(it: Artifact, call: Call) -> Reply:
    looped = "quire-hop=1" in call.url
    return redirect(it.url if looped else it.hop(1))


def _missing(it: Artifact, call: Call) -> Reply:
    return html(walls.NOT_FOUND, status=404)


def _wall(it: Artifact, call: Call) -> Reply:
    return wall(it.fate, it.url, shape=it.shape)


def _other_article(it: Artifact, call: Call) -> Reply:
    """A sound PDF, and not the one that was asked for."""
    other = msgspec.structs.replace(it, fate="good", content=f"other {it.content}", title=OTHER_TITLE)
    return other.sound(call)


_ANSWERS: dict[str, Answering] = {
    "chunked": _chunked, "no_length": _no_length, "junk_before": _junk_before, "as_octets": _as_octets,
    "slow_start": _slow_start, "slow_drip": _slow_drip, "redirected": _redirected, "reset_once": _reset_once,
    "stall_once": _stall_once, "busy_once": _busy_once, "unavailable_once": _unavailable_once,
    "needs_cookie": _needs_cookie, "needs_referer": _needs_referer,
    "missing": _missing,
    "gone": lambda it, call: html(walls.NOT_FOUND, status=410),
    "forbidden": lambda it, call: html(walls.FORBIDDEN, status=403),
    "server_error": lambda it, call: html(walls.UNAVAILABLE, status=500),
    "busy": _busy, "html_as_pdf": _html_as_pdf, "json_error": _json_error, "empty": _empty, "tiny": _tiny,
    "truncated": _truncated, "too_long": _too_long, "too_short": _too_short, "reset": _reset, "stall": _stall,
    "gzip_bomb": _gzip_bomb, "redirect_loop": _redirect_loop,
    "login": _wall, "html": _wall, "challenge": _wall, "captcha": _wall, "cookie_wall": _wall,
    "paywall": _wall, "soft_404": _wall, "script_wall": _wall, "other_article": _other_article,
    **INTERRUPTIONS, **PARTS, **LIES,
}  # fmt: skip
