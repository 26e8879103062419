"""Paths into JSON, as users write them: ``.oa_locations[0].url_for_pdf``. Pure.

The part of JSPath (https://github.com/dfilatov/jspath) that addresses are found with: names joined by dots,
``"quoted names"``, ``[0]`` and ``[-1]``, ``*`` for everything, and ``.`` alone for the answer itself. A name
is looked for in each object of a list, so no step needs to say that it goes through one.
"""

from __future__ import annotations

import functools
import re
from typing import Any

STEPS_MAX = 32
"""Steps of one path."""
VALUES_MAX = 1000
"""Values that a step may lead to; an answer that holds more is cut."""

Step = str | int | None
"""A name; a place among what matched so far, from 0, or from the end where negative; None for everything."""

_STEP = re.compile(
    r"""(?:\.|^)(?:(?P<name>[\w@-]+)|"(?P<quoted>[^"]+)"|(?P<all>\*))"""
    r"""|\[\s*(?:(?P<at>-?\d{1,6})|"(?P<key>[^"]+)"|'(?P<key2>[^']+)'|(?P<every>\*))\s*\]"""
)


@functools.lru_cache(maxsize=256)
def steps_of(path: str) -> tuple[Step, ...]:
    """The steps of a path.

    Raises:
        ValueError: it cannot be read; the message says from where on.
    """
    text = path.strip()
    steps: list[Step] = []
    at = 1 if text == "." or text.startswith(".[") else 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or len(steps) == STEPS_MAX:
            raise ValueError(f"cannot be read from {text[at : at + 40]!r} on")
        steps.append(_step(found))
        at = found.end()
    if not text:
        raise ValueError("is empty")
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["at"] is not None:
        return int(found["at"])
    return found["name"] or found["quoted"] or found["key"] or found["key2"]


def values_at(value: Any, path: str) -> list[Any]:
    """What a path leads to in a decoded JSON value, lists opened; nothing where it leads nowhere.

    Raises:
        ValueError: the path cannot be read.
    """
    values = _opened([value])
    for step in steps_of(path):
        values = _opened(_stepped(values, step))
    return values


def _stepped(values: list[Any], step: Step) -> list[Any]:
    if isinstance(step, int):
        return values[step:][:1] if -len(values) <= step < len(values) else []
    inside = [value for value in values if isinstance(value, dict)]
    if step is None:
        return [one for value in inside for one in value.values()]
    return [value[step] for value in inside if step in value]


def _opened(values: list[Any]) -> list[Any]:
    """The values with each list replaced by what is in it."""
    opened: list[Any] = []
    for value in values:
        opened.extend(value if isinstance(value, list) else [value])
        if len(opened) >= VALUES_MAX:
            break
    return opened[:VALUES_MAX]
