"""Writes into LMDB that are checked: what it did not keep, it says in a return value and not in an error."""

from __future__ import annotations

from typing import Any

from ..errors import InvariantError
from .lmdb_layout import Txn
from .projecting import TableChange


def put(txn: Txn, db: Any, key: bytes, value: bytes) -> None:
    """Put a value under a key, in place of what was there; raises InvariantError if it was not kept."""
    if not txn.put(key, value, db=db):
        raise InvariantError(f"LMDB kept nothing under {key[:80]!r}: run `quire audit`")


def change(txn: Txn, db: Any, wanted: TableChange) -> None:
    """Bring a change into its table; raises InvariantError if a part of it was not kept."""
    for key in wanted.deletes:
        if not txn.delete(key, db=db):
            raise InvariantError(f"{wanted.table}: {key[:80]!r} was to be removed and is not there")
    if wanted.inserts and not stored(txn, db, wanted.inserts, overwrite=False):
        raise InvariantError(f"{wanted.table}: an entry stands for two rows")
    if wanted.puts and not stored(txn, db, wanted.puts, overwrite=True):
        raise InvariantError(f"{wanted.table}: LMDB kept less than it was given")


def stored(txn: Txn, db: Any, items: list[tuple[bytes, bytes]], *, overwrite: bool) -> bool:
    """Whether all items were put; one whose key is there already only if ``overwrite``."""
    consumed, added = txn.cursor(db).putmulti(items, overwrite=overwrite)
    return bool(consumed == added == len(items))
