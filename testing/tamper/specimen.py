"""A library made by a real run, what it is while it is sound, and a scratch copy to damage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from ...actors.outcome import Wanted
from ...actors.runtime.ports import SystemClock
from ...actors.session import Session
from ...cli.audit import expected_files
from ...config.loader import Flag, load
from ...errors import QuireError
from ...events.projections import LIBRARY
from ...events.work import parse_work
from ...store.audit import Expected, Report, audit
from ...store.codec import Commit
from ...store.digests import Digests
from ...store.domain import QUIRE
from ...store.interface import EventStore
from ...store.library import Library
from ...store.lmdb_layout import COMMITS, NUMBER, TABLES_MAX
from ...store.lmdb_probe import probe
from ...store.lmdb_store import LmdbStore
from ...store.seal import Seal, against, sealed
from ..web import World, serve

WORKS = 24
"""Works of the library: enough for some dozens of commits and files."""
EARLIER_EVERY = 4
"""Outcomes between two copies of the log, to roll back to; a seal is taken with each."""
MAP_SIZE = 1 << 30
EMAIL = "campaign@quire.example"
_LIST = "ab" * 8


class Earlier(NamedTuple):
    """The log as it was before its end."""

    data: Path
    position: int


class Content(NamedTuple):
    """All that a log says: two logs of one content differ at most where nobody looks."""

    commits: list[Commit]
    digests: Digests


class Specimen:
    """The sound library, the seals that were taken of it, and its scratch copy."""

    def __init__(self, folder: Path) -> None:
        """Make it in a folder that exists."""
        self.sound, self.scratch = folder / "sound", folder / "scratch"
        self.earlier: list[Earlier] = []
        self.seals: list[Seal] = []
        """One at each earlier moment and one at the end, in their order."""
        self._run(folder)
        store = self._opened(self.sound)
        self.content = content_of(store)
        self.commits = self.content.commits
        self.head = store.head()
        self._seal(store)
        files = {file.sha256: file for file in expected_files(store)}
        self.files: list[Expected] = [files[sha256] for sha256 in sorted(files)]
        store.close()
        shutil.copytree(self.sound, self.scratch)

    def __repr__(self) -> str:
        return f"<Specimen of {len(self.commits)} commits, {len(self.files)} files>"

    def _run(self, folder: Path) -> None:
        flags = {"contact_email": EMAIL, "pacing": "none"}
        world = World.demo(WORKS, seed=1)
        with serve(world) as web:
            settings = load(
                [
                    Flag(("library",), str(self.sound), "tamper"),
                    Flag(("web", "stand_in"), web.url, "tamper"),
                    Flag(("store", "map_size"), MAP_SIZE, "tamper"),
                    *(Flag(("web", name), value, "tamper") for name, value in flags.items()),
                ],
                environ={},
            ).settings
            works = [work for text in world.inputs() if (work := parse_work(text)) is not None]
            with Session(settings, list_id=_LIST) as session:
                session.plan((Wanted(work) for work in works), list_id=_LIST)
                for number, _ in enumerate(session.work(_LIST)):
                    if number % EARLIER_EVERY == 0:
                        self._keep(session.store, folder / f"earlier-{number}")

    def _keep(self, store: EventStore, folder: Path) -> None:
        if isinstance(store, LmdbStore):
            folder.mkdir()
            store.copy_to(folder)
            with_end = LmdbStore(folder, QUIRE, run_id="", clock=SystemClock(), readonly=True)
            self.earlier.append(Earlier(folder / "data.mdb", with_end.head().position))
            self._seal(with_end)
            with_end.close()

    def _seal(self, store: LmdbStore) -> None:
        (row,) = store.rows(LIBRARY, [b"library"])
        self.library_id: str = row.library_id
        self.seals.append(sealed(store.head(), library_id=row.library_id, time=""))

    def _opened(self, library: Path) -> LmdbStore:
        return LmdbStore(
            library / "events", QUIRE, run_id="tamper", clock=SystemClock(), map_size=MAP_SIZE, readonly=True
        )

    def restore(self) -> None:
        """Make the scratch copy sound again."""
        shutil.copyfile(self.sound / "events" / "data.mdb", self.data)
        for file in self.files:
            path, copy = self.path(file.sha256, self.sound), self.path(file.sha256)
            if copy.parent.is_symlink():
                copy.parent.unlink()
            copy.parent.mkdir(exist_ok=True)
            if not copy.exists() or copy.stat().st_mtime_ns != path.stat().st_mtime_ns:
                shutil.copy2(path, copy)

    @property
    def data(self) -> Path:
        """The file of the scratch copy's log."""
        return self.scratch / "events" / "data.mdb"

    def path(self, sha256: str, library: Path | None = None) -> Path:
        """Where a paper is, in the scratch copy if no other library is named."""
        return Library(library or self.scratch).objects.path(sha256)

    def name(self, path: Path) -> str:
        """A path of the scratch copy as the audit names it."""
        return str(path.relative_to(self.scratch))

    def audited(self) -> tuple[Report, bool]:
        """The audit of the scratch copy against the seals, and whether its log says what the sound one does.

        As the command does it: what would end the process is read by another one first.
        """
        report = Report()
        wrong, position = probe(self.data.parent, map_size=MAP_SIZE)
        if wrong:
            report.problem("unreadable", wrong, position=position)
            return report, False
        try:
            store = self._opened(self.scratch)
        except QuireError as error:
            report.problem("unreadable", str(error))
            return report, False
        try:
            objects = Library(self.scratch).objects
            report = audit(store, QUIRE, objects=objects, expected=expected_files)
            for seal in self.seals:
                for found in against(store, self.library_id, seal):
                    report.problem(found.kind, found.what, position=found.position)
            return report, report.ok and content_of(store) == self.content
        finally:
            store.close()

    @contextmanager
    def raw(self) -> Iterator[Raw]:
        """A write transaction on the scratch copy's databases, past all of quire."""
        env = lmdb.open(os.fspath(self.data.parent), map_size=MAP_SIZE, max_dbs=TABLES_MAX)
        try:
            with env.begin(write=True) as txn:
                yield Raw(env, txn)
        finally:
            env.close()


class Raw:
    """The databases of a log as LMDB has them."""

    def __init__(self, env: Any, txn: Any) -> None:
        self._env, self.txn = env, txn

    def __repr__(self) -> str:
        return f"<Raw {self._env.path()}>"

    def db(self, name: bytes) -> Any:
        """The handle of a database."""
        return self._env.open_db(name, self.txn, create=False)

    def entries(self, name: bytes) -> list[tuple[bytes, bytes]]:
        """Every key and value of a database."""
        return list(self.txn.cursor(self.db(name)))

    def set_commit(self, position: int, value: bytes | None) -> None:
        """Put a commit at a position, or take it away."""
        key, db = NUMBER.pack(position), self.db(COMMITS)
        if value is None:
            self.txn.delete(key, db=db)
        else:
            self.txn.put(key, value, db=db)


def content_of(store: LmdbStore) -> Content:
    """All that a log says now."""
    found = store.commits(0)
    while page := store.commits(found[-1][0]) if found else []:
        found += page
    return Content(found, store.digest())
