"""Strategies for what flows through quire: works, events, messages, batches; and for other structs.

``values_of(type)`` makes values of any type that msgspec knows, ``events_of(domain)`` a domain's events.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from hypothesis import strategies as st
from msgspec import inspect as kinds

from ..actors import messages as spoken
from ..errors import UsageError
from ..events.facts import AnyEvent
from ..events.job import State
from ..events.projections import EVERYTHING
from ..events.record import Batch, Recorded
from ..events.work import Work
from ..store.interface import Domain

__all__ = ["batches", "events", "events_of", "messages", "recorded", "values_of", "works"]

Strategy = st.SearchStrategy[Any]
INT_MIN, INT_MAX = -(2**31), 2**31
"""Integers whose type names no bounds; sums of many of them still fit what msgpack can hold."""
ITEMS_MAX = 3
"""Longest container, unless its type asks for more."""
NO_SURROGATES: tuple[Literal["Cs"]] = ("Cs",)
TEXT = st.text(st.characters(exclude_categories=NO_SURROGATES), max_size=20)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
LIST_IDS = st.sampled_from([EVERYTHING, "00000000000000a1", "00000000000000b2"])
TIMES_NS = st.integers(0, 2**62)
KNOWN_FIELDS: dict[str, Strategy] = {
    "list_id": LIST_IDS,
    "before": st.sampled_from([state.value for state in State]),
    "JobStateChanged.state": st.sampled_from([state.value for state in State]),
    "Outcome.state": st.sampled_from(["INDEXED", "DEDUPED", "SKIPPED_DUPLICATE", "FAILED"]),
    "lists": st.lists(LIST_IDS, min_size=1, max_size=3, unique=True).map(tuple),
    "job_id": HEX,
    "op_id": HEX,
    "sha256": HEX,
    "priority": st.integers(-(2**31), 2**31 - 1),
    "generation": st.integers(1, 9),
    "epoch": st.integers(0, 9),
    "attempt": st.integers(0, 99),
    "not_before_ns": TIMES_NS,
    "until_ns": TIMES_NS,
    "failures": st.integers(0, 99),
    "elapsed_ms": st.integers(0, 10**7),
    "bytes": st.integers(0, 2**40),
    "planned_at": st.integers(1, 2**40),
}
"""Fields of quire's own records whose type says less than their meaning: what no actor would write breaks
a projection and shows nothing."""


def values_of(kind: Any, fields: Mapping[str, Strategy] | None = None) -> Strategy:
    """Values of a type: structs, dataclasses, unions, literals, enums, containers and plain types.

    Args:
        kind: the type, as in an annotation.
        fields: ``field``, or ``Record.field`` → the strategy for it, in every record within.

    Raises:
        UsageError: a type that msgspec does not know; give a strategy for its field.
    """
    return _values(kinds.type_info(kind), dict(fields or {}))


def events_of(domain: Domain | Any, fields: Mapping[str, Strategy] | None = None) -> Strategy:
    """Events of a domain, or of a union of structs."""
    return values_of(domain.events if isinstance(domain, Domain) else domain, fields)


@cache
def works() -> st.SearchStrategy[Work]:
    """Works in normal form, with one identifier or several, or a title alone."""
    dois = st.integers(1, 999).map("10.1234/w{}".format)
    arxiv = st.integers(1, 999).map("1706.{:05d}".format)
    numbers = st.integers(1, 10**6).map(str)
    urls = st.integers(1, 99).map("https://papers.example/{}.pdf".format)
    whole = st.builds(
        Work,
        doi=dois | st.just(""),
        arxiv_id=arxiv | st.just(""),
        pmcid=numbers.map("PMC{}".format) | st.just(""),
        pmid=numbers | st.just(""),
        url=urls | st.just(""),
        title=TEXT,
    )
    return st.one_of(st.builds(Work, doi=dois), whole.filter(lambda work: bool(work.work_id)))


@cache
def events() -> Strategy:
    """Every event that quire's own log can hold."""
    return events_of(AnyEvent, _own())


@cache
def messages() -> Strategy:
    """Every message that the actors of a session tell each other."""
    named = [kind for _, kind in inspect.getmembers(spoken, inspect.isclass)]
    told = [kind for kind in named if issubclass(kind, spoken.Message) and kind is not spoken.Message]
    return st.one_of([values_of(kind, _own()) for kind in told])


def batches(events: Strategy, streams: Sequence[str]) -> st.SearchStrategy[Batch[Any]]:
    """Batches for some streams, with and without guards."""
    small = st.none() | st.integers(0, 5)
    return st.builds(
        Batch,
        stream=st.sampled_from(list(streams)),
        events=st.lists(events, min_size=1, max_size=ITEMS_MAX).map(tuple),
        expected_version=small,
        epoch=small,
        cause=st.integers(0, 9),
    )


def recorded(events: Strategy, stream: str) -> st.SearchStrategy[list[Recorded[Any]]]:
    """Events as they stand in the log, one after the other in one stream: what a fold is given."""

    def placed(drawn: list[Any]) -> list[Recorded[Any]]:
        return [
            Recorded(number, stream, number, 0, number * 10**9, "run", 0, event)
            for number, event in enumerate(drawn, 1)
        ]

    return st.lists(events, max_size=20).map(placed)


def _own() -> dict[str, Strategy]:
    return {**KNOWN_FIELDS, "work": works()}


def _values(kind: kinds.Type, fields: dict[str, Strategy]) -> Strategy:
    make = _MAKERS.get(type(kind))
    if make is None:
        raise UsageError(f"no values of {kind!r} are known: give a strategy for the field that has this type")
    return make(kind, fields)


def _integers(kind: Any, _: dict[str, Strategy]) -> Strategy:
    least = kind.ge if kind.gt is None else kind.gt + 1
    most = kind.le if kind.lt is None else kind.lt - 1
    if least is None:
        least = INT_MIN if most is None else min(INT_MIN, most)
    if most is None:
        most = max(INT_MAX, least)
    whole = st.integers(least, most)
    return whole if kind.multiple_of is None else whole.map(lambda n: n - n % kind.multiple_of)


def _floats(kind: Any, _: dict[str, Strategy]) -> Strategy:
    least, most = (kind.gt if kind.ge is None else kind.ge), (kind.lt if kind.le is None else kind.le)
    return st.floats(
        least,
        most,
        exclude_min=kind.gt is not None,
        exclude_max=kind.lt is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _texts(kind: Any, _: dict[str, Strategy]) -> Strategy:
    if kind.pattern is not None:
        return st.from_regex(kind.pattern)
    least = kind.min_length or 0
    most = kind.max_length or least + 20
    return st.text(st.characters(exclude_categories=NO_SURROGATES), min_size=least, max_size=most)


def _bytes(kind: Any, _: dict[str, Strategy]) -> Strategy:
    least = kind.min_length or 0
    return st.binary(min_size=least, max_size=kind.max_length or least + 20)


def _many(of: Callable[[list[Any]], Any]) -> Callable[[Any, dict[str, Strategy]], Strategy]:
    def make(kind: Any, fields: dict[str, Strategy]) -> Strategy:
        least = kind.min_length or 0
        most = kind.max_length or least + ITEMS_MAX
        unique = of in (set, frozenset)
        items = st.lists(_values(kind.item_type, fields), min_size=least, max_size=most, unique=unique)
        return items.map(of)

    return make


def _mapping(kind: Any, fields: dict[str, Strategy]) -> Strategy:
    least = kind.min_length or 0
    keys, values = _values(kind.key_type, fields), _values(kind.value_type, fields)
    return st.dictionaries(keys, values, min_size=least, max_size=kind.max_length or least + ITEMS_MAX)


def _record(kind: Any, fields: dict[str, Strategy]) -> Strategy:
    given = {}
    for field in kind.fields:
        known = fields.get(f"{kind.cls.__name__}.{field.name}", fields.get(field.name))
        given[field.name] = _values(field.type, fields) if known is None else known
    return st.builds(kind.cls, **given)


_MAKERS: dict[type, Callable[[Any, dict[str, Strategy]], Strategy]] = {
    kinds.AnyType: lambda _kind, _fields: st.none() | st.integers(0, 9) | TEXT,
    kinds.NoneType: lambda _kind, _fields: st.none(),
    kinds.BoolType: lambda _kind, _fields: st.booleans(),
    kinds.IntType: _integers,
    kinds.FloatType: _floats,
    kinds.StrType: _texts,
    kinds.BytesType: _bytes,
    kinds.EnumType: lambda kind, _fields: st.sampled_from(list(kind.cls)),
    kinds.LiteralType: lambda kind, _fields: st.sampled_from(list(kind.values)),
    kinds.UnionType: lambda kind, fields: st.one_of([_values(one, fields) for one in kind.types]),
    kinds.ListType: _many(list),
    kinds.SetType: _many(set),
    kinds.FrozenSetType: _many(frozenset),
    kinds.VarTupleType: _many(tuple),
    kinds.TupleType: lambda kind, fields: st.tuples(*[_values(one, fields) for one in kind.item_types]),
    kinds.DictType: _mapping,
    kinds.StructType: _record,
    kinds.DataclassType: _record,
}
"""Kind of type → how values of it are made."""
