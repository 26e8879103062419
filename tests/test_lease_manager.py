"""The lease manager alone: whose job is taken over, when, and what a late word changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quire.actors.lease_manager import Renew
from quire.actors.messages import LetGo, Lost, Taken, Work
from quire.events import facts
from quire.events import work as works
from quire.events.facts import (
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    LeaseReleased,
    LeaseRenewed,
    OperationCompleted,
    OperationStarted,
)
from quire.events.job import State
from quire.events.projections import EVERYTHING

sys.path.insert(0, str(Path(__file__).parent))
import boxes
from boxes import LIST, SECOND, Bench, folded, leased_by

bench = boxes.bench


@pytest.mark.parametrize(
    ("worker", "fields", "over"),
    [
        ("alive", {}, False),
        ("dead", {}, True),
        ("alive", {"boot_id": "another boot"}, True),
        ("alive", {"until_ns": 999 * SECOND}, True),
    ],
    ids=["living", "dead", "other_boot", "silent"],
)
def test_whose_job_is_taken_over(bench, worker, fields, over):
    """A living owner keeps its job; a dead one, one of another boot, one silent past its lease loses it.

    Kills other_boot_is_alive, expiry_unseen, living_owner_robbed, dead_owner_kept, takeover_not_told.
    """
    job_id = bench.plan(1, leased_by(worker, bench, **fields), epoch=1)
    alive = bench.library.claim_worker("alive")
    manager = bench.manager()
    manager.handle(Work(LIST, 1))
    assert list(bench.asked()) == ([job_id] if over else [])
    if over:
        (claim,) = bench.asked().values()
        assert (claim.batch.epoch, claim.batch.opens_epoch) == (2, True)
        assert claim.batch.events[0].takeover
        bench.perform(manager)
        assert bench.row(job_id).lease.worker == "me"
        assert bench.to.reconciler.last(Taken).dead_worker == worker
    alive.release()


def test_a_job_that_killed_three_workers_waits_for_an_empty_hand_and_then_runs_alone(bench):
    """One death fewer is taken with the others; the third makes it lonely. Kills poison_one_late."""
    suspect = bench.plan(1, leased_by("dead", bench, takeover=True), epoch=1)
    for epoch in (2, 3):
        bench.append(suspect, leased_by("dead", bench, takeover=True), epoch=epoch, opens_epoch=True)
    bench.append(suspect, LeaseReleased("x"), epoch=3)
    assert bench.row(suspect).takeovers == 3
    other = bench.plan(2)
    manager = bench.manager()
    manager.handle(Work(LIST, 1))
    assert list(bench.asked()) == [other]
    bench.perform(manager)
    manager.handle(LetGo(other, 1))
    bench.append(other, JobStateChanged("PLANNED", "FAILED"), LeaseReleased("x"), epoch=1)
    manager.handle(Work(LIST, 1))
    assert bench.asked()[suspect].batch.events[0].alone


def test_a_job_that_killed_its_worker_while_alone_fails_as_poison(bench):
    """It is leased only to be failed, in one batch, and the errand hears of it. Kills poison_never_ends."""
    job_id = bench.plan(1, leased_by("dead", bench, takeover=True), epoch=1)
    for epoch in (2, 3):
        alone = leased_by("dead", bench, takeover=True, alone=epoch == 3)
        bench.append(job_id, alone, epoch=epoch, opens_epoch=True)
    manager = bench.manager()
    manager.handle(Work(LIST, 7))
    bench.perform(manager)
    row = bench.row(job_id)
    assert (row.state, row.reason, row.lease) == (State.FAILED, "poison", None)
    assert (bench.watched[0].errand, bench.watched[0].outcome.reason) == (7, "poison")
    assert manager.in_hand == {}


def test_a_job_that_went_on_while_alone_is_no_poison_when_its_worker_dies(bench):
    """What it did since clears it: the deaths before count no more, and it is taken up with the others."""
    job_id = bench.plan(1, leased_by("dead", bench, alone=True), epoch=1)
    assert bench.row(job_id).takeovers == 0
    manager = bench.manager()
    manager.handle(Work(LIST, 7))
    bench.perform(manager)
    row = bench.row(job_id)
    assert (row.state, row.takeovers, row.lease.alone) == (State.PLANNED, 1, False)


def test_the_hand_holds_so_many_jobs_counting_those_asked_for(tmp_path):
    """What is on its way to the log counts, or a slow disk would fill the hand twice. Kills hand_overfull."""
    bench = Bench(tmp_path, works_in_hand=3)
    for number in range(8):
        bench.plan(number)
    manager = bench.manager()
    manager.handle(Work(LIST, 1))
    assert len(bench.asked()) == 3
    bench.perform(manager)
    assert len(manager.in_hand) == 3
    assert bench.to.journal.told == []
    bench.close()


def test_every_job_in_hand_is_renewed_and_a_refusal_drops_it(bench):
    """Renewals carry the epoch of each; who is refused under it tells the resolver, and forgets the job.

    Kills first_never_renewed, refusal_unheard.
    """
    jobs = [bench.plan(number) for number in range(3)]
    manager = bench.manager()
    manager.handle(Work(LIST, 1))
    bench.perform(manager)
    manager.handle(Renew())
    renewed = bench.asked()
    assert sorted(renewed) == sorted(jobs)
    assert {(type(one.batch.events[0]), one.batch.epoch) for one in renewed.values()} == {(LeaseRenewed, 1)}
    bench.append(jobs[0], leased_by("thief", bench, takeover=True), epoch=2, opens_epoch=True)
    bench.perform(manager)
    assert sorted(manager.in_hand) == sorted(jobs[1:])
    assert bench.to.resolver.told == [Lost(jobs[0], 1)]


def test_a_word_about_an_earlier_lease_lets_nothing_go(bench):
    """A late LetGo of epoch 1 while epoch 2 is held changes nothing. Kills late_let_go_heard."""
    job_id = bench.plan(1, leased_by("dead", bench), epoch=1)
    manager = bench.manager()
    manager.handle(Work(LIST, 1))
    bench.perform(manager)
    manager.handle(LetGo(job_id, 1))
    assert job_id in manager.in_hand
    manager.handle(LetGo(job_id, 2))
    assert job_id not in manager.in_hand


def test_a_new_generation_begins_without_time_spent():
    """What the generation before spent is not its cost. Kills spent_time_kept."""
    work = works.Work(doi="10.1000/x")
    events = [
        JobPlanned(work, "pdf", work.resolver_url, LIST),
        OperationStarted("a", "RESOLUTION", {}),
        OperationCompleted("a", "RESOLUTION", "RETRYABLE", {"spent_ms": 9000}),
        JobStateChanged("?", "FAILED", "budget_exhausted", may_retry=True),
        JobRequeued(2, "retry"),
    ]
    assert [row.spent_ms for row in folded(events)] == [0, 0, 9000, 9000, 0]


def test_the_list_of_everything_is_one_that_every_job_is_on(bench):
    """``quire resume`` claims jobs of any list, in order of age; the lists of others are left alone."""
    jobs = [bench.plan(number) for number in range(2)]
    manager = bench.manager()
    manager.handle(Work("2" * 16, 1))
    assert bench.asked() == {}
    manager.handle(Work(EVERYTHING, 1))
    assert list(bench.asked()) == jobs
    assert {type(one.batch.events[0]) for one in bench.asked().values()} == {facts.JobLeased}
