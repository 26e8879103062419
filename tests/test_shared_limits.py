"""All workers of a library together ask a host as often as one may: on real processes and a real file."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.actors.pace import Pace
from quire.actors.runtime.ports import SystemClock
from quire.actors.web import slot_table
from quire.actors.web.breaker import Breakers
from quire.actors.web.limits import Limiter, Limits
from quire.actors.web.manners import Manners
from quire.actors.web.slot_table import SlotTable
from quire.actors.web.slots import MemorySlots, Slots
from quire.config import settings as s
from quire.errors import EnvironmentFault
from quire.events.facts import JobLeased, JobWaiting
from quire.testing.crash import Campaign
from quire.testing.web import Paper, World, serve
from quire.testing.web.ledger import Entry, Ledger

sys.path.insert(0, str(Path(__file__).parent))
from loopback import GATES, WEB

S = 1_000_000_000
KEY = "arxiv.org"
CLOCK = SystemClock()

ASKER = """
import sys, time
from pathlib import Path
from quire.actors.runtime.ports import SystemClock
from quire.actors.web.limits import Limits
from quire.actors.web.slot_table import SlotTable
from quire.config.settings import Limits as Settings

clock = SystemClock()
settings = Settings(metadata_per_s=1, landing_per_s=1, artifact_per_s=1, hosts_per_s={"h.org": 20})
limits = Limits(settings, SlotTable(Path(sys.argv[1]), boot_id=clock.boot_id))
print("ready", flush=True)
sys.stdin.readline()
end_ns = clock.boot_ns() + 2_000_000_000
while (now_ns := clock.boot_ns()) < end_ns:
    one = limits.reserve("h.org", "/", "artifact", now_ns=now_ns)
    if one.at_ns >= end_ns:
        limits.give_back(one, now_ns=now_ns)
        break
    time.sleep(one.wait_s(clock.boot_ns()))
    limits.use(one)
    print(one.at_ns, clock.boot_ns())
"""
RUSHER = """
import sys
from pathlib import Path
from quire.actors.runtime.ports import SystemClock
from quire.actors.web.slot_table import SlotTable

clock = SystemClock()
table = SlotTable(Path(sys.argv[1]), boot_id=clock.boot_id)
table.reserve("arxiv.org", 0, 1)
print("ready", flush=True)
while True:
    table.reserve("arxiv.org", 0, 1)
"""
HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("ready", flush=True)
time.sleep(60)
"""


def table(folder: Path, boot_id: str = "this boot") -> SlotTable:
    return SlotTable(folder / "limits", boot_id=boot_id)


def process(script: str, path: Path) -> subprocess.Popen[str]:
    """A process that has said that it is ready."""
    pipe = subprocess.PIPE
    found = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=pipe, stdout=pipe, text=True, cwd=path.parent
    )
    assert found.stdout is not None
    assert found.stdout.readline() == "ready\n"
    return found


def killed(one: subprocess.Popen[str]) -> None:
    one.kill()
    one.communicate()


# -- the table --------------------------------------------------------------------------------------------


def test_three_processes_share_one_rate(tmp_path: Path) -> None:
    """Three that ask for 20/s each for two seconds get 20/s together: evenly, all served, none lost."""
    askers = [process(ASKER, tmp_path / "limits") for _ in range(3)]
    for asker in askers:
        assert asker.stdin is not None
        asker.stdin.write("go\n")
        asker.stdin.flush()
    lines_of = [asker.communicate(timeout=20)[0].splitlines() for asker in askers]
    said = [[tuple(map(int, line.split())) for line in lines] for lines in lines_of]
    slots = sorted(at for lines in said for at, _ in lines)
    assert all(later - earlier >= S // 20 for earlier, later in pairwise(slots))
    assert 36 <= len(slots) <= 2 * 20 + 1
    assert all(len(lines) >= 5 for lines in said)
    assert all(asked >= at for lines in said for at, asked in lines)


def test_a_killed_worker_keeps_nobody_waiting(tmp_path: Path) -> None:
    """SIGKILL at any moment of a reservation: the next one goes at once, and the queue goes on."""
    ours = SlotTable(tmp_path / "limits", boot_id=CLOCK.boot_id)
    chance, before = random.Random(1), 0
    for _ in range(12):
        rusher = process(RUSHER, ours.path)
        time.sleep(chance.uniform(0.01, 0.05))
        killed(rusher)
        began = time.monotonic()
        at = ours.reserve(KEY, 0, 1)
        assert time.monotonic() - began < 0.02
        assert at > before, "the queue was begun anew"
        before = at
    ours.close()


def test_a_stopped_holder_is_not_waited_for_long(tmp_path: Path) -> None:
    """Who was stopped with the lock in hand costs the others a moment, and after its death nothing."""
    ours = table(tmp_path)
    assert ours.reserve(KEY, 0, S) == 0
    holder = process(HOLDER, ours.path)
    try:
        os.kill(holder.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert ours.reserve(KEY, 0, S) == S
        waited = time.monotonic() - began
        began = time.monotonic()
        assert ours.peek(KEY, 0) == 2 * S
        assert time.monotonic() - began < slot_table.LOCK_PAUSE_S * slot_table.LOCK_TRIES / 2
    finally:
        killed(holder)
    assert slot_table.LOCK_PAUSE_S * slot_table.LOCK_TRIES <= waited < 1.0
    began = time.monotonic()
    assert ours.reserve(KEY, 0, S) == 2 * S
    assert time.monotonic() - began < 0.02


def test_a_reservation_keeps_the_others_out(tmp_path: Path) -> None:
    """While one reserves it holds the lock, and afterwards it does not."""
    ours = table(tmp_path)
    ours.reserve(KEY, 0, S)
    with ours.path.open("rb") as other:
        with ours._mine(), ours._alone(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"foreign words\n" * 10),
        lambda path: path.write_bytes(random.Random(3).randbytes(1 << 20)),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
    ],
    ids=["empty", "foreign", "noise", "torn"],
)
def test_a_corrupt_file_is_begun_anew(spoil: Any, tmp_path: Path) -> None:
    """Whatever stands in the file's place, limits hold from then on, between those who open it."""
    first = table(tmp_path)
    first.reserve(KEY, 5 * S, 100 * S)
    size = first.path.stat().st_size
    first.close()
    spoil(first.path)
    one, other = table(tmp_path), table(tmp_path)
    assert [who.reserve(KEY, 7 * S, S) // S for who in (one, other, one)] == [7, 8, 9]
    assert one.path.stat().st_size == size


def test_another_boot_begins_anew(tmp_path: Path) -> None:
    """Times of another boot say nothing: its far slots hold nobody back."""
    table(tmp_path, "yesterday").reserve(KEY, 10**6 * S, S)
    today = table(tmp_path, "today")
    assert today.peek(KEY, S) == S
    assert [today.reserve(KEY, S, S) for _ in range(2)] == [S, 2 * S]
    assert table(tmp_path, "today").peek(KEY, S) == 3 * S


def test_a_damaged_record_concerns_its_key_alone(tmp_path: Path) -> None:
    """A flipped byte: that key begins anew, the others keep their queues."""
    ours = table(tmp_path)
    for key in ("a.org", "b.org"):
        ours.reserve(key, 0, 5 * S)
    data = bytearray(ours.path.read_bytes())
    data[data.index(slot_table._digest("a.org")) + 20] ^= 1
    ours.path.write_bytes(data)
    assert (ours.peek("a.org", 0), ours.peek("b.org", 0)) == (0, 5 * S)
    assert [ours.reserve("a.org", 0, S) for _ in range(2)] == [0, S]


@pytest.mark.parametrize("remove", [Path.unlink, lambda path: os.truncate(path, 0)], ids=["removed", "cut"])
def test_a_file_that_is_lost_while_in_use_is_made_again(remove: Any, tmp_path: Path) -> None:
    """Those who had it open meet in the new one."""
    one, other = table(tmp_path), table(tmp_path)
    one.reserve(KEY, 0, S)
    other.reserve(KEY, 0, S)
    remove(one.path)
    late = table(tmp_path)
    assert [who.reserve(KEY, 9 * S, S) // S for who in (one, late, other, one, late)] == [9, 10, 11, 12, 13]


def test_a_slot_of_a_lost_table_holds_nobody_back(tmp_path: Path) -> None:
    """Given back to a table that was begun anew, a far slot is not where its queue begins."""
    ours = table(tmp_path)
    ours.give_back(KEY, 100 * S, 0, S)
    assert ours.reserve(KEY, 0, S) == 0


def test_a_table_that_cannot_be_had_says_so(tmp_path: Path) -> None:
    """A folder in its place, or none to make it in, is a fault of the environment that names the file."""
    (tmp_path / "limits").mkdir()
    for ours in (table(tmp_path), SlotTable(tmp_path / "nowhere" / "limits", boot_id="b")):
        with pytest.raises(EnvironmentFault, match="limits"):
            ours.reserve(KEY, 0, S)


def test_keys_are_bounded_and_idle_ones_reused(tmp_path: Path) -> None:
    """Twice as many keys as places, one after another: the file keeps its size, the busy key its queue."""
    ours = table(tmp_path)
    ours.reserve(KEY, 0, 10**6 * S)
    size = ours.path.stat().st_size
    for n in range(2 * slot_table.SETS * slot_table.WAYS):
        assert ours.reserve(f"h{n}.org artifact", n * S, S) == n * S
    assert ours.path.stat().st_size == size
    assert ours.peek(KEY, 0) == 10**6 * S


def test_a_key_without_a_place_shares_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all places are busy a further key waits behind one of them, and never goes in a rush."""
    monkeypatch.setattr(slot_table, "SETS", 1)
    ours = table(tmp_path)
    for n in range(slot_table.WAYS):
        assert ours.reserve(f"h{n}", 0, 10 * S) == 0
    late = [ours.reserve("late", 0, S) for _ in range(3)]
    assert late == [10 * S, 11 * S, 12 * S]
    ours.give_back("late", late[-1], 0, S)
    assert ours.peek("late", 0) == 12 * S
    assert ours.reserve("late", 50 * S, S) == 50 * S


STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "reserve", "back"]), st.integers(0, 9), st.integers(0, S)),
    max_size=40,
)


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@given(steps=STEPS)
def test_two_workers_keep_the_interval_and_the_table_is_the_memory(
    steps: list[tuple[str, int, int]], module_path: Path
) -> None:
    """Whatever two workers reserve, wait for and give back: used slots keep their distance, whether the
    slots are counted in the file or in memory, and both give the same."""
    path = module_path / "limits"
    path.unlink(missing_ok=True)
    shared = [SlotTable(path, boot_id="b") for _ in range(2)]
    memory = MemorySlots()
    found = [_played(steps, workers) for workers in (shared, [memory, memory])]
    for one in shared:
        one.close()
    assert found[0] == found[1]
    assert all(later - earlier >= S for earlier, later in pairwise(sorted(found[0])))


def _played(steps: list[tuple[str, int, int]], workers: list[Any]) -> list[int]:
    """The slots that were used, or are waited for in the end."""
    limiters = [Limiter(KEY, one) for one in workers]
    now_ns, used = 0, []
    waiting: list[tuple[Limiter, Any]] = []
    for step, which, later_ns in steps:
        now_ns += later_ns
        for limiter, one in [pair for pair in waiting if pair[1].at_ns <= now_ns]:
            waiting.remove((limiter, one))
            limiter.use(one)
            used.append(one.at_ns)
        if step == "reserve":
            limiter = limiters[which % 2]
            waiting.append((limiter, limiter.reserve(now_ns, S)))
        elif waiting:
            limiter, one = waiting.pop(which % len(waiting))
            limiter.give_back(one, now_ns)
    return used + [one.at_ns for _, one in waiting]


def test_a_slot_that_is_given_back_goes_to_the_next_of_any_worker(tmp_path: Path) -> None:
    """Those of the same worker behind it move up; what is left over is what another worker gets next."""
    mine, other = (Limiter(KEY, table(tmp_path)) for _ in range(2))
    first, second = mine.reserve(0, S), mine.reserve(0, S)
    theirs = other.reserve(0, S)
    third = mine.reserve(0, S)
    assert [one.at_ns // S for one in (first, second, theirs, third)] == [0, 1, 2, 3]
    mine.use(first)
    mine.give_back(second, 0)
    assert (third.at_ns, theirs.at_ns) == (S, 2 * S)
    assert other.reserve(0, S).at_ns == 3 * S
    mine.give_back(third, 0)
    assert other.reserve(0, S).at_ns == S, "the hole that nobody here can fill"


def test_a_slot_that_has_passed_brings_nobody_too_close(tmp_path: Path) -> None:
    """Given back late, a slot is lost: whoever took it now would go just before the one behind him."""
    limiter = Limiter(KEY, table(tmp_path))
    late, behind = limiter.reserve(0, S), limiter.reserve(0, S)
    limiter.give_back(late, S * 9 // 10)
    assert behind.at_ns == S
    assert limiter.reserve(S * 9 // 10, S).at_ns == 2 * S


# -- who asks the table -----------------------------------------------------------------------------------


def manners(slots: Slots, **web: Any) -> Manners:
    settings = msgspec.convert(WEB | web, s.Web, strict=False)

    async def no_robots(*_: Any) -> Any:
        raise AssertionError("nobody asks for robots here")

    return Manners(
        settings,
        gates=msgspec.convert(GATES, s.Gates),
        breakers=Breakers(settings.breaker, clock=CLOCK, on_change=lambda _: None),
        clock=CLOCK,
        fetch=no_robots,
        slots=slots,
    )


SLOW = {**WEB["limits"], "hosts_per_s": {"arxiv.org": 0.3333}}


def test_the_gate_sees_what_other_workers_took(tmp_path: Path) -> None:
    """Three slots taken elsewhere at one per 3 s close the gate here, which takes none itself."""
    there, gated = table(tmp_path), manners(table(tmp_path), limits=SLOW)
    url = "https://arxiv.org/pdf/2101.00001"
    assert gated.gate(url, "artifact") is None
    limits = Limits(msgspec.convert(SLOW, s.Limits), there)
    for _ in range(3):
        limits.reserve("arxiv.org", "/pdf/1", "artifact", now_ns=CLOCK.boot_ns())
    for _ in range(2):
        gate = gated.gate(url, "artifact")
        assert gate is not None
        assert gate.reason == "rate_wait"
        assert 8.0 < gate.wait_s <= 9.1
    assert gated.gate("https://elsewhere.org/a.pdf", "artifact") is None


def test_workers_pace_held_back_jobs_together(tmp_path: Path) -> None:
    """Two workers' waiting jobs get one line of slots, an interval apart, apart from the requests' own."""
    settings = msgspec.convert(SLOW, s.Limits)
    one, other = (Pace(settings, table(tmp_path)) for _ in range(2))
    url = "https://arxiv.org/pdf/1"
    waits = [pace.slot_ms(url, "artifact", now_ms=1000, wait_ms=6000) for pace in (one, other, one, other)]
    assert [round(wait / 1000) for wait in waits] == [6, 9, 12, 15]
    assert table(tmp_path).peek("arxiv.org", S) == S
    assert Pace(settings).slot_ms(url, "artifact", now_ms=1000, wait_ms=6000) == 6000


# -- whole runs -------------------------------------------------------------------------------------------


class TimedLedger(Ledger):
    """A ledger that also knows when arXiv was asked, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def begin(self, url: str, method: str) -> Entry:
        entry = super().begin(url, method)
        if entry.host == "arxiv.org":
            self.times.append(time.monotonic())
        return entry


def test_rehearsals_without_pacing_have_no_table(tmp_path: Path) -> None:
    """``pacing: none`` asks for no slot: no file, no lock."""
    with serve(World.of(Paper(arxiv_id="2101.00001"))) as served:
        campaign = Campaign(tmp_path, served, seed=1)
        assert campaign.finish(campaign.start()) == 0
        assert not (campaign.library / "workers" / "limits").exists()


@pytest.mark.parametrize("gate_ms", [5000, 300])
def test_two_workers_ask_arxiv_at_the_rate_of_one(gate_ms: int, tmp_path: Path) -> None:
    """A list of arXiv papers alone, two processes, 5/s: it comes home whole, asked evenly at 5/s in all, also
    where most jobs are held back by the gate and taken up when their turn has come."""
    papers = [Paper(arxiv_id=f"2101.{n:05}") for n in range(1, 13)]
    config = tmp_path / "c.yaml"
    config.write_text("web: {limits: {hosts_per_s: {arxiv.org: 5}}}\n")
    environ = {
        "QUIRE_WORKS_IN_HAND": "6",
        "QUIRE_FALLBACK__GATES__SKIP_IF_RATE_WAIT_EXCEEDS_MS": str(gate_ms),
    }
    with serve(World.of(*papers)) as served:
        served.ledger = ledger = TimedLedger()
        campaign = Campaign(tmp_path, served, seed=1, environ=environ)
        workers = [campaign.start("--pacing", "polite", "--config", str(config)) for _ in range(2)]
        assert [campaign.finish(worker) for worker in workers] == [0, 0]
        account, _ = campaign.account()
        assert (account.problems, account.states) == ([], {"INDEXED": 12})
        with campaign.log() as log:
            events = [one.event for one in log.store.read(limit=10_000)]
    asked = ledger.times
    assert len(asked) == 12
    assert asked[-1] - asked[0] >= 11 * 0.2 - 0.15
    busiest = max(sum(0 <= other - at < 1.0 for other in asked) for at in asked)
    assert busiest <= 5 + 1, [round(at - asked[0], 3) for at in asked]
    assert len({e.worker for e in events if isinstance(e, JobLeased)}) == 2
    held_back = [e for e in events if isinstance(e, JobWaiting)]
    assert bool(held_back) == (gate_ms == 300)
