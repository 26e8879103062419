"""After a death: what was in flight is given its rule in the log first; effects start when durable."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quire.actors.desk import Desk
from quire.actors.holdings import Holdings
from quire.actors.job_in_hand import JobInHand
from quire.actors.messages import LetGo, Resolve, Taken
from quire.actors.reconciler import Reconciler
from quire.events import work as works
from quire.events.facts import (
    CrashRecovery,
    JobLeased,
    JobPlanned,
    JobStateChanged,
    OperationCompleted,
    OperationStarted,
)
from quire.events.keys import job_key

sys.path.insert(0, str(Path(__file__).parent))
import boxes
from boxes import LIST, SOURCE, Bench, Box, folded, leased_by

bench = boxes.bench


def taken(bench: Bench, *events: Any) -> tuple[str, Reconciler]:
    """A job in the midst of a stream, given to a reconciler after its owner's death."""
    job_id = bench.plan(1, leased_by("dead", bench), JobStateChanged("?", "STREAMING"), *events, epoch=1)
    bench.append(job_id, leased_by("me", bench, takeover=True), epoch=2, opens_epoch=True)
    reconciler = Reconciler(directory=bench.to, objects=bench.library.objects)
    reconciler.me = Box()
    reconciler.handle(Taken(job_id, bench.row(job_id), "dead"))
    return job_id, reconciler


def streamed(data: bytes, op_id: str = "s", epoch: int = 1) -> list[Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    about: dict[str, Any] = {"url": "https://h.org/a", "source": SOURCE, "epoch": epoch, "md5": ""}
    end = OperationCompleted(op_id, "STREAM", "OK", {"sha256": sha256, "bytes": len(data)})
    return [OperationStarted(op_id, "STREAM", about), end]


def test_what_was_in_flight_is_abandoned_in_the_log_before_anybody_goes_on(bench):
    """Each op in flight gets its rule and its end in one batch; the resolver hears of the job only then.

    Kills death_not_written, resolved_before_durable, stream_from_scratch.
    """
    job_id, reconciler = taken(bench, OperationStarted("h", "HEAD", {}), OperationStarted("s", "STREAM", {}))
    assert bench.to.resolver.told == []
    (claim,) = bench.asked().values()
    events = claim.batch.events
    recovered = [(event.op_id, event.rule) for event in events if isinstance(event, CrashRecovery)]
    ended = [(event.op_id, event.code) for event in events if isinstance(event, OperationCompleted)]
    assert recovered == [("h", "again"), ("s", "resume_part")]
    assert ended == [("h", "ABANDONED"), ("s", "ABANDONED")]
    bench.perform(reconciler)
    told = bench.to.resolver.last(Resolve)
    assert bench.to.resolver.count(Resolve) == 1
    assert told.row == bench.row(job_id)
    assert not any(op.in_flight for op in told.row.ops.values())


def test_a_recovery_that_is_refused_lets_the_job_go(bench):
    """Somebody else has it: nobody resolves it here. Kills fenced_recovery_goes_on."""
    job_id, reconciler = taken(bench, OperationStarted("h", "HEAD", {}))
    bench.append(job_id, leased_by("thief", bench), epoch=3, opens_epoch=True)
    bench.perform(reconciler)
    assert bench.to.resolver.told == []
    assert bench.to.leases.told == [LetGo(job_id, 2)]


@pytest.mark.parametrize(("there", "refused_before"), [(True, False), (False, False), (True, True)])
def test_bytes_are_salvaged_where_they_are_and_were_not_refused(bench, there, refused_before):
    """A whole part is used again; one that is gone, or whose bytes were refused, is asked for anew.

    Kills salvage_unseen, refused_salvaged.
    """
    data = b"%PDF-whole"
    sha256 = hashlib.sha256(data).hexdigest()
    part = bench.library.objects.part_path(job_key(works.Work(doi="10.1000/1")), 1)
    if there:
        part.write_bytes(data)
    refusal = [
        OperationStarted("f", "FINALIZE", {"sha256": sha256}),
        OperationCompleted("f", "FINALIZE", "NON_RETRYABLE", {"reason": "truncated"}),
    ]
    taken(bench, *streamed(data), *(refusal if refused_before else []))
    salvage = bench.to.resolver.last(Resolve).salvage
    assert (salvage is not None) == (there and not refused_before)
    if salvage is not None:
        assert (salvage.sha256, salvage.part_epoch, salvage.source) == (sha256, 1, SOURCE)


# The desk


def desk_with_job(bench: Bench) -> tuple[Desk, JobInHand]:
    job_id = bench.plan(1, leased_by("me", bench), epoch=1)
    finder = SimpleNamespace(
        lacks=lambda _lookup: None, first_request=lambda _lookup: ("https://arxiv.org/pdf/1", "artifact")
    )
    desk = Desk(
        me=Box, directory=bench.to, settings=bench.settings,
        finders=dict.fromkeys(bench.settings.fallback.policies, finder) | dict.fromkeys(
            [name for tier in bench.settings.fallback.tiers for name in tier.sources], finder),
        web=SimpleNamespace(gate=lambda _url, _role: None),
        holdings=Holdings(bench.store, bench.library.objects), clock=bench.clock, slots=SimpleNamespace(),
    )  # fmt: skip
    row = bench.row(job_id)
    job = JobInHand(job_id, row, desk.plan_of(row), now_ms=desk.now_ms())
    desk.jobs[job_id] = job
    return desk, job


def test_an_effect_starts_only_when_its_intent_is_durable(bench):
    """Between the append and the journal's word nothing happens; then it happens once.

    Kills effect_before_durable, append_without_epoch.
    """
    desk, job = desk_with_job(bench)
    done: list[str] = []
    desk.commit(job, [OperationStarted("h", "HEAD", {})], lambda: done.append("effect"))
    assert done == []
    (asked,) = bench.asked().values()
    assert (asked.batch.epoch, asked.batch.expected_version) == (1, None)
    bench.perform(SimpleNamespace(handle=desk.journaled))
    assert done == ["effect"]


def test_a_refused_append_drops_the_job_without_its_effect(bench):
    """The lease is over: no effect, and the lease manager hears. Kills refused_append_ignored."""
    desk, job = desk_with_job(bench)
    done: list[str] = []
    desk.commit(job, [OperationStarted("h", "HEAD", {})], lambda: done.append("effect"))
    bench.append(job.job_id, leased_by("thief", bench), epoch=2, opens_epoch=True)
    bench.perform(SimpleNamespace(handle=desk.journaled))
    assert (done, desk.jobs) == ([], {})
    assert bench.to.leases.told == [LetGo(job.job_id, 1)]


def test_what_had_ended_and_is_done_again_is_no_progress_of_the_job():
    """Else a job that kills its worker within a stream looks sound at every opening of its URL.

    Kills repeat_is_progress.
    """
    work = works.Work(doi="10.1000/x")
    head, end = OperationStarted("h", "HEAD", {}), OperationCompleted("h", "HEAD", "OK", {})
    again = JobLeased("w", 1, "b", takeover=True)
    first = [JobPlanned(work, "pdf", work.resolver_url, LIST), JobLeased("w", 1, "b"), head, end]
    rows = folded([*first, again, head, end, again, head, end])
    assert [row.takeovers for row in rows] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
