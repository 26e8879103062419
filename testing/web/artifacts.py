"""What answers at the URL of a PDF: its fate, from a sound file to a loop of redirects."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from . import faults, walls
from .exchange import Call, Reply, html, json, redirect, url_key
from .pdf import make_pdf, pdf_sha256

Fate = Literal[
    "good", "chunked", "no_length", "junk_before", "as_octets", "slow_start", "slow_drip", "redirected",
    "reset_once", "stall_once", "busy_once", "unavailable_once", "needs_cookie", "needs_referer",
    "missing", "gone", "forbidden", "server_error", "busy", "html", "html_as_pdf", "json_error", "empty",
    "tiny",
    "truncated", "too_long", "too_short", "reset", "stall", "gzip_bomb", "redirect_loop", "redirect_private",
    "challenge", "captcha", "cookie_wall", "login", "paywall", "soft_404", "script_wall", "refused",
]  # fmt: skip
"""What may become of a request for a PDF; ``GOOD_FATES`` are those from which a faultless harvester gets it.

``…_once`` goes wrong for the first request and serves every later one (a resumed one too). ``too_long`` and
``too_short`` are lies of Content-Length; ``truncated`` is cut short with a Content-Length that agrees.
``refused`` stands at an address that must never be asked: it serves a sound PDF, so that a breach shows.
"""

FATES: tuple[Fate, ...] = get_args(Fate)
GOOD_FATES: frozenset[Fate] = frozenset(FATES[: FATES.index("missing")])

PRIVATE_URL = "http://169.254.169.254/latest/meta-data/paper.pdf"
"""Where ``redirect_private`` leads."""
MODIFIED = "Tue, 03 Mar 2020 08:00:00 GMT"
COOKIE = "quire_visit"
"""Name of the cookie that ``needs_cookie`` asks for; its landing page sets it."""
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
    """How long it is silent where its fate is ``stall``, in seconds."""

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

    def answer(self, call: Call) -> Reply:
        """What one request for it gets."""
        return _ANSWERS.get(self.fate, _sound)(self, call)


@lru_cache(maxsize=16_384)
def _sha256(content: str, size: int, title: str) -> str:
    return pdf_sha256(content, size=size, title=title)


def _headers(it: Artifact, media_type: str = "application/pdf") -> tuple[tuple[str, str], ...]:
    return (
        ("Content-Type", media_type),
        ("ETag", it.etag),
        ("Last-Modified", MODIFIED),
        ("Accept-Ranges", "bytes"),
    )


def _sound(it: Artifact, call: Call) -> Reply:
    """The file, or the part of it that a valid range asks for (RFC 9110, 14)."""
    start = _range_start(it, call)
    if start is None:
        return Reply(headers=_headers(it), body=it.data)
    if start >= it.size:
        return Reply(status=416, headers=(("Content-Range", f"bytes */{it.size}"),))
    span = ("Content-Range", f"bytes {start}-{it.size - 1}/{it.size}")
    return Reply(status=206, headers=(*_headers(it), span), body=it.data()[start:])


def _range_start(it: Artifact, call: Call) -> int | None:
    found = _RANGE.match(call.headers.get("range", "").strip())
    if not found or found.group(2):
        return None
    validator = call.headers.get("if-range", it.etag)
    return int(found.group(1)) if validator in (it.etag, MODIFIED) else None


def _with(it: Artifact, call: Call, fault: faults.Fault) -> Reply:
    return msgspec.structs.replace(_sound(it, call), fault=fault)


def _kept(it: Artifact) -> int:
    return int(it.size * KEPT_SHARE)


def _chunked(it: Artifact, call: Call) -> Reply:
    return msgspec.structs.replace(_sound(it, call), framing="chunked")


def _no_length(it: Artifact, call: Call) -> Reply:
    return msgspec.structs.replace(_sound(it, call), framing="close")


def _junk_before(it: Artifact, call: Call) -> Reply:
    return Reply(headers=_headers(it)[:1], body=it.junk() + it.data())


def _as_octets(it: Artifact, call: Call) -> Reply:
    name = ("Content-Disposition", 'attachment; filename="../../paper.pdf"')
    return Reply(headers=(*_headers(it, "application/octet-stream"), name), body=it.data)


def _slow_start(it: Artifact, call: Call) -> Reply:
    return _with(it, call, faults.slow_first_byte(SLOW_START_S))


def _slow_drip(it: Artifact, call: Call) -> Reply:
    return _with(it, call, faults.slow_drip(piece=-(-it.size // DRIP_PIECES), seconds=DRIP_S))


def _redirected(it: Artifact, call: Call) -> Reply:
    if "quire-hop=2" in call.url:
        return _sound(it, call)
    hop = 2 if "quire-hop=1" in call.url else 1
    status = 301 if hop == 1 else 307
    return redirect(f"{_bare(it.url)}quire-hop={hop}", status=status)


def _bare(url: str) -> str:
    return url + ("&" if "?" in url else "?")


def _reset_once(it: Artifact, call: Call) -> Reply:
    return _sound(it, call) if call.number else _with(it, call, faults.reset(after=_kept(it)))


def _stall_once(it: Artifact, call: Call) -> Reply:
    silent = faults.stall(after=_kept(it), seconds=STALL_ONCE_S)
    return _sound(it, call) if call.number else _with(it, call, silent)


def _busy(it: Artifact, call: Call) -> Reply:
    return html(walls.BUSY, status=429, headers=(("Retry-After", "1"),))


def _busy_once(it: Artifact, call: Call) -> Reply:
    return _sound(it, call) if call.number else _busy(it, call)


def _unavailable_once(it: Artifact, call: Call) -> Reply:
    return _sound(it, call) if call.number else html(walls.UNAVAILABLE, status=503)


def _needs_cookie(it: Artifact, call: Call) -> Reply:
    welcome = f"{COOKIE}=" in call.headers.get("cookie", "")
    return _sound(it, call) if welcome else html(walls.FORBIDDEN, status=403)


def _needs_referer(it: Artifact, call: Call) -> Reply:
    return _sound(it, call) if call.headers.get("referer") else html(walls.FORBIDDEN, status=403)


def _html_as_pdf(it: Artifact, call: Call) -> Reply:
    page = html(walls.wall_page("soft_404", it.url))
    return msgspec.structs.replace(page, headers=(("Content-Type", "application/pdf"),))


def _json_error(it: Artifact, call: Call) -> Reply:
    return json({"error": {"code": "NoAccess", "message": "This file is not available."}})


def _empty(it: Artifact, call: Call) -> Reply:
    return Reply(headers=_headers(it)[:1])


def _tiny(it: Artifact, call: Call) -> Reply:
    return Reply(headers=_headers(it)[:1], body=b"%PDF-1.4\n%%EOF\n")


def _truncated(it: Artifact, call: Call) -> Reply:
    """Without validators: its length agrees with its Content-Length, and asking again brings the same."""
    return Reply(headers=_headers(it)[:1], body=it.data()[: _kept(it)])


def _too_long(it: Artifact, call: Call) -> Reply:
    return Reply(headers=_headers(it)[:1], body=it.data, fault=faults.length_too_long(it.size // 2))


def _too_short(it: Artifact, call: Call) -> Reply:
    return Reply(headers=_headers(it)[:1], body=it.data, fault=faults.length_too_short(it.size - _kept(it)))


def _reset(it: Artifact, call: Call) -> Reply:
    """Without validators, so that no resume can piece the file together."""
    return Reply(headers=_headers(it)[:1], body=it.data, fault=faults.reset(after=_kept(it)))


def _stall(it: Artifact, call: Call) -> Reply:
    silent = faults.stall(after=_kept(it), seconds=it.stall_s)
    return Reply(headers=_headers(it)[:1], body=it.data, fault=silent)


def _gzip_bomb(it: Artifact, call: Call) -> Reply:
    return Reply(headers=(("Content-Type", "application/pdf"), ("Content-Encoding", "gzip")), body=_bomb)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(b"%PDF-1.4\n" + bytes(BOMB_BYTES)) + packer.flush()


def _redirect_loop(it: Artifact, call: Call) -> Reply:
    looped = "quire-hop=1" in call.url
    return redirect(it.url if looped else f"{_bare(it.url)}quire-hop=1")


def _redirect_private(it: Artifact, call: Call) -> Reply:
    return redirect(PRIVATE_URL)


def _login(it: Artifact, call: Call) -> Reply:
    return redirect(
        f"https://sso.{url_key(it.url).split('/')[0]}/idp/profile/SAML2/Redirect/SSO?SAMLRequest=1"
    )


def _missing(it: Artifact, call: Call) -> Reply:
    return html(walls.NOT_FOUND, status=404)


def _wall(it: Artifact, call: Call) -> Reply:
    status = 403 if it.fate == "challenge" else 200
    return html(walls.wall_page(it.fate, it.url), status=status)


_ANSWERS = {
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
    "gzip_bomb": _gzip_bomb, "redirect_loop": _redirect_loop, "redirect_private": _redirect_private,
    "login": _login, "html": _wall, "challenge": _wall, "captcha": _wall, "cookie_wall": _wall,
    "paywall": _wall, "soft_404": _wall, "script_wall": _wall,
}  # fmt: skip
