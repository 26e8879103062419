"""Making a failing body small: pieces are cut out as long as it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable


def shrunk(body: bytes, fails: Callable[[bytes], bool], *, tries_max: int) -> bytes:
    """The smallest body found, by cutting out ever smaller pieces; greedy, so it need not be the smallest.

    Args:
        body: one that fails.
        fails: whether a body fails as this one does.
        tries_max: how often that may be asked.
    """
    tries, size = 0, max(1, len(body) // 2)
    while tries < tries_max:
        at, before = 0, len(body)
        while at < len(body) and tries < tries_max:
            shorter = body[:at] + body[at + size :]
            tries += 1
            if fails(shorter):
                body = shorter
            else:
                at += size
        if size == 1 and len(body) == before:
            break
        size = max(1, size // 2) if len(body) == before else min(size, max(1, len(body)))
    return body
