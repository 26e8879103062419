"""The client keeps the manners of the network and turns every answer into an outcome with a reason."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import sys
import time
import zlib
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import pytest

from quire.actors.web.exchange import Request, WebError
from quire.errors import EnvironmentFault, UsageError

sys.path.insert(0, str(Path(__file__).parent))
from loopback import Loopback, client, loopback, reply, run

PDF = b"%PDF-1.7\n" + b"x" * 5000 + b"\n%%EOF\n"
HTML = b"<!DOCTYPE html><html><body>no paper here</body></html>"


async def save(download) -> tuple[bytes, object]:
    kept = bytearray()

    async def write(chunk: bytes) -> None:
        kept.extend(chunk)

    saved = await download.save(write)
    return bytes(kept), saved


async def refused(coroutine) -> WebError:
    with pytest.raises(WebError) as caught:
        await coroutine
    return caught.value


def asking(test):
    """Run a test with a server and a client of default settings."""

    def whole() -> None:
        async def inner() -> None:
            async with loopback() as web:
                ours = client()
                try:
                    await test(web, ours)
                finally:
                    await ours.close()

        run(inner)

    whole.__doc__ = test.__doc__
    whole.__name__ = test.__name__
    return whole


def artifact(url: str, **more) -> Request:
    return Request(url=url, role="artifact", **{"deadline_s": 3.0, **more})


def landing(url: str, **more) -> Request:
    return Request(url=url, role="landing", **{"deadline_s": 3.0, **more})


@asking
async def test_a_pdf_comes_home_with_its_hash(web, ours):
    """What is saved is what was sent, hashed on the way; the connection serves again."""
    body = b"junk\n" + b"%PDF-1.4\n" + os.urandom(300_000)
    web.on("/p.pdf", reply(200, body, Content_Type="application/octet-stream"))
    for _ in range(2):
        download = await ours.open(artifact(f"{web.url}/p.pdf"))
        assert download.length == len(body)
        kept, saved = await save(download)
        assert kept == body
        assert saved.sha256 == hashlib.sha256(body).hexdigest()
        assert saved.bytes == len(body)
    assert web.connections == 1
    assert ours.statistics().requests == 2


@asking
async def test_who_we_are(web, ours):
    """The request names us truthfully, with contact, and asks for bytes as they are."""
    web.on("/p", reply(200, PDF))
    await (await ours.open(artifact(f"{web.url}/p", referer="http://a.example/page"))).close()
    sent = web.asked[0].headers
    assert sent["user-agent"].startswith("quire/")
    assert "mailto:reader@example.org" in sent["user-agent"]
    assert sent["accept"] == "application/pdf,*/*;q=0.8"
    assert sent["accept-encoding"] == "identity"
    assert sent["referer"] == "http://a.example/page"


@asking
async def test_urls_are_sent_as_given_but_tracking_goes_from_landing_pages(web, ours):
    """A signed URL is not touched; a landing page's loses what only follows readers."""
    target = "/a%2fb?utm_source=x&sig=%2B%2f=&e=&q=1+2%20"
    web.on("*", reply(200, PDF))
    await (await ours.open(artifact(web.url + target))).close()
    await ours.fetch(Request(url=web.url + target, role="metadata"))
    await ours.fetch(landing(web.url + target))
    assert [asked.target for asked in web.asked] == [target, target, "/a%2fb?sig=%2B%2f=&e=&q=1+2%20"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (404, "nonretryable"),
        (403, "nonretryable"),
        (418, "nonretryable"),
        (503, "retryable"),
        (429, "retryable"),
        (520, "retryable"),
    ],
)
def test_statuses_have_their_outcomes(status, outcome):
    """An error status is an error of open with its page, and an answer of fetch."""

    @asking
    async def test(web, ours):
        web.on("/x", reply(status, HTML))
        error = await refused(ours.open(artifact(f"{web.url}/x")))
        assert (error.outcome, error.reason, error.status) == (outcome, f"http_{status}", status)
        assert error.page is not None
        assert error.page.body == HTML
        answer = await ours.fetch(landing(f"{web.url}/x"))
        assert (answer.status, answer.body) == (status, HTML)

    test()


@asking
async def test_what_is_no_pdf_says_so(web, ours):
    """HTML, other text, binaries and nothing each have a reason; text comes along as a page."""
    for path, body, reason, has_page in (
        ("/html", HTML, "html_instead", True),
        ("/json", b'{"a": 1}', "not_a_pdf", True),
        ("/zip", b"PK\x03\x04\x00\x01" * 500, "not_a_pdf", False),
        ("/late", b"x" * 1024 + PDF, "not_a_pdf", True),
        ("/nothing", b"", "empty_body", False),
    ):
        web.on(path, reply(200, body, Content_Type="application/pdf"))
        error = await refused(ours.open(artifact(web.url + path)))
        assert (error.outcome, error.reason, error.page is not None) == ("no_pdf", reason, has_page), path
    web.on("/long", reply(200, HTML + b"x" * 200_000))
    page = (await refused(ours.open(artifact(f"{web.url}/long")))).page
    assert page is not None
    assert page.truncated
    assert len(page.body) == 100_000


@asking
async def test_redirects_are_followed_by_hand(web, ours):
    """Hops are told in order, bounded, and loops are found."""
    web.on("/a", reply(302, Location="/b?x=%2f"))
    web.on("/b?x=%2f", reply(301, Location=f"{web.url}/c"))
    web.on("/c", reply(200, PDF))
    download = await ours.open(artifact(f"{web.url}/a"))
    assert download.url == f"{web.url}/c"
    assert download.hops == (f"{web.url}/a", f"{web.url}/b?x=%2f")
    await download.close()
    web.on("/l1", reply(302, Location="/l2"))
    web.on("/l2", reply(302, Location="/l1"))
    assert (await refused(ours.open(artifact(f"{web.url}/l1")))).reason == "redirect_loop"
    for n in range(9):
        web.on(f"/n{n}", reply(307, Location=f"/n{n + 1}"))
    assert (await refused(ours.open(artifact(f"{web.url}/n0")))).reason == "too_many_redirects"
    web.on("/bare", reply(302))
    assert (await refused(ours.open(artifact(f"{web.url}/bare")))).reason == "bad_redirect"
    for location in (
        "http://10.0.0.1/x",
        "http://localhost/",
        "file:///etc/passwd",
        "http://u:p@host.example/",
    ):
        web.on("/evil", reply(302, Location=location))
        error = await refused(ours.open(artifact(f"{web.url}/evil")))
        assert (error.outcome, error.reason) == ("nonretryable", "address_refused"), location


@asking
async def test_a_redirect_to_the_home_page_is_a_soft_404(web, ours):
    """Being sent to the front page means that the paper is not there."""
    web.on("/paper/1", reply(302, Location="/"))
    web.on("/", reply(200, HTML))
    error = await refused(ours.open(landing(f"{web.url}/paper/1")))
    assert (error.outcome, error.reason) == ("no_pdf", "soft_404")
    assert (await refused(ours.fetch(landing(f"{web.url}/paper/1")))).reason == "soft_404"
    assert (await ours.fetch(Request(url=f"{web.url}/paper/1", role="metadata"))).status == 200
    assert (await ours.fetch(landing(f"{web.url}/"))).status == 200


@asking
async def test_cookies_live_for_one_chain(web, ours):
    """A hop's cookie goes to the next hop and comes back; the next request knows nothing of it."""
    web.on("/in", reply(302, Location="/in2", Set_Cookie="seen=1; Path=/; HttpOnly"))
    web.on("/in2", reply(200, HTML))
    answer = await ours.fetch(landing(f"{web.url}/in"))
    assert web.asked[1].headers["cookie"] == "seen=1"
    assert answer.cookies == (("127.0.0.1", "seen", "1"),)
    await ours.fetch(landing(f"{web.url}/in2"))
    assert "cookie" not in web.asked[2].headers
    given = (("127.0.0.1", "k", "v"), (".other.example", "no", "no"))
    await ours.fetch(landing(f"{web.url}/in2", cookies=given))
    assert web.asked[3].headers["cookie"] == "k=v"


@asking
async def test_a_page_that_sets_a_cookie_and_sends_back_is_no_loop(web, ours):
    """The same URL with another cookie is another question."""
    web.on("/p", [reply(302, Location="/check", Set_Cookie="a=1"), reply(200, HTML)])
    web.on("/check", reply(302, Location="/p"))
    assert (await ours.fetch(landing(f"{web.url}/p"))).status == 200


@asking
async def test_retryable_answers_are_tried_again(web, ours):
    """One retry layer: retries_max further tries and no more, counted at the server."""
    web.on("/x", [reply(503), reply(500), reply(200, PDF)])
    download = await ours.open(artifact(f"{web.url}/x", retries_max=2))
    assert download.retry_count == 2
    await download.close()
    web.on("/y", reply(502))
    error = await refused(ours.open(artifact(f"{web.url}/y", retries_max=1)))
    assert (error.reason, error.retry_count, web.count("/y")) == ("http_502", 1, 2)
    assert (await ours.fetch(landing(f"{web.url}/z", retries_max=3))).status == 404
    assert web.count("/z") == 1


@asking
async def test_retry_after_is_waited_for_or_given_up_at_once(web, ours):
    """Seconds and dates are honoured; a wait that does not fit is not begun, and the reason stays true."""
    web.on("/s", [reply(429, Retry_After="0.3"), reply(200, PDF)])
    began = time.monotonic()
    await (await ours.open(artifact(f"{web.url}/s", retries_max=1))).close()
    assert time.monotonic() - began >= 0.3
    for value in ("120", formatdate(time.time() + 500, usegmt=True)):
        web.on("/far", reply(429, Retry_After=value))
        began = time.monotonic()
        error = await refused(ours.open(artifact(f"{web.url}/far", retries_max=3)))
        assert (error.reason, error.outcome) == ("http_429", "retryable")
        assert error.retry_after_s > 100
        assert time.monotonic() - began < 0.3


@asking
async def test_a_deadline_ends_everything(web, ours):
    """Silence, a trickled head and a trickled page all end at the deadline as such."""

    async def silent(asked, reader, writer):
        await asyncio.sleep(5)

    async def trickle(asked, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    for path, script in (("/silent", silent), ("/trickle", trickle)):
        web.on(path, script)
        for ask in (ours.open, ours.fetch):
            began = time.monotonic()
            error = await refused(ask(landing(web.url + path, deadline_s=0.4, retries_max=3)))
            assert (error.outcome, error.reason) == ("timeout", "deadline")
            assert 0.3 < time.monotonic() - began < 1.5


@asking
async def test_a_silent_host_is_a_read_timeout(web, ours):
    """With time left, the read timeout speaks first."""

    async def silent(asked, reader, writer):
        await asyncio.sleep(5)

    web.on("/silent", silent)
    error = await refused(ours.fetch(landing(f"{web.url}/silent", deadline_s=8)))
    assert (error.outcome, error.reason) == ("retryable", "read_timeout")


def test_a_closed_port_is_a_connect_error():
    """Nobody listening is retryable and has its reason; a name without address too."""

    async def test():
        async with loopback() as web:
            port = web.port
        ours = client()
        error = await refused(ours.fetch(landing(f"http://127.0.0.1:{port}/")))
        assert (error.outcome, error.reason) == ("retryable", "connect_failed")
        error = await refused(ours.fetch(landing("http://no-such-name.invalid/")))
        assert (error.outcome, error.reason) == ("retryable", "name_not_found")
        await ours.close()

    run(test)


# -- streams ---------------------------------------------------------------------------------------


def partial(length: int | None, sent: bytes, *, then: str):
    async def script(asked, reader, writer):
        head = f"Content-Length: {length}\r\n" if length is not None else ""
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + sent)
        await writer.drain()
        if then == "stall":
            await asyncio.sleep(4)
        elif then == "trickle":
            for _ in range(100):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)
        elif then == "reset":
            await asyncio.sleep(0.1)
            writer.transport.abort()

    return script


@pytest.mark.parametrize(
    ("script", "outcome", "reason"),
    [
        (partial(9000, PDF, then="close"), "retryable", "short_body"),
        (partial(9000, PDF, then="stall"), "retryable", "stalled"),
        (partial(2_000_000, PDF, then="close"), "nonretryable", "too_large"),
        (partial(None, PDF + b"x" * 1_000_000, then="close"), "nonretryable", "too_large"),
        (partial(50, PDF[:50], then="close"), "no_pdf", "too_small"),
    ],
)
def test_a_stream_that_ends_badly_says_how(script, outcome, reason):
    """No broken stream is a success."""

    @asking
    async def test(web, ours):
        web.on("/p", script)
        error = await refused(save(await ours.open(artifact(f"{web.url}/p"))))
        assert (error.outcome, error.reason) == (outcome, reason)

    test()


def test_a_stream_slower_than_the_least_rate_is_given_up():
    """A server that trickles for ever meets the deadline by size."""

    async def test():
        async with loopback() as web:
            ours = client(download={"stall_s": 0.4, "bytes_per_s_min": 100_000})
            web.on("/p", partial(900_000, PDF, then="trickle"))
            error = await refused(save(await ours.open(artifact(f"{web.url}/p"))))
            assert (error.outcome, error.reason) == ("timeout", "deadline")
            await ours.close()

    run(test)


@asking
async def test_cancelling_closes_the_socket(web, ours):
    """The server sees the connection drop as soon as a stream, or a wait for one, is cancelled."""

    async def endless(asked, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + PDF)
        await writer.drain()
        await reader.read()
        web.dropped.set()

    async def mute(asked, reader, writer):
        await reader.read()
        web.dropped.set()

    web.on("/endless", endless)
    web.on("/mute", mute)
    download = await ours.open(artifact(f"{web.url}/endless"))
    for coroutine in (save(download), ours.open(artifact(f"{web.url}/mute"))):
        web.dropped.clear()
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(web.dropped.wait(), 0.5)


@asking
async def test_a_failing_writer_lets_the_connection_go(web, ours):
    """A full disk is not the network's affair: its error comes through and the socket is closed."""
    web.on("/p", reply(200, PDF + b"x" * 500_000))
    download = await ours.open(artifact(f"{web.url}/p"))

    async def full(chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await download.save(full)
    await download.close()


@asking
async def test_encodings_are_undone_within_bounds(web, ours):
    """gzip and deflate in all their forms are read, lies are passed over, bombs are refused."""
    raw = zlib.compressobj(wbits=-15)
    for number, (encoding, body) in enumerate(
        (
            ("gzip", gzip.compress(PDF)),
            ("x-gzip", gzip.compress(PDF[:100]) + gzip.compress(PDF[100:])),
            ("deflate", zlib.compress(PDF)),
            ("deflate", raw.compress(PDF) + raw.flush()),
            ("gzip, gzip", gzip.compress(gzip.compress(PDF))),
            ("gzip", PDF),
            ("utf-8", PDF),
            ("none", PDF),
        )
    ):
        web.on(f"/e{number}", reply(200, body, Content_Encoding=encoding))
        download = await ours.open(artifact(f"{web.url}/e{number}"))
        kept, _ = await save(download)
        assert kept == PDF, encoding
    bomb = gzip.compress(b"%PDF-1.4" + b"\0" * 50_000_000)
    web.on("/bomb", reply(200, bomb, Content_Encoding="gzip"))
    error = await refused(save(await ours.open(artifact(f"{web.url}/bomb"))))
    assert error.reason in ("inflates_too_far", "too_large")
    web.on("/cut", reply(200, gzip.compress(os.urandom(500) + PDF)[:-20], Content_Encoding="gzip"))
    error = await refused(save(await ours.open(artifact(f"{web.url}/cut"))))
    assert error.reason == "short_body"
    web.on("/bad", reply(200, b"\x1f\x8b\x08\x00" + b"garbage" * 50, Content_Encoding="gzip"))
    assert (await refused(ours.fetch(landing(f"{web.url}/bad")))).reason == "bad_encoding"


# -- manners ---------------------------------------------------------------------------------------


def test_five_failures_open_the_breaker_and_no_more_is_asked():
    """The change is told once, the gate shows it, and the sixth request never reaches the server."""

    async def test():
        changes = []
        async with loopback() as web:
            ours = client(on=changes.append)
            web.on("/x", reply(503))
            for _ in range(5):
                await refused(ours.open(artifact(f"{web.url}/x")))
            error = await refused(ours.open(artifact(f"{web.url}/x", retries_max=3)))
            assert (error.outcome, error.reason) == ("skipped", "breaker_open")
            assert 50 < error.retry_after_s <= 60
            assert web.count("/x") == 5
            gate = ours.gate(f"{web.url}/y", "landing")
            assert gate is not None
            assert gate.reason == "breaker_open"
            assert [(change.state, change.reason) for change in changes] == [("open", "http_503")]
            assert changes[0].until_ns > time.time_ns() + 50 * 10**9
            await ours.close()

    run(test)


def test_retries_stop_when_the_breaker_opens():
    """The true reason is told and the server is not asked a sixth time."""

    async def test():
        async with loopback() as web:
            ours = client(gates={"skip_if_breaker_open": False})
            web.on("/x", reply(503))
            error = await refused(ours.open(artifact(f"{web.url}/x", retries_max=9)))
            assert (error.reason, web.count("/x")) == ("http_503", 5)
            assert ours.gate(f"{web.url}/x", "artifact") is None
            assert (await refused(ours.open(artifact(f"{web.url}/x")))).outcome == "nonretryable"
            await ours.close()

    run(test)


def test_requests_are_spaced_and_long_waits_are_skipped():
    """The limit of a host holds at the server; whoever would wait too long is held back at no cost."""

    async def test():
        async with loopback() as web:
            limits = {"metadata_per_s": 1000, "landing_per_s": 20, "artifact_per_s": 0.1, "hosts_per_s": {}}
            ours = client(limits=limits)
            web.on("*", reply(200, HTML))
            await asyncio.gather(*(ours.fetch(landing(f"{web.url}/{n}")) for n in range(6)))
            times = sorted(asked.at for asked in web.asked)
            assert all(later - earlier > 0.04 for earlier, later in pairwise(times))
            await refused(ours.open(artifact(f"{web.url}/a")))
            gate = ours.gate(f"{web.url}/b", "artifact")
            assert gate is not None
            assert gate.reason == "rate_wait"
            assert 9 < gate.wait_s <= 10
            assert ours.gate(f"{web.url}/b", "landing") is None
            error = await refused(ours.open(artifact(f"{web.url}/b")))
            assert (error.outcome, error.reason) == ("skipped", "rate_wait")
            assert web.count("/b") == 0
            await ours.close()

    run(test)


def test_a_cancelled_waiter_gives_its_turn_to_the_next():
    """Whoever waits behind a cancelled one moves up."""

    async def test():
        async with loopback() as web:
            limits = {"metadata_per_s": 2, "landing_per_s": 2, "artifact_per_s": 2, "hosts_per_s": {}}
            ours = client(limits=limits)
            web.on("*", reply(200, HTML))
            began = time.monotonic()
            first, second, third = (
                asyncio.create_task(ours.fetch(landing(f"{web.url}/{n}"))) for n in range(3)
            )
            await asyncio.sleep(0.1)
            second.cancel()
            await asyncio.gather(first, third)
            assert 0.4 < time.monotonic() - began < 0.8
            assert web.count("/1") == 0
            await ours.close()

    run(test)


def test_offline_lets_only_through_what_it_says():
    """metadata_only asks for metadata alone; the others ask nothing; the gate agrees."""

    async def test():
        async with loopback() as web:
            web.on("*", reply(200, HTML))
            for behavior, count in (("metadata_only", 1), ("block_all", 1), ("cache_only", 1)):
                ours = client(offline=True, gates={"offline_behavior": behavior})
                error = await refused(ours.fetch(landing(f"{web.url}/l")))
                assert (error.outcome, error.reason) == ("skipped", "offline")
                gate = ours.gate(f"{web.url}/l", "landing")
                assert gate is not None
                assert gate.reason == "offline"
                metadata = Request(url=f"{web.url}/m", role="metadata")
                if behavior == "metadata_only":
                    assert (await ours.fetch(metadata)).status == 200
                    assert ours.gate(f"{web.url}/m", "metadata") is None
                else:
                    assert (await refused(ours.fetch(metadata))).reason == "offline"
                assert len(web.asked) == count
                await ours.close()

    run(test)


@asking
async def test_robots_are_asked_once_and_obeyed(web, ours):
    """One robots.txt for many pages at once; a forbidden path is never asked for."""
    web.on("/robots.txt", reply(200, b"User-agent: quire\nDisallow: /no\n"))
    web.on("*", reply(200, HTML))
    await asyncio.gather(*(ours.fetch(landing(f"{web.url}/yes{n}", robots=True)) for n in range(5)))
    error = await refused(ours.fetch(landing(f"{web.url}/no/x", robots=True)))
    assert (error.outcome, error.reason) == ("nonretryable", "robots_disallowed")
    assert (web.count("/robots.txt"), web.count("/no/x")) == (1, 0)
    assert (await ours.fetch(landing(f"{web.url}/no/x"))).status == 200


@pytest.mark.parametrize(
    ("status", "reason"), [(503, "robots_unreachable"), (404, None), (403, None), (500, "robots_unreachable")]
)
def test_a_robots_file_that_is_not_to_be_had(status, reason):
    """5xx means no for the whole period, without asking again; 4xx means yes."""

    @asking
    async def test(web, ours):
        web.on("/robots.txt", reply(status))
        web.on("/p", reply(200, HTML))
        for _ in range(2):
            if reason:
                error = await refused(ours.fetch(landing(f"{web.url}/p", robots=True)))
                assert error.reason == reason
            else:
                assert (await ours.fetch(landing(f"{web.url}/p", robots=True))).status == 200
        assert web.count("/robots.txt") == 1
        assert web.count("/p") == (0 if reason else 2)

    test()


@asking
async def test_robots_hold_on_every_hop(web, ours):
    """A redirect into a forbidden path is not followed."""
    web.on("/robots.txt", reply(200, b"User-agent: *\nDisallow: /private\n"))
    web.on("/go", reply(302, Location="/private/x"))
    assert (await refused(ours.fetch(landing(f"{web.url}/go", robots=True)))).reason == "robots_disallowed"
    assert web.count("/private/x") == 0


@asking
async def test_crawl_delay_is_kept(web, ours):
    """Requests that respect robots are as far apart as the host wishes."""
    web.on("/robots.txt", reply(200, b"User-agent: *\nCrawl-delay: 0.3\n"))
    web.on("*", reply(200, HTML))
    await asyncio.gather(*(ours.fetch(landing(f"{web.url}/{n}", robots=True)) for n in range(3)))
    times = sorted(asked.at for asked in web.asked if asked.target != "/robots.txt")
    assert all(later - earlier > 0.25 for earlier, later in pairwise(times))


# -- the rehearsal seam ----------------------------------------------------------------------------


def rehearsing(test):
    def whole() -> None:
        async def inner() -> None:
            async with loopback() as web:
                ours = client(stand_in=web.url, pacing="none", allow_hosts=())
                await test(web, ours)
                await ours.close()

        run(inner)

    whole.__doc__ = test.__doc__
    return whole


@rehearsing
async def test_every_request_goes_to_the_stand_in(web, ours):
    """Redirects, robots and cookies see the real hosts; the wire sees the stand-in alone."""
    start = "https://doi.example/10.1/a?x=%2f"
    web.on(start, reply(302, Location="https://pub.example/p", Set_Cookie="a=1"))
    web.on("https://pub.example/p", reply(200, PDF))
    download = await ours.open(artifact(start, robots=True))
    assert (download.url, download.hops) == ("https://pub.example/p", (start,))
    kept, _ = await save(download)
    assert kept == PDF
    assert [asked.original for asked in web.asked] == [
        "https://doi.example/robots.txt",
        start,
        "https://pub.example/robots.txt",
        "https://pub.example/p",
    ]
    assert {asked.target for asked in web.asked} == {"/"}
    assert all(asked.headers["host"] == f"127.0.0.1:{web.port}" for asked in web.asked)
    assert all("cookie" not in asked.headers for asked in web.asked)


@rehearsing
async def test_private_addresses_are_refused_in_a_rehearsal_too(web, ours):
    """The stand-in's own address is no exception when it stands in an original URL."""
    for url in (f"{web.url}/x", "http://8.8.8.8/", "http://localhost/", "http://box.local/", "http://[::1]/"):
        assert (await refused(ours.fetch(landing(url)))).reason == "address_refused", url
    assert web.asked == []


@rehearsing
async def test_no_pacing_means_no_waiting_but_robots_hold(web, ours):
    """Crawl-delay is not kept, a Disallow is."""
    web.on("https://h.example/robots.txt", reply(200, b"User-agent: *\nCrawl-delay: 60\nDisallow: /no"))
    web.on("*", reply(200, HTML))
    began = time.monotonic()
    for n in range(3):
        await ours.fetch(landing(f"https://h.example/{n}", robots=True))
    assert time.monotonic() - began < 1
    assert (
        await refused(ours.fetch(landing("https://h.example/no", robots=True)))
    ).reason == "robots_disallowed"


def test_a_stand_in_that_is_down_is_the_environments_fault():
    """It stops the run; it is no outcome of a work."""

    async def test():
        async with loopback() as web:
            ours = client(stand_in=web.url)
        with pytest.raises(EnvironmentFault, match="stand-in"):
            await ours.fetch(landing("https://h.example/"))
        await ours.close()

    run(test)
    with pytest.raises(UsageError, match="stand_in"):
        client(pacing="none")


def test_errors_hold_no_secrets():
    """What an error says may be logged."""

    async def test():
        ours = client()
        error = await refused(ours.fetch(landing("http://10.0.0.1/?email=me@here.org&token=abcdef")))
        assert "me@here.org" not in f"{error} {error.url} {error.detail}"
        assert "abcdef" not in f"{error} {error.url}"

    run(test)


# -- garbage ---------------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"\0\0\0\0",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n%PDF-",
    b"ICY 200 OK\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 99999 X\r\n\r\n",
    b"HTTP/1.1 -1 X\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(5000)) + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%PDF-\r\n-5\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefgh",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n%PDF-",
    b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n%PDF-",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: \xff\xfe\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip, gzip, gzip\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 302 Found\r\nLocation: http://\xe9\xff.example:99999/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::bad\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: ///\\evil\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /\xc3\xa9\xff%zz\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: javascript:alert(1)\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\xfe; domain=..\r\nSet-Cookie: =\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: nan\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: Mon, 99 Foo 99999 99:99:99 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 304 Same\r\n\r\n",
    b"HTTP/1.1 206 Part\r\nContent-Length: 3\r\n\r\nabc",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_an_outcome_with_a_reason(garbage):
    """Whatever a server writes: an answer or a WebError with a reason, within the deadline."""

    async def script(asked, reader, writer):
        writer.write(garbage)
        await writer.drain()

    @asking
    async def test(web: Loopback, ours):
        web.on("/g", script)
        reasons: list[str] = []
        for ask in (ours.open, ours.fetch):
            began = time.monotonic()
            try:
                answer = await ask(landing(f"{web.url}/g", deadline_s=2))
                if hasattr(answer, "save"):
                    await save(answer)
            except WebError as error:
                reasons.append(error.reason)
            assert all(reasons)
            assert time.monotonic() - began < 3

    test()


@asking
async def test_endless_headers_are_bounded(web, ours):
    """A server that never ends its head is cut off."""

    async def endless(asked, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: and more\r\n" * 50)
            await writer.drain()

    web.on("/g", endless)
    error = await refused(ours.fetch(landing(f"{web.url}/g", deadline_s=2)))
    assert error.reason in ("bad_answer", "deadline")
