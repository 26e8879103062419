"""The log itself: ``log``, ``replay`` and ``rebuild``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from ..actors.runtime.ports import NANOSECONDS
from ..errors import UsageError
from ..events.facts import named, type_of
from ..events.record import Recorded
from ..store.domain import QUIRE
from ..store.interface import READ_LIMIT
from ..store.replay import replay as replayed
from . import output
from .library import opened
from .status import status_of, status_text

FOLLOW_S = 1.0
"""How long one wait for new events lasts, in seconds; Ctrl-C is answered within it."""
_DATA_CHARS = 160


def log(args: argparse.Namespace) -> int:
    """``quire log``: a line per event."""
    with opened(args) as (store, *_):
        after, shown = args.after, 0
        while True:
            events = store.read(after, limit=READ_LIMIT, wait_s=FOLLOW_S if args.follow else 0.0)
            for recorded in events:
                if args.stream in (None, recorded.stream):
                    _print_event(recorded, as_json=args.json)
                    shown += 1
            if events:
                after = events[-1].position
                output.flush()
            elif not args.follow:
                break
    if not shown and args.stream is not None:
        output.warn(f"no event behind position {args.after} is of the stream {args.stream}")
    return 0


def as_line(recorded: Recorded[Any]) -> dict[str, Any]:
    """An event as ``quire log --json`` gives it."""
    return {
        "position": recorded.position,
        "stream": recorded.stream,
        "version": recorded.version,
        "epoch": recorded.epoch,
        "time": output.iso_time(recorded.time_ns),
        "type": type_of(recorded.event),
        "run_id": recorded.run_id,
        "data": named(recorded.event),
    }


def _print_event(recorded: Recorded[Any], *, as_json: bool) -> None:
    line = as_line(recorded)
    if as_json:
        output.say_json(line)
        return
    said = " ".join(
        f"{key}={value}" for key, value in line["data"].items() if value not in ("", 0, None, [], {})
    )
    stream = line["stream"][:20]
    output.say(f"{line['position']:>8}  {line['time']}  {stream:<20}  {line['type']}  {said[:_DATA_CHARS]}")


def moment_of(text: str) -> tuple[int | None, int | None]:
    """A position, or a time in nanoseconds, from what stands behind ``--at``.

    Raises:
        UsageError: it is neither.
    """
    if text.isascii() and text.isdigit():
        return int(text), None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text}: expected a position or a time such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    micro = (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds
    return None, micro * (NANOSECONDS // 1_000_000)


def replay(args: argparse.Namespace) -> int:
    """``quire replay``: the status as it was."""
    position, time_ns = moment_of(args.at)
    with opened(args) as (store, *_):
        head = store.head().position
        if position is not None and position > head:
            raise UsageError(f"--at {position}: the log ends at {head}")
        view = replayed(store, QUIRE, position=position, time_ns=time_ns)
        found = {"position": view.position, "time": output.iso_time(view.time_ns), **status_of(view)}
    if args.json:
        output.say_json(found)
    else:
        output.say(
            f"as of position {view.position} of {head}, {output.iso_time(view.time_ns) or 'the start'}"
        )
        output.say(status_text(found))
    return 0


def rebuild(args: argparse.Namespace) -> int:
    """``quire rebuild``: drop the projections and fold the log anew."""
    with opened(args, readonly=False) as (store, *_):
        store.rebuild()
        output.say(f"the projections are folded anew from {store.head().position} events")
    return 0
