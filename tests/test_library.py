"""The library's folder, and how its workers are seen alive and dead."""

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from quire.errors import EnvironmentFault, InvariantError, UsageError
from quire.store import library as library_module
from quire.store.library import FOLDERS, NETWORK_FILESYSTEMS, Library, filesystem_of
from quire.store.lmdb_store import LmdbStore
from quire.testing.store_contract import BANK, StepClock

SPAWN = multiprocessing.get_context("spawn")


def test_create(tmp_path: Path) -> None:
    """Opening makes the four folders, and opening again finds them."""
    library = Library.open(tmp_path / "papers" / "mine")
    assert sorted(path.name for path in library.path.iterdir()) == sorted(FOLDERS)
    assert Library.open(library.path).events == library.events
    assert library.objects.root == library.path / "objects"


def test_creating_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that gets a new name is fsynced, and the one above, whose maker may have died first."""
    synced: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    Library.open(tmp_path / "a" / "b")
    folders = (tmp_path.parent, tmp_path, tmp_path / "a", tmp_path / "a" / "b")
    assert set(synced) == {str(folder) for folder in folders}
    synced.clear()
    Library.open(tmp_path / "a" / "b")
    assert set(synced) == {str(tmp_path / "a"), str(tmp_path / "a" / "b")}


def test_open_existing(tmp_path: Path) -> None:
    """Opening what is not there creates nothing and says what is missing."""
    with pytest.raises(UsageError, match="none is missing"):
        Library.open_existing(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    Library.open(tmp_path / "half")
    with pytest.raises(UsageError, match=r"data\.mdb is missing"):
        Library.open_existing(tmp_path / "half")
    LmdbStore(tmp_path / "half" / "events", BANK, run_id="r", clock=StepClock(), map_size=1 << 24).close()
    assert Library.open_existing(tmp_path / "half").path == tmp_path / "half"


def test_foreign_folder(tmp_path: Path) -> None:
    """A folder that holds other things does not become a library; one with only settings does."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        Library.open(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        Library.open(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "quire.yaml").write_text("{}")
    assert Library.open(tmp_path / "new").settings.exists()


def test_readonly_place() -> None:
    """A place that cannot be written is a fault of the environment, told with its path."""
    with pytest.raises(EnvironmentFault, match="/proc"):
        Library.open(Path("/proc/library"))


def test_readonly_folder(tmp_path: Path) -> None:
    """A library whose folder became read-only is refused before anything is begun."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    library = Library.open(tmp_path / "library")
    library.workers.chmod(0o555)
    with pytest.raises(EnvironmentFault, match="workers"):
        Library.open(library.path)
    library.workers.chmod(0o755)


MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 22 0:41 / /srv/my\040share rw shared:7 master:2 - cifs //server/share rw
32 22 0:42 / /home/local rw - xfs /dev/sdb1 rw
33 22 0:43 / /mnt rw - ext4 /dev/sdc1 rw
34 22 0:44 / /mnt rw - fuse.sshfs host: rw
malformed line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", "ext4"),
        ("/home/ann/x", "nfs4"),
        ("/homework", "ext4"),
        ("/srv/my share/x", "cifs"),
        ("/home/local/x", "xfs"),
        ("/mnt/x", "fuse.sshfs"),
    ],
)
def test_filesystem_of(path: str, kind: str) -> None:
    """The innermost and latest mount tells the file system of a path, blanks in its name included."""
    assert filesystem_of(Path(path), MOUNTS) == kind


def test_network_filesystems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library on a network file system is refused, when it is made and when it is there already."""
    assert {"nfs", "nfs4", "cifs", "smb3", "lustre", "9p", "fuse.sshfs"} <= NETWORK_FILESYSTEMS
    monkeypatch.setattr(library_module, "filesystem_of", lambda _path, _text: "nfs4")
    with pytest.raises(EnvironmentFault, match="nfs4"):
        Library.open(tmp_path / "library")
    assert not (tmp_path / "library").exists()


def _work(path: str, worker: str) -> None:
    lock = Library.open(Path(path)).claim_worker(worker)
    (Path(path).parent / worker).touch()
    time.sleep(60)
    lock.release()


def test_worker_lock(tmp_path: Path) -> None:
    """A worker is alive while its process is, seen from outside, and dead at once when it is killed."""
    library = Library.open(tmp_path / "library")
    process = SPAWN.Process(target=_work, args=(str(library.path), "worker-1"))
    process.start()
    for _ in range(1000):
        if (tmp_path / "worker-1").exists():
            break
        time.sleep(0.01)
    mine = library.claim_worker("worker-2")
    assert library.is_alive("worker-1")
    assert library.is_alive("worker-2")
    assert library.living_workers() == ["worker-1", "worker-2"]
    assert library.remove_dead_locks() == []
    process.kill()
    process.join(10)
    assert not library.is_alive("worker-1")
    assert library.living_workers() == ["worker-2"]
    assert library.remove_dead_locks() == ["worker-1"]
    assert [path.name for path in library.workers.iterdir()] == ["worker-2.lock"]
    mine.release()
    mine.release()
    assert not library.is_alive("worker-2")
    assert not library.is_alive("never-was")


def test_two_who_look_see_no_owner(tmp_path: Path) -> None:
    """Somebody who tests a dead worker's lock at the same moment does not make it seem alive."""
    library = Library.open(tmp_path / "library")
    (library.workers / "dead.lock").touch()
    with (library.workers / "dead.lock").open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        assert not library.is_alive("dead")


def test_worker_ids(tmp_path: Path) -> None:
    """A worker id is used once, and is never a path."""
    library = Library.open(tmp_path / "library")
    lock = library.claim_worker("w1")
    with pytest.raises(InvariantError, match="taken"):
        library.claim_worker("w1")
    lock.release()
    for worker in ("../x", "", "a/b", "w" * 65, "w1\n"):
        with pytest.raises(InvariantError):
            library.claim_worker(worker)
