"""The reconciler: gives each effect found in flight its kind's rule before a job goes on.

The jobs come from dead owners, or from one that let go in haste. What was in flight is written down as
abandoned; bytes that were streamed whole are salvaged, so that no finished download is asked for twice.
"""

from __future__ import annotations

from typing import Any

from ..events import ledger
from ..events.facts import CrashRecovery, Event, OperationCompleted
from ..events.job import JobRow, State, fold_job, stream_of
from ..events.record import Appended, Batch, Recorded
from ..store.objects import Objects
from .directory import Directory
from .job_in_hand import OWNER_GONE
from .messages import LetGo, Resolve, Salvage, Taken
from .runtime.actor import Actor
from .runtime.journal import Append, Journaled


class Reconciler(Actor):
    """Stands between the lease manager and the resolver."""

    def __init__(self, *, directory: Directory, objects: Objects) -> None:
        super().__init__()
        self._to = directory
        self._objects = objects
        self._asked: dict[str, Resolve] = {}

    def fatal(self, _error: BaseException) -> bool:
        """Always: what is under way here stands in no log; a new session goes on from the ledger."""
        return True

    def handle(self, message: Any) -> None:
        """Recover a job, or pass it on when its recovery is durable."""
        if isinstance(message, Taken):
            self._taken(message)
        elif isinstance(message, Journaled):
            for job_id, result in message.results:
                resolve = self._asked.pop(job_id)
                if isinstance(result, Appended):
                    self._to.resolver.tell(resolve)
                else:
                    self._to.leases.tell(LetGo(job_id, resolve.row.epoch))

    def _taken(self, message: Taken) -> None:
        row = message.row
        events: list[Event] = []
        for op_id, op in ledger.in_flight(row.ops):
            rule = ledger.RECOVERY[op.kind]
            events.append(CrashRecovery(op_id, op.kind, rule, message.dead_worker))
            events.append(OperationCompleted(op_id, op.kind, "ABANDONED", {"reason": OWNER_GONE}))
        resolve = Resolve(message.job_id, _after(row, events), self._salvage(message.job_id, row))
        if not events:
            self._to.resolver.tell(resolve)
            return
        self._asked[message.job_id] = resolve
        batch = Batch(stream_of(message.job_id), tuple(events), epoch=row.epoch)
        self._to.journal.tell(Append(batch, self.me, message.job_id))

    def _salvage(self, job_id: str, row: JobRow) -> Salvage | None:
        """Bytes that were streamed whole and are still there: in their object or in their part."""
        if row.state not in (State.STREAMING, State.FINALIZED):
            return None
        refused = {str(op.about["sha256"]) for _, op in ledger.of_kind(row.ops, "FINALIZE") if op.terminal}
        for _, op in reversed(ledger.of_kind(row.ops, "STREAM")):
            sha256, size = str(op.result.get("sha256", "")), int(op.result.get("bytes", 0))
            if op.code != "OK" or not sha256 or (sha256 in refused and row.state is State.STREAMING):
                continue
            epoch = int(op.about["epoch"])
            if self._objects.has(sha256, size) or self._has_part(job_id, epoch, size):
                return Salvage(
                    str(op.about["source"]),
                    str(op.about["url"]),
                    sha256,
                    size,
                    epoch,
                    str(op.about.get("md5", "")),
                )
        return None

    def _has_part(self, job_id: str, epoch: int, size: int) -> bool:
        try:
            return self._objects.part_path(job_id, epoch).stat().st_size == size
        except FileNotFoundError:
            return False


def _after(row: JobRow, events: list[Event]) -> JobRow:
    """The row as the store has it after the events of a recovery."""
    for event in events:
        recorded: Recorded[Any] = Recorded(0, "", row.version + 1, row.epoch, 0, "", 0, event)
        row = fold_job(row, recorded) or row
    return row
