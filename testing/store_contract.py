"""The promises of every event store as tests.

Inherit ``EventStoreContract`` under a name that pytest collects, say what the store does not promise, and
define ``open``; docs/testing.md shows it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ..errors import InvariantError, UsageError
from ..events.record import Appended, Batch, Conflict, Fenced, Recorded
from ..store.interface import Domain, EventStore, Projection
from ..store.replay import replay


class Deposited(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="deposited"):
    """Money came in."""

    amount: int


class Withdrawn(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="withdrawn"):
    """Money went out."""

    amount: int


class Closed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="closed"):
    """The account is no more."""


class Account(msgspec.Struct, frozen=True, array_like=True):
    """The row of an account."""

    owner: str
    balance: int = 0
    events: int = 0


def _fold(row: Account | None, recorded: Recorded[Any]) -> Account | None:
    row = row or Account(owner=recorded.stream)
    event = recorded.event
    if isinstance(event, Closed):
        return None
    amount = event.amount if isinstance(event, Deposited) else -event.amount
    return Account(row.owner, row.balance + amount, row.events + 1)


def _key(recorded: Recorded[Any]) -> bytes | None:
    return recorded.stream.encode() if recorded.stream.startswith("account") else None


def _rich(key: bytes, row: Account) -> Iterable[bytes]:
    return [b"%012d" % row.balance + key] if row.balance >= 100 else []


def _sign(row: Account) -> Iterable[str]:
    return ["red" if row.balance < 0 else "black"]


ACCOUNTS: Projection[Account] = Projection(
    name="accounts", version=1, row=Account, key=_key, fold=_fold, indexes={"rich": _rich}, tallies=_sign
)
BANK = Domain(events=Deposited | Withdrawn | Closed, projections=(ACCOUNTS,))
"""A toy domain: accounts with a balance, an index of the rich ones and counts by sign."""


NEIGHBOUR_S = 20.0
"""Seconds that another process has for an answer."""


class StepClock:
    """A clock that goes one second further each time it is read."""

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self.now_ns = start_ns

    def wall_ns(self) -> int:
        """The next second, in nanoseconds."""
        self.now_ns += 1_000_000_000
        return self.now_ns


def deposit(stream: str, *amounts: int, **guards: Any) -> Batch[Any]:
    """A batch of deposits."""
    return Batch(stream, tuple(Deposited(amount) for amount in amounts), **guards)


class EventStoreContract:
    """Inherit it under a name that pytest collects, and define ``open``."""

    durable = True
    """What is appended is there when the store is opened again."""
    shared = True
    """Two processes that have a folder's store open at once see each other's commits. The second one imports
    the class of the test by its name: it stands at the top of its module."""

    def open(self, folder: Path, domain: Domain, clock: StepClock, run_id: str) -> EventStore:
        """The store under test; the folder exists."""
        raise NotImplementedError(
            f"define {type(self).__name__}.open(folder, domain, clock, run_id), which gives your store"
        )

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[EventStore]:
        """A fresh store of the toy domain."""
        store = self.open(tmp_path, BANK, StepClock(), "run-1")
        yield store
        store.close()

    def test_positions_and_versions(self, store: EventStore) -> None:
        """Positions are gapless over the log, versions over each stream, from 1."""
        results = store.append([deposit("account-a", 1, 2), deposit("account-b", 3)])
        results += store.append([deposit("account-a", 4)])
        assert results == [Appended(1, 2), Appended(3, 1), Appended(4, 3)]
        events = store.read()
        assert [event.position for event in events] == [1, 2, 3, 4]
        assert [(event.stream[-1], event.version) for event in events] == [
            ("a", 1),
            ("a", 2),
            ("b", 1),
            ("a", 3),
        ]
        assert {event.run_id for event in events} == {"run-1"}
        assert [event.time_ns for event in events] == [2_000_000_000] * 3 + [3_000_000_000]
        assert [event.event for event in events] == [Deposited(n) for n in (1, 2, 3, 4)]

    def test_cause(self, store: EventStore) -> None:
        """The cause of a batch stands on each of its events."""
        store.append([deposit("account-a", 1)])
        store.append([deposit("account-b", 2, 3, cause=1)])
        assert [event.cause for event in store.read()] == [0, 1, 1]

    def test_head(self, store: EventStore) -> None:
        """The head tells the last position and the commits, and its chain changes with each commit."""
        empty = store.head()
        assert (empty.position, empty.commits, empty.chain) == (0, 0, bytes(32))
        store.append([deposit("account-a", 1, 2)])
        first = store.head()
        store.append([deposit("account-a", 1)])
        second = store.head()
        assert (first.position, first.commits) == (2, 1)
        assert (second.position, second.commits) == (3, 2)
        assert len({empty.chain, first.chain, second.chain}) == 3

    def test_chain(self, tmp_path: Path) -> None:
        """The chain is over the whole log: two logs that end alike, and differ before, have two heads."""
        chains = []
        for first in (1, 2):
            folder = tmp_path / str(first)
            folder.mkdir()
            store = self.open(folder, BANK, StepClock(), "run-1")
            store.append([deposit("account-a", first)])
            store.append([deposit("account-a", 5)])
            chains.append(store.head().chain)
            store.close()
        assert chains[0] != chains[1], f"both logs have the head {chains[0].hex()}"

    def test_empty_append(self, store: EventStore) -> None:
        """An append of nothing does nothing."""
        assert store.append([]) == []
        assert store.head().commits == 0

    def test_expected_version(self, store: EventStore) -> None:
        """A batch with another expected version is a conflict, and one that fits is taken."""
        store.append([deposit("account-a", 1)])
        [refused] = store.append([deposit("account-a", 2, expected_version=0)])
        assert refused == Conflict("account-a", 0, 1)
        assert store.append([deposit("account-a", 2, expected_version=1)]) == [Appended(2, 2)]

    def test_each_stands_alone(self, store: EventStore) -> None:
        """A refused batch takes nobody with it, and a later batch sees those before it."""
        results = store.append(
            [
                deposit("account-a", 1, expected_version=0),
                deposit("account-a", 9, expected_version=0),
                deposit("account-b", 5, expected_version=0),
                deposit("account-a", 2, expected_version=1),
            ]
        )
        assert results == [Appended(1, 1), Conflict("account-a", 0, 1), Appended(2, 1), Appended(3, 2)]
        assert store.rows("accounts", [b"account-a"]) == [Account("account-a", 3, 2)]

    def test_all_refused_writes_nothing(self, store: EventStore) -> None:
        """A call whose batches are all refused leaves the head where it was."""
        store.append([deposit("account-a", 1)])
        before = store.head()
        store.append([deposit("account-a", 1, expected_version=7), deposit("account-a", 1, epoch=3)])
        assert store.head() == before

    def test_epochs(self, store: EventStore) -> None:
        """An epoch is opened by exactly one more; after it, older epochs and unguarded batches are fenced."""
        assert store.append([deposit("account-a", 1, epoch=1, opens_epoch=True)]) == [Appended(1, 1)]
        assert store.append([deposit("account-a", 2, epoch=1)]) == [Appended(2, 2)]
        store.append([deposit("account-a", 3, epoch=2, opens_epoch=True)])
        assert store.append(
            [
                deposit("account-a", 9, epoch=1),
                deposit("account-a", 9, epoch=2, opens_epoch=True),
                deposit("account-a", 9, epoch=4, opens_epoch=True),
                deposit("account-a", 9),
            ]
        ) == [
            Fenced("account-a", 1, 2),
            Fenced("account-a", 2, 2),
            Fenced("account-a", 4, 2),
            Fenced("account-a", None, 2),
        ]
        assert store.append([deposit("account-a", 4, expected_version=3)]) == [Appended(4, 4)]
        assert [event.epoch for event in store.read()] == [1, 1, 2, 2]

    def test_fenced_before_conflict(self, store: EventStore) -> None:
        """Who is fenced is told so, even if the version is wrong as well: it must stop, not read again."""
        store.append([deposit("account-a", 1, epoch=1, opens_epoch=True)])
        [refused] = store.append([deposit("account-a", 9, epoch=0, expected_version=0)])
        assert refused == Fenced("account-a", 0, 1)

    def test_fenced_within_a_commit(self, store: EventStore) -> None:
        """A grant fences a batch that follows it in the same append."""
        results = store.append(
            [deposit("account-a", 1, epoch=1, opens_epoch=True), deposit("account-a", 9, epoch=0)]
        )
        assert results == [Appended(1, 1), Fenced("account-a", 0, 1)]

    @pytest.mark.parametrize(
        "batch",
        [
            Batch("account-a", ()),
            deposit("account-a", 1, opens_epoch=True),
            deposit("", 1),
            deposit("x" * 501, 1),
        ],
        ids=["no events", "unnamed epoch", "no stream", "long stream"],
    )
    def test_batches_nobody_means(self, store: EventStore, batch: Batch[Any]) -> None:
        """A batch without sense is a defect of the caller, and nothing of its commit is kept."""
        with pytest.raises(InvariantError):
            store.append([deposit("account-b", 1), batch])
        assert store.head().position == 0

    @pytest.mark.parametrize(
        ("batch", "named"),
        [
            (Batch[Any]("account-b", (Deposited("7"),)), r"Deposited\.amount"),  # type: ignore[arg-type]
            (Batch[Any]("account-b", (Deposited(1), Withdrawn(1.5))), r"Withdrawn\.amount"),  # type: ignore[arg-type]
            (Batch[Any]("account-b", (Deposited(1 << 64),)), r"Deposited\.amount"),
            (Batch[Any]("account-b", (Account("deposited", 5),)), "Account"),
            (Batch[Any]("account-b", ("text",)), "str"),
            (Batch[Any]("account-b", (Deposited(1),), cause="the one before"), "cause"),  # type: ignore[arg-type]
            (Batch[Any]("account-\ud800", (Deposited(1),)), "Unicode"),
            (Batch[Any]("account-b", Deposited(1)), "tuple"),  # type: ignore[arg-type]
        ],
        ids=["text", "fraction", "above 64 bits", "row", "no struct", "cause", "half a letter", "no tuple"],
    )
    def test_what_could_not_be_read_again_is_refused(
        self, store: EventStore, batch: Batch[Any], named: str
    ) -> None:
        """An event that no reader could decode is refused by type and field, with all of its commit.

        Acknowledged, it would make the whole log unreadable for good.
        """
        store.append([deposit("account-a", 1)])
        with pytest.raises(UsageError, match=named):
            store.append([deposit("account-a", 2), batch])
        assert [one.event for one in store.read()] == [Deposited(1)]
        assert store.scan("accounts") == [(b"account-a", Account("account-a", 1, 1))]
        assert store.append([deposit("account-a", 3)]) == [Appended(2, 2)]

    def test_a_batch_without_its_list(self, store: EventStore) -> None:
        """Batches come in a list: one alone is refused with a word, and so is what is no batch."""
        with pytest.raises(UsageError, match="list"):
            store.append(deposit("account-a", 1))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="Batch"):
            store.append([Deposited(1)])  # type: ignore[list-item]
        assert store.head().position == 0

    def test_keys_are_bytes(self, store: EventStore) -> None:
        """Keys of text would be found nowhere, in silence: they are refused."""
        store.append([deposit("account-a", 1)])
        for keys in (["account-a"], "account-a", b"account-a"):
            with pytest.raises(UsageError, match="bytes"):
                store.rows("accounts", keys)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="bytes"):
            store.scan("accounts", "account")  # type: ignore[arg-type]

    def test_read_from_anywhere(self, store: EventStore) -> None:
        """Reading starts behind any position, also within a commit, and gives at most the limit."""
        for size in (3, 1, 5, 2):
            store.append([deposit("account-a", *range(size))])
        for after in range(13):
            for limit in (1, 2, 4, 100):
                positions = [event.position for event in store.read(after, limit=limit)]
                assert positions == list(range(after + 1, 12))[:limit]

    def test_read_stream_from_anywhere(self, store: EventStore) -> None:
        """A stream is read from behind any of its versions, others' events left out."""
        for size in (3, 1, 5, 2):
            store.append([deposit("account-b", 0), deposit("account-a", *range(size)), deposit("account", 0)])
        for after in range(13):
            for limit in (1, 3, 100):
                events = store.read_stream("account-a", after, limit=limit)
                assert [event.version for event in events] == list(range(after + 1, 12))[:limit]
                assert {event.stream for event in events} <= {"account-a"}
        assert store.read_stream("account-zzz") == []
        assert store.read_stream("accoun") == []

    def test_tail(self, store: EventStore) -> None:
        """A waiting read returns as soon as there is an event, and else only after its time."""
        assert store.read(0, wait_s=0.05) == []
        timer = threading.Timer(0.1, lambda: store.append([deposit("account-a", 1)]))
        timer.start()
        found = store.read(0, wait_s=10)
        timer.join()
        assert [event.position for event in found] == [1]

    def test_projections(self, store: EventStore) -> None:
        """Rows, index and counts follow the events of the commit, when the append returns."""
        store.append([deposit("account-a", 60, 50), deposit("account-b", 5), deposit("other", 1)])
        assert store.rows("accounts", [b"account-a", b"none", b"account-b"]) == [
            Account("account-a", 110, 2),
            None,
            Account("account-b", 5, 1),
        ]
        assert store.scan("accounts.rich") == [(b"000000000110account-a", b"account-a")]
        assert store.scan("accounts.tally") == [(b"black", 2)]
        store.append([Batch("account-a", (Withdrawn(200),)), Batch("account-b", (Closed(),))])
        assert store.scan("accounts") == [(b"account-a", Account("account-a", -90, 3))]
        assert store.scan("accounts.rich") == []
        assert store.rows("accounts.tally", [b"black", b"red"]) == [None, 1]

    def test_scan(self, store: EventStore) -> None:
        """A scan gives keys in order, by prefix, behind a key, up to the limit."""
        store.append([deposit(f"account-{name}", 1) for name in ("b", "ab", "aa", "c", "a")])
        names = [b"account-" + name for name in (b"a", b"aa", b"ab", b"b", b"c")]

        def keys(prefix: bytes = b"", **bounds: Any) -> list[bytes]:
            return [key for key, _ in store.scan("accounts", prefix, **bounds)]

        assert keys() == names
        assert keys(b"account-a") == names[:3]
        assert keys(b"account-a", after=b"account-a") == names[1:3]
        assert keys(after=b"account-aaa", limit=2) == names[2:4]
        assert keys(b"account-b", after=b"a") == names[3:4]
        assert keys(b"zzz") == []
        store.append([Batch("account-aa", (Closed(),)), deposit("account-ba", 1)])
        assert keys() == [names[0], names[2], names[3], b"account-ba", names[4]]

    def test_unknown_table(self, store: EventStore) -> None:
        """A table that the domain has not is refused by name."""
        with pytest.raises(UsageError, match="nope"):
            store.rows("nope", [b"a"])
        with pytest.raises(UsageError, match="nope"):
            store.scan("nope")

    def test_a_broken_projection_keeps_nothing(self, tmp_path: Path) -> None:
        """An index entry of two rows is a defect, and the commit that shows it leaves no trace."""
        broken = replace(ACCOUNTS, indexes={"same": lambda _key, _row: [b"same"]})
        store = self.open(tmp_path, replace(BANK, projections=(broken,)), StepClock(), "run-1")
        store.append([deposit("account-a", 1)])
        with pytest.raises(InvariantError, match="two rows"):
            store.append([deposit("account-b", 1)])
        with pytest.raises(InvariantError, match="two rows"):
            store.append([deposit("account-c", 1), deposit("account-d", 1)])
        assert store.head().position == 1
        assert [key for key, _ in store.scan("accounts")] == [b"account-a"]
        assert store.append([deposit("account-a", 1)]) == [Appended(2, 2)]
        store.close()

    def test_rebuild(self, store: EventStore) -> None:
        """Rebuilt tables are the kept ones."""
        for step in range(30):
            store.append([deposit(f"account-{step % 7}", step), Batch(f"account-{step % 5}", (Closed(),))])
        tables = ("accounts", "accounts.rich", "accounts.tally")
        kept, head, events = [store.scan(table) for table in tables], store.head(), store.read()
        store.rebuild()
        assert (store.head(), store.read()) == (head, events)
        assert [store.scan(table) for table in tables] == kept

    def test_replay(self, store: EventStore) -> None:
        """The tables of any position can be had again, and at the end they are the kept ones."""
        for step in range(20):
            store.append([deposit(f"account-{step % 3}", step, step)])
        view = replay(store, BANK)
        assert view.scan("accounts") == store.scan("accounts")
        assert view.scan("accounts.tally") == store.scan("accounts.tally")
        assert replay(store, BANK, position=3).rows("accounts", [b"account-1"]) == [
            Account("account-1", 1, 1)
        ]
        assert replay(store, BANK, time_ns=3_000_000_000).position == 4

    def test_schema(self, tmp_path: Path) -> None:
        """Old events are lifted by the upcasters when they are read and folded."""
        if not self.durable:
            pytest.skip("the store forgets")
        store = self.open(tmp_path, BANK, StepClock(), "run-1")
        store.append([deposit("account-a", 7)])
        store.close()
        cents = replace(BANK, schema=2, upcasters={1: _in_cents})
        store = self.open(tmp_path, cents, StepClock(), "run-2")
        store.append([deposit("account-a", 50)])
        assert [event.event for event in store.read()] == [Deposited(700), Deposited(50)]
        assert store.rows("accounts", [b"account-a"]) == [Account("account-a", 750, 2)]
        store.close()
        with pytest.raises(UsageError, match="newer"):
            self.open(tmp_path, BANK, StepClock(), "run-3")

    def test_reopen(self, tmp_path: Path) -> None:
        """A durable store has everything when it is opened again, and goes on from there."""
        if not self.durable:
            pytest.skip("the store forgets")
        store = self.open(tmp_path, BANK, StepClock(), "run-1")
        store.append([deposit("account-a", 1, epoch=1, opens_epoch=True)])
        before, events = store.head(), store.read()
        store.close()
        store = self.open(tmp_path, BANK, StepClock(), "run-2")
        assert (store.head(), store.read()) == (before, events)
        assert store.append([deposit("account-a", 9), deposit("account-a", 2, epoch=1)]) == [
            Fenced("account-a", None, 1),
            Appended(2, 2),
        ]
        store.close()

    def test_other_code_folds_anew(self, tmp_path: Path) -> None:
        """Tables of another version of a projection are folded anew when the store is opened."""
        if not self.durable:
            pytest.skip("the store forgets")
        store = self.open(tmp_path, BANK, StepClock(), "run-1")
        store.append([deposit("account-a", 1, 2)])
        store.close()
        doubled = replace(ACCOUNTS, version=2, fold=_fold_doubled)
        store = self.open(tmp_path, replace(BANK, projections=(doubled,)), StepClock(), "run-2")
        assert store.scan("accounts") == [(b"account-a", Account("account-a", 6, 2))]
        store.append([deposit("account-a", 10)])
        assert store.scan("accounts") == [(b"account-a", Account("account-a", 26, 3))]
        store.close()

    def test_two_processes(self, tmp_path: Path) -> None:
        """Who shares a folder sees what the other appended, waits for it, and is refused by it."""
        if not self.shared:
            pytest.skip("the store has its folder to itself")
        with Neighbour(self, tmp_path) as other:
            store = self.open(tmp_path, BANK, StepClock(), "run-1")
            assert store.append([deposit("account-a", 1)]) == [Appended(1, 1)]
            assert other.ask("read", 0) == store.read(), "what was appended here is read there"
            assert other.ask("head") == store.head()
            assert other.ask("append", [deposit("account-a", 2)]) == [Appended(2, 2)]
            theirs = store.read(1)
            assert [one.run_id for one in theirs] == ["run-2"], "what was appended there is read here"
            assert store.rows("accounts", [b"account-a"]) == [Account("account-a", 3, 2)]
            assert store.append([deposit("account-a", 9, expected_version=1)]) == [
                Conflict("account-a", 1, 2)
            ]
            other.ask("append", [deposit("account-a", 3, epoch=1, opens_epoch=True)])
            assert store.append([deposit("account-a", 9, epoch=0)]) == [Fenced("account-a", 0, 1)]
            here, there = store.head(), other.ask("head")
            assert (here, here.position) == (there, 3), f"{here} here, {there} there"
            other.begin("append", [deposit("account-b", 4)])
            assert [one.position for one in store.read(3, wait_s=10)] == [4], (
                "a waiting read sees the other's"
            )
            assert other.answer() == [Appended(4, 1)]
            store.close()

    def test_two_processes_append_at_once(self, tmp_path: Path) -> None:
        """Positions and versions stay gapless, and no table loses an event, when two append at once."""
        if not self.shared:
            pytest.skip("the store has its folder to itself")
        with Neighbour(self, tmp_path) as other:
            store = self.open(tmp_path, BANK, StepClock(), "run-1")
            for _ in range(40):
                other.begin("append", [deposit("account-a", 1)])
            for _ in range(40):
                store.append([deposit("account-a", 1)])
            for _ in range(40):
                other.answer()
            events = store.read()
            assert [one.position for one in events] == [one.version for one in events] == list(range(1, 81))
            assert {one.run_id for one in events} == {"run-1", "run-2"}
            assert store.rows("accounts", [b"account-a"]) == [Account("account-a", 80, 80)]
            store.close()

    def test_close(self, store: EventStore) -> None:
        """Closing twice is harmless; using a closed store is an error that says so."""
        store.close()
        store.close()
        with pytest.raises(UsageError, match="closed"):
            store.read()
        with pytest.raises(UsageError, match="closed"):
            store.append([deposit("account-a", 1)])
        assert repr(store)

    def test_readers_beside_the_writer(self, store: EventStore) -> None:
        """Readers on other threads see whole commits only, in order, while one thread appends."""
        torn: list[str] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                events = store.read(max(store.head().position - 50, 0))
                positions = [event.position for event in events]
                if positions != list(range(positions[0], positions[0] + len(positions)) if positions else []):
                    torn.append(f"positions {positions}")
                if events and events[-1].version % 2:
                    torn.append(f"half a commit at {positions[-1]}")

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        for step in range(60):
            store.append([deposit("account-a", step, step)])
        done.set()
        for thread in threads:
            thread.join(10)
        assert torn == []


class Neighbour:
    """Another process that has the store of a folder open, and does there what it is asked."""

    def __init__(self, contract: EventStoreContract, folder: Path) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would share what the store has open
        self._pipe, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_neighbour, args=(contract, folder, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.answer()

    def __repr__(self) -> str:
        return f"<Neighbour {self._process.pid}>"

    def __enter__(self) -> Neighbour:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(NEIGHBOUR_S)
        self._process.kill()

    def begin(self, method: str, *arguments: Any) -> None:
        """Let it call a method of its store."""
        self._pipe.send((method, arguments))

    def answer(self) -> Any:
        """What the next of its calls gave."""
        if not self._pipe.poll(NEIGHBOUR_S):
            raise TimeoutError(f"the other process gave no answer within {NEIGHBOUR_S} s")
        return self._pipe.recv()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of its store gives."""
        self.begin(method, *arguments)
        return self.answer()


def _neighbour(contract: EventStoreContract, folder: Path, pipe: Connection) -> None:
    store = contract.open(folder, BANK, StepClock(), "run-2")
    pipe.send("open")
    with contextlib.suppress(EOFError):  # the test is over
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(store, method)(*arguments))
    store.close()


def _fold_doubled(row: Account | None, recorded: Recorded[Any]) -> Account | None:
    row = row or Account(owner=recorded.stream)
    return Account(row.owner, row.balance + 2 * recorded.event.amount, row.events + 1)


def _in_cents(event: list[Any]) -> list[Any]:
    return [event[0], event[1] * 100]
