"""What LMDB does to the careless, and that the store is not: each test is one rule of DESIGN, "The log"."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest

from quire.errors import (
    DamagedError,
    EnvironmentFault,
    InvariantError,
    StorageFullError,
    StoreFailedError,
    UsageError,
)
from quire.events.record import Appended, Batch
from quire.store.audit import audit
from quire.store.lmdb_birth import create
from quire.store.lmdb_layout import COMMITS, TABLES_MAX
from quire.store.lmdb_store import LmdbStore
from quire.testing.store_contract import ACCOUNTS, BANK, Deposited, StepClock, deposit

MAP_SIZE = 1 << 26
OTHER_BANK = replace(BANK, projections=(replace(ACCOUNTS, version=2),))
SPAWN = multiprocessing.get_context("spawn")


def opened(folder: Path, domain: Any = BANK, **options: Any) -> LmdbStore:
    options = {"run_id": "run", "clock": StepClock(), "map_size": MAP_SIZE, **options}
    return LmdbStore(folder / "events", domain, **options)


def in_child(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"from pathlib import Path\nfrom tests_path import *\nfolder = Path({str(folder)!r})\n{code}"
    program = program.replace(
        "from tests_path import *",
        "from dataclasses import replace\n"
        "from quire.store.lmdb_store import LmdbStore\n"
        "from quire.testing.store_contract import ACCOUNTS, BANK, StepClock, deposit\n"
        "def opened(domain=BANK, **o):\n"
        "    return LmdbStore(folder / 'events', domain, run_id='child', clock=StepClock(), "
        f"map_size={MAP_SIZE}, **o)",
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def data_descriptors(folder: Path) -> list[int]:
    """Our open descriptors of the data file, the one that LMDB writes pages through first."""
    data = (folder / "events" / "data.mdb").resolve()
    return sorted(int(link.name) for link in Path("/proc/self/fd").iterdir() if link.resolve() == data)


@contextmanager
def broken_disk(folder: Path, device: str, flags: int) -> Iterator[None]:
    """Put a device under LMDB's descriptors of the data file, so that the kernel itself gives the errors."""
    ours = data_descriptors(folder)
    assert ours
    saved = {number: os.dup(number) for number in ours}
    bad = os.open(device, flags)
    for number in ours:
        os.dup2(bad, number, inheritable=False)
    try:
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number, inheritable=False)
            os.close(copy)
        os.close(bad)


def test_default_sync_flags(tmp_path: Path) -> None:
    """The environment is opened with LMDB's default sync flags: others lost acknowledged commits."""
    store = opened(tmp_path)
    flags = store._environment.env.flags()
    assert (flags["sync"], flags["metasync"], flags["writemap"], flags["map_async"]) == (
        True,
        True,
        False,
        False,
    )
    store.close()


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    """Each append asks the kernel to make data durable before it returns (strace sees it)."""
    strace = "/usr/bin/strace"
    if not Path(strace).exists():
        pytest.skip("no strace on this machine")
    code = (
        "import sys\nfrom pathlib import Path\nfrom quire.store.lmdb_store import LmdbStore\n"
        "from quire.testing.store_contract import BANK, StepClock, deposit\n"
        f"s = LmdbStore(Path({str(tmp_path / 'events')!r}), BANK, run_id='r', clock=StepClock())\n"
        "[s.append([deposit('account-a', 1)]) for _ in range(5)]"
    )
    trace = subprocess.run(
        [strace, "-f", "-e", "trace=fdatasync,fsync", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert trace.stderr.count("sync(") >= 5


def test_map_full(tmp_path: Path) -> None:
    """A full map is StorageFullError, nothing of the call is kept, and a larger map goes on from there."""
    store = opened(tmp_path, map_size=1 << 18)
    kept = 0

    def fill() -> None:
        nonlocal kept
        for _ in range(10_000):
            store.append([deposit("account-a", *range(50))])
            kept += 50

    with pytest.raises(StorageFullError, match="map_size"):
        fill()
    assert store.head().position == kept
    assert store.rows("accounts", [b"account-a"])[0].events == kept
    store.close()
    store = opened(tmp_path, map_size=MAP_SIZE)
    assert store.append([deposit("account-a", 1)]) == [Appended(kept + 1, kept + 1)]
    assert audit(store, BANK).ok
    store.close()


def test_disk_full(tmp_path: Path) -> None:
    """A full disk is StorageFullError, and the same store goes on when there is room again."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    data = data_descriptors(tmp_path)[0]
    saved, full = os.dup(data), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, data, inheritable=False)
    try:
        with pytest.raises(StorageFullError, match="free disk space"):
            store.append([deposit("account-a", 2)])
    finally:
        os.dup2(saved, data, inheritable=False)
    assert store.head().position == 1
    assert store.append([deposit("account-a", 3)]) == [Appended(2, 2)]
    assert audit(store, BANK).ok
    store.close()


def test_failed_disk(tmp_path: Path) -> None:
    """After a failed write the store says no until it is opened again; what was acknowledged is there."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    with broken_disk(tmp_path, "/dev/null", os.O_RDONLY), pytest.raises(StoreFailedError):
        store.append([deposit("account-a", 2)])
    with pytest.raises(StoreFailedError, match="open it again"):
        store.append([deposit("account-a", 2)])
    assert "failed" in repr(store)
    store.close()
    store = opened(tmp_path)
    assert store.append([deposit("account-a", 2)]) == [Appended(2, 2)]
    store.close()


def test_refused_put_is_noticed(tmp_path: Path) -> None:
    """A put that LMDB refuses in silence (a key behind the head) raises, and nothing is kept."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    with store._environment.env.begin(write=True) as txn:
        txn.put((99).to_bytes(8, "big"), b"x" * 40, db=store._environment.db[b":commits"])
    with pytest.raises(DamagedError, match="behind its head at position 1"):
        store.append([deposit("account-a", 2)])
    assert store.head().position == 1
    store.close()


def test_new_projection_version_rebuilds(tmp_path: Path) -> None:
    """A projection whose version changed is folded anew when the log is opened; old tables are emptied."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    store.close()
    renamed = replace(ACCOUNTS, name="ledgers", version=7)
    store = opened(tmp_path, replace(BANK, projections=(renamed,)))
    assert [key for key, _ in store.scan("ledgers")] == [b"account-a"]
    with store._environment.env.begin() as txn:
        assert txn.stat(store._environment.env.open_db(b"accounts", txn, create=False))["entries"] == 0
    assert audit(store, replace(BANK, projections=(renamed,))).ok
    store.close()


def test_second_version_is_refused(tmp_path: Path) -> None:
    """Two versions of the code never write one log: the older one is refused within its write transaction."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    newer = in_child(
        "s = opened(replace(BANK, projections=(replace(ACCOUNTS, version=2),)))\n"
        "s.append([deposit('account-a', 1)])\ns.close()",
        tmp_path,
    )
    assert newer.returncode == 0, newer.stderr
    with pytest.raises(UsageError, match="another version"):
        store.append([deposit("account-a", 1)])
    with pytest.raises(UsageError, match="another version"):
        store.rows("accounts", [b"account-a"])
    assert store.head().position == 2
    store.close()


def _write_until_killed(folder: Path, said: str) -> None:
    store = opened(folder)
    number = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        [result] = store.append([deposit("account-a", *range(3))])
        assert isinstance(result, Appended)
        os.write(number, b"%d\n" % (result.position + 2))


def test_kill_loses_nothing(tmp_path: Path) -> None:
    """Killed at any moment, the log has every acknowledged commit, whole, and can be written at once."""
    said = tmp_path / "said"
    said.touch()
    for round_ in range(4):
        writer = SPAWN.Process(target=_write_until_killed, args=(tmp_path, str(said)))
        writer.start()
        lines = len(said.read_bytes().splitlines())
        for _ in range(1000):
            if len(said.read_bytes().splitlines()) > lines + 5 + 7 * round_:
                break
            time.sleep(0.01)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(10)
        acknowledged = int(said.read_bytes().splitlines()[-1])
        store = opened(tmp_path)
        position = store.head().position
        assert acknowledged <= position <= acknowledged + 3
        assert position % 3 == 0
        assert audit(store, BANK).ok
        store.close()
    assert position > 60


def _append_many(folder: Path, name: str, count: int) -> None:
    store = opened(folder)
    for step in range(count):
        store.append([deposit(f"account-{name}", step), deposit("account-both", 1)])
    store.close()


def test_two_processes(tmp_path: Path) -> None:
    """Two processes that append at once leave one gapless log, and a reader in a third sees it grow."""
    opened(tmp_path).close()
    writers = [SPAWN.Process(target=_append_many, args=(tmp_path, name, 150)) for name in "xy"]
    for writer in writers:
        writer.start()
    store = opened(tmp_path, readonly=True)
    seen: list[int] = []
    for _ in range(2000):
        events = store.read(len(seen), wait_s=0.1)
        seen += [event.position for event in events]
        if len(seen) == 600 or not any(writer.is_alive() for writer in writers):
            break
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    seen += [event.position for event in store.read(len(seen))]
    assert seen == list(range(1, 601))
    assert [event.version for event in store.read_stream("account-both")] == list(range(1, 301))
    assert store.rows("accounts", [b"account-both"])[0].balance == 300
    assert audit(store, BANK).ok
    store.close()


def test_fork_guard(tmp_path: Path) -> None:
    """A store that crossed a fork refuses to work in the child, and the parent's is unharmed."""
    store = opened(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.append([deposit("account-a", 1)])
        except InvariantError as error:
            code = 0 if "fork" in str(error) else 2
        finally:
            store.close()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.append([deposit("account-a", 1)]) == [Appended(1, 1)]
    store.close()


def test_opened_twice(tmp_path: Path) -> None:
    """Opening one environment twice in a process is refused; its locks would be lost with the first close."""
    store = opened(tmp_path)
    with pytest.raises(UsageError, match="already"):
        opened(tmp_path)
    assert store.append([deposit("account-a", 1)]) == [Appended(1, 1)]
    store.close()


def test_dead_readers_are_cleared(tmp_path: Path) -> None:
    """The reader slot of a process that died is free again after the next opening."""
    witness = opened(tmp_path)  # as long as one process has it open, LMDB itself keeps the slots
    child = in_child(
        "import os, signal\ns = opened()\nt = s._environment.env.begin()\nt.get(b'x')\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path,
    )
    assert child.returncode == -signal.SIGKILL
    assert "no active readers" not in witness._environment.env.readers()
    assert in_child("opened().close()", tmp_path).returncode == 0
    assert "no active readers" in witness._environment.env.readers()
    witness.close()


def test_no_read_transaction_stays(tmp_path: Path) -> None:
    """No call leaves a read transaction behind, a waiting tail neither: one would make the file grow."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    store.read(1, wait_s=0.05)
    store.scan("accounts", limit=0)
    store.read_stream("account-a", limit=1)
    store.commits(0, bytes_max=1)
    assert "no active readers" in store._environment.env.readers()
    store.close()


def test_flipped_byte(tmp_path: Path) -> None:
    """A flipped byte, which LMDB does not see, is found by reading and by the audit, by its position."""
    store = opened(tmp_path)
    for amount in range(10):
        store.append([deposit("account-a", 70_000 + amount, 1)])
    store.close()
    file = tmp_path / "events" / "data.mdb"
    data = bytearray(file.read_bytes())
    needle = (70_004).to_bytes(4, "big")
    places = [place for place in range(len(data)) if data[place : place + 4] == needle]
    assert places
    for place in places:
        data[place + 3] ^= 0x02
    file.write_bytes(data)
    store = opened(tmp_path, readonly=True)
    with pytest.raises(DamagedError, match="position 9"):
        store.read()
    with pytest.raises(DamagedError, match="position 9"):
        store.read_stream("account-a")
    report = audit(store, BANK)
    assert not report.ok
    assert [(finding.kind, finding.position) for finding in report.problems] == [("chain", 9)]
    store.close()


def test_damaged_end_refuses_writers(tmp_path: Path) -> None:
    """A log whose last commit is damaged is not opened for writing; read-only it opens, for the audit."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    key = (1).to_bytes(8, "big")
    with store._environment.env.begin(write=True) as txn:
        value = bytearray(txn.get(key, db=store._environment.db[b":commits"]))
        value[-1] ^= 1
        txn.put(key, bytes(value), db=store._environment.db[b":commits"])
    store.close()
    with pytest.raises(DamagedError, match="position 1"):
        opened(tmp_path)
    store = opened(tmp_path, readonly=True)
    assert [finding.kind for finding in audit(store, BANK).problems] == ["chain"]
    store.close()


def test_not_a_log(tmp_path: Path) -> None:
    """A file that is no environment is damage, a folder without one is a wrong request."""
    with pytest.raises(UsageError, match="no log"):
        opened(tmp_path, readonly=True)
    assert not (tmp_path / "events").exists()
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "data.mdb").write_bytes(b"x" * 16_384)
    with pytest.raises(DamagedError):
        opened(tmp_path)


def test_a_log_that_is_being_made_is_not_called_damaged(tmp_path: Path) -> None:
    """Who comes to read before the first write is told to ask again; a log without its commits is damaged."""
    folder = tmp_path / "events"
    folder.mkdir()
    create(folder, map_size=MAP_SIZE)
    with pytest.raises(UsageError, match="being made"):
        opened(tmp_path, readonly=True)
    opened(tmp_path).close()
    env = lmdb.open(str(folder), max_dbs=TABLES_MAX)
    with env.begin(write=True) as txn:
        txn.drop(env.open_db(COMMITS, txn))
    env.close()
    with pytest.raises(DamagedError, match="lacks a part"):
        opened(tmp_path, readonly=True)


def test_readonly(tmp_path: Path) -> None:
    """A read-only store reads and never writes, also where the projections are another version's."""
    store = opened(tmp_path)
    store.append([deposit("account-a", 1)])
    store.close()
    store = opened(tmp_path, OTHER_BANK, readonly=True)
    assert store.head().position == 1
    assert len(store.read()) == 1
    with pytest.raises(UsageError, match="another version"):
        store.scan("accounts")
    with pytest.raises(UsageError, match="read-only"):
        store.append([deposit("account-a", 1)])
    with pytest.raises(UsageError, match="read-only"):
        store.rebuild()
    store.close()


def test_opening_is_cheap(tmp_path: Path) -> None:
    """Opening a log that exists takes some milliseconds, however long it is: only its end is checked."""
    store = opened(tmp_path)
    for start in range(40):
        store.append([deposit(f"account-{start}-{n}", *range(10)) for n in range(50)])
    store.close()
    took = []
    for _ in range(5):
        began = time.perf_counter()
        store = opened(tmp_path)
        took.append(time.perf_counter() - began)
        store.close()
    assert min(took) < 0.02  # 20,000 events; measured: 2 ms


@pytest.mark.parametrize("engine", ["0", "1"])
def test_both_engines(tmp_path: Path, engine: str) -> None:
    """The contract holds under both of LMDB's engines, and a log of either opens without being told which."""
    said = in_child(
        "import lmdb\ns = opened()\n"
        "for n in range(20):\n    s.append([deposit('account-a', n), deposit(f'account-{n}', n, n)])\n"
        "s.rebuild()\nfrom quire.store.audit import audit\nr = audit(s, BANK)\nassert r.ok, r\n"
        "print(lmdb.version()[0], s.head().position, s._environment.env.lib_version())",
        tmp_path,
        LMDB_DEFAULT_LIB_VERSION=engine,
    )
    assert said.stdout.split()[:2] == [engine, "60"], said.stderr
    contract = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "TestLmdb and not readers", "tests/test_store_contract.py"],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "LMDB_DEFAULT_LIB_VERSION": engine},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert contract.returncode == 0, contract.stdout[-3000:]
    store = opened(tmp_path)
    assert store.append([deposit("account-a", 1)]) == [Appended(61, 21)]
    assert audit(store, BANK).ok
    store.close()


def test_unreadable_folder(tmp_path: Path) -> None:
    """A folder that cannot be made is a fault of the environment, told with its path."""
    (tmp_path / "events").write_text("a file")
    with pytest.raises(EnvironmentFault, match="events"):
        opened(tmp_path)


def test_event_without_table(tmp_path: Path) -> None:
    """Streams that no projection looks at are kept all the same."""
    store = opened(tmp_path)
    store.append([Batch("other", (Deposited(1),))])
    assert store.read_stream("other")[0].event == Deposited(1)
    assert store.statistics()["streams"] == 1
    store.close()
