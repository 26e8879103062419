"""Storing: from streamed bytes to an indexed object, or back to the turn when they are no paper."""

from __future__ import annotations

import msgspec

from ..errors import InvariantError
from ..events.facts import Artifact, Event, LeaseReleased, OpCode
from ..events.job import State
from ..events.keys import op_key
from ..store.objects import OBJECT_DAMAGED
from .desk import Desk
from .finalizer import OTHER_ARTICLE
from .finalizing import Finalizing
from .job_in_hand import OUR_DISK, JobInHand, Miss, TurnInHand, Winner, host_of, public_url
from .messages import EndTurn, NotStored, Salvage, Stored, Streamed
from .turns import Turns


class Storing:
    """What the finalizer is asked, and what its answers lead to."""

    def __init__(self, desk: Desk, turns: Turns) -> None:
        self._desk = desk
        self._turns = turns
        self._finalizing = Finalizing(desk)

    def take_up(self, job: JobInHand, salvage: Salvage | None) -> None:
        """Begin: with what is held of the work, else a dead owner's bytes, else its first source."""
        if job.state in (State.PLANNED, State.LEASED) and self._finalizing.held_for_work(job):
            return
        events: list[Event] = [*job.step(State.LEASED), job.resolution()]
        if salvage is not None:
            job.winner = Winner.salvaged(salvage)
            self.finalize(job, events)
        else:
            self._desk.advance(job, events)

    def streamed(self, message: Streamed) -> None:
        """The bytes are in their part: have them proved and put in place."""
        known = self._turns.of(message.turn)
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
        self.finalize(job, [done])

    def finalize(self, job: JobInHand, events: list[Event]) -> None:
        """Record the intent, then have the bytes proved and put in their place."""
        self._finalizing.finalize(job, events)

    def ask_again_for_stale(self, now_ms: int) -> None:
        """An effect in flight for longer than any takes was lost on the way: abandon it and ask again."""
        stale_ms = self._desk.settings.ops.stale_after_s * 1000
        for job in self._desk.jobs.values():
            winner = job.winner
            if not winner or job.letting_go or now_ms - job.finalize_asked_ms <= stale_ms:
                continue
            if winner.before_turns:
                self._finalizing.look_again(job, winner)
            else:
                op_id = op_key("FINALIZE", job.job_id, sha256=winner.sha256)
                self.finalize(job, [job.end(op_id, "FINALIZE", "ABANDONED", reason="stale")])

    def stored(self, message: Stored) -> None:
        """The bytes are in place: index them, and let the job go."""
        job = self._desk.jobs.get(message.job_id)
        if job is None or job.epoch != message.epoch or job.letting_go or job.winner is None:
            return
        winner, now = job.winner, self._desk.now_ms()
        if winner.held is not None and winner.before_turns:
            job.winner = None
            self._desk.skip_duplicate(job, winner.held)
            return
        op_id = op_key("FINALIZE", job.job_id, sha256=message.sha256)
        proof, shown, healed = message.proof, message.title_check, message.healed
        events: list[Event] = [
            job.end(op_id, "FINALIZE", "OK", proof=proof, title_check=shown, healed=healed)
        ]
        if winner.held is not None:
            job.winner = None
            self._desk.commit(job, events)
            self._desk.skip_duplicate(job, msgspec.structs.replace(winner.held, title_check=shown))
            return
        artifact = Artifact(
            message.sha256,
            message.bytes,
            winner.source,
            winner.pdf_url,
            message.proof,
            message.title_check,
        )
        # A dead owner's object that was damaged since may have come again as another: the end names it.
        told_late = artifact if job.state is State.FINALIZED else None
        if told_late is None:
            events += [*job.step(State.STREAMING), *job.step(State.FINALIZED, artifact=artifact)]
        if winner.turn is not None:
            job.machine.stored(winner.source)
            events += job.won(winner.turn, winner, now)
            self._desk.adapter(winner.turn).tell(EndTurn(winner.turn.id))
        events += self._desk.ends_of_turns(job, "beaten")
        indexed, final = self._indexed(job, message.sha256)
        events += [*indexed, job.summary("success", "", now), job.resolved("OK", "", now)]
        events += [*job.step(final, artifact=told_late), LeaseReleased("done")]
        self._desk.let_go(job, events, self._desk.outcome(job, artifact, ""))

    def _indexed(self, job: JobInHand, sha256: str) -> tuple[list[Event], State]:
        """Index the object, or point the job at the one that another job has indexed."""
        target = self._desk.holdings.first_with(
            sha256, besides=job.job_id, claimed=self._storing(sha256, job)
        )
        if target is None:
            op = job.begin("INDEX", {"sha256": sha256})
            return [op, job.end(op.op_id, "INDEX", "OK")], State.INDEXED
        op = job.begin("DEDUPE", {"sha256": sha256, "target": target})
        return [op, job.end(op.op_id, "DEDUPE", "OK", target=target)], State.DEDUPED

    def _storing(self, sha256: str, besides: JobInHand) -> str | None:
        """A job of ours that is about to be indexed with the same bytes."""
        for job in self._desk.jobs.values():
            if (
                job is not besides
                and job.state is State.INDEXED
                and job.winner
                and job.winner.sha256 == sha256
            ):
                return job.job_id
        return None

    def not_stored(self, message: NotStored) -> None:
        """The bytes are no paper, or another's, or are there no more: go on without them."""
        job = self._desk.jobs.get(message.job_id)
        if job is None or job.epoch != message.epoch or job.letting_go or job.winner is None:
            return
        winner, job.winner = job.winner, None
        if winner.held is not None and (winner.before_turns or message.reason == OBJECT_DAMAGED):
            job.damaged.add(winner.sha256)
        if winner.before_turns:
            self.take_up(job, None)
            return
        op_id = op_key("FINALIZE", job.job_id, sha256=winner.sha256)
        # What our own disk did is no result: the same bytes, had once more, are put in place.
        code: OpCode = "RETRYABLE" if message.reason in OUR_DISK else "NON_RETRYABLE"
        events: list[Event] = [job.end(op_id, "FINALIZE", code, reason=message.reason, damage=message.damage)]
        turn = winner.turn
        if turn is None or job.turn(turn.id) is None:
            job.refused(winner, message.reason)
            self._desk.advance(job, events)
            return
        self._learn(job, turn, winner, message.reason)
        self._desk.do(job, job.machine.broken(winner.source, self._desk.now_ms()), [])
        self._turns.resume_turn(job, turn)
        self._turns.next_candidate(job, turn, events)
        if not job.letting_go:
            self._desk.advance(job)

    def _learn(self, job: JobInHand, turn: TurnInHand, winner: Winner, reason: str) -> None:
        """Which candidate is opened again, and which never."""
        if winner.candidate is not None and reason == OBJECT_DAMAGED:
            turn.tried -= 1
            turn.candidates.appendleft(winner.candidate)  # nobody was asked yet: now it is
            return
        turn.misses.append(Miss("no_pdf", reason, *turn.answered_by))
        if turn.resumed and turn.candidate is not None and reason != OTHER_ARTICLE:
            turn.candidates.appendleft(turn.candidate)  # what was held may be what is wrong: once more, whole
        elif turn.candidate is not None:
            self._turns.remember_refusal(job, turn, turn.candidate, reason)
