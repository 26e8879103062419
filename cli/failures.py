"""The failures of a run as a file of the input's own form, which can be fed back in as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..actors.outcome import Wanted
from ..events.facts import JobPlanned
from ..events.job import JobRow, State, stream_of
from ..events.keys import job_key
from ..events.projections import JOBS, LISTED, job_id_of, job_row_key, list_prefix
from ..store.interface import READ_LIMIT, EventStore
from .draft import text_draft_of
from .inputs import LISTINGS, Entry, Frame, InputSet

FOLDER = "failures"
"""In the library, since nothing outside of it is ever written."""
LOOKUP_ROWS = 500
"""Jobs asked of the store at once."""


def write_failures(
    store: EventStore, library: Path, *, list_id: str, inputs: InputSet | None, name: str = "library"
) -> Path | None:
    """Write the failed works of a list, and say where; without any the file of an earlier run is removed.

    Args:
        store: where the states are read.
        library: the folder that gets ``failures/NAME.form``.
        list_id: the list whose failures are meant.
        inputs: what the list was read from. Inputs of one form, with the same column names and definitions,
            give a file of that form, each record as it was given; without inputs, or with mixed ones, it is
            ``.jsonl`` in quire's names.
        name: how the file is called where there are no inputs.
    """
    frame = _frame_of(inputs)
    file = (
        library
        / FOLDER
        / f"{_stem(inputs) if inputs else name}-{list_id[:8]}.{frame.form if frame else 'jsonl'}"
    )
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
    """What all inputs have around their records; None where they differ, are listings, or there are none."""
    forms = {item.form for item in inputs.inputs} if inputs else set()
    if inputs is None or len(forms) != 1 or forms <= LISTINGS:
        return None
    frames = {item.frame() for item in inputs.inputs}
    return frames.pop() if len(frames) == 1 else None


def _stem(inputs: InputSet) -> str:
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
    for wanted, _ in failures_of(store, list_id):
        fields: dict[str, Any] = {**msgspec.structs.asdict(wanted.work), "label": wanted.label}
        fields.pop("arxiv_version")
        yield msgspec.json.encode({k: v for k, v in fields.items() if v}).decode() + "\n"


def failures_of(store: EventStore, list_id: str) -> Iterator[tuple[Wanted, JobRow]]:
    """The failed jobs of a list, each as it was asked for, with its row.

    What was learned of a work since is left out: with it, it might be another job.
    """
    for key, row in _rows_of(store, list_id):
        if row.state is State.FAILED:
            (planned,) = store.read_stream(stream_of(job_id_of(key)), limit=1)
            if isinstance(planned.event, JobPlanned):
                yield Wanted(planned.event.work, label=row.label), row


def _rows_of(store: EventStore, list_id: str) -> Iterator[tuple[bytes, JobRow]]:
    """The jobs of a list with their keys; all of them where no input made the list."""
    every = not int(list_id, 16)
    table, prefix = (JOBS, b"") if every else (LISTED, list_prefix(list_id))
    page = store.scan(table, prefix)
    while page:
        keys = [name if every else key for name, key in page]
        rows = [row for _, row in page] if every else store.rows(JOBS, keys)
        yield from ((key, row) for key, row in zip(keys, rows, strict=True) if row is not None)
        page = store.scan(table, prefix, after=page[-1][0]) if len(page) >= READ_LIMIT else []
