"""A simulated process: what a real one has, but no thread; each of its parts takes steps when it is told to.

Its actors, its event loop, its timers and its disk work are the runners that a ``Machine`` draws from. Death
is sudden: from that moment on nothing of it takes a step, and nothing tidies up.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from ...actors.runtime.actor import Actor
from ...actors.runtime.scheduler import Gathered, SchedulerClosedError, awaited
from ...actors.runtime.threads import Job, Raised, give
from ...errors import InvariantError
from .loop import VirtualLoop

if TYPE_CHECKING:
    from .machine import Machine

T = TypeVar("T")

BATCHES = (1, 2, 1_000_000)
"""Messages or callbacks of one step at most; one of these is drawn for each."""

DeathPoint = Literal["step", "before_commit", "after_commit", "after_disk", "user"]
"""Where a process is killed: between two steps, around a commit, after disk work of which nobody hears, or
while its user waits."""


class Killed(BaseException):
    """The process is gone; nothing of it runs any more. No error of quire's, so that nothing handles it."""


class Death(msgspec.Struct, frozen=True):
    """When a process is killed: the ``count``-th time that it comes to a point."""

    point: DeathPoint
    count: int


class Pause(msgspec.Struct, frozen=True):
    """A process is stopped (SIGSTOP, a suspended laptop) at one of its steps, for so long."""

    step: int
    seconds: float


class Process:
    """One simulated process: the ``Scheduler`` port of the session that lives in it."""

    def __init__(self, machine: Machine, name: str, *, disk_threads: int) -> None:
        self.name = name
        self.dead = False
        self.running = 0
        """Coroutines begun and not finished."""
        self.death: Death | None = None
        self.pauses: list[Pause] = []
        self.steps = 0
        self.loop = VirtualLoop(machine.clock.boot_ns)
        self.jobs: list[Job[Any]] = []
        self.paused_until_ns = 0
        self._machine = machine
        self._disk_threads = disk_threads
        self._actors: list[Actor] = []
        self._due: deque[Timer] = deque()
        self._points: dict[str, int] = {}
        self._closed = False
        self._runners: dict[object, Runner] = {}

    def __repr__(self) -> str:
        state = "dead" if self.dead else "closed" if self._closed else "alive"
        return (
            f"<Process {self.name} {state}, {len(self._actors)} actors, {len(self.jobs)} jobs, {self.loop!r}>"
        )

    # The scheduler port

    def spawn(self, loop: Callable[[], None], *, name: str) -> None:
        """Have an actor stepped by the machine; no thread."""
        actor = getattr(loop, "__self__", None)
        if not isinstance(actor, Actor):
            raise InvariantError(f"{name!r} is no actor's loop: only those can be stepped")
        self._actors.append(actor)

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """As the port; in virtual time."""
        if self._closed:
            raise SchedulerClosedError("the scheduler is closed: no timer is taken")
        return self._machine.timer(self, delay_s, call)

    def block(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """As the port; the work is done at a moment that the seed draws."""
        self._submit(work, lambda got: done(got.error if isinstance(got, Raised) else got))

    def gather(self, work: Coroutine[Any, Any, T], done: Callable[[T | BaseException], None]) -> Gathered[T]:
        """As the port; on this process's virtual loop."""
        gathered = Gathered(self, work, done)
        if self._closed or self.dead:
            gathered.refuse(SchedulerClosedError("the scheduler is closed: no coroutine is taken"))
        else:
            self.running += 1
            self.loop.call_soon(gathered.start)
        return gathered

    def call(self, call: Callable[[], None]) -> None:
        """Make a call on the loop."""
        if not self._closed:
            self.loop.call_soon(call)

    async def aside(self, work: Callable[[], T]) -> T:
        """As the port."""
        return await awaited(self._submit, work)

    def run_until(self, ready: Callable[[], bool], *, timeout_s: float | None) -> None:
        """Let the whole machine run until it is so, or ``timeout_s`` virtual seconds are over."""
        self._machine.run_until(ready, timeout_s=timeout_s, by=self)

    def close(self) -> None:
        """Nothing of this process runs any more."""
        self._closed = True
        self._machine.remove(self)

    # For the machine

    def _submit(self, work: Callable[[], T], done: Callable[[T | Raised], object]) -> Job[T]:
        def worked() -> T:
            result = work()
            self.reached("after_disk")
            return result

        job = Job(worked, done)
        if self._closed:
            give(done, Raised(SchedulerClosedError("the scheduler is closed: no work is taken")))
        else:
            self.jobs.append(job)
        return job

    def reached(self, point: DeathPoint) -> None:
        """It has come to a point where it may be killed.

        Raises:
            Killed: it was, now or before.
        """
        if self.dead:
            raise Killed(self.name)
        self._points[point] = self._points.get(point, 0) + 1
        if self.death is not None and self.death == Death(point, self._points[point]):
            self.kill()
            raise Killed(self.name)

    def kill(self) -> None:
        """Nothing of it runs any more, from this moment on."""
        self.dead = True
        self._machine.remove(self)

    @property
    def lives(self) -> bool:
        """Whether it was neither killed nor closed."""
        return not self.dead and not self._closed

    def due(self, timer: Timer) -> None:
        """The time of a timer has come."""
        self._due.append(timer)

    def runnable(self) -> list[Runner]:
        """Who could take a step now."""
        found = [self._runner(actor) for actor in self._actors if actor.has_work]
        if self.loop.has_work:
            found.append(self._runner("loop"))
        if self._due:
            found.append(self._runner("timers"))
        if self.jobs:
            found.append(self._runner("disk"))
        return found

    def _runner(self, what: Actor | str) -> Runner:
        runner = self._runners.get(what)
        if runner is None:
            runner = self._runners[what] = Runner(self, what, self._machine.speed())
        return runner

    def repace(self) -> None:
        """Draw the speeds anew."""
        self._runners.clear()
        self._actors = [actor for actor in self._actors if not actor.actor_stopped.is_set()]

    def perform(self, what: Actor | str, chance: random.Random) -> None:
        """Let one of them take a step."""
        if isinstance(what, Actor):
            what.step(chance.choice(BATCHES))
        elif what == "loop":
            self.loop.step(chance.choice(BATCHES))
        elif what == "timers":
            timer = self._due.popleft()
            call, timer.call = timer.call, None
            if call is not None:
                call()
        else:
            self.jobs.pop(chance.randrange(min(len(self.jobs), self._disk_threads))).run()


class Timer:
    """One call to be made; calling the timer takes it back."""

    __slots__ = ("call", "process")

    def __init__(self, process: Process, call: Callable[[], None]) -> None:
        self.process = process
        self.call: Callable[[], None] | None = call

    def __call__(self) -> None:
        """Take the call back."""
        self.call = None


class Runner:
    """One of those that take steps, with its speed."""

    __slots__ = ("process", "speed", "what")

    def __init__(self, process: Process, what: Actor | str, speed: float) -> None:
        self.process = process
        self.what = what
        self.speed = speed

    @property
    def name(self) -> str:
        """Who it is, for a trace."""
        named = self.what if isinstance(self.what, str) else self.what.me.name
        return f"{self.process.name} {named}"
