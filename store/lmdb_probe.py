"""Whether a log's file can be read to its end without harm to whoever reads it.

LMDB maps the file and believes what it finds in it. A file that was cut, or whose pages were overwritten,
ends the process that reads it by a signal, and no Python code can catch that. So a process of its own reads
all of it first; where that one ends, it says how far it came.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import lmdb

from ..errors import DamagedError
from .lmdb_birth import DATA
from .lmdb_layout import COMMITS, NUMBER, TABLES_MAX

META_PAGES = 2
"""Pages at the start of every environment."""
PAGE_BYTES_MIN = 4096
PROBE_S = 120.0
"""How long a probe may take, in seconds; it reads at the speed of the disk."""
SECONDS_PER_BYTE = 1 / (4 << 20)
"""And as much more for each byte of the file."""


def check_start(folder: Path) -> None:
    """Refuse a log's file that is too short to be opened; raises DamagedError."""
    if (folder / DATA).stat().st_size < META_PAGES * PAGE_BYTES_MIN:
        raise _cut(folder)


def check_end(folder: Path, env: lmdb.Environment) -> None:
    """Refuse a log's file that was cut behind its start; looks at its length, and probes only a short one.

    LMDB may count pages at the end that it never wrote, so a short file is not damaged for sure.

    Raises:
        DamagedError: the file was cut.
    """
    due = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if (folder / DATA).stat().st_size < due and probe(folder)[0]:
        raise _cut(folder)


def _cut(folder: Path) -> DamagedError:
    file = folder / DATA
    return DamagedError(
        f"{file} was cut at {file.stat().st_size} bytes: keep it as it is, run `quire audit`, and go on with "
        "a backup"
    )


def probe(folder: Path) -> tuple[str, int]:
    """Read all of a log in another process.

    Returns:
        What went wrong (``""`` where nothing did), and the position of the last commit that could be read.
    """
    with tempfile.TemporaryFile() as place:
        allowed_s = PROBE_S + (folder / DATA).stat().st_size * SECONDS_PER_BYTE
        command = [sys.executable, "-m", __name__, os.fspath(folder), str(place.fileno())]
        try:
            done = subprocess.run(
                command, timeout=allowed_s, capture_output=True, pass_fds=[place.fileno()], check=False
            )
            wrong = _said(done.returncode, done.stderr)
        except subprocess.TimeoutExpired:
            wrong = f"it was not read to its end in {allowed_s:.0f} s"
        place.seek(0)
        return wrong, int.from_bytes(place.read(NUMBER.size), "big")


def _said(code: int, stderr: bytes) -> str:
    if code < 0:
        return f"reading it ends the process ({signal.Signals(-code).name})"
    return stderr.decode(errors="replace").strip()[-500:] if code else ""


def main() -> int:
    """Read every entry of every database; the position of each commit is noted before the next is read."""
    folder, place = sys.argv[1], int(sys.argv[2])
    env = lmdb.open(folder, readonly=True, lock=False, max_dbs=TABLES_MAX)
    with env.begin() as txn:
        commits = env.open_db(COMMITS, txn, create=False)
        for key, _ in txn.cursor(commits):
            os.pwrite(place, key, 0)
        for name, _ in txn.cursor():
            for _entry in txn.cursor(env.open_db(name, txn, create=False)):
                pass
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lmdb.Error as error:
        sys.exit(f"LMDB cannot read it: {error}")
