"""The landing-page reader finds the article's own PDF, and nobody else's, on whatever page it is given."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.sources.finding import explained
from quire.actors.web.exchange import Answer
from quire.actors.web.page import LINKS_MAX, PAGE_BYTES_MAX, Reading, decoded, read_page
from quire.actors.web.page_repairs import joined, repaired, rewritten, same_article, unwrapped, web_url
from quire.actors.web.page_rules import ANCHORS, REPAIRS, REWRITES, SCRIPTS

LANDING = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "landing"
needs_data = pytest.mark.skipif(not LANDING.is_dir(), reason="the recorded landing pages are not here")


def lines(name: str) -> list[dict[str, Any]]:
    path = LANDING / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read(html: str | bytes, url: str = "https://journal.example/article/1", **headers: str) -> Reading:
    body = html.encode() if isinstance(html, str) else html
    return read_page(Answer(url=url, status=200, headers=headers, body=body))


def recorded(case: dict[str, Any]) -> Reading:
    body = case["html_inline"].encode() if "html_inline" in case else (LANDING / case["html"]).read_bytes()
    return read(body, case["page_url"])


def urls(reading: Reading) -> list[str]:
    return [link.url for link in reading.links]


@needs_data
def test_first_link_is_right_on_recorded_pages() -> None:
    """The first link is the expected one on at least 95 % of the distinct recorded pages."""
    right: dict[tuple[str, str], bool] = {}
    for case in lines("cases"):
        first = (urls(recorded(case)) or [None])[0]
        key = (case["page_url"], case["expected_pdf_url"] or "")
        right[key] = right.get(key, True) and first == case["expected_pdf_url"]
    wrong = [key for key, ok in right.items() if not ok]
    assert len(right) >= 15
    assert len(wrong) <= 0.05 * len(right), wrong


@needs_data
@pytest.mark.parametrize("case", lines("unlabelled"), ids=lambda case: Path(case["html"]).name[:40])
def test_declared_pdf_is_found_first_or_mended(case: dict[str, Any]) -> None:
    """Where a head declares a PDF, that or its repair comes first; the declared one is never lost."""
    reading = recorded(case)
    declared = case.get("declared_citation_pdf_url")
    if declared:
        assert declared in urls(reading)
        first = reading.links[0]
        assert first.declared
        assert first.url == declared or "+" in first.rule
    assert reading.links or explained(reading.reason)


@needs_data
@pytest.mark.parametrize(
    "case", lines("unlabelled") + lines("cases"), ids=lambda case: str(case.get("html", case["path"]))[-40:]
)
def test_no_link_is_a_references_or_supplements(case: dict[str, Any]) -> None:
    """No link is a supplement's, a form's or another article's PDF."""
    for url in urls(recorded(case)):
        assert not any(
            word in url.lower()
            for word in ("suppl", "slides", "prepub", "figures", "jocn.pdf", "grants_manual")
        )
        assert "-main.pdf" not in url or url.split("/pii/")[1].split("/")[0] in url.split("pid=")[1]
        assert same_article(url, case["page_url"])


@needs_data
@pytest.mark.parametrize("case", lines("blocked"), ids=lambda case: Path(case["html"]).name[:40])
def test_blocked_page_gives_a_reason_and_no_link(case: dict[str, Any]) -> None:
    """A recorded wall has no links and nothing to follow, so that nothing is asked again."""
    reading = recorded(case)
    assert not reading.links
    assert not reading.follow
    assert reading.reason.startswith("blocked_")


def test_head_alone_is_enough() -> None:
    """A page whose head declares its PDF, and that links no other, is answered without its body."""
    page = '<head><meta name="citation_pdf_url" content="/a.pdf"></head><body><a href="/a.pdf">PDF</a>'
    assert [link.rule for link in read(page).links] == ["citation_pdf_url"]


def test_body_is_read_when_it_speaks_of_another() -> None:
    """A wrong declaration does not hide the link in the body."""
    head = '<head><meta name="citation_pdf_url" content="http://localhost.example/wrong.pdf"></head>'
    page = head + '<body><a href="/right.pdf">Download PDF</a>'
    assert urls(read(page)) == ["http://localhost.example/wrong.pdf", "https://journal.example/right.pdf"]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ('<meta NAME="Citation_PDF_URL" content="x.pdf">', "https://journal.example/article/x.pdf"),
        ('<meta property="citation_pdf_url" content="/x.pdf">', "https://journal.example/x.pdf"),
        ('<meta name="bepress_citation_pdf_url" content="//cdn.example/x.pdf">', "https://cdn.example/x.pdf"),
        ('<meta name="wkhealth_pdf_url" content="/x.pdf">', "https://journal.example/x.pdf"),
        ('<meta name="eprints.document_url" content="/1/x.pdf">', "https://journal.example/1/x.pdf"),
        ('<link rel="alternate" type="application/pdf" href="/x.pdf">', "https://journal.example/x.pdf"),
        ('<base href="https://other.example/b/"><meta name=citation_pdf_url content="x.pdf">',
         "https://other.example/b/x.pdf"),
        ('<link rel=canonical href="https://other.example/b/1"><meta name=citation_pdf_url content="x.pdf">',
         "https://other.example/b/x.pdf"),
        ('<meta property="og:url" content="https://doi.org/10.1/x"><meta name=citation_pdf_url content="x.pdf">',  # noqa: E501
         "https://journal.example/article/x.pdf"),
        ('<meta name=citation_pdf_url content="https://journal.example:443/a\n b.pdf">',
         "https://journal.example/a%20b.pdf"),
        ('<meta name=citation_pdf_url content="http://drops.dagstuhl.de/x.pdf/">',
         "http://drops.dagstuhl.de/x.pdf"),
        ('<meta name=citation_pdf_url content="https://x.onlinelibrary.wiley.com/doi/pdf/10.1/x">',
         "https://x.onlinelibrary.wiley.com/doi/pdfdirect/10.1/x"),
    ],
)  # fmt: skip
def test_declarations_bases_and_repairs(head: str, expected: str) -> None:
    """Each way of declaring a PDF, each base and each repair gives the right first link."""
    assert urls(read(f"<html><head>{head}</head><body></body></html>"))[0] == expected


def test_nature_reference_needs_to_be_on_the_page() -> None:
    """Nature's ``_reference.pdf`` stands before the declared one exactly where the page has it."""
    head = '<head><meta name=citation_pdf_url content="https://www.nature.com/articles/n1.pdf"></head>'
    assert urls(read(head))[0] == "https://www.nature.com/articles/n1.pdf"
    with_it = head + '<body><a href="/articles/n1_reference.pdf">Download PDF</a>'
    assert urls(read(with_it))[0] == "https://www.nature.com/articles/n1_reference.pdf"


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("embed_pdf", '<embed type="application/pdf" src="/x.pdf">'),
        ("object_pdf", '<object type="application/pdf" data="/x.pdf"></object>'),
        ("iframe_pdf", '<iframe src="/pdfjs/web/viewer.html?file=%2Fx.pdf"></iframe>'),
        ("iframe_pdf", '<iframe src="/x.pdf#toolbar=0"></iframe>'),
        ("sciencedirect_json", '<script>{"pdfDownload":{"isPdfFullText":false,"urlMetadata":{"queryParams":{"md5":"' + "0" * 32  # noqa: E501
         + '","pid":"1-s2.0-S1-main.pdf"},"pii":"S1","pdfExtension":"/pdfft","path":"science/article/pii"}}}</script>'),  # noqa: E501
        ("ieee_pdf_path", '<script>var g={"pdfPath":"/iel7/1/2/x.pdf"}</script>'),
        ("json_pdf_url", '<script>{"pdfUrl":"https:\\/\\/journal.example\\/x.pdf\\u003fa=1"}</script>'),
        ("figshare_export", '<script id=app-data>{"exportPdfDownloadUrl":"https://journal.example/x"}</script>'),
        ("chemrxiv_asset", '<script>{"asset":{"id":"1","original":{"url":"https://journal.example/x.pdf"}}}</script>'),
        ("json_ld_encoding", '<script type="application/ld+json">{"encoding":{"encodingFormat":"application/pdf","contentUrl":"/x"}}</script>'),  # noqa: E501
        ("ojs_galley+ojs_download", '<a class="obj_galley_link pdf" href="/article/view/10/20">PDF</a>'),
        ("elife_article_pdf", '<a data-download-type="pdf-article" href="/x">Article</a>'),
        ("degruyter_pdf", '<a class="x downloadPdf" href="/x">t</a>'),
        ("emerald_pdf", '<a class="intent_pdf_link" href="/x">t</a>'),
        ("frontiers_pdf", '<a class="download-files-pdf" href="/x">t</a>'),
        ("uchicago_pdf", '<a class="ctrl--pdf" href="/x">t</a>'),
        ("atypon_pdf", '<a class="btn--pdf" href="/x">t</a>'),
        ("titled_pdf", '<a title="PDF" href="/x">t</a>'),
        ("pdf_button", '<a id="pdfDownloadLink" href="/x">t</a>'),
        ("pdf_button", '<a class="show-pdf" href="/x">t</a>'),
        ("dspace_bitstream", '<a href="/bitstream/handle/1/2/x.pdf?sequence=1">Thesis.pdf</a>'),
        ("anchor_score", '<a href="/telecharger/12">Télécharger le PDF</a>'),
    ],
)  # fmt: skip
def test_each_platform_is_read_by_its_rule(rule: str, body: str) -> None:
    """Each fact about a platform gives a link, by the rule that is named for it."""
    reading = read(f"<html><head><title>T</title></head><body>{body}</body></html>")
    assert reading.links
    assert reading.links[0].rule == rule


@pytest.mark.parametrize(
    ("page", "pdf"),
    [
        ("https://arxiv.org/abs/2101.00001v2", "https://arxiv.org/pdf/2101.00001v2"),
        ("https://arxiv.org/abs/hep-th/9901001", "https://arxiv.org/pdf/hep-th/9901001"),
        ("https://www.tandfonline.com/doi/full/10.1080/1.2?needAccess=true",
         "https://www.tandfonline.com/doi/pdf/10.1080/1.2"),
        ("https://pubs.acs.org/doi/10.1021/x", "https://pubs.acs.org/doi/pdf/10.1021/x"),
        ("https://onlinelibrary.wiley.com/doi/abs/10.1002/x",
         "https://onlinelibrary.wiley.com/doi/pdfdirect/10.1002/x"),
        ("https://www.ahajournals.org/doi/10.1161/x",
         "https://www.ahajournals.org/doi/pdf/10.1161/x?download=true"),
        ("https://osf.io/preprints/psyarxiv/ab12c", "https://osf.io/ab12c/download"),
        ("https://www.jmir.org/2020/4/e18087/", "https://www.jmir.org/2020/4/e18087/pdf"),
        ("https://www.protocols.io/view/a-b-c1", "https://www.protocols.io/view/a-b-c1.pdf"),
        ("https://www.biorxiv.org/content/10.1101/2020.02.18.954685v1.full",
         "https://www.biorxiv.org/content/10.1101/2020.02.18.954685v1.full.pdf"),
        ("https://www.mdpi.com/2076-3425/15/3/264/htm", "https://www.mdpi.com/2076-3425/15/3/264/pdf"),
        ("https://peerj.com/articles/4375/", "https://peerj.com/articles/4375.pdf"),
        ("https://peerj.com/articles/cs-12", "https://peerj.com/articles/cs-12.pdf"),
        ("https://journals.plos.org/plosone/article?id=10.1371/journal.pone.1",
         "https://journals.plos.org/plosone/article/file?id=10.1371/journal.pone.1&type=printable"),
        ("https://notpeerj.com.example/articles/4375", None),
        ("https://journal.example/doi/10.1000/x", None),
    ],
)  # fmt: skip
def test_pdf_url_follows_from_page_url(page: str, pdf: str | None) -> None:
    """Each rewrite gives its PDF URL, and only on the hosts that it is for."""
    found = rewritten(page)
    assert (found[0] if found else None) == pdf
    if pdf:
        assert rewritten(pdf) is None


def test_repairs_are_settled() -> None:
    """What is repaired needs no second repair, and what is right is left alone."""
    for url in (
        "https://x.wiley.com/doi/epdf/10.1/x",
        "https://ex.org/doi/epdf/10.1/x",
        "https://drive.google.com/file/d/a1/view",
    ):
        mended = repaired(url)
        assert mended
        assert repaired(mended[0]) is None
    assert repaired("https://journal.example/doi/pdf/10.1/x") is None


@pytest.mark.parametrize(
    "link",
    [
        '<a href="/x_supp.pdf">PDF</a>',
        '<a href="/x.pdf">Supplementary PDF</a>',
        '<a href="/x.pdf">Download figures (PDF)</a>',
        '<a href="/x.pdf">Licence (PDF)</a>',
        '<a href="/x.pdf">Author guidelines PDF</a>',
        '<a href="/x.pdf">First page PDF</a>',
        '<a href="/x.pdf">Purchase PDF</a>',
        '<a href="/x.zip">Download PDFs</a>',
        '<div class="references"><a href="/x.pdf">PDF</a></div>',
        '<section id="cited-by"><a href="/x.pdf">PDF</a></section>',
        '<div class="relatedArticles"><a title="PDF" href="/x.pdf">Download PDF</a></div>',
        '<div class="supplementary-material"><a class="download-pdf" href="/x.pdf">PDF</a></div>',
        '<nav><a href="/x.pdf">PDF</a></nav>',
        '<footer><a href="/x.pdf">PDF</a></footer>',
        '<a href="javascript:open()">PDF</a>',
        '<a href="#pdf">PDF</a>',
        '<a href="mailto:a@b.example">PDF</a>',
        '<a href="file:///etc/passwd.pdf">PDF</a>',
        '<a href="https://journal.example/article/pii/S0000000000000002/pdf">View PDF</a>',
        '<a class="download-pdf" href="/article/pii/S0000000000000002/pdf">View PDF</a>',
    ],
)
def test_what_is_beside_the_article_is_no_link(link: str) -> None:
    """Supplements, figures, forms, references, related articles and furniture give no link."""
    page = f"<html><head><title>T</title></head><body><h1>T</h1>{link}<p>{'text ' * 200}</p></body></html>"
    reading = read(page, "https://journal.example/article/pii/S0000000000000001")
    assert not reading.links
    assert reading.reason in ("no_pdf_link", "paywall")


def test_an_issue_page_has_no_one_pdf() -> None:
    """A page with many equally good links is a list; one with two gives both, in their order."""
    entries = [f'<li><a href="/a{n}.pdf">PDF</a></li>' for n in range(8)]
    assert read(f"<body>{''.join(entries)}{'x' * 600}</body>").reason == "several_articles"
    assert urls(read(f"<body>{''.join(entries[:2])}</body>")) == [
        "https://journal.example/a0.pdf",
        "https://journal.example/a1.pdf",
    ]


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ('<head><meta http-equiv="Refresh" content="5; URL=\'/next\'"></head>',
         "https://journal.example/next"),
        ('<form><input type=hidden name="redirectURL" value="https%3A%2F%2Fwww.example%2Fpii%2F1"></form>',
         "https://www.example/pii/1"),
        ("<script>window.location.href = '/next';</script>", "https://journal.example/next"),
        ("<script>location.replace('/next')</script>", "https://journal.example/next"),
        ('<frameset><frame src="/next"></frameset>', "https://journal.example/next"),
        ('<div class="resource-line"><a href="https://one.example/1">One</a></div>', "https://one.example/1"),
        ('<iframe src="/next"></iframe>', "https://journal.example/next"),
    ],
)  # fmt: skip
def test_signposts_are_followed(body: str, target: str) -> None:
    """Refreshes, redirect forms, small scripts, frames and the chooser lead on."""
    assert read(f"<html>{body}</html>").follow[0] == target


def test_slow_refresh_and_own_address_are_not_followed() -> None:
    """A refresh after more than 15 s is no redirect, and a page never leads to itself."""
    assert read('<meta http-equiv=refresh content="35; url=/next">').follow == ()
    assert read('<meta http-equiv=refresh content="0; url=/article/1">').follow == ()


def test_a_page_that_sells_says_so() -> None:
    """No PDF and a price is a paywall; nothing at all is an empty page; a PDF is itself."""
    assert read("<body>" + "abstract " * 100 + "<button>Purchase PDF</button></body>").reason == "paywall"
    assert read(b" \n ").reason == "empty_page"
    assert urls(read(b"%PDF-1.4 ...")) == ["https://journal.example/article/1"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("Télécharger".encode("latin-1"), "text/html; charset=ISO-8859-1"),
        ("Télécharger".encode(), "text/html; charset=nonsense"),
        ("Télécharger".encode(), "text/html; charset=punycode"),
        ("Télécharger".encode("utf-16"), "text/html; charset=utf-16"),
        ("Télécharger".encode("cp1252"), ""),
        (b'<meta charset="windows-1252">' + "Télécharger".encode("cp1252"), ""),
        ("Té\x00lécharger".encode(), ""),
    ],
)
def test_charsets(body: bytes, content_type: str) -> None:
    """Header, meta, then UTF-8, then Windows-1252; only charsets of the web are believed."""
    assert "Télécharger" in decoded(body, content_type)


HOSTILE = {
    "deep nesting": b"<div>" * 1_000_000,
    "unclosed anchors": b"<a href=x.pdf>pdf" * 250_000,
    "empty sections": b"<p class=nav></p>x" * 250_000,
    "entities": b"&amp;&#0;&#xFFFFFFFF;" * 200_000,
    "entity bomb": b'<!DOCTYPE x [<!ENTITY a "'
    + b"ha" * 50
    + b'"><!ENTITY b "&a;&a;&a;&a;">]>'
    + b"&b;" * 1000,
    "NULs": b"\x00" * 5_000_000,
    "open tags": b"<" * 5_000_000,
    "open scripts": b"<script>" * 600_000,
    "json brackets": b'<script type="application/ld+json">' + b"[" * 1_000_000,
    "huge class": b'<a class="' + b"nav " * 1_000_000 + b'" href=x>',
    "all bytes": bytes(range(256)) * 20_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_html_gives_an_outcome(name: str) -> None:
    """Five megabytes of malice give a reason or links, within seconds."""
    started = time.monotonic()
    reading = read(HOSTILE[name][:PAGE_BYTES_MAX])
    assert reading.reason or reading.links
    assert time.monotonic() - started < 8


@st.composite
def broken_pages(draw: st.DrawFn) -> bytes:
    """A page with the parts that rules look for, cut and stirred."""
    parts = [
        b'<meta name="citation_pdf_url" content="', b'">', b'<a href="', b'<base href="http://[::', b"//[x", b"\x00", b"\xff\xfe",  # noqa: E501
        b'<iframe src="viewer?file=', b'<meta http-equiv=refresh content="1.2.3;url=', b"%zz", b'{"pdfUrl":"\\u12', b"&#x110000;",  # noqa: E501
        b'<script type="application/ld+json">{"encoding":[1,{"contentUrl":7}]}', b"<frameset>", b'" class="pdf">PDF</a>', b"http://h:99999/",  # noqa: E501
        b"</head>", b"<body>", b"10.1000/x.pdf", b'<link rel=canonical href="https://\xc3\xa9.example:x/', b"<!--", b"\r\n", b"<template>",  # noqa: E501
    ]  # fmt: skip
    return b"".join(draw(st.lists(st.one_of(st.sampled_from(parts), st.binary(max_size=12)), max_size=40)))


@given(
    broken_pages(),
    st.sampled_from(["", "https://journal.example/a/", "http://[", "x:y", "https://é.example/ü?q#f"]),
)
@settings(max_examples=250, deadline=None)
def test_broken_pages_never_raise(body: bytes, url: str) -> None:
    """Any page at any URL gives links that are absolute web URLs, within bounds, or a reason in the table."""
    reading = read(body, url)
    assert len(reading.links) <= LINKS_MAX
    for link in reading.links:
        assert link.rule == "page_is_pdf" or urlsplit(link.url).scheme.lower() in ("http", "https")
    assert reading.links or reading.follow or explained(reading.reason)


@needs_data
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_mutated_real_pages_never_raise(data: st.DataObject) -> None:
    """Real pages, cut and stirred, are read without an exception."""
    path = data.draw(
        st.sampled_from(sorted((LANDING / "pages").iterdir()) + sorted((LANDING / "blocked").iterdir()))
    )
    body = bytearray(path.read_bytes()[: data.draw(st.integers(100, 60_000))])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=20))
    reading = read(bytes(body), "https://journal.example/a")
    assert reading.links or reading.follow or explained(reading.reason)


@given(st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_urls_never_raise(base: str, href: str) -> None:
    """Cleaning, joining, repairing, rewriting and unwrapping answer for any text."""
    for url in (
        web_url(href),
        web_url("https://" + href),
        joined(base, href),
        joined("https://a.example/b", href),
    ):
        if url:
            assert web_url(url) == url
            assert not any(ord(c) < 33 or ord(c) > 126 for c in urlsplit(url).path + urlsplit(url).query)
            repaired(url)
            rewritten(url)
            unwrapped(url)
            same_article(url, "https://a.example/b")


def test_rules_have_names() -> None:
    """Each rule of each table has a name in snake_case, since the log carries it."""
    for rule in (*REPAIRS, *REWRITES, *ANCHORS, *SCRIPTS):
        assert rule.name == rule.name.lower().replace(" ", "_").replace("-", "_")
