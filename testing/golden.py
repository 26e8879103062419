"""Golden logs: logs that earlier versions wrote, kept for good, which every later version must replay.

``python -m quire.testing.golden check`` reads each one again and compares; ``write`` runs the scenarios
of ``golden_runs`` with the present code and adds logs of the present schema (one that is there is never
touched); ``record`` writes the digests anew. Two kinds of digests are kept beside each log:

* ``events``, one for each schema that ever read the log: the events as values with names, fields that equal
  their default left out. A field added at an end does not change it, and nothing else may. A new schema adds
  its own; those of earlier schemas stay.
* ``rows``, one for each projection: its tables as bytes. It changes when a projection is changed on purpose,
  together with the projection's version, and with nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from ..actors.runtime.ports import SystemClock
from ..errors import DamagedError, InvariantError, QuireError, UsageError
from ..events.facts import type_of
from ..events.record import Recorded
from ..store.codec import CHAIN_BYTES, GENESIS, Commit, CommitCodec
from ..store.domain import QUIRE
from ..store.interface import Domain
from ..store.lmdb_store import LmdbStore
from ..store.replay import View

FOLDER = Path("tests") / "golden"
"""Where the logs of quire's own repository are, from its root."""
SUFFIX = ".log.gz"
FORM = "quire golden log 1"
LOG_BYTES_MAX = 64 << 10
"""Greatest size of a golden log's file: they are carried by everybody for good."""
MAP_SIZE = 64 << 20
_pair = struct.Struct(">QQ")
_head = struct.Struct(">QQ32s")


class Golden(msgspec.Struct, frozen=True):
    """One golden log."""

    name: str
    commits: tuple[Commit, ...]
    """Position of the first event and the raw value, as the store kept them."""

    def events(self, domain: Domain = QUIRE) -> list[Recorded[Any]]:
        """All events, lifted to the schema of ``domain``; raises as ``CommitCodec.decode``."""
        codec, previous = CommitCodec(domain), GENESIS
        found: list[Recorded[Any]] = []
        for commit in self.commits:
            if commit[0] != len(found) + 1:
                raise DamagedError(f"{self.name}: a commit begins at {commit[0]}, not at {len(found) + 1}")
            found += codec.decode(commit, previous)
            previous = commit[1][:CHAIN_BYTES]
        return found


class Digests(msgspec.Struct, forbid_unknown_fields=True):
    """What is kept beside a golden log; all digests are SHA-256 in hex."""

    schema: int
    """The schema that it was written under."""
    count: int
    """Events in the log."""
    types: dict[str, int]
    """Events by type, for those who choose a log."""
    events: dict[str, str]
    """Schema → digest of the events as values of that schema."""
    rows: dict[str, str]
    """Projection → digest of its tables."""


# Files


def pack(commits: Iterable[Commit]) -> bytes:
    """The bytes of a golden log's file; the same commits give the same bytes."""
    body = msgspec.msgpack.encode([FORM, list(commits)])
    return gzip.compress(body, mtime=0)


def load(path: Path) -> Golden:
    """Read a golden log.

    Raises:
        UsageError: the file is none.
    """
    try:
        form, commits = msgspec.msgpack.decode(
            gzip.decompress(path.read_bytes()), type=tuple[str, list[Commit]]
        )
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path} is no golden log: {error}") from error
    if form != FORM:
        raise UsageError(f"{path} is of another form ({form[:40]!r}): use the version that wrote it")
    return Golden(path.name.removesuffix(SUFFIX), tuple(commits))


def paths(folder: Path) -> list[Path]:
    """The golden logs below a folder, in order."""
    return sorted(folder.rglob(f"*{SUFFIX}"))


def digests_path(log: Path) -> Path:
    """Where a log's digests are."""
    return log.with_name(log.name.removesuffix(SUFFIX) + ".json")


def kept_digests(log: Path) -> Digests:
    """The recorded digests of a log; raises UsageError where there are none."""
    try:
        return msgspec.json.decode(digests_path(log).read_bytes(), type=Digests)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{log} has no digests that can be read: {error}") from error


# Digests


def plain(value: Any) -> Any:
    """A value with the names of its fields, without those that equal their default."""
    if isinstance(value, msgspec.Struct):
        return {field.name: plain(getattr(value, field.name)) for field in _told(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _told(value: msgspec.Struct) -> Iterator[msgspec.structs.FieldInfo]:
    for field in msgspec.structs.fields(value):
        made = field.default_factory
        default = made() if made is not msgspec.NODEFAULT else field.default
        if getattr(value, field.name) != default:
            yield field


def as_value(recorded: Recorded[Any]) -> dict[str, Any]:
    """An event with its envelope, as the digest takes it."""
    envelope = {**plain(recorded), "event": plain(recorded.event)}
    return {**envelope, "type": type_of(recorded.event)}


def events_digest(values: Iterable[dict[str, Any]]) -> str:
    """SHA-256 over events as ``as_value`` gives them: canonical JSON, one a line."""
    digest, encode = hashlib.sha256(), msgspec.json.Encoder(order="sorted").encode
    for value in values:
        digest.update(encode(value) + b"\n")
    return digest.hexdigest()


def rows_digests(events: list[Recorded[Any]], domain: Domain = QUIRE) -> dict[str, str]:
    """Projection → digest of its tables, folded from the events."""
    found: dict[str, str] = {}
    for projection in domain.projections:
        view = View(dataclasses.replace(domain, projections=(projection,)))
        view.fold(events)
        found[projection.name] = view.digest()
    return found


def digests_of(golden: Golden, kept: Digests | None) -> Digests:
    """The digests of a log by the present code; those of earlier schemas are kept as they were recorded."""
    events = golden.events()
    now = {str(QUIRE.schema): events_digest(map(as_value, events))}
    return Digests(
        schema=kept.schema if kept else QUIRE.schema,
        count=len(events),
        types=dict(sorted(Counter(type_of(one.event) for one in events).items())),
        events={**(kept.events if kept else {}), **now},
        rows=rows_digests(events),
    )


def problems(log: Path) -> list[str]:
    """What the present code makes of a log otherwise than was recorded; empty when all is well."""
    kept = kept_digests(log)
    try:
        now = digests_of(load(log), kept)
    except QuireError as error:
        return [f"{log}: {error}"]
    found = []
    if str(QUIRE.schema) not in kept.events:
        found.append(f"{log}: no digest of schema {QUIRE.schema}: run `record` once, with the new schema")
    elif now.events != kept.events:
        found.append(f"{log}: its events are read otherwise than before: an upcaster or a default is missing")
    names = sorted({*now.rows, *kept.rows})
    changed = [name for name in names if now.rows.get(name) != kept.rows.get(name)]
    meant = "where that is meant, raise its version and `record`"
    return found + [f"{log}: the projection {name} folds otherwise: {meant}" for name in changed]


# A log as a store


def restore(golden: Golden, folder: Path) -> LmdbStore:
    """Put a log's commits, byte for byte, into an environment, and open that; its tables are folded then.

    Args:
        golden: the log.
        folder: an empty folder.

    Raises:
        DamagedError: the log cannot be read.
    """
    states: dict[str, tuple[int, int]] = {}
    firsts: list[tuple[str, int, int]] = []
    codec, previous, position = CommitCodec(QUIRE), GENESIS, 0
    for commit in golden.commits:
        seen: set[str] = set()
        for one in codec.decode(commit, previous):
            if one.stream not in seen:
                firsts.append((one.stream, one.version, commit[0]))
            seen.add(one.stream)
            states[one.stream], position = (one.version, one.epoch), one.position
        previous = commit[1][:CHAIN_BYTES]
    with lmdb.open(str(folder), map_size=MAP_SIZE, max_dbs=8) as env, env.begin(write=True) as txn:
        tables = {name: env.open_db(name, txn) for name in (b":commits", b":streams", b":meta")}
        dups = env.open_db(b":stream_commits", txn, dupsort=True, dupfixed=True)
        for first, value in golden.commits:
            txn.put(first.to_bytes(8, "big"), value, db=tables[b":commits"])
        for stream, state in states.items():
            txn.put(stream.encode(), _pair.pack(*state), db=tables[b":streams"])
        for stream, version, first in firsts:
            txn.put(stream.encode(), _pair.pack(version, first), db=dups)
        txn.put(b"head", _head.pack(position, len(golden.commits), previous), db=tables[b":meta"])
    return LmdbStore(folder, QUIRE, run_id="golden", clock=SystemClock(), map_size=MAP_SIZE)


# The command


def write(folder: Path, only: str = "") -> list[Path]:
    """Run the scenarios that have no log of the present schema yet, and keep their logs.

    Raises:
        InvariantError: a log is larger than a golden one may be.
    """
    from .golden_runs import RUNS

    made = []
    for name, run in RUNS.items():
        path = folder / f"schema-{QUIRE.schema}" / f"{name}{SUFFIX}"
        if path.exists() or only not in ("", name):
            continue
        packed = pack(run())
        if len(packed) > LOG_BYTES_MAX:
            raise InvariantError(
                f"the log {name} has {len(packed)} bytes, above {LOG_BYTES_MAX}: take fewer works"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        record(path)
        made.append(path)
    return made


def record(log: Path) -> bool:
    """Write the digests of a log as the present code makes them; False when they were so already."""
    path = digests_path(log)
    digests = digests_of(load(log), kept_digests(log) if path.exists() else None)
    text = msgspec.json.format(msgspec.json.encode(digests), indent=2) + b"\n"
    if path.exists() and path.read_bytes() == text:
        return False
    path.write_bytes(text)
    return True


def main(arguments: list[str] | None = None) -> int:
    """``write``, ``record`` or ``check``; 1 when a log is read otherwise than was recorded."""
    parser = argparse.ArgumentParser(prog="python -m quire.testing.golden", description=__doc__)
    parser.add_argument("action", choices=("write", "record", "check"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument("--only", default="", metavar="NAME", help="write this log alone")
    options = parser.parse_args(arguments)
    try:
        return _act(options)
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _act(options: argparse.Namespace) -> int:
    if options.action == "write":
        for path in write(options.folder, options.only):
            print(f"wrote {path}, {path.stat().st_size} bytes")
        return 0
    logs = paths(options.folder)
    if not logs:
        raise UsageError(f"there are no golden logs below {options.folder}: name their folder with --folder")
    if options.action == "record":
        changed = [log for log in logs if record(log)]
        print(f"{len(logs)} golden logs, the digests of {len(changed)} are new")
        return 0
    found = [problem for log in logs for problem in problems(log)]
    print("\n".join(found) or f"{len(logs)} golden logs are read as they were written")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
