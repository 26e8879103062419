# ruff: noqa: E501 - pages are easier to read with their tags in one line
"""The platforms that users meet: of each, a small made-up page of its structure, and the rule that reads it."""

from __future__ import annotations

import pytest

from quire.actors.web.exchange import Answer
from quire.actors.web.page import Reading, read_page
from quire.actors.web.page_repairs import rewritten, within
from quire.actors.web.page_rules import REWRITES
from quire.events.keys import canonical_url

FILLER = "<p>" + "Words of an abstract that say little. " * 20 + "</p>"
DECOYS = (
    '<div class="references"><a href="https://elsewhere.example/cited.pdf">PDF</a></div>'
    '<section class="supplementary-material"><a href="/files/x_suppl.pdf">Supplement (PDF)</a></section>'
)
"""What stands on every page and must not be taken."""

PLATFORMS = [
    ("ojs2", "https://j.example/index.php/a/article/view/12/0", "ojs2_galley+ojs_download", "https://j.example/index.php/a/article/download/12/34",
     '<div id="articleFullText"><h4>Full Text:</h4><a href="https://j.example/index.php/a/article/view/12/34" class="file" target="_parent">PDF</a></div>'),
    ("ojs3", "https://j.example/index.php/a/article/view/12", "ojs_galley+ojs_download", "https://j.example/index.php/a/article/download/12/34",
     '<ul class="value galleys_links"><li><a class="obj_galley_link pdf" href="https://j.example/index.php/a/article/view/12/34">PDF</a></li><li><a class="obj_galley_link_supplementary pdf" href="https://j.example/index.php/a/article/view/12/35">Data PDF</a></li></ul>'),
    ("ojs3_view", "https://j.example/index.php/a/article/view/12/34", "iframe_pdf", "https://j.example/index.php/a/article/download/12/34/56",
     '<header class="header_view"><a href="https://j.example/index.php/a/article/view/12" class="return">Return</a><a href="https://j.example/index.php/a/article/download/12/34/56" class="download" download>Download</a></header><div id="pdfCanvasContainer" class="galley_view"><iframe src="https://j.example/plugins/generic/pdfJsViewer/pdf.js/web/viewer.html?file=https%3A%2F%2Fj.example%2Findex.php%2Fa%2Farticle%2Fdownload%2F12%2F34%2F56"></iframe></div>'),
    ("dspace5_xmlui", "https://d.example/handle/1/2", "dspace_bitstream", "https://d.example/bitstream/handle/1/2/Main%20text.pdf?sequence=1&isAllowed=y",
     '<div class="item-page-field-wrapper table word-break"><h5>View/<span>Open</span></h5><div><a href="/bitstream/handle/1/2/Main%20text.pdf?sequence=1&amp;isAllowed=y"><i class="glyphicon glyphicon-file"></i> Main text.pdf (1.2Mb)</a></div><div><a href="/bitstream/handle/1/2/license.txt?sequence=2">license.txt</a></div></div>'),
    ("dspace6_jspui", "https://d.example/handle/1/2", "dspace_bitstream", "https://d.example/bitstream/1/2/1/paper.pdf",
     '<table class="table panel-body"><tr><td headers="t1"><a target="_blank" href="/bitstream/1/2/1/paper.pdf">paper.pdf</a></td><td><a class="btn" href="/bitstream/1/2/1/paper.pdf">View/Open</a></td></tr></table>'),
    ("dspace7", "https://d.example/items/0b1c2d3e-1111-2222-3333-444455556666", "dspace_bitstream", "https://d.example/bitstreams/aaaa1111-1111-2222-3333-444455556666/download",
     '<ds-themed-item-page-file-section><ds-file-section><ds-themed-file-download-link><ds-file-download-link><a class="dont-break-out" href="/bitstreams/aaaa1111-1111-2222-3333-444455556666/download"> Article.pdf <span>(1 MB)</span></a></ds-file-download-link></ds-themed-file-download-link></ds-file-section></ds-themed-item-page-file-section>'),
    ("dspace7_server", "https://d.example/items/0b1c2d3e-1111-2222-3333-444455556666", "dspace_bitstream", "https://d.example/server/api/core/bitstreams/aaaa1111-1111-2222-3333-444455556666/content",
     '<a href="https://d.example/server/api/core/bitstreams/aaaa1111-1111-2222-3333-444455556666/content">Thesis</a>'),
    ("eprints", "https://e.example/123/", "eprints_document", "https://e.example/123/1/paper.pdf",
     '<a href="https://e.example/123/1/paper.pdf" class="ep_document_link"><img class="ep_doc_icon" alt="[thumbnail of paper.pdf]" src="/x.png"></a><span class="document_format">PDF</span><a href="https://e.example/123/1/paper.pdf" class="document_link">Download (1MB)</a>'),
    ("eprints2", "https://e.example/id/eprint/123/", "eprints_document", "https://e.example/id/eprint/123/1/paper.pdf",
     '<a class="ep_document_link" href="/id/eprint/123/1/paper.pdf"><span class="document_filename">paper.pdf</span></a> - Accepted Version'),
    ("bepress", "https://dc.example/papers/12", "bepress_download", "https://dc.example/cgi/viewcontent.cgi?article=1011&context=papers",
     '<div id="alpha-disp"><a class="btn" id="pdf" href="https://dc.example/cgi/viewcontent.cgi?article=1011&amp;context=papers" title="PDF (1 MB) opens in new window">Download</a></div>'),
    ("atypon", "https://pubs.example/doi/full/10.1234/x.1", "doi_pdf", "https://pubs.example/doi/pdf/10.1234/x.1",
     '<ul class="coolBar__ctrl"><li><a href="/doi/epdf/10.1234/x.1" class="coolBar__ctrl pdf-file" title="EPDF">View PDF</a></li></ul>'),
    ("highwire", "https://hw.example/content/12/3/45", "pdf_button", "https://hw.example/content/12/3/45.full.pdf",
     '<ul><li><a href="/content/12/3/45.full.pdf" class="pdf-link">Full Text (PDF)</a></li></ul>'),
    ("highwire2", "https://hw.example/content/12/3/45.full", "anchor_score+highwire_framed", "https://hw.example/content/12/3/45.full.pdf",
     '<ul class="tabs"><li class="tab-pdf"><a href="/content/12/3/45.full.pdf+html" class="active">PDF</a></li></ul>'),
    ("silverchair", "https://academic.oup.com/j/article/12/3/45/678", "oup_pdf", "https://academic.oup.com/j/article-pdf/12/3/45/999/abc.pdf",
     '<li class="toolbar-item item-pdf"><a class="al-link pdf article-pdfLink" data-article-id="678" href="/j/article-pdf/12/3/45/999/abc.pdf"><img alt="pdf">PDF</a></li>'),
    ("silverchair2", "https://jamanetwork.com/journals/jama/fullarticle/123", "silverchair_pdf", "https://jamanetwork.com/journals/jama/articlepdf/123/x.pdf",
     '<a class="toolbar-pdf al-link pdf pdfaccess" data-article-url="/journals/jama/articlepdf/123/x.pdf" href="javascript:;">Download PDF</a>'),
    ("mdpi", "https://www.mdpi.com/1-2/3/4/5", "mdpi_pdf", "https://www.mdpi.com/1-2/3/4/5/pdf?version=1",
     '<a class="UD_ArticlePDF" href="/1-2/3/4/5/pdf?version=1">Download PDF</a>'),
    ("frontiers", "https://www.frontiersin.org/articles/10.3389/fpsyg.2020.00001/full", "frontiers_pdf", "https://www.frontiersin.org/articles/10.3389/fpsyg.2020.00001/pdf",
     ""),
    ("frontiers2", "https://www.frontiersin.org/journals/psychology/articles/10.3389/fpsyg.2020.00001/full", "frontiers_pdf", "https://www.frontiersin.org/articles/10.3389/fpsyg.2020.00001/pdf",
     ""),
    ("plos", "https://journals.plos.org/plosone/article?id=10.1371/journal.pone.0000001", "plos_printable", "https://journals.plos.org/plosone/article/file?id=10.1371/journal.pone.0000001&type=printable",
     '<a href="/plosone/article/file?id=10.1371/journal.pone.0000001&amp;type=printable" id="downloadPdf">Download PDF</a>'),
    ("elsevier", "https://www.sciencedirect.com/science/article/pii/S0000000000000001", "sciencedirect_view_pdf", "https://www.sciencedirect.com/science/article/pii/S0000000000000001/pdfft?md5=a&pid=1-s2.0-S0000000000000001-main.pdf",
     '<li class="ViewPDF"><a href="/science/article/pii/S0000000000000001/pdfft?md5=a&amp;pid=1-s2.0-S0000000000000001-main.pdf" aria-label="View PDF">View PDF</a></li>'),
    ("springer", "https://link.springer.com/article/10.1007/s1-2-3", "springer_content", "https://link.springer.com/content/pdf/10.1007/s1-2-3.pdf",
     '<a href="/content/pdf/10.1007/s1-2-3.pdf" class="u-button" data-test="pdf-link" data-article-pdf="true"><span>Download PDF</span></a>'),
    ("bmc", "https://bmcx.biomedcentral.com/articles/10.1186/s1-2-3", "bmc_counter", "https://bmcx.biomedcentral.com/counter/pdf/10.1186/s1-2-3.pdf",
     '<a href="//bmcx.biomedcentral.com/counter/pdf/10.1186/s1-2-3.pdf" data-test="pdf-link"><span>Download PDF</span></a>'),
    ("bmc_none", "https://bmcx.biomedcentral.com/articles/10.1186/s1-2-3", "bmc_counter", "https://bmcx.biomedcentral.com/counter/pdf/10.1186/s1-2-3.pdf",
     ""),
    ("wiley", "https://onlinelibrary.wiley.com/doi/full/10.1002/x.1", "atypon_pdf+wiley_pdfdirect", "https://onlinelibrary.wiley.com/doi/pdfdirect/10.1002/x.1",
     '<a title="ePDF" href="/doi/epdf/10.1002/x.1" class="coolBar__ctrl pdf-download"><i class="icon-pdf"></i>PDF</a>'),
    ("tandf", "https://www.tandfonline.com/doi/full/10.1080/1.2", "pdf_button", "https://www.tandfonline.com/doi/pdf/10.1080/1.2?needAccess=true",
     '<a href="/doi/pdf/10.1080/1.2?needAccess=true" class="btn show-pdf" role="button">PDF</a>'),
    ("ieee", "https://ieeexplore.ieee.org/document/123/", "ieee_pdf_path", "https://ieeexplore.ieee.org/iel7/1/2/00123.pdf",
     '<script>xplGlobal.document.metadata={"pdfUrl":"/stamp/stamp.jsp?tp=&arnumber=123","pdfPath":"/iel7/1/2/00123.pdf"};</script>'),
    ("ieee_stamp", "https://ieeexplore.ieee.org/stamp/stamp.jsp?arnumber=123", "ieee_stamp_frame", "https://ieeexplore.ieee.org/stampPDF/getPDF.jsp?tp=&arnumber=123&ref=",
     '<iframe src="/stampPDF/getPDF.jsp?tp=&amp;arnumber=123&amp;ref=" frameborder=0></iframe>'),
    ("ssrn", "https://papers.ssrn.com/sol3/papers.cfm?abstract_id=123", "anchor_score", "https://papers.ssrn.com/sol3/Delivery.cfm/SSRN_ID123_code9.pdf?abstractid=123&mirid=1&type=2",
     '<div class="abstract-buttons"><a href="Delivery.cfm/SSRN_ID123_code9.pdf?abstractid=123&amp;mirid=1" class="button-link primary" data-abstract-id="123">Download This Paper</a><a href="Delivery.cfm/SSRN_ID123_code9.pdf?abstractid=123&amp;mirid=1&type=2" class="button-link secondary">Open PDF in Browser</a></div>'),
    ("zenodo", "https://zenodo.org/records/123", "invenio_file", "https://zenodo.org/records/123/files/Paper%20one.pdf?download=1",
     '<table><tr><td><a href="/records/123/files/Paper%20one.pdf?download=1" class="ui compact mini button">Download</a><a href="/records/123/files/Paper%20one.pdf?download=0">Paper one.pdf</a></td></tr></table>'),
    ("figshare", "https://figshare.com/articles/journal_contribution/T/123", "figshare_file", "https://ndownloader.figshare.com/files/9",
     '<script>{"files":[{"id":9,"name":"x.pdf","downloadUrl":"https://ndownloader.figshare.com/files/9"}]}</script>'),
    ("figshare2", "https://figshare.com/articles/journal_contribution/T/123", "figshare_download", "https://ndownloader.figshare.com/files/9",
     '<a href="https://ndownloader.figshare.com/files/9" class="dl">Download</a>'),
    ("hal", "https://hal.science/hal-01234567", "hal_document", "https://hal.science/hal-01234567/document",
     '<a href="https://hal.science/hal-01234567/document" class="btn">Fichier principal</a><a href="/hal-01234567v1/file/paper.pdf">paper.pdf (1 Mo)</a>'),
    ("hal_none", "https://hal.science/hal-01234567v2", "hal_document", "https://hal.science/hal-01234567v2/document",
     ""),
    ("scielo", "https://www.scielo.br/j/abc/a/XyZ/?lang=en", "scielo_pdf", "https://www.scielo.br/j/abc/a/XyZ/?format=pdf&lang=en",
     '<a href="/j/abc/a/XyZ/?format=pdf&amp;lang=en">Download PDF (English)</a>'),
    ("scielo_old", "http://www.scielo.org.mx/scielo.php?script=sci_arttext&pid=S1-2", "anchor_score", "http://www.scielo.org.mx/pdf/abc/v1n2/v1n2a3.pdf",
     '<a href="/pdf/abc/v1n2/v1n2a3.pdf">pdf in Spanish</a>'),
    ("jstage", "https://www.jstage.jst.go.jp/article/abc/12/3/12_45/_article", "jstage_pdf", "https://www.jstage.jst.go.jp/article/abc/12/3/12_45/_pdf",
     '<a href="/article/abc/12/3/12_45/_pdf" class="thirdlevel-pdf-btn">Download PDF (500K)</a>'),
    ("jstage_none", "https://www.jstage.jst.go.jp/article/abc/12/3/12_45/_article/-char/en", "jstage_pdf", "https://www.jstage.jst.go.jp/article/abc/12/3/12_45/_pdf",
     ""),
    ("redalyc", "https://www.redalyc.org/articulo.oa?id=123", "anchor_score", "https://www.redalyc.org/pdf/1/123.pdf",
     '<a href="/pdf/1/123.pdf" target="_blank">PDF</a>'),
    ("redalyc_journal", "https://www.redalyc.org/journal/12/345/", "redalyc_pdf", "https://www.redalyc.org/journal/12/345/345.pdf",
     ""),
    ("core", "https://core.ac.uk/display/123", "core_pdf", "https://core.ac.uk/download/pdf/123.pdf",
     '<a href="https://core.ac.uk/download/pdf/123.pdf">Download PDF</a>'),
    ("core_none", "https://core.ac.uk/works/456", "core_pdf+core_reader", "https://core.ac.uk/download/pdf/123.pdf",
     '<a href="https://core.ac.uk/reader/123"><img alt="thumb"></a>'),
    ("s2", "https://www.semanticscholar.org/paper/T/abc", "anchor_score", "https://repo.example/x.pdf",
     '<a data-test-id="paper-link" class="icon-button" href="https://repo.example/x.pdf" data-heap-primary-link-type="pdf">View PDF</a>'),
    ("s2_reader", "https://www.semanticscholar.org/paper/T/abc", "anchor_score", "https://pdfs.semanticscholar.org/a/b.pdf",
     '<a href="https://pdfs.semanticscholar.org/a/b.pdf">PDF</a><a href="/reader/abc">Semantic Reader</a>'),
    ("psyarxiv", "https://psyarxiv.com/ab12c/", "osf_download", "https://psyarxiv.com/ab12c/download",
     ""),
    ("osf", "https://osf.io/preprints/psyarxiv/ab12c", "osf_download", "https://osf.io/ab12c/download",
     ""),
    ("biorxiv", "https://www.biorxiv.org/content/10.1101/2020.01.01.123456v1", "rxiv_full_pdf", "https://www.biorxiv.org/content/10.1101/2020.01.01.123456v1.full.pdf",
     '<a href="/content/10.1101/2020.01.01.123456v1.full.pdf" class="article-dl-pdf-link link-icon">Download PDF</a>'),
    ("biorxiv_early", "https://www.biorxiv.org/content/early/2017/01/02/123456", "rxiv_early_pdf", "https://www.biorxiv.org/content/early/2017/01/02/123456.full.pdf",
     ""),
    ("researchsquare", "https://www.researchsquare.com/article/rs-123/v1", "researchsquare_pdf", "https://www.researchsquare.com/article/rs-123/v1.pdf",
     ""),
    ("koreamed", "https://koreamed.org/SearchBasic.php?RID=1", "anchor_score", "https://synapse.koreamed.org/upload/synapsedata/pdfdata/1/x-1-1.pdf",
     '<a href="https://synapse.koreamed.org/upload/synapsedata/pdfdata/1/x-1-1.pdf">PDF</a>'),
    ("aip", "https://pubs.aip.org/aip/jcp/article/1/2/3/456/T", "oup_pdf", "https://pubs.aip.org/aip/jcp/article-pdf/doi/10.1063/1.1/99/1_online.pdf",
     '<a class="al-link pdf article-pdfLink" href="/aip/jcp/article-pdf/doi/10.1063/1.1/99/1_online.pdf">PDF</a>'),
    ("iop", "https://iopscience.iop.org/article/10.1088/1-2/3/4", "iop_pdf", "https://iopscience.iop.org/article/10.1088/1-2/3/4/pdf",
     '<a class="content-download wd-jnl-art-pdf-button-main" href="/article/10.1088/1-2/3/4/pdf">Article PDF</a>'),
    ("cambridge", "https://www.cambridge.org/core/journals/j/article/title/ABCDEF0123", "anchor_score", "https://www.cambridge.org/core/services/aop-cambridge-core/content/view/ABCDEF0123/S1a.pdf/div-class-title-t-div.pdf",
     '<ul><li><a href="/core/services/aop-cambridge-core/content/view/ABCDEF0123/S1a.pdf/div-class-title-t-div.pdf" data-pdf-content-id="S1"><span>Save PDF</span></a></li></ul>'),
    ("jstor", "https://www.jstor.org/stable/123", "jstor_pdf", "https://www.jstor.org/stable/pdf/123.pdf",
     '<mfe-download-pharos-button data-href="/stable/pdf/123.pdf">Download</mfe-download-pharos-button>'),
    ("acl", "https://aclanthology.org/2020.acl-main.1/", "acl_pdf", "https://aclanthology.org/2020.acl-main.1.pdf",
     '<div class="acl-paper-link-block"><a class="badge" href="https://aclanthology.org/2020.acl-main.1.pdf">PDF</a></div>'),
    ("acl_old", "https://www.aclweb.org/anthology/P19-1001/", "acl_pdf", "https://www.aclweb.org/anthology/P19-1001.pdf",
     ""),
    ("openreview", "https://openreview.net/forum?id=AbC1", "titled_pdf", "https://openreview.net/pdf?id=AbC1",
     '<a class="note_content_pdf" href="/pdf?id=AbC1" title="Download PDF"><img src="x"></a>'),
    ("openreview_att", "https://openreview.net/forum?id=AbC1", "openreview_pdf", "https://openreview.net/pdf?id=AbC1",
     ""),
    ("pmlr", "https://proceedings.mlr.press/v97/abc19a.html", "pmlr_pdf", "https://proceedings.mlr.press/v97/abc19a/abc19a.pdf",
     '<div id="extras"><h4>Related Material</h4><ul><li><a href="http://proceedings.mlr.press/v97/abc19a/abc19a.pdf" target="_blank">Download PDF</a></li><li><a href="http://proceedings.mlr.press/v97/abc19a/abc19a-supp.pdf">Supplementary PDF</a></li></ul></div>'),
    ("pmlr_none", "https://proceedings.mlr.press/v97/abc19a.html", "pmlr_pdf", "https://proceedings.mlr.press/v97/abc19a/abc19a.pdf",
     ""),
    ("neurips", "https://papers.nips.cc/paper/2020/hash/abc-Abstract.html", "neurips_pdf", "https://papers.nips.cc/paper/2020/file/abc-Paper.pdf",
     "<a class='btn btn-light btn-spacer' href='/paper/2020/file/abc-AuthorFeedback.pdf'>AuthorFeedback »</a><a class='btn btn-primary btn-spacer' href='/paper/2020/file/abc-Paper.pdf'>Paper »</a><a href='/paper/2020/file/abc-Supplemental.pdf'>Supplemental »</a>"),
    ("neurips2", "https://proceedings.neurips.cc/paper_files/paper/2022/hash/abc-Abstract-Conference.html", "neurips_pdf", "https://proceedings.neurips.cc/paper_files/paper/2022/file/abc-Paper-Conference.pdf",
     ""),
    ("dergipark", "https://dergipark.org.tr/en/pub/abc/issue/1/2", "dergipark_file", "https://dergipark.org.tr/en/download/article-file/123",
     '<a class="btn btn-sm btn-danger article-download" href="/en/download/article-file/123" title="Article PDF link"><i class="fa fa-file-pdf"></i> PDF</a>'),
    ("dergipark2", "https://dergipark.org.tr/en/pub/abc/issue/1/2", "dergipark_file", "https://dergipark.org.tr/en/download/article-file/123",
     '<a href="/en/download/article-file/123">Full Text</a>'),
    ("copernicus", "https://acp.copernicus.org/articles/20/1/2020/", "anchor_score", "https://acp.copernicus.org/articles/20/1/2020/acp-20-1-2020.pdf",
     '<a class="triangle" href="https://acp.copernicus.org/articles/20/1/2020/acp-20-1-2020.pdf">Article <nobr>(PDF, 1 KB)</nobr></a>'),
    ("rsc", "https://pubs.rsc.org/en/content/articlelanding/2020/sc/d0sc00001a", "rsc_pdf", "https://pubs.rsc.org/en/content/articlepdf/2020/sc/d0sc00001a",
     '<a class="btn btn--primary" href="/en/content/articlepdf/2020/sc/d0sc00001a">Download PDF</a>'),
    ("rsc_none", "https://pubs.rsc.org/en/content/articlelanding/2020/sc/d0sc00001a", "rsc_pdf", "https://pubs.rsc.org/en/content/articlepdf/2020/sc/d0sc00001a",
     ""),
    ("acs", "https://pubs.acs.org/doi/10.1021/x1", "titled_pdf", "https://pubs.acs.org/doi/pdf/10.1021/x1",
     '<a href="/doi/pdf/10.1021/x1" title="PDF" class="button_primary"><i class="icon-file-pdf"></i><span>PDF (2 MB)</span></a>'),
    ("hindawi", "https://www.hindawi.com/journals/abc/2020/123456/", "hindawi_download", "https://downloads.hindawi.com/journals/abc/2020/123456.pdf",
     '<a href="https://downloads.hindawi.com/journals/abc/2020/123456.pdf" class="articleLink" target="_blank">Download PDF</a>'),
    ("hindawi_none", "https://www.hindawi.com/journals/abc/2020/123456/", "hindawi_download", "https://downloads.hindawi.com/journals/abc/2020/123456.pdf",
     ""),
    ("sage", "https://journals.sagepub.com/doi/10.1177/1", "doi_pdf", "https://journals.sagepub.com/doi/pdf/10.1177/1",
     '<a href="/doi/reader/10.1177/1" class="btn btn--primary">View PDF</a>'),
    ("pnas", "https://www.pnas.org/doi/full/10.1073/pnas.1", "doi_pdf", "https://www.pnas.org/doi/pdf/10.1073/pnas.1",
     ""),
    ("acm", "https://dl.acm.org/doi/10.1145/1.2", "titled_pdf", "https://dl.acm.org/doi/pdf/10.1145/1.2",
     '<a title="PDF" href="/doi/pdf/10.1145/1.2" class="btn red">PDF</a>'),
    ("aps", "https://journals.aps.org/prl/abstract/10.1103/PhysRevLett.1.2", "aps_pdf", "https://journals.aps.org/prl/pdf/10.1103/PhysRevLett.1.2",
     ""),
    ("cell", "https://www.cell.com/cell/fulltext/S0092-8674(20)30001-1", "cell_pdf", "https://www.cell.com/action/showPdf?pii=S0092-8674(20)30001-1",
     '<a class="article-tools__item__displayStandardPdf" href="/action/showPdf?pii=S0092-8674%2820%2930001-1"><span>PDF</span></a>'),
    ("cell_none", "https://www.cell.com/cell/fulltext/S0092-8674(20)30001-1", "cell_pdf", "https://www.cell.com/action/showPdf?pii=S0092-8674(20)30001-1",
     ""),
    ("lww", "https://journals.lww.com/j/fulltext/2020/01/t.1.aspx", "wkhealth_pdf", "https://journals.lww.com/j/_layouts/15/oaks.journals/downloadpdf.aspx?an=1",
     '<meta name="wkhealth_pdf_url" content="https://journals.lww.com/j/_layouts/15/oaks.journals/downloadpdf.aspx?an=1">'),
    ("bmj", "https://bmjopen.bmj.com/content/10/1/e1", "pdf_button", "https://bmjopen.bmj.com/content/bmjopen/10/1/e1.full.pdf",
     '<a href="/content/bmjopen/10/1/e1.full.pdf" class="pdf-link">PDF</a>'),
    ("degruyter", "https://www.degruyter.com/document/doi/10.1515/x-1/html", "degruyter_pdf", "https://www.degruyter.com/document/doi/10.1515/x-1/pdf",
     ""),
    ("aaas", "https://www.science.org/doi/10.1126/science.1", "doi_pdf", "https://www.science.org/doi/pdf/10.1126/science.1",
     ""),
    ("dovepress", "https://www.dovepress.com/t-peer-reviewed-fulltext-article-ABC", "atypon_pdf", "https://www.dovepress.com/getfile.php?fileID=123",
     '<a id="download-pdf" class="pdf-download" href="getfile.php?fileID=123">Download Article [PDF]</a>'),
    ("pensoft", "https://phytokeys.pensoft.net/article/123/", "anchor_score", "https://phytokeys.pensoft.net/article/123/download/pdf/456",
     '<a href="/article/123/download/pdf/456" class="download-item">PDF</a>'),
    ("f1000", "https://f1000research.com/articles/1-2/v1", "anchor_score", "https://f1000research.com/articles/1-2/v1/pdf",
     '<a href="https://f1000research.com/articles/1-2/v1/pdf" class="button">PDF</a>'),
    ("ssoar_pure", "https://pure.example/en/publications/t", "pure_file", "https://pure.example/ws/portalfiles/portal/1/t.pdf",
     '<ul class="relations documents"><li><a class="link document-link" href="/ws/portalfiles/portal/1/t.pdf">t.pdf</a></li></ul>'),
    ("pure2", "https://pure.example/en/publications/t", "anchor_score", "https://pure.example/files/123/t.pdf",
     '<div class="doc-links"><a href="https://pure.example/files/123/t.pdf" target="_blank">Final published version, 1 MB</a></div>'),
    ("invenio3", "https://cds.example/records/ab-1", "invenio_file", "https://cds.example/records/ab-1/files/p.pdf?download=1",
     '<a href="/records/ab-1/files/p.pdf?download=1">Download</a>'),
    ("dataverse", "https://dv.example/dataset.xhtml?persistentId=x", "dataverse_file", "https://dv.example/api/access/datafile/12",
     '<a href="/api/access/datafile/12">Paper.pdf</a>'),
    ("islandora", "https://i.example/islandora/object/x:1", "islandora_datastream", "https://i.example/islandora/object/x%3A1/datastream/PDF/download",
     '<a href="/islandora/object/x%3A1/datastream/PDF/download">Download PDF</a>'),
    ("janeway", "https://jw.example/article/id/12/", "janeway_galley", "https://jw.example/article/12/galley/34/download/",
     '<ul><li><a href="/article/12/galley/34/download/">Download PDF</a></li><li><a href="/article/12/galley/35/download/">Download XML</a></li></ul>'),
    ("escholarship", "https://escholarship.org/uc/item/1ab2c3d4", "escholarship_pdf", "https://escholarship.org/content/qt1ab2c3d4/qt1ab2c3d4.pdf",
     '<a href="/content/qt1ab2c3d4/qt1ab2c3d4.pdf">Download PDF</a>'),
    ("escholarship_none", "https://escholarship.org/uc/item/1ab2c3d4", "escholarship_pdf", "https://escholarship.org/content/qt1ab2c3d4/qt1ab2c3d4.pdf",
     ""),
    ("rg", "https://opg.optica.org/oe/fulltext.cfm?uri=oe-1-2-3", "titled_pdf", "https://opg.optica.org/oe/viewmedia.cfm?uri=oe-1-2-3&seq=0",
     '<a href="viewmedia.cfm?uri=oe-1-2-3&amp;seq=0" title="PDF">PDF Article</a>'),
    ("preprints", "https://www.preprints.org/manuscript/202001.0001/v1", "preprints_download", "https://www.preprints.org/manuscript/202001.0001/v1/download",
     ""),
    ("thieme", "https://www.thieme-connect.com/products/ejournals/abstract/10.1055/s-1", "thieme_pdf", "https://www.thieme-connect.com/products/ejournals/pdf/10.1055/s-1.pdf",
     ""),
    ("karger", "https://karger.com/j/article/1/2/3/4", "oup_pdf", "https://karger.com/j/article-pdf/1/2/3/5/x.pdf",
     '<a class="al-link pdf article-pdfLink" href="/j/article-pdf/1/2/3/5/x.pdf">PDF</a>'),
    ("dagstuhl", "https://drops.dagstuhl.de/entities/document/10.4230/LIPIcs.X.1", "anchor_score", "https://drops.dagstuhl.de/storage/00lipics/x/LIPIcs.X.1.pdf",
     '<a href="https://drops.dagstuhl.de/storage/00lipics/x/LIPIcs.X.1.pdf" class="btn">LIPIcs.X.1.pdf</a>'),
    ("pmc", "https://pmc.ncbi.nlm.nih.gov/articles/PMC123/", "anchor_score", "https://pmc.ncbi.nlm.nih.gov/articles/PMC123/pdf/main.pdf",
     '<ul class="list"><li><a href="pdf/main.pdf" class="usa-button">PDF (1.2 MB)</a></li></ul>'),
    ("epmc", "https://europepmc.org/article/PMC/PMC123", "europepmc_render", "https://europepmc.org/articles/PMC123?pdf=render",
     ""),
    ("ijcai", "https://www.ijcai.org/proceedings/2020/1", "anchor_score", "https://www.ijcai.org/proceedings/2020/0001.pdf",
     '<div class="button btn-lg btn-download"><a href="/proceedings/2020/0001.pdf">PDF</a></div>'),
    ("cvf", "https://openaccess.thecvf.com/content/CVPR2020/html/A_T_CVPR_2020_paper.html", "anchor_score", "https://openaccess.thecvf.com/content/CVPR2020/papers/A_T_CVPR_2020_paper.pdf",
     '[<a href="../papers/A_T_CVPR_2020_paper.pdf">pdf</a>] [<a href="../supp/A_T_supp.pdf">supp</a>]'),
    ("usenix", "https://www.usenix.org/conference/x/presentation/y", "drupal_final_paper", "https://www.usenix.org/system/files/y.pdf",
     '<div class="field-name-field-final-paper-pdf"><span class="file"><a href="https://www.usenix.org/system/files/y.pdf">y PDF</a></span></div>'),
    ("repec_handle_fr", "https://r.example/1", "anchor_score", "https://r.example/download/1",
     '<a href="/download/1">Texto completo (PDF)</a>'),
]  # fmt: skip
"""Name, URL of the page, rule and URL of the first candidate, and what the page holds (empty: its URL says all)."""


def read(url: str, holds: str) -> Reading:
    head, body = (holds, "") if holds.startswith("<meta") else ("", holds)
    page = f"<!DOCTYPE html><html><head><title>T</title>{head}</head><body><h1>T</h1>{body}{FILLER}{DECOYS}</body></html>"
    return read_page(Answer(url=url, status=200, headers={"content-type": "text/html"}, body=page.encode()))


@pytest.mark.parametrize(
    ("url", "rule", "pdf", "holds"), [case[1:] for case in PLATFORMS], ids=[case[0] for case in PLATFORMS]
)
def test_first_candidate_of_each_platform(url: str, rule: str, pdf: str, holds: str) -> None:
    """The first candidate is the article's own PDF, by the rule that is named for the platform or its habit."""
    first = read(url, holds).links[0]
    assert (first.rule, canonical_url(first.url)) == (rule, canonical_url(pdf))


@pytest.mark.parametrize(
    "url",
    [
        "https://pubmed.ncbi.nlm.nih.gov/123/",
        "https://papers.ssrn.com/sol3/papers.cfm?abstract_id=123",
        "https://unknown.example/article/1",
    ],
)
def test_a_page_that_names_no_pdf_gives_none(url: str) -> None:
    """Where neither the page nor its URL leads to a PDF, nothing is invented, and no decoy is taken."""
    reading = read(url, "")
    assert (reading.links, reading.reason) == ((), "no_pdf_link")


def test_a_rewrite_is_bound_to_its_hosts() -> None:
    """A path that looks like one platform's means nothing on another's host."""
    for _, url, _, _, _ in PLATFORMS:
        elsewhere = "https://elsewhere.example/" + url.split("/", 3)[3]
        found = rewritten(elsewhere)
        assert found is None or found[1] in {
            rewrite.name for rewrite in REWRITES if within("", rewrite.hosts)
        }
