"""``quire.fetch``: a list of works in, outcomes out, in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain

from ..config.loader import Flag, load
from ..errors import UsageError
from ..events.job import JobRow
from ..events.keys import job_key
from ..events.projections import JOBS, job_row_key
from ..events.work import Work, parse_work
from .outcome import Outcome, Wanted, outcome_of
from .session import Session

LOOKUP_ROWS = 500
"""Jobs asked of the store at once."""


def fetch(
    works: Iterable[str | Work],
    *,
    library: str = "library",
    email: str | None = None,
    stand_in: str | None = None,
) -> Iterator[Outcome]:
    """Bring works home and give the outcome of each as it comes.

    Called again with the same works it goes on where it ended, also after a crash. What ended before, home
    or failed for good, is not asked for again; its outcome is given first, as the log has it.

    Args:
        works: DOIs, arXiv ids, PMCIDs, ``pmid:…``, URLs, or ``Work`` records.
        library: the folder that holds everything; made where there is none.
        email: your address, for Unpaywall and the User-Agent.
        stand_in: ``http://127.0.0.1:PORT`` of a rehearsal server (``quire.testing.web``).

    Raises:
        UsageError: ``works`` is no list, something in it names no work, or a setting is wrong. Like the
            other errors it comes with the first outcome that is asked for.
        EnvironmentFault: the library cannot be opened, or the disk is full.
        DamagedError: the log is not what was written.
    """
    wanted = [Wanted(_work_of(work)) for work in _several(works)]
    names = "\n".join(one.work.work_id for one in wanted)
    list_id = hashlib.sha256(names.encode()).hexdigest()[:16]
    settings = load(_flags(library, email, stand_in)).settings
    with Session(settings, inputs=("fetch",), list_id=list_id) as session:
        session.plan(wanted, list_id=list_id)
        jobs = list(dict.fromkeys(job_key(one.work) for one in wanted))
        given: set[str] = set()
        # Behind it once more: what another worker ended meanwhile is none of the outcomes of our work.
        for outcome in chain(
            _ended(session, jobs, given), session.work(list_id), _ended(session, jobs, given)
        ):
            given.add(outcome.job_id)
            yield outcome


def _ended(session: Session, jobs: list[str], given: set[str]) -> Iterator[Outcome]:
    """The outcomes of jobs that have ended, without those that were given."""
    for start in range(0, len(jobs), LOOKUP_ROWS):
        page = [job_id for job_id in jobs[start : start + LOOKUP_ROWS] if job_id not in given]
        rows: list[JobRow | None] = session.store.rows(JOBS, [job_row_key(job_id) for job_id in page])
        for job_id, row in zip(page, rows, strict=True):
            if row is not None and row.finished:
                yield outcome_of(job_id, row)


def _several(works: Iterable[str | Work]) -> Iterable[str | Work]:
    """The works; a single one is refused, since a text would be taken letter by letter."""
    if isinstance(works, str | bytes | Work) or not isinstance(works, Iterable):
        raise UsageError(f"fetch takes a list of works, not {works!r}: put [ ] around a single work")
    return works


def _work_of(work: object) -> Work:
    found = parse_work(work) if isinstance(work, str) else work if isinstance(work, Work) else None
    if found is None:
        raise UsageError(f"{work!r} names no work: give a DOI, arXiv id, PMCID, pmid:… or URL")
    return found


def _flags(library: str, email: str | None, stand_in: str | None) -> list[Flag]:
    flags = [Flag(("library",), library, "library=")]
    if email:
        flags.append(Flag(("web", "contact_email"), email, "email="))
    if stand_in:
        flags.append(Flag(("web", "stand_in"), stand_in, "stand_in="))
        flags.append(Flag(("web", "pacing"), "none", "stand_in="))
    return flags
