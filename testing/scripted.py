"""State machines whose failing examples print as a script that runs by itself.

hypothesis prints the steps of a failing example, but not what they need to run, and enums inside structs
come out as ``<State.PLANNED: 'PLANNED'>``. Here each step is written down when it is taken; the failure
carries, as a note, a file with imports that repeats it: save it and run it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import logging
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import msgspec
from hypothesis import HealthCheck, Phase, settings, stateful
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, precondition

from ..errors import UsageError

__all__ = ["ScriptedMachine", "budget", "initialize", "invariant", "precondition", "rule"]

M = TypeVar("M", bound=Callable[..., None])
CUT = "# ---- a script that repeats the failure ----"
"""The first line of the script in the failure's notes."""
LOG = logging.getLogger("quire.actors")
"""It tells of each failing actor, with a traceback; a machine means thousands of them."""
PROFILE = "QUIRE_MACHINES"
"""The variable that says how long the machines run: one of ``TIMES``, ``ci`` where it is not set."""
TIMES = {"quick": 0.1, "ci": 1.0, "campaign": 25.0}
"""Profile → how many times the examples of ``ci`` it runs."""
STEPS = 50
"""Steps of one example."""
NOT_PURE = (
    "The same steps did not give the same twice. Your fold is not pure, or something else of yours depends "
    "on more than its arguments: a global, a clock, chance, the order of a set."
)
"""What is said of a failure that hypothesis could not repeat."""
OWN = __name__.partition(".")[0]
"""This package: a script finds it by itself, wherever it was installed from."""


class _TestCase:
    """hypothesis's ``TestCase`` of a machine; a failure that does not repeat says there what that means."""

    def __get__(self, machine: Any, kind: Any = None) -> Any:
        made = RuleBasedStateMachine.__dict__["TestCase"].__get__(machine, kind)
        if "explained" not in vars(made):
            made.runTest, made.explained = _explained(made.runTest), True
        return made


def _explained(run: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(run)
    def run_test(case: Any) -> None:
        try:
            run(case)
        except Flaky as error:
            error.add_note(NOT_PURE)
            raise

    return run_test


class ScriptedMachine(RuleBasedStateMachine):
    """A state machine that keeps its steps; made with the ``rule`` and ``initialize`` of this module."""

    TestCase = _TestCase()

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, dict[str, Any]]] = []
        """Name and arguments of every step so far."""
        self._within = False
        self._talk = LOG.level
        LOG.setLevel(logging.CRITICAL + 1)
        self.failed = False
        """A step or an invariant has failed: nothing more can be said of the end."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.steps)} steps>"

    def finish(self) -> None:
        """What must hold at the end of an example whose steps all went well."""

    def release(self) -> None:
        """Give back what the machine holds: files, folders, stores."""

    def teardown(self) -> None:
        """The end of an example, however it came."""
        self._within = True  # what it takes is no step of the script, which ends with a teardown itself
        try:
            if not self.failed:
                self.finish()
        except Exception as error:
            self.explain(error)
            raise
        finally:
            LOG.setLevel(self._talk)
            self.release()

    def explain(self, error: Exception) -> None:
        """Put the script that leads to an error into its notes."""
        self.failed = True
        error.add_note(self.script())

    def script(self) -> str:
        """A Python file that takes the same steps."""
        imports = Imports()
        name = imports.name_of(type(self))
        lines = [f"state = {name}()"]
        for step, arguments in self.steps:
            given = ", ".join(f"{key}={source_of(value, imports)}" for key, value in arguments.items())
            lines.append(f"state.{step}({given})")
        return "\n".join([CUT, *imports.lines(), "", *lines, "state.teardown()", ""])


def rule(**strategies: Any) -> Callable[[M], M]:
    """As ``hypothesis.stateful.rule``, for methods of a ``ScriptedMachine``; bundles are not known."""

    def decorate(function: M) -> M:
        return cast(M, stateful.rule(**strategies)(_recorded(function)))  # type: ignore[no-untyped-call]

    return decorate


def initialize(**strategies: Any) -> Callable[[M], M]:
    """As ``hypothesis.stateful.initialize``, for methods of a ``ScriptedMachine``."""

    def decorate(function: M) -> M:
        return cast(M, stateful.initialize(**strategies)(_recorded(function)))  # type: ignore[no-untyped-call]

    return decorate


def invariant() -> Callable[[M], M]:
    """As ``hypothesis.stateful.invariant``; it stands in the script when it is what failed."""

    def decorate(function: M) -> M:
        @functools.wraps(function)
        def check(self: ScriptedMachine) -> None:
            try:
                function(self)
            except Exception as error:
                if not self._within:
                    self.steps.append((function.__name__, {}))
                self.explain(error)
                raise

        return stateful.invariant()(check)  # type: ignore[return-value]

    return decorate


def budget(examples: int) -> settings:
    """Settings of a machine: so many examples of 50 steps, the same ones each time.

    With ``QUIRE_MACHINES=campaign`` in the environment ``TIMES`` as many, drawn anew; with ``quick`` a tenth.

    Raises:
        UsageError: the variable says something else.
    """
    profile = os.environ.get(PROFILE, "ci")
    if profile not in TIMES:
        raise UsageError(f"{PROFILE}={profile}: say one of {', '.join(TIMES)}")
    campaign = profile == "campaign"
    return settings(
        max_examples=max(1, int(examples * TIMES[profile])),
        stateful_step_count=STEPS,
        derandomize=not campaign,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def script_in(error: BaseException) -> str:
    """The script among the notes of a failure; ``""`` where there is none."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note for note in reversed(notes) if note.startswith(CUT)), "")


def _recorded(function: Callable[..., None]) -> Callable[..., None]:
    names = list(inspect.signature(function).parameters)[1:]

    @functools.wraps(function)
    def step(self: ScriptedMachine, *given: Any, **arguments: Any) -> None:
        arguments = {**dict(zip(names, given, strict=False)), **arguments}
        if self._within:  # one step that takes another: the script has the outer one
            function(self, **arguments)
            return
        self.steps.append((function.__name__, arguments))
        self._within = True
        try:
            function(self, **arguments)
        except Exception as error:
            self.explain(error)
            raise
        finally:
            self._within = False

    return step


def source_of(value: Any, imports: Imports | None = None) -> str:
    """A Python expression that gives an equal value: structs, dataclasses, enums and containers of them."""
    imports = imports or Imports()

    def all_of(items: Any) -> str:
        return ", ".join(source_of(item, imports) for item in items)

    match value:
        case enum.Enum():
            return f"{imports.name_of(type(value))}.{value.name}"
        case float() if value != value or value in (float("inf"), float("-inf")):
            return f"float({str(value)!r})"
        case PurePath():
            imports.name_of(Path)
            return f"Path({str(value)!r})"
        case tuple() if type(value) is tuple:
            return f"({all_of(value)}{',' if len(value) == 1 else ''})"
        case list():
            return f"[{all_of(value)}]"
        case set() | frozenset():
            return f"{type(value).__name__}([{all_of(sorted(value, key=repr))}])"
        case dict():
            return (
                "{"
                + ", ".join(f"{source_of(k, imports)}: {source_of(v, imports)}" for k, v in value.items())
                + "}"
            )
    fields = _fields(value)
    if fields is None:
        return repr(value)
    given = ", ".join(f"{name}={source_of(part, imports)}" for name, part in fields)
    return f"{imports.name_of(type(value))}({given})"


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """Names and values of what must be given to build the value again; None for what is no record."""
    if isinstance(value, msgspec.Struct):
        defaults = {
            field.name: field.default
            if field.default_factory is msgspec.NODEFAULT
            else field.default_factory()
            for field in msgspec.structs.fields(value)
        }
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        defaults = {field.name: field.default for field in dataclasses.fields(value) if field.init}
    else:
        return None
    parts = [(name, getattr(value, name)) for name in defaults]
    return [(name, part) for name, part in parts if not _is_default(part, defaults[name])]


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _is_default(part: Any, default: Any) -> bool:
    return type(part) is type(default) and bool(part == default)


class Imports:
    """The names that a script needs, and how it gets them."""

    def __init__(self) -> None:
        self._wanted: dict[str, set[str]] = {}

    def name_of(self, cls: type) -> str:
        """The name under which the script knows a class."""
        self._wanted.setdefault(cls.__module__, set()).add(cls.__qualname__.split(".")[0])
        return cls.__qualname__

    def lines(self) -> list[str]:
        """The head of the script.

        Each module is imported once, since two runs of a file make two of each class. What lies where Python
        does not look by itself, such as a test's file, gets its folder on the path.
        """
        places = {module: _place(module) for module in self._wanted}
        folders = sorted({folder for _, folder in places.values() if folder})
        found = ["import sys", *(f"sys.path.insert(0, {folder!r})" for folder in folders)] if folders else []
        for module, names in sorted(self._wanted.items()):
            name, _ = places[module]
            if all(part.isidentifier() for part in name.split(".")):
                found.append(f"from {name} import {', '.join(sorted(names))}")
            else:  # ``test-one.py`` can be imported, but no statement says so
                found += [f"{one} = __import__({name!r}).{one}" for one in sorted(names)]
        return found


def _place(module: str) -> tuple[str, str]:
    """The name under which a script imports a module, and the folder to look into; ``""`` for none."""
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if module.partition(".")[0] in (OWN, "builtins") or not file.name or _is_installed(file):
        return module, ""
    parts = module.split(".")
    own = file.parent.parts if file.name == "__init__.py" else (*file.parent.parts, file.stem)
    if list(own[-len(parts) :]) == parts:
        return module, str(Path(*own[: -len(parts)]))
    return file.stem, str(file.parent)  # it ran as ``__main__``


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib"))
