"""The process in which parsers run on damaged bodies; a body that takes too long ends it, and that is seen.

The limit is the kernel's: a timer of processor time whose signal nobody handles ends the process also while
a library written in C does not return. So a loaded machine gives no false alarm; a second timer, of the clock
on the wall, ends a body that only waits. The number of the body at hand stands in a small shared file.
"""

from __future__ import annotations

import functools
import logging
import mmap
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import msgspec

from .mutations import body_of
from .target import Broken, Seen, Target
from .targets import corpus_of, target_of

ASLEEP_FACTOR = 60
"""So many times the processor time may pass on the wall before a body counts as one that only waits."""
AGAIN_EVERY = 8
"""Every so many bodies one is read a second time, and must be answered the same."""
LARGE_BYTES = 100_000
"""A larger body may take longer in proportion, and no more than that."""
BODY_MEMORY_BYTES_MAX = 256 << 20
"""How much one body may add to the greatest memory of the process."""
ADDRESS_BYTES_MAX = 3 << 30
"""Address space that the process may take beyond what it has at the start."""
FAILURES_MAX = 20
"""Different failures of one task that are told."""
PLACE_BYTES = 8
WHAT_CHARS_MAX = 400


class Run(msgspec.Struct, tag="run", frozen=True):
    """Read the bodies of these numbers."""

    target: str
    seed: str
    first: int
    end: int
    """The first number that is not read."""
    seconds: float
    """Processor time for one body."""
    corpus: str = ""
    """Folder of recorded bodies; none where empty."""


class Try(msgspec.Struct, tag="try", frozen=True):
    """Read this very body."""

    target: str
    body: bytes
    seconds: float


class Failure(msgspec.Struct, frozen=True):
    """A body at which a promise broke."""

    target: str
    number: int
    """Of the body; -1 for one that was given."""
    what: str
    """What broke and where; the same for the same defect as far as can be told."""
    detail: str = ""


class Account(msgspec.Struct):
    """What came of a task."""

    bodies: int = 0
    outcomes: dict[str, int] = {}
    slowest_ms: float = 0.0
    slowest: int = 0
    """Number of the slowest body."""
    spent_s: float = 0.0
    failures: list[Failure] = []

    def add(self, other: Account) -> None:
        """Take in the account of further bodies."""
        self.bodies += other.bodies
        self.outcomes = dict(Counter(self.outcomes) + Counter(other.outcomes))
        self.spent_s += other.spent_s
        if other.slowest_ms > self.slowest_ms:
            self.slowest_ms, self.slowest = other.slowest_ms, other.slowest
        known = {failure.what for failure in self.failures}
        self.failures = [*self.failures, *(one for one in other.failures if one.what not in known)]


class Watched:
    """Runs bodies one by one under the limits."""

    def __init__(self, place: mmap.mmap | None = None) -> None:
        self._place = place
        self._peak = _peak_bytes()

    def __repr__(self) -> str:
        return f"<Watched peak={self._peak}>"

    def read(self, target: Target, body: bytes, number: int, seconds: float) -> tuple[str, str, str]:
        """The outcome of a body; or ``""``, what broke, and details."""
        if self._place is not None:
            self._place[:PLACE_BYTES] = max(number, 0).to_bytes(PLACE_BYTES, "little")
        self._peak = _peak_bytes()  # what making the body took is not the parser's
        again = number % AGAIN_EVERY == 0
        seconds *= max(1.0, len(body) / LARGE_BYTES) * (2 if again else 1)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds * ASLEEP_FACTOR)
        try:
            seen = target.read(body)
            if again:
                _compare(seen, target.read(body))
            what, detail = self._grown()
            return "" if what else seen.outcome, what, detail
        except Broken as broken:
            return "", f"broken promise: {_shortened(str(broken))}", str(broken)
        except Exception as error:  # noqa: BLE001 - that nothing leaves a parser is what is tested
            return "", _named(error), "".join(traceback.format_exception(error))[-4_000:]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _grown(self) -> tuple[str, str]:
        grown = _peak_bytes() - self._peak
        if grown <= BODY_MEMORY_BYTES_MAX:
            return "", ""
        return "took too much memory", f"{grown >> 20} MiB more than ever before"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _compare(one: Seen, other: Seen) -> None:
    if one != other:
        raise Broken(f"the same body is answered the same: {one.outcome} and then {other.outcome}")


def _shortened(text: str) -> str:
    """A broken promise up to what differs from body to body."""
    return text.partition(": ")[0][:WHAT_CHARS_MAX]


def _named(error: Exception) -> str:
    """The kind of an exception and the last line of ours that it passed through."""
    house = str(Path(__file__).resolve().parents[2])
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(house)
    ]
    ours = [
        frame for frame in frames if "/.venv/" not in frame.filename and "/testing/" not in frame.filename
    ]
    last = (ours or frames)[-1]
    return f"raised {type(error).__name__} in {Path(last.filename).name}:{last.name}"


@functools.lru_cache(maxsize=2)
def _corpus(target: str, folder: str) -> list[bytes]:
    return corpus_of(target_of(target), Path(folder) if folder else None)


def made_again(task: Run, number: int) -> bytes:
    """The body of a number of a task."""
    target = target_of(task.target)
    seed = f"{task.seed} {task.target}"
    return body_of(
        _corpus(task.target, task.corpus), target.kind, framed=target.framed, seed=seed, number=number
    )


def account_of(task: Run, watched: Watched) -> Account:
    """Read the bodies of a task."""
    account, outcomes, target = Account(), Counter[str](), target_of(task.target)
    for number in range(task.first, task.end):
        body = made_again(task, number)
        began = time.process_time_ns()
        outcome, what, detail = watched.read(target, body, number, task.seconds)
        spent_ms = (time.process_time_ns() - began) / 1e6
        account.bodies += 1
        account.spent_s += spent_ms / 1e3
        outcomes[outcome or "FAILED"] += 1
        if spent_ms > account.slowest_ms:
            account.slowest_ms, account.slowest = spent_ms, number
        if what and len(account.failures) < FAILURES_MAX:
            account.add(Account(failures=[Failure(task.target, number, what, detail)]))
    account.outcomes = dict(outcomes)
    return account


def tried(task: Try, watched: Watched) -> Account:
    """Read one body that is given."""
    outcome, what, detail = watched.read(target_of(task.target), task.body, 0, task.seconds)
    failures = [Failure(task.target, -1, what, detail)] if what else []
    return Account(bodies=1, outcomes={outcome or "FAILED": 1}, failures=failures)


def serve(place_file: str) -> None:
    """Do the tasks that come on standard input, one JSON object a line, and answer each with a line."""
    for sent in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(sent, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)  # libraries remark on each damaged file
    _limit_memory()
    decode = msgspec.json.Decoder(Run | Try).decode
    with Path(place_file).open("r+b") as file, mmap.mmap(file.fileno(), PLACE_BYTES) as place:
        watched = Watched(place)
        for line in sys.stdin.buffer:
            task = decode(line)
            account = account_of(task, watched) if isinstance(task, Run) else tried(task, watched)
            sys.stdout.buffer.write(msgspec.json.encode(account) + b"\n")
            sys.stdout.buffer.flush()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ADDRESS_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
