"""What the tests of a disk that fails share: where they work, and the program under the shim."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.testing.disk import shim
from quire.testing.disk.__main__ import memory_disk
from quire.testing.disk.runs import Runs

needs_shim = pytest.mark.skipif(bool(shim.missing()), reason=shim.missing() or "the shim can be had")
ROUNDS = 1
"""Rounds of the script in one run."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that can be had: the faults are the shim's, and a real fsync would only cost time."""
    with tempfile.TemporaryDirectory(dir=memory_disk()) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as one:
        yield one
