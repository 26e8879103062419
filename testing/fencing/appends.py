"""Owners of the same jobs, interleaved at the level of appends: thousands of fencing rounds in seconds.

One store on a real disk, many jobs, two owners who know no more than what they were last told. By the seed
one of them leases a job, speaks about it, or takes it over from the other; what both say goes into the same
commits, in drawn order. A model says what must become of each append. The round ends when the overtaken owner
has spoken, under its old epoch, and was refused.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

from ...actors.runtime.ports import SystemClock
from ...events.facts import JobLeased, JobStateChanged, LeaseRenewed
from ...events.job import stream_of
from ...events.record import Appended, AppendResult, Batch, Fenced
from ...store.domain import QUIRE
from ...store.interface import READ_LIMIT
from ...store.lmdb_store import LmdbStore
from .fences import Fences

JOBS = 200
"""Jobs that the owners contend for."""
COMMIT_MAX = 64
"""Appends of one commit at most."""
MAP_BYTES = 1 << 30
OWNERS = ("one", "two")


class Duels(msgspec.Struct):
    """What the rounds came to."""

    rounds: int = 0
    """Takeovers after which the owner before tried to speak and was refused."""
    appends: int = 0
    late_refused: int = 0
    stale: int = 0
    """Late words that stand in the log."""
    misjudged: list[str] = []
    """Appends of which the store said something else than the model."""

    @property
    def ok(self) -> bool:
        """Whether every late word was refused, and no other."""
        return not self.stale and not self.misjudged


class _Job:
    """One job: what the log holds of it, and what each owner believes."""

    def __init__(self, number: int) -> None:
        self.stream = stream_of(f"{number:064x}")
        self.epoch = self.version = 0
        self.owner = ""
        self.believed = dict.fromkeys(OWNERS, 0)
        """Owner → the epoch under which it speaks; 0: it has none."""
        self.overtaken = False
        """Somebody lost it, and has not noticed yet."""


class _Duel:
    """The jobs, the chance and the account."""

    def __init__(self, seed: int) -> None:
        self.account = Duels()
        self._chance = random.Random(seed)
        self._jobs = [_Job(number) for number in range(JOBS)]

    def commit(self, store: LmdbStore) -> None:
        """Have both owners say something, in one commit, and hold the answers against the model."""
        said = [self._drawn() for _ in range(self._chance.randint(1, COMMIT_MAX))]
        results = store.append([batch for _, _, batch in said])
        for (job, owner, batch), result in zip(said, results, strict=True):
            self.account.appends += 1
            self._judge(job, owner, batch, result)

    def _drawn(self) -> tuple[_Job, str, Batch[Any]]:
        job, owner = self._chance.choice(self._jobs), self._chance.choice(OWNERS)
        if job.believed[owner] and self._chance.random() < 0.7:
            word = self._chance.choice((LeaseRenewed(1), JobStateChanged("LEASED", "HEAD_DONE")))
            return job, owner, Batch(job.stream, (word,), epoch=job.believed[owner])
        leased = JobLeased(owner, 1, "boot", takeover=bool(job.owner))
        return job, owner, Batch(job.stream, (leased,), epoch=job.epoch + 1, opens_epoch=True)

    def _judge(self, job: _Job, owner: str, batch: Batch[Any], result: AppendResult) -> None:
        right = batch.epoch == job.epoch + batch.opens_epoch
        if isinstance(result, Appended) != right or (not right and not isinstance(result, Fenced)):
            self.account.misjudged.append(f"{batch} in epoch {job.epoch} came to {result}")
        elif right and batch.opens_epoch:
            job.overtaken = job.owner not in ("", owner)
            job.epoch, job.owner = job.epoch + 1, owner
            job.believed[owner] = job.epoch
        elif not right and not batch.opens_epoch:
            self.account.late_refused += 1
            self.account.rounds += job.overtaken
            job.overtaken = False
            job.believed[owner] = 0


def duels(folder: Path, *, rounds: int, seed: int) -> Duels:
    """So many rounds on a new log in a folder; then the log is read for words that came too late."""
    duel, fences = _Duel(seed), Fences()
    store = LmdbStore(folder / "events", QUIRE, run_id="run", clock=SystemClock(), map_size=MAP_BYTES)
    try:
        while duel.account.rounds < rounds and not duel.account.misjudged:
            duel.commit(store)
        while events := store.read(fences.position, limit=READ_LIMIT):
            for recorded in events:
                fences.tell(recorded)
    finally:
        store.close()
    duel.account.stale = len(fences.stale)
    return duel.account
