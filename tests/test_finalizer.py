"""The finalizer alone: sound bytes get their name, durably, before anybody hears of it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from quire.actors.directory import Directory
from quire.actors.finalizer import Finalizer, Placed
from quire.actors.messages import Finalize, NotStored, Stored
from quire.errors import StoreFailedError
from quire.store.library import Library
from quire.store.objects import Objects
from quire.testing.web import make_pdf

sys.path.insert(0, str(Path(__file__).parent))
from boxes import SETTINGS, AtOnce, Box

PDF = make_pdf("a paper", size=3_000)


class Watching(Objects):
    """Objects that write down when their folders are made durable."""

    said: list[Any]

    def sync_folders(self) -> int:
        names = set(self._unsynced)
        self.said.append(("sync", names))
        return super().sync_folders()


class FinalizerBench:
    def __init__(self, folder: Path) -> None:
        self.said: list[Any] = []
        Library.open(folder / "library")
        self.objects = Watching(folder / "library")
        self.objects.said = self.said
        self.to = Directory()
        self.to.resolver = Box("resolver", self.said)
        self.finalizer = Finalizer(
            directory=self.to, objects=self.objects, bounds=SETTINGS.download, scheduler=AtOnce()
        )
        self.finalizer.me = Box()

    def part(self, data: bytes, job: str) -> None:
        part = self.objects.open_part(job, 1)
        assert part is not None
        part.write(data)
        part.close()

    def finalize(self, data: bytes, *, job: str = "ab" * 32, claimed: bytes = b"", **more: Any) -> Any:
        """Put bytes into a part and ask for them, under the hash of others; what the resolver is told."""
        self.part(data, job)
        said = claimed or data
        asked = Finalize(job, 1, 1, hashlib.sha256(said).hexdigest(), len(said), **more)
        self.finalizer.handle_all([asked])
        placed = self.finalizer.me.told
        self.finalizer.me.told = []
        self.finalizer.handle_all(placed)
        return self.to.resolver.told[-1] if self.to.resolver.told else None


@pytest.fixture
def placing(tmp_path: Path) -> FinalizerBench:
    return FinalizerBench(tmp_path)


def test_stored_is_said_after_the_folders_are_durable(placing):
    """First the fsync of both folders, then the word. Kills told_before_durable."""
    assert isinstance(placing.finalize(PDF), Stored)
    kinds = [name for name, _ in placing.said]
    assert kinds == ["sync", "resolver"]
    path = placing.objects.path(hashlib.sha256(PDF).hexdigest())
    assert placing.said[0][1] == {path.parent, placing.objects.root}


def test_bytes_that_are_not_those_that_were_streamed_get_no_name(placing):
    """Another PDF of the same length in the part is refused and thrown away. Kills changed_part_placed."""
    other = make_pdf("other paper", size=3_000)
    answer = placing.finalize(other, claimed=PDF)
    assert isinstance(answer, NotStored)
    assert answer.reason == "part_changed"
    assert list(placing.objects.root.rglob("*.pdf")) == []


def test_what_is_no_pdf_gets_no_name(placing):
    """HTML, and a PDF cut in the middle. Kills unproved_placed."""
    for number, data in enumerate((b"<html>" + b"x" * 3000, PDF[:1500])):
        answer = placing.finalize(data, job=f"{number}" * 64)
        assert isinstance(answer, NotStored)
    assert list(placing.objects.root.rglob("*.pdf")) == []


@pytest.mark.parametrize("right", [True, False])
def test_an_md5_that_the_source_states_is_held_against_the_bytes(placing, right):
    """In upper or lower case; another one refuses the bytes. Kills md5_ignored."""
    md5 = hashlib.md5(PDF if right else b"other").hexdigest().upper()
    answer = placing.finalize(PDF, md5=md5)
    assert isinstance(answer, Stored if right else NotStored)


def test_bytes_that_are_held_are_read_again_before_they_count(placing):
    """A held object that rotted is replaced by the part's sound bytes. Kills held_bytes_unread."""
    path = placing.objects.path(hashlib.sha256(PDF).hexdigest())
    path.parent.mkdir()
    path.write_bytes(b"%PDF-" + b"r" * (len(PDF) - 5))
    assert isinstance(placing.finalize(PDF), Stored)
    assert path.read_bytes() == PDF


def test_the_name_of_what_is_held_is_made_durable_before_stored_is_said(placing):
    """Whoever renamed it may have died before its fsync. Kills held_name_not_durable, adopt_forgotten."""
    assert isinstance(placing.finalize(PDF), Stored)
    placing.said.clear()
    assert isinstance(placing.finalize(PDF, job="cd" * 32), Stored)
    path = placing.objects.path(hashlib.sha256(PDF).hexdigest())
    assert placing.said[0] == ("sync", {path.parent, placing.objects.root})


def test_a_disk_that_fails_ends_the_finalizer_and_nobody_is_answered(placing):
    """The fault is raised where the system hears it. Kills fault_swallowed."""
    asked = Finalize("ab" * 32, 1, 1, "ab" * 32, 10)
    with pytest.raises(StoreFailedError):
        placing.finalizer.handle_all([Placed(asked, fault=StoreFailedError("the disk failed"))])
    assert placing.to.resolver.told == []
