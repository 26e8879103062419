"""Deterministic simulation: a whole library, all its actors and its web, in one thread and in virtual time.

``live(seed)`` lives one life and judges it; ``pair_of(seed)`` lives it twice and compares the logs' bytes;
``python -m quire.testing.simulation --seeds 1000`` does so for many. ``Machine`` and ``Process`` run any
actors: a ``Process`` is a ``Scheduler``.
"""

from .campaign import Pair, Totals, campaign, pair_of
from .disk import Fingerprint
from .life import Life, live
from .loop import VirtualLoop
from .machine import Machine, StalledError
from .ports import SeededRandom, VirtualClock, chance_of
from .process import Death, Killed, Pause, Process
from .script import Day, Script, Shift, script_of
from .web import SimulatedWire, Weather

__all__ = [
    "Day",
    "Death",
    "Fingerprint",
    "Killed",
    "Life",
    "Machine",
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
    "pair_of",
    "script_of",
]
