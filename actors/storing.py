"""Storing: from streamed bytes to an indexed object, or back to the turn when they are no paper."""

from __future__ import annotations

import msgspec

from ..errors import InvariantError
from ..events.facts import Artifact, Event, LeaseReleased
from ..events.job import State
from ..events.keys import op_key
from .desk import Desk
from .finalizer import OTHER_ARTICLE
from .finalizing import Finalizing
from .job_in_hand import JobInHand, Miss, Winner, host_of, public_url
from .messages import EndTurn, NotStored, Stored, Streamed
from .turns import Turns


class Storing:
    """What the finalizer is asked, and what its answers lead to."""

    def __init__(self, desk: Desk, turns: Turns) -> None:
        self._desk = desk
        self._turns = turns
        self._finalizing = Finalizing(desk)

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
            if winner and not job.letting_go and now_ms - job.finalize_asked_ms > stale_ms:
                op_id = op_key("FINALIZE", job.job_id, sha256=winner.sha256)
                self.finalize(job, [job.end(op_id, "FINALIZE", "ABANDONED", reason="stale")])

    def stored(self, message: Stored) -> None:
        """The bytes are in place: index them, and let the job go."""
        job = self._desk.jobs.get(message.job_id)
        if job is None or job.epoch != message.epoch or job.letting_go or job.winner is None:
            return
        winner, now = job.winner, self._desk.now_ms()
        op_id = op_key("FINALIZE", job.job_id, sha256=message.sha256)
        events: list[Event] = [
            job.end(op_id, "FINALIZE", "OK", proof=message.proof, title_check=message.title_check)
        ]
        if winner.held is not None:
            job.winner = None
            self._desk.commit(job, events)
            self._desk.skip_duplicate(
                job, msgspec.structs.replace(winner.held, title_check=message.title_check)
            )
            return
        artifact = Artifact(
            message.sha256,
            message.bytes,
            winner.source,
            winner.pdf_url,
            message.proof,
            message.title_check,
        )
        if job.state is not State.FINALIZED:
            events += [*job.step(State.STREAMING), *job.step(State.FINALIZED, artifact=artifact)]
        if winner.turn is not None:
            job.machine.stored(winner.source)
            events += job.won(winner.turn, winner, now)
            self._desk.adapter(winner.turn).tell(EndTurn(winner.turn.id))
        events += self._desk.ends_of_turns(job, "beaten")
        indexed, final = self._indexed(job, message.sha256)
        events += [*indexed, job.summary("success", "", now), job.resolved("OK", "", now)]
        events += [*job.step(final), LeaseReleased("done")]
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
        """The bytes are no paper, or another's: the turn goes on."""
        job = self._desk.jobs.get(message.job_id)
        if job is None or job.epoch != message.epoch or job.letting_go or job.winner is None:
            return
        winner, job.winner = job.winner, None
        op_id = op_key("FINALIZE", job.job_id, sha256=winner.sha256)
        events: list[Event] = [job.end(op_id, "FINALIZE", "NON_RETRYABLE", reason=message.reason)]
        turn = winner.turn
        if turn is None or job.turn(turn.id) is None:
            job.refused(winner, message.reason)
            self._desk.advance(job, events)
            return
        turn.misses.append(Miss("no_pdf", message.reason, *turn.answered_by))
        if turn.resumed and turn.candidate is not None and message.reason != OTHER_ARTICLE:
            turn.candidates.appendleft(turn.candidate)  # what was held may be what is wrong: once more, whole
        elif turn.candidate is not None:
            self._turns.remember_refusal(job, turn, turn.candidate, message.reason)
        self._desk.do(job, job.machine.broken(winner.source, self._desk.now_ms()), [])
        self._turns.resume_turn(job, turn)
        self._turns.next_candidate(job, turn, events)
        if not job.letting_go:
            self._desk.advance(job)
