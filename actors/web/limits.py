"""How often one host may be asked: pure arithmetic over a clock, no sleeping in here.

The state of a limit is one number, the time from which the next request is free (GCRA with a burst of
one), so requests are spaced evenly and never come in a rush. Whoever asks gets the next slot, in
order of asking. A waiter that is cancelled gives its slot back and all who wait behind it move up;
without that, every cancelled loser of a race would make the winner's host idle.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Mapping

from ...config.settings import Limits as LimitSettings
from ..runtime.ports import NANOSECONDS
from .exchange import Role

KEYS_MAX = 8_192
"""Limits kept at once; the idle ones go first."""


class Reservation:
    """A place in the queue of one limit; ``moved`` is called when it comes nearer."""

    __slots__ = ("at_ns", "interval_ns", "key", "moved")

    def __init__(self, key: str, at_ns: int, interval_ns: int) -> None:
        self.key = key
        self.at_ns = at_ns
        self.interval_ns = interval_ns
        self.moved: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Reservation {self.key} at={self.at_ns}>"

    def wait_s(self, now_ns: int) -> float:
        """Seconds from ``now_ns`` until the request may go out; 0 when it may go now."""
        return max(0, self.at_ns - now_ns) / NANOSECONDS


class Limiter:
    """One limit: a queue of slots, ``interval_ns`` apart."""

    __slots__ = ("_free", "_key", "_next_ns", "_waiting")

    def __init__(self, key: str) -> None:
        self._key = key
        self._next_ns = 0
        self._waiting: list[Reservation] = []
        self._free: list[int] = []

    def __repr__(self) -> str:
        return (
            f"<Limiter {self._key} next={self._next_ns} waiting={len(self._waiting)} free={len(self._free)}>"
        )

    def peek(self, now_ns: int) -> int:
        """The slot that ``reserve`` would give, in nanoseconds on the same clock."""
        self._forget(now_ns)
        return self._free[0] if self._free else max(now_ns, self._next_ns)

    def reserve(self, now_ns: int, interval_ns: int) -> Reservation:
        """Take the next slot."""
        at_ns = self.peek(now_ns)
        if self._free:
            self._free.pop(0)
        else:
            self._next_ns = at_ns + interval_ns
        reservation = Reservation(self._key, at_ns, interval_ns)
        self._waiting.append(reservation)
        return reservation

    def use(self, reservation: Reservation) -> None:
        """The request goes out: its slot is spent."""
        if reservation in self._waiting:
            self._waiting.remove(reservation)

    def give_back(self, reservation: Reservation, now_ns: int) -> None:
        """The request will not go out: move up everybody behind it; harmless after ``use``."""
        if reservation not in self._waiting:
            return
        self._waiting.remove(reservation)
        spare_ns = reservation.at_ns
        for other in sorted(self._waiting, key=lambda waiting: waiting.at_ns):
            if other.at_ns > spare_ns:
                other.at_ns, spare_ns = spare_ns, other.at_ns
                if other.moved:
                    other.moved()
        if spare_ns + reservation.interval_ns >= self._next_ns:
            self._next_ns = spare_ns
        else:
            insort(self._free, spare_ns)
        self._forget(now_ns)

    def is_idle(self, now_ns: int) -> bool:
        """Whether it may be forgotten without letting anybody go too early."""
        return not self._waiting and self._next_ns <= now_ns

    def _forget(self, now_ns: int) -> None:
        # A slot in the past is no right to go twice now: only future ones may be handed on.
        while self._free and self._free[0] < now_ns:
            self._free.pop(0)


class Limits:
    """The limits of all hosts, by (host, role), or by host or host/path-prefix where settings name one.

    Safe to peek into from other threads.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self._per_role: Mapping[str, int] = {
            "metadata": _interval_ns(settings.metadata_per_s),
            "landing": _interval_ns(settings.landing_per_s),
            "artifact": _interval_ns(settings.artifact_per_s),
        }
        # Longest first, so that a path prefix stands above its host.
        named = sorted(settings.hosts_per_s.items(), key=lambda item: -len(item[0]))
        self._named = [(name.lower().rstrip("/"), _interval_ns(rate)) for name, rate in named]
        self._limiters: dict[str, Limiter] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Limits hosts={len(self._limiters)} named={len(self._named)}>"

    def rule(self, site: str, target: str, role: Role) -> tuple[str, int]:
        """Which limit holds for a request, and its interval in nanoseconds."""
        for name, interval_ns in self._named:
            host, slash, prefix = name.partition("/")
            if site == host and (not slash or _is_under(target, f"/{prefix}")):
                return name, interval_ns
        return f"{site} {role}", self._per_role[role]

    def reserve(
        self, site: str, target: str, role: Role, *, now_ns: int, interval_min_s: float = 0.0
    ) -> Reservation:
        """Take the next slot for a request; it must be used or given back.

        ``interval_min_s``: a host's own wish (Crawl-delay), where it is slower than our limit.
        """
        key, interval_ns = self.rule(site, target, role)
        if interval_min_s * NANOSECONDS > interval_ns:
            # A queue of its own, so that all slots of one queue are equally far apart.
            key, interval_ns = _crawl_key(site), round(interval_min_s * NANOSECONDS)
        with self._lock:
            return self._limiter(key, now_ns).reserve(now_ns, interval_ns)

    def use(self, reservation: Reservation) -> None:
        """The request goes out."""
        with self._lock:
            self._limiters[reservation.key].use(reservation)

    def give_back(self, reservation: Reservation, *, now_ns: int) -> None:
        """The request does not go out; harmless after ``use``."""
        with self._lock:
            self._limiters[reservation.key].give_back(reservation, now_ns)

    def wait_s(self, site: str, target: str, role: Role, *, now_ns: int) -> float:
        """Seconds that a request would wait if it were made now."""
        key, _ = self.rule(site, target, role)
        with self._lock:
            known = [self._limiters[name] for name in (key, _crawl_key(site)) if name in self._limiters]
            return max([0, *(limiter.peek(now_ns) - now_ns for limiter in known)]) / NANOSECONDS

    def _limiter(self, key: str, now_ns: int) -> Limiter:
        limiter = self._limiters.get(key)
        if limiter is None:
            if len(self._limiters) >= KEYS_MAX:
                self._limiters = {k: v for k, v in self._limiters.items() if not v.is_idle(now_ns)}
            limiter = self._limiters[key] = Limiter(key)
        return limiter


def _crawl_key(site: str) -> str:
    return f"{site} crawl-delay"


def _interval_ns(per_s: float) -> int:
    return round(NANOSECONDS / per_s)


def _is_under(target: str, prefix: str) -> bool:
    return target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in ("", "/", "?")
