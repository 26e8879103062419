"""What is asked of the network, and what comes back: plain records, and one error for every refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec

from ...events.facts import AttemptOutcome

Role = Literal["metadata", "landing", "artifact"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses whose ``Location`` is followed."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One GET, with the manners it is asked under."""

    url: str
    role: Role
    source: str = ""
    retries_max: int = 0
    """Further tries after a retryable answer, inside the deadline."""
    deadline_s: float = 10.0
    """Time for everything (queueing, redirects, retries) up to the first useful bytes, in seconds."""
    robots: bool = False
    """Ask robots.txt of each host on the way first."""
    referer: str = ""
    accept: str = "*/*"
    cookies: tuple[tuple[str, str, str], ...] = ()
    """Cookies of the page that named this URL, as (domain, name, value)."""
    range_start: int = 0
    """Bytes of the file that are held already; ``open`` asks for the rest alone."""
    if_range: str = ""
    """The strong validator kept with them (``ranges.strong_validator``); without one, all is asked for."""
    cached: bool = True
    """It may be answered from the HTTP cache, and kept there, where its role allows that."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer of bounded size."""

    url: str
    """The final URL, after redirects."""
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    """Decoded (gzip and the like undone)."""
    truncated: bool = False
    """There was more than the bound lets in."""
    hops: tuple[str, ...] = ()
    """The URLs passed through before ``url``."""
    retry_count: int = 0
    cookies: tuple[tuple[str, str, str], ...] = ()
    from_cache: bool = False
    """No request was sent for it: each hop was answered by the HTTP cache."""

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that was written to its end."""

    sha256: str
    """Of the whole file, bytes held before included."""
    bytes: int
    """Size of the whole file, bytes held before included."""
    elapsed_ms: int


class Digest(Protocol):
    """A hash that can be fed: one of hashlib's."""

    def update(self, data: bytes, /) -> None:
        """Feed it."""
        ...

    def hexdigest(self) -> str:
        """The hash of all that it was fed."""
        ...


class WebError(Exception):
    """The network, or our own manners, did not give what was asked: an outcome with a reason.

    ``reason`` is a short code: ``http_404``, ``connect_failed``, ``read_timeout``, ``deadline``, ``stalled``,
    ``reset``, ``short_body``, ``too_large``, ``too_small``, ``inflates_too_far``, ``redirect_loop``,
    ``too_many_redirects``, ``bad_redirect``, ``address_refused``, ``name_not_found``, ``tls_failed``,
    ``robots_disallowed``, ``robots_unreachable``, ``breaker_open``, ``rate_wait``, ``offline``,
    ``not_a_pdf``, ``html_instead`` (a page where a PDF should be), ``empty_body``, ``soft_404`` (sent on to
    the home page), ``bad_url``, ``bad_answer`` (no HTTP), ``bad_encoding`` (a compressed body that is
    damaged), ``bad_range`` (a 206 that is no honest continuation) and the wall reasons of the landing-page
    reader.
    """

    def __init__(
        self,
        outcome: AttemptOutcome,
        reason: str,
        *,
        url: str,
        status: int = 0,
        retry_count: int = 0,
        retry_after_s: float = 0.0,
        detail: str = "",
        page: Answer | None = None,
    ) -> None:
        super().__init__(f"{reason} at {url}" + (f": {detail}" if detail else ""))
        self.outcome: AttemptOutcome = outcome
        self.reason = reason
        self.url = url
        self.status = status
        self.retry_count = retry_count
        self.retry_after_s = retry_after_s
        self.detail = detail
        self.page = page
        """The page that came where a PDF was asked for, where it is one worth reading."""


class Download(Protocol):
    """An open answer whose first bytes are a PDF's, or that goes on with one; it must be saved or closed."""

    url: str
    """The final URL."""
    status: int
    headers: dict[str, str]
    length: int | None
    """Size of the whole file as it will be when written, bytes held before included; None when not known."""
    resumed_at: int
    """Bytes held before that this goes on from; 0 when the server sends the whole: then start anew."""
    retry_count: int
    hops: tuple[str, ...]

    async def save(self, write: Callable[[bytes], Awaitable[None]], *, sha: Digest | None = None) -> Saved:
        """Read to the end, giving each chunk to ``write`` in order; hash on the way.

        Args:
            write: takes the bytes from ``resumed_at`` on.
            sha: a SHA-256 fed with the bytes held. It is used, and needed, exactly when ``resumed_at`` is
                not 0; a file that starts anew is hashed anew, whatever was held.

        Raises:
            WebError: the stream stalled, broke, was too large or too small, or ended short of its length.
        """
        ...

    async def close(self) -> None:
        """Let the connection go; harmless after ``save``."""
        ...


class Web(Protocol):
    """The one way to the network; its coroutines run on the scheduler's event loop."""

    async def fetch(self, request: Request) -> Answer:
        """A whole answer (metadata, a page, or a small file); any final status comes back as an answer.

        Raises:
            WebError: no answer could be had, or our manners forbid the question.
        """
        ...

    async def open(self, request: Request) -> Download:
        """Open what should be a PDF: one GET, sniffed; or go on with one (``range_start``, ``if_range``).

        Raises:
            WebError: no PDF (``no_pdf``; HTML comes along as ``page``), an error status, or no answer;
                ``bad_range`` (``retryable``) when the rest cannot be had honestly: start anew without it.
        """
        ...

    def gate(self, url: str, role: Role) -> Gate | None:
        """Whether a request would be held back now: breaker open, a long rate wait, or offline."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Gate(msgspec.Struct, frozen=True):
    """A source is held back for now; being held back is not exhaustion."""

    reason: Literal["breaker_open", "rate_wait", "offline"]
    wait_s: float
    """Seconds until it may open; 0 where time alone does not open it."""
