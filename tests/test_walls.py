"""Walls are told apart by what raised them, and an ordinary page is never taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.sources.finding import explained
from quire.actors.web.exchange import Answer
from quire.actors.web.walls import BLOCKED, STRONG, WEAK, Sight, stands, wall_of, wall_reason

LANDING = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "landing"
needs_data = pytest.mark.skipif(not LANDING.is_dir(), reason="the recorded landing pages are not here")


def lines(name: str) -> list[dict[str, str]]:
    path = LANDING / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def answer(body: str | bytes, url: str = "https://journal.example/article/1", **more: object) -> Answer:
    raw = body.encode() if isinstance(body, str) else body
    return Answer(**{"url": url, "status": 200, "headers": {}, "body": raw, **more})  # type: ignore[arg-type]


def padded(text: str) -> str:
    """A page that is not tiny."""
    return f"<html><head><title>Paper</title></head><body>{text}<!--{'x' * 6000}--></body></html>"


@needs_data
@pytest.mark.parametrize("case", lines("blocked"), ids=lambda case: Path(case["html"]).name[:40])
def test_recorded_wall_is_classed(case: dict[str, str]) -> None:
    """Every recorded wall is a wall by a strong sign, and the captcha is told from the challenges."""
    wall = wall_of(Sight(answer((LANDING / case["html"]).read_bytes(), case["page_url"])))
    assert wall is not None
    assert wall.reason == ("blocked_captcha" if "CAPTCHA" in case["expected"] else "blocked_challenge")


@needs_data
@pytest.mark.parametrize("case", lines("blocked"), ids=lambda case: Path(case["html"]).name[:40])
@pytest.mark.parametrize("status", [403, 429, 503])
def test_recorded_wall_is_not_tried_again(case: dict[str, str], status: int) -> None:
    """Whatever status a recorded wall comes with, it stands, and its reason is not the status."""
    walled = answer((LANDING / case["html"]).read_bytes(), case["page_url"], status=status)
    assert stands(walled)
    assert wall_reason(walled).startswith("blocked_")


@needs_data
@pytest.mark.parametrize(
    "case",
    [c for c in lines("cases") + lines("unlabelled") if "html" in c],
    ids=lambda case: Path(case["html"]).name[:40],
)
def test_recorded_article_is_no_wall(case: dict[str, str]) -> None:
    """No recorded article page shows a wall, neither strong nor weak."""
    assert wall_of(Sight(answer((LANDING / case["html"]).read_bytes(), case["page_url"])), weak=True) is None


WALLS = [
    ("blocked_challenge", "<title>Just a moment...</title>", {}),
    ("blocked_challenge", padded(""), {"headers": {"cf-mitigated": "challenge"}}),
    ("blocked_challenge", padded("<script>window._cf_chl_opt={}</script>"), {}),
    ("blocked_challenge", padded("<p>Checking your browser before accessing the site.</p>"), {}),
    ("blocked_challenge", padded("<script src=/x?bm-verify=AAQ></script>"), {}),
    (
        "blocked_challenge",
        "<html><body><noscript>Please enable JavaScript to view the page.</noscript></body></html>",
        {},
    ),
    ("blocked_captcha", padded("<script src=https://cdn.perfdrive.com/shieldsquare.js></script>"), {}),
    ("blocked_captcha", padded("<h1>Radware Bot Manager</h1><script>/* radware captcha */</script>"), {}),
    ("blocked_captcha", padded('<form><div class="g-recaptcha" data-sitekey=k></div></form>'), {}),
    ("blocked_captcha", padded("<p>Please confirm that you are not a robot.</p>"), {}),
    ("blocked_cookie", padded("<p>Your browser has cookies turned off.</p>"), {}),
    ("blocked_cookie", padded("Hello"), {"url": "https://pubs.example/action/cookieAbsent"}),
    ("blocked_cookie", padded("Hello"), {"url": "https://pubs.example/doi/10.1/x?cookieSet=1"}),
    ("blocked_cookie", "<script>document.cookie='a=1';window.location.reload(true)</script>", {}),
    (
        "blocked_login",
        padded("Hello"),
        {"url": "https://idp.example.edu/idp/profile/SAML2/Redirect/SSO?SAMLRequest=x"},
    ),
    ("blocked_login", padded("Hello"), {"url": "https://sso.publisher.example/start"}),
    ("blocked_login", padded("Hello"), {"url": "https://www.publisher.example/action/showLogin?uri=/doi/x"}),
    ("soft_404", "<title>Page not found</title>" + "x" * 600, {}),
    ("soft_404", "<title>Error: DOI Not Found</title>" + "x" * 600, {}),
    (
        "soft_404",
        padded("Welcome"),
        {"url": "https://journal.example/", "hops": ("https://doi.org/10.1000/x",)},
    ),
    ("soft_404", "<html><body>Nothing.</body></html>", {}),
]


@pytest.mark.parametrize(("reason", "body", "more"), WALLS)
def test_each_kind_of_wall_has_its_reason(reason: str, body: str, more: dict[str, object]) -> None:
    """Each fact about walls gives the reason of its kind, and an article's head outweighs it."""
    assert wall_reason(answer(body, **more)) == reason
    article = "<meta name=citation_title content=T>" + body
    assert wall_reason(answer(article, **more)) == "not_a_pdf"


@pytest.mark.parametrize(
    "body",
    [
        "An essay on cookies, robots and captchas. " * 200,
        "<script src=/cdn-cgi/challenge-platform/scripts/jsd/main.js></script>" + "Abstract and text. " * 200,
        '<div class="g-recaptcha" data-sitekey=k></div>' + "Comments are open. " * 400,
        "<noscript>Please enable JavaScript</noscript>" + "Abstract and text. " * 400,
        '<form action=/login><input type="password"></form>' + "Abstract and text. " * 400,
    ],
)
def test_signs_on_a_page_with_much_text_are_no_wall(body: str) -> None:
    """A page that shows a lot is no wall for what its scripts, forms and text mention."""
    assert wall_reason(answer(padded(body))) == "not_a_pdf"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body",
    [
        "<html><body><h1>503 Service Unavailable</h1>No server is available.</body></html>",
        "<html><head><title>429 Too Many Requests</title></head><body><hr>nginx</body></html>",
        padded("<h1>We are down for maintenance</h1><p>The page was not found in time. Log in later.</p>"),
        padded("<noscript>You need to enable JavaScript to run this app.</noscript>").replace("x" * 6000, ""),
        padded("<h2>Get access</h2><p>Error 1015: you are being rate limited.</p>"),
    ],
)
def test_an_overloaded_server_is_no_wall(status: int, body: str) -> None:
    """The page of a true 429 or 5xx, however short, keeps its retries and its status as the reason."""
    overloaded = answer(body, status=status)
    assert not stands(overloaded)
    assert wall_reason(overloaded) == "not_a_pdf"


def test_data_is_no_wall() -> None:
    """An API's refusal in JSON may speak of robots and captchas and is tried again."""
    said = '{"message": "unusual traffic: complete the captcha"}'
    assert not stands(answer(said, status=429, headers={"content-type": "application/json"}))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, "<h1>Article</h1><button>Purchase PDF</button>" + "Abstract. " * 100, "paywall"),
        (403, "<h1>Article</h1><a>Get access</a>" + "Abstract. " * 100, "paywall"),
        (403, "<h1>Forbidden</h1>", "not_a_pdf"),
        (401, '<form><input type="password"></form>' + "x" * 600, "blocked_login"),
        (500, "<title>Page not found</title>" + "x" * 600, "not_a_pdf"),
        (200, "<meta name=citation_title content=T><button>Purchase PDF</button>", "not_a_pdf"),
    ],
)
def test_what_stands_where_a_pdf_was_asked_for(status: int, body: str, reason: str) -> None:
    """A page that sells is a paywall; an error in few words is what its status says and no more."""
    assert wall_reason(answer(f"<html><body>{body}</body></html>", status=status)) == reason


def test_every_wall_has_a_reason_in_the_table() -> None:
    """``quire explain`` has words for each wall; names are unique, so that a log names one rule."""
    walls = STRONG + WEAK
    assert {wall.reason for wall in walls} <= set(BLOCKED)
    assert all(explained(reason) for reason in BLOCKED)
    assert len({wall.name for wall in walls}) == len(walls)


@given(st.binary(max_size=3000), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_reason(body: bytes, url: str) -> None:
    """Whatever comes from wherever, the classifier answers with a known reason."""
    assert wall_reason(answer(body, url, hops=(url[::-1],))) in (*BLOCKED, "not_a_pdf")
