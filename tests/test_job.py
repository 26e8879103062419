"""A job's states, its row, and the fold from its events."""

import gzip
import itertools
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.errors import StateError
from quire.events.facts import (
    Artifact,
    CrashRecovery,
    JobLeased,
    JobListed,
    JobPlanned,
    JobRequeued,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    LeaseRenewed,
    OperationCompleted,
    OperationStarted,
    WorkIdentified,
)
from quire.events.job import ROW_BYTES_MAX, State, check_step, fold_job, stream_of
from quire.events.record import Recorded
from quire.events.work import Work, parse_work

RECORDS = (
    Path(__file__).resolve().parents[1].parent / "shared" / "data" / "api" / "unpaywall_records.jsonl.gz"
)
JOB = "ab" * 32
ALLOWED = {
    "PLANNED": "LEASED SKIPPED_DUPLICATE FAILED",
    "LEASED": "HEAD_DONE SKIPPED_DUPLICATE FAILED",
    "HEAD_DONE": "RESUME_OK STREAMING FAILED",
    "RESUME_OK": "STREAMING FAILED",
    "STREAMING": "FINALIZED FAILED",
    "FINALIZED": "INDEXED DEDUPED FAILED",
}
"""SPEC 2, written out a second time."""
DONE = Artifact("f" * 64, 123_456_789, "landing_scrape_pdf", "https://example.org/a.pdf", "has_page")


def fold(events, row=None, epoch=1, version=0):
    for number, event in enumerate(events, version + 1):
        row = fold_job(row, Recorded(1000 + number, stream_of(JOB), number, epoch, number, "run", 0, event))
    return row


def planned(work=None, **fields):
    return JobPlanned(work or Work(doi="10.1000/x"), "pdf", "https://doi.org/10.1000/x", "1" * 16, **fields)


def leased(worker="w" * 32, **fields):
    return JobLeased(worker, 2**60, "b" * 36, **fields)


def changed(state, **fields):
    return JobStateChanged("?", state, **fields)


LIFE = [leased(), changed("LEASED"), changed("HEAD_DONE"), changed("STREAMING"), changed("FINALIZED")]
HOME = [*LIFE, changed("INDEXED", artifact=DONE), LeaseReleased("done")]
FAILED = [
    leased(),
    changed("LEASED"),
    changed("FAILED", reason="exhausted", may_retry=True),
    LeaseReleased("failed"),
]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_state_table(before, after):
    """Steps of the table pass; each other pair is refused with job, from and to."""
    if after in ALLOWED.get(before, "").split():
        check_step(JOB, before, after)
        return
    with pytest.raises(StateError) as refused:
        check_step(JOB, before, after)
    assert str(refused.value) == f"job {JOB}: no step from {before} to {after}"


def test_nothing_before_the_plan():
    """Events of a job that was never planned make no row."""
    assert fold([leased(), changed("LEASED")]) is None


def test_takeover_keeps_state_and_ops():
    """A new epoch in the same generation: state, ops, attempts and time spent stay; deaths are counted."""
    op = OperationStarted("o1", "FALLBACK", {"source": "arxiv_pdf"})
    ended = OperationCompleted("o1", "FALLBACK", "NON_RETRYABLE", {"spent_ms": 900})
    row = fold([planned(), *LIFE[:3], op, ended])
    again = fold([leased("x" * 32, takeover=True)], row, epoch=2, version=row.version)
    assert again.lease.worker == "x" * 32
    assert (again.epoch, again.generation, again.takeovers) == (2, 1, 1)
    kept = ("state", "ops", "attempts", "spent_ms", "work", "lists")
    assert all(getattr(again, name) == getattr(row, name) for name in kept)
    assert again.ops["o1"].code == "NON_RETRYABLE"


def test_deaths_are_forgotten_with_progress_only():
    """A milestone or a finished op resets the count of deaths; an abandoned op does not."""
    dying = [leased(takeover=True), leased(takeover=True)]
    row = fold([planned(), leased(), *dying, OperationStarted("o", "HEAD", {})])
    assert row.takeovers == 2
    assert fold([OperationCompleted("o", "HEAD", "ABANDONED", {})], row).takeovers == 2
    assert fold([OperationCompleted("o", "HEAD", "RETRYABLE", {})], row).takeovers == 0
    assert fold([changed("HEAD_DONE")], row).takeovers == 0
    assert fold([LeaseRenewed(1), CrashRecovery("o", "HEAD", "again", "w")], row).takeovers == 2


def test_retry_opens_a_generation():
    """A failed job's retry starts anew at PLANNED, without ops, time and reason; its epochs go on."""
    started = OperationStarted("o", "FALLBACK", {"source": "s"})
    spent = OperationCompleted("o", "FALLBACK", "RETRYABLE", {"spent_ms": 900})
    row = fold([planned(), leased(), started, spent, *FAILED[1:]])
    assert row.spent_ms == 900
    assert (row.state, row.reason, row.may_retry, row.ops) == (State.FAILED, "exhausted", True, {})
    assert row.failed_ns == 6
    again = fold([started, JobRequeued(2, "run_again")], row)
    assert (again.state, again.generation, again.ops) == (State.PLANNED, 2, {})
    assert (again.reason, again.failed_ns, again.spent_ms, again.may_retry) == ("", 0, 0, False)
    assert (again.epoch, again.attempts, again.work) == (row.epoch, 2, row.work)


def test_waiting_costs_no_generation():
    """A gate holds the job until a time; taking it up again goes on in the same generation."""
    row = fold([planned(), *LIFE[:2], JobWaiting("rate_wait", 77, ("arxiv_pdf",)), LeaseReleased("waiting")])
    assert (row.waiting, row.reason, row.not_before_ns) == (True, "rate_wait", 77)
    assert (row.state, row.generation, row.finished) == (State.LEASED, 1, False)
    again = fold([leased()], row, epoch=2)
    assert (again.waiting, again.reason, again.generation) == (False, "", 1)


def test_identifiers_learned_keep_the_work_id():
    """A work planned by its PMID stays known by it when its DOI is learned, also when learned twice."""
    row = fold([planned(Work(pmid="1")), WorkIdentified(Work(doi="10.1000/y"), "pmc_pdf")])
    assert row.work == Work(pmid="1", doi="10.1000/y")
    assert row.work_id == "pmid:1"
    assert fold([WorkIdentified(Work(pmcid="PMC1"), "pmc_pdf")], row).work_id == "pmid:1"


def test_lists_are_kept_once():
    """Asking again on the same list adds nothing."""
    row = fold([planned(), JobListed("2" * 16), JobListed("1" * 16), JobListed("2" * 16)])
    assert row.lists == ("1" * 16, "2" * 16)


def size(row):
    return len(msgspec.msgpack.encode(row))


@pytest.mark.skipif(not RECORDS.exists(), reason="../shared/data is absent: no real Unpaywall records")
def test_finished_rows_of_real_records_fit_and_lose_nothing_but_titles():
    """Each of 1,128 real works fits into 500 bytes; identifiers, label and PDF URL stay whole."""
    with gzip.open(RECORDS, "rt") as lines:
        records = [json.loads(line) for line in lines]
    whole = 0
    for record in records:
        work = parse_work(record["doi"])
        work = msgspec.structs.replace(work, title=(record["title"] or "")[:400], pmcid="PMC1234567")
        url = (record["best_oa_location"] or {}).get("url_for_pdf") or "https://example.org/x.pdf"
        artifact = msgspec.structs.replace(DONE, pdf_url=url)
        events = [planned(work, label="row 17 of my list"), *LIFE, changed("INDEXED", artifact=artifact)]
        row = fold([*events, LeaseReleased("done")])
        assert size(row) <= ROW_BYTES_MAX
        assert (row.work.doi, row.work.pmcid, row.label) == (work.doi, work.pmcid, "row 17 of my list")
        whole += row.artifact.pdf_url == url
        failed = fold([planned(work), *FAILED])
        assert size(failed) <= ROW_BYTES_MAX
        assert failed.work.doi == work.doi
    assert whole > 0.98 * len(records)


def test_a_title_that_fits_is_not_cut():
    """The lease that is still held when a job finishes takes no room: it is gone in the same commit."""
    room = ROW_BYTES_MAX - size(fold([planned(), *HOME]))
    title = "x" * (room - 2)
    row = fold([planned(Work(doi="10.1000/x", title=title)), *HOME])
    assert size(row) <= ROW_BYTES_MAX
    assert row.work.title == title


NASTY = st.text(st.sampled_from("aé漢𝒳\x00\n\u200b\"'\\…"), max_size=600)


@given(
    title=NASTY,
    label=NASTY,
    tail=st.integers(0, 4000),
    doi_chars=st.integers(0, 500),
    identified=st.booleans(),
    lists=st.integers(0, 4),
)
def test_home_rows_always_fit(title, label, tail, doi_chars, identified, lists):
    """Whatever the titles, labels, names and URLs: a job that is home takes at most 500 bytes."""
    url = "https://example.org/" + "u" * tail
    work = Work(doi="10.1000/" + "d" * doi_chars if doi_chars else "", url=url, title=title)
    artifact = msgspec.structs.replace(DONE, pdf_url=url)
    events = [planned(work, label=label), *LIFE]
    if identified:
        events.append(WorkIdentified(Work(doi="10.1000/learned", pmid="1"), "europe_pmc_pdf"))
    events += [changed("INDEXED", artifact=artifact), LeaseReleased("done")]
    events += [JobListed(f"{number:016x}") for number in range(lists)]
    row = fold(events)
    assert size(row) <= ROW_BYTES_MAX
    assert row.artifact.sha256 == DONE.sha256
    assert row.home


@given(title=NASTY, tail=st.integers(0, 3000))
def test_failed_rows_keep_what_the_next_generation_needs(title, tail):
    """Of a failed job no identifier is cut, nor a title that is its only name: it may be tried again."""
    url = "https://example.org/" + "u" * tail
    assert fold([planned(Work(url=url, title=title)), *FAILED]).work.url == url
    assert fold([planned(Work(title=title)), *FAILED]).work.title == title
    row = fold([planned(Work(doi="10.1000/x", title=title)), *FAILED])
    assert size(row) <= ROW_BYTES_MAX


ANY_EVENT = st.sampled_from(
    [
        JobListed("2" * 16),
        WorkIdentified(Work(pmid="7"), "pmc_pdf"),
        leased(),
        leased(takeover=True, alone=True),
        LeaseRenewed(9),
        LeaseReleased("done"),
        *(changed(state, artifact=DONE, reason="r") for state in State if state != "PLANNED"),
        JobWaiting("offline", 5),
        JobRequeued(2, "again"),
        OperationStarted("o1", "FALLBACK", {"source": "a"}),
        OperationStarted("o2", "STREAM", {"url": "u"}),
        OperationCompleted("o1", "FALLBACK", "OK", {"spent_ms": 5}),
        OperationCompleted("o2", "STREAM", "ABANDONED", {"spent_ms": "odd"}),
        OperationCompleted("o9", "HEAD", "OK", {}),
    ]
)


@given(st.lists(ANY_EVENT, max_size=25), st.integers(0, 25))
def test_fold_is_a_fold(events, cut):
    """In any order events make a row; folding in two parts, through the disk's form, gives the same."""
    whole = fold([planned(), *events])
    first = fold([planned(), *events[:cut]])
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=type(first))
    assert fold(events[cut:], stored, version=first.version) == whole
    assert whole.version == len(events) + 1
    assert whole.planned_at == 1001
    assert whole.work_id == "doi:10.1000/x"
    assert whole.attempts == sum(isinstance(e, OperationStarted) and e.kind == "FALLBACK" for e in events)
