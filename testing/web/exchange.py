"""A question to the simulated web and its answer: plain records that both faces share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote, unquote_plus, urlsplit

import msgspec

from ...events.keys import canonical_host
from ...events.work import normal_arxiv
from .faults import NO_FAULT, Fault

KEYS_MAX = 65_536
"""URLs whose key is kept; older ones are worked out anew."""

ARXIV_HOSTS = ("arxiv.org", "www.arxiv.org", "export.arxiv.org")
_DEFAULT_PORTS = {"http": 80, "https": 443}

Framing = Literal["length", "chunked", "close"]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it reaches the simulated web."""

    url: str
    """The original URL, whatever address the connection went to."""
    method: str = "GET"
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    number: int = 0
    """How many times this URL was asked before."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, and what is to go wrong while it travels."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    """Without Content-Length and Transfer-Encoding, which the framing gives."""
    body: bytes | Callable[[], bytes] = b""
    """The bytes, or what makes them when they are sent."""
    fault: Fault = NO_FAULT
    framing: Framing = "length"
    did: str = ""
    """What the server does by it, one word for the ledger (``deeds``); told by the status where empty."""
    retry_date_s: float = 0.0
    """A ``Retry-After`` as a date, so many seconds after it is sent; 0 for none."""

    def content(self) -> bytes:
        """The bytes of the body, made now if they are lazy."""
        return self.body if isinstance(self.body, bytes) else self.body()

    def header(self, name: str) -> str:
        """The first header of that name (any case), or ``""``."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@lru_cache(maxsize=KEYS_MAX)
def url_key(url: str) -> str:
    """Where a URL leads in the simulated web: host, path and query, however they are escaped.

    The scheme, a default port and the fragment make no difference, nor do the ways to write one arXiv paper
    (version, ``.pdf``, mirror host); a URL that cannot be split is its own key.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = canonical_host(parts.hostname or ""), parts.port
    except ValueError:
        return url
    path = unquote(parts.path) or "/"
    if host in ARXIV_HOSTS:
        host, path = "arxiv.org", _arxiv_path(path)
    place = f"{host}:{port}" if port and port != _DEFAULT_PORTS.get(parts.scheme.lower()) else host
    return f"{place}{path}" + (f"?{unquote_plus(parts.query)}" if parts.query else "")


def _arxiv_path(path: str) -> str:
    kind, _, rest = path.lstrip("/").partition("/")
    identifier = normal_arxiv(rest) if kind in ("pdf", "abs") else None
    return f"/{kind}/{identifier[0]}" if identifier else path


def counted_as(url: str) -> str:
    """The name under which the ledger counts a URL: its key with its scheme (http and https differ)."""
    return f"{url.partition(':')[0].lower()}://{url_key(url)}"


def host_of(url: str) -> str:
    """The host a URL names, in lower case and punycode; ``""`` where it names none."""
    return url_key(url).split("/", 1)[0].split(":", 1)[0]


def number(asked: Mapping[str, list[str]], name: str, default: int) -> int:
    """A whole number among query parameters, or the default where there is none."""
    given = asked.get(name, [""])[0]
    return int(given) if re.fullmatch(r"-?\d{1,9}", given) else default


def html(
    body: str | bytes, *, status: int = 200, headers: tuple[tuple[str, str], ...] = (), server: str = "nginx"
) -> Reply:
    """A page."""
    content = body.encode() if isinstance(body, str) else body
    named = (("Content-Type", "text/html; charset=utf-8"), ("Server", server), *headers)
    return Reply(status=status, headers=named, body=content)


def json(value: object, *, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(
        status=status, headers=(("Content-Type", "application/json"),), body=msgspec.json.encode(value)
    )


def text(value: str, *, status: int = 200, media_type: str = "text/plain; charset=utf-8") -> Reply:
    """A plain text (or XML) answer."""
    return Reply(status=status, headers=(("Content-Type", media_type),), body=value.encode())


def redirect(target: str, *, status: int = 302, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """A redirect, with the small page that servers send along."""
    page = f'<html><head><title>Redirect</title></head><body><a href="{target}">moved</a></body></html>'
    return html(page, status=status, headers=(("Location", target), *headers))
