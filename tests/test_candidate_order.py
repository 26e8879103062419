"""Which copies are tried, in what order, and how often: counted at a server on loopback, in whole runs."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quire import Outcome, Session, Wanted
from quire.actors.sources import europe_pmc, unpaywall
from quire.actors.sources.catalog import finders
from quire.actors.sources.finding import Lookup
from quire.actors.sources.preference import BY_VALUE, DEFAULT, Preference
from quire.config.loader import Flag, load
from quire.config.settings import Candidates
from quire.events.facts import FallbackAttempt
from quire.events.work import Work, parse_work
from quire.testing.web.pdf import make_pdf

LIST = "c" * 16
PDF = make_pdf("A paper", size=20_000)
FILLER = "<p>Some words about nothing that a page may well hold between its links.</p>" * 12


class Reply(NamedTuple):
    """What the played web answers."""

    body: bytes
    kind: str = "text/html"
    status: int = 200
    location: str = ""


def html(body: str, status: int = 200) -> Reply:
    return Reply(f"<!DOCTYPE html><html>{body}</html>".encode(), status=status)


def pdf(kind: str = "application/pdf") -> Reply:
    return Reply(PDF, kind)


class Played:
    """A web of few URLs on loopback; whatever else is asked for is missing."""

    def __init__(self, replies: dict[str, Reply]) -> None:
        self.replies = replies
        self.asked: list[str] = []
        self.url = ""
        self.outcomes: dict[str, str] = {}
        """How each source's turn ended, as the log has it."""

    def count(self, part: str) -> int:
        return sum(part in url for url in self.asked)

    def answer(self, url: str) -> Reply:
        self.asked.append(url)
        return self.replies.get(url.split("?email=")[0], Reply(b"nothing", "text/plain", 404))


@contextmanager
def playing(replies: dict[str, Reply]) -> Iterator[Played]:
    played = Played(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            reply = played.answer(self.headers["X-Original-URL"])
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.location:
                self.send_header("Location", reply.location)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    played.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()


def bring(name: str, played: Played, tmp_path: Path, **settings: Any) -> Outcome:
    """One work through a whole run; ``settings`` are set by their last name."""
    flags = [
        Flag(("library",), str(tmp_path / "library"), "--library"),
        Flag(("web", "stand_in"), played.url, "--stand-in"),
        Flag(("web", "pacing"), "none", "--pacing"),
        Flag(("web", "contact_email"), "t@quire.test", "--email"),
        Flag(("web", "retry_base_ms"), 1, "test"),
        Flag(("retry", "generations_max"), 1, "test"),
        *(Flag(("sources", "candidates", key), value, "test") for key, value in settings.items()),
    ]
    work = parse_work(name)
    assert work is not None
    with Session(load(flags, environ={}).settings, inputs=("test",), list_id=LIST) as session:
        session.plan([Wanted(work)], list_id=LIST)
        (outcome,) = session.work(LIST)
        events = [recorded.event for recorded in session.store.read()]
    played.outcomes = {one.source: one.outcome for one in events if isinstance(one, FallbackAttempt)}
    return outcome


def test_an_identifier_learned_on_the_way_gives_its_source_a_turn(tmp_path: Path) -> None:
    """arXiv is passed over for a DOI; once Unpaywall names the arXiv id, it is asked."""
    location = {"url": "https://arxiv.org/abs/2101.00001", "url_for_pdf": None, "host_type": "repository"}
    record = {"doi": "10.1234/one", "is_oa": True, "best_oa_location": location, "oa_locations": [location]}
    replies = {
        "https://api.unpaywall.org/v2/10.1234/one": Reply(json.dumps(record).encode(), "application/json"),
        "https://arxiv.org/pdf/2101.00001": pdf(),
    }
    with playing(replies) as played:
        outcome = bring("10.1234/one", played, tmp_path)
    assert (outcome.ok, outcome.source) == (True, "arxiv_pdf")


def test_bytes_that_were_refused_are_not_streamed_for_another_source(tmp_path: Path) -> None:
    """Unpaywall and the landing page name one cut PDF: it is streamed once, and its refusal is used again."""
    location = {"url": PAGE, "url_for_pdf": NAMED, "host_type": "repository"}
    record = {"doi": "10.1234/one", "is_oa": True, "best_oa_location": location, "oa_locations": [location]}
    replies = {
        "https://api.unpaywall.org/v2/10.1234/one": Reply(json.dumps(record).encode(), "application/json"),
        PAGE: html(f'<head><meta name=citation_pdf_url content="{NAMED}"></head><body>{FILLER}'),
        NAMED: Reply(PDF[: len(PDF) // 2], "application/pdf"),
    }
    with playing(replies) as played:
        outcome = bring("10.1234/one", played, tmp_path)
    assert not outcome.ok
    assert played.asked.count(PAGE) == 1
    assert played.asked.count(NAMED) <= 2  # bare, and once dressed as the page's reader comes


# --- nothing is fetched twice ---------------------------------------------------------------------

PAGE = "https://journal.example/article/1"
FILE = "https://files.example/one"  # does not look like a PDF's URL
NAMED = "https://journal.example/files/1.pdf"
SHAPES: dict[str, tuple[str, str]] = {
    "meta": (NAMED, f'<head><meta name=citation_pdf_url content="{NAMED}"></head>'),
    "meta, odd": (FILE, f'<head><meta name=citation_pdf_url content="{FILE}"></head>'),
    "link": (FILE, f'<head><link rel=alternate type=application/pdf href="{FILE}"></head>'),
    "frame": (FILE, f'<frameset><frame src="{FILE}"></frameset>'),
    "frame, named": (NAMED, f'<frameset><frame src="{NAMED}"></frameset>'),
    "iframe": (FILE, f'<body><iframe src="{FILE}"></iframe>'),
    "iframe, named": (NAMED, f'<body><iframe src="{NAMED}#toolbar=0"></iframe>{FILLER}'),
    "viewer": (FILE, f'<body><iframe src="/pdfjs/web/viewer.html?file={FILE}"></iframe>{FILLER}'),
    "embed": (FILE, f'<body><embed type="application/pdf" src="{FILE}">{FILLER}'),
    "object": (FILE, f'<body><object type="application/pdf" data="{FILE}"></object>{FILLER}'),
    "refresh": (FILE, f'<head><meta http-equiv=refresh content="0;url={FILE}"></head><body>{FILLER}'),
    "refresh, named": (NAMED, f'<head><meta http-equiv=refresh content="0;url={NAMED}"></head>{FILLER}'),
    "script": (FILE, f"<body><script>window.location.href='{FILE}';</script>{FILLER}"),
    "redirectURL": (FILE, f'<body><input type=hidden name=redirectURL value="{FILE}">{FILLER}'),
    "chooser": (FILE, f'<body><div class=resource-line><a href="{FILE}">One</a></div>{FILLER}'),
    "json": (FILE, f'<body><script>{{"pdfUrl":"{FILE}"}}</script>{FILLER}'),
    "anchor": (FILE, f'<body><a href="{FILE}">Download PDF</a>{FILLER}'),
    "anchor, twice": (FILE, f'<body><a href="{FILE}">PDF</a><iframe src="{FILE}"></iframe>{FILLER}'),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_of_page_costs_one_request_for_the_pdf(shape: str, tmp_path: Path) -> None:
    """However a page names its PDF, page and PDF are asked for once each, and the paper comes home."""
    at, body = SHAPES[shape]
    with playing({PAGE: html(body), at: pdf()}) as played:
        outcome = bring(PAGE, played, tmp_path)
    assert outcome.ok
    assert outcome.source == "landing_scrape_pdf"
    assert (played.asked.count(PAGE), played.asked.count(at)) == (1, 1)


@pytest.mark.parametrize("kind", ["application/pdf", "application/octet-stream", "text/html"])
def test_a_url_that_is_the_pdf_is_asked_once(kind: str, tmp_path: Path) -> None:
    """A work given by the URL of its PDF, which neither looks like one nor says so, costs one GET."""
    with playing({PAGE: pdf(kind)}) as played:
        assert bring(PAGE, played, tmp_path).ok
    assert played.asked.count(PAGE) == 1


def test_what_leads_round_in_a_circle_is_asked_once(tmp_path: Path) -> None:
    """Pages that name each other as the PDF, frame and refresh are read once each, and the turn ends."""
    view, more = "https://journal.example/view/1.pdf", "https://journal.example/more/1.pdf"
    replies = {
        PAGE: html(f'<head><meta name=citation_pdf_url content="{view}"></head><body>{FILLER}'),
        view: html(f'<body><iframe src="{more}"></iframe><a href="{PAGE}" class=pdf>Back PDF</a>{FILLER}'),
        more: html(f'<body><a href="{view}">PDF</a><a href="{PAGE}">PDF</a>{FILLER}'),
    }
    with playing(replies) as played:
        outcome = bring(PAGE, played, tmp_path)
    assert not outcome.ok
    mine = Counter(
        url for url in played.asked if url.startswith("https://journal.example/") and "robots.txt" not in url
    )
    assert set(mine) == {PAGE, view, more}
    assert set(mine.values()) == {1}


def test_a_resolver_that_leads_to_the_pdf_is_one_get(tmp_path: Path) -> None:
    """Where the DOI leads straight to a PDF, each hop is asked once and nothing after it."""
    replies = {
        "https://doi.org/10.5555/x": Reply(b"", status=302, location=FILE),
        FILE: pdf(),
    }
    with playing(replies) as played:
        outcome = bring("10.5555/x", played, tmp_path)
    assert (outcome.source, played.count("doi.org/10.5555"), played.asked.count(FILE)) == (
        "doi_redirect_pdf",
        1,
        1,
    )


def test_the_resolvers_page_goes_on_to_the_sources_after_it(tmp_path: Path) -> None:
    """The page that a DOI leads to is read by the landing scraper from hand; the archive is asked for it."""
    replies = {
        "https://doi.org/10.5555/x": Reply(b"", status=302, location=PAGE),
        PAGE: html(f"<head><meta name=citation_title content=T></head><body>{FILLER}"),
    }
    with playing(replies) as played:
        assert not bring("10.5555/x", played, tmp_path).ok
    assert (played.count("doi.org/10.5555"), played.asked.count(PAGE)) == (1, 1)
    assert (
        played.count("web.archive.org/cdx/search/cdx?url=https%3A%2F%2Fjournal.example%2Farticle%2F1&") == 1
    )


# --- walls ----------------------------------------------------------------------------------------

CHALLENGE = f"<head><title>Just a moment...</title></head><body>{'<!-- x -->' * 100}"


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_wall_is_looked_at_once(status: int, tmp_path: Path) -> None:
    """A challenge is no overload: it costs one request, and the next source has its turn."""
    record = unpaywall_record(place("https://walled.example/1.pdf"), place("https://repo.example/1.pdf"))
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(record, "application/json"),
        "https://walled.example/1.pdf": html(CHALLENGE, status),
        "https://repo.example/1.pdf": pdf(),
    }
    with playing(replies) as played:
        assert bring("10.5555/x", played, tmp_path).ok
    assert played.asked.count("https://walled.example/1.pdf") == 1


@pytest.mark.parametrize(("body", "outcome"), [(CHALLENGE, "nonretryable"), ("<h1>Busy</h1>", "retryable")])
def test_a_wall_is_not_worth_another_generation(body: str, outcome: str, tmp_path: Path) -> None:
    """A source that met a challenge is through with it, whatever its status; an overload may pass."""
    record = unpaywall_record(place("https://walled.example/1.pdf"))
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(record, "application/json"),
        "https://walled.example/1.pdf": html(body, 503),
    }
    with playing(replies) as played:
        assert not bring("10.5555/x", played, tmp_path).ok
    assert played.outcomes["unpaywall_pdf"] == outcome


def test_a_walled_landing_page_is_looked_at_once(tmp_path: Path) -> None:
    """The landing scraper does not try a challenge again either, nor its host's other pages."""
    other = "https://journal.example/other/1"
    record = unpaywall_record(place(None, page=other), place(None, page="https://repo.example/1"))
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(record, "application/json"),
        "https://doi.org/10.5555/x": Reply(b"", status=302, location=PAGE),
        PAGE: html(CHALLENGE, 503),
        "https://repo.example/1": html('<head><meta name=citation_pdf_url content="/1.pdf"></head>'),
        "https://repo.example/1.pdf": pdf(),
    }
    with playing(replies) as played:
        outcome = bring("10.5555/x", played, tmp_path)
    assert (outcome.source, played.asked.count(PAGE), played.asked.count(other)) == (
        "landing_scrape_pdf",
        1,
        0,
    )


@pytest.mark.parametrize("status", [429, 503])
def test_an_overload_keeps_its_retries(status: int, tmp_path: Path) -> None:
    """A 429 or 503 that shows no wall, however short its page, is tried again."""
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(
            unpaywall_record(place("https://busy.example/1.pdf")), "application/json"
        ),
        "https://busy.example/1.pdf": html(
            "<body><h1>503 Service Unavailable</h1>No server is free.", status
        ),
    }
    with playing(replies) as played:
        assert not bring("10.5555/x", played, tmp_path).ok
    assert played.asked.count("https://busy.example/1.pdf") == 3


def test_the_other_candidates_of_a_walled_host_are_passed_over(tmp_path: Path) -> None:
    """After a wall, the turn asks nothing more of that host, and goes on at the others."""
    record = unpaywall_record(
        place("https://walled.example/1.pdf"),
        place("https://walled.example/2.pdf"),
        place("https://walled.example/3.pdf"),
        place("https://repo.example/1.pdf", host="publisher"),
    )
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(record, "application/json"),
        **{f"https://walled.example/{n}.pdf": html(CHALLENGE, 403) for n in (1, 2, 3)},
        "https://repo.example/1.pdf": pdf(),
    }
    with playing(replies) as played:
        assert bring("10.5555/x", played, tmp_path).ok
    assert played.count("walled.example/") == 1


# --- order ----------------------------------------------------------------------------------------


def place(url: str | None, version: str = "", host: str = "repository", page: str = "") -> dict[str, Any]:
    return {
        "url_for_pdf": url,
        "url": url or page,
        "url_for_landing_page": page or None,
        "host_type": host or None,
        "version": f"{version}Version" if version else None,
    }


def unpaywall_record(*places: dict[str, Any], best: int = 0) -> bytes:
    return json.dumps(
        {"doi": "10.5555/x", "best_oa_location": places[best], "oa_locations": list(places)}
    ).encode()


RECORD = unpaywall_record(
    place("https://p.example/pub.pdf", "published", "publisher", "https://p.example/pub"),
    place("https://r.example/sub.pdf", "submitted", page="https://r.example/sub"),
    place("https://r.example/acc.pdf", "accepted", page="https://r.example/acc"),
    place("https://r.example/pub.pdf", "published", page="https://r.example/pub"),
    place("https://u.example/any.pdf", "", "", "https://u.example/any"),
    best=2,
)


def preference(versions: str = "pas", hosts: str = "rp") -> Preference:
    by_letter = {"p": "published", "a": "accepted", "s": "submitted"}
    kinds = {"r": "repository", "p": "publisher"}
    return Preference(
        Candidates(
            versions=tuple(by_letter[letter] for letter in versions),  # type: ignore[arg-type]
            hosts=tuple(kinds[letter] for letter in hosts),  # type: ignore[arg-type]
        )
    )


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        (preference(), ["r/acc", "r/pub", "r/sub", "p/pub", "u/any"]),
        (preference(hosts="pr"), ["r/acc", "p/pub", "r/pub", "r/sub", "u/any"]),
        (preference("sap"), ["r/sub", "r/acc", "r/pub", "p/pub", "u/any"]),
        (preference("psa"), ["r/pub", "p/pub", "r/sub", "r/acc", "u/any"]),
        (preference("p"), ["r/pub", "p/pub", "u/any"]),
        (preference("as"), ["r/acc", "r/sub", "u/any"]),
        (preference("p", "p"), ["p/pub", "u/any"]),
    ],
    ids=repr,
)
def test_order_of_copies(wanted: Preference, order: list[str]) -> None:
    """Best, kind of host, version; an order of versions of the user's own before all that; no more is taken.

    The landing pages of the copies follow the same order, and none is of a copy that nobody wants.
    """
    found = unpaywall.copies(RECORD, Work(doi="10.5555/x"), wanted=wanted)
    assert [c.url.replace(".example", "").removeprefix("https://") for c in found.candidates] == [
        f"{name}.pdf" for name in order
    ]
    assert [url.replace(".example", "").removeprefix("https://") for url in found.seen] == order


def test_nothing_that_is_wanted_says_so() -> None:
    """A record whose copies are all of versions that are left out is told apart from one without copies."""
    only = unpaywall_record(place("https://r.example/sub.pdf", "submitted", page="https://r.example/sub"))
    found = unpaywall.copies(only, Work(doi="10.5555/x"), wanted=preference("p"))
    assert (found.candidates, found.seen, found.reason) == ((), (), "unwanted_copies")


def test_the_defaults_are_the_services_own_order() -> None:
    """What the settings say by default is what a finder without settings does."""
    candidates = load([], environ={}).settings.sources.candidates
    assert candidates.versions == BY_VALUE
    assert repr(Preference(candidates)) == repr(DEFAULT)


def test_europe_pmc_states_some_versions() -> None:
    """A preprint's copies are submitted, an author manuscript accepted, and both obey the preference."""
    listed = {"fullTextUrl": [{"url": "https://europepmc.org/x.pdf", "documentStyle": "pdf",
                               "availabilityCode": "OA", "site": "Europe_PMC"}]}  # fmt: skip

    def versions(wanted: Preference, **result: str) -> list[str]:
        record = {"doi": "10.5555/x", "fullTextUrlList": listed, **result}
        body = json.dumps({"resultList": {"result": [record]}}).encode()
        found = europe_pmc.full_texts(body, Work(doi="10.5555/x"), wanted=wanted)
        return [candidate.version for candidate in found.candidates] or [found.reason]

    assert versions(preference(), source="PPR") == ["submittedVersion"]
    assert versions(preference("pa"), source="PPR") == ["unwanted_copies"]
    assert versions(preference(), source="MED", nihAuthMan="Y") == ["acceptedVersion"]
    assert versions(preference("p"), source="MED", nihAuthMan="Y") == ["unwanted_copies"]
    assert versions(preference("p"), source="MED") == [""]


@pytest.mark.parametrize(
    ("name", "work", "seen"),
    [
        ("arxiv_pdf", Work(arxiv_id="2101.00001"), ()),
        ("doi_redirect_pdf", Work(doi="10.48550/arxiv.2101.00001"), ()),
        ("wayback_pdf", Work(), ("https://arxiv.org/pdf/2101.00001",)),
    ],
)
def test_sources_of_submitted_versions_are_left_out(name: str, work: Work, seen: tuple[str, ...]) -> None:
    """Where submitted versions are not wanted, a source that has nothing else does not begin."""
    asked = Lookup(work=work, email="", seen=seen, timeout_s=1, retries_max=0, robots=False)
    for versions, lacks in (("[published, accepted]", "unwanted_copies"), ("[submitted]", None)):
        settings = load([], environ={"QUIRE_SOURCES__CANDIDATES__VERSIONS": versions}).settings
        assert finders(settings.sources, settings.fallback.thresholds)[name].lacks(asked) == lacks


def test_a_preference_takes_effect_in_a_run(tmp_path: Path) -> None:
    """With only published versions wanted, no submitted one is stored, whatever way leads to it."""
    record = unpaywall_record(
        place("https://arxiv.org/pdf/2101.00001", "submitted", page="https://arxiv.org/abs/2101.00001"),
        place("https://r.example/sub.pdf", "submitted", page="https://r.example/sub"),
    )
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(record, "application/json"),
        "https://doi.org/10.5555/x": Reply(b"", status=302, location=PAGE),
        PAGE: html(f'<body><a href="https://arxiv.org/pdf/2101.00001">PDF</a>{FILLER}'),
        "https://arxiv.org/pdf/2101.00001": pdf(),
        "https://r.example/sub.pdf": pdf(),
    }
    with playing(replies) as played:
        outcome = bring("10.5555/x", played, tmp_path / "published", versions=["published"])
        assert not outcome.ok
        assert played.count("https://arxiv.org/") + played.count("https://r.example/") == 0
        assert bring("10.5555/x", played, tmp_path / "any").ok


def test_every_copy_of_a_record_is_tried(tmp_path: Path) -> None:
    """When nine copies are missing and the last one's landing page alone leads on, the paper comes home."""
    gone = [place(f"https://r{n}.example/{n}.pdf", page=f"https://r{n}.example/{n}") for n in range(9)]
    record = unpaywall_record(*gone[:5], place(None, page="https://last.example/9"))
    many = unpaywall_record(*gone, place("https://last.example/9.pdf"))
    replies = {
        "https://api.unpaywall.org/v2/10.5555/x": Reply(many, "application/json"),
        "https://last.example/9": html('<head><meta name=citation_pdf_url content="/9.pdf"></head>'),
        "https://last.example/9.pdf": pdf(),
    }
    with playing(replies) as played:
        assert bring("10.5555/x", played, tmp_path / "copies").source == "unpaywall_pdf"
        played.replies["https://api.unpaywall.org/v2/10.5555/x"] = Reply(record, "application/json")
        assert bring("10.5555/x", played, tmp_path / "pages").source == "landing_scrape_pdf"
