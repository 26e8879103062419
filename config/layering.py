"""Laying one layer of settings over another, each value checked against the records of ``settings.py``."""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from .documents import Node, Path_, Text, parse, plain

Problems = list[str]


def lay(kind: Any, below: Node | None, said: Node, path: Path_, problems: Problems) -> Node:
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


def _structured(said: Node) -> Node:
    return parse(str(said.value), lambda _line: said.origin) if isinstance(said.value, Text) else said


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], field.required) for field in msgspec.structs.fields(kind)}


def _lay_record(
    kind: type[msgspec.Struct], below: Node | None, said: Node, path: Path_, problems: Problems
) -> Node:
    fields = _fields(kind)
    held: dict[str, Node] = dict(below.value) if below else {}
    if not isinstance(said.value, dict):
        problems.append(f"{said.origin}: {_name(path)}: expected settings by name: {', '.join(fields)}")
        return below or Node(held, said.origin)
    for key, child in said.value.items():
        if key in fields:
            held[key] = lay(fields[key][0], held.get(key), child, (*path, key), problems)
        else:
            hint = _variable_meant(kind, key, child, path) or _nearest(key, fields)
            problems.append(f"{child.origin}: {_name((*path, key))}: no such setting; {hint}")
    missing = [name for name, (_, required) in fields.items() if required and name not in held]
    if missing:
        problems.append(f"{said.origin}: {_name(path)}: {', '.join(missing)} must be given as well")
    order = [name for name in fields if name in held]
    return Node({name: held[name] for name in order}, said.origin if below is None else below.origin)


def _variable_meant(kind: type[msgspec.Struct], key: str, said: Node, path: Path_) -> str:
    """For a variable with one underscore where levels are parted by two: its right name, else ``""``."""
    if said.origin.kind != "environment":
        return ""
    words = said.origin.where.split("__")
    found = next((names for names in _paths(kind) if "_".join(names) == key), None)
    if found is None:
        return ""
    start = words[0].partition("_")[0] + "_"
    named = [*(name.upper() for name in (*path, *found)), *words[len(path) + 1 :]]
    return f"did you mean {start}{'__'.join(named)}? (two underscores between levels)"


def _paths(kind: type[msgspec.Struct]) -> Iterator[Path_]:
    """The names of all settings below a record, level by level."""
    for name, (inner, _) in _fields(kind).items():
        yield (name,)
        if _is_record(inner):
            yield from ((name, *rest) for rest in _paths(inner))


def _lay_table(
    kinds: tuple[Any, ...], below: Node | None, said: Node, path: Path_, problems: Problems
) -> Node:
    names = typing.get_args(kinds[0]) if typing.get_origin(kinds[0]) is Literal else ()
    held: dict[str, Node] = dict(below.value) if below else {}
    if not isinstance(said.value, dict):
        problems.append(f"{said.origin}: {_name(path)}: expected a table of names and values")
        return below or Node(held, said.origin)
    for key, child in said.value.items():
        if names and key not in names:
            problems.append(f"{child.origin}: {_name((*path, key))}: no such name; {_nearest(key, names)}")
        else:
            held[key] = lay(kinds[1], held.get(key), child, (*path, key), problems)
    return Node(held, said.origin if below is None else below.origin)


def _lay_list(item: Any, below: Node | None, said: Node, path: Path_, problems: Problems) -> Node:
    """A list replaces the list below; a table changes items of the list below by their ``name``."""
    if isinstance(said.value, list):
        items = [lay(item, None, child, (*path, str(at)), problems) for at, child in enumerate(said.value)]
        return Node(items, said.origin)
    held = list(below.value) if below else []
    at = {str(node.value["name"].value): index for index, node in enumerate(held)}
    if not isinstance(said.value, dict):
        problems.append(f"{said.origin}: {_name(path)}: expected a list")
        return below or Node(held, said.origin)
    for key, child in said.value.items():
        if key in at:
            held[at[key]] = lay(item, held[at[key]], child, (*path, key), problems)
        else:
            problems.append(f"{child.origin}: {_name((*path, key))}: no such name; {_nearest(key, at)}")
    return Node(held, below.origin if below else said.origin)


def _lay_leaf(kind: Any, below: Node | None, said: Node, path: Path_, problems: Problems) -> Node:
    try:
        value = msgspec.convert(plain(_meant(kind, said)), kind)
    except msgspec.ValidationError as error:
        default = f" (now: {msgspec.json.encode(plain(below)).decode()})" if below else ""
        shown = msgspec.json.encode(plain(said), enc_hook=str).decode()[:80]
        problems.append(f"{said.origin}: {_name(path)}: {shown}: {_right(kind, said.value, error)}{default}")
        return below or said
    return Node(value, said.origin)


def _right(kind: Any, value: Any, error: msgspec.ValidationError) -> str:
    kinds = list(_within(kind))
    choices = next((typing.get_args(k) for k in kinds if typing.get_origin(k) is Literal), ())
    if choices and any(typing.get_origin(k) is tuple for k in kinds):
        return ("one of: " if isinstance(value, list) else "expected a list of: ") + ", ".join(choices)
    return _nearest(str(value), choices) if choices else str(error).split(" - at ")[0].lower()


def _within(kind: Any) -> Iterator[Any]:
    """A type and those that it is made of."""
    yield kind
    if typing.get_origin(kind) is not Literal:
        for inner in typing.get_args(kind):
            yield from _within(inner)


def _meant(kind: Any, said: Node) -> Node:
    """A value as the setting's type wants it: a text from the environment, and the word ``off``."""
    if said.value is False and "off" in typing.get_args(kind):
        return Node("off", said.origin)  # YAML 1.1 takes a bare `off` for a boolean
    if not isinstance(said.value, Text):
        return said
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    if kind is str or (optional and str in typing.get_args(kind)):
        return Node(None if optional and said.value in ("", "null") else str(said.value), said.origin)
    parsed = _structured(said)
    if typing.get_origin(kind) is tuple and not isinstance(parsed.value, list):
        texts = [text.strip() for text in said.value.split(",") if text.strip()]
        parsed = Node([_structured(Node(Text(text), said.origin)) for text in texts], said.origin)
    return _meant(kind, parsed)


def _name(path: Path_) -> str:
    return ".".join(path) or "the settings"


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else "one of: " + ", ".join(known)
