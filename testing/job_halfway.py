"""An owner that writes each milestone by itself: what it leaves when it dies at one.

This version writes several in one append, so no death falls between them. The table of states allows it, and
another version may have done so: whoever takes such a job over goes on from there.
"""

from __future__ import annotations

from ..actors.job_in_hand import JobInHand
from ..actors.messages import Finalize
from ..events.facts import Artifact, Event, JobStateChanged, OperationCompleted, OperationStarted
from ..events.job import State, stream_of
from ..events.keys import op_key
from ..events.record import Batch
from .played import URLS
from .worker import Worker

HALFWAY = ("HEAD_DONE", "RESUME_OK", "FINALIZED")
"""The milestones at which nobody stands still in this version's logs."""


def halfway(worker: Worker, milestone: str) -> Batch[Event] | None:
    """The append that brings one of a worker's jobs to a milestone alone; None where none is that far.

    For ``FINALIZED`` the bytes get their name, and the effect that follows is begun.
    """
    job = next((job for job in worker.jobs.values() if not job.letting_go), None)
    if job is None or worker.asleep:
        return None
    events = _finalized(worker, job) if milestone == "FINALIZED" else _opened(job, milestone)
    return Batch(stream_of(job.job_id), tuple(events), epoch=job.epoch) if events else None


def _opened(job: JobInHand, milestone: str) -> list[Event]:
    if job.state is not State.LEASED:
        return []
    resumes = [JobStateChanged(State.HEAD_DONE, State.RESUME_OK)] if milestone == "RESUME_OK" else []
    return [JobStateChanged(job.state, State.HEAD_DONE), *resumes]


def _finalized(worker: Worker, job: JobInHand) -> list[Event]:
    asked = worker.finalizer.asked.get(job.job_id)
    if asked is None or job.state is not State.STREAMING or not worker.shelf.place(asked):
        return []
    about = {"sha256": asked.sha256}
    return [
        OperationCompleted(op_key("FINALIZE", asked.job_id, **about), "FINALIZE", "OK", {"proof": "opens"}),
        JobStateChanged(State.STREAMING, State.FINALIZED, "", _artifact(asked)),
        OperationStarted(op_key("INDEX", asked.job_id, **about), "INDEX", {"sha256": asked.sha256}),
    ]


def _artifact(asked: Finalize) -> Artifact:
    return Artifact(asked.sha256, asked.bytes, "unpaywall_pdf", URLS[0])
