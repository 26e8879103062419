"""The nursery: a copy of the package in which one defect at a time lives, and the tests that must kill it.

The copy is laid out so that ``import quire`` there is the copy and nothing else: a folder of that name, its
parent first on the path, which stands before an editable install. A defect that cannot be put in place, that
does not import, or whose tests fail without it, kills nothing: it is ``broken``.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from ...errors import InvariantError, UsageError
from ...store.disk_faults import environment_faults
from .mutant import Mutant

Verdict = Literal["killed", "survived", "broken"]

TESTS_S = 150.0
"""How long the tests of one defect may take, in seconds; one that makes them hang is killed by that."""
IMPORT_S = 60.0
WORD_CHARS = 300
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "demo-library")
_PASSED, _FAILED = 0, 1
"""Exit codes of pytest; the others say that it could not test."""


class Result(msgspec.Struct, frozen=True):
    """What became of one defect."""

    name: str
    area: str
    what: str
    verdict: Verdict
    by: str
    """The first test that failed, or what went wrong."""
    seconds: float = 0.0


class Ran(msgspec.Struct, frozen=True):
    """A run of tests."""

    code: int | None
    """pytest's exit code; None when the time was over."""
    said: str


def place(text: str, mutant: Mutant) -> str:
    """The text of a file with the defect in it.

    Raises:
        UsageError: what the defect replaces does not stand there exactly once, or it replaces nothing.
    """
    found = text.count(mutant.old)
    if found != 1:
        raise UsageError(
            f"mutant {mutant.name}: its text stands {found} times in {mutant.file}, not once: "
            "mend the catalogue"
        )
    return text.replace(mutant.old, mutant.new)


class Nursery:
    """A copy of the package in which one defect at a time lives; whoever makes it removes its folder.

    Args:
        source: the root of the repository, which is the package.
        folder: an empty folder for the copy.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.root = folder / "quire"
        self._folder = folder
        if not (source / "tests").is_dir():
            raise UsageError(f"{source} holds no tests: mutants are run from a checkout, not from an install")
        with environment_faults(f"cannot copy {source} to {self.root}"):
            shutil.copytree(source, self.root, ignore=_LEFT_OUT, symlinks=True)
        compileall.compile_dir(self.root, quiet=2)
        self._check_import("quire")

    def __repr__(self) -> str:
        return f"<Nursery {self.root}>"

    def run(self, mutant: Mutant) -> Result:
        """Put the defect in place, run its tests, and take it out again."""
        path = self.root / mutant.file
        sound = path.read_text(encoding="utf-8")
        try:
            self._written(path, place(sound, mutant))
            self._check_import(mutant.module)
            return self._judged(mutant, self.tests(mutant.tests))
        except (UsageError, InvariantError) as error:
            return _result(mutant, "broken", str(error))
        finally:
            self._written(path, sound)

    def tests(self, tests: Sequence[str]) -> Ran:
        """Run tests of the copy until the first that fails."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "--tb=no",
            "-p",
            "no:cacheprovider",
        ]
        process = subprocess.Popen(
            [*command, *tests],
            cwd=self.root, env=self._environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=TESTS_S)
            return Ran(process.returncode, said)
        except subprocess.TimeoutExpired:
            # With all that it started: a test's workers would go on in a copy that is another by now.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Ran(None, f"the tests did not end in {TESTS_S:.0f} s")

    def _judged(self, mutant: Mutant, ran: Ran) -> Result:
        if ran.code == _PASSED:
            return _result(mutant, "survived", "")
        if ran.code is None:
            return _result(mutant, "killed", ran.said)
        by = next((line for line in ran.said.splitlines() if line.startswith(("FAILED ", "ERROR "))), "")
        if ran.code == _FAILED and by:
            return _result(mutant, "killed", by.split(" ", 1)[1].split(" - ")[0])
        return _result(mutant, "broken", f"pytest ended with {ran.code}: {ran.said[-WORD_CHARS:]}")

    def _written(self, path: Path, text: str) -> None:
        """Write a module, and its byte code: a stale one of the same second and size would be used."""
        path.write_text(text, encoding="utf-8")
        try:
            py_compile.compile(str(path), doraise=True)
        except py_compile.PyCompileError as error:
            raise UsageError(f"{path.name} cannot be compiled: {error.msg.strip()[-WORD_CHARS:]}") from error

    def _check_import(self, module: str) -> None:
        """See that a module is that of the copy, and that it can be imported."""
        code = f"import {module}, sys; print(sys.modules[{module!r}].__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self._folder, env=self._environ(),
            capture_output=True, text=True, timeout=IMPORT_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise InvariantError(f"{module} cannot be imported: {done.stderr[-WORD_CHARS:]}")
        if not Path(done.stdout.strip()).resolve().is_relative_to(self.root.resolve()):
            raise InvariantError(f"{module} is imported from {done.stdout.strip()}, not from {self.root}")

    def _environ(self) -> dict[str, str]:
        bare = {
            name: value for name, value in os.environ.items() if not name.startswith(("QUIRE_", "PYTEST_"))
        }
        return {**bare, "PYTHONPATH": str(self._folder), "PYTHONDONTWRITEBYTECODE": "1"}


def _result(mutant: Mutant, verdict: Verdict, by: str) -> Result:
    return Result(mutant.name, mutant.area, mutant.what, verdict, by)
