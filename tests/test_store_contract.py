"""LMDB's store and the one in memory keep the promises of every event store."""

from pathlib import Path

from quire.store.interface import Domain, EventStore
from quire.store.lmdb_store import LmdbStore
from quire.store.memory_store import MemoryStore
from quire.testing.store_contract import EventStoreContract, StepClock


class TestLmdbStore(EventStoreContract):
    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        return LmdbStore(folder / "events", domain, run_id=run_id, clock=clock, map_size=1 << 26)


class TestMemoryStore(EventStoreContract):
    durable = False
    shared = False

    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        return MemoryStore(domain, run_id=run_id, clock=clock)
