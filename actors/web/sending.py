"""Sending: one request onto the wire, and what the host's breaker is told of it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import httpx
import msgspec

from ...config.settings import Web as WebSettings
from ...errors import EnvironmentFault, UsageError
from ...version import VERSION
from ..runtime.ports import Clock
from .breaker import Breakers, Permit, Verdict
from .call import Call, retry_after_s
from .client_settings import ClientSettings
from .cookies import Cookies
from .exchange import Request, WebError
from .guard import Place
from .ranges import range_headers

BLAME_MIN_S = 1.0
"""A deadline that cuts off a host sooner than this says nothing about the host."""
NO_CONDITIONS: Mapping[str, str] = {}
ORIGINS_MAX = 1_024
"""Origins whose parsed form is kept."""


class WebStatistics(msgspec.Struct, frozen=True):
    """What a client did so far."""

    requests: int
    """Sent, redirects and robots.txt included."""
    bytes: int
    """Body bytes off the wire."""
    retries: int
    statuses: dict[int, int]


class Traffic:
    """The counters behind ``WebStatistics``."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0
        self.retries = 0
        self.statuses: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Traffic requests={self.requests} bytes={self.bytes} retries={self.retries}>"

    def came(self, size: int) -> None:
        """Count body bytes."""
        self.bytes += size

    def answered(self, status: int) -> None:
        """Count an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def statistics(self) -> WebStatistics:
        """The counts as they are now."""
        return WebStatistics(self.requests, self.bytes, self.retries, dict(self.statuses))


class Sender:
    """Builds requests, sends each once, and tells the breakers."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        transport: httpx.AsyncBaseTransport,
        breakers: Breakers,
        clock: Clock,
        traffic: Traffic,
    ) -> None:
        self._settings = web = settings.web
        self._transport = transport
        self._breakers = breakers
        self._clock = clock
        self._traffic = traffic
        stand_in = stand_in_of(web)
        self._stand_in = httpx.Request("GET", stand_in) if stand_in else None
        self._user_agent = user_agent(web.contact_email)
        connect_s, read_s = web.connect_timeout_ms / 1000, web.read_timeout_ms / 1000
        self._timeout = {"connect": connect_s, "read": read_s}
        self._artifact_timeout = {"connect": connect_s, "read": max(read_s, settings.download.stall_s)}

    def __repr__(self) -> str:
        return f"<Sender to {self._stand_in.url if self._stand_in else 'the web'} {self._traffic!r}>"

    async def send(
        self,
        call: Call,
        asked: Place,
        cookies: Cookies,
        permit: Permit,
        conditions: Mapping[str, str] = NO_CONDITIONS,
    ) -> httpx.Response:
        """Send once and wait for the head of the answer, within the deadline; the permit is reported on.

        ``conditions`` are header fields that ask whether a kept answer still holds.

        Raises:
            WebError: there is no answer.
            EnvironmentFault: the stand-in does not answer.
        """
        request = self._request(call.request, asked, cookies, conditions)
        self._traffic.requests += 1
        left_s = call.left_s()
        try:
            async with asyncio.timeout(left_s):
                response = await self._transport.handle_async_request(request)
        except TimeoutError as error:
            blamed = left_s >= min(BLAME_MIN_S, call.request.deadline_s / 2)
            self._breakers.report(permit, "failure" if blamed else "unused", reason="deadline")
            raise call.late(asked.url) from error
        except httpx.TransportError as error:
            raise self._unsent(call, asked, permit, error) from error
        except BaseException:
            self._breakers.report(permit, "unused")
            raise
        self._judge(permit, response)
        return response

    def retry_after_s(self, headers: Mapping[str, str]) -> float:
        """Seconds that an answer's ``Retry-After`` asks for, within our bound."""
        text, date = headers.get("retry-after", ""), headers.get("date", "")
        wall_ns, max_s = self._clock.wall_ns(), self._settings.retry_after_max_s
        return retry_after_s(text, date=date, wall_ns=wall_ns, max_s=max_s)

    def headers(self, request: Request, asked: Place) -> dict[str, str]:
        """The header fields of a request but for cookies; those with an empty value are not sent."""
        return {
            "Host": asked.site,
            "User-Agent": self._user_agent,
            "Accept": request.accept,
            "Accept-Encoding": "identity" if request.role == "artifact" else "gzip, deflate",
            "Referer": header_text(request.referer),
            **range_headers(request),
        }

    def _request(
        self, request: Request, asked: Place, cookies: Cookies, conditions: Mapping[str, str]
    ) -> httpx.Request:
        headers = {**self.headers(request, asked), "Cookie": cookies.header(asked.host), **conditions}
        target, like = asked.target, self._stand_in
        if like is None:
            like = _to_origin(asked.origin)
        else:
            target = "/"
            headers["Host"] = like.url.netloc.decode("ascii")
            headers["X-Original-URL"] = asked.url
        if "Range" in headers:
            headers["Accept-Encoding"] = "identity"  # a range counts the bytes of the file itself
        # A copy with other headers costs a tenth of a new httpx.Request, which parses its URL twice.
        built = copy.copy(like)
        built.headers = httpx.Headers({name: value for name, value in headers.items() if value})
        built.extensions = {
            "target": target.encode("ascii"),
            "timeout": self._artifact_timeout if request.role == "artifact" else self._timeout,
        }
        return built

    def _unsent(
        self, call: Call, asked: Place, permit: Permit, error: httpx.TransportError
    ) -> WebError | EnvironmentFault:
        if self._stand_in is not None and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            self._breakers.report(permit, "unused")
            return EnvironmentFault(
                f"the stand-in {self._settings.stand_in} does not answer ({error}): start it and go on"
            )
        failed = call.failed(error, asked.url)
        self._breakers.report(
            permit, "unused" if failed.reason == "address_refused" else "failure", reason=failed.reason
        )
        return failed

    def _judge(self, permit: Permit, response: httpx.Response) -> None:
        status = response.status_code
        self._traffic.answered(status)
        verdict: Verdict = "success" if status < 400 else "neutral"
        if status == 429 or status >= 500:
            verdict = "failure"
        wait_s = self.retry_after_s(response.headers) if verdict == "failure" else 0.0
        self._breakers.report(permit, verdict, reason=f"http_{status}", retry_after_s=wait_s)


@lru_cache(maxsize=ORIGINS_MAX)
def _to_origin(origin: str) -> httpx.Request:
    return httpx.Request("GET", origin)


def user_agent(contact_email: str | None) -> str:
    """Who we are, truthfully, and whom to write to."""
    contact = f"; mailto:{header_text(contact_email)}" if contact_email else ""
    return f"quire/{VERSION} (open-access papers{contact})"


def header_text(text: str) -> str:
    """As much of a text as may stand in a header."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character for character in text if " " <= character <= "~")


def stand_in_of(settings: WebSettings) -> httpx.URL | None:
    """The server that plays the web in a rehearsal, or None.

    Raises:
        UsageError: the setting is no address of a server.
    """
    if not settings.stand_in:
        return None
    parts = urlsplit(settings.stand_in)
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"web.stand_in: {settings.stand_in!r} is no address like http://127.0.0.1:8080")
    return httpx.URL(f"http://{parts.netloc}")
