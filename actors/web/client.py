"""The one way to the network: what each request passes before it is sent, and what each answer becomes.

Each hop: canonicalise → address guard → robots → breaker → limiter → send → tell the breaker. One retry
layer stands around the whole chain of hops, inside the request's deadline. Whatever comes back, an
unusual answer is a ``WebError`` with a reason; only a defect of quire, or a stand-in that is down, is
another exception.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpx
import msgspec

from ... import __version__
from ...config.settings import Download as DownloadSettings
from ...config.settings import Gates, Thresholds
from ...config.settings import Web as WebSettings
from ...errors import EnvironmentFault, UsageError
from ...events.facts import AttemptOutcome, BreakerChanged
from ..runtime.ports import NANOSECONDS, Clock, Random, Scheduler
from .breaker import Breakers, Permit, Refusal, Verdict
from .encoding import SNIFF_BYTES, Body, InflateError, looks_like_html, looks_like_text, shows_pdf
from .exchange import Answer, Gate, Request, Role, Saved, WebError
from .guard import BadUrl, Guard, Place, joined, place, without_tracking
from .limits import Limits, Reservation
from .redaction import redact_text, redact_url
from .robots import ROBOTS_BYTES_MAX, RobotsCache, RobotsRules, from_status
from .transport import (
    AddressRefused,
    CertificateRefused,
    Cookies,
    NameNotFound,
    ShortBody,
    TlsFailed,
    Transport,
    http_date_s,
)

T = TypeVar("T")
BLAME_MIN_S = 1.0
"""A deadline that cuts off a host sooner than this says nothing about the host."""
RETRY_WAIT_MAX_S = 60.0
"""Longest wait of our own between two tries, in seconds."""
PDF_ACCEPT = "application/pdf,*/*;q=0.8"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FAILURES: tuple[tuple[type[Exception], AttemptOutcome, str], ...] = (
    (AddressRefused, "nonretryable", "address_refused"),
    (NameNotFound, "retryable", "name_not_found"),
    (CertificateRefused, "nonretryable", "tls_failed"),
    (TlsFailed, "retryable", "tls_failed"),
    (httpx.ConnectError, "retryable", "connect_failed"),
    (httpx.ConnectTimeout, "retryable", "connect_failed"),
    (httpx.ProxyError, "retryable", "connect_failed"),
    (httpx.ReadTimeout, "retryable", "read_timeout"),
    (ShortBody, "retryable", "short_body"),
    (httpx.ReadError, "retryable", "reset"),
    (httpx.TransportError, "retryable", "bad_answer"),
)


class WebStatistics(msgspec.Struct, frozen=True):
    """What a client did so far."""

    requests: int
    """Sent, redirects and robots.txt included."""
    bytes: int
    """Body bytes off the wire."""
    retries: int
    statuses: dict[int, int]


class _Traffic:
    """The counters behind ``WebStatistics``."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0
        self.retries = 0
        self.statuses: dict[int, int] = {}

    def came(self, size: int) -> None:
        self.bytes += size


class _Call:
    """One try of a request: what it may still cost, and how its errors are worded."""

    __slots__ = ("_clock", "_deadline_ns", "request", "retry_count")

    def __init__(self, request: Request, deadline_ns: int, retry_count: int, clock: Clock) -> None:
        self.request = request
        self._deadline_ns = deadline_ns
        self.retry_count = retry_count
        self._clock = clock

    def left_s(self) -> float:
        return max(0.0, (self._deadline_ns - self._clock.boot_ns()) / NANOSECONDS)

    def error(
        self,
        outcome: AttemptOutcome,
        reason: str,
        url: str,
        *,
        status: int = 0,
        retry_after_s: float = 0.0,
        detail: object = "",
        page: Answer | None = None,
    ) -> WebError:
        return WebError(
            outcome,
            reason,
            url=redact_url(url),
            status=status,
            retry_count=self.retry_count,
            retry_after_s=retry_after_s,
            detail=redact_text(str(detail))[:300],
            page=page,
        )

    def failed(self, error: httpx.TransportError | InflateError, url: str, *, status: int = 0) -> WebError:
        if isinstance(error, InflateError):
            outcome: AttemptOutcome = "retryable" if error.reason == "short_body" else "nonretryable"
            return self.error(outcome, error.reason, url, status=status, detail=error)
        for kind, outcome, reason in _FAILURES:
            if isinstance(error, kind):
                return self.error(outcome, reason, url, status=status, detail=error)
        return self.error("retryable", "bad_answer", url, status=status, detail=error)

    def late(self, url: str, *, status: int = 0) -> WebError:
        return self.error("timeout", "deadline", url, status=status)


class _Arrival(msgspec.Struct, frozen=True):
    """The final answer of a chain of redirects, its body unread."""

    place: Place
    response: httpx.Response
    hops: tuple[str, ...]
    cookies: Cookies
    lost: bool
    """The way led from a page to the bare home page: what was asked for is not there."""


class OpenDownload:
    """An open answer whose first bytes are a PDF's; see ``exchange.Download``."""

    def __init__(
        self,
        call: _Call,
        arrival: _Arrival,
        body: Body,
        *,
        head: bytes,
        rest: AsyncIterator[bytes],
        settings: DownloadSettings,
        clock: Clock,
    ) -> None:
        self.url = arrival.place.url
        self.status = arrival.response.status_code
        self.headers = dict(arrival.response.headers.items())
        self.length = _length(arrival.response) if body.is_plain else None
        self.retry_count = call.retry_count
        self.hops = arrival.hops
        self._call = call
        self._body = body
        self._head = head
        self._rest = rest
        self._settings = settings
        self._clock = clock
        self._received = 0

    def __repr__(self) -> str:
        return f"<OpenDownload {redact_url(self.url)} received={self._received} of {self.length}>"

    async def save(self, write: Callable[[bytes], Awaitable[None]]) -> Saved:
        """Read to the end; see ``exchange.Download.save``."""
        started_ns = self._clock.boot_ns()
        try:
            digest = await self._written(write, started_ns)
        except (httpx.TransportError, InflateError) as error:
            raise self._broken(error) from error
        finally:
            # Also when the task is cancelled: the socket closes now, not when the server is done.
            await self.close()
        if self._received < self._settings.bytes_min:
            raise self._error("no_pdf", "too_small", f"{self._received} bytes")
        if self.length is not None and self._received < self.length:
            raise self._error("retryable", "short_body", f"{self._received} of {self.length} bytes")
        elapsed_ms = (self._clock.boot_ns() - started_ns) // 1_000_000
        return Saved(sha256=digest, bytes=self._received, elapsed_ms=elapsed_ms)

    async def close(self) -> None:
        """Let the connection go; harmless after ``save``."""
        await self._body.close()

    async def _written(self, write: Callable[[bytes], Awaitable[None]], started_ns: int) -> str:
        hashed = hashlib.sha256()
        pending = bytearray()
        piece: bytes | None = self._head
        self._bound(self.length or 0, started_ns)
        while piece is not None:
            self._received += len(piece)
            self._bound(self._received, started_ns)
            pending += piece
            if len(pending) >= self._settings.chunk_bytes:
                await _flush(pending, hashed, write)
            piece = await self._next()
        if pending:
            await _flush(pending, hashed, write)
        return hashed.hexdigest()

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._settings.stall_s):
                return await anext(self._rest, None)
        except (TimeoutError, httpx.ReadTimeout) as error:
            raise self._error("retryable", "stalled", f"{self._settings.stall_s} s of silence") from error

    def _bound(self, size: int, started_ns: int) -> None:
        if size > self._settings.bytes_max:
            raise self._error("nonretryable", "too_large", f"{size} bytes and more")
        elapsed_s = (self._clock.boot_ns() - started_ns) / NANOSECONDS
        if elapsed_s > self._settings.stall_s + self._received / self._settings.bytes_per_s_min:
            raise self._error("timeout", "deadline", f"{self._received} bytes in {elapsed_s:.0f} s")

    def _broken(self, error: httpx.TransportError | InflateError) -> WebError:
        return self._call.failed(error, self.url, status=self.status)

    def _error(self, outcome: AttemptOutcome, reason: str, detail: str) -> WebError:
        return self._call.error(outcome, reason, self.url, status=self.status, detail=detail)


async def _flush(
    pending: bytearray, hashed: hashlib._Hash, write: Callable[[bytes], Awaitable[None]]
) -> None:
    chunk = bytes(pending)
    pending.clear()
    hashed.update(chunk)
    await write(chunk)


def _length(response: httpx.Response) -> int | None:
    text = response.headers.get("content-length", "")
    known = text.isascii() and text.isdigit() and "transfer-encoding" not in response.headers
    return int(text) if known and len(text) < 19 else None


class WebClient:
    """The web port: one pool, one set of limits, breakers and robots rules for the whole process.

    ``on_breaker`` is called on whatever thread a breaker changed, and must not block.

    Raises:
        UsageError: the settings contradict each other.
    """

    def __init__(
        self,
        settings: WebSettings,
        *,
        thresholds: Thresholds,
        gates: Gates,
        download: DownloadSettings,
        clock: Clock,
        random: Random,
        scheduler: Scheduler,
        on_breaker: Callable[[BreakerChanged], None],
    ) -> None:
        if settings.pacing == "none" and not settings.stand_in:
            raise UsageError(
                "web.pacing: none is for rehearsals: set web.stand_in as well, or leave it polite"
            )
        self._settings = settings
        self._thresholds = thresholds
        self._gates = gates
        self._download = download
        self._clock = clock
        self._random = random
        self._stand_in = _stand_in(settings.stand_in)
        self._guard = Guard(settings.allow_hosts, rehearsal=self._stand_in is not None)
        self._limits = Limits(settings.limits)
        self._robots = RobotsCache(ttl_s=settings.robots_ttl_s, now_ns=clock.boot_ns)
        self._asking_robots: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._transport = Transport(
            guard=self._guard,
            scheduler=scheduler,
            connections_max=settings.connections_max,
            proxy=settings.proxy,
            trusted=frozenset({self._stand_in.host or ""} if self._stand_in else ()),
        )
        self._traffic = _Traffic()
        self.breakers = Breakers(settings.breaker, clock=clock, on_change=on_breaker)

    def __repr__(self) -> str:
        parts = f"{self.breakers!r} {self._limits!r} {self._robots!r}"
        return f"<WebClient {parts} requests={self._traffic.requests}>"

    def statistics(self) -> WebStatistics:
        """What was sent and received so far."""
        traffic = self._traffic
        return WebStatistics(traffic.requests, traffic.bytes, traffic.retries, dict(traffic.statuses))

    async def fetch(self, request: Request) -> Answer:
        """A whole answer; see ``exchange.Web.fetch``."""
        is_data = request.role == "metadata"
        bound = self._settings.metadata_bytes_max if is_data else self._settings.page_bytes_max
        return await self._fetched(request, bound)

    async def open(self, request: Request) -> OpenDownload:
        """Open what should be a PDF; see ``exchange.Web.open``."""
        if request.accept == "*/*":
            request = msgspec.structs.replace(request, accept=PDF_ACCEPT)
        return await self._tried(request, self._sniffed)

    def gate(self, url: str, role: Role) -> Gate | None:
        """Whether a request would be held back now; without I/O, from any thread."""
        if not self._may_go_online(role):
            return Gate("offline", 0.0)
        try:
            asked = place(url)
        except BadUrl:
            return None
        wait_s = self.breakers.wait_s(asked.site)
        if self._gates.skip_if_breaker_open and wait_s > 0:
            return Gate("breaker_open", wait_s)
        wait_s = self._rate_wait_s(asked, role)
        return Gate("rate_wait", wait_s) if wait_s > self._rate_wait_max_s else None

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    # -- retries ------------------------------------------------------------------------------------

    async def _fetched(self, request: Request, bytes_max: int) -> Answer:
        async def finish(call: _Call, arrival: _Arrival) -> Answer:
            answer = await self._whole(call, arrival, bytes_max)
            if self._is_retryable(answer.status):
                raise self._status_error(call, answer)
            if arrival.lost and request.role == "landing":
                raise call.error("no_pdf", "soft_404", answer.url, status=answer.status, page=answer)
            return answer

        try:
            return await self._tried(request, finish)
        except WebError as error:
            if error.page is not None and error.reason.startswith("http_"):
                return error.page
            raise

    async def _tried(self, request: Request, finish: Callable[[_Call, _Arrival], Awaitable[T]]) -> T:
        """Try, and try again after what may pass, as long as waiting and asking fit into the deadline."""
        deadline_ns = self._clock.boot_ns() + round(request.deadline_s * NANOSECONDS)
        last: WebError | None = None
        for retry_count in range(request.retries_max + 1):
            call = _Call(request, deadline_ns, retry_count, self._clock)
            try:
                return await self._once(call, finish)
            except WebError as error:
                if last is not None and error.outcome == "skipped":
                    raise last from None
                last = error
                wait_s = self._retry_wait_s(error)
                is_last = retry_count == request.retries_max or error.outcome != "retryable"
                if is_last or wait_s >= call.left_s() or self._is_shut(error.url, wait_s):
                    raise
            self._traffic.retries += 1
            await asyncio.sleep(wait_s)
        raise UsageError("retries_max must not be negative")

    async def _once(self, call: _Call, finish: Callable[[_Call, _Arrival], Awaitable[T]]) -> T:
        arrival = await self._arrived(call)
        try:
            return await finish(call, arrival)
        except BaseException:
            await arrival.response.aclose()
            raise

    def _retry_wait_s(self, error: WebError) -> float:
        backoff_s = self._settings.retry_base_ms / 1000 * 2.0 ** min(error.retry_count, 16)
        spread_s = min(backoff_s, RETRY_WAIT_MAX_S) * (0.5 + self._random.jitter() / 2)
        return error.retry_after_s + spread_s if error.retry_after_s else spread_s

    def _is_shut(self, url: str, wait_s: float) -> bool:
        with suppress(BadUrl):
            return self.breakers.wait_s(place(url).site) > wait_s
        return False

    # -- the chain of hops ----------------------------------------------------------------------------

    async def _arrived(self, call: _Call) -> _Arrival:
        """Follow redirects to the final answer, each hop with all our manners."""
        request = call.request
        cookies = Cookies(request.cookies)
        asked = first = self._place(call, lambda: place(request.url), request.url)
        hops: list[str] = []
        seen: set[tuple[str, object]] = set()
        while True:
            if request.role == "landing":
                asked = without_tracking(asked)
            if (asked.url, cookies.taken()) in seen:
                raise call.error("nonretryable", "redirect_loop", asked.url)
            seen.add((asked.url, cookies.taken()))
            response = await self._hop(call, asked, cookies)
            location = _location(response)
            if location is None:
                lost = bool(hops) and asked.is_bare_home and not first.is_bare_home
                return _Arrival(asked, response, tuple(hops), cookies, lost)
            await response.aclose()
            hops.append(asked.url)
            if len(hops) > self._settings.redirects_max:
                raise call.error("nonretryable", "too_many_redirects", asked.url, status=response.status_code)
            asked = self._place(call, lambda: joined(asked, location), asked.url)  # noqa: B023

    def _place(self, call: _Call, found: Callable[[], Place], url: str) -> Place:
        try:
            asked = found()
            self._guard.check(asked)
        except BadUrl as error:
            raise call.error("nonretryable", error.reason, url, detail=error) from error
        return asked

    async def _hop(self, call: _Call, asked: Place, cookies: Cookies) -> httpx.Response:
        """One request with its manners: offline, robots, breaker, limiter, send, tell the breaker."""
        role = call.request.role
        if not self._may_go_online(role):
            raise call.error("skipped", "offline", asked.url, detail=self._gates.offline_behavior)
        crawl_delay_s = await self._robots_asked(call, asked) if call.request.robots else 0.0
        permit = self._permit(call, asked)
        try:
            await self._turn_taken(call, asked, crawl_delay_s)
        except BaseException:
            self.breakers.report(permit, "unused")
            raise
        response = await self._sent(call, asked, self._request(call.request, asked, cookies), permit)
        cookies.take(asked.host, response.headers.get_list("set-cookie"), wall_ns=self._clock.wall_ns())
        return response

    def _may_go_online(self, role: Role) -> bool:
        allowed = self._gates.offline_behavior == "metadata_only" and role == "metadata"
        return not self._settings.offline or allowed

    # -- robots ---------------------------------------------------------------------------------------

    async def _robots_asked(self, call: _Call, asked: Place) -> float:
        """The Crawl-delay of a place that may be asked, in seconds."""
        rules = self._robots.get(asked.origin)
        if rules is None:
            rules = await self._robots_learned(call, asked)
        if rules.access == "none":
            raise call.error("retryable", "robots_unreachable", asked.url, detail=rules.reason)
        if not rules.allows(asked.url):
            raise call.error("nonretryable", "robots_disallowed", asked.url)
        return rules.crawl_delay_s

    async def _robots_learned(self, call: _Call, asked: Place) -> RobotsRules:
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

    async def _robots_read(self, call: _Call, asked: Place) -> RobotsRules:
        request = Request(
            url=f"{asked.origin}/robots.txt",
            role=call.request.role,
            source=call.request.source,
            retries_max=call.request.retries_max,
            deadline_s=call.left_s(),
            accept="text/plain,*/*;q=0.8",
        )
        try:
            answer = await self._fetched(request, ROBOTS_BYTES_MAX)
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

    def _permit(self, call: _Call, asked: Place) -> Permit:
        said = self.breakers.ask(asked.site)
        if isinstance(said, Refusal):
            # A gate that is switched off does not open the breaker; it makes the turn count.
            outcome: AttemptOutcome = "skipped" if self._gates.skip_if_breaker_open else "nonretryable"
            raise call.error(outcome, "breaker_open", asked.url, retry_after_s=said.wait_s)
        return said

    @property
    def _rate_wait_max_s(self) -> float:
        return self._gates.skip_if_rate_wait_exceeds_ms / 1000

    def _rate_wait_s(self, asked: Place, role: Role) -> float:
        if self._settings.pacing == "none":
            return 0.0
        return self._limits.wait_s(asked.site, asked.target, role, now_ns=self._clock.boot_ns())

    async def _turn_taken(self, call: _Call, asked: Place, crawl_delay_s: float) -> None:
        """Wait for the limiter; a turn that is not used goes back to it."""
        if self._settings.pacing == "none":
            return
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

    async def _waited(self, call: _Call, asked: Place, reservation: Reservation) -> None:
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

    # -- sending --------------------------------------------------------------------------------------

    def _request(self, request: Request, asked: Place, cookies: Cookies) -> httpx.Request:
        headers = {
            "User-Agent": user_agent(self._settings.contact_email),
            "Accept": request.accept,
            "Accept-Encoding": "identity" if request.role == "artifact" else "gzip, deflate",
            "Referer": _header_text(request.referer),
            "Cookie": cookies.header(asked.host),
        }
        url, target = httpx.URL(asked.origin), asked.target
        if self._stand_in is not None:
            headers["X-Original-URL"] = asked.url
            url, target = self._stand_in, "/"
        read_s = self._settings.read_timeout_ms / 1000
        if request.role == "artifact":
            read_s = max(read_s, self._download.stall_s)
        return httpx.Request(
            "GET",
            url,
            headers={name: value for name, value in headers.items() if value},
            extensions={
                "target": target.encode("ascii"),
                "timeout": {"connect": self._settings.connect_timeout_ms / 1000, "read": read_s},
            },
        )

    async def _sent(
        self, call: _Call, asked: Place, request: httpx.Request, permit: Permit
    ) -> httpx.Response:
        """Send once and tell the breaker what became of it."""
        self._traffic.requests += 1
        left_s = call.left_s()
        try:
            async with asyncio.timeout(left_s):
                response = await self._transport.handle_async_request(request)
        except TimeoutError as error:
            blamed = left_s >= min(BLAME_MIN_S, call.request.deadline_s / 2)
            self.breakers.report(permit, "failure" if blamed else "unused", reason="deadline")
            raise call.late(asked.url) from error
        except httpx.TransportError as error:
            raise self._unsent(call, asked, permit, error) from error
        except BaseException:
            self.breakers.report(permit, "unused")
            raise
        self._judged(permit, response)
        return response

    def _unsent(
        self, call: _Call, asked: Place, permit: Permit, error: httpx.TransportError
    ) -> WebError | EnvironmentFault:
        if self._stand_in is not None and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            self.breakers.report(permit, "unused")
            return EnvironmentFault(
                f"the stand-in {self._settings.stand_in} does not answer ({error}): start it and go on"
            )
        failed = call.failed(error, asked.url)
        self.breakers.report(
            permit, "unused" if failed.reason == "address_refused" else "failure", reason=failed.reason
        )
        return failed

    def _judged(self, permit: Permit, response: httpx.Response) -> None:
        status = response.status_code
        self._traffic.statuses[status] = self._traffic.statuses.get(status, 0) + 1
        verdict: Verdict = "success" if status < 400 else "neutral"
        if status == 429 or status >= 500:
            verdict = "failure"
        self.breakers.report(
            permit, verdict, reason=f"http_{status}", retry_after_s=self._retry_after_s(response.headers)
        )

    def _retry_after_s(self, headers: httpx.Headers) -> float:
        return retry_after_s(
            headers.get("retry-after", ""),
            wall_ns=self._clock.wall_ns(),
            max_s=self._settings.retry_after_max_s,
        )

    # -- answers --------------------------------------------------------------------------------------

    def _body(self, call: _Call, arrival: _Arrival) -> Body:
        try:
            return Body(
                arrival.response, ratio_max=self._settings.inflate_ratio_max, count=self._traffic.came
            )
        except InflateError as error:
            raise call.failed(error, arrival.place.url, status=arrival.response.status_code) from error

    async def _whole(self, call: _Call, arrival: _Arrival, bytes_max: int) -> Answer:
        """Read an answer to its end or its bound, within the deadline, and let the connection go."""
        body = self._body(call, arrival)
        async with aclosing(body.pieces()) as pieces:
            return await self._read_on(call, arrival, b"", pieces, bytes_max)

    async def _read_on(
        self, call: _Call, arrival: _Arrival, head: bytes, pieces: AsyncIterator[bytes], bytes_max: int
    ) -> Answer:
        content = bytearray(head)
        try:
            async with asyncio.timeout(call.left_s()):
                async for piece in pieces:
                    content += piece
                    if len(content) > bytes_max:
                        break
        except TimeoutError as error:
            raise call.late(arrival.place.url, status=arrival.response.status_code) from error
        except (httpx.TransportError, InflateError) as error:
            raise call.failed(error, arrival.place.url, status=arrival.response.status_code) from error
        finally:
            await arrival.response.aclose()
        return Answer(
            url=arrival.place.url,
            status=arrival.response.status_code,
            headers=dict(arrival.response.headers.items()),
            body=bytes(content[:bytes_max]),
            truncated=len(content) > bytes_max,
            hops=arrival.hops,
            retry_count=call.retry_count,
            cookies=arrival.cookies.taken(),
        )

    async def _sniffed(self, call: _Call, arrival: _Arrival) -> OpenDownload:
        """A download when the first bytes are a PDF's; else the true reason, with the page that came."""
        if not 200 <= arrival.response.status_code < 300:
            raise await self._refused(call, arrival)
        body = self._body(call, arrival)
        pieces = body.pieces()
        head = await self._head(call, arrival, pieces)
        if shows_pdf(head):
            return OpenDownload(
                call, arrival, body, head=head, rest=pieces, settings=self._download, clock=self._clock
            )
        page = None
        if looks_like_html(head) or looks_like_text(head):
            page = await self._read_on(call, arrival, head, pieces, self._settings.page_bytes_max)
        await arrival.response.aclose()
        reason = "html_instead" if looks_like_html(head) else "not_a_pdf" if head else "empty_body"
        raise call.error(
            "no_pdf",
            "soft_404" if arrival.lost else reason,
            arrival.place.url,
            status=arrival.response.status_code,
            page=page,
        )

    async def _head(self, call: _Call, arrival: _Arrival, pieces: AsyncIterator[bytes]) -> bytes:
        head = b""
        try:
            async with asyncio.timeout(call.left_s()):
                while len(head) < SNIFF_BYTES and not shows_pdf(head):
                    piece = await anext(pieces, None)
                    if piece is None:
                        break
                    head += piece
        except TimeoutError as error:
            raise call.late(arrival.place.url, status=arrival.response.status_code) from error
        except (httpx.TransportError, InflateError) as error:
            raise call.failed(error, arrival.place.url, status=arrival.response.status_code) from error
        return head

    async def _refused(self, call: _Call, arrival: _Arrival) -> WebError:
        """The error of a status that is no success, with the page where it is one worth reading."""
        try:
            answer = await self._whole(call, arrival, self._settings.page_bytes_max)
        except WebError as error:
            if error.reason == "deadline":
                return error
            answer = Answer(
                url=arrival.place.url,
                status=arrival.response.status_code,
                headers=dict(arrival.response.headers.items()),
                body=b"",
                hops=arrival.hops,
            )
        return self._status_error(call, answer, page=answer if looks_like_html(answer.body) else None)

    def _is_retryable(self, status: int) -> bool:
        return status in self._thresholds.retryable or (
            status >= 500 and status not in self._thresholds.terminal
        )

    def _status_error(self, call: _Call, answer: Answer, **page: Answer | None) -> WebError:
        if answer.status in _REDIRECTS:
            return call.error("nonretryable", "bad_redirect", answer.url, status=answer.status)
        return call.error(
            "retryable" if self._is_retryable(answer.status) else "nonretryable",
            f"http_{answer.status}",
            answer.url,
            status=answer.status,
            retry_after_s=self._retry_after_s(httpx.Headers(answer.headers)),
            page=page.get("page", answer),
        )


def user_agent(contact_email: str | None) -> str:
    """Who we are, truthfully, and whom to write to."""
    contact = f"; mailto:{_header_text(contact_email)}" if contact_email else ""
    return f"quire/{__version__} (open-access papers{contact})"


def retry_after_s(text: str, *, wall_ns: int, max_s: float) -> float:
    """Seconds that a ``Retry-After`` asks for, given as seconds or as a date; 0 when it asks for nothing."""
    try:
        wait_s = float(text)
    except ValueError:
        date_s = http_date_s(text)
        wait_s = 0.0 if date_s is None else date_s - wall_ns / NANOSECONDS
    return min(wait_s, max_s) if math.isfinite(wait_s) and wait_s > 0 else 0.0


def _location(response: httpx.Response) -> bytes | None:
    if response.status_code not in _REDIRECTS:
        return None
    return next((value for name, value in response.headers.raw if name.lower() == b"location"), None)


def _header_text(text: str) -> str:
    return "".join(character for character in text if " " <= character <= "~")


def _stand_in(text: str | None) -> httpx.URL | None:
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"web.stand_in: {text!r} is no address like http://127.0.0.1:8080")
    return httpx.URL(f"http://{parts.netloc}")
