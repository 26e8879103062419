"""What the actors of a session say to each other: frozen records, told and never asked.

``turn`` names one source's turn at one job under one lease; an answer that comes after its end is dropped.
"""

from __future__ import annotations

import msgspec

from ..events.facts import AttemptOutcome, Value
from ..events.job import JobRow
from ..events.work import Work as NamedWork
from .outcome import Outcome, Planned, Wanted
from .sources.finding import Candidate, Found, Lookup
from .web.exchange import Answer


class Message(msgspec.Struct, frozen=True):
    """Base of every message."""


class TurnId(Message, frozen=True):
    """One source's turn at one job, under one lease."""

    job_id: str
    epoch: int
    source: str
    attempt: int


# Session → Planner → Session


class PlanChunk(Message, frozen=True):
    """Plan these works for a list."""

    wanted: tuple[Wanted, ...]
    list_id: str
    retry_failed: bool
    since: int
    """Position of the log when the list was begun: what was planned after it is a double."""
    errand: int = 0
    """Comes back with the answer."""


# Session → LeaseManager → Session


class Work(Message, frozen=True):
    """Claim jobs of this list until nothing is left."""

    list_id: str
    errand: int
    """Comes back with what is told of it: a later errand does not take it for its own."""


class Drain(Message, frozen=True):
    """Claim nothing more; finish what is in hand."""


class Idle(Message, frozen=True):
    """Nothing is in hand and nothing is left that time could open."""

    errand: int


class Came(Message, frozen=True):
    """A job that was taken up on an errand came to its end."""

    errand: int
    outcome: Outcome


class ChunkPlanned(Message, frozen=True):
    """What became of a chunk; all of it is durable."""

    errand: int
    planned: Planned


# LeaseManager → Reconciler → Resolver


class Taken(Message, frozen=True):
    """A job was leased to this worker; ``row`` is as of the grant."""

    job_id: str
    row: JobRow
    dead_worker: str = ""
    """Whose effects in flight have to be recovered."""


class Salvage(Message, frozen=True):
    """Bytes that a dead owner streamed whole: they need no network."""

    source: str
    pdf_url: str
    sha256: str
    bytes: int
    part_epoch: int
    md5: str = ""


class Resolve(Message, frozen=True):
    """Bring this job home."""

    job_id: str
    row: JobRow
    salvage: Salvage | None = None


class Lost(Message, frozen=True):
    """The lease of a job is over: drop it without another word."""

    job_id: str
    epoch: int


# Resolver → LeaseManager


class LetGo(Message, frozen=True):
    """A job left the hand: finished, waiting, or lost."""

    job_id: str
    epoch: int
    outcome: Outcome | None = None


# Resolver ↔ SourceAdapter


class Find(Message, frozen=True):
    """Look for candidates."""

    turn: TurnId
    lookup: Lookup


class Open(Message, frozen=True):
    """Open a candidate and look at its first bytes."""

    turn: TurnId
    candidate: Candidate
    timeout_ms: int
    retries_max: int
    robots: bool


class Save(Message, frozen=True):
    """Stream the opened candidate to its part."""

    turn: TurnId


class CancelTurn(Message, frozen=True):
    """End a turn at once; answered by ``TurnEnded`` with the reason ``cancelled``."""

    turn: TurnId


class EndTurn(Message, frozen=True):
    """The turn is over: let go of what is open; not answered."""

    turn: TurnId


class AdapterRestarted(Message, frozen=True):
    """The adapter of a source failed and was replaced: its turns are lost."""

    source: str


class CandidatesFound(Message, frozen=True):
    """Candidates, or a reason why there is none."""

    turn: TurnId
    found: Found
    elapsed_ms: int


class Opened(Message, frozen=True):
    """The candidate's first bytes are a PDF's."""

    turn: TurnId
    url: str
    """The final URL."""
    status: int
    length: int
    """Declared length in bytes; 0 when there is none."""
    retry_count: int
    hops: tuple[str, ...] = ()
    resumed_at: int = 0
    """Bytes held already, which the answer goes on from."""


class Rejected(Message, frozen=True):
    """The candidate is no PDF, or could not be had."""

    turn: TurnId
    outcome: AttemptOutcome
    reason: str
    url: str
    status: int
    retry_count: int
    page: Answer | None = None
    broken: bool = False
    """It had begun as a PDF and failed within the stream."""
    wait_ms: int = 0
    """Of a gate that was met: time until it may open; 0 where that is not known."""


class Streamed(Message, frozen=True):
    """The candidate's bytes are in the part, whole."""

    turn: TurnId
    sha256: str
    bytes: int
    elapsed_ms: int


class TurnEnded(Message, frozen=True):
    """The turn ended without a candidate to go on with."""

    turn: TurnId
    outcome: AttemptOutcome
    reason: str
    url: str = ""
    status: int = 0
    retry_count: int = 0
    meta: dict[str, Value] = {}
    wait_ms: int = 0
    """Of a gate that was met: time until it may open; 0 where that is not known."""


# Resolver ↔ Finalizer


class Finalize(Message, frozen=True):
    """Prove the part's bytes and put them in their place."""

    job_id: str
    epoch: int
    part_epoch: int
    sha256: str
    bytes: int
    md5: str = ""
    title_of: NamedWork | None = None
    """The work whose DOI or title the text must show; None where nobody wants to know."""
    refuse_other: bool = False
    """Whether bytes that are another article's are not stored."""
    held: bool = False
    """Nothing was streamed: only an object that is there, and whole, will do."""


class Stored(Message, frozen=True):
    """The bytes are verified, in place and durable."""

    job_id: str
    epoch: int
    sha256: str
    bytes: int
    proof: str
    title_check: str = ""
    """What the text shows of the work; ``""`` where nobody asked."""
    healed: str = ""
    """What was wrong with the object that they replaced; ``""`` where they replaced none."""


class NotStored(Message, frozen=True):
    """The bytes are no paper, or are there no more."""

    job_id: str
    epoch: int
    reason: str
    damage: str = ""
    """What is wrong with their object, where the reason is that."""
