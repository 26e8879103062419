"""Digests of what is kept beside the commits, by which the audit holds it against what the commits say."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ..events.record import Head
from .lmdb_layout import PAIR

_BITS = 256


class Digests(NamedTuple):
    """What is kept at a moment, all of it read in one transaction."""

    head: Head
    tables: str
    """Of the projections: SHA-256 in hex; ``""`` where other code keeps them. Something that is no SHA-256
    where they cannot be what the log makes of them."""
    streams: str
    """Of the index of streams, as ``StreamsDigest`` makes it."""


class StreamsDigest:
    """A digest of the index of streams that does not depend on the order in which its entries are told.

    The index is what an append is judged by: a version or an epoch that is not the log's would let in what
    must be refused. The sum of the entries' SHA-256 is enough against damage; it is no proof against somebody
    who makes entries to fit a sum, and who can as well write the whole log anew.
    """

    def __init__(self) -> None:
        self._sum = 0

    def __repr__(self) -> str:
        return f"<StreamsDigest {self.hexdigest()[:8]}>"

    def state(self, stream: str, version: int, epoch: int) -> None:
        """The state of a stream at the end of the log."""
        self.packed_state(stream.encode(), PAIR.pack(version, epoch))

    def commit(self, stream: str, version: int, position: int) -> None:
        """A commit of a stream: the version that stands first in it, and the position of its first event."""
        self.packed_commit(stream.encode(), PAIR.pack(version, position))

    def packed_state(self, stream: bytes, state: bytes) -> None:
        """As ``state``, of an entry as it stands in the log's environment; it may be anything."""
        self._add(b"state", stream, state)

    def packed_commit(self, stream: bytes, place: bytes) -> None:
        """As ``commit``, of an entry as it stands in the log's environment; it may be anything."""
        self._add(b"commit", stream, place)

    def _add(self, kind: bytes, stream: bytes, value: bytes) -> None:
        digest = hashlib.sha256(b"%b %d %b%b" % (kind, len(stream), stream, value)).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % (1 << _BITS)

    def hexdigest(self) -> str:
        """The digest of all that was told so far, 64 hex digits."""
        return f"{self._sum:064x}"
