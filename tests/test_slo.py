"""``quire slo``: each level is what the events say, and a missed one ends with 1."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from quire.cli.service_levels import Level, ServiceLevels
from quire.events.facts import (
    FallbackAttempt,
    IdempotencyReplay,
    JobLeased,
    JobRequeued,
    JobStateChanged,
    LeaseReleased,
    OperationCompleted,
)
from quire.events.record import Recorded
from quire.testing.web import World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import quire, rehearsed

MS = 1_000_000


class Log:
    """Events of one or several jobs, one after another."""

    def __init__(self) -> None:
        self.levels = ServiceLevels()
        self.position = 0

    def say(self, at_ms: int, *events, job: str = "aa") -> Log:
        for event in events:
            self.position += 1
            self.levels.add(Recorded(self.position, f"job/{job}", 1, 1, at_ms * MS, "r", 0, event))
        return self

    def level(self, name: str) -> Level:
        return next(level for level in self.levels.levels(0, 0) if level.name == name)


def leased(*, takeover: bool = False) -> JobLeased:
    return JobLeased("w", 1, "boot", takeover)


def to(state: str, reason: str = "") -> JobStateChanged:
    return JobStateChanged("x", state, reason)


def attempt(status: int) -> FallbackAttempt:
    return FallbackAttempt("t", "s", 1, "retryable", "r", "w", "pdf", status=status)


def test_completion_counts_jobs_that_were_shown_a_pdf():
    """A job that saw no PDF is no miss; one that saw it and failed is; home at the second try is none."""
    log = Log()
    log.say(0, leased(), to("FAILED", "exhausted"), job="a0")
    log.say(0, leased(), to("HEAD_DONE"), to("FAILED", "truncated"), job="a1")
    log.say(0, leased(), to("HEAD_DONE"), to("INDEXED"), job="a2")
    assert (log.level("completion").measured, log.level("completion").count) == (0.5, 2)
    log.say(9, JobRequeued(2, "retry"), leased(), to("HEAD_DONE"), to("INDEXED"), job="a1")
    assert (log.level("completion").measured, log.level("completion").met) == (1.0, True)


def test_time_to_complete_is_time_in_hand():
    """Waiting for a gate does not count; the time that a dead owner spent does."""
    log = Log().say(0, leased()).say(1_000, LeaseReleased("waiting"))
    log.say(500_000, leased()).say(502_000, to("INDEXED"))
    assert log.level("time_to_complete_p50").measured == 3.0
    died = Log().say(0, leased()).say(10_000, leased(takeover=True)).say(11_000, to("INDEXED"))
    assert died.level("time_to_complete_p95").measured == 11.0
    slow = Log().say(0, leased()).say(130_000, to("DEDUPED"))
    assert not slow.level("time_to_complete_p95").met


def test_recovery_counts_jobs_whose_worker_died():
    """A taken-over job that ends is recovered; one that is poison is not; one in hand is neither."""
    log = Log().say(0, leased(), leased(takeover=True), to("FAILED", "exhausted"), job="a0")
    log.say(0, leased(takeover=True), job="a1")
    assert (log.level("recovery").measured, log.level("recovery").count) == (1.0, 1)
    log.say(0, leased(takeover=True), to("FAILED", "poison"), job="a2")
    assert log.level("recovery").measured == 0.5


def test_a_lease_is_measured_to_the_first_thing_done_under_it():
    """From the grant to the next event of the job."""
    log = Log().say(0, leased()).say(40, to("LEASED")).say(900, to("HEAD_DONE"))
    assert (log.level("lease_p99").measured, log.level("lease_p99").met) == (40.0, True)
    assert not Log().say(0, leased()).say(101, to("LEASED")).level("lease_p99").met


def test_shares_of_replays_and_of_429():
    """Replays among all effects; 429 among turns with a status."""
    done = OperationCompleted("e" * 64, "HEAD", "OK", {})
    log = Log().say(0, done, done, done, IdempotencyReplay("e" * 64, "HEAD"))
    assert (log.level("replayed_effects").measured, log.level("replayed_effects").met) == (0.25, False)
    log.say(0, attempt(429), attempt(200), attempt(0))
    assert log.level("too_many_requests").measured == 0.5


def test_what_was_not_measured_was_not_missed():
    """An empty log misses nothing, and says so."""
    levels = list(ServiceLevels().levels(0, 0))
    assert all(level.met for level in levels)
    assert [level.name for level in levels if level.measured is not None] == ["corruption"]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slo")
    world = World.demo(20, seed=2)
    (path / "works.txt").write_text("\n".join(world.inputs()))
    with serve(world) as server:
        rehearsed(server.url, path / "lib", path / "works.txt")
    return path / "lib"


def test_the_levels_of_a_run(library):
    """All levels stand there; a paper that is gone, or changed under --hashes, is corruption and exit 1."""
    done = quire("slo", "--library", library, "--json")
    levels = {level["name"]: level for level in json.loads(done.stdout)["levels"]}
    assert len(levels) == 8
    assert levels["completion"]["count"] > 5
    assert levels["corruption"] | {"measured": 0.0, "met": True} == levels["corruption"]
    assert "quire_corruption_files 0" in quire("slo", "--library", library, "--prometheus").stdout
    paper = next((library / "objects").rglob("*.pdf"))
    data = bytearray(paper.read_bytes())
    data[-1] ^= 1
    paper.write_bytes(data)
    seen = {flag: quire("slo", "--library", library, "--json", *flag) for flag in ((), ("--hashes",))}
    measured = {flag: corruption(done.stdout) for flag, done in seen.items()}
    assert measured == {(): 0.0, ("--hashes",): 1.0}
    paper.unlink()
    gone = quire("slo", "--library", library, "--json")
    assert (corruption(gone.stdout), gone.returncode) == (1.0, 1)


def corruption(text: str) -> float:
    return next(level["measured"] for level in json.loads(text)["levels"] if level["name"] == "corruption")
