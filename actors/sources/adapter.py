"""The source adapter: the actor that performs the network effects of one source's turns.

It decides nothing about the job. Asked to find, open or save, it runs one coroutine on the event loop and
tells the resolver how it ended; asked to cancel, it really ends it: socket closed, part removed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

from ...config.settings import Quire
from ...errors import QuireError
from ...store.objects import Objects, Part
from ..directory import Directory
from ..messages import (
    AdapterRestarted,
    CancelTurn,
    CandidatesFound,
    EndTurn,
    Find,
    Open,
    Opened,
    Rejected,
    Save,
    Streamed,
    TurnEnded,
    TurnId,
)
from ..runtime.actor import Actor
from ..runtime.ports import Cancel, Clock, Scheduler
from ..web.exchange import Download, Request, Saved, Web, WebError
from .finding import Finder, Found, Lookup
from .hearing import Hearing
from .resuming import held_of, prepared
from .turn_web import TurnWeb

log = logging.getLogger(__name__)

STALE_PART = "part_busy"
"""Another process still holds the part of this job and epoch."""


class Turn:
    """A turn in flight: what it is at, its running coroutine, and the open answer that it is to save."""

    def __init__(self, began_ms: int, web: TurnWeb) -> None:
        self.began_ms = began_ms
        self.web = web
        self.step: Literal["find", "open", "save"] = "find"
        self.url = ""
        self.cancel: Cancel | None = None
        self.download: Download | None = None
        self.cancelled = False


class Done(msgspec.Struct, frozen=True):
    """A coroutine of a turn ended."""

    turn: TurnId
    result: Any


class SourceAdapter(Actor):
    """Plays one source."""

    def __init__(
        self,
        *,
        finder: Finder,
        directory: Directory,
        settings: Quire,
        web: Web,
        objects: Objects,
        clock: Clock,
        scheduler: Scheduler,
        replaces: bool,
    ) -> None:
        """``replaces``: an earlier one failed, and the turns that it played are lost."""
        super().__init__()
        self._replaces = replaces
        self._finder = finder
        self._to = directory
        self._settings = settings
        self._web = web
        self._objects = objects
        self._clock = clock
        self._scheduler = scheduler
        self._turns: dict[TurnId, Turn] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Find: self._find,
            Open: self._open,
            Save: self._save,
            CancelTurn: self._cancel,
            EndTurn: self._forget,
            Done: self._done,
        }

    def started(self) -> None:
        """Say which turns are lost."""
        if self._replaces:
            self._to.resolver.tell(AdapterRestarted(self._finder.name))

    def handle(self, message: Any) -> None:
        """Do what the message asks for."""
        self._handlers[type(message)](message)

    def stopping(self) -> None:
        """End every turn; nobody waits for the answers any more."""
        for turn in self._turns.values():
            if turn.cancel is not None:
                turn.cancel()

    def fatal(self, error: BaseException) -> bool:
        """A fault of the machine (disk full, stand-in down) is not mended by starting anew."""
        return isinstance(error, QuireError)

    # What is asked

    def _find(self, message: Find) -> None:
        turn = self._turns.get(message.turn)
        if turn is None:
            turn = self._turns[message.turn] = Turn(self._now_ms(), TurnWeb(self._web, self._scheduler))
        turn.step = "find"
        self._run(message.turn, turn, _within(self._finder, turn.web, message.lookup))

    def _open(self, message: Open) -> None:
        turn = self._turns.get(message.turn)
        if turn is None:
            self._tell_ended(message.turn, WebError("error", "adapter_restarted", url=message.candidate.url))
            return
        turn.step = "open"
        candidate = message.candidate
        request = Request(
            url=candidate.url,
            role=candidate.role,
            source=self._finder.name,
            retries_max=message.retries_max,
            deadline_s=message.timeout_ms / 1000,
            robots=message.robots,
            referer=candidate.referer,
            cookies=candidate.cookies,
        )
        turn.url = candidate.url
        self._run(message.turn, turn, self._look_at(message.turn.job_id, turn.web, request))

    def _save(self, message: Save) -> None:
        turn = self._turns.get(message.turn)
        if turn is None or turn.download is None:
            self._tell_ended(message.turn, WebError("error", "adapter_restarted", url=""))
            return
        turn.step = "save"
        self._run(message.turn, turn, self._stream(message.turn, turn.url, turn.download))

    def _cancel(self, message: CancelTurn) -> None:
        turn = self._turns.get(message.turn)
        if turn is None:
            self._tell_ended(message.turn, WebError("skipped", "cancelled", url=""))
            return
        turn.cancelled = True
        if turn.cancel is not None:
            turn.cancel()
        else:
            self._end(message.turn, WebError("skipped", "cancelled", url=""))

    def _forget(self, message: EndTurn) -> None:
        turn = self._turns.pop(message.turn, None)
        if turn is not None and turn.cancel is not None:
            turn.cancel()
        if turn is not None:
            self._let_go(turn)

    # What runs on the loop

    def _run(self, turn_id: TurnId, turn: Turn, work: Coroutine[Any, Any, Any]) -> None:
        turn.cancel = self._scheduler.gather(work, lambda result: self.me.tell(Done(turn_id, result)))

    async def _look_at(self, job_id: str, web: TurnWeb, request: Request) -> Download:
        """Open a candidate, from where a part of it ends; where that cannot be had, start over, once."""
        kept = web.taken(request.url)
        if kept is not None:
            return kept
        web.admit(request)
        held = await self._scheduler.aside(
            lambda: held_of(self._objects, job_id, request.url, boot_id=self._clock.boot_id)
        )
        if held is None:
            return await web.open(request)
        rest = msgspec.structs.replace(request, range_start=held.length, if_range=held.validator)
        try:
            return await web.open(rest)
        except WebError as error:
            if error.reason != "bad_range":
                raise
            return await web.open(request)

    async def _stream(self, turn_id: TurnId, url: str, download: Download) -> Saved:
        """Save the open answer into the part; what is not whole stays only if it can be gone on from."""
        aside = self._scheduler.aside
        opened: list[Part] = []  # filled also when the cancel comes while it is being opened

        def open_part() -> Part:
            part = self._objects.open_part(turn_id.job_id, turn_id.epoch)
            if part is None:
                raise WebError("retryable", STALE_PART, url=download.url)
            opened.append(part)
            return part

        kept = False
        try:
            part = await aside(open_part)
            sha = await aside(lambda: prepared(part, url, download, boot_id=self._clock.boot_id))
            kept = bool(part.about)
            saved = await download.save(lambda chunk: aside(lambda: part.write(chunk)), sha=sha)
            kept = True
            return saved
        finally:
            await download.close()
            for one in opened:
                _leave(one, kept)

    # How it ended

    def _done(self, message: Done) -> None:
        turn = self._turns.get(message.turn)
        if turn is None:
            self._abandon(message.result)
            return
        turn.cancel = None
        result = message.result
        if turn.cancelled:
            self._abandon(result)
            self._end(message.turn, WebError("skipped", "cancelled", url=""))
        elif isinstance(result, BaseException):
            self._failed(message.turn, turn, result)
        elif isinstance(result, Found):
            elapsed = self._now_ms() - turn.began_ms
            self._to.resolver.tell(CandidatesFound(message.turn, result, elapsed))
        elif isinstance(result, Saved):
            turn.download = None
            self._to.resolver.tell(Streamed(message.turn, result.sha256, result.bytes, result.elapsed_ms))
        else:
            self._opened(message.turn, turn, result)

    def _opened(self, turn_id: TurnId, turn: Turn, download: Download) -> None:
        turn.download = download
        self._to.resolver.tell(
            Opened(
                turn_id,
                download.url,
                download.status,
                download.length or 0,
                download.retry_count,
                download.hops,
                download.resumed_at,
            )
        )

    def _failed(self, turn_id: TurnId, turn: Turn, error: BaseException) -> None:
        """A refusal of the network is an outcome; a fault of the machine ends the run."""
        if isinstance(error, QuireError):
            raise error
        refusal = _as_refusal(error)
        turn.download = None
        if turn.step == "save":
            turn.web.again(turn.url)
        if turn.step == "find":
            self._end(turn_id, refusal)
            return
        self._to.resolver.tell(
            Rejected(
                turn_id,
                refusal.outcome,
                refusal.reason,
                refusal.url,
                refusal.status,
                refusal.retry_count,
                refusal.page,
                broken=turn.step == "save",
                wait_ms=_wait_ms(refusal),
            )
        )

    def _let_go(self, turn: Turn) -> None:
        """Close what a turn has open, and what it kept open."""
        if turn.download is not None:
            self._abandon(turn.download)
        if turn.web.keeps or turn.cancel is not None:
            self._abandon(turn.web)

    def _abandon(self, result: Any) -> None:
        """Close what a cancelled coroutine opened at its last moment."""
        if hasattr(result, "close"):
            self._scheduler.gather(result.close(), lambda _: None)

    def _end(self, turn_id: TurnId, error: WebError) -> None:
        turn = self._turns.pop(turn_id, None)
        if turn is not None:
            self._let_go(turn)
        self._tell_ended(turn_id, error)

    def _tell_ended(self, turn_id: TurnId, error: WebError) -> None:
        self._to.resolver.tell(
            TurnEnded(
                turn_id,
                error.outcome,
                error.reason,
                error.url,
                error.status,
                error.retry_count,
                wait_ms=_wait_ms(error),
            )
        )

    def _now_ms(self) -> int:
        return self._clock.boot_ns() // 1_000_000


def _leave(part: Part, kept: bool) -> None:
    """Let a part go: for whoever goes on from it, or for good."""
    if kept:
        part.close()
    else:
        part.discard()


def _as_refusal(error: BaseException) -> WebError:
    """What the resolver is told; an error that nobody foresaw is told as one, and logged whole."""
    if isinstance(error, WebError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return WebError("skipped", "cancelled", url="")
    log.error("an adapter met an error that nobody foresaw", exc_info=error)
    return WebError("error", "internal_error", url="", detail=repr(error))


def _wait_ms(refusal: WebError) -> int:
    """Time until the gate that was met may open, in milliseconds, and none too short."""
    return math.ceil(refusal.retry_after_s * 1000) if refusal.outcome == "skipped" else 0


async def _within(finder: Finder, web: Web, lookup: Lookup) -> Found:
    """A finder's answer within its time, and whether the cache gave all of it."""
    heard = Hearing(web)
    try:
        async with asyncio.timeout(lookup.timeout_s):
            found = await finder.find(heard, lookup)
        return msgspec.structs.replace(found, from_cache=heard.from_cache)
    except TimeoutError:
        raise WebError("timeout", "deadline", url="") from None
