# ruff: noqa: E501 - pages are easier to read with their tags in one line
"""Landing pages in the shapes of the platforms that publish papers; every one made up for this purpose.

A platform is a function from a ``Landing`` to the pages it needs (a frameset needs two). Each page also holds
what must not be taken: a reference's PDF, a supplement, a licence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from html import escape
from typing import Literal, get_args
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from .exchange import Reply, html, redirect
from .walls import WALLS, page, wall_page

Platform = Literal[
    "meta", "ojs", "dspace", "nature", "sciencedirect", "refresh", "frameset", "viewer", "anchor", "link",
    "json_ld", "base", "embed", "script", "latin1", "closed",
    "challenge", "captcha", "cookie_wall", "login", "paywall", "soft_404", "script_wall",
]  # fmt: skip
"""How a landing page is built; from ``closed`` on they lead to no PDF."""

PLATFORMS: tuple[Platform, ...] = get_args(Platform)
OPEN_PLATFORMS: tuple[Platform, ...] = PLATFORMS[: PLATFORMS.index("closed")]

DECOY_HOST = "elsewhere.example"
"""Host of the PDFs that pages cite: sound files of other papers, which must never be taken for this one."""

_ABSTRACT = (
    "We followed a small number of questions through a large number of records and report what was found. "
    "The method is plain, the material is open, and the limits are named. "
) * 5


class Landing(msgspec.Struct, frozen=True, kw_only=True):
    """A paper as its landing page knows it."""

    url: str
    pdf_url: str = ""
    title: str = "Untitled"
    doi: str = ""
    cookie: str = ""
    """Name of a cookie that the page sets; ``""`` for none."""

    @property
    def path(self) -> str:
        """Its PDF as pages write it: the path alone where it is on the page's host."""
        pdf, own = urlsplit(self.pdf_url), urlsplit(self.url)
        return pdf.path if pdf.netloc == own.netloc and not pdf.query else self.pdf_url


Pages = list[tuple[str, Reply]]


def landing_pages(platform: Platform, landing: Landing) -> Pages:
    """The pages of a landing, as (URL, answer); the first is the landing page itself."""
    return _BUILDERS[platform](landing)


def _article(it: Landing, *, head: str = "", links: str = "", before: str = "") -> str:
    cited = f"https://{DECOY_HOST}/cited/{quote(it.title[:20])}.pdf"
    body = (
        '<nav class="site-nav"><a href="/">Home</a> <a href="/about/author-guide.pdf">Author guide (PDF)</a></nav>'
        f'{before}<main><article><h1>{escape(it.title)}</h1><p class="doi">{escape(it.doi)}</p>'
        f'<section id="abstract"><h2>Abstract</h2><p>{_ABSTRACT}</p></section>{links}'
        '<section class="supplementary" id="supplement"><h2>Supplementary material</h2>'
        '<a href="/files/supplement-1.pdf">Supplementary figure 1</a></section></article></main>'
        '<section class="references" id="references"><h2>References</h2><ol><li>A. Nother, <i>Earlier work</i>. '
        f'<a href="{cited}">PDF</a></li></ol></section>'
        '<footer><a href="/licence.pdf">Licence</a></footer>'
    )
    return page(it.title, body, head=f'<meta name="citation_title" content="{escape(it.title)}">\n{head}')


def _one(it: Landing, text: str | bytes) -> Pages:
    cookie = (("Set-Cookie", f"{it.cookie}=yes; Path=/; HttpOnly"),) if it.cookie else ()
    return [(it.url, html(text, headers=cookie))]


def _meta(it: Landing) -> Pages:
    return _one(it, _article(it, head=f'<meta name="citation_pdf_url" content="{escape(it.pdf_url)}">'))


def _ojs(it: Landing) -> Pages:
    """Open Journal Systems: the galley link opens a viewer page, and that one has the file."""
    view = it.url.rstrip("/") + "/12"
    links = f'<ul class="value galleys_links"><li><a class="obj_galley_link pdf" href="{escape(view)}">PDF</a></li></ul>'
    frame = f'<header><a class="download" href="{escape(it.pdf_url)}" download>Download</a></header>'
    frame += f'<iframe src="{escape(it.pdf_url)}" width="100%"></iframe>'
    return [*_one(it, _article(it, links=links)), (view, html(page(it.title, frame)))]


def _dspace(it: Landing) -> Pages:
    row = (
        '<table class="table panel-body"><tr><th>File</th><th>Size</th></tr><tr><td headers="t1">'
        f'<a target="_blank" href="{escape(it.path)}">article.pdf</a></td><td>Adobe PDF</td></tr></table>'
    )
    return _one(it, _article(it, head='<meta name="Generator" content="DSpace 6.3" />', links=row))


def _nature(it: Landing) -> Pages:
    head = (
        '<meta name="prism.url" content="' + escape(it.url) + '"/>'
        f'<meta name="citation_pdf_url" content="{escape(it.pdf_url)}"/>'
    )
    button = (
        '<div class="c-pdf-download"><a class="u-button c-pdf-download__link" data-track-action="download pdf" '
        f'href="{escape(it.path)}" download><span>Download PDF</span></a></div>'
    )
    return _one(it, _article(it, head=head, links=button))


def sciencedirect_pdf_url(url: str) -> str:
    """The PDF's address that the JSON in a ``sciencedirect`` page spells out in pieces."""
    pii = urlsplit(url).path.rsplit("/", 1)[-1]
    md5 = hashlib.md5(pii.encode(), usedforsecurity=False).hexdigest()
    return urljoin(url, f"/science/article/pii/{pii}/pdfft?md5={md5}&pid=1-s2.0-{pii}-main.pdf")


def _sciencedirect(it: Landing) -> Pages:
    pii = urlsplit(it.url).path.rsplit("/", 1)[-1]
    query = dict(pair.split("=", 1) for pair in urlsplit(it.pdf_url).query.split("&"))
    state = {
        "article": {
            "pii": pii,
            "pdfDownload": {
                "isPdfFullText": True,
                "linkToPdf": True,
                "urlMetadata": {
                    "queryParams": {"md5": query["md5"], "pid": query["pid"]},
                    "pii": pii,
                    "pdfExtension": "/pdfft",
                    "path": "science/article/pii",
                },
            },
        }
    }
    script = (
        f'<script type="application/json" data-iso-key="_0">{msgspec.json.encode(state).decode()}</script>'
    )
    return _one(it, _article(it, links=script))


def _refresh(it: Landing) -> Pages:
    target = it.url + "/full"
    first = page("Redirecting", "<p>You are being taken to the article.</p>" + "<p>Please wait.</p>" * 40,
                 head=f'<meta http-equiv="refresh" content="1; url={escape(target)}">')  # fmt: skip
    return [*_one(it, first), (target, _meta(msgspec.structs.replace(it, url=target))[0][1])]


def _frameset(it: Landing) -> Pages:
    frames = (
        f"<!DOCTYPE html><html><head><title>{escape(it.title)}</title></head><frameset rows='80,*'>"
        f"<frame src='{escape(it.url)}/top' name='top'><frame src='{escape(it.pdf_url)}' name='main'>"
        f"<noframes><body>{_ABSTRACT}</body></noframes></frameset></html>"
    )
    return _one(it, frames)


def _viewer(it: Landing) -> Pages:
    source = f"/pdfjs/web/viewer.html?file={quote(it.pdf_url, safe='')}"
    return _one(it, _article(it, before=f'<iframe class="pdf-viewer" src="{escape(source)}"></iframe>'))


def _anchor(it: Landing) -> Pages:
    links = (
        '<div class="tools"><a href="/export/citation.ris">Export citation</a> '
        f'<a href="{escape(it.pdf_url)}">Download full text (PDF)</a></div>'
    )
    return _one(it, _article(it, links=links))


def _link(it: Landing) -> Pages:
    return _one(
        it, _article(it, head=f'<link rel="alternate" type="application/pdf" href="{escape(it.pdf_url)}">')
    )


def _json_ld(it: Landing) -> Pages:
    data = {
        "@context": "https://schema.org",
        "@type": "ScholarlyArticle",
        "name": it.title,
        "encoding": {"@type": "MediaObject", "encodingFormat": "application/pdf", "contentUrl": it.pdf_url},
    }
    script = f'<script type="application/ld+json">{msgspec.json.encode(data).decode()}</script>'
    return _one(it, _article(it, head=script))


def _base(it: Landing) -> Pages:
    folder, _, name = it.pdf_url.rpartition("/")
    head = f'<base href="{escape(folder)}/">\n<meta name="CITATION_PDF_URL" content="{escape(name)}">'
    return _one(it, _article(it, head=head))


def _embed(it: Landing) -> Pages:
    embed = f'<embed id="pdf" type="application/pdf" src="{escape(it.path)}#toolbar=0">'
    return _one(it, _article(it, links=embed))


def _script(it: Landing) -> Pages:
    """A page that is nothing but a script that goes to another one."""
    target = it.url + "/view"
    first = page("Article", "<p>Loading the article.</p>" * 30,
                 head=f'<script>window.location="{target}";</script>')  # fmt: skip
    return [*_one(it, first), (target, _meta(msgspec.structs.replace(it, url=target))[0][1])]


def _latin1(it: Landing) -> Pages:
    """A page that says UTF-8 and is not."""
    text = _article(it, head=f'<meta name="citation_pdf_url" content="{escape(it.pdf_url)}">',
                    links="<p>T\xe9l\xe9charger le fran\xe7ais</p>")  # fmt: skip
    return _one(it, text.encode("latin-1", "replace"))


def _closed(it: Landing) -> Pages:
    return _one(
        it, _article(it, links='<p><a href="/subscribe">Subscribe</a> to read the whole article.</p>')
    )


def _walled(name: str) -> Callable[[Landing], Pages]:
    def build(it: Landing) -> Pages:
        if name == "login":
            sso = f"https://sso.{urlsplit(it.url).hostname}/idp/profile/SAML2/Redirect/SSO"
            return [(it.url, redirect(sso)), (sso, html(wall_page("login", sso)))]
        return [(it.url, html(wall_page(name, it.url), status=403 if name == "challenge" else 200))]

    return build


_BUILDERS: dict[str, Callable[[Landing], Pages]] = {
    **{name: _walled(name) for name in WALLS},
    "meta": _meta, "ojs": _ojs, "dspace": _dspace, "nature": _nature, "sciencedirect": _sciencedirect,
    "refresh": _refresh, "frameset": _frameset, "viewer": _viewer, "anchor": _anchor, "link": _link,
    "json_ld": _json_ld, "base": _base, "embed": _embed, "script": _script, "latin1": _latin1, "closed": _closed,
}  # fmt: skip
