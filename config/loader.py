"""Settings from four layers: defaults.yaml, a file, the environment, the command line; later ones win.

Each layer is brought to one form, a tree whose nodes know where they were said, and is checked against the
records of ``settings.py`` while it is laid over the tree below. So a refusal can name file and line, and
``quire config show --origin`` can say where each value comes from. A layer is checked to its end: all
that is wrong with it is told at once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..errors import InvariantError, UsageError
from .documents import Node, Origin, Path_, Text, leaves_of, plain, read
from .layering import Problems, lay
from .resolvers import record_of, settled, taken_in, without
from .rules import broken_rules
from .settings import Quire

DEFAULTS = Path(__file__).with_name("defaults.yaml")
LIBRARY_FILE = "quire.yaml"
PREFIX = "QUIRE_"
"""What the name of an environment variable starts with; two underscores stand between levels."""
PROFILES: dict[str, dict[str, int]] = {
    "fast": {
        "total_timeout_ms": 60_000,
        "total_attempts": 12,
        "max_concurrent": 2,
        "per_source_timeout_ms": 5_000,
    },
    "reliable": {
        "total_timeout_ms": 180_000,
        "total_attempts": 30,
        "max_concurrent": 2,
        "per_source_timeout_ms": 15_000,
    },
}
"""Profile → budgets; the time of a source also stands in for each policy's default ``timeout_ms``."""
_DEFAULT = Origin("default", DEFAULTS.name)


class Flag(NamedTuple):
    """A value from the command line."""

    path: Path_
    value: Any
    name: str
    """As the user typed it: ``--email``."""


class Loaded(NamedTuple):
    """Settings and the account of them."""

    settings: Quire
    origins: dict[str, Origin]
    """Dotted path of each single value → where it was said."""
    values: dict[str, Any]
    """Dotted path of each single value → the value, in the order of defaults.yaml."""


def load(
    flags: Sequence[Flag] = (), *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """All settings, each from the highest layer that names it.

    Args:
        flags: what the command line sets.
        config: the settings file; without it ``quire.yaml`` in the library, where there is one.
        environ: the environment; that of the process when left out.

    Raises:
        UsageError: a key or value is wrong; one line for each, with where it stands and what would be right.
    """
    spoken = sorted(
        (name, text)
        for name, text in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX)
    )
    above = [*(_from_variable(name, text) for name, text in spoken), *(_from_flag(flag) for flag in flags)]
    tree = _default_tree()
    file = config or _library_file(above, tree)
    below = [read(file)] if file is not None else []
    problems: Problems = []
    tree, names = taken_in(tree, [*below, *above], problems)
    kind = record_of(names)
    tree = _laid(kind, tree, map(without, below), problems, own_library=config is None)
    tree = _laid(kind, tree, map(without, above), problems)
    tree = _with_profile(settled(tree))
    settings = msgspec.convert(plain(tree), Quire)
    leaves = dict(leaves_of(tree, ()))
    origins = {path: leaf.origin for path, leaf in leaves.items()}
    _refuse(
        [f"{_origin_of(path, origins)}: {'.'.join(path)}: {what}" for path, what in broken_rules(settings)]
    )
    return Loaded(settings, origins, {path: leaf.value for path, leaf in leaves.items()})


def _origin_of(path: Path_, origins: Mapping[str, Origin]) -> Origin:
    dotted = ".".join(path)
    return next((o for p, o in origins.items() if p == dotted or p.startswith(dotted + ".")), _DEFAULT)


def _refuse(problems: Problems) -> None:
    if problems:
        raise UsageError("\n".join(problems))


@functools.cache
def _default_tree() -> Node:
    problems: Problems = []
    said = read(DEFAULTS)
    tree = lay(record_of(()), None, said, (), problems)
    if problems:
        raise InvariantError("defaults.yaml and settings.py disagree:\n" + "\n".join(problems))
    return _as_default(tree)


def _as_default(node: Node) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _as_default(child) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_as_default(child) for child in value]
    return Node(value, Origin("default", DEFAULTS.name, node.origin.line))


def _library_file(above: Iterable[Node], defaults: Node) -> Path | None:
    """The settings file of the library that the layers above it name."""
    library = defaults.value["library"].value
    for node in above:
        if "library" in node.value:
            library = str(node.value["library"].value)
    file = Path(library) / LIBRARY_FILE
    return file if file.is_file() else None


def _laid(
    kind: Any, tree: Node, layers: Iterable[Node], problems: Problems, *, own_library: bool = False
) -> Node:
    """The tree with layers over it; refused with ``problems`` if there are any, then or before."""
    for layer in layers:
        if own_library and isinstance(layer.value, dict) and "library" in layer.value:
            where = layer.value["library"].origin
            problems.append(f"{where}: library: a library's own file cannot name another one; use --library")
        tree = lay(kind, tree, layer, (), problems)
    _refuse(problems)
    return tree


def _nested(path: Path_, value: Any, origin: Origin) -> Node:
    node = Node(value, origin)
    for key in reversed(path):
        node = Node({key: node}, origin)
    return node


def _from_variable(name: str, text: str) -> Node:
    path = tuple(name.removeprefix(PREFIX).lower().split("__"))
    return _nested(path, Text(text), Origin("environment", name))


def _from_flag(flag: Flag) -> Node:
    return _nested(flag.path, flag.value, Origin("flag", flag.name))


def _with_profile(tree: Node) -> Node:
    """The tree with the budgets of its profile wherever nobody said otherwise."""
    fallback = tree.value["fallback"].value
    name = fallback["profile"].value
    if name not in PROFILES:
        return tree
    origin = Origin("profile", f"profile {name} ({fallback['profile'].origin})")

    def instead(node: Node, value: int) -> Node:
        return Node(value, origin) if node.origin.kind == "default" else node

    budgets = {
        key: instead(node, PROFILES[name].get(key, 0)) for key, node in fallback["budgets"].value.items()
    }
    timeout_ms = PROFILES[name]["per_source_timeout_ms"]
    policies = {
        source: policy._replace(
            value={k: instead(v, timeout_ms) if k == "timeout_ms" else v for k, v in policy.value.items()}
        )
        for source, policy in fallback["policies"].value.items()
    }
    changed = {
        **fallback,
        "budgets": fallback["budgets"]._replace(value=budgets),
        "policies": fallback["policies"]._replace(value=policies),
    }
    return tree._replace(value={**tree.value, "fallback": tree.value["fallback"]._replace(value=changed)})
