"""The campaign: damage one library again and again, one change at a time, and hold the audit to its word."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec

from ...store.audit import Report
from .specimen import Specimen
from .ways import WAYS, Change

MISSED_SHOWN = 20
TOLD_EVERY = 500


def missed(change: Change, report: Report, *, same: bool) -> str:
    """Why the audit did not do its work; ``""`` when it did.

    Args:
        change: what was done.
        report: what the audit says.
        same: nothing that can be read of the log has changed.
    """
    if report.ok:
        return "" if change.blind and same else "not found"
    if change.path and change.path not in [found.path for found in report.problems]:
        return f"named {report.problems[0].path or report.problems[0].kind} instead of {change.path}"
    placed = [found.position for found in report.problems if found.position]
    if change.positions and (not placed or placed[0] not in change.positions):
        return f"named position {placed[:1]} instead of {change.positions}"
    return ""


class Tally(msgspec.Struct):
    """What a campaign came to."""

    tampers: int = 0
    found: int = 0
    harmless: int = 0
    """Changes at random places of the log's file that changed nothing of what can be read of it."""
    by_kind: dict[str, int] = {}
    """What was done, and how often."""
    missed: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether every change that changed anything was found, and where it was made."""
        return not self.missed and self.found + self.harmless == self.tampers


def campaign(folder: Path, *, tampers: int, seed: int) -> Tally:
    """Damage one library so many times, one change at a time."""
    it, chance, tally = Specimen(folder), random.Random(seed), Tally()
    kinds: Counter[str] = Counter()
    ways, weights = zip(*WAYS, strict=True)
    for number in range(1, tampers + 1):
        it.restore()
        change = chance.choices(ways, weights)[0](it, chance)
        try:
            report, same = it.audited()
            why = missed(change, report, same=same)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no finding
            report, why = Report(), f"the audit ended with {error!r:.200}"
        tally.tampers += 1
        tally.found += not report.ok and not why
        tally.harmless += report.ok and not why
        kinds[change.what] += 1
        if why and len(tally.missed) < MISSED_SHOWN:
            tally.missed.append(f"tamper {number}, {change.what}: {why}")
        if number % TOLD_EVERY == 0:
            sys.stderr.write(f"{number} tampers, {tally.found} found, {len(tally.missed)} missed\n")
    tally.by_kind = dict(kinds)
    return tally


def main(argv: list[str] | None = None) -> int:
    """Run a campaign and print what it came to."""
    parser = argparse.ArgumentParser(
        prog="python -m quire.testing.tamper", description="Damage a library, and audit it."
    )
    parser.add_argument("--tampers", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        tally = campaign(Path(folder), tampers=args.tampers, seed=args.seed)
    sys.stdout.write(msgspec.json.encode(tally).decode() + "\n")
    return 0 if tally.ok else 1
