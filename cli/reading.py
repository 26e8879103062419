"""The works of the inputs on their way to the planner, and what became of them there."""

from __future__ import annotations

import argparse
import hashlib
import heapq
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ..actors.outcome import Planned, Wanted
from .inputs import BadLine, Entry, InputSet
from .output import many
from .repeats import Repeats

BAD_LINES_SHOWN = 20
"""Bad lines that a run prints; ``--dry-run`` prints all of them."""
REPEATS_SHOWN = 100
"""Works named before that ``--dry-run`` names with both places; a run counts them alone."""


class Reader:
    """The works of the inputs on their way to the planner; bad lines are told on the way.

    ``more`` is what stands behind the inputs, in the same list.
    """

    def __init__(
        self,
        inputs: InputSet | None,
        args: argparse.Namespace,
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        *,
        more: Iterable[Entry] = (),
    ) -> None:
        self._inputs = inputs
        self._more = more
        self._sample: int | None = getattr(args, "sample", None)
        self._seed: int = getattr(args, "seed", 0)
        self._say = say
        self._stopped = stopped
        dry_run = getattr(args, "dry_run", False)
        self.repeats = Repeats()
        self._repeats_left = REPEATS_SHOWN if dry_run else 0
        self._shown_max = sys.maxsize if dry_run else BAD_LINES_SHOWN
        self.cut = False
        """Whether it was stopped before the end of the inputs."""
        self.read = 0
        self.bad = 0
        self._passed_over = 0

    def __repr__(self) -> str:
        return f"<Reader {self.read} works, {self.bad} bad lines>"

    def __iter__(self) -> Iterator[Wanted]:
        return self._all() if self._sample is None else iter(self._drawn(self._sample))

    def _all(self) -> Iterator[Wanted]:
        yield from self.works_of(chain(self._inputs.entries() if self._inputs else (), self._more))
        if self.bad > self._shown_max:
            self._say(f"… and {self.bad - self._shown_max} more such lines; --dry-run names all")
        if self._passed_over > self._shown_max:
            self._say(
                f"… and {self._passed_over - self._shown_max} more values passed over; --dry-run names all"
            )
        hidden = self.repeats.twice + self.repeats.renamed - REPEATS_SHOWN
        if self._shown_max == sys.maxsize and hidden > 0:
            self._say(f"… and {hidden} more works that were named before")

    def works_of(self, entries: Iterable[Entry]) -> Iterator[Wanted]:
        """The works of some entries, counted, until the run is stopped; what names none is told."""
        for entry in entries:
            if self._stopped():
                self.cut = True
                return
            if isinstance(entry.item, BadLine):
                self._tell(entry.item)
                continue
            self.read += 1
            if entry.passed_over:
                self._tell_passed_over(entry)
            repeat = self.repeats.told(entry)
            if repeat and self._repeats_left:
                self._repeats_left -= 1
                self._say(repeat)
            yield entry.item

    def _drawn(self, count: int) -> list[Wanted]:
        """The works with the smallest hashes of seed and work: the same ones for the same seed and list."""

        def lot(item: Wanted) -> bytes:
            return hashlib.sha256(f"{self._seed}:{item.work.work_id}".encode()).digest()

        return heapq.nsmallest(count, self._all(), key=lot)

    def _tell(self, line: BadLine) -> None:
        self.bad += 1
        if self.bad <= self._shown_max:
            self._say(str(line))

    def _tell_passed_over(self, entry: Entry) -> None:
        """A value that is none would be missed by nobody: the work has other names, and comes without it."""
        self._passed_over += 1
        if self._passed_over <= self._shown_max:
            self._say(f"{entry.file}:{entry.line}: {entry.passed_over}; passed over, the rest of it is taken")

    @property
    def blame(self) -> str:
        """Why there may be no work in it."""
        return f"; {many(self.bad, 'bad line')}, named above" if self.bad else ": it is empty"


def sum_of(one: Planned, other: Planned) -> Planned:
    """What became of two parts of a list together."""
    return Planned(**{name: getattr(one, name) + getattr(other, name) for name in Planned.__struct_fields__})


def planned_text(planned: Planned, *, renamed: int = 0) -> str:
    """What became of the works of a list when they were planned; ``renamed``: named again by another name."""
    parts = [f"{many(planned.works, 'work')}: {planned.new} new"]
    for count, what in (
        (planned.unfinished, "unfinished"),
        (planned.requeued, "tried again"),
        (planned.home, "home already"),
        (planned.failed, "failed for good or not yet due (--retry-failed takes them too)"),
        (planned.doubled, "named twice"),
        (renamed, "named again under another name"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)
