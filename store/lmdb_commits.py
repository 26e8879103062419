"""The commits of a log: a record each, the index of those of each stream, and the head record.

Each method works in a transaction of its caller's. What only decodes takes none, since a read transaction
must be short; and decoding checks the chain, since LMDB does not check the bytes it returns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import DamagedError
from ..events.record import Head, Recorded
from .codec import CHAIN_BYTES, GENESIS, Commit, CommitCodec, Draft, StreamState
from .digests import StreamsDigest
from .lmdb_environment import Environment
from .lmdb_layout import COMMITS, HEAD, HEAD_RECORD, META, NUMBER, PAIR, STREAM_COMMITS, STREAMS, Txn
from .lmdb_writes import put
from .memory_store import taken


class Commits:
    """The commits in one environment."""

    def __init__(self, environment: Environment, codec: CommitCodec) -> None:
        self._path = environment.path
        self._db = environment.db
        self._codec = codec

    def __repr__(self) -> str:
        return f"<Commits of {self._path}>"

    # The end of the log

    def head(self, txn: Txn) -> Head:
        """The end of the log, as the head record says; raises DamagedError when it cannot be read."""
        value = txn.get(HEAD, db=self._db[META])
        if value is None:
            return Head(0, 0, GENESIS)
        try:
            return Head(*HEAD_RECORD.unpack(value))
        except struct.error:
            raise DamagedError(
                f"the head record of the log at {self._path} is damaged: run `quire audit`"
            ) from None

    def last(self, txn: Txn) -> tuple[Commit | None, bytes]:
        """The last commit and the chain head before it."""
        cursor = txn.cursor(self._db[COMMITS])
        if not cursor.last():
            return None, GENESIS
        commit = (NUMBER.unpack(cursor.key())[0], cursor.value())
        return commit, cursor.value()[:CHAIN_BYTES] if cursor.prev() else GENESIS

    def check_last(self, head: Head, last: Commit | None, previous: bytes) -> None:
        """Compare the head record with the last commit; raises DamagedError when they disagree."""
        if last is None:
            position, chain = 0, GENESIS
        else:
            position, chain = self._codec.decode(last, previous)[-1].position, last[1][:CHAIN_BYTES]
        if (position, chain) != (head.position, head.chain):
            raise DamagedError(
                f"the head record of the log at {self._path} says position {head.position}, its last commit "
                f"ends at {position}: keep the library as it is and run `quire audit`"
            )

    def put(self, txn: Txn, head: Head, draft: Draft) -> None:
        """Write a draft as the commit behind ``head``.

        Raises:
            DamagedError: there are commits behind the head already.
        """
        key, value = NUMBER.pack(head.position + 1), self._codec.encode(head.chain, draft)
        # With append=True LMDB refuses a key out of order, and says so in what it returns alone.
        if not txn.put(key, value, append=True, db=self._db[COMMITS]):
            raise DamagedError(
                f"the log at {self._path} has commits behind its head at position {head.position}: "
                "keep the library as it is and run `quire audit`"
            )
        for stream, version in draft.touched.items():
            self._index(txn, stream, key, version, draft.states[stream])
        new = HEAD_RECORD.pack(draft.position, head.commits + 1, value[:CHAIN_BYTES])
        put(txn, self._db[META], HEAD, new)

    def _index(self, txn: Txn, stream: str, key: bytes, first: int, state: StreamState) -> None:
        """Note that a stream is in the commit under a key, from a version on, and its state behind it."""
        name = stream.encode()
        put(txn, self._db[STREAMS], name, PAIR.pack(*state))
        put(txn, self._db[STREAM_COMMITS], name, NUMBER.pack(first) + key)

    # By position

    def holding(self, txn: Txn, after: int, limit: int) -> tuple[list[Commit], bytes]:
        """The commits that hold ``limit`` positions behind ``after``, and the chain head before the first."""
        cursor = txn.cursor(self._db[COMMITS])
        wanted = NUMBER.pack(after + 1)
        if not cursor.set_range(wanted):
            cursor.last()
        elif cursor.key() != wanted:
            cursor.prev()  # the commit before may hold the first wanted position
        if not cursor.key() and not cursor.first():
            return [], GENESIS
        start = cursor.key()
        previous = cursor.value()[:CHAIN_BYTES] if cursor.prev() else GENESIS
        cursor.set_key(start)
        commits: list[Commit] = []
        for key, value in cursor.iternext():
            position = NUMBER.unpack(key)[0]
            if position > after + limit:
                break
            commits.append((position, value))
        return commits, previous

    def decoded(self, commits: Iterable[Commit], previous: bytes) -> Iterator[list[Recorded[Any]]]:
        """The events of commits that follow each other, commit by commit; raises as ``CommitCodec.decode``.

        Args:
            commits: in their order.
            previous: the chain head before the first.
        """
        for commit in commits:
            yield self._codec.decode(commit, previous)
            previous = commit[1][:CHAIN_BYTES]

    def all(self, txn: Txn) -> Iterator[list[Recorded[Any]]]:
        """The events of the whole log, commit by commit."""
        pairs = txn.cursor(self._db[COMMITS])
        return self.decoded(((NUMBER.unpack(key)[0], value) for key, value in pairs), GENESIS)

    def behind(self, txn: Txn, after: int, bytes_max: int) -> list[Commit]:
        """The commits that start behind a position, about ``bytes_max`` bytes of them."""
        cursor = txn.cursor(self._db[COMMITS])
        if not cursor.set_range(NUMBER.pack(after + 1)):
            return []
        return taken(((NUMBER.unpack(key)[0], value) for key, value in cursor.iternext()), bytes_max)

    def chain_at(self, txn: Txn, position: int) -> bytes | None:
        """The chain head behind the commit that ends at a position; None where no commit ends there."""
        head = self.head(txn)
        if position in (0, head.position):
            return head.chain if position else GENESIS
        cursor = txn.cursor(self._db[COMMITS])
        if not cursor.set_key(NUMBER.pack(position + 1)) or not cursor.prev():
            return None
        return bytes(cursor.value()[:CHAIN_BYTES])

    def indexed_anew(self, txn: Txn) -> Iterator[list[Recorded[Any]]]:
        """As ``all``, and on the way the index of streams is emptied and written anew."""
        for name in (STREAMS, STREAM_COMMITS):
            txn.drop(self._db[name], delete=False)
        for recorded in self.all(txn):
            key = NUMBER.pack(recorded[0].position)
            firsts = {event.stream: event.version for event in reversed(recorded)}
            states = {event.stream: (event.version, event.epoch) for event in recorded}
            for stream, version in firsts.items():
                self._index(txn, stream, key, version, states[stream])
            yield recorded

    def stream(self, txn: Txn, stream: str) -> StreamState:
        """The version and epoch of a stream."""
        value = txn.get(stream.encode(), db=self._db[STREAMS]) if stream else None
        if value is not None and len(value) != PAIR.size:
            raise DamagedError(f"the index of streams at {self._path} is damaged: run `quire audit`")
        return (0, 0) if value is None else PAIR.unpack(value)

    def streams_digest(self, txn: Txn) -> str:
        """The digest of the index of streams as it is kept; see ``StreamsDigest``."""
        digest = StreamsDigest()
        for name, state in txn.cursor(self._db[STREAMS]):
            digest.packed_state(name, state)
        for name, place in txn.cursor(self._db[STREAM_COMMITS]):
            digest.packed_commit(name, place)
        return digest.hexdigest()

    def streams(self, txn: Txn) -> int:
        """How many streams there are."""
        count: int = txn.stat(self._db[STREAMS])["entries"]
        return count

    def of_stream(self, txn: Txn, stream: str, after: int) -> Iterator[Recorded[Any]]:
        """The events of a stream behind its version ``after``."""
        for position in self._positions(txn, stream.encode(), after):
            [commit], previous = self.holding(txn, position - 1, 1)
            for event in self._codec.decode(commit, previous):
                if event.stream == stream and event.version > after:
                    yield event

    def _positions(self, txn: Txn, name: bytes, after: int) -> Iterator[int]:
        """First positions of the commits that hold versions of a stream behind ``after``."""
        cursor = txn.cursor(self._db[STREAM_COMMITS])
        if not cursor.set_range_dup(name, PAIR.pack(after + 1, 0)):
            if not cursor.set_key(name):
                return
            cursor.last_dup()
        elif PAIR.unpack(cursor.value())[0] > after + 1 and not cursor.prev_dup():
            cursor.set_key(name)
        for value in cursor.iternext_dup():
            yield PAIR.unpack(value)[1]
