"""The wire: an httpx transport over aiohttp's connections.

httpx's own pool is quadratic in connections (0.09 of a raw socket at 64 at once); the package
``httpx-aiohttp`` is fast but lets httpx and yarl quote a URL again, which breaks signed URLs, tells a broken
stream as a connect timeout, and leaves aiohttp's silent second sending on. So this is a lean one of our own:
the request target of the extension ``target`` reaches the wire byte for byte, nothing is sent twice, no
proxy, cookie or password comes from the environment, and every failure is one of httpx's errors. Two more
say what httpx has no word for.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import certifi
import httpx
import yarl

from ..runtime.ports import Scheduler
from .guard import Guard
from .names import GuardedResolver, RefusedAddress

HEADER_BYTES_MAX = 16_384
"""Longest status line or header field that is read."""
HEADERS_MAX = 256
KEEPALIVE_S = 4.0
"""An idle connection is kept this long: under the 5 s after which common servers close it on us."""
BUFFER_BYTES = 65_536
"""Above twice this the server is held back until somebody reads; a chunk of a body may be a little more."""


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


def ssl_context() -> ssl.SSLContext:
    """A context with the machine's certificates, or certifi's where it has none; takes about 20 ms."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _translated(error: Exception) -> httpx.TransportError:
    """The httpx error for one of aiohttp's; the order goes from the special to the general."""
    said = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if isinstance(error.os_error, RefusedAddress):
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
            # All that has come, in one piece: cutting it up costs a copy and a turn for every cut.
            while chunk := await self._response.content.readany():
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
            context = await self._scheduler.aside(ssl_context)
            # Whoever was first: connections are pooled by context, and two would be two pools.
            self._context = self._context or context
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
        await self._resolver.close()
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
        read_bufsize=BUFFER_BYTES,
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
