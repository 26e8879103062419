"""Power loss: whatever a disk may have kept of what was not synced, nothing that was promised is gone."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import msgspec
import pytest

from quire.testing.disk import powerloss
from quire.testing.disk.powerloss import CONTROLS, Tally, campaign, controls, explained, record, survived
from quire.testing.disk.shim import Call, Fault
from quire.testing.disk.simulated_disk import Chosen, Honoured, SimulatedDisk, choose

sys.path.insert(0, str(Path(__file__).parent))
import faulty_disk
from faulty_disk import ROUNDS, needs_shim

folder, runs = faulty_disk.folder, faulty_disk.runs
IMAGES = 160
SESSION_IMAGES = 80


@needs_shim
def test_every_image_holds_what_was_promised(runs, folder):
    """The power goes within each call of recordings, one of them after a kill: nothing promised is lost."""
    tally = campaign(runs, folder, count=IMAGES, seed=1, rounds=ROUNDS)
    assert tally.violations == []
    assert tally.ok
    assert tally.images >= IMAGES
    assert tally.syncs > 30
    assert tally.gone_on > 2
    assert len(tally.by_way) > 10


@needs_shim
def test_a_disk_that_breaks_its_word_loses_something(runs, folder):
    """Controls: without the syncs of files, of folders, of O_DSYNC, or without any, images are bad."""
    found = controls(runs, folder, count=40, seed=2, rounds=ROUNDS)
    assert set(found) == set(CONTROLS)
    assert all(found.values()), found


@needs_shim
@pytest.mark.parametrize(
    "defect",
    [
        "rename-before-fsync",
        "no-folder-sync",
        "no-parent-sync",
        "no-log-folder-sync",
        "no-library-sync",
        "no-log-sync",
        "no-meta-sync",
        "early-ack",
        "finish-first",
        "written-in-place",
    ],
)
def test_the_campaign_sees_a_sync_that_is_missing(runs, folder, defect):
    """Each of the mistakes that lose data when the power goes is found within a few images."""
    tally = campaign(runs, folder, count=60, seed=2, rounds=ROUNDS, defect=defect)
    assert tally.lost + tally.unopenable > 0
    assert not tally.ok


@needs_shim
def test_what_a_killed_process_made_is_synced_by_the_next(runs, folder, monkeypatch):
    """Killed between making a folder and syncing its name, then started again: what it did hung on that name.

    With the second look left out, the whole library goes with its folder's name, whatever it was told.
    """
    bad = {"": 0, "no-second-look": 0}
    for defect in bad:
        for at in (1, 2):
            monkeypatch.setattr(powerloss, "_killed_at", lambda _seed, at=at: at)
            tally = campaign(runs, folder, count=40, seed=1, rounds=ROUNDS, defect=defect)
            bad[defect] += tally.lost + tally.unopenable
    assert bad[""] == 0
    assert bad["no-second-look"] > 0


@needs_shim
@pytest.mark.parametrize("defect", ["", "told-before-durable", "rename-before-fsync"])
def test_a_whole_session_keeps_what_it_told(runs, folder, defect):
    """All actors at work: nothing told as home is lost; with a defect of actor or store something is."""
    tally = campaign(runs, folder, count=SESSION_IMAGES, seed=2, defect=defect, session_every=1)
    assert tally.sessions > 0
    assert tally.judged >= SESSION_IMAGES
    assert bool(tally.violations) == bool(defect), tally.violations[:3]


@needs_shim
def test_a_call_that_the_shim_missed_is_noticed(runs, folder):
    """Every byte on the real disk must come from a recorded call; without one of the writes it does not."""
    recording = record(runs, folder, seed=2, rounds=ROUNDS)
    assert explained(recording, folder / "disk") == []
    last = max(n for n, one in enumerate(recording.calls) if one.name == "pwrite")
    fewer = recording.calls[:last] + recording.calls[last + 1 :]
    assert explained(msgspec.structs.replace(recording, calls=fewer), folder / "disk") != []


def test_zero_images_is_a_failure():
    """A campaign that built nothing has shown nothing; nor has one whose controls lost nothing."""
    assert not Tally().ok
    assert Tally(images=1).ok
    assert not Tally(images=1, controls={"no sync is honoured": 0}).ok
    assert not Tally(images=1, violations=["lost"]).ok


def test_an_image_that_ends_its_process_is_a_bad_one():
    """A damaged map may end whoever opens it by a signal: that is an image that does not open."""
    said = survived([list, lambda: os.kill(os.getpid(), 7) or [], lambda: ["lost: x"]])
    assert said[0] == []
    assert "unopenable" in said[1][0]
    assert said[2] == ["lost: x"]


# -- the simulated disk


def did(name: str, **values: object) -> Call:
    fields = {"fd": -1, "offset": 0, "flags": 0, "path": "", "other": "", "data": b"", **values}
    return Call(name=name, number=1, fault=Fault.NONE, result=len(fields["data"]), error=0, **fields)


def opened(fd: int, path: str, flags: int = os.O_CREAT) -> Call:
    return msgspec.structs.replace(did("open", path=path, flags=flags, fd=fd), result=fd)


NONE = Chosen("none", lambda _c, _s: False, lambda _: False)
NO_BYTES = Chosen("names", lambda _c, _s: False, lambda _: True)


def disk_with(*calls: Call, honoured: Honoured | None = None) -> SimulatedDisk:
    disk = SimulatedDisk(honoured or Honoured())
    for one in calls:
        disk.do(one)
    return disk


WRITTEN = (opened(3, "a"), did("pwrite", fd=3, data=b"x" * 1300))
ROOT = opened(4, ".", 0)


def test_only_what_is_synced_is_kept():
    """A file needs its own sync and its folder's: either alone leaves no bytes, or no name."""
    assert disk_with(*WRITTEN).image(NONE) == {}
    assert disk_with(*WRITTEN, did("fsync", fd=3)).image(NONE) == {}
    assert disk_with(*WRITTEN, ROOT, did("fsync", fd=4)).image(NONE) == {"a": b""}
    whole = disk_with(*WRITTEN, did("fdatasync", fd=3), ROOT, did("fsync", fd=4))
    assert whole.image(NONE) == {"a": b"x" * 1300}
    assert whole.pending() == ([], [])


def test_a_write_is_torn_between_sectors_and_nowhere_else():
    """Any of the sectors of a pending write may be there; a later one alone leaves zeros before it."""
    disk = disk_with(*WRITTEN)
    assert disk.image(Chosen("", lambda _c, s: s == 0, lambda _: True)) == {"a": b"x" * 512}
    assert disk.image(Chosen("", lambda _c, s: s == 2, lambda _: True)) == {"a": bytes(1024) + b"x" * 276}


def test_o_dsync_keeps_its_own_write_alone():
    """A write by such a descriptor is there; one by another descriptor of the same file still is not."""
    disk = disk_with(*WRITTEN, opened(5, "a", os.O_DSYNC), did("pwrite", fd=5, offset=512, data=b"y" * 8))
    assert disk.image(NO_BYTES) == {"a": bytes(512) + b"y" * 8}


def test_a_rename_is_there_or_not_and_never_half():
    """The old name or the new one, on every draw; once a folder that it concerns is synced, the new one."""
    moved = (*WRITTEN, did("fsync", fd=3), did("mkdir", path="d"), ROOT, did("fsync", fd=4))
    disk = disk_with(*moved, did("rename", path="a", other="d/b"))
    chance = random.Random(1)
    seen = {tuple(sorted(disk.image(choose(disk, chance)))) for _ in range(50)}
    assert seen == {("a", "d"), ("d", "d/b")}
    after = disk_with(*moved, did("rename", path="a", other="d/b"), opened(6, "d", 0), did("fsync", fd=6))
    assert after.image(NONE) == {"d": None, "d/b": b"x" * 1300}


def test_a_call_under_way_promises_nothing():
    """The power goes within an fsync: what it was to make durable may be there, or not."""
    disk = disk_with(*WRITTEN, ROOT, did("fsync", fd=4))
    disk.begin(did("fsync", fd=3))
    assert disk.image(NO_BYTES) == {"a": b""}
    disk.end(did("fsync", fd=3))
    assert disk.image(NO_BYTES) == {"a": b"x" * 1300}


def test_a_disk_that_does_not_heed_a_sync():
    """The controls' disks: a sync that is not honoured leaves all pending."""
    deaf = Honoured(files=False, folders=False, descriptors=False)
    disk = disk_with(*WRITTEN, did("fsync", fd=3), ROOT, did("fsync", fd=4), honoured=deaf)
    assert disk.image(NONE) == {}
    assert disk.whole() == {"a": b"x" * 1300}
