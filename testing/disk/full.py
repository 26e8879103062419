"""Campaign: the disk or the log's map is full at every call that needs room; then space returns.

Nothing that was promised may be lost, the error must be the one that says "make room", and the same command
must go on afterwards: in a new process when space returned late, in the same store when it returned soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from . import script
from .oracle import violations
from .runs import Ran, Runs
from .shim import Call, Fault, Order
from .syscalls import Trial

PATIENCE = 3
"""Times that an append is tried again when space returns soon."""
MAP_STEP_BYTES = 4_096
"""One page of the log: maps that differ by it end in another batch, or in another part of one."""
MAP_BYTES = (32_768, 262_144)
"""Smallest map that is tried, and one that is large enough for all of the script."""
_FAULTS = (Fault.FULL, Fault.FULL_SHORT)
_NEED_ROOM = frozenset(
    {
        "open",
        "openat",
        "write",
        "pwrite",
        "writev",
        "pwritev",
        "fallocate",
        "rename",
        "mkdir",
        "mkdirat",
        "link",
    }
)


class Tally(msgspec.Struct):
    """What a campaign came to."""

    runs: int = 0
    calls: int = 0
    """Calls of the script that need room; the disk was full at each of those that were tried."""
    batches: int = 0
    """Marks of the script."""
    by_kind: dict[str, int] = {}
    """Runs by what was full, and for how long."""
    ends: dict[str, int] = {}
    """How the runs ended."""
    batches_full: int = 0
    """Places among the marks at which a disk was full for good."""
    batches_map_full: int = 0
    """Places among the marks at which a map was full."""
    violations: list[str] = []

    @property
    def ok(self) -> bool:
        """There were runs, and no promise was broken."""
        return self.runs > 0 and not self.violations


class Filling:
    """A campaign on one script."""

    def __init__(self, runs: Runs, folder: Path, *, seed: int, rounds: int) -> None:
        """``folder`` must exist."""
        self.tally = Tally()
        self._trial = Trial(runs, folder, seed=seed, rounds=rounds)
        self._kinds: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._full_at: set[int] = set()
        self._map_full_at: set[int] = set()

    def __repr__(self) -> str:
        return f"<Filling {self.tally.runs} runs, {len(self.tally.violations)} violations>"

    def run(self, count: int | None) -> Tally:
        """Try so many runs, spread over the calls and the sizes of the map; all when None."""
        whole = self._trial.run(Order())
        calls = [call for call in whole.counted if call.name in _NEED_ROOM]
        self.tally.calls = len(calls)
        self.tally.batches = len(whole.marks)
        tries = [*self._disk(calls), *self._map()]
        step = 1 if count is None else max(1, len(tries) // count)
        for kind, order, map_size in tries[::step]:
            self._try(kind, order, map_size)
        self.tally.by_kind, self.tally.ends = dict(self._kinds), dict(self._ends)
        self.tally.batches_full = len(self._full_at)
        self.tally.batches_map_full = len(self._map_full_at)
        return self.tally

    def _disk(self, calls: list[Call]) -> Iterator[tuple[str, Order, int]]:
        for place, call in enumerate(calls):
            for fault in _FAULTS:
                yield "disk", Order(fault=fault, at=call.number), script.MAP_SIZE
                span = 1 + place % PATIENCE
                yield "disk, soon free", Order(fault=fault, at=call.number, span=span), script.MAP_SIZE

    def _map(self) -> Iterator[tuple[str, Order, int]]:
        for size in range(*MAP_BYTES, MAP_STEP_BYTES):
            yield "map", Order(), size

    def _try(self, kind: str, order: Order, map_size: int) -> None:
        patience = PATIENCE if kind == "disk, soon free" else 0
        ran = self._trial.run(order, map_size=map_size, patience=patience)
        self.tally.runs += 1
        self._kinds[kind] += 1
        self._ends[ran.ended.error or "to its end"] += 1
        if ran.ended.error and kind != "disk, soon free":
            (self._map_full_at if kind == "map" else self._full_at).add(len(ran.marks))
        where = f"{kind}, call {order.at}, {order.fault.name}, map of {map_size}"
        self.tally.violations += [f"{where}: {found}" for found in self._judged(kind, ran)]

    def _judged(self, kind: str, ran: Ran) -> Iterator[str]:
        ended = ran.ended
        if ended.killed or (ended.error and not ended.typed):
            yield f"not a typed error of the disk: {ended.error} {ended.words}"
        elif ended.error and not ended.full and kind != "disk, soon free" and not _panicked(ran):
            yield f"full, and the error does not say so: {ended.error} {ended.words}"
        elif not ended.error and kind == "disk" and ran.hit is not None:
            yield "the disk was full for good, and the run came to its end"
        if not ended.error:
            yield from violations(self._trial.library, ran.promised, self._trial.papers, complete=True)
        yield from self._trial.left(ran)


def _panicked(ran: Ran) -> bool:
    """Whether the record that ends a commit was refused: LMDB works no more until the log is opened again."""
    return ran.hit is not None and "MDB_PANIC" in ran.ended.words


def campaign(
    runs: Runs, folder: Path, *, seed: int, count: int | None = None, rounds: int = script.ROUNDS
) -> Tally:
    """Fill the disk and the map under a script.

    Args:
        runs: makes the runs.
        folder: to play in; it must exist.
        seed: of the script.
        count: runs at most, about, spread over the calls; all when None.
        rounds: of the script.
    """
    return Filling(runs, folder, seed=seed, rounds=rounds).run(count)
