"""What may go wrong while an answer travels: faults are data, ``wire`` makes them happen."""

from __future__ import annotations

from typing import Literal

import msgspec

FaultKind = Literal[
    "none", "slow_first_byte", "slow_drip", "stall", "reset", "length_too_long", "length_too_short",
    "silence", "hang_up", "reset_early", "cut", "overrun",
]  # fmt: skip

STALL_S = 60.0
"""How long a stalled answer stays silent, in seconds, unless its client leaves first; then it is reset."""


class Fault(msgspec.Struct, frozen=True):
    """One way of going wrong while an answer travels."""

    kind: FaultKind = "none"
    bytes: int = 0
    """Stall, reset, cut: bytes of the body that still arrive. Drip: bytes a piece. Lying length: how far off.
    Overrun: bytes that come after the body."""
    seconds: float = 0.0
    """Slow first byte: the wait. Drip: the wait between pieces. Stall, silence: how long it is."""


NO_FAULT = Fault()


def slow_first_byte(seconds: float) -> Fault:
    """Nothing comes for that long, then the whole answer."""
    return Fault("slow_first_byte", 0, seconds)


def slow_drip(*, piece: int, seconds: float) -> Fault:
    """The body comes in pieces of so many bytes with a pause between."""
    return Fault("slow_drip", piece, seconds)


def stall(*, after: int, seconds: float = STALL_S) -> Fault:
    """The bytes stop while the socket stays open; after ``seconds`` the connection is reset."""
    return Fault("stall", after, seconds)


def reset(*, after: int) -> Fault:
    """The connection is reset (RST) after so many bytes of the body."""
    return Fault("reset", after)


def length_too_long(by: int) -> Fault:
    """Content-Length promises more than comes; the connection then ends."""
    return Fault("length_too_long", by)


def length_too_short(by: int) -> Fault:
    """Content-Length promises less than comes; the connection then ends."""
    return Fault("length_too_short", by)


def silence(seconds: float) -> Fault:
    """The request is taken and never answered; after ``seconds`` the connection is reset."""
    return Fault("silence", 0, seconds)


def hang_up() -> Fault:
    """The connection is closed, in good order, without an answer."""
    return Fault("hang_up")


def reset_early() -> Fault:
    """The connection is reset (RST) before the head of the answer."""
    return Fault("reset_early")


def cut(*, after: int) -> Fault:
    """The connection is closed in good order after so many bytes: a chunked body lacks its last chunk."""
    return Fault("cut", after)


def overrun(by: int) -> Fault:
    """So many bytes that belong to nothing come after the body, and the connection stays open."""
    return Fault("overrun", by)
