"""The projections that quire keeps: jobs with their indexes and counts, hosts, runs, the library.

Pure: the store calls these functions within the transaction of the events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from .facts import BreakerChanged, LibraryCreated, RunFinished, RunStarted
from .job import HOME, STREAM_PREFIX, JobRow, State
from .record import Recorded

JOBS = "jobs"
CLAIMABLE = "jobs.claimable"
WAITING = "jobs.waiting"
LEASED = "jobs.leased"
HOLDINGS = "jobs.holdings"
LISTED = "jobs.listed"
COUNTS = "jobs.tally"
PARKED_NS = 2**62
"""The time before which a job is not taken up while its gate is a setting of the run (offline, rollout)."""
HOSTS = "hosts"
HOSTS_TROUBLED = "hosts.troubled"
HOSTS_CHANGED = "hosts.changed"
RUNS = "runs"
LIBRARY = "library"
HOST_PREFIX = "host/"
RUN_PREFIX = "run/"
LIBRARY_STREAM = "library"
EVERYTHING = "0" * 16
"""The list that every job is on."""


class HostRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A host's breaker."""

    host: str
    state: str
    reason: str
    failures: int
    until_ns: int
    """Wall-clock time at which it half-opens; 0 while it is not open."""
    changed_ns: int
    """Wall-clock time of the last change."""
    run_id: str = ""
    """The run, or command, that changed it last."""
    position: int = 0
    """Position of the last change."""
    version: int = 0
    """Version of the host's stream."""

    @property
    def lasts_ns(self) -> int:
        """How long it was opened for; a bound of any wait, however the wall clock has jumped since."""
        return max(0, self.until_ns - self.changed_ns)


class RunRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One process's work on the library."""

    worker: str
    list_id: str
    inputs: tuple[str, ...]
    started_ns: int
    finished_ns: int = 0
    outcome: str = ""


class LibraryRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What kind of library it is."""

    library_id: str
    rehearsal: bool
    quire_version: str


def job_row_key(job_id: str) -> bytes:
    """The key of a job's row."""
    return bytes.fromhex(job_id)


def job_id_of(key: bytes) -> str:
    """The job of a row's key."""
    return key.hex()


def list_prefix(list_id: str) -> bytes:
    """The prefix of a list's entries in the indexes that are kept by list."""
    return bytes.fromhex(list_id)


def holding_prefix(scheme: str, value: str) -> bytes:
    """The prefix of the entries of jobs that hold what an identifier or URL leads to."""
    return hashlib.sha256(f"{scheme}:{value}".encode()).digest()[:16]


def count_name(list_id: str, what: str) -> bytes:
    """The name of a count: ``state:FAILED``, ``source:arxiv_pdf``, ``leased`` and others."""
    return f"{list_id}|{what}".encode()


def job_key_of(recorded: Recorded[Any]) -> bytes | None:
    """The job that an event concerns."""
    if not recorded.stream.startswith(STREAM_PREFIX):
        return None
    return bytes.fromhex(recorded.stream[len(STREAM_PREFIX) :])


def _lists(row: JobRow) -> Iterable[str]:
    return dict.fromkeys((EVERYTHING, *row.lists))  # a job may be asked for on the list of everything


def _age(row: JobRow) -> bytes:
    return (row.priority + 2**31).to_bytes(4, "big") + row.planned_at.to_bytes(8, "big")


def claimable_entries(key: bytes, row: JobRow) -> Iterable[bytes]:
    """By list, priority, age."""
    if row.finished or row.lease is not None or row.not_before_ns:
        return []
    return [bytes.fromhex(name) + _age(row) + key for name in _lists(row)]


def waiting_entries(key: bytes, row: JobRow) -> Iterable[bytes]:
    """By list and the time at which it may be taken up."""
    if not row.waiting or row.lease is not None:
        return []
    return [bytes.fromhex(name) + row.not_before_ns.to_bytes(8, "big") + key for name in _lists(row)]


def leased_entries(key: bytes, row: JobRow) -> Iterable[bytes]:
    """By worker."""
    return [row.lease.worker.encode() + b"/" + key] if row.lease is not None else []


def holding_entries(key: bytes, row: JobRow) -> Iterable[bytes]:
    """By what leads to the artifact: each identifier of the work, and the URL it came from."""
    if row.state not in HOME or row.artifact is None:
        return []
    named = dict.fromkeys([*row.work.identifiers(), ("sha256", row.artifact.sha256)])
    if row.artifact.pdf_url:
        named[("url", row.artifact.pdf_url)] = None
    return [holding_prefix(scheme, value) + key for scheme, value in named]


def listed_entries(key: bytes, row: JobRow) -> Iterable[bytes]:
    """By list, in the order of age."""
    return [bytes.fromhex(name) + _age(row) + key for name in row.lists]


def job_counts(row: JobRow) -> Iterable[str]:
    """The names under which a job is counted, for each of its lists."""
    names = [f"state:{row.state}"]
    if row.finished:
        if row.artifact is not None and row.state in HOME:
            names.append(f"source:{row.artifact.source or 'held'}")
            if row.artifact.title_check:
                names.append(f"title_check:{row.artifact.title_check}")
        if row.state is State.FAILED:
            names += [f"reason:{row.reason}", f"failed:{'retryable' if row.may_retry else 'final'}"]
    else:
        names.append("unfinished")
        if row.lease is not None:
            names.append("leased")
        elif row.not_before_ns:
            names.append(f"waiting:{row.reason}")
    return [f"{list_id}|{name}" for list_id in _lists(row) for name in names]


def host_key_of(recorded: Recorded[Any]) -> bytes | None:
    """The host that an event concerns."""
    return _rest(HOST_PREFIX, recorded.stream)


def run_key_of(recorded: Recorded[Any]) -> bytes | None:
    """The run that an event concerns."""
    return _rest(RUN_PREFIX, recorded.stream)


def library_key_of(recorded: Recorded[Any]) -> bytes | None:
    """The library has one row."""
    return b"library" if recorded.stream == LIBRARY_STREAM else None


def _rest(prefix: str, stream: str) -> bytes | None:
    return stream[len(prefix) :].encode() if stream.startswith(prefix) else None


def fold_host(row: HostRow | None, recorded: Recorded[Any]) -> HostRow | None:
    """A host's row after an event."""
    event = recorded.event
    if not isinstance(event, BreakerChanged):
        return row
    return HostRow(
        event.host,
        event.state,
        event.reason,
        event.failures,
        event.until_ns,
        recorded.time_ns,
        recorded.run_id,
        recorded.position,
        recorded.version,
    )


def troubled_entries(key: bytes, row: HostRow) -> Iterable[bytes]:
    """Hosts whose breaker is not closed."""
    return [] if row.state == "closed" else [key]


def changed_entries(_key: bytes, row: HostRow) -> Iterable[bytes]:
    """By the position of the last change: what is new costs one look."""
    return [row.position.to_bytes(8, "big")]


def fold_run(row: RunRow | None, recorded: Recorded[Any]) -> RunRow | None:
    """A run's row after an event."""
    event = recorded.event
    if isinstance(event, RunStarted):
        return RunRow(event.worker, event.list_id, event.inputs, recorded.time_ns)
    if isinstance(event, RunFinished) and row is not None:
        return msgspec.structs.replace(row, finished_ns=recorded.time_ns, outcome=event.outcome)
    return row


def fold_library(row: LibraryRow | None, recorded: Recorded[Any]) -> LibraryRow | None:
    """The library's row after an event; its kind is fixed by the first."""
    event = recorded.event
    if isinstance(event, LibraryCreated) and row is None:
        return LibraryRow(event.library_id, event.rehearsal, event.quire_version)
    return row
