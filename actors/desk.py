"""The desk: the jobs in hand, the one way to the log, and what the fallback machine's commands lead to.

Each step has one shape: decide what follows, append it under the job's epoch, and start the effects only
when that is durable (``commit``). A refused append means that the lease is over: the job is dropped
without another word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..config.settings import Policy, Quire
from ..events import fallback
from ..events.facts import Artifact, Event, JobWaiting, LeaseReleased, OpCode
from ..events.fallback_plan import Plan, led_by
from ..events.job import JobRow, State, stream_of
from ..events.projections import PARKED_NS
from ..events.record import Appended, Batch
from .directory import Directory
from .holdings import Holdings
from .job_in_hand import JobInHand, Miss, TurnInHand, host_of
from .messages import CancelTurn, Find, LetGo
from .outcome import Outcome
from .pace import Pace
from .runtime.address import Address
from .runtime.journal import Append, Journaled
from .runtime.ports import Clock
from .sources.catalog import IDENTIFIER
from .sources.finding import Finder, Lookup
from .web.exchange import Web
from .web.slots import Slots

WAIT_MS_MIN = 1_000
"""Least time that a job held back by a gate waits, in milliseconds."""

Effect = Callable[[], None]


class Desk:
    """The jobs that the resolver has in hand."""

    def __init__(
        self,
        *,
        me: Callable[[], Address],
        directory: Directory,
        settings: Quire,
        finders: Mapping[str, Finder],
        web: Web,
        holdings: Holdings,
        clock: Clock,
        slots: Slots,
    ) -> None:
        """``me`` is the address that the journal answers to; ``slots`` line up jobs held back by a rate."""
        self.jobs: dict[str, JobInHand] = {}
        self.to = directory
        self.settings = settings
        self.holdings = holdings
        identifying = Policy(retries_max=settings.sources.crossref.retries_max, robots_respect=False)
        self.policies: dict[str, Policy] = {IDENTIFIER: identifying}
        self.policies.update(settings.fallback.policies.items())
        self._me = me
        self._finders = finders
        self._web = web
        self._clock = clock
        self._plan = Plan.of(settings.fallback)
        self._pace = Pace(settings.web.limits, slots)
        self._sequence = 0
        self._uncommitted: dict[int, tuple[JobInHand, Effect | None]] = {}

    def __repr__(self) -> str:
        return f"<Desk with {len(self.jobs)} jobs, {len(self._uncommitted)} appends on their way>"

    def skip_duplicate(self, job: JobInHand, held: Artifact) -> None:
        """The library holds already what the job leads to."""
        artifact = Artifact(held.sha256, held.bytes, "", held.pdf_url, held.proof, held.title_check)
        events = self.ends_of_turns(job, "stopped")
        if job.resolving:
            now = self.now_ms()
            events += [job.summary("success", "held", now), job.resolved("OK", "held", now)]
        events += [*job.step(State.SKIPPED_DUPLICATE, artifact=artifact), LeaseReleased("held")]
        self.let_go(job, events, self.outcome(job, artifact, ""))

    def refuses(self, held: Artifact) -> bool:
        """Whether it was stored by a run that only warned of other articles, and this one refuses them."""
        return self.settings.verify.title == "fail" and held.title_check == "mismatch"

    def let_go(self, job: JobInHand, events: list[Event], outcome: Outcome | None = None) -> None:
        """The last events of this take-up; once they are durable the job leaves the hand."""
        job.letting_go = True

        def gone() -> None:
            self.jobs.pop(job.job_id, None)
            self.to.leases.tell(LetGo(job.job_id, job.epoch, outcome))

        self.commit(job, events, gone)

    def drop(self, job: JobInHand) -> None:
        """The lease is over: cancel what runs and forget the job; its new owner has it all in the log."""
        for turn in job.turns.values():
            self.adapter(turn).tell(CancelTurn(turn.id))
        if self.jobs.get(job.job_id) is job:
            del self.jobs[job.job_id]
            self.to.leases.tell(LetGo(job.job_id, job.epoch))

    def commit(self, job: JobInHand, events: list[Event], then: Effect | None = None) -> None:
        """Append under the job's epoch; ``then`` runs when it is durable, and only if it was accepted."""
        self._sequence += 1
        self._uncommitted[self._sequence] = (job, then)
        batch = Batch(stream_of(job.job_id), tuple(events), epoch=job.epoch, cause=job.cause)
        self.to.journal.tell(Append(batch, self._me(), self._sequence))

    def journaled(self, message: Journaled) -> None:
        """Go on with what has become durable; drop what was refused."""
        for tag, result in message.results:
            job, then = self._uncommitted.pop(tag)
            if not isinstance(result, Appended):
                self.drop(job)
            elif self.jobs.get(job.job_id) is job:
                job.cause = result.position
                if then is not None:
                    then()

    def advance(self, job: JobInHand, events: list[Event] | None = None) -> None:
        """Let the machine start what may start now."""
        now = self.now_ms()
        commands = job.machine.advance(now, lambda source: self._look(job, source))
        self.do(job, commands, events or [])

    def reconsider(self, job: JobInHand) -> None:
        """The work is better known: sources that were passed over for what they lacked may have it now."""
        for source in job.machine.lacking():
            if not self._finders[source].lacks(self.lookup(job, source)):
                job.machine.reopen(source)

    def do(self, job: JobInHand, commands: list[fallback.Command], events: list[Event]) -> None:
        """Carry out what the machine says: record it all in one append, then start what was to start."""
        now = self.now_ms()
        starts: list[TurnInHand] = []
        for command in commands:
            if isinstance(command, fallback.Start):
                events.append(job.turn_started(command, now))
                starts.append(job.turns[command.source])
            elif isinstance(command, fallback.Skip):
                events.append(job.passed_over(command))
            elif isinstance(command, fallback.Cancel):
                turn = job.turns[command.source]
                self.adapter(turn).tell(CancelTurn(turn.id))
            elif isinstance(command, fallback.Finish):
                self._finish_without(job, command, events)
                return
            else:
                self._wait(job, command, events)
                return
        if events:
            self.commit(job, events, lambda: self._start(job, starts))

    def _start(self, job: JobInHand, turns: list[TurnInHand]) -> None:
        for turn in turns:
            if job.turn(turn.id) is not None:
                self.adapter(turn).tell(Find(turn.id, self.lookup(job, turn.id.source, turn)))

    def _finish_without(self, job: JobInHand, finish: fallback.Finish, events: list[Event]) -> None:
        now = self.now_ms()
        may_retry = finish.may_retry and job.generation < self.settings.retry.generations_max
        code: OpCode = "RETRYABLE" if may_retry else "NON_RETRYABLE"
        events += [
            job.summary(finish.outcome, finish.reason, now),
            job.resolved(code, finish.reason, now),
            *job.step(State.FAILED, reason=finish.reason, may_retry=may_retry),
            LeaseReleased("failed"),
        ]
        self.let_go(job, events, self.outcome(job, None, finish.reason))

    def _wait(self, job: JobInHand, wait: fallback.Wait, events: list[Event]) -> None:
        not_before = PARKED_NS if wait.reason == "offline" else self._slot(job, wait)
        events += [
            job.resolved("RETRYABLE", wait.reason, self.now_ms()),
            JobWaiting(wait.reason, not_before, wait.sources),
            LeaseReleased("waiting"),
        ]
        self.let_go(job, events)

    def _slot(self, job: JobInHand, wait: fallback.Wait) -> int:
        """When a job that a gate held back is taken up: one at a time where the gate is a rate."""
        wait_ms = max(wait.wait_ms, WAIT_MS_MIN)
        if wait.reason == "rate_wait":
            url, role = self._finders[wait.sources[0]].first_request(self.lookup(job, wait.sources[0]))
            wait_ms = self._pace.slot_ms(url, role, now_ms=self.now_ms(), wait_ms=wait_ms)
        return self._clock.wall_ns() + wait_ms * 1_000_000

    def _look(self, job: JobInHand, source: str) -> fallback.Look:
        finder = self._finders[source]
        lookup = self.lookup(job, source)
        lacks = finder.lacks(lookup)
        if lacks:
            return fallback.Look(lacks=lacks)
        url, role = finder.first_request(lookup)
        gate = self._web.gate(url, role)
        if gate is None:
            return fallback.Look(host=host_of(url))
        return fallback.Look(host=host_of(url), gate=gate.reason, wait_ms=int(gate.wait_s * 1000))

    def lookup(self, job: JobInHand, source: str, turn: TurnInHand | None = None) -> Lookup:
        """What a source is asked about the job, with the time that its turn has left."""
        left_ms = turn.deadline_ms - self.now_ms() if turn else job.machine.plan.timeouts_ms[source]
        policy = self.policies[source]
        return Lookup(
            work=job.work,
            email=self.settings.web.contact_email or "",
            seen=tuple(job.seen),
            pages=tuple(job.pages),
            timeout_s=max(0.05, left_ms / 1000),
            retries_max=policy.retries_max,
            robots=policy.robots_respect,
        )

    def ends_of_turns(self, job: JobInHand, reason: str) -> list[Event]:
        """Cancel every turn in flight without waiting for its end."""
        events: list[Event] = []
        for turn in list(job.turns.values()):
            self.adapter(turn).tell(CancelTurn(turn.id))
            events += job.turn_ended(turn, Miss("skipped", reason), self.now_ms())
        return events

    def outcome(self, job: JobInHand, artifact: Artifact | None, reason: str) -> Outcome:
        """What the session is told when the job is durable."""
        sha256 = artifact.sha256 if artifact else ""
        return Outcome(
            job_id=job.job_id,
            work_id=job.row.work_id,
            work=job.work,
            label=job.row.label,
            state=job.state,
            generation=job.generation,
            reason=reason,
            source=artifact.source if artifact else "",
            pdf_url=artifact.pdf_url if artifact else "",
            sha256=sha256,
            path=self.holdings.relative_path(sha256) if sha256 else "",
            bytes=artifact.bytes if artifact else 0,
            attempts=job.machine.attempts,
            title_check=artifact.title_check if artifact else "",
        )

    def now_ms(self) -> int:
        """Milliseconds since boot."""
        return self._clock.boot_ns() // 1_000_000

    def adapter(self, turn: TurnInHand) -> Address:
        """The adapter that plays the turn."""
        return self.to.adapters[turn.id.source]

    def plan_of(self, row: JobRow) -> Plan:
        """The plan of the settings; a work that is known by title alone is identified before its tiers."""
        if row.work.identifiers() and not row.planned_as.startswith("title:"):
            return self._plan
        return led_by(self._plan, IDENTIFIER, timeout_ms=self.settings.sources.crossref.timeout_ms)
