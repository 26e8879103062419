"""The wire: targets byte for byte, one sending for one request, guarded DNS, and httpx's errors."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from pathlib import Path

import httpx
import pytest

from quire.actors.web.cookies import Cookies, http_date_s
from quire.actors.web.guard import Guard
from quire.actors.web.names import GuardedResolver
from quire.actors.web.transport import (
    AddressRefused,
    NameNotFound,
    ShortBody,
    TlsFailed,
    Transport,
    ssl_context,
)

sys.path.insert(0, str(Path(__file__).parent))
from loopback import Aside, loopback, reply, run


def wired(test, **more):
    """Run a test with a server and a transport."""

    def whole() -> None:
        async def inner() -> None:
            async with loopback() as web:
                transport = Transport(guard=Guard(), scheduler=Aside(), connections_max=8, **more)
                await test(web, transport)
                await transport.aclose()

        run(inner)

    whole.__doc__ = test.__doc__
    return whole


def get(url: str, **extensions) -> httpx.Request:
    return httpx.Request("GET", url, extensions=extensions)


@wired
async def test_the_target_reaches_the_wire_byte_for_byte(web, transport):
    """No quoting, no dot segments, no dropped question mark."""
    web.on("*", reply(200, b"ok"))
    targets = [
        "/a%2fb%7e/../c/./d",
        "/?",
        "/x?a=%2B+%20&b&c==&sig=A/b+c%3D",
        "/p?q={x}|^`[\"']<>",
        "//x//",
        "/%zz%",
    ]
    for target in targets:
        response = await transport.handle_async_request(get(web.url, target=target.encode()))
        await response.aclose()
    assert [asked.line for asked in web.asked] == [f"GET {target} HTTP/1.1" for target in targets]


@wired
async def test_nothing_is_sent_twice(web, transport):
    """aiohttp's own silent retry is off: a dropped connection, new or kept, is one request at the server."""

    async def drop(asked, reader, writer):
        writer.transport.abort()

    web.on("/kept", reply(200, b"ok"))
    web.on("/drop", drop)
    for warm in (False, True):
        if warm:
            response = await transport.handle_async_request(get(web.url, target=b"/kept"))
            assert await response.aread() == b"ok"
        with pytest.raises(httpx.ReadError):
            await transport.handle_async_request(get(web.url, target=b"/drop"))
    assert web.count("/drop") == 2


@wired
async def test_only_our_headers_are_sent(web, transport):
    """No cookie, encoding or name of the library's."""
    web.on("*", reply(200, b"ok", Set_Cookie="a=1"))
    for _ in range(2):
        request = httpx.Request("GET", web.url, headers={"User-Agent": "quire"})
        await (await transport.handle_async_request(request)).aclose()
    for asked in web.asked:
        assert asked.headers["user-agent"] == "quire"
        assert "cookie" not in asked.headers
        assert "aiohttp" not in str(asked.headers)


@wired
async def test_failures_are_httpx_errors(web, transport):
    """Each break of the wire has its class."""

    async def silent(asked, reader, writer):
        await asyncio.sleep(2)

    web.on("/garbage", b"hello\r\n\r\n")
    web.on("/silent", silent)
    with pytest.raises(httpx.RemoteProtocolError):
        await transport.handle_async_request(get(web.url, target=b"/garbage"))
    with pytest.raises(httpx.ReadTimeout):
        await transport.handle_async_request(get(web.url, target=b"/silent", timeout={"read": 0.1}))
    plain = await asyncio.start_server(lambda _, writer: writer.write(b"no TLS here\r\n"), "127.0.0.1", 0)
    with pytest.raises(TlsFailed):
        await transport.handle_async_request(get(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"))
    plain.close()
    with pytest.raises(httpx.ConnectError):
        await transport.handle_async_request(get("http://127.0.0.1:1"))

    async def short(asked, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc")
        await writer.drain()

    web.on("/short", short)
    response = await transport.handle_async_request(get(web.url, target=b"/short"))
    with pytest.raises(ShortBody):
        await response.aread()


@wired
async def test_names_that_lead_inside_are_refused(web, transport):
    """What DNS answers is judged, not the name alone."""
    with pytest.raises(AddressRefused, match="not a public address"):
        await transport.handle_async_request(get(f"http://localhost:{web.port}/"))
    with pytest.raises(NameNotFound):
        await transport.handle_async_request(get("http://no-such-name.invalid/"))
    assert web.asked == []


def test_a_resolver_gives_on_public_addresses_alone(monkeypatch):
    """Of a mixed answer only the public part is used; allowed and trusted names are let through."""
    addresses = ("10.0.0.1", "93.184.216.34")
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answers)

    async def test():
        trusted = frozenset({"proxy.example"})
        resolver = GuardedResolver(Guard(["inside.example"]), Aside(), trusted=trusted)
        assert [found["host"] for found in await resolver.resolve("h.example", 80)] == ["93.184.216.34"]
        for name in ("inside.example", "proxy.example"):
            assert len(await resolver.resolve(name, 80)) == 2

    run(test)


def test_a_proxy_is_used_only_when_it_is_given(monkeypatch):
    """The environment's is not; a given one gets the whole URL, unchanged."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def test():
        async with loopback() as web:
            web.on("*", reply(200, b"ok"))
            plain = Transport(guard=Guard(), scheduler=Aside(), connections_max=2)
            await (await plain.handle_async_request(get(web.url, target=b"/plain"))).aclose()
            proxied = Transport(guard=Guard(), scheduler=Aside(), connections_max=2, proxy=web.url)
            await (await proxied.handle_async_request(get("http://h.example", target=b"/a%2f?x="))).aclose()
            assert [asked.target for asked in web.asked] == ["/plain", "http://h.example/a%2f?x="]
            await plain.aclose()
            await proxied.aclose()

    run(test)


def test_the_tls_context_checks_certificates():
    """Names and chains are verified."""
    context = ssl_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("line", "host", "sent_to"),
    [
        ("a=1", "h.org", {"h.org"}),
        ("a=1; Domain=h.org", "www.h.org", {"h.org", "www.h.org", "x.h.org"}),
        ("a=1; domain=.H.org; path=/x; secure", "h.org", {"h.org", "www.h.org", "x.h.org"}),
        ("a=1; Domain=org", "h.org", set()),
        ("a=1; Domain=evil.org", "h.org", set()),
        ("a=1; Domain=xh.org", "h.org", set()),
        ("a=1; Max-Age=0", "h.org", set()),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "h.org", set()),
        ("a=1; Expires=nonsense; Max-Age=9", "h.org", {"h.org"}),
        ("=1", "h.org", set()),
        ("novalue", "h.org", set()),
        ("a=b\r\nc", "h.org", set()),
        ("a=" + "x" * 5000, "h.org", set()),
    ],
)
def test_cookies_go_where_they_belong(line, host, sent_to):
    """By domain, never to strangers, never a header of their own."""
    cookies = Cookies()
    cookies.take(host, [line], wall_ns=10**18)
    hosts = ("h.org", "www.h.org", "x.h.org", "org", "xh.org", "evil.org")
    assert {name for name in hosts if cookies.header(name)} == sent_to


def test_cookies_are_bounded_and_replaced():
    """The same name again replaces, an ended one goes, and there is a greatest number."""
    cookies = Cookies((("h.org", "a", "0"),))
    cookies.take("h.org", ["a=1", *(f"c{n}=x" for n in range(500))], wall_ns=1)
    assert len(cookies.taken()) == 64
    assert cookies.header("h.org").startswith("a=1; ")
    cookies.take("h.org", ["a=1; Max-Age=0"], wall_ns=1)
    assert "a=1" not in cookies.header("h.org")


def test_http_dates():
    """Their three forms, and what is none."""
    assert http_date_s("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert http_date_s("soon") is None
    assert http_date_s("") is None
