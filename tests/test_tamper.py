"""Tampering: whatever is changed behind quire's back, the audit names it; a seal shows a log rolled back."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from quire.errors import UsageError
from quire.events.record import Head
from quire.store import audit, objects
from quire.store.lmdb_layout import STREAM_COMMITS, STREAMS
from quire.store.lmdb_probe import probe
from quire.store.seal import against, seal_of, sealed
from quire.testing.tamper import Specimen, campaign, specimen, ways
from quire.testing.tamper.campaign import missed

sys.path.insert(0, str(Path(__file__).parent))
from command import quire

TAMPERS = 90
CHANGES = 4
"""Of one kind, of which a blind audit must miss one."""


@pytest.fixture(scope="module")
def it(tmp_path_factory) -> Specimen:
    return Specimen(tmp_path_factory.mktemp("specimen"))


def test_every_change_is_found_and_placed(tmp_path):
    """Events, commits, order, end, tables, head, files, the whole log: each is named where it was made."""
    tally = campaign(tmp_path, tampers=TAMPERS, seed=7)
    assert tally.missed == []
    assert tally.found + tally.harmless == TAMPERS
    assert tally.harmless < TAMPERS // 10
    assert len(tally.by_kind) >= len(ways.WAYS) - 2


def test_a_sound_library_is_not_blamed(it):
    """Untouched, the audit has nothing to say: what the campaign finds is what was changed."""
    it.restore()
    report, same = it.audited()
    assert (report.ok, same, report.notes) == (True, True, [])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("_Walk._commit", ways.flip_event),
        ("_Walk._compare_head", ways.cut_the_end),
        ("_Walk._compare_streams", ways.change_streams),
        ("_Walk._compare_tables", ways.change_table),
        ("_Walk._compare_tables", ways.empty_table),
        ("_Walk._compare_tables", ways.change_record),
        ("hashes", ways.flip_file),
        ("seal", ways.roll_back),
        ("strays", ways.link_folder),
    ],
)
def test_the_campaign_sees_a_blind_audit(it, monkeypatch, name, way):
    """With the chain, an index, the hash of files or the seal not looked at, such changes are missed."""
    if name.startswith("_Walk"):
        monkeypatch.setattr(audit._Walk, name.partition(".")[2], lambda *_: None)
        if name == "_Walk._commit":
            monkeypatch.setattr(audit._Walk, "compare", lambda *_: None)
    elif name == "hashes":
        monkeypatch.setattr(objects.Objects, "verify", lambda *_: True)
    elif name == "strays":
        monkeypatch.setattr(objects.Objects, "strays", lambda *_: [])
    else:
        monkeypatch.setattr(specimen, "against", lambda *_: [])
    assert any(_missed(it, way, seed) for seed in range(CHANGES))


def _missed(it: Specimen, way: ways.Way, seed: int) -> str:
    it.restore()
    change = way(it, random.Random(seed))
    report, same = it.audited()
    return missed(change, report, same=same)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9])
def test_a_log_that_was_cut_ends_no_command(it, share):
    """However short: the audit names it with a position, and whoever opens it is told; nobody is killed."""
    it.restore()
    os.truncate(it.data, int(it.data.stat().st_size * share))
    audited = quire("audit", "--library", it.scratch, "--json")
    assert audited.returncode == 3, audited.stderr
    assert json.loads(audited.stdout)["problems"][0]["kind"] == "unreadable"
    listed = quire("list", "--library", it.scratch)
    assert listed.returncode == 3, (listed.returncode, listed.stderr)
    assert "was cut at" in listed.stderr


def test_a_damaged_index_of_streams_is_mended_by_a_rebuild(it):
    """What appends are judged by is a projection as well: `rebuild` makes it anew from the log."""
    it.restore()
    with it.raw() as raw:
        for name in (STREAMS, STREAM_COMMITS):
            raw.txn.drop(raw.db(name), delete=False)
    assert [found.kind for found in it.audited()[0].problems] == ["streams"]
    assert quire("rebuild", "--library", it.scratch).returncode == 0
    assert it.audited() == (it.audited()[0], True)


class Log:
    def __init__(self, head: Head, chains: dict[int, bytes]) -> None:
        self._head, self._chains = head, chains

    def head(self) -> Head:
        return self._head

    def chain_at(self, position: int) -> bytes | None:
        return self._chains.get(position)


KEY = b"a key of sixteen"
SEALED = Head(5, 2, b"\x05" * 32)


def test_a_log_that_went_on_is_the_sealed_one():
    """Behind the sealed commit anything may follow."""
    seal = sealed(SEALED, library_id="l", time="t", key=KEY)
    later = Log(Head(9, 4, b"\x09" * 32), {5: SEALED.chain})
    assert list(against(later, "l", seal, key=KEY)) == []


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        (Log(Head(4, 1, b"\x04" * 32), {}), "rolled_back"),
        (Log(Head(9, 4, b"\x09" * 32), {5: b"\x06" * 32}), "rewritten"),
        (Log(Head(9, 4, b"\x09" * 32), {}), "rewritten"),
    ],
)
def test_a_log_that_is_not_the_sealed_one_is_named(log, kind):
    """Shorter, another chain at the place, or no commit that ends there."""
    assert [found.kind for found in against(log, "l", sealed(SEALED, library_id="l", time="t"))] == [kind]


def test_a_seal_that_was_changed_is_not_believed():
    """Any field: the HMAC does not fit; without the key it is not looked at; a short key is none."""
    seal = sealed(SEALED, library_id="l", time="t", key=KEY)
    log = Log(SEALED, {5: SEALED.chain})
    forged = seal_of(json.dumps({**json.loads(_json(seal)), "position": 4}).encode())
    assert [found.kind for found in against(log, "l", forged, key=KEY)] == ["seal"]
    unsigned = seal_of(json.dumps({**json.loads(_json(seal)), "hmac": ""}).encode())
    with pytest.raises(UsageError, match="no HMAC"):
        list(against(log, "l", unsigned, key=KEY))
    with pytest.raises(UsageError, match="--key"):
        list(against(log, "l", seal))
    with pytest.raises(UsageError, match="16 bytes"):
        sealed(SEALED, library_id="l", time="t", key=b"short")
    with pytest.raises(UsageError, match="is of the library"):
        list(against(log, "m", seal, key=KEY))


def _json(seal) -> str:
    return msgspec.json.encode(seal).decode()


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"quire_seal": 1}', b"\xff", b"x" * 5_000])
def test_what_is_no_seal_is_refused(text):
    """With a word, and never a traceback."""
    with pytest.raises(UsageError, match="no seal"):
        seal_of(text)


def test_the_commands_seal_and_hold_against(it, tmp_path):
    """``audit seal`` prints a line that ``audit --against`` accepts; a log rolled back ends with 3."""
    it.restore()
    key, seal = tmp_path / "key", tmp_path / "seal.json"
    key.write_bytes(KEY)
    done = quire("audit", "seal", "--library", it.scratch, "--key", key)
    assert done.returncode == 0, done.stderr
    seal.write_text(done.stdout)
    words = ("audit", "--library", it.scratch, "--against", seal)
    assert quire(*words, "--key", key).returncode == 0
    assert quire(*words).returncode == 2
    shutil.copyfile(it.earlier[-1].data, it.data)
    rolled = quire(*words, "--key", key, "--json")
    assert rolled.returncode == 3
    assert json.loads(rolled.stdout)["problems"][-1]["kind"] == "rolled_back"
    assert quire("audit", "--library", it.scratch, "--key", key).returncode == 2
    assert quire("audit", "--library", it.scratch, "--against", tmp_path / "none").returncode == 2


WRITER = """
import sys
from pathlib import Path
from quire.store.lmdb_store import LmdbStore
from quire.testing.store_contract import BANK, StepClock, deposit
store = LmdbStore(Path(sys.argv[1]), BANK, run_id="r", clock=StepClock(), map_size=1 << 30)
for number in range(100_000):
    names = (f"account-{(number * 37 + n) % 5_000}" for n in range(200))
    store.append([deposit(name, *range(30)) for name in names])
    if number == 50:
        print("begun", flush=True)
"""


def test_a_living_writer_is_no_damage(tmp_path):
    """What reads the log first, beside a writer that uses freed pages again, finds nothing wrong."""
    command = [sys.executable, "-P", "-c", WRITER, str(tmp_path / "events")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"begun\n"
            found = [probe(tmp_path / "events", map_size=1 << 30) for _ in range(12)]
        finally:
            writer.kill()
    assert [wrong for wrong, _ in found if wrong] == []
    assert found[-1][1] > found[0][1]
