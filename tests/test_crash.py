"""Killed workers: what was promised holds on real processes, whatever moment the kill hits."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast, get_args

import pytest

from quire.actors.runtime.ports import SystemClock
from quire.events.facts import (
    AnyEvent,
    JobLeased,
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    JobWaiting,
    OperationStarted,
    OpKind,
)
from quire.events.job import State, stream_of
from quire.events.keys import ARTIFACT, job_key, job_url
from quire.events.projections import JOBS, PARKED_NS, job_row_key
from quire.events.record import Batch
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore
from quire.store.objects import Objects
from quire.testing import crash_moments
from quire.testing.accounts import Account
from quire.testing.crash import Campaign
from quire.testing.crash_moments import TRIGGERS, Kill, Moment, Trigger, draw, is_hit
from quire.testing.crash_report import SPREAD_KILLS_MIN, Censored, Round, Totals
from quire.testing.crash_world import world_of
from quire.testing.web import Copy, Ledger, Paper, Served, World, serve
from quire.testing.web.exchange import Call

RECORDS = (
    Path(__file__).resolve().parents[1].parent / "shared" / "data" / "api" / "unpaywall_records.jsonl.gz"
)
KILLS = int(os.environ.get("CAMPAIGN_KILLS", "6"))
WORKS = 15 * KILLS
LIST = "5" * 16

KILLER = """
import os, signal, sys
from quire.actors.sources import adapter
from quire.cli.main import main

step, poisoned = sys.argv[1], sys.argv[2]
plain = getattr(adapter.SourceAdapter, step)

def deadly(self, message):
    if message.turn.job_id == poisoned:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(self, message)

setattr(adapter.SourceAdapter, step, deadly)
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def world() -> World:
    """The campaign's world: of real records, or of the demo's works where there are none."""
    return world_of(RECORDS if RECORDS.exists() else None, WORKS, seed=1)


def test_kills_at_any_moment_lose_nothing_and_double_nothing(world: World, tmp_path: Path) -> None:
    """kill -9 again and again: every work is accounted for, titles too, each PDF that can be had is home
    once, and asked for no more than the kills that hit it explain; the log's audit is clean."""
    with serve(world) as served:
        campaign = Campaign(tmp_path, served, seed=KILLS)
        kills = campaign.run(KILLS)
        judged = campaign.judged()
    account = judged.account
    assert account.problems == []
    assert account.home == account.obtainable > WORKS // 2
    assert account.works == len(world.work_ids())
    assert kills >= KILLS // 2, "the list was done too early for a campaign: give it more works"
    assert account.deaths >= kills // 3, "the kills fell between the effects, not into them"
    assert sum(account.ops_in_flight.values()) >= account.deaths
    assert judged.recoveries
    assert max(judged.recoveries) < 30
    left_out = judged.censored.by_clock + judged.censored.silent
    assert len(judged.recoveries) + left_out == len(campaign.starts) >= kills
    assert not list((campaign.library / "workers").glob("[0-9a-f]*.lock"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """A library whose two works came home; a third was never planned."""
    papers = [Paper(doi=f"10.5555/{name}", size=4_000) for name in ("one", "two", "three")]
    with serve(World.of(*papers)) as web:
        folder = tmp_path_factory.mktemp("finished")
        campaign = Campaign(folder, web, seed=1, works=["10.5555/one", "10.5555/two"])
        campaign.finish(campaign.start())
        yield campaign


@pytest.fixture
def done(finished: Campaign, tmp_path: Path) -> Campaign:
    """A copy of it, with the server's ledger: the test breaks something in them."""
    shutil.copytree(finished.library, tmp_path / "library")
    ledger = Ledger()
    for entry in finished.served.ledger:
        again = ledger.begin(entry.url, entry.method)
        again.status, again.did, again.leads_to = entry.status, entry.did, entry.leads_to
        ledger.end(again, sent=entry.bytes, completed=entry.completed, left=entry.left)
    copied = SimpleNamespace(url=finished.served.url, world=finished.served.world, ledger=ledger)
    return Campaign(tmp_path, cast(Served, copied), seed=1, works=["10.5555/one", "10.5555/two"])


def found(campaign: Campaign) -> str:
    """The problems but for the work that was never planned, which each account names first."""
    problems = campaign.account()[0].problems
    lost = [problem for problem in problems if "10.5555/three is lost" in problem]
    assert lost
    return "\n".join(problem for problem in problems if problem not in lost)


def test_a_lost_file_and_a_second_request_are_named(done: Campaign) -> None:
    """A lost file, and a second request for a finished download, are named."""
    assert found(done) == ""
    (url,) = done.served.world.truth("10.5555/one").good_urls
    done.served.ledger.begin(url, "GET")
    next(iter((done.library / "objects").glob("*/*.pdf"))).unlink()
    problems = found(done)
    assert f"{url} was asked for 2 times, 1 are explained" in problems
    assert "audit: missing" in problems
    assert len(problems.splitlines()) == 2


def test_a_second_question_to_a_service_is_named(done: Campaign) -> None:
    """What was asked of a service more often than its source's turns explain is named."""
    service = next(e.url for e in done.served.ledger if e.host == "api.unpaywall.org")
    for _ in range(3):
        entry = done.served.ledger.begin(service, "GET")
        entry.status = 200
        done.served.ledger.end(entry, sent=1, completed=True, left=False)
    assert "api.unpaywall.org" in found(done)


def test_a_finished_download_that_was_never_asked_for_is_named(done: Campaign) -> None:
    """The log says that it was streamed whole, and no request arrived."""
    done.served.ledger._asked.clear()
    assert found(done).count("was streamed whole and never asked for") == 2


def test_a_bad_file_that_is_kept_is_named(done: Campaign) -> None:
    """A page under its own right hash, a sound PDF that nobody streamed, a foreign name, and parts of nobody
    and of a job that is home: each is named."""
    objects = Objects(done.library)
    page = b"<html>no PDF</html>"
    kept = _kept(objects, page)
    (url,) = done.served.world.truth("10.5555/three").good_urls
    unstreamed = _kept(objects, done.served.world.answer(Call(url=url)).content())
    (objects.root / "ab").mkdir(exist_ok=True)
    (objects.root / "ab" / "readme.txt").write_text("mine")
    (objects.staging / f"{'a' * 64}.1.part").write_bytes(page)
    with done.log() as log:
        job = next(one.stream for one in log.store.read() if one.stream.startswith("job/"))
    (objects.staging / f"{job.removeprefix('job/')}.1.part").write_bytes(page)
    problems = found(done)
    assert f"{kept} is kept, and is the PDF of no work" in problems
    assert f"{unstreamed} is kept, and nobody streamed it" in problems
    assert "objects/ab/readme.txt is a file that quire did not name" in problems
    assert f"staging/{'a' * 64}.1.part is no job's" in problems
    assert "is left of a job that is home" in problems
    assert len(problems.splitlines()) == 5


def _kept(objects: Objects, content: bytes) -> str:
    """Put bytes under their own hash; their name, relative to the library."""
    sha256 = hashlib.sha256(content).hexdigest()
    objects.path(sha256).parent.mkdir(exist_ok=True)
    objects.path(sha256).write_bytes(content)
    return objects.relative_path(sha256)


def test_a_work_that_waits_for_ever_is_named(done: Campaign) -> None:
    """A work that can be had and was parked, or was failed for no reason and queued again, is no good end."""
    _append(done, "10.5555/three", JobWaiting("breaker_open", PARKED_NS))
    assert "can be had and waits for breaker_open" in "\n".join(done.account()[0].problems)


@pytest.mark.parametrize(
    ("reason", "words"),
    [("no_candidate", "can be had and is FAILED/no_candidate"), ("poison", "poison after 0 deaths")],
)
def test_a_wrong_failure_is_named_before_any_retry(done: Campaign, reason: str, words: str) -> None:
    """A work that can be had and failed is named, also where a retry is to come: poison excuses it only where
    the log shows the deaths."""
    _append(done, "10.5555/three", JobStateChanged("PLANNED", "FAILED", reason))
    account, _ = done.account(retry_to_come=True)
    assert words in "\n".join(account.problems)
    assert not account.to_retry


def test_two_jobs_for_one_work_are_named(done: Campaign) -> None:
    """A second job of a work hides behind no other, not even one that is home."""
    work = Work(doi="10.5555/one")
    stream = stream_of("f" * 64)
    with _writing(done) as store:
        store.append([Batch(stream, (JobPlanned(work, ARTIFACT, "https://elsewhere.example/", LIST),))])
    problems = found(done)
    assert "doi:10.5555/one has 2 jobs" in problems
    assert "doi:10.5555/one is left in PLANNED" in problems


def test_a_job_that_is_finalised_in_two_generations_is_named(done: Campaign) -> None:
    """Once over all generations, not once in each."""
    events = (
        JobRequeued(2, "retry"),
        JobStateChanged("PLANNED", "LEASED"),
        JobStateChanged("LEASED", "HEAD_DONE"),
        JobStateChanged("HEAD_DONE", "STREAMING"),
        JobStateChanged("STREAMING", "FINALIZED"),
        JobStateChanged("FINALIZED", "INDEXED"),
    )
    _append(done, "10.5555/one", *events)
    problems = found(done)
    assert "came home 2 times" in problems
    assert "was finalised 2 times" in problems


def _append(campaign: Campaign, doi: str, *events: AnyEvent) -> None:
    """Append to a work's job what no sound worker would; the job is planned first where it is not."""
    work = Work(doi=doi)
    job_id = job_key(work)
    with _writing(campaign) as store:
        (row,) = store.rows(JOBS, [job_row_key(job_id)])
        planned = () if row else (JobPlanned(work, ARTIFACT, job_url(work), LIST),)
        epoch = row.epoch if row else 0
        store.append([Batch(stream_of(job_id), (*planned, *events), epoch=epoch or None)])


@contextmanager
def _writing(campaign: Campaign) -> Iterator[LmdbStore]:
    store = LmdbStore(campaign.library / "events", QUIRE, run_id="breach", clock=SystemClock())
    try:
        yield store
    finally:
        store.close()


def test_a_recovery_that_was_cut_off_is_told(tmp_path: Path) -> None:
    """Every start after a kill counts: those that spoke of a job as times, the others by number."""
    with serve(World.of(*[Paper(doi=f"10.5555/{n}") for n in range(4)])) as web:
        campaign = Campaign(tmp_path, web, seed=1)
        for _ in range(2):
            began_ns = SystemClock().wall_ns()
            assert campaign._kill(campaign.start(), Moment(0.0), began_ns)
        campaign.go_on()
        judged = campaign.judged()
    assert [start.speaks for start in campaign.starts] == [False, True]
    assert len(judged.recoveries) == 1
    assert (judged.censored.by_clock, judged.censored.silent) == (1, 0)
    assert {kill.by for kill in judged.kills} == {"start"}


def test_a_trigger_that_does_not_come_is_counted_as_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill that waited in vain is no kill at its event."""
    monkeypatch.setattr(crash_moments, "TRIGGER_S", 0.1)
    with serve(
        World.of(*[Paper(doi=f"10.5555/{n}", copies=(Copy(fate="slow_drip"),)) for n in range(9)])
    ) as web:
        campaign = Campaign(tmp_path, web, seed=1)
        never = Trigger("job_state_changed", "SKIPPED_DUPLICATE")
        assert campaign._kill(campaign.start(), Moment(0.0, never), SystemClock().wall_ns())
        leased = Trigger("job_leased")
        monkeypatch.setattr(crash_moments, "TRIGGER_S", 5.0)
        assert campaign._kill(campaign.start(), Moment(0.0, leased), SystemClock().wall_ns())
    assert [kill.by for kill in campaign.kills] == ["clock", "job_leased"]


def test_a_long_campaign_that_never_hit_a_state_has_failed() -> None:
    """Five hundred kills that miss a state or a kind of op have not shown what they say."""
    kills = [Kill("clock", n, 0, 0) for n in range(SPREAD_KILLS_MIN)]
    states = dict.fromkeys(list(State)[1:], 1)
    ops = dict.fromkeys(("HEAD", "STREAM", "FALLBACK", "RESOLUTION", "FINALIZE", "DEDUPE"), 1)
    totals = Totals(SPREAD_KILLS_MIN, SystemClock())
    totals.add(
        Round(
            account=Account(),
            kills=kills,
            recoveries=[],
            censored=Censored(),
            states_hit=states,
            ops_hit=ops,
            retried=0,
            retried_home=0,
            spent_s={},
        )
    )
    totals.end()
    assert totals.problems == ["no kill hit state PLANNED", "no kill hit op INDEX"]
    assert "PROBLEMS 2" in totals.report()
    assert totals.figures()["kills"] == SPREAD_KILLS_MIN


def test_moments_follow_from_the_seed() -> None:
    """The same seed draws the same moments, of every kind."""
    chance = random.Random(7)
    drawn = [draw(chance) for _ in range(900)]
    again = random.Random(7)
    assert drawn == [draw(again) for _ in range(900)]
    names = {moment.trigger.name for moment in drawn if moment.trigger}
    assert names >= {"run_started", *(trigger.name for trigger in TRIGGERS)}
    assert any(moment.trigger is None for moment in drawn)


@pytest.mark.parametrize("step", ["_find", "_save"])
def test_a_job_that_kills_its_workers_is_poison_and_the_others_come_home(step: str, tmp_path: Path) -> None:
    """A work that kills whoever touches it runs alone in the end, kills once more, and is failed as poison;
    no other work is given up for it. (A kill within the stream looked like progress once: each worker opened
    the URL anew before it died, and the job killed for ever.)"""
    papers = [Paper(doi=f"10.5555/{n}", copies=(Copy(),)) for n in range(6)]
    bad = job_key(Work(doi="10.5555/3"))
    with serve(World.of(*papers)) as served:
        campaign = Campaign(tmp_path, served, seed=1)
        deaths = _run_to_the_end(campaign, step, bad)
        with campaign.log() as log:
            events = [one.event for one in log.store.read() if one.stream == f"job/{bad}"]
        account, _ = campaign.account()
    last = [event for event in events if isinstance(event, JobStateChanged)][-1]
    assert (last.state, last.reason) == ("FAILED", "poison")
    leases = [event for event in events if isinstance(event, JobLeased)]
    # Three deaths in company, one alone, and the last lease only to say so.
    assert [lease.alone for lease in leases[-5:]] == [False, False, False, True, True]
    assert deaths == len(leases) - 1 <= 5
    assert account.states == {"INDEXED": 5, "FAILED": 1}
    assert [problem.split(" ")[0] for problem in account.problems] == ["doi:10.5555/3"]


def _run_to_the_end(campaign: Campaign, step: str, bad: str) -> int:
    """Run the deadly worker until it ends by itself; how often it died."""
    script = campaign.folder / "killer.py"
    script.write_text(KILLER)
    for deaths in range(12):
        command = [sys.executable, str(script), step, bad, *campaign.command[3:]]
        ended = subprocess.run(
            command, env=campaign.environ, cwd=campaign.folder, capture_output=True, timeout=60, check=False
        )
        if ended.returncode != -signal.SIGKILL:
            assert ended.returncode == 1, ended.stderr
            return deaths
    raise AssertionError("the job kills its workers for ever")


def test_triggers_name_what_the_log_can_hold() -> None:
    """Every event that a kill waits for is one that the log can hold; every state that follows PLANNED and
    every kind of op is waited for."""
    known = {kind.__struct_config__.tag for kind in get_args(AnyEvent)}
    assert {trigger.event for trigger in TRIGGERS} <= known
    details = {(trigger.event, trigger.detail) for trigger in TRIGGERS}
    named = {detail for event, detail in details if event == "job_state_changed"}
    assert named == set(State) - {State.PLANNED, State.LEASED}  # the lease's own event stands for LEASED
    assert {detail for event, detail in details if event == "operation_started"} == set(get_args(OpKind))
    assert is_hit(JobStateChanged("LEASED", "HEAD_DONE"), Trigger("job_state_changed", "HEAD_DONE"))
    assert not is_hit(JobStateChanged("LEASED", "FAILED"), Trigger("job_state_changed", "HEAD_DONE"))
    resumption = Trigger("job_state_changed", "RESUME_OK")
    assert is_hit(OperationStarted("op", "STREAM", {"range_start": 9}), resumption)
    assert not is_hit(OperationStarted("op", "STREAM", {"range_start": 0}), resumption)
