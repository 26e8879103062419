"""How it is proved: a kit for tests, shipped to users; docs/testing.md shows each part.

The public names, loaded when they are first used: a test that needs the simulated web loads no hypothesis.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import strategies
    from .hand_scheduler import HandClock, HandScheduler
    from .job_machine import JobMachine
    from .runtime_machine import RuntimeMachine
    from .scripted import ScriptedMachine, budget, initialize, invariant, precondition, rule, script_in
    from .store_contract import EventStoreContract, StepClock
    from .store_machine import DurableStoreMachine, LmdbStoreMachine, StoreMachine
    from .trial import Trial, try_finder, try_resolver
    from .web import Copy, Fault, Paper, World, serve

_PLACES = {
    "HandClock": "hand_scheduler",
    "HandScheduler": "hand_scheduler",
    "JobMachine": "job_machine",
    "RuntimeMachine": "runtime_machine",
    "ScriptedMachine": "scripted",
    "budget": "scripted",
    "initialize": "scripted",
    "invariant": "scripted",
    "precondition": "scripted",
    "rule": "scripted",
    "script_in": "scripted",
    "EventStoreContract": "store_contract",
    "StepClock": "store_contract",
    "DurableStoreMachine": "store_machine",
    "LmdbStoreMachine": "store_machine",
    "StoreMachine": "store_machine",
    "Trial": "trial",
    "try_finder": "trial",
    "try_resolver": "trial",
    "Copy": "web",
    "Fault": "web",
    "Paper": "web",
    "World": "web",
    "serve": "web",
}

__all__ = [
    "Copy",
    "DurableStoreMachine",
    "EventStoreContract",
    "Fault",
    "HandClock",
    "HandScheduler",
    "JobMachine",
    "LmdbStoreMachine",
    "Paper",
    "RuntimeMachine",
    "ScriptedMachine",
    "StepClock",
    "StoreMachine",
    "Trial",
    "World",
    "budget",
    "initialize",
    "invariant",
    "precondition",
    "rule",
    "script_in",
    "serve",
    "strategies",
    "try_finder",
    "try_resolver",
]

_ASSERTING = ("store_contract", "store_machine", "job_machine", "job_checks", "runtime_machine")
if "pytest" in sys.modules:  # a failed assertion then says its values, as in a test's own file
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{module}" for module in _ASSERTING))


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module(".strategies", __name__)
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{place}", __name__), name)


def __dir__() -> list[str]:
    return __all__
