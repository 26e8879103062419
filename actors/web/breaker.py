"""Circuit breakers: a host that keeps failing is left alone for a while, then tried with one request.

A breaker is pure: it is told the time and what happened, and says whether a request may go. 5xx, 429,
timeouts and connect errors are failures; an answer below 400 shows health; other 4xx say nothing about
the host's health and leave the count as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from ...config.settings import Breaker as BreakerSettings
from ...events.facts import BreakerChanged
from ..runtime.ports import NANOSECONDS, Clock

BREAKERS_MAX = 8_192
"""Hosts remembered at once; healthy ones are forgotten first."""
PROBE_WAIT_S = 1.0
"""What a caller is told to wait while the one probe is out, in seconds."""

T = TypeVar("T")
State = Literal["closed", "open", "half_open"]
Verdict = Literal["success", "failure", "neutral", "unused"]


class Permit(msgspec.Struct, frozen=True):
    """Leave to send one request; its end must be reported."""

    host: str
    turn: int
    """The breaker's count of changes when it was given; reports of older turns no longer matter."""


class Refusal(msgspec.Struct, frozen=True):
    """The breaker is open."""

    wait_s: float
    """Seconds until a probe may go."""


class Breaker:
    """The breaker of one host. Times are nanoseconds on one clock that does not jump."""

    __slots__ = ("_probing", "_turn", "failures", "host", "reason", "settings", "state", "until_ns")

    def __init__(self, host: str, settings: BreakerSettings) -> None:
        self.host = host
        self.settings = settings
        self.state: State = "closed"
        self.failures = 0
        self.until_ns = 0
        self.reason = ""
        self._probing = False
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Breaker {self.host} {self.state} failures={self.failures} until={self.until_ns}>"

    def wait_s(self, now_ns: int) -> float:
        """Seconds until a request may go; 0 when it may now."""
        if self.state == "open":
            return max(0, self.until_ns - now_ns) / NANOSECONDS
        return PROBE_WAIT_S if self.state == "half_open" and self._probing else 0.0

    def ask(self, now_ns: int) -> Permit | Refusal:
        """May a request go now? An open breaker whose time is over lets exactly one through."""
        wait_s = self.wait_s(now_ns)
        if wait_s > 0:
            return Refusal(wait_s)
        if self.state == "open":
            self._become("half_open", f"after {self.reason}")
        if self.state == "half_open":
            self._probing = True
        return Permit(self.host, self._turn)

    def report(
        self, permit: Permit, verdict: Verdict, *, now_ns: int, reason: str = "", retry_after_s: float = 0.0
    ) -> None:
        """Tell how a permitted request ended; ``unused``: it never went out."""
        if permit.turn != self._turn:
            return
        self._probing = False
        if verdict == "failure":
            self._fail(now_ns, reason, retry_after_s)
        elif verdict == "success" or (verdict == "neutral" and self.state == "half_open"):
            self._heal()

    def open(self, now_ns: int, reason: str, for_s: float) -> None:
        """Open it, whatever it was."""
        self.until_ns = now_ns + round(for_s * NANOSECONDS)
        self._become("open", reason)

    def close(self, reason: str) -> None:
        """Close it, whatever it was."""
        self.failures = 0
        self._become("closed", reason)

    def _fail(self, now_ns: int, reason: str, retry_after_s: float) -> None:
        self.failures += 1
        if self.state == "half_open" or self.failures >= self.settings.failures_to_open:
            self.open(now_ns, reason, max(self.settings.open_s, retry_after_s))

    def _heal(self) -> None:
        if self.state == "half_open":
            self.close("the probe was answered")
        self.failures = 0

    def _become(self, state: State, reason: str) -> None:
        self.state = state
        self.reason = reason
        self._probing = False
        self._turn += 1


class Breakers:
    """The breakers of all hosts; every change of state goes to ``on_change``, outside the lock.

    Safe to call from any thread.
    """

    def __init__(
        self, settings: BreakerSettings, *, clock: Clock, on_change: Callable[[BreakerChanged], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Breakers hosts={len(self._breakers)} not_closed={len(self.not_closed())}>"

    def ask(self, host: str) -> Permit | Refusal:
        """Leave for one request to the host, or a refusal."""
        return self._changing(host, lambda breaker, now_ns: breaker.ask(now_ns))

    def report(
        self, permit: Permit, verdict: Verdict, *, reason: str = "", retry_after_s: float = 0.0
    ) -> None:
        """Tell how a permitted request ended."""
        self._changing(
            permit.host,
            lambda breaker, now_ns: breaker.report(
                permit, verdict, now_ns=now_ns, reason=reason, retry_after_s=retry_after_s
            ),
        )

    def wait_s(self, host: str) -> float:
        """Seconds until a request to the host may go; changes nothing."""
        with self._lock:
            breaker = self._breakers.get(host)
            return breaker.wait_s(self._clock.boot_ns()) if breaker else 0.0

    def open(self, host: str, *, reason: str, for_s: float) -> None:
        """Open a host's breaker by hand, or as the log tells it."""
        self._changing(host, lambda breaker, now_ns: breaker.open(now_ns, reason, for_s))

    def close(self, host: str, *, reason: str) -> None:
        """Close a host's breaker by hand."""
        self._changing(host, lambda breaker, _: breaker.close(reason))

    def not_closed(self) -> tuple[tuple[str, State, float], ...]:
        """Host, state and seconds to wait of every breaker that is not closed."""
        with self._lock:
            now_ns = self._clock.boot_ns()
            return tuple(
                (breaker.host, breaker.state, breaker.wait_s(now_ns))
                for breaker in self._breakers.values()
                if breaker.state != "closed"
            )

    def _changing(self, host: str, step: Callable[[Breaker, int], T]) -> T:
        """Take one step under the lock and report a change of state after it."""
        with self._lock:
            now_ns = self._clock.boot_ns()
            breaker = self._breaker(host)
            before = breaker.state
            said = step(breaker, now_ns)
            changed = self._changed(breaker, now_ns) if breaker.state != before else None
        if changed is not None:
            self._on_change(changed)
        return said

    def _breaker(self, host: str) -> Breaker:
        breaker = self._breakers.get(host)
        if breaker is None:
            if len(self._breakers) >= BREAKERS_MAX:
                self._breakers = {
                    k: v for k, v in self._breakers.items() if v.state != "closed" or v.failures
                }
            breaker = self._breakers[host] = Breaker(host, self._settings)
        return breaker

    def _changed(self, breaker: Breaker, now_ns: int) -> BreakerChanged:
        until_ns = self._clock.wall_ns() + breaker.until_ns - now_ns if breaker.state == "open" else 0
        return BreakerChanged(breaker.host, breaker.state, breaker.reason, breaker.failures, until_ns)
