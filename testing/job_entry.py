"""A job and its effects as the model of JobMachine knows them: plain records, no rule of the product."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..events.work import Work

WAYS: dict[str, tuple[str, ...]] = {
    "PLANNED": ("LEASED", "SKIPPED_DUPLICATE", "FAILED"),
    "LEASED": ("HEAD_DONE", "SKIPPED_DUPLICATE", "FAILED"),
    "HEAD_DONE": ("RESUME_OK", "STREAMING", "FAILED"),
    "RESUME_OK": ("STREAMING", "FAILED"),
    "STREAMING": ("FINALIZED", "FAILED"),
    "FINALIZED": ("INDEXED", "DEDUPED", "FAILED"),
    "INDEXED": (),
    "DEDUPED": (),
    "SKIPPED_DUPLICATE": (),
    "FAILED": (),
}
"""State → what may follow within its generation, as SPEC 2 draws it."""
HOME = ("INDEXED", "DEDUPED", "SKIPPED_DUPLICATE")
"""The ends with the paper on disk."""
RESULTS = ("OK", "NON_RETRYABLE")
"""Codes of results that stand: they are replayed, never redone."""


@dataclass
class OpEntry:
    """An effect as the book knows it."""

    kind: str
    what: str
    """The source, URL or hash that it is about."""
    epoch: int
    position: int = 0
    """Of its latest intent in the log."""
    begun_boot_ns: int = 0
    """Time of that intent on the clock that does not jump."""
    resumed: bool = False
    code: str = ""
    """``""`` while it is in flight."""
    reason: str = ""
    sha256: str = ""
    """Of the bytes that a stream brought."""
    size: int = 0
    target: str = ""
    repeated: bool = False


@dataclass
class Entry:
    """A job as the book knows it."""

    job_id: str
    work: Work
    planned_at: int
    lists: list[str]
    priority: int
    state: str = "PLANNED"
    generation: int = 1
    epoch: int = 0
    version: int = 1
    holder: str = ""
    until_ns: int = 0
    alone: bool = False
    takeovers: int = 0
    dead_worker: str = ""
    """Whose lease the latest grant took over."""
    not_before_ns: int = 0
    opens_boot_ns: int = 0
    """``not_before_ns`` on the clock that does not jump."""
    failed_ns: int = 0
    reason: str = ""
    may_retry: bool = False
    source: str = ""
    sha256: str = ""
    """Of its artifact."""
    must_store: set[str] = field(default_factory=set)
    """Hashes of which one is to be stored before the network is asked: a dead owner had streamed them."""
    ops: dict[str, OpEntry] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Its generation is over."""
        return not WAYS[self.state]

    @property
    def home(self) -> bool:
        """Its paper is on disk."""
        return self.state in HOME

    def of_kind(self, kind: str) -> list[OpEntry]:
        """Its effects of a kind, in the order of their intents."""
        return sorted((op for op in self.ops.values() if op.kind == kind), key=lambda op: op.position)

    def over(self) -> set[str]:
        """The sources whose turn of this generation ended with a result."""
        return {op.what for op in self.of_kind("FALLBACK") if op.code in ("NON_RETRYABLE", "RETRYABLE")}

    def answered(self) -> set[str]:
        """The ops of kind HEAD whose answer is final."""
        return {name for name, op in self.ops.items() if op.kind == "HEAD" and op.code == "NON_RETRYABLE"}

    def refused(self, sha256: str) -> bool:
        """Whether bytes were found to be no paper in this generation, for good."""
        looks = [op.code for op in self.of_kind("FINALIZE") if op.what == sha256]
        return bool(looks) and looks[-1] == "NON_RETRYABLE"
