"""Upcasters: how events of an earlier schema are read as those of the next. Pure; a log is never rewritten.

Each takes an event as plain ``[tag, field, …]`` of its schema and gives it in the next; what it does not
concern goes through unchanged. They stay for good, and so do the golden logs that were written before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_SUMMARY, _PATH = "fallback_summary", 8
"""Tag of the summary, and the place of its path."""


def from_1(event: list[Any]) -> list[Any]:
    """From texts ``source:outcome`` to steps of a summary's path: schema 2 tells the reason too.

    Why a step ended so was not kept before: its reason is ``""``.

    Raises:
        ValueError: a step is no such text.
    """
    if event[0] != _SUMMARY or len(event) <= _PATH:
        return event
    return [*event[:_PATH], [_step(text) for text in event[_PATH]], *event[_PATH + 1 :]]


def _step(text: Any) -> list[str]:
    # From the right: an outcome has no colon, the name of a user's own source may have one.
    source, colon, outcome = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not colon:
        raise ValueError(f"a step of a path is no text source:outcome: {text!r:.80}")
    return [source, outcome, ""]


UPCASTERS: Mapping[int, Callable[[list[Any]], list[Any]]] = {1: from_1}
"""Schema → what lifts an event of it to the next."""
