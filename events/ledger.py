"""The ledger of effects: what an op is, what became of it, and what to do with one found in flight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from .facts import OpCode, OpKind, Value

K = TypeVar("K", bound=str)
"""The kinds of effects of a domain: quire's ``OpKind``, or those of somebody else's."""
K_co = TypeVar("K_co", bound=str, covariant=True)

Recovery = Literal["again", "resume_part", "find_object"]

RECOVERY: dict[OpKind, Recovery] = {
    "RESOLUTION": "again",
    "FALLBACK": "again",
    "HEAD": "again",
    "STREAM": "resume_part",
    "FINALIZE": "find_object",
    "INDEX": "again",
    "DEDUPE": "again",
}
"""The rule for an op of a dead owner, by kind: ask again; resume from its part; look for what it made."""

TERMINAL: frozenset[OpCode] = frozenset({"OK", "NON_RETRYABLE"})
"""Codes of results that are replayed and never redone; the others are not results."""


class Op(msgspec.Struct, Generic[K], frozen=True, array_like=True, gc=False):
    """One effect as the ledger knows it."""

    kind: K
    about: dict[str, Value]
    """What the key was made of: source, attempt, url, sha256 …"""
    epoch: int
    started_ns: int
    """Wall-clock time of its intent."""
    code: OpCode | None = None
    """None while it is in flight."""
    result: dict[str, Value] = {}
    version: int = 0
    """Version of the job's stream at its intent: what stands for the order, which no table keeps."""
    repeated: bool = False
    """It had ended by itself before: another such end is no progress of the job."""

    @property
    def in_flight(self) -> bool:
        """Whether its end is not known."""
        return self.code is None

    @property
    def terminal(self) -> bool:
        """Whether its result stands for good."""
        return self.code in TERMINAL


Ops = dict[str, Op[K]]


class Intent(Protocol[K_co]):
    """An event that says that an effect is about to happen."""

    @property
    def op_id(self) -> str:
        """What names the effect: the same for the same effect, whoever performs it."""
        ...

    @property
    def kind(self) -> K_co:
        """Its kind."""
        ...

    @property
    def about(self) -> dict[str, Value]:
        """What it is about."""
        ...


class End(Protocol):
    """An event that says what became of an effect."""

    @property
    def op_id(self) -> str:
        """As in its intent."""
        ...

    @property
    def code(self) -> OpCode:
        """How it ended."""
        ...

    @property
    def result(self) -> dict[str, Value]:
        """What came of it."""
        ...


def started(ops: Ops[K], event: Intent[K], *, epoch: int, time_ns: int, version: int) -> Ops[K]:
    """The ledger after an intent; an op that ran before is opened anew."""
    before = ops.get(event.op_id)
    repeated = before is not None and (before.repeated or before.code not in (None, "ABANDONED"))
    op: Op[K] = Op(event.kind, event.about, epoch, time_ns, version=version, repeated=repeated)
    return {**ops, event.op_id: op}


def completed(ops: Ops[K], event: End) -> Ops[K]:
    """The ledger after an end; the end of an op that was never started changes nothing."""
    op = ops.get(event.op_id)
    if op is None:
        return ops
    return {**ops, event.op_id: msgspec.structs.replace(op, code=event.code, result=event.result)}


def in_flight(ops: Ops[K]) -> list[tuple[str, Op[K]]]:
    """The ops whose end is not known, in the order of their start."""
    return _in_order((op_id, op) for op_id, op in ops.items() if op.in_flight)


def of_kind(ops: Ops[K], kind: K) -> list[tuple[str, Op[K]]]:
    """The ops of one kind, in the order of their start."""
    return _in_order((op_id, op) for op_id, op in ops.items() if op.kind == kind)


def _in_order(ops: Iterable[tuple[str, Op[K]]]) -> list[tuple[str, Op[K]]]:
    return sorted(ops, key=lambda item: item[1].version)
