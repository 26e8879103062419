"""What JobMachine looks at after each step: the tables against the book, and what each worker believes."""

from __future__ import annotations

from collections.abc import Sequence

from ..events.job import JobRow
from ..events.projections import CLAIMABLE, COUNTS, JOBS, LEASED, WAITING, job_id_of, list_prefix
from ..store.interface import EventStore
from .job_book import JobBook
from .job_entry import Entry
from .worker import Worker

LATE_WORDS_MAX = 2
"""Appends about one job under one epoch that are refused: the resolver's, and the lease manager's renewal."""


def check_holders(book: JobBook, workers: Sequence[Worker]) -> None:
    """At most one of those who think that they hold a job is right, and the log says who."""
    for job_id, job in book.jobs.items():
        for worker in workers:
            held = worker.leases.in_hand.get(job_id)
            if held is not None and held.epoch == job.epoch and not worker.asleep:
                assert job.holder == worker.name, f"{worker.name} holds {job_id[:8]}; the log: {job}"
    for worker in workers:
        alone = [job for job in book.jobs.values() if job.holder == worker.name and job.alone]
        beside = [job for job in book.jobs.values() if job.holder == worker.name and not job.alone]
        assert not (alone and beside) or worker.asleep, f"{beside} run beside what runs alone"


def check_memory(book: JobBook, workers: Sequence[Worker]) -> None:
    """A job in hand knows of every result that its generation had when it was taken."""
    for worker in workers:
        for job_id, job in worker.jobs.items():
            entry = book.jobs[job_id]
            if job.epoch != entry.epoch or worker.asleep or job.letting_go:
                continue
            assert entry.over() <= set(job.machine.ended_by), f"{job} knows not of {entry.over()}"
            before = {name for name in entry.answered() if entry.ops[name].epoch < job.epoch}
            assert before <= set(job.answered), f"{job} knows not of the answers {before}"


def check_late_words(workers: Sequence[Worker]) -> None:
    """Who was told that its lease is over says no more than what was under way then."""
    for worker in workers:
        often = {name: count for name, count in worker.late_words.counts.items() if count > LATE_WORDS_MAX}
        assert not often, f"{worker.name} was refused, and goes on about {often}"


def check_tables(store: EventStore, book: JobBook, lists: Sequence[str]) -> None:
    """Rows, indexes and counts are those of the book."""
    for key, row in store.scan(JOBS):
        _check_row(book.jobs[job_id_of(key)], row)
    for list_id in lists:
        prefix = list_prefix(list_id)
        claimable = [job_id_of(key) for _, key in store.scan(CLAIMABLE, prefix)]
        assert claimable == book.claimable(list_id), f"claimable of {list_id}: {claimable}"
        waiting = [job_id_of(key) for _, key in store.scan(WAITING, prefix)]
        assert waiting == book.waiting(list_id), f"waiting of {list_id}: {waiting}"
    leased = {(entry.split(b"/")[0].decode(), job_id_of(key)) for entry, key in store.scan(LEASED)}
    assert leased == {(job.holder, job_id) for job_id, job in book.jobs.items() if job.holder}
    counts = {name.decode(): count for name, count in store.scan(COUNTS)}
    assert counts == book.counts(), f"counts are {counts}, the book has {book.counts()}"


def _check_row(job: Entry, row: JobRow) -> None:
    held = (row.lease.worker, row.lease.until_ns, row.lease.alone) if row.lease else ("", 0, False)
    found = (row.state, row.generation, row.epoch, held[0], row.lists, row.takeovers, row.not_before_ns)
    wanted = (job.state, job.generation, job.epoch, job.holder, tuple(job.lists), job.takeovers)
    assert found == (*wanted, job.not_before_ns), f"the row says {row}, the book {job}"
    assert {name: op.code or "" for name, op in row.ops.items()} == {n: op.code for n, op in job.ops.items()}
    if job.holder:
        assert held[1] == job.until_ns
