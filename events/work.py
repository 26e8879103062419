"""Works and their identifiers: what a user names, brought to one normal form."""

from __future__ import annotations

import re
import string
from urllib.parse import quote, unquote

import msgspec

from .urls import canonical_url

_DOI = re.compile(r"^10\.[0-9]{4,9}(?:\.[0-9]+)*/\S+$")
_DOI_PREFIX = re.compile(
    r"^(?:(?:https?://)?(?:dx\.|www\.)?doi\.org/|info:doi/|doi:\s*|doi\s+)+", re.IGNORECASE
)
_ARXIV_NEW = re.compile(r"^([0-9]{4}\.[0-9]{4,5})(?:v([0-9]+))?$")
_ARXIV_OLD = re.compile(r"^([a-z-]+)(?:\.[a-z]{2})?(/[0-9]{7})(?:v([0-9]+))?$")
_ARXIV_PREFIX = re.compile(
    r"^(?:arxiv:\s*|(?:https?://)?(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|html|format)/)", re.IGNORECASE
)
_ARXIV_TAIL = re.compile(r"(?<!\s)\s*\[[a-z.-]+\]$|[?#].*$", re.IGNORECASE)
"""The subject of a citation (``[cs.CL]``), or a URL's query. Tried once for a run of blanks, not at each."""
_ARXIV_DOI = re.compile(r"^10\.48550/arxiv\.(.+)$")
_PMCID = re.compile(r"^(?:PMCID:?\s*)?(?:PMC)?0*([1-9][0-9]{0,8})(?:\.[0-9]+)?$", re.IGNORECASE)
_PMC_URL = re.compile(
    r"^https?://(?:(?:www\.)?ncbi\.nlm\.nih\.gov/pmc/articles|pmc\.ncbi\.nlm\.nih\.gov/articles|"
    r"(?:www\.)?europepmc\.org/articles?(?:/PMC)?)/(PMC[0-9]{1,9})(?:[/?#].*)?$",
    re.IGNORECASE,
)
_PUBMED_URL = re.compile(
    r"^https?://(?:pubmed\.ncbi\.nlm\.nih\.gov|(?:www\.)?ncbi\.nlm\.nih\.gov/pubmed|"
    r"(?:www\.)?europepmc\.org/(?:article|abstract)/med)/([0-9]{1,9})(?:[/?#].*)?$",
    re.IGNORECASE,
)
_PMID = re.compile(r"^(?:pmid:?\s*)?0*([1-9][0-9]{0,8})$", re.IGNORECASE)
_URL = re.compile(r"^https?://[^\s/]\S*$", re.IGNORECASE)
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""DOIs fold ASCII letters alone (DOI Handbook, 3.4.4): é and É are two names."""
_AFTER = ".,;:'\"\u2018\u2019\u201c\u201d\u00ab\u00bb"
"""What a sentence leaves behind a DOI. The syntax of DOIs allows such an end; none is known to us."""
_BRACKETS = {")": "(", "]": "[", "}": "{", ">": "<"}
_TRACKING = re.compile(
    r"\?(?:(?:utm_\w+|fbclid|gclid|dclid|msclkid|yclid|igshid|mc_[ce]id|_hs\w+)=[^&#]*(?:&|$))+$",
    re.IGNORECASE,
)
"""What newsletters and social networks put behind an address; any other query may be part of a DOI."""
_AROUND = string.whitespace + "\u00a0\u200b\u200e\u200f\u2060\ufeff"
"""What pasting leaves around a name."""

DOI_CHARS_MAX = 512


class Work(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is wanted: identifiers in normal form, as far as they are known; ``""`` where they are not."""

    doi: str = ""
    arxiv_id: str = ""
    """Without version."""
    pmcid: str = ""
    """With its ``PMC``."""
    pmid: str = ""
    url: str = ""
    title: str = ""
    arxiv_version: str = ""
    """``v2``; kept apart, since it is no part of the identity."""

    @property
    def work_id(self) -> str:
        """The first identifier it has, in the order doi, arxiv, pmcid, pmid, url, title."""
        for scheme, value in self.identifiers():
            return f"{scheme}:{value}"
        return f"title:{normal_title(self.title)}" if self.title else ""

    def identifiers(self) -> list[tuple[str, str]]:
        """Scheme and value of each identifier it has, strongest first; a title is none."""
        named = (
            ("doi", self.doi),
            ("arxiv", self.arxiv_id),
            ("pmcid", self.pmcid),
            ("pmid", self.pmid),
            ("url", (normal_url(self.url) or self.url) if self.url else ""),
        )
        return [(scheme, value) for scheme, value in named if value]

    @property
    def resolver_url(self) -> str:
        """The address at which its strongest identifier resolves; ``""`` for a work known by title alone."""
        if self.doi:
            return f"https://doi.org/{quote(self.doi, safe='/:;()._-')}"
        if self.arxiv_id:
            return f"https://arxiv.org/abs/{self.arxiv_id}"
        if self.pmcid:
            return f"https://pmc.ncbi.nlm.nih.gov/articles/{self.pmcid}/"
        if self.pmid:
            return f"https://pubmed.ncbi.nlm.nih.gov/{self.pmid}/"
        return self.url

    def merged(self, other: Work) -> Work:
        """This work with the gaps filled from another; what is known already is never overwritten."""
        return Work(
            doi=self.doi or other.doi,
            arxiv_id=self.arxiv_id or other.arxiv_id,
            pmcid=self.pmcid or other.pmcid,
            pmid=self.pmid or other.pmid,
            url=self.url or other.url,
            title=self.title or other.title,
            arxiv_version=self.arxiv_version if self.arxiv_id else other.arxiv_version,
        )


def normal_doi(text: str) -> str | None:
    """A DOI in lower case without resolver prefix, nothing inside altered; None when it is none.

    The punctuation of a sentence behind it goes, and a closing bracket that none within it opened.
    """
    text = text.strip(_AROUND)
    prefix = _DOI_PREFIX.match(text)
    bare = text[prefix.end() :] if prefix else text
    if prefix and "doi.org/" in prefix.group().lower():
        bare = unquote(_TRACKING.sub("", bare.rstrip(_AFTER)))
    bare = bare.strip(_AROUND).translate(_LOWER)
    if len(bare) > DOI_CHARS_MAX:
        return None
    bare = _without_punctuation(bare)
    return bare if _DOI.match(bare) and bare.isprintable() else None


def _without_punctuation(text: str) -> str:
    """A name without what the sentence around it put behind it."""
    while True:
        text = text.rstrip(_AFTER + _AROUND)
        opening = _BRACKETS.get(text[-1:])
        if opening is None or text.count(text[-1]) <= text.count(opening):
            return text
        text = text[:-1]


def normal_arxiv(text: str) -> tuple[str, str] | None:
    """An arXiv id and its version (``""`` when none is given), or None.

    The subject class of an old id (``math.GT/0309136``) is no part of it: arXiv knows both as one.
    """
    bare = _ARXIV_TAIL.sub("", _ARXIV_PREFIX.sub("", text.strip(_AROUND))).lower()
    bare = bare.removesuffix(".pdf").strip("/")
    doi = _ARXIV_DOI.match(bare)
    if doi:
        bare = doi.group(1)
    found = _ARXIV_NEW.match(bare) or _ARXIV_OLD.match(bare)
    if not found:
        return None
    *identifier, version = found.groups()
    return "".join(identifier), f"v{version}" if version else ""


def normal_pmcid(text: str) -> str | None:
    """A PMCID with its ``PMC``, or None."""
    found = _PMCID.match(text.strip(_AROUND))
    return f"PMC{found.group(1)}" if found else None


def normal_pmid(text: str) -> str | None:
    """A PubMed id, digits alone, or None."""
    found = _PMID.match(text.strip(_AROUND))
    return found.group(1) if found else None


def normal_url(text: str) -> str | None:
    """An http or https URL in its canonical form, or None."""
    text = text.strip(_AROUND)
    if not _URL.match(text) or not text.isprintable():
        return None
    try:
        return canonical_url(text)
    except ValueError:
        return None


def normal_title(text: str) -> str:
    """A title for comparing: lower case, single spaces."""
    return " ".join(text.lower().split())


def with_doi(doi: str, *, title: str = "") -> Work:
    """The work of a DOI in normal form; an arXiv DOI also gives the arXiv id."""
    arxiv = normal_arxiv(doi) if _ARXIV_DOI.match(doi) else None
    if arxiv:
        return Work(arxiv_id=arxiv[0], arxiv_version=arxiv[1], title=title)
    return Work(doi=doi, title=title)


def parse_work(text: str) -> Work | None:
    """The work that a bare string names (DOI, arXiv id, PMCID, ``pmid:…`` or URL), or None.

    A bare number is not guessed to be a PubMed id; write ``pmid:123``.
    """
    text = text.strip(_AROUND)
    arxiv = normal_arxiv(text)
    if arxiv:
        return Work(arxiv_id=arxiv[0], arxiv_version=arxiv[1])
    doi = normal_doi(text)
    if doi:
        return with_doi(doi)
    in_pmc = _PMC_URL.match(text)
    if in_pmc or re.match(r"^PMC(ID)?\W*[P0-9]", text, re.IGNORECASE):
        pmcid = normal_pmcid(in_pmc.group(1) if in_pmc else text)
        return Work(pmcid=pmcid) if pmcid else None
    in_pubmed = _PUBMED_URL.match(text)
    if in_pubmed or re.match(r"^pmid", text, re.IGNORECASE):
        pmid = normal_pmid(in_pubmed.group(1) if in_pubmed else text)
        return Work(pmid=pmid) if pmid else None
    url = normal_url(text)
    return Work(url=url) if url else None
