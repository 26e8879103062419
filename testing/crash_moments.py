"""When to kill: moments drawn by a seed, and the watch on the log that waits for them."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator

import msgspec

from ..actors.runtime.ports import NANOSECONDS, Clock
from ..events.facts import (
    AnyEvent,
    JobStateChanged,
    OperationCompleted,
    OperationStarted,
    RunStarted,
    type_of,
)
from ..events.job import STREAM_PREFIX, State
from ..events.record import Recorded
from ..store.lmdb_store import LmdbStore

OPEN_S = 20.0
"""How long a kill waits for the worker to open the log and to speak of a job: long, since a start that is cut
off before it does so says nothing of the time of recovery."""
TRIGGER_S = 2.0
"""How long it then waits for the event that it was drawn for; after that it happens by the clock."""
START_S = (0.0, 1.5)
"""Bounds of a kill in the worker's start, in seconds after that of the process."""
RUN_S = (0.0, 1.0)
"""Bounds of a kill by the clock, in seconds after the worker opened the log."""
LAG_S_MAX = 0.03
"""Longest time between the event seen and the kill: from before its effect to after it."""
AT_ONCE_SHARE = 0.6
"""Share of the kills at an event that do not wait after it."""
POLL_S = 0.002
"""How often the log is looked at: a commit is seen before the next one."""
JUST_AFTER_NS = 50_000_000
"""A kill so shortly after an event, in nanoseconds, hit what it says."""
CLOCK = "clock"
"""What a kill is counted as whose event did not come."""


class Trigger(msgspec.Struct, frozen=True):
    """What a kill waits for."""

    event: str
    """The type of the event."""
    detail: str = ""
    """The state or kind of op that it must name; any where empty."""
    weight: int = 1
    times_max: int = 40
    """Most of them that a kill waits for."""

    @property
    def name(self) -> str:
        """As a report names it."""
        return f"{self.event}:{self.detail}" if self.detail else self.event


TRIGGERS = (
    Trigger("job_planned", times_max=200),
    Trigger("job_leased", weight=2),
    Trigger("crash_recovery_event", weight=3, times_max=20),
    Trigger("fallback_attempt", weight=2),
    Trigger("operation_started", "RESOLUTION"),
    Trigger("operation_started", "FALLBACK", 2),
    Trigger("operation_started", "HEAD", 3),
    Trigger("operation_started", "STREAM", 4),
    Trigger("operation_started", "FINALIZE", 4),
    Trigger("operation_started", "INDEX", 2),
    Trigger("operation_started", "DEDUPE", 2, 1),
    Trigger("operation_completed", "FALLBACK"),
    Trigger("operation_completed", "HEAD", 2),
    Trigger("operation_completed", "STREAM", 3),
    Trigger("operation_completed", "FINALIZE", 2),
    Trigger("job_state_changed", "HEAD_DONE", 2),
    Trigger("job_state_changed", "RESUME_OK", 4, 2),
    Trigger("job_state_changed", "STREAMING", 2),
    Trigger("job_state_changed", "FINALIZED", 3),
    Trigger("job_state_changed", "INDEXED", 2),
    Trigger("job_state_changed", "DEDUPED", 2, 1),
    Trigger("job_state_changed", "SKIPPED_DUPLICATE", 2, 1),
    Trigger("job_state_changed", "FAILED", 1),
)
"""What kills wait for. HEAD_DONE, RESUME_OK and FINALIZED share their commit with the state after them, INDEX
and DEDUPE begin and end in one: nobody dies within, so a kill just after such a commit is what hits them.
"""
_WEIGHTS = [trigger.weight for trigger in TRIGGERS]


class Moment(msgspec.Struct, frozen=True):
    """When to kill."""

    delay_s: float
    """After the start; after the event where one is waited for."""
    trigger: Trigger | None = None
    times: int = 1
    """How many of it."""

    @property
    def speaks(self) -> bool:
        """Whether the worker has spoken of a job by then: its recovery can be measured without bias."""
        return self.trigger is not None and self.trigger.event != "run_started"


class Kill(msgspec.Struct, frozen=True):
    """A kill that hit."""

    by: str
    """The trigger's name; ``start`` or ``clock`` where no event brought it."""
    pid: int
    began_ns: int
    """Wall-clock time at which the process was started."""
    ended_ns: int
    """That of the kill."""


class Start(msgspec.Struct, frozen=True):
    """A process that was started after a kill."""

    pid: int
    began_ns: int
    speaks: bool
    """It was to live until it had spoken of a job."""


def draw(chance: random.Random) -> Moment:
    """A moment: one in twenty while the worker starts, one in five by the clock, the others at an event."""
    kind = chance.random()
    if kind < 0.05:
        return Moment(chance.uniform(*START_S))
    if kind < 0.25:
        return Moment(chance.uniform(*RUN_S), Trigger("run_started"))
    trigger = chance.choices(TRIGGERS, _WEIGHTS)[0]
    lag_s = 0.0 if chance.random() < AT_ONCE_SHARE else chance.uniform(0, LAG_S_MAX)
    return Moment(lag_s, trigger, int(trigger.times_max ** chance.random()))


def is_hit(event: AnyEvent, trigger: Trigger) -> bool:
    """Whether an event is what a kill waits for."""
    if trigger.detail == State.RESUME_OK and resumes(event):
        return True
    return type_of(event) == trigger.event and trigger.detail in ("", detail_of(event))


def resumes(event: AnyEvent) -> bool:
    """Whether a stream goes on from a part.

    A job that is taken over within its stream is past RESUME_OK already and does not enter it again; only a
    new generation does. Here both count as a resumption.
    """
    return isinstance(event, OperationStarted) and event.kind == "STREAM" and bool(event.about["range_start"])


def detail_of(event: AnyEvent) -> str:
    """The state or kind of op that an event names; ``""`` for the others."""
    if isinstance(event, JobStateChanged):
        return event.state
    return event.kind if isinstance(event, OperationStarted | OperationCompleted) else ""


class Watch:
    """Follows a log from one worker to the next, and sees what each of them appends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._position = 0

    def __repr__(self) -> str:
        return f"<Watch at {self._position}>"

    def wait(self, store: LmdbStore, worker: subprocess.Popen[bytes], moment: Moment) -> bool:
        """Return when the worker's part of the log holds the trigger often enough; False: it did not come."""
        if moment.trigger is None:
            return False
        seen, run, spoke = 0, "", False
        until_ns = self._clock.boot_ns() + int(OPEN_S * NANOSECONDS)
        while seen < moment.times:
            came = store.read(self._position)
            if self._clock.boot_ns() > until_ns or (not came and is_over(worker, POLL_S)):
                return False
            for recorded in came:
                self._position = recorded.position
                event = recorded.event
                if isinstance(event, RunStarted) and event.pid == worker.pid:
                    run = recorded.run_id
                if not spoke and recorded.run_id == run and recorded.stream.startswith(STREAM_PREFIX):
                    spoke, until_ns = True, self._clock.boot_ns() + int(TRIGGER_S * NANOSECONDS)
                seen += recorded.run_id == run and is_hit(event, moment.trigger)
        return True


def is_over(worker: subprocess.Popen[bytes], wait_s: float) -> bool:
    """Whether a worker ends within some seconds."""
    try:
        worker.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def hit_by(kills: list[Kill], events: Iterator[Recorded[AnyEvent]]) -> tuple[dict[str, int], dict[str, int]]:
    """States and kinds of op in which a job was in the last moment before a kill, by what the log says.

    Counted once for each kill: what its worker wrote within ``JUST_AFTER_NS`` before it.
    """
    ended = {kill.pid: kill for kill in kills}
    runs: dict[str, Kill] = {}
    touched: set[tuple[int, str, str]] = set()
    for recorded in events:
        event = recorded.event
        if isinstance(event, RunStarted):
            kill = ended.get(event.pid)
            if kill is not None and recorded.time_ns >= kill.began_ns:
                runs[recorded.run_id] = kill
        elif recorded.stream.startswith(STREAM_PREFIX) and recorded.run_id in runs and detail_of(event):
            kill = runs[recorded.run_id]
            if 0 <= kill.ended_ns - recorded.time_ns <= JUST_AFTER_NS:
                kind = "state" if isinstance(event, JobStateChanged) else "op"
                touched.add((kill.pid, kind, detail_of(event)))
                if resumes(event):
                    touched.add((kill.pid, "state", State.RESUME_OK))
    states, ops = (_counted(touched, kind) for kind in ("state", "op"))
    return states, ops


def _counted(touched: set[tuple[int, str, str]], kind: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, of, name in touched:
        if of == kind:
            counts[name] = counts.get(name, 0) + 1
    return counts
