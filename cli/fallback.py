"""``fallback``: the plan in force, what it would do, and how its sources did."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from ..actors.outcome import Wanted
from ..actors.runtime.ports import SystemClock
from ..config.settings import Quire
from ..errors import UsageError
from ..events import facts
from ..events.facts import type_of
from ..events.job import JobRow
from ..events.projections import HOSTS, JOBS, job_row_key
from ..events.work import Work, parse_work
from ..store.interface import EventStore
from . import output
from .config import settings_of
from .explain import events_of
from .forecast import Forecast, Forecaster, Step
from .inputs import InputSet
from .library import Opened, events_in, find_job, jobs_named, open_library, opened, scanned
from .main import EXIT_SOME_FAILED
from .moments import since_ns, span_s
from .rests import by_hand, retold
from .tune import tune
from .turn_statistics import grouped
from .words import in_words, words_for

BAD_LINES_SHOWN = 20
"""Bad lines that a dry run prints."""
_PREFIX = "fallback."
_TOLD = (
    facts.FallbackAttempt,
    facts.FallbackSummary,
    facts.JobWaiting,
    facts.JobRequeued,
    facts.WorkIdentified,
)
"""Events that say how the fallback went."""
_OF_PLANS = {
    "disabled": "fallback.disabled names it.",
    "exhausted": "Then every source had its turn.",
    "budget_exhausted": "Then the time or the attempts for one work are spent.",
    "rollout": "The work is outside the share that may be fetched (fallback.rollout).",
}
_VERDICTS = {
    "asked": "asked",
    "depends": "perhaps",
    "passed_over": "not asked",
    "held_back": "held back",
    "not_reached": "not reached",
}


def fallback(args: argparse.Namespace) -> int:
    """``quire fallback ACTION``."""
    actions = {
        "config": config,
        "plan": plan,
        "explain": explain,
        "dryrun": dryrun,
        "stats": stats,
        "tune": tune,
    }
    return actions[args.action](args)


# -- config


def config(args: argparse.Namespace) -> int:
    """``quire fallback config``: every setting of the plan in force, and where it was said."""
    loaded = settings_of(args)
    values = {path: value for path, value in loaded.values.items() if path.startswith(_PREFIX)}
    if args.json:
        origins = {path: str(loaded.origins[path]) for path in values}
        output.say_json({"fallback": msgspec.to_builtins(loaded.settings.fallback), "origins": origins})
        return 0
    rows = [
        (path.removeprefix(_PREFIX), msgspec.json.encode(value).decode(), str(loaded.origins[path]))
        for path, value in values.items()
    ]
    output.say(output.table(rows, header=("setting of fallback", "value", "said by")))
    return 0


# -- plan and explain


def plan(args: argparse.Namespace) -> int:
    """``quire fallback plan``: which sources would be asked for a work, in which order, why not others."""
    with ExitStack() as stack:
        settings, library = _settings_and_library(args, stack)
        work, row = _work_named(args.work, library)
        found = _forecaster(settings, library).of(work, planned_as=row.planned_as if row else "")
    if args.json:
        output.say_json(found)
    else:
        output.say(_forecast_text(found))
    return 0


def explain(args: argparse.Namespace) -> int:
    """``quire fallback explain``: the plan for a work, and what the log says happened."""
    with ExitStack() as stack:
        settings, library = _settings_and_library(args, stack)
        work, row = _work_named(args.work, library)
        found = _forecaster(settings, library).of(work, planned_as=row.planned_as if row else "")
        happened = (
            list(_happened(library.store, find_job(library.store, args.work))) if library and row else []
        )
    if args.json:
        output.say_json({"plan": found, "state": row.state if row else "", "happened": happened})
        return 0
    output.say(_forecast_text(found))
    output.say()
    if row is None:
        output.say("The log knows nothing of it.")
        return 0
    output.say(f"What the log says; the work is {row.state}, generation {row.generation}:")
    for step in happened:
        output.say(f"{step['position']:>8}  {step['time']}  {step['words']}")
    return 0


def _settings_and_library(args: argparse.Namespace, stack: ExitStack) -> tuple[Quire, Opened | None]:
    """The settings, and the library where there is one: a plan can be made without."""
    settings = settings_of(args).settings
    if not (Path(settings.library) / "events" / "data.mdb").exists():
        return settings, None
    return settings, stack.enter_context(open_library(settings))


def _forecaster(settings: Quire, library: Opened | None) -> Forecaster:
    hosts = [row for _, row in scanned(library.store, HOSTS)] if library else []
    return Forecaster(settings, SystemClock(), hosts=hosts)


def _work_named(text: str, library: Opened | None) -> tuple[Work, JobRow | None]:
    """The work of a job that the library has, with all that was learned of it; else what the text says.

    Raises:
        UsageError: it names several jobs, or nothing at all.
    """
    found = jobs_named(library.store, text) if library is not None else []
    if library is not None and (len(found) == 1 or (found and parse_work(text) is None)):
        row: JobRow = library.store.rows(JOBS, [job_row_key(find_job(library.store, text))])[0]
        return row.work, row
    work = parse_work(text) or (Work(title=" ".join(text.split())) if " " in text.strip() else None)
    if work is None:
        raise UsageError(f"{text}: expected a DOI, an arXiv id, PMC1234567, pmid:12345678, a URL or a title")
    return work, None


def _happened(store: EventStore, text: str) -> Iterator[dict[str, Any]]:
    events = list(events_of(store, find_job(store, text)))
    said = by_hand(store, events)
    for recorded in events:
        if isinstance(recorded.event, _TOLD):
            yield {
                "position": recorded.position,
                "time": output.iso_time(recorded.time_ns),
                "type": type_of(recorded.event),
                "words": retold(in_words(recorded.event, {}), said.get(recorded.position)),
            }


def _forecast_text(found: Forecast) -> str:
    lines = [f"{found.work_id}: what would be asked, if no source before had a PDF"]
    rows = [_step_row(step) for step in found.steps]
    lines.append(output.table(rows, header=("turn", "source", "tier", "verdict", "from", "at most", "why")))
    lines.append(
        f"{_because(found.ends)} {output.many(found.attempts, 'turn')}, "
        f"at the longest {output.human_time(found.longest_ms / 1000)} without the streaming."
    )
    return "\n".join(line for line in lines if line)


def _step_row(step: Step) -> tuple[str, ...]:
    verdict = _VERDICTS[step.verdict]
    if not step.turn:
        why = _because(step.reason)
        if step.verdict == "depends":
            why += " A source before it may learn it."
        return ("", step.source, step.tier, verdict, "", "", why)
    robots = ", robots.txt respected" if step.robots_respect else ""
    again = "1 retry" if step.retries_max == 1 else f"{step.retries_max} retries"
    why = f"{step.url} ({again}{robots})"
    times = (output.human_time(step.starts_ms / 1000), output.human_time(step.timeout_ms / 1000))
    return (str(step.turn), step.source, step.tier, verdict, *times, why)


def _because(reason: str) -> str:
    return _OF_PLANS.get(reason) or words_for(reason)[0]


# -- dryrun


def dryrun(args: argparse.Namespace) -> int:
    """``quire fallback dryrun``: the plans of all works of a list, summed."""
    with ExitStack() as stack:
        settings, library = _settings_and_library(args, stack)
        forecaster = _forecaster(settings, library)
        inputs = stack.enter_context(InputSet(args.inputs))
        total, bad = _Total(), 0
        for item in inputs:
            if isinstance(item, Wanted):
                total.add(forecaster.of(item.work))
                continue
            bad += 1
            if bad <= BAD_LINES_SHOWN:
                output.warn(str(item))
    if args.json:
        output.say_json({**total.as_value(), "bad_lines": bad})
    else:
        output.say(total.text())
        if bad:
            output.warn(
                f"{output.many(bad, 'bad line')}; the first {min(bad, BAD_LINES_SHOWN)} are named above"
            )
    return EXIT_SOME_FAILED if bad else 0


class _Total:
    """Forecasts, summed."""

    def __init__(self) -> None:
        self.works = self.unasked = self.turns = self.longest_ms = 0
        self._verdicts: dict[str, Counter[str]] = {}
        self._reasons: dict[str, Counter[str]] = {}
        self._ends: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<_Total of {self.works} works>"

    def add(self, found: Forecast) -> None:
        """One more work."""
        self.works += 1
        self.turns += found.attempts
        self.unasked += found.attempts == 0
        self.longest_ms = max(self.longest_ms, found.longest_ms)
        self._ends[found.ends] += 1
        for step in found.steps:
            self._verdicts.setdefault(step.source, Counter())[step.verdict] += 1
            if step.reason:
                self._reasons.setdefault(step.source, Counter())[step.reason] += 1

    def as_value(self) -> dict[str, Any]:
        """The sums as ``--json`` gives them."""
        sources = [
            {
                "source": source,
                **{verdict: counts[verdict] for verdict in _VERDICTS},
                "reasons": dict(self._reasons.get(source, {})),
            }
            for source, counts in self._verdicts.items()
        ]
        return {
            "works": self.works,
            "works_without_a_turn": self.unasked,
            "turns": self.turns,
            "longest_ms": self.longest_ms,
            "ends": dict(self._ends),
            "sources": sources,
        }

    def text(self) -> str:
        """The sums for people."""
        rows = [
            (
                source,
                *(counts[verdict] for verdict in _VERDICTS),
                output.counted(self._reasons.get(source, {})),
            )
            for source, counts in self._verdicts.items()
        ]
        lines = [output.table(rows, header=("source", *_VERDICTS.values(), "why not"))] if rows else []
        lines.append(
            f"{output.many(self.works, 'work')}, at most {output.many(self.turns, 'turn')}, "
            f"at the longest {output.human_time(self.longest_ms / 1000)} for one"
        )
        if self.unasked:
            lines.append(f"{output.many(self.unasked, 'work')} for which no source can be asked now")
        return "\n".join(lines)


# -- stats


def stats(args: argparse.Namespace) -> int:
    """``quire fallback stats``: how the turns went, by source, tier, host, reason or period of time."""
    since = since_ns(args.since, SystemClock().wall_ns()) if args.since else 0
    with opened(args) as (store, *_):
        groups = grouped(events_in(store), args.by, since_ns=since, period_s=_period_s(args))
    if args.json:
        output.say_json({"by": args.by, "since": output.iso_time(since), "groups": groups})
        return 0
    rows = [
        (
            group["turns"],
            group["success"],
            _percent(group["share"]),
            group["skipped"],
            group["p50_ms"],
            group["p95_ms"],
        )
        for group in groups
    ]
    named = [(*row, group["name"]) for row, group in zip(rows, groups, strict=True)]
    header = ("turns", "success", "share", "passed over", "p50 ms", "p95 ms", args.by)
    output.say(output.table(named, header=header) if named else "No source has had its turn.")
    return 0


def _period_s(args: argparse.Namespace) -> int:
    """The length of a period, in seconds.

    Raises:
        UsageError: it is none.
    """
    length_s = span_s(args.period)
    if not length_s:
        raise UsageError(f"--period {args.period}: expected a length of time such as 1h, 1d or 1w")
    return length_s


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
