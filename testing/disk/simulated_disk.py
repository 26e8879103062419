"""A disk that keeps no more than it promised: from recorded calls, every state that a power loss may leave.

What is assumed, as POSIX and the usual file systems have it: a sector of 512 bytes is written whole or not
at all; after an fsync of a file its bytes and size stay, after an fsync of a folder the names in it; a write
by a descriptor opened O_DSYNC or O_SYNC stays when it returns; a rename is atomic. All else is against us:
of what is not synced any sector may be there in any order, each name by itself or only a first part of them;
a file that is synced and has no synced name is gone; where a later sector is there, an earlier one is zeros.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from ...errors import InvariantError
from .shim import SYNCS, WRITES, Call

SECTOR_BYTES = 512
_DURABLE_FLAGS = os.O_DSYNC | os.O_SYNC


class Honoured(msgspec.Struct, frozen=True):
    """Which syncs the disk heeds; a control run leaves some out, and must lose something."""

    files: bool = True
    folders: bool = True
    descriptors: bool = True
    """O_DSYNC."""


class Change(msgspec.Struct, eq=False):
    """Something done to a file's bytes."""

    sequence: int
    """Its place among all changes of the disk."""
    offset: int
    data: bytes | None
    """None for a truncation or extension to ``offset``."""
    durable: bool = False

    @property
    def sectors(self) -> int:
        """How many sectors it touches."""
        if self.data is None:
            return 1
        return (self.offset + len(self.data) - 1) // SECTOR_BYTES - self.offset // SECTOR_BYTES + 1


class File:
    """The bytes of a file: what is durable for good, and changes in their order."""

    def __init__(self) -> None:
        self.base = b""
        self.changes: list[Change] = []

    def __repr__(self) -> str:
        return f"<File of {len(self.base)} bytes, {len(self.changes)} changes>"

    def sync(self) -> None:
        """All that was done so far is durable."""
        self.base = self.content(lambda _change, _sector: True)
        self.changes = []

    def content(self, keeps: Callable[[Change, int], bool]) -> bytes:
        """The bytes when of what is not durable these sectors reached the disk."""
        content = bytearray(self.base)
        for change in self.changes:
            _apply(content, change, keeps)
        return bytes(content)


def _apply(content: bytearray, change: Change, keeps: Callable[[Change, int], bool]) -> None:
    if change.data is None:
        if change.durable or keeps(change, 0):
            _resize(content, change.offset)
        return
    end = change.offset + len(change.data)
    first = change.offset // SECTOR_BYTES
    for sector in range(change.sectors):
        if change.durable or keeps(change, sector):
            start = max((first + sector) * SECTOR_BYTES, change.offset)
            stop = min((first + sector + 1) * SECTOR_BYTES, end)
            if len(content) < start:
                _resize(content, start)
            content[start:stop] = change.data[start - change.offset : stop - change.offset]


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class Folder:
    """The names in a folder that are durable for good."""

    def __init__(self) -> None:
        self.base: dict[str, Node] = {}
        self.now: dict[str, Node] = {}
        """As programs see them."""

    def __repr__(self) -> str:
        return f"<Folder of {sorted(self.now)}>"


Node = File | Folder


class Naming(msgspec.Struct, eq=False):
    """Something done to names: one is put into a folder, one is removed, or both at once."""

    sequence: int
    node: Node
    put: tuple[Folder, str] | None
    removed: tuple[Folder, str] | None
    durable: bool = False

    def is_made_durable_by(self, folder: Folder) -> bool:
        """Whether a sync of this folder is: of the one that gets the name, else of the one that loses it."""
        place = self.put or self.removed
        return place is not None and place[0] is folder


class Chosen(msgspec.Struct, frozen=True):
    """What a power loss leaves of what is not durable."""

    way: str
    sectors: Callable[[Change, int], bool]
    namings: Callable[[Naming], bool]


class SimulatedDisk:
    """The disk under one folder, as recorded calls change it."""

    def __init__(self, honoured: Honoured) -> None:
        self.root = Folder()
        self._honoured = honoured
        self._namings: list[Naming] = []
        self._open: dict[int, tuple[Node, int]] = {}
        self._files: list[File] = []
        self._sequence = 0

    def __repr__(self) -> str:
        return f"<SimulatedDisk {len(self._files)} files, {len(self._namings)} names not durable>"

    def do(self, call: Call) -> None:
        """Take a call that was made; one that failed changed nothing."""
        self.begin(call)
        self.end(call)

    def begin(self, call: Call) -> None:
        """Take a call that is under way: what it does may be there, nothing of it is promised yet."""
        if call.result < 0 or call.name == "mark":
            return
        self._sequence += 1
        if call.name in ("open", "openat"):
            self._opened(call)
        elif call.name in WRITES:
            self._written(call)
        elif call.name in ("ftruncate", "fallocate"):
            self._sized(call)
        elif call.name not in SYNCS:
            self._named(call)

    def end(self, call: Call) -> None:
        """Take the end of the call that was begun last: what it promises holds."""
        if call.result < 0:
            return
        if call.name in WRITES and self._honoured.descriptors and self._open[call.fd][1] & _DURABLE_FLAGS:
            self._file(call.fd).changes[-1].durable = True
        elif call.name in ("fsync", "fdatasync"):
            self._synced(self._node(call.fd))

    # -- calls

    def _opened(self, call: Call) -> None:
        folder, name = self._place(call.path)
        node: Node | None = self.root if call.path == "." else folder.now.get(name)
        if node is None:
            node = File()
            self._files.append(node)
            self._naming(Naming(self._sequence, node, (folder, name), None))
        elif isinstance(node, File) and call.flags & os.O_TRUNC:
            node.changes.append(Change(self._sequence, 0, None))
        self._open[call.fd] = (node, call.flags)

    def _written(self, call: Call) -> None:
        if len(call.data) != call.result:
            raise InvariantError("the record lacks the bytes of a write: record with data")
        self._file(call.fd).changes.append(Change(self._sequence, call.offset, call.data))

    def _sized(self, call: Call) -> None:
        file = self._file(call.fd)
        grows = call.name == "fallocate"
        size = max(call.offset, len(file.content(lambda _c, _s: True))) if grows else call.offset
        file.changes.append(Change(self._sequence, size, None))

    def _synced(self, node: Node) -> None:
        if isinstance(node, File):
            if self._honoured.files:
                node.sync()
        elif self._honoured.folders:
            for naming in self._namings:
                naming.durable = naming.durable or naming.is_made_durable_by(node)
            while self._namings and self._namings[0].durable:
                _rename(self._namings.pop(0), lambda folder: folder.base)

    def _named(self, call: Call) -> None:
        place = self._place(call.path)
        folder, name = place
        if call.name in ("mkdir", "mkdirat"):
            self._naming(Naming(self._sequence, Folder(), place, None))
        elif call.name in ("link", "linkat"):
            self._naming(Naming(self._sequence, folder.now[name], self._place(call.other), None))
        elif call.name.startswith("rename"):
            self._naming(Naming(self._sequence, folder.now[name], self._place(call.other), place))
        else:
            self._naming(Naming(self._sequence, folder.now[name], None, place))

    def _naming(self, naming: Naming) -> None:
        _rename(naming, lambda folder: folder.now)
        self._namings.append(naming)

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self.root
        for part in above:
            below = folder.now[part]
            if not isinstance(below, Folder):
                raise InvariantError(f"{part} of {path} is a file")
            folder = below
        return folder, name

    def _node(self, descriptor: int) -> Node:
        return self._open[descriptor][0]

    def _file(self, descriptor: int) -> File:
        node = self._node(descriptor)
        if not isinstance(node, File):
            raise InvariantError(f"descriptor {descriptor} is a folder's")
        return node

    # -- what is left

    def pending(self) -> tuple[list[Change], list[Naming]]:
        """What may or may not be there after a power loss now."""
        changes = [change for file in self._files for change in file.changes if not change.durable]
        return changes, [naming for naming in self._namings if not naming.durable]

    def image(self, chosen: Chosen) -> dict[str, bytes | None]:
        """Files (path → bytes) and folders (path → None) after a power loss now."""
        names: dict[int, dict[str, Node]] = {}

        def of(folder: Folder) -> dict[str, Node]:
            return names.setdefault(id(folder), dict(folder.base))

        for naming in self._namings:
            if naming.durable or chosen.namings(naming):
                _rename(naming, of)
        return dict(_walk(self.root, "", of, chosen))

    def whole(self) -> dict[str, bytes | None]:
        """What is there when no power is lost."""
        return self.image(Chosen("all", lambda _c, _s: True, lambda _: True))


def _rename(naming: Naming, names: Callable[[Folder], dict[str, Node]]) -> None:
    if naming.removed is not None:
        folder, name = naming.removed
        if names(folder).get(name) is naming.node:
            del names(folder)[name]
    if naming.put is not None:
        folder, name = naming.put
        names(folder)[name] = naming.node


def _walk(
    folder: Folder, prefix: str, names: Callable[[Folder], dict[str, Node]], chosen: Chosen
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in names(folder).items():
        if isinstance(node, File):
            yield prefix + name, node.content(chosen.sectors)
        else:
            yield prefix + name, None
            yield from _walk(node, f"{prefix}{name}/", names, chosen)


def write_image(image: dict[str, bytes | None], folder: Path) -> None:
    """Put an image into an empty folder."""
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


# -- what a power loss leaves


def choose(disk: SimulatedDisk, chance: random.Random) -> Chosen:
    """Draw what is left: of the bytes and of the names, each in a way of its own."""
    changes, namings = disk.pending()
    way, sectors = chance.choice(_SECTOR_WAYS)(changes, chance)
    name_way, kept = chance.choice(_NAME_WAYS)(namings, chance)
    return Chosen(f"bytes {way}, names {name_way}", sectors, kept)


_Sectors = tuple[str, Callable[[Change, int], bool]]
_Names = tuple[str, Callable[[Naming], bool]]


def _all(_changes: list[Change], _chance: random.Random) -> _Sectors:
    return "all", lambda _change, _sector: True


def _none(_changes: list[Change], _chance: random.Random) -> _Sectors:
    return "none", lambda _change, _sector: False


def _subset(_changes: list[Change], chance: random.Random) -> _Sectors:
    """Any sectors; the chance of each is drawn once, so that nearly all and nearly none come up as well."""
    share = chance.choice((0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97))
    salt = chance.getrandbits(32)

    def keeps(change: Change, sector: int) -> bool:
        return crc32(b"%d/%d/%d" % (salt, change.sequence, sector)) < share * (1 << 32)

    return "any sectors", keeps


def _writes(changes: list[Change], chance: random.Random) -> _Sectors:
    """Whole writes, any of them."""
    kept = {change.sequence for change in changes if chance.random() < 0.5}
    return "any writes", lambda change, _sector: change.sequence in kept


def _reordered(changes: list[Change], chance: random.Random) -> _Sectors:
    """The writes in another order, up to one of them, which is torn."""
    order = [change.sequence for change in changes]
    chance.shuffle(order)
    return _torn(order, {c.sequence: c.sectors for c in changes}, chance, "reordered and torn")


def _in_order(changes: list[Change], chance: random.Random) -> _Sectors:
    """The writes as they were made, up to one of them, which is torn."""
    order = sorted(change.sequence for change in changes)
    return _torn(order, {c.sequence: c.sectors for c in changes}, chance, "in order and torn")


def _torn(order: list[int], sectors: dict[int, int], chance: random.Random, way: str) -> _Sectors:
    if not order:
        return way, lambda _change, _sector: False
    at = chance.randrange(len(order))
    whole, last = set(order[:at]), order[at]
    torn = chance.randint(0, sectors[last])
    from_end = chance.random() < 0.5

    def keeps(change: Change, sector: int) -> bool:
        if change.sequence != last:
            return change.sequence in whole
        return sectors[last] - 1 - sector < torn if from_end else sector < torn

    return way, keeps


def _all_names(_namings: list[Naming], _chance: random.Random) -> _Names:
    return "all", lambda _: True


def _no_names(_namings: list[Naming], _chance: random.Random) -> _Names:
    return "none", lambda _: False


def _first_names(namings: list[Naming], chance: random.Random) -> _Names:
    """A first part of them, as a journal keeps them."""
    last = chance.choice(namings).sequence if namings else 0
    return "a first part", lambda naming: naming.sequence <= last


def _some_names(namings: list[Naming], chance: random.Random) -> _Names:
    kept = {naming.sequence for naming in namings if chance.random() < 0.5}
    return "any", lambda naming: naming.sequence in kept


_SECTOR_WAYS = (_all, _none, _subset, _subset, _subset, _writes, _reordered, _reordered, _in_order)
_NAME_WAYS = (_all_names, _no_names, _first_names, _some_names)
