"""The HTTP cache saves requests where RFC 9111 lets it, keeps nothing personal, and never fails a run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from quire.actors.job_in_hand import TurnInHand
from quire.actors.messages import TurnId
from quire.actors.runtime.ports import NANOSECONDS, SystemClock
from quire.actors.sources.hearing import Hearing
from quire.actors.web.cache_store import LEFTOVER_S, CacheStore, Kept
from quire.actors.web.exchange import Request, WebError
from quire.config.loader import load
from quire.errors import UsageError
from quire.testing.web.pdf import make_pdf

sys.path.insert(0, str(Path(__file__).parent))
from command import lines, quire, rehearsed, wait_until
from loopback import client, loopback, reply, run

PAGE = b"<!DOCTYPE html><html><head><title>A paper</title></head><body>" + b"words " * 200 + b"</body></html>"
ARTICLE = (
    b"<!DOCTYPE html><html><head><title>A cached paper</title>"
    b'<meta name="citation_title" content="A cached paper">'
    b'<meta name="citation_pdf_url" content="/article/1.pdf"></head>'
    b"<body>" + b"words " * 200 + b"</body></html>"
)
PDF = b"%PDF-1.7\n" + b"x" * 5000 + b"\n%%EOF\n"
DATA = b'{"doi": "10.1000/a"}'
HOUR = "max-age=3600"


class Hands(SystemClock):
    """A clock whose wall hands can be moved on."""

    ahead_s = 0.0

    def wall_ns(self) -> int:
        return super().wall_ns() + round(self.ahead_s * NANOSECONDS)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def store_at(folder, *, bytes_max=1 << 20, free_space_min=1, clock=None):
    return CacheStore(
        folder, bytes_max=bytes_max, free_space_min=free_space_min, clock=clock or SystemClock()
    )


def caching(test):
    """Run a test with a server, a folder, and a maker of clients of that folder."""

    def whole(folder) -> None:
        async def inner() -> None:
            made = []

            def ours(**more):
                clock = more.setdefault("clock", Hands())
                store = more.pop("store", None) or store_at(folder, clock=clock)
                made.append(client(store=store, **more))
                return made[-1]

            async with loopback() as web:
                try:
                    await test(web, ours, folder)
                finally:
                    for one in made:
                        await one.close()

        run(inner)

    whole.__doc__ = test.__doc__
    whole.__name__ = test.__name__
    return whole


def page(url: str, **more) -> Request:
    return Request(url=url, role="landing", **{"deadline_s": 3.0, **more})


def data(url: str, **more) -> Request:
    return Request(url=url, role="metadata", **{"deadline_s": 3.0, **more})


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


async def refused(coroutine) -> WebError:
    with pytest.raises(WebError) as caught:
        await coroutine
    return caught.value


# -- freshness ------------------------------------------------------------------------------------------


@caching
async def test_a_fresh_answer_costs_no_request_and_no_turn(web, ours, folder):
    """What says that it holds is not asked for again: no request, and no slot of a limit of one an hour."""
    web.on("/l", reply(200, PAGE, Cache_Control=HOUR, Content_Type="text/html; charset=utf-8", X_Word="\xe9"))
    one = ours(limits={"landing_per_s": 0.0003, "metadata_per_s": 1, "artifact_per_s": 1, "hosts_per_s": {}})
    first = await one.fetch(page(f"{web.url}/l"))
    for _ in range(3):
        again = await one.fetch(page(f"{web.url}/l"))
        assert (again.status, again.body, again.url) == (200, PAGE, first.url)
        assert (again.content_type, again.headers["x-word"]) == ("text/html", first.headers["x-word"])
        assert again.from_cache
    assert not first.from_cache
    assert web.count("/l") == 1
    assert one.statistics().requests == 1
    assert one.statistics().bytes == len(PAGE)
    error = await refused(one.fetch(page(f"{web.url}/other")))
    assert error.reason == "rate_wait"  # the limit was there


@caching
async def test_time_passes(web, ours, folder):
    """Freshness ends when max-age has passed, the Age that the answer came with counted in."""
    clock = Hands()
    one = ours(clock=clock)
    web.on("/m", reply(200, DATA, Cache_Control="max-age=100", Age="40"))
    await one.fetch(data(f"{web.url}/m"))
    for ahead_s, requests in ((40, 1), (50, 1), (61, 2)):
        clock.ahead_s = ahead_s
        await one.fetch(data(f"{web.url}/m"))
        assert web.count("/m") == requests, ahead_s


@caching
async def test_expires_and_its_bounds(web, ours, folder):
    """Expires counts from Date; what is no date has expired; no word holds for longer than ttl_max_s."""
    clock = Hands()
    one = ours(clock=clock, cache={"enabled": True, "bytes_max": 1 << 20, "ttl_max_s": 600})
    now = time.time()
    web.on(
        "/e", reply(200, DATA, Date=formatdate(now, usegmt=True), Expires=formatdate(now + 60, usegmt=True))
    )
    web.on("/zero", reply(200, DATA, Expires="0"))
    web.on("/year", reply(200, DATA, Cache_Control="max-age=31536000"))
    web.on("/shared", reply(200, DATA, Cache_Control="max-age=0, s-maxage=60"))
    targets = ("/e", "/zero", "/year", "/shared")
    for ahead_s, counts in ((0, (1, 1, 1, 1)), (50, (1, 2, 1, 1)), (62, (2, 3, 1, 2)), (700, (3, 4, 2, 3))):
        clock.ahead_s = ahead_s
        for target in targets:
            await one.fetch(data(web.url + target))
        assert tuple(web.count(target) for target in targets) == counts, ahead_s


@caching
async def test_there_is_no_guessing(web, ours, folder):
    """An answer that does not say how long it holds is asked for again, however old its content is."""
    one = ours()
    web.on("/old", reply(200, PAGE, Last_Modified="Mon, 01 Jan 2001 00:00:00 GMT"))
    web.on("/bare", reply(200, PAGE))
    for _ in range(2):
        for target in ("/old", "/bare"):
            assert not (await one.fetch(page(web.url + target))).from_cache
    assert (web.count("/old"), web.count("/bare")) == (2, 2)
    assert len(files(folder)) == 1  # /bare is of no use


@caching
async def test_a_clock_set_back_makes_nothing_fresh(web, ours, folder):
    """Whose age is not known, because the clock went back, is asked for again."""
    clock = Hands()
    one = ours(clock=clock)
    web.on("/m", reply(200, DATA, Cache_Control=HOUR))
    await one.fetch(data(f"{web.url}/m"))
    clock.ahead_s = -7200
    await one.fetch(data(f"{web.url}/m"))
    assert web.count("/m") == 2


# -- validation -----------------------------------------------------------------------------------------


@caching
async def test_a_304_confirms(web, ours, folder):
    """What is stale is asked for with its validators; a 304 gives the kept body, and freshness anew."""
    clock = Hands()
    one = ours(clock=clock)
    whole = reply(
        200, PAGE, Cache_Control="max-age=10", ETag='"v1"', Last_Modified="Mon, 01 Jan 2001 00:00:00 GMT"
    )
    web.on("/l", [whole, reply(304, Cache_Control="max-age=1000", ETag='"v1"', X_New="yes")])
    await one.fetch(page(f"{web.url}/l"))
    clock.ahead_s = 20
    confirmed = await one.fetch(page(f"{web.url}/l"))
    sent = web.asked[1].headers
    assert (sent["if-none-match"], sent["if-modified-since"]) == ('"v1"', "Mon, 01 Jan 2001 00:00:00 GMT")
    assert (confirmed.status, confirmed.body, confirmed.headers["x-new"]) == (200, PAGE, "yes")
    assert not confirmed.from_cache  # somebody was asked
    assert one.statistics().bytes == len(PAGE)
    clock.ahead_s = 500
    assert (await one.fetch(page(f"{web.url}/l"))).from_cache
    assert web.count("/l") == 2
    assert one.cache.statistics().confirmed == 1


@caching
async def test_a_changed_answer_takes_the_place(web, ours, folder):
    """What came instead of a 304 is what counts from then on; what is gone is gone."""
    clock = Hands()
    one = ours(clock=clock)
    new = PAGE.replace(b"A paper", b"The paper")
    steps = [
        reply(200, PAGE, Cache_Control="max-age=10", ETag='"v1"'),
        reply(200, new, Cache_Control=HOUR, ETag='"v2"'),
    ]
    web.on("/l", [*steps, reply(404, b"gone")])
    await one.fetch(page(f"{web.url}/l"))
    clock.ahead_s = 20
    assert (await one.fetch(page(f"{web.url}/l"))).body == new
    assert (await one.fetch(page(f"{web.url}/l"))).body == new
    assert web.count("/l") == 2
    clock.ahead_s = 5000
    assert (await one.fetch(page(f"{web.url}/l"))).status == 404
    assert files(folder) == []


@caching
async def test_a_304_for_another_answer_is_asked_about_plainly(web, ours, folder):
    """A 304 whose strong ETag is not ours confirms nothing: one plain request follows, and no third."""
    clock = Hands()
    one = ours(clock=clock)
    first = reply(200, PAGE, Cache_Control="max-age=10", ETag='"v1"')
    web.on("/l", [first, reply(304, ETag='"other"'), reply(200, DATA, Cache_Control="no-store")])
    await one.fetch(page(f"{web.url}/l"))
    clock.ahead_s = 20
    assert (await one.fetch(page(f"{web.url}/l"))).body == DATA
    assert "if-none-match" in web.asked[1].headers
    assert "if-none-match" not in web.asked[2].headers
    assert web.count("/l") == 3
    assert files(folder) == []


class Stubborn(CacheStore):
    """A store on a disk that has become read-only: nothing goes away."""

    def drop(self, name: str) -> None:
        return None


@caching
async def test_what_cannot_be_dropped_is_not_asked_about_for_ever(web, ours, folder):
    """After a 304 for another answer the plain request is plain, although the old entry is still there."""
    clock = Hands()
    one = ours(clock=clock, store=Stubborn(folder, bytes_max=1 << 20, free_space_min=1, clock=clock))
    web.on("/l", [reply(200, PAGE, Cache_Control="max-age=10", ETag='"v1"'), reply(304, ETag='"other"')])
    await one.fetch(page(f"{web.url}/l"))
    clock.ahead_s = 20
    assert (await one.fetch(page(f"{web.url}/l"))).status == 304
    assert web.count("/l") == 3


@caching
async def test_an_outage_leaves_what_is_kept(web, ours, folder):
    """A 503 to the question whether it still holds is told as it is, and the kept answer stays."""
    clock = Hands()
    one = ours(clock=clock)
    web.on(
        "/l", [reply(200, PAGE, Cache_Control="max-age=10", ETag='"v1"'), reply(503, b"later"), reply(304)]
    )
    await one.fetch(page(f"{web.url}/l"))
    clock.ahead_s = 20
    assert (await one.fetch(page(f"{web.url}/l"))).status == 503
    assert (await one.fetch(page(f"{web.url}/l"))).body == PAGE


@caching
async def test_what_is_gone_is_dropped_though_it_could_not_be_confirmed(web, ours, folder):
    """A stale page without a validator and a stale redirect end with a 404 or 410, and with a plain answer
    that may not be kept; an outage ends neither, and nothing that ended is served offline."""
    clock = Hands()
    one = ours(clock=clock, breaker={"failures_to_open": 100, "open_s": 60})
    old = reply(200, PAGE, Cache_Control="max-age=10")
    moved = reply(302, Location="/there", Cache_Control="max-age=10")
    web.on("/there", reply(200, PAGE))
    ends = {"gone": reply(410, b"gone"), "lost": reply(404, b"no"), "plain": reply(200, PAGE)}
    for name, end in ends.items():
        web.on(f"/page-{name}", [old, reply(503, b"later"), end])
        web.on(f"/moved-{name}", [moved, reply(503, b"later"), end])
    targets = [f"{kind}-{name}" for kind in ("page", "moved") for name in ends]
    for target in targets:
        await one.fetch(page(f"{web.url}/{target}"))
    assert len(files(folder)) == len(targets)
    clock.ahead_s = 20
    for target in targets:
        assert (await one.fetch(page(f"{web.url}/{target}"))).status == 503
    assert len(files(folder)) == len(targets)
    for target in targets:
        await one.fetch(page(f"{web.url}/{target}"))
        assert "if-none-match" not in web.asked[-1].headers
    assert files(folder) == []
    offline = ours(clock=clock, offline=True, gates={"offline_behavior": "cache_only"})
    for target in targets:
        assert (await refused(offline.fetch(page(f"{web.url}/{target}")))).reason == "offline"


@caching
async def test_a_url_that_is_gone_is_gone_in_all_forms(web, ours, folder):
    """What varied by Accept and what did not are kept under two names; a 404 ends both."""
    clock = Hands()
    one = ours(clock=clock)
    brief = "max-age=10"
    web.on("/l", [reply(200, PAGE, Cache_Control=brief), reply(200, PAGE, Cache_Control=HOUR, Vary="Accept")])
    await one.fetch(page(f"{web.url}/l", accept="text/html"))
    clock.ahead_s = 20
    (plain,) = files(folder)
    whole = plain.read_bytes()
    await one.fetch(page(f"{web.url}/l", accept="text/html"))
    plain.write_bytes(whole)  # as another worker may have kept it meanwhile
    assert len(files(folder)) == 2
    web.on("/l", reply(404, b"gone"))
    clock.ahead_s = 5000
    assert (await one.fetch(page(f"{web.url}/l", accept="text/html"))).status == 404
    assert files(folder) == []


UPDATES = {
    "our-address": {"X_For": "Reader+quire@example.org"},
    "our-address-escaped": {"Link": "</l?email=reader%2Bquire%40example.org>; rel=self"},
    "our-address-half-escaped": {"Link": "</l?email=reader%2bquire@example.org>; rel=self"},
    "our-address-in-its-url": {"Content_Location": "/l?to=reader%252Bquire%2540example.org"},
    "a-key-in-its-url": {"Content_Location": "/l?token=abcdefabcdef"},
    "a-cookie": {"Set_Cookie": "session=1"},
    "no-store": {"Cache_Control": "no-store"},
    "private": {"Cache_Control": "private, max-age=1000"},
    "vary-all": {"Vary": "*"},
}


@pytest.mark.parametrize("what", sorted(UPDATES))
def test_an_update_obeys_the_rule_of_what_is_new(what, folder):
    """A 304 that brings what is never kept confirms the answer once more, and nothing of it stays."""

    @caching
    async def test(web, ours, folder):
        clock = Hands()
        one = ours(clock=clock, contact_email="reader+quire@example.org")
        fields = {"Cache_Control": "max-age=1000", "ETag": '"v1"', **UPDATES[what]}
        web.on("/l", [reply(200, PAGE, Cache_Control="max-age=10", ETag='"v1"'), reply(304, **fields)])
        await one.fetch(page(f"{web.url}/l"))
        assert len(files(folder)) == 1
        clock.ahead_s = 20
        confirmed = await one.fetch(page(f"{web.url}/l"))
        assert (confirmed.status, confirmed.body) == (200, PAGE)
        assert files(folder) == []

    test(folder)


@caching
async def test_an_update_may_say_anew_what_an_answer_varies_by(web, ours, folder):
    """A 304 with a Vary: from then on the answer is for requests like the one that it was for."""
    clock = Hands()
    one = ours(clock=clock)
    news = reply(304, Cache_Control=HOUR, ETag='"v1"', Vary="Referer, Accept")
    web.on("/l", [reply(200, PAGE, Cache_Control="max-age=10", ETag='"v1"'), news, reply(200, PAGE)])
    asked = page(f"{web.url}/l", referer="http://a.example/")
    await one.fetch(asked)
    clock.ahead_s = 20
    await one.fetch(asked)
    assert (await one.fetch(asked)).from_cache
    assert len(files(folder)) == 1
    assert not (await one.fetch(page(f"{web.url}/l"))).from_cache
    assert web.count("/l") == 3


@pytest.mark.parametrize(
    "spelled",
    [
        *("Reader+quire@example.org", "reader%2Bquire%40example.org", "reader%2bquire@example.org"),
        *("reader+quire%40example.org", "reader%252Bquire%2540example.org"),
        *(r"reader\u002Bquire\u0040example.org", "reader&#43;quire&#x40;example.org"),
    ],
)
def test_our_address_is_known_in_every_spelling(spelled, folder):
    """Escaped for a URL (once or twice), for JSON or HTML: a page or a field that holds it is not kept."""

    @caching
    async def test(web, ours, folder):
        one = ours(contact_email="reader+quire@example.org")
        web.on("/page", reply(200, PAGE + f"<!-- {spelled} -->".encode(), Cache_Control=HOUR))
        web.on("/field", reply(200, PAGE, Cache_Control=HOUR, X_For=spelled))
        web.on("/other", reply(200, PAGE + b"<!-- reader-quire@example.org -->", Cache_Control=HOUR))
        for target in ("/page", "/field", "/other"):
            await one.fetch(page(web.url + target))
        assert len(files(folder)) == 1
        assert (await one.fetch(page(f"{web.url}/other"))).from_cache

    test(folder)


# -- what is kept ---------------------------------------------------------------------------------------

NEVER = {
    "no-store": reply(200, PAGE, Cache_Control="no-store, max-age=3600"),
    "private": reply(200, PAGE, Cache_Control="private, max-age=3600"),
    "cookie": reply(200, PAGE, Cache_Control=HOUR, Set_Cookie="session=1"),
    "vary-all": reply(200, PAGE, Cache_Control=HOUR, Vary="*"),
    "not-found": reply(404, PAGE, Cache_Control=HOUR),
    "outage": reply(503, PAGE, Cache_Control=HOUR),
    "forbidden": reply(403, PAGE, Cache_Control=HOUR),
    "empty": reply(200, b"", Cache_Control=HOUR),
    "too-long": reply(200, PAGE + b"x" * 100_000, Cache_Control=HOUR),
    "pdf": reply(200, PDF, Cache_Control=HOUR),
    "our-address": reply(200, PAGE + b"<!-- Reader@example.org -->", Cache_Control=HOUR),
    "challenge": reply(200, PAGE.replace(b"A paper", b"Just a moment..."), Cache_Control=HOUR),
    "old-already": reply(200, PAGE, Cache_Control=HOUR, Age="3600"),
}


@pytest.mark.parametrize("what", sorted(NEVER))
def test_never_kept(what, folder):
    """Errors, walls, PDFs, cut bodies and whatever is somebody's own are not kept, whatever they say."""

    @caching
    async def test(web, ours, folder):
        one = ours()
        web.on("/x", NEVER[what])
        for _ in range(2):
            assert not (await one.fetch(page(f"{web.url}/x"))).from_cache
        assert web.count("/x") == 2
        assert files(folder) == []

    test(folder)


@caching
async def test_artifacts_are_never_kept(web, ours, folder):
    """No PDF, and no page that came instead of one, is kept or answered from the cache."""
    one = ours()
    web.on("/p.pdf", reply(200, PDF, Cache_Control=HOUR, ETag='"v1"'))
    web.on("/page", reply(200, PAGE, Cache_Control=HOUR))
    for _ in range(2):
        download = await one.open(Request(url=f"{web.url}/p.pdf", role="artifact"))
        await download.save(lambda chunk: asyncio.sleep(0))
        download = await one.open(page(f"{web.url}/p.pdf"))
        await download.close()
        await refused(one.open(Request(url=f"{web.url}/page", role="artifact")))
    assert (web.count("/p.pdf"), web.count("/page")) == (4, 2)
    assert files(folder) == []


@caching
async def test_a_page_that_came_where_a_landing_url_was_opened(web, ours, folder):
    """The DOI resolver's way (open, with the role of a page) is answered from the cache as well."""
    one = ours()
    web.on("/doi", reply(302, Location="/l", Cache_Control=HOUR))
    web.on("/l", reply(200, PAGE, Cache_Control=HOUR))
    errors = [await refused(one.open(page(f"{web.url}/doi"))) for _ in range(2)]
    assert [(error.reason, error.page.body) for error in errors] == [("html_instead", PAGE)] * 2
    assert [error.page.from_cache for error in errors] == [False, True]
    assert errors[1].page.hops == (f"{web.url}/doi",)
    assert one.statistics().requests == 2


@caching
async def test_redirects_are_kept_with_what_they_lead_to(web, ours, folder):
    """A redirect that says how long it holds is kept if the page is good; from_cache is for whole chains."""
    one = ours()
    for name, target in (("good", "/l"), ("bad", "/gone"), ("secret", "/s?token=abcdef"), ("brief", "/l")):
        how_long = {} if name == "brief" else {"Cache_Control": HOUR}
        web.on(f"/{name}", reply(301, Location=target, **how_long))
    web.on("/l", reply(200, PAGE, Cache_Control=HOUR))
    web.on("/s?token=abcdef", reply(200, PAGE))
    web.on("/gone", reply(404, PAGE))
    for _ in range(2):
        answers = {
            name: await one.fetch(page(f"{web.url}/{name}")) for name in ("good", "bad", "secret", "brief")
        }
    assert {name: answer.from_cache for name, answer in answers.items()} == {
        "good": True, "bad": False, "secret": False, "brief": False,
    }  # fmt: skip
    assert {name: web.count(f"/{name}") for name in answers} == {"good": 1, "bad": 2, "secret": 2, "brief": 2}
    assert answers["good"].hops == (f"{web.url}/good",)


@caching
async def test_the_way_to_the_home_page_is_not_kept(web, ours, folder):
    """A deep link that leads to the bare home page is a lost page, and is asked for anew next time."""
    one = ours()
    web.on("/deep/link", reply(301, Location="/", Cache_Control=HOUR))
    web.on("/", reply(200, ARTICLE, Cache_Control=HOUR))
    for _ in range(2):
        assert (await refused(one.fetch(page(f"{web.url}/deep/link")))).reason == "soft_404"
    assert web.count("/deep/link") == 2
    assert files(folder) == []


@caching
async def test_vary(web, ours, folder):
    """An answer is used for requests that are alike in what it varies by, and for no other."""
    one = ours()
    web.on("/v", reply(200, PAGE, Cache_Control=HOUR, Vary="Accept-Encoding, Referer"))
    asked = [page(f"{web.url}/v"), page(f"{web.url}/v", referer="http://a.example/")]
    again = [asked[0], asked[0], asked[1], asked[1]]
    assert [(await one.fetch(request)).from_cache for request in again] == [False, True, False, True]


@caching
async def test_what_varies_by_accept_is_kept_side_by_side(web, ours, folder):
    """The DOI resolver answers by Accept: each form is kept; what does not vary is used for all forms."""
    one = ours()
    web.on("/v", reply(200, PAGE, Cache_Control=HOUR, Vary="Accept"))
    web.on("/a", reply(200, PAGE, Cache_Control=HOUR))
    forms = [page(f"{web.url}/v", accept=accept) for accept in ("text/html", "application/pdf") * 2]
    assert [(await one.fetch(form)).from_cache for form in forms] == [False, False, True, True]
    forms = [page(f"{web.url}/a", accept=accept) for accept in ("text/html", "application/pdf")]
    assert [(await one.fetch(form)).from_cache for form in forms] == [False, True]


@caching
async def test_with_cookies_nothing_is_shared(web, ours, folder):
    """A request that carries cookies of a page is neither answered from the cache nor kept."""
    one = ours()
    web.on("/c", reply(200, PAGE, Cache_Control=HOUR))
    given = (("127.0.0.1", "session", "1"),)
    assert not (await one.fetch(page(f"{web.url}/c", cookies=given))).from_cache
    assert files(folder) == []
    await one.fetch(page(f"{web.url}/c"))
    assert not (await one.fetch(page(f"{web.url}/c", cookies=given))).from_cache
    assert web.count("/c") == 3


@caching
async def test_robots_txt_has_its_own_cache(web, ours, folder):
    """The rules of a site are asked for by each worker, whatever their Cache-Control says."""
    web.on("/robots.txt", reply(200, b"User-agent: *\nAllow: /\n", Cache_Control=HOUR))
    web.on("/l", reply(200, PAGE))
    for _ in range(2):
        await ours().fetch(page(f"{web.url}/l", robots=True))
    assert web.count("/robots.txt") == 2
    assert files(folder) == []


@caching
async def test_no_address_and_no_key_is_on_the_disk(web, ours, folder):
    """Neither file names nor files hold the URL, our e-mail address or a key, plain or percent-encoded."""
    one = ours()
    target = "/v2/10.1000/a?email=reader@example.org&api_key=s3cr3ts3cr3t"
    web.on(target, reply(200, DATA, Cache_Control=HOUR, Vary="User-Agent"))
    await one.fetch(data(web.url + target))
    assert (await one.fetch(data(web.url + target))).from_cache
    (kept,) = files(folder)
    whole = kept.name.encode() + kept.read_bytes()
    for secret in (b"reader", b"example.org", b"s3cr3t", b"v2/10"):
        assert secret not in whole.lower()
    assert kept.stat().st_mode & 0o077 == 0


# -- the store ------------------------------------------------------------------------------------------


@caching
async def test_two_workers_share(web, ours, folder):
    """What one worker was answered, the other needs not ask."""
    web.on("/m", reply(200, DATA, Cache_Control=HOUR))
    one, other = ours(), ours()
    assert not (await one.fetch(data(f"{web.url}/m"))).from_cache
    assert (await other.fetch(data(f"{web.url}/m"))).from_cache
    assert web.count("/m") == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other", "foreign", "folder"])
def test_a_damaged_entry_is_a_miss(damage, folder):
    """A file that is not what was written is asked for anew, and replaced."""

    @caching
    async def test(web, ours, folder):
        one = ours()
        web.on("/m", reply(200, DATA, Cache_Control=HOUR))
        web.on("/n", reply(200, DATA * 2, Cache_Control=HOUR))
        await one.fetch(data(f"{web.url}/m"))
        (kept,) = files(folder)
        whole = kept.read_bytes()
        if damage == "other":  # a whole entry under the wrong name
            await one.fetch(data(f"{web.url}/n"))
            (strange,) = set(files(folder)) - {kept}
            kept.write_bytes(strange.read_bytes())
        elif damage == "folder":
            kept.unlink()
            kept.mkdir()
        else:
            half = len(whole) // 2
            flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
            kept.write_bytes(
                {"cut": whole[:-3], "flipped": flipped, "empty": b"", "foreign": b"junk"}[damage]
            )
        again = await one.fetch(data(f"{web.url}/m"))
        assert (again.body, again.from_cache, web.count("/m")) == (DATA, False, 2)
        assert (await one.fetch(data(f"{web.url}/m"))).from_cache is (damage != "folder")

    test(folder)


def test_no_single_bit_goes_unnoticed(folder):
    """Whichever byte of an entry is changed, or wherever it is cut, it is a miss."""
    store = store_at(folder)
    store.put(entry("aa", 50))
    path = folder / ("aa" * 32)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.get("aa" * 32) is None, place
        path.write_bytes(whole[:place])
        assert store.get("aa" * 32) is None, place
    path.write_bytes(whole)
    assert store.get("aa" * 32) is not None


def entry(name: str, size: int) -> Kept:
    return Kept(
        name=name * 32, status=200, headers=(), body=os.urandom(size), received_ns=0, age_s=0.0, vary={}
    )  # fmt: skip


def test_the_bound_evicts_what_was_longest_of_no_use(folder):
    """The folder stays within bytes_max, and what was read lately outlives what was not."""
    store = store_at(folder, bytes_max=1 << 20)
    for number in range(60):
        assert store.put(entry(f"{number:02x}", 30_000))
        path = folder / (f"{number:02x}" * 32)
        os.utime(path, (number, number))
        if number >= 20:
            os.utime(folder / ("05" * 32), (number, number + 0.5))  # as if it had just been of use
        assert sum(file.stat().st_size for file in files(folder)) <= 1 << 20
    kept = {file.name[:2] for file in files(folder)}
    assert {"05", "3b", "3a"} <= kept
    assert "04" not in kept
    assert store.statistics().evicted == 60 - len(kept)
    assert not store.put(entry("ff", 2 << 20))  # larger than all of it


def test_reading_counts_as_use(folder):
    """A hit makes an entry young for the eviction."""
    store = store_at(folder)
    store.put(entry("aa", 10))
    path = folder / ("aa" * 32)
    os.utime(path, (1, 1))
    assert store.get("aa" * 32) is not None
    assert path.stat().st_mtime > 1


def test_two_stores_keep_one_bound(folder):
    """Workers that store in turn exceed the bound by no more than what is between two counts."""
    stores = [store_at(folder, bytes_max=1 << 20) for _ in range(3)]
    for number in range(150):
        stores[number % 3].put(entry(f"{number:02x}", 20_000))
        assert sum(file.stat().st_size for file in files(folder)) <= (1 << 20) * (1 + 3 / 16)


def test_leftovers_of_the_dead_go(folder):
    """A file that was never renamed into place is removed an hour later; a younger one may be a writer's."""
    clock = Hands()
    folder.mkdir()
    hidden = folder / f".{'ab' * 32}.12345.6789"
    mine = folder / "notes.txt"
    hidden.write_bytes(b"half an ent")
    mine.write_bytes(b"somebody's own")
    store_at(folder, clock=clock).put(entry("aa", 10))
    assert hidden.exists()
    clock.ahead_s = LEFTOVER_S + 60
    store_at(folder, clock=clock).put(entry("bb", 10))
    assert not hidden.exists()
    assert mine.exists()


@caching
async def test_a_full_disk_means_no_caching(web, ours, folder):
    """With too little space, or where the folder cannot be made, the answer comes all the same."""
    web.on("/m", reply(200, DATA, Cache_Control=HOUR))
    full = store_at(folder, free_space_min=1 << 60)
    blocked = store_at(folder.parent / "file" / "cache")
    (folder.parent / "file").write_bytes(b"")
    for number, store in enumerate((full, blocked)):
        one = ours(store=store)
        assert (await one.fetch(data(f"{web.url}/m"))).body == DATA
        assert (web.count("/m"), store.statistics().refused) == (number + 1, 1)
    assert files(folder) == []


WRITER = """
import sys
from pathlib import Path
from quire.actors.runtime.ports import SystemClock
from quire.actors.web.cache_store import CacheStore, Kept
store = CacheStore(Path(sys.argv[1]), bytes_max=1 << 30, free_space_min=1, clock=SystemClock())
body = bytes(range(256)) * 8192
for number in range(100_000):
    name = f"{number % 4:02x}" * 32
    store.put(Kept(name=name, status=200, headers=(), body=body[: 1 << 20] + str(number).encode(),
                   received_ns=0, age_s=0.0, vary={}))
    if number == 3:
        print("going", flush=True)
"""


def test_kill_while_storing(folder):
    """Whoever is killed while storing leaves whole entries or none under their names."""
    body = (bytes(range(256)) * 8192)[: 1 << 20]
    leftovers = 0
    for _ in range(30):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, cwd=Path(__file__).parent
        )
        assert writer.stdout.readline() == b"going\n"
        wait_until(lambda pid=writer.pid: any(f".{pid}." in file.name for file in files(folder)))
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        store = store_at(folder, bytes_max=1 << 30)
        for number in range(4):
            kept = store.get(f"{number:02x}" * 32)
            assert kept is not None
            assert kept.body.startswith(body)
        assert store.statistics().damaged == 0
        leftovers = sum(file.name.startswith(".") for file in files(folder))
        if leftovers >= 3:
            break
    assert leftovers >= 3  # so many were hit in the middle


# -- offline --------------------------------------------------------------------------------------------


@caching
async def test_cache_only_serves_what_is_there(web, ours, folder):
    """Offline with cache_only, kept answers are served, stale ones too; all else is skipped/offline."""
    clock = Hands()
    web.on("/l", reply(200, PAGE, Cache_Control="max-age=10"))
    web.on("/strict", reply(200, PAGE, Cache_Control="max-age=10, must-revalidate"))
    web.on("/shared", reply(200, PAGE, Cache_Control="s-maxage=10"))
    web.on("/no-cache", reply(200, PAGE, Cache_Control="no-cache", ETag='"v1"'))
    web.on("/robots.txt", reply(200, b""))
    online = ours(clock=clock)
    strict = ("/strict", "/shared", "/no-cache")
    for target in ("/l", *strict):
        await online.fetch(page(web.url + target))
    requests = len(web.asked)
    offline = ours(clock=clock, offline=True, gates={"offline_behavior": "cache_only"})
    clock.ahead_s = 5000
    answer = await offline.fetch(page(f"{web.url}/l", robots=True))
    assert (answer.body, answer.from_cache) == (PAGE, True)
    for target in (*strict, "/never"):
        error = await refused(offline.fetch(page(web.url + target)))
        assert (error.outcome, error.reason) == ("skipped", "offline"), target
    assert (await refused(offline.open(Request(url=f"{web.url}/l", role="artifact")))).reason == "offline"
    assert offline.gate(f"{web.url}/l", "landing") is None
    assert offline.gate(f"{web.url}/l", "metadata") is None
    assert offline.gate(f"{web.url}/p", "artifact").reason == "offline"
    assert len(web.asked) == requests


@pytest.mark.parametrize("behaviour", ["metadata_only", "block_all"])
def test_the_other_offline_modes_do_not_read_pages(behaviour, folder):
    """Only cache_only answers pages from the cache while offline."""

    @caching
    async def test(web, ours, folder):
        web.on("/l", reply(200, PAGE, Cache_Control=HOUR))
        await ours().fetch(page(f"{web.url}/l"))
        offline = ours(offline=True, gates={"offline_behavior": behaviour})
        assert (await refused(offline.fetch(page(f"{web.url}/l")))).reason == "offline"
        assert offline.gate(f"{web.url}/l", "landing").reason == "offline"

    test(folder)


@caching
async def test_switched_off(web, ours, folder):
    """With web.cache.enabled: false nothing is kept and nothing read."""
    web.on("/m", reply(200, DATA, Cache_Control=HOUR))
    await ours().fetch(data(f"{web.url}/m"))
    off = ours(cache={"enabled": False, "bytes_max": 1 << 20, "ttl_max_s": 600})
    assert not (await off.fetch(data(f"{web.url}/m"))).from_cache
    assert web.count("/m") == 2


def test_the_seams_of_hishel():
    """The names of hishel that are not exported are where cache_rules looks for them."""
    from hishel._core._headers import parse_cache_control

    said = parse_cache_control('private="x", max-age=5, proxy-revalidate, s-maxage=1, s-maxage=7')
    assert (said.max_age, said.s_maxage, said.proxy_revalidate) == (5, 7, True)


# -- what is told ---------------------------------------------------------------------------------------


@caching
async def test_a_search_came_from_the_cache_when_all_of_it_did(web, ours, folder):
    """One answer off the network, or an error, and the search did not come from the cache; nor did none."""
    one = ours()
    web.on("/m", reply(200, DATA, Cache_Control=HOUR))
    web.on("/n", reply(200, DATA))
    await one.fetch(data(f"{web.url}/m"))
    heard = Hearing(one)
    assert heard.from_cache is None
    await heard.fetch(data(f"{web.url}/m"))
    assert heard.from_cache is True
    await heard.fetch(data(f"{web.url}/n"))
    assert heard.from_cache is False
    failed = Hearing(one)
    await failed.fetch(data(f"{web.url}/m"))
    await refused(failed.fetch(data("http://10.0.0.1/m")))
    assert failed.from_cache is False


def test_a_turn_came_from_the_cache_when_all_it_heard_did():
    """A search that asked nothing says nothing; one answer off the network settles it."""
    turn = TurnInHand(TurnId("a", 1, "unpaywall_pdf", 1), "t", "op", 0, 1)
    said = []
    for heard in (None, True, None, False, True):
        turn.heard(heard)
        said.append(turn.from_cache)
    assert said == [None, True, True, False, False]


# -- a whole run ----------------------------------------------------------------------------------------

DOI = "10.1000/cached"
PLACES = {
    "unpaywall": f"https://api.unpaywall.org/v2/{DOI}?email=reader@quire.example",
    "doi": f"https://doi.org/{DOI}",
    "page": "https://journal.example/article/1",
    "pdf": "https://journal.example/article/1.pdf",
}
RECORD = b'{"doi": "10.1000/cached", "title": "A cached paper", "best_oa_location": null, "oa_locations": []}'
OFFLINE = {"QUIRE_FALLBACK__GATES__OFFLINE_BEHAVIOR": "cache_only", "QUIRE_WEB__OFFLINE": "true"}
ONLY = "[arxiv_pdf,pmc_pdf,europe_pmc_pdf,wayback_pdf]"


def attempts(library: Path) -> dict[str, list[tuple[str, bool]]]:
    """What each source's turns came to, in order, and whether the cache gave what they asked for."""
    told: dict[str, list[tuple[str, bool]]] = {}
    for event in lines(quire("log", "--library", library, "--json").stdout):
        if event["type"] == "fallback_attempt":
            said = event["data"]
            told.setdefault(said["source"], []).append(
                (said["reason"] or said["outcome"], said.get("from_cache", False))
            )
    return told


def test_a_run_offline_after_a_run_online(tmp_path):
    """The command online, offline with cache_only, and online again: pages are asked for once in all."""

    async def test() -> None:
        async with loopback() as web:
            web.on("*", reply(404, b"nothing"))
            web.on(
                PLACES["unpaywall"], reply(200, RECORD, Cache_Control=HOUR, Content_Type="application/json")
            )
            web.on(PLACES["doi"], reply(302, Location=PLACES["page"], Cache_Control=HOUR))
            web.on(PLACES["page"], reply(200, ARTICLE, Cache_Control=HOUR, Content_Type="text/html"))
            given, library = tmp_path / "list.txt", tmp_path / "library"
            given.write_text(f"{DOI}\n")

            async def ran(*words: object, env: dict[str, str] | None = None) -> dict[str, object]:
                env = {"QUIRE_FALLBACK__DISABLED": ONLY, **(env or {})}
                done = await asyncio.to_thread(rehearsed, web.url, library, given, *words, env=env)
                assert done.returncode in (0, 1), done.stderr
                return lines(done.stdout)[0]

            def counts() -> list[int]:
                return [web.count(url) for url in PLACES.values()]

            assert (await ran())["failed"] == 1
            assert counts()[:3] == [1, 1, 1]
            asked = len(web.asked)
            assert {path.stat().st_mode & 0o777 for path in files(library / "cache")} == {0o600}

            offline = await ran("--retry-failed", env=OFFLINE)
            assert (offline["waiting"], offline["requests"]) == (1, 0)
            assert len(web.asked) == asked
            told = attempts(library)
            assert told["unpaywall_pdf"] == [("no_oa_location", False), ("no_oa_location", True)]
            assert told["doi_redirect_pdf"][-1] == ("html_instead", True)
            assert told["landing_scrape_pdf"][-1] == ("offline", False)  # the page at hand: it asked nothing

            web.on(PLACES["pdf"], reply(200, make_pdf("cached", size=20_000, title="A cached paper")))
            assert (await ran("--retry-failed"))["finalized"] == 1
            assert counts()[:3] == [1, 1, 1]
            stored = b"".join(path.read_bytes() for path in files(library / "cache")).lower()
            assert b"reader@" not in stored
            assert b"%pdf-" not in stored

    run(test, within_s=60)


def test_cache_only_without_a_cache_is_refused():
    """A setting that could answer nothing is refused before the run, with what would be right."""
    with pytest.raises(UsageError, match=r"cache_only has nothing to answer from.*web\.cache\.enabled"):
        load([], environ={**OFFLINE, "QUIRE_WEB__CACHE__ENABLED": "false"})
