"""Addresses out of an answer by a user's selector: CSS on a page, a path in JSON. Pure; nothing here raises.

A hostile page gives a reason: its size, its elements and what matches are bounded, as in the landing reader.
"""

from __future__ import annotations

import functools
from itertools import islice
from typing import Any

import lxml.cssselect
import lxml.etree
import lxml.html
import msgspec

from ...config.json_path import values_at
from ...config.settings import Mappings, Resolver
from ..web.exchange import Answer
from ..web.page import ELEMENTS_MAX, PAGE_BYTES_MAX
from ..web.page_repairs import URL_CHARS_MAX, decoded, joined
from .finding import json_object

HOLDERS = ("href", "src", "data", "data-href", "content", "value")
"""Attributes that hold addresses, in the order in which they are looked for."""
MATCHES_MAX = 2000
"""Elements that a selector may match; an ``index`` beyond them finds nothing."""


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer names."""

    pdfs: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    """Landing pages."""
    reason: str = ""
    """Why there is neither."""


def on_page(answer: Answer, resolver: Resolver) -> Addresses:
    """The one address that the element at ``index`` among those that match holds, on the page's base."""
    body = answer.body[:PAGE_BYTES_MAX]
    cut = answer.truncated or len(answer.body) > PAGE_BYTES_MAX
    nothing = Addresses(reason="truncated_answer" if cut else "no_pdf_link")
    if not body.strip():
        return Addresses(reason="empty_page")
    tree = _tree(decoded(body, answer.headers.get("content-type", "")))
    if tree is None:
        return nothing
    if sum(1 for _ in islice(tree.iter(), ELEMENTS_MAX + 1)) > ELEMENTS_MAX:
        return Addresses(reason="truncated_answer")
    element = _element(tree, resolver)
    url = None if element is None else joined(_base(tree, answer.url), _address(element, resolver.attribute))
    return Addresses(pdfs=(url,)) if url else nothing


def _tree(text: str) -> Any:
    """The element tree of a page, or None for what holds no element."""
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        return lxml.html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.LxmlError, ValueError, RecursionError):
        return None


def _base(tree: Any, url: str) -> str:
    """The page's own base, which may be relative; its URL where it names none."""
    for base in islice(tree.iter("base"), 1):
        return joined(url, base.get("href") or "") or url
    return url


@functools.lru_cache(maxsize=64)
def _compiled(selector: str) -> Any:
    return lxml.cssselect.CSSSelector(selector, translator="html")


def _element(tree: Any, resolver: Resolver) -> Any:
    try:
        matches = _compiled(resolver.selector)(tree)
    except (lxml.etree.LxmlError, ValueError, RecursionError):
        return None  # sound CSS that this XPath engine has no answer to matches nothing
    at, length = resolver.index, min(len(matches), MATCHES_MAX)
    return matches[at] if -length <= at < length else None


def _address(element: Any, attribute: str) -> str:
    """What the element says: the named attribute, else the first that holds addresses, else its text."""
    if attribute:
        return str(element.get(attribute.lower()) or "")
    held = next((text for name in HOLDERS if (text := element.get(name))), None)
    return str(held or "".join(islice(element.itertext(), 100))[: 2 * URL_CHARS_MAX].strip())


def in_json(answer: Answer, resolver: Resolver) -> Addresses:
    """The addresses that the path leads to, or that the objects there hold by ``mappings``; in order."""
    value = _value(answer.body.removeprefix(b"\xef\xbb\xbf"))
    if isinstance(value, _Unread):
        return Addresses(reason="truncated_answer" if answer.truncated else value.reason)
    matched = values_at(value, resolver.selector)
    mappings = resolver.mappings
    if mappings == Mappings():
        pdfs = _urls(matched, answer.url)
    else:
        pdfs = _urls(_mapped(matched, mappings.url), answer.url)
    pages = _urls(_mapped(matched, mappings.pageURL), answer.url)
    return Addresses(pdfs=pdfs, pages=pages, reason="" if pdfs or pages else "no_oa_location")


class _Unread(msgspec.Struct, frozen=True):
    """A body that is no JSON, and why."""

    reason: str


def _value(body: bytes) -> Any:
    """The JSON value of a body, of whatever shape."""
    value = json_object(body)
    if value == "other_shape":
        return msgspec.json.decode(body)
    return _Unread(value) if isinstance(value, str) else value


def _mapped(matched: list[Any], path: str) -> list[Any]:
    return [value for one in matched for value in values_at(one, path)] if path else []


def _urls(values: list[Any], base: str) -> tuple[str, ...]:
    joined_ = (joined(base, value) for value in values if isinstance(value, str))
    return tuple(dict.fromkeys(url for url in joined_ if url))
