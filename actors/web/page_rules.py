"""The rules of the landing-page reader, as tables: a platform is one entry.

Facts come from long-running harvesters and from recorded pages. Order within a table is the order in which
candidates are tried. Every candidate carries the name of the rule that found it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PDF_PATH = re.compile(
    r"\.pdf(?:$|[?#;/])|(?:^|[/=?&._-])pdf(?:[/=?&._-]|$)|/bitstream|/viewcontent\.cgi", re.IGNORECASE
)
"""URLs that look like a PDF's."""

PAGE_IS_PDF = "page_is_pdf"
"""The rule of a page that is the PDF itself."""

DECLARED: tuple[tuple[str, str], ...] = (
    ("citation_pdf_url", "citation_pdf_url"),
    ("bepress_citation_pdf_url", "bepress_pdf"),
    ("wkhealth_pdf_url", "wkhealth_pdf"),
    ("eprints.document_url", "eprints_document"),
    ("fulltext_pdf", "fulltext_pdf"),
)
"""Meta name or property, in lower case → rule. What the head declares is tried first."""


class Repair(NamedTuple):
    """A declared PDF URL that is known to be wrong, and how it is right."""

    name: str
    hosts: tuple[str, ...]
    """Domains whose URLs it mends; none means any."""
    pattern: str
    """Searched in path and query."""
    replacement: str


REPAIRS: tuple[Repair, ...] = (
    Repair("wiley_pdfdirect", ("wiley.com",), r"^(.*)/doi/e?pdf/", r"\1/doi/pdfdirect/"),
    Repair("dagstuhl_slash", ("dagstuhl.de",), r"\.pdf/+$", ".pdf"),
    Repair(
        "aha_download", ("ahajournals.org",), r"^(/doi/)(?:e?pdf|reader)(/[^?]+)$", r"\1pdf\2?download=true"
    ),
    Repair("epdf", (), r"/doi/(?:epdf|reader|pdfplus)/", "/doi/pdf/"),
    Repair("highwire_framed", (), r"\.pdf\+html$", ".pdf"),
    Repair("core_reader", ("core.ac.uk",), r"^/reader/(\d+)/?$", r"/download/pdf/\1.pdf"),
    Repair("embedded_view", (), r"[?&]embed(?:ded)?=true$", ""),
    Repair(
        "drive_download",
        ("drive.google.com",),
        r"^/(?:file/d/|open\?id=)([\w-]+).*$",
        r"/uc?export=download&id=\1",
    ),
    Repair("ojs_download", (), r"(/article/)view(?:File)?(/\d+/\d+)/?$", r"\1download\2"),
    Repair("dropbox_download", ("dropbox.com",), r"([?&])dl=0$", r"\1dl=1"),
    Repair("github_raw", ("github.com",), r"^(/[^/]+/[^/]+)/blob/", r"\1/raw/"),
)


class Rewrite(NamedTuple):
    """A page whose PDF URL follows from its own URL."""

    name: str
    hosts: tuple[str, ...]
    pattern: str
    """Must match the whole path, without a slash at its end; with the query where it holds ``\\?``."""
    replacement: str


_ATYPON = (
    "science.org", "pnas.org", "tandfonline.com", "sagepub.com", "acs.org", "acm.org", "nejm.org", "asm.org",
    "royalsocietypublishing.org", "annualreviews.org", "liebertpub.com", "worldscientific.com", "rsna.org",
    "physiology.org", "informs.org", "uchicago.edu", "cdnsciencepub.com",
    "mitpressjournals.org", "emerald.com",
)  # fmt: skip

REWRITES: tuple[Rewrite, ...] = (
    Rewrite("arxiv_abs", ("arxiv.org",), r"/(?:abs|html)/([\w.-]+(?:/\d{7}(?:v\d+)?)?)", r"/pdf/\1"),
    Rewrite(
        "plos_printable",
        ("plos.org",),
        r"/(\w+)/article(?:/\w+)?/?\?(?:.*&)?id=(10\.1371/[\w./]+)(?:&.*)?",
        r"/\1/article/file?id=\2&type=printable",
    ),
    Rewrite(
        "rxiv_full_pdf",
        ("biorxiv.org", "medrxiv.org"),
        r"(/content/(?:[a-z]+/)*10\.\d+/[\w.-]+?v\d+)(?:\.(?:full|full-text|abstract|article-info))?",
        r"\1.full.pdf",
    ),
    Rewrite("mdpi_pdf", ("mdpi.com",), r"(/[\dXx-]{9}/\d+/\w+/\w+)(?:/html?)?", r"\1/pdf"),
    Rewrite("peerj_pdf", ("peerj.com",), r"/(articles|preprints)/((?:[a-z]+-)?\d+(?:v\d+)?)", r"/\1/\2.pdf"),
    Rewrite("rxiv_early_pdf", ("biorxiv.org",), r"(/content/early/\d{4}/\d\d/\d\d/\w+)", r"\1.full.pdf"),
    Rewrite("researchsquare_pdf", ("researchsquare.com",), r"(/article/rs-\d+/v\d+)", r"\1.pdf"),
    Rewrite("preprints_download", ("preprints.org",), r"(/manuscript/\d+\.\d+/v\d+)", r"\1/download"),
    Rewrite(
        "osf_download",
        ("osf.io", "psyarxiv.com"),
        r"(?:/preprints(?:/\w+)?)?/([a-z\d]{5}(?:_v\d+)?)",
        r"/\1/download",
    ),
    Rewrite("jmir_pdf", ("jmir.org",), r"(/\d{4}/\d+/e\d+)", r"\1/pdf"),
    Rewrite("protocols_io_pdf", ("protocols.io",), r"(/view/[\w.-]+)", r"\1.pdf"),
    Rewrite(
        "aha_download",
        ("ahajournals.org",),
        r"/doi/(?:(?:abs|full|epdf)/)?(10\..+)",
        r"/doi/pdf/\1?download=true",
    ),
    Rewrite(
        "wiley_pdfdirect",
        ("wiley.com",),
        r"/doi/(?:(?:abs|full|epdf|pdf)/)?(10\..+?)(?:/(?:abstract|full))?",
        r"/doi/pdfdirect/\1",
    ),
    Rewrite("doi_pdf", (), r"/doi/(?:abs|full|epdf|reader)/(10\..+)", r"/doi/pdf/\1"),
    Rewrite("doi_pdf", _ATYPON, r"/doi/(10\..+)", r"/doi/pdf/\1"),
    Rewrite(
        "springer_content", ("link.springer.com",), r"/(?:article|chapter)/(10\..+)", r"/content/pdf/\1.pdf"
    ),
    Rewrite("nature_pdf", ("nature.com",), r"/articles/([\w.-]+)", r"/articles/\1.pdf"),
    Rewrite("iop_pdf", ("iopscience.iop.org",), r"/article/(10\..+?)(?:/meta)?", r"/article/\1/pdf"),
    Rewrite(
        "frontiers_pdf",
        ("frontiersin.org",),
        r"(?:/journals/[\w-]+)?/articles/(10\.3389/[\w.]+)(?:/(?:full|abstract))?",
        r"/articles/\1/pdf",
    ),
    Rewrite(
        "acl_pdf",
        ("aclanthology.org", "aclweb.org"),
        r"((?:/anthology)?)/([A-Z]\d{2}-\d{4}|\d{4}\.[\w-]+\.\d+)",
        r"\1/\2.pdf",
    ),
    Rewrite("pmlr_pdf", ("proceedings.mlr.press",), r"(/v\d+)/([\w-]+)\.html", r"\1/\2/\2.pdf"),
    Rewrite(
        "neurips_pdf",
        ("nips.cc", "neurips.cc"),
        r"(/paper(?:_files/paper)?/\d{4})/hash/([0-9a-z]+)-Abstract((?:-\w+)*)\.html",
        r"\1/file/\2-Paper\3.pdf",
    ),
    Rewrite(
        "bmc_counter",
        ("biomedcentral.com", "springeropen.com"),
        r"/(?:articles?|track/pdf)/(10\.\d+/[^/]+)",
        r"/counter/pdf/\1.pdf",
    ),
    Rewrite(
        "rsc_pdf",
        ("pubs.rsc.org",),
        r"(/[a-z-]+/content)/article(?:landing|html)/(.+)",
        r"\1/articlepdf/\2",
    ),
    Rewrite(
        "hindawi_download",
        ("hindawi.com",),
        r"/journals/(\w+)/(\d{4})/(\d+)",
        r"https://downloads.hindawi.com/journals/\1/\2/\3.pdf",
    ),
    Rewrite("aps_pdf", ("journals.aps.org",), r"/(\w+)/abstract/(10\..+)", r"/\1/pdf/\2"),
    Rewrite(
        "cell_pdf",
        ("cell.com", "thelancet.com"),
        r"(?:/journals)?/[\w-]+/(?:fulltext|abstract)/(S[\w()-]+)",
        r"/action/showPdf?pii=\1",
    ),
    Rewrite(
        "degruyter_pdf",
        ("degruyter.com", "degruyterbrill.com"),
        r"/document/doi/(10\..+)/html",
        r"/document/doi/\1/pdf",
    ),
    Rewrite(
        "thieme_pdf",
        ("thieme-connect.com", "thieme-connect.de"),
        r"/products/ejournals/(?:abstract|html)/(10\..+)",
        r"/products/ejournals/pdf/\1.pdf",
    ),
    Rewrite("jstage_pdf", ("jst.go.jp",), r"(/article/.+)/_article(?:/-char/\w+)?", r"\1/_pdf"),
    Rewrite("redalyc_pdf", ("redalyc.org",), r"(/journal/\d+)/(\d+)(?:/html)?", r"\1/\2/\2.pdf"),
    Rewrite("core_download", ("core.ac.uk",), r"/(?:display|reader|outputs)/(\d+)", r"/download/pdf/\1.pdf"),
    Rewrite("escholarship_pdf", ("escholarship.org",), r"/uc/item/(\w{8})", r"/content/qt\1/qt\1.pdf"),
    Rewrite("openreview_pdf", ("openreview.net",), r"/forum\?id=([\w-]+).*", r"/pdf?id=\1"),
    Rewrite("euclid_pdf", ("projecteuclid.org",), r"(/journals/.+?)\.(?:short|full)", r"\1.pdf"),
    Rewrite("muse_pdf", ("muse.jhu.edu",), r"((?:/pub/\d+)?/article/\d+)(?:/summary)?", r"\1/pdf"),
    Rewrite(
        "europepmc_render", ("europepmc.org",), r"/articles?/(?:PMC/)?(PMC\d+)", r"/articles/\1?pdf=render"
    ),
    Rewrite(
        "hal_document",
        ("hal.science", "archives-ouvertes.fr"),
        r"/([a-z]+-\d{6,9}(?:v\d+)?)",
        r"/\1/document",
    ),
    Rewrite(
        "drive_download",
        ("drive.google.com",),
        r"/(?:file/d/|open\?id=)([\w-]+).*",
        r"/uc?export=download&id=\1",
    ),
)


ADDRESSES = ("href", "data-href", "data-article-url")
"""Attributes in which a link's address may stand; the first sound one counts."""


class Anchor(NamedTuple):
    """Links of one platform, or of one habit of many."""

    name: str
    xpath: str
    """Selects elements with an address in one of ``ADDRESSES``, in document order."""
    hosts: tuple[str, ...] = ()
    """Domains whose pages it reads; none means any."""


def _classed(name: str) -> str:
    return f"//a[contains(concat(' ',normalize-space(@class),' '),' {name} ')]"


ANCHORS: tuple[Anchor, ...] = (
    Anchor("elife_article_pdf", "//a[@data-download-type='pdf-article']"),
    Anchor("sciencedirect_view_pdf", "//li[contains(@class,'ViewPDF')]//a | //a[@id='pdfLink']"),
    Anchor("ojs_galley", _classed("obj_galley_link") + "[contains(concat(' ',@class,' '),' pdf ')]"),
    Anchor("ojs_galley_label", _classed("obj_galley_link") + "[contains(translate(.,'PDF','pdf'),'pdf')]"),
    Anchor("ojs2_galley", "//div[@id='articleFullText']//a[contains(translate(.,'PDF','pdf'),'pdf')]"),
    Anchor("degruyter_pdf", _classed("downloadPdf")),
    Anchor("emerald_pdf", _classed("intent_pdf_link")),
    Anchor("frontiers_pdf", _classed("download-files-pdf")),
    Anchor("uchicago_pdf", _classed("ctrl--pdf")),
    Anchor("atypon_pdf", _classed("btn--pdf") + " | " + _classed("pdf-download")),
    Anchor("silverchair_pdf", "//a[@data-article-url and contains(@class,'pdf')]"),
    Anchor("oup_pdf", _classed("article-pdfLink")),
    Anchor("mdpi_pdf", _classed("UD_ArticlePDF")),
    Anchor("acl_pdf", "//div[contains(@class,'acl-paper-link-block')]//a[contains(@href,'.pdf')][1]"),
    Anchor("brown_file", "//a[contains(@rel,'file-download')]"),
    Anchor("drupal_final_paper", "//div[contains(@class,'field-name-field-final-paper-pdf')]//a"),
    Anchor("eprints_document", _classed("ep_document_link") + "[contains(@href,'.pdf')]"),
    Anchor("dspace_bitstream", "//a[contains(@href,'/bitstream') and contains(@href,'.pdf')]"
           " | //a[contains(@href,'/bitstreams/')"
           " and (contains(@href,'/download') or contains(@href,'/content'))]"
           " | //ds-file-download-link//a | //div[contains(@class,'file-link')]//a"),
    Anchor("invenio_file", "//a[contains(@href,'/files/') and contains(@href,'.pdf')"
           " and (contains(@href,'/record/') or contains(@href,'/records/'))]"),
    Anchor("islandora_datastream", "//a[contains(@href,'/datastream/OBJ/')"
           " or contains(@href,'/datastream/PDF/')]"),
    Anchor("pure_file", "//a[contains(@href,'/files/') and contains(@href,'/portal/')"
           " and contains(@href,'.pdf')]"
           " | //div[contains(@class,'documents')]//a[contains(@class,'link') and contains(@href,'.pdf')]"
           " | //a[contains(@href,'/ws/portalfiles/portal/')]"),
    Anchor("hal_file", "//a[contains(@href,'/document') and contains(@class,'file')]",
           ("hal.science", "archives-ouvertes.fr")),
    Anchor("dataverse_file", "//a[contains(@href,'/api/access/datafile/')]"),
    Anchor("bepress_download", "//a[@id='pdf' and contains(@href,'viewcontent.cgi')]"
           " | //div[@id='custom-fields' or @id='alpha-disp']//a[contains(@href,'viewcontent.cgi')]"),
    Anchor("janeway_galley", "//a[contains(@href,'/galley/') and contains(@href,'/download')"
           " and contains(translate(.,'PDF','pdf'),'pdf')]"),
    Anchor("dergipark_file", "//a[contains(@href,'/download/article-file/')]"),
    Anchor("figshare_download", "//a[contains(@href,'/ndownloader') or contains(@href,'//ndownloader')]"),
    Anchor("jstor_pdf", "//*[contains(@data-href,'/stable/pdf/')]"),
    Anchor("core_pdf", "//a[contains(@href,'/reader/') or contains(@href,'/download/')]", ("core.ac.uk",)),
    Anchor("scielo_pdf", "//a[contains(@href,'format=pdf')]"),
    Anchor("titled_pdf", "//a[@title='PDF' or @title='Download PDF' or @title='Full Text PDF']"),
    Anchor("pdf_button", "//a[@id='pdfDownloadLink' or @id='downloadPdfUrl' or @id='pdf-link']"
           " | " + _classed("download-pdf") + " | " + _classed("show-pdf") + " | " + _classed("pdf-link")),
    Anchor("typed_pdf", "//a[@type='application/pdf']"),
)  # fmt: skip


class Script(NamedTuple):
    """A PDF URL written in a script or in JSON within the page."""

    name: str
    pattern: str
    """Searched in the page's text; its first group is the URL, with JSON escapes."""
    template: str = "{0}"
    """How the URL is made of the groups."""
    hosts: tuple[str, ...] = ()


_SD = (
    r'"pdfDownload":\{[^{}]{0,200}"urlMetadata":\{"queryParams":\{"md5":"([0-9a-f]{32})","pid":"([\w.-]{1,80})"\},'
    r'"pii":"(\w{1,30})","pdfExtension":"([\w/.]{1,20})","path":"([\w/]{1,60})"\}'
)

SCRIPTS: tuple[Script, ...] = (
    Script("sciencedirect_json", _SD, "/{4}/{2}{3}?md5={0}&pid={1}"),
    Script("ieee_pdf_path", r'"pdfPath"\s*:\s*"(/[^"\s]{1,300}?\.pdf)"'),
    Script("ieee_stamp", r'"pdfUrl"\s*:\s*"(/stamp/[^"\s]{1,200})"'),
    Script("figshare_export", r'"exportPdfDownloadUrl"\s*:\s*"([^"\s]{1,600})"'),
    Script("chemrxiv_asset", r'"asset":\{[^{}]{0,600}"original":\{"url":"([^"\s]{1,600})"'),
    Script("figshare_file", r'"downloadUrl"\s*:\s*"([^"\s]{1,600})"', hosts=("figshare.com",)),
    Script(
        "json_pdf_url",
        r'"(?:pdfUrl|pdf_url|pdfURL|pdfLink|pdfHref|fullTextPdfUrl|fulltextPdf)"\s*:\s*"([^"\s]{1,600})"',
    ),
)

FRAMES: tuple[tuple[str, str], ...] = (
    (
        "embed_pdf",
        "//embed[@type='application/pdf']/@src | //embed[@id='pdf']/@src | //embed[@id='plugin']/@src",
    ),
    ("ieee_stamp_frame", "//iframe[contains(@src,'/stampPDF/getPDF')]/@src"),
    ("object_pdf", "//object[@type='application/pdf']/@data"),
    ("iframe_pdf", "//iframe/@src | //iframe/@data-src"),
)
"""Rule → XPath of the addresses of embedded documents; an iframe's counts only where it looks like a PDF."""

FOREIGN_SECTIONS = frozenset({
    "references", "reference", "bibliography", "biblio", "reflist",
    "citations", "citedby", "cited", "related",
    "relatedarticles", "recommended", "recommendations", "recommendation", "suggested",
    "similar", "supplement",
    "supplements", "supplementary", "supplemental", "supporting", "footnote",
    "footnotes", "advert", "advertisement",
    "ads", "trending", "comments", "comment", "newsletter",
    "rel-art", "art-list", "cited-by", "ref-list", "most-read",
    "most-cited", "also-read", "more-articles", "more-from",
    "you-may", "other-articles", "inside-journal", "about-journal",
})  # fmt: skip
"""Words of class and id, or two side by side, that mark a section about other articles or beside this one."""

FURNITURE = frozenset({
    "footer", "nav", "navbar", "navigation", "menu",
    "breadcrumb", "breadcrumbs", "banner", "cookie", "cookies",
    "issue-nav", "site-header", "see-also",
})  # fmt: skip
"""Words that mark the furniture of a site; named platform rules may still read there."""

NEVER_FOLLOWED = frozenset({
    "googletagmanager.com", "doubleclick.net", "google.com", "facebook.com", "twitter.com", "addthis.com",
    "addtoany.com", "sharethis.com", "youtube.com", "demdex.net", "scienceconnect.io", "seamlessaccess.org",
})  # fmt: skip
"""Sites whose frames are never the article."""
