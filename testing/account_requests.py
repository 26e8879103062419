"""The bound on requests: what the server was asked, held against what the log explains.

SPEC 4 promises each request at most once and once more for each crash that hit it in flight. What else lets
a URL be asked again is named in ``Download`` and ``Question``, one allowance a field; what is beyond is a
problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from ..actors.job_in_hand import OWNER_GONE
from ..config.loader import load
from .account_story import PAGE_READER, Story
from .web import FATES, Entry, Ledger, World
from .web.exchange import counted_as
from .web.parts import PARTS

FAULTY_ONCE = frozenset({*(fate for fate in FATES if fate.endswith("_once")), *PARTS})
"""Fates of sound PDFs for which an honest client asks more than once."""
HOPS_MAX = 16
"""Redirects that are followed from a URL."""
NAME_CHARS_MIN = 6
"""A shorter identifier names nothing in a URL."""


class Download(msgspec.Struct):
    """A PDF that was streamed whole, as the log and the server know it."""

    url: str
    asked: int = 0
    """Requests that arrived at the server."""
    arrived: int = 0
    """The same, with those that a simulated wire spoiled."""
    jobs: int = 0
    """Ops (one for each job and generation) that opened it, or a URL that led to it."""
    started: int = 0
    """Times that those were begun; nothing is asked that was not begun before."""
    hit: int = 0
    """Of them and of the streams from it: those in flight when their worker died."""
    again: int = 0
    """Those that ended without a result otherwise: cancelled as beaten, broken, or to be asked once more with
    the cookies of a page."""
    looks: int = 0
    """Turns of the page reader that ended without a result and without opening it as a candidate: each may
    have met it where it expected a page. Counted once for each job and turn."""
    busy: int = 0
    """Times that its bytes were streamed whole and lost: locked by an owner that was overtaken, or thrown
    away by a proof that died before it was written down."""

    @property
    def allowed(self) -> int:
        """What the promise allows: one each, and one more for each time that it was cut off."""
        return min(self.started, self.jobs + self.hit + self.again + self.busy) + self.looks


class Question(msgspec.Struct):
    """Any other URL: of a service, a page, or of a PDF that is none."""

    url: str
    asked: int = 0
    turns: int = 0
    """Turns, of each take-up, that may have asked it: of the source whose service it is; candidates opened at
    it or at what led to it; and the page reader's turns, once for each address that leads to it, since a turn
    begins at every address that the work has met."""
    tries: int = 1
    """What one turn may ask: once; of a PDF that is broken, or what led to a host whose robots.txt cannot be
    had, once more for each retry of the policies."""
    failed: int = 0
    """Requests that got no whole sound answer: a client may ask again."""

    @property
    def allowed(self) -> int:
        """The tries of each turn that may have asked, and one for each answer that failed."""
        return self.turns * self.tries + self.failed


class Requests:
    """The requests of a library's life, grouped by what explains them."""

    def __init__(self, story: Story, world: World, ledger: Ledger) -> None:
        self._story, self._world, self._ledger = story, world, ledger
        self._leads: dict[str, set[str]] = defaultdict(set)
        self._entries: dict[str, list[Entry]] = defaultdict(list)
        for entry in ledger:
            self._entries[counted_as(entry.url)].append(entry)
            if entry.leads_to:
                self._leads[counted_as(entry.url)].add(counted_as(entry.leads_to))
        self._led_from: dict[str, set[str]] = defaultdict(set)
        for url, targets in self._leads.items():
            for target in targets:
                self._led_from[target].add(url)
        self._names = self._named()
        self.downloads = self._downloads()
        self.questions = self._questions()

    def __repr__(self) -> str:
        return f"<Requests downloads={len(self.downloads)} questions={len(self.questions)}>"

    def problems(self) -> list[str]:
        """What was asked and is not explained, or explained and was not asked."""
        unasked = [one.url for one in self.downloads if one.arrived < 1]
        every: list[Download | Question] = [*self.downloads, *self.questions]
        return [
            *(f"{url} was streamed whole and never asked for" for url in unasked),
            *(
                f"{one.url} was asked for {one.asked} times, {one.allowed} are explained"
                for one in every
                if one.asked > one.allowed
            ),
        ]

    def reached(self, url: str) -> set[str]:
        """A URL and all that it led to."""
        found, ahead = set[str](), [counted_as(url)]
        while ahead and len(found) < HOPS_MAX:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += self._leads.get(name, ())
        return found

    def _is_sound(self, url: str) -> bool:
        return self._world.is_good(url) and self._world.fate(url) not in FAULTY_ONCE

    # -- downloads

    def _downloads(self) -> list[Download]:
        """The sound PDFs that were streamed whole, with the requests for them and their explanations."""
        story = self._story
        found: dict[str, Download] = {}
        jobs: dict[str, set[str]] = defaultdict(set)
        whole: set[str] = set()
        for op_id, start in story.ops.items():
            if start.kind not in ("HEAD", "STREAM"):
                continue
            for url in self.reached(str(start.about["url"])):
                if not self._is_sound(url):
                    continue
                asked, arrived = self._ledger.asked(url), Ledger.asked(self._ledger, url)
                download = found.setdefault(url, Download(url, asked, arrived))
                jobs[url].add(story.job_of[op_id])
                self._add(download, op_id, start.kind)
                if start.kind == "STREAM" and any(end.code == "OK" for end in story.ends[op_id]):
                    whole.add(url)
        for url in whole:
            found[url].looks = sum(self._looks(job, url) for job in jobs[url])
        return [download for url, download in found.items() if url in whole]

    def _add(self, download: Download, op_id: str, kind: str) -> None:
        story = self._story
        if kind == "HEAD":
            download.jobs += 1
            download.started += story.started[op_id]
            download.again += story.dressed[op_id]
        for end in story.ends[op_id]:
            gone = end.code == "ABANDONED" and end.result.get("reason") == OWNER_GONE
            download.hit += gone
            download.again += not gone and end.code in ("ABANDONED", "RETRYABLE")
            if kind == "STREAM" and end.code == "OK":
                bytes_of = (story.job_of[op_id], str(end.result.get("sha256", "")))
                # A refused part is thrown away before its refusal is durable: a death between asks anew.
                thrown = story.refusing[bytes_of] if bytes_of in story.refused else 0
                download.busy = max(download.busy, story.busy[bytes_of] + thrown)

    def _looks(self, job_id: str, url: str) -> int:
        looks = (look for look in self._story.looks[job_id] if not look.ok)
        return sum(not any(url in self.reached(opened) for opened in look.opened) for look in looks)

    # -- everything else

    def _questions(self) -> list[Question]:
        """Every URL that was asked and is no sound PDF."""
        opened = self._opened()
        found = []
        for name, entries in self._entries.items():
            if self._world.is_good(entries[0].url):
                continue
            failed = sum(_has_failed(entry) for entry in entries)
            asked = self._ledger.asked(entries[0].url)
            tries = 1 + retries_max() if self._is_troubled(name) else 1
            found.append(Question(name, asked, self._turns(name, opened[name]), tries, failed))
        return found

    def _is_troubled(self, url: str) -> bool:
        """Whether a broken PDF, or a host that does not tell its robots.txt, is where a URL leads."""
        for name in self.reached(url):
            robots = self._entries.get(counted_as(urljoin(name, "/robots.txt")), ())
            if self._world.fate(name) is not None or any(entry.status >= 500 for entry in robots):
                return True
        return False

    def _opened(self) -> Counter[str]:
        """URL → times that a candidate was opened at it, or at what led to it."""
        opened: Counter[str] = Counter()
        for op_id, start in self._story.ops.items():
            if start.kind == "HEAD":
                opened.update(
                    dict.fromkeys(self.reached(str(start.about["url"])), self._story.started[op_id])
                )
        return opened

    def _turns(self, url: str, opened: int) -> int:
        parts = urlsplit(url)
        if parts.path == "/robots.txt":
            return self._story.sessions
        sources = services().get(parts.hostname or "", frozenset({PAGE_READER}))
        turns = self._of(url)
        looks = sum(times for (_, source), times in turns.items() if source == PAGE_READER)
        asks = sum(times for (_, source), times in turns.items() if source in sources - {PAGE_READER})
        return opened + asks + looks * len(self._led_to(url))

    def _of(self, url: str) -> Counter[tuple[str, str]]:
        """The turns of the works that a URL, or one that led to it, names; of all where none is named."""
        said = [unquote(name).lower() for name in self._led_to(url)]
        jobs = {job for job, names in self._names.items() if any(n in text for n in names for text in said)}
        turns = self._story.turns
        return Counter({key: times for key, times in turns.items() if key[0] in jobs}) if jobs else turns

    def _led_to(self, url: str) -> set[str]:
        """A URL and all from which a redirect led to it."""
        found, ahead = set[str](), [url]
        while ahead and len(found) < HOPS_MAX:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += self._led_from.get(name, ())
        return found

    def _named(self) -> dict[str, set[str]]:
        """Job → what names it in a URL: its identifiers, and the addresses that it opened or met."""
        names = {
            job: {value.lower() for _, value in row.work.identifiers()}
            for job, row in self._story.rows.items()
        }
        for op_id, start in self._story.ops.items():
            job = self._story.job_of[op_id]
            if start.kind == "HEAD":
                names[job].add(counted_as(str(start.about["url"])).lower())
            for end in self._story.ends[op_id]:
                names[job].update(
                    counted_as(seen).lower() for seen in str(end.result.get("seen", "")).split()
                )
        return {job: {name for name in some if len(name) >= NAME_CHARS_MIN} for job, some in names.items()}


def _has_failed(entry: Entry) -> bool:
    return not entry.completed or entry.left or entry.status == 0 or entry.status >= 400


@cache
def services() -> dict[str, frozenset[str]]:
    """Host → the sources that have an endpoint there, by the settings that quire comes with."""
    found: dict[str, set[str]] = defaultdict(set)
    sources = load([], environ={}).settings.sources
    for source in sources.__struct_fields__:
        for text in _texts(getattr(sources, source)):
            found[urlsplit(text).hostname or ""].add(source)
    return {host: frozenset(names) for host, names in found.items() if host}


@cache
def retries_max() -> int:
    """The most retries of one request that a policy of the settings allows."""
    fallback = load([], environ={}).settings.fallback
    return max(policy.retries_max or 0 for _, policy in fallback.policies.items())


def _texts(settings: object) -> Iterable[str]:
    values = (getattr(settings, name) for name in getattr(settings, "__struct_fields__", ()))
    return (value for value in values if isinstance(value, str) and value.startswith("http"))
