"""robots.txt by RFC 9309: what a file allows, kept per origin for a day.

``parse`` turns any bytes into rules; ``RobotsRules`` answers; ``RobotsCache`` remembers what was found,
also that a host could not be asked (5xx or unreachable: everything is disallowed for that period) and
that there is no file (4xx: everything is allowed). Fetching is the client's affair.
"""

from __future__ import annotations

import codecs
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import msgspec
from protego import Protego

from ..runtime.ports import NANOSECONDS

ROBOTS_BYTES_MAX = 512 * 1024
"""As much of a robots.txt is read and obeyed; RFC 9309 2.5 asks for at least 500 KiB."""
ORIGINS_MAX = 4_096
CRAWL_DELAY_MAX_S = 3_600.0
"""A longer Crawl-delay is taken for this."""
PRODUCT = "quire"
"""The product token that rules may name."""

Access = Literal["rules", "all", "none"]


class RobotsRules:
    """What one origin allows."""

    __slots__ = ("_parsed", "access", "crawl_delay_s", "reason")

    def __init__(self, access: Access, *, parsed: Protego | None = None, reason: str = "") -> None:
        self.access = access
        self.reason = reason
        self._parsed = parsed
        self.crawl_delay_s = _delay_s(parsed)

    def __repr__(self) -> str:
        return f"<RobotsRules {self.access} crawl_delay_s={self.crawl_delay_s} {self.reason}>"

    def allows(self, url: str) -> bool:
        """Whether quire may ask for the URL."""
        if self._parsed is None:
            return self.access == "all"
        return bool(self._parsed.can_fetch(url, PRODUCT))


def _delay_s(parsed: Protego | None) -> float:
    delay = parsed.crawl_delay(PRODUCT) if parsed is not None else None
    if delay is None or not math.isfinite(delay) or delay <= 0:
        return 0.0
    return min(float(delay), CRAWL_DELAY_MAX_S)


def decode(body: bytes) -> str:
    """The text of a robots.txt: UTF-8 as the RFC wants it, or what its byte order mark says."""
    body = body[:ROBOTS_BYTES_MAX]
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if body.startswith(mark):
            return body[2:].decode(encoding, "replace")
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    return text.replace("\0", "").lstrip("\ufeff")


def parse(body: bytes) -> RobotsRules:
    """The rules of a file of any shape; what is no rule (an HTML page, say) rules nothing."""
    text = decode(body)
    if len(body) > ROBOTS_BYTES_MAX:
        # The last line may be cut in the middle, and half a path would forbid more than was meant.
        text = text.rpartition("\n")[0]
    return RobotsRules("rules", parsed=Protego.parse(text.replace("\r\n", "\n").replace("\r", "\n")))


def from_status(status: int, body: bytes) -> RobotsRules:
    """What an answer for ``/robots.txt`` means (RFC 9309 2.3.1)."""
    if 200 <= status < 300:
        return parse(body)
    if status >= 500:
        return RobotsRules("none", reason=f"http_{status}")
    return RobotsRules("all", reason=f"http_{status}")


class _Kept(msgspec.Struct, frozen=True):
    rules: RobotsRules
    until_ns: int


class RobotsCache:
    """Rules by origin, for ``ttl_s`` each; the least recently used go when there are too many."""

    def __init__(self, *, ttl_s: float, now_ns: Callable[[], int]) -> None:
        self._ttl_ns = round(ttl_s * NANOSECONDS)
        self._now_ns = now_ns
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RobotsCache origins={len(self._kept)}>"

    def get(self, origin: str) -> RobotsRules | None:
        """The rules of an origin, or None when they are not known or too old."""
        kept = self._kept.get(origin)
        if kept is None or kept.until_ns <= self._now_ns():
            return None
        self._kept.move_to_end(origin)
        return kept.rules

    def put(self, origin: str, rules: RobotsRules) -> None:
        """Remember the rules of an origin."""
        self._kept[origin] = _Kept(rules, self._now_ns() + self._ttl_ns)
        self._kept.move_to_end(origin)
        if len(self._kept) > ORIGINS_MAX:
            self._kept.popitem(last=False)
