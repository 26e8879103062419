"""The processes of a run: Ctrl-C, further workers, and a worker's eye on its parent."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

import msgspec

from ..actors.session import Session
from ..errors import QuireError
from . import output
from .config import as_arguments
from .main import EXIT_INTERRUPTED, EXIT_SOME_FAILED

WORKER_STOP_S = 180
"""How long further processes may take to end after the last job, in seconds."""
ABANDON_S = 10
"""How long they may take where the run ends by a fault, in seconds."""
PARENT_LOOK_S = 1.0
"""How often a worker looks whether its parent lives, in seconds."""
ORPHAN_LOOKS = 10
"""Looks that a worker has to finish what is in hand once its parent is gone."""
_ENDS_WELL = (0, EXIT_SOME_FAILED, EXIT_INTERRUPTED)


class Interrupts:
    """Ctrl-C: the first one ends the run in order, the second one at once."""

    def __init__(self) -> None:
        self.seen = 0
        self._session: Session | None = None
        self._workers: Workers | None = None
        self._in_hand: Callable[[], int] | None = None

    def __repr__(self) -> str:
        return f"<Interrupts {self.seen} seen>"

    def watch(
        self, session: Session, workers: Workers | None = None, in_hand: Callable[[], int] | None = None
    ) -> None:
        """End these in order from now on; ``in_hand`` counts what they have in hand, and takes no lock."""
        self._session, self._workers, self._in_hand = session, workers, in_hand
        if self.seen:
            session.interrupt()

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle one signal; plain writes only, since it may come in the middle of a print."""
        self.seen += 1
        if self._workers is not None:
            self._workers.interrupt()
        if self.seen > 1:
            if self._session is None or self._workers is not None:  # a further worker leaves it to its parent
                os.write(2, b"\nstopped at once; go on with the same command, or with: quire resume\n")
            os._exit(EXIT_INTERRUPTED)
        if self._session is not None:
            self._session.interrupt()
        said = f"\nfinishing what is in hand{self._counted()}; "
        os.write(2, f"{said}a second Ctrl-C stops at once, and nothing is lost\n".encode())

    def _counted(self) -> str:
        try:
            return f" ({output.many(self._in_hand(), 'work')})" if self._in_hand else ""
        except QuireError:
            return ""  # the run itself says what is wrong with the log


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle Ctrl-C and SIGTERM until the block ends."""
    handler = Interrupts()
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class Workers:
    """Further processes that work on the same list, each a ``quire resume`` of its own.

    Use it as a context manager: none of them outlives the block.
    """

    def __init__(self, args: argparse.Namespace, list_id: str) -> None:
        command = [sys.executable, "-m", "quire", "resume", "--json", "--worker-of", list_id]
        command += ["--parent", str(os.getpid())]
        # In sessions of their own: Ctrl-C on the terminal reaches them once, through us.
        self._processes = [
            subprocess.Popen([*command, *as_arguments(args)], stdout=subprocess.PIPE, start_new_session=True)
            for _ in range(args.workers - 1)
        ]

    def __repr__(self) -> str:
        return f"<Workers {[process.pid for process in self._processes]}>"

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.interrupt()
        for process in self._processes:
            self._end(process, ABANDON_S)

    def interrupt(self) -> None:
        """Hand a Ctrl-C on."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def finish(self) -> dict[str, int]:
        """Wait for their end; their bytes and requests, summed."""
        total = {"bytes": 0, "requests": 0}
        for process in self._processes:
            said = self._end(process, WORKER_STOP_S)
            if process.returncode not in _ENDS_WELL:
                output.warn(f"worker {process.pid} ended with exit code {process.returncode}")
            if said.strip():
                summary = msgspec.json.decode(said)
                total = {name: count + summary[name] for name, count in total.items()}
        return total

    @staticmethod
    def _end(process: subprocess.Popen[bytes], wait_s: float) -> bytes:
        """What a worker said at its end, which comes at the latest after ``wait_s`` seconds."""
        if process.stdout is None or process.stdout.closed:
            return b""
        try:
            said, _ = process.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            output.warn(f"worker {process.pid} does not end and is stopped; its works are taken up next time")
            process.kill()
            said, _ = process.communicate()
        return said


class ParentWatch:
    """A worker's eye on the process that started it: without it the worker ends, in order if time allows.

    Called by a timer. A process whose parent dies gets another one, which the system tells for nothing.
    """

    def __init__(self, session: Session, parent: int) -> None:
        self._session = session
        self._parent = parent
        self._looks_alone = 0

    def __repr__(self) -> str:
        return f"<ParentWatch of {self._parent}, alone for {self._looks_alone} looks>"

    def __call__(self) -> None:
        """Look once."""
        if os.getppid() == self._parent:
            return
        self._looks_alone += 1
        if self._looks_alone == 1:
            self._session.interrupt()
        if self._looks_alone > ORPHAN_LOOKS:
            os._exit(EXIT_INTERRUPTED)  # as a crash: whoever comes next takes the works over
