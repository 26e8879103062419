"""The simulated web on a simulated wire: answers take time, and connections fail, as a seed draws it.

The ``World`` behind it answers by itself as its papers say (its faults are part of the truth that is
expected). What goes wrong here comes on top, at random, and passes: a client that asks again may be lucky.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urljoin

import httpx
import msgspec

from ...actors.runtime.ports import Clock
from ...actors.web.transport import NameNotFound, ShortBody
from ..web.exchange import counted_as, host_of
from ..web.ledger import Ledger
from ..web.services import SERVICES
from ..web.transport import WorldTransport
from ..web.world import World
from .choices import Offline

Mishap = Literal["refused", "unnamed", "unreachable", "lost", "silent", "cut"]
MISHAPS: tuple[Mishap, ...] = ("refused", "unnamed", "unreachable", "lost", "silent", "cut")
"""Before the request arrives: refused, no address, no connection in time. After it: reset without an answer,
silence, reset in the midst of the body."""
PIECES = (1_000, 8_000, 65_536)
"""Bytes that arrive at once; one of these is drawn for each answer."""
SLOW_SHARE = 0.02
"""Share of answers that take ``SLOW_S`` seconds."""
SLOW_S = (1.0, 15.0)


class Weather(msgspec.Struct):
    """How the wire is; may be changed between two runs."""

    mishaps: float = 0.0
    """Share of requests that meet a mishap."""
    latency_s: float = 0.02
    """Mean time to the first byte, in seconds."""


class HarmedLedger(Ledger):
    """A ledger that knows which requests the wire spoiled: a client may ask again for each of those.

    It then begins at the first address of a chain of redirects, so that what was spoiled further on, or at
    the robots.txt there, excuses a request for the address where the chain began.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spoiled: Counter[str] = Counter()
        self._unarrived: Counter[str] = Counter()
        self._next: dict[str, str] = {}
        self.forbidden: list[str] = []
        """URLs that were asked for by somebody who was told to keep off the network."""

    def harm(self, url: str, *, arrived: bool) -> None:
        """A request was spoiled: its answer, if it had ``arrived`` at the server, or else itself."""
        (self._spoiled if arrived else self._unarrived)[counted_as(url)] += 1

    def leads(self, url: str, target: str) -> None:
        """A URL redirects to another."""
        self._next[counted_as(url)] = counted_as(urljoin(url, target))

    def asked(self, url: str) -> int:
        """Requests that arrived and that no mishap of the wire explains."""
        name = counted_as(url)
        explained, chain = self._spoiled[name], {name}
        while (name := self._next.get(name, "")) and name not in chain:
            chain.add(name)
            robots = counted_as(urljoin(name, "/robots.txt"))
            explained += sum(some[at] for some in (self._spoiled, self._unarrived) for at in (name, robots))
        return super().asked(url) - explained


class SimulatedWire(httpx.AsyncBaseTransport):
    """The wire of one simulated process to a world; ``offline``: what its user said of going there."""

    def __init__(
        self,
        world: World,
        *,
        ledger: HarmedLedger,
        weather: Weather,
        clock: Clock,
        chance: random.Random,
        offline: Offline | None = None,
    ) -> None:
        self._inner = WorldTransport(world, ledger=ledger, clock=clock)
        self._world = world
        self._offline = offline
        self._ledger = ledger
        self._weather = weather
        self._chance = chance

    def __repr__(self) -> str:
        return f"<SimulatedWire {self._weather!r} {self._ledger!r}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One answer of the world, when it comes.

        Raises:
            httpx.TransportError: it does not.
        """
        chance, limits = self._chance, request.extensions["timeout"]
        mishap = chance.choice(MISHAPS) if chance.random() < self._weather.mishaps else None
        await asyncio.sleep(self._latency_s())
        request.url = request.url.copy_with(raw_path=request.extensions["target"])
        url = str(request.url)
        if self._offline is not None and not self._allowed(url):
            self._ledger.forbidden.append(url)
        if mishap is not None:
            self._ledger.harm(url, arrived=mishap in ("lost", "silent", "cut"))
        if mishap == "refused":
            raise httpx.ConnectError("connection refused")
        if mishap == "unnamed":
            raise NameNotFound("no address for this host just now")
        if mishap == "unreachable":
            await asyncio.sleep(limits["connect"])
            raise httpx.ConnectTimeout("no connection in time")
        response = await self._answered(request)
        if "location" in response.headers:
            self._ledger.leads(url, response.headers["location"])
        if mishap in ("lost", "silent"):
            await response.aclose()
            await asyncio.sleep(limits["read"] if mishap == "silent" else self._latency_s())
            raise httpx.ReadTimeout("silence") if mishap == "silent" else httpx.ReadError("reset")
        response.stream = _Pieces(
            response,
            piece=chance.choice(PIECES),
            pause_s=chance.choice((0.0, 0.001, self._weather.latency_s)),
            left=chance.randrange(30_000) if mishap == "cut" else None,
        )
        return response

    def _allowed(self, url: str) -> bool:
        """Without the network: metadata at most, which the services have, and no PDF of theirs."""
        is_metadata = host_of(url) in SERVICES and self._world.fate(url) is None
        return self._offline == "metadata_only" and is_metadata

    async def _answered(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._inner.handle_async_request(request)
        except httpx.RemoteProtocolError as error:
            raise httpx.ReadError(str(error)) from error  # as the real transport tells it

    def _latency_s(self) -> float:
        if self._chance.random() < SLOW_SHARE:
            return self._chance.uniform(*SLOW_S)
        return self._chance.expovariate(1 / self._weather.latency_s)


class _Pieces(httpx.AsyncByteStream):
    """A body that arrives in pieces, and breaks off when ``left`` bytes have come."""

    def __init__(self, response: httpx.Response, *, piece: int, pause_s: float, left: int | None) -> None:
        stream = response.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError(f"{stream!r} is no stream of a world's transport")
        self._stream = stream
        self._piece = piece
        self._pause_s = pause_s
        self._left = left

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, then what ends them."""
        try:
            async for data in self._stream:
                for start in range(0, len(data), self._piece):
                    await asyncio.sleep(self._pause_s)
                    yield self._arrived(data[start : start + self._piece])
        except httpx.RemoteProtocolError as error:
            raise ShortBody(str(error)) from error  # as the real transport tells it

    def _arrived(self, data: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise httpx.ReadError("connection reset by peer")
        return data

    async def aclose(self) -> None:
        """The client is done."""
        await self._stream.aclose()
