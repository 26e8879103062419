"""``python -m quire.testing.disk syscalls|session|powerloss|full``: a campaign; exit code 1 if it failed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from . import full, powerloss, session, shim, syscalls
from .runs import Runs

CONTROL_IMAGES = 500
SHOWN_MAX = 20


class Figures(Protocol):
    """What a campaign came to."""

    violations: list[str]

    @property
    def ok(self) -> bool:
        """Whether no promise was broken, and something was tried."""
        ...


def _syscalls(runs: Runs, folder: Path, seed: int, count: int | None) -> Figures:
    return syscalls.campaign(runs, folder, seed=seed, count=count)


def _session(runs: Runs, folder: Path, seed: int, count: int | None) -> Figures:
    return session.campaign(runs, folder, seed=seed, count=count)


def _full(runs: Runs, folder: Path, seed: int, count: int | None) -> Figures:
    return full.campaign(runs, folder, seed=seed, count=count)


def _powerloss(runs: Runs, folder: Path, seed: int, count: int | None) -> Figures:
    images = powerloss.IMAGES if count is None else count
    tally = powerloss.campaign(runs, folder, count=images, seed=seed)
    tally.controls = powerloss.controls(runs, folder, count=min(images, CONTROL_IMAGES), seed=seed)
    return tally


CAMPAIGNS: dict[str, Callable[[Runs, Path, int, int | None], Figures]] = {
    "syscalls": _syscalls,
    "session": _session,
    "powerloss": _powerloss,
    "full": _full,
}


def main(argv: list[str] | None = None) -> int:
    """Run a campaign and print what it came to."""
    options = _parser().parse_args(argv)
    if shim.missing():
        print(shim.missing(), file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory(dir=options.folder or memory_disk()) as folder, Runs() as runs:
        tally = CAMPAIGNS[options.campaign](runs, Path(folder), options.seed, options.count)
    if options.json:
        print(msgspec.json.encode(tally).decode())
    else:
        _print(tally)
    return 0 if tally.ok else 1


def memory_disk() -> Path | None:
    """A folder in memory, where an fsync costs nothing; None where there is none."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) and os.path.ismount(folder) else None


def _print(tally: Figures) -> None:
    for name, value in msgspec.to_builtins(tally).items():
        if name != "violations":
            said = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name.replace('_', ' ')}: {said}")
    print(f"VIOLATIONS {len(tally.violations)}" if tally.violations else "no violation")
    for violation in tally.violations[:SHOWN_MAX]:
        print(f"  {violation}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quire.testing.disk", description=__doc__)
    parser.add_argument("campaign", choices=sorted(CAMPAIGNS))
    parser.add_argument("--count", type=int, help="runs or images; without it all, or 100,000 images")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="to work in; a memory disk where there is one")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
