"""The slots of a library, shared by all its workers on the machine: a small table in one file.

A reservation is one read and one write of a record under an exclusive flock, some microseconds. The kernel
lets go of a dead worker's lock, so nobody waits for it; for one that was stopped while it held the lock
nobody waits longer than ``LOCK_TRIES`` times ``LOCK_PAUSE_S``, since one request too early is less harm than
an event loop that stands still. Nothing is synced to disk: after a power loss the boot is another one, and
the times of another boot say nothing.

The table is set-associative, like a processor's cache: a key's digest names a set of ``WAYS`` records, and
the key has one of them for as long as its queue reaches into the future. While all of a set do, a further
key shares the queue of one of them. A record whose checksum is wrong is free.

Rejected: a record in the log per request (a commit each), mmap (SIGBUS when the file is cut short), and a
file per key (no bound).
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

from ...errors import EnvironmentFault, InvariantError
from .slots import SPARE_MAX, Queue

SETS = 512
WAYS = 8
"""Records of a set; ``SETS * WAYS`` keys are kept at once, in half a mebibyte."""
LOCK_TRIES = 200
"""How often a lock that another worker holds is tried before the work goes on without it."""
LOCK_PAUSE_S = 0.0002
"""Time between two tries, in seconds."""
OPENS_MAX = 3
"""How often a file that is removed or cut under our hands is opened anew for one reservation."""
_MAGIC = b"quire slots 1\n"
_RECORD = struct.Struct(f"<16sq{SPARE_MAX}q")
_SUM = struct.Struct("<I")
_RECORD_BYTES = 128
_SET_BYTES = _RECORD_BYTES * WAYS
_TABLE_BYTES = _SET_BYTES * (1 + SETS)
"""The header has a set's place to itself, so that no set straddles two pages."""


class SlotTable:
    """The table at a path; made, and opened, when it is first asked.

    Fits the protocol ``slots.Slots``. Open it after a fork, never before: the two would hold one lock.
    """

    def __init__(self, path: Path, *, boot_id: str) -> None:
        """``boot_id`` names the boot whose clock the times are on; a table of another boot is begun anew."""
        self.path = path
        head = _MAGIC + struct.pack("<III", SETS, WAYS, _RECORD_BYTES) + _digest(boot_id)
        self._header = head + _SUM.pack(crc32(head))
        self._file = -1
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<SlotTable {self.path}{'' if self._file >= 0 else ' closed'}>"

    def peek(self, key: str, now_ns: int) -> int:
        """The slot that ``reserve`` would give; waits for no other worker.

        A record that is being written at this moment may look free: who acts on it reserves first.

        Raises:
            EnvironmentFault: the file cannot be made or read.
        """
        digest = _digest(key)
        with self._mine():
            _, _, queue = _found(self._read(digest), digest, now_ns)
        return queue.first_free(now_ns)

    def reserve(self, key: str, now_ns: int, interval_ns: int) -> int:
        """Take the next slot.

        Raises:
            EnvironmentFault: the file cannot be made, read or written.
        """
        digest = _digest(key)
        with self._mine(), self._alone():
            way, owner, queue = _found(self._read(digest), digest, now_ns)
            queue, at_ns = queue.taken(now_ns, interval_ns)
            self._write(digest, way, _encoded(owner, queue))
        return at_ns

    def give_back(self, key: str, at_ns: int, now_ns: int, interval_ns: int) -> None:
        """Hand a slot that is not used to whoever reserves next.

        Raises:
            EnvironmentFault: the file cannot be made, read or written.
        """
        digest = _digest(key)
        with self._mine(), self._alone():
            way, owner, queue = _found(self._read(digest), digest, now_ns)
            self._write(digest, way, _encoded(owner, queue.with_returned(at_ns, now_ns, interval_ns)))

    def close(self) -> None:
        """Let go of the file; whoever asks again opens it again."""
        with self._lock:
            self._closed()

    # -- the file -------------------------------------------------------------------------------------

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """Keep the other threads of this process out; have the file open."""
        with self._lock:
            try:
                if self._file < 0:
                    self._opened()
                yield
            except OSError as error:
                raise EnvironmentFault(
                    f"cannot use the table of rate limits {self.path}: {error}; mend that, "
                    "or remove the file while no worker runs (it is made anew)"
                ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other workers out."""
        for _ in range(OPENS_MAX):
            self._locked()
            status = os.fstat(self._file)
            if status.st_nlink and status.st_size >= _TABLE_BYTES:
                break
            # Removed, and a lock on it keeps nobody out; or cut, and the next to open it begins it anew.
            self._closed()
            self._opened()
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _opened(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o644)
        self._locked()
        try:
            if os.pread(self._file, len(self._header), 0) != self._header:
                self._begun_anew()
        except BaseException:
            self._closed()
            raise
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def _begun_anew(self) -> None:
        # In place, since others may have the file open; the header last, since a table without is none.
        os.ftruncate(self._file, 0)
        zeros = bytes(_TABLE_BYTES - _SET_BYTES)
        if os.pwrite(self._file, zeros, _SET_BYTES) != len(zeros):
            raise OSError("the table was not written as a whole")
        os.pwrite(self._file, self._header, 0)

    def _locked(self) -> None:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(LOCK_PAUSE_S)

    def _closed(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, digest: bytes) -> bytes:
        return os.pread(self._file, _SET_BYTES, _place(digest)).ljust(_SET_BYTES, b"\0")

    def _write(self, digest: bytes, way: int, record: bytes) -> None:
        os.pwrite(self._file, record, _place(digest) + way * _RECORD_BYTES)


# -- records ------------------------------------------------------------------------------------------


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()


def _place(digest: bytes) -> int:
    return _SET_BYTES * (1 + int.from_bytes(digest[:4], "little") % SETS)


def _found(records: bytes, digest: bytes, now_ns: int) -> tuple[int, bytes, Queue]:
    """The record for a key: which it is in its set, the digest that owns it, and its queue."""
    for way in range(WAYS):
        if records.startswith(digest, way * _RECORD_BYTES):
            return way, digest, _decoded(records, way)[1]
    for way in range(WAYS):
        if _decoded(records, way)[1].is_idle(now_ns):
            return way, digest, Queue()
    way = digest[-1] % WAYS
    return (way, *_decoded(records, way))


def _encoded(owner: bytes, queue: Queue) -> bytes:
    spare = (*queue.spare, *(0,) * (SPARE_MAX - len(queue.spare)))
    body = _RECORD.pack(owner, queue.next_ns, *spare)
    return body + _SUM.pack(crc32(body))


def _decoded(records: bytes, way: int) -> tuple[bytes, Queue]:
    """Owner and queue of a record; an empty queue where the record is none."""
    start = way * _RECORD_BYTES
    body = records[start : start + _RECORD.size]
    if _SUM.unpack_from(records, start + _RECORD.size)[0] != crc32(body):
        return b"", Queue()
    owner, next_ns, *spare = _RECORD.unpack(body)
    return owner, Queue(next_ns, tuple(slot for slot in spare if slot))


if _RECORD.size + _SUM.size > _RECORD_BYTES or len(_MAGIC) > _SET_BYTES:
    raise InvariantError("a record of the slot table does not fit its place")
