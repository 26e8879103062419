"""Which jobs a list named before: a memory of many keys in few bytes, by 64 bits of each."""

from __future__ import annotations

from array import array

KEYS_MAX = 4_000_000
"""Keys that are remembered, in 64 MiB at most (twice while it grows); a later one counts as new."""
_SLOTS_FIRST = 1 << 10


class SeenKeys:
    """The keys of jobs that came by, eight bytes of each: 64 bits tell millions of jobs apart.

    A set of Python would take a hundred bytes for each; a list may have half a million works.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _SLOTS_FIRST))
        self._count = 0

    def __repr__(self) -> str:
        return f"<SeenKeys, {self._count}>"

    def is_new(self, job_id: str) -> bool:
        """Whether a job (64 hex digits) comes for the first time; it is remembered from now on."""
        key = int(job_id[:16], 16) or 1  # 0 is an empty slot
        place = self._place(key)
        if self._slots[place] == key:
            return False
        if self._count < KEYS_MAX:
            self._slots[place] = key
            self._count += 1
            if 2 * self._count > len(self._slots):
                self._grow()
        return True

    def _place(self, key: int) -> int:
        """Where a key is, or the empty slot where it would be."""
        mask = len(self._slots) - 1
        place = key & mask
        while self._slots[place] not in (0, key):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        """Twice the slots: never more than half of them are taken, so that searches stay short."""
        keys = [key for key in self._slots if key]
        self._slots = array("Q", bytes(16 * len(self._slots)))
        for key in keys:
            self._slots[self._place(key)] = key
