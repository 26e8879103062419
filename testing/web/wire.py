"""An answer as it travels: the steps by which a face makes it, and its fault, happen.

``wire`` turns an answer and its fault into steps (send, wait, end). The server performs them on a socket and
the in-process transport performs the same ones, so that the two faces cannot drift apart.
"""

from __future__ import annotations

from email.utils import formatdate
from math import ceil
from typing import Literal

import msgspec

from .exchange import Reply
from .faults import Fault

PIECES_MAX = 1_000
"""Pieces that a slow drip is cut into at most."""
BEFORE_RESET_S = 0.02
"""Pause before a reset, so that the bytes sent before it are read and not thrown away with it."""


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
