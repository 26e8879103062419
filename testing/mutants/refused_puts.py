"""LMDB that keeps nothing at one put of a run, each in turn, and says so only by what it returns.

LMDB raises when a disk fails; where it keeps nothing because a key stands there already, it only returns
``False``, or a smaller count. Here every put of an append says that once. The append must raise, and what
was acknowledged before it must be there when the log is opened again.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from ...errors import QuireError
from ...store.lmdb_store import LmdbStore
from ..store_contract import BANK, StepClock, deposit

MAP_BYTES = 1 << 26
PUTS_MAX = 50
"""Puts of one append at most; more of them would not all be tried, and that is a finding."""


class Heard(msgspec.Struct):
    """What became of the puts."""

    puts: int = 0
    """Puts that were refused, each in an append of its own."""
    problems: list[str] = []


class _Refusing:
    """An environment, or a transaction or cursor of it, of which one put keeps nothing."""

    def __init__(self, real: Any, count: list[int], at: int) -> None:
        self._real, self._count, self._at = real, count, at

    def __repr__(self) -> str:
        return f"<_Refusing at {self._at}, {self._count[0]} puts so far>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> _Refusing:
        return _Refusing(self._real.__enter__(), self._count, self._at)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        return self._real.__exit__(kind, error, trace)

    def begin(self, *given: Any, **named: Any) -> _Refusing:
        return _Refusing(self._real.begin(*given, **named), self._count, self._at)

    def cursor(self, *given: Any, **named: Any) -> _Refusing:
        return _Refusing(self._real.cursor(*given, **named), self._count, self._at)

    def put(self, *given: Any, **named: Any) -> bool:
        return False if self._refuses() else bool(self._real.put(*given, **named))

    def putmulti(self, items: list[Any], *given: Any, **named: Any) -> tuple[int, int]:
        if self._refuses():
            return len(items), len(items) - 1
        consumed, added = self._real.putmulti(items, *given, **named)
        return consumed, added

    def _refuses(self) -> bool:
        self._count[0] += 1
        return self._count[0] == self._at


def refused_puts(folder: Path) -> Heard:
    """Refuse each put of an append, one after another, on new logs below a folder."""
    heard = Heard()
    for at in range(1, PUTS_MAX + 1):
        count = [0]
        problem = _tried(folder / str(at), count, at)
        if count[0] < at:
            return heard
        heard.puts += 1
        heard.problems += [f"put {at}: {problem}"] if problem else []
    heard.problems.append(f"an append makes more than {PUTS_MAX} puts: not all were tried")
    return heard


def _tried(folder: Path, count: list[int], at: int) -> str:
    """What is wrong after the put of this number was refused; ``""`` when nothing is, or none had it."""
    folder.mkdir()
    store = _opened(folder)
    store.append([deposit("account-a", 1)])
    environment: Any = store._environment
    environment.env = _Refusing(environment.env, count, at)
    try:
        store.append([deposit("account-a", 2, 3), deposit("account-b", 4)])
    except QuireError:
        heard = True
    else:
        heard = False
    finally:
        store.close()
    if heard == (count[0] < at):
        return "was refused, and the append acknowledged" if not heard else "the append raised for no refusal"
    again = _opened(folder)
    events = len(again.read())
    again.close()
    return "" if events == (1 if heard else 4) else f"{events} events are there"


def _opened(folder: Path) -> LmdbStore:
    return LmdbStore(folder / "events", BANK, run_id="refused", clock=StepClock(), map_size=MAP_BYTES)
