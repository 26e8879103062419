"""What a session takes and gives: wanted works, the report of planning, and outcomes as they come."""

from __future__ import annotations

import msgspec

from ..events.job import JobRow
from ..events.work import Work
from ..store.objects import Objects


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A work that somebody asks for."""

    work: Work
    label: str = ""
    """The user's own name for it; kept, never part of a key."""
    priority: int = 0
    """Smaller goes first; what is equal goes by age. Kept from the first time that it is planned."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a list when it was planned; every work is in one of the last five, or doubled."""

    works: int = 0
    """Works in the list."""
    doubled: int = 0
    """Works named more than once in the list; their job counts once."""
    new: int = 0
    unfinished: int = 0
    """Known to the library and not done; taken up again."""
    requeued: int = 0
    """Failures that open a new generation now."""
    home: int = 0
    """On disk already."""
    failed: int = 0
    """Failed for good, or not yet to be tried again."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A job that came to an end."""

    job_id: str
    work_id: str
    """The identifier that it was asked for by."""
    work: Work
    """All identifiers that are known by now."""
    label: str
    state: str
    """``INDEXED``, ``DEDUPED``, ``SKIPPED_DUPLICATE`` or ``FAILED``."""
    generation: int
    reason: str
    """Why it failed, a short code; ``""`` for a success."""
    source: str
    pdf_url: str
    sha256: str
    path: str
    """Of the PDF, relative to the library; ``""`` where there is none."""
    bytes: int
    attempts: int
    title_check: str = ""
    """What the PDF's text shows of the work: ``doi``, ``arxiv``, ``title``, ``mismatch`` (none of them),
    ``no_text``, ``unknown`` (nothing to tell by), or ``""`` where nobody looked."""

    @property
    def ok(self) -> bool:
        """Whether the PDF is on disk."""
        return self.state != "FAILED"


def outcome_of(job_id: str, row: JobRow) -> Outcome:
    """A job's outcome as the log has it."""
    held = row.artifact if row.home else None
    return Outcome(
        job_id=job_id,
        work_id=row.work_id,
        work=row.work,
        label=row.label,
        state=row.state,
        generation=row.generation,
        reason=row.reason,
        source=held.source if held else "",
        pdf_url=held.pdf_url if held else "",
        sha256=held.sha256 if held else "",
        path=Objects.relative_path(held.sha256) if held else "",
        bytes=held.bytes if held else 0,
        attempts=row.attempts,
        title_check=held.title_check if held else "",
    )
