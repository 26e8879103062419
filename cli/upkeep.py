"""Keeping a library in order: ``backup`` and ``gc``."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..actors.runtime.ports import NANOSECONDS, SystemClock, SystemRandom
from ..errors import DamagedError, UsageError
from ..events.projections import JOBS, job_id_of
from ..store.backup import Backup, back_up
from ..store.domain import QUIRE
from ..store.garbage import Waste, remove, waste_in
from ..store.lmdb_store import LmdbStore
from . import output
from .audit import expected_files
from .library import Opened, opened, scanned
from .moments import span_s

WASTE_SHOWN = 20
"""Files that ``gc`` names for people."""


def backup(args: argparse.Namespace) -> int:
    """``quire backup``: a copy of the library that is a library itself; 3 when a file of it is damaged."""
    with opened(args) as (store, library, _, settings):
        report = back_up(
            library,
            store,
            Path(args.target),
            opened=lambda folder: _opened(folder, settings.store.map_size),
            expected=expected_files,
        )
    if args.json:
        output.say_json(report)
    else:
        output.say(_backup_text(report))
    return 0 if report.ok else DamagedError.exit_code


def _opened(folder: Path, map_size: int) -> LmdbStore:
    return LmdbStore(
        folder,
        QUIRE,
        run_id=SystemRandom().uuid(),
        clock=SystemClock(),
        map_size=map_size,
        readonly=True,
    )


def _backup_text(report: Backup) -> str:
    lines = [f"PROBLEM {found.kind} {found.path}: {found.what}" for found in report.problems]
    lines.append(
        f"{report.path}: the log up to position {report.position}, {output.many(report.objects, 'paper')}, "
        f"{report.copied} of them copied now ({output.human_bytes(report.bytes)})"
    )
    if not report.ok:
        lines.append("what is damaged is not in the copy: `quire audit` names it")
    return "\n".join(lines)


def gc(args: argparse.Namespace) -> int:
    """``quire gc``: remove files of no more use; never while a worker is at work."""
    grace_s = span_s(args.older_than)
    if grace_s is None:
        raise UsageError(f"--older-than {args.older_than}: expected a length of time such as 1h or 7d")
    with opened(args) as library:
        workers = library.library.living_workers()
        if workers:
            raise UsageError(
                f"{output.many(len(workers), 'worker')} at work in {library.library.path}: wait for the end, "
                "or stop the run with Ctrl-C"
            )
        found = list(_waste(library, library.clock.wall_ns() - grace_s * NANOSECONDS, parts=args.parts))
        removed = [one for one in found if not args.dry_run and remove(library.library.objects, one)]
        if not args.dry_run:
            library.library.remove_dead_locks()
    if args.json:
        kinds = Counter(one.kind for one in found)
        total = sum(one.bytes for one in found)
        value = {"dry_run": args.dry_run, "files": len(found), "removed": len(removed), "bytes": total}
        output.say_json({**value, "kinds": dict(kinds), "paths": [one.path for one in found]})
    else:
        output.say(_gc_text(found, dry_run=args.dry_run, older_than=args.older_than))
    return 0


def _waste(library: Opened, older_than_ns: int, *, parts: bool) -> Iterator[Waste]:
    wanted: set[bytes] = set()
    unfinished: set[str] = set()
    for key, row in scanned(library.store, JOBS):
        if row.home and row.artifact is not None:
            wanted.add(bytes.fromhex(row.artifact.sha256))
        elif not row.home and not parts:
            unfinished.add(job_id_of(key))
        # An effect that was under way may have given its file a name already.
        wanted.update(
            bytes.fromhex(sha256)
            for op in row.ops.values()
            if isinstance(sha256 := op.about.get("sha256"), str) and sha256
        )
    return waste_in(
        library.library.objects, wanted=wanted, unfinished=unfinished, older_than_ns=older_than_ns
    )


def _gc_text(found: list[Waste], *, dry_run: bool, older_than: str) -> str:
    lines = [f"{one.kind:<7} {output.human_bytes(one.bytes):>9}  {one.path}" for one in found[:WASTE_SHOWN]]
    if len(found) > WASTE_SHOWN:
        lines.append(f"and {len(found) - WASTE_SHOWN} more")
    size = output.human_bytes(sum(one.bytes for one in found))
    would = "would be removed" if dry_run else "removed"
    lines.append(f"{output.many(len(found), 'file')} {would}, {size}" if found else "nothing to remove")
    lines[-1] += f" (files younger than {older_than} are left alone: --older-than)"
    return "\n".join(lines)
