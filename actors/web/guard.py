"""The address guard: which URLs and addresses quire asks at all, and the exact form in which a URL travels.

A URL from the network may point into the machine or its own network (server-side request forgery). So
scheme, credentials and host are judged before every hop, in all spellings that a resolver would
understand, and the addresses that DNS answers are judged again by ``Guard.allows_address``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urljoin

import msgspec

from ...events.keys import canonical_host

URL_CHARS_MAX = 16_384
PLACES_MAX = 2_048
"""URLs whose parts are remembered: the gate, the client and a retry each ask for the same ones."""
HOSTS_MAX = 2_048
"""Hosts whose judgement is remembered."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#\\]*)([^#]*)", re.DOTALL)
_UNSENDABLE = re.compile(r"[^\x21-\x7e]")
_DROPPED = re.compile(r"[\t\n\r]")
_NAME = re.compile(r"^[a-z0-9_](?:[a-z0-9_\-]{0,62})(?:\.[a-z0-9_][a-z0-9_\-]{0,62})+$")
_NUMBER = re.compile(r"^(?:0x[0-9a-f]*|[0-9]+)$")
_TRACKING = re.compile(
    r"^(?:utm_[a-z_]+|gclid|gclsrc|dclid|gbraid|wbraid|fbclid|msclkid|yclid|twclid|ttclid|igshid|mc_cid|mc_eid"
    r"|_hsenc|_hsmi|__hstc|__hssc|__hsfp|_ga|_gl|mkt_tok|wt_mc|oly_anon_id|oly_enc_id|vero_id|s_cid|xtor)$",
    re.IGNORECASE,
)
_PRIVATE_SUFFIXES = (
    ".localhost",
    ".local",
    ".localdomain",
    ".internal",
    ".intranet",
    ".private",
    ".corp",
    ".home",
    ".home.arpa",
    ".lan",
    ".in-addr.arpa",
    ".ip6.arpa",
)
# Public by number, yet each serves the secrets of a machine in some cloud.
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
_IETF = ipaddress.ip_network("192.0.0.0/24")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadUrl(ValueError):
    """The text is no URL that could be asked; ``reason`` is ``bad_url`` or ``address_refused``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Place(msgspec.Struct, frozen=True):
    """A URL, taken apart for the wire."""

    scheme: str
    host: str
    """Lower case, punycode; IPv6 without brackets."""
    port: int
    target: str
    """Path and query exactly as given; only what cannot travel is percent-encoded."""

    @property
    def site(self) -> str:
        """The host, with its port where that is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and site: what a robots.txt speaks for."""
        return f"{self.scheme}://{self.site}"

    @property
    def url(self) -> str:
        """The URL as it is asked."""
        return self.origin + self.target

    @property
    def is_bare_home(self) -> bool:
        """It is the front page of the host and nothing more."""
        return self.target == "/"


def _encoded(text: str) -> str:
    return _UNSENDABLE.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace")), text
    )


def _port(text: str, scheme: str) -> int:
    if not text:
        return _DEFAULT_PORTS[scheme]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65_535):
        raise BadUrl("bad_url", "the port is no number from 1 to 65535")
    return int(text)


@lru_cache(maxsize=PLACES_MAX)
def place(url: str) -> Place:
    """Take a URL apart, changing nothing that a server could see except what cannot travel at all.

    Raises:
        BadUrl: not an absolute http(s) URL with a host and without credentials.
    """
    text = _DROPPED.sub("", url.strip())
    if len(text) > URL_CHARS_MAX:
        raise BadUrl("bad_url", f"longer than {URL_CHARS_MAX} characters")
    found = _URL.match(text)
    if found is None:
        raise BadUrl("bad_url", "not an absolute URL")
    scheme, authority, rest = found[1].lower(), found[2], found[3]
    if scheme not in _DEFAULT_PORTS:
        raise BadUrl("address_refused", f"the scheme {scheme[:20]!r} is not http or https")
    if "@" in authority:
        raise BadUrl("address_refused", "the URL holds credentials")
    host, port = _host_and_port(authority)
    target = _encoded(rest if rest.startswith("/") else "/" + rest)
    if len(target) > URL_CHARS_MAX:
        raise BadUrl("bad_url", f"longer than {URL_CHARS_MAX} characters as it would travel")
    return Place(scheme, host, _port(port, scheme), target)


def _host_and_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        inside, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise BadUrl("bad_url", "the host's brackets do not match")
        return inside.lower(), after[1:]
    name, _, port = authority.partition(":")
    host = canonical_host(name)
    if not host:
        raise BadUrl("bad_url", "the URL has no host")
    return host, port


def without_tracking(asked: Place) -> Place:
    """The same place without the parameters that only follow readers around (utm_*, gclid, fbclid, …)."""
    path, mark, query = asked.target.partition("?")
    if not mark:
        return asked
    kept = [part for part in query.split("&") if not _TRACKING.match(part.partition("=")[0])]
    if len(kept) == query.count("&") + 1:
        return asked
    return Place(asked.scheme, asked.host, asked.port, path + (f"?{'&'.join(kept)}" if kept else ""))


def joined(base: Place, location: bytes) -> Place:
    """Where a ``Location`` header leads; the bytes may be UTF-8, Latin-1, relative or nonsense.

    Raises:
        BadUrl: it leads nowhere.
    """
    try:
        text = location.decode()
    except UnicodeDecodeError:
        text = location.decode("latin-1")
    text = _DROPPED.sub("", text.strip())
    if not text or "\0" in text:
        raise BadUrl("bad_redirect", "an empty or binary Location")
    if _URL.match(text):
        return place(text)
    try:
        return place(urljoin(base.url, text))
    except ValueError as error:
        if isinstance(error, BadUrl):
            raise
        raise BadUrl("bad_redirect", str(error)) from error


def literal_address(host: str) -> Address | None:
    """The IP address that a host spells in any form a resolver takes (``127.1``, ``0x7f.1``), or None.

    Source: WHATWG URL, "IPv4 parser"; inet_aton(3).
    """
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            return None
    labels = host.rstrip(".").split(".")
    if not 1 <= len(labels) <= 4 or not all(_NUMBER.match(label) for label in labels):
        return None
    try:
        numbers = [_number(label) for label in labels]
    except ValueError:
        return None
    last_max = 256 ** (5 - len(numbers))
    if any(number > 255 for number in numbers[:-1]) or numbers[-1] >= last_max:
        return None
    value = numbers[-1] + sum(number << (24 - 8 * place_) for place_, number in enumerate(numbers[:-1]))
    return ipaddress.IPv4Address(value)


def _number(label: str) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8) if label.startswith("0") and len(label) > 1 else int(label)


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local or int(address) >> 32 == 0:
            return False
    if address.is_multicast or address.is_reserved or address in _METADATA or address in _IETF:
        return False
    return address.is_global


@lru_cache(maxsize=HOSTS_MAX)
def _refusal(host: str, *, rehearsal: bool) -> str:
    """Why a host is not on the public web, or ``""``."""
    address = literal_address(host)
    if address is not None:
        if rehearsal:
            return f"{host} is an IP literal, which means nothing in a rehearsal"
        return "" if is_public(address) else f"{host} is not a public address ({address})"
    if ":" in host or _NUMBER.match(host.rsplit(".", 1)[-1]):
        return f"{host[:80]!r} is a broken address"
    if "." not in host:
        return f"{host[:80]!r} is a name of the local network"
    if host.endswith(_PRIVATE_SUFFIXES):
        return f"{host[:80]!r} is a private name"
    return "" if _NAME.match(host) and len(host) <= 253 else f"{host[:80]!r} is no host name"


class Guard:
    """Judges places and addresses; ``allow_hosts`` are let through although they are private.

    ``rehearsal``: names are not resolved and every IP literal is refused, since none could be meant.
    """

    def __init__(self, allow_hosts: Iterable[str] = (), *, rehearsal: bool = False) -> None:
        self._allowed = frozenset(host.lower().strip("[]") for host in allow_hosts)
        self._rehearsal = rehearsal

    def __repr__(self) -> str:
        return f"<Guard allows={sorted(self._allowed)} rehearsal={self._rehearsal}>"

    def allows_host(self, host: str) -> bool:
        """Whether a setting lets this host through."""
        return host in self._allowed

    def allows_address(self, address: str) -> bool:
        """Whether an address that DNS answered may be connected to."""
        try:
            return is_public(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return False

    def check(self, asked: Place) -> None:
        """Refuse a place that is not on the public web.

        Raises:
            BadUrl: with reason ``address_refused``.
        """
        if asked.host in self._allowed or asked.site in self._allowed:
            return
        why = _refusal(asked.host, rehearsal=self._rehearsal)
        if why:
            raise BadUrl("address_refused", why)
