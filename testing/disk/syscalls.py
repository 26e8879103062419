"""Campaign: a fault at every write-path system call of a script, one run for each.

A run is ended or disturbed at its n-th call; then the library is opened without the shim and judged, and the
script is played on it to its end. A violation is: a library that does not open or audit, something promised
that is gone, an error that is not one of quire's for a disk, a promise behind an error, an end that is not
reached.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ...errors import QuireError
from . import script
from .oracle import promised, violations
from .runs import Asked, Ran, Runs
from .script import Paper
from .shim import WRITES, Call, Fault, Order

FAULTS = (
    Fault.KILL_BEFORE,
    Fault.KILL_AFTER,
    Fault.EIO,
    Fault.ENOSPC,
    Fault.EIO_AFTER,
    Fault.SHORT,
)
SHOWN_MAX = 20


class Tally(msgspec.Struct):
    """What a campaign came to."""

    runs: int = 0
    calls: int = 0
    """Write-path calls of the script."""
    covered: int = 0
    """Of these, hit by at least one fault."""
    by_name: dict[str, int] = {}
    """Calls by name."""
    by_fault: dict[str, int] = {}
    """Runs by fault."""
    ends: dict[str, int] = {}
    """How the runs ended: killed, by which error, or to the end in spite of the fault."""
    violations: list[str] = []

    @property
    def ok(self) -> bool:
        """Every call was hit, and no promise was broken."""
        return not self.violations and 0 < self.calls == self.covered


class Trial:
    """One script, and a folder to play it in."""

    def __init__(self, runs: Runs, folder: Path, *, seed: int, rounds: int, defect: str = "") -> None:
        """``folder`` must exist; ``defect`` is put into the script, and not into the run after it."""
        self._runs = runs
        self._folder = folder
        self._seed = seed
        self._rounds = rounds
        self._defect = defect
        self.papers: list[Paper] = [paper for round_ in script.papers(seed, rounds) for paper in round_]

    def __repr__(self) -> str:
        return f"<Trial of seed {self._seed} in {self._folder}>"

    @property
    def library(self) -> Path:
        """Where the library of the last run is."""
        return self._folder / "disk" / "library"

    def run(self, order: Order, *, map_size: int = script.MAP_SIZE, patience: int = 0) -> Ran:
        """Play the script on an empty disk, under an order."""
        disk = self._folder / "disk"
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        asked = Asked(
            str(disk),
            str(self._folder / "record"),
            order,
            seed=self._seed,
            defect=self._defect,
            map_size=map_size,
            patience=patience,
            rounds=self._rounds,
        )
        return self._runs.run(asked)

    def judged(self, ran: Ran) -> Iterator[str]:
        """What is wrong with a run that took a fault, and with the library that it left."""
        yield from wrong_end(ran)
        yield from self.left(ran)

    def left(self, ran: Ran) -> Iterator[str]:
        """What is wrong with the library that a run left, and when the script is played on it to its end."""
        yield from violations(self.library, ran.promised, self.papers)
        yield from self._goes_on(ran)

    def _goes_on(self, ran: Ran) -> Iterator[str]:
        """The same command again, on a disk without faults."""
        marks = ran.marks
        try:
            script.play(self.library, seed=self._seed, mark=marks.append, turn=1, rounds=self._rounds)
        except QuireError as error:
            yield f"does not go on: {type(error).__name__}: {error}"
            return
        for found in violations(self.library, promised(marks), self.papers, complete=True):
            yield f"after going on: {found}"


def wrong_end(ran: Ran) -> Iterator[str]:
    """What is wrong with the way in which a run took its fault."""
    hit, ended = ran.hit, ran.ended
    if hit is None:
        yield "the fault fell on no call"
        return
    if hit.fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER):
        if not ended.killed:
            yield f"not killed, but ended with {ended.error or 'no error'}"
    elif ended.killed or (ended.error and not ended.typed):
        yield f"not a typed error of the disk: {ended.error} {ended.words}"
    elif hit.fault is Fault.ENOSPC and ended.error and not ended.full:
        yield f"no room, and the error does not say so: {ended.error} {ended.words}"
    elif not ended.error and not tolerable(hit, ran.calls):
        yield "the error was not told"
    elif ended.error and ran.marks_behind:
        yield f"acknowledged after the error: {ran.marks_behind[0]}"


def tolerable(hit: Call, calls: Sequence[Call]) -> bool:
    """Whether a run may go on past such a fault: the rest is written, or the folder is there."""
    if hit.fault is Fault.SHORT:
        return True
    return hit.name == "mkdir" and any(
        call.name == "mkdir" and call.path == hit.path and call.result == 0 for call in calls
    )


def faults_of(call: Call) -> Sequence[Fault]:
    """The faults that a call can have."""
    return FAULTS if call.name in WRITES else FAULTS[:-1]


def campaign(
    runs: Runs,
    folder: Path,
    *,
    seed: int,
    count: int | None = None,
    rounds: int = script.ROUNDS,
    defect: str = "",
) -> Tally:
    """Try the calls of a script.

    Args:
        runs: makes the runs.
        folder: to play in; it must exist.
        seed: of the script, and of which faults come first.
        count: runs at most, spread over the calls and then over their faults; all when None.
        rounds: of the script.
        defect: put into the script, to show that the campaign finds it.
    """
    trial = Trial(runs, folder, seed=seed, rounds=rounds, defect=defect)
    whole = trial.run(Order())
    tally = Tally(calls=len(whole.counted), by_name=dict(Counter(call.name for call in whole.counted)))
    if whole.ended.error:
        tally.violations.append(f"without a fault: {whole.ended.error}: {whole.ended.words}")
    hits: set[int] = set()
    ends: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for call, fault in _chosen(whole.counted, count, seed):
        ran = trial.run(Order(fault=fault, at=call.number))
        tally.runs += 1
        faults[fault.name] += 1
        ends["killed" if ran.ended.killed else ran.ended.error or f"went on past {call.name}"] += 1
        if ran.hit is not None:
            hits.add(call.number)
        for found in trial.judged(ran):
            where = f"{fault.name} at call {call.number}, {call.name} {call.path}"
            tally.violations.append(f"{where}: {found}")
    tally.covered, tally.ends, tally.by_fault = len(hits), dict(ends), dict(faults)
    return tally


def _chosen(calls: Sequence[Call], count: int | None, seed: int) -> list[tuple[Call, Fault]]:
    """Each call with a fault, then each with its next one, and so on, up to so many."""
    turns: list[tuple[Call, Fault]] = []
    for turn in range(len(FAULTS)):
        for place, call in enumerate(calls):
            faults = faults_of(call)
            if turn < len(faults):
                turns.append((call, faults[(turn + place + seed) % len(faults)]))
    return turns[:count]
