"""One job while a worker resolves it: its fallback machine, its turns, and the events they lead to.

Nothing here is the truth: all of it is made anew from the job's row after a takeover.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from ..events import fallback, ledger
from ..events.facts import (
    Artifact,
    AttemptOutcome,
    Event,
    FallbackAttempt,
    FallbackSummary,
    JobStateChanged,
    OpCode,
    OperationCompleted,
    OperationStarted,
    OpKind,
    Value,
)
from ..events.fallback_plan import Plan
from ..events.job import ORDER, JobRow, State, check_step
from ..events.keys import ARTIFACT, canonical_url, op_key
from ..store.objects import OBJECT_DAMAGED
from .messages import Salvage, TurnId
from .sources.arxiv import paper_at_arxiv
from .sources.finding import Candidate
from .web.exchange import Answer
from .web.redaction import redact_url

PAGES_MAX = 8
"""Pages that are handed on from one source to the next; one that is dropped may be asked for again."""
PAGES_BYTES_MAX = 4 << 20
"""What they may hold together, in bytes; the latest is kept whatever its size."""
SEEN_MAX = 24
"""URLs that are handed on."""

OUR_DISK = frozenset({"part_changed", "part_busy", OBJECT_DAMAGED})
"""Reasons of a refusal that say nothing of what was sent."""
OWNER_GONE = "owner_gone"
"""The reason of an op that was found in flight when its owner was gone."""

CODES: dict[AttemptOutcome, OpCode] = {
    "success": "OK",
    "no_pdf": "NON_RETRYABLE",
    "nonretryable": "NON_RETRYABLE",
    "skipped": "ABANDONED",
    "retryable": "RETRYABLE",
    "timeout": "RETRYABLE",
    "error": "RETRYABLE",
}
_TELLING: dict[AttemptOutcome, int] = {
    "retryable": 5,
    "timeout": 4,
    "error": 3,
    "no_pdf": 2,
    "nonretryable": 1,
    "skipped": 6,
    "success": 0,
}
"""Which of several candidates' ends tells most about a turn: what may still change goes first."""


def host_of(url: str) -> str:
    """The host of a URL, for the record."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def public_url(url: str) -> str:
    """The URL as it may be written down: canonical, without addresses, keys and tokens."""
    try:
        return redact_url(canonical_url(url))
    except ValueError:
        return redact_url(url)


@dataclass(frozen=True)
class Miss:
    """Why one candidate gave no paper."""

    outcome: AttemptOutcome
    reason: str
    url: str = ""
    status: int = 0
    retry_count: int = 0
    wait_ms: int = 0
    """Of a gate that was met: time until it may open; 0 where that is not known."""


@dataclass(frozen=True)
class Answered:
    """What a URL's final answer was in this generation: it is replayed, not asked for again."""

    op_id: str
    """The effect that it came of."""
    reason: str
    status: int
    dressed: bool
    """It was asked with the referer or cookies of a page; one that was asked bare may be asked so once."""
    url: str = ""
    """Who answered, after redirects; of a dead owner's answer the host alone."""


ROBOTS = "robots_disallowed"
"""The reason of what robots.txt forbids; it holds for sources that heed it."""


def dressed(candidate: Candidate) -> bool:
    """Whether a candidate comes with the referer or cookies of the page that named it."""
    return bool(candidate.referer or candidate.cookies)


def answer_id(job_id: str, url: str, *, generation: int) -> str:
    """The op whose final answer is a URL's as well: its own, or the one of all URLs of a paper at arXiv.

    Of bytes that were refused nothing follows for the other URLs: they may have been cut on the way.
    """
    return op_key("HEAD", job_id, url=paper_at_arxiv(url) or url, generation=generation)


@dataclass
class TurnInHand:
    """One source's turn."""

    id: TurnId
    tier: str
    op_id: str
    started_ms: int
    deadline_ms: int
    candidates: deque[Candidate] = field(default_factory=deque)
    candidate: Candidate | None = None
    effect: tuple[Literal["HEAD", "STREAM"], str] | None = None
    """The kind and id of the op in flight at its candidate."""
    misses: list[Miss] = field(default_factory=list)
    meta: dict[str, Value] = field(default_factory=dict)
    tried: int = 0
    fresh_pages: list[Answer] = field(default_factory=list)
    """Pages that came where its candidates were expected to be PDFs, not yet read."""
    finds: int = 1
    answered_by: tuple[str, int] = ("", 0)
    """Final URL and status of the answer that was opened last."""
    resumed: bool = False
    """Its last stream went on from a part."""
    broken: int = 0
    """Streams that broke on the way and were queued again."""
    from_cache: bool | None = None
    """Whether all services and pages that it asked were answered by the cache; None before it asked any."""

    def heard(self, from_cache: bool | None) -> None:
        """Take in where an answer came from; None where nothing was asked."""
        if from_cache is not None:
            self.from_cache = from_cache and self.from_cache is not False

    def verdict(self, reason: str) -> Miss:
        """The turn's end when its candidates are used up: the most telling; of gates the first to open."""
        if not self.misses:
            return Miss("no_pdf", reason or "no_candidate")
        return max(self.misses, key=lambda miss: (_TELLING[miss.outcome], -miss.wait_ms))


@dataclass(frozen=True)
class Winner:
    """The bytes that are being stored."""

    source: str
    pdf_url: str
    sha256: str
    bytes: int
    part_epoch: int
    md5: str = ""
    host: str = ""
    turn: TurnInHand | None = None
    """None where a dead owner had streamed them."""
    held: Artifact | None = None
    """What the library holds of them for another work; nothing is streamed then."""
    candidate: Candidate | None = None
    """What names the held bytes' URL: it is opened after all when they turn out to be damaged."""

    @property
    def before_turns(self) -> bool:
        """Whether held bytes were found at the take-up: no op stands for the look at them."""
        return self.held is not None and self.turn is None

    @classmethod
    def salvaged(cls, salvage: Salvage) -> Winner:
        """Bytes that a dead owner had streamed whole."""
        return cls(
            source=salvage.source,
            pdf_url=salvage.pdf_url,
            sha256=salvage.sha256,
            bytes=salvage.bytes,
            part_epoch=salvage.part_epoch,
            md5=salvage.md5,
            host=host_of(salvage.pdf_url),
        )


class JobInHand:
    """A job that this worker holds under one epoch."""

    def __init__(self, job_id: str, row: JobRow, plan: Plan, *, now_ms: int) -> None:
        self.job_id = job_id
        self.epoch = row.epoch
        self.generation = row.generation
        self.row = row
        self.work = row.work
        self.state = row.state
        self.cause = 0
        self.resolving = False
        """Its resolution was begun under this epoch, and has an end to come."""
        self.taken_ms = now_ms
        self.machine = _machine(row, plan, now_ms)
        self.turns: dict[str, TurnInHand] = {}
        self.answered: dict[str, Answered] = _answered(row.ops, job_id)
        self.winner: Winner | None = None
        self.finalize_asked_ms = 0
        self.damaged: set[str] = set()
        """Hashes of objects that were found damaged: what is held under them counts for nothing."""
        self.pages: deque[Answer] = deque()
        self.seen: dict[str, None] = {}
        self._seen_recorded = 0
        self.see(*_seen(row.ops))
        self._seen_recorded = len(self.seen)
        self.letting_go = False

    def __repr__(self) -> str:
        return f"<JobInHand {self.job_id[:8]} {self.state} epoch={self.epoch} {self.machine!r}>"

    def see(self, *urls: str) -> None:
        """Remember URLs for the sources that come after."""
        for url in urls:
            if url and len(self.seen) < SEEN_MAX:
                self.seen[url] = None

    def keep_page(self, page: Answer) -> None:
        """Hand a page on to the sources that come after; the oldest give way."""
        self.pages.append(page)
        while len(self.pages) > PAGES_MAX or (
            len(self.pages) > 1 and sum(len(kept.body) for kept in self.pages) > PAGES_BYTES_MAX
        ):
            self.pages.popleft()

    def refused(self, winner: Winner, reason: str) -> None:
        """The bytes that a dead owner had streamed are no paper: their URL is not asked for them again."""
        self.answered.update(_refusals(self.row.ops, {winner.pdf_url: reason}))

    def met(self, source: str, reason: str) -> int:
        """Turns of a source that ended for a reason in this generation, before this take-up."""
        turns = ledger.of_kind(self.row.ops, "FALLBACK")
        return sum(op.about["source"] == source and op.result.get("reason") == reason for _, op in turns)

    def turn(self, turn_id: TurnId) -> TurnInHand | None:
        """The turn in flight of that name; None when it is over."""
        turn = self.turns.get(turn_id.source)
        return turn if turn is not None and turn.id == turn_id else None

    # Events

    def step(
        self,
        state: State,
        *,
        reason: str = "",
        artifact: Artifact | None = None,
        may_retry: bool = False,
    ) -> list[Event]:
        """Go to a milestone, unless the generation is past it already."""
        if state is not State.FAILED and ORDER[state] <= ORDER[self.state]:
            return []
        check_step(self.job_id, self.state, state)
        before, self.state = self.state, state
        return [JobStateChanged(before, state, reason, artifact, may_retry)]

    def begin(
        self, kind: OpKind, key: dict[str, Value], about: dict[str, Value] | None = None
    ) -> OperationStarted:
        """The intent of an effect; ``key`` names it, ``about`` is what is written of it."""
        return OperationStarted(op_key(kind, self.job_id, **key), kind, about or key)

    def end(
        self, op_id: str, kind: OpKind, code: OpCode, *, elapsed_ms: int = 0, **result: Value
    ) -> OperationCompleted:
        """The end of an effect."""
        said: dict[str, Value] = {name: value for name, value in result.items() if value not in ("", None)}
        return OperationCompleted(op_id, kind, code, said, elapsed_ms)

    def resolution(self) -> OperationStarted:
        """The intent to resolve this generation."""
        self.resolving = True
        return self.begin("RESOLUTION", {"generation": self.generation})

    def resolved(self, code: OpCode, reason: str, now_ms: int) -> OperationCompleted:
        """The end of resolving."""
        op_id = op_key("RESOLUTION", self.job_id, generation=self.generation)
        return self.end(op_id, "RESOLUTION", code, reason=reason, spent_ms=self.machine.spent_ms(now_ms))

    def turn_started(self, start: fallback.Start, now_ms: int) -> OperationStarted:
        """A source's turn begins."""
        key: dict[str, Value] = {
            "source": start.source,
            "generation": self.generation,
            "attempt": start.attempt,
        }
        event = self.begin("FALLBACK", key)
        turn_id = TurnId(self.job_id, self.epoch, start.source, start.attempt)
        deadline = now_ms + start.timeout_ms
        self.turns[start.source] = TurnInHand(turn_id, start.tier, event.op_id, now_ms, deadline)
        return event

    def turn_ended(self, turn: TurnInHand, miss: Miss, now_ms: int) -> list[Event]:
        """A turn ended: what was in flight at its candidate is given up with it."""
        events: list[Event] = []
        if turn.effect is not None:
            kind, op_id = turn.effect
            events.append(self.end(op_id, kind, "ABANDONED", reason=miss.reason))
        self.turns.pop(turn.id.source, None)
        elapsed = now_ms - turn.started_ms
        code = CODES[miss.outcome]
        if miss.outcome == "skipped" and miss.reason not in fallback.GATES | {"beaten", "stopped"}:
            code = "NON_RETRYABLE"
        completed = self.end(
            turn.op_id,
            "FALLBACK",
            code,
            elapsed_ms=elapsed,
            outcome=miss.outcome,
            reason=miss.reason,
            spent_ms=self.machine.spent_ms(now_ms),
            seen=self._seen_since(),
        )
        return [*events, completed, self._attempt(turn, miss, elapsed)]

    def _seen_since(self) -> str:
        """The URLs met since the last turn's end, for whoever takes the job over."""
        fresh = [public_url(url) for url in list(self.seen)[self._seen_recorded :]]
        self._seen_recorded = len(self.seen)
        return " ".join(fresh)

    def passed_over(self, skip: fallback.Skip) -> FallbackAttempt:
        """A source was passed over by a gate, or cannot begin."""
        return FallbackAttempt(
            tier=skip.tier,
            source=skip.source,
            attempt=0,
            outcome="skipped",
            reason=skip.reason,
            work_id=self.row.work_id,
            artifact_id=ARTIFACT,
        )

    def won(self, turn: TurnInHand, winner: Winner, now_ms: int) -> list[Event]:
        """The turn's bytes are on disk."""
        self.turns.pop(turn.id.source, None)
        elapsed = now_ms - turn.started_ms
        success = Miss("success", "", url=winner.pdf_url)
        completed = self.end(turn.op_id, "FALLBACK", "OK", elapsed_ms=elapsed, sha256=winner.sha256)
        return [completed, self._attempt(turn, success, elapsed, length=winner.bytes)]

    def summary(self, outcome: str, reason: str, now_ms: int) -> FallbackSummary:
        """What the resolving of this generation came to."""
        winner = self.winner if outcome == "success" else None
        return FallbackSummary(
            outcome=outcome,
            reason=reason,
            tiers_touched=self.machine.tiers_touched(),
            attempts=self.machine.attempts,
            time_to_success_ms=now_ms - self.taken_ms if winner else 0,
            winner_source=winner.source if winner else "",
            winner_host=winner.host if winner else "",
            path=tuple(self.machine.path),
        )

    def _attempt(self, turn: TurnInHand, miss: Miss, elapsed_ms: int, *, length: int = 0) -> FallbackAttempt:
        return FallbackAttempt(
            tier=turn.tier,
            source=turn.id.source,
            attempt=turn.id.attempt,
            outcome=miss.outcome,
            reason=miss.reason,
            work_id=self.row.work_id,
            artifact_id=ARTIFACT,
            host=host_of(miss.url),
            status=miss.status,
            elapsed_ms=elapsed_ms,
            retry_count=miss.retry_count,
            url=public_url(miss.url) if miss.outcome == "success" else "",
            length=length,
            from_cache=turn.from_cache is True,
            meta={**turn.meta, "candidates": turn.tried},
        )


def _answered(ops: ledger.Ops[OpKind], job_id: str) -> dict[str, Answered]:
    """The final answers in the ledger; a page that was to be read on died with its reader: ask anew."""
    refused = {
        str(op.about["sha256"]): str(op.result.get("reason", ""))
        for _, op in ledger.of_kind(ops, "FINALIZE")
        if op.code == "NON_RETRYABLE"
    }
    bad = {
        str(op.about["url"]): refused[sha256]
        for _, op in ledger.of_kind(ops, "STREAM")
        if (sha256 := str(op.result.get("sha256", ""))) in refused and not op.about["range_start"]
    }
    misses = _misses(ops)
    papers = {
        answer_id(job_id, str(op.about["url"]), generation=int(op.about["generation"])): misses[op_id]
        for op_id, op in ledger.of_kind(ops, "HEAD")
        if op_id in misses and misses[op_id].reason != ROBOTS and paper_at_arxiv(str(op.about["url"]))
    }
    return {**papers, **misses, **_refusals(ops, bad)}


def _refusals(ops: ledger.Ops[OpKind], bad: dict[str, str]) -> dict[str, Answered]:
    """The answers of URLs (as they are written down) whose bytes were refused, and why."""
    return {
        op_id: Answered(op_id, bad[url], 200, bool(op.about.get("dressed")), url)
        for op_id, op in ledger.of_kind(ops, "HEAD")
        if (url := str(op.about["url"])) in bad and bad[url] not in OUR_DISK
    }


def _misses(ops: ledger.Ops[OpKind]) -> dict[str, Answered]:
    return {
        op_id: Answered(
            op_id,
            str(op.result.get("reason", "")),
            int(op.result.get("status", 0)),
            bool(op.about.get("dressed")),
            f"https://{op.result['host']}/" if op.result.get("host") else "",
        )
        for op_id, op in ledger.of_kind(ops, "HEAD")
        if op.code == "NON_RETRYABLE" and not op.result.get("read_on")
    }


def _seen(ops: ledger.Ops[OpKind]) -> list[str]:
    """The URLs that earlier turns of the generation met; one that held a secret names nothing any more."""
    met = [url for _, op in ledger.of_kind(ops, "FALLBACK") for url in str(op.result.get("seen", "")).split()]
    return [url for url in met if "REDACTED" not in url]


def _machine(row: JobRow, plan: Plan, now_ms: int) -> fallback.Fallback:
    """The machine as the ledger left it: turns with a result are over, abandoned ones are to come."""
    ended: dict[str, fallback.Ended] = {}
    turns = ledger.of_kind(row.ops, "FALLBACK")
    for _, op in turns:
        if op.code in ("NON_RETRYABLE", "RETRYABLE"):
            outcome = op.result.get("outcome", "error")
            ended[str(op.about["source"])] = fallback.Ended(
                outcome,  # type: ignore[arg-type]  # written by turn_ended
                str(op.result.get("reason", "")),
            )
    # A turn that died with its owner was no fault of the work: it costs nothing of its budget.
    free = sum(op.result.get("reason") in fallback.GATES | {OWNER_GONE} for _, op in turns)
    return fallback.Fallback(
        plan,
        now_ms=now_ms,
        spent_ms=row.spent_ms,
        attempts=len(turns) - free,
        started=len(turns),
        ended=ended,
    )
