"""Which of the copies that a source names are wanted, and in what order (the setting ``sources.candidates``).

The services that name several copies also name the best of them, and choose it by the same order of versions
that quire has by default: published, accepted, submitted. As long as the user keeps to that order, whatever
is left out of it, the service's choice goes first, then come the kinds of hosts, then the versions. Another
order is a wish against the service's choice: then the version goes before everything.
"""

from __future__ import annotations

from ...config.settings import Candidates, HostKind, Version
from ..web.page_repairs import within
from .finding import host_of

BY_VALUE: tuple[Version, ...] = ("published", "accepted", "submitted")
"""The order by which the services choose their best copy."""
HOST_KINDS: tuple[HostKind, ...] = ("repository", "publisher")
PREPRINT_SERVERS = (
    "arxiv.org", "biorxiv.org", "medrxiv.org", "chemrxiv.org", "psyarxiv.com", "preprints.org",
    "researchsquare.com", "techrxiv.org", "essopenarchive.org", "authorea.com",
)  # fmt: skip
"""Hosts of submitted versions alone: a URL there states its version."""


class Preference:
    """The user's choice among copies."""

    def __init__(self, settings: Candidates) -> None:
        self._versions = settings.versions
        self._hosts = settings.hosts
        self._overrules = list(self._versions) != sorted(self._versions, key=BY_VALUE.index)

    def __repr__(self) -> str:
        return f"Preference({' > '.join(self._versions)}; {' > '.join(self._hosts)})"

    def wants(self, version: str, host: str = "") -> bool:
        """Whether a copy is ever taken; what its source does not state is not held against it.

        Args:
            version: ``publishedVersion``, ``acceptedVersion``, ``submittedVersion``, or anything else.
            host: ``repository``, ``publisher``, or anything else.
        """
        stated = version.removesuffix("Version")
        unwanted = stated in BY_VALUE and stated not in self._versions
        return not unwanted and (host not in HOST_KINDS or host in self._hosts)

    def wants_page(self, url: str) -> bool:
        """Whether what stands at a URL is ever taken, as far as its host says which version it is."""
        return self.wants("submittedVersion" if within(host_of(url), PREPRINT_SERVERS) else "")

    def rank(self, version: str, host: str = "", *, best: bool = False) -> tuple[int, int, int]:
        """Where a copy stands in the order: smaller is tried first; what is not stated comes last.

        Args:
            version: as in ``wants``.
            host: as in ``wants``.
            best: the service names it as its best.
        """
        by_version = _place(version.removesuffix("Version"), self._versions)
        by_host = _place(host, self._hosts)
        return (by_version, not best, by_host) if self._overrules else (not best, by_host, by_version)


def _place(stated: str, order: tuple[str, ...]) -> int:
    return order.index(stated) if stated in order else len(order)


DEFAULT = Preference(Candidates(versions=BY_VALUE, hosts=HOST_KINDS))
"""The preference of somebody who set none."""
