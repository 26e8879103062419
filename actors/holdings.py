"""What the library holds already: asked before any network."""

from __future__ import annotations

from collections.abc import Container, Iterable

from ..config.settings import Rollout
from ..events.facts import Artifact
from ..events.job import JobRow
from ..events.projections import HOLDINGS, JOBS, holding_prefix, job_id_of
from ..events.work import Work
from ..store.interface import EventStore
from ..store.objects import Objects
from .job_in_hand import public_url

LOOK_AT_MAX = 4
"""Holders of one identifier that are looked at; the first whose object is there will do."""


def inside_rollout(rollout: Rollout, job_id: str) -> bool:
    """Whether a job is in the share that may be resolved; steady for a job and a percentage."""
    return rollout.enabled and int(job_id[:8], 16) % 100 < rollout.percent


class Holdings:
    """The finished jobs of a library, by what leads to their objects.

    What is given here is what the log says, and that a file of its size is there: whether that is whole, the
    finalizer tells, who reads it.
    """

    def __init__(self, store: EventStore, objects: Objects) -> None:
        self._store = store
        self._objects = objects

    def __repr__(self) -> str:
        return f"<Holdings of {self._objects!r}>"

    def of_work(self, work: Work, *, besides: str, damaged: Container[str] = ()) -> Artifact | None:
        """The artifact that one of the work's identifiers leads to, if its object is on disk.

        ``damaged`` are hashes of objects that are not to be trusted.
        """
        for scheme, value in work.identifiers():
            for holder, row in self._holders(scheme, value):
                if holder != besides and self._on_disk(row.artifact, damaged):
                    return row.artifact
        return None

    def of_url(self, url: str, *, damaged: Container[str] = ()) -> Artifact | None:
        """The artifact that came from a URL; ``damaged`` as for ``of_work``.

        A URL that holds a key or token names nothing for good, so it never counts as held.
        """
        named = public_url(url)
        if "REDACTED" in named:
            return None
        for _, row in self._holders("url", named):
            if self._on_disk(row.artifact, damaged):
                return row.artifact
        return None

    def first_with(self, sha256: str, *, besides: str, claimed: str | None = None) -> str | None:
        """The job that indexed these bytes first, or ``claimed``; None when no other job has them."""
        others = [holder for holder, _ in self._holders("sha256", sha256) if holder != besides]
        return others[0] if others else claimed

    def relative_path(self, sha256: str) -> str:
        """Where an object lies, relative to the library."""
        return self._objects.relative_path(sha256)

    def _on_disk(self, artifact: Artifact | None, damaged: Container[str]) -> bool:
        if artifact is None or artifact.sha256 in damaged:
            return False
        return self._objects.has(artifact.sha256, artifact.bytes)

    def _holders(self, scheme: str, value: str) -> Iterable[tuple[str, JobRow]]:
        entries = self._store.scan(HOLDINGS, holding_prefix(scheme, value), limit=LOOK_AT_MAX)
        keys = [key for _, key in entries]
        rows = self._store.rows(JOBS, keys)
        return [(job_id_of(key), row) for key, row in zip(keys, rows, strict=True) if row is not None]
