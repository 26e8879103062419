"""The network of one turn: an open PDF is closed by whoever leaves it, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from quire.actors.sources.arxiv import paper_at_arxiv
from quire.actors.sources.turn_web import TurnWeb
from quire.actors.web.client import WebClient
from quire.actors.web.encoding import PDF_MARK
from quire.actors.web.exchange import Download, Request, WebError
from quire.testing.records import rehearse
from quire.testing.web import Mix, World

sys.path.insert(0, str(Path(__file__).parent))
from loopback import Aside, Asked, Loopback, client, loopback, reply, run

PAGE = b"<!DOCTYPE html><html><head><title>A paper</title></head><body>" + b"words " * 200 + b"</body></html>"


class Unending:
    """A PDF whose bytes stop after the first ones; each of its connections stays until the client leaves."""

    def __init__(self) -> None:
        self.live = 0

    async def __call__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.live += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n%PDF-1.7\n" + b"x" * 20_000)
            await writer.drain()
            await reader.read()
        finally:
            self.live -= 1
        return False


class Held:
    """The real client; all that it opened is held, so that nothing is closed by being forgotten."""

    def __init__(self, web: WebClient) -> None:
        self.web = web
        self.opened: list[Download] = []

    async def open(self, request: Request) -> Download:
        self.opened.append(await self.web.open(request))
        return self.opened[-1]


def turning(test: Callable[[Loopback, TurnWeb], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with a server and the network of one turn."""

    def whole() -> None:
        async def inner() -> None:
            one = client()
            async with loopback() as web:
                try:
                    await test(web, TurnWeb(Held(one), Aside()))  # type: ignore[arg-type]
                finally:
                    await one.close()

        run(inner)

    whole.__doc__ = test.__doc__
    whole.__name__ = test.__name__
    return whole


def page(url: str, **more: Any) -> Request:
    return Request(url=url, role="landing", deadline_s=3.0, **more)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(300):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


async def refused(asking: Awaitable[object]) -> str:
    with pytest.raises(WebError) as caught:
        await asking
    return caught.value.reason


# -- what is open


@turning
async def test_the_second_way_to_an_open_pdf_closes_the_first(web: Loopback, turn: TurnWeb) -> None:
    """Two pages lead to one PDF: the first stream is closed when the second is there, and none is left."""
    pdf = Unending()
    web.on("/p.pdf", pdf)
    for target in ("/one", "/other"):
        web.on(target, reply(302, Location="/p.pdf"))
    assert (await turn.fetch(page(f"{web.url}/one"))).body == PDF_MARK
    assert pdf.live == 1
    turn.again(f"{web.url}/other")
    assert (await turn.fetch(page(f"{web.url}/other"))).body == PDF_MARK
    assert web.count("/p.pdf") == 2
    await until(lambda: pdf.live == 1)
    assert turn.keeps
    await turn.close()
    await until(lambda: pdf.live == 0)
    assert not turn.keeps


@turning
async def test_two_pdfs_stay_open_until_taken_or_the_turn_ends(web: Loopback, turn: TurnWeb) -> None:
    """Each waits under its own URL; what is taken is the caller's, and the turn's end closes the rest."""
    first, second = Unending(), Unending()
    web.on("/first.pdf", first)
    web.on("/second.pdf", second)
    for target in ("/first.pdf", "/second.pdf"):
        await turn.fetch(page(web.url + target))
    assert (first.live, second.live) == (1, 1)
    taken = turn.taken(f"{web.url}/first.pdf")
    assert taken is not None
    await turn.close()
    await until(lambda: second.live == 0)
    assert first.live == 1
    assert turn.taken(f"{web.url}/second.pdf") is None
    await taken.close()
    await until(lambda: first.live == 0)


# -- what is asked again


@turning
async def test_a_page_is_asked_once_and_a_redirect_once_more_by_whoever_is_dressed(
    web: Loopback, turn: TurnWeb
) -> None:
    """A page that came is not asked again; what only led to it may be, with a referer, once."""
    web.on("/doi", reply(302, Location="/page"))
    web.on("/page", reply(200, PAGE))
    await turn.fetch(page(f"{web.url}/doi"))
    assert await refused(turn.fetch(page(f"{web.url}/doi"))) == "asked_already"
    assert await refused(turn.fetch(page(f"{web.url}/page", referer="http://a.example/"))) == "asked_already"
    await turn.fetch(page(f"{web.url}/doi", referer="http://a.example/"))
    assert await refused(turn.fetch(page(f"{web.url}/doi", referer="http://a.example/"))) == "asked_already"
    assert web.count("/doi") == 2


# -- one paper at arXiv


@pytest.mark.parametrize(
    ("url", "paper"),
    [
        ("http://arxiv.org/pdf/1407.1609.pdf", "https://arxiv.org/pdf/1407.1609"),
        ("https://www.arxiv.org/pdf/1407.1609", "https://arxiv.org/pdf/1407.1609"),
        ("https://arxiv.org/pdf/1407.1609v2.pdf", "https://arxiv.org/pdf/1407.1609v2"),
        ("https://arxiv.org/pdf/math/0309136", "https://arxiv.org/pdf/math/0309136"),
        ("https://export.arxiv.org/pdf/1407.1609", ""),
        ("https://arxiv.org/abs/1407.1609", ""),
        ("https://arxiv.org/pdf/other", ""),
        ("https://arxiv.org.example/pdf/1407.1609", ""),
        ("", ""),
    ],
)
def test_a_pdf_of_arxiv_has_one_name(url: str, paper: str) -> None:
    """Scheme, www and ending make no other paper; the version, the mirror and the abstract do."""
    assert paper_at_arxiv(url) == paper


def test_a_paper_that_arxiv_refused_is_not_asked_for_by_its_other_urls(tmp_path: Path) -> None:
    """Unpaywall names one arXiv paper twice, the abstract page twice more, dressed; a 403 was the answer.

    Seed 4 of the real records: five requests for one refusal, three of them to one URL.
    """
    urls = ("http://arxiv.org/pdf/1407.1609", "http://arxiv.org/pdf/1407.1609.pdf")
    locations = [
        {"url": url, "url_for_pdf": url, "url_for_landing_page": "http://arxiv.org/abs/1407.1609",
         "version": "submittedVersion", "host_type": "repository"}
        for url in urls
    ]  # fmt: skip
    record = {"doi": "10.1088/0004-637x/790/2/99", "title": "Trigonometric parallaxes", "is_oa": True,
              "best_oa_location": locations[0], "oa_locations": locations}  # fmt: skip
    walled = Mix(good=0, missing=0, html=0, truncated=0, others=(("paywall", 1.0),), shapes=True)
    for seed in range(3):
        report = rehearse(World.from_unpaywall([record], seed=seed, mix=walled), tmp_path / str(seed))
        assert report.problems == []
        assert report.deeds["paywall"] <= 2, "http and https at once, by two sources side by side"
