"""What the errors of a disk mean to a caller of the store, and how bytes and names are made durable."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EnvironmentFault, StorageFullError, StoreFailedError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where room helps."""


@contextmanager
def storage_faults(path: Path) -> Iterator[None]:
    """Translate errors of the disk: StorageFullError where room helps, else StoreFailedError."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError(f"no room for {path}: make room and go on") from error
        raise StoreFailedError(f"the disk failed at {path}: {error}") from error


@contextmanager
def environment_faults(what: str) -> Iterator[None]:
    """Translate errors met while something is opened or made: StorageFullError or EnvironmentFault.

    Args:
        what: what could not be done, such as ``cannot create the library at /a/b``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError(f"{what}: {error}; make room and go on") from error
        raise EnvironmentFault(f"{what}: {error}") from error


def sync_file(path: Path) -> None:
    """Return when the bytes of a file are durable, whoever wrote them; raises OSError."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are durable; raises OSError."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
