"""The arena: one library, workers on it, and what is done to them: stopped, overtaken, woken, clocks set."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from ...actors.runtime.ports import NANOSECONDS, SystemClock
from ...errors import InvariantError, QuireError
from ..accounts import Account
from ..crash import Campaign, OpenLog
from ..web import Served
from .fences import Fences
from .worker import POINTS

TTL_S = 0.6
"""Lease of the workers, in seconds: so long nobody may take over from one that is stopped."""
PATIENCE_S = 1.2
"""How long beyond the lease a takeover is waited for, in seconds."""
START_S = 30.0
"""How long a worker may take to be seen in the log, in seconds."""
STILL_S = 0.6
"""After so long without any word in the log somebody is stopped within a commit; renewals come more often."""
HALT_S = 0.5
"""How long a worker is waited for at a point, in seconds; then it is stopped where it is."""
MOMENT_S = 0.3
"""Longest time before a stop by the clock, in seconds."""
ASLEEP_S = 0.2
"""Longest time from the last takeover to the waking, in seconds."""
AWAKE_S = 0.3
"""Longest time that all work between two bouts, in seconds."""
LOOK_S = 0.02
"""Time between two looks, in seconds."""
IN_HAND = 4
"""Works in hand at once by one worker."""
STEPS_S = (-3600, 0, 3600)
"""What the wall clock may be off by, in seconds."""
STEP_CHANCE = 0.3
"""How probably the wall clock is set anew after a bout."""
BY_THE_CLOCK = "by the clock"


class Stop(msgspec.Struct):
    """One worker, stopped once."""

    pid: int
    worker: str
    point: str
    position: int
    """The head of the log when it stood."""
    held: int
    """Jobs that it had leased then."""
    woken: int = 0
    """The head of the log when it was woken."""
    taken: int = 0
    """Jobs that were taken over meanwhile."""
    stood: bool = False
    """Nothing at all was written meanwhile."""
    refused_before: int = 0
    late: dict[str, int] = {}
    """Kind of append → those under its old epochs that were refused until its next stop."""

    @property
    def counts(self) -> bool:
        """Whether it is a round: overtaken while it was stopped."""
        return self.taken > 0


class Arena:
    """One library, its workers, and what is done to them."""

    def __init__(self, folder: Path, served: Served, *, seed: int, unfenced: bool = False) -> None:
        """Prepare; nothing is started yet. ``unfenced``: the workers' stores lack the fence."""
        environ = {"QUIRE_LEASE__TTL_S": str(TTL_S), "QUIRE_WORKS_IN_HAND": str(IN_HAND)}
        self.campaign = Campaign(folder, served, seed=seed, environ=environ)
        command = [sys.executable, "-m", "quire.testing.fencing.worker", str(self.campaign.list)]
        where = ["--library", str(self.campaign.library), "--stand-in", served.url, "--desk", str(folder)]
        self.campaign.command = [*command, *where, *(["--unfenced"] if unfenced else [])]
        self.fences = Fences()
        self.stops: list[Stop] = []
        self.steps = 0
        """How often the wall clock was set."""
        self.idle = 0
        """Stops of workers that had nothing in hand."""
        self._folder = folder
        self._served = served
        self._chance = random.Random(seed)
        self._clock = SystemClock()
        self._workers: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"<Arena {self._folder}, {len(self.stops)} stops, {self.fences!r}>"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of moment at which workers are stopped."""
        return (BY_THE_CLOCK, *POINTS)

    @property
    def rounds(self) -> list[Stop]:
        """The stops that count."""
        return [stop for stop in self.stops if stop.counts]

    def run(self, rounds: int, *, workers: int) -> None:
        """Stop and wake until so many rounds are done or the list is; then let the workers end."""
        try:
            self._workers = [self.campaign.start() for _ in range(workers)]
            with self._opened() as log:
                self._seen(log)
                while len(self.rounds) < rounds and len(self._living()) > 1:
                    self._bout(log)
                self._step(0)
                for worker in self._workers:
                    self.campaign.finish(worker)
                self._follow(log, 0)
            self._close_rounds({stop.pid for stop in self.stops})
        finally:
            self._end()
        self.campaign.retry_poisoned()

    def account(self) -> Account:
        """The account of the library, with what its fences let through among its problems."""
        account, _ = self.campaign.account()
        account.problems += [f"stale: {what}" for what in self.fences.stale]
        return account

    # One bout

    def _bout(self, log: OpenLog) -> None:
        """Stop some, let the others overtake them, wake them."""
        living = self._living()
        chosen = self._chance.sample(living, self._chance.randint(1, len(living) - 1))
        stops = [stop for worker in chosen if (stop := self._stop(log, worker)) is not None]
        if stops:
            self._await_takeovers(log, stops)
            self._follow(log, self._chance.uniform(0, ASLEEP_S))
        self._chance.shuffle(chosen)
        for worker in chosen:
            worker.send_signal(signal.SIGCONT)
        for stop in stops:
            stop.woken = self.fences.position
            stop.taken = len(self.fences.taken_from(stop.worker, stop.position))
            stop.stood = stop.woken == stop.position
            self.stops.append(stop)
        if self._chance.random() < STEP_CHANCE:
            self._step(self._chance.choice(STEPS_S))
        self._follow(log, self._chance.uniform(0, AWAKE_S))

    def _stop(self, log: OpenLog, worker: subprocess.Popen[bytes]) -> Stop | None:
        """Stop a worker at a drawn moment; None when it had nothing in hand, or ended."""
        self._close_rounds({worker.pid})
        point = self._chance.choice([BY_THE_CLOCK, BY_THE_CLOCK, *POINTS])
        if point == BY_THE_CLOCK:
            self._follow(log, self._chance.uniform(0, MOMENT_S))
        elif not self._halted(log, worker, point):
            point = BY_THE_CLOCK
        worker.send_signal(signal.SIGSTOP)
        if not self._wait(log, lambda: is_stopped(worker.pid), HALT_S):
            return None
        self._follow(log, 0)
        name = self.fences.workers[worker.pid]
        held = len(self.fences.held_by(name))
        if not held:
            self.idle += 1
            return None
        late = len(self._refusals(worker.pid))
        return Stop(worker.pid, name, point, self.fences.position, held, refused_before=late)

    def _halted(self, log: OpenLog, worker: subprocess.Popen[bytes], point: str) -> bool:
        """Have a worker stop itself at a point; False where it does not come by."""
        order = self._folder / f"halt.{worker.pid}"
        hidden = order.with_name(f".{order.name}")
        hidden.write_text(point)
        hidden.rename(order)
        halted = self._wait(log, lambda: is_stopped(worker.pid), HALT_S)
        order.unlink(missing_ok=True)
        return halted

    def _await_takeovers(self, log: OpenLog, stops: list[Stop]) -> None:
        """Until each stopped worker lost a job, or in half of the bouts all of its jobs; within bounds."""
        still = Stillness(self.fences, self._clock)

        def overtaken() -> bool:
            return still.stands() or all(self.fences.taken_from(stop.worker, stop.position) for stop in stops)

        def emptied() -> bool:
            return still.stands() or not any(self.fences.held_by(stop.worker) for stop in stops)

        if self._wait(log, overtaken, TTL_S + PATIENCE_S) and self._chance.random() < 0.5:
            self._wait(log, emptied, TTL_S)

    def _close_rounds(self, pids: set[int]) -> None:
        """Note what the woken workers tried in vain, in the last stop of each."""
        last = {stop.pid: stop for stop in self.stops if stop.pid in pids}
        for pid, stop in last.items():
            stop.late = dict(Counter(self._refusals(pid)[stop.refused_before :]))

    def _refusals(self, pid: int) -> list[str]:
        """What the store refused of a worker so far: the kinds of event of each append."""
        try:
            return (self._folder / f"refused.{pid}").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _step(self, off_s: int) -> None:
        """Set the wall clock of all workers."""
        hidden = self._folder / ".clock"
        hidden.write_text(str(off_s * NANOSECONDS))
        hidden.rename(self._folder / "clock")
        self.steps += 1

    # Watching

    def _opened(self) -> OpenLog:
        until_ns = self._clock.boot_ns() + int(START_S * NANOSECONDS)
        while True:
            try:
                return self.campaign.log()
            except QuireError:  # it is being created
                if self._clock.boot_ns() > until_ns or not _sleeps(self._workers[0], LOOK_S):
                    raise InvariantError(f"no log appears: {self.campaign.last_words()}") from None

    def _seen(self, log: OpenLog) -> None:
        """Wait until the log knows each worker."""
        known = self._wait(log, lambda: all(one.pid in self.fences.workers for one in self._workers), START_S)
        if not known:
            raise InvariantError(f"a worker does not begin: {self.campaign.last_words()}")

    def _living(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self._workers if worker.poll() is None]

    def _wait(self, log: OpenLog, holds: Callable[[], bool], at_most_s: float) -> bool:
        """Follow the log until something holds; False when it does not in time."""
        until_ns = self._clock.boot_ns() + int(at_most_s * NANOSECONDS)
        while not holds():
            if self._clock.boot_ns() > until_ns:
                return False
            self._follow(log, LOOK_S)
        return True

    def _follow(self, log: OpenLog, for_s: float) -> None:
        """Take in the log as it grows for so long; all that is there, at least."""
        until_ns = self._clock.boot_ns() + int(for_s * NANOSECONDS)
        while True:
            left_s = (until_ns - self._clock.boot_ns()) / NANOSECONDS
            events = log.store.read(self.fences.position, wait_s=max(0.0, min(left_s, LOOK_S)))
            for recorded in events:
                self.fences.tell(recorded)
            if not events and left_s <= 0:
                return

    def _end(self) -> None:
        """Leave no process behind, a stopped one least of all."""
        for worker in self._living():
            worker.kill()
            worker.wait()


class Stillness:
    """Whether the log has stopped growing."""

    def __init__(self, fences: Fences, clock: SystemClock) -> None:
        self._fences = fences
        self._clock = clock
        self._position = -1
        self._since_ns = 0

    def __repr__(self) -> str:
        return f"<Stillness at {self._position}>"

    def stands(self) -> bool:
        """Whether nothing came for ``STILL_S`` seconds, as far as the fences were told."""
        if self._fences.position != self._position:
            self._position, self._since_ns = self._fences.position, self._clock.boot_ns()
        return self._clock.boot_ns() - self._since_ns > STILL_S * NANOSECONDS


def _sleeps(worker: subprocess.Popen[bytes], for_s: float) -> bool:
    """Wait; False when the worker ends meanwhile."""
    try:
        worker.wait(for_s)
    except subprocess.TimeoutExpired:
        return True
    return False


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal (proc(5), the state in ``stat``)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return False
