"""``explain``: what became of one work, turn by turn, why, and what could be done."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..actors.sources.finding import Reason
from ..events import facts
from ..events.facts import type_of
from ..events.job import JobRow, State, stream_of
from ..events.projections import JOBS, job_row_key
from ..events.record import Recorded
from ..store.interface import EventStore
from ..store.objects import Objects
from . import output
from .library import as_line, find_job, opened
from .rests import BREAKER, by_hand, retold
from .story import Note, Story, Turn
from .words import STATES, TITLE_CHECKS, in_words, outlook_of, until, words_for

_EXHAUSTED = "exhausted"
_LOOK = (
    "Open the PDF. It stays as it is; in a new library, `--verify-title fail` refuses such a PDF and asks "
    "the next source."
)
_SOURCE_WIDTH = 18
_OUTCOME_WIDTH = 14


def events_of(store: EventStore, job_id: str) -> Iterator[Recorded[Any]]:
    """All events of a job."""
    page = store.read_stream(stream_of(job_id))
    while page:
        yield from page
        page = store.read_stream(stream_of(job_id), page[-1].version)


def steps_of(events: Iterable[Recorded[Any]], said: Mapping[int, Reason]) -> Iterator[dict[str, Any]]:
    """Each event of a job as a step with its words; ``said`` as ``by_hand`` gives it."""
    abouts: dict[str, dict[str, Any]] = {}
    for recorded in events:
        event = recorded.event
        if isinstance(event, facts.OperationStarted):
            abouts[event.op_id] = event.about
        yield {
            "position": recorded.position,
            "time": output.iso_time(recorded.time_ns),
            "epoch": recorded.epoch,
            "type": type_of(event),
            "words": retold(
                in_words(event, abouts.get(getattr(event, "op_id", ""), {})), said.get(recorded.position)
            ),
        }


def explain(args: argparse.Namespace) -> int:
    """``quire explain``: the story of one work."""
    with opened(args) as (store, *_):
        job_id = find_job(store, args.work)
        row: JobRow = store.rows(JOBS, [job_row_key(job_id)])[0]
        events = list(events_of(store, job_id))
        said = by_hand(store, events)
    story, steps = Story(events, by_hand=said), list(steps_of(events, said))
    because, advice = verdict_of(row, story)
    if args.json:
        line = {**as_line(job_id, row), "because": because, "advice": advice}
        output.say_json({**line, "story": [_as_value(part) for part in story.parts], "steps": steps})
        return 0
    output.say(_heading(job_id, row))
    output.say()
    for text in _steps_text(steps) if args.all else _story_text(story):
        output.say(text)
    output.say()
    output.say(f"{row.state}: {because}")
    for number, piece in enumerate(advice):
        output.say(f"  {'what could be done:' if number == 0 else '':<18} {piece}")
    return 0


def _as_value(part: Turn | Note) -> dict[str, Any]:
    return {"kind": type(part).__name__.lower(), **dataclasses.asdict(part)}


def _heading(job_id: str, row: JobRow) -> str:
    known = {name: value for name, value in msgspec.structs.asdict(row.work).items() if value}
    lines = [f"{row.work.work_id}: {row.state}, generation {row.generation}", f"  job {job_id}"]
    if row.label:
        lines.append(f"  label {row.label}")
    if row.work.resolver_url != row.work.url:
        lines.append(f"  page {row.work.resolver_url}")
    return "\n".join([*lines, *(f"  {name} {value}" for name, value in known.items())])


def _steps_text(steps: Iterable[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        yield f"{step['position']:>8}  {step['time']}  {step['words']}"


def _story_text(story: Story) -> Iterator[str]:
    if not story.parts:
        yield "No source has had its turn."
    for part in story.parts:
        if isinstance(part, Note):
            yield f"  -  {part.words}"
            continue
        yield _turn_text(part)
        for visit in part.visits:
            yield f"       {visit.url}"
            for came in visit.came:
                yield f"         {came}"


def _turn_text(turn: Turn) -> str:
    where = f"at {turn.host}: " if turn.host else ""
    took = f"{turn.elapsed_ms} ms" if turn.elapsed_ms else ""
    tries = f" ({turn.retry_count} retries)" if turn.retry_count else ""
    told = f"{where}{turn.because}{tries}"
    number = str(turn.attempt or "")
    source, outcome = f"{turn.source:<{_SOURCE_WIDTH}}", f"{turn.outcome_in_words:<{_OUTCOME_WIDTH}}"
    return f"{number:>3}  {source}  {outcome}  {took:>9}  {told}".rstrip()


def verdict_of(row: JobRow, story: Story) -> tuple[str, list[str]]:
    """Why a work is as it is, and what could be done, each piece once."""
    means, advice = words_for(row.reason)
    if row.home and row.artifact is not None:
        shown = row.artifact.title_check
        told = f"{STATES[row.state]} {_held(row)}. {TITLE_CHECKS.get(shown, '')}".rstrip(" .")
        return told + "." * bool(shown), [_LOOK] if shown == "mismatch" else []
    if row.state is State.FAILED:
        known = story.advice() if row.reason == _EXHAUSTED else []
        known += [advice] if advice else []
        means = f"{means} It failed {outlook_of(row)}."
        return means, [*dict.fromkeys(known), "`quire retry` and then `quire resume` try it once more."]
    if row.waiting:
        if row.reason == BREAKER and story.waits_by_hand is not None:
            means, advice = story.waits_by_hand
        return f"It waits {until(row.not_before_ns)}. {means}", [advice] if advice else []
    if row.lease is not None:
        return f"Worker {row.lease.worker} has it in hand.", []
    return "It has not been taken up.", ["Go on with `quire resume`."]


def _held(row: JobRow) -> str:
    if row.artifact is None:
        return ""
    size, source = output.human_bytes(row.artifact.bytes), row.artifact.source or "what was held"
    return f"{size} from {source}, at {Objects.relative_path(row.artifact.sha256)}"
