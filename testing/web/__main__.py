"""``python -m quire.testing.web``: a simulated web as a process; it prints its address, then serves."""

from __future__ import annotations

import argparse
import gzip
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...errors import QuireError, UsageError
from .artifacts import FATES
from .records import Mix
from .server import serve
from .world import World


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted or terminated; returns the exit code."""
    options = _parser().parse_args(arguments)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    try:
        world = _world(options)
        if options.inputs is not None:
            _write_inputs(world, options.inputs)
        with serve(world, port=options.port) as served:
            print(served.url, flush=True)
            served.wait()
    except KeyboardInterrupt:
        return 0
    except QuireError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quire.testing.web", description="Serve a simulated scholarly web."
    )
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0 takes any that is free")
    parser.add_argument("--works", type=int, default=200, help="works of the demo world")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--records", type=Path, help="Unpaywall records, one a line (.gz too), instead of the demo"
    )
    parser.add_argument(
        "--mix",
        default="",
        help="fates of their PDFs, such as good=0.7,missing=0.2,reset=0.1; only with --records. "
        f"The fates: {', '.join(FATES)}",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE",
        help="write the works it knows there, one a line, for quire run",
    )
    return parser


def _world(options: argparse.Namespace) -> World:
    mix = Mix.parse(options.mix) if options.mix else Mix()
    if options.records is None:
        if options.mix:
            raise UsageError("--mix: the demo world has fates of its own; give --records FILE as well")
        return World.demo(options.works, seed=options.seed)
    return World.from_unpaywall(read_records(options.records), seed=options.seed, mix=mix)


def _write_inputs(world: World, path: Path) -> None:
    try:
        path.write_text("".join(f"{line}\n" for line in world.inputs()), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--inputs {path}: cannot be written: {error.strerror}") from error


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, one a line.

    Raises:
        UsageError: the file cannot be read, or a line is no JSON object.
    """
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}; name a file of Unpaywall records") from error
    for number, line in enumerate(lines, 1):
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise UsageError(f"{path}, line {number}: {error}; one JSON record a line is wanted") from error


if __name__ == "__main__":
    sys.exit(main())
