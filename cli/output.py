"""What the commands print: tables and lines for people, JSON for scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec


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


def many(count: int, noun: str) -> str:
    """A count with its noun: ``1 work``, ``2 works``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def flush() -> None:
    """Hand over what was printed, for a reader who waits for it."""
    sys.stdout.flush()
