"""quire brings home open-access papers and keeps an account of how it got each of them.

The public names, loaded when they are first used, so that ``import quire`` costs nothing::

    import quire

    for paper in quire.fetch(["10.1371/journal.pone.0000217"], library="papers", email="you@example.edu"):
        print(paper.work_id, paper.path if paper.ok else paper.reason)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import VERSION

if TYPE_CHECKING:
    from .actors.fetching import fetch
    from .actors.outcome import Outcome, Planned, Wanted
    from .actors.session import Session
    from .config.loader import load
    from .errors import (
        DamagedError,
        EnvironmentFault,
        InvariantError,
        QuireError,
        StorageFullError,
        UsageError,
    )
    from .events.work import Work, parse_work
    from .store.domain import QUIRE
    from .store.interface import Domain, EventStore, Projection
    from .store.library import Library
    from .store.lmdb_store import LmdbStore
    from .store.memory_store import MemoryStore

__version__ = VERSION

_PLACES = {
    "fetch": "actors.fetching",
    "Outcome": "actors.outcome",
    "Planned": "actors.outcome",
    "Wanted": "actors.outcome",
    "Session": "actors.session",
    "load": "config.loader",
    "DamagedError": "errors",
    "EnvironmentFault": "errors",
    "InvariantError": "errors",
    "QuireError": "errors",
    "StorageFullError": "errors",
    "UsageError": "errors",
    "Work": "events.work",
    "parse_work": "events.work",
    "QUIRE": "store.domain",
    "Domain": "store.interface",
    "EventStore": "store.interface",
    "Projection": "store.interface",
    "Library": "store.library",
    "LmdbStore": "store.lmdb_store",
    "MemoryStore": "store.memory_store",
}

__all__ = [
    "QUIRE",
    "DamagedError",
    "Domain",
    "EnvironmentFault",
    "EventStore",
    "InvariantError",
    "Library",
    "LmdbStore",
    "MemoryStore",
    "Outcome",
    "Planned",
    "Projection",
    "QuireError",
    "Session",
    "StorageFullError",
    "UsageError",
    "Wanted",
    "Work",
    "__version__",
    "fetch",
    "load",
    "parse_work",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'quire' has no attribute {name!r}")
    value = getattr(import_module(f"quire.{place}"), name)
    globals()[name] = value
    return value
