"""Tells and asks per second beside pykka's own, and the Journal beside a plain loop of ``store.append``.

Run: ``python benchmarks/actors.py [MESSAGES]``; the log is written below the working folder (a real disk).
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pykka

from quire.actors.runtime.actor import Actor
from quire.actors.runtime.address import Address
from quire.actors.runtime.journal import Append, Journal
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import NEVER, System
from quire.events.record import Batch
from quire.store.interface import Domain
from quire.store.lmdb_store import LmdbStore

ROUNDS = 5
COMMIT_BATCHES = 64


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="said"):
    number: int


def batches(count: int) -> list[Batch[Said]]:
    return [Batch(f"s-{number % 1000}", (Said(number),)) for number in range(count)]


class PykkaCounter(pykka.ThreadingActor):
    def __init__(self, until: int, reached: threading.Event) -> None:
        super().__init__()
        self.until, self.reached, self.count = until, reached, 0

    def on_receive(self, message: Any) -> Any:
        self.count += 1
        if self.count == self.until:
            self.reached.set()
        return message


class Counter(Actor):
    mailbox_max = 10_000_000

    def __init__(self, until: int, reached: threading.Event) -> None:
        super().__init__()
        self.until, self.reached, self.count = until, reached, 0

    def handle(self, message: Any) -> Any:
        self.count += 1
        if self.count == self.until:
            self.reached.set()
        return message


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def tells(tell: Callable[[Any], None], reached: threading.Event, messages: int) -> float:
    def work() -> None:
        for number in range(messages):
            tell(number)
        reached.wait()

    return messages / seconds(work)


def asks(ask: Callable[[Any], Any], messages: int) -> float:
    def work() -> None:
        for number in range(messages):
            ask(number)

    return messages / seconds(work)


def pykka_round(messages: int) -> tuple[float, float]:
    reached = threading.Event()
    ref = PykkaCounter.start(messages, reached)
    rates = tells(ref.tell, reached, messages), asks(lambda m: ref.ask(m, timeout=10), messages // 20)
    ref.stop()
    return rates


def quire_round(system: System, messages: int) -> tuple[float, float]:
    reached = threading.Event()
    address: Address = system.start("counter", lambda: Counter(messages, reached))
    rates = (
        tells(address.tell, reached, messages),
        asks(lambda m: address.ask(m, timeout_s=10), messages // 20),
    )
    system.stop([[address]], timeout_s=10)
    return rates


def opened(folder: str) -> LmdbStore:
    return LmdbStore(Path(folder) / "log", Domain(Said, ()), run_id="bench", clock=SystemClock())


def plain_round(count: int) -> float:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store, said = opened(folder), batches(count)

        def work() -> None:
            for first in range(0, count, COMMIT_BATCHES):
                store.append(said[first : first + COMMIT_BATCHES])

        rate = count / seconds(work)
        store.close()
    return rate


class Sink(Actor):
    """A sender: counts what it is told is durable."""

    def __init__(self, until: int, reached: threading.Event) -> None:
        super().__init__()
        self.until, self.reached, self.count = until, reached, 0

    def handle(self, message: Any) -> None:
        self.count += len(message.results)
        if self.count == self.until:
            self.reached.set()


def journal_round(system: System, count: int) -> float:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store, said, reached = opened(folder), batches(count), threading.Event()
        journal = system.start("journal", lambda: Journal(store, batches_max=COMMIT_BATCHES), policy=NEVER)
        sender = system.start("sender", lambda: Sink(count, reached))

        def work() -> None:
            for batch in said:
                journal.tell(Append(batch, sender))
            reached.wait()

        rate = count / seconds(work)
        system.stop([[journal], [sender]], timeout_s=10)
        store.close()
    return rate


def middle(rates: list[float]) -> float:
    return sorted(rates)[len(rates) // 2]


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    scheduler = ThreadScheduler(disk_threads=1)
    system = System(scheduler=scheduler, clock=SystemClock(), on_fatal=lambda name, error: None)
    rounds = [(pykka_round(messages), quire_round(system, messages)) for _ in range(ROUNDS)]
    for index, what in enumerate(("tells", "asks")):
        theirs = middle([theirs[index] for theirs, _ in rounds])
        ours = middle([ours[index] for _, ours in rounds])
        print(f"{what}/s: pykka {theirs:,.0f}, quire {ours:,.0f}, ratio {ours / theirs:.2f}")
    appends = [(plain_round(messages // 10), journal_round(system, messages // 10)) for _ in range(ROUNDS)]
    plain, journal = (middle([pair[side] for pair in appends]) for side in (0, 1))
    print(f"appends/s: plain loop {plain:,.0f}, Journal {journal:,.0f}, ratio {journal / plain:.2f}")
    scheduler.close()


if __name__ == "__main__":
    main()
