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
from quire.testing.mutants.kit import KIT, kit_of
from quire.testing.mutants.nursery import Ran, Result, judge, place

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
    (killed,) = results(1, 0)
    by_kit = [msgspec.structs.replace(killed, kit="killed")] * 19
    assert is_enough([killed, *by_kit, msgspec.structs.replace(killed, kit="survived")])
    for verdict in ("survived", "timed out", "flaky"):
        assert not is_enough([killed, *by_kit, *[msgspec.structs.replace(killed, kit=verdict)] * 2])
    assert not is_enough([killed, msgspec.structs.replace(killed, kit="broken")])


FAILED = "FAILED tests/test_a.py::test_it[x y]"


@pytest.mark.parametrize(
    ("code", "said", "verdict"),
    [
        (1, f"{FAILED} - assert 1 == 2", "killed"),
        (1, "ERROR tests/test_a.py::test_it - quire.errors.DamagedError: no head", "killed"),
        (0, "1 passed", "survived"),
        (None, "the tests did not end", "timed out"),
        (1, f"{FAILED} - ImportError: cannot import name 'x'", "broken"),
        (1, f"{FAILED} - ModuleNotFoundError: No module named 'x'", "broken"),
        (1, f"{FAILED} - SyntaxError: invalid syntax", "broken"),
        (1, "ERROR tests/test_a.py - AttributeError: x", "broken"),
        (1, "ERROR tests/test_a.py::test_it", "broken"),
        (2, f"{FAILED} - assert 1 == 2", "broken"),
    ],
)
def test_only_a_test_that_fails_kills(code, said, verdict):
    """What hangs, cannot be collected or is not there says nothing of the promise."""
    found, by = judge(Ran(code, f"F\n=== short test summary info ===\n{said}\n1 failed\n"))
    assert found == verdict
    assert verdict != "killed" or by == said.split(" ", 1)[1].split(" - ")[0]


class Told(Nursery):
    """A nursery whose tests end as they are told to, in that order."""

    def __init__(self, *ran: Ran) -> None:
        self.ran, self.asked = list(ran), []

    def tests(self, tests, *, within_s=0.0):
        self.asked.append(list(tests))
        return self.ran.pop(0)


HUNG, PASSED, FELL = Ran(None, "hung"), Ran(0, ""), Ran(1, f"{FAILED} - assert 0\n")


@pytest.mark.parametrize(
    ("ran", "hangs", "verdict"),
    [
        ((HUNG, HUNG), False, "timed out"),
        ((HUNG, PASSED), False, "survived"),
        ((HUNG, FELL, FELL), False, "killed"),
        ((HUNG,), True, "killed"),
        ((FELL, FELL), False, "killed"),
        ((FELL, PASSED), False, "flaky"),
        ((FELL, HUNG), False, "killed"),
    ],
)
def test_a_time_out_and_a_failure_are_tried_once_more(ran, hangs, verdict):
    """A hang kills only where it was declared; a failure that does not come again is chance."""
    nursery = Told(*ran)
    assert nursery._tried(mutant(old="", new="", hangs=hangs), [QUICK])[0] == verdict
    assert nursery.ran == []
    assert FELL not in ran[:1] or nursery.asked[1] == ["tests/test_a.py::test_it[x y]"]


MUST = (
    "ack_before_commit", "version_unchecked", "fence_dropped", "read_off_by_one", "last_of_batch_lost",
    "put_false_ignored", "rename_before_fsync", "loser_not_cancelled", "budget_not_reserved",
    "final_not_memoised",
)  # fmt: skip


def test_the_kit_is_held_against_the_issues_list_and_each_area():
    """At least 25 of the five areas; each names checks that are there."""
    area = {one.name: one.area for one in MUTANTS}
    assert set(MUST) <= set(KIT) <= set(area)
    assert sum(area[name] in AREAS for name in KIT) >= 25
    assert {area[name] for name in KIT} >= set(AREAS)
    text = (ROOT / "tests" / "kit_checks.py").read_text()
    for name in KIT:
        for check in kit_of(name):
            assert f" {check.split('::')[1]}(" in text, name
    with pytest.raises(UsageError, match="no check of the kit"):
        kit_of("keys_drift")


def test_the_kit_alone_kills_one_here(nursery):
    """``--kit`` runs its checks and nothing else, and the verdict is theirs."""
    (one,) = chosen(["version_unchecked"])
    result = nursery.run(one, tests=False, kit=True)
    assert (result.verdict, result.kit, result.by) == ("killed", "killed", result.kit_by)
    assert result.by.startswith("tests/kit_checks.py::TestContract::")


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
    told = {"timed_out": 0, "flaky": 0, "broken": 0}
    kit = {"mutants": 0, "killed": 0, "share": 0.0, **told}
    assert json.loads(total) == {"mutants": 1, "killed": 1, "share": 1.0, **told, "kit": kit}
    assert table[-1] == "1 of 2 killed; by the kit alone 0 of 0"
    with pytest.raises(UsageError, match="holds no tests"):
        Nursery(tmp_path, tmp_path / "copy")
