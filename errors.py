"""The errors of quire: one root, and one class per decision the caller can take."""

from __future__ import annotations


class QuireError(Exception):
    """Root of every error that quire raises on purpose; its message says what, where and what next."""

    exit_code = 1


class UsageError(QuireError):
    """The request or the settings are wrong: change them and call again."""

    exit_code = 2


class DamagedError(QuireError):
    """The log or a file is not what was written: stop, keep the library, run ``quire audit``."""

    exit_code = 3


class EnvironmentFault(QuireError):
    """The machine does not let us work (disk full, read-only, stand-in down): mend it and go on."""

    exit_code = 4


class StorageFullError(EnvironmentFault):
    """The disk or the log's map is full: make room, then run the same command again."""


class StoreFailedError(EnvironmentFault):
    """A write or fsync failed: nothing of the commit is acknowledged; reopen, never retry."""


class InvariantError(QuireError):
    """A rule that quire keeps by design was found broken: a defect of quire; please report it."""


class StateError(InvariantError):
    """A job was asked to take a step that the state table does not hold."""
