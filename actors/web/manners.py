"""The manners of the network: what every request passes before it is sent.

In order: offline mode, robots.txt where the request respects it, the host's breaker, the cache, the host's
limit. Who passes holds a breaker's permit, and must report how the request ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from ...config.settings import Gates
from ...config.settings import Web as WebSettings
from ...events.facts import AttemptOutcome
from ..runtime.ports import Clock
from .breaker import Breakers, Permit, Refusal
from .call import Call
from .exchange import Answer, Gate, Request, Role, WebError
from .guard import BadUrl, Place, place
from .limits import Limits, Reservation
from .robots import ROBOTS_BYTES_MAX, RobotsCache, RobotsRules, from_status
from .slots import Slots

Fetch = Callable[[Request, int], Awaitable[Answer]]


class Manners:
    """Offline mode, robots rules and breakers of the whole process, and limits as far as ``slots`` reach.

    ``fetch`` gets a robots.txt, given a request and the most bytes to read; it passes these same manners.
    ``has_cache``: there is a cache to answer from while offline.
    """

    def __init__(
        self,
        settings: WebSettings,
        *,
        gates: Gates,
        breakers: Breakers,
        clock: Clock,
        fetch: Fetch,
        slots: Slots | None,
        has_cache: bool = False,
    ) -> None:
        self._settings = settings
        self._has_cache = has_cache
        self._gates = gates
        self._breakers = breakers
        self._clock = clock
        self._fetch = fetch
        self._paced = settings.pacing != "none"
        self._rate_wait_max_s = gates.skip_if_rate_wait_exceeds_ms / 1000
        self._limits = Limits(settings.limits, slots)
        self._robots = RobotsCache(ttl_s=settings.robots_ttl_s, now_ns=clock.boot_ns)
        self._asking_robots: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Manners {self._breakers!r} {self._limits!r} {self._robots!r}>"

    def gate(self, url: str, role: Role) -> Gate | None:
        """Whether a request would be held back now; without I/O, from any thread."""
        if not self._may_begin(role):
            return Gate("offline", 0.0)
        if self.is_disconnected:
            return None
        try:
            asked = place(url)
        except BadUrl:
            return None
        wait_s = self._breakers.wait_s(asked.site)
        if self._gates.skip_if_breaker_open and wait_s > 0:
            return Gate("breaker_open", wait_s)
        wait_s = self._rate_wait_s(asked, role)
        return Gate("rate_wait", wait_s) if wait_s > self._rate_wait_max_s else None

    def breaker_wait_s(self, url: str) -> float:
        """Seconds that the breaker of a URL's host stays open; 0 when it is not, or the URL is none."""
        try:
            return self._breakers.wait_s(place(url).site)
        except BadUrl:
            return 0.0

    def close(self) -> None:
        """Let go of what the limits hold open."""
        self._limits.close()

    async def admit(
        self, call: Call, asked: Place, *, cached: Callable[[], Awaitable[bool]]
    ) -> Permit | None:
        """Wait until a request may be sent; None when none is needed, since ``cached`` has the answer.

        Raises:
            WebError: it may not, or not soon enough.
        """
        role = call.request.role
        if not self._may_go_online(role):
            # Nothing is sent, so that neither robots.txt nor the breaker has a say.
            if self.is_disconnected and await cached():
                return None
            raise call.error("skipped", "offline", asked.url, detail=self._gates.offline_behavior)
        crawl_delay_s = await self._robots_asked(call, asked) if call.request.robots else 0.0
        permit = self._permit(call, asked)
        try:
            if await cached():
                self._breakers.report(permit, "unused")
                return None
            if self._paced:
                await self._turn_taken(call, asked, crawl_delay_s)
        except BaseException:
            self._breakers.report(permit, "unused")
            raise
        return permit

    @property
    def is_disconnected(self) -> bool:
        """Whether all is answered from the cache or not at all."""
        only = self._gates.offline_behavior == "cache_only"
        return self._has_cache and self._settings.offline and only

    def _may_go_online(self, role: Role) -> bool:
        allowed = self._gates.offline_behavior == "metadata_only" and role == "metadata"
        return not self._settings.offline or allowed

    def _may_begin(self, role: Role) -> bool:
        return self._may_go_online(role) or (self.is_disconnected and role != "artifact")

    # -- robots ---------------------------------------------------------------------------------------

    async def _robots_asked(self, call: Call, asked: Place) -> float:
        """The Crawl-delay of a place that may be asked, in seconds."""
        rules = self._robots.get(asked.origin)
        if rules is None:
            rules = await self._robots_learned(call, asked)
        if rules.access == "none":
            raise call.error("retryable", "robots_unreachable", asked.url, detail=rules.reason)
        if not rules.allows(asked.url):
            raise call.error("nonretryable", "robots_disallowed", asked.url)
        return rules.crawl_delay_s

    async def _robots_learned(self, call: Call, asked: Place) -> RobotsRules:
        """Ask once, however many wait for the same answer; whoever is cancelled leaves it to the next."""
        lock = self._asking_robots.setdefault(asked.origin, asyncio.Lock())
        try:
            async with asyncio.timeout(call.left_s()):
                await lock.acquire()
        except TimeoutError as error:
            raise call.late(asked.url) from error
        try:
            rules = self._robots.get(asked.origin) or await self._robots_read(call, asked)
            self._robots.put(asked.origin, rules)
            return rules
        finally:
            lock.release()

    async def _robots_read(self, call: Call, asked: Place) -> RobotsRules:
        request = Request(
            url=f"{asked.origin}/robots.txt",
            role=call.request.role,
            source=call.request.source,
            retries_max=call.request.retries_max,
            deadline_s=call.left_s(),
            accept="text/plain,*/*;q=0.8",
            cached=False,  # the rules made of it have a cache of their own
        )
        try:
            answer = await self._fetch(request, ROBOTS_BYTES_MAX)
        except WebError as error:
            # Our own manners and deadline say nothing about the host; a name that is not there
            # would fail the page as well, with a truer reason.
            if error.outcome in ("skipped", "timeout") or error.reason == "name_not_found":
                raise
            if "redirect" in error.reason or error.reason in ("address_refused", "soft_404"):
                return RobotsRules("all", reason=error.reason)  # no file to be had: RFC 9309 2.3.1.2
            return RobotsRules("none", reason=error.reason)
        return from_status(answer.status, answer.body)

    # -- breaker and limiter --------------------------------------------------------------------------

    def _permit(self, call: Call, asked: Place) -> Permit:
        said = self._breakers.ask(asked.site)
        if isinstance(said, Refusal):
            # A gate that is switched off does not open the breaker; it makes the turn count.
            outcome: AttemptOutcome = "skipped" if self._gates.skip_if_breaker_open else "nonretryable"
            raise call.error(outcome, "breaker_open", asked.url, retry_after_s=said.wait_s)
        return said

    def _rate_wait_s(self, asked: Place, role: Role) -> float:
        if not self._paced:
            return 0.0
        return self._limits.wait_s(asked.site, asked.target, role, now_ns=self._clock.boot_ns())

    async def _turn_taken(self, call: Call, asked: Place, crawl_delay_s: float) -> None:
        """Wait for the limiter; a turn that is not used goes back to it."""
        reservation = self._limits.reserve(
            asked.site,
            asked.target,
            call.request.role,
            now_ns=self._clock.boot_ns(),
            interval_min_s=crawl_delay_s,
        )
        try:
            await self._waited(call, asked, reservation)
        except BaseException:
            self._limits.give_back(reservation, now_ns=self._clock.boot_ns())
            raise
        self._limits.use(reservation)

    async def _waited(self, call: Call, asked: Place, reservation: Reservation) -> None:
        wait_s = reservation.wait_s(self._clock.boot_ns())
        if wait_s > self._rate_wait_max_s or wait_s > call.left_s():
            raise call.error("skipped", "rate_wait", asked.url, retry_after_s=wait_s)
        moved = asyncio.Event()
        reservation.moved = moved.set
        while wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await moved.wait()
            moved.clear()
            wait_s = reservation.wait_s(self._clock.boot_ns())
