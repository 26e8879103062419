"""What the errors of LMDB mean to a caller of the store."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from ..errors import (
    DamagedError,
    EnvironmentFault,
    QuireError,
    StorageFullError,
    StoreFailedError,
    UsageError,
)
from .disk_faults import NO_ROOM, environment_faults

READERS_MAX = 512
"""Read transactions at once, of all processes; fixed by the first process that opens the log."""
FULL_BELOW_BYTES = 1 << 20
"""Free space under which a write that fails was short of room."""
LOCK = "lock.mdb"
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of LMDB and of the system, and records that are none, in the log at ``path`` into ours."""
    with environment_faults(f"cannot open the log at {path}"):
        try:
            yield
        except lmdb.Error as error:
            raise _fault(path, error) from error
        except struct.error as error:  # a key or a record that has another length than all of its kind
            raise DamagedError(
                f"the log at {path} is damaged ({error}): keep it and run `quire audit`"
            ) from error


@contextmanager
def opening(path: Path, *, readonly: bool) -> Iterator[None]:
    """As ``translated`` while a log is opened, where a refusal is one of permissions and not of the disk."""
    with translated(path):
        try:
            yield
        except lmdb.Error as error:
            if getattr(error, "code", None) not in _NO_PERMISSION:
                raise
            why = os.strerror(error.code)
            if not readonly:
                raise EnvironmentFault(
                    f"{path} cannot be written ({why}): mend its permissions, or use another folder"
                ) from error
            raise EnvironmentFault(
                f"the log at {path} cannot be opened ({why}): to read it, too, a process must be able to "
                f"write to {path / LOCK}, where LMDB keeps its readers; mend the permissions, or have its "
                "owner make a copy with `quire backup`"
            ) from error


def _fault(path: Path, error: lmdb.Error) -> QuireError:
    """What an error of LMDB means to the caller.

    No room is not final: LMDB writes to fresh pages, so a commit that failed is referenced by nothing; if
    the record that ends a commit could not be written, LMDB itself says no from then on (MDB_PANIC).
    """
    if isinstance(error, lmdb.MapFullError):
        return StorageFullError(f"the log at {path} fills its map: raise store.map_size and go on")
    if getattr(error, "code", None) in NO_ROOM or _short_write(path, error):
        return StorageFullError(f"no room for the log at {path} ({error}): free disk space and go on")
    if isinstance(error, _DAMAGE):
        return DamagedError(f"the log at {path} is damaged ({error}): keep it and run `quire audit`")
    if isinstance(error, lmdb.MapResizedError):
        return EnvironmentFault(f"another process enlarged the map of the log at {path}: start again")
    if isinstance(error, lmdb.ReadersFullError):
        return EnvironmentFault(f"the log at {path} has {READERS_MAX} readers: stop some of them")
    if "already open" in str(error):
        return UsageError(f"the log at {path} is open in this process already: share that store")
    return StoreFailedError(f"the log at {path} failed ({error}): open it again, do not retry")


def _short_write(path: Path, error: lmdb.Error) -> bool:
    """Whether a write was cut because the disk ran full within it, which LMDB tells as EIO."""
    if getattr(error, "code", None) != errno.EIO:
        return False
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize < FULL_BELOW_BYTES
