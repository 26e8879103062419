"""How a PDF of each fate is answered: the table of all fates, and the plain ones."""

from __future__ import annotations

import zlib
from functools import lru_cache

import msgspec

from . import faults, walls
from .artifacts import Answering, Artifact
from .exchange import Call, Reply, html, json, redirect
from .interruptions import INTERRUPTIONS
from .lies import LIES
from .parts import PARTS
from .wall_shapes import wall

COOKIE = "quire_visit"
"""Name of the cookie that ``needs_cookie`` asks for; its landing page sets it."""
OTHER_TITLE = "An entirely different account, bound under a borrowed cover"
"""What the PDF of ``other_article`` has for a title."""
SLOW_START_S = 0.4
DRIP_S = 0.02
DRIP_PIECES = 16
STALL_ONCE_S = 4.0
BOMB_BYTES = 1 << 25


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


def answer(it: Artifact, call: Call) -> Reply:
    """What one request for a PDF gets by its fate, and under what name the ledger keeps that."""
    reply = _ANSWERS.get(it.fate, Artifact.sound)(it, call)
    return reply if reply.did else msgspec.structs.replace(reply, did=it.fate)
