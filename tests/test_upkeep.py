"""``quire backup`` and ``quire gc``: a copy is a library, and nothing that a job needs is removed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from quire.store.garbage import remove, waste_in
from quire.store.library import Library
from quire.testing.web import World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import quire, rehearsal, rehearsed, started, wait_until


@pytest.fixture(scope="module")
def web():
    with serve(World.demo(40, seed=5)) as server:
        yield server


@pytest.fixture
def library(web, tmp_path) -> Path:
    """A library with the first half of the works."""
    inputs = tmp_path / "half.txt"
    inputs.write_text("\n".join(World.demo(40, seed=5).inputs()[:20]))
    rehearsed(web.url, tmp_path / "lib", inputs)
    return tmp_path / "lib"


def more(web, library: Path) -> None:
    inputs = library.parent / "all.txt"
    inputs.write_text("\n".join(World.demo(40, seed=5).inputs()))
    rehearsed(web.url, library, inputs)


def said(*words: object, code: int = 0) -> dict:
    done = quire(*words, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def home(library: Path) -> list[dict]:
    lines = quire("list", "--library", library, "--json").stdout.splitlines()
    return [line for line in map(json.loads, lines) if line["path"]]


def old(library: Path) -> None:
    """Make every file of the library look a day old."""
    yesterday = time.time() - 86_400
    for path in library.rglob("*"):
        if path.is_file():
            os.utime(path, (yesterday, yesterday))


def test_a_backup_is_a_library(library, tmp_path):
    """The copy passes the audit, lists the same papers, and its files have the bytes of their names."""
    report = said("backup", tmp_path / "copy", "--library", library)
    assert report["objects"] == report["copied"] == len({line["sha256"] for line in home(library)}) > 5
    assert said("audit", "--library", tmp_path / "copy")["ok"]
    assert home(tmp_path / "copy") == home(library)


def test_a_second_backup_copies_what_is_new(web, library, tmp_path):
    """Papers that came home since are copied; those that were there are not written again."""
    first = said("backup", tmp_path / "copy", "--library", library)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy/objects").rglob("*.pdf")}
    more(web, library)
    second = said("backup", tmp_path / "copy", "--library", library)
    assert second["position"] > first["position"]
    assert second["copied"] == second["objects"] - first["objects"] > 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert said("audit", "--library", tmp_path / "copy")["ok"]


def test_a_backup_can_be_taken_while_a_run_goes_on(web, library, tmp_path):
    """The copy of a library at work is whole at one moment: nothing that it names is missing."""
    inputs = tmp_path / "all.txt"
    inputs.write_text("\n".join(World.demo(40, seed=5).inputs()))
    with started("run", inputs, *rehearsal(web.url, library)) as run:
        for _ in range(4):
            said("backup", tmp_path / "copy", "--library", library)
            assert said("audit", "--library", tmp_path / "copy")["ok"]
        run.wait(60)


def test_a_damaged_paper_is_told_and_not_copied(library, tmp_path):
    """A flipped byte ends the backup with 3 and the file's name; the rest is copied."""
    victim = library / home(library)[0]["path"]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    report = said("backup", tmp_path / "copy", "--library", library, code=3)
    assert [found["path"] for found in report["problems"]] == [home(library)[0]["path"]]
    assert report["copied"] == report["objects"] - 1
    assert not (tmp_path / "copy" / home(library)[0]["path"]).exists()


def test_a_backup_that_was_killed_is_gone_on_with(library, tmp_path):
    """What a dead backup left does no harm: the next one ends with a sound copy."""
    copy = tmp_path / "copy"
    with started("backup", copy, "--library", library) as process:
        wait_until((copy / "events.new").exists)
        process.send_signal(signal.SIGKILL)
    said("backup", copy, "--library", library)
    assert said("audit", "--library", copy)["ok"]
    assert not (copy / "events.new").exists()
    assert [path.name for path in (copy / "staging").iterdir()] == [".backup"]


def test_a_folder_that_is_no_copy_of_the_library_is_refused(web, library, tmp_path):
    """Another library, other things, and a place inside the library are left as they are."""
    other = tmp_path / "other"
    inputs = tmp_path / "one.txt"
    inputs.write_text(World.demo(40, seed=5).inputs()[0])
    rehearsed(web.url, other, inputs)
    before = (other / "events/data.mdb").read_bytes()
    refused = quire("backup", other, "--library", library)
    assert (refused.returncode, "another library" in refused.stderr) == (2, True)
    assert (other / "events/data.mdb").read_bytes() == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    assert quire("backup", tmp_path / "notes", "--library", library).returncode == 2
    assert quire("backup", library / "copy", "--library", library).returncode == 2


def test_gc_removes_what_no_job_needs(library):
    """Orphans and parts of finished jobs go; every paper of a job stays, and the audit has nothing to say."""
    papers = home(library)
    orphan = library / "objects/ab" / f"{'ab' * 32}.pdf"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    part = library / "staging" / f"{papers[0]['job_id']}.1.part"
    part.write_bytes(b"left")
    foreign = library / "objects/ab/readme.txt"
    foreign.write_text("the user's own")
    old(library)
    assert said("gc", "--library", library, "--dry-run")["removed"] == 0
    assert orphan.exists()
    report = said("gc", "--library", library)
    assert (report["removed"], report["kinds"]) == (2, {"orphan": 1, "part": 1})
    assert not orphan.exists()
    assert not part.exists()
    assert foreign.exists()
    assert said("audit", "--library", library)["ok"]
    assert home(library) == papers


def test_gc_leaves_what_is_young_and_what_can_be_gone_on_from(library):
    """A file of the last hour stays, and so does an unfinished job's part unless --parts says otherwise."""
    failed = [
        json.loads(line)
        for line in quire("list", "--library", library, "--json", "--state", "FAILED").stdout.splitlines()
    ]
    part = library / "staging" / f"{failed[0]['job_id']}.1.part"
    part.write_bytes(b"%PDF-1.7 half")
    young = library / "objects/cd" / f"{'cd' * 32}.pdf"
    young.parent.mkdir(exist_ok=True)
    young.write_bytes(b"just named")
    assert said("gc", "--library", library)["removed"] == 0
    old(library)
    young.touch()
    assert said("gc", "--library", library)["removed"] == 0
    assert said("gc", "--library", library, "--parts")["kinds"] == {"part": 1}
    assert young.exists()


def test_gc_waits_for_the_workers(library):
    """While a worker lives nothing is looked at, and it is said why."""
    lock = Library.open_existing(library).claim_worker("w1")
    refused = quire("gc", "--library", library)
    lock.release()
    assert (refused.returncode, "1 worker" in refused.stderr) == (2, True)
    assert quire("gc", "--library", library, "--older-than", "soon").returncode == 2


def test_an_orphan_that_is_taken_into_use_stays(library):
    """Between the look and the removal a job may have come to the very bytes: then they are not removed."""
    objects = Library.open_existing(library).objects
    sha256 = "ab" * 32
    orphan = objects.path(sha256)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"the bytes")
    old(library)
    hour_ago = time.time_ns() - 3_600 * 10**9
    seen = list(waste_in(objects, wanted=set(), unfinished=set(), older_than_ns=hour_ago))
    (waste,) = [one for one in seen if one.path.endswith(f"{sha256}.pdf")]
    objects.adopt(sha256)
    assert remove(objects, waste) is False
    assert orphan.exists()


def test_two_backups_into_one_folder_do_not_meet(library, tmp_path):
    """While one is under way the second is refused, and harms nothing."""
    copy = tmp_path / "copy"
    said("backup", copy, "--library", library)
    with (copy / "staging/.backup").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = quire("backup", copy, "--library", library)
    assert (refused.returncode, "under way" in refused.stderr) == (2, True)
    assert said("audit", "--library", copy)["ok"]


def test_the_settings_of_a_backup_are_as_private_as_they_were(library, tmp_path):
    """quire.yaml may hold a key: its permissions go along, and a copy of one that is no more goes."""
    settings = library / "quire.yaml"
    settings.write_text("works_in_hand: 3\n")
    settings.chmod(0o600)
    said("backup", tmp_path / "copy", "--library", library)
    assert (tmp_path / "copy/quire.yaml").stat().st_mode & 0o777 == 0o600
    settings.unlink()
    said("backup", tmp_path / "copy", "--library", library)
    assert not (tmp_path / "copy/quire.yaml").exists()
