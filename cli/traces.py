"""What the log recorded of each work's turns, as far as another plan would have met the same.

A trace is one generation of a job: for each source what its turn came to and how long it took. What was never
asked, since another source was first, stands in no trace; whoever replays one has to say what he assumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..events import fallback
from ..events.facts import AttemptOutcome, FallbackAttempt, JobRequeued
from ..events.job import STREAM_PREFIX
from ..events.record import Recorded

TRACES_MAX = 20_000
"""Traces that are kept; of a longer log those of the jobs that were met last."""
CUT_SHORT = frozenset({"beaten", "stopped", "owner_gone", "cancelled", "adapter_restarted"})
"""Reasons of turns that others ended: how they would have gone on nobody knows."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """How one source's turn went."""

    outcome: AttemptOutcome
    reason: str
    elapsed_ms: int
    """From its start to its end; for a success until the paper was stored."""
    front_ms: int
    """Until its first PDF bytes were seen; the same as ``elapsed_ms`` where there were none."""
    host: str


@dataclass(slots=True)
class Trace:
    """One generation of one job."""

    job_id: str
    turns: dict[str, TurnRecord] = field(default_factory=dict)
    """By source, those that ended by themselves."""
    lacks: dict[str, str] = field(default_factory=dict)
    """By source, what it lacked to begin."""
    cut_ms: dict[str, int] = field(default_factory=dict)
    """By source, how long a turn had run when another ended it: it would have taken longer."""

    @property
    def home(self) -> bool:
        """Whether a source brought the paper."""
        return any(turn.outcome == "success" for turn in self.turns.values())

    def add(self, attempt: FallbackAttempt) -> None:
        """Take in what is said of a turn; of several by one source the last that ended by itself counts."""
        if attempt.outcome == "skipped" and attempt.reason in CUT_SHORT:
            self.cut_ms[attempt.source] = max(attempt.elapsed_ms, self.cut_ms.get(attempt.source, 0))
        elif attempt.outcome == "skipped":
            if attempt.reason not in fallback.GATES:
                self.lacks[attempt.source] = attempt.reason
        elif attempt.reason not in CUT_SHORT and attempt.reason != "budget_exhausted":
            self.turns[attempt.source] = _turn_record(attempt)


def _turn_record(attempt: FallbackAttempt) -> TurnRecord:
    front_ms = attempt.meta.get("front_ms", attempt.elapsed_ms)
    if not isinstance(front_ms, int):
        front_ms = attempt.elapsed_ms
    return TurnRecord(attempt.outcome, attempt.reason, attempt.elapsed_ms, front_ms, attempt.host)


def traces(events: Iterable[Recorded[Any]], *, since_ns: int = 0) -> list[Trace]:
    """The traces of a log, in the order in which their first turns ended; those without a turn left out."""
    found: dict[tuple[str, int], Trace] = {}
    generations: dict[str, int] = {}
    for recorded in events:
        event = recorded.event
        if isinstance(event, JobRequeued):
            generations[recorded.stream] = event.generation
        elif isinstance(event, FallbackAttempt) and recorded.time_ns >= since_ns:
            key = (recorded.stream, generations.get(recorded.stream, 1))
            trace = found.get(key)
            if trace is None:
                trace = found[key] = Trace(recorded.stream.removeprefix(STREAM_PREFIX))
                if len(found) > TRACES_MAX:
                    del found[next(iter(found))]
            trace.add(event)
    return [trace for trace in found.values() if trace.turns]
