"""The simulated machine: everything that runs, one step after the other, in an order that a seed draws.

A machine has one clock and some processes. A process has what a real one has: actors, one event loop, timers,
and a pool for disk work; but no thread. ``Process`` is the ``Scheduler`` port of the session that lives in
it. Whoever would wait (the user of a session) calls ``run_until``, and the machine draws, step by step, who
goes next among all that could; where nobody could, time jumps to the next timer.

What the seed decides: which actor handles how many of its messages next, when disk work is done, how fast
each of them is (some are very slow), how long a step takes, when a process is killed or stopped for a while,
when the clock on the wall is set.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

from ...actors.runtime.ports import NANOSECONDS
from ...errors import InvariantError, QuireError
from .ports import VirtualClock
from .process import Killed, Process, Runner, Timer

STEP_NS = (2_000, 20_000, 200_000, 2_000_000)
"""How long a step takes, in nanoseconds; one of these is drawn for each."""
SPEEDS = (1.0, 1.0, 1.0, 0.3, 0.02)
"""Likelihood of a runner against that of the others; drawn once for each of its lives."""
PACE_STEPS = 512
"""Steps after which all speeds are drawn anew."""


class StalledError(QuireError):
    """Somebody waits, and what it waits for does not come: a message, an answer or a wake-up was lost."""


class Machine:
    """Steps its processes in an order drawn by ``chance``.

    ``trace`` is told each step: when, in seconds, and whose. ``steps_max`` bounds the steps of a life.
    """

    def __init__(
        self,
        clock: VirtualClock,
        chance: random.Random,
        *,
        steps_max: int,
        trace: Callable[[float, str], None] | None = None,
    ) -> None:
        self.clock = clock
        self.steps = 0
        self.steps_max = steps_max
        self.pauses = 0
        """Times that a process was stopped for a while."""
        self.absences: list[float] = []
        """How long each of those was in seconds, as far as another process went on meanwhile."""
        self.clock_steps = 0
        """Times that the wall clock was set while processes lived."""
        self.alive_s = 0.0
        """Simulated time during which a process lived, in seconds."""
        self.current: Process | None = None
        """Whose step is being taken."""
        self.deadline_s = math.inf
        """When whoever waits must have got what it waits for, in seconds of the life."""
        self.wall_steps: list[tuple[int, float]] = []
        """At which step of the machine the wall clock is set, and by how many seconds; the next one first."""
        self._chance = chance
        self._trace = trace
        self._processes: list[Process] = []
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._graves: list[Process] = []

    def __repr__(self) -> str:
        return f"<Machine {self.steps} steps, {len(self._processes)} processes, {self.clock!r}>"

    @property
    def living(self) -> tuple[Process, ...]:
        """The processes that run."""
        return tuple(self._processes)

    def start(self, name: str, *, disk_threads: int) -> Process:
        """A new process."""
        process = Process(self, name, disk_threads=disk_threads)
        self._processes.append(process)
        return process

    def remove(self, process: Process) -> None:
        """A process ended or was killed. It is kept: what it leaves must not be tidied up by Python."""
        if process in self._processes:
            self._processes.remove(process)
            self._graves.append(process)
            process.loop.abandon()

    def reboot(self) -> None:
        """The power fails: every process dies, and the time since boot begins anew."""
        for process in self.living:
            process.kill()
        self._timers.clear()
        self.clock.reboot()

    def sleep(self, seconds: float) -> None:
        """Let time pass while nothing runs.

        Raises:
            InvariantError: something does.
        """
        if self._processes:
            raise InvariantError(f"{self!r} cannot sleep: processes run")
        self.clock.advance_to(self.clock.elapsed_ns + round(seconds * NANOSECONDS))

    def speed(self) -> float:
        """The speed of one that takes steps."""
        return self._chance.choice(SPEEDS)

    def timer(self, process: Process, delay_s: float, call: Callable[[], None]) -> Timer:
        """Have a call made by a process, later."""
        timer = Timer(process, call)
        self._sequence += 1
        due_ns = self.clock.elapsed_ns + round(delay_s * NANOSECONDS)
        heapq.heappush(self._timers, (due_ns, self._sequence, timer))
        return timer

    def run_until(self, ready: Callable[[], bool], *, timeout_s: float | None, by: Process) -> None:
        """Take steps until it is so, for the user of a process.

        Raises:
            Killed: that process was.
            StalledError: it will never be so.
        """
        by.reached("user")
        until_ns = None
        if timeout_s is not None:
            until_ns = self.clock.elapsed_ns + round(timeout_s * NANOSECONDS)
        while by.paused_until_ns > self.clock.elapsed_ns or not ready():
            if until_ns is not None and self.clock.elapsed_ns >= until_ns:
                return
            self.step()
            if by.dead:
                raise Killed(by.name)

    def step(self) -> None:
        """Let one of those that can go on take a step, or let time pass until one can.

        Raises:
            StalledError: nobody can and no timer runs, or it has taken too many steps or too long.
        """
        if self.steps >= self.steps_max or self.clock.elapsed_s > self.deadline_s:
            at = f"after {self.steps} steps, {self.clock.elapsed_s:.0f} s"
            raise StalledError(f"{at} somebody still waits: {self.waiting()}")
        runners = self._runnable()
        if not runners:
            self._jump()
            return
        self.steps += 1
        if self.steps % PACE_STEPS == 0:
            for process in self._processes:
                process.repace()
        if self.wall_steps and self.steps >= self.wall_steps[0][0]:
            self.clock.step_wall(self.wall_steps.pop(0)[1])
            self.clock_steps += 1
        self._take(self._drawn(runners))
        before_s = self.clock.elapsed_s
        self.clock.advance_to(self.clock.elapsed_ns + self._chance.choice(STEP_NS))
        self.alive_s += self.clock.elapsed_s - before_s

    def waiting(self) -> str:
        """Who lives, for a message."""
        return ", ".join(map(repr, self._processes)) or "no process"

    def _drawn(self, runners: list[Runner]) -> Runner:
        """The next one, by their speeds."""
        left = self._chance.random() * sum(runner.speed for runner in runners)
        for runner in runners:
            left -= runner.speed
            if left < 0:
                return runner
        return runners[-1]

    def _take(self, runner: Runner) -> None:
        process = runner.process
        if process.pauses and process.steps >= process.pauses[0].step:
            pause = process.pauses.pop(0)
            process.paused_until_ns = self.clock.elapsed_ns + round(pause.seconds * NANOSECONDS)
            self.pauses += 1
            if len(self._processes) > 1:
                self.absences.append(pause.seconds)
            return
        process.steps += 1
        if self._trace is not None:
            self._trace(self.clock.elapsed_s, runner.name)
        self.current = process
        try:
            process.reached("step")
            process.perform(runner.what, self._chance)
        except Killed:
            if not process.dead:
                raise
        finally:
            self.current = None

    def _runnable(self) -> list[Runner]:
        now_ns = self.clock.elapsed_ns
        while self._timers and self._timers[0][0] <= now_ns:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None and not timer.process.dead:
                timer.process.due(timer)
        found: list[Runner] = []
        for process in self._processes:
            if process.paused_until_ns <= now_ns:
                process.loop.wake()
                found += process.runnable()
        return found

    def _jump(self) -> None:
        """Nobody can go on: let time pass until the next timer."""
        now_ns = self.clock.elapsed_ns
        boot_ns = self.clock.boot_ns()
        times = [self._timers[0][0]] if self._timers else []
        for process in self._processes:
            if process.paused_until_ns > now_ns:
                times.append(process.paused_until_ns)
                continue
            due_ns = process.loop.next_ns()
            if due_ns is not None:
                times.append(now_ns + due_ns - boot_ns)
        if not times:
            raise StalledError(f"nothing is left to run, and somebody waits: {self.waiting()}")
        at_ns = max(now_ns, min(times))
        self.alive_s += (at_ns - now_ns) / NANOSECONDS if self._processes else 0.0
        self.clock.advance_to(at_ns)
