"""An open answer that is a PDF, or the rest of one: read to its end within every bound, hashed on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from ...config.settings import Download as DownloadSettings
from ...errors import InvariantError
from ...events.facts import AttemptOutcome
from ..runtime.ports import NANOSECONDS, Clock
from .call import Arrival, Call
from .encoding import Body, InflateError
from .exchange import Digest, Saved, WebError
from .ranges import Span
from .redaction import redact_url

Write = Callable[[bytes], Awaitable[None]]


class OpenDownload:
    """An open answer whose first bytes are a PDF's, or which goes on with one; see ``exchange.Download``."""

    def __init__(
        self,
        call: Call,
        arrival: Arrival,
        body: Body,
        *,
        head: bytes,
        rest: AsyncIterator[bytes],
        span: Span | None,
        settings: DownloadSettings,
        clock: Clock,
    ) -> None:
        """``head`` was read already, ``rest`` gives what follows; ``span`` is what a 206 holds."""
        self.url = arrival.url
        self.status = arrival.status
        self.headers = dict(arrival.response.headers.items())
        self.resumed_at = span.start if span else 0
        self.length = span.total if span else arrival.length if body.is_plain else None
        self.retry_count = call.retry_count
        self.hops = arrival.hops
        self._call = call
        self._body = body
        self._head = head
        self._rest = rest
        self._span = span
        self._settings = settings
        self._clock = clock
        self._received = 0  # of this answer, without the bytes held before

    def __repr__(self) -> str:
        return f"<OpenDownload {redact_url(self.url)} has={self._size} of {self.length}>"

    @property
    def _size(self) -> int:
        return self.resumed_at + self._received

    async def save(self, write: Write, *, sha: Digest | None = None) -> Saved:
        """Read to the end; see ``exchange.Download.save``."""
        started_ns = self._clock.boot_ns()
        try:
            digest = await self._written(write, self._digest(sha), started_ns)
        except (httpx.TransportError, InflateError) as error:
            raise self._call.failed(error, self.url, status=self.status) from error
        finally:
            # Also when the task is cancelled: the socket closes now, not when the server is done.
            await self.close()
        self._check_size()
        elapsed_ms = (self._clock.boot_ns() - started_ns) // 1_000_000
        return Saved(sha256=digest, bytes=self._size, elapsed_ms=elapsed_ms)

    async def close(self) -> None:
        """Let the connection go; harmless after ``save``."""
        await self._body.close()

    def _digest(self, held: Digest | None) -> Digest:
        if not self.resumed_at:
            return hashlib.sha256()  # whatever was held before is replaced, and so is its hash
        if held is None:
            raise InvariantError("a resumed download needs the hash of the bytes held: save(write, sha=…)")
        return held

    async def _written(self, write: Write, sha: Digest, started_ns: int) -> str:
        pending = bytearray()
        piece: bytes | None = self._head
        self._check_bounds(self.length or 0, started_ns)
        while piece is not None:
            self._received += len(piece)
            self._check_bounds(self._size, started_ns)
            if not pending and len(piece) >= self._settings.chunk_bytes:
                await _flush(piece, sha, write)  # large enough as it is: no copy
            else:
                pending += piece
            if len(pending) >= self._settings.chunk_bytes:
                await _flush(_taken(pending), sha, write)
            piece = await self._next()
        if pending:
            await _flush(_taken(pending), sha, write)
        return sha.hexdigest()

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._settings.stall_s):
                return await anext(self._rest, None)
        except (TimeoutError, httpx.ReadTimeout) as error:
            raise self._error("retryable", "stalled", f"{self._settings.stall_s} s of silence") from error

    def _check_bounds(self, size: int, started_ns: int) -> None:
        """Refuse, while it comes, what is too large, too slow, or more than a 206 said."""
        if size > self._settings.bytes_max:
            raise self._error("nonretryable", "too_large", f"{size} bytes and more")
        if self._span is not None and size > self._span.total:
            raise self._error("retryable", "bad_range", f"more than the {self._span.total} bytes of the file")
        elapsed_s = (self._clock.boot_ns() - started_ns) / NANOSECONDS
        if elapsed_s > self._settings.stall_s + self._received / self._settings.bytes_per_s_min:
            raise self._error("timeout", "deadline", f"{self._received} bytes in {elapsed_s:.0f} s")

    def _check_size(self) -> None:
        if self._size < self._settings.bytes_min:
            raise self._error("no_pdf", "too_small", f"{self._size} bytes")
        if self.length is not None and self._size < self.length:
            raise self._error("retryable", "short_body", f"{self._size} of {self.length} bytes")

    def _error(self, outcome: AttemptOutcome, reason: str, detail: str) -> WebError:
        return self._call.error(outcome, reason, self.url, status=self.status, detail=detail)


def _taken(pending: bytearray) -> bytes:
    chunk = bytes(pending)
    pending.clear()
    return chunk


async def _flush(chunk: bytes, sha: Digest, write: Write) -> None:
    sha.update(chunk)
    await write(chunk)
