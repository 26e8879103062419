"""Names to addresses: look-ups on threads of their own, and only addresses that the guard lets through.

A look-up blocks its thread for as long as the name server is silent (up to 30 s and more with the machine's
own resolver), and it cannot be taken back. On the pool that writes to disk a dead name server would stop
every download, so look-ups have their own threads, begun when they are first needed. aiohttp asks once for
a host however many connections wait for it, and remembers the answer for 10 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

from ..runtime.ports import Scheduler
from .guard import Guard

LOOKUP_THREADS_MAX = 8
"""Look-ups that run at once."""
LOOKUPS_WAITING_MAX = 4_096
"""Look-ups that may wait for a thread; with more, a name counts as not found."""

T = TypeVar("T")


class RefusedAddress(OSError):
    """A name leads to private addresses only; carries the guard's refusal through aiohttp's connector."""


class _Lookup(Generic[T]):
    """One look-up and whoever awaits it."""

    __slots__ = ("_loop", "_settled", "_work")

    def __init__(self, work: Callable[[], T], settled: asyncio.Future[T]) -> None:
        self._work = work
        self._settled = settled
        self._loop = settled.get_loop()

    def run(self) -> None:
        """Do it, unless nobody waits any more; the result goes to the loop it was asked from."""
        if self._settled.done():
            return
        try:
            found = self._work()
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            self._tell(self._settled.set_exception, error)
        else:
            self._tell(self._settled.set_result, found)

    def _tell(self, settle: Callable[[Any], None], result: object) -> None:
        def tell() -> None:
            if not self._settled.done():
                settle(result)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(tell)


class Lookups:
    """A few threads of the scheduler's for blocking look-ups; for coroutines of one event loop."""

    def __init__(self, scheduler: Scheduler, *, threads_max: int = LOOKUP_THREADS_MAX) -> None:
        self._scheduler = scheduler
        self._threads_max = threads_max
        self._waiting: queue.SimpleQueue[_Lookup[Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the two below
        self._threads = 0
        self._unfinished = 0  # by the threads, whoever still waits: a cancelled one holds its thread on

    def __repr__(self) -> str:
        return f"<Lookups unfinished={self._unfinished} threads={self._threads} of {self._threads_max}>"

    async def run(self, work: Callable[[], T]) -> T:
        """Await a look-up.

        A cancelled one that has begun runs to its end, and nobody hears of it.

        Raises:
            OSError: ``LOOKUPS_WAITING_MAX`` are waiting already.
        """
        if self._waiting.qsize() >= LOOKUPS_WAITING_MAX:
            raise OSError(
                f"{LOOKUPS_WAITING_MAX} names wait to be looked up: the name server does not answer"
            )
        settled: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enter(_Lookup(work, settled))
        return await settled

    def close(self) -> None:
        """Let the threads end once what they have begun is over; does not wait for them."""
        with self._lock:
            for _ in range(self._threads):
                self._waiting.put(None)
            self._threads = 0

    def _enter(self, lookup: _Lookup[Any]) -> None:
        """Queue it, with one more thread where all are busy and there may be more."""
        with self._lock:
            self._unfinished += 1
            self._waiting.put(lookup)
            if self._threads < min(self._unfinished, self._threads_max):
                self._threads += 1
                self._scheduler.spawn(self._serve, name=f"quire-names-{self._threads}")

    def _serve(self) -> None:
        while (lookup := self._waiting.get()) is not None:
            lookup.run()
            with self._lock:
                self._unfinished -= 1


class GuardedResolver(AbstractResolver):
    """DNS for aiohttp; only addresses that the guard lets through are given on.

    ``trusted`` names hosts of our own (a stand-in, a proxy) that may have private addresses.
    """

    def __init__(self, guard: Guard, scheduler: Scheduler, *, trusted: frozenset[str] = frozenset()) -> None:
        self._guard = guard
        self._lookups = Lookups(scheduler)
        self._trusted = trusted

    def __repr__(self) -> str:
        return f"<GuardedResolver {self._lookups!r}>"

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of a host.

        Raises:
            OSError: it has none, or only private ones (``RefusedAddress``).
        """
        found = await self._lookups.run(lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        trusted = host in self._trusted or self._guard.allows_host(host)
        kept = [entry for entry in found if trusted or self._guard.allows_address(str(entry[4][0]))]
        if found and not kept:
            raise RefusedAddress(f"{host} leads to {found[0][4][0]}, which is not a public address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in kept
        ]

    async def close(self) -> None:
        """Let the threads go."""
        self._lookups.close()
