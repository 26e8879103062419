"""What happens in one simulated life, drawn from its seed before it begins.

A life is a list of works, a web, and a row of days on which somebody runs the list. On each day one to three
workers run; some are killed, stopped for a while, interrupted, or closed with work in hand. At the end the
web is well, and the list is run once more until nothing is left. What the user has set is drawn too, for the
whole life (``Choices``) and for each day (``Mood``).
"""

from __future__ import annotations

import math
import random
from typing import Literal

import msgspec

from ..web.demo import EVERYDAY, ODD
from ..web.papers import Paper
from .choices import Choices, Mood, choices_of, mood_of
from .chosen_world import ChosenWorld, wrong_article_first
from .ports import chance_of
from .process import Death, DeathPoint, Pause
from .web import Weather

DEATHS: dict[DeathPoint, tuple[int, int]] = {
    "step": (5, 4_000),
    "before_commit": (3, 120),
    "after_commit": (3, 120),
    "after_disk": (3, 150),
    "user": (2, 20),
}
"""Point → how often one draws it, and the greatest count; small counts are drawn as often as great ones."""
PAUSE_SHARE = 0.25
PAUSE_S = (0.5, 600.0)
"""How long a process is stopped, in seconds: within its leases, and past them."""
WALL_STEP_SHARE = 0.3
WALL_STEP_S = 3_600.0
"""Greatest step of the clock on the wall, either way."""
HOUR_STEP_SHARE = 0.15
"""Share of days on which the wall clock is set by just an hour, as where summer time begins or ends."""
TWO_SHARE = 0.4
"""Share of days with two workers."""
THREE_SHARE = 0.3
"""Share of those that have a third one."""
OTHER_ARTICLE_SHARE = 0.08
"""Share of works whose best copy is the PDF of another article."""
REBOOT_SHARE = 0.2
"""Share of the deaths of single workers that are power cuts: the next day has another boot."""
IDLE_S = (0.1, 7 * 86_400.0)
"""Time between two days; as with counts, short ones are drawn as often as long ones."""
ODD_SHARE = 0.5
"""Share of works that are odd in some way."""
WEATHERS = (0.0, 0.0, 0.02, 0.1, 0.3)
"""Shares of requests that meet a mishap; one is drawn for each day."""
IN_HAND = (1, 2, 4, 16)
LEASE_TTL_S = (10.0, 120.0)
"""How long a lease lasts; one is drawn for each life."""

End = Literal["finish", "interrupt", "close"]


class Shift(msgspec.Struct, frozen=True):
    """One worker on one day."""

    end: End
    after: int
    """Outcomes after which it is interrupted or closed."""
    in_hand: int
    """Works at once."""
    death: Death | None = None
    pauses: tuple[Pause, ...] = ()


class Day(msgspec.Struct, frozen=True):
    """One run of the list."""

    shifts: tuple[Shift, ...]
    weather: Weather
    wall_steps: tuple[tuple[int, float], ...]
    """After how many steps of the day the wall clock is set, and by how many seconds."""
    retry_failed: bool
    power_cut: bool
    """A death on this day takes the machine along."""
    idle_s: float
    """Time until the next day."""
    mood: Mood = Mood()


class Script(msgspec.Struct, frozen=True):
    """One life."""

    seed: int
    papers: tuple[Paper, ...]
    lease_ttl_s: float
    cached: bool
    """Whether answers are kept for later."""
    days: tuple[Day, ...]
    choices: Choices = Choices()


def script_of(seed: int, *, works: int, crashes: int) -> Script:
    """The life of a seed: ``works`` works at most, killed at most ``crashes`` times."""
    chance, more = chance_of(seed, "script"), chance_of(seed, "choices")
    papers = [_paper(chance, n) for n in range(chance.randint(1, works))]
    for n in range(len(papers)):
        if more.random() < OTHER_ARTICLE_SHARE:
            papers[n] = wrong_article_first(n)
    left = chance.randint(0, crashes)
    days = []
    for _ in range(left + chance.randint(0, 2)):
        day = _day(chance, deaths=left)
        left -= sum(shift.death is not None for shift in day.shifts)
        days.append(day)
    ttl_s, cached = chance.choice(LEASE_TTL_S), chance.random() < 0.5
    choices = choices_of(more)
    varied = tuple(_varied(day, more, cached=cached) for day in days)
    return Script(seed, tuple(papers), ttl_s, cached, varied, choices)


def world_of(script: Script) -> ChosenWorld:
    """The web of a life."""
    world = ChosenWorld(seed=script.seed)
    for paper in script.papers:
        world.add(paper)
    world.choose(script.choices, chance_of(script.seed, "versions"))
    return world


def last_day() -> Day:
    """The web is well, nobody is killed, and what failed is tried again."""
    shift = Shift("finish", 0, 16)
    return Day((shift,), Weather(), (), retry_failed=True, power_cut=False, idle_s=7_200.0)


def _paper(chance: random.Random, n: int) -> Paper:
    recipes = ODD if chance.random() < ODD_SHARE else EVERYDAY
    return chance.choice(recipes)(n)


def _day(chance: random.Random, *, deaths: int) -> Day:
    shifts = []
    for _ in range(2 if chance.random() < TWO_SHARE else 1):
        shift = _shift(chance, dies=deaths > 0 and chance.random() < 0.8)
        deaths -= shift.death is not None
        shifts.append(shift)
    wall_steps = []
    if chance.random() < WALL_STEP_SHARE:
        wall_steps.append((_log_uniform(chance, 4_000), chance.uniform(-WALL_STEP_S, WALL_STEP_S)))
    return Day(
        tuple(shifts),
        Weather(chance.choice(WEATHERS), chance.choice((0.005, 0.05, 0.5))),
        tuple(wall_steps),
        retry_failed=chance.random() < 0.2,
        power_cut=len(shifts) == 1 and chance.random() < REBOOT_SHARE,
        idle_s=IDLE_S[0] * (IDLE_S[1] / IDLE_S[0]) ** chance.random(),
    )


def _varied(day: Day, chance: random.Random, *, cached: bool) -> Day:
    """A day with what its user has set, an hour's step of the wall clock, and a third worker."""
    shifts, steps = list(day.shifts), list(day.wall_steps)
    if chance.random() < THREE_SHARE and len(shifts) == 2:
        shifts.append(_shift(chance, dies=False))
    if chance.random() < HOUR_STEP_SHARE:
        steps.append((_log_uniform(chance, 4_000), chance.choice((-WALL_STEP_S, WALL_STEP_S))))
    return msgspec.structs.replace(
        day, shifts=tuple(shifts), wall_steps=tuple(sorted(steps)), mood=mood_of(chance, cached=cached)
    )


def _shift(chance: random.Random, *, dies: bool) -> Shift:
    pauses = []
    if chance.random() < PAUSE_SHARE:
        seconds = PAUSE_S[0] * (PAUSE_S[1] / PAUSE_S[0]) ** chance.random()
        pauses.append(Pause(_log_uniform(chance, 4_000), seconds))
    end: End = chance.choice(("finish", "finish", "finish", "interrupt", "close"))
    return Shift(
        end,
        chance.randint(0, 4),
        chance.choice(IN_HAND),
        death=_death(chance) if dies else None,
        pauses=tuple(pauses),
    )


def _death(chance: random.Random) -> Death:
    point = chance.choices(list(DEATHS), [weight for weight, _ in DEATHS.values()])[0]
    return Death(point, _log_uniform(chance, DEATHS[point][1]))


def _log_uniform(chance: random.Random, greatest: int) -> int:
    return max(1, round(math.pow(greatest, chance.random())))
