"""Europe PMC, the bucket of PubMed Central, and the web archive, as their recorded answers look. Pure."""

from __future__ import annotations

import hashlib
import re
from html import escape
from urllib.parse import SplitResult, parse_qs, unquote

from .catalogue import BucketArticle, Capture, Catalogue, Entry
from .exchange import Call, Reply, html, json, number, redirect, text, url_key
from .fates import answer
from .walls import NOT_FOUND, page

_BUCKET = "pmc-oa-opendata"
_PMC_PREFIX = re.compile(r"^(metadata/)?(PMC\d+)(\.?)")
_KEYS_MAX = 1_000
_TERMS = (
    ("doi", re.compile(r'DOI:\s*"?([^"\s]+)"?', re.IGNORECASE)),
    ("pmcid", re.compile(r'PMCID:\s*"?(PMC\d+)"?', re.IGNORECASE)),
    ("pmid", re.compile(r'(?:EXT_ID|PMID):\s*"?(\d+)"?', re.IGNORECASE)),
)
_CDX_FIELDS = ("urlkey", "timestamp", "original", "mimetype", "statuscode", "digest", "length")
_REPLAY = re.compile(r"^/web/(\d{1,14})(id_|if_)?/(.+)$")


def europe_pmc(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``…/rest/search?query=DOI:"…"&resultType=core&format=json``: one result, or none."""
    asked = parse_qs(parts.query)
    query = asked.get("query", [""])[0]
    if not parts.path.endswith("/rest/search"):
        return html(NOT_FOUND, status=404)
    if not query:
        return json(
            {"version": "6.9", "errCode": 404, "errMsg": "The query parameter is missing."}, status=404
        )
    entry = _found(catalogue, query)
    results = [_core_result(entry)] if entry and entry.in_europe_pmc else []
    answer = {
        "version": "6.9",
        "hitCount": len(results),
        "request": {
            "queryString": query,
            "resultType": "core",
            "cursorMark": "*",
            "pageSize": 25,
            "sort": "",
        },
        "resultList": {"result": results},
    }
    return json(answer)


def _found(catalogue: Catalogue, query: str) -> Entry | None:
    registers = {"doi": catalogue.by_doi, "pmcid": catalogue.by_pmcid, "pmid": catalogue.by_pmid}
    for name, pattern in _TERMS:
        found = pattern.search(query)
        if found:
            value = found.group(1).rstrip(")")
            return registers[name].get(value.lower() if name == "doi" else value.upper())
    return None


def _core_result(entry: Entry) -> dict[str, object]:
    named = {"pmid": entry.pmid, "pmcid": entry.pmcid, "doi": entry.doi}
    result: dict[str, object] = {
        "id": entry.pmid or entry.pmcid or entry.doi,
        "source": "MED" if entry.pmid else "PMC",
        **{name: value for name, value in named.items() if value},
        "title": entry.title,
        "authorString": "Writer A.",
        "pubYear": "2020",
        "isOpenAccess": "Y" if entry.render_urls else "N",
        "inEPMC": "Y" if entry.pmcid else "N",
        "inPMC": "N",
        "hasPDF": "Y" if entry.render_urls else "N",
    }
    urls = _full_text_urls(entry)
    return {**result, "fullTextUrlList": {"fullTextUrl": urls}} if urls else result


def _full_text_urls(entry: Entry) -> list[dict[str, str]]:
    """A subscription link, an HTML page, and the PDFs: free ones, and a decoy that must be paid for."""
    urls = []
    if entry.doi:
        urls.append(_full_text("S", "doi", "DOI", f"https://doi.org/{entry.doi}"))
    if entry.pmcid:
        urls.append(_full_text("OA", "html", "Europe_PMC", f"https://europepmc.org/articles/{entry.pmcid}"))
    urls += [_full_text("OA", "pdf", "Europe_PMC", url) for url in entry.render_urls]
    return urls


def _full_text(code: str, style: str, site: str, url: str) -> dict[str, str]:
    said = "Open access" if code == "OA" else "Subscription required"
    return {"availability": said, "availabilityCode": code, "documentStyle": style, "site": site, "url": url}


def pmc_bucket(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """The bucket: a listing by prefix, metadata as JSON, and the objects."""
    key = unquote(parts.path).lstrip("/")
    if not key:
        return _listing(catalogue, parse_qs(parts.query))
    found = _PMC_PREFIX.match(key)
    for article in catalogue.bucket.get(found.group(2) if found else "", []):
        if key == f"metadata/{article.name}.json":
            return json(_metadata(article))
        if article.artifact and key == f"{article.name}/{article.name}.pdf":
            return answer(article.artifact, call)
    return text(_s3_error("NoSuchKey", "The specified key does not exist.", key), status=404,
                media_type="application/xml")  # fmt: skip


def _listing(catalogue: Catalogue, asked: dict[str, list[str]]) -> Reply:
    prefix = asked.get("prefix", [""])[0]
    delimiter = asked.get("delimiter", [""])[0]
    found = _PMC_PREFIX.match(prefix)
    articles = catalogue.bucket.get(found.group(2), []) if found else []
    keys = [key for article in articles for key in _keys(article) if key.startswith(prefix)][:_KEYS_MAX]
    deep = [key for key in keys if delimiter and delimiter in key[len(prefix) :]]
    folders = sorted({key[: key.index(delimiter, len(prefix)) + 1] for key in deep})
    plain = [key for key in keys if key not in deep]
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{_BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(plain) + len(folders)}</KeyCount><MaxKeys>{_KEYS_MAX}</MaxKeys>"
        + (f"<Delimiter>{escape(delimiter)}</Delimiter>" if delimiter else "")
        + "<IsTruncated>false</IsTruncated>"
        + "".join(_contents(key) for key in plain)
        + "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
        + "</ListBucketResult>"
    )
    return text(body, media_type="application/xml")


def _keys(article: BucketArticle) -> list[str]:
    endings = ("pdf", "txt", "xml") if article.artifact else ("txt", "xml")
    objects = [f"{article.name}/{article.name}.{ending}" for ending in endings]
    return [*objects, f"metadata/{article.name}.json"]


def _contents(key: str) -> str:
    etag = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-03-01T10:00:00.000Z</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag><Size>20000</Size><StorageClass>INTELLIGENT_TIERING</StorageClass></Contents>"
    )


def _metadata(article: BucketArticle) -> dict[str, object]:
    base = f"s3://{_BUCKET}/{article.name}/{article.name}"
    other = hashlib.md5(article.name.encode(), usedforsecurity=False).hexdigest()
    fields: dict[str, object] = {
        "pmcid": article.pmcid,
        "version": article.version,
        "doi": article.doi or None,
        "title": article.title,
        "citation": "J Made-up Results. 2020",
        "is_pmc_openaccess": True,
        "is_manuscript": False,
        "is_historical_ocr": False,
        "is_retracted": False,
        "license_code": "CC BY",
        "xml_url": f"{base}.xml?md5={other}",
        "text_url": f"{base}.txt?md5={other}",
        "media_urls": [],
    }
    if article.artifact:
        fields["pdf_url"] = f"{base}.pdf?md5={article.md5}"
    return fields


def _s3_error(code: str, message: str, key: str) -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        f"<Key>{escape(key)}</Key><RequestId>QUIRE</RequestId></Error>"
    )


def web_archive(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """The CDX index, and replay; ``id_`` gives the bytes as captured, without it a page wraps them."""
    if parts.path.startswith("/cdx/search"):
        return _cdx(catalogue, parse_qs(parts.query))
    path = unquote(parts.path) + (f"?{parts.query}" if parts.query else "")
    found = _REPLAY.match(path)
    captures = catalogue.captures.get(url_key(found.group(3)), []) if found else []
    if not found or not captures:
        return html(NOT_FOUND, status=404)
    asked = found.group(1).ljust(14, "0")
    nearest = min(captures, key=lambda c: abs(int(c.timestamp) - int(asked)))
    if nearest.timestamp != found.group(1):
        return redirect(
            f"https://web.archive.org/web/{nearest.timestamp}{found.group(2) or ''}/{nearest.url}"
        )
    if found.group(2) != "id_":
        return html(
            page("Web archive", f"<div id='wm-ipp'>capture {nearest.timestamp}</div><p>{'. ' * 600}</p>")
        )
    return answer(nearest.artifact, call) if nearest.artifact else html(NOT_FOUND, status=404)


def _cdx(catalogue: Catalogue, asked: dict[str, list[str]]) -> Reply:
    """Seven fields by default, others by ``fl``; text, or JSON with a first row of names."""
    captures = [c for c in catalogue.captures.get(url_key(asked.get("url", [""])[0]), []) if c.listed]
    kept = [row for row in map(_cdx_row, captures) if all(_passes(row, f) for f in asked.get("filter", []))]
    limit = number(asked, "limit", 0)
    kept = kept[limit:] if limit < 0 else kept[: limit or None]
    fields = asked["fl"][0].split(",") if "fl" in asked else list(_CDX_FIELDS)
    rows = [[row.get(field, "-") for field in fields] for row in kept]
    if asked.get("output", [""])[0] == "json":
        return json([fields, *rows] if rows else [])
    return text("".join(" ".join(row) + "\n" for row in rows))


def _cdx_row(capture: Capture) -> dict[str, str]:
    host, _, path = url_key(capture.url).partition("/")
    digest = hashlib.sha1(capture.url.encode(), usedforsecurity=False).digest()
    return {
        "urlkey": ",".join(reversed(host.removeprefix("www.").split("."))) + ")/" + path.lower(),
        "timestamp": capture.timestamp,
        "original": capture.url,
        "mimetype": capture.media_type,
        "statuscode": capture.status,
        "digest": "".join(chr(65 + b % 26) for b in digest) + "QUIRETESTING",
        "length": str(capture.artifact.size if capture.artifact else 640),
    }


def _passes(row: dict[str, str], rule: str) -> bool:
    """One ``filter=[!]field:regex`` of the CDX server."""
    unwanted = rule.startswith("!")
    field, _, pattern = rule.lstrip("!").partition(":")
    return bool(re.fullmatch(pattern, row.get(field, ""))) != unwanted


def availability(catalogue: Catalogue, call: Call, parts: SplitResult) -> Reply:
    """``/wayback/available?url=``: the closest capture that was a success, or an empty object."""
    asked = parse_qs(parts.query).get("url", [""])[0]
    captures = [c for c in catalogue.captures.get(url_key(asked), []) if c.status == "200"]
    if not captures:
        return json({"url": asked, "archived_snapshots": {}})
    newest = captures[-1]
    closest = {
        "status": "200",
        "available": True,
        "url": f"http://web.archive.org/web/{newest.timestamp}/{newest.url}",
        "timestamp": newest.timestamp,
    }
    return json({"url": asked, "archived_snapshots": {"closest": closest}})
