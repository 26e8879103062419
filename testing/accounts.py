"""The account of a library after a campaign: what its log, its files and the server's ledger say together.

It believes nobody: the log is folded anew by the audit, the files are hashed, the truth about each work comes
from the simulated web, and requests are counted where they arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..actors.lease_manager import POISON
from ..events.job import HOME, JobRow
from ..events.record import Recorded
from ..store.audit import Expected, audit
from ..store.domain import QUIRE
from ..store.interface import READ_LIMIT, EventStore
from ..store.lmdb_store import LmdbStore
from ..store.memory_store import MemoryStore
from ..store.objects import Objects
from .account_requests import Download, Question, Requests
from .account_story import PAGE_READER, Story
from .web import Ledger, World

__all__ = ["PAGE_READER", "SHOWN_MAX", "Account", "account_of", "events_of"]

SHOWN_MAX = 12
"""Findings of one kind that a report names; the rest is counted."""


class Account(msgspec.Struct):
    """What a library came to."""

    works: int = 0
    states: dict[str, int] = {}
    """State → works in it."""
    problems: list[str] = []
    """Broken promises, in words; none is what the campaign is for."""
    home: int = 0
    """Works at home with right bytes."""
    obtainable: int = 0
    waiting: int = 0
    """Works that can be had and wait for a gate or a backoff: each is a problem at the end."""
    to_retry: dict[str, str] = {}
    """Job → its work, of those that can be had and were given up as poison with grounds: not at home yet."""
    objects: int = 0
    orphans: int = 0
    """Sound objects that no job points to: renamed by an owner that died before it said so."""
    parts: int = 0
    """Files in staging that somebody can go on from, or that a dead owner left."""
    takeovers: int = 0
    ops_in_flight: dict[str, int] = {}
    """Kind → ops of dead workers that were found in flight."""
    states_in_flight: dict[str, int] = {}
    """State → jobs that were taken over in it."""
    deaths: int = 0
    """Workers of which something was found in flight."""
    downloads: list[Download] = []
    questions: list[Question] = []
    """What else was asked: services, pages, PDFs that are none."""
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


def account_of(
    store: LmdbStore | MemoryStore,
    objects: Objects,
    *,
    world: World,
    ledger: Ledger,
    works: Iterable[str],
    retry_to_come: bool = False,
) -> tuple[Account, Mapping[str, int]]:
    """The account of a library, and when each run first said something of a job (wall-clock, ns).

    Args:
        store: the log, opened read-only.
        objects: the library's files.
        world: the simulated web that it worked on.
        ledger: what that web's server was asked.
        works: work ids of the list.
        retry_to_come: works that were given up as poison, with the grounds for it in the log, are no
            problem yet; ``Account.to_retry`` names them.
    """
    story = Story()
    for recorded in events_of(store):
        story.tell(recorded)
    story.end()
    account = Account(
        events=story.events,
        takeovers=story.takeovers,
        states_in_flight=dict(story.states_in_flight),
        ops_in_flight=dict(story.ops_in_flight),
        deaths=len(story.deaths),
        poisoned=story.poisoned,
        problems=list(story.problems),
    )
    account.problems += [f"audit: {found.kind}: {found.what}" for found in _audited(store, objects, story)]
    _account_for_works(account, story, world, list(works), retry_to_come)
    _account_for_objects(account, story, world, objects)
    _account_for_parts(account, story, objects)
    requests = Requests(story, world, ledger)
    account.downloads, account.questions = requests.downloads, requests.questions
    account.problems += requests.problems()
    return account, story.runs


def events_of(store: EventStore) -> Iterator[Recorded[Any]]:
    """The whole log, in order."""
    after = 0
    while events := store.read(after, limit=READ_LIMIT):
        yield from events
        after = events[-1].position


def _audited(store: LmdbStore | MemoryStore, objects: Objects, story: Story) -> list[Any]:
    """The audit's problems: the chain, the tables folded anew, every file by its hash."""
    expected = [
        Expected(job_id, row.artifact.sha256, row.artifact.bytes)
        for job_id, row in story.rows.items()
        if row.home and row.artifact is not None
    ]
    return audit(store, QUIRE, objects=objects, expected=lambda _: expected).problems


def _account_for_works(
    account: Account, story: Story, world: World, works: list[str], retry_to_come: bool
) -> None:
    account.works = len(works)
    account.states = dict(Counter(str(row.state) for row in story.rows.values()))
    account.obtainable = sum(world.truth(work).obtainable for work in works)
    for work in works:
        jobs, truth = story.planned.get(work, ()), world.truth(work)
        if not jobs:
            account.problems.append(f"{work} is lost: no job was planned")
        for job_id in jobs:
            row = story.rows[job_id]
            problem = _wrong(row, truth.obtainable, truth.sha256s)
            account.waiting += truth.obtainable and row.waiting
            if truth.obtainable and row.reason == POISON and job_id in story.condemned:
                account.to_retry[job_id] = work
                problem = "" if retry_to_come else problem
            if problem:
                account.problems.append(f"{work} {problem}; {truth.why}")
        account.home += any(_is_right(story.rows[job_id], truth.sha256s) for job_id in jobs)


def _is_right(row: JobRow, right: frozenset[str]) -> bool:
    return row.state in HOME and row.artifact is not None and row.artifact.sha256 in right


def _wrong(row: JobRow, obtainable: bool, right: frozenset[str]) -> str:
    """What is wrong with the end of a work; ``""`` when nothing is."""
    if not row.finished:
        if not row.waiting or row.lease is not None:
            return f"is left in {row.state}, lease {row.lease}"
        return f"can be had and waits for {row.reason or 'its next generation'}" if obtainable else ""
    if row.state in HOME:
        return "" if _is_right(row, right) else "came home with wrong bytes"
    return f"can be had and is {row.state}/{row.reason}" if obtainable else ""


def _account_for_objects(account: Account, story: Story, world: World, objects: Objects) -> None:
    """Every object is sound, and some job points to it: or its owner died between rename and commit.

    The audit notes such an orphan and ``quire gc`` takes it after its grace time; here it must have been
    streamed whole by the log's word.
    """
    truths = {sha256 for work in world.work_ids() for sha256 in world.truth(work).sha256s}
    wanted = {row.artifact.sha256 for row in story.rows.values() if row.home and row.artifact is not None}
    for sha256, path in objects.held():
        account.objects += 1
        name = f"objects/{path.parent.name}/{path.name}"
        if not sha256:
            account.problems.append(f"{name} is a file that quire did not name")
        elif sha256 not in truths:
            account.problems.append(f"{name} is kept, and is the PDF of no work")
        elif sha256 not in wanted and sha256 not in story.streamed:
            account.problems.append(f"{name} is kept, and nobody streamed it")
        else:
            account.orphans += sha256 not in wanted


def _account_for_parts(account: Account, story: Story, objects: Objects) -> None:
    """What lies in staging can be gone on from, or was left by an owner that died: ``gc`` takes it."""
    for path in _staged(objects):
        job_id = path.name.split(".")[0]
        row = story.rows.get(job_id)
        if row is None:
            account.problems.append(f"staging/{path.name} is no job's")
        elif row.home and story.leases[job_id] < 2:
            account.problems.append(
                f"staging/{path.name} is left of a job that is home, and no owner of it died"
            )
        else:
            account.parts += 1


def _staged(objects: Objects) -> list[Path]:
    return sorted(objects.staging.glob("*"))
