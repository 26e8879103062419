"""The demo world: works of every kind, each oddity on a host of its own, so that one does not spoil another.

About a quarter of the works are odd, the rest everyday. No fault lasts longer than a few seconds: a run with
the default settings and without pacing goes through all of it in under half a minute.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from .artifacts import Fate
from .catalogue import Hiccup
from .papers import Copy, Paper
from .publishers import Platform

STALL_S = 4.0
"""Longest silence of the demo, in seconds."""
ODD_SHARE = 4
"""One work in so many is odd, where there are enough of them to hold every oddity."""
RULES = "User-agent: *\nDisallow: /article/\n"
POLITE_RULES = "User-agent: *\nCrawl-delay: 1\nDisallow: /admin/\n"

Recipe = Callable[[int], Paper]


def _doi(n: int) -> str:
    return f"10.5555/quire.{n:05d}"


def _arxiv(n: int) -> str:
    return f"{2001 + n // 90_000 % 12:04d}.{10_000 + n % 90_000:05d}"


def _pmcid(n: int) -> str:
    return f"PMC{7_000_000 + n}"


def _pmid(n: int) -> str:
    return str(31_000_000 + n)


def _by_doi(*copies: Copy, **more: str) -> Recipe:
    return lambda n: Paper(doi=_doi(n), copies=copies, **more)  # type: ignore[arg-type]


def _broken_first(fate: Fate, **more: float) -> Recipe:
    """The best location goes wrong, the second is sound."""
    return _by_doi(Copy(fate=fate, **more), Copy())  # type: ignore[arg-type]


def _broken(fate: Fate) -> Recipe:
    """The only location goes wrong for good."""
    return _by_doi(Copy(fate=fate))


def _landing(platform: Platform, fate: Fate = "good") -> Recipe:
    return _by_doi(Copy(source="landing_scrape_pdf", platform=platform, fate=fate))


def _walled(platform: Platform) -> Recipe:
    return lambda n: Paper(doi=_doi(n), copies=(), landing=platform)


EVERYDAY: tuple[Recipe, ...] = (
    _by_doi(Copy()),
    lambda n: Paper(arxiv_id=_arxiv(n)),
    _by_doi(Copy(), Copy()),
    lambda n: Paper(pmcid=_pmcid(n)),
    _landing("meta"),
    _by_doi(Copy(source="doi_redirect_pdf")),
    lambda n: Paper(
        pmid=_pmid(n), pmcid=_pmcid(n), doi=_doi(n), asked_by="pmid", copies=(Copy(source="pmc_pdf"),)
    ),
    _by_doi(Copy(source="europe_pmc_pdf")),
    lambda n: Paper(arxiv_id=_arxiv(n), asked_by="arxiv_doi"),
    _landing("ojs"),
    _by_doi(Copy(source="wayback_pdf")),
    lambda n: Paper(doi=_doi(n), copies=()),
    _landing("dspace"),
    _by_doi(Copy(fate="chunked")),
)
"""What most works are like; each of the seven sources is somewhere the only one."""

ODD: tuple[Recipe, ...] = (
    lambda n: Paper(doi=_doi(n), copies=(Copy(),), content=f"twin {n // 2}"),
    lambda n: Paper(doi=_doi(n), copies=(Copy(),), content=f"twin {n // 2}"),
    _broken_first("missing"),
    _broken_first("html_as_pdf"),
    _broken_first("truncated"),
    _broken_first("reset"),
    _broken_first("stall", stall_s=STALL_S),
    _broken_first("too_long"),
    _broken_first("too_short"),
    _broken_first("gzip_bomb"),
    _broken_first("redirect_loop"),
    _broken_first("redirect_private"),
    _broken_first("refused"),
    _broken_first("challenge"),
    _broken_first("empty"),
    _broken_first("json_error"),
    _broken("html"),
    _broken("truncated"),
    _broken("server_error"),
    _broken("login"),
    _broken("paywall"),
    _by_doi(Copy(fate="busy_once")),
    _by_doi(Copy(fate="unavailable_once")),
    _by_doi(Copy(fate="reset_once")),
    _by_doi(Copy(fate="stall_once")),
    _by_doi(Copy(fate="slow_start")),
    _by_doi(Copy(fate="slow_drip")),
    _by_doi(Copy(fate="redirected")),
    _by_doi(Copy(fate="junk_before")),
    _by_doi(Copy(fate="no_length")),
    _by_doi(Copy(fate="as_octets")),
    _landing("nature"),
    _landing("sciencedirect"),
    _landing("refresh"),
    _landing("frameset"),
    _landing("viewer"),
    _landing("anchor"),
    _landing("link"),
    _landing("json_ld"),
    _landing("base"),
    _landing("embed"),
    _landing("script"),
    _landing("latin1"),
    _landing("meta", "needs_cookie"),
    _landing("meta", "needs_referer"),
    _walled("challenge"),
    _walled("captcha"),
    _walled("cookie_wall"),
    _walled("login"),
    _walled("paywall"),
    _walled("soft_404"),
    _walled("script_wall"),
    lambda n: Paper(doi=_doi(n), copies=(Copy(source="landing_scrape_pdf"),), robots=RULES),
    lambda n: Paper(doi=_doi(n), copies=(Copy(source="landing_scrape_pdf"),), robots="error"),
    lambda n: Paper(doi=_doi(n), copies=(Copy(source="landing_scrape_pdf"),), robots=POLITE_RULES),
    _by_doi(Copy(source="pmc_pdf", md5_right=False), Copy(source="europe_pmc_pdf")),
    lambda n: Paper(pmcid=_pmcid(n), copies=(Copy(source="europe_pmc_pdf"),)),
    lambda n: Paper(doi=_doi(n), pmcid=_pmcid(n), asked_by="doi", copies=(Copy(source="pmc_pdf"),)),
    _by_doi(Copy(source="wayback_pdf", indexed=False)),
    lambda n: Paper(url=f"https://www.hazel-{n}.example/article/view/{n}",
                    copies=(Copy(source="landing_scrape_pdf", platform="ojs"),)),
    lambda n: Paper(url=f"https://files.hazel-{n}.example/{n}.pdf",
                    copies=(Copy(source="landing_scrape_pdf", at=f"https://files.hazel-{n}.example/{n}.pdf"),)),
    lambda n: Paper(url=f"https://old.hazel-{n}.example/{n}.pdf", copies=(Copy(source="wayback_pdf"),)),
    lambda n: Paper(doi=_doi(n), title=f"A rather singular account of quires and gatherings, part {n}",
                    asked_by="title", copies=(Copy(),)),
    lambda n: Paper(arxiv_id=_arxiv(n), fate="missing"),
    lambda n: Paper(doi=_doi(n), copies=(Copy(),), size=1_500_000),
)  # fmt: skip
"""One of everything that goes, or only looks, wrong."""


def demo_papers(works: int, seed: int) -> list[Paper]:
    """So many works, in an order that follows from the seed."""
    papers = [recipe(n) for recipe, n in _recipes(works)]
    random.Random(seed).shuffle(papers)
    return papers


def demo_hiccups(works: int) -> Iterator[tuple[str, Hiccup]]:
    """Unpaywall's addresses that fail, and how: it is busy for one work and down for another, once each."""
    plain = (recipe(n).doi for recipe, n in _recipes(works) if recipe in EVERYDAY[:3])
    kinds: tuple[Hiccup, ...] = ("busy_once", "unavailable_once")
    for doi, kind in zip(filter(None, plain), kinds, strict=False):
        yield f"https://api.unpaywall.org/v2/{doi}", kind


def _recipes(works: int) -> list[tuple[Callable[[int], Paper], int]]:
    odd = min(works // 2, max(len(ODD), works // ODD_SHARE))
    recipes = [(ODD[n % len(ODD)], n) for n in range(odd)]
    return recipes + [(EVERYDAY[n % len(EVERYDAY)], odd + n) for n in range(works - odd)]
