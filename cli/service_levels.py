"""Service levels, folded from the log: what was promised, what was measured, over how many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..events.facts import (
    FallbackAttempt,
    IdempotencyReplay,
    JobLeased,
    JobRequeued,
    JobStateChanged,
    LeaseReleased,
    OperationCompleted,
)
from ..events.job import HOME, STREAM_PREFIX, State
from ..events.record import Recorded
from .turn_statistics import percentile, rounded

POISON = "poison"
TOO_MANY_REQUESTS = 429
_MS = 1_000_000


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One promise and how it was kept."""

    name: str
    unit: str
    target: float
    at_most: bool
    """Whether the target is a ceiling; else it is a floor."""
    measured: float | None
    """None where the log holds nothing to measure."""
    count: int
    """Over how many jobs, leases, effects or answers."""

    @property
    def met(self) -> bool:
        """Whether it was kept; what could not be measured was not missed."""
        if self.measured is None:
            return True
        return self.measured <= self.target if self.at_most else self.measured >= self.target


class _InHand:
    """A job from its first lease to the end of its generation."""

    __slots__ = ("granted_ns", "leased_ns", "shown", "spent_ns", "taken_over")

    def __init__(self) -> None:
        self.leased_ns: int | None = None
        """When the lease that it is under was granted; None while it is under none."""
        self.granted_ns: int | None = None
        """The same, until something was done under it."""
        self.spent_ns = 0
        self.shown = self.taken_over = False


class ServiceLevels:
    """Fed with every event in order; what it keeps grows with the jobs in hand, not with those done."""

    def __init__(self) -> None:
        self.shown_home = self.recovered = self.lost = self.replayed = self.effects = 0
        self.answers = self.too_many = 0
        self._hands: dict[str, _InHand] = {}
        self._shown_failed: set[str] = set()
        self._complete_ms: Counter[int] = Counter()
        self._lease_ms: Counter[int] = Counter()
        self._on: dict[type, Callable[[Recorded[Any]], None]] = {
            JobLeased: self._leased,
            JobStateChanged: self._changed,
            LeaseReleased: self._released,
            JobRequeued: self._requeued,
            OperationCompleted: self._completed,
            IdempotencyReplay: self._replayed,
            FallbackAttempt: self._attempted,
        }

    def __repr__(self) -> str:
        return f"<ServiceLevels {self.shown_home} home, {len(self._hands)} in hand>"

    def add(self, recorded: Recorded[Any]) -> None:
        """Take in the next event."""
        if recorded.stream.startswith(STREAM_PREFIX):
            self._taken_up(recorded)
        act = self._on.get(type(recorded.event))
        if act is not None:
            act(recorded)

    def levels(self, corrupt: int, checked: int) -> Iterator[Level]:
        """What was promised and measured; ``corrupt`` of ``checked`` files are not what they must be."""
        shown = self.shown_home + len(self._shown_failed)
        yield _floor("completion", 0.995, self.shown_home, shown)
        done = self._complete_ms.total()
        for share, target_s in ((0.50, 30.0), (0.95, 120.0)):
            measured = percentile(self._complete_ms, share) / 1000 if done else None
            yield _ceiling(f"time_to_complete_p{share * 100:.0f}", "s", target_s, measured, done)
        yield _floor("recovery", 0.999, self.recovered, self.recovered + self.lost)
        leases = self._lease_ms.total()
        measured = float(percentile(self._lease_ms, 0.99)) if leases else None
        yield _ceiling("lease_p99", "ms", 100.0, measured, leases)
        effects = self.effects + self.replayed
        yield _ceiling("replayed_effects", "share", 0.05, _ratio(self.replayed, effects), effects)
        share_429 = _ratio(self.too_many, self.answers)
        yield _ceiling("too_many_requests", "share", 0.02, share_429, self.answers)
        yield _ceiling("corruption", "files", 0.0, float(corrupt), checked)

    # Events

    def _leased(self, recorded: Recorded[Any]) -> None:
        hand = self._hands.setdefault(recorded.stream, _InHand())
        if hand.leased_ns is not None:  # its owner died: the time until now was spent all the same
            hand.spent_ns += recorded.time_ns - hand.leased_ns
        hand.leased_ns = hand.granted_ns = recorded.time_ns
        hand.taken_over |= recorded.event.takeover

    def _taken_up(self, recorded: Recorded[Any]) -> None:
        """The first event under a lease ends the time that it took to get to work."""
        hand = self._hands.get(recorded.stream)
        if hand is None or hand.granted_ns is None or isinstance(recorded.event, JobLeased):
            return
        self._lease_ms[rounded(max(0, recorded.time_ns - hand.granted_ns) // _MS)] += 1
        hand.granted_ns = None

    def _changed(self, recorded: Recorded[Any]) -> None:
        state, stream = recorded.event.state, recorded.stream
        hand = self._hands.get(stream)
        if state == State.HEAD_DONE and hand is not None:
            hand.shown = True
        elif state in HOME:
            self._came_home(stream, self._hands.pop(stream, None), recorded.time_ns)
        elif state == State.FAILED:
            self._failed(stream, self._hands.pop(stream, None), recorded.event.reason)

    def _came_home(self, stream: str, hand: _InHand | None, now_ns: int) -> None:
        if hand is None:
            return
        self.recovered += hand.taken_over
        if hand.shown:
            self.shown_home += 1
            self._shown_failed.discard(stream)
        spent_ns = hand.spent_ns + (0 if hand.leased_ns is None else now_ns - hand.leased_ns)
        self._complete_ms[rounded(max(0, spent_ns) // _MS)] += 1

    def _failed(self, stream: str, hand: _InHand | None, reason: str) -> None:
        if hand is None:
            return
        if hand.shown:
            self._shown_failed.add(stream)
        if hand.taken_over:
            self.lost += reason == POISON
            self.recovered += reason != POISON

    def _released(self, recorded: Recorded[Any]) -> None:
        hand = self._hands.get(recorded.stream)
        if hand is not None and hand.leased_ns is not None:
            hand.spent_ns += recorded.time_ns - hand.leased_ns
            hand.leased_ns = hand.granted_ns = None

    def _requeued(self, recorded: Recorded[Any]) -> None:
        self._hands.pop(recorded.stream, None)

    def _completed(self, _recorded: Recorded[Any]) -> None:
        self.effects += 1

    def _replayed(self, _recorded: Recorded[Any]) -> None:
        self.replayed += 1

    def _attempted(self, recorded: Recorded[Any]) -> None:
        self.answers += recorded.event.status > 0
        self.too_many += recorded.event.status == TOO_MANY_REQUESTS


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _floor(name: str, target: float, part: int, whole: int) -> Level:
    measured = _ratio(part, whole)
    return Level(name=name, unit="share", target=target, at_most=False, measured=measured, count=whole)


def _ceiling(name: str, unit: str, target: float, measured: float | None, count: int) -> Level:
    return Level(name=name, unit=unit, target=target, at_most=True, measured=measured, count=count)
