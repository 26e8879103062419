"""Cookies for one chain of requests, and the dates that HTTP writes them with."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from ..runtime.ports import NANOSECONDS

COOKIES_MAX = 64
"""Cookies that one chain keeps."""
COOKIE_CHARS_MAX = 4_096
"""Longest name and value together; a longer cookie is dropped."""
_COOKIE_TEXT = re.compile(r"[\x20-\x7e\x80-\xff]*")


class Cookies:
    """The cookies of one chain of requests: taken from each answer, given to each hop they are for.

    A domain with a leading dot includes its subdomains (RFC 6265 5.1.3); one without is a host alone.
    Paths are not kept: a chain is too short for them to matter.
    """

    def __init__(self, given: tuple[tuple[str, str, str], ...] = ()) -> None:
        self._kept: dict[tuple[str, str], str] = {}
        for domain, name, value in given[:COOKIES_MAX]:
            self._keep(domain.lower(), name, value)

    def __repr__(self) -> str:
        return f"<Cookies {sorted(self._kept)}>"

    def taken(self) -> tuple[tuple[str, str, str], ...]:
        """All of them, as (domain, name, value)."""
        return tuple((domain, name, value) for (domain, name), value in self._kept.items())

    def header(self, host: str) -> str:
        """The Cookie header for a host; ``""`` when there are none."""
        return "; ".join(
            f"{name}={value}" for (domain, name), value in self._kept.items() if _is_for(domain, host)
        )

    def take(self, host: str, set_cookies: list[str], *, wall_ns: int) -> None:
        """Keep, replace or drop what a host's ``Set-Cookie`` headers say."""
        for line in set_cookies:
            pair, *attributes = line.split(";")
            name, equals, value = pair.partition("=")
            said = {
                key.strip().lower(): text.strip()
                for key, _, text in (attribute.partition("=") for attribute in attributes)
            }
            domain = _domain(said.get("domain", ""), host)
            if not equals or not name.strip() or domain is None:
                continue
            if _is_over(said, wall_ns):
                self._kept.pop((domain, name.strip()), None)
            else:
                self._keep(domain, name.strip(), value.strip())

    def _keep(self, domain: str, name: str, value: str) -> None:
        fits = len(name) + len(value) <= COOKIE_CHARS_MAX and _COOKIE_TEXT.fullmatch(name + value)
        if fits and ((domain, name) in self._kept or len(self._kept) < COOKIES_MAX):
            self._kept[domain, name] = value


def _is_for(domain: str, host: str) -> bool:
    return host == domain.lstrip(".") or (domain.startswith(".") and host.endswith(domain))


def _domain(named: str, host: str) -> str | None:
    """The domain that a host may set a cookie for; None when it is not its own."""
    bare = named.lower().strip(".")
    if not bare:
        return host
    # One label (``.com``) would be everybody's.
    return f".{bare}" if _is_for(f".{bare}", host) and ("." in bare or bare == host) else None


def _is_over(said: dict[str, str], wall_ns: int) -> bool:
    age = said.get("max-age", "")
    if age.lstrip("-").isdigit():
        return int(age[:12]) <= 0
    expires = http_date_s(said.get("expires", ""))
    return expires is not None and expires * NANOSECONDS <= wall_ns


def http_date_s(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date in any of its forms; None when it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
