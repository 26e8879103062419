"""A campaign of tampering: one library, damaged in ten thousand ways, each of which the audit must name.

``python -m quire.testing.tamper --tampers 10000 --seed 1`` makes a library by a real run, changes one thing
at a time behind its back (an event, a commit, the order, the end, a table, the head, a file, the whole log)
and audits it, with a seal that was kept elsewhere. It exits 1 when a change was not found, or named at
another place than it was made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from ..actors.outcome import Wanted
from ..actors.runtime.ports import SystemClock
from ..actors.session import Session
from ..cli.audit import expected_files
from ..config.loader import Flag, load
from ..errors import InvariantError
from ..events.projections import JOBS, LIBRARY
from ..events.work import parse_work
from ..store.audit import Report, audit
from ..store.codec import CHAIN_BYTES, Commit, chained
from ..store.domain import QUIRE
from ..store.interface import EventStore
from ..store.library import Library
from ..store.lmdb_store import LmdbStore
from ..store.seal import Seal, against, sealed
from .web import World, serve

WORKS = 24
"""Works of the library: enough for some dozens of commits and files."""
EARLIER_EVERY = 4
"""Outcomes between two copies of the log, to roll back to."""
MAP_SIZE = 1 << 30
EMAIL = "campaign@quire.example"
_LIST = "ab" * 8
_RAW_TABLES = 256
MISSED_SHOWN = 20


class Change(msgspec.Struct, frozen=True):
    """What was done, and where the audit must see it."""

    what: str
    positions: tuple[int, ...] = ()
    """The first problem is at one of these positions; anywhere when empty."""
    path: str = ""
    """A problem names this file."""


class Specimen:
    """A library made by a real run, what it is when it is sound, and a scratch copy to damage."""

    def __init__(self, folder: Path) -> None:
        """Make it in a folder that exists."""
        self.sound, self.scratch = folder / "sound", folder / "scratch"
        self.earlier: list[Path] = []
        self._run(folder)
        store = self._opened(self.sound)
        self.commits: list[Commit] = all_commits(store)
        self.head = store.head()
        (row,) = store.rows(LIBRARY, [b"library"])
        self.library_id: str = row.library_id
        self.seal: Seal = sealed(self.head, library_id=self.library_id, time="")
        self.files = sorted(
            {file.sha256: file for file in expected_files(store)}.values(), key=lambda f: f.sha256
        )
        store.close()
        shutil.copytree(self.sound, self.scratch)

    def __repr__(self) -> str:
        return f"<Specimen of {len(self.commits)} commits, {len(self.files)} files>"

    def _run(self, folder: Path) -> None:
        flags = {"contact_email": EMAIL, "pacing": "none"}
        world = World.demo(WORKS, seed=1)
        with serve(world) as web:
            settings = load(
                [
                    Flag(("library",), str(self.sound), "tamper"),
                    Flag(("web", "stand_in"), web.url, "tamper"),
                    Flag(("store", "map_size"), MAP_SIZE, "tamper"),
                    *(Flag(("web", name), value, "tamper") for name, value in flags.items()),
                ],
                environ={},
            ).settings
            works = [work for text in world.inputs() if (work := parse_work(text)) is not None]
            with Session(settings, list_id=_LIST) as session:
                session.plan((Wanted(work) for work in works), list_id=_LIST)
                for number, _ in enumerate(session.work(_LIST)):
                    if number % EARLIER_EVERY == 0:
                        self._keep(session.store, folder / f"earlier-{number}")

    def _keep(self, store: EventStore, folder: Path) -> None:
        if isinstance(store, LmdbStore):
            folder.mkdir()
            store.copy_to(folder)
            self.earlier.append(folder / "data.mdb")

    def _opened(self, library: Path) -> LmdbStore:
        return LmdbStore(
            library / "events", QUIRE, run_id="tamper", clock=SystemClock(), map_size=MAP_SIZE, readonly=True
        )

    def restore(self) -> None:
        """Make the scratch copy sound again."""
        shutil.copyfile(self.sound / "events" / "data.mdb", self.data)
        for file in self.files:
            path = Library(self.sound).objects.path(file.sha256)
            copy = Library(self.scratch).objects.path(file.sha256)
            if not copy.exists() or copy.stat().st_mtime_ns != path.stat().st_mtime_ns:
                shutil.copy2(path, copy)

    @property
    def data(self) -> Path:
        """The file of the scratch copy's log."""
        return self.scratch / "events" / "data.mdb"

    def audited(self) -> tuple[Report, bool]:
        """The audit of the scratch copy against the seal, and whether its commits are the sound ones."""
        store = self._opened(self.scratch)
        try:
            objects = Library(self.scratch).objects
            report = audit(store, QUIRE, objects=objects, expected=expected_files)
            for found in against(store, self.library_id, self.seal):
                report.problem(found.kind, found.what, position=found.position)
            same = report.ok and all_commits(store) == self.commits
        finally:
            store.close()
        return report, same

    @contextmanager
    def raw(self) -> Iterator[Any]:
        """A write transaction on the scratch copy's databases, past all of quire."""
        env = lmdb.open(os.fspath(self.data.parent), map_size=MAP_SIZE, max_dbs=_RAW_TABLES)
        try:
            with env.begin(write=True) as txn:
                yield _Raw(env, txn)
        finally:
            env.close()


class _Raw:
    """The databases of a log as LMDB has them."""

    def __init__(self, env: Any, txn: Any) -> None:
        self._env, self.txn = env, txn

    def db(self, name: str) -> Any:
        return self._env.open_db(name.encode(), self.txn, create=False)

    def set_commit(self, position: int, value: bytes | None) -> None:
        key, db = position.to_bytes(8, "big"), self.db(":commits")
        if value is None:
            self.txn.delete(key, db=db)
        else:
            self.txn.put(key, value, db=db)


def all_commits(store: LmdbStore) -> list[Commit]:
    """Every commit of a log."""
    found = store.commits(0)
    while page := store.commits(found[-1][0]) if found else []:
        found += page
    return found


# -- what is done to it


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
    """Another text in an event, and the chain made anew from there to the head: a careful forger."""
    place, body = _forged(it, chance)
    chain = it.commits[place - 1][1][:CHAIN_BYTES] if place else bytes(CHAIN_BYTES)
    with it.raw() as raw:
        for position, value in it.commits[place:]:
            body = body if position == it.commits[place][0] else value[CHAIN_BYTES:]
            chain = chained(chain, body)
            raw.set_commit(position, chain + body)
        meta = raw.db(":meta")
        head = raw.txn.get(b"head", db=meta)
        raw.txn.put(b"head", head[:-CHAIN_BYTES] + chain, db=meta)
    return Change("an event forged, the chain made anew")


def _forged(it: Specimen, chance: random.Random) -> tuple[int, bytes]:
    """A commit with one letter of one text changed, so that it can still be decoded."""
    for _ in range(1_000):
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


def change_table(it: Specimen, chance: random.Random) -> Change:
    """A bit of a row of a kept table."""
    with it.raw() as raw:
        db = raw.db(JOBS)
        rows = list(raw.txn.cursor(db))
        key, value = chance.choice(rows)
        raw.txn.put(key, flipped(value, chance), db=db)
    return Change("a bit of a table's row")


def change_head(it: Specimen, chance: random.Random) -> Change:
    """A bit of the head record."""
    with it.raw() as raw:
        meta = raw.db(":meta")
        raw.txn.put(b"head", flipped(raw.txn.get(b"head", db=meta), chance), db=meta)
    return Change("a bit of the head record")


def roll_back(it: Specimen, chance: random.Random) -> Change:
    """The whole log as it was earlier: sound in itself, only the seal knows better."""
    shutil.copyfile(chance.choice(it.earlier), it.data)
    return Change("the whole log rolled back")


def flip_file(it: Specimen, chance: random.Random) -> Change:
    """A bit of a paper."""
    path = _file(it, chance)
    path.write_bytes(flipped(path.read_bytes(), chance))
    return Change("a bit of a paper", path=_name(it, path))


def cut_file(it: Specimen, chance: random.Random) -> Change:
    """A paper without its end."""
    path = _file(it, chance)
    os.truncate(path, chance.randrange(path.stat().st_size))
    return Change("a paper cut", path=_name(it, path))


def grow_file(it: Specimen, chance: random.Random) -> Change:
    """A paper with more behind its end."""
    path = _file(it, chance)
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 64)))
    return Change("a paper grown", path=_name(it, path))


def delete_file(it: Specimen, chance: random.Random) -> Change:
    """A paper is gone."""
    path = _file(it, chance)
    path.unlink()
    return Change("a paper is gone", path=_name(it, path))


def swap_files(it: Specimen, chance: random.Random) -> Change:
    """Two papers under each other's name."""
    one, other = (Library(it.scratch).objects.path(file.sha256) for file in chance.sample(it.files, 2))
    one_bytes, other_bytes = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_bytes)
    other.write_bytes(one_bytes)
    return Change("two papers changed names", path=_name(it, one))


def _file(it: Specimen, chance: random.Random) -> Path:
    return Library(it.scratch).objects.path(chance.choice(it.files).sha256)


def _name(it: Specimen, path: Path) -> str:
    return str(path.relative_to(it.scratch))


def flipped(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


WAYS: tuple[tuple[Callable[[Specimen, random.Random], Change], int], ...] = (
    (flip_event, 5),
    (delete_commit, 2),
    (swap_commits, 2),
    (cut_the_end, 2),
    (insert_commit, 1),
    (rewrite_event, 3),
    (change_table, 2),
    (change_head, 1),
    (roll_back, 1),
    (flip_file, 3),
    (cut_file, 1),
    (grow_file, 1),
    (delete_file, 1),
    (swap_files, 1),
)
"""What can be done, and how often."""


def missed(change: Change, report: Report, *, same: bool) -> str:
    """Why the audit did not do its work; ``""`` when it did."""
    if report.ok:
        # A table or head may hold a bit that says the same; only a log and files that are the same may pass.
        return "" if same and not change.positions and not change.path else "not found"
    if change.path and change.path not in [found.path for found in report.problems]:
        return f"named {report.problems[0].path or report.problems[0].kind} instead of {change.path}"
    placed = [found.position for found in report.problems if found.position]
    if change.positions and (not placed or placed[0] not in change.positions):
        return f"named position {placed[:1]} instead of {change.positions}"
    return ""


class Tally(msgspec.Struct):
    """What a campaign came to."""

    tampers: int = 0
    found: int = 0
    by_kind: dict[str, int] = {}
    """What was done, and how often."""
    missed: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether every change was found, and where it was made."""
        return not self.missed and self.found == self.tampers


def campaign(folder: Path, *, tampers: int, seed: int) -> Tally:
    """Damage one library so many times, one change at a time."""
    it, chance, tally = Specimen(folder), random.Random(seed), Tally()
    kinds: Counter[str] = Counter()
    ways, weights = zip(*WAYS, strict=True)
    for number in range(tampers):
        it.restore()
        change = chance.choices(ways, weights)[0](it, chance)
        report, same = it.audited()
        why = missed(change, report, same=same)
        tally.tampers += 1
        tally.found += not why
        kinds[change.what] += 1
        if why and len(tally.missed) < MISSED_SHOWN:
            tally.missed.append(f"tamper {number}, {change.what}: {why}")
    tally.by_kind = dict(kinds)
    return tally


def main(argv: list[str] | None = None) -> int:
    """Run a campaign and print what it came to."""
    parser = argparse.ArgumentParser(prog="quire.testing.tamper", description=__doc__)
    parser.add_argument("--tampers", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        tally = campaign(Path(folder), tampers=args.tampers, seed=args.seed)
    sys.stdout.write(msgspec.json.encode(tally).decode() + "\n")
    return 0 if tally.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
