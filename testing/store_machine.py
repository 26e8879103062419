"""StoreMachine: any event store against a plain model of the log, in any order of doing.

A test for a back end of one's own, or for a domain of one's own on a store of quire's::

    class MyStoreMachine(DurableStoreMachine):
        def open(self, folder, domain, clock, run_id):
            return MyStore(folder, domain, run_id=run_id, clock=clock)


    TestMyStore = MyStoreMachine.TestCase
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from hypothesis import strategies as st

from ..errors import InvariantError, StorageFullError
from ..events.record import Batch
from ..store.interface import Domain, EventStore
from ..store.lmdb_store import LmdbStore
from ..store.memory_store import MemoryStore
from ..store.replay import replay
from .images import Images
from .log_model import LogModel, scanned
from .scripted import ScriptedMachine, invariant, precondition, rule
from .store_contract import BANK, StepClock
from .strategies import events_of

Guard = Literal[
    "none", "version", "old version", "new version", "epoch", "old epoch", "grant", "far grant", "both"
]
GUARDS: tuple[Guard, ...] = (
    "none",
    "version",
    "old version",
    "new version",
    "epoch",
    "old epoch",
    "grant",
    "far grant",
    "both",
)
"""How a batch is guarded, in words that mean the same wherever the stream stands."""
Proposal = tuple[str, Guard, tuple[Any, ...]]
"""Stream, guard and events of a batch."""
POSITIONS = st.integers(0, 60)
LIMITS = st.sampled_from([1, 2, 5, 10_000])
SMALL_ROOM_BYTES = 96 << 10
"""Room that a full log is left with before it is filled."""
FILL_MAX = 200
"""Appends after which a log with little room must have been full."""
FILL_EVENTS = 400
"""Events of one such append."""
WITHIN_EVENTS = 12
"""Events of the append that crashes."""


@cache
def proposal(machine: type[StoreMachine]) -> st.SearchStrategy[Proposal]:
    """A batch for the domain and streams of a machine."""
    events = st.lists(machine.events_strategy(), min_size=1, max_size=3).map(tuple)
    return st.tuples(st.sampled_from(machine.streams), st.sampled_from(GUARDS), events)


@cache
def proposals(machine: type[StoreMachine]) -> st.SearchStrategy[list[Proposal]]:
    """The batches of one append."""
    return st.lists(proposal(machine), min_size=2, max_size=4)


def _proposal(machine: StoreMachine) -> st.SearchStrategy[Proposal]:
    return proposal(type(machine))


def _proposals(machine: StoreMachine) -> st.SearchStrategy[list[Proposal]]:
    return proposals(type(machine))


class StoreMachine(ScriptedMachine):
    """Append, conflict, fence, read, tail, scan, rebuild, replay, reopen, crash, fill up, clock jumps."""

    domain: ClassVar[Domain] = BANK
    streams: ClassVar[tuple[str, ...]] = ("account-a", "account-b", "account-ab", "other")
    """Streams that are written to; a projection should care for some and not for others."""
    durable: ClassVar[bool] = False
    """What is appended is there when the store is opened again: see ``DurableStoreMachine``."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-")) if self.durable else Path()
        self.clock = StepClock()
        self.model = LogModel(self.domain, "run-1")
        self.chains = {0: bytes(32)}
        self.opened = 0
        self.at = self.folder / "0"
        self.store = self._open()

    # What a back end, or a domain, says of itself

    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        """The store under test, as in ``EventStoreContract``; the folder exists where it is durable."""
        del folder
        return MemoryStore(domain, run_id=run_id, clock=clock)

    @classmethod
    def events_strategy(cls) -> st.SearchStrategy[Any]:
        """Events that are appended; by default any of the domain."""
        return events_of(cls.domain)

    # Writing

    @rule(batches=st.runner().flatmap(_proposals))
    def append(self, batches: list[Proposal]) -> None:
        """Append batches whose guards are right or wrong, and find what was taken, and only that."""
        self._append([self._batch(*proposal) for proposal in batches])

    @rule(batch=st.runner().flatmap(_proposal))
    def append_one(self, batch: Proposal) -> None:
        """Append one batch alone: logs grow by these."""
        self._append([self._batch(*batch)])

    def _append(self, batches: list[Batch[Any]]) -> None:
        before, position = self.clock.now_ns, len(self.model.events)
        results = self.store.append(batches)
        written = self.store.read(position, limit=10_000)
        time_ns = written[0].time_ns if written else before
        last = self.clock.now_ns
        assert not written or before <= time_ns <= last, (
            f"a commit of {before} to {last} has the time {time_ns}"
        )
        wanted = self.model.append(batches, time_ns)
        assert results == wanted, f"the store says {results}, the model {wanted}"
        kept = self.model.events[position:]
        assert written == kept, f"{kept} was appended, {written} is read"

    def _batch(self, stream: str, guard: Guard, events: tuple[Any, ...]) -> Batch[Any]:
        version, epoch = self.model.state(stream)
        cause = len(self.model.events) % 3
        guards: dict[Guard, dict[str, Any]] = {
            "none": {},
            "version": {"expected_version": version},
            "old version": {"expected_version": max(version - 1, 0)},
            "new version": {"expected_version": version + 1},
            "epoch": {"epoch": epoch},
            "old epoch": {"epoch": max(epoch - 1, 0)},
            "grant": {"epoch": epoch + 1, "opens_epoch": True},
            "far grant": {"epoch": epoch + 2, "opens_epoch": True},
            "both": {"epoch": epoch, "expected_version": max(version - 1, 0)},
        }
        return Batch(stream, events, cause=cause, **guards[guard])

    @precondition(lambda self: self.model.events)
    @rule(kind=st.sampled_from(["no events", "unnamed epoch", "no stream", "long stream"]))
    def append_nonsense(self, kind: str) -> None:
        """A batch that nobody can mean is refused with all of its commit."""
        good = self._batch(self.streams[0], "version", self._some_events())
        bad = {
            "no events": Batch[Any](self.streams[0], ()),
            "unnamed epoch": Batch(self.streams[0], good.events, opens_epoch=True),
            "no stream": Batch("", good.events),
            "long stream": Batch("x" * 501, good.events),
        }[kind]
        _raises(InvariantError, lambda: self.store.append([good, bad]))

    def _some_events(self) -> tuple[Any, ...]:
        """The last event once more; none where there is none."""
        return tuple(recorded.event for recorded in self.model.events[-1:])

    # Reading

    @rule(after=POSITIONS, limit=LIMITS)
    def read(self, after: int, limit: int) -> None:
        """Read from anywhere."""
        found, wanted = self.store.read(after, limit=limit), self.model.read(after, limit)
        assert found == wanted, f"behind {after} the store has {found}, the model {wanted}"

    @rule(stream=st.integers(0, 9), after=st.integers(0, 20), limit=LIMITS)
    def read_stream(self, stream: int, after: int, limit: int) -> None:
        """Read one stream from anywhere; also one that is not there."""
        name = [*self.streams, "nobody's"][stream % (len(self.streams) + 1)]
        found = self.store.read_stream(name, after, limit=limit)
        wanted = self.model.read_stream(name, after, limit)
        assert found == wanted, f"behind version {after} of {name} are {found}, the model has {wanted}"

    @rule(behind=st.integers(0, 2))
    def tail(self, behind: int) -> None:
        """Wait no time at the end of the log: nothing, or what has come since."""
        after = max(len(self.model.events) - behind, 0)
        found, wanted = self.store.read(after, wait_s=0.0), self.model.events[after:]
        assert found == wanted, f"behind {after} the store has {found}, the model {wanted}"

    @rule(cut=st.integers(0, 12), after=st.integers(0, 20), limit=LIMITS)
    def scan(self, cut: int, after: int, limit: int) -> None:
        """Scan every table by a prefix and behind a key that it has or has not, and read rows by key."""
        for name, table in self.model.tables().items():
            keys = [key for key, _ in table] or [b"none"]
            chosen = keys[after % len(keys)]
            prefix, behind = chosen[:cut], chosen if after % 2 else b""
            found = self.store.scan(name, prefix, after=behind, limit=limit)
            wanted = scanned(table, prefix, behind, limit)
            assert found == wanted, f"{name} from {prefix!r} behind {behind!r} is {found}, not {wanted}"
            asked = [chosen, b"no such key", *keys[:2]]
            rows, right = self.store.rows(name, asked), [dict(table).get(key) for key in asked]
            assert rows == right, f"{name} has {rows} under {asked}, the model {right}"

    @rule(position=POSITIONS)
    def replay(self, position: int) -> None:
        """Fold the log up to a position: the tables of that time."""
        position = min(position, len(self.model.events))
        view = replay(self.store, self.domain, position=position)
        for name, table in self.model.tables_at(position).items():
            found = view.scan(name)
            assert found == table, f"{name} at position {position} is {found}, the model has {table}"

    # Time and trouble

    @rule(seconds=st.sampled_from([-3600, -5, 5, 3600]))
    def clock_jumps(self, seconds: int) -> None:
        """The wall clock is set; the order of the log is not its matter."""
        self.clock.now_ns = max(self.clock.now_ns + seconds * 10**9, 0)

    @rule()
    def rebuild(self) -> None:
        """Fold every table anew."""
        self.store.rebuild()
        self._check_tables()

    # Always

    @invariant()
    def the_head_is_that_of_the_model(self) -> None:
        """The head says what was acknowledged; its chain changes with each commit and never else."""
        head = self.store.head()
        wanted = (len(self.model.events), self.model.commits)
        assert (head.position, head.commits) == wanted, f"{head} where the model has {wanted}"
        chain = self.chains.setdefault(self.model.commits, head.chain)
        assert chain == head.chain, (
            f"the chain of commit {head.commits} was {chain.hex()}, is {head.chain.hex()}"
        )

    def finish(self) -> None:
        """Everything is as in the model."""
        found, wanted = self.store.read(), self.model.events[:10_000]
        assert found == wanted, f"at the end the store has {found}, the model {wanted}"
        self._check_tables()
        assert len(set(self.chains.values())) == len(self.chains), "two commits have one chain"

    def release(self) -> None:
        """Close the store and remove its folders."""
        self.store.close()
        if self.durable:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_tables(self) -> None:
        for name, table in self.model.tables().items():
            found = self.store.scan(name)
            assert found == table[:10_000], f"{name} is {found}, the model has {table}"

    def _open(self) -> EventStore:
        if self.durable:
            self.at.mkdir(exist_ok=True)
        return self.open(self.at, self.domain, self.clock, "run-1")


class DurableStoreMachine(StoreMachine):
    """The same for a store that keeps what it acknowledged: it is closed, copied while open, filled up."""

    durable = True
    bounded: ClassVar[bool] = False
    """``squeeze`` is defined: the store can be opened with hardly any room."""

    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        """The store under test, kept in the folder, which exists."""
        raise NotImplementedError(
            f"define {type(self).__name__}.open(folder, domain, clock, run_id): your store"
        )

    def squeeze(self, folder: Path, domain: Domain, clock: StepClock, run_id: str, room: int) -> EventStore:
        """The store under test with room for ``room`` more bytes at most; needed where it is ``bounded``."""
        raise NotImplementedError(
            f"{type(self).__name__} is bounded: define squeeze(folder, domain, clock, run_id, room), which "
            "opens your store with room for so many bytes more; or leave bounded False"
        )

    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.store = self._open()
        self._check_tables()

    @rule()
    def crash(self) -> None:
        """Go on with the folder as it stands on disk while the store is open: nobody closed anything."""
        self._go_on_with(self._copy())

    @precondition(lambda self: self.model.events)
    @rule(stream=st.integers(0, 9))
    def crash_within_append(self, stream: int) -> None:
        """Open images of the folder in the midst of an append: in each all of it is there, or nothing."""
        name = self.streams[stream % len(self.streams)]
        batch = self._batch(name, "version", self._some_events() * WITHIN_EVENTS)
        before = len(self.model.events)
        with Images(self.at, self._next_folder) as images:
            self._append([batch])
        for image in images.taken:
            self.judge_image(image, before)
        if images.taken:
            self._go_on_with_image(images.taken[-1], before)

    def judge_image(self, image: Path, before: int) -> None:
        """What a crash within an append to a log of ``before`` events left: the log with or without it."""
        copy = Path(shutil.copytree(image, self._next_folder()))
        store = self.open(copy, self.domain, self.clock, "run-1")
        try:
            position = store.head().position
            assert position in (before, len(self.model.events)), (
                f"{position} events after a crash in an append"
            )
            assert store.read(limit=10_000) == self.model.events[:position][:10_000], (
                "the events after a crash"
            )
            for name, table in self.model.tables_at(position).items():
                found = store.scan(name)
                assert found == table[:10_000], f"after a crash at {position} {name} is {found}, not {table}"
        finally:
            store.close()
            shutil.rmtree(copy, ignore_errors=True)

    def _go_on_with_image(self, image: Path, before: int) -> None:
        self.store.close()
        shutil.rmtree(self.at)
        self.at = image
        self.store = self._open()
        if self.store.head().position == before:  # it was not acknowledged when that image was taken
            self.chains.pop(self.model.commits, None)
            self.model.cut_to(before)
        self._check_tables()

    @precondition(lambda self: self.bounded and self.model.events)
    @rule()
    def fill_up(self) -> None:
        """Append until there is no room: a typed error, nothing of that call kept; with room it goes on."""
        self.store.close()
        self.store = self.squeeze(self.at, self.domain, self.clock, "run-1", SMALL_ROOM_BYTES)
        for _ in range(FILL_MAX):
            try:
                self._append([self._batch(self.streams[0], "version", self._some_events() * FILL_EVENTS)])
            except StorageFullError:
                break
        else:
            raise AssertionError(f"{FILL_MAX} large appends fit into {SMALL_ROOM_BYTES} bytes")
        self.the_head_is_that_of_the_model()
        self._check_tables()
        self.reopen_roomy()

    def reopen_roomy(self) -> None:
        """Open the store with all its room again, and append."""
        self.store.close()
        self.store = self._open()
        self._append([self._batch(self.streams[0], "version", self._some_events())])

    def _copy(self) -> Path:
        return Path(shutil.copytree(self.at, self._next_folder()))

    def _next_folder(self) -> Path:
        self.opened += 1
        return self.folder / str(self.opened)

    def _go_on_with(self, folder: Path) -> None:
        self.store.close()
        shutil.rmtree(self.at)
        self.at = folder
        self.store = self._open()
        self._check_tables()


class LmdbStoreMachine(DurableStoreMachine):
    """The same over LMDB, with all its capabilities."""

    bounded = True

    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        """A store with room."""
        return LmdbStore(folder, domain, run_id=run_id, clock=clock, map_size=1 << 26)

    def squeeze(self, folder: Path, domain: Domain, clock: StepClock, run_id: str, room: int) -> EventStore:
        """A store whose map ends ``room`` bytes behind its last page."""
        size = (folder / "data.mdb").stat().st_size
        return LmdbStore(folder, domain, run_id=run_id, clock=clock, map_size=size + room)


def _raises(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")
