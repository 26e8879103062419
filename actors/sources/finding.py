"""What every source is asked and answers, and the table of reasons that ``quire explain`` prints.

A finder turns one work into candidates. It never opens a PDF: that, budgets and the ledger belong to the
adapter. Parsing is pure (bytes in, candidates or a reason out) and stands apart from fetching.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from ...config.settings import Thresholds
from ...events.keys import canonical_url
from ...events.work import Work
from ..web.exchange import Answer, Request, Role, Web, WebError

CANDIDATES_MAX = 32
"""Candidates of one source's turn; a record that lists more is cut."""
SEEN_MAX = 12
"""Landing URLs that one source hands on."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A URL that may be the PDF; only its bytes decide."""

    url: str
    rule: str
    """What found it, for the log and for tuning."""
    role: Role = "artifact"
    referer: str = ""
    version: str = ""
    """``publishedVersion``, ``acceptedVersion``, ``submittedVersion``, an arXiv version, or ``""``."""
    md5: str = ""
    """What the bytes must hash to, 32 hex digits, where the source says."""
    cookies: tuple[tuple[str, str, str], ...] = ()
    """Cookies of the page that named it, as (domain, name, value)."""


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a source."""

    work: Work
    email: str
    seen: tuple[str, ...] = ()
    """URLs that earlier sources met (landing pages, failed PDF URLs), newest last."""
    pages: tuple[Answer, ...] = ()
    """Pages fetched already; they are never fetched again."""
    timeout_s: float
    """Time for the whole turn up to the first PDF byte, in seconds."""
    retries_max: int
    robots: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a source found: candidates in the order in which to try them, or why there are none."""

    candidates: tuple[Candidate, ...]
    reason: str = ""
    """A code of ``REASONS`` when there are no candidates."""
    identified: Work | None = None
    """Identifiers learned on the way."""
    seen: tuple[str, ...] = ()
    """Landing URLs for the sources after."""
    status: int = 0
    """The last HTTP status; 0 when nothing was asked."""
    host: str = ""
    retry_count: int = 0
    from_cache: bool | None = None
    """Whether all that was asked was answered by the HTTP cache; None when nothing was asked."""
    meta: dict[str, str | int] = {}


class Finder(Protocol):
    """One source."""

    name: str

    def lacks(self, lookup: Lookup) -> str | None:
        """The reason why it cannot even begin, or None."""
        ...

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """URL and role of its first request, for the gates; ask only when it lacks nothing."""
        ...

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """Candidates for a work that it lacks nothing for.

        Raises:
            WebError: the source gave no answer, or one that is worth another try or final.
        """
        ...


def host_of(url: str) -> str:
    """The host of a URL; ``""`` where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def quoted_doi(doi: str) -> str:
    """A DOI for the path of a URL, as ``Work.resolver_url`` writes it."""
    return quote(doi, safe="/:;()._-")


def distinct(candidates: Iterable[Candidate], *, at_most: int = CANDIDATES_MAX) -> tuple[Candidate, ...]:
    """The candidates without those whose canonical URL came before; ones without such a URL are dropped."""
    kept: dict[str, Candidate] = {}
    for candidate in candidates:
        try:
            kept.setdefault(canonical_url(candidate.url), candidate)
        except ValueError:
            continue
    return tuple(kept.values())[:at_most]


def distinct_urls(urls: Iterable[str], *, at_most: int = SEEN_MAX) -> tuple[str, ...]:
    """The URLs in order, each once by its canonical form."""
    return tuple(c.url for c in distinct((Candidate(url=url, rule="") for url in urls), at_most=at_most))


async def metadata(web: Web, source: str, url: str, lookup: Lookup, *, accept: str = "*/*") -> Answer:
    """Ask a service a question under the manners of the lookup; any status comes back.

    Raises:
        WebError: no answer could be had.
    """
    return await web.fetch(
        Request(
            url=url,
            role="metadata",
            source=source,
            retries_max=lookup.retries_max,
            deadline_s=lookup.timeout_s,
            robots=lookup.robots,
            accept=accept,
        )
    )


def accepted(answer: Answer, thresholds: Thresholds) -> Answer:
    """The answer if its status is one of success.

    Raises:
        WebError: ``http_NNN``, ``retryable`` or ``nonretryable`` by the thresholds.
    """
    if 200 <= answer.status < 300:
        return answer
    retryable = answer.status in thresholds.retryable
    raise WebError(
        "retryable" if retryable else "nonretryable",
        f"http_{answer.status}",
        url=answer.url,
        status=answer.status,
        retry_count=answer.retry_count,
    )


def from_answer(answer: Answer, found: Found) -> Found:
    """What was found, with status, host and retries of the answer that it came from."""
    return msgspec.structs.replace(
        found,
        status=answer.status,
        host=host_of(answer.url),
        retry_count=found.retry_count + answer.retry_count,
    )


def nothing(reason: str, *, seen: tuple[str, ...] = (), identified: Work | None = None) -> Found:
    """No candidates, and why."""
    return Found(candidates=(), reason=reason, seen=seen, identified=identified)


def json_object(body: bytes) -> dict[str, Any] | str:
    """The JSON object that a body holds, or the reason why it is none. Never raises."""
    if not body.strip():
        return "empty_answer"
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        is_html = re.match(
            rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--|\?xml)", body[:512], re.IGNORECASE
        )
        return "html_answer" if is_html else "malformed_answer"
    return value if isinstance(value, dict) else "other_shape"


def text_of(record: dict[str, Any], name: str) -> str:
    """A field as text: a string stripped, a whole number written out, anything else ``""``."""
    value = record.get(name)
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def records_of(record: dict[str, Any], name: str, *, at_most: int = 200) -> list[dict[str, Any]]:
    """A field as a list of objects: what is none is left out, a single object counts as a list."""
    value = record.get(name)
    if isinstance(value, dict):
        return [value]
    return [item for item in value[:at_most] if isinstance(item, dict)] if isinstance(value, list) else []


class Reason(NamedTuple):
    """A reason in words."""

    means: str
    """One plain sentence."""
    advice: str
    """What the user can do; ``""`` when there is nothing to be done."""


_LATER = "Run the same command again later."
_OPEN_IN_BROWSER = "Open the page in a browser; if the PDF is there, save it by hand."
_NOTHING = ""

REASONS: dict[str, Reason] = {
    # what a source lacks
    "no_doi": Reason("The work has no DOI, which this source needs.", "Add the DOI to the list."),
    "no_email": Reason(
        "No contact address is set, which Unpaywall needs.", "Give --email with your own address."
    ),
    "no_title": Reason("The work has no title.", "Add the title, or better an identifier, to the list."),
    "identified": Reason("The title was found, and the work is known by its DOI now.", _NOTHING),
    "title_unlike": Reason(
        "No title that Crossref knows is near enough to the one given.",
        "Look the DOI up and add it to the list.",
    ),
    "no_pmid": Reason("The work has no PMID, which this source needs.", "Add the PMID to the list."),
    "no_pmcid": Reason("The work has no PMCID, which this source needs.", "Add the PMCID to the list."),
    "no_arxiv_id": Reason("The work has no arXiv id.", _NOTHING),
    "no_identifier": Reason("The work has no DOI, PMID or PMCID.", "Add an identifier to the list."),
    "no_url": Reason("No URL of the work is known yet.", "Add a URL or a DOI to the list."),
    # answers of services
    "not_known": Reason("The service does not know this work.", "Check the identifier for a typing error."),
    "email_refused": Reason(
        "Unpaywall refused the contact address.", "Give --email with a real address of yours."
    ),
    "other_work": Reason("The service answered about another work.", _NOTHING),
    "empty_answer": Reason("The service answered with nothing.", _LATER),
    "html_answer": Reason("The service answered with a web page instead of data.", _LATER),
    "malformed_answer": Reason("The service's answer could not be read.", _LATER),
    "other_shape": Reason("The service's answer has another shape than it should.", _LATER),
    "truncated_answer": Reason("The service's answer was larger than quire reads.", _NOTHING),
    "no_oa_location": Reason("The service knows no open copy of this work.", _NOTHING),
    "no_pdf_location": Reason("The service knows open pages of this work, but no PDF.", _NOTHING),
    "unwanted_copies": Reason(
        "The copies there are of a version or host that sources.candidates leaves out.",
        "Add it to sources.candidates if you would take it.",
    ),
    "no_pdf_in_pmc": Reason("The work is in PMC without a PDF.", _NOTHING),
    "not_in_pmc": Reason("The work is not in the open-access part of PMC.", _NOTHING),
    "embargoed": Reason("The work is in PMC under an embargo.", "Try again after the embargo."),
    "no_capture": Reason("The Wayback Machine holds no PDF of the URLs seen.", _NOTHING),
    "capture_excluded": Reason("The Wayback Machine excludes this site.", _NOTHING),
    # pages
    "no_pdf_link": Reason("The landing page names no PDF.", _OPEN_IN_BROWSER),
    "several_articles": Reason(
        "The page lists several articles, not one.", "Give the article's own DOI or URL."
    ),
    "not_html": Reason("The landing URL gave neither a page nor a PDF.", _NOTHING),
    "empty_page": Reason("The landing page is empty.", _LATER),
    "too_many_pages": Reason(
        "The trail of frames and refreshes is longer than quire follows.", _OPEN_IN_BROWSER
    ),
    "paywall": Reason("The page sells the article.", "Ask the library or the authors for a copy."),
    "soft_404": Reason(
        "The page says that there is no such article.", "Check the identifier for a typing error."
    ),
    "blocked_challenge": Reason("The site shows a browser check to programs.", _OPEN_IN_BROWSER),
    "blocked_captcha": Reason("The site asks for a captcha.", _OPEN_IN_BROWSER),
    "blocked_cookie": Reason("The site insists on cookies that only a browser keeps.", _OPEN_IN_BROWSER),
    "blocked_login": Reason("The site asks for a login.", "Ask the library or the authors for a copy."),
    # the network and our manners
    "http_NNN": Reason("The server answered with this HTTP status.", _NOTHING),
    "connect_failed": Reason("No connection to the server could be made.", _LATER),
    "name_not_found": Reason("The server's name could not be found.", "Check the network."),
    "tls_failed": Reason("The server's certificate or encryption is not sound.", _NOTHING),
    "read_timeout": Reason("The server fell silent.", _LATER),
    # what the proof on disk found
    "truncated": Reason("The file was cut: its end is not the end of a PDF.", _LATER),
    "damaged": Reason("No PDF library can open the file.", _LATER),
    "no_pages": Reason("The file opens as a PDF and has no page.", _NOTHING),
    "password_required": Reason("The PDF asks for a password.", "Look at the page by hand."),
    "long_body": Reason("More bytes came than were promised.", _LATER),
    "html": Reason("The bytes are a web page, not a PDF.", _NOTHING),
    "json": Reason("The bytes are JSON, not a PDF.", _NOTHING),
    "xml": Reason("The bytes are XML, not a PDF.", _NOTHING),
    "gzip": Reason("The bytes are a packed file, not a PDF.", _NOTHING),
    "empty": Reason("The file is empty.", _LATER),
    "no_pdf_header": Reason("The file does not begin as a PDF.", _NOTHING),
    "md5_mismatch": Reason("The bytes are not those whose MD5 the source states.", _LATER),
    "other_article": Reason(
        "The PDF is whole, but its text shows neither the work's DOI nor its title.",
        "Look at the PDF by hand; --verify-title warn stores such PDFs and tells of them.",
    ),
    "part_changed": Reason("The bytes on the disk are not those that were streamed.", _LATER),
    "bad_range": Reason("The server sent another part of the file than it was asked for.", _LATER),
    # what quire itself decided
    "cancelled": Reason("The turn was cancelled.", _NOTHING),
    "beaten": Reason("Another source was first to show a PDF; this one was put back.", _NOTHING),
    "stopped": Reason("The turn was stopped.", _NOTHING),
    "owner_gone": Reason("The worker died or let go while this was under way.", _NOTHING),
    "stale": Reason("It was under way for longer than any takes, and was begun again.", _NOTHING),
    "rollout": Reason("The work is outside the share that fallback.rollout lets in.", "Raise the percent."),
    "deadline": Reason("The time for this source ran out.", "Raise the source's timeout_ms, or run again."),
    "stalled": Reason("The stream stood still for too long.", _LATER),
    "reset": Reason("The server broke the connection.", _LATER),
    "short_body": Reason("The stream ended before its length.", _LATER),
    "too_large": Reason("The file is larger than download.bytes_max.", "Raise the limit if it is meant."),
    "too_small": Reason("The file is too small to be a PDF.", _NOTHING),
    "inflates_too_far": Reason("The compressed answer inflates beyond the bound.", _NOTHING),
    "redirect_loop": Reason("The redirects lead in a circle.", _NOTHING),
    "too_many_redirects": Reason("There are more redirects than quire follows.", _NOTHING),
    "bad_redirect": Reason("A redirect leads to something that is no web address.", _NOTHING),
    "address_refused": Reason("The address is private or of a kind that quire never asks.", _NOTHING),
    "robots_disallowed": Reason("The site's robots.txt forbids this page to programs.", _OPEN_IN_BROWSER),
    "robots_unreachable": Reason("The site's robots.txt could not be read, which counts as no.", _LATER),
    "breaker_open": Reason("The host failed repeatedly and is left alone for a while.", _LATER),
    "rate_wait": Reason("The host's rate limit asks for a wait.", _LATER),
    "offline": Reason("quire runs in offline mode.", "Run again without --offline."),
    "asked_already": Reason("The same URL was asked already, here or by another source.", _NOTHING),
    "walled_host": Reason(
        "Its host had just shown a browser check or a captcha, so it was not asked.", _OPEN_IN_BROWSER
    ),
    "not_a_pdf": Reason("The URL gave something else than a PDF.", _NOTHING),
    "html_instead": Reason("The URL gave a web page instead of a PDF.", _NOTHING),
    "empty_body": Reason("The URL gave nothing.", _LATER),
    "bad_answer": Reason("The server's answer broke the rules of HTTP.", _LATER),
    "bad_encoding": Reason("The server's compression could not be undone.", _LATER),
    "bad_url": Reason("The URL is not one that can be asked.", "Correct the URL in the list."),
    # the course of a job
    "no_candidate": Reason("The source named no URL to try.", _NOTHING),
    "exhausted": Reason(
        "Every source had its turn, and none had a PDF.", "Ask the library or the authors for a copy."
    ),
    "budget_exhausted": Reason(
        "The time or the attempts for this work ran out.", "Use the profile `reliable`, or run again."
    ),
    "part_busy": Reason("Another worker still writes this file.", _LATER),
    "adapter_restarted": Reason("The source's actor was restarted in between.", _LATER),
    "internal_error": Reason("quire met a defect of its own.", "Please report it with `quire log`."),
    "poison": Reason(
        "The job killed its worker again and again, also alone.",
        "Please report it; `quire retry` tries again.",
    ),
}
"""Reason code → what it means and what to do. ``http_NNN`` stands for every HTTP status."""


def explained(reason: str) -> Reason | None:
    """The words for a reason code, or None for a code that is not in the table."""
    return REASONS.get("http_NNN" if re.fullmatch(r"http_\d{3}", reason) else reason)
