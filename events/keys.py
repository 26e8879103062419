"""Keys: the identity of jobs and effects, as SHA-256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json

from .urls import canonical_host, canonical_url
from .work import Work

__all__ = ["ARTIFACT", "KEY_VERSION", "canonical_host", "canonical_url", "job_key", "job_url", "op_key"]

KEY_VERSION = 1
ARTIFACT = "pdf"


def _key(fields: dict[str, str | int]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def job_url(work: Work) -> str:
    """The canonical URL of a work's job; ``""`` for a work known by title alone."""
    url = work.resolver_url
    return canonical_url(url) if url else ""


def job_key(work: Work, *, artifact_id: str = ARTIFACT) -> str:
    """The id of the job that wants one artifact of a work: 64 hex digits, the same in every run."""
    return _key(
        {
            "v": KEY_VERSION,
            "kind": "JOB",
            "work_id": work.work_id,
            "artifact_id": artifact_id,
            "url": job_url(work),
            "role": "artifact",
        }
    )


def op_key(kind: str, job_id: str, **about: str | int) -> str:
    """The id of one effect: 64 hex digits of its kind, its job and what it is about."""
    return _key({"v": KEY_VERSION, "kind": kind, "job_id": job_id, **about})
