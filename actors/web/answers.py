"""Answers: a whole one of bounded size, a download when its first bytes are a PDF's, or the true reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx

from ..runtime.ports import Clock
from .cache import HttpCache
from .call import Arrival, Call
from .client_settings import ClientSettings
from .download import OpenDownload
from .encoding import SNIFF_BYTES, Body, InflateError, looks_like_html, looks_like_text, shows_pdf
from .exchange import REDIRECTS, Answer, WebError
from .ranges import BadRange, Span, is_resuming, span_of
from .sending import Sender, Traffic

PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416


class AnswerReader:
    """Makes of an arrival what the caller asked for; whatever it does not hand on, it closes."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        sender: Sender,
        cache: HttpCache,
        traffic: Traffic,
        clock: Clock,
    ) -> None:
        self._settings = settings.web
        self._cache = cache
        self._thresholds = settings.thresholds
        self._download = settings.download
        self._sender = sender
        self._traffic = traffic
        self._clock = clock

    def __repr__(self) -> str:
        return f"<AnswerReader received={self._traffic.bytes}>"

    async def fetched(self, call: Call, arrival: Arrival, bytes_max: int) -> Answer:
        """A whole answer of any final status.

        Raises:
            WebError: the body broke, a retryable status, or the way led to the home page.
        """
        answer = await self._whole(call, arrival, bytes_max)
        if self._is_retryable(answer.status):
            raise self._status_error(call, answer, page=answer)
        if arrival.lost and call.request.role == "landing":
            raise call.error("no_pdf", "soft_404", answer.url, status=answer.status, page=answer)
        return answer

    async def opened(self, call: Call, arrival: Arrival) -> OpenDownload:
        """A download when the first bytes are a PDF's, or when they honestly go on with the bytes held.

        Raises:
            WebError: they are not; with the page that came, where it is one worth reading.
        """
        if not 200 <= arrival.status < 300:
            raise await self._refused(call, arrival)
        span = self._span(call, arrival)
        body = self._body(call, arrival)
        pieces = body.pieces()
        # The rest of a PDF does not begin like one.
        goes_on = span is not None and span.start > 0
        head = b"" if goes_on else await self._head(call, arrival, pieces)
        if goes_on or shows_pdf(head):
            return OpenDownload(
                call,
                arrival,
                body,
                head=head,
                rest=pieces,
                span=span,
                settings=self._download,
                clock=self._clock,
            )
        raise await self._no_pdf(call, arrival, head, pieces)

    def _span(self, call: Call, arrival: Arrival) -> Span | None:
        """What a 206 holds; None for every other answer, which begins at the beginning."""
        if arrival.status != PARTIAL_CONTENT:
            return None
        try:
            return span_of(call.request, arrival.response, length=arrival.length)
        except BadRange as error:
            raise self._bad_range(call, arrival, error) from error

    def _bad_range(self, call: Call, arrival: Arrival, why: object) -> WebError:
        return call.error("retryable", "bad_range", arrival.url, status=arrival.status, detail=why)

    async def _no_pdf(
        self, call: Call, arrival: Arrival, head: bytes, pieces: AsyncIterator[bytes]
    ) -> WebError:
        page = None
        if looks_like_html(head) or looks_like_text(head):
            page = await self._read_on(call, arrival, head, pieces, self._settings.page_bytes_max)
        await arrival.response.aclose()
        reason = "html_instead" if looks_like_html(head) else "not_a_pdf" if head else "empty_body"
        return call.error(
            "no_pdf",
            "soft_404" if arrival.lost else reason,
            arrival.url,
            status=arrival.status,
            page=page,
        )

    # -- bodies ---------------------------------------------------------------------------------------

    def _body(self, call: Call, arrival: Arrival) -> Body:
        count = _uncounted if arrival.is_stored else self._traffic.came
        try:
            return Body(arrival.response, ratio_max=self._settings.inflate_ratio_max, count=count)
        except InflateError as error:
            raise call.failed(error, arrival.url, status=arrival.status) from error

    async def _whole(self, call: Call, arrival: Arrival, bytes_max: int) -> Answer:
        """Read an answer to its end or its bound, within the deadline, and let the connection go."""
        body = self._body(call, arrival)
        async with aclosing(body.pieces()) as pieces:
            return await self._read_on(call, arrival, b"", pieces, bytes_max)

    async def _read_on(
        self, call: Call, arrival: Arrival, head: bytes, pieces: AsyncIterator[bytes], bytes_max: int
    ) -> Answer:
        content = bytearray(head)
        try:
            async with asyncio.timeout(call.left_s()):
                async for piece in pieces:
                    content += piece
                    if len(content) > bytes_max:
                        break
        except TimeoutError as error:
            raise call.late(arrival.url, status=arrival.status) from error
        except (httpx.TransportError, InflateError) as error:
            raise call.failed(error, arrival.url, status=arrival.status) from error
        finally:
            await arrival.response.aclose()
        answer = arrival.answer(call, bytes(content[:bytes_max]), truncated=len(content) > bytes_max)
        if not arrival.lost:
            await self._cache.keep(arrival.visits, answer)
        return answer

    async def _head(self, call: Call, arrival: Arrival, pieces: AsyncIterator[bytes]) -> bytes:
        head = b""
        try:
            async with asyncio.timeout(call.left_s()):
                while len(head) < SNIFF_BYTES and not shows_pdf(head):
                    piece = await anext(pieces, None)
                    if piece is None:
                        break
                    head += piece
        except TimeoutError as error:
            raise call.late(arrival.url, status=arrival.status) from error
        except (httpx.TransportError, InflateError) as error:
            raise call.failed(error, arrival.url, status=arrival.status) from error
        return head

    # -- statuses -------------------------------------------------------------------------------------

    async def _refused(self, call: Call, arrival: Arrival) -> WebError:
        """The error of a status that is no success, with the page where it is one worth reading."""
        if arrival.status == RANGE_NOT_SATISFIABLE and is_resuming(call.request):
            return self._bad_range(call, arrival, "the server has no such part")
        try:
            answer = await self._whole(call, arrival, self._settings.page_bytes_max)
        except WebError as error:
            if error.reason == "deadline":
                return error
            answer = arrival.answer(call, b"")
        return self._status_error(call, answer, page=answer if looks_like_html(answer.body) else None)

    def _is_retryable(self, status: int) -> bool:
        return status in self._thresholds.retryable or (
            status >= 500 and status not in self._thresholds.terminal
        )

    def _status_error(self, call: Call, answer: Answer, *, page: Answer | None) -> WebError:
        if answer.status in REDIRECTS:
            return call.error("nonretryable", "bad_redirect", answer.url, status=answer.status)
        return call.error(
            "retryable" if self._is_retryable(answer.status) else "nonretryable",
            f"http_{answer.status}",
            answer.url,
            status=answer.status,
            retry_after_s=self._sender.retry_after_s(answer.headers),
            page=page,
        )


def _uncounted(size: int) -> None:
    """Bytes that did not come off the wire are no traffic."""
