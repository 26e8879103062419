"""The one way to the network: what each request passes before it is sent, and what each answer becomes.

Each hop: canonicalise → address guard → manners (offline, robots, breaker, cache, limiter) → send → tell the
breaker. One retry layer stands around the whole chain of hops, inside the request's deadline. Whatever
comes back, an unusual answer is a ``WebError`` with a reason; only a defect of quire, or a stand-in that is
down, is another exception.

``call`` is one try, ``manners`` what it passes, ``sending`` the wire's near side, ``answers`` and
``download`` what becomes of what comes; each knows only those before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import msgspec

from ...config.settings import Quire
from ...config.settings import Web as WebSettings
from ...errors import UsageError
from ...events.facts import BreakerChanged
from ..runtime.ports import NANOSECONDS, Clock, Random, Scheduler, SystemClock, SystemRandom
from .answers import AnswerReader
from .breaker import Breakers
from .cache import HttpCache, Visit
from .cache_store import CacheStore
from .call import Arrival, Call, location
from .client_settings import ClientSettings
from .cookies import Cookies
from .download import OpenDownload
from .exchange import Answer, Gate, Request, Role, WebError
from .guard import BadUrl, Guard, Place, joined, place, without_tracking
from .manners import Manners
from .sending import Sender, Traffic, WebStatistics, stand_in_of
from .slots import Slots
from .transport import Transport
from .walls import stands

T = TypeVar("T")
RETRY_WAIT_MAX_S = 60.0
"""Longest wait of our own between two tries, in seconds."""
PDF_ACCEPT = "application/pdf,*/*;q=0.8"


class WebClient:
    """The web port: one pool, one set of breakers and robots rules for the whole process.

    ``slots`` counts what the limits allow, for all who share it (a library's ``SlotTable``), or for this
    client alone where it is left out; it is closed with the client. ``cache`` is where answers are kept that
    may be used again (RFC 9111); without it none are. ``transport`` plays the wire in place of sockets.
    ``on_breaker`` is called on whatever thread a breaker changed, and must not block.

    Raises:
        UsageError: the settings contradict each other.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        clock: Clock,
        random: Random,
        scheduler: Scheduler,
        on_breaker: Callable[[BreakerChanged], None],
        slots: Slots | None = None,
        cache: CacheStore | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings.check()
        self._settings = web = settings.web
        self._clock = clock
        self._random = random
        self._scheduler = scheduler
        self._guard = Guard(web.allow_hosts, rehearsal=bool(web.stand_in))
        self._transport = transport or _sockets(web, self._guard, scheduler)
        self._traffic = Traffic()
        self.breakers = Breakers(web.breaker, clock=clock, on_change=on_breaker)
        self._manners = Manners(
            web,
            gates=settings.gates,
            breakers=self.breakers,
            clock=clock,
            fetch=self._fetched,
            slots=slots,
            has_cache=cache is not None and web.cache.enabled,
        )
        self._sender = Sender(
            settings, transport=self._transport, breakers=self.breakers, clock=clock, traffic=self._traffic
        )
        self.cache = self._http_cache(cache)
        self._reader = AnswerReader(
            settings, sender=self._sender, cache=self.cache, traffic=self._traffic, clock=clock
        )

    def _http_cache(self, store: CacheStore | None) -> HttpCache:
        return HttpCache(
            self._settings.cache,
            store,
            headers=self._sender.headers,
            clock=self._clock,
            aside=self._scheduler.aside,
            contact=self._settings.contact_email or "",
            disconnected=self._manners.is_disconnected,
        )

    def __repr__(self) -> str:
        return f"<WebClient {self._manners!r} requests={self._traffic.requests}>"

    def statistics(self) -> WebStatistics:
        """What was sent and received so far."""
        return self._traffic.statistics()

    async def fetch(self, request: Request) -> Answer:
        """A whole answer; see ``exchange.Web.fetch``."""
        is_data = request.role == "metadata"
        bound = self._settings.metadata_bytes_max if is_data else self._settings.page_bytes_max
        if request.range_start:
            request = msgspec.structs.replace(request, range_start=0, if_range="")  # whole answers only
        return await self._fetched(request, bound)

    async def open(self, request: Request) -> OpenDownload:
        """Open what should be a PDF; see ``exchange.Web.open``."""
        if request.accept == "*/*":
            request = msgspec.structs.replace(request, accept=PDF_ACCEPT)
        return await self._tried(request, self._reader.opened)

    def gate(self, url: str, role: Role) -> Gate | None:
        """Whether a request would be held back now; without I/O, from any thread."""
        return self._manners.gate(url, role)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
        self._manners.close()

    # -- retries ------------------------------------------------------------------------------------

    async def _fetched(self, request: Request, bytes_max: int) -> Answer:
        try:
            return await self._tried(
                request, lambda call, arrival: self._reader.fetched(call, arrival, bytes_max)
            )
        except WebError as error:
            if error.page is not None and error.reason.startswith("http_"):
                return error.page
            raise

    async def _tried(self, request: Request, finish: Callable[[Call, Arrival], Awaitable[T]]) -> T:
        """Try, and try again after what may pass, as long as waiting and asking fit into the deadline."""
        deadline_ns = self._clock.boot_ns() + round(request.deadline_s * NANOSECONDS)
        last: WebError | None = None
        for retry_count in range(request.retries_max + 1):
            call = Call(request, deadline_ns=deadline_ns, retry_count=retry_count, clock=self._clock)
            try:
                return await self._once(call, finish)
            except WebError as error:
                if last is not None and (error.outcome == "skipped" or error.reason == "deadline"):
                    raise last from None  # what was answered says more than that the time ran out
                last = error
                wait_s = self._retry_wait_s(error)
                if retry_count == request.retries_max or not await self._is_worth_it(call, error, wait_s):
                    raise
            self._traffic.retries += 1
            await asyncio.sleep(wait_s)
        raise UsageError("retries_max must not be negative")

    async def _once(self, call: Call, finish: Callable[[Call, Arrival], Awaitable[T]]) -> T:
        arrival = await self._arrived(call)
        try:
            return await finish(call, arrival)
        except BaseException:
            await arrival.response.aclose()
            raise

    async def _is_worth_it(self, call: Call, error: WebError, wait_s: float) -> bool:
        """Whether another try may end otherwise, in time, and past the breaker."""
        # Whoever answers a range with a lie does so again: the caller starts anew, without a range.
        may_pass = error.outcome == "retryable" and error.reason != "bad_range"
        if not may_pass or wait_s >= call.left_s() or self._manners.breaker_wait_s(error.url) > wait_s:
            return False
        page = error.page
        # A wall stands however often one asks; only who asks as a browser gets past it.
        return page is None or not await self._scheduler.aside(lambda: stands(page, call.request.url))

    def _retry_wait_s(self, error: WebError) -> float:
        backoff_s = self._settings.retry_base_ms / 1000 * 2.0 ** min(error.retry_count, 16)
        spread_s = min(backoff_s, RETRY_WAIT_MAX_S) * (0.5 + self._random.jitter() / 2)
        return error.retry_after_s + spread_s if error.retry_after_s else spread_s

    # -- the chain of hops ----------------------------------------------------------------------------

    async def _arrived(self, call: Call) -> Arrival:
        """Follow redirects to the final answer, each hop with all our manners."""
        request = call.request
        cookies = Cookies(request.cookies)
        asked = first = self._placed(call, lambda: place(request.url), request.url)
        hops: list[str] = []
        visits: list[Visit] = []
        seen: set[tuple[str, object]] = set()
        while True:
            if request.role == "landing":
                asked = without_tracking(asked)
            question = (asked.url, cookies.taken())
            if question in seen:
                raise call.error("nonretryable", "redirect_loop", asked.url)
            seen.add(question)
            visit, response = await self._hop(call, asked, cookies)
            visits.append(visit)
            leads_to = location(response)
            if leads_to is None:
                lost = bool(hops) and asked.is_bare_home and not first.is_bare_home
                return Arrival(asked, response, tuple(hops), cookies, lost, tuple(visits))
            await response.aclose()
            hops.append(asked.url)
            if len(hops) > self._settings.redirects_max:
                raise call.error("nonretryable", "too_many_redirects", asked.url, status=response.status_code)
            asked = self._placed(call, lambda: joined(asked, leads_to), asked.url)  # noqa: B023

    def _placed(self, call: Call, found: Callable[[], Place], url: str) -> Place:
        try:
            asked = found()
            self._guard.check(asked)
        except BadUrl as error:
            raise call.error("nonretryable", error.reason, url, detail=error) from error
        return asked

    async def _hop(self, call: Call, asked: Place, cookies: Cookies) -> tuple[Visit, httpx.Response]:
        """One request, or none where the cache has the answer; a second one where a 304 confirmed another."""
        visit = self.cache.visit(call.request, asked, cookies.header(asked.host))
        response: httpx.Response | None = None
        while response is None:
            permit = await self._manners.admit(call, asked, cached=visit.answers)
            if permit is None:
                return visit, visit.response()
            came = await self._sender.send(call, asked, cookies, permit, visit.conditions)
            set_cookies = came.headers.get_list("set-cookie")
            if set_cookies:
                cookies.take(asked.host, set_cookies, wall_ns=self._clock.wall_ns())
            try:
                response = await visit.judged(came)
            except BaseException:
                await came.aclose()
                raise
        return visit, response


def lone_client(settings: Quire, scheduler: Scheduler) -> WebClient:
    """A client without a library: all manners, but no cache, and limits and breakers are its own alone."""
    return WebClient(
        ClientSettings.of(settings),
        clock=SystemClock(),
        random=SystemRandom(),
        scheduler=scheduler,
        on_breaker=lambda _: None,
    )


def _sockets(settings: WebSettings, guard: Guard, scheduler: Scheduler) -> Transport:
    stand_in = stand_in_of(settings)
    return Transport(
        guard=guard,
        scheduler=scheduler,
        connections_max=settings.connections_max,
        proxy=settings.proxy,
        trusted=frozenset({stand_in.host} if stand_in else ()),
    )
