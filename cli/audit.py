"""``quire audit``: is the library what was written? And ``quire audit seal``, a witness to keep elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from ..errors import DamagedError, UsageError
from ..events.facts import LibraryCreated
from ..events.projections import JOBS, job_id_of
from ..store.audit import Expected, Report
from ..store.audit import audit as audited
from ..store.domain import QUIRE
from ..store.interface import EventStore
from ..store.library import Library
from ..store.lmdb_probe import probe
from ..store.objects import Damage
from ..store.seal import Seal, against, seal_of, sealed
from . import output
from .config import settings_of
from .library import Opened, Tables, opened, scanned

SEAL_BYTES_MAX = 4096
KEY_BYTES_MAX = 4096
PAPER_DAMAGE = frozenset(get_args(Damage)) - {""}
"""Kinds of findings that concern a paper's file, and nothing else where they name one."""


def audit(args: argparse.Namespace) -> int:
    """``quire audit``: the chain, the projections and every PDF; 3 when something is not what it must be."""
    key = _read(args.key, KEY_BYTES_MAX, "--key") if args.key else None
    if args.action == "seal":
        return _seal(args, key)
    seal = seal_of(_read(args.against, SEAL_BYTES_MAX, "--against")) if args.against else None
    if key is not None and seal is None:
        raise UsageError("--key goes with `audit seal` or with --against")
    unreadable = _unreadable(args)
    if unreadable is not None:
        return _say(args, unreadable)
    with opened(args) as library:
        report = audited(library.store, QUIRE, objects=library.library.objects, expected=expected_files)
        if seal is not None:
            _hold_against(library, report, seal, key)
    return _say(args, report)


def _unreadable(args: argparse.Namespace) -> Report | None:
    """What is wrong with a log that would end this process if it were read; None where it can be read."""
    settings = settings_of(args).settings
    library = Library.open_existing(Path(settings.library))
    wrong, position = probe(library.events, map_size=settings.store.map_size)
    if not wrong:
        return None
    report = Report()
    report.problem("unreadable", f"the log cannot be read behind here: {wrong}", position=position)
    return report


def _say(args: argparse.Namespace, report: Report) -> int:
    if args.json:
        output.say_json(report)
    else:
        output.say(_text(report))
    return 0 if report.ok else DamagedError.exit_code


def _seal(args: argparse.Namespace, key: bytes | None) -> int:
    """``quire audit seal``: one line of JSON."""
    if args.against:
        raise UsageError("--against holds a log against a seal; `audit seal` makes one")
    with opened(args) as (store, _, clock, _settings):
        library_id = _library_id(store)
        output.say_json(
            sealed(store.head(), library_id=library_id, time=output.iso_time(clock.wall_ns()), key=key)
        )
    return 0


def _hold_against(library: Opened, report: Report, seal: Seal, key: bytes | None) -> None:
    """Add what the seal shows; where not even the log's first event is whole, the report says so already."""
    with contextlib.suppress(DamagedError):
        for found in against(library.store, _library_id(library.store), seal, key=key):
            report.problem(found.kind, found.what, position=found.position)


def _library_id(store: EventStore) -> str:
    """By the log's first event, since the tables may be other code's."""
    first = store.read(0, limit=1)
    created = first[0].event if first else None
    return created.library_id if isinstance(created, LibraryCreated) else ""


def _read(name: str, bytes_max: int, flag: str) -> bytes:
    """A small file, or standard input for ``-``.

    Raises:
        UsageError: it cannot be read, or is no such file by its size.
    """
    try:
        data = sys.stdin.buffer.read(bytes_max + 1) if name == "-" else _start_of(Path(name), bytes_max + 1)
    except OSError as error:
        raise UsageError(f"{flag} {name}: {error.strerror}") from None
    if not data.strip():
        raise UsageError(f"{flag} {name}: that file is empty")
    if len(data) > bytes_max:
        raise UsageError(f"{flag} {name}: more than {bytes_max} bytes; that is another file")
    return data


def _start_of(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def expected_files(view: Tables) -> Iterator[Expected]:
    """The files that the finished jobs of a library must have."""
    for key, row in scanned(view, JOBS):
        if row.home and row.artifact is not None:
            yield Expected(job_id_of(key), row.artifact.sha256, row.artifact.bytes)


def _text(report: Report) -> str:
    lines = [f"{report.events} events in {report.commits} commits, head {report.head}"]
    for title, findings in (("PROBLEM", report.problems), ("note", report.notes)):
        for found in findings:
            where = found.path or (f"position {found.position}" if found.position else "")
            lines.append(f"{title} {found.kind} {where}: {found.what}".replace(" :", ":"))
    lines.append(_advice(report))
    return "\n".join(lines)


def _advice(report: Report) -> str:
    """What to do next. A paper is to be had again; a log is not."""
    if report.ok:
        return "all is as it was written"
    told = [found for found in report.problems if found.kind != "more"]  # the log's own come first
    papers = sum(found.path != "" and found.kind in PAPER_DAMAGE for found in told)
    if papers < len(told):
        return "the library is damaged; keep it as it is"
    return (
        f"the log is whole, {output.many(papers, 'paper')} gone or damaged; to download what is lost again: "
        "quire retry --damaged, then quire resume"
    )
