"""The simulated web inside the process: an httpx transport that answers as the server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from ...actors.runtime.ports import NANOSECONDS, Clock, SystemClock
from .exchange import Call
from .ledger import Entry, Ledger
from .wire import Send, Wire, wire
from .world import World

CHUNK_BYTES = 65_536
Sleep = Callable[[float], Awaitable[None]]


class WorldTransport(httpx.AsyncBaseTransport):
    """Answers out of a world: same answers, same faults (as httpx's errors), same ledger as the server.

    Args:
        world: what is asked.
        sleep: how waiting is done; a test with a clock of its own gives its own.
        ledger: what counts the requests, where several transports play one web.
        clock: gives the time of day for answers that name one.
    """

    def __init__(
        self,
        world: World,
        *,
        sleep: Sleep = asyncio.sleep,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.world, self.ledger = world, Ledger() if ledger is None else ledger
        self._sleep = sleep
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"<WorldTransport {self.ledger!r}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One answer; its original URL is that of ``X-Original-URL`` where the header is there."""
        url = request.headers.get("x-original-url") or str(request.url)
        entry = self.ledger.begin(url, request.method)
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = self.world.answer(Call(url=url, method=request.method, headers=headers, number=entry.number))
        wall_s = self._clock.wall_ns() / NANOSECONDS
        plan = wire(reply, head_only=request.method == "HEAD", wall_s=wall_s)
        entry.answered(reply, url, headless=plan.headless)
        stream = _Stream(plan, request, self.ledger, entry, self._sleep)
        if plan.before:
            await stream.pause(plan.before)
        if plan.headless:
            stream.end_without_a_head()
        named = [(name.encode(), value.encode("latin-1", "replace")) for name, value in plan.headers]
        return httpx.Response(reply.status, headers=named, stream=stream, request=request)


class _Stream(httpx.AsyncByteStream):
    """The body of one answer."""

    def __init__(
        self, plan: Wire, request: httpx.Request, ledger: Ledger, entry: Entry, sleep: Sleep
    ) -> None:
        self._plan, self._request, self._ledger, self._entry, self._sleep = (
            plan,
            request,
            ledger,
            entry,
            sleep,
        )
        self._sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes that an honest client can read, then the error with which the answer ends."""
        for step in self._plan.steps:
            if not isinstance(step, Send):
                await self.pause(step.seconds)
                continue
            readable = step.data[: self._plan.length - self._sent]
            for start in range(0, len(readable), CHUNK_BYTES):
                chunk = readable[start : start + CHUNK_BYTES]
                self._sent += len(chunk)
                yield chunk
        self._finish()

    def _finish(self) -> None:
        reset = self._plan.ending == "reset"
        self._end(completed=not (reset or self._plan.cut), left=False)
        if reset:
            raise httpx.ReadError("connection reset by peer", request=self._request)
        if self._plan.cut:
            raise httpx.RemoteProtocolError("peer closed connection before the end", request=self._request)
        declared = dict(self._plan.headers).get("Content-Length", "0")
        if int(declared) > self._sent and self._plan.ending == "close":
            said = f"peer closed connection with {self._sent} of {declared} bytes sent"
            raise httpx.RemoteProtocolError(said, request=self._request)

    def end_without_a_head(self) -> None:
        """The connection ends before the head of the answer, with the error of its ending."""
        self._end(completed=False, left=False)
        if self._plan.ending == "reset":
            raise httpx.ReadError("connection reset by peer", request=self._request)
        raise httpx.RemoteProtocolError("disconnected without an answer", request=self._request)

    async def pause(self, seconds: float) -> None:
        """Silence; the client's read timeout ends it sooner, as on a socket."""
        limit = self._request.extensions.get("timeout", {}).get("read")
        if limit is not None and limit < seconds:
            await self._sleep(limit)
            self._end(completed=False, left=True)
            raise httpx.ReadTimeout("nothing was read in time", request=self._request)
        try:
            await self._sleep(seconds)
        except asyncio.CancelledError:
            self._end(completed=False, left=True)
            raise

    async def aclose(self) -> None:
        """The client is done; before the end of the body this means that it left."""
        self._end(completed=False, left=True)

    def _end(self, *, completed: bool, left: bool) -> None:
        self._ledger.end(self._entry, sent=self._sent, completed=completed, left=left)
