"""The finalizer: proves a part's bytes and puts them in their place, so that a crash finds all or nothing.

For each part: structure check, a look whether its text is the work's, fsync, atomic rename to the name of its
hash; then one fsync of each folder for the whole batch, and only then the word to the resolver, who writes it
into the log.

An object that is there already is read before it counts. One that rotted is replaced by whoever has its
bytes: the name is the hash, so nobody can put others there. Whoever has none of its own is told to get them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..config.settings import Download
from ..store.disk_faults import storage_faults
from ..store.objects import CHUNK_BYTES, OBJECT_DAMAGED, Objects, Part, md5_file
from ..store.proof import prove
from ..store.title_check import check_title
from .directory import Directory
from .messages import Finalize, NotStored, Stored
from .runtime.actor import Actor
from .runtime.ports import Scheduler

OTHER_ARTICLE = "other_article"
"""The reason of bytes whose text is that of another work."""
PART_BUSY = "part_busy"
"""The reason of a part that another process holds."""
PART_CHANGED = "part_changed"
"""The reason of a part whose bytes are not, or no longer, those that were streamed."""


class Placed(msgspec.Struct, frozen=True):
    """What became of one part on the disk."""

    asked: Finalize
    proof: str = ""
    refused: str = ""
    title_check: str = ""
    damage: str = ""
    """What is wrong with the object that was there: it was replaced, unless this was refused."""
    fault: BaseException | None = None


class Finalizer(Actor):
    """Places objects in batches."""

    def __init__(
        self,
        *,
        directory: Directory,
        objects: Objects,
        bounds: Download,
        scheduler: Scheduler,
    ) -> None:
        super().__init__()
        self._to = directory
        self._objects = objects
        self._bounds = bounds
        self._scheduler = scheduler

    def fatal(self, _error: BaseException) -> bool:
        """Always: what is on the pool cannot be asked for twice; a new session goes on from the ledger."""
        return True

    def handle_all(self, messages: Sequence[Any]) -> None:
        """Begin what is asked, and finish what is placed with one fsync of the folders for all of it."""
        placed = [message for message in messages if isinstance(message, Placed)]
        for message in messages:
            if isinstance(message, Finalize):
                self._place_aside(message)
        if placed:
            self._confirm(placed)

    def _place_aside(self, asked: Finalize) -> None:
        self._scheduler.block(lambda: self._place(asked), lambda result: self._placed(asked, result))

    def _placed(self, asked: Finalize, result: Placed | BaseException) -> None:
        self.me.tell(result if isinstance(result, Placed) else Placed(asked, fault=result))

    def _place(self, asked: Finalize) -> Placed:
        """Prove and rename one part; runs on the pool."""
        damage = self._objects.damage(asked.sha256, asked.bytes)
        if not damage:
            return self._already_there(asked)
        if asked.held:
            return Placed(asked, refused=OBJECT_DAMAGED, damage=damage)
        part = self._part(asked)
        if part is None:
            return Placed(asked, refused=PART_BUSY)
        if part.sha256() != asked.sha256:
            return self._without_bytes(asked, part, damage)
        proof = prove(part.path, length=asked.bytes, bytes_min=self._bounds.bytes_min)
        refused = proof.reason or _md5_mismatch(part.path, asked)
        shown = "" if refused else _title_check(part.path, asked)
        refused = refused or _other(shown, asked)
        if refused:
            part.discard()
            return Placed(asked, refused=refused)
        self._objects.finalise(part)
        replaced = "" if damage == "missing" else damage
        return Placed(asked, proof=proof.level, title_check=shown, damage=replaced)

    def _without_bytes(self, asked: Finalize, part: Part, damage: str) -> Placed:
        """What is on our disk are not the bytes that were streamed, which says nothing of what was sent."""
        part.discard()
        if not self._objects.damage(asked.sha256, asked.bytes):
            return self._already_there(asked)  # the owner before gave them their name since we looked
        if damage == "missing":
            return Placed(asked, refused=PART_CHANGED)
        return Placed(asked, refused=OBJECT_DAMAGED, damage=damage)

    def _part(self, asked: Finalize) -> Part | None:
        """The part, for us alone; None while another process holds it and it cannot be copied.

        An owner that was stopped within this very step, and lost its lease, still has it locked. Its bytes
        are whole: they are read into a part of our own, and not asked for a second time.
        """
        part = self._objects.open_part(asked.job_id, asked.part_epoch)
        if part is not None or asked.part_epoch == asked.epoch:
            return part
        copy = self._objects.open_part(asked.job_id, asked.epoch)
        if copy is None:
            return None
        copy.restart()
        return copy if _copied(self._objects.part_path(asked.job_id, asked.part_epoch), copy) else None

    def _already_there(self, asked: Finalize) -> Placed:
        """The same bytes are held: the part is not needed; whose they are is for the log to say.

        That they are another work's is no sign that they are this one's: their text is looked at as well.
        """
        path = self._objects.path(asked.sha256)
        proof = prove(path, bytes_min=self._bounds.bytes_min)
        refused = proof.reason or _md5_mismatch(path, asked)
        shown = "" if refused else _title_check(path, asked)
        refused = refused or _other(shown, asked)
        part = None if asked.held else self._objects.open_part(asked.job_id, asked.part_epoch)
        if part is not None:
            part.discard()
        if not refused:
            self._objects.adopt(asked.sha256)
        return Placed(asked, proof=proof.level, refused=refused, title_check=shown)

    def _confirm(self, placed: list[Placed]) -> None:
        for one in placed:
            if one.fault is not None:
                raise one.fault
        self._objects.sync_folders()
        for one in placed:
            self._to.resolver.tell(_answer(one))


def _copied(path: Path, copy: Part) -> bool:
    """Whether the bytes at a path are in the copy now; it is discarded when they are there no more."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # the owner before went on, and gave the part its final name
        copy.discard()
        return False
    with file, storage_faults(path):
        while chunk := file.read(CHUNK_BYTES):
            copy.write(chunk)
    return True


def _md5_mismatch(path: Path, asked: Finalize) -> str:
    """Why the bytes are not those whose MD5 the source states."""
    return "md5_mismatch" if asked.md5 and md5_file(path) != asked.md5.lower() else ""


def _title_check(path: Path, asked: Finalize) -> str:
    """What the text shows of the work; ``""`` where nobody wants to know."""
    return "" if asked.title_of is None else check_title(path, asked.title_of)


def _other(shown: str, asked: Finalize) -> str:
    """Why bytes with such a text are refused."""
    return OTHER_ARTICLE if shown == "mismatch" and asked.refuse_other else ""


def _answer(one: Placed) -> Stored | NotStored:
    asked = one.asked
    if one.refused:
        return NotStored(asked.job_id, asked.epoch, one.refused, one.damage)
    return Stored(
        asked.job_id, asked.epoch, asked.sha256, asked.bytes, one.proof, one.title_check, one.damage
    )
