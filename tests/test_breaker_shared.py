"""Breakers are shared by all workers of a library: what one learns, or the operator says, holds for all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quire import Session
from quire.actors.breaker_watch import BreakerWatch
from quire.actors.runtime.journal import Append, Journaled
from quire.actors.shared_breakers import HEAD_START_S, SharedBreakers
from quire.actors.waking import WAKES_PER_LOOK, woken
from quire.actors.web.breaker import PROBE_S_MAX, Breakers, Permit, Refusal
from quire.config.loader import Flag, load
from quire.config.settings import Breaker as Settings
from quire.events.facts import (
    BreakerChanged,
    JobLeased,
    JobPlanned,
    JobWaiting,
    LeaseReleased,
    RunStarted,
)
from quire.events.job import stream_of
from quire.events.keys import job_key
from quire.events.projections import CLAIMABLE, HOSTS, HOSTS_CHANGED, HOSTS_TROUBLED
from quire.events.record import Appended, Batch, Conflict
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.memory_store import MemoryStore
from quire.testing.crash import Campaign
from quire.testing.web import Copy, Paper, World, serve
from quire.testing.web.ledger import Entry, Ledger

sys.path.insert(0, str(Path(__file__).parent))
from command import quire

S = 1_000_000_000
SAID_S = 1.0
"""Within this time a change must be effective in every worker, in seconds."""
BAD = "bad.example"


class Clock:
    boot_id = "test"

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall_s = 5_000_000.0

    def boot_ns(self) -> int:
        return round(self.now_s * S)

    def wall_ns(self) -> int:
        return round((self.now_s + self.wall_s) * S)


class Bench:
    """One worker's breakers and a log in which all others write; ``said`` is what goes to the journal."""

    def __init__(self, folder: Path, *, run_id: str = "me") -> None:
        self.clock = Clock()
        self.store = MemoryStore(QUIRE, run_id="other", clock=self.clock)
        self.library = Library.open(folder / "library")
        self.changes: list[BreakerChanged] = []
        self.breakers = Breakers(
            Settings(failures_to_open=5, open_s=60), clock=self.clock, on_change=self.changes.append
        )
        self.shared = SharedBreakers(
            self.breakers, run_id=run_id, store=self.store, library=self.library, clock=self.clock
        )
        self.said: list[Append] = []
        to = SimpleNamespace(journal=SimpleNamespace(tell=self.said.append))
        timer = SimpleNamespace(later=lambda _s, _call: None)
        watch: Any = BreakerWatch(
            self.shared,
            directory=to,  # type: ignore[arg-type]
            store=self.store,
            clock=self.clock,
            scheduler=timer,  # type: ignore[arg-type]
        )
        watch.me = None
        self.watch: BreakerWatch = watch

    def log(self, state: Any, *, host: str = "h.org", wait_s: float = 0.0, reason: str = "http_503") -> None:
        """Somebody else's word."""
        until_ns = self.clock.wall_ns() + round(wait_s * S) if state == "open" else 0
        self.store.append([Batch(f"host/{host}", (BreakerChanged(host, state, reason, 5, until_ns),))])

    def fail(self, times: int = 5, host: str = "h.org") -> None:
        for _ in range(times):
            permit = self.breakers.ask(host)
            assert isinstance(permit, Permit)
            self.breakers.report(permit, "failure", reason="http_503")

    def answer(self) -> Any:
        """The journal commits what it was told last; the watch hears of it."""
        append = self.said[-1]
        (result,) = self.store.append([append.batch])
        self.watch.handle(Journaled(((append.tag, result),)))
        return result


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# -- what is learned from the log -------------------------------------------------------------------------


def test_a_session_begins_with_the_hosts_that_are_not_closed(bench: Bench) -> None:
    """Open ones are open for as long as is left; closed ones are not looked at."""
    bench.log("open", wait_s=60)
    bench.log("open", host="healed.org", wait_s=60)
    bench.log("closed", host="healed.org")
    bench.clock.now_s += 20
    bench.shared.load()
    assert bench.breakers.not_closed() == (("h.org", "open", 40 + HEAD_START_S),)
    assert bench.changes == [], "what the log says is not told to it again"


def test_many_hosts_are_loaded_page_by_page(bench: Bench) -> None:
    """More open hosts than one look reads, and more news than one look reads, are all learned."""
    for n in range(600):
        bench.log("open", host=f"h{n}.org", wait_s=60)
    bench.shared.load()
    assert len(bench.breakers.not_closed()) == 600
    for n in range(600):
        bench.log("closed", host=f"h{n}.org")
    bench.shared.look()
    assert bench.breakers.not_closed() == ()


def test_what_others_say_while_it_runs_is_learned_once(bench: Bench) -> None:
    """A look applies the news; the next one, without news, changes nothing and reads one index."""
    bench.shared.load()
    bench.log("open", wait_s=60)
    bench.shared.look()
    assert bench.breakers.wait_s("h.org") == 60 + HEAD_START_S
    bench.clock.now_s += 30
    read: list[str] = []
    bench.store.scan = _noting(bench.store.scan, read)  # type: ignore[method-assign]
    bench.store.rows = _noting(bench.store.rows, read)  # type: ignore[method-assign]
    bench.shared.look()
    assert read == [HOSTS_CHANGED]
    assert bench.breakers.wait_s("h.org") == 30 + HEAD_START_S, "not begun anew"


def _noting(call: Any, read: list[str]) -> Any:
    def noted(table: str, *args: Any, **more: Any) -> Any:
        read.append(table)
        return call(table, *args, **more)

    return noted


def test_own_words_are_no_news(tmp_path: Path) -> None:
    """What this run wrote is not applied again, however late it is read."""
    bench = Bench(tmp_path, run_id="other")
    bench.shared.load()
    bench.log("open", wait_s=60)
    bench.shared.look()
    assert bench.breakers.not_closed() == ()


def test_requests_in_flight_do_not_undo_what_others_said(bench: Bench) -> None:
    """A request that was sent before the host was opened elsewhere neither closes nor reopens it."""
    bench.shared.load()
    early = bench.breakers.ask("h.org")
    assert isinstance(early, Permit)
    bench.log("open", wait_s=60)
    bench.shared.look()
    bench.breakers.report(early, "success")
    assert bench.breakers.wait_s("h.org") == 60 + HEAD_START_S


@pytest.mark.parametrize("step_h", [-10_000, -5, 5])
def test_a_step_of_the_wall_clock_keeps_no_host_shut(bench: Bench, step_h: int) -> None:
    """Set back by hours, the wait is what was recorded; set forward, it is over: a probe may go."""
    bench.log("open", wait_s=60)
    bench.clock.wall_s += step_h * 3600
    bench.shared.load()
    wait_s = bench.breakers.wait_s("h.org")
    assert wait_s == (60 + HEAD_START_S if step_h < 0 else 0)


def test_a_step_of_the_wall_clock_while_it_runs_changes_no_wait(bench: Bench) -> None:
    """Once learned, the wait is on the clock that does not jump."""
    bench.shared.load()
    bench.log("open", wait_s=60, reason="by hand")
    bench.shared.look()
    bench.clock.wall_s += 1e6
    assert bench.breakers.wait_s("h.org") == 60


# -- half-open --------------------------------------------------------------------------------------------


def _probed_by(bench: Bench, worker: str) -> None:
    bench.store.append([Batch("run/other", (RunStarted(worker, "0" * 16, (), "1", 1),))])
    bench.log("half_open", reason="after http_503")


def test_one_probe_among_all_workers(bench: Bench) -> None:
    """While a living worker's probe is out nobody else goes; its end, as the log tells it, decides."""
    lock = bench.library.claim_worker("w1")
    bench.shared.load()
    _probed_by(bench, "w1")
    bench.shared.look()
    assert bench.breakers.ask("h.org") == Refusal(1.0)
    bench.log("closed", reason="the probe was answered")
    bench.shared.look()
    assert isinstance(bench.breakers.ask("h.org"), Permit)
    assert bench.changes == []
    lock.release()


def test_a_probe_that_is_never_heard_of_counts_as_lost(bench: Bench) -> None:
    """A worker that is stopped half-open blocks the host for a bounded time; then another probes."""
    lock = bench.library.claim_worker("w1")
    _probed_by(bench, "w1")
    bench.shared.load()
    bench.clock.now_s += PROBE_S_MAX - 0.1
    bench.shared.look()
    assert isinstance(bench.breakers.ask("h.org"), Refusal)
    bench.clock.now_s += 0.2
    assert isinstance(bench.breakers.ask("h.org"), Permit)
    assert [(change.state, change.reason) for change in bench.changes] == [("half_open", "after http_503")]
    lock.release()


def test_a_probe_dies_with_its_worker(bench: Bench) -> None:
    """A worker that died half-open, before or while this one runs, blocks the host no longer than a look."""
    lock = bench.library.claim_worker("w1")
    _probed_by(bench, "w1")
    bench.shared.load()
    assert isinstance(bench.breakers.ask("h.org"), Refusal)
    lock.release()
    bench.shared.look()
    assert bench.breakers.wait_s("h.org") == 0
    late = Bench(bench.library.path.parent)
    late.log("half_open")  # of a run that nobody knows
    late.shared.load()
    assert isinstance(late.breakers.ask("h.org"), Permit)
    assert [change.state for change in late.changes] == ["half_open"]


# -- what the log is told ---------------------------------------------------------------------------------


def _told(bench: Bench) -> None:
    """All that the breakers did since goes to the watch, as their callback would."""
    for change in bench.changes:
        bench.watch.handle(change)
    bench.changes.clear()


def test_own_changes_follow_the_version_that_was_known(bench: Bench) -> None:
    """Each is appended behind what was known; one of a host at a time, the rest in order behind it."""
    bench.shared.load()
    bench.fail()
    _told(bench)
    bench.clock.now_s += 60
    probe = bench.breakers.ask("h.org")
    assert isinstance(probe, Permit)
    bench.breakers.report(probe, "success")
    _told(bench)
    assert len(bench.said) == 1, "the others wait for the answer"
    # In this bench the log writes under another run id: let it be known as ours.
    bench.shared._run_id = "other"
    assert isinstance(bench.answer(), Appended)
    assert isinstance(bench.answer(), Appended)
    states = [(one.version, one.event.state) for one in bench.store.read_stream("host/h.org")]
    assert states == [(1, "open"), (2, "half_open"), (3, "closed")]


def test_the_operator_comes_before_what_a_worker_was_about_to_say(bench: Bench) -> None:
    """A change decided before the operator's word was known is not said any more; the word holds here too."""
    bench.shared.load()
    bench.fail()
    bench.log("open", wait_s=86_400, reason="by hand: maintenance")
    _told(bench)
    assert bench.said == []
    assert bench.breakers.wait_s("h.org") == 86_400


def test_a_word_that_came_first_holds(bench: Bench) -> None:
    """The append that lost is refused, nothing of it follows, and the breaker becomes what the log says."""
    bench.shared.load()
    bench.fail()
    _told(bench)
    bench.log("open", wait_s=86_400, reason="by hand")
    bench.clock.now_s += 60
    assert isinstance(bench.breakers.ask("h.org"), Permit), "here the word is not known yet"
    _told(bench)
    assert isinstance(bench.answer(), Conflict)
    assert len(bench.said) == 1, "the probe is not told: it was decided before the word was known"
    assert bench.breakers.wait_s("h.org") == 86_340
    assert [one.event.reason for one in bench.store.read_stream("host/h.org")] == ["by hand"]


def test_two_workers_that_open_a_host_at_once(bench: Bench) -> None:
    """The log keeps the first; whoever was told of a longer rest keeps it for itself."""
    bench.shared.load()
    for _ in range(5):
        permit = bench.breakers.ask("h.org")
        assert isinstance(permit, Permit)
        bench.breakers.report(permit, "failure", reason="http_429", retry_after_s=900)
    _told(bench)
    bench.log("open", wait_s=60)
    assert isinstance(bench.answer(), Conflict)
    assert bench.breakers.wait_s("h.org") == 900
    bench.log("closed", reason="by hand")
    bench.shared.look()
    assert bench.breakers.wait_s("h.org") == 0


def test_a_host_that_is_no_name_stays_out_of_the_log(bench: Bench) -> None:
    """A page may link to a host of any length; it fails, and no key of the log breaks with it."""
    bench.shared.load()
    bench.fail(host="x" * 600)
    _told(bench)
    assert bench.said == []


def test_rows_of_hosts_tell_who_and_when(bench: Bench) -> None:
    """The row names run, position and version of the last change; the indexes follow it."""
    bench.log("open", wait_s=60)
    bench.log("closed")
    (row,) = bench.store.rows(HOSTS, [b"h.org"])
    assert (row.run_id, row.position, row.version, row.lasts_ns) == ("other", 2, 2, 0)
    assert bench.store.scan(HOSTS_TROUBLED) == []
    assert bench.store.scan(HOSTS_CHANGED) == [((2).to_bytes(8, "big"), b"h.org")]


# -- jobs that wait ---------------------------------------------------------------------------------------


def _waiting(bench: Bench, doi: str, reason: str, wait_s: float) -> str:
    work = Work(doi=doi)
    stream = stream_of(job_key(work))
    until_ns = bench.clock.wall_ns() + round(wait_s * S)
    bench.store.append([Batch(stream, (JobPlanned(work, "pdf", work.resolver_url, "ab" * 8),))])
    waits = (JobLeased("w", 1, "b"), JobWaiting(reason, until_ns), LeaseReleased("waiting"))
    bench.store.append([Batch(stream, waits, epoch=1, opens_epoch=True)])
    return stream


def test_an_early_close_lets_the_waiting_jobs_go(bench: Bench) -> None:
    """Jobs that wait for a breaker may be taken up at once; those that wait for a rate, or not long, wait."""
    bench.shared.load()
    bench.log("open", wait_s=86_400, reason="by hand")
    bench.watch.handle(_look())
    held = {_waiting(bench, f"10.1/{n}", "breaker_open", 86_400) for n in range(300)}
    _waiting(bench, "10.1/rate", "rate_wait", 86_400)
    bench.log("closed", reason="by hand")
    bench.watch.handle(_look())
    assert bench.said == []
    bench.watch.handle(_look())
    assert len(bench.said) == WAKES_PER_LOOK < 300, "a long backlog goes in slices"
    bench.watch.handle(_look())
    assert {append.batch.stream for append in bench.said} == held
    results = bench.store.append([append.batch for append in bench.said])
    assert all(isinstance(result, Appended) for result in results)
    assert len(bench.store.scan(CLAIMABLE, b"\0" * 8)) == 300
    assert list(woken(bench.store, wall_ns=bench.clock.wall_ns())) == []


def _look() -> Any:
    from quire.actors.breaker_watch import Look

    return Look()


# -- whole runs -------------------------------------------------------------------------------------------


class TimedLedger(Ledger):
    """A ledger that also knows when a host was asked, in seconds."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.times: list[float] = []

    def begin(self, url: str, method: str) -> Entry:
        entry = super().begin(url, method)
        if entry.host == self.host:
            self.times.append(time.monotonic())
        return entry

    def since(self, at: float) -> int:
        return sum(time_s > at for time_s in self.times)


def until(holds: Any, seconds: float = 10.0) -> float:
    """Wait until it holds; the time of then."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return time.monotonic()


def _all_events(log: Any) -> list[Any]:
    found: list[Any] = []
    while more := log.store.read(found[-1].position if found else 0):
        found += more
    return found


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    begun: list[subprocess.Popen[bytes]] = []
    yield begun
    for process in begun:
        process.kill()
        process.wait()


def test_a_worker_learns_from_another_that_a_host_fails(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Two processes, a host that fails: one opens its breaker, and within a second the other, which by itself
    never would, asks it no more. Counted at the server."""
    papers = [
        Paper(doi=f"10.5555/b{n}", copies=(Copy(at=f"https://{BAD}/{n}.pdf", fate="server_error"),))
        for n in range(400)
    ]
    with serve(World.of(*papers)) as served:
        served.ledger = ledger = TimedLedger(BAD)
        never = Campaign(
            tmp_path,
            served,
            seed=1,
            environ={"QUIRE_WORKS_IN_HAND": "2", "QUIRE_WEB__BREAKER__FAILURES_TO_OPEN": "1000"},
        )
        processes.append(never.start())
        until(lambda: len(ledger.times) >= 6)
        soon = Campaign(tmp_path, served, seed=1, environ={"QUIRE_WORKS_IN_HAND": "2"})
        processes.append(soon.start())
        with soon.log() as log:
            opened = until(lambda: log.store.rows(HOSTS, [BAD.encode()]) != [None])
            time.sleep(SAID_S + 1.5)
            assert ledger.since(opened - 1.0) > 0
            assert ledger.since(opened + SAID_S) == 0
            (row,) = log.store.rows(HOSTS, [BAD.encode()])
            assert (row.state, row.reason, row.version) == ("open", "http_500", 1)
            waits = [one.event for one in _all_events(log) if isinstance(one.event, JobWaiting)]
            assert waits, "works met the breaker within a turn"
            late_s = [(wait.not_before_ns - row.until_ns) / S for wait in waits]
            assert min(late_s) > -0.2, "they wait until it opens, and not for a guess"
            assert max(late_s) < HEAD_START_S + 1.0
        assert [process.poll() for process in processes] == [None, None], "they wait for the host"


def test_the_operator_opens_and_closes_a_host_of_a_run(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """``quire breaker open`` stops a running worker's requests to a host within a second, for days if need
    be; ``close`` lets it go on, and the list comes home whole."""
    papers = [
        Paper(doi=f"10.5555/g{n}", copies=(Copy(at=f"https://good.example/{n}.pdf", fate="slow_drip"),))
        for n in range(20)
    ]
    with serve(World.of(*papers)) as served:
        served.ledger = ledger = TimedLedger("good.example")
        campaign = Campaign(tmp_path, served, seed=1, environ={"QUIRE_WORKS_IN_HAND": "2"})
        processes.append(campaign.start())
        until(lambda: len(ledger.times) >= 4)
        url = "https://good.example/any/page"
        assert quire("breaker", "open", url, "--for", "3d", "--library", campaign.library).returncode == 0
        said = time.monotonic()
        time.sleep(SAID_S + 1.0)
        assert ledger.since(said + SAID_S) == 0
        before = len(ledger.times)
        assert before < 20
        assert processes[0].poll() is None
        closed = quire("breaker", "close", "good.example", "--library", campaign.library)
        assert "is asked again" in closed.stdout
        until(lambda: len(ledger.times) > before, 3.0)
        assert campaign.finish(processes[0]) == 0
        account, _ = campaign.account()
        assert (account.problems, account.states) == ([], {"INDEXED": 20})


HALF_OPEN = """
import sys, time
from quire import Session
from quire.config.loader import Flag, load
flags = [Flag(("library",), sys.argv[1], "-"), Flag(("web", "stand_in"), "http://127.0.0.1:9", "-")]
with Session(load(flags, environ={}).settings) as session:
    session._web.breakers.open("h.org", reason="http_503", for_s=0.0)
    session._web.breakers.ask("h.org")
    print("probing", flush=True)
    time.sleep(60)
"""


def test_survivors_of_a_worker_that_is_killed_half_open(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """While another process's probe is out this one is held back; after kill -9, within a second, not."""
    path = tmp_path / "library"
    flags = [Flag(("library",), str(path), "-"), Flag(("web", "stand_in"), "http://127.0.0.1:9", "-")]
    with Session(load(flags, environ={}).settings) as session:
        prober = subprocess.Popen(
            [sys.executable, "-c", HALF_OPEN, str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent,
        )
        processes.append(prober)
        assert prober.stdout is not None
        assert prober.stdout.readline() == b"probing\n"
        held = lambda: session._web.gate("https://h.org/", "landing")  # noqa: E731
        until(held, 2.0)
        time.sleep(1.2)
        gate = held()
        assert gate is not None, "its probe is out still"
        assert (gate.reason, gate.wait_s) == ("breaker_open", 1.0)
        prober.kill()
        prober.wait()
        killed = time.monotonic()
        assert until(lambda: not held(), 3.0) - killed < SAID_S
