"""Hosts that somebody leaves alone: what is true where a job's events say that a breaker was open.

The events name the code ``breaker_open``, whose sentence is about hosts that failed. The streams of the hosts
say whether it was that, or ``quire breaker open``; only the log as it stood at that position counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from ..actors.sources.finding import Reason, host_of
from ..actors.web.breaker import AFTER, BY_HAND
from ..events.facts import BreakerChanged, FallbackAttempt, JobWaiting, OperationCompleted, OperationStarted
from ..events.projections import HOST_PREFIX
from ..events.record import Recorded
from ..store.interface import EventStore
from . import output
from .words import words_for

BREAKER = "breaker_open"


def by_hand(store: EventStore, events: Sequence[Recorded[Any]]) -> dict[int, Reason]:
    """Position of an event of a job → what it means, where the breaker that it met was opened by hand."""
    opened = _Openings(store)
    found = {}
    for position, host in _met(events):
        said = opened.said(host, position)
        if said is not None:
            found[position] = said
    return found


def retold(words: str, said: Reason | None) -> str:
    """A sentence about an event, with what was the case in the place of what usually is."""
    return words.replace(words_for(BREAKER)[0], said.means) if said is not None else words


def _met(events: Sequence[Recorded[Any]]) -> list[tuple[int, str]]:
    """The positions that tell of an open breaker, with the host; ``""`` where it is not known."""
    met: list[tuple[int, str]] = []
    opening: dict[str, str] = {}
    by_source: dict[str, str] = {}
    last = ""
    for recorded, following in zip_longest(events, events[1:]):
        event = recorded.event
        if isinstance(event, OperationStarted):
            opening[event.op_id] = host_of(str(event.about.get("url", "")))
        if _reason_of(event) != BREAKER:
            continue
        if isinstance(event, FallbackAttempt):
            last = by_source[event.source] = event.host
            met.append((recorded.position, last))
        elif isinstance(event, JobWaiting):
            named = [by_source[source] for source in event.sources if source in by_source]
            met.append((recorded.position, named[0] if named else last))
        elif isinstance(event, OperationCompleted):
            ends = following.event if following is not None else None
            host = ends.host if isinstance(ends, FallbackAttempt) else last
            met.append((recorded.position, opening.get(event.op_id) or host))
        else:
            met.append((recorded.position, last))
    return met


def _reason_of(event: object) -> str:
    return str(
        event.result.get("reason", "")
        if isinstance(event, OperationCompleted)
        else getattr(event, "reason", "")
    )


class _Openings:
    """The changes of hosts' breakers, each stream read once."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._changes: dict[str, list[Recorded[Any]]] = {}

    def __repr__(self) -> str:
        return f"<_Openings of {len(self._changes)} hosts>"

    def said(self, host: str, position: int) -> Reason | None:
        """What the log said of a host before a position, where somebody had opened its breaker last."""
        before = [one for one in self._of(host) if one.position < position]
        if not before or before[-1].event.state == "closed":
            return None
        opened = next((one for one in reversed(before) if one.event.state == "open"), None)
        why = before[-1].event.reason.removeprefix(AFTER)
        if opened is None or not why.startswith(BY_HAND):
            return None
        because = why.removeprefix(BY_HAND).removeprefix(": ")
        return Reason(
            f"Somebody opened the breaker of {host} by hand at {output.iso_time(opened.time_ns)}: the host "
            f"is left alone until {output.iso_time(opened.event.until_ns)}{because and f' ({because})'}.",
            f"Run the same command again after that, or say `quire breaker close {host}` before.",
        )

    def _of(self, host: str) -> list[Recorded[Any]]:
        if host and host not in self._changes:
            self._changes[host] = self._read(HOST_PREFIX + host)
        return self._changes.get(host, [])

    def _read(self, stream: str) -> list[Recorded[Any]]:
        found: list[Recorded[Any]] = []
        page = self._store.read_stream(stream)
        while page:
            found += [one for one in page if isinstance(one.event, BreakerChanged)]
            page = self._store.read_stream(stream, page[-1].version)
        return found
