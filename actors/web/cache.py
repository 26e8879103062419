"""The cache of metadata and landing pages: what is answered without asking, and what is kept for later.

The rules of RFC 9111 are in ``cache_rules``, the files in ``cache_store``. Of what the RFC lets it keep, this
cache keeps less:

- **Only what went well**: a record or a page with status 200 that is whole and no wall, and the redirects
  that led to it, all at once when that is known. The RFC would let a 404 be kept as well; but who tries a
  paper again wants to know whether it is there now. So whatever comes of a URL, a 404 too, ends what was
  kept of it; only an outage does not.
- **Nothing personal**: no request with cookies is answered from here, no answer that sets one is kept, nor
  one whose redirect carries a key or whose fields or body hold our contact address; a 304 that brings such a
  thing ends what it confirms. A file is named by a hash of the URL; the URL itself is not written. It is a
  shared cache (what is ``private`` is not kept), as the workers of a library may work for several people.

A request that has nothing in the cache costs one look at the folder, some microseconds; all else runs aside.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from email.utils import formatdate
from hashlib import sha256
from typing import Protocol, TypeVar

import httpx
import msgspec

from ...config.settings import Cache as CacheSettings
from ...errors import InvariantError
from ..runtime.ports import NANOSECONDS, Clock
from .cache_rules import NOT_MODIFIED, OK, Rules, initial_age_s
from .cache_store import CacheStore, Kept
from .encoding import looks_like_html, shows_pdf
from .exchange import REDIRECTS, Answer, Request
from .guard import Place
from .redaction import redact_url
from .walls import Sight, wall_of

T = TypeVar("T")
GONE = frozenset({404, 410})
"""Statuses that end what was kept of a URL, as every success and redirect does."""
_LIFETIMES = frozenset({b"cache-control", b"expires"})
_VALIDATORS = frozenset({b"etag", b"last-modified"})
_DROPPED = frozenset({"content-encoding", "content-length", "set-cookie", "set-cookie2", "age"})
"""Fields that are not kept: bodies are kept decoded, ages are reckoned, cookies are nobody else's."""


class Aside(Protocol):
    """Runs blocking work beside the event loop: ``Scheduler.aside``."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """Await blocking work."""
        ...


class CacheStatistics(msgspec.Struct, frozen=True):
    """What the cache did so far, hop by hop."""

    hits: int
    """Answered without asking."""
    confirmed: int
    """Asked again, and confirmed by a 304."""
    stored: int


class HttpCache:
    """Makes a ``Visit`` of each hop, and keeps the hops of a chain that ended well.

    Args:
        settings: its bounds.
        store: where answers are kept; None for a cache that keeps nothing.
        headers: the fields that a request is sent with; those that an answer varies by are compared.
        clock: the clock port.
        aside: runs what reads and writes files.
        contact: our e-mail address, which must not reach the disk; ``""`` for none.
        disconnected: nothing can be asked, so that stale answers count as well.
    """

    def __init__(
        self,
        settings: CacheSettings,
        store: CacheStore | None,
        *,
        headers: Callable[[Request, Place], dict[str, str]],
        clock: Clock,
        aside: Aside,
        contact: str,
        disconnected: bool,
    ) -> None:
        self.store = store if settings.enabled else None
        self.rules = Rules(settings.ttl_max_s, disconnected)
        self.headers = headers
        self.clock = clock
        self.aside = aside
        self._contact = _spellings(contact)
        self.hits = self.confirmed = self.stored = 0

    def __repr__(self) -> str:
        return f"<HttpCache {self.store!r} hits={self.hits} confirmed={self.confirmed} stored={self.stored}>"

    def statistics(self) -> CacheStatistics:
        """The counts as they are now."""
        return CacheStatistics(self.hits, self.confirmed, self.stored)

    def visit(self, request: Request, asked: Place, cookies: str) -> Visit:
        """One hop of a request; ``cookies`` is the Cookie field that it would be sent with."""
        barred = request.role == "artifact" or not request.cached or request.range_start or cookies
        return Visit(self, request, asked, store=None if barred else self.store)

    async def keep(self, visits: Iterable[Visit], answer: Answer) -> None:
        """Keep the hops of a chain, if what they led to is a good answer, and whole."""
        news = [visit.news for visit in visits if visit.news is not None]
        if news and answer.status == OK and answer.body and not answer.truncated:
            self.stored += await self.aside(lambda: self._kept(news, answer))

    def _kept(self, news: list[tuple[Request, Kept]], answer: Answer) -> int:
        if not _is_good(answer, is_data=news[-1][0].role == "metadata") or self.store is None:
            return 0
        stored = 0
        for _, fresh in news:
            whole = msgspec.structs.replace(fresh, body=answer.body if fresh.status == OK else b"")
            kept = self.keepable(whole)
            stored += kept is not None and self.store.put(kept)
        return stored

    def keepable(self, kept: Kept) -> Kept | None:
        """As much of an answer as may be kept, be it new or confirmed; None for nothing. Runs aside."""
        return None if self._is_personal(kept) else self.rules.storable(kept)

    def _is_personal(self, kept: Kept) -> bool:
        """Whether an answer holds what must not reach the disk."""
        places = [v for name, v in kept.headers if name in ("location", "content-location", "refresh")]
        if any(redact_url(place) != place.partition("#")[0] for place in places):
            return True
        texts = [value.encode("latin-1") for _, value in kept.headers] + [kept.body]
        return self._contact is not None and any(map(self._contact.search, texts))


class Visit:
    """One hop's way past the cache: looked up, perhaps confirmed by a 304, perhaps news to be kept."""

    __slots__ = (
        "_asked",
        "_asked_ns",
        "_cache",
        "_found",
        "_held",
        "_names",
        "_refuted",
        "_request",
        "_store",
        "conditions",
        "is_hit",
        "news",
    )

    def __init__(self, cache: HttpCache, request: Request, asked: Place, *, store: CacheStore | None) -> None:
        self._cache = cache
        self._request = request
        self._asked = asked
        self._store = store
        self._names = _names(asked.url, request.accept) if store is not None else ()
        self._held: tuple[str, ...] = ()
        """Names under which something was kept when we looked, be it of use or not."""
        self._found: Kept | None = None
        self._refuted = False
        """A 304 confirmed another answer than ours: the next request goes without conditions."""
        self._asked_ns = 0
        self.conditions: dict[str, str] = {}
        """Fields to send the request with, so that what is kept may be confirmed."""
        self.is_hit = False
        """It was answered without asking."""
        self.news: tuple[Request, Kept] | None = None
        """What came and may be kept, once it is known what it led to."""

    def __repr__(self) -> str:
        return f"<Visit {self._names[-1][:8] if self._names else 'barred'}{' hit' if self.is_hit else ''}>"

    @property
    def is_stored(self) -> bool:
        """Whether the answer is the kept one, confirmed or not asked for."""
        return self._found is not None

    async def answers(self) -> bool:
        """Whether the hop is answered without asking; then ``response`` gives what is kept."""
        store = self._store
        if store is None:
            return False
        if not self._refuted:
            self._held = tuple(filter(store.has, self._names))
        if self._held and not self._refuted:
            await self._cache.aside(lambda: self._look(store, self._held[0]))
            self._cache.hits += self.is_hit
        self._asked_ns = self._cache.clock.wall_ns()
        return self.is_hit

    def response(self) -> httpx.Response:
        """The kept answer, as if it had come just now."""
        if self._found is None:
            raise InvariantError(f"{self!r} was asked for an answer that it does not have")
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._found.headers]
        stream = httpx.ByteStream(self._found.body)
        return httpx.Response(self._found.status, headers=fields, stream=stream)

    async def judged(self, response: httpx.Response) -> httpx.Response | None:
        """What an answer comes to: itself, or the kept one that it confirms; None to ask once more.

        Then the kept one is gone, and there are no more ``conditions``.
        """
        store, found = self._store, self._found
        if store is None:
            return response
        self._found, self.conditions = None, {}
        if found is not None and response.status_code == NOT_MODIFIED:
            await response.aclose()
            fresh = self._record(response)
            may_be_kept = _may_be_shared(response)
            self._found = await self._cache.aside(
                lambda: self._confirm(store, found, fresh, may_be_kept=may_be_kept)
            )
            self._refuted = self._found is None
            return None if self._refuted else self.response()
        if self._held and (response.status_code < 400 or response.status_code in GONE):
            # All of it, also what could not be confirmed: stale answers count as well while offline.
            await self._cache.aside(lambda: self._end(store))
        if _may_be_kept(response):
            self.news = (self._request, self._record(response))
        return response

    # -- aside ----------------------------------------------------------------------------------------

    def _look(self, store: CacheStore, name: str) -> None:
        kept = store.get(name)
        sent = self._sent()
        if kept is None or any(_hash(sent.get(name, "")) != value for name, value in kept.vary.items()):
            return
        now_ns = self._cache.clock.wall_ns()
        conditions = self._cache.rules.conditions(kept, sent, now_ns=now_ns)
        self.is_hit = conditions is None
        if conditions is None or conditions:
            self._found, self.conditions = kept, conditions or {}

    def _confirm(self, store: CacheStore, found: Kept, fresh: Kept, *, may_be_kept: bool) -> Kept | None:
        confirmed = self._cache.rules.confirmed(found, fresh)
        kept = self._cache.keepable(confirmed) if confirmed is not None and may_be_kept else None
        if kept is None or kept.name != found.name:
            store.drop(found.name)
        if kept is not None:
            store.put(kept)
        self._cache.confirmed += confirmed is not None
        return confirmed

    def _end(self, store: CacheStore) -> None:
        for name in self._held:
            store.drop(name)

    def _record(self, response: httpx.Response) -> Kept:
        received_ns = self._cache.clock.wall_ns()
        raw = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
        ]
        sent, varies_by = self._sent(), _varies_by(response)
        return Kept(
            name=self._names[0 if "accept" in varies_by else 1],
            status=response.status_code,
            headers=_keepable(raw, received_ns),
            body=b"",
            received_ns=received_ns,
            age_s=initial_age_s(raw, asked_ns=self._asked_ns, received_ns=received_ns),
            vary={name: _hash(sent.get(name, "")) for name in varies_by},
        )

    def _sent(self) -> dict[str, str]:
        sent = self._cache.headers(self._request, self._asked)
        return {name.lower(): value for name, value in sent.items()}


def _names(url: str, accept: str) -> tuple[str, str]:
    """What an answer is called that varies by ``Accept``, of which a URL may have several; and any other."""
    return _hash(f"{url}\n{accept}"), _hash(url)


def _may_be_kept(response: httpx.Response) -> bool:
    """Whether an answer's head leaves a chance: most leave none, and cost nothing more."""
    status = response.status_code
    if status != OK and status not in REDIRECTS:
        return False
    named = {name.lower() for name, _ in response.headers.raw}
    if named.isdisjoint(_LIFETIMES) and (status != OK or named.isdisjoint(_VALIDATORS)):
        return False
    return _may_be_shared(response)


def _may_be_shared(response: httpx.Response) -> bool:
    """Whether an answer, or a 304 about it, is not for one client or one time alone."""
    return (
        "set-cookie" not in response.headers
        and "no-store" not in response.headers.get("cache-control", "").lower()
        and "*" not in _varies_by(response)
    )


def _varies_by(response: httpx.Response) -> list[str]:
    named = response.headers.get_list("vary", split_commas=True)
    return [name.strip().lower() for name in named if name.strip()]


def _keepable(raw: list[tuple[str, str]], received_ns: int) -> tuple[tuple[str, str], ...]:
    """The fields that are kept, with the Date that RFC 9110, 6.6.1, adds where there is none."""
    fields = [(name, value) for name, value in raw if name not in _DROPPED]
    if not any(name == "date" for name, _ in fields):
        fields.append(("date", formatdate(received_ns / NANOSECONDS, usegmt=True)))
    # A validator is sent back as it came, and a field that we send is ASCII.
    return tuple(
        (name, value)
        for name, value in fields
        if name not in ("etag", "last-modified") or (value.isascii() and value.isprintable())
    )


def _is_good(answer: Answer, *, is_data: bool) -> bool:
    """Whether an answer with status 200 is what was asked for: no PDF, no wall, no page instead of data."""
    if shows_pdf(answer.body):
        return False
    return not looks_like_html(answer.body) or (not is_data and wall_of(Sight(answer)) is None)


def _spellings(contact: str) -> re.Pattern[bytes] | None:
    """What finds an address however a page or a URL spells it: escaped for URLs (twice too), JSON or HTML."""
    return re.compile(b"".join(map(_spelled, contact.encode())), re.IGNORECASE) if contact else None


def _spelled(byte: int) -> bytes:
    """One byte of an address; letters and digits are never escaped."""
    plain = re.escape(bytes((byte,)))
    if plain.isalnum():
        return plain
    return b"(?:%b|%%(?:25)?%02x|\\\\u00%02x|&#(?:%d|x%x);)" % (plain, byte, byte, byte, byte)


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
