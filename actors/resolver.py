"""The resolver: brings every job in hand home, or says why not.

It runs all jobs by tells: a job is a row and a small machine, not an actor. Each step has one shape:
decide what follows, append it under the job's epoch, and start the effects only when that is durable
(``_commit``). A refused append means that the lease is over: the job is dropped without another word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..config.settings import Policy, Quire, SourceName
from ..errors import InvariantError
from ..events import fallback
from ..events.facts import (
    Artifact,
    Event,
    IdempotencyReplay,
    JobWaiting,
    LeaseReleased,
    OpCode,
    Value,
    WorkIdentified,
)
from ..events.job import JobRow, State, stream_of
from ..events.keys import op_key
from ..events.projections import PARKED_NS
from ..events.record import Appended, Batch
from .directory import Directory
from .holdings import Holdings, inside_rollout
from .job_in_hand import Answered, JobInHand, Miss, TurnInHand, Winner, dressed, host_of, public_url
from .messages import (
    CancelTurn,
    CandidatesFound,
    Emptied,
    EndTurn,
    Finalize,
    FinalizerRestarted,
    Find,
    LetGo,
    Lost,
    NotStored,
    Open,
    Opened,
    Rejected,
    Resolve,
    Save,
    Stored,
    Streamed,
    TurnEnded,
    TurnId,
)
from .outcome import Outcome
from .pace import Pace
from .runtime.actor import Actor
from .runtime.journal import Append, Journaled
from .runtime.ports import Clock, Scheduler
from .sources.catalog import IDENTIFIER
from .sources.finding import Candidate, Finder, Lookup
from .web.exchange import Web

TICK_S = 0.2
"""How often deadlines are looked at, in seconds."""
LANDING_READER: SourceName = "landing_scrape_pdf"
WAIT_MS_MIN = 1_000
"""Least time that a job held back by a gate waits, in milliseconds."""

Effect = Callable[[], None]


class Tick:
    """Time to look at the deadlines."""


class Resolver(Actor):
    """Runs the fallback machines of the jobs in hand."""

    def __init__(
        self,
        *,
        directory: Directory,
        settings: Quire,
        finders: Mapping[str, Finder],
        web: Web,
        holdings: Holdings,
        clock: Clock,
        scheduler: Scheduler,
        replaces: bool,
    ) -> None:
        """``replaces``: an earlier one failed, and what it held is to be leased anew."""
        super().__init__()
        self.jobs: dict[str, JobInHand] = {}
        self._to = directory
        self._settings = settings
        self._finders = finders
        self._web = web
        self._holdings = holdings
        self._clock = clock
        self._scheduler = scheduler
        self._plan = fallback.Plan.of(settings.fallback)
        identifying = Policy(retries_max=settings.sources.crossref.retries_max, robots_respect=False)
        self._policies: dict[str, Policy] = {IDENTIFIER: identifying}
        self._policies.update(settings.fallback.policies.items())
        self._pace = Pace(settings.web.limits)
        self._replaces = replaces
        self._sequence = 0
        self._uncommitted: dict[int, tuple[JobInHand, Effect | None]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Resolve: self._resolve,
            Journaled: self._journaled,
            CandidatesFound: self._candidates_found,
            Opened: self._opened,
            Rejected: self._rejected,
            Streamed: self._streamed,
            TurnEnded: self._turn_ended,
            Stored: self._stored,
            NotStored: self._not_stored,
            FinalizerRestarted: self._finalize_again,
            Lost: self._lost,
            Tick: self._tick,
        }

    def started(self) -> None:
        """Begin with empty hands."""
        if self._replaces:
            self._to.leases.tell(Emptied())
        self._scheduler.later(TICK_S, lambda: self.me.tell(Tick()))

    def handle(self, message: Any) -> None:
        """Do what the message asks for."""
        self._handlers[type(message)](message)

    def stopping(self) -> None:
        """Let every job go as it stands; its next owner goes on from the ledger."""
        for job in list(self.jobs.values()):
            for turn in job.turns.values():
                self._adapter(turn).tell(CancelTurn(turn.id))
            self._commit(job, [LeaseReleased("shutdown")])

    def statistics(self) -> dict[str, int]:
        """Jobs and turns in hand."""
        return {"jobs": len(self.jobs), "turns": sum(len(job.turns) for job in self.jobs.values())}

    # Taking up and letting go

    def _resolve(self, message: Resolve) -> None:
        job = JobInHand(message.job_id, message.row, self._plan_of(message.row), now_ms=self._now_ms())
        self.jobs[job.job_id] = job
        if not inside_rollout(self._settings.fallback.rollout, job.job_id):
            self._let_go(job, [JobWaiting("rollout", PARKED_NS), LeaseReleased("rollout")])
            return
        if job.state in (State.PLANNED, State.LEASED):
            held = self._holdings.of_work(job.work, besides=job.job_id)
            if held is not None:
                self._skip_duplicate(job, held)
                return
        events: list[Event] = [*job.step(State.LEASED), job.resolution()]
        if message.salvage is not None:
            salvage = message.salvage
            job.winner = Winner(
                salvage.source, salvage.pdf_url, salvage.sha256, salvage.bytes, salvage.part_epoch
            )
            self._finalize(job, events)
        else:
            self._advance(job, events)

    def _plan_of(self, row: JobRow) -> fallback.Plan:
        """The plan of the settings; a work that is known by title alone is identified before its tiers."""
        if row.work.identifiers() and not row.planned_as.startswith("title:"):
            return self._plan
        return fallback.led_by(self._plan, IDENTIFIER, timeout_ms=self._settings.sources.crossref.timeout_ms)

    def _skip_duplicate(self, job: JobInHand, held: Artifact) -> None:
        artifact = Artifact(held.sha256, held.bytes, "", held.pdf_url, held.proof)
        events = [*self._ends_of_turns(job, "stopped"), *job.step(State.SKIPPED_DUPLICATE, artifact=artifact)]
        self._let_go(job, [*events, LeaseReleased("held")], self._outcome(job, artifact, ""))

    def _let_go(self, job: JobInHand, events: list[Event], outcome: Outcome | None = None) -> None:
        """The last events of this take-up; once they are durable the job leaves the hand."""
        job.letting_go = True

        def gone() -> None:
            self.jobs.pop(job.job_id, None)
            self._to.leases.tell(LetGo(job.job_id, outcome))

        self._commit(job, events, gone)

    def _lost(self, message: Lost) -> None:
        job = self.jobs.get(message.job_id)
        if job is not None and job.epoch == message.epoch:
            self._drop(job)

    def _drop(self, job: JobInHand) -> None:
        """The lease is over: cancel what runs and forget the job; its new owner has it all in the log."""
        for turn in job.turns.values():
            self._adapter(turn).tell(CancelTurn(turn.id))
        if self.jobs.get(job.job_id) is job:
            del self.jobs[job.job_id]
            self._to.leases.tell(LetGo(job.job_id))

    # The one way to the log

    def _commit(self, job: JobInHand, events: list[Event], then: Effect | None = None) -> None:
        """Append under the job's epoch; ``then`` runs when it is durable, and only if it was accepted."""
        self._sequence += 1
        self._uncommitted[self._sequence] = (job, then)
        batch = Batch(stream_of(job.job_id), tuple(events), epoch=job.epoch, cause=job.cause)
        self._to.journal.tell(Append(batch, self.me, self._sequence))

    def _journaled(self, message: Journaled) -> None:
        for tag, result in message.results:
            job, then = self._uncommitted.pop(tag)
            if not isinstance(result, Appended):
                self._drop(job)
            elif self.jobs.get(job.job_id) is job:
                job.cause = result.position
                if then is not None:
                    then()

    # The machine's commands

    def _advance(self, job: JobInHand, events: list[Event] | None = None) -> None:
        now = self._now_ms()
        commands = job.machine.advance(now, lambda source: self._look(job, source))
        self._do(job, commands, events or [])

    def _do(self, job: JobInHand, commands: list[fallback.Command], events: list[Event]) -> None:
        """Carry out what the machine says: record it all in one append, then start what was to start."""
        now = self._now_ms()
        starts: list[TurnInHand] = []
        for command in commands:
            if isinstance(command, fallback.Start):
                events.append(job.turn_started(command, now))
                starts.append(job.turns[command.source])
            elif isinstance(command, fallback.Skip):
                events.append(job.passed_over(command))
            elif isinstance(command, fallback.Cancel):
                turn = job.turns[command.source]
                self._adapter(turn).tell(CancelTurn(turn.id))
            elif isinstance(command, fallback.Finish):
                self._finish_without(job, command, events)
                return
            else:
                self._wait(job, command, events)
                return
        if events:
            self._commit(job, events, lambda: self._start(job, starts))

    def _start(self, job: JobInHand, turns: list[TurnInHand]) -> None:
        for turn in turns:
            if job.turn(turn.id) is not None:
                self._adapter(turn).tell(Find(turn.id, self._lookup(job, turn.id.source, turn)))

    def _finish_without(self, job: JobInHand, finish: fallback.Finish, events: list[Event]) -> None:
        now = self._now_ms()
        may_retry = finish.may_retry and job.generation < self._settings.retry.generations_max
        code: OpCode = "RETRYABLE" if may_retry else "NON_RETRYABLE"
        events += [
            job.summary(finish.outcome, finish.reason, now),
            job.resolved(code, finish.reason, now),
            *job.step(State.FAILED, reason=finish.reason, may_retry=may_retry),
            LeaseReleased("failed"),
        ]
        self._let_go(job, events, self._outcome(job, None, finish.reason))

    def _wait(self, job: JobInHand, wait: fallback.Wait, events: list[Event]) -> None:
        not_before = PARKED_NS if wait.reason == "offline" else self._slot(job, wait)
        events += [
            job.resolved("RETRYABLE", wait.reason, self._now_ms()),
            JobWaiting(wait.reason, not_before, wait.sources),
            LeaseReleased("waiting"),
        ]
        self._let_go(job, events)

    def _slot(self, job: JobInHand, wait: fallback.Wait) -> int:
        """When a job that a gate held back is taken up: one at a time where the gate is a rate."""
        wait_ms = max(wait.wait_ms, WAIT_MS_MIN)
        if wait.reason == "rate_wait":
            url, role = self._finders[wait.sources[0]].first_request(self._lookup(job, wait.sources[0]))
            wait_ms = self._pace.slot_ms(url, role, now_ms=self._now_ms(), wait_ms=wait_ms)
        return self._clock.wall_ns() + wait_ms * 1_000_000

    def _look(self, job: JobInHand, source: str) -> fallback.Look:
        finder = self._finders[source]
        lookup = self._lookup(job, source)
        lacks = finder.lacks(lookup)
        if lacks:
            return fallback.Look(lacks=lacks)
        url, role = finder.first_request(lookup)
        gate = self._web.gate(url, role)
        if gate is None:
            return fallback.Look(host=host_of(url))
        return fallback.Look(host=host_of(url), gate=gate.reason, wait_ms=int(gate.wait_s * 1000))

    def _lookup(self, job: JobInHand, source: str, turn: TurnInHand | None = None) -> Lookup:
        left_ms = turn.deadline_ms - self._now_ms() if turn else job.machine.plan.timeouts_ms[source]
        policy = self._policies[source]
        return Lookup(
            work=job.work,
            email=self._settings.web.contact_email or "",
            seen=tuple(job.seen),
            pages=tuple(job.pages),
            timeout_s=max(0.05, left_ms / 1000),
            retries_max=policy.retries_max,
            robots=policy.robots_respect,
        )

    # A turn, step by step

    def _turn_of(self, turn_id: TurnId) -> tuple[JobInHand, TurnInHand] | None:
        """The job and turn that an answer belongs to; None when it came too late."""
        job = self.jobs.get(turn_id.job_id)
        if job is None or job.epoch != turn_id.epoch or job.letting_go:
            return None
        turn = job.turn(turn_id)
        return (job, turn) if turn is not None else None

    def _candidates_found(self, message: CandidatesFound) -> None:
        known = self._turn_of(message.turn)
        if known is None:
            return
        job, turn = known
        found = message.found
        events: list[Event] = []
        if found.identified is not None and job.work.merged(found.identified) != job.work:
            job.work = job.work.merged(found.identified)
            events.append(WorkIdentified(found.identified, turn.id.source))
        job.see(*found.seen)
        turn.candidates.extend(found.candidates)
        turn.meta.update(found.meta)
        if not found.candidates:
            turn.misses.append(
                Miss(
                    "no_pdf",
                    found.reason or "no_candidate",
                    found.host and f"https://{found.host}/",
                    found.status,
                    found.retry_count,
                )
            )
        self._next_candidate(job, turn, events)

    def _next_candidate(self, job: JobInHand, turn: TurnInHand, events: list[Event]) -> None:
        """Open the turn's next candidate that is not known to be none; without one the turn ends."""
        while turn.candidates:
            candidate = turn.candidates.popleft()
            turn.tried += 1
            held = self._holdings.of_url(candidate.url)
            if held is not None and job.state is State.LEASED:
                if events:
                    self._commit(job, events)
                self._skip_duplicate(job, held)
                return
            if self._asked_by_another(job, turn, candidate):
                turn.misses.append(Miss("no_pdf", "asked_already", candidate.url))
            elif not self._known_miss(job, turn, candidate, events):
                self._open(job, turn, candidate, events)
                return
        if turn.fresh_pages and turn.finds < self._settings.sources.landing_scrape_pdf.depth_max:
            self._read_on(job, turn, events)
        else:
            self._end_turn(job, turn, turn.verdict(""), events)

    def _read_on(self, job: JobInHand, turn: TurnInHand, events: list[Event]) -> None:
        """The landing reader's candidates were pages themselves: have those read, and nothing else again."""
        pages, turn.fresh_pages = tuple(turn.fresh_pages), []
        turn.finds += 1
        lookup = msgspec.structs.replace(self._lookup(job, turn.id.source, turn), pages=pages, seen=())

        def go() -> None:
            if job.turn(turn.id) is turn:
                self._adapter(turn).tell(Find(turn.id, lookup))

        if events:
            self._commit(job, events, go)
        else:
            go()

    def _asked_by_another(self, job: JobInHand, turn: TurnInHand, candidate: Candidate) -> bool:
        """Whether another turn has an effect in flight at that URL: one of them is enough."""
        op_id = self._head_id(job, candidate)
        others = (other for other in job.turns.values() if other is not turn and other.effect is not None)
        return any(
            other.candidate is not None and self._head_id(job, other.candidate) == op_id for other in others
        )

    def _known_miss(
        self, job: JobInHand, turn: TurnInHand, candidate: Candidate, events: list[Event]
    ) -> bool:
        """Whether this generation has the final answer of that URL: then it is replayed, not asked again."""
        op_id = self._head_id(job, candidate)
        known = job.answered.get(op_id)
        if known is None or (dressed(candidate) and not known.dressed):
            return False
        events.append(IdempotencyReplay(op_id, "HEAD"))
        turn.misses.append(Miss("no_pdf", known.reason, candidate.url, known.status))
        return True

    def _head_id(self, job: JobInHand, candidate: Candidate) -> str:
        return op_key("HEAD", job.job_id, url=candidate.url, generation=job.generation)

    def _open(self, job: JobInHand, turn: TurnInHand, candidate: Candidate, events: list[Event]) -> None:
        turn.candidate = candidate
        about: dict[str, Value] = {
            "url": public_url(candidate.url),
            "generation": job.generation,
            "rule": candidate.rule,
            "dressed": int(dressed(candidate)),
        }
        head = job.begin("HEAD", {"url": candidate.url, "generation": job.generation}, about)
        turn.effect = ("HEAD", head.op_id)
        policy = self._lookup(job, turn.id.source, turn)

        def go() -> None:
            if job.turn(turn.id) is turn:
                left_ms = max(1, turn.deadline_ms - self._now_ms())
                message = Open(turn.id, candidate, left_ms, policy.retries_max, policy.robots)
                self._adapter(turn).tell(message)

        self._commit(job, [*events, head], go)

    def _opened(self, message: Opened) -> None:
        known = self._turn_of(message.turn)
        if known is None:
            return
        job, turn = known
        now = self._now_ms()
        cancels = job.machine.fronted(turn.id.source, turn.id.attempt, now)
        if job.machine.front != turn.id.source or turn.candidate is None:
            return  # it was beaten: its cancel is on the way
        head_id = turn.effect[1] if turn.effect else ""
        url = turn.candidate.url
        stream = job.begin(
            "STREAM",
            {"url": url, "generation": job.generation, "range_start": 0},
            {
                "url": public_url(url),
                "generation": job.generation,
                "range_start": 0,
                "source": turn.id.source,
                "epoch": job.epoch,
            },
        )
        turn.effect = ("STREAM", stream.op_id)
        job.see(*message.hops)
        events: list[Event] = [
            job.end(head_id, "HEAD", "OK", status=message.status, host=host_of(message.url)),
            *job.step(State.HEAD_DONE),
            stream,
            *job.step(State.STREAMING),
        ]
        self._do(job, cancels, [])
        self._commit(job, events, lambda: self._adapter(turn).tell(Save(turn.id)))

    def _rejected(self, message: Rejected) -> None:
        known = self._turn_of(message.turn)
        if known is None:
            return
        job, turn = known
        events: list[Event] = []
        if turn.effect is not None:
            kind, op_id = turn.effect
            code: OpCode = "RETRYABLE" if message.outcome in fallback.WORTH_ANOTHER else "NON_RETRYABLE"
            if message.outcome == "skipped":
                code = "ABANDONED"
            read_on: Value = 1 if message.page is not None and turn.id.source == LANDING_READER else ""
            status = message.status
            events.append(job.end(op_id, kind, code, reason=message.reason, status=status, read_on=read_on))
            if kind == "HEAD" and code == "NON_RETRYABLE" and turn.candidate is not None:
                job.answered[op_id] = Answered(message.reason, message.status, dressed(turn.candidate))
        turn.effect = None
        turn.misses.append(
            Miss(message.outcome, message.reason, message.url, message.status, message.retry_count)
        )
        self._learn_page(job, message)
        if message.page is not None and turn.id.source == LANDING_READER:
            turn.fresh_pages.append(message.page)
        if message.broken:
            self._queue_again(turn, message)
            self._do(job, job.machine.broken(turn.id.source, self._now_ms()), [])
            self._resume_turn(job, turn)
        self._next_candidate(job, turn, events)
        if message.broken and not job.letting_go:
            self._advance(job)

    def _queue_again(self, turn: TurnInHand, message: Rejected) -> None:
        """A stream that broke on the way may be whole another time; the turn's other candidates go first."""
        if turn.candidate is None or message.outcome not in fallback.WORTH_ANOTHER:
            return
        if turn.broken < self._policies[turn.id.source].retries_max:
            turn.broken += 1
            turn.candidates.append(turn.candidate)

    def _learn_page(self, job: JobInHand, message: Rejected) -> None:
        job.see(message.url)
        if message.page is not None:
            job.pages.append(message.page)
            job.see(*message.page.hops, message.page.url)

    def _resume_turn(self, job: JobInHand, turn: TurnInHand) -> None:
        inside = job.machine.turns.get(turn.id.source)
        if inside is not None:
            turn.deadline_ms = inside.deadline_ms

    def _end_turn(self, job: JobInHand, turn: TurnInHand, miss: Miss, events: list[Event]) -> None:
        now = self._now_ms()
        end = job.machine.ended(
            turn.id.source, turn.id.attempt, fallback.Ended(miss.outcome, miss.reason), now
        )
        counted = Miss(end.outcome, end.reason, miss.url, miss.status, miss.retry_count)
        events += job.turn_ended(turn, counted, now)
        self._adapter(turn).tell(EndTurn(turn.id))
        if job.machine.front is not None:
            self._commit(job, events)
            return
        settled = job.machine.settle()
        if settled:
            self._do(job, settled, events)
        else:
            self._advance(job, events)

    def _turn_ended(self, message: TurnEnded) -> None:
        known = self._turn_of(message.turn)
        if known is None:
            return
        job, turn = known
        turn.meta.update(message.meta)
        miss = Miss(message.outcome, message.reason, message.url, message.status, message.retry_count)
        self._end_turn(job, turn, miss, [])

    def _ends_of_turns(self, job: JobInHand, reason: str) -> list[Event]:
        """Cancel every turn in flight without waiting for its end."""
        events: list[Event] = []
        for turn in list(job.turns.values()):
            self._adapter(turn).tell(CancelTurn(turn.id))
            events += job.turn_ended(turn, Miss("skipped", reason), self._now_ms())
        return events

    # Storing

    def _streamed(self, message: Streamed) -> None:
        known = self._turn_of(message.turn)
        if known is None or known[1].candidate is None or known[1].effect is None:
            return
        job, turn = known
        candidate = turn.candidate
        if candidate is None or turn.effect is None:
            raise InvariantError(f"job {job.job_id}: streamed without a candidate")
        done = job.end(
            turn.effect[1],
            "STREAM",
            "OK",
            elapsed_ms=message.elapsed_ms,
            sha256=message.sha256,
            bytes=message.bytes,
        )
        turn.effect = None
        job.winner = Winner(
            turn.id.source,
            public_url(candidate.url),
            message.sha256,
            message.bytes,
            job.epoch,
            candidate.md5,
            host_of(candidate.url),
            turn,
        )
        self._finalize(job, [done])

    def _finalize(self, job: JobInHand, events: list[Event]) -> None:
        """Record the intent, then have the bytes proved and put in their place."""
        winner = job.winner
        if winner is None:
            raise InvariantError(f"job {job.job_id}: nothing to finalise")
        events.append(job.begin("FINALIZE", {"sha256": winner.sha256}))
        self._commit(job, events, lambda: self._tell_finalizer(job, winner))

    def _tell_finalizer(self, job: JobInHand, winner: Winner) -> None:
        self._to.finalizer.tell(
            Finalize(job.job_id, job.epoch, winner.part_epoch, winner.sha256, winner.bytes, winner.md5)
        )

    def _finalize_again(self, _message: FinalizerRestarted) -> None:
        for job in self.jobs.values():
            if job.winner is not None and not job.letting_go:
                self._tell_finalizer(job, job.winner)

    def _stored(self, message: Stored) -> None:
        job = self.jobs.get(message.job_id)
        if job is None or job.epoch != message.epoch or job.letting_go or job.winner is None:
            return
        winner, now = job.winner, self._now_ms()
        artifact = Artifact(message.sha256, message.bytes, winner.source, winner.pdf_url, message.proof)
        events: list[Event] = [
            job.end(
                op_key("FINALIZE", job.job_id, sha256=message.sha256), "FINALIZE", "OK", proof=message.proof
            )
        ]
        if job.state is not State.FINALIZED:
            events += [*job.step(State.STREAMING), *job.step(State.FINALIZED, artifact=artifact)]
        if winner.turn is not None:
            job.machine.stored(winner.source)
            events += job.won(winner.turn, winner, now)
            self._adapter(winner.turn).tell(EndTurn(winner.turn.id))
        events += self._ends_of_turns(job, "beaten")
        indexed, final = self._indexed(job, message.sha256)
        events += [*indexed, job.summary("success", "", now), job.resolved("OK", "", now)]
        events += [*job.step(final), LeaseReleased("done")]
        self._let_go(job, events, self._outcome(job, artifact, ""))

    def _indexed(self, job: JobInHand, sha256: str) -> tuple[list[Event], State]:
        """Index the object, or point the job at the one that another job has indexed."""
        target = self._holdings.first_with(sha256, besides=job.job_id, claimed=self._storing(sha256, job))
        if target is None:
            op = job.begin("INDEX", {"sha256": sha256})
            return [op, job.end(op.op_id, "INDEX", "OK")], State.INDEXED
        op = job.begin("DEDUPE", {"sha256": sha256, "target": target})
        return [op, job.end(op.op_id, "DEDUPE", "OK", target=target)], State.DEDUPED

    def _storing(self, sha256: str, besides: JobInHand) -> str | None:
        """A job of ours that is about to be indexed with the same bytes."""
        for job in self.jobs.values():
            if (
                job is not besides
                and job.state is State.INDEXED
                and job.winner
                and job.winner.sha256 == sha256
            ):
                return job.job_id
        return None

    def _not_stored(self, message: NotStored) -> None:
        job = self.jobs.get(message.job_id)
        if job is None or job.epoch != message.epoch or job.letting_go or job.winner is None:
            return
        winner, job.winner = job.winner, None
        op_id = op_key("FINALIZE", job.job_id, sha256=winner.sha256)
        events: list[Event] = [job.end(op_id, "FINALIZE", "NON_RETRYABLE", reason=message.reason)]
        turn = winner.turn
        if turn is None or job.turn(turn.id) is None:
            self._advance(job, events)
            return
        turn.misses.append(Miss("no_pdf", message.reason, winner.pdf_url, 200))
        self._do(job, job.machine.broken(winner.source, self._now_ms()), [])
        self._resume_turn(job, turn)
        self._next_candidate(job, turn, events)
        if not job.letting_go:
            self._advance(job)

    def _outcome(self, job: JobInHand, artifact: Artifact | None, reason: str) -> Outcome:
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
            path=self._holdings.relative_path(sha256) if sha256 else "",
            bytes=artifact.bytes if artifact else 0,
            attempts=job.machine.attempts,
        )

    # Time

    def _tick(self, _message: Tick) -> None:
        self._scheduler.later(TICK_S, lambda: self.me.tell(Tick()))
        now = self._now_ms()
        for job in list(self.jobs.values()):
            if not job.letting_go:
                commands = job.machine.tick(now)
                if commands:
                    self._do(job, commands, [])

    def _now_ms(self) -> int:
        return self._clock.boot_ns() // 1_000_000

    def _adapter(self, turn: TurnInHand) -> Any:
        return self._to.adapters[turn.id.source]
