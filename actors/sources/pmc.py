"""PubMed Central: the open-data bucket, with the id converter before it.

The OA web service and the FTP packages are gone (2026-08) and the article pages are walled. The bucket holds
one folder per version of an article (``PMC{id}.{version}/``) and one record each
(``metadata/PMC{id}.{version}.json``) whose ``pdf_url`` is an ``s3://`` URL with an md5
(https://pmc.ncbi.nlm.nih.gov/tools/pmcaws/, https://pmc.ncbi.nlm.nih.gov/tools/id-converter-api/).
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from ...config.settings import PmcEndpoints, Thresholds
from ...events.work import Work, normal_doi, normal_pmcid, normal_pmid
from ..web.exchange import Answer, Role, Web
from ..web.page_repairs import web_url
from .finding import (
    Candidate,
    Found,
    Lookup,
    accepted,
    from_answer,
    json_object,
    metadata,
    nothing,
    quoted_doi,
    records_of,
    text_of,
)
from .preference import Preference

LISTINGS_MAX = 3
"""Parts of one listing that are asked for; the bucket gives a thousand keys at a time."""
VERSIONS_MAX = 2
"""Versions whose record is read, newest first; an older one may have the PDF that the newest lacks."""
_KEY = re.compile(rb"<(?:Key|Prefix)>\s*(?:metadata/)?(PMC\d{1,9})\.(\d{1,4})(?:/|\.json)")
_NEXT = re.compile(rb"<NextContinuationToken>([^<>\s]{1,2000})</NextContinuationToken>")
_MD5 = re.compile(r"[0-9a-f]{32}")


class Pmc:
    """The source ``pmc_pdf``."""

    name = "pmc_pdf"

    def __init__(self, settings: PmcEndpoints, thresholds: Thresholds, wanted: Preference) -> None:
        self._bucket = settings.endpoint.rstrip("/")
        self._id_converter = settings.id_converter
        self._thresholds = thresholds
        self._wanted = wanted

    def __repr__(self) -> str:
        return f"Pmc({self._bucket!r})"

    def lacks(self, lookup: Lookup) -> str | None:
        """It needs a PMCID, or a PMID or DOI to look one up."""
        work = lookup.work
        if not self._wanted.wants("", "repository"):
            return "unwanted_copies"
        return None if work.pmcid or work.pmid or work.doi else "no_identifier"

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        """The listing, or the id converter where the PMCID is not known."""
        if lookup.work.pmcid:
            return self._listing_url(lookup.work.pmcid), "metadata"
        join = "&" if "?" in self._id_converter else "?"
        ids = lookup.work.pmid or quoted_doi(lookup.work.doi)
        email = f"&email={quote(lookup.email, safe='@')}" if lookup.email else ""
        return f"{self._id_converter}{join}ids={ids}&format=json&tool=quire{email}", "metadata"

    async def find(self, web: Web, lookup: Lookup) -> Found:
        """The PDF of the newest version that has one."""
        pmcid, retries = lookup.work.pmcid, 0
        learned: Work | None = None
        if not pmcid:
            answer = await self._ask(web, lookup, self.first_request(lookup)[0])
            if answer.status not in (400, 404):
                accepted(answer, self._thresholds)
            named = converted(answer.body, lookup.work)
            if isinstance(named, str):
                return from_answer(answer, nothing(named))
            learned, pmcid, retries = named, named.pmcid, answer.retry_count
        found = await self._in_bucket(web, lookup, pmcid)
        if found.identified:
            learned = learned.merged(found.identified) if learned else found.identified
        return Found(
            candidates=found.candidates,
            reason=found.reason,
            identified=learned if learned and lookup.work.merged(learned) != lookup.work else None,
            status=found.status,
            host=found.host,
            retry_count=found.retry_count + retries,
            meta={"pmcid": pmcid, **found.meta},
        )

    async def _in_bucket(self, web: Web, lookup: Lookup, pmcid: str) -> Found:
        """The PDF of the newest version that has a wanted one; why not, of the newest version alone."""
        answer, versions = await self._versions(web, lookup, pmcid)
        found = from_answer(answer, nothing("not_in_pmc" if _is_listing(answer.body) else "other_shape"))
        for number, version in enumerate(versions[:VERSIONS_MAX]):
            url = f"{self._bucket}/metadata/{pmcid}.{version}.json"
            answer = await self._ask(web, lookup, url)
            if answer.status == 404:
                read = nothing("not_in_pmc")
            else:
                read = self._read(accepted(answer, self._thresholds), pmcid)
            if read.candidates or not number:
                found = from_answer(answer, read)
            if found.candidates:
                break
        return found

    async def _versions(self, web: Web, lookup: Lookup, pmcid: str) -> tuple[Answer, list[int]]:
        """The listing's last part, and the versions that all its parts name, newest first."""
        url, versions = self._listing_url(pmcid), set[int]()
        for _ in range(LISTINGS_MAX):
            answer = accepted(await self._ask(web, lookup, url), self._thresholds)
            versions.update(versions_listed(answer.body, pmcid))
            token = _NEXT.search(answer.body)
            if token is None:
                break
            more = quote(unescape(token.group(1).decode("utf-8", "replace")), safe="")
            url = f"{self._listing_url(pmcid)}&continuation-token={more}"
        return answer, sorted(versions, reverse=True)

    def _read(self, answer: Answer, pmcid: str) -> Found:
        """What a version's record gives of the article asked for."""
        found = pdf_of(answer.body, self._bucket)
        named = found.identified
        learned = named if named and named.pmcid == pmcid else None
        if any(not self._wanted.wants(candidate.version) for candidate in found.candidates):
            return nothing("unwanted_copies", identified=learned)
        return msgspec.structs.replace(found, identified=learned)

    async def _ask(self, web: Web, lookup: Lookup, url: str) -> Answer:
        return await metadata(web, self.name, url, lookup)

    def _listing_url(self, pmcid: str) -> str:
        return f"{self._bucket}/?list-type=2&prefix={pmcid}."


def converted(body: bytes, work: Work) -> Work | str:
    """The identifiers that the converter gives for a work, a PMCID among them, or a reason. Never raises."""
    answer = json_object(body)
    if isinstance(answer, str):
        return answer
    if not isinstance(answer.get("records"), list):
        return "not_known" if text_of(answer, "status") == "error" else "other_shape"
    foreign = False
    for record in records_of(answer, "records"):
        learned = Work(
            doi=normal_doi(text_of(record, "doi")) or "",
            pmcid=normal_pmcid(text_of(record, "pmcid")) or "",
            pmid=normal_pmid(text_of(record, "pmid")) or "",
        )
        if not _may_be(learned, work):
            foreign = True
        elif learned.pmcid:
            return (
                "embargoed"
                if text_of(record, "live").lower() == "false" or record.get("live") is False
                else learned
            )
    return "other_work" if foreign else "not_in_pmc"


def _may_be(learned: Work, work: Work) -> bool:
    doi_differs = bool(work.doi and learned.doi and work.doi != learned.doi)
    pmid_differs = bool(not work.doi and work.pmid and learned.pmid and work.pmid != learned.pmid)
    return not doi_differs and not pmid_differs


def _is_listing(body: bytes) -> bool:
    return b"<ListBucketResult" in body[:2048]


def versions_listed(body: bytes, pmcid: str) -> list[int]:
    """The versions of an article in a bucket listing, newest first. Never raises."""
    return sorted({int(v) for name, v in _KEY.findall(body) if name.decode() == pmcid}, reverse=True)


def pdf_of(body: bytes, bucket: str) -> Found:
    """The PDF that a version's record names, at the bucket's https address. Never raises."""
    record = json_object(body)
    if isinstance(record, str):
        return nothing(record)
    named = text_of(record, "pdf_url")
    if not named:
        return nothing(
            "no_pdf_in_pmc" if {"xml_url", "text_url", "pmcid", "pdf_url"} & record.keys() else "other_shape"
        )
    url = https_of(named, bucket)
    if not url:
        return nothing("other_shape")
    candidate = Candidate(
        url=url,
        rule="pmc_pdf_url",
        version="acceptedVersion" if record.get("is_manuscript") is True else "publishedVersion",
        md5=_md5_of(named, record),
    )
    return Found(candidates=(candidate,), identified=_named_in(record))


def _named_in(record: dict[str, Any]) -> Work | None:
    """The identifiers in a version's record."""
    named = Work(
        doi=normal_doi(text_of(record, "doi")) or "",
        pmcid=normal_pmcid(text_of(record, "pmcid")) or "",
        pmid=normal_pmid(text_of(record, "pmid")) or "",
    )
    return named if named.identifiers() else None


def https_of(url: str, bucket: str) -> str | None:
    """An ``s3://`` URL at the endpoint of its bucket; an https URL as it is; None for anything else."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme != "s3":
        return web_url(url)
    key = quote(unquote(parts.path.lstrip("/")), safe="/")
    return web_url(f"{bucket}/{key}") if key and ".." not in key else None


def _md5_of(url: str, record: dict[str, Any]) -> str:
    try:
        in_query = parse_qs(urlsplit(url).query, max_num_fields=20).get("md5", [""])[0]
    except ValueError:
        in_query = ""
    claimed = (in_query or text_of(record, "pdf_md5")).lower()
    return claimed if _MD5.fullmatch(claimed) else ""
