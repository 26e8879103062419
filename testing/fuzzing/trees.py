"""Damage to trees (JSON, YAML, msgpack): values of other types, keys gone, renamed or doubled, deep nests."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import msgspec

from . import odd

DESCENT_MAX = 12
"""Levels walked down to the place that is changed."""


def _value(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(odd.VALUES))  # the tree is changed in place, and the table must not be


def _place(tree: Any, chance: random.Random) -> tuple[Any, Any] | None:
    """A container somewhere in a tree, and a key or index of it."""
    found = None
    for _ in range(DESCENT_MAX):
        if not isinstance(tree, dict | list) or not tree:
            break
        key = chance.choice(list(tree)) if isinstance(tree, dict) else chance.randrange(len(tree))
        found = (tree, key)
        tree = tree[key]
        if chance.random() < 0.2:
            break
    return found


def _changed(tree: Any, chance: random.Random) -> Any:
    found = _place(tree, chance)
    if found is None:
        return _value(chance)
    holder, key = found
    kind = chance.random()
    if kind < 0.55:
        holder[key] = _value(chance)
    elif kind < 0.7:
        del holder[key]
    elif kind < 0.8 and isinstance(holder, dict):
        holder[chance.choice((str(key).upper(), f"{key}s", "", "\x00", 'a"b'))] = holder.pop(key)
    elif kind < 0.9:
        # What holds more is at most doubled: a few changes in a row must not make a bomb of our own.
        times = (0, 1, 2) if isinstance(holder[key], dict | list) else (0, 1, 2, 300)
        holder[key] = [holder[key]] * chance.choice(times)
    else:
        other = _place(tree, chance)
        holder[key] = {"of": other[0][other[1]]} if other else None
    return tree


def stirred_tree(tree: Any, chance: random.Random) -> Any:
    """The tree after a few changes; it is changed in place."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        tree = _changed(tree, chance)
        if chance.random() < 0.02:
            tree = _value(chance)
    return tree


def _doubled_key(text: str, chance: random.Random) -> str:
    """The text with one key a second time, with another value."""
    place = text.find('{"', chance.randint(0, len(text)))
    if place < 0:
        return text
    key = text[place + 1 : text.find('"', place + 2) + 1]
    return f"{text[: place + 1]}{key}: {json.dumps(chance.choice(odd.VALUES[:30]))}, {text[place + 1 :]}"


def written(tree: Any, chance: random.Random) -> str:
    """A tree as JSON, with what JSON's own writer would refuse."""
    try:
        text = json.dumps(tree, ensure_ascii=chance.random() < 0.7)
    except (ValueError, RecursionError):
        return '{"a": '
    if chance.random() < 0.1:
        text = _doubled_key(text, chance)
    depth, digits = chance.choice(odd.NEST_DEPTHS), chance.choice(odd.HUGE_DIGITS)
    nest = chance.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth))
    return text.replace(json.dumps(odd.NEST), nest).replace(json.dumps(odd.HUGE), "7" * digits)


def json_stirred(raw: bytes, chance: random.Random) -> bytes | None:
    """A JSON body after changes to its tree; None where it is none."""
    try:
        tree = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return written(stirred_tree(tree, chance), chance).encode("utf-8", "surrogatepass")


def msgpack_stirred(raw: bytes, chance: random.Random) -> bytes | None:
    """A msgpack body after changes to its tree; None where it is none, or cannot be written again."""
    try:
        return msgspec.msgpack.encode(stirred_tree(msgspec.msgpack.decode(raw), chance))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return None
