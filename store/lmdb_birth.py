"""How a log comes into being: whole under its name, or not at all.

LMDB writes the first pages of a new environment in place and syncs them with the first commit. A disk that is
full, fails or loses power before that leaves a ``data.mdb`` which is none, and no program opens it again. So
it is made beside its place, synced, and linked; whoever comes second finds the first one's.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb

from .disk_faults import sync_file

DATA = "data.mdb"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def create(folder: Path, *, map_size: int) -> None:
    """Make an empty environment in a folder (which is made, not its parents) unless one is there.

    The name is durable when the folder is synced. On a file system without links (FAT) nothing is done, and
    LMDB makes it at its opening as it always does.

    Raises:
        lmdb.Error: as ``lmdb.open``.
        OSError: the disk is full or failed.
    """
    folder.mkdir(exist_ok=True)
    fresh = folder / f".{DATA}.{os.getpid()}"
    fresh.unlink(missing_ok=True)  # of an earlier process of our number
    try:
        lmdb.open(os.fspath(fresh), map_size=map_size, subdir=False, lock=False).close()
        sync_file(fresh)
        _link(fresh, folder / DATA)
    finally:
        fresh.unlink(missing_ok=True)


def _link(fresh: Path, place: Path) -> None:
    try:
        # Not renamed: that would put an empty log in the place of one that another process just began.
        os.link(fresh, place)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
