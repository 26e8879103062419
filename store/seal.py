"""A seal: what the log's head was at a moment, to be kept elsewhere as a witness.

A chain shows every change inside the log, but not that its end was cut off and written anew: whoever rolls
the whole library back has a log that is whole. A seal that was kept elsewhere shows it: the log must still
hold the sealed commit. With a key it carries an HMAC-SHA256, so that nobody without the key makes one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Protocol

import msgspec

from ..errors import UsageError
from ..events.record import Head
from .audit import Finding

KEY_BYTES_MIN = 16
"""Shortest key, in bytes."""


class Seal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The head of a library's log at a moment."""

    quire_seal: int = 1
    """Version of this form."""
    library_id: str
    position: int
    """Position of the last event."""
    commits: int
    chain: str
    """The chain head behind it, 64 hex digits."""
    time: str
    """When it was taken, ISO 8601 in UTC; for people."""
    hmac: str = ""
    """HMAC-SHA256 over all the rest, 64 hex digits; ``""`` where it was taken without a key."""


class SealedStore(Protocol):
    """What holding a log against a seal needs of a store."""

    def head(self) -> Head:
        """As ``EventStore.head``."""
        ...

    def chain_at(self, position: int) -> bytes | None:
        """The chain head behind the commit that ends at a position; None where no commit ends there."""
        ...


def sealed(head: Head, *, library_id: str, time: str, key: bytes | None = None) -> Seal:
    """The seal of a head.

    Raises:
        UsageError: the key is too short.
    """
    seal = Seal(
        library_id=library_id,
        position=head.position,
        commits=head.commits,
        chain=head.chain.hex(),
        time=time,
    )
    return seal if key is None else msgspec.structs.replace(seal, hmac=_mac(seal, key))


def seal_of(text: bytes) -> Seal:
    """The seal that a file holds.

    Raises:
        UsageError: it holds none.
    """
    try:
        seal = msgspec.json.decode(text, type=Seal)
        bytes.fromhex(seal.chain)
        if seal.position < 0:
            raise ValueError("its position is below 0")
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"that is no seal of `quire audit seal`: {error}") from None
    if seal.quire_seal != 1:
        raise UsageError(f"the seal is of form {seal.quire_seal}, made by a newer quire: use that one")
    return seal


def against(
    store: SealedStore, library_id: str, seal: Seal, *, key: bytes | None = None
) -> Iterator[Finding]:
    """What is wrong with a log in the light of a seal; nothing, when it is the sealed log gone on.

    Args:
        store: the log.
        library_id: its library's id.
        seal: the witness.
        key: the key that it was made with; a seal that has an HMAC is not believed without.

    Raises:
        UsageError: the seal is of another library, or its HMAC cannot be checked.
    """
    if seal.hmac and key is None:
        raise UsageError("the seal was made with a key: give it with --key FILE")
    if key is not None and not seal.hmac:
        raise UsageError("the seal carries no HMAC: leave --key away, or take a new seal with it")
    if key is not None and not hmac.compare_digest(seal.hmac.encode(), _mac(seal, key).encode()):
        yield Finding("seal", "the seal was not made with this key, or was changed")
        return
    if seal.library_id != library_id:
        raise UsageError(f"the seal is of the library {seal.library_id}, this one is {library_id}")
    head = store.head()
    if head.position < seal.position:
        what = f"the log ends at {head.position}; it held {seal.position} events at {seal.time}"
        yield Finding("rolled_back", what, head.position)
    elif store.chain_at(seal.position) != bytes.fromhex(seal.chain):
        what = f"the log is not the one sealed at {seal.time}: it was cut and written anew before here"
        yield Finding("rewritten", what, seal.position)


def _mac(seal: Seal, key: bytes) -> str:
    if len(key) < KEY_BYTES_MIN:
        raise UsageError(f"a key has {KEY_BYTES_MIN} bytes at least")
    said = msgspec.json.encode(msgspec.structs.replace(seal, hmac=""))
    return hmac.new(key, said, hashlib.sha256).hexdigest()
