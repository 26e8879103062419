"""The simulated scholarly web: seven services, publishers, repositories and their faults.

``World.of(Paper(…), …)`` makes a small one, ``World.demo()`` one of everything, and
``World.from_unpaywall(records)`` one out of real records. ``serve(world)`` plays it over HTTP on loopback,
``WorldTransport(world)`` inside the process; both keep a ledger of what they were asked, and
``world.truth(work)`` says what should have come home.
"""

from .artifacts import FATES, GOOD_FATES, Artifact, Fate
from .exchange import Call, Reply, url_key
from .faults import Fault
from .ledger import Entry, Ledger
from .papers import Copy, Paper
from .pdf import PDF_BYTES_MIN, make_pdf, pdf_sha256
from .publishers import OPEN_PLATFORMS, PLATFORMS, Platform
from .records import Mix
from .server import Served, serve
from .transport import WorldTransport
from .world import Truth, World

__all__ = [
    "FATES",
    "GOOD_FATES",
    "OPEN_PLATFORMS",
    "PDF_BYTES_MIN",
    "PLATFORMS",
    "Artifact",
    "Call",
    "Copy",
    "Entry",
    "Fate",
    "Fault",
    "Ledger",
    "Mix",
    "Paper",
    "Platform",
    "Reply",
    "Served",
    "Truth",
    "World",
    "WorldTransport",
    "make_pdf",
    "pdf_sha256",
    "serve",
    "url_key",
]
