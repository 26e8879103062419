"""What stands where in the environment of a log: its databases, their keys, and how numbers are packed.

Beside the databases named here there is one for each projection table, under the table's name.
"""

from __future__ import annotations

import struct
from typing import Any

COMMITS = b":commits"
"""Position of a commit's first event → the commit's record."""
STREAMS = b":streams"
"""Stream → its version and epoch."""
STREAM_COMMITS = b":stream_commits"
"""Stream → in order, pairs of a version and the key of the commit in which it stands first."""
META = b":meta"
"""The records of the log as a whole, under the four keys below."""
SYSTEM = (COMMITS, STREAMS, STREAM_COMMITS, META)
TABLES_MAX = 256
"""Named databases in the environment."""

HEAD = b"head"
"""Position, number of commits, and chain head at the end of the log."""
TABLES = b"tables"
"""The position that the tables show, and the fingerprint of the code that keeps them."""
NAMES = b"names"
"""The names of the tables that the last rebuild folded."""
FORMAT = b"format"
"""Layout of the environment."""
FORMAT_KNOWN = 1
"""The layout described here; a higher one was written by a newer program."""

NUMBER = struct.Struct(">Q")
PAIR = struct.Struct(">QQ")
HEAD_RECORD = struct.Struct(">QQ32s")

Txn = Any
"""A transaction; py-lmdb types its values as bytes or memoryview, and we never ask for the latter."""
