"""How a run is doing, on standard error: redrawn every second on a terminal, a line every 10 s elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
from collections import deque
from typing import TextIO

from ..actors.runtime.ports import NANOSECONDS, Clock
from ..errors import QuireError
from ..events.job import HOME
from .library import Tables, counts_of, under
from .output import human_time

REDRAW_S = 1.0
"""Time between two drawings of the line on a terminal, in seconds."""
LINE_S = 10.0
"""Time between two lines where standard error is no terminal, in seconds."""
RATE_S = 30.0
"""The rate is that of so many seconds before."""


class Progress:
    """The progress of one list; told to show itself by a timer, so that it lives while nothing finishes."""

    def __init__(self, tables: Tables, list_id: str, clock: Clock, *, stream: TextIO | None = None) -> None:
        self._tables = tables
        self._list_id = list_id
        self._clock = clock
        self._stream = stream or sys.stderr
        self._redraws = self._stream.isatty()
        self._started_ns = clock.boot_ns()
        self._finished: deque[tuple[int, int]] = deque()
        self._drawn = False
        self._ended = False
        # The timer draws from a thread of its own, and must be silent from the moment of `end`.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Progress {'redrawn' if self._redraws else 'in lines'} after {self.elapsed_s:.1f} s>"

    @property
    def interval_s(self) -> float:
        """Seconds between two calls of ``show``."""
        return REDRAW_S if self._redraws else LINE_S

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return (self._clock.boot_ns() - self._started_ns) / NANOSECONDS

    def show(self) -> None:
        """Show how things stand; nothing where they cannot be read, since the run itself then says why."""
        try:
            counts = counts_of(self._tables, self._list_id)
        except QuireError:
            return
        text = self.text(counts)
        with self._lock:
            if self._ended:
                return
            if self._redraws:
                self._stream.write("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])
                self._drawn = True
            else:
                self._stream.write(text + "\n")
            self._stream.flush()

    def say(self, text: str) -> None:
        """Print a line of its own without tearing the one that is redrawn."""
        with self._lock:
            self._stream.write(("\r\x1b[K" if self._drawn else "") + text + "\n")
            self._stream.flush()
            self._drawn = False

    def end(self) -> None:
        """Show nothing more, and leave what follows a fresh line. Twice is harmless."""
        with self._lock:
            if self._drawn:
                self._stream.write("\n")
                self._stream.flush()
            self._drawn, self._ended = False, True

    def text(self, counts: dict[str, int]) -> str:
        """The line for these counts: by state, the rate of the last 30 s, and the time left."""
        states, waiting = under(counts, "state"), sum(under(counts, "waiting").values())
        home, failed = sum(states.get(state, 0) for state in HOME), states.get("FAILED", 0)
        unfinished = counts.get("unfinished", 0)
        parts = [f"{home} home", f"{failed} failed", f"{unfinished} to go"]
        held = [(counts.get("leased", 0), "in hand"), (waiting, "waiting")]
        if said := ", ".join(f"{count} {what}" for count, what in held if count):
            parts[-1] += f" ({said})"
        return " · ".join([*parts, *self._pace(home + failed, unfinished)])

    def _pace(self, finished: int, unfinished: int) -> list[str]:
        """The rate and the time left; nothing before the first two looks."""
        now_ns = self._clock.boot_ns()
        while len(self._finished) > 1 and now_ns - self._finished[1][0] >= RATE_S * NANOSECONDS:
            self._finished.popleft()
        self._finished.append((now_ns, finished))
        then_ns, before = self._finished[0]
        if now_ns == then_ns:
            return []
        rate = max(0, finished - before) * NANOSECONDS / (now_ns - then_ns)
        if not unfinished:
            return [f"{rate:.1f}/s"]
        if not rate:
            return [f"none finished in the last {human_time((now_ns - then_ns) / NANOSECONDS)}"]
        return [f"{rate:.1f}/s", f"about {human_time(unfinished / rate)} left"]
