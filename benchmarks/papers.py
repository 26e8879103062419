"""Papers a second, whole: 64 works in hand, 200 KB each, from the list to the last fsync.

Run with ``python benchmarks/papers.py [WORKS]``. The simulated web is a process of its own. The rival is the
least that any downloader must do with the same server in the same run: ask Unpaywall's stand-in, fetch the
PDF with a raw asyncio reader, hash it, fsync it and rename it, 64 at once, with no log, no ledger, no proof.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from quire import Wanted
from quire.actors.session import Session
from quire.config.loader import Flag, load
from quire.events.work import Work
from quire.testing.web import Paper, World, serve

AT_ONCE = 64
SIZE = 200_000
EMAIL = "bench@quire.test"


def world(works: int) -> World:
    return World.of(*(Paper(doi=f"10.5555/bench.{n:06}", size=SIZE) for n in range(works)))


def serving(works: int, told: Connection) -> None:
    with serve(world(works)) as served:
        told.send(served.url)
        served.wait()


def ours(url: str, works: int, folder: Path) -> float:
    flags = [
        Flag(("library",), str(folder), "--library"),
        Flag(("web", "stand_in"), url, "--stand-in"),
        Flag(("web", "pacing"), "none", "--pacing"),
        Flag(("web", "contact_email"), EMAIL, "--email"),
    ]
    began = time.perf_counter()
    with Session(load(flags).settings) as session:
        wanted = (Wanted(Work(doi=f"10.5555/bench.{n:06}")) for n in range(works))
        session.plan(wanted, list_id="b" * 16)
        home = sum(paper.ok for paper in session.work("b" * 16))
    if home != works:
        raise RuntimeError(f"{home} of {works} came home")
    return time.perf_counter() - began


class Least:
    """The least that must be done for a paper."""

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.folder = folder
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.pool = ThreadPoolExecutor(6)

    async def get(self, url: str) -> bytes:
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
        writer.write(f"GET / HTTP/1.1\r\nHost: h\r\nX-Original-URL: {url}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.idle.append((reader, writer))
        return body

    async def paper(self, number: int) -> None:
        record = await self.get(f"https://api.unpaywall.org/v2/10.5555/bench.{number:06}?email={EMAIL}")
        pdf = await self.get(json.loads(record)["best_oa_location"]["url_for_pdf"])
        await asyncio.get_running_loop().run_in_executor(self.pool, self.store, pdf)

    def store(self, pdf: bytes) -> None:
        name = self.folder / f"{hashlib.sha256(pdf).hexdigest()}.pdf"
        part = name.with_suffix(".part")
        with part.open("wb") as file:
            file.write(pdf)
            file.flush()
            os.fsync(file.fileno())
        part.rename(name)

    async def all(self, works: int) -> None:
        left: Iterator[int] = iter(range(works))

        async def worker() -> None:
            for number in left:
                await self.paper(number)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        for _, writer in self.idle:
            writer.close()


def least(url: str, works: int, folder: Path) -> float:
    folder.mkdir()
    began = time.perf_counter()
    asyncio.run(Least(url, folder).all(works))
    return time.perf_counter() - began


def main() -> None:
    works = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    told, tell = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serving, args=(works, tell), daemon=True)
    server.start()
    url = told.recv()
    ratios = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for turn in range(3):
            least_s = least(url, works, Path(folder) / f"least{turn}")
            ours_s = ours(url, works, Path(folder) / f"library{turn}")
            ratios.append(least_s / ours_s)
            print(f"least {works / least_s:6.0f}/s   quire {works / ours_s:6.0f}/s   ratio {ratios[-1]:.2f}")
    print(f"median ratio (least = 1.0): {sorted(ratios)[1]:.2f}")
    server.terminate()


if __name__ == "__main__":
    main()
