"""Settings as they were said: a tree whose nodes know where they stand, read from YAML with its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import UsageError

FILE_BYTES_MAX = 1 << 20
NODES_MAX = 20_000
"""Values in one file, aliases expanded; a nested-alias bomb ends here."""
DEPTH_MAX = 16
"""Levels of nesting in one file; a value that contains itself ends here."""

Path_ = tuple[str, ...]
"""The names that lead to a setting, from the outside in."""


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


class Node(NamedTuple):
    """A value and where it was said."""

    value: Any
    """A scalar, ``dict[str, Node]`` or ``list[Node]``."""
    origin: Origin


class Text(str):
    """A value from the environment: what it means depends on the setting's type."""


def read(file: Path) -> Node:
    """The tree of a settings file.

    Raises:
        UsageError: it cannot be read, is too large, or is no YAML; with the line.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read as settings: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise UsageError(f"{file}: {len(text)} bytes are too many for settings (at most {FILE_BYTES_MAX})")
    return parse(text, lambda line: Origin("file", str(file), line))


def parse(text: bytes | str, origin_at: Callable[[int], Origin]) -> Node:
    """The tree of a YAML text; ``origin_at`` gives the origin for a line, from 1."""
    import yaml  # not at import of the module: `quire --help` must not pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    seen = 0

    def convert(node: Any, line: int, depth: int = 0) -> Node:
        nonlocal seen
        seen += 1
        if seen > NODES_MAX or depth > DEPTH_MAX:
            raise UsageError(f"{origin_at(line)}: too many values, or nested too deep, for settings")
        if isinstance(node, yaml.ScalarNode):
            return Node(scalars.construct_object(node), origin_at(line))
        if isinstance(node, yaml.SequenceNode):
            items = [convert(item, item.start_mark.line + 1, depth + 1) for item in node.value]
            return Node(items, origin_at(line))
        entries: dict[str, Node] = {}
        for key, value in node.value:
            name, at = str(key.value), key.start_mark.line + 1
            if name in entries:
                raise UsageError(f"{origin_at(at)}: {name} is given twice (before: {entries[name].origin})")
            entries[name] = convert(value, at, depth + 1)
        return Node(entries, origin_at(line))

    def check_depth(events: Iterable[Any]) -> None:
        depth = 0  # before composing, whose time grows with the square of the depth
        for event in events:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_MAX + 1:
                raise UsageError(f"{origin_at(event.start_mark.line + 1)}: nested too deep for settings")

    try:
        scalars = yaml.constructor.SafeConstructor()
        check_depth(yaml.parse(text, Loader=loader))
        root = yaml.compose(text, Loader=loader)
        return Node({}, origin_at(1)) if root is None else convert(root, root.start_mark.line + 1)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        if mark is not None and _char_at(text, mark.line, mark.column) == "\t":
            what = "a tab stands where YAML wants spaces"
        raise UsageError(f"{origin_at(mark.line + 1 if mark else 1)}: not YAML: {what}") from error


def _char_at(text: bytes | str, line: int, column: int) -> str:
    lines = (text if isinstance(text, str) else text.decode(errors="replace")).split("\n")
    return lines[line][column : column + 1] if line < len(lines) else ""


def plain(node: Any) -> Any:
    """The values of a tree without their origins."""
    value = node.value if isinstance(node, Node) else node
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list) else value


def leaves_of(node: Node, path: Path_) -> Iterator[tuple[str, Node]]:
    """Each single value below a node with its dotted path; items of a list go by their ``name``."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from leaves_of(child, (*path, key))
    elif isinstance(node.value, list):
        for child in node.value:
            yield from leaves_of(child, (*path, str(child.value["name"].value)))
    else:
        yield ".".join(path), node
