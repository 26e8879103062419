"""Text and URLs of pages: decoding, cleaning, joining, repairing wrong ones, rewriting from page to PDF.

The tables are in ``page_rules``; nothing here parses HTML.
"""

from __future__ import annotations

import codecs
import re
from urllib.parse import parse_qs, quote, unquote, urljoin, urlsplit, urlunsplit

import msgspec

from ...events.keys import canonical_url
from .page_rules import REPAIRS, REWRITES

URL_CHARS_MAX = 4096
_BLANKS = re.compile(r"[\t\r\n\x0b\x0c]+")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]|[^\x21-\x7e]")
_CHARSET = re.compile(rb"""<meta[^<>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)
_CODECS = re.compile(
    r"utf-?8|utf-?16|latin|iso-?8859|cp125\d|windows-125\d|koi8|gb(?:k|2312|18030)|big5|shift_?jis"
                     r"|euc[-_]|iso-?2022-jp|ascii|cp932|cp949|mac-?roman", re.IGNORECASE)  # fmt: skip


def decoded(body: bytes, content_type: str = "") -> str:
    """The text of a page by the charset of its header, else of its meta, else UTF-8, else Windows-1252.

    NULs are dropped and what cannot be decoded is replaced. Only charsets of the web are believed: other
    codecs of Python may be slow or no text encodings at all.
    """
    named = [m.group(1) for m in [re.search(r"charset\s*=\s*[\"']?([\w.:-]{2,40})", content_type)] if m]
    named += [m.group(1).decode("ascii", "replace") for m in [_CHARSET.search(body[:4096])] if m]
    for name in (*named, "utf-8"):
        if _CODECS.match(name):
            try:
                return body.decode(codecs.lookup(name).name).replace("\x00", "")
            except (LookupError, UnicodeError):
                continue
    return body.decode("cp1252", "replace").replace("\x00", "")


def literal(text: str) -> str:
    """A string literal's content with JSON's escapes undone, as far as they are sound."""
    try:
        return str(msgspec.json.decode(f'"{text}"'.encode("utf-8", "replace")))
    except (msgspec.MsgspecError, ValueError):
        return text.replace("\\/", "/")


def _escaped(match: re.Match[str]) -> str:
    return quote(match.group(0), errors="replace")


def web_url(text: str) -> str | None:
    """An absolute http(s) URL with line breaks removed and illegal characters escaped, or None.

    Nothing legal is altered: paths and queries stay as they were given. Never raises.
    """
    text = _BLANKS.sub("", text[: 2 * URL_CHARS_MAX]).strip()
    try:
        parts = urlsplit(text)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            return None
        path, query = (_FORBIDDEN.sub(_escaped, part) for part in (parts.path, parts.query))
        port = {"http": ":80", "https": ":443"}[parts.scheme.lower()]
        netloc = parts.netloc.removesuffix(port)
        url = urlunsplit((parts.scheme, netloc, path, query, ""))
        canonical_url(url)
    except (ValueError, UnicodeError):
        return None
    return url if len(url) <= URL_CHARS_MAX and not re.search(r"\s", netloc) else None


def joined(base: str, href: str) -> str | None:
    """An href as an absolute URL on its base, or None for fragments, scripts, mail and nonsense."""
    href = _BLANKS.sub("", href[: 2 * URL_CHARS_MAX]).strip()
    if not href or href.startswith("#"):
        return None
    try:
        return web_url(urljoin(base, href))
    except ValueError:
        return None


def site_of(url: str) -> str:
    """The last two labels of a URL's host (three under short country domains): who owns the page, roughly."""
    try:
        labels = (urlsplit(url).hostname or "").split(".")
    except ValueError:
        return ""
    second_level = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if second_level else labels[-2:])


def within(host: str, domains: tuple[str, ...]) -> bool:
    """Whether a host is one of the domains or below one; any host is within none."""
    return not domains or any(host == domain or host.endswith(f".{domain}") for domain in domains)


def repaired(url: str) -> tuple[str, str] | None:
    """The right form of a URL that is known to be declared wrongly, and the repair's name; else None."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    rest = url[len(origin) :]
    for repair in REPAIRS:
        if within(parts.hostname or "", repair.hosts):
            right = web_url(origin + re.sub(repair.pattern, repair.replacement, rest, count=1))
            if right and right != url:
                return right, repair.name
    return None


def rewritten(url: str) -> tuple[str, str] | None:
    """The PDF URL that follows from a page's URL, and the rewrite's name; else None."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.lower().endswith(".pdf"):
        return None
    for rewrite in REWRITES:
        if within(parts.hostname or "", rewrite.hosts):
            text = f"{path}?{parts.query}" if r"\?" in rewrite.pattern else path
            found = re.fullmatch(rewrite.pattern, text)
            target = found and joined(url, found.expand(rewrite.replacement))
            if target and target != url:
                return target, rewrite.name
    return None


def unwrapped(url: str) -> str:
    """The document behind a viewer's URL (``?file=``, ``?url=``, ``?src=``); else the URL."""
    query = urlsplit(url).query
    if not query or not re.search(r"(?:^|&)(?:file|url|src|pdf|doc)=", query, re.IGNORECASE):
        return url
    try:
        values = parse_qs(query, max_num_fields=40)
    except ValueError:
        return url
    for name in ("file", "url", "src", "pdf", "doc"):
        for value in values.get(name, []):
            inner = joined(url, unquote(value) if "%3A%2F" in value.upper() else value)
            if inner and ("/" in value) and (".pdf" in value.lower() or "viewer" in url.lower()):
                return inner
    return url


_ENDINGS = re.compile(
    r"(?:\.(?:full|full-text|short|long|abstract|pdf|html?|xml|epub|reader)"
    r"|/(?:pdf|epdf|full|meta|abstract|epub|html?|download)|/)+$"
)
"""What stands behind an identifier in a URL and is no part of it."""
_IDENTITIES = (
    re.compile(r"(?:pii/|pid=1-s2\.0-)(S?\d{15,16}[\dX]?)", re.IGNORECASE),
    re.compile(r"(10\.\d{4,9}/[^?#&]+)"),
    re.compile(r"/article/(?:view|download|viewFile)/(\d+)"),
    re.compile(r"arxiv\.org/(?:abs|pdf|html)/((?:[\w-]+/)?[\d.]+\d)"),
    re.compile(r"/(?:articles/)?(PMC\d+)", re.IGNORECASE),
)


def identities(url: str) -> tuple[str, ...]:
    """What a URL says about which article it is: PII, DOI, OJS number, arXiv id, PMCID, or ``""``."""
    plain = unquote(url).lower()
    found = [pattern.search(plain) for pattern in _IDENTITIES]
    return tuple(_ENDINGS.sub("", match.group(1).lower()) if match else "" for match in found)


def same_article(one: str, other: str) -> bool:
    """Whether two URLs may be of one article: False only when both name an article, and not the same.

    DOIs in URLs carry endings (``/pdf``, ``.full``), so that one being a beginning of the other is enough.
    """
    for mine, theirs in zip(identities(one), identities(other), strict=True):
        if mine and theirs and not mine.startswith(theirs) and not theirs.startswith(mine):
            return False
    return True


SUPPLEMENT = re.compile(
    r"suppl|[_-]supp?\b|supp_?file|supp_?info|supporting|moesm|/esm/|mmc\d|[_-]sm\.pdf|appendix|media-\d|_si_?\d*\.pdf"
    r"|figures?[_.-]|[_-]figures?\b|slides|poster|checklist|reporting-summary|peer-?review|/toc\b|cover-?letter"
    r"|author.?guide|author.?feedback|meta.?review|instructions|copyright.?form|agreement|flyer|user-?guide|first.?page|frontmatter|front-matter",
    re.IGNORECASE,
)
"""URLs of what stands beside the article and is not it."""
