"""``python -m quire.testing.mutants``: put each defect in place and see whether its tests notice.

It is run from a checkout. 0 when at least 95 % are killed, 1 when fewer are or one is broken; the same of
those that the checks of the test kit are held against (``kit.KIT``), by these alone. ``--kit`` tries nothing
else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ...actors.runtime.ports import NANOSECONDS, SystemClock
from ...errors import QuireError, UsageError
from .catalogue import MUTANTS
from .kit import KIT, KIT_FILE
from .mutant import Mutant
from .nursery import BASELINE_S, Nursery, Result

LEAST_SHARE = 0.95
"""Least share of the defects that the tests must kill."""
ROOT = Path(__file__).resolve().parents[2]


def run(
    mutants: Sequence[Mutant], source: Path = ROOT, *, baseline: bool = True, kit_alone: bool = False
) -> Iterator[Result]:
    """Try each defect in turn.

    Args:
        mutants: the defects.
        source: the checkout.
        baseline: first run all their tests without any defect: tests that fail anyway would kill everything.
        kit_alone: try each with its checks of the kit only; it must have some.

    Raises:
        UsageError: the tests fail without a defect.
    """
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="quire-mutants-") as folder:
        nursery = Nursery(source, Path(folder))
        if baseline:
            named = () if kit_alone else {test for mutant in mutants for test in mutant.tests}
            kit = [KIT_FILE] if any(mutant.name in KIT for mutant in mutants) else []
            ran = nursery.tests([*sorted(named), *kit], within_s=BASELINE_S)
            if ran.code != 0:
                raise UsageError(f"the tests do not pass without a defect: {ran.said[-600:]}")
        for mutant in mutants:
            begun_ns = clock.boot_ns()
            result = nursery.run(mutant, tests=not kit_alone, kit=mutant.name in KIT)
            seconds = round((clock.boot_ns() - begun_ns) / NANOSECONDS, 1)
            yield msgspec.structs.replace(result, seconds=seconds)


def chosen(only: Sequence[str]) -> list[Mutant]:
    """The defects of these names or areas; all of them when none is named.

    Raises:
        UsageError: there is no such name or area.
    """
    known = {mutant.name for mutant in MUTANTS} | {mutant.area for mutant in MUTANTS}
    unknown = sorted(set(only) - known)
    if unknown:
        raise UsageError(f"no mutant or area {unknown[0]!r}; `--list` names them")
    return [mutant for mutant in MUTANTS if not only or mutant.name in only or mutant.area in only]


def is_enough(results: Sequence[Result]) -> bool:
    """Whether so many were killed as must be, by the tests and by the kit, and none is broken."""
    columns = [[one.verdict for one in results], [one.kit for one in results if one.kit]]
    if any("broken" in column for column in columns) or not results:
        return False
    return all(column.count("killed") >= LEAST_SHARE * len(column) for column in columns)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m quire.testing.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a mutant or an area")
    parser.add_argument("--json", action="store_true", help="a JSON object a line, then one with the sum")
    parser.add_argument("--list", action="store_true", help="name the mutants and run none")
    parser.add_argument("--kit", action="store_true", help="those that the kit is held against, by it alone")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not run the tests without a defect first"
    )
    options = parser.parse_args(arguments)
    try:
        mutants = [one for one in chosen(options.only) if one.name in KIT or not options.kit]
        if options.list:
            print("\n".join(f"{one.name:<40} {one.area:<9} {one.what}" for one in mutants))
            return 0
        results = run(mutants, baseline=not options.no_baseline, kit_alone=options.kit)
        return report(results, as_json=options.json)
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def report(results: Iterator[Result], *, as_json: bool) -> int:
    """Print each result as it comes, then the sum of both columns; the exit code."""
    found = []
    for result in results:
        found.append(result)
        print(msgspec.json.encode(result).decode() if as_json else _line(result), flush=True)
    total = {**_sum([one.verdict for one in found]), "kit": _sum([one.kit for one in found if one.kit])}
    print(msgspec.json.encode(total).decode() if as_json else _words(found))
    return 0 if is_enough(found) else 1


def _line(result: Result) -> str:
    kit = f"  kit: {result.kit} {result.kit_by}" if result.kit else ""
    return f"{result.verdict:<9} {result.name:<40} {result.area:<9} {result.seconds:>5} s  {result.by}{kit}"


def _sum(verdicts: Sequence[str]) -> dict[str, object]:
    killed = verdicts.count("killed")
    others = {name.replace(" ", "_"): verdicts.count(name) for name in ("timed out", "flaky", "broken")}
    share = round(killed / max(1, len(verdicts)), 4)
    return {"mutants": len(verdicts), "killed": killed, "share": share, **others}


def _words(found: Sequence[Result]) -> str:
    killed = sum(result.verdict == "killed" for result in found)
    kit = [result.kit for result in found if result.kit]
    return f"{killed} of {len(found)} killed; by the kit alone {kit.count('killed')} of {len(kit)}"


if __name__ == "__main__":
    sys.exit(main())
