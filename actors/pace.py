"""Slots for jobs that a rate holds back, so that each is taken up once, when its turn has come.

With the table that the workers of a library share, the jobs of all of them stand in one line.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ..config.settings import Limits as LimitSettings
from .web.exchange import Role
from .web.limits import Rules
from .web.slots import MemorySlots, Slots

_NS_IN_MS = 1_000_000


class Pace:
    """Hands out future slots, one interval apart, for each limit."""

    def __init__(self, settings: LimitSettings, slots: Slots | None = None) -> None:
        """``slots`` are counted in memory where left out."""
        self._rules = Rules(settings)
        self._slots = MemorySlots() if slots is None else slots

    def __repr__(self) -> str:
        return f"<Pace by {self._rules!r} in {self._slots!r}>"

    def slot_ms(self, url: str, role: Role, *, now_ms: int, wait_ms: int) -> int:
        """Milliseconds to wait: ``wait_ms``, and an interval for each job still in line before."""
        parts = urlsplit(url)
        key, interval_ns = self._rules.rule(parts.hostname or "", parts.path, role)
        # A queue of its own: a job's place in line is no request yet.
        at_ns = self._slots.reserve(f"{key} jobs", now_ms * _NS_IN_MS, interval_ns)
        return wait_ms + at_ns // _NS_IN_MS - now_ms
