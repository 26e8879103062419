"""Several processes on one library: each job is done once, whoever is slow, stopped or dead."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quire.errors import QuireError
from quire.events.facts import JobLeased, JobStateChanged, OperationStarted, RunStarted
from quire.testing.crash import Campaign, OpenLog
from quire.testing.web import Copy, Paper, Served, World, serve

WAIT_S = 20.0
FOUND_S = 2.0
"""Time in which a dead worker's jobs must be taken over."""


def events_of(log: OpenLog) -> list[Any]:
    found: list[Any] = []
    while more := log.store.read(found[-1].position if found else 0):
        found += more
    return found


def until(log: OpenLog, holds: Callable[[list[Any]], bool]) -> float:
    """Wait until the log satisfies; how long it took, in seconds."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        if holds(events_of(log)):
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not within {WAIT_S} s: {events_of(log)[-5:]}")


def opened(campaign: Campaign) -> OpenLog:
    """The log, as soon as there is one."""
    for _ in range(int(WAIT_S / 0.02)):
        try:
            return campaign.log()
        except QuireError:  # it is being created
            time.sleep(0.02)
    raise AssertionError("no log appears")


def worker_of(events: list[Any], pid: int) -> str:
    runs = (one.event for one in events if isinstance(one.event, RunStarted))
    return next((run.worker for run in runs if run.pid == pid), "")


def leases(events: list[Any]) -> list[JobLeased]:
    return [e.event for e in events if isinstance(e.event, JobLeased)]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_on_one_list_do_each_job_once(workers: int, tmp_path: Path) -> None:
    """Processes with one list share its jobs: each is finished once, each PDF asked for once, all exit."""
    papers = [Paper(doi=f"10.5555/{n}", copies=(Copy(fate="slow_drip"),)) for n in range(40)]
    with serve(World.of(*papers)) as served:
        campaign = Campaign(tmp_path, served, seed=1, environ={"QUIRE_WORKS_IN_HAND": "4"})
        started = [campaign.start() for _ in range(workers)]
        assert [campaign.finish(worker) for worker in started] == [0] * workers
        account, _ = campaign.account()
        assert account.problems == []
        assert account.states == {"INDEXED": 40}
        assert account.takeovers == 0
        assert {download.asked for download in account.downloads} == {1}
        assert len(account.downloads) == 40
        with campaign.log() as log:
            owners = {lease.worker for lease in leases(events_of(log))}
        assert len(owners) == workers


def _stalling() -> World:
    """Works whose first download stands still; asked again, it is whole."""
    return World.of(
        *(Paper(doi=f"10.5555/s{n}", copies=(Copy(fate="stall_once", stall_s=60.0),)) for n in range(3))
    )


def _campaign(served: Served, folder: Path, **environ: str) -> Campaign:
    return Campaign(folder, served, seed=1, environ=environ)


def test_a_stopped_owner_is_fenced_when_it_goes_on(tmp_path: Path) -> None:
    """A worker is stopped within its streams; another takes over when the leases run out. Continued, the
    first can write nothing more about these jobs: nothing is finalised twice, and it ends in order."""
    with serve(_stalling()) as served:
        campaign = _campaign(served, tmp_path, QUIRE_LEASE__TTL_S="2")
        stopped = campaign.start()
        try:
            with opened(campaign) as log:
                until(log, lambda events: sum(map(_is_stream, events)) == 3)
                os.kill(stopped.pid, signal.SIGSTOP)
                other = campaign.start()
                assert campaign.finish(other) == 0
                events = events_of(log)
                first, second = worker_of(events, stopped.pid), worker_of(events, other.pid)
                assert [lease.worker for lease in leases(events)] == [first] * 3 + [second] * 3
                assert all(lease.takeover for lease in leases(events)[3:])
                at = events[-1].position
                os.kill(stopped.pid, signal.SIGCONT)
                assert campaign.finish(stopped) == 0
                late = [e for e in events_of(log) if e.position > at and e.stream.startswith("job/")]
                assert late == []
                assert _finishes(events) == [("INDEXED", 2)] * 3
        finally:
            _end(stopped)
        account, _ = campaign.account()
        assert account.problems == []
        assert [served.ledger.asked(u) for u in _urls(served)] == [2, 2, 2]


def test_a_dead_worker_is_seen_at_once(tmp_path: Path) -> None:
    """A worker dies within its streams: the other one sees the free lock and takes the jobs over at once,
    long before the leases run out."""
    with serve(_stalling()) as served:
        campaign = _campaign(served, tmp_path)
        dying = campaign.start()
        try:
            with opened(campaign) as log:
                until(log, lambda events: sum(map(_is_stream, events)) == 3)
                other = campaign.start()
                until(log, lambda events: bool(worker_of(events, other.pid)))
                time.sleep(1.0)  # it looks around, and finds nothing that is free
                assert len(leases(events_of(log))) == 3
                dying.kill()
                dying.wait()
                took_s = until(log, lambda events: len(leases(events)) == 6)
                assert took_s < FOUND_S
                assert campaign.finish(other) == 0
                assert _finishes(events_of(log)) == [("INDEXED", 2)] * 3
        finally:
            _end(dying)
        account, _ = campaign.account()
        assert account.problems == []
        assert account.ops_in_flight["STREAM"] == 3
        assert account.states_in_flight == {"STREAMING": 3}


def _is_stream(recorded: Any) -> bool:
    return isinstance(recorded.event, OperationStarted) and recorded.event.kind == "STREAM"


def _finishes(events: list[Any]) -> list[tuple[str, int]]:
    """State and epoch of each finishing event."""
    ends = ("INDEXED", "DEDUPED", "FAILED", "SKIPPED_DUPLICATE")
    changes = [e for e in events if isinstance(e.event, JobStateChanged) and e.event.state in ends]
    return [(e.event.state, e.epoch) for e in changes]


def _urls(served: Served) -> list[str]:
    return [url for work in served.world.work_ids() for url in served.world.truth(work).good_urls]


def _end(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
