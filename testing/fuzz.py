"""The fuzz campaign over every parser: damaged bodies by the thousand, and each must be answered.

``python -m quire.testing.fuzz --bodies 20000`` reads so many bodies with every parser and prints an account;
it exits 1 when an exception left a parser, a body took too long or too much memory, a promise about an answer
was broken, or an outcome was never met. ``--only NAME --number N`` shows one body again, ``--replay FILE``
one that was kept. Real bodies are taken from ``--corpus``, by default the recorded ones beside the
repository; without any there are bodies of our own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import QuireError
from .fuzzing.campaign import HEADING, Campaign, Process, row, unreached
from .fuzzing.targets import TARGETS, default_corpus, target_of
from .fuzzing.worker import Account, serve

BODIES = 20_000
SECONDS_PER_BODY = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its account; 1 when a parser broke a promise."""
    options = _parser().parse_args(arguments)
    if options.worker:
        serve(options.worker)
        return 0
    try:
        with Process() as process:
            campaign = Campaign(
                process, seed=options.seed, bodies=options.bodies, seconds=options.seconds_per_body,
                corpus=None if options.no_corpus else options.corpus, keep=options.keep,
            )  # fmt: skip
            names = [target_of(name).name for name in options.only] or list(TARGETS)
            if options.replay is not None or options.number is not None:
                return _shown(campaign, names, options)
            return _ran(campaign, names)
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _ran(campaign: Campaign, names: list[str]) -> int:
    accounts: dict[str, Account] = {}
    print(HEADING, flush=True)
    for name in names:
        accounts[name] = campaign.run(name)
        print(row(name, accounts[name]), flush=True)
    failures = [failure for account in accounts.values() for failure in account.failures]
    missing = sum(bool(unreached(target_of(name), account)) for name, account in accounts.items())
    bodies, spent_s = (sum(getattr(one, part) for one in accounts.values()) for part in ("bodies", "spent_s"))
    print(f"{bodies} bodies in {spent_s:.0f} s of processor time; {len(failures)} failures, {missing} of "
          f"{len(names)} parsers did not meet all of their outcomes")  # fmt: skip
    for failure in failures:
        print(f"\n{campaign.told(failure)}", flush=True)
    return 1 if failures or missing else 0


def _shown(campaign: Campaign, names: list[str], options: argparse.Namespace) -> int:
    """One body again: of a number, or out of a file."""
    broke = False
    for name in names:
        body = options.replay.read_bytes() if options.replay else campaign.body(name, options.number)
        what = campaign.tried(name, body)
        broke = broke or bool(what)
        print(f"{name}: {what or 'answered'}; {len(body)} bytes: {body[:300]!r}")
    return 1 if broke else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quire.testing.fuzz", description="Damaged bodies through every parser."
    )
    parser.add_argument("--bodies", type=int, default=BODIES, help="for each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], metavar="PARSER", help="may be given again")
    parser.add_argument("--seconds-per-body", type=float, default=SECONDS_PER_BODY, help="of processor time")
    parser.add_argument(
        "--corpus", type=Path, default=default_corpus(), metavar="DIR", help="recorded bodies"
    )
    parser.add_argument("--no-corpus", action="store_true", help="bodies of our own alone")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep failing bodies in this folder")
    parser.add_argument("--number", type=int, help="show one body again")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="show a kept body again")
    parser.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
