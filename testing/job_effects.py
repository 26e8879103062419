"""The rules of the ledger (SPEC 4), told event by event: which effect may begin, and what a death leaves.

Part of the model of JobMachine. It knows what is on the disk, so it can say when a result still stands.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..events.facts import CrashRecovery, IdempotencyReplay, OperationCompleted, OperationStarted
from ..events.record import Recorded
from .hand_scheduler import HandClock
from .job_entry import RESULTS, Entry, OpEntry
from .played import Shelf

RULES = {
    "RESOLUTION": "again",
    "FALLBACK": "again",
    "HEAD": "again",
    "INDEX": "again",
    "DEDUPE": "again",
    "STREAM": "resume_part",
    "FINALIZE": "find_object",
}
"""Kind → the rule for one found in flight of a dead owner."""
NETWORK = ("FALLBACK", "HEAD", "STREAM")
"""Kinds that ask the network."""


class EffectRules:
    """Takes the ledger's events of any job, if SPEC 4 allows them."""

    def __init__(self, shelf: Shelf, clock: HandClock) -> None:
        self.met: Counter[str] = Counter()
        """What was met so far: recoveries by kind, kinds with their codes, replays, salvages."""
        self._shelf = shelf
        self._clock = clock

    def __repr__(self) -> str:
        return f"<EffectRules {dict(self.met)}>"

    def started(self, job: Entry, event: OperationStarted, recorded: Recorded[Any]) -> None:
        """An intent: nothing redoes a result, and what a dead owner left has had its rule before."""
        about = event.about
        what = str(about.get("source") if event.kind == "FALLBACK" else about.get("url") or "")
        op = OpEntry(event.kind, what or str(about.get("sha256") or ""), recorded.epoch, recorded.position)
        op.begun_boot_ns = self._clock.boot - (self._clock.wall - recorded.time_ns)
        op.resumed = bool(about.get("range_start"))
        op.target = str(about.get("target") or "")
        left = [one for one in job.ops.values() if not one.code and one.epoch < recorded.epoch]
        assert not left, f"{event.kind} begins before what a dead owner left had its rule: {left}"
        before = job.ops.get(event.op_id)
        if before is not None:
            assert before.code, f"{event.kind} of {op.what!r} is begun twice"
            assert before.code not in RESULTS or self._may_be_redone(job, before, recorded.epoch), (
                f"{event.kind} of {op.what!r} is redone after {before}"
            )
            op.repeated = before.repeated or before.code != "ABANDONED"
        self._asks_for_nothing_known(job, op)
        job.ops[event.op_id] = op

    def _asks_for_nothing_known(self, job: Entry, op: OpEntry) -> None:
        if op.kind == "FALLBACK":
            assert op.what not in job.over(), f"the turn of {op.what!r} had its result, and is redone"
        if op.kind in NETWORK:
            assert not job.must_store, f"{op.kind} of {op.what!r}, and {job.must_store} had come whole"
        elif op.kind == "FINALIZE":
            self.met["salvage"] += bool(job.must_store)
            job.must_store = set()

    def _may_be_redone(self, job: Entry, op: OpEntry, epoch: int) -> bool:
        """Whether an effect with a result may begin again: where what it brought is not there to be used."""
        if op.kind == "HEAD" and op.code == "OK":
            streams = [one for one in job.of_kind("STREAM") if one.what == op.what]
            return not streams or streams[-1].code != "OK" or self._is_gone(job, streams[-1])
        if op.kind == "STREAM" and op.code == "OK":
            return self._is_gone(job, op)
        if op.kind == "FINALIZE" and op.code == "OK":
            return epoch > op.epoch  # who takes over looks whether the object is there
        anew = [one for one in job.of_kind("STREAM") if one.sha256 == op.what and one.position > op.position]
        return op.kind == "FINALIZE" and bool(anew)

    def _is_gone(self, job: Entry, stream: OpEntry) -> bool:
        """Whether the bytes of a stream cannot be used: refused, though whole bytes may not be, or lost."""
        looks = [op for op in job.of_kind("FINALIZE") if op.what == stream.sha256]
        if looks and looks[-1].code == "NON_RETRYABLE":
            return stream.resumed
        lost = bool(looks) and looks[-1].code == "RETRYABLE"
        return lost or not self._is_there(job, stream)

    def _is_there(self, job: Entry, stream: OpEntry) -> bool:
        part = self._shelf.part_path(job.job_id, stream.epoch)
        return self._shelf.has(stream.sha256, stream.size) or part.sha256 == stream.sha256

    def completed(self, job: Entry, event: OperationCompleted, _: Recorded[Any]) -> None:
        """An end: of what is in flight, once."""
        op = job.ops[event.op_id]
        assert not op.code, f"{op.kind} of {op.what!r} ended twice"
        op.code, op.reason = event.code, str(event.result.get("reason") or "")
        op.sha256, op.size = str(event.result.get("sha256") or ""), int(event.result.get("bytes") or 0)
        self.met[f"{op.kind} {op.code}"] += 1
        if op.kind == "FINALIZE" and op.code == "OK":
            assert self._shelf.has(op.what), "finalised is said of what has not its name"
        if event.code != "ABANDONED" and not op.repeated:
            job.takeovers = 0

    def replayed(self, job: Entry, event: IdempotencyReplay, _: Recorded[Any]) -> None:
        """A replay: of a result that stands."""
        op = job.ops[event.op_id]
        assert op.code in RESULTS, "what has no result is replayed"
        self.met[f"replay of {op.kind}"] += 1

    def recovered(self, job: Entry, event: CrashRecovery, _: Recorded[Any]) -> None:
        """A recovery: of what an earlier epoch left in flight, by the rule of its kind."""
        op = job.ops[event.op_id]
        assert not op.code, "what had ended is recovered"
        assert op.epoch < job.epoch, "an effect of the owner itself is recovered"
        assert (event.kind, event.rule) == (op.kind, RULES[op.kind]), f"{event} for {op}"
        assert event.dead_worker == job.dead_worker, f"{event} blames another than {job.dead_worker!r}"
        self.met[f"recovery of {op.kind}"] += 1

    def take_up(self, job: Entry) -> None:
        """A job is leased: bytes that came whole and are there still must be stored before anything else."""
        streams = [op for op in job.of_kind("STREAM") if op.code == "OK" and not job.refused(op.sha256)]
        job.must_store = {op.sha256 for op in streams if self._is_there(job, op)}
