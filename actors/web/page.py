"""The landing-page reader: from the bytes of a page to the few URLs that may be its PDF.

The head is read first, since most journals declare the PDF there; the body only when the head declares none
or the body speaks of another. Each link says which rule found it. Hostile HTML gives an outcome, never an
exception: what is undecodable is replaced, what is too deep or too long is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import lxml.etree
import lxml.html
import msgspec

from ...events.work import Work, normal_arxiv, normal_doi, normal_pmid
from .exchange import Answer
from .page_anchors import (
    TIED_MAX,
    cut_foreign_sections,
    cut_furniture,
    lists_articles,
    scored_anchors,
    signposts,
)
from .page_repairs import (
    SUPPLEMENT,
    decoded,
    joined,
    literal,
    repaired,
    rewritten,
    same_article,
    site_of,
    unwrapped,
    web_url,
    within,
)
from .page_rules import ADDRESSES, ANCHORS, DECLARED, FRAMES, NEVER_FOLLOWED, PAGE_IS_PDF, PDF_PATH, SCRIPTS
from .walls import Sight, wall_of

PAGE_BYTES_MAX = 5 * 1024 * 1024
"""More of a page than this is not read."""
HEAD_CHARS_MAX = 256 * 1024
ELEMENTS_MAX = 150_000
"""A page with more elements is read by its head alone."""
LINKS_MAX = 6
"""Links of one page that are worth trying."""
FOLLOW_MAX = 3
"""Frames, refreshes and scripted redirects followed from one page."""

_HEAD_END = re.compile(r"</head\s*>|<body[\s>]", re.IGNORECASE)
_PDF_HREF = re.compile(r"""href\s*=\s*["']?([^"'\s<>]{0,1000}pdf[^"'\s<>]{0,1000})""", re.IGNORECASE)


class Link(msgspec.Struct, frozen=True):
    """A URL on a page that may be its PDF."""

    url: str
    rule: str
    declared: bool = False
    """The page's head says so itself."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a page gave."""

    url: str
    links: tuple[Link, ...] = ()
    """In the order in which to try them."""
    follow: tuple[str, ...] = ()
    """Pages to read next: frames, refreshes, scripted redirects."""
    reason: str = ""
    """Why there are no links."""
    sold: bool = False
    """The page sells access; its links may be closed."""
    identified: Work = Work()


def read_page(answer: Answer, *, asked: str = "", links_max: int = LINKS_MAX) -> Reading:
    """Read a landing page.

    Args:
        answer: The page; its URL is the base where the page names none.
        asked: The URL asked for, before redirects; the first hop when not given.
        links_max: Links to return at most.

    Returns:
        Links in the order in which to try them, or pages to follow, or the reason for neither. Never raises.
    """
    body = answer.body[:PAGE_BYTES_MAX]
    if body.lstrip()[:5] == b"%PDF-" or answer.content_type == "application/pdf":
        return Reading(url=answer.url, links=(Link(answer.url, PAGE_IS_PDF),))
    if not body.strip():
        return Reading(url=answer.url, reason="empty_page")
    sight = Sight(answer, asked)
    wall = wall_of(sight)
    if wall:
        return Reading(url=answer.url, reason=wall.reason)
    page = _Page(decoded(body, answer.headers.get("content-type", "")), answer.url)
    links = page.links()
    own = tuple(_distinct(links))[:links_max]
    follow = () if any(link.declared for link in own) else tuple(page.follow())
    reason = ""
    if not own and not follow:
        weak = wall_of(sight, weak=True)
        reason = page.reason or (weak.reason if weak else "paywall" if sight.sells else "no_pdf_link")
    return Reading(
        url=answer.url,
        links=own,
        follow=follow,
        reason=reason,
        sold=sight.sells,
        identified=page.identified(),
    )


def _tree(text: str) -> Any:
    """The element tree of some HTML, or None for what holds no element."""
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        return lxml.html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.LxmlError, ValueError, RecursionError):
        return None


def _distinct(links: Iterable[Link]) -> Iterator[Link]:
    seen: set[str] = set()
    for link in links:
        if link.url not in seen:
            seen.add(link.url)
            yield link


class _Page:
    """One page while it is read; the body's tree is made once, when it is first needed."""

    def __init__(self, text: str, url: str) -> None:
        self.text = text
        self.url = web_url(url) or ""
        self.reason = ""
        end = _HEAD_END.search(text, 0, HEAD_CHARS_MAX)
        self.head = _tree(text[: end.start() if end else HEAD_CHARS_MAX])
        self._metas = self._read_metas(self.head)
        self.base = self._base(self.head)
        self.home = self.url or self.base
        self._body: Any = None

    def __repr__(self) -> str:
        return f"_Page({self.home!r}, {len(self.text)} chars)"

    @staticmethod
    def _read_metas(tree: Any) -> dict[str, list[str]]:
        metas: dict[str, list[str]] = {}
        for meta in islice(tree.iter("meta"), 2000) if tree is not None else ():
            name = (meta.get("name") or meta.get("property") or meta.get("itemprop") or "").strip().lower()
            content = (meta.get("content") or "").strip()
            if name and content:
                metas.setdefault(name, []).append(content)
        return metas

    def _base(self, tree: Any) -> str:
        """LANDING's order; a URL on the page's own host gives way to the final URL, as in a browser."""
        if tree is None:
            return self.url
        for base in islice(tree.iter("base"), 1):
            declared = joined(self.url, base.get("href") or "")
            if declared:
                return declared
        canonical = [link.get("href") or "" for link in tree.iter("link") if link.get("rel") == "canonical"]
        named = [
            value
            for name in ("og:url", "citation_url", "dc.identifier")
            for value in self._metas.get(name, [])
        ]
        for text in (*canonical, *named):
            claimed = web_url(text)
            if claimed and not within(urlsplit(claimed).hostname or "", ("doi.org", "handle.net")):
                same_host = self.url and urlsplit(claimed).hostname == urlsplit(self.url).hostname
                return self.url if same_host else claimed
        return self.url

    def identified(self) -> Work:
        """Identifiers that the head declares."""
        named = {name: self._metas.get(name, [""])[0][:400] for name in
                 ("citation_doi", "citation_pmid", "citation_arxiv_id", "citation_title")}  # fmt: skip
        arxiv = normal_arxiv(named["citation_arxiv_id"])
        return Work(
            doi=normal_doi(named["citation_doi"]) or "",
            pmid=normal_pmid(named["citation_pmid"]) or "",
            arxiv_id=arxiv[0] if arxiv else "",
            title=named["citation_title"],
        )

    def links(self) -> list[Link]:
        """Everything that may be the PDF, best first."""
        declared = list(self._declared())
        if self._lists_articles(declared):
            self.reason = "several_articles"
            return []
        if declared and not self._speaks_of_another(declared):
            return declared
        return [*declared, *(link for link in self._from_body() if self._is_own(link.url))]

    def _lists_articles(self, declared: list[Link]) -> bool:
        return len(declared) > TIED_MAX and len(set(self._metas.get("citation_title", []))) > TIED_MAX

    def _declared(self) -> Iterator[Link]:
        """What the head declares, each repair before what it mends."""
        for name, rule in DECLARED:
            for content in self._metas.get(name, [])[: 2 * LINKS_MAX]:
                yield from self._with_repairs(joined(self.base, content), rule)
        for link in islice(self.head.iter("link"), 2000) if self.head is not None else ():
            if (link.get("type") or "").lower() == "application/pdf" and "alternate" in (
                link.get("rel") or ""
            ).lower():
                yield from self._with_repairs(joined(self.base, link.get("href") or ""), "link_alternate")

    def _with_repairs(self, url: str | None, rule: str) -> Iterator[Link]:
        if not url or url.rstrip("/") == self.url.rstrip("/"):
            return
        mended = repaired(url)
        if mended:
            yield Link(mended[0], f"{rule}+{mended[1]}", declared=True)
        reference = re.sub(r"\.pdf$", "_reference.pdf", url)
        if reference != url and reference.rpartition("/")[2] in self.text:
            yield Link(reference, f"{rule}+nature_reference", declared=True)
        yield Link(url, rule, declared=True)

    def _speaks_of_another(self, declared: list[Link]) -> bool:
        """Whether the page links a PDF that its head does not declare; cheap, without a tree."""
        known = {link.url.split("?")[0].rstrip("/") for link in declared}
        for match in islice(_PDF_HREF.finditer(self.text), 400):
            url = joined(self.base, match.group(1))
            if url and url.split("?")[0].rstrip("/") not in known and self._is_own(url):
                return True
        return False

    def _is_own(self, url: str) -> bool:
        """Not the page itself, not a supplement, and not another article's."""
        if url.split("#")[0].rstrip("/") == self.url.rstrip("/"):
            return False
        if SUPPLEMENT.search(url) and not SUPPLEMENT.search(self.home):
            return False
        doi = self.identified().doi
        return same_article(url, self.home) and (not doi or same_article(url, f"https://doi.org/{doi}"))

    def _tree(self) -> Any:
        """The whole page, cut of its foreign sections; None where it is no sensible page."""
        if self._body is None:
            self._body = _tree(self.text)
            if (
                self._body is not None
                and sum(1 for _ in islice(self._body.iter(), ELEMENTS_MAX + 1)) > ELEMENTS_MAX
            ):
                self._body = _tree("<html></html>")
            if self._body is not None:
                self._frames = list(self._framed(self._body))
                cut_foreign_sections(self._body)
        return self._body

    def _from_body(self) -> Iterator[Link]:
        tree = self._tree()
        if tree is None:
            return
        if not self._metas:
            self._metas = self._read_metas(tree)
            yield from self._declared()
        yield from self._frames
        yield from self._scripted()
        yield from self._anchored(tree)
        found = rewritten(self.home) if self.home else None
        if found:
            yield Link(*found)
        cut_furniture(tree)
        scored = scored_anchors(tree, self.base, self.home)
        if lists_articles(scored) and not self._metas.get("citation_title"):
            self.reason = "several_articles"
            return
        for anchor in scored:
            yield from self._mended(anchor.url, "anchor_score")

    def _mended(self, url: str, rule: str) -> Iterator[Link]:
        """A repair before what it mends: where the repair fails, the link as it stands may still lead on."""
        mended = repaired(url)
        if mended:
            yield Link(mended[0], f"{rule}+{mended[1]}")
        yield Link(url, rule)

    def _framed(self, tree: Any) -> Iterator[Link]:
        for rule, xpath in FRAMES:
            for address in islice(tree.xpath(xpath), 20):
                url = joined(self.base, str(address))
                inner = unwrapped(url) if url else ""
                if inner and (rule != "iframe_pdf" or inner != url or PDF_PATH.search(urlsplit(inner).path)):
                    yield from self._mended(inner, rule)

    def _scripted(self) -> Iterator[Link]:
        host = urlsplit(self.home).hostname or "" if self.home else ""
        for rule in SCRIPTS:
            found = re.search(rule.pattern, self.text) if within(host, rule.hosts) else None
            if found:
                groups = [literal(group) for group in found.groups()]
                url = joined(self.base, rule.template.format(*groups))
                if url:
                    yield from self._mended(url, rule.name)
        yield from self._json_ld()

    def _json_ld(self) -> Iterator[Link]:
        pattern = r"<script[^<>]{0,200}application/ld\+json[^<>]{0,200}>([^<]{2,200000})"
        for match in islice(re.finditer(pattern, self.text, re.IGNORECASE), 4):
            try:
                value = msgspec.json.decode(match.group(1).encode("utf-8", "replace"))
            except (msgspec.MsgspecError, RecursionError, ValueError):
                continue
            for item in value if isinstance(value, list) else [value]:
                for address in _encoded_pdfs(item):
                    url = joined(self.base, address)
                    if url:
                        yield Link(url, "json_ld_encoding")

    def _anchored(self, tree: Any) -> Iterator[Link]:
        host = urlsplit(self.home).hostname or "" if self.home else ""
        for rule in ANCHORS:
            if within(host, rule.hosts):
                for anchor in islice(tree.xpath(rule.xpath), LINKS_MAX):
                    found = (joined(self.base, anchor.get(name) or "") for name in ADDRESSES)
                    url = next((address for address in found if address), None)
                    if url:
                        yield from self._mended(url, rule.name)

    def follow(self) -> Iterator[str]:
        """Pages that this one is only a shell or a signpost of, at most ``FOLLOW_MAX``."""
        tree = _tree(self.text) if len(self.text) < HEAD_CHARS_MAX else None
        fresh: dict[str, None] = {}
        for address in signposts(tree) if tree is not None else ():
            url = joined(self.base, str(address))
            if url and url.rstrip("/") != self.url.rstrip("/") and site_of(url) not in NEVER_FOLLOWED:
                fresh.setdefault(url)
        return islice(fresh, FOLLOW_MAX)


def _encoded_pdfs(item: Any) -> Iterator[str]:
    """The addresses in ``encoding`` of a JSON-LD object whose format is PDF."""
    if not isinstance(item, dict):
        return
    encodings = item.get("encoding")
    for encoding in (encodings if isinstance(encodings, list) else [encodings])[:20]:
        if isinstance(encoding, dict):
            kind = encoding.get("encodingFormat") or encoding.get("fileFormat") or ""
            address = encoding.get("contentUrl")
            if isinstance(address, str) and ("pdf" in str(kind).lower() or PDF_PATH.search(address)):
                yield address
