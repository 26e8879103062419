"""The log in plain words: a sentence for each event, and for each reason what it means and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..actors.sources.finding import Reason, explained
from ..events import facts
from ..events.facts import type_of
from ..events.job import JobRow, State
from ..events.projections import PARKED_NS
from . import output

_NOTHING = ""
_OF_JOBS: dict[str, Reason] = {
    "rollout": Reason(
        "The job is outside the share of works that may be fetched.", "Raise fallback.rollout.percent."
    ),
    "beaten": Reason("Another source showed a PDF first.", _NOTHING),
    "stopped": Reason("It was no longer needed.", _NOTHING),
    "cancelled": Reason("It was cancelled.", _NOTHING),
    "owner_gone": Reason("Its worker died.", _NOTHING),
    "object_damaged": Reason("The paper's file in the library was found gone or damaged.", _NOTHING),
    "run_again": Reason("The list was run again.", _NOTHING),
    "retry_failed": Reason("`--retry-failed` asked for it.", _NOTHING),
    "breaker_closed": Reason("The breaker of a host was opened for requests before its time.", _NOTHING),
    "clock_set_back": Reason("The machine's clock was set back; what waited by it is tried now.", _NOTHING),
}
"""Reasons that stand with no source."""
STATES = {
    "PLANNED": "The work is planned.",
    "LEASED": "The work was taken up.",
    "HEAD_DONE": "A candidate answered with the first bytes of a PDF.",
    "RESUME_OK": "A part from before can be continued.",
    "STREAMING": "The PDF began to stream to the disk.",
    "FINALIZED": "The PDF was whole, was checked and got its place.",
    "INDEXED": "The PDF is in the library.",
    "DEDUPED": "The library held the same bytes already; the work points to them.",
    "SKIPPED_DUPLICATE": "The library held what this work leads to; no PDF was asked for.",
    "FAILED": "The work failed.",
}
TITLE_CHECKS = {
    "doi": "Its text shows the work's DOI.",
    "arxiv": "Its text shows the work's arXiv id.",
    "title": "Its text shows the work's title.",
    "mismatch": "Its text shows neither the work's DOI nor its title: it may be another article.",
    "no_text": "It has no text that could show the work's title.",
    "unknown": "Whether its text is the work's cannot be told.",
}
"""What a PDF's text shows of the work → a sentence."""
OUTCOMES = {
    "success": "got the PDF",
    "no_pdf": "no PDF",
    "nonretryable": "refused",
    "retryable": "failed for now",
    "timeout": "out of time",
    "skipped": "passed over",
    "error": "met an error",
}
_OPS = {
    "HEAD": "opening {url}",
    "STREAM": "streaming {url}",
    "FALLBACK": "the turn of {source}",
    "RESOLUTION": "the search for a PDF",
    "FINALIZE": "putting {sha256} in place",
    "INDEX": "entering {sha256}",
    "DEDUPE": "pointing to {sha256}",
}
_CODES = {
    "OK": "succeeded",
    "RETRYABLE": "failed for now",
    "NON_RETRYABLE": "failed for good",
    "ABANDONED": "was given up",
}


def words_for(reason: str) -> tuple[str, str]:
    """The sentence for a reason code and what could be done; the code itself where no words are known."""
    words = _OF_JOBS.get(reason) or explained(reason)
    if words is None:
        return (reason and f"Reason: {reason}.", "")
    status = reason.removeprefix("http_")
    return (words.means if status == reason else f"{words.means[:-1]}: {status}."), words.advice


def outlook_of(row: JobRow) -> str:
    """Whether a failed work is tried again without being asked for, and by what."""
    if row.may_retry:
        return "for now, and may be tried again by the next run of its list"
    return "for good, until `quire retry`"


def _planned(event: facts.JobPlanned) -> str:
    label = f", as {event.label}" if event.label else ""
    return f"{event.work.work_id} was asked for by list {event.list_id}{label}."


def _listed(event: facts.JobListed) -> str:
    return f"List {event.list_id} asked for it as well."


def _identified(event: facts.WorkIdentified) -> str:
    known = ", ".join(f"{scheme} {value}" for scheme, value in event.work.identifiers())
    return f"{event.source} told more about it: {known or event.work.title}."


def _leased(event: facts.JobLeased) -> str:
    how = " from an owner that died or fell silent" if event.takeover else ""
    return f"Worker {event.worker} took it{how}{', to run it alone' if event.alone else ''}."


def _renewed(_event: facts.LeaseRenewed) -> str:
    return "Its worker said that it is alive."


def _released(event: facts.LeaseReleased) -> str:
    return f"Its worker let it go ({event.reason})."


def _changed(event: facts.JobStateChanged) -> str:
    said = STATES.get(event.state, event.state)
    if event.state == State.FAILED:
        again = "It will be tried again." if event.may_retry else "It will not be tried again by itself."
        return f"{said} {words_for(event.reason)[0]} {again}".replace("  ", " ")
    if event.artifact is None:
        return said
    size = output.human_bytes(event.artifact.bytes)
    whence = event.artifact.source or "what was held"
    shown = TITLE_CHECKS.get(event.artifact.title_check, "") if event.state == State.FINALIZED else ""
    return f"{said} {size} from {whence}, SHA-256 {event.artifact.sha256}. {shown}".rstrip()


def _waiting(event: facts.JobWaiting) -> str:
    if not event.not_before_ns:
        return f"It need not wait any longer. {words_for(event.reason)[0]}"
    whom = f" for {', '.join(event.sources)}" if event.sources else ""
    return f"It waits{whom} {until(event.not_before_ns)}. {words_for(event.reason)[0]}"


def until(not_before_ns: int) -> str:
    """Until when a job waits, in words."""
    if not_before_ns >= PARKED_NS:
        return "for a run whose settings let it through"
    return f"until {output.iso_time(not_before_ns)}"


def _requeued(event: facts.JobRequeued) -> str:
    when = f" not before {output.iso_time(event.not_before_ns)}" if event.not_before_ns else ""
    why = words_for(event.reason)[0].removeprefix("Reason: ")
    return f"It gets another try, generation {event.generation}{when}. {why}".rstrip()


def _op(kind: str, about: dict[str, Any]) -> str:
    try:
        return _OPS.get(kind, kind).format_map(about)
    except KeyError:
        return kind.lower()


def _started(event: facts.OperationStarted) -> str:
    return f"Began {_op(event.kind, event.about)}."


def _completed(event: facts.OperationCompleted, about: dict[str, Any]) -> str:
    what = _op(event.kind, about)
    reason = str(event.result.get("reason", ""))
    took = f" after {event.elapsed_ms} ms" if event.elapsed_ms else ""
    why = f" {words_for(reason)[0]}" if reason else ""
    healed = event.result.get("healed")
    how = f" It replaced a damaged file of these bytes ({healed})." if healed else ""
    return f"{what[0].upper()}{what[1:]} {_CODES[event.code]}{took}.{why}{how}"


def _replayed(event: facts.IdempotencyReplay) -> str:
    return f"{event.kind} was done before; its result was used again."


def _recovered(event: facts.CrashRecovery) -> str:
    return f"{event.kind} was in flight when {whose(event)}; the rule is: {event.rule}."


def whose(event: facts.CrashRecovery) -> str:
    """By what end an effect was left in flight; an owner that let go in order is not named by the log."""
    return f"worker {event.dead_worker} died" if event.dead_worker else "its worker stopped"


def _attempt(event: facts.FallbackAttempt) -> str:
    where = f" at {event.host}" if event.host else ""
    status = f", HTTP {event.status}" if event.status else ""
    tries = f", {event.retry_count} retries" if event.retry_count else ""
    turn = f"Turn {event.attempt}, " if event.attempt else ""
    head = f"{turn}{event.source} ({event.tier}){where}: {event.outcome}{status}"
    tail = f" {event.url}" if event.url else f" {words_for(event.reason)[0]}"
    return f"{head} in {event.elapsed_ms} ms{tries}.{tail}".rstrip()


def _summary(event: facts.FallbackSummary) -> str:
    missed = ", ".join(f"{s.source} ({s.reason or s.outcome})" for s in event.path if s.outcome != "success")
    if event.winner_source:
        others = f" Others: {missed}." if missed else ""
        took = f"{event.attempts} turns and {event.time_to_success_ms} ms"
        return f"{event.winner_source} won after {took}.{others}"
    order = f" In order: {missed}." if missed else ""
    return f"The search ended after {event.attempts} turns: {words_for(event.reason)[0]}{order}"


def _paged(event: facts.QueryPaged) -> str:
    rest = "there are more" if event.cursor else "that was the last page"
    return f"{event.service} listed {event.works} of {event.count} works for {event.query}; {rest}."


WORDS: dict[type, Callable[[Any], str]] = {
    facts.JobPlanned: _planned,
    facts.JobListed: _listed,
    facts.WorkIdentified: _identified,
    facts.JobLeased: _leased,
    facts.LeaseRenewed: _renewed,
    facts.LeaseReleased: _released,
    facts.JobStateChanged: _changed,
    facts.JobWaiting: _waiting,
    facts.JobRequeued: _requeued,
    facts.OperationStarted: _started,
    facts.IdempotencyReplay: _replayed,
    facts.CrashRecovery: _recovered,
    facts.FallbackAttempt: _attempt,
    facts.FallbackSummary: _summary,
    facts.QueryPaged: _paged,
}
"""Event → the function that puts it into a sentence; the end of an op also needs what it was about."""


def in_words(event: facts.Event, about: dict[str, Any]) -> str:
    """One event as a sentence; ``about`` says what an op that ended was about."""
    if isinstance(event, facts.OperationCompleted):
        return _completed(event, about)
    words = WORDS.get(type(event))
    return words(event) if words else type_of(event)
