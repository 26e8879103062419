"""The failures of a run as a file of the input's own form, which can be fed back in as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..actors.outcome import Wanted
from ..events.job import JobRow, State
from ..events.keys import job_key
from ..events.projections import JOBS, LISTED, job_row_key, list_prefix
from ..store.interface import READ_LIMIT, EventStore
from .draft import text_draft_of
from .inputs import Entry, Frame, InputSet

FOLDER = "failures"
"""In the library, since nothing outside of it is ever written."""
LOOKUP_ROWS = 500
"""Jobs asked of the store at once."""


def write_failures(store: EventStore, library: Path, *, list_id: str, inputs: InputSet | None) -> Path | None:
    """Write the failed works of a list, and say where; without any the file of an earlier run is removed.

    Args:
        store: where the states are read.
        library: the folder that gets ``failures/NAME.form``.
        list_id: the list whose failures are meant.
        inputs: what the list was read from. Inputs of one form, with the same column names and definitions,
            give a file of that form, each record as it was given; without inputs, or with mixed ones, it is
            ``.jsonl`` in quire's names.
    """
    frame = _frame_of(inputs)
    file = library / FOLDER / f"{_stem(inputs)}-{list_id[:8]}.{frame.form if frame else 'jsonl'}"
    if inputs is None or frame is None:
        lines = _lines_from_rows(store, list_id)
    else:
        lines = _lines_from_inputs(store, inputs, list_id)
    first = next(lines, None)
    if first is None:
        file.unlink(missing_ok=True)
        return None
    file.parent.mkdir(exist_ok=True)
    with text_draft_of(file) as stream:
        stream.write(frame.preamble if frame else "")
        stream.write(first)
        stream.writelines(lines)
    return file


def _frame_of(inputs: InputSet | None) -> Frame | None:
    """What all inputs have around their records; None where they differ, or there are none."""
    if inputs is None or len({item.form for item in inputs.inputs}) != 1:
        return None
    frames = {item.frame() for item in inputs.inputs}
    return frames.pop() if len(frames) == 1 else None


def _stem(inputs: InputSet | None) -> str:
    if inputs is None:
        return "library"
    name = Path(inputs.names[0]).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40].strip("-") or "list"


def _lines_from_inputs(store: EventStore, inputs: InputSet, list_id: str) -> Iterator[str]:
    held: list[tuple[bytes, str]] = []
    for entry in inputs.entries():
        if isinstance(entry.item, Wanted):
            held.append((job_row_key(job_key(entry.item.work)), _raw(entry)))
        if len(held) == LOOKUP_ROWS:
            yield from _failed_of(store, held, list_id)
            held = []
    yield from _failed_of(store, held, list_id)


def _raw(entry: Entry) -> str:
    return entry.raw if entry.raw.endswith("\n") else entry.raw + "\n"


def _failed_of(store: EventStore, held: list[tuple[bytes, str]], list_id: str) -> Iterator[str]:
    rows = store.rows(JOBS, [key for key, _ in held]) if held else []
    for row, (_, raw) in zip(rows, held, strict=True):
        if row is not None and row.state is State.FAILED and list_id in row.lists:
            yield raw


def _lines_from_rows(store: EventStore, list_id: str) -> Iterator[str]:
    for row in _rows_of(store, list_id):
        if row.state is State.FAILED:
            fields: dict[str, Any] = {**msgspec.structs.asdict(row.work), "label": row.label}
            fields.pop("arxiv_version")
            yield msgspec.json.encode({k: v for k, v in fields.items() if v}).decode() + "\n"


def _rows_of(store: EventStore, list_id: str) -> Iterator[JobRow]:
    """The jobs of a list; all of them where no input made the list."""
    every = not int(list_id, 16)
    table, prefix = (JOBS, b"") if every else (LISTED, list_prefix(list_id))
    page = store.scan(table, prefix)
    while page:
        rows = [row for _, row in page] if every else store.rows(JOBS, [key for _, key in page])
        yield from (row for row in rows if row is not None)
        page = store.scan(table, prefix, after=page[-1][0]) if len(page) >= READ_LIMIT else []
