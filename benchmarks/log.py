"""How fast the log is: ledger cycles and replay, beside the bare put-and-fsync loop of LMDB in the same run.

    python benchmarks/log.py [JOBS]

A cycle is one job's life: 12 events in 4 durable appends, 64 jobs in flight share each commit.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from quire.events.record import Appended, Batch, Recorded
from quire.store.audit import audit
from quire.store.interface import Domain, Projection
from quire.store.lmdb_store import LmdbStore
from quire.store.replay import replay

IN_FLIGHT = 64
STEPS = 4
EVENTS_PER_STEP = 3


class Moved(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="moved"):
    state: str


class Noted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="noted"):
    op_id: str
    kind: str
    result: dict[str, str | int]


class Row(msgspec.Struct, frozen=True, array_like=True):
    state: str = "PLANNED"
    ops: int = 0


def fold(row: Row | None, recorded: Recorded[Any]) -> Row:
    row = row or Row()
    event = recorded.event
    return Row(event.state, row.ops) if isinstance(event, Moved) else Row(row.state, row.ops + 1)


JOBS: Projection[Row] = Projection(
    name="jobs",
    version=1,
    row=Row,
    key=lambda recorded: recorded.stream.encode(),
    fold=fold,
    indexes={"state": lambda key, row: [row.state.encode() + b"/" + key]},
    tallies=lambda row: [row.state],
)
DOMAIN = Domain(events=Moved | Noted, projections=(JOBS,))


class Clock:
    def wall_ns(self) -> int:
        return time.time_ns()


def step(job: int, number: int) -> tuple[Any, ...]:
    op = f"{job:032x}{number:032x}"
    return (
        Noted(op, "STREAM", {}),
        Noted(op, "STREAM", {"bytes": 123_456, "url": "x" * 40}),
        Moved(f"S{number}"),
    )


def cycles(store: LmdbStore, jobs: int) -> float:
    began = time.perf_counter()
    for first in range(0, jobs, IN_FLIGHT):
        for number in range(STEPS):
            batches = [
                Batch(f"{job:064x}", step(job, number), epoch=1, opens_epoch=number == 0)
                for job in range(first, min(first + IN_FLIGHT, jobs))
            ]
            if not all(isinstance(result, Appended) for result in store.append(batches)):
                raise SystemExit("a batch was refused")
    return time.perf_counter() - began


def bare(folder: Path, commits: int, value: bytes) -> float:
    with lmdb.open(str(folder), map_size=1 << 34) as env:
        began = time.perf_counter()
        for number in range(commits):
            with env.begin(write=True) as txn:
                txn.put(number.to_bytes(8, "big"), value, append=True)
        return time.perf_counter() - began


def timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def read_all(store: LmdbStore) -> None:
    after = 0
    while events := store.read(after):
        after = events[-1].position


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder)
        store = LmdbStore(path / "events", DOMAIN, run_id="run", clock=Clock())
        took = cycles(store, jobs)
        events, commits = jobs * STEPS * EVENTS_PER_STEP, store.head().commits
        value = b"x" * (sum(len(value) for _, value in store.commits()) // max(len(store.commits()), 1))
        loop = bare(path / "bare", commits, value)
        rows = [
            (
                "append with projections",
                events / took,
                f"{jobs / took:,.0f} cycles/s, {loop / took:.2f} of bare",
            ),
            ("bare put + fsync", events / loop, f"{commits / loop:,.0f} commits/s of {len(value):,} bytes"),
            ("read, chain checked", events / timed(lambda: read_all(store)), ""),
            ("replay into memory", events / timed(lambda: replay(store, DOMAIN)), ""),
            ("rebuild", events / timed(store.rebuild), ""),
            ("audit", events / timed(lambda: audit(store, DOMAIN)), ""),
        ]
        store.close()
        opening = timed(lambda: LmdbStore(path / "events", DOMAIN, run_id="run", clock=Clock()).close())
        for name, rate, note in rows:
            print(f"{name:<26}{rate:>12,.0f} events/s  {note}")
        print(f"{'open':<26}{opening * 1000:>12.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
