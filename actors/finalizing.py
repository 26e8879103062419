"""Asking the finalizer: for bytes that were streamed, and for bytes that the library holds already."""

from __future__ import annotations

from ..errors import InvariantError
from ..events.facts import Artifact, Event
from .desk import Desk
from .job_in_hand import JobInHand, TurnInHand, Winner, host_of
from .messages import Finalize


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

    def held_by_another(self, job: JobInHand, turn: TurnInHand, held: Artifact, events: list[Event]) -> None:
        """A candidate's URL led another work to bytes that are held: take them, or have their text looked at.

        Two works that lead to one PDF are a hint that it is the wrong one for one of them, so it is not
        enough that the bytes were right for the other. The look costs no network; the turn is the
        front-runner meanwhile, as if it streamed.
        """
        if self._desk.settings.verify.title == "off":
            if events:
                self._desk.commit(job, events)
            self._desk.skip_duplicate(job, held)
            return
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
                title_of=None if verify == "off" else job.work,
                refuse_other=verify == "fail",
            )
        )
