"""The environment of a log as one process has it open: its databases, its transactions, and its end.

Here stand the rules of opening and of failing: default sync flags only; the map is reserved once; slots of
dead readers are cleared at open; an environment is used by the process that opened it, never by a fork of
it; after a failed write or fsync it says no until it is opened again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from ..errors import DamagedError, InvariantError, StoreFailedError, UsageError
from .disk_faults import environment_faults, storage_faults, sync_file, sync_folder
from .lmdb_birth import DATA, create
from .lmdb_faults import READERS_MAX, opening, translated
from .lmdb_layout import FORMAT, FORMAT_KNOWN, META, NUMBER, STREAM_COMMITS, SYSTEM, TABLES_MAX, Txn
from .lmdb_probe import check_end, check_start
from .lmdb_writes import put


class Environment:
    """One log's environment.

    Args:
        path: its folder; created (not its parents) unless ``readonly``.
        tables: the names of the projection tables; made where they are not, unless ``readonly``.
        map_size: greatest size of the log, in bytes; address space, reserved once.
        readonly: never writes.

    Raises:
        UsageError: there is no log (``readonly``), or it is open in this process already.
        EnvironmentFault: the folder cannot be opened or written.
    """

    def __init__(self, path: Path, tables: Iterable[str], *, map_size: int, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self.failed = ""
        """Why nothing is written any more; ``""`` while all is well."""
        self.closed = False
        self._pid = os.getpid()
        self.env = self._opened(map_size)
        """LMDB's own; for what is not done in a transaction."""
        try:
            if not readonly:
                self._sync_names()
            self.db = self._databases([*SYSTEM, *(table.encode() for table in tables)])
            """Name → handle."""
        except BaseException:
            self.env.close()
            raise

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"failed: {self.failed}" if self.failed else "open"
        return f"<Environment {self.path} {'readonly ' if self.readonly else ''}{state}>"

    # Opening

    def _opened(self, map_size: int) -> lmdb.Environment:
        new = not (self.path / DATA).exists()
        if new and self.readonly:
            raise UsageError(f"there is no log at {self.path}: name the library that holds one")
        with opening(self.path, readonly=self.readonly):
            if new:
                create(self.path, map_size=map_size)
            check_start(self.path)
            env = lmdb.open(
                os.fspath(self.path),
                map_size=map_size,
                max_dbs=TABLES_MAX,
                max_readers=READERS_MAX,
                readonly=self.readonly,
                create=not self.readonly,
            )
            try:
                env.reader_check()
                check_end(self.path, env)
            except BaseException:
                env.close()
                raise
        return env

    def _sync_names(self) -> None:
        """Make the names of the log durable: with them every commit would be gone after a power loss.

        Not only by who made them: that one may have died in between, or not be there yet.
        """
        with environment_faults(f"cannot make the folder of {self.path} durable"):
            sync_folder(self.path)
            sync_folder(self.path.parent)

    def _databases(self, names: list[bytes]) -> dict[bytes, Any]:
        with translated(self.path):
            try:
                if self.readonly:
                    return self._there(names)
                # A handle opened in a read transaction dies with it; this one writes only what is new.
                with self.env.begin(write=True) as txn:
                    return {name: self._database(name, txn, create=True) for name in names}
            except lmdb.NotFoundError as error:
                if not self.env.stat()["entries"]:  # made, and not written yet by the one who made it
                    raise UsageError(f"the log at {self.path} is being made just now: ask again") from None
                raise DamagedError(f"the log at {self.path} lacks a part of itself ({error})") from None

    def _there(self, names: list[bytes]) -> dict[bytes, Any]:
        """The databases that are there: whoever does not write makes no tables, and may do without."""
        found = {name: self._database(name, None, create=False) for name in names[: len(SYSTEM)]}
        for name in names[len(SYSTEM) :]:
            with contextlib.suppress(lmdb.NotFoundError):
                found[name] = self._database(name, None, create=False)
        return found

    def _database(self, name: bytes, txn: Txn | None, *, create: bool) -> Any:
        stream_commits = name == STREAM_COMMITS
        return self.env.open_db(name, txn, create=create, dupsort=stream_commits, dupfixed=stream_commits)

    def handle(self, txn: Txn, name: bytes) -> Any:
        """The handle of a database, be it one of ours or one that other code made."""
        return self.db.get(name) or self.env.open_db(name, txn, create=False)

    def check_format(self, txn: Txn) -> None:
        """Refuse a layout that a newer program made; raises UsageError."""
        value = txn.get(FORMAT, db=self.db[META])
        if value is not None and NUMBER.unpack(value)[0] > FORMAT_KNOWN:
            raise UsageError(f"the log at {self.path} was written by a newer program: use that one")

    def mark_format(self, txn: Txn) -> None:
        """Write down that the layout is ours."""
        put(txn, self.db[META], FORMAT, NUMBER.pack(FORMAT_KNOWN))

    # Use

    @contextmanager
    def reading(self) -> Iterator[Txn]:
        """A read transaction; keep it short, since an idle one keeps every page freed after it.

        Raises:
            UsageError: the environment is closed.
            InvariantError: this process is a fork of the one that opened it.
        """
        self._check_usable()
        with translated(self.path), self.env.begin() as txn:
            yield txn

    @contextmanager
    def writing(self) -> Iterator[Txn]:
        """The write transaction, of which there is one at a time; durable at the end of the block.

        Raises:
            UsageError: the environment is closed, or read-only.
            StorageFullError: no room; nothing is kept, and a later one may succeed.
            StoreFailedError: the disk failed, now or before; nothing is kept for sure.
            InvariantError: as ``reading``.
        """
        self._check_usable()
        if self.readonly:
            raise UsageError(f"the log at {self.path} was opened read-only: open it for writing")
        if self.failed:
            raise StoreFailedError(f"the log at {self.path} failed before ({self.failed}): open it again")
        try:
            with translated(self.path), self.env.begin(write=True) as txn:
                yield txn
        except StoreFailedError as error:
            # What the kernel dropped in a failed fsync a second fsync calls written: never go on with it.
            self.failed = str(error)
            raise

    def space(self, txn: Txn) -> tuple[int, int]:
        """Bytes of disk in use, and bytes of the map."""
        info = self.env.info()
        return (info["last_pgno"] + 1) * txn.stat(self.db[META])["psize"], info["map_size"]

    def copy_to(self, folder: Path) -> None:
        """As ``LmdbStore.copy_to``."""
        self._check_usable()
        with translated(folder):
            self.env.copy(os.fspath(folder), compact=True)
        with storage_faults(folder):
            sync_file(folder / DATA)
            sync_folder(folder)

    def close(self) -> None:
        """Let go of it; twice is harmless, and so is a call in a fork, which leaves the parent's alone."""
        if not self.closed and os.getpid() == self._pid:
            self.env.close()
        self.closed = True

    def _check_usable(self) -> None:
        if self.closed:
            raise UsageError(f"the store at {self.path} is closed: open it again")
        if os.getpid() != self._pid:
            raise InvariantError(f"the store at {self.path} was opened before a fork: open it in the child")
