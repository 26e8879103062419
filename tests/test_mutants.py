"""The seeded defects still apply, the runner tells killed from survived and broken; two are killed here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from quire.errors import UsageError
from quire.testing.mutants import MUTANTS, Mutant, Nursery
from quire.testing.mutants.__main__ import LEAST_SHARE, chosen, is_enough, main, report
from quire.testing.mutants.nursery import Result, place

ROOT = Path(__file__).resolve().parents[1]
AREAS = ("store", "leases", "ledger", "fallback", "finalizer")
"""What the list must be about, among others."""
QUICK = "tests/test_ledger.py"


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Nursery:
    return Nursery(ROOT, tmp_path_factory.mktemp("mutants"))


def mutant(**fields: object) -> Mutant:
    given = {"name": "m", "area": "a", "what": "w", "file": "events/keys.py", "tests": (QUICK,), **fields}
    return Mutant(**given)  # type: ignore[arg-type]


def test_every_defect_applies_and_can_be_compiled():
    """Its text stands in its file exactly once, what comes of it is Python, and its tests exist."""
    for one in MUTANTS:
        text = place((ROOT / one.file).read_text(encoding="utf-8"), one)
        compile(text, one.file, "exec")
        for test in one.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), one.name


def test_the_list_is_long_enough_and_names_each_defect_once():
    """At least 25, in each of the five rooms that the claim rests on; no name and no change stands twice."""
    counts = Counter(one.area for one in MUTANTS)
    assert len(MUTANTS) >= 100
    assert all(counts[area] >= 5 for area in AREAS)
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)
    assert len({(one.file, one.old, one.new) for one in MUTANTS}) == len(MUTANTS)
    assert not {one.area for one in MUTANTS} & {one.name for one in MUTANTS}


@pytest.mark.parametrize("name", ["final_not_memoised", "ops_out_of_order"])
def test_two_are_killed_here(nursery, name):
    """The runner puts them in place, their tests fail, and the copy is sound again afterwards."""
    (one,) = chosen([name])
    before = (nursery.root / one.file).read_bytes()
    result = nursery.run(one)
    assert (result.verdict, result.by.split("::")[0]) == ("killed", one.tests[0])
    assert (nursery.root / one.file).read_bytes() == before


def test_a_change_that_changes_nothing_survives(nursery):
    """The runner does not call dead what lives: only a failing test kills."""
    result = nursery.run(mutant(old="KEY_VERSION = 1", new="KEY_VERSION = 2 - 1"))
    assert result.verdict == "survived"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"old": "KEY_VERSION = 1", "new": "KEY_VERSION = "}, "cannot be compiled"),
        ({"old": "KEY_VERSION = 1", "new": "KEY_VERSION = nothing_of_that_name"}, "cannot be imported"),
        ({"old": "this stands nowhere", "new": ""}, "stands 0 times"),
        ({"old": "KEY_VERSION", "new": ""}, "times in events/keys.py, not once"),
        (
            {"old": "KEY_VERSION = 1", "new": "KEY_VERSION = 3", "tests": ("tests/test_none.py",)},
            "pytest ended with 4",
        ),
    ],
    ids=["no_python", "no_import", "nowhere", "twice", "no_tests"],
)
def test_what_cannot_be_tried_is_broken_and_not_killed(nursery, fields, said):
    """An import error kills nothing, nor do tests that are not there; the copy stays sound."""
    before = (nursery.root / "events" / "keys.py").read_bytes()
    result = nursery.run(mutant(**fields))
    assert result.verdict == "broken"
    assert said in result.by
    assert (nursery.root / "events" / "keys.py").read_bytes() == before


def test_a_share_below_the_least_or_a_broken_one_is_not_enough():
    """95 % of what was tried; nothing tried is nothing shown."""

    def results(killed: int, survived: int, broken: int = 0) -> list[Result]:
        verdicts = ["killed"] * killed + ["survived"] * survived + ["broken"] * broken
        return [Result(str(n), "a", "w", verdict, "") for n, verdict in enumerate(verdicts)]  # type: ignore[arg-type]

    assert LEAST_SHARE == 0.95
    assert is_enough(results(95, 5))
    assert not is_enough(results(94, 6))
    assert not is_enough(results(99, 0, 1))
    assert not is_enough([])


def test_the_command_names_the_defects_and_refuses_unknown_ones(capsys, tmp_path):
    """``--list`` runs none; an unknown name is a usage error; the sum and the code follow the share."""
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(MUTANTS)
    assert main(["--only", "no_such_thing"]) == 2
    assert "no mutant or area 'no_such_thing'" in capsys.readouterr().err
    killed = Result("keys_drift", "ledger", "w", "killed", "tests/test_keys.py::test_it", 1.5)
    assert report(iter([killed]), as_json=True) == 0
    assert report(iter([killed, msgspec.structs.replace(killed, verdict="survived")]), as_json=False) == 1
    result, total, *table = capsys.readouterr().out.splitlines()
    assert json.loads(result) == msgspec.to_builtins(killed)
    assert json.loads(total) == {"mutants": 1, "killed": 1, "share": 1.0}
    assert table[-1] == "1 of 2 killed"
    with pytest.raises(UsageError, match="holds no tests"):
        Nursery(tmp_path, tmp_path / "copy")
