"""Another domain on quire: the exporter of docs/invoices.py, killed, doubled, out of power: each once.

It is tested with ``quire.testing`` as anybody's domain is: its events by ``events_of``, its projection by the
machines of a store, its files by the disk that the power-loss campaign simulates.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.stateful import run_state_machine_as_test

from quire.actors.runtime.ports import SystemClock
from quire.events.record import Appended, Batch, Fenced
from quire.store.audit import audit
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.store.memory_store import MemoryStore
from quire.testing import LmdbStoreMachine, StoreMachine, budget, strategies
from quire.testing.disk import shim
from quire.testing.disk.simulated_disk import Honoured, SimulatedDisk, choose, write_image

sys.path.insert(0, str(Path(__file__).parent))
import faulty_disk
from faulty_disk import needs_shim

folder = faulty_disk.folder

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "invoices.py"
KILLS = 12
DUE = {f"A{number:04d}": 100 + number for number in range(400)}


@pytest.fixture(scope="module")
def invoices():
    spec = importlib.util.spec_from_file_location("invoices", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["invoices"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["invoices"]


def started(folder: Path) -> subprocess.Popen[str]:
    words = [f"{number}={cents}" for number, cents in DUE.items()]
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def exported(folder: Path) -> int:
    return sum(1 for _ in (folder / "out").glob("*.json"))


def account(invoices, folder: Path) -> dict[str, list[str]]:
    """The events of each invoice; the log is sound, and each file says what its invoice says."""
    store = LmdbStore(
        folder / "events",
        invoices.DOMAIN,
        run_id="t",
        clock=SystemClock(),
        map_size=1 << 30,
        readonly=True,
    )
    report = audit(store, invoices.DOMAIN)
    assert report.ok, report.problems
    told: dict[str, list[str]] = {}
    for recorded in store.read(0, limit=10_000):
        told.setdefault(recorded.stream, []).append(type(recorded.event).__name__)
    store.close()
    for number in DUE:
        value = json.loads((folder / "out" / f"{number}.json").read_text())
        assert value == {"invoice": number, "cents": DUE[number]}
    return told


def test_each_invoice_is_exported_once_whatever_is_killed(invoices, tmp_path):
    """``kill -9`` amid the files, then the same command again: one file, one end for each invoice."""
    chance = random.Random(5)
    hit = 0
    for _ in range(KILLS):
        with started(tmp_path) as process:
            wanted = exported(tmp_path) + chance.randint(1, 12)
            deadline = time.monotonic() + 20
            while exported(tmp_path) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.01))
            process.send_signal(signal.SIGKILL)
            hit += process.wait() == -signal.SIGKILL
    with started(tmp_path) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, f"{len(DUE)} invoices exported\n"), err
    told = account(invoices, tmp_path)
    assert hit > KILLS // 3
    assert set(told) == set(DUE)
    assert all(events.count("Exported") == events.count("Ended") == 1 for events in told.values())


def test_two_exporters_share_the_work(invoices, tmp_path):
    """Two processes at once: nothing twice, nothing left."""
    processes = [started(tmp_path) for _ in range(2)]
    for process in processes:
        assert process.wait(30) == 0
        process.communicate()
    if missing := [number for number in DUE if not (tmp_path / "out" / f"{number}.json").exists()]:
        pytest.fail(f"{missing} were not exported")
    told = account(invoices, tmp_path)
    assert all(events.count("Exported") == 1 for events in told.values())


def test_a_late_owner_is_fenced(invoices):
    """After the next one has taken an invoice up, the one before can say nothing of it."""
    store = MemoryStore(invoices.DOMAIN, run_id="t", clock=SystemClock())
    due = Batch("A1", (invoices.Due(5),), expected_version=0)
    first = Batch("A1", (invoices.Taken("w1"),), epoch=1, opens_epoch=True)
    second = Batch("A1", (invoices.Taken("w2"),), epoch=2, opens_epoch=True)
    late = Batch("A1", (invoices.Exported(),), epoch=1)
    results = store.append([due, first, second, late])
    assert [type(result) for result in results] == [Appended, Appended, Appended, Fenced]
    (row,) = store.rows("invoices", [b"A1"])
    assert (row.worker, row.exported) == ("w2", False)


# With the kit


def test_every_event_survives_the_log(invoices):
    """What ``events_of`` draws of the domain comes back from the log as it went in."""

    @settings(budget(100), max_examples=100)
    @given(strategies.events_of(invoices.DOMAIN))
    def kept(event):
        store = MemoryStore(invoices.DOMAIN, run_id="t", clock=SystemClock())
        first = invoices.Due(1)
        store.append([Batch("A1", (first, event))])
        assert [one.event for one in store.read()] == [first, event]

    kept()


@pytest.mark.parametrize("kind", [StoreMachine, LmdbStoreMachine])
def test_its_projection_holds_whatever_is_done_to_the_log(invoices, kind):
    """Appends, fences, reopens, crashes, rebuilds in any order: tables and indexes are the fold's."""

    class Machine(kind):
        domain = invoices.DOMAIN

    run_state_machine_as_test(Machine, settings=budget(40 if kind is StoreMachine else 4))


# The power goes

UNDER_SHIM = """
import sys
from pathlib import Path
from quire.testing.disk import shim
sys.path.insert(0, sys.argv[1])
disk, record, fault, at, due = Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:])
shim.arm(disk, record, shim.Order(shim.Fault(fault), at, data=True))
import invoices
invoices.export(disk / "library", {f"A{number}": 100 + number for number in range(due)})
shim.mark("done")
"""
INVOICES, IMAGES_PER_CALL = 6, 3


def recorded(folder: Path, fault: shim.Fault, at: int) -> tuple[shim.Call, ...]:
    """The calls of one run on the disk below a folder; it ends where the fault killed it.

    How many calls a run has depends on its threads: a late fault may find none to fall on.
    """
    record = folder / "record"
    record.unlink(missing_ok=True)
    words = [SCRIPT.parent, folder / "disk", record, int(fault), at, INVOICES]
    environ = {**os.environ, "LD_PRELOAD": str(shim.library())}
    ended = subprocess.run(
        [sys.executable, "-c", UNDER_SHIM, *map(str, words)], env=environ, capture_output=True, timeout=30
    )
    assert ended.returncode in ((-signal.SIGKILL, 0) if fault else (0,)), ended.stderr.decode()
    return tuple(shim.calls(record, folder / "disk"))


def missing(invoices, disk: Path, *, done: bool) -> list[str]:
    """The invoices that the log of an image calls exported, or that must be, without their file."""
    library = Library.open(disk / "library")
    store = LmdbStore(library.events, invoices.DOMAIN, run_id="i", clock=SystemClock(), map_size=1 << 26)
    said = {key.decode(): row for key, row in store.scan("invoices") if row.exported}
    store.close()
    assert not done or len(said) == INVOICES

    def held(number: str, cents: int) -> bool:
        path = library.path / "out" / f"{number}.json"
        return path.exists() and path.read_text() == json.dumps({"invoice": number, "cents": cents})

    return [number for number, row in said.items() if not held(number, row.cents)]


def lost(invoices, folder: Path, at: int) -> tuple[int, list[str]]:
    """Images after a kill, a second run, and the power's going within each of its calls; what they lack."""
    (folder / "disk").mkdir()
    first = recorded(folder, shim.Fault.KILL_AFTER, at)
    disk, chance, images, found, done = SimulatedDisk(Honoured()), random.Random(at), 0, [], False
    for call in first:
        disk.do(call)
    for call in recorded(folder, shim.Fault.NONE, 0):
        done = done or call.name == "mark"
        disk.begin(call)
        for _ in range(IMAGES_PER_CALL):
            image = folder / "image"
            image.mkdir()
            write_image(disk.image(choose(disk, chance)), image)
            found += missing(invoices, image, done=done)
            images += 1
            shutil.rmtree(image)
        disk.end(call)
    shutil.rmtree(folder / "disk")
    return images, found


@needs_shim
def test_what_is_called_exported_is_there_when_the_power_goes(invoices, folder):
    """Killed behind a rename, run again, out of power within each call: an exported invoice has its file.

    Without the sync of ``adopt`` some do not: nobody had synced the dead owner's rename.
    """
    (folder / "disk").mkdir()
    whole = recorded(folder, shim.Fault.NONE, 0)
    shutil.rmtree(folder / "disk")
    renames = [one.number for one in whole if one.name == "rename" and one.other.endswith(".json")]
    assert len(renames) == INVOICES
    seen = [lost(invoices, folder, at) for at in (renames[0], renames[2], renames[-1])]
    assert [found for _, found in seen] == [[], [], []]
    assert sum(images > 50 for images, _ in seen) >= 2
