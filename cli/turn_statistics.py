"""How the turns of sources went, from the attempts that the log recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ..events.facts import FallbackAttempt
from ..events.record import Recorded

GROUPINGS = ("tier", "source", "host", "reason", "period")
GROUPS_MAX = 10_000
"""Groups that are told apart; what comes after stands under ``OTHERS``."""
OTHERS = "(others)"
DIGITS = 3
"""Significant digits of the durations that percentiles are taken from, so that counts stay small."""


class Group:
    """The turns of one source, host, tier or reason. Those passed over count apart: they took no time."""

    def __init__(self) -> None:
        self.turns = self.successes = self.passed_over = 0
        self._elapsed: Counter[int] = Counter()

    def __repr__(self) -> str:
        return f"<Group {self.successes} of {self.turns}, {self.passed_over} passed over>"

    def add(self, attempt: FallbackAttempt) -> None:
        """Count one."""
        if attempt.outcome == "skipped":
            self.passed_over += 1
            return
        self.turns += 1
        self.successes += attempt.outcome == "success"
        self._elapsed[rounded(attempt.elapsed_ms)] += 1

    def percentile_ms(self, share: float) -> int:
        """The duration that this share of the turns did not exceed, in milliseconds; 0 without turns."""
        return percentile(self._elapsed, share)

    def as_line(self, name: str) -> dict[str, Any]:
        """The group as ``--json`` gives it."""
        return {
            "name": name,
            "turns": self.turns,
            "success": self.successes,
            "share": round(self.successes / self.turns, 4) if self.turns else None,
            "skipped": self.passed_over,
            "p50_ms": self.percentile_ms(0.50),
            "p95_ms": self.percentile_ms(0.95),
        }


def percentile(counts: Counter[int], share: float) -> int:
    """The value that this share of the counted did not exceed, by nearest rank; 0 without any."""
    wanted = max(1, -(-counts.total() * share // 1))
    for value, count in sorted(counts.items()):
        wanted -= count
        if wanted <= 0:
            return value
    return 0


def rounded(elapsed_ms: int) -> int:
    """A duration to three significant digits."""
    return round(elapsed_ms, DIGITS - len(str(elapsed_ms))) if elapsed_ms >= 10**DIGITS else elapsed_ms


def grouped(
    events: Iterable[Recorded[Any]], by: str, *, since_ns: int = 0, period_s: int = 86_400
) -> list[dict[str, Any]]:
    """A line per group, the one with the most turns first, periods in the order of time.

    Attempts before ``since_ns`` are left out. Periods are ``period_s`` seconds long and counted from 1970 in
    UTC, so that the same ones come out tomorrow.
    """
    groups: dict[str, Group] = {}
    for recorded in events:
        event = recorded.event
        if isinstance(event, FallbackAttempt) and recorded.time_ns >= since_ns:
            name = _period(recorded.time_ns, period_s) if by == "period" else name_of(event, by)
            if name not in groups and len(groups) >= GROUPS_MAX:
                name = OTHERS
            groups.setdefault(name, Group()).add(event)
    ordered = sorted(groups.items(), key=lambda item: (-item[1].turns, -item[1].passed_over, item[0]))
    if by == "period":
        ordered = sorted(groups.items())
    return [group.as_line(name) for name, group in ordered]


def _period(time_ns: int, length_s: int) -> str:
    """When the period began that a time falls into."""
    began_s = time_ns // 1_000_000_000 // length_s * length_s
    return datetime.fromtimestamp(began_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_of(attempt: FallbackAttempt, by: str) -> str:
    """The group that an attempt falls into."""
    name = str(getattr(attempt, by))
    if by == "reason":
        return name or attempt.outcome
    return name or "(none)"
