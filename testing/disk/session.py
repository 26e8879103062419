"""Campaign: a fault at every write-path system call of a whole session, from opening to close.

As ``syscalls``, with all actors at work: the finalizer and the journal on their threads, the parts of several
downloads, the cache and the table of limits. What the cache is refused costs nothing but the cache, and what
an adapter is refused is one source's failure; so a session may go on past a fault. It may not lose what it
told, end with an error that is not quire's for a disk, or leave a library that the next one cannot finish.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..web import Served, serve
from . import session_script
from .oracle import promised, violations
from .runs import Asked, Ran, Runs
from .shim import Fault, Order
from .syscalls import FAULTS, Tally

WHOLE_RUNS = 3
"""Sessions without a fault; the shortest says how many calls there are."""
TRIES_PER_CALL = 4
"""Sessions that are started for one fault; some are too short for it."""


class SessionTrial:
    """A session on a simulated web, and a folder for its library."""

    def __init__(self, runs: Runs, folder: Path, served: Served, *, seed: int) -> None:
        """``served`` is the world of the seed; ``folder`` must exist."""
        self._runs = runs
        self._folder = folder
        self._served = served
        self._seed = seed
        self._due = session_script.obtainable(seed)

    def __repr__(self) -> str:
        return f"<SessionTrial of seed {self._seed} in {self._folder}>"

    def run(self, order: Order, *, defect: str = "") -> Ran:
        """Run a session on an empty disk, under an order; ``defect`` is put into this one alone."""
        disk = self._folder / "disk"
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        record = str(self._folder / "record")
        asked = Asked(str(disk), record, order, seed=self._seed, web=self._served.url, defect=defect)
        return self._runs.run(asked)

    def judged(self, ran: Ran) -> Iterator[str]:
        """What is wrong with a session, and with the library that it left."""
        ended, library = ran.ended, self._folder / "disk" / "library"
        if ended.killed:
            if ran.hit is None or ran.hit.fault not in (Fault.KILL_BEFORE, Fault.KILL_AFTER):
                yield "killed, and by no fault of ours"
        elif ended.error and not ended.typed:
            yield f"not a typed error of the disk: {ended.error} {ended.words}"
        yield from violations(library, ran.promised)
        record = str(self._folder / "record-2")
        disk = str(self._folder / "disk")
        again = self._runs.run(Asked(disk, record, Order(), seed=self._seed, web=self._served.url))
        if again.ended.error or again.ended.killed:
            yield f"does not go on: {again.ended.error} {again.ended.words}"
        yield from violations(library, promised([*ran.marks, *again.marks]), due=self._due)


def _hit(trial: SessionTrial, order: Order) -> Ran:
    """A run that the fault fell on; the last one, if the sessions were all too short for it."""
    for _ in range(TRIES_PER_CALL):
        ran = trial.run(order)
        if ran.hit is not None:
            break
    return ran


def campaign(runs: Runs, folder: Path, *, seed: int, count: int | None = None) -> Tally:
    """Try the calls of a session.

    Args:
        runs: makes the runs.
        folder: to work in; it must exist.
        seed: of the works and their web.
        count: runs at most, spread over the calls; each call with each fault when None.
    """
    tally, ends, hits = Tally(), Counter[str](), set[int]()
    faults: Counter[str] = Counter()
    with serve(session_script.world(seed)) as served:
        trial = SessionTrial(runs, folder, served, seed=seed)
        whole = min((trial.run(Order()) for _ in range(WHOLE_RUNS)), key=lambda ran: len(ran.counted))
        tally.calls = len(whole.counted)
        tally.by_name = dict(Counter(call.name for call in whole.counted))
        if whole.ended.error:
            tally.violations.append(f"without a fault: {whole.ended.error}: {whole.ended.words}")
        step = 1 if count is None else max(1, len(whole.counted) // max(1, count))
        orders = [
            (at, FAULTS[(number + turn + seed) % len(FAULTS)])
            for turn in range(len(FAULTS))
            for number, at in enumerate(range(1, len(whole.counted) + 1, step))
        ]
        for at, fault in orders[:count]:
            ran = _hit(trial, Order(fault=fault, at=at))
            tally.runs += 1
            faults[fault.name] += 1
            ends["killed" if ran.ended.killed else ran.ended.error or "to its end"] += 1
            if ran.hit is not None:
                hits.add(at)
            where = f"{fault.name} at call {at}, {ran.hit.name if ran.hit else 'none'}"
            where += f" {ran.hit.path}" if ran.hit else ""
            tally.violations += [f"{where}: {found}" for found in trial.judged(ran)]
    tally.covered, tally.ends, tally.by_fault = len(hits), dict(ends), dict(faults)
    return tally
