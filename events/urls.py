"""URLs: the one form that stands for identity."""

from __future__ import annotations

import posixpath
from urllib.parse import urlsplit, urlunsplit

import idna

_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_host(host: str) -> str:
    """A host name in lower case and punycode; as it stands where IDNA cannot express it."""
    host = host.lower().rstrip(".")
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii").rstrip(".")  # 。 is a dot as well
    except idna.IDNAError:
        return host


def canonical_url(url: str) -> str:
    """A URL in the form that stands for its identity.

    Scheme and host in lower case, IDN as punycode, default port, fragment and dot segments removed;
    path and all query parameters are kept to the letter.

    Raises:
        ValueError: the text is no absolute URL with a host.
    """
    parts = urlsplit(url.partition("#")[0].strip())
    scheme = parts.scheme.lower()
    host = canonical_host(parts.hostname or "")
    if not scheme or not host:
        raise ValueError(f"not an absolute URL: {url[:200]!r}")
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
