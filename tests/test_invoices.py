"""Another domain on quire: the exporter of docs/invoices.py, killed and doubled, exports each once."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quire.actors.runtime.ports import SystemClock
from quire.events.record import Appended, Batch, Fenced
from quire.store.audit import audit
from quire.store.lmdb_store import LmdbStore
from quire.store.memory_store import MemoryStore

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "invoices.py"
KILLS = 12
DUE = {f"A{number:04d}": 100 + number for number in range(400)}


@pytest.fixture(scope="module")
def invoices():
    spec = importlib.util.spec_from_file_location("invoices", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["invoices"] = module
    spec.loader.exec_module(module)
    return module


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
