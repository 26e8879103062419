"""A nightly exporter of invoices: another domain on quire's log, journal, leases and ledger, without papers.

``python invoices.py FOLDER [invoice=cents …]`` enters what is due and exports all that is open: one file for
each invoice, once, whatever dies on the way. Any number of them may run on one folder. What is quire's here:
the log and its projection, the epoch that fences a late owner, the lock that shows a dead one, the ledger
that says which effect was under way, and the Journal, which makes an intent durable before its effect.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import uuid
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

import msgspec

from quire import Domain, EventStore, Library, LmdbStore, Projection
from quire.actors.runtime.actor import Actor
from quire.actors.runtime.address import Address
from quire.actors.runtime.journal import Append, Journal, Journaled
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import System
from quire.events import ledger
from quire.events.record import Appended, Batch, Recorded

Kind = Literal["WRITE"]
IN_HAND = 16


# What can be said


class Event(msgspec.Struct, frozen=True, array_like=True):
    """Base of every event."""


class Due(Event, frozen=True, tag="due"):
    """An invoice is to be exported."""

    cents: int


class Taken(Event, frozen=True, tag="taken"):
    """A worker owns the invoice, under the epoch of this event."""

    worker: str


class Begun(Event, frozen=True, tag="begun"):
    """An effect is about to happen."""

    op_id: str
    kind: Kind
    about: dict[str, str | int]


class Ended(Event, frozen=True, tag="ended"):
    """An effect ended, or was given up."""

    op_id: str
    code: Literal["OK", "RETRYABLE", "NON_RETRYABLE", "ABANDONED"]
    result: dict[str, str | int]


class Exported(Event, frozen=True, tag="exported"):
    """The invoice's file is there."""


class Invoice(msgspec.Struct, frozen=True, array_like=True):
    """All that is known of an invoice now."""

    cents: int
    worker: str = ""
    epoch: int = 0
    ops: ledger.Ops[Kind] = {}
    exported: bool = False


def fold(row: Invoice | None, recorded: Recorded[Any]) -> Invoice | None:
    """The invoice after an event; what is said of one that was never due, or due twice, changes nothing."""
    event, change = recorded.event, msgspec.structs.replace
    if isinstance(event, Due):
        return row or Invoice(event.cents)
    if row is None:
        return None
    if isinstance(event, Taken):
        return change(row, worker=event.worker, epoch=recorded.epoch)
    if isinstance(event, Begun):
        at = {"epoch": recorded.epoch, "time_ns": recorded.time_ns, "version": recorded.version}
        return change(row, ops=ledger.started(row.ops, event, **at))
    if isinstance(event, Ended):
        return change(row, ops=ledger.completed(row.ops, event))
    return change(row, exported=True, worker="", ops={})


INVOICES = Projection(
    name="invoices",
    version=1,
    row=Invoice,
    key=lambda recorded: recorded.stream.encode(),
    fold=fold,
    indexes={
        "free": lambda key, row: [] if row.worker or row.exported else [key],
        "taken": lambda key, row: [row.worker.encode() + b"/" + key] if row.worker else [],
    },
    tallies=lambda row: ["exported" if row.exported else "open"],
)
DOMAIN = Domain(events=Due | Taken | Begun | Ended | Exported, projections=(INVOICES,))


# Who does it


class Exporter(Actor):
    """Takes invoices up, writes their files, and says so; all it knows stands in the log."""

    def __init__(
        self, library: Library, store: EventStore, worker: str, journal: Address, idle: Callable[[], None]
    ) -> None:
        """``idle`` is called when nothing is left to take up."""
        super().__init__()
        self._library, self._store, self._worker = library, store, worker
        self._journal, self._idle = journal, idle
        self._then: dict[int, Callable[[], None]] = {}
        self._tags = count()

    def fatal(self, _error: BaseException) -> bool:
        """Always: the next process goes on from the ledger."""
        return True

    def started(self) -> None:
        """Begin with what there is."""
        self._take_up()

    def handle(self, message: Journaled) -> None:
        """Go on with what has become durable; what was refused belongs to somebody else now."""
        for tag, result in message.results:
            then = self._then.pop(tag)
            if isinstance(result, Appended):
                then()
        if not self._then:
            self._take_up()

    def _take_up(self) -> None:
        free = [key for _, key in self._store.scan("invoices.free", limit=IN_HAND)]
        keys = free or [key for entry, key in self._store.scan("invoices.taken") if self._is_dead(entry)]
        if not keys:
            self._idle()
        for key, row in zip(keys, self._store.rows("invoices", keys), strict=True):
            self._commit(key, [Taken(self._worker)], row.epoch + 1, self._granted(key, row), opens=True)

    def _is_dead(self, entry: bytes) -> bool:
        return not self._library.is_alive(entry.split(b"/")[0].decode())

    def _granted(self, key: bytes, row: Invoice) -> Callable[[], None]:
        """What to do once the invoice is ours: an effect of a dead owner is looked for before it is done."""
        op_id = hashlib.sha256(b"WRITE " + key).hexdigest()
        epoch, path = row.epoch + 1, self._library.path / "out" / f"{key.decode()}.json"
        value = {"invoice": key.decode(), "cents": row.cents}

        def done(*, found: bool = False) -> None:
            self._commit(key, [Ended(op_id, "OK", {"found": int(found)}), Exported()], epoch, lambda: None)

        def perform() -> None:
            write(path, epoch, value)
            done()

        def look() -> None:
            if ledger.in_flight(row.ops) and adopt(path, value):
                done(found=True)
            else:
                self._commit(key, [Begun(op_id, "WRITE", {"cents": row.cents})], epoch, perform)

        return look

    def _commit(
        self, key: bytes, events: list[Event], epoch: int, then: Callable[[], None], *, opens: bool = False
    ) -> None:
        tag = next(self._tags)
        self._then[tag] = then
        batch = Batch(key.decode(), tuple(events), epoch=epoch, opens_epoch=opens)
        self._journal.tell(Append(batch, self.me, tag))


def write(path: Path, epoch: int, value: dict[str, Any]) -> None:
    """The effect: a whole file under its name, or none; a late owner writes under a name of its own."""
    part = path.with_suffix(f".{epoch}.part")
    part.write_text(json.dumps(value))
    sync(part)
    part.rename(path)
    sync(path.parent)


def adopt(path: Path, value: dict[str, Any]) -> bool:
    """Whether a dead owner's file is the right one; durable then: it may have died before it synced."""
    if not path.exists() or path.read_text() != json.dumps(value):
        return False
    sync(path)
    sync(path.parent)
    return True


def sync(path: Path) -> None:
    """Make a file's bytes durable, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export(folder: Path, due: dict[str, int]) -> int:
    """Enter what is due, known invoices excepted, and export all that is open; how many are exported now."""
    library = Library.open(folder)
    (folder / "out").mkdir(exist_ok=True)
    sync(folder)  # also when it is there: another process may have made it a moment ago
    worker, clock = uuid.uuid4().hex, SystemClock()
    store = LmdbStore(library.events, DOMAIN, run_id=worker, clock=clock, map_size=1 << 30)
    store.append([Batch(number, (Due(cents),), expected_version=0) for number, cents in due.items()])
    lock = library.claim_worker(worker)
    ended = threading.Event()
    faults: list[BaseException] = []

    def failed(_name: str, error: BaseException) -> None:
        faults.append(error)
        ended.set()

    scheduler = ThreadScheduler(disk_threads=1)
    system = System(scheduler=scheduler, clock=clock, on_fatal=failed)
    journal = system.start("journal", lambda: Journal(store, batches_max=IN_HAND))
    exporter = system.start("exporter", lambda: Exporter(library, store, worker, journal, ended.set))
    ended.wait()
    system.stop([[exporter], [journal]], timeout_s=10)
    scheduler.close()
    (exported,) = store.rows("invoices.tally", [b"exported"])
    store.close()
    lock.release()
    if faults:
        raise faults[0]
    return exported or 0


def main(words: list[str]) -> int:
    """The command."""
    due = {number: int(cents) for number, _, cents in (word.partition("=") for word in words[1:])}
    print(export(Path(words[0]), due), "invoices exported")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
