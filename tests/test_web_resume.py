"""Going on with a part: only honest continuations are believed, whatever a server writes."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import httpx
import pytest

from quire.actors.web.exchange import Request, WebError
from quire.actors.web.ranges import is_strong, range_headers, strong_validator
from quire.errors import InvariantError

sys.path.insert(0, str(Path(__file__).parent))
from loopback import client, loopback, reply, run

FILE = b"%PDF-1.7\n" + os.urandom(9_000) + b"\n%%EOF\n"
HELD = 4_000
TOTAL = len(FILE)
REST = FILE[HELD:]
ETAG = '"v1"'
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"


def asking(test):
    """Run a test with a server and a client."""

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
    return whole


def rest_of(url: str, **more) -> Request:
    """A request for what is missing after the first HELD bytes."""
    said = {"deadline_s": 3.0, "range_start": HELD, "if_range": ETAG, **more}
    return Request(url=url, role="artifact", **said)


def part(body: bytes = REST, *, said: str | None = f"bytes {HELD}-{TOTAL - 1}/{TOTAL}", **headers) -> bytes:
    """A 206."""
    if said is not None:
        headers["Content_Range"] = said
    return reply(206, body, **headers)


async def saved_of(download, held: bytes = b""):
    kept = bytearray()

    async def write(chunk: bytes) -> None:
        kept.extend(chunk)

    return bytes(kept), await download.save(write, sha=hashlib.sha256(held)), kept


@asking
async def test_the_rest_alone_is_asked_for_and_the_whole_is_hashed(web, ours):
    """An honest 206 sends only what is missing; size, length and hash are those of the whole file."""
    web.on("/p", part(ETag=ETAG))
    download = await ours.open(rest_of(f"{web.url}/p"))
    assert (download.status, download.resumed_at, download.length) == (206, HELD, TOTAL)
    _, saved, kept = await saved_of(download, FILE[:HELD])
    assert bytes(kept) == REST
    assert (saved.sha256, saved.bytes) == (hashlib.sha256(FILE).hexdigest(), TOTAL)
    sent = web.asked[0].headers
    assert (sent["range"], sent["if-range"]) == (f"bytes={HELD}-", ETAG)
    assert sent["accept-encoding"] == "identity"


@asking
async def test_a_200_is_a_fresh_start(web, ours):
    """The server sent the whole: it is hashed anew, whatever hash of held bytes is passed."""
    web.on("/p", reply(200, FILE))
    download = await ours.open(rest_of(f"{web.url}/p"))
    assert (download.resumed_at, download.length) == (0, TOTAL)
    _, saved, kept = await saved_of(download, b"bytes of another version")
    assert bytes(kept) == FILE
    assert saved.sha256 == hashlib.sha256(FILE).hexdigest()
    web.on("/html", reply(200, b"<!doctype html><p>gone"))
    with pytest.raises(WebError, match="html_instead"):
        await ours.open(rest_of(f"{web.url}/html"))


LIES = {
    "no Content-Range": part(said=None),
    "begins too early": part(FILE[HELD - 1 :], said=f"bytes {HELD - 1}-{TOTAL - 1}/{TOTAL}"),
    "begins too late": part(FILE[HELD + 1 :], said=f"bytes {HELD + 1}-{TOTAL - 1}/{TOTAL}"),
    "begins at 0": part(FILE, said=f"bytes 0-{TOTAL - 1}/{TOTAL}"),
    "ends too early": part(FILE[HELD:-9], said=f"bytes {HELD}-{TOTAL - 10}/{TOTAL}"),
    "ends behind the end": part(said=f"bytes {HELD}-{TOTAL}/{TOTAL}"),
    "total unknown": part(said=f"bytes {HELD}-{TOTAL - 1}/*"),
    "total too large for its length": part(said=f"bytes {HELD}-{TOTAL + 9}/{TOTAL + 10}"),
    "total before the start": part(said=f"bytes {HELD}-10/11"),
    "other unit": part(said=f"pages {HELD}-{TOTAL - 1}/{TOTAL}"),
    "not numbers": part(said="bytes one-two/three"),
    "numbers beyond measure": part(said=f"bytes {HELD}-{'9' * 400}/1{'0' * 400}"),
    "two of them": part(said=f"bytes {HELD}-{TOTAL - 1}/{TOTAL}\r\nContent-Range: bytes 0-1/2"),
    "many parts": part(said=None, Content_Type="multipart/byteranges; boundary=x"),
    "encoded": part(Content_Encoding="gzip"),
    "encoded in nonsense": part(Content_Encoding="utf-8"),
    "other version": part(ETag='"v2"'),
    "weak version": part(ETag='W/"v1"'),
    "no such part": reply(416, Content_Range=f"bytes */{TOTAL}"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_206_that_lies_is_a_bad_range(lie):
    """Retryable, so that the caller starts anew; the same question is not asked again."""

    @asking
    async def test(web, ours):
        web.on("/p", lie)
        with pytest.raises(WebError) as caught:
            await ours.open(rest_of(f"{web.url}/p", retries_max=2))
        assert (caught.value.outcome, caught.value.reason) == ("retryable", "bad_range")
        assert web.count("/p") == 1

    test()


def streamed(body: bytes) -> bytes:
    """A 206 without a Content-Length."""
    head = f"HTTP/1.1 206 P\r\nContent-Range: bytes {HELD}-{TOTAL - 1}/{TOTAL}\r\nTransfer-Encoding: chunked"
    return f"{head}\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(REST, None), (REST + b"more", "bad_range"), (REST[:-1], "short_body")],
    ids=["agrees", "more", "less"],
)
def test_a_stream_must_agree_with_its_content_range(body, reason):
    """Without a length, the bytes that come are counted against the total."""

    @asking
    async def test(web, ours):
        web.on("/p", streamed(body))
        download = await ours.open(rest_of(f"{web.url}/p"))
        if reason is None:
            assert (await saved_of(download, FILE[:HELD]))[1].bytes == TOTAL
            return
        with pytest.raises(WebError) as caught:
            await saved_of(download, FILE[:HELD])
        assert (caught.value.outcome, caught.value.reason) == ("retryable", reason)

    test()


@asking
async def test_the_bounds_are_those_of_the_whole_file(web, ours):
    """A part that leads beyond the greatest size is refused unread; a short part is no small file."""
    total = 1_000_001
    web.on("/large", streamed(b"x").replace(f"{TOTAL - 1}/{TOTAL}".encode(), f"{total - 1}/{total}".encode()))
    with pytest.raises(WebError, match="too_large"):
        await saved_of(await ours.open(rest_of(f"{web.url}/large")), FILE[:HELD])
    web.on("/tail", part(FILE[-7:], said=f"bytes {TOTAL - 7}-{TOTAL - 1}/{TOTAL}"))
    download = await ours.open(rest_of(f"{web.url}/tail", range_start=TOTAL - 7))
    assert (await saved_of(download, FILE[:-7]))[1].sha256 == hashlib.sha256(FILE).hexdigest()


@asking
async def test_a_resumed_stream_needs_the_hash_of_what_is_held(web, ours):
    """Forgetting it is a defect of the caller, not a wrong hash; the connection is let go."""
    web.on("/p", part())
    download = await ours.open(rest_of(f"{web.url}/p"))

    async def write(chunk: bytes) -> None:
        raise AssertionError("nothing may be written")

    with pytest.raises(InvariantError, match="hash"):
        await download.save(write)


@pytest.mark.parametrize(
    ("start", "validator"),
    [
        (HELD, ""),
        (HELD, 'W/"v1"'),
        (HELD, "v1"),
        (HELD, '"v1'),
        (HELD, '"v\r\n1"'),
        (HELD, '"\xe9"'),
        (HELD, "soon"),
        (0, ETAG),
        (-5, ETAG),
    ],
)
def test_a_range_is_asked_for_only_with_a_strong_validator(start, validator):
    """Neither header without the other, and no weak ETag; then a 206 must hold the whole file."""

    @asking
    async def test(web, ours):
        web.on("/p", part(FILE, said=f"bytes 0-{TOTAL - 1}/{TOTAL}"))
        web.on("/rest", part())
        download = await ours.open(rest_of(f"{web.url}/p", range_start=start, if_range=validator))
        assert download.resumed_at == 0
        assert (await saved_of(download))[1].sha256 == hashlib.sha256(FILE).hexdigest()
        with pytest.raises(WebError, match="bad_range"):
            await ours.open(rest_of(f"{web.url}/rest", range_start=start, if_range=validator))
        for asked in web.asked:
            assert not {"range", "if-range"} & set(asked.headers)

    test()


@asking
async def test_a_date_may_be_the_validator_and_pages_are_never_parts(web, ours):
    """Last-Modified goes into If-Range as it came; fetch asks for whole answers alone."""
    web.on("/p", part(Last_Modified=MODIFIED))
    await (await ours.open(rest_of(f"{web.url}/p", if_range=MODIFIED))).close()
    assert web.asked[0].headers["if-range"] == MODIFIED
    web.on("/p", part(Last_Modified="Sun, 06 Nov 1994 08:49:38 GMT"))
    with pytest.raises(WebError, match="bad_range"):
        await ours.open(rest_of(f"{web.url}/p", if_range=MODIFIED))
    web.on("/page", reply(200, b"page"))
    await ours.fetch(rest_of(f"{web.url}/page"))
    assert "range" not in web.asked[-1].headers


@asking
async def test_the_range_goes_along_on_redirects(web, ours):
    """What counts is the answer at the end of the way."""
    web.on("/go", reply(302, Location="/p"))
    web.on("/p", part())
    download = await ours.open(rest_of(f"{web.url}/go"))
    assert download.resumed_at == HELD
    assert web.asked[1].headers["range"] == f"bytes={HELD}-"
    await download.close()


def test_which_validators_are_kept():
    """A strong ETag, else a Last-Modified that is older than the answer, else none."""
    now = "Sun, 06 Nov 1994 08:49:38 GMT"
    for headers, kept in (
        ({"etag": ETAG, "last-modified": MODIFIED, "date": now}, ETAG),
        ({"etag": 'W/"v1"', "last-modified": MODIFIED, "date": now}, MODIFIED),
        ({"etag": 'W/"v1"'}, ""),
        ({"last-modified": MODIFIED, "date": MODIFIED}, ""),
        ({"last-modified": MODIFIED}, ""),
        ({"last-modified": "nonsense", "date": now}, ""),
        ({"etag": '"' + "x" * 300 + '"'}, ""),
        ({}, ""),
    ):
        assert strong_validator(headers) == kept
        assert is_strong(kept) == bool(kept)
    assert strong_validator(httpx.Headers({"ETag": ETAG})) == ETAG
    assert range_headers(Request(url="http://h.example/", role="artifact")) == {}
