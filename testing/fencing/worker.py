"""A worker that can be stopped at the worst moment: a whole session, watched where it writes.

It works a list like ``quire run`` does, and beside that does what the campaign's folder tells it:

- a file ``halt.PID`` names a point (``POINTS``); the process stops itself when it is next there;
- a file ``clock`` holds nanoseconds by which the wall clock of every worker is off, from now on;
- appends of its own that the store refused are noted in ``refused.PID``, a line for each.

``--unfenced`` drops the fence of the store in this process, to show that the campaign sees it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...actors.outcome import Wanted
from ...actors.runtime.ports import SystemClock
from ...actors.session import Session
from ...cli.inputs import InputSet
from ...config.loader import Flag, load
from ...config.settings import Quire
from ...errors import QuireError
from ...events.facts import type_of
from ...events.job import STREAM_PREFIX
from ...events.record import AppendResult, Batch, Conflict, Fenced
from ...store import codec
from ...store.domain import QUIRE
from ...store.library import Library
from ...store.lmdb_store import LmdbStore
from ...store.objects import Objects, Part

POINTS = {
    "before an append": "a commit with words about its jobs is made, and not yet with the store",
    "after an append": "the commit is durable, and nobody has heard of it",
    "before a write": "a chunk of a body is received, and not in its part",
    "before the rename": "a part is proved, and has not got its final name",
    "after the rename": "an object has its name, and its folder is not synced",
    "before the sync": "as before, and the finalizer is about to sync the folders",
}
"""Where a worker may be told to stop itself, with what that means."""
LATE_WORDS = ("before an append",)
"""Points at which it has a word about its jobs in its hands: woken, it says that first, and must be refused.

At the others the job that was lost may be one about which nothing was under way; by the time the worker has a
word about it, its lease manager may have told it that the lease is over.
"""


class SteppingClock:
    """The machine's clocks, the wall clock off by what a file says at the moment."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._clock = SystemClock()
        self.boot_id = self._clock.boot_id

    def __repr__(self) -> str:
        return f"<SteppingClock off by {self._off_ns()} ns>"

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC, and the step."""
        return self._clock.wall_ns() + self._off_ns()

    def boot_ns(self) -> int:
        """Nanoseconds since boot; never stepped."""
        return self._clock.boot_ns()

    def _off_ns(self) -> int:
        try:
            return int(self._file.read_text() or "0")
        except FileNotFoundError:
            return 0


class Halts:
    """Stops this process where its file says."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"halt.{os.getpid()}"

    def __repr__(self) -> str:
        return f"<Halts by {self._file}>"

    def at(self, point: str) -> None:
        """Stop here, if here it was asked for; goes on at SIGCONT."""
        try:
            if self._file.read_text() != point:
                return
            self._file.unlink()
        except FileNotFoundError:
            return
        # To this very thread: one sent to the process may let it run on until another has taken it.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def around(self, kind: type, name: str, *, before: str = "", after: str = "") -> None:
        """Make a method of a class pass these points; in this process, for good."""
        plain = getattr(kind, name)

        def passing(*args: Any, **named: Any) -> Any:
            self.at(before)
            result = plain(*args, **named)
            self.at(after)
            return result

        setattr(kind, name, passing)


class WatchedStore(LmdbStore):
    """The log, with points to stop at around each append, and a note of what it refused."""

    def __init__(
        self, library: Library, run_id: str, *, settings: Quire, clock: SteppingClock, desk: Path
    ) -> None:
        super().__init__(library.events, QUIRE, run_id=run_id, clock=clock, map_size=settings.store.map_size)
        self._halts = Halts(desk)
        self._refused = desk / f"refused.{os.getpid()}"

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``."""
        owned = any(batch.epoch is not None and not batch.opens_epoch for batch in batches)
        if owned:
            self._halts.at("before an append")
        results = super().append(batches)
        if owned:
            self._halts.at("after an append")
        lines = [_line(batch, one) for batch, one in zip(batches, results, strict=True)]
        said = "".join(line for line in lines if line)
        if said:
            with self._refused.open("a", encoding="utf-8") as file:
                file.write(said)
        return results


def _line(batch: Batch[Any], result: AppendResult) -> str:
    """The note of a batch that came under an epoch that is over; ``""`` for any other."""
    late = isinstance(result, Fenced) and batch.epoch is not None and not batch.opens_epoch
    if not late or not batch.stream.startswith(STREAM_PREFIX):
        return ""
    return " ".join(type_of(event) for event in batch.events) + "\n"


def unfenced(batch: Batch[Any], state: codec.StreamState) -> Conflict | Fenced | None:
    """What a store without a fence would say: versions count, epochs do not."""
    if batch.expected_version is not None and batch.expected_version != state[0]:
        return Conflict(batch.stream, batch.expected_version, state[0])
    return None


def main(argv: list[str] | None = None) -> int:
    """Work a list to its end; 0, or the exit code of the error that ended it."""
    args = _parser().parse_args(argv)
    halts = Halts(args.desk)
    halts.around(Part, "write", before="before a write")
    halts.around(Objects, "finalise", before="before the rename", after="after the rename")
    halts.around(Objects, "sync_folders", before="before the sync")
    if args.unfenced:
        setattr(codec, "refused", unfenced)  # noqa: B010 - mypy lets nobody assign a function of a module
    try:
        return _work(args, _settings(args))
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _work(args: argparse.Namespace, settings: Quire) -> int:
    clock = SteppingClock(args.desk / "clock")

    def watched(library: Library, run_id: str) -> WatchedStore:
        return WatchedStore(library, run_id, settings=settings, clock=clock, desk=args.desk)

    with (
        InputSet([str(args.list)]) as inputs,
        Session(
            settings, inputs=inputs.names, list_id=inputs.list_id, clock=clock, open_store=watched
        ) as session,
    ):
        wanted = (one for one in inputs if isinstance(one, Wanted))
        session.plan(wanted, list_id=inputs.list_id, retry_failed=args.retry_failed)
        for _ in session.work(inputs.list_id):
            pass
    return 0


def _settings(args: argparse.Namespace) -> Quire:
    flags = [
        Flag(("library",), str(args.library), "--library"),
        Flag(("web", "stand_in"), args.stand_in, "--stand-in"),
        Flag(("web", "pacing"), "none", "the campaign"),
        Flag(("web", "contact_email"), "campaign@quire.example", "the campaign"),
    ]
    return load(flags).settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quire.testing.fencing.worker", description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--stand-in", required=True, metavar="URL")
    parser.add_argument("--desk", type=Path, required=True, help="the campaign's folder")
    parser.add_argument("--retry-failed", action="store_true")
    parser.add_argument("--unfenced", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
