"""The simulated web as an HTTP/1.1 server on loopback: a raw protocol on a loop and thread of its own.

Raw because it must not be the slow part of what it measures, and because faults have to be real: a reset is a
RST, a stall is a socket that stays open and silent, a false length is false. It keeps connections alive, and
takes the original URL from ``X-Original-URL`` (else from an absolute target, else from Host and path).
All is noted in its ledger; ``GET /_ledger`` without that header gives the ledger as JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from http import HTTPStatus
from types import TracebackType

from ...actors.runtime.ports import NANOSECONDS, SystemClock
from ...errors import EnvironmentFault
from .exchange import Call, Reply
from .ledger import Entry, Ledger
from .wire import Send, Wire, wire
from .world import World

HEAD_BYTES_MAX = 65_536
"""A request head beyond this ends the connection."""
REQUEST_BODY_BYTES_MAX = 1 << 20
PIECE_BYTES = 1 << 18
"""Most bytes given to the socket at once; the next piece waits until they are gone."""
BACKLOG = 1_024
START_S = 10.0
STOP_S = 10.0
LEDGER_PATH = "/_ledger"

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_RST = struct.pack("ii", 1, 0)


class Served:
    """A world being served; a context manager. ``url`` is its address, ``ledger`` what it was asked."""

    def __init__(self, world: World, *, port: int = 0) -> None:
        self.world, self.ledger = world, Ledger()
        self.url = ""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._connections: set[_Connection] = set()
        self._started = threading.Event()
        self._failed: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="quire-web", daemon=True)

    def __repr__(self) -> str:
        return f"<Served {self.url or 'not started'} connections={len(self._connections)} {self.ledger!r}>"

    def start(self) -> Served:
        """Listen on loopback.

        Raises:
            EnvironmentFault: the port cannot be had.
        """
        self._thread.start()
        if not self._started.wait(START_S) or self._failed:
            raise EnvironmentFault(
                f"cannot serve on port {self._port}: {self._failed}; choose another (0: any)"
            )
        return self

    def close(self) -> None:
        """End all connections and the thread."""
        if self._thread.is_alive() and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_S)

    def __enter__(self) -> Served:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> None:
        """Serve until the thread ends."""
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            server = await self._loop.create_server(
                lambda: _Connection(self.world, self.ledger, self._connections),
                "127.0.0.1",
                self._port,
                backlog=BACKLOG,
            )
        except OSError as error:
            self._failed = error
            self._started.set()
            return
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)


def serve(world: World, *, port: int = 0) -> Served:
    """A server for a world, to be entered with ``with``; then it has its ``url`` and ``ledger``."""
    return Served(world, port=port)


class _Connection(asyncio.Protocol):
    """One connection: reads requests one after the other and performs their answers."""

    def __init__(self, world: World, ledger: Ledger, living: set[_Connection]) -> None:
        self._world, self._ledger, self._living = world, ledger, living
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._entry: Entry | None = None
        self._handed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise EnvironmentFault("the event loop gave no stream transport: use a standard asyncio loop")
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # a resume then means: every byte is with the kernel
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writable.set()
        self._living.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._living.discard(self)
        self._writable.set()
        if self._task:
            self._task.cancel()
        if self._entry and self._transport:
            self._ledger.end(self._entry, sent=self._handed, completed=False, left=True)
            self._entry = None

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport:
            self._transport.abort()

    def _next(self) -> None:
        """Answer the requests that have arrived whole, as long as none is being answered."""
        while self._entry is None and self._transport and not self._transport.is_closing():
            request = self._take()
            if request is None:
                return
            self._respond(*request)

    def _take(self) -> tuple[str, str, dict[str, str]] | None:
        """Method, target and headers of the next request that has arrived whole."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                self.abort()
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        length = headers.get("content-length", "0")
        body = int(length) if length.isdigit() else REQUEST_BODY_BYTES_MAX + 1
        words = lines[0].split(" ")
        if body > REQUEST_BODY_BYTES_MAX or len(words) != 3:
            self.abort()
            return None
        if len(self._buffer) < end + 4 + body:
            return None
        del self._buffer[: end + 4 + body]
        return words[0], words[1], headers

    def _respond(self, method: str, target: str, headers: dict[str, str]) -> None:
        original = headers.get("x-original-url", "")
        if not original and target == LEDGER_PATH:
            self._write_ledger()
            return
        absolute = (
            target
            if target.startswith(("http://", "https://"))
            else f"http://{headers.get('host', '')}{target}"
        )
        url = original or absolute
        self._entry = self._ledger.begin(url, method)
        call = Call(url=url, method=method, headers=headers, number=self._entry.number)
        reply = self._world.answer(call)
        plan = wire(reply, head_only=method == "HEAD", wall_s=SystemClock().wall_ns() / NANOSECONDS)
        self._entry.answered(reply, url, headless=plan.headless)
        self._handed = 0
        self._perform(reply, plan, headers.get("connection", "").lower() == "close")

    def _perform(self, reply: Reply, plan: Wire, close: bool) -> None:
        """At once where the answer is one piece without a fault; else by a task."""
        if self._entry is None or self._transport is None:
            return
        head, data = _head(reply.status, plan.headers), _whole(reply, plan)
        loop = asyncio.get_running_loop()
        if data is None:
            self._task = loop.create_task(self._play(head, plan, reply.framing == "chunked", close))
            return
        self._handed = len(data)
        self._transport.write(head + data)
        if self._writable.is_set():
            self._done(close=close)
        else:
            self._task = loop.create_task(self._drained(close))

    async def _drained(self, close: bool) -> None:
        await self._writable.wait()
        self._task = None
        self._done(close=close)

    async def _play(self, head: bytes, plan: Wire, chunked: bool, close: bool) -> None:
        """Perform an answer step by step."""
        if plan.before:
            await asyncio.sleep(plan.before)
        if not plan.headless:
            await self._send(head)
        for step in plan.steps:
            if isinstance(step, Send):
                await self._send_body(step.data, chunked)
            else:
                await asyncio.sleep(step.seconds)
        if chunked and plan.ending == "keep":
            await self._send(b"0\r\n\r\n")
        self._task = None
        if plan.ending == "reset":
            self._reset()
        else:
            self._done(close=close or plan.ending == "close", completed=not (plan.headless or plan.cut))

    async def _send_body(self, data: bytes, chunked: bool) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            await self._send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            self._handed += len(piece)

    async def _send(self, data: bytes) -> None:
        """Write, and wait until it is with the kernel; gives other connections their turn."""
        if data and self._transport:
            self._transport.write(data)
            await asyncio.sleep(0)  # without it a client that left is noticed only after the whole body
            await self._writable.wait()

    def _done(self, *, close: bool, completed: bool = True) -> None:
        """The answer is out: on to the next request, or the end of the connection."""
        if self._entry:
            self._ledger.end(self._entry, sent=self._handed, completed=completed, left=False)
            self._entry = None
        if close and self._transport:
            self._transport.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._next)

    def _reset(self) -> None:
        """RST, not FIN: linger for no time, then close."""
        if self._entry:
            self._ledger.end(self._entry, sent=self._handed, completed=False, left=False)
            self._entry = None
        if self._transport:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self._transport.abort()

    def _write_ledger(self) -> None:
        if self._transport:
            body = self._ledger.lines()
            named = (("Content-Type", "application/x-ndjson"), ("Content-Length", str(len(body))))
            self._transport.write(_head(200, named) + body)


def _whole(reply: Reply, plan: Wire) -> bytes | None:
    """The body of an answer that can be given at once; None where it takes several steps."""
    if plan.before or plan.ending != "keep" or reply.framing == "chunked" or len(plan.steps) > 1:
        return None
    first = plan.steps[0] if plan.steps else Send(b"")
    return first.data if isinstance(first, Send) and len(first.data) <= PIECE_BYTES else None


def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", *(f"{k}: {v}" for k, v in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
