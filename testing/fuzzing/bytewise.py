"""Damage to any bytes: flips, cuts, copies, splices, long runs, other encodings."""

from __future__ import annotations

import codecs
import random
from collections.abc import Callable

from . import odd

SPAN_MAX = 64
"""Longest span that a small change touches, in bytes."""
REPEATS_MAX = 400
_CHARSETS = ("utf-16", "utf-16-be", "utf-32", "utf-7", "cp1252", "shift_jis", "gb18030", "cp037", "idna")


def _span(raw: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(raw))
    return start, min(len(raw), start + chance.randint(0, SPAN_MAX))


def _flip(raw: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 4, 30)) if raw else 0):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)


def _stir(raw: bytearray, chance: random.Random) -> None:
    start, end = _span(raw, chance)
    raw[start:end] = chance.randbytes(chance.randint(0, 12))


def _insert(raw: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(raw))
    raw[at:at] = chance.choice(odd.TOKENS)


def _delete(raw: bytearray, chance: random.Random) -> None:
    start, end = _span(raw, chance)
    del raw[start:end]


def _delete_much(raw: bytearray, chance: random.Random) -> None:
    start, end = sorted((chance.randint(0, len(raw)), chance.randint(0, len(raw))))
    del raw[start:end]


def _truncate(raw: bytearray, chance: random.Random) -> None:
    del raw[chance.randint(0, len(raw)) :]


def _repeat(raw: bytearray, chance: random.Random) -> None:
    start, end = _span(raw, chance)
    raw[end:end] = raw[start:end] * chance.choice((1, 2, 10, REPEATS_MAX))


def _run(raw: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(raw))
    raw[at:at] = chance.choice(odd.RUNS) * chance.choice(odd.RUN_TIMES)


def _move(raw: bytearray, chance: random.Random) -> None:
    start, end = _span(raw, chance)
    piece = raw[start:end]
    del raw[start:end]
    at = chance.randint(0, len(raw))
    raw[at:at] = piece


def _replace_all(raw: bytearray, chance: random.Random) -> None:
    if raw:
        old = bytes([raw[chance.randrange(len(raw))]])
        raw[:] = raw.replace(old, chance.choice((b"", b"\x00", b"\n", b'"', chance.randbytes(1))))


def _charset(raw: bytearray, chance: random.Random) -> None:
    try:
        raw[:] = codecs.encode(raw.decode("utf-8", "replace"), chance.choice(_CHARSETS))
    except UnicodeError:
        _flip(raw, chance)


def _case(raw: bytearray, chance: random.Random) -> None:
    raw[:] = raw.upper() if chance.random() < 0.5 else raw.swapcase()


def _marked(raw: bytearray, chance: random.Random) -> None:
    raw[:0] = chance.choice((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE))


def _emptied(raw: bytearray, chance: random.Random) -> None:
    raw[:] = chance.choice((b"", b" ", b"\n\n", b"\x00", b"null", b"{}", b"[]", b"<", b'"'))


CHANGES: tuple[tuple[Callable[[bytearray, random.Random], None], int], ...] = (
    (_flip, 8), (_stir, 8), (_insert, 10), (_delete, 8), (_delete_much, 3), (_truncate, 5), (_repeat, 5),
    (_run, 4), (_move, 4), (_replace_all, 1), (_charset, 1), (_case, 1), (_marked, 1), (_emptied, 1),
)  # fmt: skip
"""A change of bytes in place, and its weight."""
_KINDS = [change for change, _ in CHANGES]
_WEIGHTS = [weight for _, weight in CHANGES]


def stirred(raw: bytes, chance: random.Random) -> bytes:
    """The bytes after one change."""
    changed = bytearray(raw)
    chance.choices(_KINDS, _WEIGHTS)[0](changed, chance)
    return bytes(changed)


def spliced(one: bytes, other: bytes, chance: random.Random) -> bytes:
    """The start of one body and the end of another."""
    return one[: chance.randint(0, len(one))] + other[chance.randint(0, len(other)) :]
