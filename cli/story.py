"""What became of a job, as a person would tell it: the turns of its sources, and what came between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..actors.sources.finding import Reason
from ..events import facts
from ..events.record import Recorded
from . import output
from .rests import retold
from .words import OUTCOMES, in_words, whose, words_for

_UNFINISHED = "in hand"
_BROKEN_OFF = frozenset({"owner_gone", "beaten", "stopped", "cancelled"})
"""Reasons of turns that began and were passed over then."""
_LOST = "owner_gone"
_TOLD = (facts.WorkIdentified, facts.JobWaiting, facts.JobRequeued)
"""Events that have a line of their own between the turns; a lease has one only if it changed hands."""


@dataclass
class Visit:
    """A URL that a turn opened, and what came of it."""

    url: str
    came: list[str] = field(default_factory=list)

    def tell(self, words: str) -> None:
        """Something more came of it; what was said just before is not said again."""
        if self.came[-1:] != [words]:
            self.came.append(words)


@dataclass
class Turn:
    """A source's turn."""

    source: str
    generation: int
    attempt: int
    """Its number within the generation; 0 where the source was passed over."""
    tier: str = ""
    outcome: str = ""
    """One of the outcomes of an attempt; ``""`` while it is in hand."""
    reason: str = ""
    because: str = ""
    """The sentence for the reason."""
    advice: str = ""
    host: str = ""
    status: int = 0
    elapsed_ms: int = 0
    retry_count: int = 0
    visits: list[Visit] = field(default_factory=list)

    def end(self, event: facts.FallbackAttempt, said: Reason | None = None) -> None:
        """It is over; ``said`` stands in the place of what its reason usually means."""
        self.tier, self.outcome, self.reason = event.tier, event.outcome, event.reason
        self.host, self.status = event.host, event.status
        self.elapsed_ms, self.retry_count = event.elapsed_ms, event.retry_count
        self.because, self.advice = said or words_for(event.reason)
        if event.outcome == "success":
            self.because = output.human_bytes(event.length)

    @property
    def outcome_in_words(self) -> str:
        """How it ended, for people."""
        if self.attempt and self.reason in _BROKEN_OFF:
            return "broken off"
        return OUTCOMES.get(self.outcome, self.outcome) or _UNFINISHED


@dataclass
class Note:
    """Something between the turns."""

    time: str
    words: str


class Story:
    """The turns and notes of a job, told from its events in order.

    ``by_hand``: position → what an open breaker means there, where somebody opened it.
    """

    def __init__(self, events: Iterable[Recorded[Any]], *, by_hand: Mapping[int, Reason] = {}) -> None:
        self._by_hand = by_hand
        self.waits_by_hand: Reason | None = None
        """Why it waits, where it is for a breaker that somebody opened."""
        self.parts: list[Turn | Note] = []
        """In the order in which they began."""
        self._open: dict[str, Turn] = {}
        self._visits: dict[str, Visit] = {}
        self._generation = 1
        self._replays = 0
        for recorded in events:
            self._tell(recorded)
        self._tell_replays("")

    def __repr__(self) -> str:
        return f"<Story of {len(self.turns)} turns in {self._generation} generations>"

    @property
    def turns(self) -> list[Turn]:
        """The turns alone."""
        return [part for part in self.parts if isinstance(part, Turn)]

    def advice(self) -> list[str]:
        """What could be done after the turns of the last generation, each piece once."""
        last = [turn for turn in self.turns if turn.generation == self._generation]
        return list(dict.fromkeys(turn.advice for turn in last if turn.advice))

    def _tell(self, recorded: Recorded[Any]) -> None:
        event = recorded.event
        time = output.iso_time(recorded.time_ns)
        if isinstance(event, facts.OperationStarted):
            self._started(event)
        elif isinstance(event, facts.OperationCompleted):
            self._completed(event, self._by_hand.get(recorded.position))
        elif isinstance(event, facts.FallbackAttempt):
            self._attempt(event, self._by_hand.get(recorded.position))
        elif isinstance(event, facts.IdempotencyReplay):
            self._replays += 1
        elif isinstance(event, facts.CrashRecovery):
            self._recovered(event, time)
        elif isinstance(event, _TOLD) or (isinstance(event, facts.JobLeased) and event.takeover):
            said = self._by_hand.get(recorded.position)
            if isinstance(event, facts.JobWaiting):
                self.waits_by_hand = said
            self._tell_replays(time)
            self.parts.append(Note(time, retold(in_words(event, {}), said)))
        if isinstance(event, facts.JobRequeued):
            self._generation = event.generation
            self._open.clear()

    def _recovered(self, event: facts.CrashRecovery, time: str) -> None:
        """Effects that were in flight at one death share a line."""
        head = f"In flight when {whose(event)}, with the rule for it: "
        rule = f"{event.kind} ({event.rule})"
        last = self.parts[-1] if self.parts else None
        if isinstance(last, Note) and last.words.startswith(head):
            last.words += f", {rule}"
        else:
            self.parts.append(Note(time, head + rule))

    def _tell_replays(self, time: str) -> None:
        """Replays come in flocks; one line says how many there were."""
        if self._replays:
            self.parts.append(Note(time, f"{self._replays} results of before were used again, not redone."))
        self._replays = 0

    def _started(self, event: facts.OperationStarted) -> None:
        if event.kind == "FALLBACK":
            turn = Turn(str(event.about["source"]), self._generation, int(event.about["attempt"]))
            self._open[turn.source] = turn
            self.parts.append(turn)
        elif event.kind == "HEAD":
            self._visit(event)
        elif event.kind == "STREAM":
            self._visits[event.op_id] = self._visit_of(event)
        elif event.kind == "FINALIZE" and self._visits:
            self._visits[event.op_id] = next(reversed(self._visits.values()))

    def _visit(self, event: facts.OperationStarted) -> Visit:
        """A visit of the turn that opens the URL; a URL asked again in the same turn is one visit."""
        turn, url = self._turn_that_opens(event.about), str(event.about.get("url", ""))
        known = (visit for visit in turn.visits if visit.url == url) if turn else ()
        visit = next(iter(known), None)
        if visit is None:
            visit = Visit(url)
            if turn is not None:
                turn.visits.append(visit)
        self._visits[event.op_id] = visit
        return visit

    def _visit_of(self, event: facts.OperationStarted) -> Visit:
        """The visit whose bytes are streamed."""
        url = event.about.get("url")
        same = (visit for visit in reversed(self._visits.values()) if visit.url == url)
        return next(same, None) or self._visit(event)

    def _turn_that_opens(self, about: dict[str, facts.Value]) -> Turn | None:
        """By its name; else by the rule that found the URL; else the one that began last."""
        named = self._open.get(str(about.get("source", "")))
        if named is not None:
            return named
        rule = str(about.get("rule", "")).split("_")[0]
        by_rule = [turn for source, turn in self._open.items() if rule and source.startswith(rule)]
        reader = [turn for source, turn in self._open.items() if source == "landing_scrape_pdf"]
        begun = by_rule or reader or list(self._open.values())
        return begun[-1] if begun else None

    def _completed(self, event: facts.OperationCompleted, said: Reason | None) -> None:
        visit = self._visits.get(event.op_id)
        reason = str(event.result.get("reason", ""))
        if event.kind == "FALLBACK" and reason == _LOST:
            self._gave_up(event)
        elif visit is None:
            return
        elif event.code != "OK":
            status = event.result.get("status")
            http = f" (HTTP {status})" if status and not reason.startswith("http_") else ""
            visit.tell(retold(words_for(reason)[0], said) + http)
        elif event.kind == "STREAM":
            visit.tell(f"A PDF of {output.human_bytes(int(event.result.get('bytes', 0)))}.")

    def _gave_up(self, event: facts.OperationCompleted) -> None:
        """A dead owner's turn has no attempt of its own in the log."""
        for turn in self._open.values():
            if not turn.outcome:
                turn.outcome, turn.reason, turn.elapsed_ms = "skipped", _LOST, event.elapsed_ms
                turn.because, turn.advice = words_for(_LOST)
                return

    def _attempt(self, event: facts.FallbackAttempt, said: Reason | None) -> None:
        turn = self._open.pop(event.source, None) if event.attempt else None
        if turn is None:
            turn = Turn(event.source, self._generation, event.attempt)
            self.parts.append(turn)
        turn.end(event, said)
