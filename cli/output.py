"""What the commands print: tables and lines for people, JSON for scripts, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from ..actors.runtime.ports import NANOSECONDS, Clock

REDRAW_S = 0.2
"""Least time between two drawings of the progress line on a terminal, in seconds."""
LINE_S = 10.0
"""Time between two progress lines where standard error is no terminal, in seconds."""


def say(text: str = "") -> None:
    """Print a line on standard output."""
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Print one JSON value on one line of standard output."""
    say(msgspec.json.encode(value).decode())


def table(rows: Iterable[Sequence[object]], *, header: Sequence[str] = ()) -> str:
    """Rows in columns, two spaces apart; numbers stand to the right."""
    cells = [tuple(header)] if header else []
    numeric: list[bool] = []
    for row in rows:
        numeric = numeric or [isinstance(cell, int | float) for cell in row]
        cells.append(tuple(str(cell) for cell in row))
    if not cells:
        return ""
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    numeric = numeric or [False] * len(widths)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )


def human_bytes(count: int) -> str:
    """A size for people: ``0 B``, ``1.5 kB``, ``2.3 GB`` (steps of 1000)."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_time(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def iso_time(time_ns: int) -> str:
    """A moment as ISO 8601 in UTC with milliseconds; ``""`` for 0."""
    if not time_ns:
        return ""
    moment = datetime.fromtimestamp(time_ns // 1_000_000 / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(counts: Mapping[str, int]) -> str:
    """Names and counts on one line, the greatest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " · ".join(f"{name} {count}" for name, count in ordered)


class Progress:
    """A line on standard error: redrawn on a terminal, written anew every 10 s elsewhere."""

    def __init__(self, clock: Clock, *, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = stream or sys.stderr
        self._redraws = self._stream.isatty()
        self._started_ns = self._shown_ns = clock.boot_ns()
        self._open = False

    def __repr__(self) -> str:
        return f"<Progress {'redrawn' if self._redraws else 'in lines'} after {self.elapsed_s:.1f} s>"

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return (self._clock.boot_ns() - self._started_ns) / NANOSECONDS

    @property
    def due(self) -> bool:
        """Whether it is time to show the next line."""
        pause_s = REDRAW_S if self._redraws else LINE_S
        return self._clock.boot_ns() - self._shown_ns >= pause_s * NANOSECONDS

    def show(self, text: str) -> None:
        """Show a line now."""
        self._shown_ns = self._clock.boot_ns()
        self._open = self._redraws
        self._stream.write(f"\r\x1b[K{text}" if self._redraws else text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the line, so that what follows starts on a fresh one."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
        self._open = False


def remaining(unfinished: int, done: int, elapsed_s: float) -> str:
    """Rate and time left in words, from what this run has done so far."""
    if not done or elapsed_s <= 0:
        return ""
    rate = done / elapsed_s
    return f"{rate:.1f}/s, about {human_time(unfinished / rate)} left"


def flush() -> None:
    """Hand over what was printed, for a reader who waits for it."""
    sys.stdout.flush()
