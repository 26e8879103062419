"""What the published defects (``quire.testing.mutants``) showed to be untested in the store and the files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quire.actors.sources.resuming import held_of, prepared
from quire.actors.web.exchange import Request, WebError
from quire.errors import InvariantError
from quire.events import work as works
from quire.events.record import Batch, Conflict, Fenced
from quire.store import lmdb_writes
from quire.store import objects as objects_module
from quire.store.codec import refused
from quire.store.library import Library
from quire.store.likeness import likeness
from quire.store.lmdb_store import LmdbStore
from quire.store.objects import Objects
from quire.store.replay import replay
from quire.store.title_check import DOUBT, SURE, verdict_of
from quire.store.title_words import words_of
from quire.testing.store_contract import BANK, StepClock, deposit
from quire.testing.web import make_pdf

sys.path.insert(0, str(Path(__file__).parent))
from loopback import client, loopback, reply, run

PDF = make_pdf("a paper", size=3_000)


def test_a_file_is_fsynced_before_it_has_its_name(tmp_path, monkeypatch):
    """In that order, on the part's own descriptor. Kills rename_before_fsync, part_not_synced."""
    Library.open(tmp_path / "library")
    objects = Objects(tmp_path / "library")
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(objects_module.os, "fsync", lambda fd: (done.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (done.append("rename"), rename(self, to))[1])
    part = objects.open_part("ab" * 32, 1)
    assert part is not None
    part.write(PDF)
    objects.finalise(part)
    assert done[:2] == ["fsync", "rename"]


def test_a_write_that_takes_a_part_is_gone_on_with(tmp_path, monkeypatch):
    """The kernel may take fewer bytes than it was given; all come into the file. Kills short_write_lost."""
    Library.open(tmp_path / "library")
    part = Objects(tmp_path / "library").open_part("ab" * 32, 1)
    assert part is not None
    write = os.write
    monkeypatch.setattr(objects_module.os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    part.write(PDF)
    monkeypatch.undo()
    assert part.path.read_bytes() == PDF
    part.close()


class Refusing:
    """A transaction whose database keeps nothing."""

    def put(self, *_: object, **__: object) -> bool:
        return False

    def cursor(self, _db: object) -> Refusing:
        return self

    def putmulti(self, items: list[Any], **_: object) -> tuple[int, int]:
        return len(items), len(items) - 1


def test_what_lmdb_did_not_keep_is_no_commit():
    """A put and a putmulti that keep too little raise. Kills small_put_ignored, putmulti_ignored."""
    with pytest.raises(InvariantError, match="kept nothing"):
        lmdb_writes.put(Refusing(), None, b"k", b"v")
    assert not lmdb_writes.stored(Refusing(), None, [(b"k", b"v")], overwrite=True)


def test_who_is_fenced_hears_that_and_not_that_the_version_moved():
    """Both guards fail: the epoch speaks, since stopping is right and reading again is not.

    Kills version_before_epoch.
    """
    both = Batch("s", (deposit("s", 1).events[0],), expected_version=3, epoch=1)
    assert isinstance(refused(both, (5, 2)), Fenced)
    assert isinstance(refused(msgspec.structs.replace(both, epoch=2), (5, 2)), Conflict)


def test_a_replay_to_a_time_ends_before_the_first_later_commit(tmp_path):
    """A commit at the very time is in, one a nanosecond later is not. Kills replay_one_too_far."""
    clock = StepClock()
    store = LmdbStore(tmp_path / "events", BANK, run_id="r", clock=clock, map_size=1 << 26)
    for amount in range(1, 5):
        store.append([deposit("account-a", amount)])
    times = [one.time_ns for one in store.read()]
    for number, time_ns in enumerate(times, 1):
        assert replay(store, BANK, time_ns=time_ns).position == number
        assert replay(store, BANK, time_ns=time_ns - 1).position == number - 1
    store.close()


class Download:
    """As much of an open answer as preparing a part looks at."""

    def __init__(self, resumed_at: int) -> None:
        self.headers = {"etag": '"strong"'}
        self.resumed_at, self.length, self.url = resumed_at, 100, "https://h.org/a"


def test_a_part_is_gone_on_from_only_as_it_was_and_in_its_boot(tmp_path):
    """Grown or cut since the range was asked for: refused; of another boot or URL: not even offered.

    Kills changed_part_resumed, part_of_other_boot.
    """
    Library.open(tmp_path / "library")
    objects, url, job = Objects(tmp_path / "library"), "https://h.org/a", "ab" * 32
    part = objects.open_part(job, 1)
    assert part is not None
    assert prepared(part, url, Download(0), boot_id="b1") is None
    part.write(b"%PDF-" + b"x" * 35)
    held = held_of(objects, job, url, boot_id="b1")
    assert held is not None
    assert held.length == 40
    assert held_of(objects, job, url, boot_id="b2") is None
    assert held_of(objects, job, url + "b", boot_id="b1") is None
    digest = prepared(part, url, Download(40), boot_id="b1")
    assert digest is not None
    assert digest.hexdigest() == part.sha256()
    for length in (39, 41):
        with pytest.raises(WebError, match="part_changed"):
            prepared(part, url, Download(length), boot_id="b1")
    part.close()


def test_a_404_is_no_failure_of_its_host_and_a_503_is():
    """However many answers say "not here", the breaker stays closed; five that say "down" open it.

    Kills client_errors_blamed.
    """

    async def test() -> None:
        async with loopback() as web:
            ours = client()
            web.on("/gone", reply(404))
            web.on("/down", reply(503))
            for _ in range(8):
                await ours.fetch(Request(url=f"{web.url}/gone", role="metadata", deadline_s=3.0))
            assert ours.breakers.not_closed() == ()
            for _ in range(5):
                await ours.fetch(Request(url=f"{web.url}/down", role="metadata", deadline_s=3.0))
            assert [state for _, state, _ in ours.breakers.not_closed()] == ["open"]
            await ours.close()

    run(test)


def test_what_is_nearly_the_title_is_no_mismatch():
    """Between doubt and sureness nothing is said. Kills doubt_is_mismatch."""
    work = works.Work(
        doi="10.1000/x", title="The gathering of printed leaves in monastic libraries of the north"
    )
    rest = "This study looks at how the books were made and kept, and at the hands that made them."
    lines = "".join(f"{rest} Part {number} of it.\n" for number in range(9))
    near = "The gathering of painted sheets in royal libraries of the south\n" + lines
    assert DOUBT <= likeness(words_of(work.title), words_of(near)) < SURE
    assert verdict_of(near, work) == "unknown"
    assert verdict_of("On the trade in spices by sea\n" + lines, work) == "mismatch"
