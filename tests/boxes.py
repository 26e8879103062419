"""What the tests of single actors share: the real log and files, and boxes in place of their neighbours.

A box keeps what it is told, so that a test sees what is said, and in which order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.actors.directory import Directory
from quire.actors.lease_manager import LeaseManager
from quire.actors.runtime.journal import Append, Journaled
from quire.actors.runtime.ports import SystemClock
from quire.config.loader import load
from quire.events import work as works
from quire.events.facts import (
    JobLeased,
    JobPlanned,
)
from quire.events.job import fold_job, stream_of
from quire.events.keys import job_key
from quire.events.projections import JOBS, job_row_key
from quire.events.record import Appended, Batch, Recorded
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore

SETTINGS = load(environ={}).settings
LIST = "1" * 16
SECOND = 1_000_000_000
SOURCE = "arxiv_pdf"


class Box:
    """An address that keeps what it is told."""

    def __init__(self, name: str = "", said: list[Any] | None = None) -> None:
        self.told: list[Any] = []
        self._name, self._said = name, said

    def tell(self, message: Any) -> None:
        self.told.append(message)
        if self._said is not None:
            self._said.append((self._name, message))

    answer = tell

    def last(self, kind: type) -> Any:
        return [message for message in self.told if isinstance(message, kind)][-1]

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.told)


class AtOnce:
    """A scheduler that does blocking work at once and makes no timers."""

    def later(self, _delay_s: float, _call: Any) -> Any:
        return lambda: None

    def block(self, work: Any, done: Any) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - as the pool does
            result = error
        done(result)


class SetClock(SystemClock):
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        super().__init__()
        self.boot_id, self.boot, self.wall = "this boot", 1000 * SECOND, 2_000_000 * SECOND

    def boot_ns(self) -> int:
        return self.boot

    def wall_ns(self) -> int:
        return self.wall


class Bench:
    """A library with a log, and boxes for everybody."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.library = Library.open(folder / "library")
        self.clock = SetClock()
        self.store = LmdbStore(self.library.events, QUIRE, run_id="r", clock=self.clock, map_size=1 << 26)
        self.settings = msgspec.structs.replace(SETTINGS, **settings)
        self.to = Directory()
        for name in ("journal", "leases", "reconciler", "resolver", "finalizer"):
            setattr(self.to, name, Box())
        self.to.adapters[SOURCE] = Box()
        self.watched: list[Any] = []
        self.lock = self.library.claim_worker("me")

    def manager(self) -> LeaseManager:
        manager = LeaseManager(
            worker="me", directory=self.to, settings=self.settings, store=self.store, clock=self.clock,
            scheduler=AtOnce(), library=self.library, watch=self.watched.append,
        )  # fmt: skip
        manager.me = Box()
        return manager

    def plan(self, number: int, *events: Any, epoch: int = 0) -> str:
        """A planned job, with further events under an epoch."""
        work = works.Work(doi=f"10.1000/{number}")
        job_id = job_key(work)
        self.append(job_id, JobPlanned(work, "pdf", work.resolver_url, LIST))
        if epoch:
            self.append(job_id, *events, epoch=epoch, opens_epoch=True)
        return job_id

    def append(self, job_id: str, *events: Any, **guards: Any) -> None:
        (result,) = self.store.append([Batch(stream_of(job_id), events, **guards)])
        assert isinstance(result, Appended), result

    def row(self, job_id: str) -> Any:
        return self.store.rows(JOBS, [job_row_key(job_id)])[0]

    def asked(self) -> dict[str, Append]:
        """The claims that are on their way, by job."""
        appends = [one for one in self.to.journal.told if isinstance(one, Append)]
        return {one.batch.stream.removeprefix("job/"): one for one in appends}

    def perform(self, actor: Any) -> None:
        """Play the journal: append what was asked for, and answer."""
        asked, self.to.journal.told = self.to.journal.told, []
        results = self.store.append([one.batch for one in asked])
        actor.handle(Journaled(tuple((one.tag, result) for one, result in zip(asked, results, strict=True))))

    def close(self) -> None:
        self.lock.release()
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def folded(events: Iterable[Any]) -> Iterator[Any]:
    """The row of a job after each of its events."""
    row = None
    for number, event in enumerate(events, 1):
        row = fold_job(row, Recorded(number, "job/x", number, 1, number, "r", 0, event))
        yield row


def leased_by(worker: str, bench: Bench, **fields: Any) -> JobLeased:
    return JobLeased(worker, **{"until_ns": bench.clock.boot + 60 * SECOND, "boot_id": "this boot", **fields})
