"""The audit: sound libraries pass, and each kind of damage is found, named and placed."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.events.record import Head
from quire.store.audit import Expected, Report, audit
from quire.store.codec import CHAIN_BYTES, Commit, chained
from quire.store.digests import Digests
from quire.store.memory_store import MemoryStore
from quire.store.objects import Objects
from quire.store.replay import replay
from quire.testing.store_contract import BANK, Deposited, StepClock, deposit


class Tampered:
    """A store whose commits, head or digest were changed behind its back."""

    def __init__(self, store: MemoryStore) -> None:
        self.kept = store.commits()
        self._head, self._digest, self._streams = store.digest()

    def head(self) -> Head:
        return self._head

    def commits(self, after: int = 0) -> list[Commit]:
        return [commit for commit in self.kept if commit[0] > after]

    def digest(self) -> Digests:
        return Digests(self._head, self._digest, self._streams)

    def rewrite(self, index: int, entries: list[Any]) -> None:
        """Other entries in a commit, everything after it chained anew: only the content is wrong."""
        previous = self.kept[index - 1][1][:CHAIN_BYTES] if index else bytes(CHAIN_BYTES)
        body = msgspec.msgpack.encode((BANK.schema, 1, "r", entries))
        self.kept[index] = (self.kept[index][0], chained(previous, body) + body)
        for later in range(index + 1, len(self.kept)):
            position, value = self.kept[later]
            body = value[CHAIN_BYTES:]
            self.kept[later] = (position, chained(self.kept[later - 1][1][:CHAIN_BYTES], body) + body)
        self._head = Head(self._head.position, len(self.kept), self.kept[-1][1][:CHAIN_BYTES])


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(BANK, run_id="run", clock=StepClock())
    store.append([deposit("account-a", 1, 2, epoch=1, opens_epoch=True)])
    store.append([deposit("account-a", 3, epoch=2, opens_epoch=True), deposit("account-b", 4)])
    store.append([deposit("account-a", 5, epoch=2)])
    return store


def kinds(report: Report) -> list[tuple[str, int]]:
    assert not report.ok
    return [(finding.kind, finding.position) for finding in report.problems]


def entry(stream: str, version: int, epoch: int, *, cause: int = 0) -> tuple[Any, ...]:
    return (stream, version, epoch, cause, Deposited(1))


def test_sound(store: MemoryStore) -> None:
    """A sound log passes with its counts and no findings; so does an empty one."""
    assert audit(store, BANK) == Report(ok=True, commits=3, events=5, head=5)
    assert audit(MemoryStore(BANK, run_id="r", clock=StepClock()), BANK).ok


@pytest.mark.parametrize("index", [0, 1, 2])
def test_each_flipped_byte(store: MemoryStore, index: int) -> None:
    """Any flipped byte of any commit is found, and the first finding stands at that commit."""
    for place in range(len(store.commits()[index][1])):
        tampered = Tampered(store)
        position, value = tampered.kept[index]
        tampered.kept[index] = (position, value[:place] + bytes([value[place] ^ 4]) + value[place + 1 :])
        assert kinds(audit(tampered, BANK))[0] == ("chain", position)


def test_a_tree_that_leads_back(store: MemoryStore) -> None:
    """Damage may make the log's tree lead back to what was read: the audit ends, and names the place."""

    class Turning(Tampered):
        def commits(self, after: int = 0) -> list[Commit]:
            return self.kept

    assert ("unreadable", 6) in kinds(audit(Turning(store), BANK))


def test_lost_commit(store: MemoryStore) -> None:
    """A commit that is missing is a gap, at the one after it."""
    tampered = Tampered(store)
    del tampered.kept[1]
    assert ("gap", 5) in kinds(audit(tampered, BANK))


def test_lost_end(store: MemoryStore) -> None:
    """A log cut at its end does not agree with its head record."""
    tampered = Tampered(store)
    del tampered.kept[2]
    assert ("head", 5) in kinds(audit(tampered, BANK))


def test_end_behind_the_head(store: MemoryStore) -> None:
    """A commit behind the head record is found, if no living writer explains it."""
    tampered = Tampered(store)
    tampered._head = Head(4, 2, tampered.kept[1][1][:CHAIN_BYTES])
    assert ("head", 5) in kinds(audit(tampered, BANK))


def test_stream_gap(store: MemoryStore) -> None:
    """A stream that skips a version is found, though the chain holds."""
    tampered = Tampered(store)
    tampered.rewrite(2, [entry("account-a", 5, 2)])
    assert kinds(audit(tampered, BANK)) == [("stream_gap", 5)]


def test_epoch_goes_back(store: MemoryStore) -> None:
    """An event under an epoch that was over is found, though the chain holds."""
    tampered = Tampered(store)
    tampered.rewrite(2, [entry("account-a", 4, 1)])
    assert kinds(audit(tampered, BANK)) == [("epoch", 5)]


def test_cause_ahead(store: MemoryStore) -> None:
    """No event is caused by a later one."""
    tampered = Tampered(store)
    tampered.rewrite(2, [entry("account-a", 4, 2, cause=9)])
    assert kinds(audit(tampered, BANK)) == [("cause", 5)]


def test_undecodable(store: MemoryStore) -> None:
    """A body that is no commit is found, though the chain holds."""
    tampered = Tampered(store)
    tampered.rewrite(2, [("account-a", 4, 2, 0, ["unknown", 1])])
    assert ("undecodable", 5) in kinds(audit(tampered, BANK))


def test_other_tables(store: MemoryStore) -> None:
    """Kept projections that are not what the log makes of them are found."""
    tampered = Tampered(store)
    tampered._digest = "0" * 64
    assert kinds(audit(tampered, BANK)) == [("tables", 0)]
    store._tables._data["accounts.tally"][b"black"] = b"\x07"
    assert kinds(audit(store, BANK)) == [("tables", 0)]
    store.rebuild()
    assert audit(store, BANK).ok


def test_tables_of_another_version(store: MemoryStore) -> None:
    """Tables of another version of the program are a note: the log itself is judged all the same."""

    foreign = Tampered(store)
    foreign._digest = ""
    report = audit(foreign, BANK)
    assert report.ok
    assert [note.kind for note in report.notes] == ["tables_not_compared"]


def test_newer_log(store: MemoryStore) -> None:
    """A log of a newer schema is reported, never raised."""
    newer = MemoryStore(replace(BANK, schema=2), run_id="r", clock=StepClock())
    newer.append([deposit("account-a", 1)])
    assert ("undecodable", 1) in kinds(audit(newer, BANK))


def test_digest_is_of_the_content(store: MemoryStore) -> None:
    """Kept and replayed tables have one digest; other content has another."""
    assert store.digest()[1] == replay(store, BANK).digest()
    assert store.digest()[1] != replay(store, BANK, position=4).digest()


def _objects(folder: Path, *papers: bytes) -> tuple[Objects, list[Expected]]:
    (folder / "objects").mkdir()
    (folder / "staging").mkdir()
    objects, files = Objects(folder), []
    for paper in papers:
        job = hashlib.sha256(b"job" + paper).hexdigest()
        part = objects.open_part(job, 1)
        assert part is not None
        part.write(paper)
        done = objects.finalise(part)
        files.append(Expected(job, done.sha256, done.bytes))
    return objects, files


def test_objects(store: MemoryStore, tmp_path: Path) -> None:
    """Each finished job's file must be there, of its size and hash; what nobody needs is noted."""
    objects, files = _objects(tmp_path, b"one", b"two", b"three", b"four", b"orphan")
    objects.path(files[1].sha256).unlink()
    objects.path(files[2].sha256).write_bytes(b"threefold")
    objects.path(files[3].sha256).write_bytes(b"FOUR")
    (objects.root / "zz").mkdir()
    (objects.root / "zz" / "notes.txt").write_text("x")
    objects.part_path(files[0].job_id, 3).write_bytes(b"half")
    report = audit(store, BANK, objects=objects, expected=lambda _view: files[:4])
    assert not report.ok

    def name(number: int) -> str:
        return str(objects.path(files[number].sha256).relative_to(tmp_path))

    assert [(finding.kind, finding.path) for finding in report.problems] == [
        ("missing", name(1)),
        ("size", name(2)),
        ("hash", name(3)),
    ]
    assert sorted((note.kind, note.path) for note in report.notes) == [
        ("foreign", "objects/zz/notes.txt"),
        ("orphan", name(4)),
        ("part", f"staging/{files[0].job_id}.3.part"),
    ]


def test_sound_objects(store: MemoryStore, tmp_path: Path) -> None:
    """Two jobs may share one file; the view that names the files is that of the whole log."""
    objects, [file] = _objects(tmp_path, b"one")
    seen: list[int] = []

    def expected(view: Any) -> list[Expected]:
        seen.append(view.position)
        return [file, Expected("another", file.sha256, file.bytes)]

    assert audit(store, BANK, objects=objects, expected=expected).ok
    assert seen == [5]
