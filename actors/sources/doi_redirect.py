"""The DOI resolver: followed to where it leads; a PDF wins, a page goes on to the landing scraper."""

from __future__ import annotations

from ...config.settings import DoiEndpoint, Thresholds
from ..web.exchange import Role, Web
from .finding import Candidate, Found, Lookup, host_of, quoted_doi
from .preference import Preference

PREPRINT_DOIS = ("10.48550/", "10.21203/rs.", "10.20944/preprints", "10.26434/chemrxiv", "10.31234/osf.io/")
"""Beginnings of the DOIs that preprint servers give."""


class DoiRedirect:
    """The source ``doi_redirect_pdf``."""

    name = "doi_redirect_pdf"

    def __init__(self, settings: DoiEndpoint, thresholds: Thresholds, wanted: Preference) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds
        self._wanted = wanted

    def __repr__(self) -> str:
        return f"DoiRedirect({self._endpoint!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a DOI; one of a preprint leads to a submitted version."""
        doi = lookup.work.doi
        if doi.startswith(PREPRINT_DOIS) and not self._wanted.wants("submittedVersion"):
            return "unwanted_copies"
        return None if doi else "no_doi"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """The resolver's URL of the DOI; its opening is the source's whole effect."""
        return f"{self._endpoint}/{quoted_doi(lookup.work.doi)}", "landing"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """The resolver's URL as the one candidate; it costs no request."""
        url, role = self.first_request(lookup)
        return Found(candidates=(Candidate(url=url, rule="doi_redirect", role=role),), host=host_of(url))
