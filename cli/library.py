"""A library as the commands see it: opening it, its counts, finding a job by any of its names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..actors.runtime.ports import SystemClock, SystemRandom
from ..config.settings import Quire
from ..errors import UsageError
from ..events.job import JobRow
from ..events.keys import job_key
from ..events.projections import (
    COUNTS,
    EVERYTHING,
    HOLDINGS,
    JOBS,
    holding_prefix,
    job_id_of,
    job_row_key,
)
from ..events.record import Recorded
from ..events.work import Work, normal_title, parse_work
from ..store.domain import QUIRE
from ..store.interface import READ_LIMIT, EventStore
from ..store.library import Library
from ..store.lmdb_store import LmdbStore
from ..store.objects import Objects
from .config import settings_of

PREFIX_DIGITS_MIN = 6
"""Hex digits of a job id that are enough to name it, if only one job begins so."""
NAMED_MAX = 10
"""Jobs that are listed where a word names several."""


class Tables(Protocol):
    """What can be asked of a store, and of a replayed view of it."""

    def rows(self, table: str, keys: Any) -> list[Any]:
        """Rows under the keys."""
        ...

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """Rows in key order."""
        ...


class Opened(NamedTuple):
    """A library that is there."""

    store: LmdbStore
    library: Library
    clock: SystemClock
    settings: Quire


def opened(args: argparse.Namespace, *, readonly: bool = True) -> AbstractContextManager[Opened]:
    """The library that a command is about; see ``open_library``."""
    return open_library(settings_of(args).settings, readonly=readonly)


@contextmanager
def open_library(settings: Quire, *, readonly: bool = True) -> Iterator[Opened]:
    """The library of these settings, its log open until the block ends.

    Raises:
        UsageError: there is no such library.
    """
    library = Library.open_existing(Path(settings.library))
    clock = SystemClock()
    store = LmdbStore(
        library.events,
        QUIRE,
        run_id=SystemRandom().uuid(),
        clock=clock,
        map_size=settings.store.map_size,
        readonly=readonly,
    )
    try:
        yield Opened(store, library, clock, settings)
    finally:
        store.close()


# -- rows and counts


def scanned(tables: Tables, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, Any]]:
    """All rows of a table, page by page."""
    page = tables.scan(table, prefix)
    while page:
        yield from page
        page = tables.scan(table, prefix, after=page[-1][0]) if len(page) >= READ_LIMIT else []


def counts_of(tables: Tables, list_id: str = EVERYTHING) -> dict[str, int]:
    """The tallies of a list: ``state:FAILED``, ``source:arxiv_pdf``, ``unfinished`` … → how many."""
    prefix = f"{list_id}|".encode()
    return {key[len(prefix) :].decode(): count for key, count in scanned(tables, COUNTS, prefix) if count}


def under(counts: dict[str, int], kind: str) -> dict[str, int]:
    """The counts of one kind by their name: ``under(counts, "state")`` → ``{"FAILED": 3}``."""
    return {name[len(kind) + 1 :]: n for name, n in counts.items() if name.startswith(kind + ":")}


def as_line(job_id: str, row: JobRow) -> dict[str, Any]:
    """A job as ``quire list --json`` gives it; the names are a promise to scripts."""
    held = row.artifact if row.home else None
    return {
        "doi": row.work.doi,
        "arxiv_id": row.work.arxiv_id,
        "pmcid": row.work.pmcid,
        "pmid": row.work.pmid,
        "url": row.work.url,
        "title": row.work.title,
        "label": row.label,
        "job_id": job_id,
        "state": row.state.value,
        "generation": row.generation,
        "reason": row.reason,
        "source": held.source if held else "",
        "pdf_url": held.pdf_url if held else "",
        "sha256": held.sha256 if held else "",
        "path": Objects.relative_path(held.sha256) if held else "",
        "bytes": held.bytes if held else 0,
        "attempts": row.attempts,
        "title_check": held.title_check if held else "",
    }


# -- finding a job


def find_job(tables: Tables, text: str) -> str:
    """The job that a word names: a job id or its start, anything that a list accepts, a label, or a title.

    Keys and indexes are asked first; only a name that they do not hold costs a look at every job.

    Raises:
        UsageError: none or several are named so.
    """
    found = jobs_named(tables, text)
    if len(found) == 1:
        return found[0]
    text = text.strip()
    if not found:
        raise UsageError(f"{text or 'an empty name'}: no job of this library is named so; see `quire list`")
    rows = tables.rows(JOBS, [job_row_key(job_id) for job_id in found[:NAMED_MAX]])
    named = [f"{job_id[:16]}  {row.work.work_id}" for job_id, row in zip(found, rows, strict=False)]
    more = f"\n  … and {len(found) - NAMED_MAX} more" * (len(found) > NAMED_MAX)
    raise UsageError(
        f"{text}: names {len(found)} jobs; give one job id:\n  " + "\n  ".join(named) + more,
    )


def jobs_named(tables: Tables, text: str) -> list[str]:
    """The jobs that a word names, in the first of the ways of ``find_job`` in which it names any."""
    text = text.strip()
    ways: tuple[Callable[[Tables, str], list[str]], ...] = (_by_job_id, _by_key, _by_holding, _by_any_name)
    return next((jobs for way in ways if (jobs := way(tables, text))), []) if text else []


def _by_job_id(tables: Tables, text: str) -> list[str]:
    text = text.lower()
    if not re.fullmatch(rf"[0-9a-f]{{{PREFIX_DIGITS_MIN},64}}", text):
        return []
    even = bytes.fromhex(text[: len(text) // 2 * 2])
    return [name for key, _ in tables.scan(JOBS, even) if (name := job_id_of(key)).startswith(text)]


def _by_key(tables: Tables, text: str) -> list[str]:
    """By the key that planning would give it: as an identifier or URL, else as a title."""
    job_id = job_key(parse_work(text) or Work(title=text))
    return [job_id] if tables.rows(JOBS, [job_row_key(job_id)])[0] is not None else []


def _by_holding(tables: Tables, text: str) -> list[str]:
    """By what leads to a paper at home: an identifier learned on the way, its PDF's URL, its SHA-256."""
    work = parse_work(text)
    named = [*(work.identifiers() if work else ()), ("sha256", text.lower())]
    found = [key for name in named for _, key in tables.scan(HOLDINGS, holding_prefix(*name))]
    return [job_id_of(key) for key in dict.fromkeys(found)]


def _by_any_name(tables: Tables, text: str) -> list[str]:
    """By what no index holds: an identifier learned on the way, a label, a title. Looks at every job."""
    work = parse_work(text)
    wanted = set(work.identifiers()) if work else set()
    title = normal_title(text)
    return [
        job_id_of(key)
        for key, row in scanned(tables, JOBS)
        if text in (row.label, row.work.work_id)
        or title == normal_title(row.work.title)
        or not wanted.isdisjoint(row.work.identifiers())
    ]


def events_in(store: EventStore) -> Iterator[Recorded[Any]]:
    """Every event of the log, in its order, a page at a time."""
    page = store.read(0, limit=READ_LIMIT)
    while page:
        yield from page
        page = store.read(page[-1].position, limit=READ_LIMIT)
