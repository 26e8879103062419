"""The answers that the cache keeps: one file each in one folder, shared by all workers of a library.

A file is written beside its place and renamed into it, without a sync: whoever is killed on the way, or loses
power, leaves a file that nobody reads or one whose digest is wrong, and both are a miss. No name comes from
the network: a file is called by a hash. Whatever the disk refuses (full, read-only) is not kept, and nothing
fails for it.

Rejected: hishel's own storage in SQLite (its rows hold the URL, and with it e-mail addresses, in clear, it
has no bound in bytes, and a damaged database is an error), and the log (its readers would carry whole pages).
"""

from __future__ import annotations

import logging
import os
import re
import threading
from hashlib import blake2b
from pathlib import Path

import msgspec

from ..runtime.ports import NANOSECONDS, Clock

log = logging.getLogger(__name__)

BLOCK_BYTES = 4_096
"""What a file takes on a disk is counted in such blocks, so that small answers have a bound as well."""
SLACK = 16
"""A worker counts the folder anew after storing this part (one ``SLACK``-th) of the bound."""
TRIM = 8
"""Eviction goes on until this part (one ``TRIM``-th) of the bound is free."""
LEFTOVER_S = 3_600
"""Age at which a file that was never renamed into its place was left by the dead, in seconds."""
_MAGIC = b"quire cache 1\n"
_DIGEST_BYTES = 16
_NAME = re.compile(r"[0-9a-f]{64}")
_HIDDEN = re.compile(r"\.[0-9a-f]{64}\.[0-9.]+")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One answer as it is kept."""

    name: str
    """The hash that it is kept under."""
    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, values as Latin-1; cookies and hop-by-hop fields are not among them."""
    body: bytes
    """Decoded, whole; empty for a redirect."""
    received_ns: int
    """When it came or was last confirmed, on the wall clock."""
    age_s: float
    """Its age at that time: corrected_initial_age of RFC 9111, 4.2.3."""
    vary: dict[str, str]
    """The request header fields that it varies by, each with the hash of the value that was sent."""


class StoreStatistics(msgspec.Struct, frozen=True):
    """What a worker's store did so far."""

    stored: int
    refused: int
    """Not stored: too large, no space, or the disk refused."""
    evicted: int
    damaged: int
    """Found damaged, and removed."""


class CacheStore:
    """The folder at a path, made when something is first stored; safe in threads and among processes.

    The bound holds for what all workers store together, but for what each stores between two counts, which
    is at most one ``SLACK``-th of it.
    """

    def __init__(self, folder: Path, *, bytes_max: int, free_space_min: int, clock: Clock) -> None:
        """``bytes_max`` bounds the folder; nothing is stored below ``free_space_min`` bytes of free disk."""
        self._folder = folder
        self._place = str(folder)  # joining text costs a tenth of joining paths
        self._bytes_max = bytes_max
        self._free_space_min = free_space_min
        self._clock = clock
        self._lock = threading.Lock()
        self._bytes: int | None = None
        """Bytes in the folder as last counted, with what was stored since; None before the first count."""
        self._since_count = 0
        self._stored = self._refused = self._evicted = self._damaged = 0

    def __repr__(self) -> str:
        return f"<CacheStore {self._folder} bytes={self._bytes} of {self._bytes_max}>"

    def statistics(self) -> StoreStatistics:
        """The counts as they are now."""
        return StoreStatistics(self._stored, self._refused, self._evicted, self._damaged)

    def has(self, name: str) -> bool:
        """Whether there is an answer of that name; one look at the folder, some microseconds."""
        return os.access(f"{self._place}/{name}", os.R_OK)

    def get(self, name: str) -> Kept | None:
        """The answer of that name; None where there is none, or it is damaged."""
        path = self._folder / name
        try:
            data = self._read(path)
            os.utime(path)  # the oldest is evicted first, and this one has just been of use
        except OSError:
            return None
        kept = _decoded(data, name)
        if kept is None:
            self._damaged += 1
            self.drop(name)
        return kept

    def put(self, kept: Kept) -> bool:
        """Keep an answer in place of the one of the same name; False when it cannot be kept."""
        data = _encoded(kept)
        try:
            fits = _on_disk(len(data)) <= self._bytes_max and self._has_space(len(data))
            if fits:
                self._write(kept.name, data)
        except OSError as error:
            if not self._refused:
                log.warning("the cache %s cannot be written, and the run goes on: %s", self._folder, error)
            fits = False
        self._stored += fits
        self._refused += not fits
        return fits

    def drop(self, name: str) -> None:
        """Keep the answer of that name no longer."""
        _removed(self._folder / name)

    # -- files ----------------------------------------------------------------------------------------

    def _has_space(self, size: int) -> bool:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - size >= self._free_space_min

    def _read(self, path: Path) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(self._bytes_max)

    def _write(self, name: str, data: bytes) -> None:
        hidden = self._folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(hidden, flags, 0o600), "wb") as file:
                file.write(data)
            hidden.replace(self._folder / name)
        except BaseException:
            _removed(hidden)
            raise
        with self._lock:
            self._account(_on_disk(len(data)))

    # -- the bound ------------------------------------------------------------------------------------

    def _account(self, size: int) -> None:
        """Count what was stored; count the folder anew, and evict, where it may be over the bound."""
        self._since_count += size
        if self._bytes is not None:
            self._bytes += size
            if self._bytes <= self._bytes_max and self._since_count <= self._bytes_max // SLACK:
                return
        files = self._files()
        self._bytes, self._since_count = sum(size for _, size, _ in files), 0
        if self._bytes > self._bytes_max:
            self._evict(files)

    def _evict(self, files: list[tuple[float, int, str]]) -> None:
        """Remove what was longest of no use."""
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._bytes_max - self._bytes_max // TRIM:
                break
            _removed(Path(path))
            total -= size
            self._evicted += 1
        self._bytes = total

    def _files(self) -> list[tuple[float, int, str]]:
        """Each file's time of last use, size on disk and path, oldest first; leftovers of the dead go."""
        files = []
        leftover_s = self._clock.wall_ns() / NANOSECONDS - LEFTOVER_S
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # evicted by another worker
                if _NAME.fullmatch(entry.name):
                    files.append((status.st_mtime, _on_disk(status.st_size), entry.path))
                elif _HIDDEN.fullmatch(entry.name) and status.st_mtime < leftover_s:
                    _removed(Path(entry.path))
        return sorted(files)


def _removed(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # a read-only disk: what is damaged or old stays a miss
        log.debug("cannot remove %s: %s", path, error)


def _on_disk(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _encoded(kept: Kept) -> bytes:
    body = msgspec.msgpack.encode(kept)
    return b"".join((_MAGIC, blake2b(body, digest_size=_DIGEST_BYTES).digest(), body))


def _decoded(data: bytes, name: str) -> Kept | None:
    """The record in a file's bytes; None when they are not what was written under that name."""
    start = len(_MAGIC) + _DIGEST_BYTES
    body = data[start:]
    if not data.startswith(_MAGIC + blake2b(body, digest_size=_DIGEST_BYTES).digest()):
        return None
    try:
        kept = msgspec.msgpack.decode(body, type=Kept)
    except msgspec.MsgspecError:
        return None  # of another version of quire
    return kept if kept.name == name else None
