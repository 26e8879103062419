"""What lies in a library and is of no use any more: objects no job points to, parts nobody goes on with.

Only what is older than a grace time is taken: a worker that begins meanwhile gives a file its name a moment
before its log says so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from .disk_faults import storage_faults
from .objects import Objects

Kind = Literal["orphan", "part", "note", "copy"]


class Waste(msgspec.Struct, frozen=True):
    """A file that may go."""

    kind: Kind
    path: str
    """Relative to the library."""
    bytes: int
    older_than_ns: int
    """Only while it was last written before this, wall-clock."""


def waste_in(
    objects: Objects, *, wanted: set[bytes], unfinished: set[str], older_than_ns: int
) -> Iterator[Waste]:
    """What may be removed.

    Args:
        objects: the files.
        wanted: hashes (raw bytes) of objects that a job points to, or may be about to.
        unfinished: ids of jobs whose parts may still be gone on from.
        older_than_ns: wall-clock time; what was written later stays.
    """
    for sha256, path in objects.held():
        # A file with a foreign name is the user's own: the audit notes it, nobody removes it.
        if sha256 and bytes.fromhex(sha256) not in wanted:
            yield from _old(objects, path, "orphan", older_than_ns)
    for path in sorted(objects.staging.glob("*")):
        kind = _kind_of(path)
        if kind is not None and path.name.split(".")[0] not in unfinished:
            yield from _old(objects, path, kind, older_than_ns)


def _kind_of(path: Path) -> Kind | None:
    kinds: dict[str, Kind] = {".part": "part", ".about": "note", ".copy": "copy"}
    return kinds.get(path.suffix)


def _old(objects: Objects, path: Path, kind: Kind, older_than_ns: int) -> Iterator[Waste]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_mtime_ns < older_than_ns:
        yield Waste(kind, str(path.relative_to(objects.root.parent)), status.st_size, older_than_ns)


def remove(objects: Objects, waste: Waste) -> bool:
    """Remove a file; no when it was gone already, or was taken into use since it was looked at.

    Raises:
        StoreFailedError: it cannot be removed.
    """
    path = objects.root.parent / waste.path
    with storage_faults(path):
        try:
            if path.lstat().st_mtime_ns >= waste.older_than_ns:
                return False
            os.unlink(path)  # noqa: PTH108 - as the rest of the file work, by the system's own names
        except FileNotFoundError:
            return False
    return True
