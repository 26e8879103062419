"""The planner makes each wanted work one job, on a real log, with real actors, whoever asks and how often."""

import json
import queue
import subprocess
import sys
from pathlib import Path

import pytest

from quire.actors.directory import Directory
from quire.actors.messages import PlanChunk
from quire.actors.outcome import Planned, Wanted
from quire.actors.planner import ROUNDS_MAX, Planner, backoff_ns
from quire.actors.runtime.journal import Journal
from quire.actors.runtime.ports import SystemClock
from quire.actors.runtime.scheduler import ThreadScheduler
from quire.actors.runtime.system import NEVER, System
from quire.config.loader import load
from quire.errors import InvariantError
from quire.events.facts import JobLeased, JobListed, JobPlanned, JobRequeued, JobStateChanged, LeaseReleased
from quire.events.job import State, stream_of
from quire.events.keys import job_key
from quire.events.projections import CLAIMABLE, COUNTS, JOBS, count_name, job_row_key, list_prefix
from quire.events.record import Appended, Batch
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore

WAIT_S = 20.0
RETRY = load(environ={}).settings.retry
ONE, TWO = "1" * 16, "2" * 16
RACE_WORKS = 400
RACE_CHUNK = 20


class SetClock(SystemClock):
    """The machine's clock, with a wall time that the test sets."""

    wall = 1_000_000_000

    def wall_ns(self):
        return self.wall


class Bench:
    """A planner over a journal over LMDB."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.clock = SetClock()
        self.store = LmdbStore(folder / "events", QUIRE, run_id="run", clock=self.clock, map_size=1 << 26)
        self.scheduler = ThreadScheduler(disk_threads=1)
        self.mail = queue.Queue()
        self.system = System(
            scheduler=self.scheduler, clock=self.clock, on_fatal=lambda _name, error: self.mail.put(error)
        )
        to = Directory()
        to.journal = self.system.start("journal", lambda: Journal(self.store, batches_max=64), policy=NEVER)
        self.planner = self.system.start(
            "planner",
            lambda: Planner(
                directory=to, retry=RETRY, store=self.store, clock=self.clock, report=self.mail.put
            ),
        )
        self.to = to

    def send(self, works, list_id=ONE, *, retry_failed=False, since=None):
        since = self.store.head().position if since is None else since
        wanted = tuple(Wanted(work, label=f"label {number}") for number, work in enumerate(works))
        self.planner.tell(PlanChunk(wanted, list_id, retry_failed, since))

    def plan(self, *works, **how):
        self.send(works, **how)
        answer = self.mail.get(timeout=WAIT_S)
        if isinstance(answer, BaseException):
            raise answer
        return answer.planned

    def row(self, work):
        return self.store.rows(JOBS, [job_row_key(job_key(work))])[0]

    def events(self, work):
        return [recorded.event for recorded in self.store.read_stream(stream_of(job_key(work)))]

    def lease(self, work):
        epoch = self.row(work).epoch + 1
        self.append(work, JobLeased("w", 2**60, "boot"), epoch=epoch, opens_epoch=True)

    def finish(self, work, state, *, may_retry=False):
        self.lease(work)
        changed = JobStateChanged("?", state, "exhausted", None, may_retry)
        self.append(work, changed, LeaseReleased("done"), epoch=self.row(work).epoch)

    def append(self, work, *events, **guards):
        results = self.store.append([Batch(stream_of(job_key(work)), events, **guards)])
        assert isinstance(results[0], Appended)

    def close(self):
        self.system.stop([[self.planner], [self.to.journal]], timeout_s=WAIT_S)
        self.scheduler.close()
        self.store.close()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "library")
    yield bench
    bench.close()


X, Y, Z = Work(doi="10.1000/x"), Work(arxiv_id="2101.00001"), Work(pmid="7")


def test_the_same_work_is_the_same_job(bench):
    """Twice in a list, in a later chunk and in another run: one job, planned by one event."""
    assert bench.plan(X, Y, X) == Planned(works=3, doubled=1, new=2)
    assert bench.plan(X, Z, since=0) == Planned(works=2, doubled=1, new=1)
    assert bench.plan(X, Y) == Planned(works=2, unfinished=2)
    assert [type(event) for event in bench.events(X)] == [JobPlanned]
    assert bench.row(X).label == "label 0"


def test_another_list_is_added(bench):
    """A known job asked for by another list is on both, and nothing is planned anew."""
    bench.plan(X, Y)
    assert bench.plan(X, list_id=TWO) == Planned(works=1, unfinished=1)
    assert bench.plan(X, list_id=TWO) == Planned(works=1, unfinished=1)
    assert bench.events(X)[1:] == [JobListed(TWO)]
    assert bench.row(X).lists == (ONE, TWO)
    on_two = bench.store.scan(CLAIMABLE, list_prefix(TWO))
    assert [key for _, key in on_two] == [job_row_key(job_key(X))]


def test_what_another_run_planned_meanwhile_is_no_double(bench):
    """A job that another list planned after this one was begun is known, not named twice."""
    bench.plan(X, list_id=TWO)
    assert bench.plan(X, since=0) == Planned(works=1, unfinished=1)


def test_a_leased_job_can_be_listed(bench):
    """The list is added under the owner's epoch; the lease and its version guard nothing else."""
    bench.plan(X)
    bench.lease(X)
    assert bench.plan(X, list_id=TWO) == Planned(works=1, unfinished=1)
    assert bench.row(X).lists == (ONE, TWO)
    assert bench.row(X).lease is not None


@pytest.mark.parametrize("state", ["INDEXED", "DEDUPED", "SKIPPED_DUPLICATE"])
def test_what_is_home_stays_home(bench, state):
    """A finished job counts as home, also when failures are to be tried again."""
    bench.plan(X)
    bench.finish(X, state)
    assert bench.plan(X, retry_failed=True) == Planned(works=1, home=1)
    assert bench.row(X).generation == 1


def test_a_failure_rests_before_it_goes_again(bench):
    """A retryable failure opens a generation after its backoff, which doubles, and not before."""
    assert [backoff_ns(RETRY, g) for g in (1, 2, 3)] == [60 * 10**9, 120 * 10**9, 240 * 10**9]
    bench.plan(X)
    for generation in (1, 2):
        bench.finish(X, "FAILED", may_retry=True)
        failed = bench.clock.wall
        bench.clock.wall = failed + backoff_ns(RETRY, generation) - 1
        assert bench.plan(X) == Planned(works=1, failed=1)
        bench.clock.wall += 1
        assert bench.plan(X) == Planned(works=1, requeued=1)
        assert bench.events(X)[-1] == JobRequeued(generation + 1, "run_again")
        assert bench.row(X).state is State.PLANNED


def test_generations_end(bench):
    """After the last generation the job is a dead letter, until somebody asks for failures."""
    bench.plan(X)
    for _ in range(RETRY.generations_max - 1):
        bench.finish(X, "FAILED", may_retry=True)
        bench.plan(X, retry_failed=True)
    bench.finish(X, "FAILED", may_retry=True)
    bench.clock.wall += 10**15
    assert bench.plan(X) == Planned(works=1, failed=1)
    assert bench.plan(X, retry_failed=True) == Planned(works=1, requeued=1)
    assert bench.row(X).generation == RETRY.generations_max + 1
    assert bench.events(X)[-1].reason == "retry_failed"


def test_a_failure_for_good_goes_again_only_when_asked(bench):
    """What another generation cannot help is left alone, and taken up with ``--retry-failed``."""
    bench.plan(X)
    bench.finish(X, "FAILED")
    bench.clock.wall += 10**15
    assert bench.plan(X) == Planned(works=1, failed=1)
    assert bench.plan(X, list_id=TWO, retry_failed=True) == Planned(works=1, requeued=1)
    assert bench.events(X)[-2:] == [JobListed(TWO), JobRequeued(2, "retry_failed")]


def test_many_chunks_keep_their_answers_apart(bench):
    """Chunks sent without waiting are each answered once, and every work is counted once."""
    works = [Work(doi=f"10.1000/{number % 150}") for number in range(300)]
    for start in range(0, 300, 30):
        bench.send(works[start : start + 30], since=0)
    answers = [bench.mail.get(timeout=WAIT_S).planned for _ in range(10)]
    assert sum(answer.works for answer in answers) == 300
    assert sum(answer.new for answer in answers) == 150
    assert sum(answer.doubled for answer in answers) == 150
    assert bench.store.rows(COUNTS, [count_name(ONE, "unfinished")]) == [150]


def test_a_planner_that_fails_says_so(bench):
    """What cannot be planned ends the session with its error; nobody waits for the lost chunk."""
    with pytest.raises(ValueError, match="URL"):
        bench.plan(Work(url="no url"))


def test_a_stream_that_always_moves_is_no_success(bench, monkeypatch):
    """A work that could not be written down is never counted: after a bounded number of tries it is said."""
    bench.plan(X)
    rows = bench.store.rows(JOBS, [job_row_key(job_key(X))])
    bench.append(X, JobListed("3" * 16))
    reads = []

    def stale(table, keys):
        reads.append(table)
        return rows

    monkeypatch.setattr(bench.store, "rows", stale)
    with pytest.raises(InvariantError, match="had moved"):
        bench.plan(X, list_id=TWO)
    assert len(reads) == ROUNDS_MAX + 1


def race(folder, list_id):
    """Plan the works of the race, and print what became of them; runs in a process of its own."""
    bench = Bench(Path(folder))
    print("ready", flush=True)
    sys.stdin.readline()
    total = {}
    works = [Work(doi=f"10.1000/{number}") for number in range(RACE_WORKS)]
    for start in range(0, RACE_WORKS, RACE_CHUNK):
        answer = bench.plan(*works[start : start + RACE_CHUNK], list_id=list_id)
        for name in answer.__struct_fields__:
            total[name] = total.get(name, 0) + getattr(answer, name)
    bench.close()
    print(json.dumps(total), flush=True)


def test_two_planners_on_one_library(tmp_path):
    """Two processes plan the same works at once: each work is one job, planned once, and on both lists."""
    folder = tmp_path / "library"
    Bench(folder).close()
    code = f"import runpy; runpy.run_path({__file__!r})['race']({str(folder)!r}, %r)"
    racers = [
        subprocess.Popen([sys.executable, "-c", code % one], stdin=-1, stdout=-1, text=True)
        for one in (ONE, TWO)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    totals = [json.loads(racer.communicate(timeout=WAIT_S)[0]) for racer in racers]
    assert [total["works"] for total in totals] == [RACE_WORKS] * 2
    assert sum(total["new"] for total in totals) == RACE_WORKS
    assert sum(total["unfinished"] for total in totals) == RACE_WORKS
    bench = Bench(folder)
    try:
        assert (
            bench.store.rows(COUNTS, [count_name(ONE, "unfinished"), count_name(TWO, "unfinished")])
            == [RACE_WORKS] * 2
        )
        events = [recorded.event for recorded in bench.store.read()]
        assert sum(isinstance(event, JobPlanned) for event in events) == RACE_WORKS
        assert sum(isinstance(event, JobListed) for event in events) == RACE_WORKS
    finally:
        bench.close()
