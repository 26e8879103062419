"""What another fallback plan would have made of the works in the log: the real machine, fed with the record.

Each trace is replayed on an imagined clock: a source that had its turn ends as it did then, after the time
that it took then. A source that never had its turn in that trace, since another was first, is given the end
of a turn that it had for another work of the log, drawn by the job's key, so that two plans meet the same
luck. How many ends were recorded and how many drawn is said with every result. A turn that was cut by its
timeout stays a miss under a longer one: nobody knows what it would have found.

Works that reach a source late are the hard ones, so what is drawn errs on the side of finding less.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

import msgspec

from ..actors.sources.catalog import LEARNS_FROM
from ..errors import InvariantError
from ..events import fallback
from ..events.fallback_plan import Plan
from .traces import Trace, TurnRecord

STEPS_MAX = 500
"""Steps of one replay; a plan of all sources with every turn put back takes fewer."""
ROUNDS_MAX = 8
"""Changes that are proposed at most, each on top of those before."""
GAIN_MIN = 0.01
"""Least share of time and turns together that a change must save to be proposed."""
SHARES = (0.90, 0.95, 0.99, 1.0)
"""Shares of the recorded successes that a proposed timeout lets through."""
TIMEOUT_STEP_MS = 100


Variant = tuple[str, str, str, Plan]
"""A setting, what it is, what it would be, and the plan with it."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan would have come to over all traces."""

    works: int
    home: int
    resolving_ms: int
    """Sum over the works of the time until their paper's first bytes, or until they were given up."""
    turns: int
    recorded: int
    """Ends of turns taken as they were recorded for the work."""
    drawn: int
    """Ends taken from other works' turns."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change to a plan, and what it would have come to."""

    setting: str
    """As the settings name it, such as ``fallback.policies.arxiv_pdf.timeout_ms``."""
    now: str
    then: str
    plan: Plan
    before: Tally
    after: Tally

    @property
    def home(self) -> int:
        """Papers more (or, below 0, fewer)."""
        return self.after.home - self.before.home

    @property
    def gain(self) -> float:
        """The share of time and of turns saved, summed."""
        return _saved(self.before.resolving_ms, self.after.resolving_ms) + _saved(
            self.before.turns, self.after.turns
        )


def _saved(before: int, after: int) -> float:
    return (before - after) / before if before else 0.0


class Tuner:
    """Replays the traces of a log under one plan after another."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self._traces = traces
        self._ends: dict[str, list[TurnRecord]] = {}
        for trace in traces:
            for source, turn in trace.turns.items():
                self._ends.setdefault(source, []).append(turn)

    def __repr__(self) -> str:
        return f"<Tuner of {len(self._traces)} traces, {len(self._ends)} sources>"

    def tally(self, plan: Plan) -> Tally:
        """What a plan would have come to."""
        replays = [_Replay(plan, trace, self._ends) for trace in self._traces]
        for replay in replays:
            replay.run()
        return Tally(
            works=len(replays),
            home=sum(replay.home for replay in replays),
            resolving_ms=sum(replay.resolving_ms for replay in replays),
            turns=sum(replay.turns for replay in replays),
            recorded=sum(replay.recorded for replay in replays),
            drawn=sum(replay.drawn for replay in replays),
        )

    def proposals(self, plan: Plan) -> Iterator[Change]:
        """Changes that would have paid, the best first, each on top of those before.

        None of them brings fewer papers home than the plan before it.
        """
        before = self.tally(plan)
        for _ in range(ROUNDS_MAX):
            best: Change | None = None
            for setting, now, then, changed in self._variants(plan):
                after = self.tally(changed)
                change = Change(setting=setting, now=now, then=then, plan=changed, before=before, after=after)
                if change.home < 0 or (not change.home and change.gain < GAIN_MIN):
                    continue
                if best is None or (change.home, change.gain) > (best.home, best.gain):
                    best = change
            if best is None:
                return
            yield best
            plan, before = best.plan, best.after

    def _variants(self, plan: Plan) -> Iterator[Variant]:
        yield from self._timeouts(plan)
        yield from _parallels(plan)
        yield from _orders(plan)

    def _timeouts(self, plan: Plan) -> Iterator[Variant]:
        for source, now_ms in plan.timeouts_ms.items():
            fronts = sorted(turn.front_ms for turn in self._ends.get(source, ()) if turn.outcome == "success")
            waits = {_share(fronts, share) for share in SHARES} if fronts else set()
            for wait_ms in sorted(waits):
                then_ms = -(-(wait_ms + 1) // TIMEOUT_STEP_MS) * TIMEOUT_STEP_MS
                if then_ms < now_ms:
                    timeouts = {**plan.timeouts_ms, source: then_ms}
                    changed = msgspec.structs.replace(plan, timeouts_ms=timeouts)
                    yield f"fallback.policies.{source}.timeout_ms", str(now_ms), str(then_ms), changed


def _share(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _parallels(plan: Plan) -> Iterator[Variant]:
    for place, (name, parallel, sources) in enumerate(plan.tiers):
        for wanted in range(1, len(sources) + 1):
            if wanted != parallel:
                tiers = (*plan.tiers[:place], (name, wanted, sources), *plan.tiers[place + 1 :])
                changed = msgspec.structs.replace(plan, tiers=tiers)
                yield f"fallback.tiers.{name}.parallel", str(parallel), str(wanted), changed
    for wanted in range(1, max((parallel for _, parallel, _ in plan.tiers), default=1) + 1):
        if wanted != plan.max_concurrent:
            changed = msgspec.structs.replace(plan, max_concurrent=wanted)
            yield "fallback.budgets.max_concurrent", str(plan.max_concurrent), str(wanted), changed


def _orders(plan: Plan) -> Iterator[Variant]:
    """Each source at each other place: at any rank of its own tier, or last in another one."""
    for place, (name, _, sources) in enumerate(plan.tiers):
        for rank, source in enumerate(sources):
            rest = sources[:rank] + sources[rank + 1 :]
            for other in range(len(sources)):
                order = (*rest[:other], source, *rest[other:])
                if other != rank and _keeps_lessons(plan, changed := _with(plan, {place: order})):
                    yield f"fallback.tiers.{name}.sources", " ".join(sources), " ".join(order), changed
            for target, (to, _, others) in enumerate(plan.tiers):
                changed = _with(plan, {place: rest, target: (*others, source)})
                if target != place and _keeps_lessons(plan, changed):
                    yield f"fallback.tiers, {source}", f"in {name}", f"last in {to}", changed


def _with(plan: Plan, moved: dict[int, tuple[str, ...]]) -> Plan:
    tiers = (
        (name, parallel, moved.get(place, sources))
        for place, (name, parallel, sources) in enumerate(plan.tiers)
    )
    return msgspec.structs.replace(plan, tiers=tuple(tier for tier in tiers if tier[2]))


def _keeps_lessons(before: Plan, after: Plan) -> bool:
    """Whether each source still comes after those that it learned from, as in the record."""
    return _lessons(before) <= _lessons(after)


def _lessons(plan: Plan) -> set[tuple[str, str]]:
    tier_of = {source: place for place, (_, _, sources) in enumerate(plan.tiers) for source in sources}
    return {
        (teacher, source)
        for source, teachers in LEARNS_FROM.items()
        for teacher in teachers
        if tier_of.get(teacher, 0) < tier_of.get(source, 0)
    }


class _Replay:
    """One trace under one plan, on an imagined clock."""

    def __init__(self, plan: Plan, trace: Trace, ends: dict[str, list[TurnRecord]]) -> None:
        self._machine = fallback.Fallback(plan, now_ms=0)
        self._trace = trace
        self._ends = ends
        self._due: list[tuple[int, int, str, int, Callable[[], None]]] = []
        self._now_ms = 0
        self._order = 0
        self._given: dict[str, TurnRecord] = {}
        self.home = False
        self.resolving_ms = self.turns = self.recorded = self.drawn = 0

    def run(self) -> None:
        """To its end."""
        self._do(self._machine.advance(0, self._look))
        for _ in range(STEPS_MAX):
            if self._machine.over:
                self.resolving_ms = self._machine.spent_ms(self._now_ms)
                return
            self._step()
        raise InvariantError(f"the replay of {self._trace.job_id} did not end within {STEPS_MAX} steps")

    def _step(self) -> None:
        """Let the next thing happen: an end of a turn, or a deadline."""
        deadline_ms = self._machine.deadline_ms(self._now_ms)
        if self._due and (deadline_ms is None or self._due[0][0] < deadline_ms):
            self._now_ms, _, source, attempt, happen = heapq.heappop(self._due)
            turn = self._machine.turns.get(source)
            if turn is not None and turn.attempt == attempt:
                happen()
        elif deadline_ms is not None:
            self._now_ms = max(self._now_ms, deadline_ms)
            self._do(self._machine.tick(self._now_ms))
        else:
            raise InvariantError(f"the replay of {self._trace.job_id} has nothing left to happen")

    def _look(self, source: str) -> fallback.Look:
        lacks = self._trace.lacks.get(source)
        # What a source lacked at its place in the order that was run; a later record says that it got it.
        if lacks and source not in self._trace.turns:
            return fallback.Look(lacks=lacks)
        turn = self._trace.turns.get(source)
        return fallback.Look(host=turn.host if turn else "")

    def _do(self, commands: Iterable[fallback.Command]) -> None:
        for command in commands:
            if isinstance(command, fallback.Start):
                self._started(command)
            elif isinstance(command, fallback.Cancel):
                self._machine.ended(
                    command.source, command.attempt, fallback.Ended("skipped", "cancelled"), self._now_ms
                )
                self._go_on()

    def _go_on(self) -> None:
        settled = self._machine.settle()
        self._do(settled or self._machine.advance(self._now_ms, self._look))

    def _started(self, start: fallback.Start) -> None:
        self.turns += 1
        turn = self._turn_of(start.source)
        if turn.outcome == "success":
            self._at(turn.front_ms, start, lambda: self._fronted(start))
        else:
            self._at(turn.elapsed_ms, start, lambda: self._missed(start, turn))

    def _at(self, after_ms: int, start: fallback.Start, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(
            self._due, (self._now_ms + max(1, after_ms), self._order, start.source, start.attempt, happen)
        )

    def _fronted(self, start: fallback.Start) -> None:
        """It shows the paper. That the stream then held is part of the record."""
        commands = self._machine.fronted(start.source, start.attempt, self._now_ms)
        if self._machine.front != start.source:
            return
        for command in commands:
            if isinstance(command, fallback.Cancel):
                beaten = fallback.Ended("skipped", "cancelled")
                self._machine.ended(command.source, command.attempt, beaten, self._now_ms)
        self._machine.stored(start.source)
        self.home = True

    def _missed(self, start: fallback.Start, turn: TurnRecord) -> None:
        end = fallback.Ended(turn.outcome, turn.reason)
        self._machine.ended(start.source, start.attempt, end, self._now_ms)
        self._go_on()

    def _turn_of(self, source: str) -> TurnRecord:
        """How the source's turn goes: as recorded, or as one of its turns for another work."""
        turn = self._trace.turns.get(source)
        if turn is not None:
            self.recorded += 1
            return turn
        self.drawn += 1
        drawn = self._given.get(source)
        if drawn is None:
            drawn = self._given[source] = self._drawn(source)
        return drawn

    def _drawn(self, source: str) -> TurnRecord:
        ends = self._ends.get(source)
        if not ends:
            return TurnRecord("no_pdf", "never_asked", 0, 0, "")
        lot = blake2b(f"{self._trace.job_id}:{source}".encode(), digest_size=8).digest()
        drawn = ends[int.from_bytes(lot, "big") % len(ends)]
        # It had run for so long when it was beaten: it did not end before that.
        least_ms = self._trace.cut_ms.get(source, 0) + 1
        return TurnRecord(
            drawn.outcome,
            drawn.reason,
            max(drawn.elapsed_ms, least_ms),
            max(drawn.front_ms, least_ms),
            drawn.host,
        )
