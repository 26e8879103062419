"""The published list of seeded defects: each is one small change that breaks one promise.

A defect names the exact text that it replaces, which must stand in its file once: when the code moves on, the
catalogue has to, and ``tests/test_mutants.py`` says so. The tests are the narrowest that must notice.
"""

from __future__ import annotations

from .mutant import Mutant
from .of_fallback import FALLBACK
from .of_finalizer import FINALIZER, JOURNAL
from .of_leases import LEASES
from .of_ledger import LEDGER
from .of_objects import OBJECTS
from .of_planning import PLANNING
from .of_store import STORE
from .of_web import WEB

MUTANTS: tuple[Mutant, ...] = (
    *STORE, *OBJECTS, *LEASES, *LEDGER, *FALLBACK, *FINALIZER, *JOURNAL, *WEB, *PLANNING,
)  # fmt: skip
"""All of them, in the order in which they are run."""
