"""Whether a log's file can be read to its end without harm to whoever reads it.

LMDB maps the file and believes what it finds in it. A file that was cut, or whose pages were overwritten,
ends the process that reads it by a signal, and no Python code can catch that. So a process of its own reads
all of it first; where that one ends, it says how far it came. It registers as a reader, so that a writer
beside it leaves alone what it reads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import lmdb

from ..errors import DamagedError, EnvironmentFault
from .lmdb_birth import DATA
from .lmdb_faults import READERS_MAX
from .lmdb_layout import COMMITS, NUMBER, TABLES_MAX

META_PAGES = 2
"""Pages at the start of every environment."""
PAGE_BYTES_MIN = 4096
PROBE_S = 120.0
"""How long a probe may take, in seconds; it reads at the speed of the disk."""
SECONDS_PER_BYTE = 1 / (4 << 20)
"""And as much more for each byte of the file."""
WORDS_MAX = 500
_ENDED_BY_DAMAGE = (-signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT)
"""How a process ends that reads what is no page; any other signal came from somebody."""


def check_start(folder: Path) -> None:
    """Refuse a log's file that is there and too short to be opened; raises DamagedError."""
    if (folder / DATA).exists() and (folder / DATA).stat().st_size < META_PAGES * PAGE_BYTES_MIN:
        raise _cut(folder)


def check_end(folder: Path, env: lmdb.Environment) -> None:
    """Refuse a log's file that was cut behind its start; looks at its length, and probes only a short one.

    LMDB may count pages at the end that it never wrote, so a short file is not damaged for sure.

    Raises:
        DamagedError: the file was cut.
    """
    due = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if (folder / DATA).stat().st_size < due and probe(folder, map_size=env.info()["map_size"])[0]:
        raise _cut(folder)


def _cut(folder: Path) -> DamagedError:
    file = folder / DATA
    return DamagedError(
        f"{file} was cut at {file.stat().st_size} bytes: keep it as it is, run `quire audit`, and go on with "
        "a backup"
    )


def probe(folder: Path, *, map_size: int) -> tuple[str, int]:
    """Read all of a log in another process.

    Args:
        folder: of the log.
        map_size: of whoever writes it, in bytes: it may grow meanwhile.

    Returns:
        What is damaged (``""`` where nothing is), and the position of the last commit that could be read.

    Raises:
        EnvironmentFault: it could not be read, for a reason that says nothing of the log.
    """
    size = (folder / DATA).stat().st_size
    if size < META_PAGES * PAGE_BYTES_MIN:
        return f"its file has {size} bytes, and is none", 0
    allowed_s = PROBE_S + size * SECONDS_PER_BYTE
    with tempfile.TemporaryFile() as place:
        said = (os.fspath(folder), str(place.fileno()), str(map_size))
        command = [sys.executable, "-P", "-m", __name__, *said]
        try:
            done = subprocess.run(
                command, timeout=allowed_s, capture_output=True, pass_fds=[place.fileno()], check=False
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentFault(
                f"the log at {folder} was not read to its end in {allowed_s:.0f} s: look at the disk"
            ) from None
        wrong = _damage(folder, done.returncode, done.stderr.decode(errors="replace").strip())
        place.seek(0)
        return wrong, int.from_bytes(place.read(NUMBER.size), "big")


def _damage(folder: Path, code: int, words: str) -> str:
    """What the end of a probe says of the log; raises as ``probe``."""
    if code in _ENDED_BY_DAMAGE:
        return f"reading it ends the process ({signal.Signals(-code).name})"
    if code == DamagedError.exit_code:
        return words[-WORDS_MAX:]
    if code:
        raise EnvironmentFault(f"the log at {folder} could not be read ({code}): {words[-WORDS_MAX:]}")
    return ""


def is_damage(error: lmdb.Error) -> bool:
    """Whether an error of reading says that the log is damaged, and not that the machine is in the way."""
    code = getattr(error, "code", None)
    of_lmdb = code is None or code < 0  # the system's own are above 0
    return of_lmdb and not isinstance(error, lmdb.MapResizedError | lmdb.ReadersFullError)


def main() -> int:
    """Read every entry of every database; the position of each commit is noted before the next is read."""
    folder, place, map_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    env = lmdb.open(folder, map_size=map_size, readonly=True, max_readers=READERS_MAX, max_dbs=TABLES_MAX)
    with env.begin() as txn:
        if not txn.stat()["entries"]:
            return 0  # made, and not written yet
        commits = env.open_db(COMMITS, txn, create=False)
        for key, _ in txn.cursor(commits):
            os.pwrite(place, key, 0)
        for name, _ in txn.cursor():
            # LMDB's 1.0 engine gives each name with a NUL behind it.
            for _entry in txn.cursor(env.open_db(name.rstrip(b"\0"), txn, create=False)):
                pass
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lmdb.Error as error:
        sys.stderr.write(f"LMDB cannot read it: {error}\n")
        sys.exit(DamagedError.exit_code if is_damage(error) else EnvironmentFault.exit_code)
