"""Moments and spans of time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..actors.runtime.ports import NANOSECONDS
from ..errors import UsageError

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def span_s(text: str) -> int | None:
    """Seconds in a span such as ``90s``, ``24h`` or ``7d``; None where it is none."""
    span = _SPAN.fullmatch(text)
    return int(span[1]) * _UNIT_S[span[2]] if span else None


def since_ns(text: str, now_ns: int) -> int:
    """A moment, or how long ago, in nanoseconds since 1970.

    Raises:
        UsageError: it is neither.
    """
    ago_s = span_s(text)
    if ago_s is not None:
        return max(0, now_ns - ago_s * NANOSECONDS)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since {text}: expected a time such as 2026-01-31T12:00:00Z, or 24h, 7d"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1_000_000) * 1_000)
