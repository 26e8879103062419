"""Defects put into the store on purpose, by name, for as long as a block lasts: each must be found.

They are the mistakes that a program with a disk under it makes; a campaign that does not see them is worth
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lmdb

from ...actors import finalizer
from ...errors import StoreFailedError
from ...store import disk_faults, library, lmdb_environment, lmdb_store, objects
from . import script

SLOW_S = 0.1
"""What a sync of a folder takes on a slow disk, in seconds: longer than a commit."""


def _nothing(*_: Any, **__: Any) -> None:
    """Instead of a sync."""


def _late_sync(stack: ExitStack) -> None:
    """Rename, then fsync: the name may be durable before the bytes are."""
    real = objects.Objects.finalise

    def renamed_first(self: objects.Objects, part: objects.Part) -> objects.Finalised:
        with patch.object(objects.Part, "sync", _nothing):
            return real(self, part)

    stack.enter_context(patch.object(objects.Objects, "finalise", renamed_first))


def _no_folder_sync(stack: ExitStack) -> None:
    """The names of finished files are never synced."""
    stack.enter_context(patch.object(objects, "sync_folder", _nothing))


def _no_parent_sync(stack: ExitStack) -> None:
    """The folder of the hash is synced, the one above it is not."""
    real = disk_faults.sync_folder

    def below(folder: Path) -> None:
        if folder.name != "objects":
            real(folder)

    stack.enter_context(patch.object(objects, "sync_folder", below))


def _no_log_folder_sync(stack: ExitStack) -> None:
    """The name of the log's file is never synced."""
    stack.enter_context(patch.object(lmdb_environment, "sync_folder", _nothing))


def _no_library_sync(stack: ExitStack) -> None:
    """The library's own folders are made and never synced."""

    def made(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    stack.enter_context(patch.object(library, "_make", made))
    _no_second_look(stack)


def _no_second_look(stack: ExitStack) -> None:
    """What another process made is taken to be durable."""
    stack.enter_context(patch.object(library, "_sync_names", _nothing))


def _log_opened(stack: ExitStack, **flags: bool) -> None:
    real: Callable[..., Any] = lmdb.open

    def opened(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **kwargs, **flags)

    stack.enter_context(patch.object(lmdb, "open", opened))


def _no_log_sync(stack: ExitStack) -> None:
    """LMDB's ``sync=False``."""
    _log_opened(stack, sync=False)


def _no_meta_sync(stack: ExitStack) -> None:
    """LMDB's ``metasync=False``."""
    _log_opened(stack, metasync=False)


def _early_ack(stack: ExitStack) -> None:
    """Who waits for a file is told before its folder is synced."""
    real = script.Script._place

    def told(self: script.Script, paper: script.Paper, part: objects.Part) -> None:
        self._mark(f"object {paper.sha256} {len(paper.data)}")
        real(self, paper, part)

    stack.enter_context(patch.object(script.Script, "_place", told))


def _finish_first(stack: ExitStack) -> None:
    """The log says "finished" before the folders are synced."""
    real = objects.Objects.sync_folders

    def kept(self: objects.Objects) -> int:
        with patch.object(objects, "sync_folder", _nothing):
            return real(self)

    stack.enter_context(patch.object(objects.Objects, "sync_folders", kept))


def _told_before_durable(stack: ExitStack) -> None:
    """The finalizer tells the resolver of a file whose folder it has not synced yet."""
    real = finalizer.Finalizer._confirm

    def told(self: finalizer.Finalizer, placed: list[finalizer.Placed]) -> None:
        with patch.object(self._objects, "sync_folders", _nothing):
            real(self, placed)

    stack.enter_context(patch.object(finalizer.Finalizer, "_confirm", told))


def _slow_folders(stack: ExitStack) -> None:
    """No defect of the program: a disk that takes its time to sync a folder of papers."""
    real = disk_faults.sync_folder

    def slowly(folder: Path) -> None:
        time.sleep(SLOW_S)
        real(folder)

    stack.enter_context(patch.object(objects, "sync_folder", slowly))


def _rotten_parts(stack: ExitStack) -> None:
    """No defect of the program: a disk that keeps another bit of each write of a part, and says nothing."""
    real = objects.Part.write

    def written(self: objects.Part, chunk: bytes) -> None:
        real(self, chunk)
        with self.path.open("r+b") as file:
            file.seek(self.length - 1)
            file.write(bytes([chunk[-1] ^ 1]))

    stack.enter_context(patch.object(objects.Part, "write", written))


def _swallowed(stack: ExitStack) -> None:
    """A commit that failed is called one that stands."""
    real = lmdb_store.LmdbStore.append

    def content(self: lmdb_store.LmdbStore, batches: Any) -> Any:
        try:
            return real(self, batches)
        except StoreFailedError:
            return []

    stack.enter_context(patch.object(lmdb_store.LmdbStore, "append", content))
    stack.enter_context(patch.object(script.Script, "append", _append_blindly))


def _append_blindly(self: script.Script, batches: Any) -> None:
    head = self._store.head()
    self._store.append(batches)
    self._mark(f"log {head.position + sum(len(batch.events) for batch in batches)} {'00' * 32}")


@contextmanager
def _as_it_is(_path: Path) -> Iterator[None]:
    yield


def _raw_errors(stack: ExitStack) -> None:
    """Errors of the disk reach the caller as the system gives them."""
    stack.enter_context(patch.object(objects, "storage_faults", _as_it_is))


def _partial_in_place(stack: ExitStack) -> None:
    """A paper is written under its final name instead of being renamed to it."""

    def copied(self: objects.Objects, part: objects.Part) -> objects.Finalised:
        sha256 = part.sha256()
        path = self.path(sha256)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(part.path.read_bytes())
        part.discard()
        self.adopt(sha256)
        return objects.Finalised(sha256, part.length, path, False)

    stack.enter_context(patch.object(objects.Objects, "finalise", copied))


DEFECTS: dict[str, Callable[[ExitStack], None]] = {
    "rename-before-fsync": _late_sync,
    "no-folder-sync": _no_folder_sync,
    "no-parent-sync": _no_parent_sync,
    "no-log-folder-sync": _no_log_folder_sync,
    "no-library-sync": _no_library_sync,
    "no-second-look": _no_second_look,
    "no-log-sync": _no_log_sync,
    "no-meta-sync": _no_meta_sync,
    "early-ack": _early_ack,
    "finish-first": _finish_first,
    "told-before-durable": _told_before_durable,
    "slow-folders": _slow_folders,
    "rotten-parts": _rotten_parts,
    "swallowed": _swallowed,
    "raw-errors": _raw_errors,
    "written-in-place": _partial_in_place,
}
"""What can be put in, by name."""


@contextmanager
def defect(name: str) -> Iterator[None]:
    """The store with a defect (none for ``""``)."""
    with ExitStack() as stack:
        if name:
            DEFECTS[name](stack)
        yield
