"""``run --dry-run``: what a run would do; nothing is written and nothing is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from ..actors.outcome import Planned
from ..config.settings import Quire
from ..events.job import JobRow
from ..events.keys import job_key
from ..events.projections import JOBS, job_row_key
from . import output
from .inputs import InputSet
from .library import Tables, open_library
from .main import EXIT_SOME_FAILED
from .reading import Reader, planned_text

LOOKUP_ROWS = 500
"""Jobs asked of the store at once."""


def dry_run(args: argparse.Namespace, settings: Quire, inputs: InputSet) -> int:
    """Say what a run would do; nothing is written and nothing is asked."""
    reader = Reader(inputs, args, output.warn)
    if (Path(settings.library) / "events" / "data.mdb").exists():
        with open_library(settings) as (store, *_):
            planned = _foreseen(store, reader, retry_failed=args.retry_failed)
    else:
        planned = _foreseen(None, reader, retry_failed=args.retry_failed)
    if args.json:
        output.say_json({**msgspec.structs.asdict(planned), "bad_lines": reader.bad})
    else:
        output.say(f"{planned_text(planned)}; {output.many(reader.bad, 'bad line')}; nothing was planned")
    return EXIT_SOME_FAILED if reader.bad else 0


def _foreseen(store: Tables | None, reader: Reader, *, retry_failed: bool) -> Planned:
    counts = dict.fromkeys(("works", "doubled", "new", "unfinished", "requeued", "home", "failed"), 0)
    # Eight bytes of each key: 64 bits tell a million works apart, and the list stays small in memory.
    seen: set[int] = set()
    held: list[bytes] = []
    for wanted in reader:
        key = job_row_key(job_key(wanted.work))
        short = int.from_bytes(key[:8], "big")
        counts["works"] += 1
        if short in seen:
            counts["doubled"] += 1
            continue
        seen.add(short)
        held.append(key)
        if len(held) == LOOKUP_ROWS:
            _foresee(store, held, counts, retry_failed=retry_failed)
            held = []
    _foresee(store, held, counts, retry_failed=retry_failed)
    return Planned(**counts)


def _foresee(store: Tables | None, keys: list[bytes], counts: dict[str, int], *, retry_failed: bool) -> None:
    rows: list[JobRow | None] = store.rows(JOBS, keys) if store and keys else [None] * len(keys)
    for row in rows:
        if row is None:
            counts["new"] += 1
        elif row.home:
            counts["home"] += 1
        elif not row.finished:
            counts["unfinished"] += 1
        else:
            counts["requeued" if retry_failed or row.may_retry else "failed"] += 1
