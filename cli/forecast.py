"""What the fallback plan would do with a work, foreseen without asking the network anything.

The real machine runs on an imagined clock, with the real sources' needs and the real gates. What nobody can
know before asking is assumed at its worst: each turn takes all of its time and finds nothing. So the order,
the reasons and the longest time are those of a run; a source that finds a PDF ends it earlier.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ..actors.holdings import inside_rollout
from ..actors.runtime.ports import NANOSECONDS, Clock
from ..actors.sources.catalog import IDENTIFIER, finders
from ..actors.sources.finding import Lookup, host_of
from ..actors.web.breaker import Breakers
from ..actors.web.exchange import Answer, Request
from ..actors.web.manners import Manners
from ..actors.web.redaction import redact_url
from ..config.settings import Quire
from ..errors import InvariantError
from ..events import fallback
from ..events.fallback_plan import Plan, led_by
from ..events.keys import job_key
from ..events.projections import HostRow
from ..events.work import Work

LEARNABLE = frozenset({"no_doi", "no_pmid", "no_pmcid", "no_arxiv_id", "no_identifier", "no_url"})
"""What a source may lack now and have when its turn comes, since another one met it on the way."""
ROUNDS_MAX = 100
"""Steps of a forecast; each ends a turn, and no plan has so many sources."""

Verdict = Literal["asked", "depends", "passed_over", "held_back", "not_reached"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One source in a forecast."""

    source: str
    tier: str
    verdict: Verdict
    """``asked``; ``depends`` on what sources before it learn; ``passed_over`` for what it lacks, or disabled;
    ``held_back`` by a gate; ``not_reached`` within the budgets."""
    reason: str = ""
    """Why it is not asked, a code."""
    turn: int = 0
    """Number of its turn, from 1; 0 where it has none."""
    starts_ms: int = 0
    """When it starts at the latest, in milliseconds after the work is taken up."""
    timeout_ms: int = 0
    retries_max: int = 0
    robots_respect: bool = False
    host: str = ""
    role: str = ""
    url: str = ""
    """Its first request, without addresses and keys."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done for one work."""

    work_id: str
    steps: tuple[Step, ...]
    """In order; sources that have no turn stand where their tier was looked at."""
    ends: str
    """How it ends if nobody has a PDF: ``exhausted``, ``budget_exhausted``, ``rollout``, or a gate."""
    attempts: int
    longest_ms: int
    """Time until it ends so, in milliseconds."""


class Forecaster:
    """Foresees works under one set of settings."""

    def __init__(self, settings: Quire, clock: Clock, *, hosts: Iterable[HostRow] = ()) -> None:
        """``hosts``: the breakers as the library's log tells them."""
        self._settings = settings
        self._plan = Plan.of(settings.fallback)
        self._finders = finders(settings.sources, settings.fallback.thresholds, resolvers=settings.resolvers)
        self._manners = _manners(settings, clock, hosts)
        self._ways: dict[str, tuple[int, bool]] = {IDENTIFIER: (settings.sources.crossref.retries_max, False)}
        for name, policy in settings.fallback.policies.items():
            self._ways[name] = (policy.retries_max, policy.robots_respect)

    def __repr__(self) -> str:
        return f"<Forecaster {len(self._plan.timeouts_ms)} sources>"

    def of(self, work: Work, *, planned_as: str = "") -> Forecast:
        """The forecast of a work; ``planned_as`` is the name its job was planned under, where it has one."""
        settings = self._settings.fallback
        disabled = [
            Step(source=source, tier=tier.name, verdict="passed_over", reason="disabled")
            for tier in settings.tiers
            for source in tier.sources
            if source in settings.disabled
        ]
        if not inside_rollout(settings.rollout, job_key(work)):
            return Forecast(work_id=work.work_id, steps=(), ends="rollout", attempts=0, longest_ms=0)
        return self._foreseen(work, self._plan_of(work, planned_as), disabled)

    def _plan_of(self, work: Work, planned_as: str) -> Plan:
        """As the resolver does: a work known by title alone is identified first."""
        if work.identifiers() and not planned_as.startswith("title:"):
            return self._plan
        timeout_ms = self._settings.sources.crossref.timeout_ms
        return led_by(self._plan, IDENTIFIER, timeout_ms=timeout_ms)

    def _foreseen(self, work: Work, plan: Plan, disabled: list[Step]) -> Forecast:
        machine = fallback.Fallback(plan, now_ms=0)
        steps: list[Step] = []
        now_ms = 0
        commands = machine.advance(now_ms, lambda source: self._look(work, source))
        for _ in range(ROUNDS_MAX):
            steps += [
                self._step(work, command, now_ms, steps)
                for command in commands
                if isinstance(command, fallback.Start | fallback.Skip)
            ]
            end = next((c for c in commands if isinstance(c, fallback.Finish | fallback.Wait)), None)
            if end is not None:
                steps += [*_not_reached(plan, steps), *disabled]
                return Forecast(
                    work_id=work.work_id,
                    steps=tuple(steps),
                    ends=end.reason,
                    attempts=machine.attempts,
                    longest_ms=now_ms,
                )
            now_ms = machine.deadline_ms(now_ms) or now_ms
            commands = self._time_passes(machine, work, now_ms)
        raise InvariantError(f"the forecast of {work.work_id} did not end within {ROUNDS_MAX} steps")

    def _time_passes(self, machine: fallback.Fallback, work: Work, now_ms: int) -> list[fallback.Command]:
        """A deadline has come: its turns end without a PDF, and what is next begins."""
        for command in machine.tick(now_ms):
            if not isinstance(command, fallback.Cancel):
                return [command]
            machine.ended(command.source, command.attempt, fallback.Ended("timeout", "cancelled"), now_ms)
        return machine.settle() or machine.advance(now_ms, lambda source: self._look(work, source))

    def _look(self, work: Work, source: str) -> fallback.Look:
        finder, lookup = self._finders[source], self._lookup(work, source)
        lacks = finder.lacks(lookup)
        if lacks:
            return fallback.Look(lacks=lacks)
        url, role = finder.first_request(lookup)
        gate = self._manners.gate(url, role)
        if gate is None:
            return fallback.Look(host=host_of(url))
        return fallback.Look(host=host_of(url), gate=gate.reason, wait_ms=int(gate.wait_s * 1000))

    def _lookup(self, work: Work, source: str) -> Lookup:
        retries_max, robots = self._ways[source]
        email = self._settings.web.contact_email or ""
        return Lookup(work=work, email=email, timeout_s=1.0, retries_max=retries_max, robots=robots)

    def _step(
        self, work: Work, command: fallback.Start | fallback.Skip, now_ms: int, before: list[Step]
    ) -> Step:
        source, tier = command.source, command.tier
        if isinstance(command, fallback.Skip):
            return Step(source=source, tier=tier, verdict=_why_not(command, before), reason=command.reason)
        url, role = self._finders[source].first_request(self._lookup(work, source))
        retries_max, robots = self._ways[source]
        return Step(
            source=source,
            tier=tier,
            verdict="asked",
            turn=command.attempt,
            starts_ms=now_ms,
            timeout_ms=command.timeout_ms,
            retries_max=retries_max,
            robots_respect=robots,
            host=host_of(url),
            role=role,
            url=redact_url(url),
        )


def _why_not(skip: fallback.Skip, before: list[Step]) -> Verdict:
    if skip.reason in fallback.GATES:
        return "held_back"
    learned = any(step.verdict == "asked" and step.tier != skip.tier for step in before)
    return "depends" if learned and skip.reason in LEARNABLE else "passed_over"


def _not_reached(plan: Plan, steps: list[Step]) -> list[Step]:
    seen = {step.source for step in steps}
    return [
        Step(source=source, tier=name, verdict="not_reached", reason="budget_exhausted")
        for name, _, sources in plan.tiers
        for source in sources
        if source not in seen
    ]


def _manners(settings: Quire, clock: Clock, hosts: Iterable[HostRow]) -> Manners:
    """The gates of a run that starts now: no limit is used up, and the breakers are as the log left them."""
    breakers = Breakers(settings.web.breaker, clock=clock, on_change=lambda _changed: None)
    for row in hosts:
        left_s = (row.until_ns - clock.wall_ns()) / NANOSECONDS
        if row.state == "open" and left_s > 0:
            breakers.open(row.host, reason=row.reason, for_s=left_s)
    gates = settings.fallback.gates
    return Manners(settings.web, gates=gates, breakers=breakers, clock=clock, fetch=_never, slots=None)


async def _never(request: Request, _bytes_max: int) -> Answer:
    raise InvariantError(f"a forecast asked the network for {request.url}")
