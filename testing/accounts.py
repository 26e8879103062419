"""The account of a library after a campaign: what its log, its files and the server's ledger say together.

It believes nobody: the log is folded anew by the audit, the files are hashed, the truth about each work comes
from the simulated web, and requests are counted where they arrived.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..actors.finalizer import PART_BUSY
from ..actors.job_in_hand import OWNER_GONE
from ..actors.lease_manager import POISON
from ..events.facts import (
    CrashRecovery,
    JobLeased,
    JobPlanned,
    JobStateChanged,
    OperationCompleted,
    OperationStarted,
)
from ..events.job import FINISHED, HOME, STREAM_PREFIX, JobRow, State, fold_job
from ..events.record import Recorded
from ..store.audit import Expected, audit
from ..store.domain import QUIRE
from ..store.interface import READ_LIMIT, EventStore
from ..store.lmdb_store import LmdbStore
from ..store.memory_store import MemoryStore
from ..store.objects import Objects
from .web import FATES, Ledger, World
from .web.parts import PARTS

FAULTY_ONCE = frozenset({*(fate for fate in FATES if fate.endswith("_once")), *PARTS})
"""Fates of sound PDFs for which an honest client asks more than once."""
PAGE_READER = "landing_scrape_pdf"
"""The source that may find a PDF where it looks for a page, before it is a candidate."""
SHOWN_MAX = 12
"""Findings of one kind that a report names; the rest is counted."""


class Download(msgspec.Struct):
    """A PDF that was streamed whole, as the log and the server know it."""

    url: str
    asked: int = 0
    """Requests that arrived at the server."""
    jobs: int = 0
    """Jobs (by generation) that opened it."""
    hit: int = 0
    """Ops on it that were in flight when their worker died."""
    again: int = 0
    """Ops on it that ended without a result for another reason: cancelled as beaten, or broken."""
    looks: int = 0
    """Turns of the page reader that may have met it where they expected a page."""
    busy: int = 0
    """Times that its bytes could not be placed, since an owner that was overtaken had them locked."""

    @property
    def allowed(self) -> int:
        """What the promise allows: one each, and one more for each time that it was cut off."""
        return self.jobs + self.hit + self.again + self.looks + self.busy


class Account(msgspec.Struct):
    """What a library came to."""

    works: int = 0
    states: dict[str, int] = {}
    problems: list[str] = []
    """Broken promises, in words; none is what the campaign is for."""
    home: int = 0
    obtainable: int = 0
    objects: int = 0
    takeovers: int = 0
    ops_in_flight: dict[str, int] = {}
    """Kind → ops of dead workers that were found in flight."""
    states_in_flight: dict[str, int] = {}
    """State → jobs that were taken over in it."""
    deaths: int = 0
    """Workers of which something was found in flight."""
    downloads: list[Download] = []
    poisoned: int = 0
    """Jobs that were given up as poison, for a while or for good."""
    events: int = 0

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.problems

    def asked_again(self) -> list[Download]:
        """Downloads that were asked for more than once a job."""
        return [download for download in self.downloads if download.asked > download.jobs]


class _Story:
    """One pass over the log."""

    def __init__(self) -> None:
        self.rows: dict[str, JobRow] = {}
        self.account = Account()
        self.finished: Counter[tuple[str, int]] = Counter()
        self.stored: Counter[tuple[str, int]] = Counter()
        self.runs: dict[str, int] = {}
        """Run → wall-clock time of its first event of a job."""
        self.ops: dict[str, OperationStarted] = {}
        self.readers: Counter[str] = Counter()
        """Job → turns of the page reader."""
        self.job_of: dict[str, str] = {}
        self.busy: Counter[tuple[str, str]] = Counter()
        """Job and hash → times that the bytes were locked by somebody else."""
        self.refusing: Counter[tuple[str, str]] = Counter()
        """Job and hash → deaths while the bytes were being proved."""
        self.refused: set[tuple[str, str]] = set()
        self.ends: dict[str, list[OperationCompleted]] = defaultdict(list)
        self._dead: set[str] = set()

    def tell(self, recorded: Recorded[Any]) -> None:
        """Take in the next event."""
        self.account.events += 1
        if not recorded.stream.startswith(STREAM_PREFIX):
            return
        self.runs.setdefault(recorded.run_id, recorded.time_ns)
        job_id, event = recorded.stream[len(STREAM_PREFIX) :], recorded.event
        before = self.rows.get(job_id)
        if isinstance(event, JobPlanned) and before is not None:
            self.account.problems.append(f"job {job_id} was planned twice")
        self._note(job_id, before, event)
        row = fold_job(before, recorded)
        if row is not None:
            self.rows[job_id] = row

    def _note(self, job_id: str, row: JobRow | None, event: Any) -> None:
        account = self.account
        if isinstance(event, JobLeased) and event.takeover and row is not None:
            account.takeovers += 1
            account.states_in_flight[row.state] = account.states_in_flight.get(row.state, 0) + 1
        elif isinstance(event, CrashRecovery):
            account.ops_in_flight[event.kind] = account.ops_in_flight.get(event.kind, 0) + 1
            self._dead.add(event.dead_worker)
            account.deaths = len(self._dead)
        elif isinstance(event, JobStateChanged) and row is not None:
            self.finished[(job_id, row.generation)] += event.state in FINISHED
            self.stored[(job_id, row.generation)] += event.state == State.FINALIZED
            account.poisoned += event.reason == POISON
        elif isinstance(event, OperationStarted):
            self.ops[event.op_id], self.job_of[event.op_id] = event, job_id
            self.readers[job_id] += event.about.get("source") == PAGE_READER and event.kind == "FALLBACK"
        elif isinstance(event, OperationCompleted):
            self.ends[event.op_id].append(event)
            if event.kind == "FINALIZE":
                self._proved((job_id, str(self.ops[event.op_id].about["sha256"])), event)

    def _proved(self, bytes_of: tuple[str, str], end: OperationCompleted) -> None:
        reason = end.result.get("reason")
        if reason == PART_BUSY:
            self.busy[bytes_of] += 1
        elif end.code == "NON_RETRYABLE":
            self.refused.add(bytes_of)
        self.refusing[bytes_of] += end.code == "ABANDONED" and reason == OWNER_GONE


def account_of(
    store: LmdbStore | MemoryStore, objects: Objects, *, world: World, ledger: Ledger, works: Iterable[str]
) -> tuple[Account, Mapping[str, int]]:
    """The account of a library, and when each run first said something of a job (wall-clock, ns).

    Args:
        store: the log, opened read-only.
        objects: the library's files.
        world: the simulated web that it worked on.
        ledger: what that web's server was asked.
        works: work ids of the list.
    """
    story = _Story()
    for recorded in events_of(store):
        story.tell(recorded)
    account = story.account
    account.problems += [f"audit: {found.kind}: {found.what}" for found in _audited(store, objects, story)]
    _account_for_works(account, story, world, list(works))
    account.objects = sum(1 for _ in objects.held())
    account.downloads = _downloads(story, world, ledger)
    account.problems += [
        f"{one.url} was asked for {one.asked} times, {one.allowed} are explained"
        for one in account.downloads
        if one.asked > one.allowed
    ]
    for name, counts in (("finished", story.finished), ("finalised", story.stored)):
        account.problems += [f"job {job} was {name} {n} times" for (job, _), n in counts.items() if n > 1]
    return account, story.runs


def events_of(store: EventStore) -> Iterator[Recorded[Any]]:
    """The whole log, in order."""
    after = 0
    while events := store.read(after, limit=READ_LIMIT):
        yield from events
        after = events[-1].position


def _audited(store: LmdbStore | MemoryStore, objects: Objects, story: _Story) -> list[Any]:
    """The audit's problems: the chain, the tables folded anew, every file by its hash."""
    expected = [
        Expected(job_id, row.artifact.sha256, row.artifact.bytes)
        for job_id, row in story.rows.items()
        if row.home and row.artifact is not None
    ]
    return audit(store, QUIRE, objects=objects, expected=lambda _: expected).problems


def _account_for_works(account: Account, story: _Story, world: World, works: list[str]) -> None:
    rows = {row.work_id: row for row in story.rows.values()}
    account.works = len(works)
    account.states = dict(Counter(str(row.state) for row in rows.values()))
    account.obtainable = sum(world.truth(work).obtainable for work in works)
    for work in works:
        row, truth = rows.get(work), world.truth(work)
        if row is None:
            account.problems.append(f"{work} is lost: no job was planned")
            continue
        problem = _wrong(row, truth.obtainable, truth.sha256s)
        account.home += row.state in HOME
        if problem:
            account.problems.append(f"{work} {problem}; {truth.why}")


def _wrong(row: JobRow, obtainable: bool, right: frozenset[str]) -> str:
    """What is wrong with the end of a work; ``""`` when nothing is."""
    if not row.finished:
        return "" if row.waiting and row.lease is None else f"is left in {row.state}, lease {row.lease}"
    if row.state in HOME and (row.artifact is None or row.artifact.sha256 not in right):
        return "came home with wrong bytes"
    return f"can be had and is {row.state}/{row.reason}" if obtainable and row.state not in HOME else ""


def _downloads(story: _Story, world: World, ledger: Ledger) -> list[Download]:
    """The sound PDFs that were streamed whole, with the requests for them and their explanations."""
    found: dict[str, Download] = {}
    whole: set[str] = set()
    for op_id, start in story.ops.items():
        kind, url = start.kind, str(start.about.get("url", ""))
        if kind not in ("HEAD", "STREAM") or not world.is_good(url) or world.fate(url) in FAULTY_ONCE:
            continue
        download = found.setdefault(url, Download(url, ledger.asked(url)))
        download.jobs += kind == "HEAD"
        if start.about.get("source") == PAGE_READER:
            download.looks += story.readers[story.job_of[op_id]]
        for end in story.ends[op_id]:
            gone = end.code == "ABANDONED" and end.result.get("reason") == OWNER_GONE
            download.hit += gone
            download.again += not gone and end.code != "OK"
            if kind == "STREAM" and end.code == "OK":
                whole.add(url)
                bytes_of = (story.job_of[op_id], str(end.result.get("sha256", "")))
                # A refused part is thrown away before its refusal is durable: a death between asks anew.
                thrown = story.refusing[bytes_of] if bytes_of in story.refused else 0
                download.busy = story.busy[bytes_of] + thrown
    return [download for url, download in found.items() if url in whole]
