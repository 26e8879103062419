"""Circuit breakers: a host that keeps failing is left alone for a while, then tried with one request.

A breaker is pure: it is told the time and what happened, and says whether a request may go. 5xx, 429,
timeouts and connect errors are failures; an answer below 400 shows health; other 4xx say nothing about
the host's health and leave the count as it is.

The breakers of a process are what it saw itself and what it was told of others (``Breakers.learn``): of other
workers and of the operator, through the log. What it was told is not told again.
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
PROBE_S_MAX = 60.0
"""A probe of which nothing is heard for so long counts as lost, and another may go, in seconds."""
BY_HAND = "by hand"
"""What the reason begins with when the operator opened or closed a breaker."""
AFTER = "after "
"""What stands before the reason of the opening while the breaker is half open."""

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


class News(msgspec.Struct, frozen=True):
    """What somebody else did to a host's breaker."""

    host: str
    state: State
    reason: str = ""
    failures: int = 0
    wait_s: float = 0.0
    """Seconds from now until a request may go; for a half-open one, until its probe counts as lost."""

    @property
    def by_hand(self) -> bool:
        """Whether the operator said so."""
        return self.reason.startswith(BY_HAND)


class Breaker:
    """The breaker of one host. Times are nanoseconds on one clock that does not jump."""

    __slots__ = ("failures", "host", "reason", "settings", "state", "told", "turn", "until_ns")

    def __init__(self, host: str, settings: BreakerSettings) -> None:
        self.host = host
        self.settings = settings
        self.state: State = "closed"
        self.failures = 0
        self.until_ns = 0
        """Open: when a probe may go. Half open: when the one that is out counts as lost."""
        self.reason = ""
        """Why it was opened, or closed."""
        self.told = False
        """Whether it is as others said, and not as was seen here."""
        self.turn = 0
        """How often it changed."""

    def __repr__(self) -> str:
        return f"<Breaker {self.host} {self.state} failures={self.failures} until={self.until_ns}>"

    def wait_s(self, now_ns: int) -> float:
        """Seconds until a request may go; 0 when it may now."""
        left_s = max(0, self.until_ns - now_ns) / NANOSECONDS
        if self.state == "half_open":
            return min(left_s, PROBE_WAIT_S)
        return left_s if self.state == "open" else 0.0

    def ask(self, now_ns: int) -> Permit | Refusal:
        """May a request go now? An open breaker whose time is over lets exactly one through."""
        wait_s = self.wait_s(now_ns)
        if wait_s > 0:
            return Refusal(wait_s)
        if self.state != "closed":
            self.until_ns = now_ns + round(PROBE_S_MAX * NANOSECONDS)
            self._become("half_open", self.reason)
        return Permit(self.host, self.turn)

    def report(
        self, permit: Permit, verdict: Verdict, *, now_ns: int, reason: str = "", retry_after_s: float = 0.0
    ) -> None:
        """Tell how a permitted request ended; ``unused``: it never went out."""
        if permit.turn != self.turn:
            return
        if verdict == "failure":
            self._fail(now_ns, reason, retry_after_s)
        elif verdict == "unused" and self.state == "half_open":
            self.open(now_ns, self.reason, 0.0)  # whoever asks next, here or elsewhere, probes
        elif verdict == "success" or (verdict == "neutral" and self.state == "half_open"):
            self._heal()

    def open(self, now_ns: int, reason: str, for_s: float) -> None:
        """Open it, whatever it was."""
        self.until_ns = now_ns + round(for_s * NANOSECONDS)
        self._become("open", reason)

    def close(self, reason: str) -> None:
        """Close it, whatever it was."""
        self.failures = 0
        if self.state != "closed":
            self._become("closed", reason)

    def learn(self, news: News, now_ns: int) -> None:
        """Become what others made of it. Of two who opened it by themselves, the longer rest is kept."""
        until_ns = now_ns + round(news.wait_s * NANOSECONDS)
        if self.state == news.state == "open" and not (self.told or news.by_hand):
            until_ns = max(until_ns, self.until_ns)
        self.until_ns = until_ns
        self.failures = news.failures
        self._become(news.state, news.reason)
        self.told = True

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
        self.told = False
        self.turn += 1


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

    def learn(self, news: News) -> float:
        """Take over what others made of a host's breaker; it is not reported as a change.

        Returns:
            Seconds that requests would have waited before.
        """
        with self._lock:
            now_ns = self._clock.boot_ns()
            breaker = self._breaker(news.host)
            before_s = breaker.wait_s(now_ns)
            breaker.learn(news, now_ns)
            return before_s

    def is_told(self, host: str) -> bool:
        """Whether a host's breaker is as others said: what was seen here before no longer counts."""
        with self._lock:
            breaker = self._breakers.get(host)
            return breaker is not None and breaker.told

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
        """Take one step under the lock and report a change after it."""
        with self._lock:
            now_ns = self._clock.boot_ns()
            breaker = self._breaker(host)
            before = breaker.turn
            said = step(breaker, now_ns)
            changed = self._changed(breaker, now_ns) if breaker.turn != before else None
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
        reason = AFTER * (breaker.state == "half_open") + breaker.reason
        return BreakerChanged(breaker.host, breaker.state, reason, breaker.failures, until_ns)
