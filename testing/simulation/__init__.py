"""Deterministic simulation: a whole library, all its actors and its web, in one thread and in virtual time.

``live(seed)`` lives one life and judges it; ``pair_of(seed)`` lives it twice and compares the logs' bytes;
``python -m quire.testing.simulation --seeds 1000`` does so for many. ``Machine`` and ``Process`` run any
actors: a ``Process`` is a ``Scheduler``.
"""

from .campaign import Pair, Totals, campaign, pair_of
from .choices import Choices, Mood
from .disk import Fingerprint
from .elsewhere import live_elsewhere
from .life import Life, live
from .loop import VirtualLoop
from .machine import Machine, StalledError
from .ports import SeededRandom, VirtualClock, chance_of
from .process import Death, Killed, Pause, Process
from .script import Day, Script, Shift, script_of
from .web import SimulatedWire, Weather

__all__ = [
    "Choices",
    "Day",
    "Death",
    "Fingerprint",
    "Killed",
    "Life",
    "Machine",
    "Mood",
    "Pair",
    "Pause",
    "Process",
    "Script",
    "SeededRandom",
    "Shift",
    "SimulatedWire",
    "StalledError",
    "Totals",
    "VirtualClock",
    "VirtualLoop",
    "Weather",
    "campaign",
    "chance_of",
    "live",
    "live_elsewhere",
    "pair_of",
    "script_of",
]
