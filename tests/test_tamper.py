"""Tampering: whatever is changed behind quire's back, the audit names it; a seal shows a log rolled back."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from quire.errors import UsageError
from quire.events.record import Head
from quire.store import audit, objects
from quire.store.seal import against, seal_of, sealed
from quire.testing import tamper
from quire.testing.tamper import Specimen, campaign

sys.path.insert(0, str(Path(__file__).parent))
from command import quire

TAMPERS = 150


@pytest.fixture(scope="module")
def it(tmp_path_factory) -> Specimen:
    return Specimen(tmp_path_factory.mktemp("specimen"))


def test_every_change_is_found_and_placed(tmp_path):
    """Events, commits, order, end, tables, head, files, the whole log: each is named where it was made."""
    tally = campaign(tmp_path, tampers=TAMPERS, seed=7)
    assert tally.missed == []
    assert tally.found == TAMPERS
    assert len(tally.by_kind) >= len(tamper.WAYS) - 2


def test_a_sound_library_is_not_blamed(it):
    """Untouched, the audit has nothing to say: what the campaign finds is what was changed."""
    it.restore()
    report, same = it.audited()
    assert (report.ok, same, report.notes) == (True, True, [])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("commits", tamper.flip_event),
        ("hashes", tamper.flip_file),
        ("seal", tamper.roll_back),
    ],
)
def test_the_campaign_sees_a_blind_audit(it, monkeypatch, name, way):
    """With the chain, the hash of files or the seal not looked at, a change of that kind is missed."""
    if name == "commits":
        monkeypatch.setattr(audit._Walk, "_commit", lambda *_: None)
        monkeypatch.setattr(audit._Walk, "compare", lambda *_: None)
    elif name == "hashes":
        monkeypatch.setattr(objects.Objects, "verify", lambda *_: True)
    else:
        monkeypatch.setattr(tamper, "against", lambda *_: [])
    it.restore()
    change = way(it, random.Random(4))
    report, same = it.audited()
    assert tamper.missed(change, report, same=same)


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
    shutil.copyfile(it.earlier[-1], it.data)
    rolled = quire(*words, "--key", key, "--json")
    assert rolled.returncode == 3
    assert json.loads(rolled.stdout)["problems"][-1]["kind"] == "rolled_back"
    assert quire("audit", "--library", it.scratch, "--key", key).returncode == 2
    assert quire("audit", "--library", it.scratch, "--against", tmp_path / "none").returncode == 2
