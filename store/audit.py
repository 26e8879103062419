"""The audit: what the log and the objects say, held against what they must be. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from ..errors import DamagedError, InvariantError, QuireError, StoreFailedError, UsageError
from ..events.record import Head, Recorded
from .codec import CHAIN_BYTES, GENESIS, Commit, CommitCodec, chained
from .digests import Digests, StreamsDigest
from .interface import Domain
from .objects import Objects
from .replay import View

FINDINGS_MAX = 1_000
"""Problems (and notes) that a report holds; the rest is counted in its last line."""


class AuditedStore(Protocol):
    """What the audit needs of a store: raw commits, and digests taken together with the head."""

    def head(self) -> Head:
        """As ``EventStore.head``."""
        ...

    def commits(self, after: int = 0) -> list[Commit]:
        """Raw commits that start behind a position, a bounded number of them."""
        ...

    def digest(self) -> Digests:
        """The head, and digests of what is kept beside the commits at it."""
        ...


class Expected(msgspec.Struct, frozen=True):
    """The file that a finished job must have."""

    job_id: str
    sha256: str
    bytes: int


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, or worth a note."""

    kind: str
    what: str
    position: int = 0
    """Where in the log; 0 where it is no matter of the log."""
    path: str = ""
    """Which file, relative to the library; ``""`` where it is none."""


class Report(msgspec.Struct):
    """What the audit found."""

    ok: bool = True
    commits: int = 0
    events: int = 0
    head: int = 0
    """Position of the last event that was read."""
    problems: list[Finding] = []
    notes: list[Finding] = []

    def problem(self, kind: str, what: str, *, position: int = 0, path: str = "") -> None:
        """Put down something that is wrong."""
        self.ok = False
        _add(self.problems, Finding(kind, what, position, path))

    def note(self, kind: str, what: str, *, path: str = "") -> None:
        """Put down something that is odd and harmless."""
        _add(self.notes, Finding(kind, what, 0, path))


def _add(findings: list[Finding], finding: Finding) -> None:
    if len(findings) < FINDINGS_MAX:
        findings.append(finding)
    elif len(findings) == FINDINGS_MAX:
        findings.append(Finding("more", f"more than {FINDINGS_MAX} findings; the rest is not listed"))


def audit(
    store: AuditedStore,
    domain: Domain,
    *,
    objects: Objects | None = None,
    expected: Callable[[View], Iterable[Expected]] | None = None,
) -> Report:
    """Walk the whole log, fold it anew, and compare with what is kept.

    It may run while others write: what is appended after its start is left for the next one.

    Args:
        store: the log, best opened read-only (then a damaged end does not keep it from opening).
        domain: the events and projections of the log.
        objects: the library's files, to be hashed one by one; left out when None.
        expected: the files that finished jobs must have, by the tables as the log makes them.

    Returns:
        A report; nothing that is wrong with the library is raised.
    """
    report = Report()
    walk = _Walk(domain, report)
    kept = _kept(store, report)
    walk.follow(store, kept.head if kept else None)
    walk.compare(kept)
    if objects is not None:
        _check_objects(report, objects, expected(walk.view) if expected and walk.foldable else ())
    return report


def _kept(store: AuditedStore, report: Report) -> Digests | None:
    try:
        return store.digest()
    except (DamagedError, StoreFailedError) as error:
        report.problem("head_unreadable", str(error))
        return None


class _Walk:
    """The log, read from its first commit on."""

    def __init__(self, domain: Domain, report: Report) -> None:
        self.view = View(domain)
        self.foldable = True
        """Nothing was found so far that makes the fold meaningless."""
        self._report = report
        self._codec = CommitCodec(domain)
        self._chain = GENESIS
        self._next = 1
        self._streams: dict[str, tuple[int, int]] = {}
        self._index = StreamsDigest()

    def follow(self, store: AuditedStore, head: Head | None) -> None:
        """Read to the head, or to the end where there is no head."""
        after = 0
        while True:
            try:
                commits = store.commits(after)
            except (DamagedError, StoreFailedError) as error:
                self._wrong("unreadable", str(error), after + 1)
                return
            for commit in commits:
                if commit[0] <= after:  # a damaged tree may lead back, again and again
                    self._wrong("unreadable", f"behind {after} comes the commit at {commit[0]}", after + 1)
                    return
                after = commit[0]
                if head is not None and commit[0] > head.position:
                    self._beyond(store, commit[0])
                    return
                self._commit(commit)
            if not commits:
                return

    def _beyond(self, store: AuditedStore, position: int) -> None:
        """A commit behind the head is a living writer's, if by now the head has moved past it."""
        if store.head().position < position:
            self._wrong("head", f"the head record ends before the commit at {position}", position)

    def _commit(self, commit: Commit) -> None:
        position, value = commit
        self._report.commits += 1
        if position != self._next:
            self._wrong("gap", f"position {self._next} was due, the commit starts at {position}", position)
        if chained(self._chain, value[CHAIN_BYTES:]) != value[:CHAIN_BYTES]:
            self._wrong("chain", f"the commit at {position} does not follow from the one before it", position)
        self._chain = value[:CHAIN_BYTES]
        try:
            events = self._codec.decode_body(position, value[CHAIN_BYTES:])
        except (DamagedError, UsageError, InvariantError) as error:
            self._wrong("undecodable", str(error), position)
            return
        for event in events:
            self._event(event)
        for stream, first in {event.stream: event.version for event in reversed(events)}.items():
            self._index.commit(stream, first, position)
        self._next = position + len(events)
        self._report.events += len(events)
        self._report.head = self._next - 1
        if self.foldable:
            self._fold(events, position)

    def _event(self, event: Recorded[Any]) -> None:
        version, epoch = self._streams.get(event.stream, (0, 0))
        if event.version != version + 1:
            self._wrong(
                "stream_gap",
                f"{event.stream}: version {version + 1} was due, not {event.version}",
                event.position,
            )
        if event.epoch < epoch:
            self._wrong("epoch", f"{event.stream}: epoch {event.epoch} after epoch {epoch}", event.position)
        if event.cause >= event.position:
            self._wrong("cause", f"its cause {event.cause} is not before it", event.position)
        self._streams[event.stream] = (event.version, max(event.epoch, epoch))

    def _fold(self, events: list[Recorded[Any]], position: int) -> None:
        try:
            self.view.fold(events)
        except QuireError as error:
            self._wrong("fold", str(error), position)

    def compare(self, kept: Digests | None) -> None:
        """Hold the head record, the index of streams and the kept tables against what was read."""
        if kept is not None:
            self._compare_head(kept.head)
            self._compare_streams(kept.streams)
            self._compare_tables(kept.tables)

    def _compare_head(self, head: Head) -> None:
        if (head.position, head.commits, head.chain) != (
            self._report.head,
            self._report.commits,
            self._chain,
        ):
            self._report.problem(
                "head",
                f"the head record says position {head.position} and {head.commits} commits, "
                f"the log has {self._report.head} and {self._report.commits}, or another chain",
                position=head.position,
            )

    def _compare_streams(self, digest: str) -> None:
        if not self.foldable:
            return
        for stream, state in self._streams.items():
            self._index.state(stream, *state)
        if digest != self._index.hexdigest():
            self._report.problem(
                "streams",
                "the versions and epochs by which appends are judged are not the log's: run `quire rebuild`",
            )

    def _compare_tables(self, digest: str) -> None:
        if not digest:
            self._report.note(
                "tables_not_compared",
                "another version keeps them: open the library once for writing",
            )
        elif not self.foldable:
            self._report.note("tables_not_compared", "the log cannot be folded to its end")
        elif digest != self.view.digest():
            self._report.problem(
                "tables", "the kept projections are not what the log makes of them: run `quire rebuild`"
            )

    def _wrong(self, kind: str, what: str, position: int) -> None:
        self.foldable = False
        self._report.problem(kind, what, position=position)


def _check_objects(report: Report, objects: Objects, expected: Iterable[Expected]) -> None:
    sizes: dict[str, Expected] = {}
    for file in expected:
        if sizes.setdefault(file.sha256, file).bytes != file.bytes:
            report.problem("size", f"two jobs disagree on the size of {file.sha256}: {file.job_id}")
    for file in sizes.values():
        _check_file(report, objects, file)
    for sha256, path in objects.held():
        name = f"objects/{path.parent.name}/{path.name}"
        if not sha256:
            report.note("foreign", "a file that quire did not name", path=name)
        elif sha256 not in sizes:
            report.note("orphan", "no finished job points to it", path=name)
    for path in objects.strays():
        name = str(path.relative_to(objects.root.parent))
        if path.is_symlink():
            report.problem(
                "link", "quire writes into its own folders alone, and this leads elsewhere", path=name
            )
        else:
            report.note("foreign", "a file where quire has folders", path=name)
    for path in objects.parts():
        report.note("part", f"a leftover part of {path.stat().st_size} bytes", path=f"staging/{path.name}")


def _check_file(report: Report, objects: Objects, file: Expected) -> None:
    try:
        path = objects.path(file.sha256)
    except InvariantError as error:
        report.problem("name", f"job {file.job_id}: {error}")
        return
    name = f"objects/{path.parent.name}/{path.name}"
    try:
        size = objects.size(file.sha256)
        if size is None:
            report.problem("missing", f"job {file.job_id} is finished, its file is gone", path=name)
        elif size != file.bytes:
            report.problem("size", f"it has {size} bytes, job {file.job_id} had {file.bytes}", path=name)
        elif not objects.verify(file.sha256):
            report.problem("hash", f"its bytes are not those of job {file.job_id}", path=name)
    except StoreFailedError as error:
        report.problem("unreadable", str(error), path=name)
