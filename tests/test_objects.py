"""Objects: right bytes under the right name, durable when said so, and nobody else's file touched."""

import errno
import hashlib
import multiprocessing
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from quire.errors import InvariantError, StorageFullError, StoreFailedError
from quire.store.disk_faults import storage_faults
from quire.store.objects import Objects

JOB = hashlib.sha256(b"job").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    (tmp_path / "objects").mkdir()
    (tmp_path / "staging").mkdir()
    return Objects(tmp_path)


def put(objects: Objects, data: bytes, *, job: str = JOB, epoch: int = 1) -> str:
    part = objects.open_part(job, epoch)
    assert part is not None
    part.write(data)
    return objects.finalise(part).sha256


def test_finalise(objects: Objects) -> None:
    """A finished part is found under the hash of its bytes, and its part is gone."""
    sha256 = put(objects, b"paper" * 1000)
    assert sha256 == hashlib.sha256(b"paper" * 1000).hexdigest()
    assert objects.path(sha256) == objects.root / sha256[:2] / f"{sha256}.pdf"
    assert objects.path(sha256).read_bytes() == b"paper" * 1000
    assert objects.has(sha256)
    assert objects.has(sha256, 5000)
    assert not objects.has(sha256, 4999)
    assert not objects.has(hashlib.sha256(b"no").hexdigest())
    assert objects.verify(sha256)
    assert objects.parts() == []


def test_same_bytes_twice(objects: Objects) -> None:
    """The same bytes of two jobs are one object, and the second is told so."""
    put(objects, b"paper")
    part = objects.open_part(OTHER, 1)
    assert part is not None
    part.write(b"paper")
    done = objects.finalise(part)
    assert done.held
    assert [sha256 for sha256, _ in objects.held()] == [done.sha256]


def test_damaged_object_is_replaced(objects: Objects) -> None:
    """Right bytes put in place of an object that rotted mend it."""
    sha256 = put(objects, b"paper")
    objects.path(sha256).write_bytes(b"Paper")
    assert objects.has(sha256, 5)
    assert not objects.verify(sha256)
    put(objects, b"paper", epoch=2)
    assert objects.verify(sha256)


def test_sync_folders(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder with a new name is fsynced once, objects/ too, and nothing when nothing is new."""
    synced: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    names = {put(objects, b"%d" % number)[:2] for number in range(5)}
    monkeypatch.setattr(os, "fsync", seen)
    assert objects.sync_folders() == len(names) + 1
    folders = [objects.root, *(objects.root / name for name in names)]
    assert sorted(synced) == sorted(str(folder) for folder in folders)
    assert objects.sync_folders() == 0


def test_failed_sync_is_final(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync no later one says that all is well."""
    put(objects, b"paper")

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(StoreFailedError):
            objects.sync_folders()
    with pytest.raises(StoreFailedError, match="before"):
        objects.sync_folders()


def test_second_sync_waits_for_the_first(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that finds nothing to do still waits for one under way: its caller may rely on that one."""
    put(objects, b"paper")
    fsync, order, began = os.fsync, [], threading.Event()

    def slow(descriptor: int) -> None:
        began.set()
        time.sleep(0.1)
        fsync(descriptor)
        order.append("fsync")

    monkeypatch.setattr(os, "fsync", slow)
    first = threading.Thread(target=objects.sync_folders)
    first.start()
    began.wait(5)
    objects.sync_folders()
    order.append("second returned")
    first.join(5)
    assert order == ["fsync", "fsync", "second returned"]


def test_resume(objects: Objects) -> None:
    """A part goes on where it ended, hash and note included."""
    part = objects.open_part(JOB, 1)
    assert part is not None
    part.write(b"first half, ")
    part.note('"etag-1"')
    part.sync()
    part.close()
    part = objects.open_part(JOB, 1)
    assert part is not None
    assert (part.length, part.about) == (12, '"etag-1"')
    part.write(b"second half")
    assert part.sha256() == hashlib.sha256(b"first half, second half").hexdigest()
    objects.finalise(part)
    assert list(objects.staging.iterdir()) == []


def test_take_over(objects: Objects) -> None:
    """The next epoch takes over the newest part that its job left, and only its job's."""
    for job, epoch, data in ((JOB, 2, b"two"), (JOB, 10, b"ten"), (OTHER, 11, b"other")):
        part = objects.staging / f"{job}.{epoch}.part"
        part.write_bytes(data)
        part.with_name(f"{part.name}.about").write_text(f"about {epoch}")
    part = objects.open_part(JOB, 12)
    assert part is not None
    assert (part.path.name, part.length, part.about) == (f"{JOB}.12.part", 3, "about 10")
    assert part.sha256() == hashlib.sha256(b"ten").hexdigest()
    part.restart()
    part.write(b"anew")
    assert (part.about, part.sha256()) == ("", hashlib.sha256(b"anew").hexdigest())
    part.discard()
    assert [path.name for path in objects.parts()] == [f"{JOB}.2.part", f"{OTHER}.11.part"]


def test_a_held_part_is_left_alone(objects: Objects) -> None:
    """A part that somebody writes is neither opened a second time nor taken over."""
    late = objects.open_part(JOB, 1)
    assert late is not None
    late.write(b"late")
    assert objects.open_part(JOB, 1) is None
    new = objects.open_part(JOB, 2)
    assert new is not None
    assert new.length == 0
    new.write(b"new!")
    done = objects.finalise(late)
    assert objects.path(done.sha256).read_bytes() == b"late"
    assert objects.path(objects.finalise(new).sha256).read_bytes() == b"new!"


def _hold(library: str, ready: str) -> None:
    part = Objects(Path(library)).open_part(JOB, 1)
    assert part is not None
    part.write(b"half")
    Path(ready).touch()
    time.sleep(60)


def test_the_lock_ends_with_its_process(objects: Objects, tmp_path: Path) -> None:
    """While another process writes the part it is not to be had; when that is killed, it is, at once."""
    process = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(str(tmp_path), str(tmp_path / "ready"))
    )
    process.start()
    for _ in range(1000):
        if (tmp_path / "ready").exists():
            break
        time.sleep(0.01)
    assert objects.open_part(JOB, 1) is None
    process.kill()
    process.join(10)
    part = objects.open_part(JOB, 2)
    assert part is not None
    assert part.length == 4


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "", "A" * 64, "abc", "a" * 65, ".." * 8, JOB + "\n"]
)
def test_no_name_becomes_a_path(objects: Objects, name: str) -> None:
    """What is no hash and no job id is refused before it can be a path."""
    with pytest.raises(InvariantError):
        objects.path(name)
    with pytest.raises(InvariantError):
        objects.open_part(name, 1)


def test_links_are_not_followed(objects: Objects, tmp_path: Path) -> None:
    """A link in staging/ or objects/ is never written or read through."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    objects.part_path(JOB, 1).symlink_to(victim)
    with pytest.raises(StoreFailedError):
        objects.open_part(JOB, 1)
    sha256 = hashlib.sha256(b"precious").hexdigest()
    objects.path(sha256).parent.mkdir()
    objects.path(sha256).symlink_to(victim)
    assert not objects.has(sha256)
    assert not objects.verify(sha256)
    assert victim.read_bytes() == b"precious"


def test_free_space(tmp_path: Path, objects: Objects) -> None:
    """Nothing is begun when it would leave less room than must stay."""
    guarded = Objects(tmp_path, free_space_min=1 << 60)
    with pytest.raises(StorageFullError, match="must stay"):
        guarded.open_part(JOB, 1)
    with pytest.raises(StorageFullError):
        objects.check_space(1 << 60)
    objects.check_space()


def _write_with_limit(library: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    part = Objects(Path(library)).open_part(JOB, 1)
    assert part is not None
    try:
        for _ in range(10):
            part.write(b"x" * 65_536)
    except StorageFullError:
        os._exit(7)


def test_no_room(objects: Objects, tmp_path: Path) -> None:
    """A write that the kernel refuses for want of room is StorageFullError (a real limit, a real write)."""
    process = multiprocessing.get_context("spawn").Process(target=_write_with_limit, args=(str(tmp_path),))
    process.start()
    process.join(30)
    assert process.exitcode == 7
    assert objects.part_path(JOB, 1).stat().st_size == 100_000


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, StoreFailedError)],
)
def test_faults(tmp_path: Path, number: int, error: type[Exception]) -> None:
    """Each error of the disk is the decision it calls for."""
    with pytest.raises(error), storage_faults(tmp_path):
        raise OSError(number, os.strerror(number))
