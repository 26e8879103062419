"""The event store on LMDB: one environment, one record per commit, projections in the same transaction.

The way through, each part knowing only those before it: ``lmdb_layout`` says what stands where,
``lmdb_birth`` how a log comes into being, ``lmdb_faults`` and ``lmdb_writes`` what LMDB's errors and its
silence mean; ``lmdb_environment`` opens it and gives transactions, ``lmdb_commits`` and ``lmdb_tables`` work
in them; here they make the ``EventStore``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..events.record import AppendResult, Batch, Head, Recorded
from .codec import Commit, CommitCodec, Draft
from .digests import Digests
from .interface import READ_LIMIT, Domain
from .lmdb_commits import Commits
from .lmdb_environment import Environment
from .lmdb_layout import Txn
from .lmdb_tables import Tables
from .memory_store import POLL_S, WallClock
from .projecting import Projector, check_keys, decoded

MAP_SIZE = 64 << 30
"""Address space reserved for the log, in bytes; not disk."""
COMMIT_BYTES_READ_MAX = 1 << 24


class LmdbStore:
    """An ``EventStore`` in a folder; any number of processes may share it.

    Args:
        path: the environment's folder; it is created (not its parents) unless ``readonly``.
        domain: events and projections; tables kept by other code are rebuilt here and now.
        run_id: written on every event of this store.
        clock: stamps the commits.
        map_size: greatest size of the log, in bytes; address space, reserved once.
        readonly: never writes, never rebuilds, and leaves checking to whoever reads.

    Raises:
        UsageError: there is no log (``readonly``), it is open in this process already, or it was written by
            a newer program.
        DamagedError: the last commit is not what was written.
        EnvironmentFault: the folder cannot be opened or written.
    """

    def __init__(
        self,
        path: Path,
        domain: Domain,
        *,
        run_id: str,
        clock: WallClock,
        map_size: int = MAP_SIZE,
        readonly: bool = False,
    ) -> None:
        self.path = Path(path)
        self.run_id = run_id
        """Written on every event from now on."""
        self._clock = clock
        self._appended = threading.Condition()
        self._projector = Projector(domain)
        self._environment = Environment(
            self.path, self._projector.decoders, map_size=map_size, readonly=readonly
        )
        self._commits = Commits(self._environment, CommitCodec(domain))
        self._tables = Tables(self._environment, self._projector)
        try:
            self._prepare()
        except BaseException:
            self._environment.close()
            raise

    def __repr__(self) -> str:
        environment = self._environment
        if environment.closed:
            return f"<LmdbStore {self.path} closed>"
        state = f"failed: {environment.failed}" if environment.failed else f"head={self.head().position}"
        return f"<LmdbStore {self.path} {'readonly ' if environment.readonly else ''}{state}>"

    def _prepare(self) -> None:
        """Look at what was opened; tables of other code are rebuilt, unless read-only."""
        environment = self._environment
        with environment.reading() as txn:
            environment.check_format(txn)
            head = self._commits.head(txn)
            if environment.readonly:
                return
            are_current = self._tables.stand_at(txn, head.position)
            last, previous = self._commits.last(txn)
        self._commits.check_last(head, last, previous)
        if not are_current:
            self.rebuild()

    # Writing

    def append(self, batches: Sequence[Batch[Any]]) -> list[AppendResult]:
        """As ``EventStore.append``.

        Raises:
            UsageError: the store is read-only, or another version of the program took the library over.
        """
        if not batches:
            return []
        with self._environment.writing() as txn:
            draft = self._append(txn, batches)
        if draft.entries:
            with self._appended:
                self._appended.notify_all()
        return draft.results

    def _append(self, txn: Txn, batches: Sequence[Batch[Any]]) -> Draft:
        head = self._commits.head(txn)
        if not self._tables.stand_at(txn, head.position):
            raise UsageError(
                f"another version of the program works on the log at {self.path}: stop one of the two"
            )
        draft = Draft(head.position, time_ns=self._clock.wall_ns(), run_id=self.run_id)
        draft.judge(batches, lambda stream: self._commits.stream(txn, stream))
        if draft.entries:
            self._commits.put(txn, head, draft)
            self._tables.fold(txn, draft.recorded, draft.position)
        return draft

    def rebuild(self) -> None:
        """As ``EventStore.rebuild``: one transaction, in which the old tables serve until the new stand.

        The index of streams is written anew as well.

        Raises:
            DamagedError: the log cannot be folded; the old tables stay.
        """
        with self._environment.writing() as txn:
            self._environment.mark_format(txn)
            self._tables.rebuild(txn, self._commits.indexed_anew(txn), self._commits.head(txn).position)

    # Reading

    def read(self, after: int = 0, *, limit: int = READ_LIMIT, wait_s: float = 0.0) -> list[Recorded[Any]]:
        """As ``EventStore.read``; waiting takes a new short transaction every 20 ms or append of ours."""
        left, limit = wait_s, min(limit, READ_LIMIT)
        while True:
            found = self._read(after, limit)
            if found or left <= 0:
                return found
            with self._appended:
                if not self._appended.wait(min(POLL_S, left)):
                    left -= POLL_S

    def _read(self, after: int, limit: int) -> list[Recorded[Any]]:
        with self._environment.reading() as txn:
            commits, previous = self._commits.holding(txn, after, limit)
        found = list(chain.from_iterable(self._commits.decoded(commits, previous)))
        skipped = max(after + 1 - commits[0][0], 0) if commits else 0
        return found[skipped : skipped + limit]

    def read_stream(self, stream: str, after: int = 0, *, limit: int = READ_LIMIT) -> list[Recorded[Any]]:
        """As ``EventStore.read_stream``."""
        with self._environment.reading() as txn:
            return list(islice(self._commits.of_stream(txn, stream, after), min(limit, READ_LIMIT)))

    def rows(self, table: str, keys: Sequence[bytes]) -> list[Any]:
        """As ``EventStore.rows``."""
        decode = self._projector.decoder(table)
        check_keys(table, keys)
        with self._environment.reading() as txn:
            values = self._tables.values(txn, table, keys)
        return [
            None if value is None else decoded(table, key, value, decode)
            for key, value in zip(keys, values, strict=True)
        ]

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = READ_LIMIT
    ) -> list[tuple[bytes, Any]]:
        """As ``EventStore.scan``."""
        decode = self._projector.decoder(table)
        check_keys(table, (prefix, after))
        with self._environment.reading() as txn:
            found = self._tables.scan(txn, table, prefix, after=after, limit=min(limit, READ_LIMIT))
        return [(key, decoded(table, key, value, decode)) for key, value in found]

    def head(self) -> Head:
        """As ``EventStore.head``."""
        with self._environment.reading() as txn:
            return self._commits.head(txn)

    def commits(self, after: int = 0, *, bytes_max: int = COMMIT_BYTES_READ_MAX) -> list[Commit]:
        """Raw commits that start behind position ``after``, about ``bytes_max`` bytes; for the audit."""
        with self._environment.reading() as txn:
            return self._commits.behind(txn, after, bytes_max)

    def chain_at(self, position: int) -> bytes | None:
        """The chain head behind the commit that ends at a position; None where no commit ends there."""
        with self._environment.reading() as txn:
            return self._commits.chain_at(txn, position)

    def digest(self) -> Digests:
        """The head, and digests of what is kept at it; about a second per million rows."""
        with self._environment.reading() as txn:
            head = self._commits.head(txn)
            return Digests(head, self._tables.digest(txn, head.position), self._commits.streams_digest(txn))

    def statistics(self) -> Mapping[str, int]:
        """Counts that tell how full the store is: events, commits, streams, bytes of disk and of the map."""
        with self._environment.reading() as txn:
            head, (used, reserved) = self._commits.head(txn), self._environment.space(txn)
            return {
                "events": head.position,
                "commits": head.commits,
                "streams": self._commits.streams(txn),
                "bytes": used,
                "map_bytes": reserved,
            }

    def copy_to(self, folder: Path) -> None:
        """Write the environment as it is now, without its free pages, into an empty folder, and fsync it.

        It may run while others write; what they commit meanwhile is not in the copy.

        Raises:
            StorageFullError: no room there.
            StoreFailedError: the disk failed.
        """
        self._environment.copy_to(folder)

    def close(self) -> None:
        """As ``EventStore.close``."""
        self._environment.close()
