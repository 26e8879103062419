"""A library on disk: its folders, and the locks by which its workers are known to be alive."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from ..errors import DamagedError, EnvironmentFault, InvariantError, UsageError
from .disk_faults import environment_faults, storage_faults, sync_folder
from .objects import Objects

FOLDERS = ("events", "objects", "staging", "workers")
KNOWN = frozenset((*FOLDERS, "cache", "failures", "quire.yaml", "lost+found"))
NETWORK_FILESYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "lustre",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "beegfs",
        "gpfs",
        "orangefs",
        "pvfs2",
        "davfs",
        "ncpfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.gcsfuse",
        "fuse.goofys",
        "fuse.davfs2",
        "fuse.juicefs",
        "fuse.smbnetfs",
        "fuse.curlftpfs",
        "fuse.nfs",
        "fuse.lustre",
        "fuse.beegfs",
        "fuse.blobfuse",
    ]
)
"""Where neither LMDB's shared map nor flock holds between machines."""
_WORKER = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


class WorkerLock:
    """A worker's sign of life: a lock that the kernel lets go of when the process ends, however it ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def __repr__(self) -> str:
        return f"<WorkerLock {self.path.stem} {'held' if self._descriptor >= 0 else 'released'}>"

    def release(self) -> None:
        """Say that the worker is gone, and remove its file; harmless when done before.

        Raises:
            EnvironmentFault: the file stays; the lock is free all the same.
        """
        if self._descriptor < 0:
            return
        try:
            with storage_faults(self.path):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


class Library:
    """The folder that holds everything; made by ``open`` or ``open_existing``."""

    def __init__(self, path: Path, *, free_space_min: int = 0) -> None:
        self.path = path
        self.events = path / "events"
        self.workers = path / "workers"
        self.settings = path / "quire.yaml"
        """Where its own settings are, if it has any."""
        self.objects = Objects(path, free_space_min=free_space_min)

    def __repr__(self) -> str:
        return f"<Library {self.path}>"

    @classmethod
    def open(cls, path: Path, *, free_space_min: int = 0) -> Library:
        """The library at a path, created where there is none.

        Args:
            path: its folder; parents are created too.
            free_space_min: bytes that downloads leave free on its disk.

        Raises:
            UsageError: the folder holds other things.
            EnvironmentFault: it is on a network file system, or cannot be written.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links in what is shown
        refuse_network_filesystem(path)
        _refuse_foreign(path)
        with environment_faults(f"cannot create the library at {path}"):
            for folder in (path, *(path / name for name in FOLDERS)):
                _make(folder)
        _refuse_readonly(path)
        with environment_faults(f"cannot make the folders of {path} durable"):
            _sync_names(path)
        return cls(path, free_space_min=free_space_min)

    @classmethod
    def open_existing(cls, path: Path, *, free_space_min: int = 0) -> Library:
        """The library at a path; never creates anything.

        Raises:
            UsageError: there is none; the message says what is missing.
            EnvironmentFault: it is on a network file system.
            DamagedError: its log is gone while papers are there.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - see ``open``
        cls(path).refuse_lost_log()
        missing = next(
            (p for p in (path, path / "events", path / "events" / "data.mdb") if not p.exists()), None
        )
        if missing is not None:
            raise UsageError(
                f"there is no library at {path}: {missing} is missing; name one with --library, "
                "or begin one with `quire run`"
            )
        refuse_network_filesystem(path)
        return cls(path, free_space_min=free_space_min)

    def refuse_lost_log(self) -> None:
        """Refuse papers without a log: a new one begun over them would know of none and bring them again.

        Not part of ``open``, which also makes the folders of a backup, whose log comes after its papers,
        and those of a session whose log is kept elsewhere.

        Raises:
            DamagedError: there is no log, and there are papers.
        """
        log = self.events / "data.mdb"
        if log.exists():
            return
        paper = next(self.objects.root.glob("??/*.pdf"), None)
        if paper is not None:
            raise DamagedError(
                f"the log is gone while papers are there: {log} is missing, {paper} is there; "
                "put events/ back from a backup, or name a new library; a cut off backup is made anew"
            )

    def claim_worker(self, worker: str) -> WorkerLock:
        """Hold a worker's lock until it is released or the process ends.

        The descriptor is not inherited by programs started from here; a fork without exec keeps it open,
        and the worker would seem alive as long as that child lives.

        Args:
            worker: a new unique id (letters, digits, ``-``).

        Raises:
            EnvironmentFault: the lock cannot be had.
        """
        path = self._lock_path(worker)
        # Locked before it gets its name: a lock file that can be seen and is free is always a dead worker's.
        hidden = path.with_name(f".{path.name}")
        with environment_faults(f"cannot lock {path} for this worker"):
            if path.exists():
                raise InvariantError(f"the worker id {worker} is taken: {path} exists; ids are used once")
            descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(path)
        return WorkerLock(path, descriptor)

    def is_alive(self, worker: str) -> bool:
        """Whether the process of a worker still runs; seen at once when it ends."""
        descriptor = self._free_lock(self._lock_path(worker))
        if descriptor is None:
            return True
        if descriptor >= 0:
            os.close(descriptor)
        return False

    def living_workers(self) -> list[str]:
        """The workers whose processes run now."""
        return [path.stem for path in self._lock_paths() if self.is_alive(path.stem)]

    def remove_dead_locks(self) -> list[str]:
        """Remove the lock files of dead workers, and say whose they were."""
        removed = []
        for path in self._lock_paths():
            descriptor = self._free_lock(path)
            if descriptor is not None and descriptor >= 0:
                try:
                    with storage_faults(path):
                        path.unlink(missing_ok=True)
                finally:
                    os.close(descriptor)
                removed.append(path.stem)
        return removed

    def _lock_paths(self) -> list[Path]:
        paths = sorted(self.workers.glob("*.lock"))
        return [path for path in paths if _WORKER.fullmatch(path.stem)]

    def _lock_path(self, worker: str) -> Path:
        if not _WORKER.fullmatch(worker):
            raise InvariantError(f"a worker id has 1 to 64 letters, digits or '-': {worker[:80]!r}")
        return self.workers / f"{worker}.lock"

    def _free_lock(self, path: Path) -> int | None:
        """None while somebody holds the lock; else a descriptor, or -1 where there is no file.

        The lock is taken shared, so that two who look at once do not see each other as the owner.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise EnvironmentFault(f"cannot look at the lock {path}: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor


def filesystem_of(path: Path, mountinfo: str) -> str:
    """The type of the file system that holds a path, by the text of ``/proc/self/mountinfo`` (proc(5))."""
    found, depth = "", -1
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        columns = fields.split()
        if len(columns) < 5 or not rest:
            continue
        mount = Path(columns[4].encode().decode("unicode_escape", "replace"))
        # A later mount on the same place covers the earlier one.
        if len(mount.parts) >= depth and path.is_relative_to(mount):
            found, depth = rest.split()[0], len(mount.parts)
    return found


def refuse_network_filesystem(path: Path) -> None:
    """Raise EnvironmentFault for a path on NFS, SMB, Lustre and their like."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return  # no Linux: there is nothing to read it from
    kind = filesystem_of(path.resolve(), mountinfo)
    if kind in NETWORK_FILESYSTEMS:
        raise EnvironmentFault(
            f"{path} is on a network file system ({kind}), where neither the log nor its locks hold: "
            "use a folder on a local disk"
        )


def _refuse_foreign(path: Path) -> None:
    try:
        if not path.exists() or (path / "events").is_dir():
            return
        foreign = next((name for name in sorted(os.listdir(path)) if name not in KNOWN), None)  # noqa: PTH208
    except NotADirectoryError:
        raise UsageError(f"{path} is a file: a library is a folder") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error}") from error
    if foreign is not None:
        raise UsageError(
            f"{path} holds other things ({foreign}) and is no library: name an empty or a new folder"
        )


def _refuse_readonly(path: Path) -> None:
    for folder in (path, *(path / name for name in FOLDERS)):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise EnvironmentFault(f"{folder} cannot be written: mend its permissions, or use another folder")


def _make(folder: Path) -> None:
    """Create a folder with its parents, and make each name durable in the folder above it."""
    if folder.is_dir():
        return
    _make(folder.parent)
    _sync_names(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _sync_names(folder: Path) -> None:
    """Make the names in a folder durable, and its own.

    Whoever made it may have died between making and syncing: what we put into it would go with its name.
    """
    sync_folder(folder)
    with suppress(PermissionError):  # a parent that we may not read is one that we did not make
        sync_folder(folder.parent)
