"""What must hold of a library, whatever its disk went through: it opens, is sound, nothing marked is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...errors import QuireError
from ...events.job import JobRow
from ...events.projections import JOBS, job_id_of
from ...store.audit import Expected, audit
from ...store.domain import QUIRE
from ...store.interface import READ_LIMIT
from ...store.library import Library
from ...store.lmdb_store import LmdbStore
from .script import MAP_SIZE, Paper, TickingClock


class Promised(msgspec.Struct, frozen=True):
    """What was marked as durable."""

    position: int = 0
    """Head of the log."""
    chain: bytes = b""
    """Its chain there."""
    objects: frozenset[tuple[str, int]] = frozenset()
    """Hash and size of files."""
    home: frozenset[str] = frozenset()
    """Jobs that somebody was told are home."""
    done: bool = False
    """A turn came to its end."""

    def and_(self, text: str) -> Promised:
        """With one more mark."""
        kind, *rest = text.split()
        if kind == "log":
            return msgspec.structs.replace(self, position=int(rest[0]), chain=bytes.fromhex(rest[1]))
        if kind == "object":
            return msgspec.structs.replace(self, objects=self.objects | {(rest[0], int(rest[1]))})
        if kind == "home":
            return msgspec.structs.replace(self, home=self.home | {rest[0]})
        return msgspec.structs.replace(self, done=True) if kind == "done" else self


def promised(marks: Iterable[str]) -> Promised:
    """What all the marks together promise."""
    said = Promised()
    for text in marks:
        said = said.and_(text)
    return said


def violations(
    library: Path,
    said: Promised,
    papers: Iterable[Paper] = (),
    *,
    complete: bool = False,
    due: Iterable[str] = (),
) -> list[str]:
    """What is wrong with a library, opened as the product opens it; nothing when nothing is.

    Args:
        library: its folder; opening creates what is not there, as the product does.
        said: what was marked before.
        papers: the works that may be in it, with the bytes they must have.
        complete: whether all of them must be home.
        due: job ids that must be home as well.
    """
    try:
        opened = Library.open(library)
        store = LmdbStore(opened.events, QUIRE, run_id="oracle", clock=TickingClock(), map_size=MAP_SIZE)
    except QuireError as error:
        return [f"unopenable: {type(error).__name__}: {error}"]
    try:
        right = {paper.job_id: paper for paper in papers}
        return list(_wrong(opened, store, said, right, {*due, *(right if complete else ())}))
    except QuireError as error:
        return [f"unreadable: {type(error).__name__}: {error}"]
    finally:
        store.close()


def _wrong(
    library: Library, store: LmdbStore, said: Promised, right: dict[str, Paper], due: set[str]
) -> Iterator[str]:
    report = audit(store, QUIRE, objects=library.objects, expected=expected_of)
    for problem in report.problems:
        yield f"audit: {problem.kind}: {problem.what}"
    if report.head < said.position:
        yield f"lost: the log ends at {report.head}, {said.position} was promised"
    elif said.position and store.chain_at(said.position) != said.chain:
        yield f"lost: the log is another one up to {said.position}"
    for sha256, size in sorted(said.objects):
        if not library.objects.has(sha256, size) or not library.objects.verify(sha256):
            yield f"lost: the object {sha256[:12]} was promised"
    rows: dict[str, JobRow] = {job_id_of(key): row for key, row in store.scan(JOBS, limit=READ_LIMIT)}
    for job_id in sorted(said.home):
        if job_id not in rows or not rows[job_id].home:
            yield f"lost: the job {job_id[:12]} was told to be home"
    for job_id, row in rows.items() if right else ():
        paper = right.get(job_id)
        if paper is None or (row.home and (row.artifact is None or row.artifact.sha256 != paper.sha256)):
            yield f"wrong: job {job_id[:12]} has no work, or another's bytes"
    for job_id in sorted(due):
        if job_id not in rows or not rows[job_id].home:
            how = f"{rows[job_id].state}, {rows[job_id].reason}" if job_id in rows else "not planned"
            yield f"incomplete: job {job_id[:12]} is not home: {how}"


def expected_of(tables: Any) -> Iterator[Expected]:
    """The files that the finished jobs of a library must have."""
    for key, row in tables.scan(JOBS, limit=READ_LIMIT):
        if row.home and row.artifact is not None:
            yield Expected(job_id_of(key), row.artifact.sha256, row.artifact.bytes)
