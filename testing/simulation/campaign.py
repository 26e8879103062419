"""Many lives, each lived twice: the same bytes, and no broken promise.

With ``--store both`` the first is lived on a log in memory and the second on LMDB, so that one comparison
shows two things: that a seed determines everything, and that the two stores are one. Of every ``ELSEWHERE``
seeds one lives its second life in another process, under another PYTHONHASHSEED and LMDB's other engine.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

import msgspec

from .disk import StoreKind
from .elsewhere import live_elsewhere
from .life import Life, live

SHOWN_MAX = 5
"""Problems of one life that are printed."""
STORES: dict[str, tuple[StoreKind, StoreKind]] = {
    "both": ("memory", "lmdb"),
    "memory": ("memory", "memory"),
    "lmdb": ("lmdb", "lmdb"),
}
COUNTED = (
    "sessions", "works", "home", "obtainable", "requests", "steps", "takeovers", "power_cuts", "pauses",
    "hours", "hours_alive",
)  # fmt: skip
"""What of a life is summed as it is."""
COMMAND = "python -m quire.testing.simulation"
ELSEWHERE = 10
"""Of so many seeds one lives its second life in another process; it costs a start of Python."""


class Pair(msgspec.Struct, frozen=True):
    """The two lives of a seed."""

    first: Life
    second: Life
    elsewhere: bool = False
    """Whether the second was lived in another process."""

    @property
    def same(self) -> bool:
        """Whether the logs are the same, byte for byte, and with them the tables."""
        return self.first.fingerprint == self.second.fingerprint

    @property
    def problems(self) -> list[str]:
        """What is wrong with this seed, in words."""
        found = list(dict.fromkeys([*self.first.problems, *self.second.problems]))
        if not self.same:
            found.append(
                f"two lives of one seed differ: {self.first.fingerprint} and {self.second.fingerprint}"
            )
        return found


class Totals(msgspec.Struct):
    """What a row of seeds came to."""

    seeds: int = 0
    failing: dict[int, list[str]] = {}
    """Seed → what is wrong with it."""
    differing: int = 0
    elsewhere: int = 0
    """Second lives in another process."""
    lives: int = 0
    sessions: int = 0
    works: int = 0
    home: int = 0
    obtainable: int = 0
    requests: int = 0
    steps: int = 0
    events: int = 0
    deaths: Counter[str] = msgspec.field(default_factory=Counter)
    takeovers: int = 0
    power_cuts: int = 0
    pauses: int = 0
    in_flight: Counter[str] = msgspec.field(default_factory=Counter)
    felt: Counter[str] = msgspec.field(default_factory=Counter)
    hours: float = 0.0
    hours_alive: float = 0.0
    seconds: float = 0.0

    def add(self, pair: Pair) -> None:
        """Take in the lives of a seed."""
        self.seeds += 1
        self.differing += not pair.same
        self.elsewhere += pair.elsewhere
        if pair.problems:
            self.failing[pair.first.seed] = pair.problems
        for life in (pair.first, pair.second):
            self._count(life)

    def _count(self, life: Life) -> None:
        self.lives += 1
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(life, name))
        self.events += life.fingerprint.events
        self.deaths.update(life.deaths)
        self.in_flight.update(life.in_flight)
        self.felt.update(life.felt)

    def report(self, *, arguments: str) -> str:
        """All of it in a few lines; ``arguments`` of the command, for the line that replays a seed."""
        minutes = max(self.seconds / 60, 1e-9)
        lines = [
            f"{self.seeds} seeds, each lived twice: {self.differing} differences, "
            f"{len(self.failing)} failing; {self.elsewhere} of the second lives in another process",
            f"  {self.works} works, {self.home} home of {self.obtainable} that can be had; "
            f"{self.events} events, {self.requests} requests",
            f"  {self.sessions} sessions, {self.deaths.total()} killed ({_listed(self.deaths)}), "
            f"{self.power_cuts} power cuts, {self.pauses} stopped for a while",
            f"  {self.takeovers} jobs taken over, effects in flight: {_listed(self.in_flight)}",
            f"  came to bear: {_listed(self.felt)}",
            f"  {self.hours:,.0f} simulated hours ({self.hours_alive:,.1f} of them in sessions) in "
            f"{self.seconds:.0f} s: {self.hours / minutes:,.0f} a minute; {self.steps:,} steps, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB at most",
        ]
        for seed, problems in self.failing.items():
            lines.append(f"seed {seed}: {len(problems)} problems; replay it (--trace tells every step) with")
            lines.append(f"  {COMMAND} --first {seed} --seeds 1{arguments}")
            lines += [f"    {problem}" for problem in problems[:SHOWN_MAX]]
        return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def pair_of(seed: int, *, store: str = "both", works: int = 8, crashes: int = 3) -> Pair:
    """Live a seed twice; ``store`` is one of ``STORES``.

    Raises:
        EnvironmentFault: another process that was to live the second life told of none.
    """
    first, second = STORES[store]
    elsewhere = seed % ELSEWHERE == 0
    again = live_elsewhere if elsewhere else live
    return Pair(
        live(seed, store=first, works=works, crashes=crashes),
        again(seed, store=second, works=works, crashes=crashes),
        elsewhere,
    )


def campaign(
    first: int, seeds: int, *, store: str = "both", works: int = 8, crashes: int = 3
) -> Iterator[Pair]:
    """Live so many seeds, twice each."""
    for seed in range(first, first + seeds):
        yield pair_of(seed, store=store, works=works, crashes=crashes)


def main(arguments: list[str] | None = None, *, out: TextIO | None = None) -> int:
    """Live seeds and print what they came to; 1 when a promise was broken or two logs differ."""
    options = _parser().parse_args(arguments)
    out = out or sys.stdout
    if options.trace or options.once:
        return _once(options, out)
    totals, begun = Totals(), time.perf_counter()
    for pair in campaign(
        options.first, options.seeds, store=options.store, works=options.works, crashes=options.crashes
    ):
        totals.add(pair)
        if options.json:
            out.write(msgspec.json.encode(pair).decode() + "\n")
    totals.seconds = time.perf_counter() - begun
    if not options.json:
        out.write(totals.report(arguments=_given(options)) + "\n")
    return 1 if totals.failing else 0


def _once(options: argparse.Namespace, out: TextIO) -> int:
    """Live seeds once; where the traces of two lives part is where chance came in."""

    def told(at_s: float, who: str) -> None:
        print(f"{at_s:.6f} {who}", file=out)

    failed = False
    for seed in range(options.first, options.first + options.seeds):
        life = live(
            seed,
            store=options.once or STORES[options.store][0],
            works=options.works,
            crashes=options.crashes,
            trace=told if options.trace else None,
        )
        failed = failed or bool(life.problems)
        said = msgspec.json.encode(life)
        out.write((msgspec.json.format(said) if options.trace else said).decode() + "\n")
    return 1 if failed else 0


def _given(options: argparse.Namespace) -> str:
    store = "" if options.store == "both" else f" --store {options.store}"
    return f"{store} --works {options.works} --crashes {options.crashes}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Live lives of a library, each twice; exit 1 when two differ or a promise is broken.",
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many (20)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--store", choices=sorted(STORES), default="both", help="the log of the two lives")
    parser.add_argument("--works", type=int, default=8, help="greatest number of works of a life (8)")
    parser.add_argument("--crashes", type=int, default=3, help="greatest number of kills in a life (3)")
    parser.add_argument("--trace", action="store_true", help="live each seed once and print every step")
    parser.add_argument("--once", choices=("memory", "lmdb"), help="live each seed once, as a line of JSON")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each seed")
    return parser
