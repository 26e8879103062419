"""Works that a list names more than once, under one name or several, and where it did so first."""

from __future__ import annotations

import hashlib

from ..actors.outcome import Wanted
from ..events.work import Work
from .fields import Entry

NAMES_MAX = 200_000
"""Names whose place is remembered, about 150 bytes each (30 MB); repeats of later ones are not placed."""
_LINES = 1 << 32


class Repeats:
    """The places where works were first named.

    A work has a name for each of its identifiers. One that comes again under its strongest is the same job;
    one that shares only another (a paper by its DOI here, by its arXiv id there) is a job of its own that
    leads to the same paper. Two names that share no identifier in the list are two.
    """

    def __init__(self) -> None:
        self.twice = 0
        """Works named again under the same name."""
        self.renamed = 0
        """Works named again under another name."""
        self._files: dict[str, int] = {}
        self._places: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Repeats of {len(self._places)} names: {self.twice} twice, {self.renamed} renamed>"

    def told(self, entry: Entry) -> str:
        """What to say of an entry whose work was named before; ``""`` of any other."""
        if not isinstance(entry.item, Wanted):
            return ""
        work = entry.item.work
        own, *others = _names(work)
        place = self._places.get(own, 0)
        if place & 1:  # it was the strongest there as well
            self.twice += 1
            return f"{entry.file}:{entry.line}: {work.work_id} is named at {self._at(place)} already"
        place = place or next((found for name in others if (found := self._places.get(name, 0))), 0)
        self._remember(entry, own, others)
        if not place:
            return ""
        self.renamed += 1
        return (
            f"{entry.file}:{entry.line}: {work.work_id} is named at {self._at(place)} already, "
            "under another name"
        )

    def _remember(self, entry: Entry, own: int, others: list[int]) -> None:
        if len(self._places) + 1 + len(others) > NAMES_MAX:
            return
        number = self._files.setdefault(entry.file, len(self._files))
        place = (number * _LINES + entry.line) << 1
        self._places[own] = place | 1
        for name in others:
            self._places.setdefault(name, place)

    def _at(self, place: int) -> str:
        number, line = divmod(place >> 1, _LINES)
        return f"{list(self._files)[number]}:{line}"


def _names(work: Work) -> list[int]:
    """The names of a work, strongest first, as eight bytes each: 64 bits tell a million works apart."""
    named = [f"{scheme}:{value}" for scheme, value in work.identifiers()] or [work.work_id]
    return [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in named]
