"""What JobMachine plays of a worker: its sources, its finalizer, its disk and the gates of the web.

Nothing here answers by itself. What the resolver asks is kept until a step of the machine answers it, so
that each answer, death and takeover can come at any time. What the disk holds is shared by all workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..actors.directory import Directory
from ..actors.messages import (
    CancelTurn,
    CandidatesFound,
    EndTurn,
    Finalize,
    Find,
    Message,
    NotStored,
    Open,
    Opened,
    Rejected,
    Save,
    Stored,
    Streamed,
    TurnEnded,
    TurnId,
)
from ..actors.runtime.actor import Actor
from ..actors.runtime.ports import NANOSECONDS
from ..actors.sources.finding import Candidate, Finder, Found, Lookup
from ..actors.web.exchange import Gate, Role, Web
from ..errors import InvariantError
from .hand_scheduler import HandClock

URLS = tuple(f"https://pdfs.example/{number}" for number in range(3))
"""Where PDFs are."""
BYTES_AT = {URLS[0]: "aa" * 32, URLS[1]: "aa" * 32, URLS[2]: "bb" * 32}
"""What is there, by its hash: two places have the same bytes."""
WHOLE, HALF = 1_000, 500
"""Size of each PDF, and of what is there of one whose stream was cut; bytes."""
ANSWERS = ("good", "bad", "flaky", "gate")
"""How a question may be answered: with what is wanted, finally not, not now, and by a gate that shuts."""


@dataclass(frozen=True)
class PlayedPart:
    """A part on the shelf; a path as far as anybody asks."""

    sha256: str
    """``""`` while it is not whole."""
    st_size: int

    def stat(self) -> PlayedPart:
        """As ``Path.stat``; raises FileNotFoundError where there is none."""
        if not self.st_size:
            raise FileNotFoundError
        return self


NO_PART = PlayedPart("", 0)


class Shelf:
    """The objects and parts of a library, in memory; stands for ``Objects``."""

    def __init__(self) -> None:
        self.objects: set[str] = set()
        self.parts: dict[tuple[str, int], PlayedPart] = {}

    def __repr__(self) -> str:
        return f"<Shelf of {len(self.objects)} objects and {len(self.parts)} parts>"

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether an object is there, of that size where one is given."""
        return sha256 in self.objects and size in (None, WHOLE)

    def part_path(self, job_id: str, epoch: int) -> PlayedPart:
        """The part of a job under an epoch."""
        return self.parts.get((job_id, epoch), NO_PART)

    @staticmethod
    def relative_path(sha256: str) -> str:
        """Where an object would be."""
        return f"objects/{sha256}"

    def opened(self, job_id: str, epoch: int) -> int:
        """Take over what a cut stream left of a job, the newest; how many bytes are held now."""
        cut = [key for key, part in self.parts.items() if key[0] == job_id and not part.sha256]
        if not cut:
            return 0
        self.parts[job_id, epoch] = self.parts.pop(max(cut))
        return HALF

    def place(self, asked: Finalize) -> bool:
        """Give whole bytes their final name; False where they are not there."""
        part = self.parts.get((asked.job_id, asked.part_epoch), NO_PART)
        if part.sha256 != asked.sha256 and asked.sha256 not in self.objects:
            return False
        self.parts.pop((asked.job_id, asked.part_epoch), None)
        self.objects.add(asked.sha256)
        return True


class PlayedSources(Actor):
    """Stands for the adapters of all sources; keeps the question that each turn waits on."""

    def __init__(self, directory: Directory, shelf: Shelf) -> None:
        super().__init__()
        self.asked: dict[TurnId, Message] = {}
        self._to = directory
        self._shelf = shelf
        self._opens: dict[TurnId, str] = {}

    def handle(self, message: Any) -> None:
        """Keep a question; a cancel is answered at once, as by the real ones."""
        match message:
            case Find() | Open():
                self.asked[message.turn] = message
            case Save():
                self.asked[message.turn] = message
                self._shelf.parts[message.turn.job_id, message.turn.epoch] = PlayedPart("", HALF)
            case CancelTurn():
                self.asked.pop(message.turn, None)
                self._to.resolver.tell(TurnEnded(message.turn, "skipped", "cancelled"))
            case EndTurn():
                self.asked.pop(message.turn, None)

    def lost(self, source: str) -> None:
        """Forget the turns of a source, as when its adapter fails."""
        self.asked = {turn: asked for turn, asked in self.asked.items() if turn.source != source}

    def answer(self, turn: TurnId, how: str, url: str) -> str:
        """Answer a turn's question; returns what it was. ``url`` is what a source finds."""
        asked = self.asked.pop(turn)
        if isinstance(asked, Find):
            self._found(turn, how, url)
        elif isinstance(asked, Open):
            self._opened(turn, how, asked.candidate.url)
        else:
            self._streamed(turn, how)
        return type(asked).__name__

    def _found(self, turn: TurnId, how: str, url: str) -> None:
        if how == "good":
            answer: Message = CandidatesFound(
                turn, Found(candidates=(Candidate(url=url, rule="played"),)), 10
            )
        elif how == "bad":
            answer = CandidatesFound(turn, Found(candidates=(), reason="no_candidate"), 10)
        elif how == "flaky":
            answer = TurnEnded(turn, "retryable", "http_503")
        else:
            answer = TurnEnded(turn, "skipped", "breaker_open")
        self._to.resolver.tell(answer)

    def _opened(self, turn: TurnId, how: str, url: str) -> None:
        self._opens[turn] = url
        if how == "good":
            held = self._shelf.opened(turn.job_id, turn.epoch)
            self._to.resolver.tell(Opened(turn, url, 206 if held else 200, WHOLE, 0, resumed_at=held))
            return
        outcome, reason, status = {
            "bad": ("no_pdf", "not_pdf", 200),
            "flaky": ("retryable", "http_503", 503),
            "gate": ("skipped", "breaker_open", 0),
        }[how]
        self._to.resolver.tell(Rejected(turn, outcome, reason, url, status, 0))  # type: ignore[arg-type]

    def _streamed(self, turn: TurnId, how: str) -> None:
        if how == "good":
            sha256 = BYTES_AT[self._opens[turn]]
            self._shelf.parts[turn.job_id, turn.epoch] = PlayedPart(sha256, WHOLE)
            self._to.resolver.tell(Streamed(turn, sha256, WHOLE, 10))
        else:
            url = self._opens[turn]
            self._to.resolver.tell(Rejected(turn, "retryable", "broken", url, 200, 0, broken=True))


class PlayedFinalizer(Actor):
    """Stands for the finalizer; keeps what it is asked for each job."""

    def __init__(self, directory: Directory, shelf: Shelf) -> None:
        super().__init__()
        self.asked: dict[str, Finalize] = {}
        self._to = directory
        self._shelf = shelf

    def handle(self, message: Any) -> None:
        """Keep what is asked."""
        self.asked[message.job_id] = message

    def answer(self, job_id: str, how: str) -> None:
        """Place the bytes, or refuse them. What was proved and placed once is not refused later."""
        asked = self.asked.pop(job_id)
        if how != "good" and not self._shelf.has(asked.sha256):
            self._shelf.parts.pop((job_id, asked.part_epoch), None)
            reason = {"bad": "no_pages", "flaky": "part_changed", "gate": "md5_mismatch"}[how]
            self._to.resolver.tell(NotStored(job_id, asked.epoch, reason))
        elif self._shelf.place(asked):
            self._to.resolver.tell(Stored(job_id, asked.epoch, asked.sha256, asked.bytes, "opens"))
        else:
            self._to.resolver.tell(NotStored(job_id, asked.epoch, "part_changed"))


@dataclass
class PlayedFinder:
    """A source as the desk looks at it before a turn."""

    name: str

    def lacks(self, lookup: Lookup) -> str | None:
        """It lacks nothing."""
        return None

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """A host of its own."""
        return f"https://{self.name.replace('_', '-')}.example/", "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """Never asked: its adapter is played.

        Raises:
            InvariantError: it was.
        """
        raise InvariantError(f"{self.name} is played and finds nothing by itself")


class PlayedGates:
    """The gates of the web as one worker meets them: what is shut is shut for all."""

    def __init__(self, clock: HandClock, shut: dict[str, int], *, offline: bool) -> None:
        self._clock = clock
        self._shut = shut
        self._offline = offline

    def gate(self, url: str, _role: Role) -> Gate | None:
        """The gate before a source's first request."""
        if self._offline:
            return Gate("offline", 0)
        left_ns = next((opens for host, opens in self._shut.items() if host in url), 0) - self._clock.boot
        return Gate("breaker_open", left_ns / NANOSECONDS) if left_ns > 0 else None


def finders_of(sources: Sequence[str]) -> dict[str, Finder]:
    """A played finder for each source."""
    return {name: PlayedFinder(name) for name in sources}
