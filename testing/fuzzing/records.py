# ruff: noqa: E501 - tables of bodies are easier to read with one body in one line
"""What lies on the disk as targets: commits of the log, rows of its tables, slots, notes beside parts."""

from __future__ import annotations

import functools
import hashlib
import struct
from typing import Any

import msgspec

from ...actors.sources.resuming import Held, held_of
from ...actors.web.slot_table import SlotTable
from ...errors import DamagedError, UsageError
from ...events import facts
from ...events.job import JobRow
from ...events.projections import HostRow, LibraryRow, RunRow
from ...events.record import Batch
from ...events.work import Work
from ...store.codec import CHAIN_BYTES, GENESIS, CommitCodec, Draft, chained
from ...store.domain import QUIRE
from ...store.objects import ABOUT_BYTES_MAX, Objects
from ...store.projecting import Projector, decoded
from .files import folder
from .target import Seen, Target, check

_NOW_NS = 10**15
_SECOND_NS = 10**9
_JOB_ID = "ab" * 32
_URL = "https://journal.example/x.pdf"
_BOOT = "boot"


@functools.cache
def _codec() -> CommitCodec:
    return CommitCodec(QUIRE)


def _commit(raw: bytes) -> Seen:
    """A body alone, and as a commit whose chain holds; with a byte of the chain changed it is refused."""
    codec, value = _codec(), chained(GENESIS, raw) + raw
    try:
        codec.decode((7, value[:1] + bytes([value[1] ^ 1]) + value[2:]), GENESIS)
    except DamagedError:
        pass
    else:
        check(False, "a commit that does not follow is refused")
    try:
        recorded = codec.decode((7, value), GENESIS)
    except (DamagedError, UsageError) as refused:
        check("position 7" in str(refused), "a refusal says where")
        return Seen("newer" if isinstance(refused, UsageError) else "damaged", str(refused))
    check(len(value) >= CHAIN_BYTES, "a commit has its chain")
    check(
        [one.position for one in recorded] == list(range(7, 7 + len(recorded))), "positions follow each other"
    )
    return Seen("read", recorded)


@functools.cache
def _projector() -> Projector:
    return Projector(QUIRE)


def _row(raw: bytes) -> Seen:
    """A value under every table of the library."""
    said: list[Any] = []
    for table, decode in _projector().decoders.items():
        try:
            said.append(decoded(table, b"key", raw, decode))
        except DamagedError as refused:
            check(table in str(refused), "a refusal names the table")
            said.append(None)
    rows = [row for row in said if isinstance(row, msgspec.Struct)]
    return Seen(type(rows[0]).__name__ if rows else "damaged", [repr(row) for row in rows])


def _slots(raw: bytes) -> Seen:
    """A file of any bytes is a table of rate limits, or is begun anew as one; slots stay in order."""
    path = folder() / "slots"
    path.write_bytes(raw)
    table = SlotTable(path, boot_id=_BOOT)
    try:
        first = table.reserve("key", _NOW_NS, _SECOND_NS)
        second = table.reserve("key", _NOW_NS, _SECOND_NS)
        table.give_back("key", second, _NOW_NS, _SECOND_NS)
        again = table.reserve("key", _NOW_NS, _SECOND_NS)
        check(_NOW_NS <= first < second == again, "slots follow each other, and one given back is handed on")
        check(second - first >= _SECOND_NS, "two slots keep their distance")
        check(table.peek("other", _NOW_NS) >= _NOW_NS, "no slot lies in the past")
    finally:
        table.close()
    return Seen("kept" if first > _NOW_NS else "anew", first)


@functools.cache
def _objects() -> Objects:
    objects = Objects(folder() / "library")
    objects.staging.mkdir(parents=True, exist_ok=True)
    return objects


def _held(raw: bytes) -> Seen:
    """A note beside a part of a hundred bytes: it is believed only where it says what it must."""
    part = _objects().part_path(_JOB_ID, 1)
    part.write_bytes(bytes(100))
    part.with_name(f"{part.name}.about").write_bytes(raw)
    held = held_of(_objects(), _JOB_ID, _URL, boot_id=_BOOT)
    if held is None:
        return Seen("none")
    check(held.boot_id == _BOOT and held.length == 100, "what is held is of this boot, and as long as it is")
    check(not held.total or held.length < held.total, "there is a rest to ask for")
    return Seen("held", held)


# -- bodies of our own


def _events() -> list[facts.Event]:
    work = Work(doi="10.1000/x", pmid="12", title="On the finding of papers")
    return [
        facts.LibraryCreated("lib", True, "1.0"), facts.RunStarted("w", "0" * 16, ("a.txt",), "1.0", 7),
        facts.JobPlanned(work, "pdf", _URL, "0" * 16, "label"), facts.JobListed("0" * 16),
        facts.BreakerChanged("h.example", "open", "http_503", 5, _NOW_NS),
        facts.RunFinished("w", "done", {"finalized": 1}, 12),
        facts.FallbackSummary("success", "", ("direct_oa",), 1, 12, "arxiv_pdf", "arxiv.org", (facts.Step("arxiv_pdf", "success"),)),
    ]  # fmt: skip


def _commits() -> list[bytes]:
    encode = msgspec.msgpack.encode
    bodies = []
    for stream, events in (("library", _events()), (f"job:{_JOB_ID}", _events()[2:3])):
        draft = Draft(6, time_ns=_NOW_NS, run_id="run")
        draft.judge([Batch(stream, tuple(events))], lambda _: (0, 0))
        bodies.append(_codec().encode(GENESIS, draft)[CHAIN_BYTES:])
    return [
        *bodies,
        encode([99, 0, "", []]),
        encode([1, 0, "", []]),
        b"",
        b"\x94\x01",
        encode([0, 0, "r", [["s", 1, 0, 0, []]]]),
    ]


def _rows() -> list[bytes]:
    rows = [JobRow(Work(doi="10.1000/x"), 1, ("0" * 16,)), HostRow("h.example", "open", "http_503", 5, _NOW_NS, _NOW_NS),
            RunRow("w", "0" * 16, ("a.txt",), _NOW_NS), LibraryRow("lib", True, "1.0"), 7, ["x"]]  # fmt: skip
    return [*map(msgspec.msgpack.encode, rows), b"", b"\xc1"]


def _tables() -> list[bytes]:
    path = folder() / "sound-slots"
    table = SlotTable(path, boot_id=_BOOT)
    for key in ("key", "other", "third"):
        for _ in range(3):
            table.reserve(key, _NOW_NS, _SECOND_NS)
    table.close()
    whole = path.read_bytes()
    return [whole, whole[:4096], b"", struct.pack("<III", 1, 2, 3), whole.replace(b"slots 1", b"slots 2")]


def _notes() -> list[bytes]:
    held = Held(hashlib.sha256(_URL.encode()).hexdigest(), '"etag"', _BOOT, 400)
    encode = msgspec.json.encode
    other = [msgspec.structs.replace(held, boot_id="other"), msgspec.structs.replace(held, total=50),
             msgspec.structs.replace(held, url_sha256="")]  # fmt: skip
    return [encode(held), *map(encode, other), b"", b"{", b"{}", encode(held) + b" " * ABOUT_BYTES_MAX]


TARGETS: tuple[Target, ...] = (
    Target("commit", _commit, _commits, frozenset({"read", "damaged", "newer"}), kind="msgpack"),
    Target("row", _row, _rows, frozenset({"damaged", "JobRow", "HostRow", "RunRow", "LibraryRow"}), kind="msgpack"),
    Target("slot_table", _slots, _tables, frozenset({"kept", "anew"})),
    Target("held", _held, _notes, frozenset({"held", "none"}), kind="json"),
)  # fmt: skip
