"""Images of a folder, taken while something in this process writes to it: what a crash would have left.

A hook looks after each call into C that the writing thread makes, so that whatever stands on disk between
two of its steps is seen each time; a second thread looks while such a call waits for the disk. Each file's
time of change is set back to the epoch first: whatever is written from then on shows, however coarse the
clock of the file system. An image during which something changed is thrown away: no crash would leave it.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

IMAGES_MAX = 6
"""Images kept of one block; each is opened and looked through."""
PAUSE_S = 0.0002
"""Between two looks of the second thread, in seconds."""
Content = dict[str, bytes]
"""Name within the folder → what stands there."""


class Images:
    """A context manager: within it, the states that a folder goes through are copied, at most ``IMAGES_MAX``.

    Args:
        folder: what is written to; flat or with folders in it.
        into: gives a new path for each image.
    """

    def __init__(self, folder: Path, into: Callable[[], Path]) -> None:
        self.folder = folder
        self.taken: list[Path] = []
        """The images, in the order of time; each differs from the one before and from the start."""
        self._into = into
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._last: Content = {}
        self._before: Any = None
        self._beside = threading.Thread(target=self._look_on, name="images", daemon=True)

    def __repr__(self) -> str:
        return f"<Images of {self.folder}: {len(self.taken)}>"

    def __enter__(self) -> Images:
        self._last = _content(self.folder)
        _set_back(self.folder)
        self._beside.start()
        self._before = sys.getprofile()
        sys.setprofile(self._after_call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        sys.setprofile(self._before)
        self._over.set()
        self._beside.join()

    def _after_call(self, _frame: FrameType, event: str, _called: Any) -> None:
        if event == "c_return":
            with (
                self._lock
            ):  # while the other one looks the writer waits here, so that its image is a whole one
                self._look()

    def _look_on(self) -> None:
        while not self._over.wait(PAUSE_S) and len(self.taken) < IMAGES_MAX:
            with self._lock:
                self._look()

    def _look(self) -> None:
        """Take an image if something was written since the last look, and nothing during this one."""
        if len(self.taken) >= IMAGES_MAX or not _changed(self.folder):
            return
        _set_back(self.folder)
        content = _content(self.folder)
        if _changed(self.folder) or content == self._last:
            return
        self._last = content
        self.taken.append(_written(content, self._into()))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _changed(folder: Path) -> bool:
    paths = [folder, *folder.rglob("*")]
    try:
        return any(path.stat().st_mtime_ns for path in paths)
    except FileNotFoundError:
        return True


def _set_back(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        try:
            os.utime(path, ns=(0, 0))
        except FileNotFoundError:
            continue  # it went in between, which its folder's time shows


def _content(folder: Path) -> Content:
    found: Content = {}
    for path in _files(folder):
        try:
            found[str(path.relative_to(folder))] = path.read_bytes()
        except FileNotFoundError:
            continue
    return found


def _written(content: Content, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for name, data in content.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(data)
    return to
