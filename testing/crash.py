"""A campaign of kills: the same command again and again on one library, each time ended by ``kill -9``.

``python -m quire.testing.crash --kills 50 --works 400 --seed 1`` runs one and prints its account; it exits 1
when a promise was broken. Two campaigns run side by side in two shells, each with a ``--seed`` of its own:
they share nothing. The web is simulated and served by this process, so that it outlives every kill and its
ledger counts what was really asked. Moments come from the seed: some by the clock, most when the log's tail
shows an event that names a drawn state or kind of op, so that kills fall inside effects and between them.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..actors.runtime.ports import NANOSECONDS, SystemClock
from ..errors import DamagedError, InvariantError, QuireError, UsageError
from ..events.facts import RunStarted
from ..store.domain import QUIRE
from ..store.lmdb_store import LmdbStore
from ..store.objects import Objects
from .accounts import Account, account_of, events_of
from .crash_moments import CLOCK, OPEN_S, Kill, Moment, Start, Watch, draw, hit_by, is_over
from .crash_report import Censored, Round, Totals
from .crash_world import world_of
from .web import Served, World, serve
from .web.world import COLUMNS

EMAIL = "campaign@quire.example"
FINISH_S = 600.0
"""How long a worker that nobody kills may take, in seconds."""
SETTLE_RUNS_MAX = 5
"""Runs after the last kill until no work that can be had waits for a gate or a backoff."""
IN_HAND = 12
"""Works in hand at once: few, so that a list lasts for many kills."""
PROGRESS_KILLS = 25
"""Kills after which a line tells how far the campaign is."""


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
            works: lines of the list; all of the world, titles too, when left out.
        """
        self.folder, self.library = folder, folder / "library"
        self.served = served
        self.kills: list[Kill] = []
        self.starts: list[Start] = []
        """Those after a kill."""
        self.spent_s: dict[str, float] = {}
        """What the time went into: to the kills, to workers that end by themselves, to the account."""
        self._chance = random.Random(seed)
        self._clock = SystemClock()
        self._watch = Watch(self._clock)
        self._censored = Censored()
        self._born = False
        """The log was opened once: from then on it must open."""
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")},
            "QUIRE_WORKS_IN_HAND": str(IN_HAND),
            **(environ or {}),
        }
        self.list = _listed(folder, served.world, works, seed)

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
        hit = self.run_on(kills)
        if hit == kills:
            self.go_on()
        return hit

    def run_on(self, kills: int) -> int:
        """Start and kill so often; fewer when the list is done before. Returns the kills."""
        before = len(self.kills)
        while len(self.kills) - before < kills:
            moment = draw(self._chance)
            began_ns = self._clock.wall_ns()
            worker = self.start()
            with self._timed("kills"):
                hit = self._kill(worker, moment, began_ns)
            if not hit:
                self.finish(worker)
                return len(self.kills) - before
        return kills

    def go_on(self) -> None:
        """Let a worker go on to its own end."""
        began_ns = self._clock.wall_ns()
        with self._timed("runs to their end"):
            worker = self.start()
            self._note_start(worker, began_ns, speaks=True)
            self.finish(worker)

    def judged(self) -> Round:
        """The account after the command's own end: before any retry, and after that of the poisoned alone.

        A work that can be had and waits for a gate or a backoff is let come, by so many runs; what failed by
        the kills' own doing (poison, with the deaths in the log) is tried once more by name, nothing else is.
        """
        account, recoveries = self._settled(retry_to_come=True)
        retried, before = list(account.to_retry), account.problems
        if retried:
            self._retry(retried)
            account, recoveries = self._settled(retry_to_come=False)
            account.problems += [one for one in before if one not in account.problems]
        with self.log() as log:
            states, ops = hit_by(self.kills, events_of(log.store))
        return Round(
            account=account,
            kills=self.kills,
            recoveries=recoveries,
            censored=self._censored,
            states_hit=states,
            ops_hit=ops,
            retried=len(retried),
            retried_home=len(set(retried) - set(account.to_retry)),
            spent_s=dict(self.spent_s),
        )

    def _settled(self, *, retry_to_come: bool) -> tuple[Account, list[float]]:
        account, recoveries = self.account(retry_to_come=retry_to_come)
        for _ in range(SETTLE_RUNS_MAX):
            if not account.waiting:
                break
            self.go_on()
            account, recoveries = self.account(retry_to_come=retry_to_come)
        return account, recoveries

    def retry_poisoned(self) -> int:
        """Try once more the works that can be had and that the kills made look like poison; how many."""
        account, _ = self.account(retry_to_come=True)
        if account.to_retry:
            self._retry(list(account.to_retry))
        return len(account.to_retry)

    def _retry(self, jobs: list[str]) -> None:
        """``quire retry`` for these jobs alone, and a run that takes them up."""
        command = [sys.executable, "-m", "quire", "retry", *jobs, "--library", str(self.library), "--json"]
        done = subprocess.run(command, env=self.environ, cwd=self.folder, capture_output=True, check=False)
        if done.returncode or msgspec.json.decode(done.stdout)["requeued"] != len(jobs):
            raise InvariantError(f"quire retry of {len(jobs)} jobs: {done.stdout!r} {done.stderr[-2000:]!r}")
        self.go_on()

    def _kill(self, worker: subprocess.Popen[bytes], moment: Moment, began_ns: int) -> bool:
        """Kill at the moment; False when the worker had ended before."""
        came = moment.trigger is not None and self._wait_for(worker, moment)
        by = moment.trigger.name if moment.trigger and came else CLOCK if moment.trigger else "start"
        if not is_over(worker, moment.delay_s):
            worker.send_signal(signal.SIGKILL)
            ended_ns = self._clock.wall_ns()
            if worker.wait() == -signal.SIGKILL:
                self._note_start(worker, began_ns, speaks=moment.speaks)
                self.kills.append(Kill(by, worker.pid, began_ns, ended_ns))
                return True
        self._note_start(worker, began_ns, speaks=True)
        return False

    def _note_start(self, worker: subprocess.Popen[bytes], began_ns: int, *, speaks: bool) -> None:
        if self.kills:
            self.starts.append(Start(worker.pid, began_ns, speaks))

    def _wait_for(self, worker: subprocess.Popen[bytes], moment: Moment) -> bool:
        """Return when the worker's part of the log holds the trigger, or after some time with False."""
        until_ns = self._clock.boot_ns() + int(OPEN_S * NANOSECONDS)
        while not (self.library / "events" / "data.mdb").exists():
            if is_over(worker, 0.02) or self._clock.boot_ns() > until_ns:
                return False
        log = self._opened(worker, until_ns)
        if log is None:
            return False
        with log:
            return self._watch.wait(log.store, worker, moment)

    def _opened(self, worker: subprocess.Popen[bytes], until_ns: int) -> OpenLog | None:
        """The log, as soon as it is born; None where the worker or the time ends before."""
        while True:
            try:
                log = self.log()
            except (UsageError, DamagedError):
                # It is being created at this very moment. To kill for that would kill each worker there.
                if self._born:
                    raise
                if is_over(worker, 0.02) or self._clock.boot_ns() > until_ns:
                    return None
            else:
                self._born = True
                return log

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began_ns = self._clock.boot_ns()
        yield
        spent_s = (self._clock.boot_ns() - began_ns) / NANOSECONDS
        self.spent_s[name] = self.spent_s.get(name, 0.0) + spent_s

    def log(self) -> OpenLog:
        """The library's log, to be read while workers write; a context manager."""
        return OpenLog(self.library)

    def account(self, *, retry_to_come: bool = False) -> tuple[Account, list[float]]:
        """The account of the library, and the times of recovery in seconds; arguments as ``account_of``.

        The time of recovery is from the start of the process after a kill to its first event of a job. Those
        killed by the clock are left out, since only the quick among them would have spoken; each other start
        counts, the last that ends by itself too.
        """
        with self._timed("accounts"), self.log() as log:
            account, firsts = account_of(
                log.store,
                log.objects,
                world=self.served.world,
                ledger=self.served.ledger,
                works=self.served.world.work_ids(),
                retry_to_come=retry_to_come,
            )
            recoveries = self._recoveries(log.store, firsts)
        return account, recoveries

    def _recoveries(self, store: LmdbStore, firsts: Mapping[str, int]) -> list[float]:
        spoke: dict[int, list[int]] = {}
        for recorded in events_of(store):
            if isinstance(recorded.event, RunStarted) and recorded.run_id in firsts:
                spoke.setdefault(recorded.event.pid, []).append(firsts[recorded.run_id])
        times = []
        self._censored = Censored()
        for start in self.starts:
            first = min((at for at in spoke.get(start.pid, ()) if at >= start.began_ns), default=None)
            if not start.speaks:
                self._censored.by_clock += 1
            elif first is None:
                self._censored.silent += 1
            else:
                times.append((first - start.began_ns) / NANOSECONDS)
        return times


class OpenLog:
    """A library's log and files, open for reading."""

    def __init__(self, library: Path) -> None:
        self.objects = Objects(library)
        self.store = LmdbStore(library / "events", QUIRE, run_id="", clock=SystemClock(), readonly=True)

    def __enter__(self) -> OpenLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()


def _listed(folder: Path, world: World, works: Sequence[str] | None, seed: int) -> Path:
    """The list that workers are given: a plain one of these works, or a table of all of the world.

    Its order follows from the seed, so that works that lead to one PDF are not in hand together only.
    """
    if works is not None:
        path = folder / "works.txt"
        path.write_text("\n".join(works) + "\n", encoding="utf-8")
        return path
    path = folder / "works.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        rows = world.rows()
        random.Random(seed).shuffle(rows)
        table.writerows(rows)
    return path


def campaign(world: World, *, kills: int, seed: int, keep: Path | None = None) -> Totals:
    """Kill so often, on as many new libraries as it takes; one is done when the command ends by itself."""
    totals = Totals(kills, SystemClock())
    number = 0
    while not totals.rounds or (totals.killed < kills and not totals.problems):
        number += 1
        folder = Path(tempfile.mkdtemp(prefix="quire-campaign-", dir=keep))
        with serve(world) as served:
            round_ = Campaign(folder, served, seed=seed * 1_000_003 + number)
            left = kills - totals.killed
            while left > 0:
                some = min(PROGRESS_KILLS, left)
                hit = round_.run_on(some)
                left -= hit
                sys.stderr.write(totals.progress(len(round_.kills), folder) + "\n")
                if hit < some:
                    break
            if not left:
                round_.go_on()
            totals.add(round_.judged())
        if not totals.problems and keep is None:
            shutil.rmtree(folder)
        sys.stderr.write(totals.progress(0, folder) + "\n")
    totals.end()
    return totals


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its account; 1 when a promise was broken."""
    options = _parser().parse_args(arguments)
    try:
        world = world_of(options.records, options.works, seed=options.seed)
        totals = campaign(world, kills=options.kills, seed=options.seed, keep=options.keep)
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(msgspec.json.encode(totals.figures()).decode() if options.json else totals.report())
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
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
