"""A damaged body: the same for the same seed, parser and number, so that any of them can be made again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

from . import bytewise, lines, markup, trees
from .message import parted

BODY_BYTES_MAX = 1_500_000
"""A body that grew beyond this is cut."""
CHANGES_MAX = 8

Kind = Literal["json", "msgpack", "markup", "lines", "bytes"]
Change = Callable[[bytes, random.Random], bytes | None]
_STRUCTURED: dict[Kind, tuple[Change, float]] = {
    "json": (trees.json_stirred, 0.85),
    "msgpack": (trees.msgpack_stirred, 0.75),
    "markup": (markup.stirred, 0.6),
    "lines": (lines.stirred, 0.5),
}
"""The change that knows the form, and how often it is taken."""


def body_of(corpus: Sequence[bytes], kind: Kind, *, framed: bool, seed: str, number: int) -> bytes:
    """The body of a number: the corpus as it is first, then damaged ones.

    Args:
        corpus: sound and odd bodies; at least one.
        kind: the form of the bodies.
        framed: they are messages, whose head is damaged by itself.
        seed: of the campaign and the parser.
        number: from 0.
    """
    if number < len(corpus):
        return corpus[number]
    chance = random.Random(f"{seed} {number}")
    raw = chance.choice(corpus)
    if chance.random() < 0.06:
        return bytewise.spliced(raw, chance.choice(corpus), chance)[:BODY_BYTES_MAX]
    head, body = parted(raw) if framed else (b"", raw)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, CHANGES_MAX))):
        if head and chance.random() < 0.12:
            head = _head(head, chance)
        else:
            body = _once(body, kind, chance)[:BODY_BYTES_MAX]
    return head + body


def _head(head: bytes, chance: random.Random) -> bytes:
    change = lines.stirred if chance.random() < 0.5 else bytewise.stirred
    return change(head[:-2], chance).replace(b"\n\n", b"\n")[:BODY_BYTES_MAX] + b"\n\n"


def _once(body: bytes, kind: Kind, chance: random.Random) -> bytes:
    change, share = _STRUCTURED.get(kind, (None, 0.0))
    changed = change(body, chance) if change and chance.random() < share else None
    return bytewise.stirred(body, chance) if changed is None else changed
