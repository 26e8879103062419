"""One simulated life of a library: days of work on one list, with all that a script says goes wrong.

Nothing is real here but quire: its sessions, actors, client and manners, its log and its files. The threads
are steps, the sockets are coroutines, the hours are numbers.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ...actors.outcome import Outcome, Wanted
from ...actors.session import Session
from ...config.loader import Flag, load
from ...config.settings import Quire
from ...errors import QuireError
from ..accounts import Account
from .choices import Offline, chosen, today
from .chosen_world import ChosenWorld
from .disk import Disk, Fingerprint, StoreKind, StoreOpener
from .machine import Machine
from .ports import SeededRandom, VirtualClock, chance_of
from .process import Killed, Process
from .script import Day, Script, Shift, last_day, script_of, world_of
from .verdict import account_of_life
from .web import HarmedLedger, SimulatedWire, Weather
from .wishes import disobeyed

LIST_ID = "5" * 16
DAY_S_MAX = 2 * 3_600.0
"""What a day's runs may take, in simulated seconds; more is a stall."""
STEPS_MAX = 3_000_000
"""Steps of one life."""
LAST_DAYS_MAX = 4
"""How often the list is run at the end, when the web is well, until all is home that can be had."""
FREE_SPACE_MIN = 1 << 20
SHARED_MEMORY = Path("/dev/shm")
"""Where lives are put if it is there: none of this is about losing power, and an fsync is free there."""


class Life(msgspec.Struct, kw_only=True):
    """What became of one life."""

    seed: int
    store: StoreKind
    fingerprint: Fingerprint
    problems: list[str]
    """Broken promises, in words."""
    works: int
    home: int
    obtainable: int
    sessions: int
    takeovers: int
    in_flight: dict[str, int]
    """Kind → effects of the dead that were found in flight."""
    deaths: dict[str, int]
    """Point → processes that were killed there."""
    power_cuts: int
    """Deaths that took the machine along: the next day has another boot."""
    pauses: int
    """Times that a process was stopped for a while."""
    felt: dict[str, int]
    """What of the script came to bear: name → how often (see ``wishes``)."""
    requests: int
    steps: int
    hours: float
    """Simulated."""
    hours_alive: float
    """Of those, with a process running."""
    seconds: float
    """Real."""


def live(
    seed: int,
    *,
    store: StoreKind = "memory",
    works: int = 8,
    crashes: int = 3,
    script: Script | None = None,
    trace: Callable[[float, str], None] | None = None,
) -> Life:
    """Live the life of a seed, and judge it.

    Args:
        seed: of everything.
        store: which log.
        works: greatest number of works.
        crashes: greatest number of kills.
        script: what happens, in place of what the seed draws; the order of steps is still the seed's.
        trace: is told each step: simulated seconds, and who took it.
    """
    script = script or script_of(seed, works=works, crashes=crashes)
    root = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="quire-life-", dir=root))
    try:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning), _quiet():
            return _Living(script, folder, store, trace).lived()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Living:
    """A life while it is lived."""

    def __init__(
        self, script: Script, folder: Path, store: StoreKind, trace: Callable[[float, str], None] | None
    ) -> None:
        self._script = script
        self._store = store
        self._clock = VirtualClock(chance_of(script.seed, "clock"))
        self._machine = Machine(
            self._clock, chance_of(script.seed, "machine"), steps_max=STEPS_MAX, trace=trace
        )
        self._disk = Disk(folder / "library", store, self._clock)
        self._world: ChosenWorld = world_of(script)
        self._ledger = HarmedLedger()
        self._weather = Weather()
        self._chance = chance_of(script.seed, "users")
        self._settings = _settings(folder / "library", script)
        self._problems: list[str] = []
        self._told: dict[str, Outcome] = {}
        self._deaths: dict[str, int] = {}
        self._felt: dict[str, int] = {}
        self._runs: dict[str, Quire] = {}
        self._sessions = self._power_cuts = 0

    def lived(self) -> Life:
        """All days, then the judgement."""
        begun = time.perf_counter()
        complaints = _Complaints(self._machine)
        log = logging.getLogger("quire")
        log.addHandler(complaints)
        try:
            for day in self._script.days:
                self._day(day)
            for _ in range(LAST_DAYS_MAX):
                if not self._problems:
                    self._day(last_day())
                account = self._judged()
                if account.ok:
                    break
        finally:
            log.removeHandler(complaints)
        # What the log says after a run that broke off is no finding of its own.
        self._problems += [f"logged: {text}" for text in complaints.texts]
        self._problems = self._problems or account.problems
        return self._account(account, time.perf_counter() - begun)

    def _judged(self) -> Account:
        log = self._disk.opened(self._disk.folder / "events", "reader")
        account = account_of_life(log, self._disk.folder, self._world, self._ledger, self._told)
        wrong, felt = disobeyed(log, self._world, self._script.choices, self._runs)
        account.problems += [*wrong, *self._disk.robberies]
        self._felt = dict(sorted((felt + self._met()).items()))
        return account

    def _met(self) -> Counter[str]:
        """What of the days came to pass."""
        ttl_s, days = self._script.lease_ttl_s, self._script.days
        return Counter(
            three_workers=sum(len(day.shifts) == 3 for day in days),
            clock_steps=self._machine.clock_steps,
            absences=len(self._machine.absences),
            absences_past_lease=sum(seconds > ttl_s for seconds in self._machine.absences),
            **Counter(f"offline_{day.mood.offline}" for day in days if day.mood.offline),
            rollouts=sum(day.mood.rollout_percent < 100 for day in days),
        )

    def _account(self, account: Account, seconds: float) -> Life:
        fingerprint = self._disk.fingerprint()
        self._disk.close()
        machine = self._machine
        return Life(
            seed=self._script.seed,
            store=self._store,
            fingerprint=fingerprint,
            problems=self._problems,
            works=len(self._script.papers),
            home=account.home,
            obtainable=account.obtainable,
            takeovers=account.takeovers,
            in_flight=account.ops_in_flight,
            sessions=self._sessions,
            deaths=self._deaths,
            power_cuts=self._power_cuts,
            pauses=machine.pauses,
            felt=self._felt,
            requests=len(self._ledger),
            steps=machine.steps,
            hours=self._clock.elapsed_s / 3_600,
            hours_alive=machine.alive_s / 3_600,
            seconds=seconds,
        )

    # One day

    def _day(self, day: Day) -> None:
        machine = self._machine
        self._weather.mishaps, self._weather.latency_s = day.weather.mishaps, day.weather.latency_s
        machine.wall_steps = [(machine.steps + step, by_s) for step, by_s in day.wall_steps]
        machine.deadline_s = self._clock.elapsed_s + DAY_S_MAX
        workers = [self._worker(shift, day) for shift in day.shifts]
        left = list(workers)
        while left and not self._problems:
            worker = self._chance.choice(left)
            if not worker.goes_on():
                left.remove(worker)
        for worker in left:  # a promise is broken: nobody needs to go on
            worker.process.kill()
            worker.goes_on()
        if day.power_cut and any(worker.process.dead for worker in workers):
            machine.reboot()
            self._power_cuts += 1
        machine.sleep(day.idle_s)

    def _worker(self, shift: Shift, day: Day) -> _Worker:
        self._sessions += 1
        number = self._sessions
        process = self._machine.start(f"p{number}", disk_threads=self._settings.download.disk_threads)
        process.death, process.pauses = shift.death, list(shift.pauses)
        seed, settings = self._script.seed, today(self._settings, day.mood)
        return _Worker(
            process,
            self._disk.opener(process),
            lambda opener: Session(
                msgspec.structs.replace(settings, works_in_hand=shift.in_hand),
                inputs=("works.txt",),
                list_id=LIST_ID,
                clock=self._clock,
                random=SeededRandom(chance_of(seed, "process", number)),
                scheduler=process,
                transport=self._wire(chance_of(seed, "wire", number), day.mood.offline),
                open_store=opener,
                process_id=number,
            ),
            lambda session: self._script_of(session, process, shift, day),
            self._ended,
        )

    def _wire(self, chance: random.Random, offline: Offline | None) -> SimulatedWire:
        return SimulatedWire(
            self._world,
            ledger=self._ledger,
            weather=self._weather,
            clock=self._clock,
            chance=chance,
            offline=offline,
        )

    def _script_of(self, session: Session, process: Process, shift: Shift, day: Day) -> Iterator[None]:
        """What the user of a session does; a step of it ends with each outcome."""
        self._runs[session.run_id] = session.settings
        self._disk.owned(session.worker, process)
        wanted = [Wanted(paper.work()) for paper in self._script.papers]
        session.plan(wanted, list_id=LIST_ID, retry_failed=day.retry_failed)
        yield
        for number, outcome in enumerate(session.work(LIST_ID), 1):
            self._hear(outcome)
            if shift.end != "finish" and number > shift.after:
                if shift.end == "close":
                    break
                session.interrupt()
            yield
        session.close()

    def _hear(self, outcome: Outcome) -> None:
        """Somebody was told; from now on it must be so."""
        before = self._told.get(outcome.job_id)
        if before is not None and before.sha256 and before.generation == outcome.generation:
            self._problems.append(f"job {outcome.job_id} was told twice to be home")
        self._told[outcome.job_id] = outcome

    def _ended(self, worker: _Worker, error: BaseException | None) -> None:
        process = worker.process
        if error is None and process.loop.complaints:
            self._problems += [f"asyncio: {text}" for text in process.loop.complaints]
        if isinstance(error, Killed):
            point = process.death.point if process.death else "step"
            self._deaths[point] = self._deaths.get(point, 0) + 1
        elif error is not None:
            self._problems.append(f"{process.name} ended with {error!r:.1500}")


class _Worker:
    """A session, its process and its user, gone through step by step."""

    def __init__(
        self,
        process: Process,
        opener: StoreOpener,
        make: Callable[[StoreOpener], Session],
        use: Callable[[Session], Iterator[None]],
        ended: Callable[[_Worker, BaseException | None], None],
    ) -> None:
        self.process = process
        self._opener = opener
        self._make = make
        self._use = use
        self._ended = ended
        self._session: Session | None = None
        self._steps: Iterator[None] | None = None

    def __repr__(self) -> str:
        return f"<_Worker {self.process!r}>"

    def goes_on(self) -> bool:
        """Let the user take a step; False when there is nothing left to do."""
        try:
            if self.process.dead:
                raise Killed(self.process.name)
            if self._steps is None:
                self._session = self._make(self._opener)
                self._steps = self._use(self._session)
            next(self._steps)
        except StopIteration:
            self._ended(self, None)
        except (Killed, QuireError) as error:
            self.process.kill()
            self._let_go()
            self._ended(self, error)
        else:
            return True
        return False

    def _let_go(self) -> None:
        """What the kernel does: every descriptor of the process is closed, and the files stay."""
        self._opener.died()
        session = self._session
        if session is None:
            return
        session._slots.close()
        lock = session._lock
        if lock._descriptor >= 0:
            os.close(lock._descriptor)
            lock._descriptor = -1


class _Complaints(logging.Handler):
    """Errors that quire logs of processes that live: each is a broken promise."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(logging.ERROR)
        self._machine = machine
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note an error, unless it is one of dying."""
        process = self._machine.current
        if process is not None and not process.dead:
            error = record.exc_info[1] if record.exc_info else None
            self.texts.append(f"{process.name}: {record.getMessage():.300} {error!r:.600}")


def _settings(library: Path, script: Script) -> Quire:
    layers = load([Flag(("library",), str(library), "a life")], environ={}).settings
    download = msgspec.structs.replace(layers.download, free_space_min=FREE_SPACE_MIN)
    cache = msgspec.structs.replace(layers.web.cache, enabled=script.cached)
    web = msgspec.structs.replace(layers.web, contact_email="life@quire.example", cache=cache)
    lease = msgspec.structs.replace(layers.lease, ttl_s=script.lease_ttl_s)
    settings = msgspec.structs.replace(layers, download=download, web=web, lease=lease)
    return chosen(settings, script.choices)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is tidied up by Python behind our back: when that happens depends on all that ran before."""
    log = logging.getLogger("quire")
    propagate, log.propagate = log.propagate, False
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()  # what there was before is not looked through after each life
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        gc.collect()  # coroutines of the dead are closed here; what they complain of is of no interest
        gc.collect()  # and what they held on to while they were closed
        gc.unfreeze()
        log.propagate, sys.unraisablehook = propagate, hook
