"""The seven sources by name, and those that the user made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from ...config.settings import Resolver, Sources, Thresholds
from .arxiv import Arxiv
from .crossref import Crossref
from .custom import Custom
from .doi_redirect import DoiRedirect
from .europe_pmc import EuropePmc
from .finding import Finder, Found
from .landing_scrape import LandingScrape, inline
from .pmc import Pmc
from .preference import Preference
from .unpaywall import Unpaywall
from .wayback import Wayback

IDENTIFIER = Crossref.name
"""The finder that leads to no PDF: it has the first turn of a work that is known by title alone."""

LEARNS_FROM: dict[str, tuple[str, ...]] = {
    "landing_scrape_pdf": ("unpaywall_pdf", "doi_redirect_pdf"),
    "wayback_pdf": ("unpaywall_pdf", "doi_redirect_pdf", "landing_scrape_pdf"),
}
"""Sources that read the pages and URLs which others meet; what they would find before those is not known."""


def finders(
    sources: Sources,
    thresholds: Thresholds,
    *,
    resolvers: Iterable[Resolver] = (),
    aside: Callable[[Callable[[], Found]], Awaitable[Found]] = inline,
) -> dict[str, Finder]:
    """A finder for each source name, and the one that identifies works known by title alone.

    Args:
        sources: The endpoints.
        thresholds: Which statuses are worth another try.
        resolvers: What the settings say of the user's own sources.
        aside: Runs the reading of a page, which is work for the processor, off the event loop
            (``Scheduler.aside``); in place by default.
    """
    wanted = Preference(sources.candidates)
    landing, doi = sources.landing_scrape_pdf, sources.doi_redirect_pdf
    made = [Custom(one, thresholds, wanted, landing=landing, doi=doi, aside=aside) for one in resolvers]
    return {
        IDENTIFIER: Crossref(sources.crossref, thresholds),
        "unpaywall_pdf": Unpaywall(sources.unpaywall_pdf, thresholds, wanted),
        "arxiv_pdf": Arxiv(sources.arxiv_pdf, thresholds, wanted),
        "pmc_pdf": Pmc(sources.pmc_pdf, thresholds, wanted),
        "doi_redirect_pdf": DoiRedirect(sources.doi_redirect_pdf, thresholds, wanted),
        "landing_scrape_pdf": LandingScrape(
            sources.landing_scrape_pdf, thresholds, wanted, doi=sources.doi_redirect_pdf, aside=aside
        ),
        "europe_pmc_pdf": EuropePmc(sources.europe_pmc_pdf, thresholds, wanted),
        "wayback_pdf": Wayback(sources.wayback_pdf, thresholds, wanted),
        **{one.name: one for one in made},
    }
