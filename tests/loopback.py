"""A raw HTTP server on loopback for tests: each path has a script that writes whatever bytes it likes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from quire.actors.runtime.ports import SystemClock, SystemRandom
from quire.actors.web.cache_store import CacheStore
from quire.actors.web.client import WebClient
from quire.actors.web.client_settings import ClientSettings
from quire.config import settings as s

T = TypeVar("T")


@dataclass
class Asked:
    """One request as it stood on the wire."""

    line: str
    headers: dict[str, str]
    at: float

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def original(self) -> str:
        return self.headers.get("x-original-url", "")


Script = Callable[[Asked, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool | None]]


@dataclass
class Loopback:
    """A listening server; ``scripts`` maps a target, or an original URL, to what is done with it."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    scripts: dict[str, Script] = field(default_factory=dict)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, target: str, script: Script | bytes | list[Script | bytes]) -> None:
        """Answer a target with bytes, a script, or one after another (the last one stays)."""
        if isinstance(script, list):
            steps = iter(script)
            last: list[Script] = []

            async def next_one(asked: Asked, reader: Any, writer: Any) -> bool | None:
                with contextlib.suppress(StopIteration):
                    last[:] = [_script(next(steps))]
                return await last[0](asked, reader, writer)

            self.scripts[target] = next_one
        else:
            self.scripts[target] = _script(script)

    def count(self, target: str) -> int:
        return sum(target in (asked.target, asked.original) for asked in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                key = asked.original if asked.original in self.scripts else asked.target
                script = self.scripts.get(key) or self.scripts.get("*") or _script(reply(404, b"nothing"))
                if not await script(asked, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.dropped.set()
        finally:
            writer.close()


def _script(what: Script | bytes) -> Script:
    if callable(what):
        return what

    async def send(asked: Asked, reader: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(what)
        await writer.drain()
        return b"Content-Length" in what or b"chunked" in what

    return send


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields if f)}
    return Asked(line, headers, asyncio.get_running_loop().time())


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole, proper answer."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{named}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


@contextlib.asynccontextmanager
async def loopback() -> AsyncIterator[Loopback]:
    """A server for one test."""
    web = Loopback()
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0, limit=1 << 20)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()


class Aside:
    """The two things that a client needs of a scheduler: the test's own loop, and threads for names."""

    def spawn(self, loop: Callable[[], None], *, name: str) -> threading.Thread:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        return thread

    async def aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, work)


WEB: dict[str, Any] = {
    "contact_email": "reader@example.org",
    "stand_in": None,
    "pacing": "polite",
    "proxy": None,
    "allow_hosts": ("127.0.0.1",),
    "offline": False,
    "connect_timeout_ms": 2000,
    "read_timeout_ms": 2000,
    "connections_max": 128,
    "redirects_max": 4,
    "page_bytes_max": 100_000,
    "metadata_bytes_max": 200_000,
    "inflate_ratio_max": 200,
    "retry_base_ms": 20,
    "retry_after_max_s": 900,
    "robots_ttl_s": 86400,
    "cache": {"enabled": True, "bytes_max": 1 << 20, "ttl_max_s": 43200},
    "breaker": {"failures_to_open": 5, "open_s": 60},
    "limits": {"metadata_per_s": 1000, "landing_per_s": 1000, "artifact_per_s": 1000, "hosts_per_s": {}},
}
GATES = {
    "skip_if_breaker_open": True,
    "offline_behavior": "metadata_only",
    "skip_if_rate_wait_exceeds_ms": 5000,
}
THRESHOLDS = {
    "retryable": (429, 500, 502, 503, 504),
    "terminal": (400, 401, 403, 404, 405, 410, 451),
}
DOWNLOAD = {
    "bytes_min": 128,
    "bytes_max": 1_000_000,
    "stall_s": 1.0,
    "bytes_per_s_min": 10_240,
    "free_space_min": 1,
    "chunk_bytes": 65_536,
    "disk_threads": 1,
}


def client(
    *,
    gates: dict[str, Any] | None = None,
    download: dict[str, Any] | None = None,
    on: Any = None,
    store: CacheStore | None = None,
    clock: Any = None,
    **web: Any,
) -> WebClient:
    """A client with settings for tests; keywords change single settings of ``web``."""
    return WebClient(
        ClientSettings(
            msgspec.convert(WEB | web, s.Web, strict=False),
            thresholds=msgspec.convert(THRESHOLDS, s.Thresholds),
            gates=msgspec.convert(GATES | (gates or {}), s.Gates),
            download=msgspec.convert(DOWNLOAD | (download or {}), s.Download),
        ),
        clock=clock or SystemClock(),
        random=SystemRandom(),
        scheduler=Aside(),  # type: ignore[arg-type]
        on_breaker=on or (lambda _: None),
        cache=store,
    )


def run(test: Callable[[], Awaitable[None]], *, within_s: float = 15.0) -> None:
    """Run a test's coroutine, bounded."""

    async def bounded() -> None:
        await asyncio.wait_for(test(), within_s)

    asyncio.run(bounded())
