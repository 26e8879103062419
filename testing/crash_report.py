"""The sums of a campaign of kills, the checks on its spread, and its report."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from ..actors.runtime.ports import NANOSECONDS, Clock
from ..events.facts import OpKind
from ..events.job import State
from .accounts import SHOWN_MAX, Account
from .crash_moments import Kill

SPREAD_KILLS_MIN = 500
"""A campaign of so many kills must have hit every state and every kind of op."""


class Censored(msgspec.Struct):
    """Starts after a kill whose time of recovery is not known."""

    by_clock: int = 0
    """Killed at a moment that does not depend on what they had said; all of these are left out."""
    silent: int = 0
    """They were to live until they spoke of a job, and did not: killed after the longest wait, or the list
    was done and there was nothing to say."""


class Round(msgspec.Struct, kw_only=True):
    """One library of a campaign, done and judged."""

    account: Account
    kills: list[Kill]
    recoveries: list[float]
    censored: Censored
    states_hit: dict[str, int]
    """State → kills just after a job entered it."""
    ops_hit: dict[str, int]
    """Kind → kills just after an op of it began or ended."""
    retried: int
    """Works that the kills made look like poison: tried once more by name."""
    retried_home: int
    """Those of them that came home then."""
    spent_s: dict[str, float]


class Totals:
    """The sums of a campaign's rounds, for the report."""

    def __init__(self, kills: int, clock: Clock) -> None:
        """``kills``: how many there are to be."""
        self.rounds: list[Round] = []
        self._kills = kills
        self._clock = clock
        self._began_ns = clock.boot_ns()
        self._unhit: list[str] = []

    def __repr__(self) -> str:
        return f"<Totals of {len(self.rounds)} libraries, {self.killed} kills>"

    def add(self, round_: Round) -> None:
        """Take in a library that is done."""
        self.rounds.append(round_)

    def end(self) -> None:
        """All is done: a long campaign that never hit a state or a kind of op has not shown what it says."""
        if self.killed >= SPREAD_KILLS_MIN:
            self._unhit = [f"no kill hit {name}" for name in self.unhit()]

    def unhit(self) -> list[str]:
        """States and kinds of op that no kill hit, neither in flight nor just after."""
        states = {**self.states_in_flight, **self.states_hit}
        ops = {**self.ops_in_flight, **self.ops_hit}
        return [
            *(f"state {state}" for state in State if state not in states),
            *(f"op {kind}" for kind in get_args(OpKind) if kind not in ops),
        ]

    @property
    def accounts(self) -> list[Account]:
        """Those of all libraries."""
        return [round_.account for round_ in self.rounds]

    @property
    def killed(self) -> int:
        """Kills that hit, of all libraries that are done."""
        return sum(len(round_.kills) for round_ in self.rounds)

    @property
    def problems(self) -> list[str]:
        """Broken promises of all rounds."""
        return [*(problem for account in self.accounts for problem in account.problems), *self._unhit]

    @property
    def states_in_flight(self) -> dict[str, int]:
        """State → jobs that a dead owner left in it."""
        return _summed(account.states_in_flight for account in self.accounts)

    @property
    def ops_in_flight(self) -> dict[str, int]:
        """Kind → ops that a dead owner left in flight."""
        return _summed(account.ops_in_flight for account in self.accounts)

    @property
    def states_hit(self) -> dict[str, int]:
        """State → kills just after it was entered."""
        return _summed(round_.states_hit for round_ in self.rounds)

    @property
    def ops_hit(self) -> dict[str, int]:
        """Kind → kills just after an op of it began or ended."""
        return _summed(round_.ops_hit for round_ in self.rounds)

    def progress(self, under_way: int, folder: Path) -> str:
        """One line: how far the campaign is, since when, and how long it still takes at this pace."""
        done = self.killed + under_way
        spent_s = (self._clock.boot_ns() - self._began_ns) / NANOSECONDS
        left_s = spent_s / done * max(0, self._kills - done) if done else 0.0
        return (
            f"{done} of {self._kills} kills, {len(self.rounds)} libraries done, "
            f"{len(self.problems)} problems; {spent_s:.0f} s, about {left_s:.0f} s left; {folder.name}"
        )

    def figures(self) -> dict[str, Any]:
        """All of it as plain values."""
        every = self.accounts
        downloads = [download for account in every for download in account.downloads]
        questions = [question for account in every for question in account.questions]
        recoveries = [time for round_ in self.rounds for time in round_.recoveries]
        return {
            "kills": self.killed,
            "libraries": len(self.rounds),
            "works": sum(a.works for a in every),
            "events": sum(a.events for a in every),
            "killed_by": _summed(Counter(kill.by for kill in round_.kills) for round_ in self.rounds),
            "obtainable": sum(a.obtainable for a in every),
            "home": sum(a.home for a in every),
            "states": _summed(a.states for a in every),
            "deaths_with_effects_in_flight": sum(a.deaths for a in every),
            "takeovers": sum(a.takeovers for a in every),
            "states_in_flight": self.states_in_flight,
            "ops_in_flight": self.ops_in_flight,
            "states_just_entered": self.states_hit,
            "ops_just_begun_or_ended": self.ops_hit,
            "not_hit": self.unhit(),
            "objects": sum(a.objects for a in every),
            "orphans": sum(a.orphans for a in every),
            "parts": sum(a.parts for a in every),
            "downloads": len(downloads),
            "downloads_asked_again": sum(d.asked > d.jobs for d in downloads),
            "download_requests": sum(d.asked for d in downloads),
            "download_requests_allowed": sum(d.allowed for d in downloads),
            "questions": len(questions),
            "question_requests": sum(q.asked for q in questions),
            "question_requests_allowed": sum(q.allowed for q in questions),
            "poisoned": sum(a.poisoned for a in every),
            "retried": sum(r.retried for r in self.rounds),
            "retried_home": sum(r.retried_home for r in self.rounds),
            "recovery_starts": len(recoveries),
            "recovery_p50_s": _quantile(recoveries, 50),
            "recovery_p99_s": _quantile(recoveries, 99),
            "recovery_max_s": round(max(recoveries, default=0.0), 3),
            "censored_by_clock": sum(r.censored.by_clock for r in self.rounds),
            "censored_silent": sum(r.censored.silent for r in self.rounds),
            "spent_s": {
                name: round(sum(r.spent_s.get(name, 0.0) for r in self.rounds), 1)
                for name in sorted({name for r in self.rounds for name in r.spent_s})
            },
            "elapsed_s": round((self._clock.boot_ns() - self._began_ns) / NANOSECONDS, 1),
            "problems": self.problems,
        }

    def report(self) -> str:
        """All of it in a few lines."""
        of = self.figures()
        lines = [
            "{kills} kills on {libraries} libraries, {works} works, {events} events, {elapsed_s} s",
            f"  by {_told(of['killed_by'])}",
            f"  time {_told(of['spent_s'])}",
            "home {home} of {obtainable} that can be had; " + f"states {_told(of['states'])}",
            "kills that hit effects in flight {deaths_with_effects_in_flight}, jobs taken over {takeovers}",
            f"  in states {_told(of['states_in_flight'])}",
            f"  ops in flight {_told(of['ops_in_flight'])}",
            f"  just after entering {_told(of['states_just_entered'])}",
            f"  just after ops {_told(of['ops_just_begun_or_ended'])}",
            f"  never hit: {', '.join(of['not_hit']) or 'none'}",
            "objects {objects}, none of them bad; orphans {orphans}, parts left {parts}"
            if not self.problems
            else "objects {objects}, orphans {orphans}, parts left {parts}",
            "finished downloads {downloads}, asked for again {downloads_asked_again}; "
            "requests {download_requests}, explained up to {download_requests_allowed}",
            "other addresses {questions}; requests {question_requests}, explained up to "
            "{question_requests_allowed}",
            "given up as poison {poisoned}; tried once more {retried}, home then {retried_home}",
            "recovery, start of process to first event of a job: p50 {recovery_p50_s:.2f} s, "
            "p99 {recovery_p99_s:.2f} s, max {recovery_max_s:.2f} s over {recovery_starts} starts; "
            "left out {censored_by_clock} killed by the clock, {censored_silent} that did not speak",
        ]
        last = f"PROBLEMS {len(self.problems)}" if self.problems else "every promise was kept"
        shown = [f"  {problem}" for problem in self.problems[:SHOWN_MAX]]
        told = [line.format(**of) for line in lines]
        return "\n".join([*told, last, *shown])


def _summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return {str(name): count for name, count in total.most_common()}


def _told(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _quantile(times: list[float], percent: int) -> float:
    """0 where there are too few to say."""
    if len(times) < 2:
        return 0.0
    return round(statistics.quantiles(times, n=100, method="inclusive")[percent - 1], 3)
