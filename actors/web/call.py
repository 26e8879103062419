"""One try of a request: what it may still cost, where it arrived, and what each of its failures is called."""

from __future__ import annotations

import math

import httpx
import msgspec

from ...events.facts import AttemptOutcome
from ..runtime.ports import NANOSECONDS, Clock
from .cache import Visit
from .cookies import Cookies, http_date_s
from .encoding import InflateError
from .exchange import REDIRECTS, Answer, Request, WebError
from .guard import Place
from .redaction import redact_text, redact_url
from .transport import AddressRefused, CertificateRefused, NameNotFound, ShortBody, TlsFailed

DETAIL_CHARS_MAX = 300
"""As much of a foreign message is kept."""
_FAILURES: tuple[tuple[type[Exception], AttemptOutcome, str], ...] = (
    (AddressRefused, "nonretryable", "address_refused"),
    (NameNotFound, "retryable", "name_not_found"),
    (CertificateRefused, "nonretryable", "tls_failed"),
    (TlsFailed, "retryable", "tls_failed"),
    (httpx.ConnectError, "retryable", "connect_failed"),
    (httpx.ConnectTimeout, "retryable", "connect_failed"),
    (httpx.ProxyError, "retryable", "connect_failed"),
    (httpx.ReadTimeout, "retryable", "read_timeout"),
    (ShortBody, "retryable", "short_body"),
    (httpx.ReadError, "retryable", "reset"),
    (httpx.TransportError, "retryable", "bad_answer"),
)
"""What a break of the wire means, from the special to the general."""


class Call:
    """One try of a request, inside the deadline of all its tries.

    ``deadline_ns`` is a time of the boot clock; ``retry_count`` the number of tries before this one.
    """

    __slots__ = ("_clock", "_deadline_ns", "request", "retry_count")

    def __init__(self, request: Request, *, deadline_ns: int, retry_count: int, clock: Clock) -> None:
        self.request = request
        self.retry_count = retry_count
        self._deadline_ns = deadline_ns
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Call {redact_url(self.request.url)} retry={self.retry_count} left_s={self.left_s():.3f}>"

    def left_s(self) -> float:
        """Seconds until the deadline; never below 0."""
        return max(0.0, (self._deadline_ns - self._clock.boot_ns()) / NANOSECONDS)

    def error(
        self,
        outcome: AttemptOutcome,
        reason: str,
        url: str,
        *,
        status: int = 0,
        retry_after_s: float = 0.0,
        detail: object = "",
        page: Answer | None = None,
    ) -> WebError:
        """An error of this try that holds nothing which must not reach a log."""
        return WebError(
            outcome,
            reason,
            url=redact_url(url),
            status=status,
            retry_count=self.retry_count,
            retry_after_s=retry_after_s,
            detail=redact_text(str(detail))[:DETAIL_CHARS_MAX],
            page=page,
        )

    def failed(self, error: httpx.TransportError | InflateError, url: str, *, status: int = 0) -> WebError:
        """The error for a break of the wire, or for a body that cannot be inflated."""
        if isinstance(error, InflateError):
            outcome: AttemptOutcome = "retryable" if error.reason == "short_body" else "nonretryable"
            return self.error(outcome, error.reason, url, status=status, detail=error)
        for kind, outcome, reason in _FAILURES:
            if isinstance(error, kind):
                return self.error(outcome, reason, url, status=status, detail=error)
        return self.error("retryable", "bad_answer", url, status=status, detail=error)

    def late(self, url: str, *, status: int = 0) -> WebError:
        """The error of a deadline that passed."""
        return self.error("timeout", "deadline", url, status=status)


class Arrival(msgspec.Struct, frozen=True):
    """The final answer of a chain of redirects, its body unread."""

    place: Place
    response: httpx.Response
    hops: tuple[str, ...]
    """The URLs passed through before it."""
    cookies: Cookies
    lost: bool
    """The way led from a page to the bare home page: what was asked for is not there."""
    visits: tuple[Visit, ...] = ()
    """Each hop's dealings with the cache, the last one this answer's."""

    @property
    def url(self) -> str:
        """The final URL."""
        return self.place.url

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status_code

    def answer(self, call: Call, body: bytes, *, truncated: bool = False) -> Answer:
        """The whole answer, with as much of its body as was let in."""
        return Answer(
            url=self.url,
            status=self.status,
            headers=dict(self.response.headers.items()),
            body=body,
            truncated=truncated,
            hops=self.hops,
            retry_count=call.retry_count,
            cookies=self.cookies.taken(),
            from_cache=bool(self.visits) and all(visit.is_hit for visit in self.visits),
        )

    @property
    def is_stored(self) -> bool:
        """Whether the body comes from the cache, not off the wire."""
        return bool(self.visits) and self.visits[-1].is_stored

    @property
    def length(self) -> int | None:
        """Content-Length, where it is one and the body is framed by it."""
        headers = self.response.headers
        text = headers.get("content-length", "")
        known = text.isascii() and text.isdigit() and len(text) < 19
        return int(text) if known and "transfer-encoding" not in headers else None


def location(response: httpx.Response) -> bytes | None:
    """Where a redirect leads, as the bytes that came; None when the answer is no redirect with a way on."""
    if response.status_code not in REDIRECTS:
        return None
    return next((value for name, value in response.headers.raw if name.lower() == b"location"), None)


def retry_after_s(text: str, *, date: str = "", wall_ns: int, max_s: float) -> float:
    """Seconds that a ``Retry-After`` asks for, given as seconds or as a date; 0 when it asks for nothing.

    A date is held against the answer's own ``Date`` (RFC 9110, 6.6.1) where there is one: both are of the
    server's clock, and ours may be off by an hour.
    """
    if not text:
        return 0.0
    try:
        wait_s = float(text)
    except ValueError:
        date_s = http_date_s(text)
        said_s = http_date_s(date)
        wait_s = 0.0 if date_s is None else date_s - (wall_ns / NANOSECONDS if said_s is None else said_s)
    return min(wait_s, max_s) if math.isfinite(wait_s) and wait_s > 0 else 0.0
