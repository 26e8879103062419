"""Bodies: inflating within bounds, and telling from the first bytes what a body is.

A few kilobytes can inflate to gigabytes, so every step of inflating is bounded, and more than
``ratio_max`` times its size is refused. Servers also lie about encodings: a coding that the bytes do not
bear out, or that does not exist (``Content-Encoding: utf-8``), is passed over.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Protocol

import httpx

from ...errors import InvariantError

PIECE_BYTES_MAX = 65_536
"""Largest piece that one step of inflating gives."""
RATIO_FLOOR_BYTES = 1_048_576
"""Below this output no ratio is judged: small texts may shrink as far as they like."""
SNIFF_BYTES = 1_024
CODINGS_MAX = 2
PDF_MARK = b"%PDF-"


class InflateError(Exception):
    """The body cannot be inflated; ``reason`` is ``inflates_too_far``, ``bad_encoding`` or ``short_body``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class Coding(Protocol):
    """One content coding being undone."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Undo it for some more bytes, in bounded pieces."""
        ...

    def is_complete(self) -> bool:
        """Whether the coding's own end was seen."""
        ...


class _Gzip:
    """gzip, in as many members as there are; bytes that are no gzip go through as they are."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self._head = b""
        self._plain = False
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._plain and not self._members and len(self._head) < 2:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._plain = self._head, self._head[:2] != b"\x1f\x8b"
        if self._plain:
            yield data
            return
        yield from self._inflated(data)

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                if data[:2] != b"\x1f\x8b":
                    return  # padding after the last member
                self._inflate = zlib.decompressobj(31)
            yield self._inflate.decompress(data, PIECE_BYTES_MAX)
            self._members += self._inflate.eof
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def is_complete(self) -> bool:
        return self._plain or self._inflate.eof or len(self._head) < 2


class _Deflate:
    """deflate: zlib as the RFC says, or raw as some servers send it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._inflate.eof:
            piece = self._step(data)
            data = self._inflate.unconsumed_tail
            yield piece

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, PIECE_BYTES_MAX)
        except zlib.error:
            if self._started:
                raise
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._inflate.decompress(data, PIECE_BYTES_MAX)
        finally:
            self._started = True

    def is_complete(self) -> bool:
        return self._inflate.eof or not self._started


def codings_of(content_encoding: str) -> list[str]:
    """The codings of a header that quire can undo, in the order in which to undo them."""
    named = [name.strip().lower() for name in content_encoding.split(",")]
    known = [name.removeprefix("x-") for name in named if name in ("gzip", "x-gzip", "deflate")]
    return known[::-1]


class Inflater:
    """Undoes the codings of one body, piece by piece, and refuses what inflates too far."""

    def __init__(self, content_encoding: str, *, ratio_max: int) -> None:
        codings = codings_of(content_encoding)
        if len(codings) > CODINGS_MAX:
            raise InflateError("bad_encoding", f"{len(codings)} codings on top of each other")
        self._codings: list[Coding] = [_Gzip() if name == "gzip" else _Deflate() for name in codings]
        self._ratio_max = ratio_max
        self.bytes_in = 0
        self.bytes_out = 0
        self._inflated = 0

    def __repr__(self) -> str:
        return f"<Inflater codings={len(self._codings)} in={self.bytes_in} out={self.bytes_out}>"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes of the next piece of a body, in pieces of bounded size.

        Raises:
            InflateError: it inflates too far, or is damaged.
        """
        self.bytes_in += len(data)
        if not self._codings:
            self.bytes_out += len(data)
            yield data
            return
        try:
            for piece in self._through(data, 0):
                self.bytes_out += len(piece)
                if piece:
                    yield piece
        except zlib.error as error:
            raise InflateError("bad_encoding", str(error)) from error

    @property
    def is_coded(self) -> bool:
        """Whether there is a coding to undo."""
        return bool(self._codings)

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            InflateError: ``short_body``: a coding had not come to its end.
        """
        if not all(coding.is_complete() for coding in self._codings):
            raise InflateError("short_body", "the compressed body breaks off")

    def _through(self, data: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._codings):
            yield data
            return
        for piece in self._codings[depth].feed(data):
            self._judge(len(piece))
            yield from self._through(piece, depth + 1)

    def _judge(self, size: int) -> None:
        self._inflated += size  # by every layer: what the inner one gives to the outer is work as well
        if self._inflated > RATIO_FLOOR_BYTES and self._inflated > self._ratio_max * self.bytes_in:
            raise InflateError("inflates_too_far", f"{self.bytes_in} bytes became {self._inflated} and more")


def shows_pdf(head: bytes) -> bool:
    """Whether a body that begins so is a PDF's: ``%PDF-`` within the first 1,024 bytes."""
    return PDF_MARK in head[:SNIFF_BYTES]


_HTML_STARTS = (
    b"<!doctype",
    b"<html",
    b"<head",
    b"<body",
    b"<title",
    b"<script",
    b"<meta",
    b"<!--",
    b"<div",
    b"<p>",
)


def looks_like_html(head: bytes) -> bool:
    """Whether a body that begins so is a page for a browser, whatever its header says."""
    start = head[:SNIFF_BYTES].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n\f").lower()
    if start.startswith(_HTML_STARTS):
        return True
    return start.startswith(b"<?xml") and (b"<html" in start or b"xhtml" in start)


def looks_like_text(head: bytes) -> bool:
    """Whether a body that begins so is text of some kind: no control bytes that text does not have."""
    start = head[:SNIFF_BYTES]
    return bool(start) and not any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in start)


class Body:
    """The decoded bytes of one answer; counts what came off the wire."""

    def __init__(self, response: httpx.Response, *, ratio_max: int, count: Callable[[int], None]) -> None:
        self._response = response
        self._inflater = Inflater(response.headers.get("content-encoding", ""), ratio_max=ratio_max)
        self._count = count

    def __repr__(self) -> str:
        return f"<Body {self._inflater!r}>"

    @property
    def is_plain(self) -> bool:
        """No coding has to be undone: the declared length is that of the bytes as they are written."""
        return not self._inflater.is_coded

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece, once.

        Raises:
            httpx.TransportError: the stream broke.
            InflateError: it inflates too far, is damaged, or its coding breaks off.
        """
        stream = self._response.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise InvariantError("a transport gave an answer that cannot be read in a coroutine")
        is_plain = self.is_plain
        async for data in stream:
            self._count(len(data))
            if is_plain:
                yield data
                continue
            for piece in self._inflater.feed(data):
                yield piece
        self._inflater.finish()

    async def close(self) -> None:
        """Let the connection go: back to the pool when all was read, else closed at once."""
        await self._response.aclose()
