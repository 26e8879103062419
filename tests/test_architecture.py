"""The house keeps its floors: who may import whom, and what the pure floor must not touch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]
ROOMS = ("config", "events", "store", "actors", "cli", "testing")
LOOKS_DOWN = {
    "errors": set(),
    "config": {"errors"},
    "events": {"errors", "config"},
    "store": {"errors", "config", "events"},
    "actors": {"errors", "config", "events", "store", "__init__"},
    "cli": {"errors", "config", "events", "store", "actors", "__init__"},
    "testing": {"errors", "config", "events", "store", "actors", "cli", "__init__"},
    "__main__": {"cli"},
}
"""Room → the rooms it may import besides itself; ``__init__`` is the version and the public names."""
RUNTIME_MAY = {"errors", "events.record", "store.interface"}
"""What the actor runtime knows of the house: no paper, no job, no source."""
IMPURE = {
    "asyncio", "concurrent", "datetime", "httpx", "io", "lmdb", "logging", "multiprocessing", "os", "pathlib",
    "pykka", "random", "secrets", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading",
    "time", "uuid",
}  # fmt: skip
HEAVY = (
    "httpx",
    "httpx_aiohttp",
    "aiohttp",
    "asyncio",
    "lxml",
    "yaml",
    "pykka",
    "lmdb",
    "pikepdf",
    "pypdfium2",
    "hishel",
    "cssselect",
    "msgspec",
)
DEMO = {"cli/demo.py"}


def product():
    files = [HOUSE / f"{name}.py" for name in ("__init__", "__main__", "errors")]
    for room in ROOMS:
        files += sorted((HOUSE / room).rglob("*.py"))
    return files


def tree(path):
    return ast.parse(path.read_text(), str(path))


def place(path):
    return path.relative_to(HOUSE).as_posix()


def room_of(path):
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path):
    """Dotted names inside the house that a file imports anywhere, and the outside packages."""
    inside, outside = set(), set()
    package = list(path.relative_to(HOUSE).parent.parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                own = alias.name.startswith("quire.")
                (inside if own else outside).add(alias.name.removeprefix("quire."))
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level or module[:1] == ["quire"]:
                base = package[: len(package) - node.level + 1] if node.level else []
                base += module if node.level else module[1:]
                names = [[*base, alias.name] for alias in node.names] if not module else [base]
                inside |= {".".join(name) for name in names}
            else:
                outside.add(node.module)
    return inside, {name.split(".")[0] for name in outside}


def inner_room(name):
    first = name.split(".")[0]
    return first if first in ROOMS or first in ("errors", "__main__") else "__init__"


@pytest.mark.parametrize("path", product(), ids=place)
def test_a_room_looks_down_only(path):
    """config ← events ← store ← actors ← cli; testing may see all, and only ``quire demo`` sees testing."""
    room = room_of(path)
    if room == "__init__":
        return  # the public names are loaded lazily, from everywhere
    allowed = LOOKS_DOWN[room] | {room} | ({"testing"} if place(path) in DEMO else set())
    inside, _ = imports(path)
    wrong = {name for name in inside if inner_room(name) not in allowed}
    assert not wrong


def test_the_reader_of_imports_sees_them():
    """The check above is worth something: known imports are found, in each of their forms."""
    assert "store.interface" in imports(HOUSE / "actors" / "planner.py")[0]
    assert "actors.runtime.actor" in imports(HOUSE / "actors" / "planner.py")[0]
    assert any(name.startswith("testing") for place_ in DEMO for name in imports(HOUSE / place_)[0])
    assert "lmdb" in imports(HOUSE / "store" / "lmdb_environment.py")[1]
    assert "events.ledger" in imports(HOUSE / "events" / "job.py")[0]


@pytest.mark.parametrize("path", sorted((HOUSE / "actors" / "runtime").glob("*.py")), ids=place)
def test_the_runtime_knows_no_domain(path):
    """The actor runtime can be used without the papers."""
    inside, _ = imports(path)
    assert {name for name in inside if not name.startswith("actors.runtime")} <= RUNTIME_MAY


@pytest.mark.parametrize("path", sorted((HOUSE / "events").glob("*.py")), ids=place)
def test_the_pure_floor_is_pure(path):
    """events/ imports no I/O, clock, thread or chance, and calls neither open nor print nor input."""
    _, outside = imports(path)
    assert not outside & IMPURE
    names = {node.func.id for node in ast.walk(tree(path))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not names & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("module", ["quire", "quire.cli.main"])
def test_start_is_light(module):
    """Importing the package or the command loads none of the heavy libraries."""
    code = f"import {module}, sys; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.split() == []


def test_help_is_light():
    """``quire --help`` and ``quire run --help`` load none of them either."""
    for arguments in (["--help"], ["run", "--help"]):
        code = (
            f"import sys\nfrom quire.cli.main import main\ntry:\n    main({arguments!r})\n"
            f"except SystemExit:\n    pass\n"
            f"print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
        assert "usage" in run.stdout
        assert run.stderr.split() == []


def public(path):
    """The public modules, classes, functions and methods of a file."""
    module = tree(path)
    yield place(path), module
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name[0] != "_":
                    yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("path", product(), ids=place)
def test_every_public_name_says_what_it_promises(path):
    """Modules, classes, functions and methods that are public have a docstring (overloads aside)."""
    bare = [name for name, node in public(path) if not ast.get_docstring(node) and not _overloads(node)]
    assert not bare


def _overloads(node):
    return any("overload" in ast.unparse(one) or ".setter" in ast.unparse(one)
               for one in getattr(node, "decorator_list", ()))  # fmt: skip


@pytest.mark.parametrize("path", product(), ids=place)
def test_product_code_does_not_assert(path):
    """A broken rule raises InvariantError; ``assert`` is for tests (the kit of tests among them)."""
    if room_of(path) != "testing":
        assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]


def test_no_machine_paths():
    """No file names a place of the machine that it was written on."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=HOUSE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("not a git checkout: cannot tell our files from others'")
    places = {f"{place}/" for place in (HOUSE, HOUSE.parent, Path.home(), sys.prefix)} - {"//"}
    marks = re.compile(r"(?<![\w.}])(?:" + "|".join(map(re.escape, places)) + ")")
    found = []
    for name in listed.stdout.splitlines():
        path = HOUSE / name
        if path.suffix in {".py", ".toml", ".yaml", ".yml", ".md", ".mk", ".sh", ""} and path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if marks.search(line)]
    assert not found
