"""Crossref: which DOI a bare title is (``/works?query.bibliographic=``, https://api.crossref.org/swagger-ui).

It leads to no PDF. A work that is known by its title alone has its turn here first, and is identified only
when the titles agree almost to the letter: the service always answers with something that is near.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from urllib.parse import urlencode

from ...config.settings import CrossrefOptions, Thresholds
from ...events.work import normal_doi, with_doi
from ..web.exchange import Role, Web
from .finding import Found, Lookup, accepted, from_answer, json_object, metadata, nothing, records_of, text_of

ROWS = 5
"""Answers that are compared."""
TITLE_CHARS_MAX = 300


class Crossref:
    """The identification of works that are known by title alone."""

    name = "crossref"

    def __init__(self, settings: CrossrefOptions, thresholds: Thresholds) -> None:
        self._endpoint = settings.endpoint.rstrip("/")
        self._score_min = settings.score_min
        self._thresholds = thresholds

    def __repr__(self) -> str:
        return f"Crossref({self._endpoint!r}, score_min={self._score_min})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a title."""
        return None if lookup.work.title else "no_title"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """Its only request."""
        asked = {"query.bibliographic": lookup.work.title[:TITLE_CHARS_MAX], "rows": str(ROWS)}
        if lookup.email:
            asked["mailto"] = lookup.email
        return f"{self._endpoint}/works?{urlencode(asked)}", "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """No candidates: the work's DOI in ``identified``, or the reason why it stays unknown."""
        url, _ = self.first_request(lookup)
        answer = await metadata(web, self.name, url, lookup, accept="application/json")
        accepted(answer, self._thresholds)
        return from_answer(answer, identify(answer.body, lookup.work.title, score_min=self._score_min))


def identify(body: bytes, title: str, *, score_min: float) -> Found:
    """The work of a search answer whose title is the one asked for. Never raises.

    Args:
        body: the answer.
        title: as the user gave it.
        score_min: least likeness of the titles, from 0 to 1.
    """
    answer = json_object(body)
    if isinstance(answer, str):
        return nothing(answer)
    message = answer.get("message")
    if not isinstance(message, dict):
        return nothing("other_shape")
    scored = [
        (likeness(title, named), doi)
        for item in records_of(message, "items", at_most=ROWS)
        if (doi := normal_doi(text_of(item, "DOI")))
        for named in _titles(item.get("title"))
    ]
    if not scored:
        return nothing("not_known")
    score, doi = max(scored)
    percent = int(score * 100)
    if score < score_min:
        return Found(candidates=(), reason="title_unlike", meta={"likeness_percent": percent})
    found = with_doi(doi, title=title)
    return Found(candidates=(), reason="identified", identified=found, meta={"likeness_percent": percent})


def likeness(one: str, other: str) -> float:
    """How alike two titles are, from 0 to 1, whatever their case and punctuation."""
    words, others = (" ".join(re.findall(r"\w+", text.lower()[:TITLE_CHARS_MAX])) for text in (one, other))
    return SequenceMatcher(None, words, others, autojunk=False).ratio() if words and others else 0.0


def _titles(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [title for title in value if isinstance(title, str)] if isinstance(value, list) else []
