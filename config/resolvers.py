"""Sources that the user makes: read, checked, named ``custom:…``, given a tier and a policy.

They are woven into the tree of settings, each below whatever the user says of it, so that all who read tiers,
policies and ``disabled`` meet them as they meet the seven.
"""

from __future__ import annotations

import functools
import re
import typing
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from ..errors import UsageError
from .documents import Node, Origin, Path_, Text, parse, read
from .json_path import steps_of
from .layering import Problems, lay
from .settings import SOURCES, Fallback, Policy, Quire, Resolver, Settings, Tier

KEY = "resolvers"
"""The setting."""
PREFIX = "custom:"
"""What the name of a user's source starts with."""
TIER = "custom"
"""The tier of those that no tier names."""
TIER_PARALLEL = 2
BEFORE = "archive"
"""The tier before which that one stands."""
POLICY: dict[str, Any] = {"retries_max": 2, "robots_respect": True}
"""Of a source that the settings name no policy for; its time is ``budgets.per_source_timeout_ms``."""
RESOLVERS_MAX = 16
NAME_CHARS_MAX = 40
SELECTOR_CHARS_MAX = 1000
PLACEHOLDERS = {"doi": "doi", "pmid": "pmid", "pmcid": "pmcid", "arxiv": "arxiv_id"}
"""What may stand in braces in a resolver's URL → the field of a work."""
PLACEHOLDER = re.compile(r"\{(\w*)\}")

_KNOWN = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)


def source_name(name: str) -> str:
    """``custom:`` and the resolver's name in lower case, with a hyphen for what is no letter or digit.

    ``My Paper Source`` is ``custom:my-paper-source``; ``custom:`` alone for a name without either.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return PREFIX + re.sub(r"[\W_]+", "-", plain)[:NAME_CHARS_MAX].strip("-")


# What settings may say


@functools.cache
def record_of(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """``Quire`` with the names of the sources spelt out, so that a slip of the pen is told the right one."""
    name: Any = Literal[(*SOURCES, *names)]
    tier: Any = _with(Tier, sources=tuple[name, ...])
    plan: Any = _with(
        Fallback, tiers=tuple[tier, ...], policies=dict[name, Policy], disabled=tuple[name, ...]
    )
    return _with(Quire, fallback=plan)


def _with(kind: type[msgspec.Struct], **instead: Any) -> type[msgspec.Struct]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = [
        (field.name, instead.get(field.name, hints[field.name])) for field in msgspec.structs.fields(kind)
    ]
    return msgspec.defstruct(
        kind.__name__, fields, bases=(Settings,), frozen=True, kw_only=True, forbid_unknown_fields=True
    )


# From layers to the tree


def taken_in(tree: Node, layers: Iterable[Node], problems: Problems) -> tuple[Node, tuple[str, ...]]:
    """The tree with the resolvers of all layers, their policies and their tier, and the sources' names."""
    held = tree.value[KEY]
    for layer in layers:
        if isinstance(layer.value, dict) and KEY in layer.value:
            held = lay(tuple[Resolver, ...], held, _listed(layer.value[KEY]), (KEY,), problems)
    names = tuple(dict.fromkeys(source for source, _ in _sources(held)))
    tree = tree._replace(value={**tree.value, KEY: held})
    return (_changed(tree, lambda plan: _below(plan, names, held.origin)) if names else tree), names


def without(layer: Node) -> Node:
    """A layer without what it says of resolvers, which ``taken_in`` has read."""
    if not isinstance(layer.value, dict):
        return layer
    return layer._replace(value={key: node for key, node in layer.value.items() if key != KEY})


def settled(tree: Node) -> Node:
    """The tree with each resolver in a tier, once, and those disabled that are not automatic."""
    held = tree.value[KEY]
    sources = list(_sources(held))
    if not sources:
        return tree
    names = tuple(dict.fromkeys(source for source, _ in sources))
    return _changed(
        _changed(tree, lambda plan: _placed(plan, names, held.origin)), lambda p: _shut(p, sources)
    )


def _changed(tree: Node, change: typing.Callable[[dict[str, Node]], dict[str, Node]]) -> Node:
    plan: Node = tree.value["fallback"]
    return tree._replace(value={**tree.value, "fallback": plan._replace(value=change(plan.value))})


def _sources(held: Node) -> Iterator[tuple[str, Node]]:
    """Name and record of each resolver that has a name to go by."""
    for node in held.value:
        said = node.value.get("name")
        name = source_name(said.value) if said and isinstance(said.value, str) else PREFIX
        if name != PREFIX:
            yield name, node


def _listed(said: Node) -> Node:
    """The list of resolvers that a layer gives: itself, one alone, or the file that it names (JSON is YAML).

    Raises:
        UsageError: the file cannot be read.
    """
    if isinstance(said.value, Text):
        said = parse(str(said.value), lambda _line: said.origin)
    if isinstance(said.value, str):
        beside = Path(said.origin.where).parent if said.origin.kind == "file" else Path()
        file = beside / Path(said.value).expanduser()
        if not file.is_file():
            raise UsageError(
                f"{said.origin}: {KEY}: {file} is no file; give a list, or the name of a file of one"
            )
        said = read(file)
    alone = isinstance(said.value, dict) and "url" in said.value
    return Node([said], said.origin) if alone else said


def _below(plan: dict[str, Node], names: Sequence[str], origin: Origin) -> dict[str, Node]:
    """The plan with what layers may change: a policy for each, and the empty tier."""
    policy = Node({key: Node(value, origin) for key, value in POLICY.items()}, origin)
    policies = {**plan["policies"].value, **dict.fromkeys(names, policy)}
    tiers = _with_tier(plan["tiers"].value, origin)
    return {
        **plan,
        "policies": plan["policies"]._replace(value=policies),
        "tiers": plan["tiers"]._replace(value=tiers),
    }


def _with_tier(tiers: Sequence[Node], origin: Origin) -> list[Node]:
    """The tiers and the one of resolvers among them, before the archive or at the end."""
    names = [tier.value["name"].value for tier in tiers]
    if TIER in names:
        return list(tiers)
    said = {"name": TIER, "parallel": TIER_PARALLEL, "sources": ()}
    at = names.index(BEFORE) if BEFORE in names else len(names)
    return [*tiers[:at], Node({key: Node(value, origin) for key, value in said.items()}, origin), *tiers[at:]]


def _placed(plan: dict[str, Node], names: Sequence[str], origin: Origin) -> dict[str, Node]:
    """The plan with the resolvers that no tier names in their tier, which goes where it has none."""
    named = {source for tier in plan["tiers"].value for source in tier.value["sources"].value}
    left = tuple(name for name in names if name not in named)
    tiers = []
    for tier in _with_tier(plan["tiers"].value, origin):
        if tier.value["name"].value == TIER:
            sources = tier.value["sources"]
            tier = tier._replace(
                value={**tier.value, "sources": sources._replace(value=sources.value + left)}
            )
        if tier.value["name"].value != TIER or tier.value["sources"].value:
            tiers.append(tier)
    return {**plan, "tiers": plan["tiers"]._replace(value=tiers)}


def _shut(plan: dict[str, Node], sources: Iterable[tuple[str, Node]]) -> dict[str, Node]:
    disabled = plan["disabled"]
    for name, node in sources:
        said = node.value.get("automatic")
        if said is not None and said.value is False and name not in disabled.value:
            where = f"automatic: false ({said.origin})"
            disabled = Node((*disabled.value, name), Origin(said.origin.kind, where))
    return {**plan, "disabled": disabled}


# What the types alone cannot refuse


def broken_resolvers(resolvers: Sequence[Resolver]) -> Iterator[tuple[Path_, str]]:
    """The setting and what is wrong, for each resolver that cannot be asked or read."""
    if len(resolvers) > RESOLVERS_MAX:
        yield (KEY,), f"{len(resolvers)} are too many (at most {RESOLVERS_MAX})"
        return
    named: dict[str, str] = {}
    for resolver in resolvers:
        source = source_name(resolver.name)
        checks = (("name", _wrong_name(resolver.name, named.get(source))), *_wrong(resolver))
        yield from (((KEY, resolver.name, key), wrong) for key, wrong in checks if wrong)
        named.setdefault(source, resolver.name)


def _wrong_name(name: str, before: str | None) -> str:
    source = source_name(name)
    if source == PREFIX:
        return f"{name!r} has no letter or digit to name a source by"
    if source.removeprefix(PREFIX).replace("-", "_") in SOURCES:
        return f"{name!r} is the name of a built-in source; give it another"
    if before is not None:
        return f"{name!r} and {before!r} are both {source}; rename one"
    return ""


def _wrong(resolver: Resolver) -> Iterator[tuple[str, str]]:
    if resolver.method.upper() != "GET":
        yield "method", f"{resolver.method!r} is not possible: quire asks by GET alone"
    yield "url", _wrong_url(resolver.url)
    in_html = resolver.mode == "html"
    yield "selector", (_wrong_css if in_html else _wrong_path)(resolver.selector)
    if in_html and (resolver.mappings.url or resolver.mappings.pageURL):
        yield "mappings", "is for mode json; for html give attribute"
    if not in_html and resolver.attribute:
        yield "attribute", "is for mode html; for json end the selector with the name of the value"
    if not in_html and resolver.index:
        yield "index", f"is for mode html; for json write [{resolver.index}] in the selector"
    for path in (resolver.mappings.url, resolver.mappings.pageURL):
        if path:
            yield "mappings", _wrong_path(path)


def _wrong_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme.lower() in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", url):
        return f"{url!r} must be an http:// or https:// address, such as https://host.org/{{doi}}"
    if "@" in parts.netloc:
        return f"{url!r} holds a user name or password, which quire sends nowhere"
    unknown = next((name for name in PLACEHOLDER.findall(url) if name not in PLACEHOLDERS), None)
    if unknown is not None:
        return f"{{{unknown}}} is not known; one of {_KNOWN}"
    if PLACEHOLDER.search(parts.netloc):
        return f"{url!r}: a placeholder may stand in the path or the query, not in the host"
    if not PLACEHOLDER.search(f"{parts.path}?{parts.query}"):
        return f"{url!r} asks the same for every work: its path or query must name one of {_KNOWN}"
    return ""


def _wrong_css(selector: str) -> str:
    import cssselect  # only who has made a resolver pays for it

    if len(selector) > SELECTOR_CHARS_MAX:
        return f"{len(selector)} characters are too many (at most {SELECTOR_CHARS_MAX})"
    try:
        if any(one.pseudo_element for one in cssselect.parse(selector)):
            return f"{selector!r} names a pseudo-element; give the attribute as `attribute`"
        cssselect.HTMLTranslator().css_to_xpath(selector)
    except (cssselect.SelectorError, RecursionError, ValueError) as error:
        return f"{selector!r} is no CSS selector: {error}"
    return ""


def _wrong_path(path: str) -> str:
    if len(path) > SELECTOR_CHARS_MAX:
        return f"{len(path)} characters are too many (at most {SELECTOR_CHARS_MAX})"
    try:
        steps_of(path)
    except ValueError as error:
        return f'{path!r} {error}; a path is names joined by dots, with [0], [-1], ["a name"] and *'
    return ""
