"""What quire says of the web against what the web did: every reason in the log, held against the ledger.

The server notes what it did to each request in one word (``web.deeds``). A reason is true when it follows
from a deed at the URL that was asked, or at one that this URL led to. What quire decided by itself (to leave
a host alone, to cancel a turn) is true when the log and the ledger show the grounds for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..actors.web.redaction import redact_url
from ..config.settings import Quire
from ..events.facts import (
    FallbackAttempt,
    IdempotencyReplay,
    JobPlanned,
    JobStateChanged,
    OperationCompleted,
    OperationStarted,
)
from ..events.job import HOME, STREAM_PREFIX
from ..events.record import Recorded
from .accounts import PAGE_READER
from .web import Entry, Ledger, World, url_key
from .web.deeds import HOST_WALLS, NAMED, SLOW_DEEDS, TRUE, WALL_DEEDS, is_failure
from .web.exchange import counted_as, host_of

HOPS_MAX = 16
"""Redirects that are followed from a URL."""
PATIENCE = 0.9
"""Share of its time after which a turn may say that the time ran out."""
ASKING = ("HEAD", "STREAM", "FINALIZE")
"""Kinds of operation whose end is a word about the server."""
GATES = frozenset({"breaker_open"})


class Turn(msgspec.Struct):
    """One source's turn on one work."""

    work: str
    job: str
    source: str
    attempt: FallbackAttempt | None = None
    claims: list[Claim] = []


class Claim(msgspec.Struct):
    """What quire said of one URL."""

    op_id: str
    kind: str
    url: str
    job: str
    turn: Turn
    code: str = ""
    reason: str = ""
    status: int = 0
    host: str = ""


class Untrue(msgspec.Struct, frozen=True):
    """A reason that is not true of what the server did."""

    work: str
    url: str
    said: str
    did: str
    """The deeds at the URL and where it led, with their statuses."""

    def __str__(self) -> str:
        return f"{self.work}: {self.said} at {self.url}; the server did: {self.did}"


class Seen(msgspec.Struct):
    """What the server did at a URL and where it led."""

    entries: list[Entry] = []

    @property
    def deeds(self) -> set[str]:
        """In one word each."""
        return {entry.did for entry in self.entries}

    @property
    def statuses(self) -> set[int]:
        """Those that were sent."""
        return {entry.status for entry in self.entries}

    @property
    def hosts(self) -> set[str]:
        """Those that were asked, and those they led to."""
        led = {host_of(entry.leads_to) for entry in self.entries if entry.leads_to}
        return {entry.host for entry in self.entries} | led

    def reasons(self) -> set[str]:
        """All that is true of it."""
        words = {reason for deed in self.deeds for reason in TRUE.get(deed, ())}
        return words | {f"http_{status}" for status in self.statuses if status >= 400}

    def told(self) -> str:
        """In words, for a report."""
        return (
            ", ".join(sorted({f"{e.did} ({e.status})" for e in self.entries})) or "nothing: it was not asked"
        )


class Witness:
    """Holds the log against the ledger; ``tell`` it every event, then ask for what is ``untrue``."""

    def __init__(self, world: World, ledger: Ledger, settings: Quire) -> None:
        self._world, self._ledger, self._settings = world, ledger, settings
        self._asked: dict[str, list[Entry]] = defaultdict(list)
        self._failures: Counter[str] = Counter()
        self._walls: Counter[str] = Counter()
        self._sent: set[tuple[str, int]] = set()
        for entry in ledger:
            for key in {url_key(entry.url), url_key(redact_url(entry.url))}:
                self._asked[key].append(entry)
            self._failures[entry.host] += is_failure(entry.did, entry.status)
            self._walls[entry.host] += entry.did in HOST_WALLS
            self._sent.add((entry.host, entry.status))
        self.turns: list[Turn] = []
        self.claims: list[Claim] = []
        self._latest: dict[str, Claim] = {}
        self._of_job: dict[str, list[Claim]] = defaultdict(list)
        self._works: dict[str, str] = {}
        self._home: set[str] = set()
        self._now: dict[tuple[str, str], Turn] = {}
        self._streamed: dict[str, Claim] = {}

    def __repr__(self) -> str:
        return f"<Witness claims={len(self.claims)} turns={len(self.turns)}>"

    # -- listening to the log

    def tell(self, recorded: Recorded[Any]) -> None:
        """Take in the next event."""
        job, event = recorded.stream.removeprefix(STREAM_PREFIX), recorded.event
        if isinstance(event, JobPlanned):
            self._works[job] = event.work.work_id
        elif isinstance(event, OperationStarted):
            self._begun(job, event)
        elif isinstance(event, OperationCompleted) and event.op_id in self._latest:
            _end(self._latest[event.op_id], event)
        elif isinstance(event, JobStateChanged) and event.state in HOME:
            self._home.add(job)
        elif isinstance(event, FallbackAttempt):
            self._attempted(job, event)
        elif isinstance(event, IdempotencyReplay) and event.op_id in self._latest:
            for turn in [turn for (of, _), turn in self._now.items() if of == job]:
                turn.claims.append(self._latest[event.op_id])

    def _begun(self, job: str, event: OperationStarted) -> None:
        source = str(event.about.get("source", ""))
        if event.kind == "FALLBACK":
            self._now[job, source] = turn = Turn(self._works[job], job, source)
            self.turns.append(turn)
        elif event.kind == "FINALIZE" and job in self._streamed:
            before = self._streamed[job]
            self._claim(Claim(event.op_id, event.kind, before.url, job, before.turn))
        elif event.kind in ASKING and (job, source) in self._now:
            url = str(event.about["url"])
            claim = self._claim(Claim(event.op_id, event.kind, url, job, self._now[job, source]))
            if event.kind == "STREAM":
                self._streamed[job] = claim

    def _claim(self, claim: Claim) -> Claim:
        self._latest[claim.op_id] = claim  # one that is begun again keeps its name
        self.claims.append(claim)
        self._of_job[claim.job].append(claim)
        claim.turn.claims.append(claim)
        return claim

    def _attempted(self, job: str, event: FallbackAttempt) -> None:
        turn = self._now.pop((job, event.source), None) if event.attempt else None
        if turn is None:
            turn = Turn(event.work_id, job, event.source)
            self.turns.append(turn)
        turn.attempt = event

    # -- judging

    def seen(self, url: str) -> Seen:
        """What was done at a URL and wherever it led."""
        found, ahead = Seen(), [url_key(url)]
        known: set[str] = set()
        while ahead and len(known) < HOPS_MAX:
            key = ahead.pop()
            if key in known:
                continue
            known.add(key)
            entries = self._asked.get(key, [])
            found.entries += entries
            ahead += [url_key(entry.leads_to) for entry in entries if entry.leads_to]
        return found

    def untrue(self) -> list[Untrue]:
        """Every word of the log that does not follow from what the server did."""
        judged = [self._judged(claim) for claim in self.claims if claim.code]
        turns = [self._judged_turn(turn) for turn in self.turns if turn.attempt is not None]
        return [one for one in (*judged, *turns) if one is not None]

    def _judged(self, claim: Claim) -> Untrue | None:
        seen = self.seen(claim.url)
        said = f"{claim.kind} {claim.code} {claim.reason}".strip()
        wrong = ""
        if claim.status and claim.status not in seen.statuses:
            wrong = f"{said} with status {claim.status}"
        elif claim.host and claim.host not in seen.hosts:
            wrong = f"{said} from host {claim.host}"
        elif claim.code != "OK" and not self._is_true(claim, seen):
            wrong = said
        elif claim.kind == "FINALIZE" and claim.code == "OK" and not self._world.is_good(claim.url):
            wrong = f"{said}, which is no sound file"
        return Untrue(claim.turn.work, claim.url, wrong, seen.told()) if wrong else None

    def _is_true(self, claim: Claim, seen: Seen) -> bool:
        reason, turn = claim.reason, claim.turn
        if reason in seen.reasons():
            return True
        if reason == "address_refused":
            return any(is_private(url) for url in (claim.url, *(e.leads_to for e in seen.entries)))
        if reason == "breaker_open":
            return any(self._may_rest(host) for host in seen.hosts | {host_of(claim.url)})
        if reason == "deadline":
            return self._ran_out(turn)
        if reason == "walled_host":
            return bool(self._walls[host_of(claim.url)])
        if reason == "asked_already":
            return bool(seen.entries)
        if reason in ("beaten", "cancelled", "stopped"):
            return any(one is not claim and one.code == "OK" for one in self._of_job[claim.job])
        if reason == "bad_url":
            return urlsplit(claim.url).scheme not in ("http", "https")
        return reason.startswith("robots_") and self._is_forbidden(seen, reason)

    def _may_rest(self, host: str) -> bool:
        """Whether a host failed often enough for its breaker."""
        return self._failures[host] >= self._settings.web.breaker.failures_to_open

    def _ran_out(self, turn: Turn) -> bool:
        """Whether the time of a turn is really over, or something in it was slow."""
        spent_ms = turn.attempt.elapsed_ms if turn.attempt else 0
        policy = dict(self._settings.fallback.policies.items()).get(turn.source)
        allowed_ms = policy.timeout_ms if policy and policy.timeout_ms else 0
        slow = any(self.seen(claim.url).deeds & SLOW_DEEDS for claim in turn.claims)
        return slow or (allowed_ms > 0 and spent_ms >= PATIENCE * allowed_ms)

    def _is_forbidden(self, seen: Seen, reason: str) -> bool:
        rules = [self._world.catalogue.robots.get(host, "") for host in seen.hosts]
        if reason == "robots_unreachable":
            return "error" in rules
        return any("disallow: /" in text.lower() for text in rules)

    def _judged_turn(self, turn: Turn) -> Untrue | None:
        event = turn.attempt
        if event is None or event.outcome == "success":
            return None
        if any(claim.reason == event.reason for claim in turn.claims):
            return self._placed(turn, event)
        if self._follows(turn, event):
            return None
        said = f"turn of {event.source} {event.outcome} {event.reason}"
        return Untrue(turn.work, event.url, said, self.seen(event.url).told() if event.url else "-")

    def _placed(self, turn: Turn, event: FallbackAttempt) -> Untrue | None:
        """Host and status of a turn's end are those of something that it asked."""
        seen = [self.seen(claim.url) for claim in turn.claims]
        sent = {(entry.host, entry.status) for one in seen for entry in one.entries}
        hosts = {host for one in seen for host in one.hosts} | {host_of(claim.url) for claim in turn.claims}
        true = (event.host, event.status) in sent if event.status else not event.host or event.host in hosts
        if true:
            return None
        said = f"turn of {event.source} {event.reason} from {event.host} with status {event.status}"
        return Untrue(turn.work, event.url, said, f"from {sorted(hosts)}: {sorted(sent)}")

    def _follows(self, turn: Turn, event: FallbackAttempt) -> bool:
        """Whether the end of a turn follows from what its service knows, or from what was done elsewhere."""
        reason = event.reason
        if event.outcome == "skipped" and reason in GATES:
            return any(self._may_rest(host) for host in self._failures)
        if event.outcome == "skipped" and reason.startswith("no_"):
            return not turn.claims
        if reason == "deadline":
            return self._ran_out(turn)
        if reason in ("beaten", "stopped", "cancelled", "asked_already"):
            others = any(claim.turn is not turn for claim in self._of_job[turn.job])
            return others or turn.job in self._home
        if reason == f"http_{event.status}":
            return (event.host, event.status) in self._sent
        if event.source == PAGE_READER and any(one.reason == reason for one in self._of_job[turn.job]):
            return not event.status or (event.host, event.status) in self._sent  # a page that others met
        return service_says(self._world, event.source, reason, turn.work)

    def walls_again(self) -> list[str]:
        """Walls that were asked more often than once by a work, in words."""
        jobs: dict[str, set[str]] = defaultdict(set)
        for claim in self.claims:
            if claim.kind == "HEAD":
                jobs[counted_as(claim.url)].add(claim.job)
        again = []
        for name, works in jobs.items():
            entries = self._asked.get(url_key(name), [])
            walls = [one for one in entries if one.did in WALL_DEEDS and counted_as(one.url) == name]
            if len(walls) > len(works):
                again.append(f"{walls[0].did} ({walls[0].status}) at {walls[0].url} was asked "
                             f"{len(walls)} times for {len(works)} works")  # fmt: skip
        return again

    def walls_named(self) -> tuple[int, int]:
        """Claims about walls that call them by their name, and all claims about walls."""
        named = told = 0
        for claim in self.claims:
            names = {NAMED[deed] for deed in self.seen(claim.url).deeds if deed in NAMED}
            if claim.kind == "HEAD" and names and claim.code in ("RETRYABLE", "NON_RETRYABLE"):
                told += 1
                named += claim.reason in names
        return named, told


def _end(claim: Claim, event: OperationCompleted) -> None:
    claim.code = event.code
    claim.reason = str(event.result.get("reason", ""))
    claim.status = int(event.result.get("status", 0))
    claim.host = str(event.result.get("host", ""))


def is_private(url: str) -> bool:
    """Whether a URL of the simulated web names a place that must never be asked."""
    host = host_of(url)
    bare = host.strip("[]")
    numeric = bool(bare) and all(character in "0123456789abcdefx.:" for character in bare)
    return host == "localhost" or ":" in bare or (numeric and bare[0].isdigit())


def service_says(world: World, source: str, reason: str, work: str) -> bool:
    """Whether what a source says of a work is what its service knows."""
    catalogue, doi = world.catalogue, work.removeprefix("doi:")
    record = catalogue.unpaywall.get(doi)
    locations: Iterable[Any] = (record or {}).get("oa_locations") or ()
    if source == "unpaywall_pdf":
        truths = {
            "not_known": record is None,
            "no_oa_location": record is not None and not locations,
            "no_pdf_location": bool(locations) and not any(one.get("url_for_pdf") for one in locations),
        }
        return truths.get(reason, False)
    if source == "pmc_pdf":
        return reason in ("not_in_pmc", "not_known", "no_pdf_in_pmc") and not catalogue.bucket
    if source == "europe_pmc_pdf":
        entry = catalogue.by_doi.get(doi)
        return reason in ("not_known", "no_pdf_location", "no_oa_location") and not (
            entry and entry.render_urls
        )
    if source == "wayback_pdf":
        return reason in ("no_capture", "no_url") and not catalogue.captures
    if source == "landing_scrape_pdf":
        return reason in ("no_pdf_link", "no_url", "soft_404", "not_html", "no_candidate")
    return False
