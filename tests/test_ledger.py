"""The ledger of effects keeps what was begun, what became of it, and the order of both."""

from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from quire.events import ledger
from quire.events.facts import OpCode, OperationCompleted, OperationStarted, OpKind

DETERMINISTIC = msgspec.msgpack.Encoder(order="deterministic")
"""How the store packs a row: the order of a dict's keys is lost."""


def began(ops, op_id, kind="HEAD", version=1):
    return ledger.started(
        ops, OperationStarted(op_id, kind, {"url": "u"}), epoch=3, time_ns=9, version=version
    )


def stored(ops):
    return msgspec.msgpack.decode(DETERMINISTIC.encode(ops), type=ledger.Ops)


def test_recovery_rules_are_those_of_the_spec():
    """Each kind has its rule (SPEC 4): ask again, resume from the part, or look for the object."""
    assert set(ledger.RECOVERY) == set(get_args(OpKind))
    asked_again = {kind for kind, rule in ledger.RECOVERY.items() if rule == "again"}
    assert asked_again == {"RESOLUTION", "FALLBACK", "HEAD", "INDEX", "DEDUPE"}
    assert (ledger.RECOVERY["STREAM"], ledger.RECOVERY["FINALIZE"]) == ("resume_part", "find_object")


def test_which_codes_are_results():
    """OK and NON_RETRYABLE stand for good; a transient end is not a result."""
    assert set(get_args(OpCode)) - ledger.TERMINAL == {"RETRYABLE", "ABANDONED"}


def test_an_op_is_in_flight_until_its_end():
    """An intent without an end is in flight; with it the result is kept."""
    ops = began({}, "a")
    assert [op_id for op_id, _ in ledger.in_flight(ops)] == ["a"]
    assert ops["a"].epoch == 3
    ops = ledger.completed(ops, OperationCompleted("a", "HEAD", "OK", {"status": 200}))
    assert ledger.in_flight(ops) == []
    assert ops["a"].terminal
    assert ops["a"].result == {"status": 200}


def test_an_abandoned_op_is_opened_anew():
    """The same effect may be begun again: then it is in flight, without the old result, and the newest."""
    ops = began(began({}, "a", version=1), "b", version=2)
    ops = ledger.completed(ops, OperationCompleted("a", "HEAD", "ABANDONED", {"reason": "owner_gone"}))
    assert not ops["a"].terminal
    ops = began(ops, "a", version=3)
    assert ops["a"].in_flight
    assert ops["a"].result == {}
    assert [op_id for op_id, _ in ledger.in_flight(stored(ops))] == ["b", "a"]


def test_an_end_without_a_beginning_changes_nothing():
    """The end of an op of another generation finds no op and makes none."""
    assert ledger.completed({}, OperationCompleted("a", "HEAD", "OK", {})) == {}


@given(st.lists(st.tuples(st.sampled_from("zyxabc"), st.sampled_from(["HEAD", "STREAM"])), max_size=12))
def test_order_of_start_survives_the_store(begun):
    """Ops come in the order in which they were (last) begun, also after the row was stored."""
    ops = {}
    for version, (name, kind) in enumerate(begun, 1):
        ops = began(ops, kind + name, kind, version)
    newest = {kind + name: version for version, (name, kind) in enumerate(begun)}
    wanted = sorted(newest, key=newest.get)
    assert [op_id for op_id, _ in ledger.in_flight(stored(ops))] == wanted
    for kind in ("HEAD", "STREAM"):
        of_kind = [op_id for op_id, _ in ledger.of_kind(stored(ops), kind)]
        assert of_kind == [op_id for op_id in wanted if op_id.startswith(kind)]
