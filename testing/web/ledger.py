"""What the simulated web was asked, and what it sent: counted at the server, for claims about effects."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urljoin

import msgspec

from .exchange import Reply, counted_as, host_of

ENTRIES_MAX = 1_000_000
"""Requests that are kept one by one; beyond them the counts go on and the entries do not."""


class Entry(msgspec.Struct):
    """One request."""

    order: int
    """Its place among all requests, from 0."""
    number: int
    """How many times its URL had been asked before."""
    method: str
    url: str
    host: str
    status: int = 0
    """0 where no head was sent."""
    did: str = ""
    """What the server did, in one word: the name of a fate, ``sound``, or told by the status."""
    leads_to: str = ""
    """Where a redirect sent."""
    bytes: int = 0
    """Of the body, handed to the socket; where the client left, the last piece may not have gone out."""
    completed: bool = False
    """All that was to be sent was sent, by an answer that was not cut on purpose."""
    left: bool = False
    """The client went away before that."""
    open: bool = True

    def answered(self, reply: Reply, url: str, *, headless: bool) -> None:
        """Note what is sent in answer."""
        self.did = reply.did or _told_by(reply)
        target = reply.header("location")
        if headless:
            return
        self.status = reply.status
        self.leads_to = _joined(url, target) if target and 300 <= reply.status < 400 else ""


def _joined(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError:
        return target


def _told_by(reply: Reply) -> str:
    if reply.status >= 400:
        return f"http_{reply.status}"
    if reply.status >= 300:
        return "redirected"
    return "page" if reply.header("content-type").startswith("text/html") else "answered"


class Ledger:
    """All requests of one server or transport, in the order of arrival; safe to read from any thread.

    A URL is counted however it is escaped; http and https are two URLs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._total = 0
        self._asked: Counter[str] = Counter()
        self._completed: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._most: Counter[str] = Counter()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Ledger requests={self._total} open={self.open_now()} bytes={self._bytes}>"

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())

    def begin(self, url: str, method: str) -> Entry:
        """Note a request that arrived."""
        name, host = counted_as(url), host_of(url)
        with self._lock:
            entry = Entry(self._total, self._asked[name], method, url, host)
            self._total += 1
            self._asked[name] += 1
            for place in (host, ""):
                self._open[place] += 1
                self._most[place] = max(self._most[place], self._open[place])
            if len(self._entries) < ENTRIES_MAX:
                self._entries.append(entry)
        return entry

    def end(self, entry: Entry, *, sent: int, completed: bool, left: bool) -> None:
        """Note how a request ended; a second call for the same one changes nothing."""
        with self._lock:
            if not entry.open:
                return
            entry.open, entry.bytes, entry.completed, entry.left = False, sent, completed, left
            self._bytes += sent
            self._completed[counted_as(entry.url)] += completed
            self._open[entry.host] -= 1
            self._open[""] -= 1

    def asked(self, url: str) -> int:
        """How many requests for a URL arrived."""
        return self._asked[counted_as(url)]

    def completed(self, url: str) -> int:
        """How many of them were answered to the end."""
        return self._completed[counted_as(url)]

    def entries(self, host: str | None = None) -> list[Entry]:
        """The requests in order; those of one host, or all."""
        with self._lock:
            return [entry for entry in self._entries if host is None or entry.host == host]

    def hosts(self) -> list[str]:
        """The hosts that were asked."""
        with self._lock:
            return sorted({entry.host for entry in self._entries})

    def concurrency(self, host: str = "") -> int:
        """The most requests that were open at once, to one host, or to all together."""
        return self._most[host]

    def open_now(self) -> int:
        """Requests that are being answered."""
        return self._open[""]

    def body_bytes(self) -> int:
        """Bytes of all bodies sent by requests that ended."""
        return self._bytes

    def lines(self) -> bytes:
        """The requests as JSON lines."""
        return b"".join(msgspec.json.encode(entry) + b"\n" for entry in self.entries())
