"""The seven sources by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...config.settings import SourceName, Sources, Thresholds
from .arxiv import Arxiv
from .doi_redirect import DoiRedirect
from .europe_pmc import EuropePmc
from .finding import Finder, Found
from .landing_scrape import LandingScrape, inline
from .pmc import Pmc
from .unpaywall import Unpaywall
from .wayback import Wayback


def finders(
    sources: Sources,
    thresholds: Thresholds,
    *,
    aside: Callable[[Callable[[], Found]], Awaitable[Found]] = inline,
) -> dict[SourceName, Finder]:
    """A finder for each source name.

    Args:
        sources: The endpoints.
        thresholds: Which statuses are worth another try.
        aside: Runs the reading of a page, which is work for the processor, off the event loop
            (``Scheduler.aside``); in place by default.
    """
    return {
        "unpaywall_pdf": Unpaywall(sources.unpaywall_pdf, thresholds),
        "arxiv_pdf": Arxiv(sources.arxiv_pdf, thresholds),
        "pmc_pdf": Pmc(sources.pmc_pdf, thresholds),
        "doi_redirect_pdf": DoiRedirect(sources.doi_redirect_pdf, thresholds),
        "landing_scrape_pdf": LandingScrape(
            sources.landing_scrape_pdf, thresholds, doi=sources.doi_redirect_pdf, aside=aside
        ),
        "europe_pmc_pdf": EuropePmc(sources.europe_pmc_pdf, thresholds),
        "wayback_pdf": Wayback(sources.wayback_pdf, thresholds),
    }
