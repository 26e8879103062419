"""arXiv: the PDF's URL follows from the id (https://info.arxiv.org/help/arxiv_identifier.html)."""

from __future__ import annotations

from urllib.parse import urlsplit

from ...config.settings import ArxivEndpoint, Thresholds
from ...events.work import Work, normal_arxiv
from ..web.exchange import Role, Web
from .finding import Candidate, Found, Lookup, distinct, host_of
from .preference import Preference

_HOSTS = frozenset({"arxiv.org", "www.arxiv.org"})
"""The one site; ``export.arxiv.org`` is another, made for programs, and may answer where this one refuses."""
_PDF = "/pdf/"


class Arxiv:
    """The source ``arxiv_pdf``."""

    name = "arxiv_pdf"

    def __init__(self, settings: ArxivEndpoint, thresholds: Thresholds, wanted: Preference) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds
        self._wanted = wanted

    def __repr__(self) -> str:
        return f"Arxiv({self._endpoint!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs an arXiv id, which may stand in a DOI or in a URL; what it has are submitted versions."""
        if not arxiv_of(lookup)[0]:
            return "no_arxiv_id"
        return None if self._wanted.wants("submittedVersion", "repository") else "unwanted_copies"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """The opening of its first candidate."""
        candidate = self._candidates(lookup)[0]
        return candidate.url, candidate.role

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """One candidate, or two where a version was asked for; it costs no request."""
        candidates = self._candidates(lookup)
        identifier = arxiv_of(lookup)[0]
        learned = Work(arxiv_id=identifier) if lookup.work.arxiv_id != identifier else None
        return Found(candidates=candidates, identified=learned, host=host_of(self._endpoint))

    def _candidates(self, lookup: Lookup) -> tuple[Candidate, ...]:
        identifier, version = arxiv_of(lookup)
        wanted = Candidate(url=f"{self._endpoint}/{identifier}{version}", rule="arxiv_id", version=version)
        newest = Candidate(url=f"{self._endpoint}/{identifier}", rule="arxiv_newest")
        return distinct((wanted, newest))


def arxiv_of(lookup: Lookup) -> tuple[str, str]:
    """The arXiv id and version of a work, out of its id, DOI or URL, or a URL seen; else two empty texts."""
    work = lookup.work
    if work.arxiv_id:
        return work.arxiv_id, work.arxiv_version
    for text in (work.doi, work.url, *lookup.seen):
        found = normal_arxiv(text) if "arxiv" in text.lower() else None
        if found:
            return found
    return "", ""


def paper_at_arxiv(url: str) -> str:
    """The one name of the PDF that a URL at arXiv leads to, whatever its scheme and ending; else ``""``.

    arXiv redirects all of them to it (https://info.arxiv.org/help/arxiv_identifier.html). The version stays:
    one may be withdrawn and another not.
    """
    if host_of(url) not in _HOSTS:
        return ""
    path = urlsplit(url).path
    found = normal_arxiv(path.removeprefix(_PDF)) if path.startswith(_PDF) else None
    return f"https://arxiv.org{_PDF}{''.join(found)}" if found else ""
