"""The clock and the chance of a simulation: time that moves only when somebody moves it, draws by a seed."""

from __future__ import annotations

import random

from ...actors.runtime.ports import NANOSECONDS
from ...errors import InvariantError

BEGIN_S = 1_767_225_600
"""The time of day at which every simulated life begins: 2026-01-01 UTC, in seconds since 1970."""
BOOT_MAX_S = 86_400.0
"""Longest time that a machine has been up when a life begins, in seconds."""


class VirtualClock:
    """The ``Clock`` port of a simulated machine; all its processes share it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._wall_ns = BEGIN_S * NANOSECONDS
        self._elapsed_ns = 0
        self._boot_from_ns = 0
        self.boot_id = ""
        self.reboot()

    def __repr__(self) -> str:
        return f"<VirtualClock {self.elapsed_s:.3f} s into its life, boot {self.boot_id[:8]}>"

    @property
    def elapsed_s(self) -> float:
        """Simulated time since the life began, in seconds; steps of the wall clock do not count."""
        return self._elapsed_ns / NANOSECONDS

    @property
    def elapsed_ns(self) -> int:
        """As ``elapsed_s``, in nanoseconds."""
        return self._elapsed_ns

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as the machine believes."""
        return self._wall_ns

    def boot_ns(self) -> int:
        """Nanoseconds since the machine started."""
        return self._elapsed_ns - self._boot_from_ns

    def advance_to(self, elapsed_ns: int) -> None:
        """Let time pass until so many nanoseconds of the life are over; never back.

        Raises:
            InvariantError: that time is over already.
        """
        if elapsed_ns < self._elapsed_ns:
            raise InvariantError(f"time cannot go back from {self._elapsed_ns} to {elapsed_ns}")
        self._wall_ns += elapsed_ns - self._elapsed_ns
        self._elapsed_ns = elapsed_ns

    def step_wall(self, by_s: float) -> None:
        """Somebody sets the clock on the wall; the time since boot does not know of it."""
        self._wall_ns += round(by_s * NANOSECONDS)

    def reboot(self) -> None:
        """The machine starts again: another boot, whose time counts from elsewhere."""
        self.boot_id = f"{self._chance.getrandbits(128):032x}"
        self._boot_from_ns = self._elapsed_ns - round(self._chance.uniform(1.0, BOOT_MAX_S) * NANOSECONDS)


class SeededRandom:
    """The ``Random`` port of a simulated process."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __repr__(self) -> str:
        return "<SeededRandom>"

    def uuid(self) -> str:
        """An id that the seed determines: 32 hex digits."""
        return f"{self._chance.getrandbits(128):032x}"

    def jitter(self) -> float:
        """A number from 0 up to, not including, 1."""
        return self._chance.random()


def chance_of(seed: int, *what: object) -> random.Random:
    """A stream of draws of its own for each purpose, so that one draw more here changes nothing there."""
    return random.Random(":".join(map(str, (seed, *what))))  # a text is hashed by SHA-512, not by hash()
