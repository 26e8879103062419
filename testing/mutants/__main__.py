"""``python -m quire.testing.mutants``: put each defect in place and see whether its tests notice.

It is run from a checkout. 0 when at least 95 % are killed, 1 when fewer are or one is broken.
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
from .mutant import Mutant
from .nursery import Nursery, Result

LEAST_SHARE = 0.95
"""Least share of the defects that the tests must kill."""
ROOT = Path(__file__).resolve().parents[2]


def run(mutants: Sequence[Mutant], source: Path = ROOT, *, baseline: bool = True) -> Iterator[Result]:
    """Try each defect in turn.

    Args:
        mutants: the defects.
        source: the checkout.
        baseline: first run all their tests without any defect: tests that fail anyway would kill everything.

    Raises:
        UsageError: the tests fail without a defect.
    """
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="quire-mutants-") as folder:
        nursery = Nursery(source, Path(folder))
        if baseline:
            ran = nursery.tests(sorted({test for mutant in mutants for test in mutant.tests}))
            if ran.code != 0:
                raise UsageError(f"the tests do not pass without a defect: {ran.said[-600:]}")
        for mutant in mutants:
            begun_ns = clock.boot_ns()
            result = nursery.run(mutant)
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
    """Whether so many were killed as must be, and none is broken."""
    killed = sum(result.verdict == "killed" for result in results)
    broken = any(result.verdict == "broken" for result in results)
    return bool(results) and not broken and killed >= LEAST_SHARE * len(results)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m quire.testing.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a mutant or an area")
    parser.add_argument("--json", action="store_true", help="a JSON object a line, then one with the sum")
    parser.add_argument("--list", action="store_true", help="name the mutants and run none")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not run the tests without a defect first"
    )
    options = parser.parse_args(arguments)
    try:
        mutants = chosen(options.only)
        if options.list:
            print("\n".join(f"{one.name:<40} {one.area:<9} {one.what}" for one in mutants))
            return 0
        return report(run(mutants, baseline=not options.no_baseline), as_json=options.json)
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def report(results: Iterator[Result], *, as_json: bool) -> int:
    """Print each result as it comes, then the sum; the exit code."""
    found = []
    for result in results:
        found.append(result)
        line = f"{result.verdict:<9} {result.name:<40} {result.area:<9} {result.seconds:>5} s  {result.by}"
        print(msgspec.json.encode(result).decode() if as_json else line, flush=True)
    killed = sum(result.verdict == "killed" for result in found)
    total = {"mutants": len(found), "killed": killed, "share": round(killed / max(1, len(found)), 4)}
    print(msgspec.json.encode(total).decode() if as_json else f"{killed} of {len(found)} killed")
    return 0 if is_enough(found) else 1


if __name__ == "__main__":
    sys.exit(main())
