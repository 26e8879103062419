"""Runs of a script under the shim, each in a process of its own that a fault may kill.

One process is started with the shim and has all imported; it forks for each run, so that a run costs some
milliseconds and every system call of a script can be tried.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from ...errors import EnvironmentFault, InvariantError, QuireError, StorageFullError
from . import script, session_script, shim
from .defects import defect
from .oracle import Promised, promised
from .shim import Call, Fault, Order

RUN_S = 60
"""How long a run may take, in seconds; then it is ended, and that is a violation."""
WORDS_MAX = 600


class Asked(msgspec.Struct, frozen=True):
    """One run."""

    folder: str
    """Where the library is made, in ``library``; what lies below is what the shim watches."""
    record: str
    order: Order = Order()
    seed: int = 1
    turn: int = 0
    map_size: int = script.MAP_SIZE
    patience: int = 0
    rounds: int = script.ROUNDS
    defect: str = ""
    web: str = ""
    """Address of a simulated web: then a whole session is run and not the script."""


class Ended(msgspec.Struct, frozen=True):
    """How a run ended."""

    error: str = ""
    """Class of the error it ended with; ``""`` when it came to its end."""
    words: str = ""
    typed: bool = False
    """The error says that the disk failed or is full, and is quire's."""
    full: bool = False
    """It says that room helps."""
    killed: bool = False


class Ran(msgspec.Struct, frozen=True):
    """A run, as it looks from outside."""

    ended: Ended
    calls: tuple[Call, ...]
    """Calls and marks, in order; it ends where the process was killed."""

    @property
    def marks(self) -> list[str]:
        """What the script promised."""
        return [call.path for call in self.calls if call.name == "mark"]

    @property
    def promised(self) -> Promised:
        """All of it together."""
        return promised(self.marks)

    @property
    def counted(self) -> list[Call]:
        """The write-path calls, the first at place 0."""
        return [call for call in self.calls if call.number]

    @property
    def hit(self) -> Call | None:
        """The first call that the fault fell on."""
        return next((call for call in self.calls if call.fault is not Fault.NONE), None)

    @property
    def marks_behind(self) -> list[str]:
        """What was promised after the fault."""
        hit = self.hit
        return (
            [] if hit is None else [c.path for c in self.calls[self.calls.index(hit) :] if c.name == "mark"]
        )


class Runs:
    """The process that forks; use it as a context manager.

    Raises:
        EnvironmentFault: the shim cannot be built here.
    """

    def __init__(self) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")}
        environ["LD_PRELOAD"] = os.fspath(shim.library())
        command = [sys.executable, "-m", f"{__package__}.runs"]
        self._process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.count = 0
        """Runs so far."""

    def __repr__(self) -> str:
        return f"<Runs {self.count} in {self._process.pid}>"

    def __enter__(self) -> Runs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait(RUN_S)
        _pipe(self._process.stdout).close()

    def run(self, asked: Asked) -> Ran:
        """Have one run made, and read what the shim wrote down."""
        Path(asked.record).unlink(missing_ok=True)
        to = _pipe(self._process.stdin)
        to.write(msgspec.json.encode(asked) + b"\n")
        to.flush()
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise InvariantError(f"the process of the runs ended with {self._process.wait(RUN_S)}")
        self.count += 1
        ended = msgspec.json.decode(line, type=Ended)
        return Ran(ended, tuple(shim.calls(Path(asked.record), Path(asked.folder))))


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise InvariantError("the process of the runs was started without its pipes")
    return pipe


def main() -> int:
    """Fork for every line of stdin, and answer each with a line."""
    for line in sys.stdin.buffer:
        asked = msgspec.json.decode(line, type=Asked)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            signal.alarm(RUN_S)
            os.write(writer, msgspec.json.encode(_run(asked)))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as said:
            words = said.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.buffer.write((words or msgspec.json.encode(_dead(status))) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _dead(status: int) -> Ended:
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return Ended(killed=True)
    return Ended("Died", f"the run ended by itself with {code}, or did not end in {RUN_S} s")


def _run(asked: Asked) -> Ended:
    try:
        with defect(asked.defect):
            shim.arm(Path(asked.folder), Path(asked.record), asked.order)
            _play(asked)
    except BaseException as error:  # noqa: BLE001 - judged outside: one that is not quire's is looked for
        return _ended(error)
    return Ended()


def _play(asked: Asked) -> None:
    library = Path(asked.folder) / "library"
    if asked.web:
        session_script.play(library, web=asked.web, seed=asked.seed, mark=shim.mark)
        return
    script.play(
        library,
        seed=asked.seed,
        mark=shim.mark,
        turn=asked.turn,
        map_size=asked.map_size,
        patience=asked.patience,
        rounds=asked.rounds,
    )


def _ended(error: BaseException) -> Ended:
    typed = isinstance(error, EnvironmentFault)
    words = str(error) if isinstance(error, QuireError) else repr(error)
    return Ended(type(error).__name__, words[:WORDS_MAX], typed, isinstance(error, StorageFullError))


if __name__ == "__main__":
    raise SystemExit(main())
