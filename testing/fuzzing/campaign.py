"""A fuzz campaign: bodies by the thousand through every parser, each failure made small and kept.

Parsers run in a process of their own, which a body may end; a body that did is told from its number, which
is enough to make it again. See ``worker`` for the limits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from ...errors import InvariantError
from .shrinking import shrunk
from .target import Target
from .targets import target_of
from .worker import PLACE_BYTES, Account, Failure, Run, Try, made_again

CHUNK = 500
"""Bodies of one task."""
DEATHS_MAX = 5
"""Bodies of one parser that may end the process before it is given up."""
SHRINK_TRIES_MAX = 400
SHRINK_DEATHS_MAX = 40
"""Tries for a body that ends the process: each costs its time and a new process."""
WORKER = (sys.executable, "-m", "quire.testing.fuzz", "--worker")
_SIGNALS = {
    signal.SIGPROF: "took too much processor time",
    signal.SIGALRM: "stood still",
    signal.SIGKILL: "was killed, as processes are that take too much memory",
}


class Process:
    """The process in which parsers run; a new one after each death."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = tuple(command)
        self._place = tempfile.NamedTemporaryFile(prefix="quire-fuzz-place-")  # noqa: SIM115 - closed with us
        self._place.write(bytes(PLACE_BYTES))
        self._place.flush()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Process {'idle' if self._process is None else self._process.pid}>"

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._ended()
        self._place.close()

    def ask(self, task: Run | Try) -> Account | str:
        """The account of a task, or how the process ended over it.

        Raises:
            InvariantError: it ended by itself, which is a defect of the worker.
        """
        process = self._started()
        if process.stdin is None or process.stdout is None:
            raise InvariantError("the worker of a fuzz campaign has no pipes")
        with contextlib.suppress(BrokenPipeError):  # it is dead then, as the end of its output shows
            process.stdin.write(msgspec.json.encode(task) + b"\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if line:
            return msgspec.json.decode(line, type=Account)
        code = self._ended()
        if code >= 0:
            raise InvariantError(f"the worker of a fuzz campaign ended with exit code {code}")
        return _SIGNALS.get(signal.Signals(-code), f"crashed with {signal.Signals(-code).name}")

    def at(self) -> int:
        """The number of the body that it was at."""
        return int.from_bytes(os.pread(self._place.fileno(), PLACE_BYTES, 0), "little")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [*self._command, self._place.name]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _ended(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use to the dead
                    pipe.close()
        return process.wait()


class Campaign:
    """One pass over parsers, all with the same seed and limits."""

    def __init__(
        self,
        process: Process,
        *,
        seed: int,
        bodies: int,
        seconds: float,
        corpus: Path | None,
        keep: Path | None = None,
    ) -> None:
        """Prepare.

        Args:
            process: where parsers run.
            seed: of all damage.
            bodies: for each parser.
            seconds: processor time for one body.
            corpus: folder of recorded bodies.
            keep: folder in which failing bodies are kept; it is made.
        """
        self._process = process
        self._seed, self._bodies, self._seconds = seed, bodies, seconds
        self._corpus = str(corpus.resolve()) if corpus is not None else ""
        self._keep = keep

    def __repr__(self) -> str:
        return f"<Campaign seed={self._seed} bodies={self._bodies}>"

    def run(self, name: str) -> Account:
        """All bodies of one parser."""
        total, at = Account(), 0
        fatal: set[int] = set()
        while at < self._bodies and len(fatal) < DEATHS_MAX:
            if at in fatal:
                at += 1
                continue
            # Up to a body that is known to end the process, and beyond it afterwards.
            end = min([at + CHUNK, self._bodies, *(number for number in fatal if number > at)])
            answer = self._process.ask(self._task(name, at, end))
            if isinstance(answer, Account):
                total.add(answer)
                at = end
                continue
            fatal.add(self._process.at())
            total.add(Account(1, {"FAILED": 1}, failures=[Failure(name, self._process.at(), answer)]))
        return total

    def body(self, name: str, number: int) -> bytes:
        """The body of a number."""
        return made_again(self._task(name, number, number + 1), number)

    def small(self, failure: Failure) -> bytes:
        """A failing body made small."""
        fatal = failure.what in _SIGNALS.values() or failure.what.startswith("crashed")
        body = self.body(failure.target, failure.number)

        def fails(shorter: bytes) -> bool:
            return self.tried(failure.target, shorter) == failure.what

        if not fails(body):
            return body
        return shrunk(body, fails, tries_max=SHRINK_DEATHS_MAX if fatal else SHRINK_TRIES_MAX)

    def tried(self, name: str, body: bytes) -> str:
        """What breaks at a body; ``""`` where nothing does."""
        answer = self._process.ask(Try(name, body, self._seconds))
        if isinstance(answer, str):
            return answer
        return answer.failures[0].what if answer.failures else ""

    def told(self, failure: Failure) -> str:
        """A failure in words: what, the smallest body, and the commands that show it again."""
        body = self.small(failure)
        command = "python -m quire.testing.fuzz"
        lines = [
            f"{failure.target}: {failure.what}",
            f"  body {failure.number} of seed {self._seed}, made small: {len(body)} bytes: {body[:300]!r}",
            f"  again: {command} --seed {self._seed} --only {failure.target} --number {failure.number}",
            *(f"    {line}" for line in failure.detail.splitlines()[-12:]),
        ]
        if self._keep is not None:
            lines[3:3] = [
                f"  kept: {command} --only {failure.target} --replay {self._kept(failure.target, body)}"
            ]
        return "\n".join(lines)

    def _kept(self, name: str, body: bytes) -> Path:
        folder = self._keep or Path()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{hashlib.sha256(body).hexdigest()[:12]}"
        path.write_bytes(body)
        return path

    def _task(self, name: str, first: int, end: int) -> Run:
        return Run(name, str(self._seed), first, end, self._seconds, self._corpus)


def unreached(target: Target, account: Account) -> list[str]:
    """Outcomes that a campaign should have met and did not: it proves less than it seems."""
    return sorted(target.reach - account.outcomes.keys())


def row(name: str, account: Account) -> str:
    """The account of a parser in one line."""
    rate = account.bodies / account.spent_s if account.spent_s else 0.0
    met = sorted(account.outcomes.items(), key=lambda pair: -pair[1])
    missing = unreached(target_of(name), account)
    return (
        f"{name:18}{account.bodies:8}{rate:9.0f}{account.slowest_ms:10.1f}{len(account.failures):9}  "
        + ", ".join(f"{outcome} {count}" for outcome, count in met)
        + (f"; NOT MET: {', '.join(missing)}" if missing else "")
    )


HEADING = f"{'parser':18}{'bodies':>8}{'a second':>9}{'slowest ms':>10}{'failures':>9}  outcomes"
