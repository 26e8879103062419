"""The web of a campaign of kills: real records or the demo's works, and pairs that share URL or bytes."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from .web import Copy, Fate, Mix, Paper, World

SHARED_SHARE = 12
"""One pair of works that lead to the same PDF, and one of two URLs with the same bytes, for so many works."""
BROKEN_OFF: Fate = "reset_once"
"""The fate of one of each pair: its first transfer breaks off, and the rest is asked for."""
LARGE = 600_000
"""Their size in bytes: so much that a part of them is on disk when the transfer breaks off."""
CAMPAIGN_MIX = Mix(good=0.35, others=(("slow_drip", 0.2), ("chunked", 0.1), ("slow_start", 0.05)))
"""70 % sound, half of it slowly; 12 % missing, 12 % HTML, 6 % truncated."""


def records_of(path: Path, works: int) -> list[dict[str, Any]]:
    """So many Unpaywall records of a gzipped file, one a line."""
    with gzip.open(path) as lines:
        return [msgspec.json.decode(line) for line in islice(lines, works)]


def world_of(records: Path | None, works: int, *, seed: int) -> World:
    """A world with the campaign's mix of fates out of real records, or a demo world where there are none.

    Some of its works share a URL or their bytes, so that duplicates and their ends are met.
    """
    shared = max(1, works // SHARED_SHARE)
    if records is None:
        world = World.demo(works - 2 * shared, seed=seed)
    else:
        world = World.from_unpaywall(records_of(records, works - 2 * shared), seed=seed, mix=CAMPAIGN_MIX)
    for paper in papers_that_share(shared):
        world.add(paper)
    return world


def papers_that_share(count: int) -> list[Paper]:
    """So many papers whose PDF another has as well, by its URL or by its bytes, in pairs."""
    papers = []
    for n in range(0, count, 2):
        at = f"https://shared.example/{n}.pdf"
        papers += [
            Paper(doi=f"10.5555/url.{n}.{one}", title=f"One address for two, part {n}", at=at) for one in "ab"
        ]
        papers += [
            Paper(
                doi=f"10.5555/bytes.{n}.{fate}", content=f"bytes {n}", size=LARGE, copies=(Copy(fate=fate),)
            )
            for fate in ("slow_drip", BROKEN_OFF)
        ]
    return papers
