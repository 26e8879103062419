"""Settings as frozen records: the names, types and bounds of everything a user may set.

The values live in ``defaults.yaml``; a field without a value there is an error at import of the
loader, so that a setting cannot exist without a documented default.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

SOURCES = (
    "unpaywall_pdf",
    "arxiv_pdf",
    "pmc_pdf",
    "doi_redirect_pdf",
    "landing_scrape_pdf",
    "europe_pmc_pdf",
    "wayback_pdf",
)
"""The names of the seven sources, in the order in which they are tried by default."""

SourceName = Literal[
    "unpaywall_pdf",
    "arxiv_pdf",
    "pmc_pdf",
    "doi_redirect_pdf",
    "landing_scrape_pdf",
    "europe_pmc_pdf",
    "wayback_pdf",
]

Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, msgspec.Meta(ge=1)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
PerSecond = Annotated[float, msgspec.Meta(gt=0, le=10_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every settings record: immutable, named fields only, unknown names refused."""


class Budgets(Settings, frozen=True, kw_only=True):
    """What one work may cost."""

    total_timeout_ms: Milliseconds
    """Time for resolving, in milliseconds; streaming a found PDF does not count."""
    total_attempts: Count
    """Turns of sources, started."""
    max_concurrent: Count
    """Turns in flight at once."""
    per_source_timeout_ms: Milliseconds
    """Time of one turn where its policy names none, in milliseconds."""


class Tier(Settings, frozen=True, kw_only=True):
    """Sources that are tried together before the next tier is reached."""

    name: str
    parallel: Count
    sources: tuple[str, ...]
    """Each one of ``SOURCES`` or ``custom:…``; the loader refuses any other."""


class Policy(Settings, frozen=True, kw_only=True):
    """How one source's turn is run."""

    timeout_ms: Milliseconds | None = None
    retries_max: Annotated[int, msgspec.Meta(ge=0, le=20)]
    robots_respect: bool


class Gates(Settings, frozen=True, kw_only=True):
    """When a source is passed over for now, at no cost to the budget."""

    skip_if_breaker_open: bool
    offline_behavior: Literal["metadata_only", "block_all", "cache_only"]
    skip_if_rate_wait_exceeds_ms: Milliseconds


class Thresholds(Settings, frozen=True, kw_only=True):
    """Which HTTP statuses are worth another try and which are final."""

    retryable: tuple[int, ...]
    terminal: tuple[int, ...]


class Rollout(Settings, frozen=True, kw_only=True):
    """A steady share of the jobs that may use the fallback tiers at all."""

    enabled: bool
    percent: Percent


class Fallback(Settings, frozen=True, kw_only=True):
    """The fallback plan of one work."""

    profile: Literal["default", "fast", "reliable"]
    budgets: Budgets
    tiers: tuple[Tier, ...]
    policies: dict[str, Policy]
    gates: Gates
    thresholds: Thresholds
    rollout: Rollout
    disabled: tuple[str, ...]
    """Sources that are never tried."""


class Lease(Settings, frozen=True, kw_only=True):
    """How long a worker owns a job without a sign of life."""

    ttl_s: Seconds
    renew_fraction: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    lonely_after_takeovers: Count
    """Takeovers without progress after which a job runs alone."""


class Retry(Settings, frozen=True, kw_only=True):
    """When a failed job may open a new generation."""

    generations_max: Count
    backoff_s: Seconds
    """Wait before the second generation, in seconds; doubled for each one after."""


class Ops(Settings, frozen=True, kw_only=True):
    """The ledger of effects."""

    stale_after_s: Seconds
    """Age at which an op in flight counts as abandoned, whoever holds the lease."""


class Download(Settings, frozen=True, kw_only=True):
    """Bounds of one PDF."""

    bytes_min: Bytes
    bytes_max: Bytes
    stall_s: Seconds
    """Longest silence within a stream, in seconds."""
    bytes_per_s_min: Bytes
    """Slowest average rate: with the size this gives a stream's deadline."""
    free_space_min: Bytes
    """Space that must stay free on the library's disk, in bytes."""
    chunk_bytes: Bytes
    disk_threads: Annotated[int, msgspec.Meta(ge=1, le=32)]


class Verify(Settings, frozen=True, kw_only=True):
    """What is asked of a PDF beyond being a whole one."""

    title: Literal["off", "warn", "fail"]
    """Whether its text must show the work's DOI or title: not looked at; told; else the PDF is refused."""


class Breaker(Settings, frozen=True, kw_only=True):
    """When a failing host is left alone."""

    failures_to_open: Count
    open_s: Seconds


class Limits(Settings, frozen=True, kw_only=True):
    """Requests per second, by what is asked for or by host."""

    metadata_per_s: PerSecond
    landing_per_s: PerSecond
    artifact_per_s: PerSecond
    hosts_per_s: dict[str, PerSecond]
    """Limits of single hosts; they stand above the three by role."""


class Cache(Settings, frozen=True, kw_only=True):
    """The HTTP cache of metadata and landing pages; artifacts are never in it."""

    enabled: bool
    bytes_max: Bytes
    """Size of the folder ``cache`` of the library; what was longest of no use is evicted."""
    ttl_max_s: Seconds
    """Longest time that an answer counts as fresh, whatever it says, in seconds."""


class Web(Settings, frozen=True, kw_only=True):
    """The network."""

    contact_email: str | None
    stand_in: str | None
    """``http://127.0.0.1:PORT``: every request goes to this server instead."""
    pacing: Literal["polite", "none"]
    proxy: str | None
    allow_hosts: tuple[str, ...]
    """Hosts that the address guard lets through although they are private."""
    offline: bool
    connect_timeout_ms: Milliseconds
    read_timeout_ms: Milliseconds
    connections_max: Count
    redirects_max: Count
    page_bytes_max: Bytes
    metadata_bytes_max: Bytes
    inflate_ratio_max: Count
    retry_base_ms: Milliseconds
    retry_after_max_s: Seconds
    robots_ttl_s: Seconds
    cache: Cache
    breaker: Breaker
    limits: Limits


class UnpaywallEndpoint(Settings, frozen=True, kw_only=True):
    """Where Unpaywall answers."""

    endpoint: str


class ArxivEndpoint(Settings, frozen=True, kw_only=True):
    """Where arXiv serves PDFs."""

    endpoint: str


class PmcEndpoints(Settings, frozen=True, kw_only=True):
    """The open-data bucket of PMC and the id converter."""

    endpoint: str
    id_converter: str


class DoiEndpoint(Settings, frozen=True, kw_only=True):
    """The DOI resolver."""

    endpoint: str


class LandingOptions(Settings, frozen=True, kw_only=True):
    """Bounds of the landing-page reader."""

    candidates_max: Count
    depth_max: Count
    """Pages read for one work, frames and refreshes included."""


class EuropePmcEndpoint(Settings, frozen=True, kw_only=True):
    """The REST service of Europe PMC."""

    endpoint: str


class WaybackEndpoints(Settings, frozen=True, kw_only=True):
    """The three faces of the Wayback Machine."""

    cdx: str
    availability: str
    replay: str


class CrossrefOptions(Settings, frozen=True, kw_only=True):
    """How a work known by title alone is identified."""

    endpoint: str
    timeout_ms: Milliseconds
    retries_max: Annotated[int, msgspec.Meta(ge=0, le=20)]
    score_min: Annotated[float, msgspec.Meta(ge=0.5, le=1)]
    """Least likeness of the title found to the title given."""


Version = Literal["published", "accepted", "submitted"]
HostKind = Literal["repository", "publisher"]


class Candidates(Settings, frozen=True, kw_only=True):
    """Which of the copies that a source names are taken, and in what order they are tried.

    What is left out of a list is never taken from a source that states it; what no source states comes last.
    """

    versions: Annotated[tuple[Version, ...], msgspec.Meta(min_length=1)]
    """Any other order than published, accepted, submitted also goes before a service's best location."""
    hosts: Annotated[tuple[HostKind, ...], msgspec.Meta(min_length=1)]


class OpenAlexOptions(Settings, frozen=True, kw_only=True):
    """How works are listed for ``run --openalex``; OpenAlex leads to no PDF itself."""

    endpoint: str
    per_page: Annotated[int, msgspec.Meta(ge=1, le=200)]
    """Works asked for at once; the service lets at most 100 in today, and 200 in former years."""
    timeout_ms: Milliseconds
    """Time for one page with all its retries, in milliseconds."""
    retries_max: Annotated[int, msgspec.Meta(ge=0, le=20)]
    api_key: str | None
    """Sent with each question where there is one; never written to the log."""


class Sources(Settings, frozen=True, kw_only=True):
    """The endpoints of the sources, so that tests and mirrors can stand in; and which copies are taken."""

    candidates: Candidates
    unpaywall_pdf: UnpaywallEndpoint
    arxiv_pdf: ArxivEndpoint
    pmc_pdf: PmcEndpoints
    doi_redirect_pdf: DoiEndpoint
    landing_scrape_pdf: LandingOptions
    europe_pmc_pdf: EuropePmcEndpoint
    wayback_pdf: WaybackEndpoints
    crossref: CrossrefOptions
    openalex: OpenAlexOptions


class Mappings(Settings, frozen=True, kw_only=True):
    """Where the addresses stand in each object that a JSON selector leads to; ``""`` for nowhere."""

    url: str = ""
    """The path of the PDF's address."""
    pageURL: str = ""
    """The path of the landing page's address; spelt as reference managers spell it."""


class Resolver(Settings, frozen=True, kw_only=True):
    """A source that the user made; the fields are those of Zotero's custom PDF resolvers.

    https://www.zotero.org/support/kb/custom_pdf_resolvers
    """

    name: str
    method: str = "GET"
    """``GET``; any other is refused by a rule."""
    url: str
    """The address that is asked, with ``{doi}``, ``{pmid}``, ``{pmcid}`` or ``{arxiv}`` in path or query."""
    mode: Literal["html", "json"]
    """What comes back where it is not the PDF itself."""
    selector: str
    """``html``: a CSS selector; ``json``: a path such as ``.oa_locations[0].url``."""
    attribute: str = ""
    """``html``: the attribute that holds the address; ``""``: the one that the element has, else its text."""
    index: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    """``html``: which of the elements that match, from 0; from the end where it is negative."""
    mappings: Mappings = Mappings()
    """``json``: what to take of the objects that match; without it they are addresses themselves."""
    automatic: bool = True
    """``false``: it is loaded and disabled."""


class Store(Settings, frozen=True, kw_only=True):
    """The log."""

    map_size: Bytes
    """Address space reserved for the log, in bytes; reserved once, used as needed."""
    commit_batches_max: Count
    """Batches that share one commit and one fsync."""


class Quire(Settings, frozen=True, kw_only=True):
    """All settings of one run."""

    library: str
    works_in_hand: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    store: Store
    lease: Lease
    retry: Retry
    ops: Ops
    download: Download
    verify: Verify
    fallback: Fallback
    web: Web
    sources: Sources
    resolvers: tuple[Resolver, ...]
    """Sources that the user made; ``config/resolvers.py`` gives each its name, tier and policy."""
