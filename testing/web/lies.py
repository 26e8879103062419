"""Answers whose headers say what is not so: types, codings, parts nobody asked for, ways that lead nowhere.

Most of them are harmless to a client that believes bytes more than headers: those are good fates.
"""

from __future__ import annotations

import zlib

import msgspec

from . import faults, walls
from .artifacts import Answering, Artifact
from .exchange import Call, Reply, html, redirect, url_key

OVERRUN_BYTES = 700
FAR_BYTES = 1_500
"""Junk before the header, more than readers put up with (1,024 bytes)."""
DAMAGED_BYTES = 64
HOPS_ENDLESS = 12
"""Hops of a way without an end, more than any client follows."""
SCHEMES = ("ftp://files.example/paper.pdf", "file:///etc/hosts", "data:application/pdf,none", "about:blank")
PRIVATE = (
    "http://169.254.169.254/latest/meta-data/paper.pdf",
    "http://127.0.0.1:8500/paper.pdf",
    "http://10.0.0.5/paper.pdf",
    "http://[::1]/paper.pdf",
    "http://localhost/paper.pdf",
    "http://192.168.1.1/paper.pdf",
    "http://0x7f000001/paper.pdf",
    "http://2130706433/paper.pdf",
    "http://[::ffff:10.0.0.5]/paper.pdf",
    "http://172.16.5.4:8080/paper.pdf",
)
"""Addresses inside somebody's network, in ways in which they may be written."""
PRIVATE_URL = PRIVATE[0]
"""Where ``refused`` stands, and ``redirect_private`` leads unless its shape says otherwise."""


def _as_html(it: Artifact, call: Call) -> Reply:
    return _typed(it, call, "text/html; charset=utf-8")


def _typed(it: Artifact, call: Call, media_type: str) -> Reply:
    sound = it.sound(call)
    return msgspec.structs.replace(sound, headers=(("Content-Type", media_type), *sound.headers[1:]))


def _coded(it: Artifact, coding: str, body: bytes) -> Reply:
    return Reply(headers=(*it.headers()[:1], ("Content-Encoding", coding)), body=body)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data) + packer.flush()


def _gzipped(it: Artifact, call: Call) -> Reply:
    return _coded(it, "gzip", _gzip(it.data()))


def _gzip_twice(it: Artifact, call: Call) -> Reply:
    """Twice, and said twice."""
    return _coded(it, "gzip, gzip", _gzip(_gzip(it.data())))


def _gzip_not(it: Artifact, call: Call) -> Reply:
    """Said, and not done."""
    return _coded(it, "gzip", it.data())


def _gzip_hidden(it: Artifact, call: Call) -> Reply:
    """Twice, and said once: what a reader ends up with is a packed file."""
    return _coded(it, "gzip", _gzip(_gzip(it.data())))


def _gzip_cut(it: Artifact, call: Call) -> Reply:
    packed = _gzip(it.data())
    return _coded(it, "gzip", packed[: len(packed) // 2])


def _gzip_broken(it: Artifact, call: Call) -> Reply:
    packed = bytearray(_gzip(it.data()))
    middle = len(packed) // 2
    packed[middle : middle + DAMAGED_BYTES] = b"\xff" * DAMAGED_BYTES
    packed[-8:-4] = b"\0\0\0\0"  # the checksum, so that damage shows in a stored block too
    return _coded(it, "gzip", bytes(packed))


def _coding_unknown(it: Artifact, call: Call) -> Reply:
    return _coded(it, "utf-8", it.data())


def _overrun(it: Artifact, call: Call) -> Reply:
    return msgspec.structs.replace(it.sound(call), fault=faults.overrun(OVERRUN_BYTES))


def _junk_far(it: Artifact, call: Call) -> Reply:
    return Reply(headers=it.headers()[:1], body=b"\0" * FAR_BYTES + it.data())


def _whole_206(it: Artifact, call: Call) -> Reply:
    """A part that nobody asked for, which is the whole."""
    return _part(it, it.data(), f"bytes 0-{it.size - 1}/{it.size}")


def _part_206(it: Artifact, call: Call) -> Reply:
    return _part(it, it.data()[: it.kept], f"bytes 0-{it.kept - 1}/{it.size}")


def _unsaid_206(it: Artifact, call: Call) -> Reply:
    """A part that does not say which."""
    return Reply(status=206, headers=it.headers()[:1], body=it.data()[: it.kept])


def _part(it: Artifact, data: bytes, span: str) -> Reply:
    return Reply(status=206, headers=(*it.headers()[:1], ("Content-Range", span)), body=data)


def _through_http(it: Artifact, call: Call) -> Reply:
    """From http to https; where https was asked for, down to http and up again."""
    _, _, rest = call.url.partition("://")
    if "quire-hop=1" in call.url:
        arrived = call.url.startswith("https:")
        return it.sound(call) if arrived else redirect(f"https://{rest}", status=301)
    if call.url.startswith("http:"):
        return redirect(it.hop(1, scheme="https"), status=301)
    return redirect(it.hop(1, scheme="http"))


def _endless(it: Artifact, call: Call) -> Reply:
    hop = int(call.url.rpartition("quire-hop=")[2] or 0) if "quire-hop=" in call.url else 0
    return redirect(it.hop(hop + 1))


def _to_home(it: Artifact, call: Call) -> Reply:
    return redirect(f"https://{url_key(it.url).split('/')[0]}/")


def _to_scheme(it: Artifact, call: Call) -> Reply:
    return redirect(SCHEMES[it.shape % len(SCHEMES)])


def _to_private(it: Artifact, call: Call) -> Reply:
    return redirect(PRIVATE[it.shape % len(PRIVATE)])


def _nowhere(it: Artifact, call: Call) -> Reply:
    return html(walls.page("Moved", "<p>This document has moved.</p>"), status=302)


LIES: dict[str, Answering] = {
    "pdf_as_html": _as_html,
    "gzipped": _gzipped,
    "gzip_twice": _gzip_twice,
    "gzip_not": _gzip_not,
    "coding_unknown": _coding_unknown,
    "overrun": _overrun,
    "whole_206": _whole_206,
    "through_http": _through_http,
    "gzip_hidden": _gzip_hidden,
    "gzip_cut": _gzip_cut,
    "gzip_broken": _gzip_broken,
    "junk_far": _junk_far,
    "part_206": _part_206,
    "unsaid_206": _unsaid_206,
    "redirect_private": _to_private,
    "redirect_home": _to_home,
    "redirect_scheme": _to_scheme,
    "redirect_endless": _endless,
    "redirect_nowhere": _nowhere,
}
"""Fate → how it answers."""
