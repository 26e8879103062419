"""A copy of a library, which is a library itself: its log as it is at one moment, and the files it needs.

The log is copied first, from one snapshot; what finishes afterwards is left for the next backup. Objects
never change, so all that the snapshot names are there, and a later backup into the same folder copies only
what is new. Each file is hashed while it is copied: a damaged one is told, never taken over in silence.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ..errors import UsageError
from .audit import Expected, Finding
from .disk_faults import storage_faults, sync_folder
from .library import Library
from .lmdb_store import LmdbStore
from .objects import CHUNK_BYTES, Objects

FINDINGS_MAX = 1_000
"""Damaged objects that are named."""


class Backup(msgspec.Struct):
    """What a backup came to."""

    ok: bool = True
    path: str = ""
    position: int = 0
    """Position of the last event in the copy."""
    chain: str = ""
    """Its chain head in hex."""
    objects: int = 0
    """Files that the copy of the log needs."""
    copied: int = 0
    """Of these, written by this backup; the others were there."""
    bytes: int = 0
    """Bytes of objects written."""
    problems: list[Finding] = []
    """Objects that could not be copied: gone, or not the bytes of their name."""


def back_up(
    library: Library,
    store: LmdbStore,
    target: Path,
    *,
    opened: Callable[[Path], LmdbStore],
    expected: Callable[[LmdbStore], Iterable[Expected]],
) -> Backup:
    """Bring a copy of a library up to date, or begin one.

    A crash in the middle leaves the copy that was there, and files that the next backup uses.

    Args:
        library: what is copied.
        store: its log.
        target: the folder of the copy; created where there is none.
        opened: opens a log for reading, by its folder.
        expected: the files that a log says must be there.

    Raises:
        UsageError: the target lies in the library, holds other things, or is no earlier copy of it.
        EnvironmentFault: the target cannot be written, or is full.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - as in ``Library.open``
    if target == library.path or target.is_relative_to(library.path):
        raise UsageError(f"{target} lies in the library {library.path}: name a folder outside of it")
    copy = Library.open(target)
    with _alone(target), _fresh(target / "events.new") as folder, storage_faults(target):
        store.copy_to(folder)
        snapshot = opened(folder)
        try:
            _refuse_other(copy, snapshot, opened)
            report = _copy_objects(library.objects, copy.objects, expected(snapshot))
            head = snapshot.head()
        finally:
            snapshot.close()
        _copy_settings(library.settings, copy.settings)
        # The log last: until its rename the copy is the earlier one, with all of its files.
        (folder / "data.mdb").rename(copy.events / "data.mdb")
        sync_folder(copy.events)
    report.path, report.position, report.chain = str(target), head.position, head.chain.hex()
    return report


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep a second backup out of the folder; the kernel lets go of a dead one's lock."""
    descriptor = os.open(target / "staging" / ".backup", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"another backup into {target} is under way: wait for its end") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _copy_settings(source: Path, target: Path) -> None:
    """The settings as they are now, with their permissions: they may hold a key."""
    if not source.exists():
        target.unlink(missing_ok=True)
        return
    fresh = target.with_name(".quire.yaml.new")
    fresh.unlink(missing_ok=True)
    shutil.copy2(source, fresh)
    fresh.rename(target)
    sync_folder(target.parent)


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards; what a backup that died left in it is thrown away."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    with storage_faults(folder):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_other(
    copy: Library,
    snapshot: LmdbStore,
    opened: Callable[[Path], LmdbStore],
) -> None:
    if not (copy.events / "data.mdb").exists():
        return
    if copy.living_workers():
        raise UsageError(f"a worker is at work in {copy.path}: it is a library in use, no backup")
    earlier = opened(copy.events)
    try:
        if not _continues(earlier, snapshot):
            raise UsageError(
                f"{copy.path} holds another library, or one that went its own way since it was copied: "
                "name another folder"
            )
    finally:
        earlier.close()


def _continues(earlier: LmdbStore, later: LmdbStore) -> bool:
    """Whether the later log begins with all of the earlier one: the chain says so in one look."""
    head = earlier.head()
    return head.position <= later.head().position and later.chain_at(head.position) == head.chain


def _copy_objects(source: Objects, target: Objects, files: Iterable[Expected]) -> Backup:
    report = Backup()
    seen: set[bytes] = set()
    folders: set[Path] = {target.root}
    for file in files:
        digest = bytes.fromhex(file.sha256)
        if digest in seen:
            continue
        seen.add(digest)
        report.objects += 1
        if target.has(file.sha256, file.bytes):
            continue
        problem = _copy(source.path(file.sha256), target, file)
        if problem:
            report.ok = False
            if len(report.problems) < FINDINGS_MAX:
                report.problems.append(problem)
            continue
        folders.add(target.path(file.sha256).parent)
        report.copied += 1
        report.bytes += file.bytes
    for folder in sorted(folders, reverse=True):
        sync_folder(folder)
    return report


def _copy(path: Path, target: Objects, file: Expected) -> Finding | None:
    """Copy an object under another name, and give it its own only if its bytes are right."""
    name = target.relative_path(file.sha256)
    final = target.path(file.sha256)
    final.parent.mkdir(exist_ok=True)
    part = target.staging / f"{file.sha256}.copy"
    digest = hashlib.sha256()
    try:
        source = path.open("rb")
    except FileNotFoundError:
        return Finding("missing", f"job {file.job_id} is finished, its file is gone", path=name)
    with source, part.open("wb") as copy:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != file.sha256:
        part.unlink()
        return Finding("hash", f"its bytes are not those of job {file.job_id}", path=name)
    part.rename(final)
    return None
