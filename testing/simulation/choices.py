"""What the user of a simulated life has set, drawn from its seed: settings that change what is right.

They are drawn apart from the script, so that one more setting here leaves works, deaths and weather alone.
"""

from __future__ import annotations

import random
from itertools import permutations
from typing import Literal

import msgspec

from ...actors.sources.preference import BY_VALUE, HOST_KINDS
from ...config.settings import HostKind, Quire, Version

ORDERS: tuple[tuple[Version, ...], ...] = tuple(permutations(BY_VALUE))
WITHOUT_ACCEPTED: tuple[tuple[Version, ...], ...] = (("published", "submitted"), ("submitted", "published"))
"""No source but Unpaywall states in our worlds that a copy is an accepted manuscript."""
LEFT_OUT_SHARE = 0.25
"""Share of lives that take no accepted manuscripts."""
PATIENT_MS = 30_000
"""A rate wait that nothing in a life exceeds."""
RATE_WAITS_MS = (1_000, 5_000, 5_000, PATIENT_MS)
"""None so short that a redirect within a host, which waits for that host's turn, could never be followed."""
OFFLINE_SHARE = 0.12
"""Share of days without the network."""
ROLLOUT_SHARE = 0.15
"""Share of days on which not every work may be fetched."""
PERCENTS = (0, 25, 50, 75)

TitleRule = Literal["off", "warn", "fail"]
Offline = Literal["metadata_only", "block_all", "cache_only"]


class Choices(msgspec.Struct, frozen=True):
    """Settings of a whole life."""

    title: TitleRule = "warn"
    versions: tuple[Version, ...] = BY_VALUE
    hosts: tuple[HostKind, ...] = HOST_KINDS
    breaker_gate: bool = True
    """Whether a source whose host's breaker is open is passed over."""
    rate_wait_max_ms: int = 5_000
    """Longest wait for a host's rate, in milliseconds, for which a source is not passed over."""


class Mood(msgspec.Struct, frozen=True):
    """Settings of one day."""

    offline: Offline | None = None
    """How a day without the network is spent; None for one with it."""
    rollout_percent: int = 100
    """Share of the works that may be fetched."""


def choices_of(chance: random.Random) -> Choices:
    """The settings of a life."""
    left_out = chance.random() < LEFT_OUT_SHARE
    title: TitleRule = chance.choice(("off", "warn", "fail"))
    return Choices(
        title=title,
        versions=chance.choice(WITHOUT_ACCEPTED if left_out else ORDERS),
        hosts=chance.choice(tuple(permutations(HOST_KINDS))),
        breaker_gate=chance.random() < 0.7,
        rate_wait_max_ms=chance.choice(RATE_WAITS_MS),
    )


def mood_of(chance: random.Random, *, cached: bool) -> Mood:
    """The settings of a day; ``cached``: there is a cache that could answer without the network."""
    ways: tuple[Offline, ...] = ("metadata_only", "block_all", *(("cache_only",) if cached else ()))
    way = chance.choice(ways)
    offline = way if chance.random() < OFFLINE_SHARE else None
    percent = chance.choice(PERCENTS) if chance.random() < ROLLOUT_SHARE else 100
    return Mood(offline, percent)


def chosen(settings: Quire, choices: Choices) -> Quire:
    """Settings with those of a life."""
    changed = msgspec.structs.replace
    fallback, sources = settings.fallback, settings.sources
    gates = changed(
        fallback.gates,
        skip_if_breaker_open=choices.breaker_gate,
        skip_if_rate_wait_exceeds_ms=choices.rate_wait_max_ms,
    )
    candidates = changed(sources.candidates, versions=choices.versions, hosts=choices.hosts)
    return changed(
        settings,
        verify=changed(settings.verify, title=choices.title),
        fallback=changed(fallback, gates=gates),
        sources=changed(sources, candidates=candidates),
    )


def today(settings: Quire, mood: Mood) -> Quire:
    """Settings with those of a day."""
    changed = msgspec.structs.replace
    fallback = settings.fallback
    rollout = changed(fallback.rollout, percent=mood.rollout_percent)
    settings = changed(settings, fallback=changed(fallback, rollout=rollout))
    if mood.offline is None:
        return settings
    gates = changed(fallback.gates, offline_behavior=mood.offline)
    return changed(
        settings,
        web=changed(settings.web, offline=True),
        fallback=changed(settings.fallback, gates=gates),
    )
