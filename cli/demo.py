"""``demo``: the whole of quire against a simulated scholarly web, on loopback, without settings."""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from pathlib import Path

from ..actors.outcome import Wanted
from ..config.loader import Flag, load
from ..config.settings import Quire
from ..errors import UsageError
from ..events.job import JobRow
from ..events.keys import job_key
from ..events.projections import JOBS, LIBRARY, job_row_key
from ..testing.web import World, serve  # the one place in the product that uses the test kit
from . import output
from .inputs import InputSet
from .library import open_library
from .main import EXIT_SOME_FAILED
from .run import run_list

LIST_NAME = "demo.csv"
MISSES_SHOWN = 20


def demo(args: argparse.Namespace) -> int:
    """``quire demo``; 0 when every work that can be had came home."""
    world = World.demo(args.works, seed=args.seed)
    with serve(world) as served, tempfile.TemporaryDirectory() as folder:
        settings = _settings(args.library, served.url)
        if not args.keep:
            _remove_last(settings)
        file = Path(folder) / LIST_NAME
        _write_list(world, file)
        output.warn(f"a simulated web with {len(world.work_ids())} works at {served.url}")
        with InputSet([str(file)]) as inputs:
            code = run_list(_as_run(args), settings, inputs, inputs.list_id)
            return code if code not in (0, EXIT_SOME_FAILED) else _compared(world, settings, inputs)


def _settings(library: str, url: str) -> Quire:
    flags = [
        Flag(("library",), library, "--library"),
        Flag(("web", "stand_in"), url, "quire demo"),
        Flag(("web", "pacing"), "none", "quire demo"),
        Flag(("web", "contact_email"), "demo@quire.example", "quire demo"),
    ]
    return load(flags, environ={}).settings


def _as_run(args: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(inputs=[LIST_NAME], json=args.json, workers=1, retry_failed=False)


def _write_list(world: World, file: Path) -> None:
    rows = world.rows()
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _remove_last(settings: Quire) -> None:
    """Remove the library of the demo before, and nothing that might be something else."""
    library = Path(settings.library)
    if not library.exists():
        return
    with open_library(settings) as (store, *_):
        rows = store.rows(LIBRARY, [b"library"])
    if rows[0] is None or not rows[0].rehearsal:
        raise UsageError(f"{library} is not the library of a rehearsal; name another with --library")
    shutil.rmtree(library)


def _compared(world: World, settings: Quire, inputs: InputSet) -> int:
    """Compare what came home with what could be had, say so, and return the exit code."""
    obtainable = 0
    missed: list[str] = []
    with open_library(settings) as (store, *_):
        for item in inputs:
            if not isinstance(item, Wanted):
                missed.append(str(item))
                continue
            truth = world.truth(item.work.work_id)
            obtainable += truth.obtainable
            row: JobRow | None = store.rows(JOBS, [job_row_key(job_key(item.work))])[0]
            held = row.artifact.sha256 if row and row.home and row.artifact else ""
            if (truth.obtainable and not held) or (held and held not in truth.sha256s):
                what = "wrong bytes" if held else row.reason if row else "never planned"
                missed.append(f"{item.work.work_id}: {what}; {truth.why}")
    output.warn(f"of {obtainable} works that can be had, {obtainable - len(missed)} came home right")
    for line in missed[:MISSES_SHOWN]:
        output.warn(f"  {line}")
    return EXIT_SOME_FAILED if missed else 0
