"""What may go wrong on the wire, and the steps by which a face makes it happen.

A fault is data; ``wire`` turns an answer and its fault into steps (send, wait, end). The server performs them
on a socket and the in-process transport performs the same ones, so that the two faces cannot drift apart.
"""

from __future__ import annotations

from email.utils import formatdate
from math import ceil
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from .exchange import Reply

FaultKind = Literal[
    "none", "slow_first_byte", "slow_drip", "stall", "reset", "length_too_long", "length_too_short",
    "silence", "hang_up", "reset_early", "cut", "overrun",
]  # fmt: skip

STALL_S = 60.0
"""How long a stalled answer stays silent, in seconds, unless its client leaves first; then it is reset."""
PIECES_MAX = 1_000
"""Pieces that a slow drip is cut into at most."""
BEFORE_RESET_S = 0.02
"""Pause before a reset, so that the bytes sent before it are read and not thrown away with it."""


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


class Send(msgspec.Struct, frozen=True):
    """Bytes of the body."""

    data: bytes


class Wait(msgspec.Struct, frozen=True):
    """Silence, in seconds."""

    seconds: float


Step = Send | Wait
Ending = Literal["keep", "close", "reset"]


class Wire(msgspec.Struct, frozen=True):
    """An answer as it travels."""

    before: float
    """Silence before the head, in seconds."""
    headers: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    ending: Ending
    length: int
    """Bytes of the body that an honest client can read at most; a lying length cuts them off."""
    headless: bool = False
    """Not even the head is sent."""
    cut: bool = False
    """The body ends before its framing says so."""


HEADLESS = frozenset({"silence", "hang_up", "reset_early"})
"""Faults before the head of an answer."""


def wire(reply: Reply, *, head_only: bool = False, wall_s: float = 0.0) -> Wire:
    """The steps of an answer: the same for every face.

    Args:
        reply: the answer.
        head_only: the answer to HEAD: all headers, no body.
        wall_s: the time of day at which it is sent, in seconds since 1970, for a ``Retry-After`` as a date.
    """
    fault = reply.fault
    if fault.kind in HEADLESS:
        return Wire(fault.seconds, (), (), _ending(reply), 0, headless=True)
    body = reply.content()
    declared = _declared(len(body), fault)
    headers = (*reply.headers, *_dated(reply, wall_s), *_framing(reply, declared))
    before = fault.seconds if fault.kind == "slow_first_byte" else 0.0
    if head_only:
        return Wire(before, headers, (), "keep", 0)
    readable = min(len(body), declared)
    return Wire(before, headers, _steps(body, fault), _ending(reply), readable, cut=fault.kind == "cut")


def _dated(reply: Reply, wall_s: float) -> tuple[tuple[str, str], ...]:
    """``Retry-After`` as a date, which has whole seconds: the next one, so that it never asks for less."""
    if not reply.retry_date_s:
        return ()
    return (("Retry-After", formatdate(ceil(wall_s + reply.retry_date_s), usegmt=True)),)


def _declared(length: int, fault: Fault) -> int:
    if fault.kind == "length_too_long":
        return length + fault.bytes
    if fault.kind == "length_too_short":
        return max(0, length - fault.bytes)
    return length


def _framing(reply: Reply, declared: int) -> tuple[tuple[str, str], ...]:
    if reply.framing == "chunked":
        return (("Transfer-Encoding", "chunked"),)
    if reply.framing == "close":
        return (("Connection", "close"),)
    if reply.status == 304:
        return ()
    return (("Content-Length", str(declared)),)


def _ending(reply: Reply) -> Ending:
    if reply.fault.kind in ("stall", "reset", "silence", "reset_early"):
        return "reset"
    lying = reply.fault.kind in ("length_too_long", "length_too_short", "hang_up", "cut")
    return "close" if lying or reply.framing == "close" else "keep"


def _steps(body: bytes, fault: Fault) -> tuple[Step, ...]:
    if fault.kind == "slow_drip":
        return _drip(body, fault)
    if fault.kind == "cut":
        return (Send(body[: fault.bytes]),)
    if fault.kind == "overrun":
        return (Send(body + b"\n" * fault.bytes),)
    if fault.kind in ("stall", "reset"):
        silence = fault.seconds if fault.kind == "stall" else BEFORE_RESET_S
        return (*((Send(body[: fault.bytes]),) if fault.bytes else ()), Wait(silence))
    return (Send(body),) if body else ()


def _drip(body: bytes, fault: Fault) -> tuple[Step, ...]:
    piece = max(fault.bytes, 1, -(-len(body) // PIECES_MAX))
    steps: list[Step] = []
    for start in range(0, len(body), piece):
        steps += [Send(body[start : start + piece]), Wait(fault.seconds)]
    return tuple(steps[:-1])
