"""A log in plain Python: what an event store should say, worked out without any of its code.

It judges batches by SPEC's rules as they are written in ``store.interface``, keeps every event in a list,
and folds the projections one event at a time, tables anew from the rows each time they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..events.record import Appended, AppendResult, Batch, Conflict, Fenced, Recorded
from ..store.interface import Domain, Projection

Table = list[tuple[bytes, Any]]


class LogModel:
    """The log and its tables as they should be."""

    def __init__(self, domain: Domain, run_id: str) -> None:
        self.domain = domain
        self.run_id = run_id
        self.events: list[Recorded[Any]] = []
        self.commits = 0
        self.ends: list[int] = []
        """The last position of each commit."""
        self.streams: dict[str, tuple[int, int]] = {}
        """Stream → version and epoch."""
        self._rows: dict[str, dict[bytes, Any]] = {one.name: {} for one in domain.projections}

    def __repr__(self) -> str:
        return f"<LogModel {len(self.events)} events in {self.commits} commits>"

    def state(self, stream: str) -> tuple[int, int]:
        """Version and epoch of a stream."""
        return self.streams.get(stream, (0, 0))

    def append(self, batches: Sequence[Batch[Any]], time_ns: int) -> list[AppendResult]:
        """Judge the batches in order, each seeing those before it, and keep what is taken."""
        results = [self._judge(batch, time_ns) for batch in batches]
        if self.events and (not self.ends or self.ends[-1] < len(self.events)):
            self.commits += 1
            self.ends.append(len(self.events))
        return results

    def _judge(self, batch: Batch[Any], time_ns: int) -> AppendResult:
        version, epoch = self.state(batch.stream)
        if batch.opens_epoch:
            fenced = batch.epoch != epoch + 1
        elif batch.epoch is not None:
            fenced = batch.epoch != epoch
        else:
            fenced = epoch > 0 and batch.expected_version is None
        if fenced:
            return Fenced(batch.stream, batch.epoch, epoch)
        if batch.expected_version not in (None, version):
            return Conflict(batch.stream, batch.expected_version or 0, version)
        epoch = epoch if batch.epoch is None else batch.epoch
        first = len(self.events) + 1
        for event in batch.events:
            version += 1
            self._keep(
                Recorded(
                    len(self.events) + 1,
                    batch.stream,
                    version,
                    epoch,
                    time_ns,
                    self.run_id,
                    batch.cause,
                    event,
                )
            )
        self.streams[batch.stream] = (version, epoch)
        return Appended(first, version)

    def _keep(self, recorded: Recorded[Any]) -> None:
        self.events.append(recorded)
        _fold(self.domain, self._rows, recorded)

    def cut_to(self, position: int) -> None:
        """Forget every commit behind a position at which one ends."""
        kept, self.ends = self.events[:position], [end for end in self.ends if end <= position]
        self.commits, self.events = len(self.ends), []
        self.streams = {one.stream: (one.version, one.epoch) for one in kept}
        self._rows = {one.name: {} for one in self.domain.projections}
        for recorded in kept:
            self._keep(recorded)

    def read(self, after: int, limit: int) -> list[Recorded[Any]]:
        """Events behind a position."""
        return self.events[after : after + limit]

    def read_stream(self, stream: str, after: int, limit: int) -> list[Recorded[Any]]:
        """Events of one stream behind a version."""
        return [one for one in self.events if one.stream == stream and one.version > after][:limit]

    def tables(self) -> dict[str, Table]:
        """Every table, in key order."""
        return tables_of(self.domain, self._rows)

    def tables_at(self, position: int) -> dict[str, Table]:
        """Every table as it was at a position, folded from the first event."""
        rows: dict[str, dict[bytes, Any]] = {one.name: {} for one in self.domain.projections}
        for recorded in self.events[:position]:
            _fold(self.domain, rows, recorded)
        return tables_of(self.domain, rows)


def scanned(table: Table, prefix: bytes, after: bytes, limit: int) -> Table:
    """What a scan of a table should give."""
    return [(key, value) for key, value in table if key.startswith(prefix) and key > after][:limit]


def tables_of(domain: Domain, rows: dict[str, dict[bytes, Any]]) -> dict[str, Table]:
    """Rows, indexes and tallies, worked out from the rows alone."""
    tables: dict[str, Table] = {}
    for projection in domain.projections:
        name, kept = projection.name, rows[projection.name]
        tables[name] = sorted(kept.items())
        counts: Counter[str] = Counter(word for row in kept.values() for word in projection.tallies(row))
        tables[f"{name}.tally"] = sorted((word.encode(), count) for word, count in counts.items())
        for index, entries in projection.indexes.items():
            pairs: Iterable[tuple[bytes, bytes]] = (
                (entry, key) for key, row in kept.items() for entry in entries(key, row)
            )
            tables[f"{name}.{index}"] = sorted(set(pairs))
    return tables


def folded(projection: Projection[Any], row: Any, recorded: Recorded[Any]) -> Any:
    """The row after an event, folded twice from copies of the row: a fold that is not pure gives two.

    Raises:
        AssertionError: the two are not alike, or the row given is another afterwards.
    """
    given = _copied(projection, row)
    first = projection.fold(given, recorded)
    if _packed(given) != _packed(row):
        raise AssertionError(
            f"the fold of {projection.name} changes its row, from {row} to {given}: make a new one"
        )
    again = projection.fold(_copied(projection, row), recorded)
    if _packed(first) != _packed(again):
        raise AssertionError(
            f"the fold of {projection.name} is not pure: {first} at first and {again} then, for the same row "
            f"{row} and event {recorded.event}; it may use nothing but its two arguments, and change neither"
        )
    return again


def _copied(projection: Projection[Any], row: Any) -> Any:
    return None if row is None else msgspec.msgpack.decode(_packed(row), type=projection.row)


_packed = msgspec.msgpack.Encoder(order="deterministic").encode


def _fold(domain: Domain, rows: dict[str, dict[bytes, Any]], recorded: Recorded[Any]) -> None:
    for projection in domain.projections:
        key = projection.key(recorded)
        if key is None:
            continue
        row = folded(projection, rows[projection.name].get(key), recorded)
        if row is None:
            rows[projection.name].pop(key, None)
        else:
            rows[projection.name][key] = row
