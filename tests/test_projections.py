"""Indexes and counts say what the rows say, whatever happened, and a rebuild gives the same bytes."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from quire.events.facts import (
    Artifact,
    BreakerChanged,
    JobLeased,
    JobListed,
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    LibraryCreated,
    OperationStarted,
    RunFinished,
    RunStarted,
    WorkIdentified,
)
from quire.events.job import HOME, State, stream_of
from quire.events.projections import (
    CLAIMABLE,
    COUNTS,
    EVERYTHING,
    HOLDINGS,
    HOSTS,
    JOBS,
    LEASED,
    LIBRARY,
    LISTED,
    RUNS,
    WAITING,
    count_name,
    holding_prefix,
    job_row_key,
    list_prefix,
)
from quire.events.record import Appended, Batch
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.memory_store import MemoryStore
from quire.testing.store_contract import StepClock

JOB_IDS = [f"{number:02x}" * 32 for number in range(4)]
LISTS = ["1" * 16, "2" * 16, EVERYTHING]
WORKERS = ["a" * 32, "b" * 32]
WORKS = [Work(doi="10.1000/x"), Work(pmid="5"), Work(url="HTTP://A.org/p"), Work(title="t" * 300)]
ARTIFACTS = [
    Artifact("a" * 64, 10, "arxiv_pdf", "https://a.org/1.pdf", "has_page"),
    Artifact("a" * 64, 10),
    Artifact("b" * 64, 10, "pmc_pdf", "http://a.org/p", "has_page"),
]

EVENTS = st.one_of(
    st.builds(JobListed, st.sampled_from(LISTS)),
    st.builds(WorkIdentified, st.sampled_from(WORKS), st.just("s")),
    st.builds(JobLeased, st.sampled_from(WORKERS), st.just(1), st.just("boot")),
    st.builds(LeaseReleased, st.just("done")),
    st.builds(
        JobStateChanged,
        st.just("?"),
        st.sampled_from([s for s in State if s != "PLANNED"]),
        st.sampled_from(["", "exhausted"]),
        st.sampled_from([None, *ARTIFACTS]),
        st.booleans(),
    ),
    st.builds(JobWaiting, st.sampled_from(["rate_wait", "offline"]), st.integers(1, 2**62)),
    st.builds(JobRequeued, st.integers(2, 4), st.just("again"), st.sampled_from([0, 9])),
    st.builds(OperationStarted, st.just("o"), st.just("HEAD"), st.just({"url": "u"})),
)
STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from(JOB_IDS), st.lists(EVENTS, min_size=1, max_size=4)), max_size=4),
    max_size=6,
)


def opened():
    return MemoryStore(QUIRE, run_id="run", clock=StepClock())


def planned(job_id, list_id, work=None, priority=0):
    event = JobPlanned(work or Work(doi="10.1000/x"), "pdf", "u", list_id, "label", priority)
    return Batch(stream_of(job_id), (event,), expected_version=0)


def entries(store, table, prefix=b""):
    return [key for _, key in store.scan(table, prefix)]


def check(store):
    """Everything derived, against the rows."""
    rows = dict(store.scan(JOBS))
    counts = Counter()
    for list_id in LISTS:
        prefix = list_prefix(list_id)
        on_list = {k: r for k, r in rows.items() if list_id == EVERYTHING or list_id in r.lists}
        free = {k: r for k, r in on_list.items() if not r.finished and r.lease is None}
        ready = [k for k, r in free.items() if not r.not_before_ns]
        later = [k for k, r in free.items() if r.not_before_ns]
        assert entries(store, CLAIMABLE, prefix) == sorted(
            ready, key=lambda k: (rows[k].priority, rows[k].planned_at)
        )
        assert entries(store, WAITING, prefix) == sorted(later, key=lambda k: (rows[k].not_before_ns, k))
        for row in on_list.values():
            counts[count_name(list_id, f"state:{row.state}")] += 1
            counts[count_name(list_id, "unfinished")] += not row.finished
            counts[count_name(list_id, "leased")] += not row.finished and row.lease is not None
            if row.state in HOME and row.artifact:
                counts[count_name(list_id, f"source:{row.artifact.source or 'held'}")] += 1
    counts = +counts
    told = dict(store.scan(COUNTS))
    assert {name: told.get(name) for name in counts} == dict(counts)
    assert all(count > 0 for count in told.values())
    assert sum(n for name, n in told.items() if name.startswith(count_name(EVERYTHING, "state:"))) == len(
        rows
    )
    for worker in WORKERS:
        held = [k for k, r in rows.items() if r.lease is not None and r.lease.worker == worker]
        assert entries(store, LEASED, worker.encode()) == sorted(held)
    for list_id in LISTS:
        assert set(entries(store, LISTED, list_prefix(list_id))) == {
            k for k, r in rows.items() if list_id in r.lists
        }
    for scheme, value in [
        ("doi", "10.1000/x"),
        ("pmid", "5"),
        ("url", "http://a.org/p"),
        ("sha256", "a" * 64),
    ]:
        home = {k: r for k, r in rows.items() if r.state in HOME and r.artifact}
        named = {k for k, r in home.items() if (scheme, value) in r.work.identifiers()}
        named |= {k for k, r in home.items() if scheme == "sha256" and r.artifact.sha256 == value}
        named |= {k for k, r in home.items() if scheme == "url" and r.artifact.pdf_url == value}
        assert set(entries(store, HOLDINGS, holding_prefix(scheme, value))) == named


@settings(max_examples=120, deadline=None)
@given(
    plans=st.lists(
        st.tuples(st.sampled_from(LISTS), st.sampled_from(WORKS), st.integers(-2, 2)), min_size=4, max_size=4
    ),
    steps=STEPS,
)
def test_indexes_and_counts_agree_with_the_rows(plans, steps):
    """After each commit of any sequence of events; and what a rebuild makes is what was kept."""
    store = opened()
    store.append([planned(job_id, *plan) for job_id, plan in zip(JOB_IDS, plans, strict=True)])
    check(store)
    epochs = dict.fromkeys(JOB_IDS, 0)
    for step in steps:
        batches = []
        for job_id, events in step:
            opens = any(isinstance(event, JobLeased) for event in events)
            epochs[job_id] += opens
            epoch = epochs[job_id]
            batches.append(Batch(stream_of(job_id), tuple(events), epoch=epoch or None, opens_epoch=opens))
        assert all(isinstance(result, Appended) for result in store.append(batches))
        check(store)
    kept = store.digest()
    store.rebuild()
    assert store.digest() == kept
    check(store)


def test_priority_then_age():
    """Smaller priorities go first, then the older job."""
    store = opened()
    store.append([planned(JOB_IDS[0], LISTS[0]), planned(JOB_IDS[1], LISTS[0], priority=-5)])
    store.append([planned(JOB_IDS[2], LISTS[0], priority=7), planned(JOB_IDS[3], LISTS[0])])
    order = [JOB_IDS[n] for n in (1, 0, 3, 2)]
    assert entries(store, CLAIMABLE, list_prefix(LISTS[0])) == [job_row_key(job_id) for job_id in order]


def test_hosts_runs_and_library():
    """A host's breaker, a run and the kind of the library have a row each; the library's kind is for good."""
    store = opened()
    opened_ = BreakerChanged("a.org", "open", "http_503", 5, 99)
    store.append([Batch("host/a.org", (opened_,)), Batch("library", (LibraryCreated("id", True, "1"),))])
    store.append([Batch("library", (LibraryCreated("other", False, "2"),))])
    store.append([Batch("run/r1", (RunStarted("w", "1" * 16, ("in.csv",), "1", 7),))])
    store.append([Batch("run/r2", (RunFinished("w", "ended", {}, 1),))])
    (host, library, run, unknown) = (
        *store.rows(HOSTS, [b"a.org"]),
        *store.rows(LIBRARY, [b"library"]),
        *store.rows(RUNS, [b"r1", b"r2"]),
    )
    assert (host.state, host.failures, host.until_ns) == ("open", 5, 99)
    assert (library.library_id, library.rehearsal) == ("id", True)
    assert (run.finished_ns, unknown) == (0, None)
    store.append([Batch("run/r1", (RunFinished("w", "ended", {}, 1),))])
    (run,) = store.rows(RUNS, [b"r1"])
    assert (run.outcome, run.finished_ns > run.started_ns) == ("ended", True)
