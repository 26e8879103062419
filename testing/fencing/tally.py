"""What a campaign of stops came to, in figures and in words."""

from __future__ import annotations

from collections import Counter

import msgspec

from ..accounts import SHOWN_MAX
from .arena import Arena
from .worker import LATE_WORDS

LEAST_REFUSED = 0.8
"""Least share of the rounds of a kind that must try late, after which something late was refused."""
FEW_ROUNDS = 30
"""Below so many rounds a share may be chance: then one refusal at all is enough."""
MANY_ROUNDS = 300
"""From so many rounds on there must be some at each kind of moment; the rarest is one round of forty."""


class Tally(msgspec.Struct):
    """What a campaign came to."""

    rounds: int = 0
    """Workers that were stopped, overtaken and woken."""
    stops: int = 0
    standstills: int = 0
    """Stops during which nobody could write: the worker held the lock on writing."""
    not_overtaken: int = 0
    """Other stops that ended before anybody took over."""
    idle: int = 0
    """Workers that had nothing in hand when they were stopped."""
    points: dict[str, int] = {}
    """Point → rounds."""
    states: dict[str, int] = {}
    """State → jobs that were taken over in it."""
    taken_over: int = 0
    late: dict[str, int] = {}
    """What the woken tried under their old epochs → how often it was refused."""
    rounds_refused: int = 0
    """Rounds after which at least one late append was refused."""
    refused_at: dict[str, int] = {}
    """The same by point."""
    kinds: tuple[str, ...] = ()
    """The points at which rounds must have been, where there are enough of them."""
    stale: int = 0
    """Late appends that stand in the log."""
    clock_steps: int = 0
    libraries: int = 0
    works: int = 0
    home: int = 0
    obtainable: int = 0
    poisoned: int = 0
    elapsed_s: float = 0.0
    problems: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether every promise was kept, and so many tried to break it that this says something."""
        return self.kept and not self.unshown

    @property
    def kept(self) -> bool:
        """Whether no promise was broken; that nobody tried may be why."""
        return not self.problems and not self.stale

    @property
    def share_refused(self) -> float:
        """Of the rounds whose worker had a word to say when it was stopped: those where it was refused."""
        due = sum(count for point, count in self.points.items() if point in LATE_WORDS)
        return sum(self.refused_at.get(point, 0) for point in LATE_WORDS) / due if due else 0.0

    @property
    def unshown(self) -> list[str]:
        """Why the rounds show too little: nobody was refused, or too few, or a kind of moment never came."""
        if self.rounds and not self.rounds_refused:
            return ["no woken worker tried to write late"]
        if self.rounds < FEW_ROUNDS:
            return []
        missed = [point for point in self.kinds if not self.points.get(point)]
        said = [f"no round was stopped {point}" for point in missed if self.rounds >= MANY_ROUNDS]
        if self.share_refused < LEAST_REFUSED:
            share = f"{self.share_refused:.0%} of the rounds that must try late were refused"
            said.append(f"{share}, {LEAST_REFUSED:.0%} are the least")
        return said

    def add(self, arena: Arena) -> None:
        """Take in a library that is done."""
        account, rounds = arena.account(), arena.rounds
        standstills = sum(stop.stood for stop in arena.stops if not stop.counts)
        self.rounds += len(rounds)
        self.stops += len(arena.stops)
        self.standstills += standstills
        self.not_overtaken += len(arena.stops) - len(rounds) - standstills
        self.idle += arena.idle
        self.points = _sum(self.points, Counter(stop.point for stop in rounds))
        self.states = _sum(self.states, account.states_in_flight)
        self.taken_over += sum(stop.taken for stop in rounds)
        for stop in arena.stops:
            self.late = _sum(self.late, stop.late)
        refused = Counter(stop.point for stop in rounds if stop.late)
        self.rounds_refused += refused.total()
        self.refused_at = _sum(self.refused_at, refused)
        self.kinds = arena.kinds
        self.stale += len(arena.fences.stale)
        self.clock_steps += arena.steps
        self.libraries += 1
        self.works += account.works
        self.home += account.home
        self.obtainable += account.obtainable
        self.poisoned += account.poisoned
        self.problems = [*self.problems, *account.problems]

    def report(self) -> str:
        """All of it in a few lines."""
        pace = self.rounds / self.elapsed_s * 60 if self.elapsed_s else 0.0
        lines = [
            f"{self.rounds} rounds ({pace:.0f} a minute), {self.stops} stops, {self.libraries} libraries; "
            f"{self.standstills} stood still within a commit, {self.not_overtaken} were not overtaken, "
            f"{self.idle} had nothing in hand",
            f"  stopped {_shown(self.points)}",
            f"jobs taken over from the stopped {self.taken_over}; "
            f"all takeovers by state {_shown(self.states)}",
            f"late appends refused {sum(self.late.values())}, after {self.rounds_refused} rounds",
            f"  {_shown(self.late)}",
            f"  after {self.share_refused:.0%} of those that must try late; {_shown(self.refused_at)}",
            f"late appends in the log {self.stale}",
            f"the wall clock was set {self.clock_steps} times",
            f"home {self.home} of {self.obtainable} that can be had, {self.works} works; "
            f"given up as poison and tried again {self.poisoned}",
            *(f"NOT SHOWN: {what}" for what in self.unshown),
            f"PROBLEMS {len(self.problems)}" if self.problems else "every promise was kept",
        ]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems[:SHOWN_MAX])])


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _shown(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in Counter(counts).most_common(SHOWN_MAX)) or "none"
