"""Works that a list names more than once, and where it did so first."""

from __future__ import annotations

from ..actors.outcome import Wanted
from ..events.keys import job_key
from .fields import Entry

REMEMBERED_MAX = 200_000
"""Works whose place is remembered, about 150 bytes each; repeats of later ones are counted, not placed."""


class Repeats:
    """The places where works were first named; two names of one work that share no identifier are two."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._places: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Repeats of {len(self._places)} works>"

    def told(self, entry: Entry) -> str:
        """What to say of an entry whose work was named before; ``""`` of any other."""
        if not isinstance(entry.item, Wanted):
            return ""
        short = int(job_key(entry.item.work)[:16], 16)
        place = self._places.get(short)
        if place is not None:
            number, line = divmod(place, 1 << 32)
            first = f"{list(self._files)[number]}:{line}"
            return f"{entry.file}:{entry.line}: {entry.item.work.work_id} is named at {first} already"
        if len(self._places) < REMEMBERED_MAX:
            self._places[short] = self._files.setdefault(entry.file, len(self._files)) << 32 | entry.line
        return ""
