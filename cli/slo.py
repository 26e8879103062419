"""``quire slo``: the service levels, computed from the log and the files; 1 when one is missed."""

from __future__ import annotations

import argparse
from typing import Any

from ..events.projections import EVERYTHING
from ..store.objects import Objects
from . import output
from .audit import expected_files
from .library import Opened, counts_of, events_in, opened, under
from .main import EXIT_SOME_FAILED
from .moments import since_ns
from .service_levels import Level, ServiceLevels

MEANINGS = {
    "completion": "jobs that came home, of those for which a source showed a PDF",
    "time_to_complete_p50": "time in hand of a job that came home, median",
    "time_to_complete_p95": "the same, 95th percentile",
    "recovery": "jobs that came to their end, of those whose worker had died",
    "lease_p99": "from the grant of a lease to the first thing done under it, 99th percentile",
    "replayed_effects": "results used again, of all effects",
    "too_many_requests": "turns that ended with status 429, of those with a status",
    "corruption": "files of finished jobs that are gone or not what they were",
}


def slo(args: argparse.Namespace) -> int:
    """``quire slo``: a line per level, or Prometheus text, or JSON."""
    with opened(args) as library:
        since = since_ns(args.since, library.clock.wall_ns()) if args.since else 0
        measured = ServiceLevels()
        for recorded in events_in(library.store):
            if recorded.time_ns >= since:
                measured.add(recorded)
        levels = list(measured.levels(*_corrupt(library, hashes=args.hashes)))
        states = under(counts_of(library.store, EVERYTHING), "state")
    if args.json:
        output.say_json({"ok": all(level.met for level in levels), "levels": [_as_value(x) for x in levels]})
    elif args.prometheus:
        output.say(_prometheus(levels, states))
    else:
        output.say(_text(levels))
    return 0 if all(level.met for level in levels) else EXIT_SOME_FAILED


def _corrupt(library: Opened, *, hashes: bool) -> tuple[int, int]:
    """Files of finished jobs that are not what they must be, and how many were looked at."""
    wrong = looked = 0
    for file in expected_files(library.store):
        looked += 1
        wrong += not _sound(library.library.objects, file.sha256, file.bytes, hashes=hashes)
    return wrong, looked


def _sound(objects: Objects, sha256: str, size: int, *, hashes: bool) -> bool:
    return objects.has(sha256, size) and (not hashes or objects.verify(sha256))


def _as_value(level: Level) -> dict[str, Any]:
    return {
        "name": level.name,
        "means": MEANINGS[level.name],
        "unit": level.unit,
        "target": level.target,
        "bound": "at most" if level.at_most else "at least",
        "measured": level.measured,
        "count": level.count,
        "met": None if level.measured is None else level.met,
    }


def _text(levels: list[Level]) -> str:
    rows = [
        (
            "" if level.measured is None else "met" if level.met else "MISSED",
            level.name,
            _number(level, level.measured),
            f"{'at most' if level.at_most else 'at least'} {_number(level, level.target)}",
            str(level.count),
            MEANINGS[level.name],
        )
        for level in levels
    ]
    return output.table(rows, header=("", "level", "measured", "wanted", "of", "what"))


def _number(level: Level, value: float | None) -> str:
    if value is None:
        return "no data"
    if level.unit == "share":
        return f"{value:.2%}"
    return f"{value:g} {level.unit}"


def _prometheus(levels: list[Level], states: dict[str, int]) -> str:
    """The text format of Prometheus, version 0.0.4."""
    lines = ["# HELP quire_jobs Jobs by state.", "# TYPE quire_jobs gauge"]
    lines += [f'quire_jobs{{state="{state}"}} {count}' for state, count in sorted(states.items())]
    for level in levels:
        if level.measured is not None:
            unit = {"share": "ratio", "s": "seconds", "ms": "milliseconds"}.get(level.unit, level.unit)
            name = f"quire_{level.name}_{unit}"
            lines += [f"# HELP {name} {MEANINGS[level.name]}", f"# TYPE {name} gauge"]
            lines.append(f"{name} {level.measured:g}")
    lines += ["# HELP quire_slo_met Whether the level is met.", "# TYPE quire_slo_met gauge"]
    measured = [level for level in levels if level.measured is not None]
    lines += [f'quire_slo_met{{level="{level.name}"}} {int(level.met)}' for level in measured]
    return "\n".join(lines)
