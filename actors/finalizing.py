"""Asking the finalizer: for bytes that were streamed, and for bytes that the library holds already.

Held bytes are read before they count: a file of the right name and size may have rotted since.
"""

from __future__ import annotations

from ..errors import InvariantError
from ..events.facts import Artifact, Event
from .desk import Desk
from .job_in_hand import JobInHand, TurnInHand, Winner, host_of
from .messages import Finalize
from .sources.finding import Candidate


class Finalizing:
    """What the finalizer is asked, under the settings of the run."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def finalize(self, job: JobInHand, events: list[Event]) -> None:
        """Record the intent, then have the bytes proved and put in their place."""
        winner = job.winner
        if winner is None:
            raise InvariantError(f"job {job.job_id}: nothing to finalise")
        job.finalize_asked_ms = self._desk.now_ms()
        events.append(job.begin("FINALIZE", {"sha256": winner.sha256}))
        self._desk.commit(job, events, lambda: self._tell_finalizer(job, winner))

    def held_for_work(self, job: JobInHand) -> bool:
        """An identifier leads to what is held for another job: have that looked at; no where none does.

        It is a read and no effect, so nothing of it is written; whoever takes the job over looks again.
        """
        held = self._desk.holdings.of_work(job.work, besides=job.job_id, damaged=job.damaged)
        if held is None or self._desk.refuses(held):
            return False
        job.winner = Winner("", held.pdf_url, held.sha256, held.bytes, job.epoch, held=held)
        self.look_again(job, job.winner)
        return True

    def look_again(self, job: JobInHand, winner: Winner) -> None:
        """Ask for what has no op of its own."""
        job.finalize_asked_ms = self._desk.now_ms()
        self._tell_finalizer(job, winner)

    def held_by_another(
        self, job: JobInHand, turn: TurnInHand, candidate: Candidate, held: Artifact, events: list[Event]
    ) -> None:
        """A candidate's URL led another work to bytes that are held: have them, and their text, looked at.

        Two works that lead to one PDF are a hint that it is the wrong one for one of them, so it is not
        enough that the bytes were right for the other. The look costs no network; the turn is the
        front-runner meanwhile, as if it streamed.
        """
        cancels = job.machine.fronted(turn.id.source, turn.id.attempt, self._desk.now_ms())
        if job.machine.front != turn.id.source:  # it was beaten: its cancel is on the way
            if events:
                self._desk.commit(job, events)
            return
        turn.candidate, turn.effect, turn.resumed = None, None, False
        job.winner = Winner(
            source=turn.id.source,
            pdf_url=held.pdf_url,
            sha256=held.sha256,
            bytes=held.bytes,
            part_epoch=job.epoch,
            host=host_of(held.pdf_url),
            turn=turn,
            held=held,
            candidate=candidate,
        )
        self._desk.do(job, cancels, [])
        self.finalize(job, events)

    def _tell_finalizer(self, job: JobInHand, winner: Winner) -> None:
        verify = self._desk.settings.verify.title
        self._desk.to.finalizer.tell(
            Finalize(
                job.job_id,
                job.epoch,
                winner.part_epoch,
                winner.sha256,
                winner.bytes,
                winner.md5,
                title_of=None if verify == "off" or winner.before_turns else job.work,
                refuse_other=verify == "fail",
                held=winner.held is not None,
            )
        )
