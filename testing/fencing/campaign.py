"""Libraries in a row, each with an arena, until the rounds are done; and the command."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from ...actors.runtime.ports import NANOSECONDS, SystemClock
from ...errors import QuireError
from ..web import Copy, Paper, World, serve
from .appends import duels
from .arena import Arena
from .tally import Tally

WORKS_A_ROUND = 10
"""Works of a list for each round that is wanted of it; a guess on the generous side."""
WORKS_MIN, WORKS_MAX = 30, 240
"""Bounds of the works of one library."""


def world_of(works: int, *, seed: int) -> World:
    """Works that are in every state for a while: slow to answer, slow to come, second copies, twins."""
    return World.of(*(_paper(number) for number in range(works)), seed=seed)


def _paper(number: int) -> Paper:
    doi = f"10.5555/fence.{number}"
    shapes = (
        (Copy(fate="slow_drip"),),
        (Copy(fate="slow_start"),),
        (Copy(fate="stall_once"),),
        (Copy(fate="missing"), Copy(source="landing_scrape_pdf", fate="slow_drip")),
        (Copy(fate="silent", stall_s=1.0), Copy(source="landing_scrape_pdf")),
        (Copy(fate="busy_once"),),
        (Copy(fate="truncated"), Copy(source="wayback_pdf", fate="slow_start")),
    )
    # Every tenth has the bytes of the one before it: whoever comes second is DEDUPED.
    content = f"twins {number // 10}" if number % 10 > 7 else ""
    return Paper(doi=doi, copies=shapes[number % len(shapes)], content=content)


def campaign(
    *, rounds: int, workers: int, seed: int, keep: Path | None = None, unfenced: bool = False
) -> Tally:
    """So many rounds, on as many new libraries as it takes; it ends early when a promise is broken."""
    tally, clock = Tally(), SystemClock()
    began_ns = clock.boot_ns()
    while tally.rounds < rounds and tally.kept:
        left = rounds - tally.rounds
        works = max(WORKS_MIN, min(WORKS_MAX, left * WORKS_A_ROUND))
        folder = Path(tempfile.mkdtemp(prefix="quire-fencing-", dir=keep))
        number = seed * 1_000_003 + tally.libraries
        with serve(world_of(works, seed=number)) as served:
            arena = Arena(folder, served, seed=number, unfenced=unfenced)
            arena.run(left, workers=workers)
            tally.add(arena)
        tally.elapsed_s = round((clock.boot_ns() - began_ns) / NANOSECONDS, 1)
        if tally.kept and keep is None:
            shutil.rmtree(folder)
        said = f"{tally.rounds} rounds, {tally.libraries} libraries, {len(tally.problems)} problems; {folder}"
        print(said, file=sys.stderr)
    return tally


def main(argv: list[str] | None = None) -> int:
    """Run a campaign and print its account; 1 when a promise was broken, or too few tried to."""
    args = _parser().parse_args(argv)
    if args.appends:
        return _main_of_appends(args.appends, args.seed)
    try:
        tally = campaign(
            rounds=args.rounds,
            workers=args.workers,
            seed=args.seed,
            keep=args.keep,
            unfenced=args.unfenced,
        )
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(msgspec.json.encode(tally).decode() if args.json else tally.report())
    return 0 if tally.ok else 1


def _main_of_appends(rounds: int, seed: int) -> int:
    """The rounds without processes, as one JSON object."""
    with tempfile.TemporaryDirectory(prefix="quire-fencing-") as folder:
        found = duels(Path(folder), rounds=rounds, seed=seed)
    print(msgspec.json.encode(found).decode())
    return 0 if found.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quire.testing.fencing", description="Stop workers past their leases, and wake them."
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--workers", type=_several, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the libraries in this folder")
    parser.add_argument("--unfenced", action="store_true", help="drop the fence: the campaign must fail")
    parser.add_argument(
        "--appends", type=int, default=0, metavar="N", help="so many rounds of appends alone, in this process"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _several(text: str) -> int:
    workers = int(text)
    if workers < 2:
        raise argparse.ArgumentTypeError("a stopped worker is overtaken by another one: give 2 or more")
    return workers
