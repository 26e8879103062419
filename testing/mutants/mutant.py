"""A seeded defect: one small change of the code that breaks one promise, and the tests that must notice."""

from __future__ import annotations

import msgspec


class Mutant(msgspec.Struct, frozen=True):
    """One defect."""

    name: str
    area: str
    what: str
    """The promise that it breaks, in a few words."""
    file: str
    """From the root of the repository."""
    old: str
    new: str
    tests: tuple[str, ...]
    """What is given to pytest, from the root of the repository."""
    hangs: bool = False
    """It makes its tests hang, and that is how they notice; without this a time-out kills nothing."""

    @property
    def module(self) -> str:
        """The module that the file is."""
        return "quire." + self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def mutants(area: str, *rows: tuple[str, str, str, str, str, str]) -> tuple[Mutant, ...]:
    """Rows of name, promise, file, old, new and tests (separated by spaces)."""
    return tuple(
        Mutant(name, area, what, file, old, new, tuple(f"tests/test_{test}" for test in tests.split()))
        for name, what, file, old, new, tests in rows
    )
