"""Keys: the identity of jobs and effects, as SHA-256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json
import posixpath
from urllib.parse import urlsplit, urlunsplit

import idna

from .work import Work

KEY_VERSION = 1
ARTIFACT = "pdf"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_host(host: str) -> str:
    """A host name in lower case and punycode; as it stands where IDNA cannot express it."""
    host = host.lower().rstrip(".")
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        return host


def canonical_url(url: str) -> str:
    """A URL in the form that stands for its identity.

    Scheme and host in lower case, IDN as punycode, default port, fragment and dot segments removed;
    path and all query parameters are kept to the letter.

    Raises:
        ValueError: the text is no absolute URL with a host.
    """
    parts = urlsplit(url.strip())
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"not an absolute URL: {url[:200]!r}")
    scheme = parts.scheme.lower()
    host = canonical_host(parts.hostname)
    if ":" in host:
        host = f"[{host}]"
    if parts.port and parts.port != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{parts.port}"
    if parts.username is not None:
        user = parts.username if parts.password is None else f"{parts.username}:{parts.password}"
        host = f"{user}@{host}"
    return urlunsplit((scheme, host, _without_dots(parts.path) or "/", parts.query, ""))


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4, keeping doubled slashes, which some servers mean."""
    if "/." not in path:
        return path
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if posixpath.basename(path) in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


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
