"""Slots for jobs that a rate holds back, so that each is taken up once, when its turn has come."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..config.settings import Limits as LimitSettings
from .web.exchange import Role
from .web.limits import Limits


class Pace:
    """Hands out future slots, one interval apart, for each limit."""

    def __init__(self, settings: LimitSettings) -> None:
        self._limits = Limits(settings)
        self._last_ms: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Pace for {sorted(self._last_ms)}>"

    def slot_ms(self, url: str, role: Role, *, now_ms: int, wait_ms: int) -> int:
        """Milliseconds to wait: at least ``wait_ms``, and one interval behind the slot given before."""
        parts = urlsplit(url)
        key, interval_ns = self._limits.rule(parts.hostname or "", parts.path, role)
        before = self._last_ms.get(key, 0)
        slot = max(now_ms + wait_ms, before + interval_ns // 1_000_000)
        self._last_ms[key] = slot
        return slot - now_ms
