"""``explain``: what became of one job, every step of it from the log, in plain words."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..actors.sources.finding import explained
from ..errors import UsageError
from ..events import facts
from ..events.facts import type_of
from ..events.job import JobRow, State, stream_of
from ..events.keys import job_key
from ..events.projections import JOBS, job_id_of, job_row_key
from ..events.record import Recorded
from ..events.work import parse_work
from ..store.interface import READ_LIMIT, EventStore
from . import output
from .log import opened

PREFIX_DIGITS_MIN = 6
"""Hex digits of a job id that are enough to name it, if only one job begins so."""
NAMED_MAX = 10
"""Jobs that are listed where a word names several."""

_BUDGET = "The time or the attempts for this work ran out before a source had it."
_REASONS: dict[str, tuple[str, str]] = {
    "exhausted": ("Every source had its turn, and none led to a PDF.", "See each turn above."),
    "budget_exhausted": (_BUDGET, "Raise fallback.budgets, or use --profile reliable, and retry."),
    "poison": (
        "The job killed its worker again and again, at last when it ran alone.",
        "Please report it; `quire retry` tries once more.",
    ),
    "rollout": (
        "The job is outside the share of works that may be fetched.",
        "Raise fallback.rollout.percent.",
    ),
}
"""Reasons of whole jobs → the sentence, and what could be done; those of turns stand with the sources."""
_STATES = {
    "LEASED": "The work was taken up.",
    "HEAD_DONE": "A candidate answered with the first bytes of a PDF.",
    "RESUME_OK": "A part from before can be continued.",
    "STREAMING": "The PDF began to stream to the disk.",
    "FINALIZED": "The PDF was whole, was checked and got its place.",
    "INDEXED": "The PDF is in the library.",
    "DEDUPED": "The library held the same bytes already; the work points to them.",
    "SKIPPED_DUPLICATE": "The library held what this work leads to; nothing was asked of the network.",
    "FAILED": "The work failed.",
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
    "ABANDONED": "was given up, since its owner is gone",
}


def find_job(store: EventStore, text: str) -> str:
    """The job that a word names: a job id or its start, an identifier, a label, or a title.

    Raises:
        UsageError: none or several are named so.
    """
    found = _by_job_id(store, text.lower()) or _by_identity(store, text) or _by_any_name(store, text)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{text}: no job of this library is named so; `quire list` shows them")
    shown = "\n  ".join(found[:NAMED_MAX])
    raise UsageError(f"{text}: names {len(found)} jobs; give one job id:\n  {shown}")


def _by_job_id(store: EventStore, text: str) -> list[str]:
    if not re.fullmatch(rf"[0-9a-f]{{{PREFIX_DIGITS_MIN},64}}", text):
        return []
    even = bytes.fromhex(text[: len(text) // 2 * 2])
    return [name for key, _ in store.scan(JOBS, even) if (name := job_id_of(key)).startswith(text)]


def _by_identity(store: EventStore, text: str) -> list[str]:
    work = parse_work(text)
    if work is None:
        return []
    job_id = job_key(work)
    return [job_id] if store.rows(JOBS, [job_row_key(job_id)])[0] is not None else []


def _by_any_name(store: EventStore, text: str) -> list[str]:
    """By what is no key: an identifier learned on the way, a label, a title. Looks at every job."""
    work = parse_work(text)
    wanted = set(work.identifiers()) if work else set()
    found: list[str] = []
    page = store.scan(JOBS)
    while page:
        for key, row in page:
            names = (row.label, row.work.title, row.work.work_id)
            if text in names or not wanted.isdisjoint(row.work.identifiers()):
                found.append(job_id_of(key))
        page = store.scan(JOBS, after=page[-1][0]) if len(page) >= READ_LIMIT else []
    return found


def events_of(store: EventStore, job_id: str) -> Iterator[Recorded[Any]]:
    """All events of a job."""
    page = store.read_stream(stream_of(job_id))
    while page:
        yield from page
        page = store.read_stream(stream_of(job_id), page[-1].version)


def words_for(reason: str) -> tuple[str, str]:
    """The sentence for a reason code and what could be done; the code itself where no words are known."""
    if reason in _REASONS:
        return _REASONS[reason]
    words = explained(reason)
    if words is None:
        return (reason and f"Reason: {reason}.", "")
    status = reason.removeprefix("http_")
    return (words.means if status == reason else f"{words.means[:-1]}: {status}."), words.advice


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
    said = _STATES.get(event.state, event.state)
    if event.state == State.FAILED:
        again = "It will be tried again." if event.may_retry else "It will not be tried again by itself."
        return f"{said} {words_for(event.reason)[0]} {again}".replace("  ", " ")
    if event.artifact is None:
        return said
    size = output.human_bytes(event.artifact.bytes)
    return f"{said} {size} from {event.artifact.source or 'what was held'}, SHA-256 {event.artifact.sha256}."


def _waiting(event: facts.JobWaiting) -> str:
    whom = f" for {', '.join(event.sources)}" if event.sources else ""
    return f"It waits{whom} until {output.iso_time(event.not_before_ns)}. {words_for(event.reason)[0]}"


def _requeued(event: facts.JobRequeued) -> str:
    when = f", not before {output.iso_time(event.not_before_ns)}" if event.not_before_ns else ""
    return f"It gets another try, number {event.generation} ({event.reason}){when}."


def _op(kind: str, about: dict[str, Any]) -> str:
    try:
        return _OPS.get(kind, kind).format_map(about)
    except KeyError:
        return kind.lower()


def _started(event: facts.OperationStarted) -> str:
    return f"Began {_op(event.kind, event.about)}."


def _completed(event: facts.OperationCompleted, about: dict[str, Any]) -> str:
    what = _op(event.kind, about)
    words = words_for(str(event.result.get("reason", "")))[0]
    return f"{what[0].upper()}{what[1:]} {_CODES[event.code]} after {event.elapsed_ms} ms. {words}".rstrip()


def _replayed(event: facts.IdempotencyReplay) -> str:
    return f"{event.kind} was done before; its result was used again."


def _recovered(event: facts.CrashRecovery) -> str:
    return f"{event.kind} was in flight when worker {event.dead_worker} died; the rule is: {event.rule}."


def _attempt(event: facts.FallbackAttempt) -> str:
    where = f" at {event.host}" if event.host else ""
    status = f", HTTP {event.status}" if event.status else ""
    tries = f", {event.retry_count} retries" if event.retry_count else ""
    turn = f"Turn {event.attempt}, " if event.attempt else ""
    head = f"{turn}{event.source} ({event.tier}){where}: {event.outcome}{status}"
    tail = f" {event.url}" if event.url else f" {words_for(event.reason)[0]}"
    return f"{head} in {event.elapsed_ms} ms{tries}.{tail}".rstrip()


def _summary(event: facts.FallbackSummary) -> str:
    if event.winner_source:
        return f"{event.winner_source} won after {event.attempts} turns and {event.time_to_success_ms} ms."
    return f"The search ended after {event.attempts} turns: {words_for(event.reason)[0]}"


_WORDS: dict[type, Callable[[Any], str]] = {
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
}


def in_words(event: facts.Event, about: dict[str, Any]) -> str:
    """One event as a sentence; ``about`` says what an op that ended was about."""
    if isinstance(event, facts.OperationCompleted):
        return _completed(event, about)
    words = _WORDS.get(type(event))
    return words(event) if words else type_of(event)


def steps_of(events: Iterable[Recorded[Any]]) -> Iterator[dict[str, Any]]:
    """Each event of a job as a step with its words."""
    abouts: dict[str, dict[str, Any]] = {}
    for recorded in events:
        event = recorded.event
        if isinstance(event, facts.OperationStarted):
            abouts[event.op_id] = event.about
        yield _step(recorded, abouts.get(getattr(event, "op_id", ""), {}))


def _step(recorded: Recorded[Any], about: dict[str, Any]) -> dict[str, Any]:
    event = recorded.event
    step = {
        "position": recorded.position,
        "time": output.iso_time(recorded.time_ns),
        "epoch": recorded.epoch,
        "type": type_of(event),
        "words": in_words(event, about),
    }
    if isinstance(event, facts.FallbackAttempt):
        step |= {
            name: getattr(event, name)
            for name in ("tier", "source", "outcome", "reason", "host", "status", "elapsed_ms", "url")
        }
    return step


def explain(args: argparse.Namespace) -> int:
    """``quire explain``: the story of one job."""
    from .status import as_line  # status is built on this module

    with opened(args) as (store, *_):
        job_id = find_job(store, args.work)
        row: JobRow = store.rows(JOBS, [job_row_key(job_id)])[0]
        steps = list(steps_of(events_of(store, job_id)))
    line = as_line(job_id, row)
    because, advice = _verdict(row)
    if args.json:
        output.say_json({**line, "because": because, "advice": advice, "steps": steps})
        return 0
    output.say(f"{row.work.work_id}  (job {job_id})")
    known = {k: v for k, v in msgspec.structs.asdict(row.work).items() if v}
    output.say("  " + ", ".join(f"{name} {value}" for name, value in known.items()))
    output.say()
    for step in steps:
        output.say(f"{step['position']:>8}  {step['time']}  {step['words']}")
    output.say()
    output.say(f"{row.state}, generation {row.generation}: {because}" + (f" {advice}" if advice else ""))
    return 0


def _verdict(row: JobRow) -> tuple[str, str]:
    """Why it is as it is, and what could be done."""
    if row.home:
        return _STATES[row.state], ""
    if row.state is State.FAILED:
        means, advice = words_for(row.reason)
        return means, advice or "`quire retry` opens another try."
    if row.waiting:
        means, advice = words_for(row.reason)
        return f"It waits until {output.iso_time(row.not_before_ns)}. {means}", advice
    if row.lease is not None:
        return f"Worker {row.lease.worker} has it in hand.", ""
    return "It has not been taken up.", "Go on with `quire resume`."
