"""The Journal: nobody is told "done" before it is, and one fsync serves everybody who waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.actors.runtime.actor import Actor
from quire.actors.runtime.journal import Append, Journal, Journaled
from quire.actors.runtime.mailbox import ActorStoppedError
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import NEVER, RestartPolicy, System
from quire.errors import DamagedError, InvariantError, StorageFullError, StoreFailedError
from quire.events.record import Appended, AppendResult, Batch, Conflict
from quire.store.interface import Domain
from quire.store.lmdb_store import LmdbStore

WAIT_S = 10.0
BATCHES_MAX = 64


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="said"):
    word: str


DOMAIN = Domain(events=Said, projections=())


def until(met: Callable[[], bool]) -> bool:
    """Whether a condition is met within WAIT_S."""
    ticks = (time.sleep(0.002) for _ in range(int(WAIT_S / 0.002)))
    return any(met() or tick for tick in ticks) or met()


def batch(word: str, stream: str = "s", **guards: Any) -> Batch[Any]:
    return Batch(stream, (Said(word),), **guards)


class FileStore:
    """Appends a line per batch to a real file with fsync; can be held, and can be made to fail."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab")
        self.position = 0
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)
        self.error: BaseException | None = None

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        self.entered.release()
        assert self.go.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        self.sizes.append(len(batches))
        results: list[AppendResult] = []
        for one in batches:
            self.position += 1
            self.file.write(f"{one.stream} {one.events[0].word}\n".encode())
            results.append(Appended(self.position, self.position))
        self.file.flush()
        os.fsync(self.file.fileno())
        return results


class Sender(Actor):
    """Keeps what the Journal tells it."""

    def __init__(self, told: list[Journaled]) -> None:
        super().__init__()
        self.told = told

    def handle(self, message: Journaled) -> None:
        self.told.append(message)


class Bench:
    """A system with a Journal over a file, and senders."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder / "log")
        self.fatal: list[tuple[str, BaseException]] = []
        self.scheduler = ThreadScheduler(disk_threads=1)
        self.system = System(
            scheduler=self.scheduler, clock=SystemClock(), on_fatal=lambda *call: self.fatal.append(call)
        )
        self.actors: list[Journal] = []
        self.journal = self.system.start("journal", self.make, policy=NEVER)

    def make(self) -> Journal:
        self.actors.append(Journal(self.store, batches_max=BATCHES_MAX))
        return self.actors[-1]

    def sender(self, name: str) -> tuple[Any, list[Journaled]]:
        told: list[Journaled] = []
        return self.system.start(name, lambda: Sender(told)), told

    def hold(self) -> None:
        """Let the next commit begin and wait, so that everything told meanwhile gathers."""
        self.store.go.clear()
        self.journal.tell(Append(batch("held"), None))
        assert self.store.entered.acquire(timeout=WAIT_S)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.store.go.set()
    bench.scheduler.close()


def tags(told: list[Journaled]) -> list[Any]:
    return [tag for message in told for tag, _ in message.results]


def test_nobody_is_answered_before_the_store_returned(bench):
    """While ``append`` runs, no teller and no asker hears anything."""
    sender, told = bench.sender("sender")
    answers: list[Any] = []
    bench.store.go.clear()
    bench.journal.tell(Append(batch("a"), sender, "a"))
    assert bench.store.entered.acquire(timeout=WAIT_S)
    asker = threading.Thread(
        target=lambda: answers.append(bench.journal.ask(Append(batch("b"), None), timeout_s=WAIT_S))
    )
    asker.start()
    time.sleep(0.1)
    assert (told, answers) == ([], [])
    bench.store.go.set()
    asker.join(WAIT_S)
    assert until(lambda: bool(told))
    assert answers == [Appended(2, 2)]
    assert told == [Journaled((("a", Appended(1, 1)),))]


def test_what_gathers_during_a_commit_shares_the_next(bench):
    """Two senders' appends go into one commit, and each sender gets ONE message, in its order."""
    one, told_one = bench.sender("one")
    two, told_two = bench.sender("two")
    bench.hold()
    for number in range(10):
        bench.journal.tell(Append(batch(f"w{number}"), (one, two)[number % 2], number))
    bench.store.go.set()
    assert until(lambda: bool(told_one) and bool(told_two))
    assert bench.store.sizes == [1, 10]
    assert [len(told_one), len(told_two)] == [1, 1]
    assert told_one[0].results == tuple((n, Appended(n + 2, n + 2)) for n in range(0, 10, 2))
    assert tags(told_two) == [1, 3, 5, 7, 9]


def test_a_commit_is_bounded(bench):
    """Never more than ``batches_max`` batches share a commit, and nothing is lost over it."""
    sender, told = bench.sender("sender")
    bench.hold()
    for number in range(150):
        bench.journal.tell(Append(batch("w"), sender, number))
    bench.store.go.set()
    assert until(lambda: len(tags(told)) == 150)
    assert bench.store.sizes == [1, 64, 64, 22]
    assert tags(told) == list(range(150))
    account = bench.actors[0].statistics()
    assert (account.commits, account.batches) == (4, 151)
    assert account.longest_commit_ms > 0


def test_an_append_without_a_sender_is_written_all_the_same(bench):
    """``reply_to`` None means that nobody waits, not that nothing is written."""
    bench.journal.tell(Append(batch("quiet"), None))
    assert bench.journal.ask(Append(batch("asked"), None), timeout_s=WAIT_S) == Appended(2, 2)
    assert Path(bench.store.file.name).read_text() == "s quiet\ns asked\n"


def test_a_sender_whose_mailbox_is_full_still_hears(bench):
    """An answer gets into a full mailbox: it is bounded by the sender's own appends."""
    gate, told = threading.Event(), []

    class Small(Actor):
        mailbox_max = 1

        def handle(self, message: Any) -> None:
            gate.wait(WAIT_S) if message == "wait" else told.append(message)

    sender = bench.system.start("small", Small)
    sender.tell("wait")
    assert until(lambda: sender.waiting == 0)
    sender.tell("full now")
    bench.journal.tell(Append(batch("a"), sender, "a"))
    assert until(lambda: sender.waiting == 2)
    gate.set()
    assert until(lambda: len(told) == 2)
    assert bench.fatal == []


def test_a_sender_that_is_gone_does_not_stop_the_journal(bench):
    """Its answer is a dead letter; others are served on."""
    sender, _ = bench.sender("sender")
    bench.system.stop([[sender]], timeout_s=WAIT_S)
    bench.journal.tell(Append(batch("a"), sender, "a"))
    assert bench.journal.ask(Append(batch("b"), None), timeout_s=WAIT_S) == Appended(2, 2)
    assert bench.system.dead_letters().last[-1].message == Journaled((("a", Appended(1, 1)),))


@pytest.mark.parametrize("kind", [StorageFullError, StoreFailedError, DamagedError])
@pytest.mark.parametrize("policy", [NEVER, RestartPolicy(backoff_s=0)])
def test_a_store_error_is_fatal_and_nobody_is_told_done(bench, kind, policy):
    """on_fatal gets the original error, no sender is answered, no second Journal is made by any policy."""
    bench.system.stop([[bench.journal]], timeout_s=WAIT_S)
    bench.journal = bench.system.start("journal", bench.make, policy=policy)
    sender, told = bench.sender("sender")
    bench.hold()
    error = bench.store.error = kind("the disk says no")
    for number in range(3):
        bench.journal.tell(Append(batch("w"), sender, number))
    bench.store.go.set()
    assert until(lambda: bool(bench.fatal))
    assert bench.fatal == [("journal", error)]
    with pytest.raises(ActorStoppedError, match="failed"):
        bench.journal.ask(Append(batch("late"), sender), timeout_s=WAIT_S)
    bench.journal.tell(Append(batch("later"), sender))
    bench.system.stop([[sender]], timeout_s=WAIT_S)
    assert told == []
    assert len(bench.actors) == 2
    assert bench.system.dead_letters().count == 5


def test_an_asker_gets_the_error_of_the_store(bench):
    """An ask whose commit failed raises the store's own error."""
    error = bench.store.error = StoreFailedError("fsync")
    with pytest.raises(StoreFailedError) as caught:
        bench.journal.ask(Append(batch("a"), None), timeout_s=WAIT_S)
    assert caught.value is error


def test_a_store_that_judges_too_few_is_found_out(bench, monkeypatch):
    """A missing result would be answered to the wrong sender: that is fatal instead."""
    monkeypatch.setattr(bench.store, "append", lambda batches: [])
    bench.journal.tell(Append(batch("a"), None))
    assert until(lambda: bool(bench.fatal))
    assert isinstance(bench.fatal[0][1], InvariantError)


def test_an_orderly_stop_writes_everything_first(bench):
    """What was told before the stop is durable and answered when ``stop`` returns."""
    sender, told = bench.sender("sender")
    for number in range(500):
        bench.journal.tell(Append(batch("w"), sender, number))
    assert bench.system.stop([[bench.journal], [sender]], timeout_s=WAIT_S) == []
    assert tags(told) == list(range(500))
    assert len(Path(bench.store.file.name).read_text().splitlines()) == 500


def test_many_senders_on_lmdb(tmp_path):
    """On the real store: every append is answered once with its place, refusals stand alone, and the log
    holds exactly what was said.
    """
    store = LmdbStore(tmp_path / "log", DOMAIN, run_id="run", clock=SystemClock())
    scheduler, fatal = ThreadScheduler(disk_threads=1), []
    system = System(scheduler=scheduler, clock=SystemClock(), on_fatal=lambda *call: fatal.append(call))
    journal = system.start("journal", lambda: Journal(store, batches_max=BATCHES_MAX), policy=NEVER)
    told: dict[str, list[Journaled]] = {f"sender-{number}": [] for number in range(4)}
    senders = {name: system.start(name, lambda name=name: Sender(told[name])) for name in told}

    def say(name: str) -> None:
        for number in range(200):
            journal.tell(Append(batch(f"{number}", name), senders[name], number))
        journal.tell(Append(batch("never", name, expected_version=7), senders[name], "refused"))

    threads = [threading.Thread(target=say, args=(name,)) for name in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert system.stop([[journal], list(senders.values())], timeout_s=WAIT_S) == []
    for name, messages in told.items():
        assert tags(messages) == [*range(200), "refused"]
        results = [result for message in messages for _, result in message.results]
        assert results[-1] == Conflict(name, 7, 200)
        assert [result.version for result in results[:-1]] == list(range(1, 201))
        kept = {event.position: event.event.word for event in store.read_stream(name)}
        assert [kept[result.position] for result in results[:-1]] == [f"{n}" for n in range(200)]
    assert fatal == []
    assert store.head().position == 800
    assert store.head().commits < 200
    scheduler.close()
    store.close()
