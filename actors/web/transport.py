"""The wire: an httpx transport over aiohttp's connections.

httpx's own pool is quadratic in connections (0.09 of a raw socket at 64 at once); the package
``httpx-aiohttp`` is fast but lets httpx and yarl quote a URL again, which breaks signed URLs, tells a broken
stream as a connect timeout, and leaves aiohttp's silent second sending on. So this is a lean one of our own:
the request target of the extension ``target`` reaches the wire byte for byte, nothing is sent twice, no
proxy, cookie or password comes from the environment, and every failure is one of httpx's errors. Two more
say what httpx has no word for.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import certifi
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from ..runtime.ports import NANOSECONDS, Scheduler
from .guard import Guard

HEADER_BYTES_MAX = 16_384
"""Longest status line or header field that is read."""
HEADERS_MAX = 256
KEEPALIVE_S = 4.0
"""An idle connection is kept this long: under the 5 s after which common servers close it on us."""
CHUNK_BYTES = 65_536


class NameNotFound(httpx.ConnectError):
    """The host has no address."""


class AddressRefused(httpx.ConnectError):
    """DNS answered with private addresses only."""


class TlsFailed(httpx.ConnectError):
    """No trusted connection could be made."""


class CertificateRefused(TlsFailed):
    """The host's certificate is not one to trust; asking again will not change it."""


class ShortBody(httpx.ReadError):
    """The answer ended before its own length, or its last chunk, was reached."""


class _Refused(OSError):
    """Carries the guard's refusal through aiohttp's connector."""


def ssl_context() -> ssl.SSLContext:
    """A context with the machine's certificates, or certifi's where it has none; takes about 20 ms."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


class GuardedResolver(AbstractResolver):
    """DNS in a thread of the scheduler's; only addresses that the guard lets through are given on."""

    def __init__(self, guard: Guard, scheduler: Scheduler, *, trusted: frozenset[str] = frozenset()) -> None:
        self._guard = guard
        self._scheduler = scheduler
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of a host.

        Raises:
            OSError: it has none.
        """
        found = await self._scheduler.aside(
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        trusted = host in self._trusted or self._guard.allows_host(host)
        kept = [entry for entry in found if trusted or self._guard.allows_address(str(entry[4][0]))]
        if found and not kept:
            raise _Refused(f"{host} leads to {found[0][4][0]}, which is not a public address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in kept
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _translated(error: Exception) -> httpx.TransportError:
    """The httpx error for one of aiohttp's; the order goes from the special to the general."""
    said = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if isinstance(error.os_error, _Refused):
            return AddressRefused(str(error.os_error))
        return NameNotFound(str(error.os_error))
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return httpx.ProxyError(said)
    if isinstance(error, aiohttp.ClientPayloadError) and not isinstance(error.__cause__, OSError):
        return ShortBody(said)
    for foreign, ours in _ERRORS:
        if isinstance(error, foreign):
            return ours(said)
    return httpx.RemoteProtocolError(said)


_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientConnectorCertificateError, CertificateRefused),
    (aiohttp.ClientSSLError, TlsFailed),
    (ssl.SSLError, TlsFailed),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.ReadError),
    (aiohttp.ClientPayloadError, httpx.ReadError),
    (aiohttp.ClientOSError, httpx.ReadError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (TimeoutError, httpx.ReadTimeout),
    (OSError, httpx.ReadError),
)
_FOREIGN = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError, ValueError)


class AnswerStream(httpx.AsyncByteStream):
    """The bytes of one answer as they come off the wire; closing it early closes the socket."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises: an httpx.TransportError when the stream breaks."""
        try:
            while chunk := await self._response.content.read(CHUNK_BYTES):
                yield chunk
        except _FOREIGN as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """Give the connection back when the answer was read to its end, else close it at once."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Transport(httpx.AsyncBaseTransport):
    """One pool of connections for the whole process; made at the first request, within the event loop.

    Request extensions: ``target`` (bytes), the exact path and query; ``timeout`` with ``connect`` and
    ``read`` in seconds. ``trusted`` names hosts of our own (a stand-in) that may have private addresses.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        scheduler: Scheduler,
        connections_max: int,
        proxy: str | None = None,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        self._resolver = GuardedResolver(guard, scheduler, trusted=trusted | _host_of(proxy))
        self._scheduler = scheduler
        self._connections_max = connections_max
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<Transport connections_max={self._connections_max} open={self._session is not None}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request once and wait for the head of its answer.

        Raises:
            httpx.TransportError: there is none; see the classes of this module.
        """
        if request.url.scheme == "https" and self._context is None:
            self._context = await self._scheduler.aside(ssl_context)
        session = self._opened()
        try:
            response = await session.request(
                request.method,
                _url(request),
                headers=request.headers.multi_items(),
                allow_redirects=False,
                timeout=_timeout(request),
                ssl=self._context if self._context is not None else True,
                proxy=self._proxy,
            )
        except _FOREIGN as error:
            raise _translated(error) from error
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=AnswerStream(response),
            request=request,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = _session(self._resolver, self._connections_max)
        return self._session


def _host_of(proxy: str | None) -> frozenset[str]:
    host = urlsplit(proxy).hostname if proxy else None
    return frozenset({host} if host else ())


def _session(resolver: GuardedResolver, connections_max: int) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=resolver,
            limit=connections_max,
            keepalive_timeout=KEEPALIVE_S,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
    )
    # aiohttp sends a GET again, unasked, when the first sending fails; retrying is the client's affair, and
    # requests are counted. It has no public switch: tests/test_web_transport.py pins this one.
    session._retry_connection = False
    return session


def _url(request: httpx.Request) -> yarl.URL:
    """The URL with its target untouched: handed over whole as a path, since yarl drops an empty query."""
    target: bytes = request.extensions.get("target", request.url.raw_path)
    return yarl.URL.build(
        scheme=request.url.scheme,
        authority=request.url.netloc.decode("ascii"),
        path=target.decode("ascii"),
        encoded=True,
    )


def _timeout(request: httpx.Request) -> aiohttp.ClientTimeout:
    limits: dict[str, Any] = request.extensions.get("timeout", {})
    return aiohttp.ClientTimeout(
        total=None, connect=None, sock_connect=limits.get("connect"), sock_read=limits.get("read")
    )


COOKIES_MAX = 64
COOKIE_CHARS_MAX = 4_096
_COOKIE_TEXT = re.compile(r"[\x20-\x7e\x80-\xff]*")


class Cookies:
    """The cookies of one chain of requests: taken from each answer, given to each hop they are for.

    A domain with a leading dot includes its subdomains (RFC 6265 5.1.3); one without is a host alone.
    Paths are not kept: a chain is too short for them to matter.
    """

    def __init__(self, given: tuple[tuple[str, str, str], ...] = ()) -> None:
        self._kept: dict[tuple[str, str], str] = {}
        for domain, name, value in given[:COOKIES_MAX]:
            self._keep(domain.lower(), name, value)

    def __repr__(self) -> str:
        return f"<Cookies {sorted(self._kept)}>"

    def taken(self) -> tuple[tuple[str, str, str], ...]:
        """All of them, as (domain, name, value)."""
        return tuple((domain, name, value) for (domain, name), value in self._kept.items())

    def header(self, host: str) -> str:
        """The Cookie header for a host; ``""`` when there are none."""
        return "; ".join(
            f"{name}={value}" for (domain, name), value in self._kept.items() if _is_for(domain, host)
        )

    def take(self, host: str, set_cookies: list[str], *, wall_ns: int) -> None:
        """Keep, replace or drop what a host's ``Set-Cookie`` headers say."""
        for line in set_cookies:
            pair, *attributes = line.split(";")
            name, equals, value = pair.partition("=")
            said = {
                key.strip().lower(): text.strip()
                for key, _, text in (attribute.partition("=") for attribute in attributes)
            }
            domain = _domain(said.get("domain", ""), host)
            if not equals or not name.strip() or domain is None:
                continue
            if _is_over(said, wall_ns):
                self._kept.pop((domain, name.strip()), None)
            else:
                self._keep(domain, name.strip(), value.strip())

    def _keep(self, domain: str, name: str, value: str) -> None:
        fits = len(name) + len(value) <= COOKIE_CHARS_MAX and _COOKIE_TEXT.fullmatch(name + value)
        if fits and ((domain, name) in self._kept or len(self._kept) < COOKIES_MAX):
            self._kept[domain, name] = value


def _is_for(domain: str, host: str) -> bool:
    return host == domain.lstrip(".") or (domain.startswith(".") and host.endswith(domain))


def _domain(named: str, host: str) -> str | None:
    """The domain that a host may set a cookie for; None when it is not its own."""
    bare = named.lower().strip(".")
    if not bare:
        return host
    # One label (``.com``) would be everybody's.
    return f".{bare}" if _is_for(f".{bare}", host) and ("." in bare or bare == host) else None


def _is_over(said: dict[str, str], wall_ns: int) -> bool:
    age = said.get("max-age", "")
    if age.lstrip("-").isdigit():
        return int(age[:12]) <= 0
    expires = http_date_s(said.get("expires", ""))
    return expires is not None and expires * NANOSECONDS <= wall_ns


def http_date_s(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date in any of its forms; None when it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
