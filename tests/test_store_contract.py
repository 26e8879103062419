"""LMDB's store and the one in memory keep the promises of every event store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.events.record import AppendResult, Batch, Head
from quire.store import codec
from quire.store.codec import Draft
from quire.store.interface import Domain, EventStore
from quire.store.lmdb_store import LmdbStore
from quire.store.memory_store import MemoryStore
from quire.testing.images import Images
from quire.testing.store_contract import BANK, Deposited, EventStoreContract, StepClock
from quire.testing.store_machine import DurableStoreMachine, LmdbStoreMachine


class TestLmdbStore(EventStoreContract):
    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        return LmdbStore(folder / "events", domain, run_id=run_id, clock=clock, map_size=1 << 26)


class TestMemoryStore(EventStoreContract):
    durable = False
    shared = False

    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        return MemoryStore(domain, run_id=run_id, clock=clock)


# Stores that break a promise, to be found by the kit


class Deaf(LmdbStore):
    """It asks for the head once and believes itself from then on."""

    _known: Head | None = None

    def head(self) -> Head:
        self._known = self._known or super().head()
        return self._known


class OfDeafStores(EventStoreContract):
    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        return Deaf(folder / "events", domain, run_id=run_id, clock=clock, map_size=1 << 26)


def test_a_store_that_does_not_see_the_other_is_found(tmp_path: Path) -> None:
    """The flag ``shared`` is tried: who believes its own last head fails."""
    with pytest.raises(AssertionError):
        OfDeafStores().test_two_processes(tmp_path)


def test_a_chain_that_is_none_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is the hash of the last commit alone fails."""
    monkeypatch.setattr(codec, "chained", lambda previous, body: hashlib.sha256(body).digest())
    with pytest.raises(AssertionError, match="both logs have the head"):
        TestMemoryStore().test_chain(tmp_path)


def test_an_append_that_checks_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that writes what it cannot read again fails."""

    def encode(self: Any, previous: bytes, draft: codec.Draft) -> bytes:
        body = msgspec.msgpack.encode((1, draft.time_ns, draft.run_id, draft.entries))
        return codec.chained(previous, body) + body

    monkeypatch.setattr(codec.CommitCodec, "encode", encode)
    store = MemoryStore(BANK, run_id="run-1", clock=StepClock())
    batch: Batch[Any] = Batch("account-b", (Deposited("7"),))  # type: ignore[arg-type]
    with pytest.raises(TypeError):  # the fold meets it, and no sooner
        TestMemoryStore().test_what_could_not_be_read_again_is_refused(store, batch, "Deposited")


class InTwo(LmdbStore):
    """It commits events in one transaction and tables in another."""

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        with self._environment.writing() as txn:
            head = self._commits.head(txn)
            draft = Draft(head.position, time_ns=self._clock.wall_ns(), run_id=self.run_id)
            draft.judge(batches, lambda stream: self._commits.stream(txn, stream))
            if draft.entries:
                self._commits.put(txn, head, draft)
                self._tables.fold(txn, [], draft.position)
        with self._environment.writing() as txn:
            self._tables.fold(txn, draft.recorded, draft.position)
        return draft.results


class MachineInTwo(LmdbStoreMachine):
    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        return InTwo(folder, domain, run_id=run_id, clock=clock, map_size=1 << 26)


def test_a_commit_in_two_parts_is_found() -> None:
    """A crash between the events and their tables is met each time, and its image is judged."""
    state = MachineInTwo()
    try:
        state.append_one(batch=("account-a", "none", (Deposited(1),)))
        with pytest.raises(AssertionError, match="after a crash at 13 accounts is"):
            state.crash_within_append(stream=0)
    finally:
        state.teardown()


def test_images_are_of_the_midst_of_an_append() -> None:
    """Of LMDB's appends images are had that are neither the log before nor the log behind."""
    state = LmdbStoreMachine()
    state.append_one(batch=("account-a", "none", (Deposited(1),)))
    within = 0
    for _ in range(60):
        before = (state.at / "data.mdb").read_bytes()
        batch = state._batch("account-a", "version", (Deposited(1),) * 12)
        with Images(state.at, state._next_folder) as images:
            state._append([batch])
        ends = (before, (state.at / "data.mdb").read_bytes())
        within += sum((image / "data.mdb").read_bytes() not in ends for image in images.taken)
        if within >= 3:
            break
    state.teardown()
    assert within >= 3, f"{within} images of 60 appends"


def test_what_a_machine_lacks_is_said() -> None:
    """A store's machine without ``open``, and a bounded one without ``squeeze``, say what to define."""
    with pytest.raises(NotImplementedError, match=r"DurableStoreMachine\.open"):
        DurableStoreMachine()
    with pytest.raises(NotImplementedError, match=r"EventStoreContract\.open"):
        EventStoreContract().open(Path(), BANK, StepClock(), "run-1")
    with pytest.raises(NotImplementedError, match="define squeeze"):
        DurableStoreMachine.squeeze(LmdbStoreMachine(), Path(), BANK, StepClock(), "run-1", 1)
