"""Answers that break off, never come, or ask to come back later: for good, or for the first request alone.

A client that asks again gets the file from those that end in ``_once``: that is what makes them good fates.
"""

from __future__ import annotations

import msgspec

from . import faults, walls
from .artifacts import Answering, Artifact
from .exchange import Call, Reply, html

RETRY_AFTER_S = 1
LONG_RETRY_AFTER_S = 3_600
CRAWL_BYTES = 64
"""Bytes of each piece of a body that crawls."""
CRAWL_S = 0.05
"""Pause between them, in seconds: some 1.3 KB a second, far below the least rate of the settings."""


def once(faulty: Answering) -> Answering:
    """The fault for the first request, the file for every later one."""

    def answer(it: Artifact, call: Call) -> Reply:
        return it.sound(call) if call.number else faulty(it, call)

    return answer


def _silent(it: Artifact, call: Call) -> Reply:
    return it.faulty(call, faults.silence(it.stall_s))


def _hang_up(it: Artifact, call: Call) -> Reply:
    return it.faulty(call, faults.hang_up())


def _reset_early(it: Artifact, call: Call) -> Reply:
    return it.faulty(call, faults.reset_early())


def _chunked_cut(it: Artifact, call: Call) -> Reply:
    """Without validators, as the reset that lasts: no resume can piece the file together."""
    fault = faults.cut(after=it.kept)
    return Reply(headers=it.headers()[:1], body=it.data, framing="chunked", fault=fault)


def _short(it: Artifact, call: Call) -> Reply:
    """The connection ends in good order before the length that was promised."""
    fault = faults.length_too_long(it.size // 2)
    return Reply(headers=it.headers()[:1], body=it.data()[: it.kept], fault=fault)


def _crawl(it: Artifact, call: Call) -> Reply:
    return it.faulty(call, faults.slow_drip(piece=CRAWL_BYTES, seconds=CRAWL_S))


def _status(status: int, *, after_s: int = 0, date_s: float = 0.0) -> Answering:
    retry = (("Retry-After", str(after_s)),) if after_s else ()
    page = html(walls.BUSY if status == 429 else walls.UNAVAILABLE, status=status, headers=retry)
    reply = msgspec.structs.replace(page, retry_date_s=date_s)
    return lambda it, call: reply


INTERRUPTIONS: dict[str, Answering] = {
    "busy_dated_once": once(_status(429, date_s=RETRY_AFTER_S)),
    "unavailable_timed_once": once(_status(503, after_s=RETRY_AFTER_S)),
    "gateway_once": once(_status(502)),
    "gateway_late_once": once(_status(504)),
    "silent_once": once(_silent),
    "hang_up_once": once(_hang_up),
    "reset_early_once": once(_reset_early),
    "chunked_cut_once": once(_chunked_cut),
    "short_once": once(_short),
    "busy_for_long": _status(429, after_s=LONG_RETRY_AFTER_S),
    "unavailable_for_long": _status(503, date_s=LONG_RETRY_AFTER_S),
    "silent": _silent,
    "hang_up": _hang_up,
    "reset_early": _reset_early,
    "chunked_cut": _chunked_cut,
    "crawl": _crawl,
}
"""Fate → how it answers."""
