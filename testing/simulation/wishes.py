"""Whether each run of a life did what its settings say, as the log tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...config.settings import Quire
from ...events.facts import (
    Event,
    FallbackAttempt,
    FallbackSummary,
    JobRequeued,
    JobStateChanged,
    JobWaiting,
    OperationCompleted,
    OperationStarted,
)
from ...events.job import STREAM_PREFIX
from ...events.record import Recorded
from ..accounts import events_of
from .choices import PATIENT_MS, Choices
from .chosen_world import ChosenWorld, Place
from .disk import Log

UNPAYWALL = "unpaywall_pdf"
PASSED_OVER = ("offline", "breaker_open", "rate_wait")
"""Why a source waits for its turn, at no cost to anybody."""
IN_TIME_MAX = 3
"""Jobs up to which arXiv's pace makes no wait that is longer than what a turn has left."""
ARXIV = "arxiv_pdf"
"""The one source whose pace is known here; another's may lead to a host whose robots.txt asks for longer."""


def disobeyed(
    log: Log, world: ChosenWorld, choices: Choices, runs: Mapping[str, Quire]
) -> tuple[list[str], Counter[str]]:
    """What was done against the settings, in words; and how often each setting came to bear.

    Args:
        log: the open log of the library.
        world: the web, which knows what its copies are.
        choices: the settings of the life.
        runs: run → its settings.
    """
    reading = _Reading(world, choices, runs)
    for recorded in events_of(log):
        if recorded.stream.startswith(STREAM_PREFIX) and recorded.run_id in runs:
            reading.tell(recorded)
    return reading.problems, reading.felt


class _Reading:
    """One pass over the log."""

    def __init__(self, world: ChosenWorld, choices: Choices, runs: Mapping[str, Quire]) -> None:
        self.problems: list[str] = []
        self.felt: Counter[str] = Counter()
        self._world = world
        self._others = world.others()
        self._choices = choices
        self._runs = runs
        self._jobs: set[str] = set()
        self._opened: dict[str, dict[str, Place]] = {}
        """Job → the copies that Unpaywall's turn has opened, with their places in the user's order."""
        self._ends: dict[str, dict[str, tuple[str, str]]] = {}
        """Job → how the last turn of each source ended in this generation."""

    def tell(self, recorded: Recorded[Any]) -> None:
        """Take in the next event of a job."""
        job_id, event = recorded.stream[len(STREAM_PREFIX) :], recorded.event
        self._jobs.add(job_id)
        for wrong in self._wrong(job_id, event, self._runs[recorded.run_id]):
            self.problems.append(f"job {job_id}, at {recorded.position}: {wrong}")

    def _wrong(self, job_id: str, event: Event, settings: Quire) -> list[str]:
        found: list[str | None] = []
        if isinstance(event, OperationStarted):
            found = [self._outside(job_id, settings), *self._copy(job_id, event)]
        elif isinstance(event, OperationCompleted):
            self.felt["title_refused"] += event.result.get("reason") == "other_article"
        elif isinstance(event, JobWaiting):
            self.felt[f"waited_{event.reason}"] += 1
            if event.reason == "offline" and not settings.web.offline:
                found = ["waits for the network in a run that has it"]
        elif isinstance(event, FallbackAttempt):
            self._ends.setdefault(job_id, {})[event.source] = (event.outcome, event.reason)
            found = [self._gated(event)]
        elif isinstance(event, JobRequeued):
            self._ends.pop(job_id, None)
        elif isinstance(event, FallbackSummary):
            found = [self._given_up(job_id, event)]
        elif isinstance(event, JobStateChanged):
            found = [self._title(event)]
        return [wrong for wrong in found if wrong]

    def _outside(self, job_id: str, settings: Quire) -> str | None:
        percent = settings.fallback.rollout.percent
        if int(job_id[:8], 16) % 100 < percent:
            return None
        return f"was worked on, and is outside the {percent} % that may be"

    def _copy(self, job_id: str, event: OperationStarted) -> list[str | None]:
        """A copy that is opened is one the user takes, and comes after those that are liked better."""
        about = event.about
        if event.kind == "FALLBACK" and about.get("source") == UNPAYWALL:
            self._opened.pop(job_id, None)
        if event.kind != "HEAD":
            return []
        url = str(about["url"])
        if self._world.unwanted(url):
            return [f"opened {url}, a copy of a version that is never taken"]
        location = self._world.locations.get(url)
        if location is None or about.get("source") != UNPAYWALL:
            return []
        opened = self._opened.setdefault(job_id, {})
        if url in opened:  # its stream broke, and it is tried again after the others
            return []
        before = max(opened.values(), default=None)
        place = opened[url] = location.place(self._choices)
        self.felt["second_copies"] += before is not None
        return [f"opened {url} after a copy that is liked less" if before and before > place else None]

    def _gated(self, event: FallbackAttempt) -> str | None:
        """A source is passed over by the gates that are set, and by no other."""
        if event.outcome != "skipped" or event.reason not in PASSED_OVER:
            return None
        self.felt[f"passed_over_{event.reason}"] += 1
        patient = self._choices.rate_wait_max_ms >= PATIENT_MS and len(self._jobs) <= IN_TIME_MAX
        if event.reason == "rate_wait" and patient and event.source == ARXIV:
            return f"{event.source} was passed over for a rate wait that its gate lets through"
        if event.reason == "breaker_open" and not event.attempt and not self._choices.breaker_gate:
            return f"{event.source} was passed over for an open breaker, and its gate is off"
        return None

    def _title(self, event: JobStateChanged) -> str | None:
        """What stands in the log of a PDF's title is what the user wants to know of it."""
        if event.artifact is None or event.state != "FINALIZED":
            return None
        check = event.artifact.title_check
        other = event.artifact.sha256 in self._others
        self.felt[f"title_{self._choices.title}_other"] += other
        if self._choices.title == "off":
            return f"its title was checked ({check}), and is not to be" if check else None
        return (
            f"is another article, and its title check says {check!r}"
            if other and check != "mismatch"
            else None
        )

    def _given_up(self, job_id: str, event: FallbackSummary) -> str | None:
        """Who was only passed over has not had its turn: the work is not exhausted."""
        if event.outcome != "no_pdf":
            return None
        ends = self._ends.get(job_id, {}).items()
        waiting = [name for name, (how, why) in ends if how == "skipped" and why in PASSED_OVER]
        return f"was given up as {event.reason} while {', '.join(waiting)} waited" if waiting else None
