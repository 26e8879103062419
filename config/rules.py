"""Rules that join several settings, or that read a text: what the types alone cannot refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from .documents import Path_
from .resolvers import broken_resolvers
from .settings import Quire

PLACEHOLDER_HOSTS = frozenset({"example.com", "example.org", "example.net", "test.com", "localhost"})


def broken_rules(settings: Quire) -> Iterator[tuple[Path_, str]]:
    """The setting and what is wrong, for each rule that joins several settings or reads a text."""
    yield from _web_rules(settings)
    yield from _plan_rules(settings)
    yield from broken_resolvers(settings.resolvers)
    if settings.download.bytes_min >= settings.download.bytes_max:
        yield ("download", "bytes_max"), f"must be greater than bytes_min ({settings.download.bytes_min})"
    for source, endpoints in msgspec.to_builtins(settings.sources).items():
        for name, url in endpoints.items():
            if name == "api_key":
                if url and not re.fullmatch(r"[!-~]+", url):
                    yield ("sources", source, name), "must be a key, without spaces"  # never shown itself
            elif isinstance(url, str) and not re.match(r"https?://[^\s/]+\S*$", url):
                yield ("sources", source, name), f"{url!r} must be an http:// or https:// address"


def _web_rules(settings: Quire) -> Iterator[tuple[Path_, str]]:
    web = settings.web
    if web.stand_in is not None and not _on_loopback(web.stand_in):
        yield ("web", "stand_in"), f"{web.stand_in!r} must be http://127.0.0.1:PORT (or localhost, [::1])"
    if web.pacing == "none" and web.stand_in is None:
        yield (
            ("web", "pacing"),
            "none is accepted only together with web.stand_in: leave it polite, or name a stand-in",
        )
    if settings.fallback.gates.offline_behavior == "cache_only" and not web.cache.enabled:
        yield (
            ("fallback", "gates", "offline_behavior"),
            "cache_only has nothing to answer from: set web.cache.enabled to true, or choose another",
        )
    if web.proxy is not None and not re.match(r"https?://[^\s/]+/?$", web.proxy):
        yield ("web", "proxy"), f"{web.proxy!r} must be http://HOST:PORT"
    if web.contact_email is not None:
        if not re.match(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$", web.contact_email):
            yield ("web", "contact_email"), f"{web.contact_email!r} is no e-mail address"
        elif web.stand_in is None and web.contact_email.lower().split("@")[1] in PLACEHOLDER_HOSTS:
            yield ("web", "contact_email"), f"{web.contact_email!r} is a placeholder, which Unpaywall refuses"


def _on_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    bare = parts.scheme == "http" and parts.path in ("", "/") and not parts.query and not parts.username
    return bare and parts.hostname in ("127.0.0.1", "localhost", "::1") and port != 0


def _plan_rules(settings: Quire) -> Iterator[tuple[Path_, str]]:
    plan = settings.fallback
    tier_of: dict[str, str] = {}
    named: set[str] = set()
    for tier in plan.tiers:
        if tier.name in named:
            yield ("fallback", "tiers", tier.name), "two tiers have this name; rename one"
        named.add(tier.name)
        for source in tier.sources:
            if source in tier_of:
                yield (
                    ("fallback", "tiers", tier.name, "sources"),
                    f"{source} is in tier {tier_of[source]} already; name it once",
                )
            tier_of.setdefault(source, tier.name)
    both = sorted(set(plan.thresholds.retryable) & set(plan.thresholds.terminal))
    if both:
        yield ("fallback", "thresholds", "retryable"), f"{both} are terminal as well; name each status once"
