"""The DOI resolver: followed to where it leads; a PDF wins, a page goes on to the landing scraper."""

from __future__ import annotations

from ...config.settings import DoiEndpoint, Thresholds
from ..web.exchange import Role, Web
from .finding import Candidate, Found, Lookup, host_of, quoted_doi


class DoiRedirect:
    """The source ``doi_redirect_pdf``."""

    name = "doi_redirect_pdf"

    def __init__(self, settings: DoiEndpoint, thresholds: Thresholds) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._thresholds = thresholds

    def __repr__(self) -> str:
        return f"DoiRedirect({self._endpoint!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a DOI."""
        return None if lookup.work.doi else "no_doi"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """The resolver's URL of the DOI; its opening is the source's whole effect."""
        return f"{self._endpoint}/{quoted_doi(lookup.work.doi)}", "landing"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """The resolver's URL as the one candidate; it costs no request."""
        url, role = self.first_request(lookup)
        return Found(candidates=(Candidate(url=url, rule="doi_redirect", role=role),), host=host_of(url))
