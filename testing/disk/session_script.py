"""The other script: a whole session on a few works of a simulated web, as a user runs it.

Its threads are not in step, so the n-th call is not always the same one; its works are few, and the faults
many. What it marks are outcomes: a session gives one when it is durable, with its file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...actors.outcome import Wanted
from ...actors.session import Session
from ...config.loader import Flag, load
from ...events.keys import job_key
from ...events.work import parse_work
from ..web import World
from .script import DONE, MAP_SIZE

WORKS = 3
EMAIL = "campaign@quire.example"
_LIST = "ef" * 8


def world(seed: int) -> World:
    """The web that a session of a seed is run against."""
    return World.demo(WORKS, seed=seed)


def obtainable(seed: int) -> list[str]:
    """The job ids of the works that can be had, and that a list can name."""
    played = world(seed)
    named = [work for text in played.inputs() if (work := parse_work(text)) is not None]
    return [job_key(work) for work in named if played.truth(work.work_id).obtainable]


def play(library: Path, *, web: str, seed: int, mark: Callable[[str], None]) -> None:
    """Bring the works of a seed home from the web at an address, also those that a fault let fail before.

    Raises:
        QuireError: the session had to stop.
    """
    works = [work for text in world(seed).inputs() if (work := parse_work(text)) is not None]
    values = {
        ("library",): str(library),
        ("web", "stand_in"): web,
        ("web", "contact_email"): EMAIL,
        ("web", "pacing"): "none",
        ("store", "map_size"): MAP_SIZE,
    }
    settings = load([Flag(name, value, "disk") for name, value in values.items()], environ={}).settings
    with Session(settings, list_id=_LIST) as session:
        session.plan((Wanted(work) for work in works), list_id=_LIST, retry_failed=True)
        for outcome in session.work(_LIST):
            if outcome.sha256 and outcome.bytes:
                mark(f"object {outcome.sha256} {outcome.bytes}")
                mark(f"home {outcome.job_id}")
    mark(DONE)
