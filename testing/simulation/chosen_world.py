"""The web of a simulated life, and the truth about it as the user's settings make it.

What can be had depends on what is asked for: a copy of a version that the user does not take is none, and to
somebody who lets the title pass unread a sound PDF of another article is a PDF.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import msgspec

from ...config.settings import Version
from ..web.artifacts import Fate
from ..web.exchange import Call
from ..web.papers import Copy, Paper
from ..web.world import Truth, World
from .choices import Choices

VERSIONS: tuple[Version, ...] = ("published", "accepted", "submitted")
Place = tuple[int, int, int]
OTHER_ARTICLE: Fate = "other_article"
"""The fate of a copy that is a sound PDF of another work."""


class Location(msgspec.Struct, frozen=True):
    """A copy as Unpaywall states it."""

    url: str
    version: str
    host: str
    best: bool

    def place(self, choices: Choices) -> Place:
        """Where it stands in the user's order: smaller is tried first."""
        version, host = choices.versions.index(self.version), choices.hosts.index(self.host)
        by_value = [one for one in VERSIONS if one in choices.versions]
        overrules = list(choices.versions) != by_value
        return (version, not self.best, host) if overrules else (not self.best, host, version)


class ChosenWorld(World):
    """A world whose truth heeds the settings of a life."""

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(seed=seed)
        self._choices = Choices()
        self._others: dict[str, frozenset[str]] = {}
        self.locations: dict[str, Location] = {}
        """By the URL of the PDF."""

    def choose(self, choices: Choices, chance: random.Random) -> None:
        """Take the settings of a life; ``chance`` draws which version each of Unpaywall's copies is."""
        self._choices = choices
        self._others = {work: self._others_of(placed.paper) for work, placed in self._placed.items()}
        for record in self.catalogue.unpaywall.values():
            for location in record["oa_locations"]:
                version = chance.choice(VERSIONS)
                _say(record, location, f"{version}Version")
                url = location["url_for_pdf"]
                if url:
                    self.locations[url] = Location(
                        url, version, location["host_type"], bool(location["is_best"])
                    )

    def unwanted(self, url: str) -> bool:
        """Whether a copy is of a version that the user does not take."""
        location = self.locations.get(url)
        return location is not None and location.version not in self._choices.versions

    def others(self) -> frozenset[str]:
        """Hashes, in hex, of the PDFs of other articles that stand where a work's should."""
        return frozenset[str]().union(*self._others.values())

    def truth(self, work: str) -> Truth:
        """As ``World.truth``, for somebody with these settings."""
        truth = super().truth(work)
        good_urls = tuple(url for url in truth.good_urls if not self.unwanted(url))
        others = frozenset[str]() if self._choices.title == "fail" else self._others.get(work, frozenset())
        return msgspec.structs.replace(
            truth, obtainable=bool(good_urls), good_urls=good_urls, sha256s=truth.sha256s | others
        )

    def _others_of(self, paper: Paper) -> frozenset[str]:
        record = self.catalogue.unpaywall.get(paper.doi, {})
        urls = [location["url_for_pdf"] for location in record.get("oa_locations", ())]
        served = [self.answer(Call(url=url)) for url in urls if self.fate(url) == OTHER_ARTICLE]
        return frozenset(hashlib.sha256(reply.content()).hexdigest() for reply in served)


def wrong_article_first(n: int) -> Paper:
    """A paper whose best copy is another article."""
    return Paper(
        doi=f"10.5555/quire.{n:05d}",
        title=f"A rather singular account of quires and gatherings, part {n}",
        copies=(Copy(fate=OTHER_ARTICLE), Copy()),
    )


def _say(record: dict[str, Any], location: dict[str, Any], version: str) -> None:
    """State a version, also where the record repeats the location as its best."""
    best = record["best_oa_location"]
    if best is not None and best["url_for_pdf"] == location["url_for_pdf"]:
        best["version"] = version
    location["version"] = version
