"""The objects: PDF files named by the hash of their bytes, and the parts they are downloaded into.

No name that came from the network becomes a path: parts are named by job and epoch, objects by SHA-256.
A part is written under an exclusive flock, so that a worker that takes a job over never shares a file
with one that is late. A finished file is fsynced, renamed, and its folder fsynced before anybody says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import EnvironmentFault, InvariantError, StorageFullError, StoreFailedError
from .disk_faults import storage_faults, sync_folder

CHUNK_BYTES = 1 << 20
SPACE_CHECK_BYTES = 16 << 20
"""Written bytes after which free space is looked at again."""
ABOUT_BYTES_MAX = 4096
"""Longest note kept beside a part."""
OPEN_TRIES_MAX = 5
"""Times that a part is opened anew because somebody moved it before it was locked."""
OBJECT_DAMAGED = "object_damaged"
"""The reason code of bytes that the log says are held, and that are not: gone, or not those of their name."""
Damage = Literal["", "missing", "size", "hash", "unreadable"]
"""What is wrong with an object, as the audit names it; ``""`` of one that is whole."""
_OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)
"""Errors of a read that say nothing of the file."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOB = re.compile(r"[0-9a-f]{8,64}")
_PART = re.compile(r"([0-9a-f]{8,64})\.(\d{1,19})\.part")


class Finalised(msgspec.Struct, frozen=True):
    """A file that has its final name; durable after the next ``sync_folders``."""

    sha256: str
    bytes: int
    path: Path
    held: bool
    """The same bytes were there before."""


class Part:
    """A file being downloaded, locked for this process alone; opened by ``Objects.open_part``."""

    def __init__(self, objects: Objects, path: Path, descriptor: int) -> None:
        self.path = path
        self._objects = objects
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._unchecked = 0
        self.length = 0
        """Bytes written so far, those of earlier owners included."""

    def __repr__(self) -> str:
        return f"<Part {self.path.name} {self.length} bytes{'' if self._descriptor >= 0 else ' closed'}>"

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end.

        Raises:
            StorageFullError: no room, or less than must stay free.
            StoreFailedError: the disk failed.
        """
        self._unchecked += len(chunk)
        if self._unchecked >= SPACE_CHECK_BYTES:
            self._objects.check_space()
            self._unchecked = 0
        with storage_faults(self.path):
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._hash.update(chunk)
        self.length += len(chunk)

    def restart(self) -> None:
        """Throw the bytes away and begin again."""
        with storage_faults(self.path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._about_path.unlink(missing_ok=True)
        self._hash, self.length = hashlib.sha256(), 0

    def sha256(self) -> str:
        """Hash (hex) of the bytes so far."""
        return self._hash.hexdigest()

    def digest(self) -> hashlib._Hash:
        """A SHA-256 fed with the bytes so far, for whoever goes on from here."""
        return self._hash.copy()

    def sync(self) -> None:
        """Return when the bytes are durable; raises as ``write``, and then the part is gone."""
        try:
            with storage_faults(self.path):
                os.fsync(self._descriptor)
        except EnvironmentFault:
            # The kernel may have dropped the bytes and still show them: whoever resumed the part would read
            # them whole, and the next fsync would call them written.
            self.discard()
            raise

    @property
    def about(self) -> str:
        """What was noted beside the part (its validator); ``""`` when nothing was."""
        try:
            with self._about_path.open(encoding="utf-8", errors="replace") as file:
                return file.read(ABOUT_BYTES_MAX)
        except FileNotFoundError:
            return ""

    def note(self, about: str) -> None:
        """Keep a short text beside the part, such as its URL and ETag, for whoever resumes it."""
        if len(about.encode()) > ABOUT_BYTES_MAX:
            raise InvariantError(f"a note beside a part has at most {ABOUT_BYTES_MAX} bytes")
        with storage_faults(self.path):
            self._about_path.write_text(about, encoding="utf-8")

    @property
    def _about_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.about")

    def close(self) -> None:
        """Let the part go; it stays for whoever resumes it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Remove the part."""
        try:
            with storage_faults(self.path):
                self._about_path.unlink(missing_ok=True)
                if self._descriptor >= 0:
                    self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def load(self) -> None:
        """Hash what earlier owners wrote, and stand at its end."""
        with storage_faults(self.path):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while chunk := os.read(self._descriptor, CHUNK_BYTES):
                self._hash.update(chunk)
                self.length += len(chunk)


class Objects:
    """The files of a library: ``objects/ab/<sha256>.pdf`` and the parts in ``staging/``."""

    def __init__(self, library: Path, *, free_space_min: int = 0) -> None:
        self.root = library / "objects"
        self.staging = library / "staging"
        self.free_space_min = free_space_min
        # Folders with a new name in them; filled by ``finalise``, emptied by ``sync_folders``.
        self._unsynced: set[Path] = set()
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._failed = ""

    def __repr__(self) -> str:
        return f"<Objects {self.root} unsynced={len(self._unsynced)}>"

    def path(self, sha256: str) -> Path:
        """Where the object of a hash is, or would be."""
        if not _SHA256.fullmatch(sha256):
            raise InvariantError(f"not a SHA-256 in hex: {sha256[:80]!r}")
        return self.root / sha256[:2] / f"{sha256}.pdf"

    @staticmethod
    def relative_path(sha256: str) -> str:
        """Where the object of a hash is, relative to the library, as ``list`` and ``export`` name it."""
        return f"objects/{sha256[:2]}/{sha256}.pdf"

    def part_path(self, job_id: str, epoch: int) -> Path:
        """Where the part of a job under an epoch is, or would be."""
        if not _JOB.fullmatch(job_id) or epoch < 0:
            raise InvariantError(f"a part is named by a job id in hex and an epoch: {job_id[:80]!r}, {epoch}")
        return self.staging / f"{job_id}.{epoch}.part"

    def open_part(self, job_id: str, epoch: int) -> Part | None:
        """The part of a job for writing at its end; None while another process or thread holds it.

        What an earlier owner of the job left is taken over, the newest first, if nobody holds it.

        Raises:
            StorageFullError: less than the free space that must stay.
        """
        self.check_space()
        path = self.part_path(job_id, epoch)
        if not path.exists():
            self._take_over(job_id, path)
        for _ in range(OPEN_TRIES_MAX):
            with storage_faults(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            if not _locked(descriptor):
                return None
            if _is_at(descriptor, path):
                part = Part(self, path, descriptor)
                part.load()
                return part
            os.close(descriptor)
        return None

    def left(self, job_id: str) -> tuple[int, str]:
        """Length and note of the newest part that earlier owners of a job left; (0, "") where there is none.

        It is looked at without its lock: whoever goes on from it compares again when it is opened.
        """
        for path in reversed(self.parts(job_id)):
            with contextlib.suppress(FileNotFoundError):
                note = path.with_name(f"{path.name}.about").read_text(encoding="utf-8", errors="replace")
                return path.stat().st_size, note[:ABOUT_BYTES_MAX]
        return 0, ""

    def _take_over(self, job_id: str, path: Path) -> None:
        for old in reversed(self.parts(job_id)):
            try:
                descriptor = os.open(old, os.O_RDWR | os.O_NOFOLLOW)
            except OSError:
                continue  # gone, or nothing we may write to: a fresh part will do
            if not _locked(descriptor):
                continue
            if _is_at(descriptor, old):
                _renamed(old.with_name(f"{old.name}.about"), path.with_name(f"{path.name}.about"))
                _renamed(old, path)
                os.close(descriptor)
                return
            os.close(descriptor)

    def parts(self, job_id: str = "") -> list[Path]:
        """The parts in staging, of one job or of all, in order of their epochs."""
        found = [(_PART.fullmatch(path.name), path) for path in self.staging.glob(f"{job_id}*.part")]
        named = [(int(match[2]), path) for match, path in found if match and job_id in ("", match[1])]
        return [path for _, path in sorted(named)]

    def finalise(self, part: Part) -> Finalised:
        """Give a complete part its final name and close it.

        The name is the hash, so a late rename by a fenced owner puts the same bytes there. Say
        "finalised" only after ``sync_folders``.

        Raises:
            StorageFullError: no room for the name.
            StoreFailedError: the disk failed.
        """
        sha256, size = part.sha256(), part.length
        path = self.path(sha256)
        part.sync()
        with storage_faults(path):
            held = self.has(sha256, size)
            path.parent.mkdir(exist_ok=True)
            part.path.rename(path)
        with self._lock:
            # objects/ always: another process may have made the ab/ a moment ago and not fsynced it yet.
            self._unsynced.update((path.parent, self.root))
        with storage_faults(path):
            part._about_path.unlink(missing_ok=True)
        part.close()
        return Finalised(sha256, size, path, held)

    def adopt(self, sha256: str) -> None:
        """Have the name of an object that is there made durable by the next ``sync_folders``.

        Whoever renamed it may have died before the folder was fsynced. It is young again, so that nobody who
        clears away old files takes it for nobody's.
        """
        with storage_faults(self.path(sha256)):
            os.utime(self.path(sha256))
        with self._lock:
            self._unsynced.update((self.path(sha256).parent, self.root))

    def sync_folders(self) -> int:
        """Make the names given by ``finalise`` durable, each folder once; returns how many there were.

        Raises:
            StoreFailedError: an fsync failed, now or before: start the process again, never retry.
        """
        with self._syncing:  # whoever comes second must not return before the first one's fsync
            if self._failed:
                raise StoreFailedError(f"an fsync in {self.root} failed before ({self._failed}): start again")
            with self._lock:
                folders, self._unsynced = self._unsynced, set()
            try:
                for folder in sorted(folders, reverse=True):
                    with storage_faults(folder):
                        sync_folder(folder)
            except (StoreFailedError, StorageFullError) as error:
                self._failed = str(error)
                raise
            return len(folders)

    def size(self, sha256: str) -> int | None:
        """Size of an object in bytes; None where there is none; raises StoreFailedError as ``verify``."""
        with storage_faults(self.path(sha256)):
            try:
                status = self.path(sha256).lstat()
            except FileNotFoundError:
                return None
        return status.st_size if status.st_mode & 0o170000 == 0o100000 else None

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether an object is there, of that size where one is given."""
        found = self.size(sha256)
        return found is not None and size in (None, found)

    def verify(self, sha256: str) -> bool:
        """Whether an object is there and its bytes have the hash of its name; reads all of it."""
        return self.size(sha256) is not None and hash_file(self.path(sha256)) == sha256

    def damage(self, sha256: str, size: int) -> Damage:
        """What is wrong with an object of ``size`` bytes; reads all of it.

        One that cannot be read is as good as lost: whoever has its bytes may put them in its place.

        Raises:
            StoreFailedError: it was not even tried: no room for another open file, or no right to read it.
        """
        try:
            found = self.size(sha256)
            if found != size:
                return "missing" if found is None else "size"
            return "" if self.verify(sha256) else "hash"
        except StoreFailedError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _OF_THE_PROCESS:
                raise
            return "unreadable"

    def held(self) -> Iterator[tuple[str, Path]]:
        """Hash (``""`` for a file with a foreign name) and path of everything in ``objects/``, in order."""
        for path in sorted(self.root.glob("*/*")):
            yield path.stem if _SHA256.fullmatch(path.stem) and path == self.path(path.stem) else "", path

    def strays(self) -> Iterator[Path]:
        """What stands where quire has folders alone, and is none: a link or a file, in order."""
        for path in (self.root, self.staging, *sorted(self.root.glob("*"))):
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                yield path

    def check_space(self, need: int = 0) -> None:
        """Raise StorageFullError when ``need`` more bytes would leave less free than must stay."""
        with storage_faults(self.staging):
            status = os.statvfs(self.staging)
        free = status.f_bavail * status.f_frsize
        if free - need < self.free_space_min:
            raise StorageFullError(
                f"{free} bytes are free at {self.staging}, {self.free_space_min} must stay (and {need} are "
                "needed): make room, or lower download.free_space_min"
            )


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; raises StoreFailedError when it cannot be read."""
    with storage_faults(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_file(path: Path) -> str:
    """MD5 (hex) of a file's bytes, as object stores state it; raises StoreFailedError as ``hash_file``."""
    with storage_faults(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _locked(descriptor: int) -> bool:
    """Lock a file for us alone; closes it and says no when somebody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked file still has its name: it may have been moved between open and lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _renamed(old: Path, new: Path) -> None:
    with storage_faults(old):
        try:
            old.rename(new)
        except FileNotFoundError:
            return
