"""The shim between a program and its disk: ``faultline.c``, built at first use, and the record it writes.

A shim and not a mock: what is interposed is the C library's calls, so LMDB's own are seen as well as ours.
Calls that the C library makes inside itself (``fopen``) are not; neither product nor LMDB writes by those,
which ``powerloss.explained`` checks: every byte on the disk must come from a recorded call.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

from ...errors import EnvironmentFault, InvariantError

SOURCE = Path(__file__).with_name("faultline.c")
BUILD_S = 60.0
"""How long the compiler may take, in seconds."""
_MAGIC = 0x51544C46
_head = struct.Struct("=IHHqqqqiiIIII")
NAMES = (
    "mark",
    "open",
    "openat",
    "write",
    "pwrite",
    "writev",
    "pwritev",
    "fsync",
    "fdatasync",
    "msync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "link",
    "linkat",
)
"""The calls, by their number in the record; ``mark`` is a word of the script."""
SYNCS = frozenset({"fsync", "fdatasync", "msync"})
WRITES = frozenset({"write", "pwrite", "writev", "pwritev"})


class Fault(IntEnum):
    """What becomes of the call that a fault falls on."""

    NONE = 0
    KILL_BEFORE = 1
    """The process is killed, the call is not made."""
    KILL_AFTER = 2
    """The process is killed when the call is made."""
    EIO = 3
    ENOSPC = 4
    EIO_AFTER = 5
    """The call is made and says EIO."""
    SHORT = 6
    """Half of the bytes are written, and it says so; other calls are made as they are."""
    FULL = 7
    """From this call on all that needs room says ENOSPC, and ``statvfs`` that nothing is free."""
    FULL_SHORT = 8
    """As ``FULL``, and the first write is cut short instead."""


class Order(msgspec.Struct, frozen=True):
    """What the shim is to do."""

    fault: Fault = Fault.NONE
    at: int = 0
    """The number of the call, from 1."""
    span: int = -1
    """Refusals of ``FULL`` until space returns; -1: it never does."""
    data: bool = False
    """Whether the bytes of the writes are recorded."""


class Call(msgspec.Struct, frozen=True):
    """One call, or one mark, as the shim wrote it down."""

    name: str
    number: int
    """From 1; 0 for a mark, or an open that creates nothing."""
    fault: Fault
    result: int
    error: int
    fd: int
    offset: int
    """Of a write; the new size for a truncation."""
    flags: int
    path: str
    """Below the folder, ``.`` the folder itself; the text of a mark."""
    other: str
    """The new name of a rename or link."""
    data: bytes


def missing() -> str:
    """Why the shim cannot be had here; ``""`` when it can."""
    if os.uname().sysname != "Linux" or struct.calcsize("P") != 8:
        return "the disk's shim needs 64-bit Linux"
    return "" if _compiler() else "the disk's shim needs a C compiler (cc), and there is none"


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc"))


@cache
def library() -> Path:
    """The built shim; compiled at its first use on this machine, anew when its source changed.

    Raises:
        EnvironmentFault: there is no compiler, or it failed.
    """
    compiler = _compiler()
    if compiler is None:
        raise EnvironmentFault(missing())
    digest = sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"quire-faultline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise EnvironmentFault(f"{folder} belongs to somebody else: remove it")
    built = folder / f"{digest}.so"
    if not built.exists():
        _build(compiler, built)
    return built


def _build(compiler: str, built: Path) -> None:
    fresh = built.with_name(f"{built.name}.{os.getpid()}")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(fresh), str(SOURCE), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode:
        raise EnvironmentFault(f"{compiler} cannot build {SOURCE}: {done.stderr[-500:]}")
    fresh.rename(built)


def arm(folder: Path, record: Path, order: Order) -> None:
    """Have the shim that is loaded into this process watch a folder, from its first call on."""
    shim = ctypes.CDLL(None)
    armed = shim.faultline_arm(
        os.fsencode(folder),
        os.fsencode(record),
        ctypes.c_int(order.fault),
        ctypes.c_long(order.at),
        ctypes.c_long(order.span),
        ctypes.c_int(order.data),
    )
    if not armed:
        raise EnvironmentFault(f"the shim cannot write {record}")


def mark(text: str) -> None:
    """Put a word into the record, between the calls."""
    ctypes.CDLL(None).faultline_mark(text.encode())


def calls(record: Path, folder: Path) -> Iterator[Call]:
    """What was written down, in order; nothing where nothing was."""
    data = record.read_bytes() if record.exists() else b""
    at, root = 0, os.fspath(folder)
    while at < len(data):
        magic, op, fault, number, result, offset, flags, fd, error, path_n, other_n, data_n, _ = (
            _head.unpack_from(data, at)
        )
        if magic != _MAGIC:
            raise InvariantError(f"the record {record} is no record of the shim at byte {at}")
        path_end = at + _head.size + path_n
        path, other = data[at + _head.size : path_end], data[path_end : path_end + other_n]
        at = path_end + other_n + data_n
        name = NAMES[op]
        yield Call(
            name=name,
            number=number,
            fault=Fault(fault),
            result=result,
            error=error,
            fd=fd,
            offset=offset,
            flags=flags,
            path=path.decode() if name == "mark" else _below(path, root),
            other=_below(other, root),
            data=data[path_end + other_n : at],
        )


def _below(path: bytes, root: str) -> str:
    return os.path.relpath(os.fsdecode(path), root) if path else ""
