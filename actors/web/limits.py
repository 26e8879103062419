"""How often one host may be asked: arithmetic over a clock, no sleeping in here.

Requests are spaced evenly and never come in a rush. Whoever asks gets the next slot, in order of asking; the
slots are counted in ``slots``, for all workers of a library together. A waiter that is cancelled gives its
slot back: all in this process who wait behind it move up, and what is left goes to whoever asks next.
Without that, every cancelled loser of a race would make the winner's host idle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from ...config.settings import Limits as LimitSettings
from ..runtime.ports import NANOSECONDS
from .exchange import Role
from .slots import MemorySlots, Slots


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
    """One limit's reservations in this process; its slots are ``interval_ns`` apart."""

    __slots__ = ("_key", "_slots", "_waiting")

    def __init__(self, key: str, slots: Slots | None = None) -> None:
        """``slots`` are counted in memory where left out."""
        self._key = key
        self._slots = MemorySlots() if slots is None else slots
        self._waiting: list[Reservation] = []

    def __repr__(self) -> str:
        return f"<Limiter {self._key} waiting={len(self._waiting)} of {self._slots!r}>"

    @property
    def waiting(self) -> int:
        """Reservations that are neither used nor given back."""
        return len(self._waiting)

    def reserve(self, now_ns: int, interval_ns: int) -> Reservation:
        """Take the next slot."""
        at_ns = self._slots.reserve(self._key, now_ns, interval_ns)
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
        # Nobody moves up to a slot in the past: he would go now, too close to the one behind him.
        behind = self._waiting if spare_ns >= now_ns else ()
        for other in sorted(behind, key=lambda waiting: waiting.at_ns):
            if other.at_ns > spare_ns:
                other.at_ns, spare_ns = spare_ns, other.at_ns
                if other.moved:
                    other.moved()
        self._slots.give_back(self._key, spare_ns, now_ns, reservation.interval_ns)


class Rules:
    """Which limit holds for a request: by (host, role), or by host or host/path-prefix where one is named."""

    def __init__(self, settings: LimitSettings) -> None:
        self._per_role: Mapping[str, int] = {
            "metadata": _interval_ns(settings.metadata_per_s),
            "landing": _interval_ns(settings.landing_per_s),
            "artifact": _interval_ns(settings.artifact_per_s),
        }
        # Longest first, so that a path prefix stands above its host.
        named = sorted(settings.hosts_per_s.items(), key=lambda item: -len(item[0]))
        self._named = [(name.lower().rstrip("/"), _interval_ns(rate)) for name, rate in named]

    def __repr__(self) -> str:
        return f"<Rules named={len(self._named)}>"

    def rule(self, site: str, target: str, role: Role) -> tuple[str, int]:
        """The limit's key, and its interval in nanoseconds."""
        for name, interval_ns in self._named:
            host, slash, prefix = name.partition("/")
            if site == host and (not slash or _is_under(target, f"/{prefix}")):
                return name, interval_ns
        return f"{site} {role}", self._per_role[role]


class Limits:
    """The limits of all hosts. Safe to ask from other threads."""

    def __init__(self, settings: LimitSettings, slots: Slots | None = None) -> None:
        """``slots`` are counted in memory where left out."""
        self._rules = Rules(settings)
        self._slots = MemorySlots() if slots is None else slots
        self._limiters: dict[str, Limiter] = {}
        """Those with reservations in hand: as many as there are requests at most."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Limits {self._rules!r} waiting_for={len(self._limiters)} {self._slots!r}>"

    def rule(self, site: str, target: str, role: Role) -> tuple[str, int]:
        """Which limit holds for a request, and its interval in nanoseconds."""
        return self._rules.rule(site, target, role)

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
            limiter = self._limiters.get(key) or Limiter(key, self._slots)
            reservation = limiter.reserve(now_ns, interval_ns)
            self._limiters[key] = limiter
        return reservation

    def use(self, reservation: Reservation) -> None:
        """The request goes out."""
        self._ended(reservation, lambda limiter: limiter.use(reservation))

    def give_back(self, reservation: Reservation, *, now_ns: int) -> None:
        """The request does not go out; harmless after ``use``."""
        self._ended(reservation, lambda limiter: limiter.give_back(reservation, now_ns))

    def wait_s(self, site: str, target: str, role: Role, *, now_ns: int) -> float:
        """Seconds that a request would wait if it were made now."""
        key, _ = self.rule(site, target, role)
        free_ns = max(self._slots.peek(name, now_ns) for name in (key, _crawl_key(site)))
        return (free_ns - now_ns) / NANOSECONDS

    def close(self) -> None:
        """Let go of what the slots hold open."""
        self._slots.close()

    def _ended(self, reservation: Reservation, end: Callable[[Limiter], None]) -> None:
        with self._lock:
            limiter = self._limiters.get(reservation.key)
            if limiter is None:
                return
            end(limiter)
            if not limiter.waiting:
                del self._limiters[reservation.key]


def _crawl_key(site: str) -> str:
    return f"{site} crawl-delay"


def _interval_ns(per_s: float) -> int:
    return round(NANOSECONDS / per_s)


def _is_under(target: str, prefix: str) -> bool:
    return target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in ("", "/", "?")
