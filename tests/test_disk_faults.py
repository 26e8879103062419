"""A disk that fails or is full at any call: a typed error, nothing told falsely, and the library goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quire.testing.disk import full, session, syscalls
from quire.testing.disk.__main__ import main
from quire.testing.disk.runs import Asked, Ended, Ran
from quire.testing.disk.shim import Call, Fault, Order
from quire.testing.disk.syscalls import Trial, wrong_end

sys.path.insert(0, str(Path(__file__).parent))
import faulty_disk
from faulty_disk import ROUNDS

pytestmark = faulty_disk.needs_shim
folder, runs = faulty_disk.folder, faulty_disk.runs


@pytest.fixture
def trial(runs, folder) -> Trial:
    return Trial(runs, folder, seed=5, rounds=ROUNDS)


def number_of(ran: Ran, name: str, path: str = "") -> int:
    """The number of the first call of a name, on a path that ends so."""
    return next(call.number for call in ran.counted if call.name == name and call.path.endswith(path))


def test_a_fault_at_every_system_call(runs, folder):
    """Death, EIO, ENOSPC or a short write: all write-path calls are hit, no promise is broken."""
    whole = Trial(runs, folder, seed=2, rounds=ROUNDS).run(Order())
    tally = syscalls.campaign(runs, folder, seed=2, rounds=ROUNDS, count=len(whole.counted))
    assert tally.violations == []
    assert tally.covered == tally.calls == len(whole.counted) > 80
    assert len(tally.by_fault) == len(syscalls.FAULTS)
    assert {"pwrite", "writev", "write", "fsync", "fdatasync", "rename", "mkdir", "unlink", "link"} <= set(
        tally.by_name
    )


def test_a_fault_in_a_whole_session(runs, folder):
    """With all actors at work: what was told stays, and the next session brings the list home."""
    tally = session.campaign(runs, folder, seed=3, count=6)
    assert tally.violations == []
    assert tally.runs == 6


def test_the_disk_is_full_and_then_it_is_not(runs, folder):
    """The disk or the map is full at any batch: the error says so, and the same command goes on with room."""
    tally = full.campaign(runs, folder, seed=4, count=45, rounds=ROUNDS)
    assert tally.violations == []
    assert set(tally.by_kind) == {"disk", "disk, soon free", "map"}
    assert tally.ends["StorageFullError"] > 10
    assert tally.ends["to its end"] > 5


@pytest.mark.parametrize("size", [32_768, 65_536, 98_304])
def test_a_full_map_is_raised_and_the_log_goes_on(trial, size):
    """A map that ends in the middle is StorageFullError; with a larger one the same library is finished."""
    ran = trial.run(Order(), map_size=size)
    assert (ran.ended.error, ran.ended.full) == ("StorageFullError", True)
    assert list(trial.left(ran)) == []


@pytest.mark.parametrize("fault", [Fault.SHORT, Fault.KILL_BEFORE, Fault.KILL_AFTER, Fault.ENOSPC])
def test_a_log_that_was_cut_at_its_birth_is_begun_anew(trial, fault):
    """The first write of a new log was cut by a full disk, and no program opened that library ever again.

    LMDB makes its first pages in place; they are made beside it now, and linked when they are whole.
    """
    at = number_of(trial.run(Order()), "pwrite")
    ran = trial.run(Order(fault=fault, at=at))
    assert ran.ended.error or ran.ended.killed
    assert list(trial.judged(ran)) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("mkdir", "library"),
        ("fsync", ""),
        ("open", ".lock"),
        ("rename", ".lock"),
        ("unlink", ".about"),
        ("unlink", ".lock"),
        ("mkdir", "/events"),
    ],
)
def test_no_room_is_told_as_such_wherever_it_is_met(trial, name, path):
    """ENOSPC while folders, locks and names are made or removed was a general fault, or an OSError."""
    at = number_of(trial.run(Order()), name, path)
    ran = trial.run(Order(fault=Fault.ENOSPC, at=at))
    assert (ran.ended.error, ran.ended.full) == ("StorageFullError", True)


def test_a_part_whose_sync_failed_is_not_resumed(trial):
    """The kernel may have dropped its bytes and still show them, and a second fsync calls them written."""
    calls = trial.run(Order()).calls
    renamed = next(n for n, one in enumerate(calls) if one.other.startswith("library/objects/"))
    sync = max(one.number for one in calls[:renamed] if one.name == "fsync" and one.number)
    ran = trial.run(Order(fault=Fault.EIO, at=sync))
    assert ran.hit is not None
    assert (ran.hit.name, ran.ended.error) == ("fsync", "StoreFailedError")
    job = calls[renamed].path.rpartition("/")[2].partition(".")[0]
    assert list((trial.library / "staging").glob(f"{job}*")) == []
    assert list(trial.judged(ran)) == []


@pytest.mark.parametrize(
    ("defect", "name", "said"),
    [
        ("raw-errors", "write", "not a typed error"),
        ("swallowed", "fdatasync", "acknowledged after the error"),
    ],
)
def test_the_campaign_sees_a_store_that_is_careless(runs, folder, defect, name, said):
    """An OSError let through, a failed commit called a good one: each is a violation, and only then."""
    for put_in, expected in ((defect, True), ("", False)):
        trial = Trial(runs, folder, seed=6, rounds=ROUNDS, defect=put_in)
        calls = [call for call in trial.run(Order()).counted if call.name == name]
        ran = trial.run(Order(fault=Fault.EIO, at=calls[len(calls) // 2].number))
        assert any(said in found for found in trial.judged(ran)) is expected


def call(name: str, number: int, fault: Fault = Fault.NONE, path: str = "x") -> Call:
    return Call(name, number, fault, -1 if fault else 0, 0, 3, 0, 0, path, "", b"")


@pytest.mark.parametrize(
    ("ended", "calls", "said"),
    [
        (Ended(), [], "fell on no call"),
        (Ended(), [call("pwrite", 1, Fault.KILL_AFTER)], "not killed"),
        (Ended("OSError"), [call("pwrite", 1, Fault.EIO)], "not a typed error"),
        (Ended(killed=True), [call("pwrite", 1, Fault.EIO)], "not a typed error"),
        (Ended("EnvironmentFault", typed=True), [call("pwrite", 1, Fault.ENOSPC)], "does not say so"),
        (Ended(), [call("fsync", 1, Fault.EIO)], "not told"),
        (
            Ended("StoreFailedError", typed=True),
            [call("fsync", 1, Fault.EIO), call("mark", 0, path="log 1 00")],
            "acknowledged after",
        ),
    ],
)
def test_each_wrong_end_is_named(ended, calls, said):
    """What a run may not do with its fault has a word of its own."""
    assert any(said in found for found in wrong_end(Ran(ended, tuple(calls))))


def test_the_shim_does_what_it_is_told(runs, folder):
    """The call that is named fails, as it is told to, and is written down; no other one is."""
    (folder / "disk").mkdir()
    order = Order(fault=Fault.ENOSPC, at=7)
    ran = runs.run(Asked(str(folder / "disk"), str(folder / "record"), order, rounds=ROUNDS))
    assert [one.number for one in ran.calls if one.fault is not Fault.NONE] == [7]
    assert [one.number for one in ran.counted] == list(range(1, len(ran.counted) + 1))
    assert ran.hit is not None
    assert (ran.hit.result, ran.hit.error) == (-1, 28)


def test_the_command_prints_its_figures(capsys, tmp_path):
    """``python -m quire.testing.disk syscalls --count N``: figures, and 1 where not every call was tried."""
    assert main(["syscalls", "--count", "3", "--folder", str(tmp_path), "--json"]) == 1
    said = capsys.readouterr().out
    assert '"runs":3' in said
    assert '"violations":[]' in said
    assert list(tmp_path.iterdir()) == []
