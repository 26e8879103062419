"""``quire.fetch``: a list of works in, outcomes out, in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from ..config.loader import Flag, load
from ..errors import UsageError
from ..events.work import Work, parse_work
from .outcome import Outcome, Wanted
from .session import Session


def fetch(
    works: Iterable[str | Work],
    *,
    library: str = "library",
    email: str | None = None,
    stand_in: str | None = None,
) -> Iterator[Outcome]:
    """Bring works home and give each outcome as it comes; works that are home already are not repeated.

    Called again with the same works it goes on where it ended, also after a crash.

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
        yield from session.work(list_id)


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
