"""What can be done to a library behind its back, and where the audit must see it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from ...errors import InvariantError
from ...store.codec import CHAIN_BYTES, chained
from ...store.domain import QUIRE
from ...store.lmdb_layout import HEAD, META, NAMES, STREAM_COMMITS, STREAMS, TABLES
from ...store.projecting import Projector
from .specimen import Raw, Specimen

SECTOR_BYTES = 512
FORGERIES_MAX = 1_000
"""Tries to find a commit whose text can be changed and still be decoded."""


class Change(msgspec.Struct, frozen=True):
    """What was done, and where the audit must see it."""

    what: str
    positions: tuple[int, ...] = ()
    """The first problem is at one of these positions; anywhere when empty."""
    path: str = ""
    """A problem names this file."""
    blind: bool = False
    """It hit the file at random, and may have hit what nobody reads: then nothing must have changed."""


Way = Callable[[Specimen, random.Random], Change]


# -- commits


def flip_event(it: Specimen, chance: random.Random) -> Change:
    """One bit of one commit."""
    position, value = chance.choice(it.commits)
    with it.raw() as raw:
        raw.set_commit(position, flipped(value, chance))
    return Change("one bit of a commit", (position,))


def delete_commit(it: Specimen, chance: random.Random) -> Change:
    """One commit is gone."""
    place = chance.randrange(len(it.commits))
    position = it.commits[place][0]
    with it.raw() as raw:
        raw.set_commit(position, None)
    following = it.commits[place + 1][0] if place + 1 < len(it.commits) else it.head.position
    return Change("a commit is gone", (position, following))


def swap_commits(it: Specimen, chance: random.Random) -> Change:
    """Two commits in each other's place."""
    (first, a), (second, b) = sorted(chance.sample(it.commits, 2))
    with it.raw() as raw:
        raw.set_commit(first, b)
        raw.set_commit(second, a)
    return Change("two commits changed places", (first,))


def cut_the_end(it: Specimen, chance: random.Random) -> Change:
    """The last commits are gone; the head record says otherwise."""
    place = chance.randrange(1, len(it.commits))
    with it.raw() as raw:
        for position, _ in it.commits[place:]:
            raw.set_commit(position, None)
    return Change("the end is cut off", (it.commits[place][0], it.head.position))


def insert_commit(it: Specimen, chance: random.Random) -> Change:
    """A commit that stands already, once more behind the end."""
    _, value = chance.choice(it.commits)
    position = it.head.position + 1
    with it.raw() as raw:
        raw.set_commit(position, value)
    return Change("a commit behind the end", (position,))


def rewrite_event(it: Specimen, chance: random.Random) -> Change:
    """Another text in an event, and the chain made anew from there to the head: a careful forger.

    The first seal behind the place shows it, and none before.
    """
    place, body = _forged(it, chance)
    chain = it.commits[place - 1][1][:CHAIN_BYTES] if place else bytes(CHAIN_BYTES)
    with it.raw() as raw:
        for position, value in it.commits[place:]:
            body = body if position == it.commits[place][0] else value[CHAIN_BYTES:]
            chain = chained(chain, body)
            raw.set_commit(position, chain + body)
        meta = raw.db(META)
        head = raw.txn.get(HEAD, db=meta)
        raw.txn.put(HEAD, head[:-CHAIN_BYTES] + chain, db=meta)
    forged = it.commits[place][0]
    sealed = min(seal.position for seal in it.seals if seal.position >= forged)
    return Change("an event forged, the chain made anew", tuple(range(forged, sealed + 1)))


def _forged(it: Specimen, chance: random.Random) -> tuple[int, bytes]:
    """A commit with one letter of one text changed, so that it can still be decoded."""
    for _ in range(FORGERIES_MAX):
        place = chance.randrange(len(it.commits))
        body = bytearray(it.commits[place][1][CHAIN_BYTES:])
        letters = [n for n, byte in enumerate(body) if 97 <= byte <= 102 and 97 <= body[n - 1] <= 102]
        if letters:
            at = chance.choice(letters)
            body[at] = 97 + (body[at] - 96) % 6
            with contextlib.suppress(msgspec.MsgspecError):
                msgspec.msgpack.decode(bytes(body))
                return place, bytes(body)
    raise InvariantError("no text in the log to forge")


# -- what is kept beside the commits


def change_table(it: Specimen, chance: random.Random) -> Change:
    """A bit of a row of a kept table, a row that is gone, or one more: in any table."""
    with it.raw() as raw:
        filled = [name for name in _tables() if raw.entries(name)]
        _change_entry(raw, chance.choice(filled), chance)
    return Change("a row of a table")


def empty_table(it: Specimen, chance: random.Random) -> Change:
    """A whole table is emptied, or is no more."""
    with it.raw() as raw:
        filled = [name for name in _tables() if raw.entries(name)]
        raw.txn.drop(raw.db(chance.choice(filled)), delete=chance.random() < 0.5)
    return Change("a whole table")


def change_streams(it: Specimen, chance: random.Random) -> Change:
    """The version or the epoch by which a stream's appends are judged, or its list of commits."""
    name = chance.choice((STREAMS, STREAM_COMMITS))
    with it.raw() as raw:
        if chance.random() < 0.1:
            raw.txn.drop(raw.db(name), delete=False)
        elif name == STREAM_COMMITS:
            key, value = chance.choice(raw.entries(name))
            raw.txn.delete(key, value, db=raw.db(name))
            if chance.random() < 0.5:
                raw.txn.put(key, flipped(value, chance), db=raw.db(name))
        else:
            _change_entry(raw, name, chance)
    return Change("the index of streams")


def change_record(it: Specimen, chance: random.Random) -> Change:
    """A bit of the record of the head, or of the place and the names of the tables."""
    with it.raw() as raw:
        meta = raw.db(META)
        name = chance.choice((HEAD, TABLES, NAMES))
        value = raw.txn.get(name, db=meta)
        if name == TABLES:  # its place; the rest names the code that keeps them, which may be another's
            value = flipped(value[:8], chance) + value[8:]
        elif name == NAMES:
            value = chance.choice((b"\xc1", msgspec.msgpack.encode([":commits"])))
        else:
            value = flipped(value, chance)
        raw.txn.put(name, value, db=meta)
    return Change("a record of the log")


def _tables() -> list[bytes]:
    """The names of every table, rows and indexes, that projections keep."""
    return sorted(name.encode() for name in Projector(QUIRE).decoders)


def _change_entry(raw: Raw, name: bytes, chance: random.Random) -> None:
    db = raw.db(name)
    key, value = chance.choice(raw.entries(name))
    kind = chance.choice(("flip", "delete", "add"))
    if kind == "flip" and value:
        raw.txn.put(key, flipped(value, chance), db=db)
    elif kind == "add":
        raw.txn.put(key + b"\1", value, db=db)
    else:
        raw.txn.delete(key, db=db)


# -- the file of the log


def roll_back(it: Specimen, chance: random.Random) -> Change:
    """The whole log as it was earlier: sound in itself, only a seal knows better."""
    earlier = chance.choice([one for one in it.earlier if one.position < it.head.position])
    shutil.copyfile(earlier.data, it.data)
    return Change("the whole log rolled back", (earlier.position,))


def cut_log(it: Specimen, chance: random.Random) -> Change:
    """The file of the log without its end, or without anything."""
    size = it.data.stat().st_size
    os.truncate(it.data, chance.choice((0, chance.randrange(size), chance.randrange(size // 2, size))))
    return Change("the log's file cut", blind=True)


def flip_log(it: Specimen, chance: random.Random) -> Change:
    """One byte of the file of the log, anywhere."""
    _overwrite(it.data, chance.randrange(it.data.stat().st_size), bytes([chance.randrange(256)]))
    return Change("a byte of the log's file", blind=True)


def zero_log(it: Specimen, chance: random.Random) -> Change:
    """A sector of the file of the log, anywhere, is zero."""
    sectors = it.data.stat().st_size // SECTOR_BYTES
    _overwrite(it.data, chance.randrange(sectors) * SECTOR_BYTES, bytes(SECTOR_BYTES))
    return Change("a sector of the log's file zeroed", blind=True)


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# -- papers and folders


def flip_file(it: Specimen, chance: random.Random) -> Change:
    """A bit of a paper."""
    path = _file(it, chance)
    path.write_bytes(flipped(path.read_bytes(), chance))
    return Change("a bit of a paper", path=it.name(path))


def cut_file(it: Specimen, chance: random.Random) -> Change:
    """A paper without its end."""
    path = _file(it, chance)
    os.truncate(path, chance.randrange(path.stat().st_size))
    return Change("a paper cut", path=it.name(path))


def grow_file(it: Specimen, chance: random.Random) -> Change:
    """A paper with more behind its end."""
    path = _file(it, chance)
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 64)))
    return Change("a paper grown", path=it.name(path))


def delete_file(it: Specimen, chance: random.Random) -> Change:
    """A paper is gone."""
    path = _file(it, chance)
    path.unlink()
    return Change("a paper is gone", path=it.name(path))


def swap_files(it: Specimen, chance: random.Random) -> Change:
    """Two papers under each other's name."""
    one, other = (it.path(file.sha256) for file in chance.sample(it.files, 2))
    one_bytes, other_bytes = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_bytes)
    other.write_bytes(one_bytes)
    return Change("two papers changed names", path=it.name(one))


def link_folder(it: Specimen, chance: random.Random) -> Change:
    """A folder of papers became a link to the same papers elsewhere: what is written next would go there."""
    folder = _file(it, chance).parent
    shutil.rmtree(folder)
    folder.symlink_to(it.sound / "objects" / folder.name)
    return Change("a folder became a link", path=it.name(folder))


def _file(it: Specimen, chance: random.Random) -> Path:
    return it.path(chance.choice(it.files).sha256)


def flipped(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


WAYS: tuple[tuple[Way, int], ...] = (
    (flip_event, 5),
    (delete_commit, 2),
    (swap_commits, 2),
    (cut_the_end, 2),
    (insert_commit, 1),
    (rewrite_event, 3),
    (change_table, 3),
    (empty_table, 1),
    (change_streams, 3),
    (change_record, 2),
    (roll_back, 1),
    (cut_log, 1),
    (flip_log, 2),
    (zero_log, 2),
    (flip_file, 3),
    (cut_file, 1),
    (grow_file, 1),
    (delete_file, 1),
    (swap_files, 1),
    (link_folder, 1),
)
"""What can be done, and how often."""
