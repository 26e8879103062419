"""Settings from four layers: defaults.yaml, a file, the environment, the command line; later ones win.

Each layer is brought to one form, a tree whose nodes know where they were said, and is checked against the
records of ``settings.py`` while it is laid over the tree below. So a refusal can name file and line, and
``quire config show --origin`` can say where each value comes from. A layer is checked to its end: all
that is wrong with it is told at once.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ..errors import InvariantError, UsageError
from .settings import Quire

DEFAULTS = Path(__file__).with_name("defaults.yaml")
LIBRARY_FILE = "quire.yaml"
PREFIX = "QUIRE_"
"""What the name of an environment variable starts with; two underscores stand between levels."""
FILE_BYTES_MAX = 1 << 20
NODES_MAX = 20_000
"""Values in one file, aliases expanded; a nested-alias bomb ends here."""
DEPTH_MAX = 16
"""Levels of nesting in one file; a value that contains itself ends here."""
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
PLACEHOLDER_HOSTS = frozenset({"example.com", "example.org", "example.net", "test.com", "localhost"})

Path_ = tuple[str, ...]


class Origin(NamedTuple):
    """Where a value was said."""

    kind: Literal["default", "file", "environment", "flag", "profile"]
    where: str
    """The file, the variable, the flag or the profile."""
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return f"{self.where}:{self.line}" if self.line else self.where


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


class _Node(NamedTuple):
    value: Any
    """A scalar, ``dict[str, _Node]`` or ``list[_Node]``."""
    origin: Origin


class _Text(str):
    """A value from the environment: what it means depends on the setting's type."""


Problems = list[str]


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
    if file is not None:
        tree = _laid(tree, [_read(file)], own_library=config is None)
    tree = _with_profile(_laid(tree, above))
    settings = msgspec.convert(_plain(tree), Quire)
    leaves = dict(_leaves(tree, ()))
    origins = {path: leaf.origin for path, leaf in leaves.items()}
    _refuse(
        [f"{_origin_of(path, origins)}: {'.'.join(path)}: {what}" for path, what in _broken_rules(settings)]
    )
    return Loaded(settings, origins, {path: leaf.value for path, leaf in leaves.items()})


def _origin_of(path: Path_, origins: Mapping[str, Origin]) -> Origin:
    dotted = ".".join(path)
    return next((o for p, o in origins.items() if p == dotted or p.startswith(dotted + ".")), _DEFAULT)


_DEFAULT = Origin("default", DEFAULTS.name)


def _refuse(problems: Problems) -> None:
    if problems:
        raise UsageError("\n".join(problems))


# -- layers -----------------------------------------------------------------------------------------


@functools.cache
def _default_tree() -> _Node:
    problems: Problems = []
    said = _read(DEFAULTS)
    tree = _lay(Quire, None, said, (), problems)
    if problems:
        raise InvariantError("defaults.yaml and settings.py disagree:\n" + "\n".join(problems))
    return _as_default(tree)


def _as_default(node: _Node) -> _Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _as_default(child) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_as_default(child) for child in value]
    return _Node(value, Origin("default", DEFAULTS.name, node.origin.line))


def _library_file(above: Iterable[_Node], defaults: _Node) -> Path | None:
    """The settings file of the library that the layers above it name."""
    library = defaults.value["library"].value
    for node in above:
        if "library" in node.value:
            library = str(node.value["library"].value)
    file = Path(library) / LIBRARY_FILE
    return file if file.is_file() else None


def _laid(tree: _Node, layers: Iterable[_Node], *, own_library: bool = False) -> _Node:
    problems: Problems = []
    for layer in layers:
        if own_library and isinstance(layer.value, dict) and "library" in layer.value:
            where = layer.value["library"].origin
            problems.append(f"{where}: library: a library's own file cannot name another one; use --library")
        tree = _lay(Quire, tree, layer, (), problems)
    _refuse(problems)
    return tree


def _nested(path: Path_, value: Any, origin: Origin) -> _Node:
    node = _Node(value, origin)
    for key in reversed(path):
        node = _Node({key: node}, origin)
    return node


def _from_variable(name: str, text: str) -> _Node:
    path = tuple(name.removeprefix(PREFIX).lower().split("__"))
    return _nested(path, _Text(text), Origin("environment", name))


def _from_flag(flag: Flag) -> _Node:
    return _nested(flag.path, flag.value, Origin("flag", flag.name))


def _with_profile(tree: _Node) -> _Node:
    """The tree with the budgets of its profile wherever nobody said otherwise."""
    fallback = tree.value["fallback"].value
    name = fallback["profile"].value
    if name not in PROFILES:
        return tree
    origin = Origin("profile", f"profile {name} ({fallback['profile'].origin})")

    def instead(node: _Node, value: int) -> _Node:
        return _Node(value, origin) if node.origin.kind == "default" else node

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


# -- YAML with lines --------------------------------------------------------------------------------


def _read(file: Path) -> _Node:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read as settings: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise UsageError(f"{file}: {len(text)} bytes are too many for settings (at most {FILE_BYTES_MAX})")
    return _parse(text, lambda line: Origin("file", str(file), line))


def _parse(text: bytes | str, origin_at: Callable[[int], Origin]) -> _Node:
    """The tree of a YAML text; ``origin_at`` gives the origin for a line, from 1."""
    import yaml  # not at import of the module: `quire --help` must not pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    seen = 0

    def convert(node: Any, line: int, depth: int = 0) -> _Node:
        nonlocal seen
        seen += 1
        if seen > NODES_MAX or depth > DEPTH_MAX:
            raise UsageError(f"{origin_at(line)}: too many values, or nested too deep, for settings")
        if isinstance(node, yaml.ScalarNode):
            return _Node(scalars.construct_object(node), origin_at(line))
        if isinstance(node, yaml.SequenceNode):
            items = [convert(item, item.start_mark.line + 1, depth + 1) for item in node.value]
            return _Node(items, origin_at(line))
        entries: dict[str, _Node] = {}
        for key, value in node.value:
            name, at = str(key.value), key.start_mark.line + 1
            if name in entries:
                raise UsageError(f"{origin_at(at)}: {name} is given twice (before: {entries[name].origin})")
            entries[name] = convert(value, at, depth + 1)
        return _Node(entries, origin_at(line))

    try:
        scalars = yaml.constructor.SafeConstructor()
        root = yaml.compose(text, Loader=loader)
        return _Node({}, origin_at(1)) if root is None else convert(root, root.start_mark.line + 1)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise UsageError(f"{origin_at(mark.line + 1 if mark else 1)}: not YAML: {what}") from error


# -- laying one layer over another ------------------------------------------------------------------


def _lay(kind: Any, below: _Node | None, said: _Node, path: Path_, problems: Problems) -> _Node:
    """What stands after ``said`` is laid over ``below``; what is wrong goes to ``problems``."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _lay_record(kind, below, _structured(said), path, problems)
    if typing.get_origin(kind) is dict:
        return _lay_table(typing.get_args(kind), below, _structured(said), path, problems)
    if typing.get_origin(kind) is tuple and _is_record(typing.get_args(kind)[0]):
        return _lay_list(typing.get_args(kind)[0], below, _structured(said), path, problems)
    return _lay_leaf(kind, below, said, path, problems)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _structured(said: _Node) -> _Node:
    return _parse(str(said.value), lambda _line: said.origin) if isinstance(said.value, _Text) else said


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], field.required) for field in msgspec.structs.fields(kind)}


def _lay_record(
    kind: type[msgspec.Struct], below: _Node | None, said: _Node, path: Path_, problems: Problems
) -> _Node:
    fields = _fields(kind)
    held: dict[str, _Node] = dict(below.value) if below else {}
    if not isinstance(said.value, dict):
        problems.append(f"{said.origin}: {_name(path)}: expected settings by name: {', '.join(fields)}")
        return below or _Node(held, said.origin)
    for key, child in said.value.items():
        if key in fields:
            held[key] = _lay(fields[key][0], held.get(key), child, (*path, key), problems)
        else:
            problems.append(
                f"{child.origin}: {_name((*path, key))}: no such setting; {_nearest(key, fields)}"
            )
    missing = [name for name, (_, required) in fields.items() if required and name not in held]
    if missing:
        problems.append(f"{said.origin}: {_name(path)}: {', '.join(missing)} must be given as well")
    order = [name for name in fields if name in held]
    return _Node({name: held[name] for name in order}, said.origin if below is None else below.origin)


def _lay_table(
    kinds: tuple[Any, ...], below: _Node | None, said: _Node, path: Path_, problems: Problems
) -> _Node:
    names = typing.get_args(kinds[0]) if typing.get_origin(kinds[0]) is Literal else ()
    held: dict[str, _Node] = dict(below.value) if below else {}
    if not isinstance(said.value, dict):
        problems.append(f"{said.origin}: {_name(path)}: expected a table of names and values")
        return below or _Node(held, said.origin)
    for key, child in said.value.items():
        if names and key not in names:
            problems.append(f"{child.origin}: {_name((*path, key))}: no such name; {_nearest(key, names)}")
        else:
            held[key] = _lay(kinds[1], held.get(key), child, (*path, key), problems)
    return _Node(held, said.origin if below is None else below.origin)


def _lay_list(item: Any, below: _Node | None, said: _Node, path: Path_, problems: Problems) -> _Node:
    """A list replaces the list below; a table changes items of the list below by their ``name``."""
    if isinstance(said.value, list):
        items = [_lay(item, None, child, (*path, str(at)), problems) for at, child in enumerate(said.value)]
        return _Node(items, said.origin)
    held = list(below.value) if below else []
    at = {str(node.value["name"].value): index for index, node in enumerate(held)}
    if not isinstance(said.value, dict):
        problems.append(f"{said.origin}: {_name(path)}: expected a list")
        return below or _Node(held, said.origin)
    for key, child in said.value.items():
        if key in at:
            held[at[key]] = _lay(item, held[at[key]], child, (*path, key), problems)
        else:
            problems.append(f"{child.origin}: {_name((*path, key))}: no such name; {_nearest(key, at)}")
    return _Node(held, below.origin if below else said.origin)


def _lay_leaf(kind: Any, below: _Node | None, said: _Node, path: Path_, problems: Problems) -> _Node:
    try:
        value = msgspec.convert(_plain(_meant(kind, said)), kind)
    except msgspec.ValidationError as error:
        default = f" (now: {msgspec.json.encode(_plain(below)).decode()})" if below else ""
        shown = msgspec.json.encode(_plain(said), enc_hook=str).decode()[:80]
        problems.append(f"{said.origin}: {_name(path)}: {shown}: {_right(kind, said.value, error)}{default}")
        return below or said
    return _Node(value, said.origin)


def _right(kind: Any, value: Any, error: msgspec.ValidationError) -> str:
    kinds = [kind, *typing.get_args(kind)]
    choices = next((typing.get_args(k) for k in kinds if typing.get_origin(k) is Literal), ())
    return _nearest(str(value), choices) if choices else str(error).split(" - at ")[0].lower()


def _meant(kind: Any, said: _Node) -> _Node:
    """A text from the environment as the setting's type wants it."""
    if not isinstance(said.value, _Text):
        return said
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    if kind is str or (optional and str in typing.get_args(kind)):
        return _Node(None if optional and said.value in ("", "null") else str(said.value), said.origin)
    parsed = _structured(said)
    if typing.get_origin(kind) is tuple and not isinstance(parsed.value, list):
        texts = [text.strip() for text in said.value.split(",") if text.strip()]
        parsed = _Node([_structured(_Node(_Text(text), said.origin)) for text in texts], said.origin)
    return parsed


def _name(path: Path_) -> str:
    return ".".join(path) or "the settings"


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else "one of: " + ", ".join(known)


def _plain(node: Any) -> Any:
    value = node.value if isinstance(node, _Node) else node
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, list) else value


def _leaves(node: _Node, path: Path_) -> Iterator[tuple[str, _Node]]:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _leaves(child, (*path, key))
    elif isinstance(node.value, list):
        for child in node.value:
            yield from _leaves(child, (*path, str(child.value["name"].value)))
    else:
        yield ".".join(path), node


# -- rules across settings --------------------------------------------------------------------------


def _broken_rules(settings: Quire) -> Iterator[tuple[Path_, str]]:
    """The setting and what is wrong, for each rule that joins several settings or reads a text."""
    yield from _web_rules(settings)
    yield from _plan_rules(settings)
    if settings.download.bytes_min >= settings.download.bytes_max:
        yield ("download", "bytes_max"), f"must be greater than bytes_min ({settings.download.bytes_min})"
    for source, endpoints in msgspec.to_builtins(settings.sources).items():
        for name, url in endpoints.items():
            if isinstance(url, str) and not re.match(r"https?://[^\s/]+\S*$", url):
                yield ("sources", source, name), f"{url!r} must be an http:// or https:// address"


def _web_rules(settings: Quire) -> Iterator[tuple[Path_, str]]:
    web = settings.web
    if web.stand_in is not None and not _on_loopback(web.stand_in):
        yield ("web", "stand_in"), f"{web.stand_in!r} must be http://127.0.0.1:PORT (or localhost, [::1])"
    if web.pacing == "none" and web.stand_in is None:
        yield (
            ("web", "pacing"),
            "none is accepted only together with web.stand_in: leave it polite, or name a stand-in",
        )
    if web.proxy is not None and not re.match(r"https?://[^\s/]+/?$", web.proxy):
        yield ("web", "proxy"), f"{web.proxy!r} must be http://HOST:PORT"
    if web.contact_email is not None:
        if not re.match(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$", web.contact_email):
            yield ("web", "contact_email"), f"{web.contact_email!r} is no e-mail address"
        elif web.stand_in is None and web.contact_email.lower().split("@")[1] in PLACEHOLDER_HOSTS:
            yield ("web", "contact_email"), f"{web.contact_email!r} is a placeholder, which Unpaywall refuses"


def _on_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    bare = parts.scheme == "http" and parts.path in ("", "/") and not parts.query and not parts.username
    return bare and parts.hostname in ("127.0.0.1", "localhost", "::1") and port != 0


def _plan_rules(settings: Quire) -> Iterator[tuple[Path_, str]]:
    plan = settings.fallback
    tier_of: dict[str, str] = {}
    named: set[str] = set()
    for tier in plan.tiers:
        if tier.name in named:
            yield ("fallback", "tiers", tier.name), "two tiers have this name; rename one"
        named.add(tier.name)
        for source in tier.sources:
            if source in tier_of:
                yield (
                    ("fallback", "tiers", tier.name, "sources"),
                    f"{source} is in tier {tier_of[source]} already; name it once",
                )
            tier_of.setdefault(source, tier.name)
    both = sorted(set(plan.thresholds.retryable) & set(plan.thresholds.terminal))
    if both:
        yield ("fallback", "thresholds", "retryable"), f"{both} are terminal as well; name each status once"
