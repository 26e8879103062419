"""64 downloads at once of 200 KB over loopback, hashed: the client against a raw asyncio reader.

Run with ``python benchmarks/web.py``; the server is a process of its own and both clients run in turn, so
that the ratio, not the time, is the result.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from loopback import client

from quire.actors.web.exchange import Request

AT_ONCE = 64
DOWNLOADS = 1280
ROUNDS = 5
BODY = b"%PDF-1.7\n" + b"x" * 200_000
ANSWER = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(asyncio.Protocol):
    """Answers every request with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self.transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(told: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=512)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def many(one: Callable[[], Awaitable[None]]) -> float:
    """Seconds for all downloads."""
    left = iter(range(DOWNLOADS))

    async def worker() -> None:
        for _ in left:
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - began


async def raw(port: int) -> float:
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one() -> None:
        connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        reader, writer = connection
        writer.write(b"GET /p.pdf HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        digest, left = hashlib.sha256(), len(BODY)
        while left:
            chunk = await reader.read(65_536)
            digest.update(chunk)
            left -= len(chunk)
        if digest.hexdigest() != SHA256:
            raise RuntimeError("other bytes came than were sent")
        idle.append(connection)

    seconds = await many(one)
    for _, writer in idle:
        writer.close()
    return seconds


async def ours(port: int) -> float:
    web = client(stand_in=f"http://127.0.0.1:{port}", pacing="none")
    request = Request(url="https://h.example/p.pdf", role="artifact")

    async def write(chunk: bytes) -> None:
        pass

    async def one() -> None:
        saved = await (await web.open(request)).save(write)
        if saved.sha256 != SHA256:
            raise RuntimeError("other bytes came than were sent")

    seconds = await many(one)
    await web.close()
    return seconds


def main() -> None:
    told, tell = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(tell,), daemon=True)
    server.start()
    port = told.recv()
    ratios = []
    for _ in range(ROUNDS):
        raw_s, ours_s = asyncio.run(raw(port)), asyncio.run(ours(port))
        ratios.append(raw_s / ours_s)
        print(f"raw {DOWNLOADS / raw_s:6.0f}/s   ours {DOWNLOADS / ours_s:6.0f}/s   ratio {ratios[-1]:.2f}")
    print(f"median ratio (raw = 1.0): {sorted(ratios)[ROUNDS // 2]:.2f}")
    server.terminate()


if __name__ == "__main__":
    main()
