"""The wall clock steps by an hour, on or back: no lease is lost, no job is parked, no wait lasts the hour."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from quire import Session, Wanted, Work
from quire.actors.runtime.ports import NANOSECONDS
from quire.actors.waking import SET_BACK
from quire.actors.web.call import retry_after_s
from quire.config.loader import Flag, load
from quire.config.settings import Quire
from quire.events.facts import JobStateChanged, JobWaiting
from quire.events.job import State, stream_of
from quire.events.keys import job_key
from quire.testing.crash import Campaign
from quire.testing.fencing.arena import Arena
from quire.testing.fencing.worker import SteppingClock
from quire.testing.web import Copy, Paper, Served, World, serve

LIST = "e" * 16
DOI = "10.5555/clock"
HOUR_S = 3600
GIVE_UP_S = 12.0
"""A work that waits is given up for parked after so long."""
WAIT_S = 1.2


class Bench:
    """A session on one work of a sound web, and a wall clock that is set by hand."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.folder = folder
        self.settings = settings_of(folder, served)
        self.clock = SteppingClock(folder / "clock")
        self.stream = stream_of(job_key(Work(doi=DOI)))

    def session(self) -> Session:
        return Session(self.settings, clock=self.clock)

    def step(self, by_s: float) -> None:
        (self.folder / "clock").write_text(str(int(by_s * NANOSECONDS)))

    def waits(self, session: Session) -> None:
        """Let the work wait, as a gate would have it, for ``WAIT_S`` from now."""
        session.plan([Wanted(Work(doi=DOI))], list_id=LIST)
        not_before = self.clock.wall_ns() + int(WAIT_S * NANOSECONDS)
        session.record(self.stream, JobWaiting("breaker_open", not_before))

    def came_home_s(self, session: Session) -> float:
        """Work the list; the seconds until the work was home."""
        begun_ns = self.clock.boot_ns()
        stop = session.every(GIVE_UP_S, session.interrupt)
        states = [outcome.state for outcome in session.work(LIST)]
        stop()
        assert states == [State.INDEXED], "the work is parked until the wall clock is there again"
        return (self.clock.boot_ns() - begun_ns) / NANOSECONDS

    def reasons(self, session: Session) -> list[str]:
        events = [one.event for one in session.store.read_stream(self.stream)]
        return [event.reason for event in events if isinstance(event, JobWaiting)]


def settings_of(folder: Path, served: Served) -> Quire:
    flags = [
        Flag(("library",), str(folder / "library"), "--library"),
        Flag(("web", "stand_in"), served.url, "--stand-in"),
        Flag(("web", "pacing"), "none", "--pacing"),
        Flag(("web", "contact_email"), "t@quire.test", "--email"),
    ]
    return load(flags, environ={}).settings


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    with serve(World.of(Paper(doi=DOI))) as served:
        yield Bench(tmp_path, served)


def test_a_wait_lasts_as_long_as_it_should(bench: Bench) -> None:
    """Without a step a work that waits is taken up when its time has come, and not before."""
    with bench.session() as session:
        bench.waits(session)
        assert bench.came_home_s(session) > WAIT_S - 0.5
        assert bench.reasons(session) == ["breaker_open"]


@pytest.mark.parametrize(
    ("by_s", "reasons"), [(-HOUR_S, ["breaker_open", SET_BACK]), (HOUR_S, ["breaker_open"])]
)
def test_a_clock_that_steps_in_a_run_parks_nobody(bench: Bench, by_s: int, reasons: list[str]) -> None:
    """The wall clock goes an hour back or on while a work waits for a second: it comes home all the same."""
    with bench.session() as session:
        bench.waits(session)
        stepping = session.every(0.4, lambda: bench.step(by_s))
        bench.came_home_s(session)
        stepping()
        assert bench.reasons(session) == reasons


def test_a_clock_that_was_set_back_before_the_run_parks_nobody(bench: Bench) -> None:
    """A work began to wait in an earlier run; the machine comes back with its clock an hour slow."""
    with bench.session() as session:
        bench.waits(session)
    bench.step(-HOUR_S)
    with bench.session() as session:
        bench.came_home_s(session)
        assert bench.reasons(session) == ["breaker_open", SET_BACK]


@pytest.mark.parametrize(("by_s", "requeued"), [(0, 0), (-HOUR_S, 1), (HOUR_S, 1)])
def test_a_backoff_is_not_made_longer_by_a_step(bench: Bench, by_s: int, requeued: int) -> None:
    """A failure is tried again by the next run of its list after its backoff; when the clock was set back
    meanwhile nobody knows how long ago it was, and it is tried again, too."""
    with bench.session() as session:
        session.plan([Wanted(Work(doi=DOI))], list_id=LIST)
        failed = JobStateChanged(State.PLANNED, State.FAILED, "exhausted", may_retry=True)
        session.record(bench.stream, failed)
        bench.step(by_s)
        assert session.plan([Wanted(Work(doi=DOI))], list_id=LIST).requeued == requeued


@pytest.mark.parametrize("off_s", [-HOUR_S, 0, HOUR_S])
def test_a_date_to_come_back_at_is_held_against_the_servers_clock(off_s: int) -> None:
    """``Retry-After`` with a date: the answer's own Date tells how long that is, however wrong our clock."""
    dates = {"text": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    wall_ns = (1_445_412_480 + off_s) * NANOSECONDS
    assert retry_after_s(**dates, wall_ns=wall_ns, max_s=900) == 30
    without = retry_after_s(dates["text"], wall_ns=wall_ns, max_s=900)
    assert without == {-HOUR_S: 900, 0: 30, HOUR_S: 0}[off_s]  # at worst our bound


def test_leases_do_not_follow_the_wall_clock(tmp_path: Path) -> None:
    """Two processes share a list while their wall clock goes an hour on and back all the time: no lease is
    lost, none is kept, each PDF is asked for once."""
    papers = [Paper(doi=f"10.5555/step.{n}", copies=(Copy(fate="slow_drip"),)) for n in range(30)]
    with serve(World.of(*papers)) as served:
        arena = Arena(tmp_path, served, seed=1)
        campaign: Campaign = arena.campaign
        campaign.environ = {**campaign.environ, "QUIRE_LEASE__TTL_S": "8"}
        workers = [campaign.start() for _ in range(2)]
        steps = 0
        while any(worker.poll() is None for worker in workers) and steps < 400:
            hidden = tmp_path / "hidden"
            hidden.write_text(str((-HOUR_S, 0, HOUR_S, 0)[steps % 4] * NANOSECONDS))
            hidden.rename(tmp_path / "clock")
            steps += 1
            time.sleep(0.1)
        assert [campaign.finish(worker) for worker in workers] == [0, 0]
        account, _ = campaign.account()
        assert steps > 10
        assert account.problems == []
        assert account.takeovers == 0
        assert account.states == {"INDEXED": 30}
        assert {download.asked for download in account.downloads} == {1}
