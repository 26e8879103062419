"""Tampering: one library, damaged in ten thousand ways, each of which the audit must name.

``python -m quire.testing.tamper --tampers 10000 --seed 1`` makes a library by a real run, changes one thing
at a time behind its back (an event, a commit, the order, the end, an index, a table, a record, a page of the
file, the file's length, a paper, a folder, the whole log) and audits it, with seals that were kept elsewhere.
It exits 1 when a change was not found, or named at another place than it was made.
"""

from .campaign import Tally, campaign
from .specimen import Specimen
from .ways import WAYS, Change

__all__ = ["WAYS", "Change", "Specimen", "Tally", "campaign"]
