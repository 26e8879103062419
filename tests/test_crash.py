"""Killed workers: what was promised holds on real processes, whatever moment the kill hits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from quire.events.facts import AnyEvent, JobLeased, JobStateChanged, type_of
from quire.events.keys import job_key
from quire.events.work import Work
from quire.testing.crash import CAMPAIGN_MIX, TRIGGERS, Campaign, draw, records_of
from quire.testing.web import Copy, Paper, World, serve

RECORDS = (
    Path(__file__).resolve().parents[1].parent / "shared" / "data" / "api" / "unpaywall_records.jsonl.gz"
)
KILLS = int(os.environ.get("CAMPAIGN_KILLS", "10"))
WORKS = 15 * KILLS

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
    """Real records with the campaign's mix of fates; the demo's works where there are none."""
    if not RECORDS.exists():
        return World.demo(WORKS, seed=1)
    return World.from_unpaywall(records_of(RECORDS, WORKS), seed=1, mix=CAMPAIGN_MIX)


def test_kills_at_any_moment_lose_nothing_and_double_nothing(world: World, tmp_path: Path) -> None:
    """kill -9 again and again: every work is accounted for, each PDF is home once, and asked for no more
    than the kills that hit it explain; the log's audit is clean."""
    with serve(world) as served:
        campaign = Campaign(tmp_path, served, seed=KILLS)
        kills = campaign.run(KILLS)
        campaign.retry_poisoned()
        account, recoveries = campaign.account()
        assert account.problems == []
        assert account.works == len([work for work in world.work_ids() if not work.startswith("title:")])
        assert kills >= KILLS // 2, "the list was done too early for a campaign: give it more works"
        assert account.deaths >= kills // 3, "the kills fell between the effects, not into them"
        assert sum(account.ops_in_flight.values()) >= account.deaths
        assert recoveries
        assert max(recoveries) < 30
        assert not list((campaign.library / "workers").glob("[0-9a-f]*.lock"))


def test_an_account_sees_what_is_wrong(world: World, tmp_path: Path) -> None:
    """The account is no rubber stamp: a lost file, a work that nobody planned, and a second request for a
    finished download are all named."""
    with serve(
        World.of(Paper(doi="10.5555/one"), Paper(doi="10.5555/two"), Paper(doi="10.5555/three"))
    ) as web:
        campaign = Campaign(tmp_path, web, seed=1, works=["10.5555/one", "10.5555/two"])
        campaign.finish(campaign.start())
        (url,) = web.world.truth("10.5555/one").good_urls
        web.ledger.begin(url, "GET")
        next(iter((campaign.library / "objects").glob("*/*.pdf"))).unlink()
        account, _ = campaign.account()
    problems = "\n".join(account.problems)
    assert f"{url} was asked for 2 times, 1 are explained" in problems
    assert "audit: missing" in problems
    assert "10.5555/three is lost" in problems
    assert len(account.problems) == 3


def test_moments_follow_from_the_seed() -> None:
    """The same seed draws the same moments, of every kind."""
    chance = random.Random(7)
    drawn = [draw(chance) for _ in range(300)]
    again = random.Random(7)
    assert drawn == [draw(again) for _ in range(300)]
    assert {moment.event for moment in drawn} >= {"", "run_started", "operation_started", "job_state_changed"}


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


def test_type_names_of_triggers_are_those_of_the_log() -> None:
    """Every event that a kill waits for is one that the log can hold."""
    known = {kind.__struct_config__.tag for kind in get_args(AnyEvent)}
    assert set(TRIGGERS) <= known
    assert type_of(JobLeased("w", 0, "b")) in TRIGGERS
