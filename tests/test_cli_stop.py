"""How a run stops: Ctrl-C once and twice, a dead stand-in, a full or read-only disk; and that it goes on."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.store.library import Library
from quire.testing.web import Copy, Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import here, lines, list_of, rehearsal, rehearsed, started, wait_until

FEW = {"QUIRE_WORKS_IN_HAND": "4"}


def world_of(count: int, **more: object) -> World:
    return World.of(*(Paper(doi=f"10.5555/stop.{n}", **more) for n in range(count)))


def stalling(count: int) -> World:
    """Every PDF stands still half way."""
    return World.of(
        *(
            Paper(doi=f"10.5555/stop.{n}", copies=(Copy(fate="stall", stall_s=60.0),), size=200_000)
            for n in range(count)
        )
    )


def goes_on(world: World, library: Path, file: Path) -> None:
    """The same command brings home the rest, each work once, and the audit finds nothing wrong."""
    with serve(world) as served:
        done = rehearsed(served.url, library, file)
    found = json.loads(done.stdout)
    assert (done.returncode, found["waiting"], found["failed"]) == (0, 0, 0), done.stderr
    assert found["finalized"] == found["jobs"] == len(world.work_ids())
    audited = here("audit", "--json", "--library", library)
    assert (audited.returncode, json.loads(audited.stdout)["problems"]) == (0, [])


# -- Ctrl-C


def test_ctrl_c_finishes_what_is_in_hand_and_exits_130(tmp_path):
    """After SIGINT nothing new is taken up, leases are let go, it says how to go on, and that works."""
    world = world_of(140)
    file = list_of(world, tmp_path / "a.txt")
    with serve(world) as served, started("run", file, *rehearsal(served.url, tmp_path / "lib")) as process:
        wait_until(lambda: len(served.ledger) >= 20)
        process.send_signal(signal.SIGINT)
        said, warned = process.communicate(timeout=40)
    assert process.returncode == 130, warned
    assert "finishing what is in hand" in warned
    assert "go on with the same command" in warned
    assert json.loads(said)["waiting"] > 0
    status = json.loads(here("status", "--json", "--leases", "--library", tmp_path / "lib").stdout)
    assert status["leases"] == []
    goes_on(world, tmp_path / "lib", file)


def test_ctrl_c_when_everything_is_in_hand_ends_like_any_run(tmp_path):
    """Where nothing is left of the list the outcome decides: exit 0, no word of going on; it counted them."""
    world = World.of(*(Paper(doi=f"10.5555/stop.{n}", fate="stall_once") for n in range(5)))
    file = list_of(world, tmp_path / "a.txt")
    with serve(world) as served, started("run", file, *rehearsal(served.url, tmp_path / "lib")) as process:
        wait_until(lambda: served.ledger.open_now() >= 5)
        process.send_signal(signal.SIGINT)
        said, warned = process.communicate(timeout=40)
    assert (process.returncode, json.loads(said)["finalized"]) == (0, 5), warned
    assert "finishing what is in hand (5 works); a second Ctrl-C stops at once" in warned
    assert "go on with" not in warned


def test_a_second_ctrl_c_stops_at_once_and_nothing_is_lost(tmp_path):
    """While streams stand still the first Ctrl-C waits for them; the second ends it; the rest comes home."""
    file = list_of(world_of(6), tmp_path / "a.txt")
    flags = rehearsal("", tmp_path / "lib")[2:]
    with (
        serve(stalling(6)) as served,
        started("run", file, "--stand-in", served.url, *flags, env=FEW) as process,
    ):
        wait_until(lambda: served.ledger.open_now() >= 4)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=2) == 130
        assert "stopped at once; go on with the same command, or with: quire resume" in process.stderr.read()
    goes_on(world_of(6), tmp_path / "lib", file)


def test_progress_lives_while_nothing_finishes(tmp_path):
    """On a terminal the line is redrawn although every stream stands still; it has counts and no rate."""
    file = list_of(world_of(6), tmp_path / "a.txt")
    flags = rehearsal("", tmp_path / "lib")[2:]
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    drawn = bytearray()

    def draws() -> int:
        if select.select([ours], [], [], 0)[0]:
            drawn.extend(os.read(ours, 4096))
        return drawn.count(b"\r\x1b[K")

    with (
        serve(stalling(6)) as served,
        started("run", file, "--stand-in", served.url, *flags, env=FEW, stderr=theirs),
    ):
        wait_until(lambda: draws() >= 3)
    os.close(theirs)
    os.close(ours)
    said = drawn.decode()
    assert "0 home · 0 failed · 6 to go (4 in hand)" in said
    assert "none finished in the last" in said


def test_further_workers_do_not_outlive_a_killed_parent(tmp_path):
    """After SIGKILL of the parent its workers end by themselves, and the same command goes on."""
    world = world_of(150)
    file = list_of(world, tmp_path / "a.txt")
    flags = [*rehearsal("", tmp_path / "lib")[2:], "--workers", 2]
    library = Library(tmp_path / "lib")
    few = {"QUIRE_WORKS_IN_HAND": "1"}
    with (
        serve(world) as served,
        started("run", file, "--stand-in", served.url, *flags, env=few) as process,
    ):
        wait_until(lambda: (tmp_path / "lib" / "workers").exists() and len(library.living_workers()) == 2)
        process.kill()
        process.wait(timeout=5)
        assert len(library.living_workers()) == 1, "the other worker died with it, or never was"
        wait_until(lambda: not library.living_workers(), 15)
        unfinished = json.loads(here("status", "--json", "--library", tmp_path / "lib").stdout)["unfinished"]
    assert unfinished > 0
    goes_on(world, tmp_path / "lib", file)


# -- the stand-in


def test_a_stand_in_that_is_down_at_the_start_exits_4(tmp_path):
    """A clear word and exit 4; when it is there the same command does its work."""
    world = world_of(3)
    file = list_of(world, tmp_path / "a.txt")
    with serve(world_of(1)) as gone:
        url = gone.url
    done = rehearsed(url, tmp_path / "lib", file)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"the stand-in {url} does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    goes_on(world, tmp_path / "lib", file)


def test_a_stand_in_that_dies_during_a_run_exits_4(tmp_path):
    """No work is failed for it: all that is not home yet comes home when it is back."""
    world = world_of(140)
    file = list_of(world, tmp_path / "a.txt")
    served = serve(world).start()
    try:
        with started("run", file, *rehearsal(served.url, tmp_path / "lib"), env=FEW) as process:
            wait_until(lambda: len(served.ledger) >= 40)
            served.close()
            _, warned = process.communicate(timeout=40)
    finally:
        served.close()
    assert process.returncode == 4, warned
    assert "does not answer" in warned
    assert "defect" not in warned
    goes_on(world, tmp_path / "lib", file)


# -- the disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system takes the right to mount one")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_exits_4_and_the_run_goes_on_when_there_is_room(small_disk, tmp_path):
    """Neither log nor papers are harmed by a disk that fills up in the middle of a run."""
    world = world_of(30, size=200_000)
    file = list_of(world, tmp_path / "a.txt")
    library = small_disk / "lib"
    with serve(world) as served:
        done = rehearsed(served.url, library, file, env={"QUIRE_DOWNLOAD__FREE_SPACE_MIN": "1"})
    assert done.returncode == 4, done.stderr
    assert "room" in done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    with serve(world) as served:
        done = rehearsed(served.url, library, file, env={"QUIRE_DOWNLOAD__FREE_SPACE_MIN": "1"})
    found = json.loads(done.stdout)
    assert (done.returncode, found["finalized"], found["waiting"]) == (0, 30, 0), done.stderr
    assert here("audit", "--library", library).returncode == 0


def test_a_disk_with_too_little_free_exits_4_before_it_is_full(small_disk, tmp_path):
    """The free-space guard speaks first: which setting asks for how much."""
    world = world_of(3)
    with serve(world) as served:
        done = rehearsed(served.url, small_disk / "lib", list_of(world, tmp_path / "a.txt"))
    assert done.returncode == 4, done.stderr
    assert "free" in done.stderr


def test_a_read_only_library_exits_4(small_disk, tmp_path):
    """What cannot be written is told as that, by commands that write; reading goes on."""
    world = world_of(2)
    file = list_of(world, tmp_path / "a.txt")
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    free = {"QUIRE_DOWNLOAD__FREE_SPACE_MIN": "1"}
    with serve(world) as served:
        assert rehearsed(served.url, small_disk / "lib", file, env=free).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        done = rehearsed(served.url, small_disk / "lib", file, env=free)
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert "cannot be written" in done.stderr
    listed = here("list", "--json", "--library", small_disk / "lib")
    assert len(lines(listed.stdout)) == 2, listed.stderr
    assert here("retry", "--library", small_disk / "lib").returncode == 4
