"""The nursery: a copy of the package in which one defect at a time lives, and the tests that must kill it.

The copy is laid out so that ``import quire`` there is the copy and nothing else: a folder of that name, its
parent first on the path, which stands before an editable install. A defect that cannot be put in place, that
does not import, or whose tests cannot be collected, is ``broken``. Only a test that fails kills, and it must
fail again when it is run alone: one that passes then is ``flaky``. Tests that do not end are tried once more,
and are ``timed out`` then; a defect that hangs on purpose says so (``Mutant.hangs``).
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
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
from .kit import kit_of
from .mutant import Mutant

Verdict = Literal["killed", "survived", "timed out", "flaky", "broken"]

TESTS_S = 150.0
"""How long the tests of one defect may take, in seconds."""
BASELINE_S = 1_200.0
"""How long all tests may take without a defect, in seconds."""
IMPORT_S = 60.0
WORD_CHARS = 300
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "demo-library")
_PASSED, _FAILED = 0, 1
"""Exit codes of pytest; the others say that it could not test."""
_LINE_CHARS = 1_000
"""Columns of pytest's screen: it cuts its lines there, and with them why a test failed."""
_ENDED = re.compile(r"^(?:FAILED|ERROR) (?P<test>\S+::.*?)(?: - (?P<why>.*))?$", re.MULTILINE)
"""A test that failed, and why. A file that cannot be collected has no ``::``."""
_NO_TEST = re.compile(r"(ModuleNotFoundError|ImportError|SyntaxError|IndentationError|TabError)\b")
"""Failures that say nothing of a promise: the code is not there."""


class Result(msgspec.Struct, frozen=True):
    """What became of one defect."""

    name: str
    area: str
    what: str
    verdict: Verdict
    by: str
    """The first test that failed, or what went wrong."""
    seconds: float = 0.0
    kit: Verdict | Literal[""] = ""
    """What the checks of the test kit alone made of it; ``""`` where they were not asked."""
    kit_by: str = ""


class Ran(msgspec.Struct, frozen=True):
    """A run of tests."""

    code: int | None
    """pytest's exit code; None when the time was over."""
    said: str


Judged = tuple[Verdict, str]
"""A verdict, and by what."""


def judge(ran: Ran) -> Judged:
    """What a run of tests with a defect in place says: only a test that failed for a reason kills."""
    if ran.code is None:
        return "timed out", ran.said
    if ran.code == _PASSED:
        return "survived", ""
    ended = _ENDED.search(ran.said)
    if ran.code != _FAILED or ended is None:
        return "broken", f"pytest ended with {ran.code}: {ran.said[-WORD_CHARS:]}"
    test, why = ended["test"], ended["why"] or ""
    if _NO_TEST.match(why) or (ended[0].startswith("ERROR") and not why):
        return "broken", f"{test}: {why or 'it could not be set up'}"
    return "killed", test


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

    def run(self, mutant: Mutant, *, tests: bool = True, kit: bool = False) -> Result:
        """Put the defect in place, run its tests, its kit checks or both, and take it out again."""
        path = self.root / mutant.file
        sound = path.read_text(encoding="utf-8")
        try:
            self._written(path, place(sound, mutant))
            self._check_import(mutant.module)
            found = self._tried(mutant, mutant.tests) if tests else None
            by_kit = self._tried(mutant, kit_of(mutant.name)) if kit else None
        except (UsageError, InvariantError) as error:
            found = by_kit = ("broken", str(error))
        finally:
            self._written(path, sound)
        return _result(mutant, found if tests else None, by_kit if kit else None)

    def tests(self, tests: Sequence[str], *, within_s: float = TESTS_S) -> Ran:
        """Run tests of the copy until the first that fails, for so many seconds at most."""
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
            said, _ = process.communicate(timeout=within_s)
            return Ran(process.returncode, said)
        except subprocess.TimeoutExpired:
            # With all that it started: a test's workers would go on in a copy that is another by now.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Ran(None, f"the tests did not end in {within_s:.0f} s")

    def _tried(self, mutant: Mutant, tests: Sequence[str]) -> Judged:
        """Run tests with the defect in place, once more where one time-out or failure proves little."""
        judged = judge(self.tests(tests))
        if judged[0] == "timed out" and not mutant.hangs:
            judged = judge(self.tests(tests))
        if judged[0] == "timed out" and mutant.hangs:
            return "killed", judged[1]
        if judged[0] != "killed":
            return judged
        again = judge(self.tests([judged[1]]))
        if again[0] == "survived":
            return "flaky", f"{judged[1]} failed, and passed when it was run alone"
        return judged

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
        return {
            **bare,
            "PYTHONPATH": str(self._folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": str(_LINE_CHARS),
        }


def _result(mutant: Mutant, found: Judged | None, by_kit: Judged | None) -> Result:
    """The result; where the kit alone was asked, its word is the verdict."""
    verdict, by = found or by_kit or ("survived", "")
    kit, kit_by = by_kit or ("", "")
    return Result(mutant.name, mutant.area, mutant.what, verdict, by, kit=kit, kit_by=kit_by)
