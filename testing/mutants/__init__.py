"""Seeded defects: what the tests must notice. ``python -m quire.testing.mutants`` shows that they do."""

from .catalogue import MUTANTS
from .mutant import Mutant
from .nursery import Nursery, Result

__all__ = ["MUTANTS", "Mutant", "Nursery", "Result"]
