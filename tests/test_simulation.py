"""Deterministic simulation: one seed, one life, the same bytes; and a planted defect does not get through."""

from __future__ import annotations

import asyncio
import collections
import gc
import importlib
import importlib.util
import io
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.actors import finalizer as finalizer_module
from quire.actors import resolver as resolver_module
from quire.actors.lease_manager import LeaseManager
from quire.actors.reconciler import Reconciler
from quire.actors.runtime.actor import Actor
from quire.actors.runtime.journal import Journal, Journaled
from quire.actors.runtime.ports import Clock, Scheduler, Stepping
from quire.actors.runtime.system import System
from quire.actors.session import Session
from quire.actors.sources.preference import Preference
from quire.actors.web.manners import Manners
from quire.errors import EnvironmentFault, InvariantError
from quire.events import fallback
from quire.store import codec
from quire.testing.simulation import (
    Choices,
    Day,
    Death,
    Killed,
    Life,
    Machine,
    Mood,
    Pause,
    Process,
    Script,
    SeededRandom,
    Shift,
    StalledError,
    VirtualClock,
    Weather,
    chance_of,
    live,
    live_elsewhere,
    pair_of,
    script_of,
)
from quire.testing.simulation import life as life_module
from quire.testing.simulation.campaign import ELSEWHERE, main
from quire.testing.simulation.choices import PATIENT_MS
from quire.testing.simulation.chosen_world import wrong_article_first
from quire.testing.simulation.elsewhere import OTHERS
from quire.testing.simulation.web import HarmedLedger
from quire.testing.web import Copy, Paper

SEEDS = range(1, ELSEWHERE)
LEFT = (2, 3)
"""Seeds with deaths that leave something in mailboxes."""
WORKS = 4
"""At most, so that a life takes a fifth of a second."""


def machine(seed: int = 1) -> Machine:
    return Machine(VirtualClock(chance_of(seed, "clock")), chance_of(seed, "machine"), steps_max=100_000)


def started(within: Machine, name: str = "p") -> Process:
    return within.start(name, disk_threads=2)


def run(process: Process, work: Any) -> Any:
    """What a coroutine gives on a process."""
    told: list[Any] = []
    process.gather(work, told.append)
    process.run_until(lambda: bool(told), timeout_s=None)
    return told[0]


# One seed, one life


def test_a_seed_lived_twice_gives_the_same_bytes() -> None:
    """Nine lives, each on a log in memory and on LMDB: the same bytes, every promise kept."""
    pairs = [pair_of(seed, works=WORKS) for seed in SEEDS]
    assert {pair.first.seed: pair.problems for pair in pairs if pair.problems} == {}
    assert len({pair.first.fingerprint.chain for pair in pairs}) == len(SEEDS)
    lives = [pair.second for pair in pairs]
    assert sum(sum(life.deaths.values()) for life in lives) >= 10
    assert sum(life.takeovers for life in lives) >= 5
    assert sum(life.hours for life in lives) >= 24
    assert all(life.home >= life.obtainable for life in lives)  # what is faulty may come home with luck
    felt = collections.Counter[str]()
    for life in lives:
        felt.update(life.felt)
    wanted = ("absences_past_lease", "clock_steps", "three_workers")
    assert [name for name in wanted if not felt[name]] == []


HAS_CFFI = importlib.util.find_spec("lmdb.lmdb_cffi_v09") is not None
ENGINES = {
    "others": OTHERS,
    "cffi": {"PYTHONHASHSEED": "0", "LMDB_FORCE_CFFI": "1"},
}
"""What another process is told."""
SAYS = "import sys, lmdb; print(hash('a'), lmdb.version()[0], lmdb.Environment.__module__)"


@pytest.mark.parametrize("name", ENGINES)
def test_another_process_with_other_hashes_and_another_engine_lives_the_same_life(name: str) -> None:
    """Under another PYTHONHASHSEED, LMDB 1.0 or py-lmdb's cffi binding the log has the same bytes."""
    if name == "cffi" and not HAS_CFFI:
        pytest.skip(
            "py-lmdb's wheel has its CPython binding alone; LMDB_FORCE_CFFI=1 pip install --no-binary lmdb"
        )
    told = {**os.environ, **ENGINES[name]}
    here, there = (
        subprocess.run([sys.executable, "-c", SAYS], env=env, capture_output=True, text=True, check=True)
        for env in (None, told)
    )
    assert here.stdout.split()[0] != there.stdout.split()[0]
    other = ["0", "lmdb.cffi"] if name == "cffi" else ["1", *here.stdout.split()[2:]]
    assert there.stdout.split()[1:] == other
    elsewhere = live_elsewhere(7, store="lmdb", works=WORKS, crashes=3, environment=ENGINES[name])
    ours = live(7, works=WORKS)
    assert (elsewhere.fingerprint, elsewhere.steps) == (ours.fingerprint, ours.steps)
    assert elsewhere.problems == []


def test_a_share_of_the_seeds_lives_its_second_life_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten seeds in a row one is lived by another process, and the report counts it."""
    lived_there: list[int] = []

    def noted(seed: int, **how: Any) -> Life:
        lived_there.append(seed)
        return live(seed, **how)

    module = importlib.import_module("quire.testing.simulation.campaign")  # its function has its name
    monkeypatch.setattr(module, "live_elsewhere", noted)
    out = io.StringIO()
    assert (
        main(["--first", str(ELSEWHERE - 1), "--seeds", "2", "--works", "1", "--crashes", "0"], out=out) == 0
    )
    assert lived_there == [ELSEWHERE]
    assert "1 of the second lives in another process" in out.getvalue()


def test_a_process_that_tells_of_no_life_is_a_fault() -> None:
    """Where another process fails, its last words are told, and nothing passes for a difference."""
    with pytest.raises(EnvironmentFault, match="PYTHONHASHSEED must be"):
        live_elsewhere(1, store="lmdb", works=1, crashes=0, environment={"PYTHONHASHSEED": "none"})


def test_a_life_uses_no_thread_no_socket_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing real runs: with threads, sockets and sleeping forbidden a life is lived to its end."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a simulation touched the real world")

    monkeypatch.setattr(threading.Thread, "start", forbidden)
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(time, "sleep", forbidden)
    monkeypatch.setattr(threading.Condition, "wait", forbidden)
    life = live(3, works=WORKS)
    assert life.problems == []
    assert life.requests > 0


def test_a_trace_tells_each_step_and_is_the_same_twice() -> None:
    """``--trace`` prints every step of a life, so that two runs can be compared where they part."""
    first, second = io.StringIO(), io.StringIO()
    for out in (first, second):
        assert main(["--first", "5", "--seeds", "1", "--trace", "--works", "2"], out=out) == 0
    steps = [line for line in first.getvalue().splitlines() if line[:1].isdigit()]
    assert steps == [line for line in second.getvalue().splitlines() if line[:1].isdigit()]
    assert any(line.endswith(" journal") for line in steps)


# It finds what is planted


def caught(monkeypatch: pytest.MonkeyPatch, *, lives: int, works: int = WORKS) -> list[str]:
    """The problems of the first life that has any."""
    monkeypatch.setattr(life_module, "DAY_S_MAX", 900.0)
    for seed in range(1, lives + 1):
        problems = live(seed, works=works).problems
        if problems:
            return problems
    return []


def test_a_lost_acknowledgement_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that forgets one answer in seven leaves somebody waiting, and the life says so."""
    counts = {"answers": 0}

    def handle_all(self: Journal, messages: Any) -> None:
        results = self._commit(messages)
        for message, result in zip(messages, results, strict=True):
            counts["answers"] += message.reply_to is not None
            if message.reply_to is not None and counts["answers"] % 7:
                message.reply_to.answer(Journaled(((message.tag, result),)))

    monkeypatch.setattr(Journal, "handle_all", handle_all)
    problems = caught(monkeypatch, lives=20)
    assert any("somebody still waits" in problem for problem in problems), problems


def test_a_dropped_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the epoch's guard a worker that slept past its lease writes on: the order of steps shows it."""
    refused = codec.refused

    def unfenced(batch: Any, state: Any) -> Any:
        refusal = refused(batch, state)
        return None if isinstance(refusal, codec.Fenced) else refusal

    def sleeper(seed: int) -> Script:
        """Two workers on short leases, one of which sleeps for a minute with works in hand."""
        papers = tuple(Paper(doi=f"10.5555/fence.{n}") for n in range(4))
        asleep = Shift("finish", 0, 4, pauses=(Pause(150 + 10 * seed, 60.0),))
        day = Day((asleep, Shift("finish", 0, 4)), Weather(), (), False, False, 1.0)
        return Script(seed, papers, 10.0, False, (day,))

    assert [live(seed, script=sleeper(seed)).problems for seed in range(1, 4)] == [[]] * 3
    monkeypatch.setattr(codec, "refused", unfenced)
    assert any(live(seed, script=sleeper(seed)).problems for seed in range(1, 21))


def test_a_forgotten_salvage_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that was whole when its worker died, and is asked for once more, shows in the account."""
    monkeypatch.setattr(Reconciler, "_salvage", lambda *_: None)
    assert any("asked for" in problem for problem in caught(monkeypatch, lives=40, works=8))


def test_chance_that_leaks_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that comes from the system makes two lives differ, and the report says how to replay them."""
    monkeypatch.setattr(SeededRandom, "uuid", lambda _: uuid.uuid4().hex)
    out = io.StringIO()
    assert main(["--first", "4", "--seeds", "1", "--works", "1"], out=out) == 1
    assert "1 differences" in out.getvalue()
    assert "simulated hours" in out.getvalue()
    assert "python -m quire.testing.simulation --first 4 --seeds 1 --works 1" in out.getvalue()


def test_the_command_that_is_printed_replays_a_failing_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of seeds with a defect prints, for each that fails, one command that fails by the same words."""
    monkeypatch.setattr(resolver_module, "inside_rollout", lambda *_: True)
    row = io.StringIO()
    assert main(["--first", "22", "--seeds", "2", "--works", "2"], out=row) == 1
    commands = [line for line in row.getvalue().splitlines() if line.startswith("  python -m ")]
    words = [line for line in row.getvalue().splitlines() if line.startswith("    ")]
    assert commands
    again = []
    for command in commands:
        python, option, module, *arguments = shlex.split(command)
        assert (python, option, module) == ("python", "-m", "quire.testing.simulation")
        replayed = io.StringIO()
        assert main(arguments, out=replayed) == 1
        again += [line for line in replayed.getvalue().splitlines() if line.startswith("    ")]
    assert again == words


# Settings that are drawn: each comes to bear, and a defect in it shows


def test_each_setting_is_drawn() -> None:
    """Two hundred scripts have every value of every setting, three workers, and an hour's steps both ways."""
    scripts = [script_of(seed, works=8, crashes=3) for seed in range(200)]
    days = [day for script in scripts for day in script.days]
    choices = [script.choices for script in scripts]
    assert {one.title for one in choices} == {"off", "warn", "fail"}
    assert len({one.versions for one in choices}) == 8
    assert len({one.hosts for one in choices}) == 2
    assert {one.breaker_gate for one in choices} == {True, False}
    assert {one.rate_wait_max_ms for one in choices} == {1_000, 5_000, PATIENT_MS}
    assert {day.mood.offline for day in days} == {None, "metadata_only", "block_all", "cache_only"}
    assert {day.mood.rollout_percent for day in days} == {0, 25, 50, 75, 100}
    assert {len(day.shifts) for day in days} == {1, 2, 3}
    assert {-3_600.0, 3_600.0} < {by_s for day in days for _, by_s in day.wall_steps}
    assert all(script.cached for script in scripts for d in script.days if d.mood.offline == "cache_only")


def lived(
    *papers: Paper,
    seed: int = 1,
    choices: Choices | None = None,
    mood: Mood | None = None,
    workers: int = 1,
    weather: Weather | None = None,
    wall_steps: tuple[tuple[int, float], ...] = (),
) -> Life:
    """A life of one day with these settings and short leases, in which nobody dies."""
    shift = Shift("finish", 0, 2)
    day = Day((shift,) * workers, weather or Weather(), wall_steps, False, False, 5_000.0, mood or Mood())
    return live(seed, script=Script(seed, papers, 10.0, True, (day,), choices or Choices()))


STORM = Weather(mishaps=1.0)
SLOW = Weather(latency_s=3.0)
"""A work takes as long as a lease lasts."""


def plain(works: int) -> tuple[Paper, ...]:
    return tuple(Paper(doi=f"10.5555/plain.{n}") for n in range(works))


def at_arxiv(works: int) -> tuple[Paper, ...]:
    return tuple(Paper(arxiv_id=f"2001.{10_000 + n}") for n in range(works))


@pytest.mark.parametrize("title", ["fail", "warn"])
def test_a_title_that_nobody_reads_is_found(monkeypatch: pytest.MonkeyPatch, title: Any) -> None:
    """Another article is refused, or told of, as the user wishes; a check that lets all pass shows."""
    choices = Choices(title=title)
    life = lived(wrong_article_first(1), choices=choices)
    assert (life.problems, life.home) == ([], 1)
    assert life.felt["title_refused" if title == "fail" else "title_warn_other"] == 1
    monkeypatch.setattr(finalizer_module, "check_title", lambda *_: "title")
    words = "wrong bytes" if title == "fail" else "its title check says 'title'"
    assert words in str(lived(wrong_article_first(1), choices=choices).problems)


def test_a_title_that_is_read_unasked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``verify.title: off`` another article may pass, and nothing is said of its title."""
    choices = Choices(title="off")
    life = lived(wrong_article_first(1), choices=choices)
    assert (life.problems, life.felt["title_off_other"]) == ([], 1)
    monkeypatch.setattr(finalizer_module, "_title_check", lambda *_: "unknown")
    assert "is not to be" in str(lived(wrong_article_first(1), choices=choices).problems)


@pytest.mark.parametrize("offline", ["metadata_only", "block_all", "cache_only"])
def test_a_request_without_the_network_is_found(monkeypatch: pytest.MonkeyPatch, offline: Any) -> None:
    """A day offline asks only what it may, and its works wait; who goes online all the same is seen."""
    mood = Mood(offline=offline)
    life = lived(*plain(2), mood=mood)
    assert (life.problems, life.home, life.felt["waited_offline"]) == ([], 2, 2)
    monkeypatch.setattr(Manners, "_may_go_online", lambda *_: True)
    monkeypatch.setattr(Manners, "is_disconnected", False)
    assert "was asked for without the network" in str(lived(*plain(2), mood=mood).problems)


def test_a_work_that_is_given_up_offline_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that was only passed over has not had its turn: to call that exhausted is a defect."""
    concluded = fallback.Fallback._conclude

    def hasty(self: fallback.Fallback) -> Any:
        commands = concluded(self)
        return [fallback.Finish("no_pdf", "exhausted", may_retry=True)] if self.held else commands

    monkeypatch.setattr(fallback.Fallback, "_conclude", hasty)
    mood = Mood(offline="metadata_only")
    assert "was given up as exhausted" in str(lived(*plain(3), mood=mood).problems)


def test_a_work_outside_the_rollout_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is outside the share waits until it is widened; a worker that does not look is seen."""
    mood = Mood(rollout_percent=0)
    life = lived(*plain(2), mood=mood)
    assert (life.problems, life.home, life.felt["waited_rollout"]) == ([], 2, 2)
    monkeypatch.setattr(resolver_module, "inside_rollout", lambda *_: True)
    assert "outside the 0 %" in str(lived(*plain(2), mood=mood).problems)


def gated(monkeypatch: pytest.MonkeyPatch, **gates: Any) -> None:
    """Have the manners believe in other gates than those that are set."""
    init = Manners.__init__

    def deaf(self: Manners, settings: Any, **more: Any) -> None:
        told = msgspec.structs.replace(more.pop("gates"), **gates)
        init(self, settings, gates=told, **more)

    monkeypatch.setattr(Manners, "__init__", deaf)


def test_a_rate_gate_that_is_not_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """arXiv's pace makes works wait by the gate that is set, or within their turns where it lets them."""
    assert lived(*at_arxiv(3), choices=Choices(rate_wait_max_ms=1_000)).felt["waited_rate_wait"] > 0
    patient = Choices(rate_wait_max_ms=PATIENT_MS)
    life = lived(*at_arxiv(3), choices=patient)
    assert (life.problems, life.felt.get("waited_rate_wait")) == ([], None)
    gated(monkeypatch, skip_if_rate_wait_exceeds_ms=1_000)
    assert "that its gate lets through" in str(lived(*at_arxiv(3), choices=patient).problems)


def test_a_candidate_that_only_waits_outlives_a_page_that_is_gone() -> None:
    """A landing page that answers 404 does not exhaust a work of which a copy was held back by its pace."""
    papers = tuple(
        Paper(
            url=f"https://www.hazel-{n}.example/article/view/{n}",
            copies=(Copy(source="landing_scrape_pdf", platform="ojs"),),
        )
        for n in range(2)
    )
    life = lived(*papers, choices=Choices(rate_wait_max_ms=0))
    assert life.problems == []


def test_a_breaker_gate_that_is_not_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bad weather sources are passed over for open breakers, and not where that gate is off."""
    life = lived(*plain(3), weather=STORM)
    assert life.felt["passed_over_breaker_open"] > 0
    off = Choices(breaker_gate=False)
    assert lived(*plain(3), weather=STORM, choices=off).problems == []
    gated(monkeypatch, skip_if_breaker_open=True)
    assert "and its gate is off" in str(lived(*plain(3), weather=STORM, choices=off).problems)


COPIES = (Copy(fate="missing"), Copy(fate="missing"), Copy())


def test_copies_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are opened in the user's order; one that goes by the service's choice alone shows."""
    papers = tuple(Paper(doi=f"10.5555/order.{n}", copies=COPIES) for n in range(3))
    choices = Choices(versions=("submitted", "accepted", "published"))
    life = lived(*papers, choices=choices)
    assert (life.problems, life.home) == ([], 3)
    assert life.felt["second_copies"] > 0
    monkeypatch.setattr(Preference, "rank", lambda *_, best=False: (not best, 0, 0))
    assert "liked less" in str(lived(*papers, choices=choices).problems)


def test_a_copy_that_is_never_taken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is left out is not opened, and what has no other copy is no loss."""
    choices = Choices(versions=("published", "submitted"))
    life = lived(*plain(4), choices=choices)
    assert life.problems == []
    assert life.home == life.obtainable < 4
    monkeypatch.setattr(Preference, "wants", lambda *_: True)
    assert "never taken" in str(lived(*plain(4), choices=choices).problems)


def test_a_lease_that_is_taken_from_the_living_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers let each other's jobs be while the wall clock steps by an hour, on and back.

    One that takes the others for dead shows, and so does one that goes by the clock on the wall.
    """

    def three(*steps: tuple[int, float]) -> Life:
        return lived(*plain(6), workers=3, weather=SLOW, wall_steps=steps)

    life = three((200, 3_600.0), (400, -3_600.0))
    assert (life.problems, life.felt["clock_steps"]) == ([], 2)
    sane = LeaseManager._is_over
    monkeypatch.setattr(LeaseManager, "_is_over", lambda self, _, lease: lease.worker != self._worker)
    assert "lived and had its lease" in str(three().problems)
    clock = VirtualClock(chance_of(1, "clock"))
    began_ns = clock.wall_ns() - clock.boot_ns()

    def by_wall(self: LeaseManager, job_id: str, lease: Any) -> bool:
        late = lease.until_ns < self._clock.wall_ns() - began_ns
        return late if lease.worker != self._worker else sane(self, job_id, lease)

    monkeypatch.setattr(LeaseManager, "_is_over", by_wall)
    assert "lived and had its lease" in str(three((200, 3_600.0)).problems)


# The machine


def test_time_is_what_the_timers_say() -> None:
    """An hour of sleep takes no time, and who sleeps less wakes first."""
    within = machine()
    process = started(within)
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(name)

    async def all_of_them() -> float:
        await asyncio.gather(sleeper("hour", 3_600), sleeper("second", 1), sleeper("minute", 60))
        return asyncio.get_running_loop().time()

    before = time.perf_counter()
    run(process, all_of_them())
    assert woken == ["second", "minute", "hour"]
    assert 3_600 <= within.clock.elapsed_s < 3_601
    assert time.perf_counter() - before < 5


def test_timeouts_and_cancels_are_real_in_virtual_time() -> None:
    """``asyncio.timeout`` ends a wait; a cancelled coroutine runs its ``finally`` and says so."""
    process = started(machine())
    tidied: list[str] = []

    async def late() -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(10)
        except TimeoutError:
            return "late"
        return "in time"

    async def long() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            tidied.append("tidied")

    assert run(process, late()) == "late"
    told: list[Any] = []
    cancel = process.gather(long(), told.append)
    process.later(1.0, cancel)
    process.run_until(lambda: bool(told), timeout_s=None)
    assert tidied == ["tidied"]
    assert isinstance(told[0], asyncio.CancelledError)


def test_disk_work_answers_with_its_result_or_its_error() -> None:
    """``block`` and ``aside`` give what the work gave, or what it raised."""
    process = started(machine())
    told: list[Any] = []
    process.block(lambda: 1, told.append)
    process.block(lambda: [][0], told.append)
    process.run_until(lambda: len(told) == 2, timeout_s=None)
    assert sorted(type(one).__name__ for one in told) == ["IndexError", "int"]

    async def beside() -> int:
        return await process.aside(lambda: 7)

    assert run(process, beside()) == 7


def test_who_waits_for_nothing_is_told() -> None:
    """Where nothing is left to run, waiting is an error, not a hang."""
    process = started(machine())
    with pytest.raises(StalledError, match="nothing is left to run"):
        process.run_until(lambda: False, timeout_s=None)


def test_waiting_ends_with_its_time() -> None:
    """A bounded wait ends in virtual time, also while timers go on for ever."""
    within = machine()
    process = started(within)

    def again() -> None:
        process.later(1.0, again)

    again()
    process.run_until(lambda: False, timeout_s=30)
    assert 30 <= within.clock.elapsed_s < 32


class Counter(Actor):
    """Counts its messages."""

    def __init__(self, counts: list[Any]) -> None:
        super().__init__()
        self._counts = counts

    def handle(self, message: Any) -> Any:
        """Count, and answer with the count."""
        self._counts.append(message)
        return len(self._counts)


def test_actors_ask_and_stop_without_a_thread() -> None:
    """Tell, ask, restart and an orderly stop work on a process as they do on threads."""
    within = machine()
    process = started(within)
    scheduler: Scheduler = process
    clock: Clock = within.clock
    counts: list[Any] = []
    system = System(scheduler=scheduler, clock=clock, on_fatal=lambda *_: None)
    one = system.start("one", lambda: Counter(counts))
    one.tell("first")
    assert one.ask("second", timeout_s=1) == 2
    one.tell("third")
    assert system.stop([[one]], timeout_s=1) == []
    assert counts == ["first", "second", "third"]
    assert isinstance(process, Stepping)


def ordered(seed: int) -> list[str]:
    """The order in which two actors come to their messages."""
    within = machine(seed)
    process = started(within)
    seen: list[str] = []
    system = System(scheduler=process, clock=within.clock, on_fatal=lambda *_: None)
    actors = [system.start(name, lambda: Counter(seen)) for name in ("a", "b")]
    for n in range(6):
        for actor in actors:
            actor.tell(f"{actor.name}{n}")
    process.run_until(lambda: len(seen) == 12, timeout_s=None)
    return seen


def test_the_seed_draws_the_order() -> None:
    """Each actor keeps the order of its messages; between two, every seed has its own, always the same."""
    orders = [ordered(seed) for seed in range(20)]
    assert orders == [ordered(seed) for seed in range(20)]
    assert len({tuple(order) for order in orders}) > 5
    assert all([m for m in order if m[0] == "a"] == [f"a{n}" for n in range(6)] for order in orders)


@pytest.mark.parametrize("point", ["step", "after_disk", "user"])
def test_a_killed_process_takes_no_step_more(point: Any) -> None:
    """At the drawn moment whoever waits gets ``Killed``; what was on its way stays undone."""
    within = machine()
    process = started(within)
    process.death = Death(point, 1)
    did: list[str] = []
    process.block(lambda: did.append("work"), lambda _: did.append("told"))
    with pytest.raises(Killed):
        process.run_until(lambda: "told" in did, timeout_s=None)
    assert did == (["work", "told"] if point == "after_disk" else [])
    assert within.living == ()


def test_a_stopped_process_stands_still_while_others_go_on() -> None:
    """A pause holds the actors, loop and timers of one process, and nobody else's."""
    within = machine()
    one, two = started(within, "one"), started(within, "two")
    one.pauses = [Pause(0, 100.0)]
    seen: list[tuple[str, float]] = []
    for process in (one, two):
        process.later(1.0, lambda name=process.name: seen.append((name, within.clock.elapsed_s)))  # type: ignore[misc]
    two.run_until(lambda: len(seen) == 2, timeout_s=None)
    assert [name for name, _ in seen] == ["two", "one"]
    assert seen[1][1] >= 100


def test_the_wall_clock_may_jump_and_the_boot_clock_does_not() -> None:
    """Setting the clock, and a reboot, do to the two clocks what they do on a machine."""
    clock = VirtualClock(chance_of(1, "clock"))
    wall, boot, named = clock.wall_ns(), clock.boot_ns(), clock.boot_id
    clock.step_wall(-3_600)
    assert (clock.wall_ns() - wall, clock.boot_ns()) == (-3_600 * 10**9, boot)
    clock.reboot()
    assert clock.boot_id != named
    with pytest.raises(InvariantError):
        clock.advance_to(-1)


def test_spoiled_answers_further_on_excuse_the_first_address() -> None:
    """A request that failed at the second hop is asked again from the first: the ledger knows why."""
    ledger = HarmedLedger()
    first, second = "https://a.example/one", "https://b.example/two"
    ledger.begin(first, "GET")
    ledger.leads(first, second)
    ledger.harm(second, arrived=False)
    ledger.begin(first, "GET")
    assert (ledger.asked(first), ledger.asked(second)) == (1, 0)
    ledger.harm(first, arrived=True)
    assert ledger.asked(first) == 0


def test_lives_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no open file and no session is left, however often processes were killed.

    The messages to the journal once were hidden from Python's collector: each killed session that had one
    in its mailbox stayed for good, and a row of 570 seeds grew to 428 MB.
    """
    monkeypatch.setattr(life_module, "SHARED_MEMORY", tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    others = sessions()
    for seed in LEFT:
        live(seed, works=WORKS)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert [one for one in sessions() if not any(one is other for other in others)] == []


def sessions() -> list[Any]:
    """What is kept of sessions and their processes, by whomever."""
    return [one for one in gc.get_objects() if isinstance(one, Session | Process)]
