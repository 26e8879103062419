"""A source's turn, step by step: candidates, opening one, what came of it, and the next."""

from __future__ import annotations

import dataclasses

import msgspec

from ..config.settings import SourceName
from ..events import fallback
from ..events.facts import Event, IdempotencyReplay, OpCode, Value, WorkIdentified
from ..events.job import State
from ..events.keys import op_key
from .desk import Desk
from .finalizing import Finalizing
from .job_in_hand import (
    OUR_DISK,
    ROBOTS,
    Answered,
    JobInHand,
    Miss,
    TurnInHand,
    answer_id,
    dressed,
    host_of,
    public_url,
)
from .messages import (
    AdapterRestarted,
    CandidatesFound,
    EndTurn,
    Find,
    Open,
    Opened,
    Rejected,
    Save,
    TurnEnded,
    TurnId,
)
from .sources.arxiv import paper_at_arxiv
from .sources.finding import Candidate

LANDING_READER: SourceName = "landing_scrape_pdf"
"""The source whose candidates may be pages that lead on."""
BREAKER = "breaker_open"
MET_MAX = 3
"""Turns of a source in one generation that wait for a breaker they met on the way; the next one is a failure.
A dead host that a source names twice would hold the work for ever: the first look shuts out the second."""


class Turns:
    """What the adapters' answers lead to."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._finalizing = Finalizing(desk)

    def of(self, turn_id: TurnId) -> tuple[JobInHand, TurnInHand] | None:
        """The job and turn that an answer belongs to; None when it came too late."""
        job = self._desk.jobs.get(turn_id.job_id)
        if job is None or job.epoch != turn_id.epoch or job.letting_go:
            return None
        turn = job.turn(turn_id)
        return (job, turn) if turn is not None else None

    def candidates_found(self, message: CandidatesFound) -> None:
        """A source answered: open the first candidate."""
        known = self.of(message.turn)
        if known is None:
            return
        job, turn = known
        found = message.found
        events: list[Event] = []
        if found.identified is not None and job.work.merged(found.identified) != job.work:
            job.work = job.work.merged(found.identified)
            events.append(WorkIdentified(found.identified, turn.id.source))
            self._desk.reconsider(job)
        job.see(*found.seen)
        turn.candidates.extend(found.candidates)
        turn.heard(found.from_cache)
        turn.meta.update(found.meta)
        if not found.candidates:
            turn.misses.append(
                Miss(
                    "no_pdf",
                    found.reason or "no_candidate",
                    found.host and f"https://{found.host}/",
                    found.status,
                    found.retry_count,
                )
            )
        self.next_candidate(job, turn, events)

    def next_candidate(self, job: JobInHand, turn: TurnInHand, events: list[Event]) -> None:
        """Open the turn's next candidate that is not known to be none; without one the turn ends."""
        while turn.candidates:
            candidate = turn.candidates.popleft()
            turn.tried += 1
            held = self._desk.holdings.of_url(candidate.url, damaged=job.damaged)
            if held is not None and job.state is State.LEASED:
                self._finalizing.held_by_another(job, turn, candidate, held, events)
                return
            if self._asked_by_another(job, turn, candidate):
                turn.misses.append(Miss("no_pdf", "asked_already", candidate.url))
            elif not self._known_miss(job, turn, candidate, events):
                self._open(job, turn, candidate, events)
                return
        if turn.fresh_pages and turn.finds < self._desk.settings.sources.landing_scrape_pdf.depth_max:
            self._read_on(job, turn, events)
        else:
            self._end_turn(job, turn, turn.verdict(""), events)

    def _read_on(self, job: JobInHand, turn: TurnInHand, events: list[Event]) -> None:
        """The landing reader's candidates were pages themselves: have those read, and nothing else again."""
        pages, turn.fresh_pages = tuple(turn.fresh_pages), []
        turn.finds += 1
        lookup = msgspec.structs.replace(self._desk.lookup(job, turn.id.source, turn), pages=pages, seen=())

        def go() -> None:
            if job.turn(turn.id) is turn:
                self._desk.adapter(turn).tell(Find(turn.id, lookup))

        if events:
            self._desk.commit(job, events, go)
        else:
            go()

    def _asked_by_another(self, job: JobInHand, turn: TurnInHand, candidate: Candidate) -> bool:
        """Whether another turn has an effect in flight at that URL: one of them is enough."""
        op_id = self._head_id(job, candidate.url)
        others = (other for other in job.turns.values() if other is not turn and other.effect is not None)
        return any(
            other.candidate is not None and self._head_id(job, other.candidate.url) == op_id
            for other in others
        )

    def _known_miss(
        self, job: JobInHand, turn: TurnInHand, candidate: Candidate, events: list[Event]
    ) -> bool:
        """Whether this generation has the final answer of that URL: then it is replayed, not asked again."""
        ids = (self._head_id(job, candidate.url), self._answer_id(job, candidate.url))
        known = next((job.answered[one] for one in ids if one in job.answered), None)
        if known is None:
            return False
        # At arXiv nobody is let in for a referer or a cookie, and each of its pages names the PDF anew.
        if dressed(candidate) and not known.dressed and not paper_at_arxiv(candidate.url):
            return False
        events.append(IdempotencyReplay(known.op_id, "HEAD"))
        turn.misses.append(Miss("no_pdf", known.reason, known.url or candidate.url, known.status))
        return True

    def remember_refusal(self, job: JobInHand, turn: TurnInHand, candidate: Candidate, reason: str) -> None:
        """A candidate's bytes were refused: its URL is not streamed again for whoever else names it."""
        if reason not in OUR_DISK:
            op_id = self._head_id(job, candidate.url)
            url, status = turn.answered_by
            job.answered[op_id] = Answered(op_id, reason, status, dressed(candidate), url)

    def _head_id(self, job: JobInHand, url: str) -> str:
        return op_key("HEAD", job.job_id, url=url, generation=job.generation)

    def _answer_id(self, job: JobInHand, url: str) -> str:
        return answer_id(job.job_id, url, generation=job.generation)

    def _open(self, job: JobInHand, turn: TurnInHand, candidate: Candidate, events: list[Event]) -> None:
        turn.candidate = candidate
        about: dict[str, Value] = {
            "url": public_url(candidate.url),
            "generation": job.generation,
            "rule": candidate.rule,
            "source": turn.id.source,
            "dressed": int(dressed(candidate)),
        }
        head = job.begin("HEAD", {"url": candidate.url, "generation": job.generation}, about)
        turn.effect = ("HEAD", head.op_id)
        policy = self._desk.lookup(job, turn.id.source, turn)

        def go() -> None:
            if job.turn(turn.id) is turn:
                left_ms = max(1, turn.deadline_ms - self._desk.now_ms())
                if turn.candidates:  # one that hangs must not cost the others their chance
                    left_ms = max(1, left_ms // 2)
                message = Open(turn.id, candidate, left_ms, policy.retries_max, policy.robots)
                self._desk.adapter(turn).tell(message)

        self._desk.commit(job, [*events, head], go)

    def opened(self, message: Opened) -> None:
        """A candidate shows PDF bytes: the front-runner streams, the others are cancelled."""
        known = self.of(message.turn)
        if known is None:
            return
        job, turn = known
        now = self._desk.now_ms()
        cancels = job.machine.fronted(turn.id.source, turn.id.attempt, now)
        if job.machine.front != turn.id.source or turn.candidate is None:
            return  # it was beaten: its cancel is on the way
        head_id = turn.effect[1] if turn.effect else ""
        url = turn.candidate.url
        stream = job.begin(
            "STREAM",
            {"url": url, "generation": job.generation, "range_start": message.resumed_at},
            {
                "url": public_url(url),
                "generation": job.generation,
                "range_start": message.resumed_at,
                "source": turn.id.source,
                "epoch": job.epoch,
                "md5": turn.candidate.md5,
            },
        )
        turn.effect = ("STREAM", stream.op_id)
        turn.resumed = message.resumed_at > 0
        turn.meta["front_ms"] = now - turn.started_ms
        turn.answered_by = (message.url, message.status)
        job.see(*message.hops)
        events: list[Event] = [
            job.end(head_id, "HEAD", "OK", status=message.status, host=host_of(message.url)),
            *job.step(State.HEAD_DONE),
            *(job.step(State.RESUME_OK) if message.resumed_at else []),
            stream,
            *job.step(State.STREAMING),
        ]
        self._desk.do(job, cancels, [])
        self._desk.commit(job, events, lambda: self._desk.adapter(turn).tell(Save(turn.id)))

    def rejected(self, message: Rejected) -> None:
        """A candidate is no PDF, or its stream broke: learn from it and go on."""
        known = self.of(message.turn)
        if known is None:
            return
        job, turn = known
        events: list[Event] = []
        if turn.effect is not None:
            kind, op_id = turn.effect
            code: OpCode = "RETRYABLE" if message.outcome in fallback.WORTH_ANOTHER else "NON_RETRYABLE"
            if message.outcome == "skipped":
                code = "ABANDONED"
            read_on: Value = 1 if message.page is not None and turn.id.source == LANDING_READER else ""
            status = message.status
            host = host_of(message.url) if status else ""  # nobody answered where nobody was asked
            events.append(
                job.end(op_id, kind, code, reason=message.reason, status=status, host=host, read_on=read_on)
            )
            if kind == "HEAD" and code == "NON_RETRYABLE" and turn.candidate is not None:
                answer = Answered(op_id, message.reason, message.status, dressed(turn.candidate), message.url)
                job.answered[op_id] = answer
                # Where a redirect ended, others may lead by its own name; it has answered them as well. What
                # robots.txt forbids the one source, another may ask for.
                named = () if message.reason == ROBOTS else (turn.candidate.url, message.url)
                for url in named:
                    by_name = self._answer_id(job, url)
                    if by_name not in job.answered or answer.dressed:
                        job.answered[by_name] = answer
        turn.effect = None
        turn.misses.append(
            Miss(
                message.outcome,
                message.reason,
                message.url,
                message.status,
                message.retry_count,
                message.wait_ms,
            )
        )
        if turn.candidate is not None and turn.candidate.role != "artifact":
            turn.heard(message.page is not None and message.page.from_cache)
        self._learn_page(job, message)
        if message.page is not None and turn.id.source == LANDING_READER:
            turn.fresh_pages.append(message.page)
        if message.broken:
            self._queue_again(turn, message)
            self._desk.do(job, job.machine.broken(turn.id.source, self._desk.now_ms()), [])
            self.resume_turn(job, turn)
        self.next_candidate(job, turn, events)
        if message.broken and not job.letting_go:
            self._desk.advance(job)

    def _queue_again(self, turn: TurnInHand, message: Rejected) -> None:
        """A stream that broke on the way may be whole another time; the turn's other candidates go first."""
        if turn.candidate is None or message.outcome not in fallback.WORTH_ANOTHER:
            return
        if turn.broken < self._desk.policies[turn.id.source].retries_max:
            turn.broken += 1
            turn.candidates.append(turn.candidate)

    def _learn_page(self, job: JobInHand, message: Rejected) -> None:
        job.see(message.url)
        if message.page is not None:
            job.keep_page(message.page)
            job.see(*message.page.hops, message.page.url)

    def resume_turn(self, job: JobInHand, turn: TurnInHand) -> None:
        """Take over the time that the machine gives a turn back."""
        inside = job.machine.turns.get(turn.id.source)
        if inside is not None:
            turn.deadline_ms = inside.deadline_ms

    def _end_turn(self, job: JobInHand, turn: TurnInHand, miss: Miss, events: list[Event]) -> None:
        now = self._desk.now_ms()
        if (
            miss.outcome == "skipped"
            and miss.reason == BREAKER
            and job.met(turn.id.source, BREAKER) >= MET_MAX
        ):
            miss = dataclasses.replace(miss, outcome="retryable")
        ended = fallback.Ended(miss.outcome, miss.reason, miss.wait_ms)
        end = job.machine.ended(turn.id.source, turn.id.attempt, ended, now)
        counted = Miss(end.outcome, end.reason, miss.url, miss.status, miss.retry_count)
        events += job.turn_ended(turn, counted, now)
        self._desk.adapter(turn).tell(EndTurn(turn.id))
        if job.machine.front is not None:
            self._desk.commit(job, events)
            return
        settled = job.machine.settle()
        if settled:
            self._desk.do(job, settled, events)
        else:
            self._desk.advance(job, events)

    def adapter_restarted(self, message: AdapterRestarted) -> None:
        """What the adapter had in flight died with it: each of its turns ends as an error."""
        for job in list(self._desk.jobs.values()):
            turn = job.turns.get(message.source)
            if turn is not None and not job.letting_go and job.winner is None:
                self._end_turn(job, turn, Miss("error", "adapter_restarted"), [])

    def turn_ended(self, message: TurnEnded) -> None:
        """The adapter ended the turn; what its other candidates met still counts: a gate that opens."""
        known = self.of(message.turn)
        if known is None:
            return
        job, turn = known
        turn.meta.update(message.meta)
        miss = Miss(
            message.outcome,
            message.reason,
            message.url,
            message.status,
            message.retry_count,
            message.wait_ms,
        )
        turn.misses.append(miss)
        self._end_turn(job, turn, turn.verdict(""), [])
