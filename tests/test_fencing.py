"""Workers that are stopped past their leases, overtaken and woken write nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire import Work
from quire.actors.waking import SET_BACK
from quire.errors import QuireError
from quire.events.facts import (
    JobLeased,
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    LeaseRenewed,
    RunStarted,
)
from quire.events.job import stream_of
from quire.events.projections import CLAIMABLE
from quire.events.record import Recorded
from quire.store import codec
from quire.testing.crash import Campaign
from quire.testing.fencing.appends import duels
from quire.testing.fencing.arena import BY_THE_CLOCK, START_S, Arena, is_stopped
from quire.testing.fencing.campaign import world_of
from quire.testing.fencing.fences import Fences
from quire.testing.fencing.tally import FEW_ROUNDS, LEAST_REFUSED, MANY_ROUNDS, Tally
from quire.testing.fencing.worker import LATE_WORDS, POINTS, unfenced
from quire.testing.web import Copy, Paper, World, serve

ROUNDS = int(os.environ.get("FENCING_ROUNDS", "3"))
LIST = "e" * 16
DOI = "10.5555/fenced"
WITHIN_S = 6.0
"""In which a dead worker's jobs must be with the busy one, on a machine that is busy itself."""


def tally_of(folder: Path, *, rounds: int, works: int, unfenced: bool = False) -> Tally:
    with serve(world_of(works, seed=1)) as served:
        arena = Arena(folder, served, seed=rounds, unfenced=unfenced)
        arena.run(rounds, workers=3)
        tally = Tally()
        tally.add(arena)
    return tally


def test_a_woken_worker_writes_nothing_more_of_what_was_taken_over(tmp_path: Path) -> None:
    """Stopped at drawn moments, overtaken, woken, the clock an hour on and back meanwhile: what the woken
    still say is refused, each work ends once and rightly, no word of an older epoch stands in the log."""
    tally = tally_of(tmp_path, rounds=ROUNDS, works=8 * ROUNDS)
    assert tally.problems == []
    assert tally.stale == 0
    assert tally.rounds >= max(2, ROUNDS // 2), "the list was done too early: give it more works"
    assert tally.taken_over >= tally.rounds
    assert tally.rounds_refused > 0, "nobody tried to write late: nothing was shown"
    assert sum(tally.late.values()) >= tally.rounds_refused
    assert set(tally.points) <= {BY_THE_CLOCK, *POINTS}
    assert tally.home == tally.obtainable == tally.works
    assert tally.ok


def test_rounds_in_which_nobody_tries_late_show_nothing() -> None:
    """A campaign of which too few of the woken were refused fails, and says so; so does a moment left out."""
    kinds = (BY_THE_CLOCK, *POINTS)
    points = dict.fromkeys(kinds, 10)
    refused = dict.fromkeys(LATE_WORDS, round(10 * LEAST_REFUSED))
    tally = Tally(rounds=70, points=points, refused_at=refused, rounds_refused=8, kinds=kinds)
    assert tally.ok, tally.unshown
    few = msgspec.structs.replace(tally, refused_at=dict.fromkeys(LATE_WORDS, 7))
    assert few.kept
    assert not few.ok
    assert "70% of the rounds that must try late were refused" in few.report()
    left_out = msgspec.structs.replace(tally, points={**points, "after the rename": 0})
    assert left_out.ok, "so few rounds may miss a kind by chance"
    left_out.rounds = MANY_ROUNDS
    assert left_out.unshown == ["no round was stopped after the rename"]
    nobody = Tally(rounds=1, points={BY_THE_CLOCK: 1}, kinds=kinds)
    assert nobody.unshown == ["no woken worker tried to write late"]
    assert Tally(rounds=FEW_ROUNDS - 1, rounds_refused=1, kinds=kinds).ok


def test_without_the_fence_the_campaign_fails(tmp_path: Path) -> None:
    """The same with stores that do not look at the epoch: late words stand in the log, and are named, by the
    fences and by the audit."""
    tally = tally_of(tmp_path, rounds=1, works=10, unfenced=True)
    assert not tally.ok
    assert tally.stale > 0
    assert tally.late == {}
    assert any(problem.startswith("stale: job/") for problem in tally.problems)
    assert any(problem.startswith("audit: epoch") for problem in tally.problems)


def test_late_words_are_refused_among_appends_of_both_owners(tmp_path: Path) -> None:
    """Two owners speak in the same commits, in drawn order: each late word is refused, and no other one."""
    found = duels(tmp_path, rounds=500, seed=2)
    assert (found.stale, found.misjudged) == (0, [])
    assert found.rounds >= 500
    assert found.appends > found.late_refused >= found.rounds


def test_without_the_fence_the_duels_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a store that does not look at the epoch: the first late word is named."""
    monkeypatch.setattr(codec, "refused", unfenced)
    found = duels(tmp_path, rounds=500, seed=2)
    assert not found.ok
    assert found.misjudged
    assert found.stale > 0


def test_the_jobs_of_the_dead_go_before_what_is_fresh(tmp_path: Path) -> None:
    """A worker dies beside one that is busy: its jobs are taken over within seconds, though the list has
    plenty of fresh ones. (They waited for the end of the list: each place that became free went to a fresh
    job, and whenever the busy worker looked for the dead its hand was full.)"""
    papers = [Paper(doi=f"10.5555/busy.{n}", copies=(Copy(fate="slow_start"),)) for n in range(160)]
    with serve(World.of(*papers)) as served:
        campaign = Campaign(tmp_path, served, seed=1, environ={"QUIRE_WORKS_IN_HAND": "4"})
        dying, busy = campaign.start(), campaign.start()
        try:
            fences = Fences()
            _until(campaign, fences, lambda: all(len(_held(fences, w)) == 4 for w in (dying, busy)), START_S)
            dying.kill()
            dying.wait()
            _until(campaign, fences, lambda: not _held(fences, dying), WITHIN_S)
            assert len(fences.takeovers) == 4
            with campaign.log() as log:
                assert log.store.scan(CLAIMABLE, limit=1), "no fresh job was left: nothing was shown"
        finally:
            for worker in (dying, busy):
                worker.kill()
                worker.wait()


def _held(fences: Fences, worker: subprocess.Popen[bytes]) -> list[str]:
    return fences.held_by(fences.workers.get(worker.pid, ""))


def _until(campaign: Campaign, fences: Fences, holds: Callable[[], bool], within_s: float) -> None:
    """Follow the log until something holds."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        with suppress(QuireError), campaign.log() as log:  # while it is being created it cannot be opened
            while events := log.store.read(fences.position):
                for recorded in events:
                    fences.tell(recorded)
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {fences!r}")


def test_bytes_that_a_stopped_owner_has_locked_are_not_asked_for_again(tmp_path: Path) -> None:
    """A worker is stopped with a whole part in its hands, just before the part gets its name: whoever takes
    the job over reads the part, and asks the server for nothing. (It asked anew: the part was locked.) Woken,
    the first one gives the same bytes the same name, and what it says after that is refused."""
    with serve(World.of(Paper(doi=DOI))) as served:
        arena = Arena(tmp_path, served, seed=1)
        campaign, fences = arena.campaign, Fences()
        stopped = campaign.start()
        (tmp_path / f"halt.{stopped.pid}").write_text("before the rename")
        try:
            _until(campaign, fences, lambda: is_stopped(stopped.pid), START_S)
            assert campaign.finish(campaign.start()) == 0
            stopped.send_signal(signal.SIGCONT)
            assert campaign.finish(stopped) == 0
        finally:
            stopped.kill()
            stopped.wait()
        account, _ = campaign.account()
        assert account.problems == []
        assert (account.home, account.objects, account.takeovers) == (1, 1, 1)
        assert [download.asked for download in account.downloads] == [1]
        assert (tmp_path / f"refused.{stopped.pid}").read_text()
        assert not list((campaign.library / "staging").glob("*.part"))


class Log:
    """Events of one job, as a log would give them."""

    def __init__(self) -> None:
        self.fences = Fences()

    def tell(self, event: Any, *, run: str, epoch: int) -> list[str]:
        position = self.fences.position + 1
        self.fences.tell(Recorded(position, stream_of("ab"), position, epoch, 0, run, 0, event))
        return [said.split(": ", 1)[1].split(",")[0] for said in self.fences.stale]


def changed() -> JobStateChanged:
    return JobStateChanged("LEASED", "HEAD_DONE")


@pytest.fixture
def log() -> Log:
    """A job that ``one`` leased under epoch 1, and ``two`` took over under epoch 2."""
    log = Log()
    log.tell(JobPlanned(Work(doi=DOI), "pdf", "", LIST), run="plan", epoch=0)
    log.tell(JobLeased("worker one", 1, "boot"), run="one", epoch=1)
    log.tell(changed(), run="one", epoch=1)
    log.tell(JobLeased("worker two", 1, "boot", takeover=True), run="two", epoch=2)
    assert log.tell(changed(), run="two", epoch=2) == []
    return log


def test_fences_see_who_was_overtaken(log: Log) -> None:
    """A lease over a lease that was not given back is a takeover; who holds what is known at any time."""
    (taken,) = log.fences.taken_from("worker one", after=0)
    assert (taken.loser, taken.winner) == ("worker one", "worker two")
    assert log.fences.taken_from("worker one", after=taken.position) == []
    assert log.fences.held_by("worker two") == [stream_of("ab")]
    assert log.fences.held_by("worker one") == []
    log.tell(LeaseReleased("stopped"), run="two", epoch=2)
    log.tell(JobLeased("worker one", 1, "boot"), run="one", epoch=3)
    assert len(log.fences.takeovers) == 1
    log.fences.tell(Recorded(99, "run/x", 1, 0, 0, "x", 0, RunStarted("worker x", LIST, (), "1", 77)))
    assert log.fences.workers == {77: "worker x"}


def test_fences_see_each_word_that_comes_too_late(log: Log) -> None:
    """An older epoch, a run that is not the owner, a word after the lease was given back, an epoch that is
    opened twice or left out: each is named once."""
    assert "speaks under epoch 1" in log.tell(changed(), run="one", epoch=1)[-1]
    assert "is by run one" in log.tell(changed(), run="one", epoch=2)[-1]
    log.tell(LeaseReleased("done"), run="two", epoch=2)
    assert "comes after its lease was given back" in log.tell(changed(), run="two", epoch=2)[-1]
    assert "opens epoch 2 where 3 was due" in log.tell(JobLeased("w", 1, "b"), run="one", epoch=2)[-1]
    assert len(log.fences.stale) == 4


def test_fences_let_pass_what_is_in_order(log: Log) -> None:
    """To requeue a job or to end its wait is anybody's, and a renewal may cross the owner's last word."""
    log.tell(LeaseReleased("done"), run="two", epoch=2)
    log.tell(LeaseRenewed(5), run="two", epoch=2)
    log.tell(JobRequeued(2, "run_again"), run="three", epoch=2)
    assert log.tell(JobWaiting(SET_BACK, 0), run="three", epoch=2) == []
    assert len(log.tell(JobWaiting("rate_wait", 9), run="three", epoch=2)) == 1
