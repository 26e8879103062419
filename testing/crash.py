"""A campaign of kills: the same command again and again on one library, each time ended by ``kill -9``.

``python -m quire.testing.crash --kills 50 --works 400 --seed 1`` runs one and prints its account; it exits 1
when a promise was broken. The web is simulated and served by this process, so that it outlives every kill and
its ledger counts what was really asked. Moments come from the seed: some by the clock, some when the log's
tail shows an event of a drawn type, so that kills fall inside effects as well as between them.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ..actors.runtime.ports import SystemClock
from ..errors import InvariantError, QuireError, UsageError
from ..events.facts import RunStarted, type_of
from ..events.projections import COUNTS, EVERYTHING, count_name
from ..store.domain import QUIRE
from ..store.lmdb_store import LmdbStore
from ..store.objects import Objects
from .accounts import SHOWN_MAX, Account, account_of
from .web import Mix, Served, World, serve

EMAIL = "campaign@quire.example"
FINISH_S = 600.0
"""How long a worker that nobody kills may take, in seconds."""
TRIGGER_S = 6.0
"""How long a kill waits for the event that it was drawn for; then it happens anyway."""
START_S = (0.0, 1.5)
"""Bounds of a kill in the worker's start, in seconds after that of the process."""
RUN_S = (0.0, 1.0)
"""Bounds of a kill by the clock, in seconds after the worker opened the log."""
LAG_S_MAX = 0.03
"""Longest time between the event seen and the kill: from before its effect to after it."""
TIMES_MAX = 200
"""Most events of a type that a kill waits for."""
TRIGGERS = {
    "job_planned": 1,
    "job_leased": 2,
    "operation_started": 6,
    "operation_completed": 6,
    "job_state_changed": 6,
    "fallback_attempt": 4,
    "crash_recovery_event": 3,
}
"""Event types that kills wait for, with their weights."""
IN_HAND = 12
"""Works in hand at once: few, so that a list lasts for many kills."""
CAMPAIGN_MIX = Mix(good=0.35, others=(("slow_drip", 0.2), ("chunked", 0.1), ("slow_start", 0.05)))
"""70 % sound, half of it slowly; 12 % missing, 12 % HTML, 6 % truncated."""


class Moment(msgspec.Struct, frozen=True):
    """When to kill."""

    delay_s: float
    """After the start; after the event where one is waited for."""
    event: str = ""
    """The event type to wait for."""
    times: int = 1
    """How many of it."""


class Kill(msgspec.Struct, frozen=True):
    """A kill that hit."""

    moment: Moment
    pid: int
    began_ns: int
    """Wall-clock time at which the process was started."""


def draw(chance: random.Random) -> Moment:
    """A moment: one in ten while the worker starts, four by the clock, five at an event."""
    kind = chance.random()
    if kind < 0.1:
        return Moment(chance.uniform(*START_S))
    if kind < 0.5:
        return Moment(chance.uniform(*RUN_S), "run_started")
    event = chance.choices(list(TRIGGERS), list(TRIGGERS.values()))[0]
    return Moment(chance.uniform(0, LAG_S_MAX), event, int(TIMES_MAX ** chance.random()))


class Campaign:
    """One library, one list, one simulated web, and workers that are killed."""

    def __init__(
        self,
        folder: Path,
        served: Served,
        *,
        seed: int,
        environ: Mapping[str, str] | None = None,
        works: Sequence[str] | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: where the library, the list and the workers' words go; it must exist.
            served: the simulated web, being served.
            seed: of the moments of the kills.
            environ: settings as ``QUIRE_…`` variables for the workers.
            works: lines of the list; all of the world when left out.
        """
        self.folder, self.library = folder, folder / "library"
        self.served = served
        self.kills: list[Kill] = []
        self._chance = random.Random(seed)
        self._position = 0
        self._clock = SystemClock()
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")},
            "QUIRE_WORKS_IN_HAND": str(IN_HAND),
            **(environ or {}),
        }
        self.list = folder / "works.txt"
        self.list.write_text("\n".join(works or served.world.inputs()) + "\n", encoding="utf-8")

        command = [sys.executable, "-m", "quire", "run", str(self.list), "--library", str(self.library)]
        web = ["--stand-in", served.url, "--pacing", "none", "--email", EMAIL, "--json"]
        self.command = [*command, *web]
        """What a worker is started with."""

    def __repr__(self) -> str:
        return f"<Campaign on {self.library}, {len(self.kills)} kills>"

    def start(self, *further: str) -> subprocess.Popen[bytes]:
        """Start a worker: ``quire run LIST`` with the web's address."""
        said = self.folder / "worker"
        with said.with_suffix(".err").open("ab") as errors, said.with_suffix(".out").open("ab") as out:
            return subprocess.Popen(
                [*self.command, *further], env=self.environ, cwd=self.folder, stdout=out, stderr=errors
            )

    def finish(self, worker: subprocess.Popen[bytes]) -> int:
        """Wait for a worker's own end; its exit code (0 or 1).

        Raises:
            InvariantError: it ended with another code, or does not end.
        """
        try:
            code = worker.wait(FINISH_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
            raise InvariantError(f"a worker on {self.library} does not end in {FINISH_S:.0f} s") from None
        if code not in (0, 1) or "Traceback" in self.last_words():
            raise InvariantError(f"a worker ended with exit code {code}: {self.last_words()}")
        return code

    def last_words(self) -> str:
        """The end of what the workers wrote to stderr."""
        return (self.folder / "worker.err").read_text(errors="replace")[-2000:]

    def run(self, kills: int) -> int:
        """Start and kill until so many kills hit or the list is done; then let it end. Returns the kills."""
        before = len(self.kills)
        while len(self.kills) - before < kills:
            worker = self.start()
            if not self._kill(worker, draw(self._chance)):
                self.finish(worker)
                return len(self.kills) - before
        self.finish(self.start())
        return kills

    def retry_poisoned(self) -> bool:
        """Let the works that the kills made look like poison be tried again; False when there are none."""
        with self.log() as log:
            (poisoned,) = log.store.rows(COUNTS, [count_name(EVERYTHING, "reason:poison")])
        if poisoned:
            self.finish(self.start("--retry-failed"))
        return bool(poisoned)

    def _kill(self, worker: subprocess.Popen[bytes], moment: Moment) -> bool:
        """Kill at the moment; False when the worker had ended before."""
        began_ns = self._clock.wall_ns()
        if moment.event:
            self._wait_for(worker, moment)
        try:
            worker.wait(moment.delay_s)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGKILL)
            if worker.wait() == -signal.SIGKILL:
                self.kills.append(Kill(moment, worker.pid, began_ns))
                return True
        return False

    def _wait_for(self, worker: subprocess.Popen[bytes], moment: Moment) -> None:
        """Return when the worker's part of the log holds enough events of the type, or after some time."""
        until_ns = self._clock.boot_ns() + int(TRIGGER_S * 1e9)
        while not (self.library / "events" / "data.mdb").exists():
            if _ended(worker, 0.02) or self._clock.boot_ns() > until_ns:
                return
        try:
            with self.log() as log:
                self._tail(log.store, worker, moment, until_ns)
        except UsageError:
            return  # the log is being created at this very moment: as good a moment as any

    def _tail(self, store: LmdbStore, worker: subprocess.Popen[bytes], moment: Moment, until_ns: int) -> None:
        seen, run = 0, ""
        while seen < moment.times and worker.poll() is None and self._clock.boot_ns() < until_ns:
            for recorded in store.read(self._position, wait_s=0.02):
                self._position = recorded.position
                event = recorded.event
                if isinstance(event, RunStarted) and event.pid == worker.pid:
                    run = recorded.run_id
                seen += recorded.run_id == run and type_of(event) == moment.event

    def log(self) -> OpenLog:
        """The library's log, to be read while workers write; a context manager."""
        return OpenLog(self.library)

    def account(self) -> tuple[Account, list[float]]:
        """The account of the library, and the times of recovery in seconds, one for each killed worker.

        The time of recovery is from the start of the process after a kill to its first event of a job.
        """
        with self.log() as log:
            world = self.served.world
            works = [work for work in world.work_ids() if not work.startswith("title:")]
            account, firsts = account_of(
                log.store, log.objects, world=world, ledger=self.served.ledger, works=works
            )
            began = self._runs_after_kills(log.store)
        return account, [(firsts[run] - at) / 1e9 for run, at in began.items() if run in firsts]

    def _runs_after_kills(self, store: LmdbStore) -> dict[str, int]:
        """Run → start of its process, of the processes that were started after a kill and killed in turn."""
        began = {kill.pid: kill.began_ns for kill in self.kills[1:]}
        runs: dict[str, int] = {}
        position = 0
        while events := store.read(position):
            position = events[-1].position
            for recorded in events:
                if isinstance(recorded.event, RunStarted) and recorded.event.pid in began:
                    runs[recorded.run_id] = began[recorded.event.pid]
        return runs


class OpenLog:
    """A library's log and files, open for reading."""

    def __init__(self, library: Path) -> None:
        self.objects = Objects(library)
        self.store = LmdbStore(library / "events", QUIRE, run_id="", clock=SystemClock(), readonly=True)

    def __enter__(self) -> OpenLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()


def _ended(worker: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        worker.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


class Totals:
    """The sums of a campaign's rounds, for the report."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.kills: list[Kill] = []
        self.recoveries: list[float] = []

    def __repr__(self) -> str:
        return f"<Totals of {len(self.accounts)} libraries, {len(self.kills)} kills>"

    def add(self, campaign: Campaign) -> Account:
        """Take in a library that is done; returns its account."""
        account, recoveries = campaign.account()
        self.accounts.append(account)
        self.kills += campaign.kills
        self.recoveries += recoveries
        return account

    @property
    def problems(self) -> list[str]:
        """Broken promises of all rounds."""
        return [problem for account in self.accounts for problem in account.problems]

    def report(self) -> str:
        """All of it in a few lines."""
        every = self.accounts
        downloads = [download for account in every for download in account.downloads]
        again = [download for download in downloads if download.asked > download.jobs]
        in_flight = sum(account.deaths for account in every)
        moments = Counter(kill.moment.event or "start" for kill in self.kills)
        lines = [
            f"{len(self.kills)} kills on {len(every)} libraries, {sum(a.works for a in every)} works, "
            f"{sum(a.events for a in every)} events",
            f"  moments {_summed([moments])}",
            f"home {sum(a.home for a in every)} of {sum(a.obtainable for a in every)} that can be had; "
            f"states {_summed(a.states for a in every)}",
            f"kills that hit effects in flight {in_flight}, "
            f"jobs taken over {sum(a.takeovers for a in every)}",
            f"  in states {_summed(a.states_in_flight for a in every)}",
            f"  ops in flight {_summed(a.ops_in_flight for a in every)}",
            f"finished downloads {len(downloads)}, asked for again {len(again)} "
            f"(at most {max((d.asked for d in downloads), default=0)} times), "
            f"unexplained {sum(d.asked > d.allowed for d in downloads)}",
            f"given up as poison {sum(a.poisoned for a in every)}",
            f"recovery, start of process to first event of a job: {_quantiles(self.recoveries)}",
            f"PROBLEMS {len(self.problems)}" if self.problems else "every promise was kept",
        ]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems[:SHOWN_MAX])])


def _summed(parts: Iterable[Mapping[str, int]]) -> str:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return ", ".join(f"{name} {count}" for name, count in total.most_common()) or "none"


def _quantiles(times: list[float]) -> str:
    if len(times) < 2:
        return "not measured"
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s over {len(times)} starts"


def records_of(path: Path, works: int) -> list[dict[str, Any]]:
    """So many Unpaywall records of a gzipped file, one a line."""
    with gzip.open(path) as lines:
        return [msgspec.json.decode(line) for line in islice(lines, works)]


def world_of(records: Path | None, works: int, *, seed: int) -> World:
    """A world with the campaign's mix of fates out of real records, or a demo world where there are none."""
    if records is None:
        return World.demo(works, seed=seed)
    return World.from_unpaywall(records_of(records, works), seed=seed, mix=CAMPAIGN_MIX)


def campaign(world: World, *, kills: int, seed: int, keep: Path | None = None) -> Totals:
    """Kill so often, on as many new libraries as it takes; one is done when the command ends by itself."""
    totals = Totals()
    number = 0
    while not totals.accounts or (len(totals.kills) < kills and not totals.problems):
        number += 1
        folder = Path(tempfile.mkdtemp(prefix="quire-campaign-", dir=keep))
        with serve(world) as served:
            round_ = Campaign(folder, served, seed=seed * 1_000_003 + number)
            round_.run(kills - len(totals.kills))
            round_.retry_poisoned()
            totals.add(round_)
        if not totals.problems and keep is None:
            shutil.rmtree(folder)
        sys.stderr.write(
            f"{len(totals.kills)} kills, {number} libraries, {len(totals.problems)} problems; {folder}\n"
        )
    return totals


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its account; 1 when a promise was broken."""
    options = _parser().parse_args(arguments)
    world = world_of(options.records, options.works, seed=options.seed)
    try:
        totals = campaign(world, kills=options.kills, seed=options.seed, keep=options.keep)
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(totals.report())
    return 1 if totals.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quire.testing.crash", description="Kill workers and account for what is left."
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--works", type=int, default=200, help="of one library")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=Path, help="gzipped Unpaywall records instead of the demo world")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the libraries in this folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
