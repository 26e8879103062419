"""``run --dry-run``: what a run would do; nothing is written, and nothing asked but one page of a query."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..actors.openalex import Progress, Query, progress_in
from ..actors.outcome import Planned, Wanted
from ..actors.seen import SeenKeys
from ..config.settings import Quire
from ..events.job import JobRow
from ..events.keys import job_key
from ..events.projections import HOLDINGS, JOBS, holding_prefix, job_row_key
from ..store.interface import EventStore
from . import output
from .inputs import InputSet
from .library import open_library
from .main import EXIT_SOME_FAILED
from .query import foresee
from .reading import Reader, planned_text

LOOKUP_ROWS = 500
"""Jobs asked of the store at once."""


def dry_run(
    args: argparse.Namespace, settings: Quire, inputs: InputSet, query: Query | None, list_id: str
) -> int:
    """Say what a run would do; nothing is written.

    Raises:
        QuireError: an input, or the query, cannot be used.
    """
    reader = Reader(inputs, args, output.warn)
    with _store_of(settings) as store:
        forecast = _Forecast(store, retry_failed=args.retry_failed)
        planned = forecast.of(reader)
        progress = progress_in(store, list_id) if store and query else Progress()
    asked = (
        foresee(query, settings, list_id=list_id, progress=progress, refresh=args.refresh) if query else None
    )
    if args.json:
        found = {**msgspec.structs.asdict(planned), "bad_lines": reader.bad, "list_id": list_id}
        found |= {"other_names": reader.repeats.renamed, "home_by_other_name": forecast.held}
        output.say_json(found | ({"query": msgspec.structs.asdict(asked)} if asked else {}))
    else:
        if asked is not None:
            output.say(str(asked))
        if not inputs.inputs:
            output.say("nothing was planned")
            return 0
        output.say(
            f"{planned_text(planned, renamed=reader.repeats.renamed)}{forecast.held_text}; "
            f"{output.many(reader.bad, 'bad line')}; nothing was planned"
        )
    return EXIT_SOME_FAILED if reader.bad else 0


@contextmanager
def _store_of(settings: Quire) -> Iterator[EventStore | None]:
    """The log of the library; None where there is no library yet."""
    if not (Path(settings.library) / "events" / "data.mdb").exists():
        yield None
        return
    with open_library(settings) as (store, *_):
        yield store


class _Forecast:
    """What would become of works, counted; looked up page by page."""

    def __init__(self, store: EventStore | None, *, retry_failed: bool) -> None:
        self._store = store
        self._retry_failed = retry_failed
        self._counts = dict.fromkeys(Planned.__struct_fields__, 0)
        self.held = 0
        """New works whose paper is home under another name of it."""

    def __repr__(self) -> str:
        return f"<_Forecast {self._counts}>"

    @property
    def held_text(self) -> str:
        """How many of the new works need no network, in words."""
        return f" ({self.held} of the new ones home by another name)" if self.held else ""

    def of(self, reader: Reader) -> Planned:
        """What would become of all works of a reader."""
        seen = SeenKeys()
        page: list[Wanted] = []
        for wanted in reader:
            self._counts["works"] += 1
            if not seen.is_new(job_key(wanted.work)):
                self._counts["doubled"] += 1
                continue
            page.append(wanted)
            if len(page) == LOOKUP_ROWS:
                self._look_up(page)
                page = []
        self._look_up(page)
        return Planned(**self._counts)

    def _look_up(self, page: list[Wanted]) -> None:
        keys = [job_row_key(job_key(wanted.work)) for wanted in page]
        rows: list[JobRow | None] = self._store.rows(JOBS, keys) if self._store else [None] * len(page)
        for wanted, row in zip(page, rows, strict=True):
            self._counts[self._fate(row)] += 1
            self.held += row is None and self._is_held(wanted)

    def _fate(self, row: JobRow | None) -> str:
        if row is None:
            return "new"
        if row.home:
            return "home"
        if not row.finished:
            return "unfinished"
        return "requeued" if self._retry_failed or row.may_retry else "failed"

    def _is_held(self, wanted: Wanted) -> bool:
        store = self._store
        return store is not None and any(
            store.scan(HOLDINGS, holding_prefix(*name), limit=1) for name in wanted.work.identifiers()
        )
