"""The fallback machine of one work: which source is asked when, and when to stop. Pure.

It is told what happens and says what to do next. Rules it keeps, whatever the order of what it is told:

* tiers in order; within a tier at most ``parallel`` turns at once, other hosts first; at most
  ``max_concurrent`` turns of a work in flight;
* a turn and its time are reserved before it starts; beyond the budgets nothing starts;
* the first turn that shows PDF bytes is the front-runner: the others are cancelled and put back, and
  nothing starts until its bytes are stored (the win: nothing starts ever after) or broken;
* every source gets its turn; one that a gate held back is not exhausted: the work waits.

Time is given in milliseconds on a clock that does not jump. Streaming does not count as resolving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from ..errors import InvariantError
from .facts import AttemptOutcome, Step
from .fallback_plan import Plan

OFFLINE = "offline"
"""The gate that only a setting opens."""
GATES = frozenset({"breaker_open", "rate_wait", OFFLINE})
"""Reasons of a skip after which the source still has its turn to come."""
MET_GATE_MS = 5_000
"""Least time until a source is tried again that met a gate within its turn, in milliseconds: each try
costs the requests before it."""
WORTH_ANOTHER = frozenset({"retryable", "timeout", "error"})
"""Outcomes of a turn for which another generation can help."""

MENDED_BY_SETTINGS = frozenset({"no_email", "email_refused"})
"""Reasons that another run with other settings may not meet."""

CancelWhy = Literal["beaten", "deadline", "budget", "stopped"]


class Look(msgspec.Struct, frozen=True):
    """What stands before a source's turn now."""

    host: str = ""
    lacks: str = ""
    """Why it cannot even begin: ``no_doi``, ``no_email`` …"""
    gate: str = ""
    """The gate that holds it back."""
    wait_ms: int = 0
    """Time until the gate may open; 0 where time alone does not open it."""


class Start(msgspec.Struct, frozen=True):
    """Give a source its turn."""

    source: str
    tier: str
    attempt: int
    timeout_ms: int


class Skip(msgspec.Struct, frozen=True):
    """Record that a source was passed over."""

    source: str
    tier: str
    reason: str


class Cancel(msgspec.Struct, frozen=True):
    """End a turn that runs; its end must be told by ``ended``."""

    source: str
    attempt: int
    why: CancelWhy


class Finish(msgspec.Struct, frozen=True):
    """The resolving ended without a PDF."""

    outcome: AttemptOutcome
    reason: str
    may_retry: bool


class Wait(msgspec.Struct, frozen=True):
    """Gates hold sources back: let the work go, and take it up again when the first of them opens."""

    reason: str
    """The gate that opens first."""
    wait_ms: int
    """Time until it may open; 0 where that is not known."""
    sources: tuple[str, ...]
    """The sources that are held back, in the order in which their gates open."""


Command = Start | Skip | Cancel | Finish | Wait


class Turn(msgspec.Struct):
    """A turn in flight."""

    source: str
    tier: str
    attempt: int
    host: str
    deadline_ms: int
    cancelled: CancelWhy | None = None


class Ended(msgspec.Struct, frozen=True):
    """A turn's end, or a skip."""

    outcome: AttemptOutcome
    reason: str
    wait_ms: int = 0
    """Of a gate that was met: time until it may open; 0 where that is not known."""


class Fallback:
    """The machine. Its methods take the time and return commands in the order in which to do them."""

    def __init__(
        self,
        plan: Plan,
        *,
        now_ms: int,
        spent_ms: int = 0,
        attempts: int = 0,
        started: int = 0,
        ended: Mapping[str, Ended] | None = None,
    ) -> None:
        """Begin, or go on after a takeover with what the ledger knows.

        ``attempts`` are the turns that count against the budget, ``started`` all that were numbered.
        """
        self.plan = plan
        self.attempts = attempts
        self.started = max(started, attempts)
        self.turns: dict[str, Turn] = {}
        self.front: str | None = None
        self.ended_by: dict[str, Ended] = dict(ended or {})
        self.held: dict[str, Look] = {}
        self.path: list[Step] = []
        self._lacking: set[str] = set()
        self.over = False
        self._spent_ms = spent_ms
        self._running_since: int | None = now_ms
        self._stopping: CancelWhy | None = None

    def __repr__(self) -> str:
        state = "over" if self.over else f"front={self.front}" if self.front else "resolving"
        return f"<Fallback {state} attempts={self.attempts} turns={sorted(self.turns)}>"

    def spent_ms(self, now_ms: int) -> int:
        """Resolving time used, in milliseconds."""
        running = 0 if self._running_since is None else max(0, now_ms - self._running_since)
        return self._spent_ms + running

    def deadline_ms(self, now_ms: int) -> int | None:
        """The time at which ``tick`` must be called at the latest; None while nothing can run out."""
        if self.over or self._running_since is None:
            return None
        total = now_ms + self.plan.total_timeout_ms - self.spent_ms(now_ms)
        turns = [turn.deadline_ms for turn in self.turns.values() if turn.cancelled is None]
        return min([total, *turns])

    def tiers_touched(self) -> tuple[str, ...]:
        """The tiers of which a source had a turn or was passed over."""
        tried = {step.source for step in self.path} | set(self.turns) | set(self.ended_by)
        return tuple(name for name, _, sources in self.plan.tiers if tried & set(sources))

    # What is told to the machine

    def advance(self, now_ms: int, look: Callable[[str], Look]) -> list[Command]:
        """Start what may start now; end the resolving when nothing is left."""
        commands: list[Command] = []
        if self.over or self.front is not None or self._stopping:
            return commands
        for name, parallel, sources in self.plan.tiers:
            commands += self._advance_tier(name, parallel, sources, now_ms=now_ms, look=look)
            if any(turn.source in sources for turn in self.turns.values()) or self._pending(sources):
                break
        if not self.turns:
            commands += self._conclude()
        return commands

    def fronted(self, source: str, attempt: int, now_ms: int) -> list[Command]:
        """A turn shows PDF bytes. It is the front-runner unless it was beaten or cancelled."""
        turn = self._turn(source, attempt)
        if turn is None or turn.cancelled or self.front is not None or self.over:
            return []
        self.front = source
        turn.deadline_ms = max(1, turn.deadline_ms - now_ms)
        self._pause(now_ms)
        return [self._cancel(other, "beaten") for other in self._running() if other is not turn]

    def stored(self, source: str) -> None:
        """The front-runner's bytes are verified on disk: the win."""
        if source != self.front:
            raise InvariantError(f"a PDF of {source} was stored while the front-runner is {self.front}")
        self.ended_by[source] = Ended("success", "")
        self.path.append(Step(source, "success"))
        self.turns.pop(source, None)
        self.over = True

    def broken(self, source: str, now_ms: int) -> list[Command]:
        """The front-runner's bytes were no paper; its turn goes on with what time it had left."""
        turn = self.turns.get(source)
        if turn is None or source != self.front:
            return []
        self.front = None
        turn.deadline_ms += now_ms
        self._resume(now_ms)
        return [self._cancel(turn, self._stopping)] if self._stopping and not turn.cancelled else []

    def ended(self, source: str, attempt: int, end: Ended, now_ms: int) -> Ended:
        """A turn ended without a PDF; returns what counts as its end (a cancelled turn may be put back)."""
        turn = self._turn(source, attempt)
        if turn is None:
            return end
        del self.turns[source]
        if self.front == source:
            self.front = None
            self._resume(now_ms)
        end = self._as_cancelled(turn, end)
        self.path.append(Step(source, end.outcome, end.reason))
        if end.reason in GATES and end.outcome == "skipped":
            wait_ms = max(end.wait_ms, MET_GATE_MS)
            self.held[source] = Look(host=turn.host, gate=end.reason, wait_ms=wait_ms)
            self.attempts -= 1
        elif end.reason not in ("beaten", "stopped"):
            self.ended_by[source] = end
        return end

    def lacking(self) -> list[str]:
        """Sources that were passed over for what they lacked."""
        return sorted(self._lacking)

    def reopen(self, source: str) -> None:
        """A source that was passed over has what it lacked: its turn is to come."""
        if source in self._lacking and not self.over:
            self._lacking.discard(source)
            del self.ended_by[source]

    def tick(self, now_ms: int) -> list[Command]:
        """Time has passed: cancel what ran out."""
        if self.over or self._running_since is None:
            return []
        if self.spent_ms(now_ms) >= self.plan.total_timeout_ms:
            return self.stop("budget")
        late = [turn for turn in self._running() if turn.deadline_ms <= now_ms]
        return [self._cancel(turn, "deadline") for turn in late]

    def stop(self, why: CancelWhy) -> list[Command]:
        """Start nothing more and cancel what runs; with ``budget`` the work then ends as out of budget."""
        self._stopping = self._stopping or why
        commands: list[Command] = [self._cancel(turn, why) for turn in self._running()]
        return commands if self.turns else commands + self._conclude()

    def settle(self) -> list[Command]:
        """After the last turn of a stopped machine has ended: how it ends."""
        return self._conclude() if self._stopping and not self.turns else []

    # Inside

    def _turn(self, source: str, attempt: int) -> Turn | None:
        turn = self.turns.get(source)
        return turn if turn is not None and turn.attempt == attempt else None

    def _running(self) -> list[Turn]:
        return [turn for turn in self.turns.values() if turn.cancelled is None]

    def _pending(self, sources: tuple[str, ...]) -> list[str]:
        return [s for s in sources if s not in self.ended_by and s not in self.turns and s not in self.held]

    def _advance_tier(
        self,
        name: str,
        parallel: int,
        sources: tuple[str, ...],
        *,
        now_ms: int,
        look: Callable[[str], Look],
    ) -> list[Command]:
        commands: list[Command] = []
        looks = {source: look(source) for source in self._pending(sources)}
        for source, seen in looks.items():
            if seen.lacks or seen.gate:
                commands.append(self._pass_over(source, name, seen))
        ready = [s for s, seen in looks.items() if not seen.lacks and not seen.gate]
        while ready and self._room(sources, parallel) and self._affordable(now_ms):
            source = self._other_host_first(ready, looks)
            ready.remove(source)
            commands.append(self._start(source, name, looks[source].host, now_ms))
        return commands

    def _room(self, sources: tuple[str, ...], parallel: int) -> bool:
        of_tier = sum(source in self.turns for source in sources)
        return of_tier < parallel and len(self.turns) < self.plan.max_concurrent

    def _affordable(self, now_ms: int) -> bool:
        return self.attempts < self.plan.total_attempts and self.spent_ms(now_ms) < self.plan.total_timeout_ms

    def _other_host_first(self, ready: list[str], looks: Mapping[str, Look]) -> str:
        busy = {turn.host for turn in self.turns.values()}
        return next((s for s in ready if looks[s].host not in busy), ready[0])

    def _pass_over(self, source: str, tier: str, seen: Look) -> Skip:
        reason = seen.lacks or seen.gate
        self.path.append(Step(source, "skipped", reason))
        if seen.lacks:
            self._lacking.add(source)
            self.ended_by[source] = Ended("skipped", reason)
        else:
            self.held[source] = seen
        return Skip(source, tier, reason)

    def _start(self, source: str, tier: str, host: str, now_ms: int) -> Start:
        self.attempts += 1
        self.started += 1
        left = self.plan.total_timeout_ms - self.spent_ms(now_ms)
        timeout = max(1, min(self.plan.timeouts_ms[source], left))
        self.turns[source] = Turn(source, tier, self.started, host, now_ms + timeout)
        return Start(source, tier, self.started, timeout)

    def _cancel(self, turn: Turn, why: CancelWhy) -> Cancel:
        turn.cancelled = why
        return Cancel(turn.source, turn.attempt, why)

    def _as_cancelled(self, turn: Turn, end: Ended) -> Ended:
        """An end that came by itself before the cancel arrived counts as what it is."""
        if turn.cancelled is None or end.reason != "cancelled":
            return end
        if turn.cancelled == "deadline":
            return Ended("timeout", "deadline")
        if turn.cancelled == "budget":
            return Ended("timeout", "budget_exhausted")
        return Ended("skipped", turn.cancelled)

    def _conclude(self) -> list[Command]:
        """Nothing runs and nothing can start: wait for gates, or finish."""
        if self.over or self._stopping == "stopped":
            return []
        self.over = True
        left = [s for _, _, sources in self.plan.tiers for s in self._pending(sources)]
        if self._stopping == "budget" or left:
            return [Finish("timeout", "budget_exhausted", may_retry=True)]
        if self.held:
            soonest = sorted(self.held, key=self._opens)
            first = self.held[soonest[0]]
            return [Wait(first.gate, max(0, first.wait_ms), tuple(soonest))]
        ends = self.ended_by.values()
        may_retry = any(end.outcome in WORTH_ANOTHER or end.reason in MENDED_BY_SETTINGS for end in ends)
        return [Finish("no_pdf", "exhausted", may_retry=may_retry)]

    def _opens(self, source: str) -> tuple[bool, int]:
        """What to sort gates by: those that time opens first, and of these the soonest."""
        seen = self.held[source]
        return seen.gate == OFFLINE, seen.wait_ms

    def _pause(self, now_ms: int) -> None:
        self._spent_ms = self.spent_ms(now_ms)
        self._running_since = None

    def _resume(self, now_ms: int) -> None:
        if self._running_since is None:
            self._running_since = now_ms
