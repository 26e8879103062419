"""Walls are told apart by what raised them, and an ordinary page is never taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.sources.finding import explained
from quire.actors.web.exchange import Answer
from quire.actors.web.walls import BLOCKED, STRONG, WEAK, Sight, wall_of, wall_reason

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
