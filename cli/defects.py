"""Defects of quire: one line for the user, and the traceback in a file that can be sent in."""

from __future__ import annotations

import logging
import os
import tempfile
import traceback

from ..errors import InvariantError, QuireError
from . import output

NOTED_MAX = 1_000
"""Accounts in one file; a defect that comes again and again does not fill the disk."""


class Defects(logging.Handler):
    """Takes what the program logs: an account with a traceback goes to a file, told once in one line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.file = ""
        """Where the accounts are; ``""`` while there is none."""
        self._noted = 0

    def __repr__(self) -> str:
        return f"<Defects {self._noted} noted in {self.file or 'no file'}>"

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record of the log; never raises."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, QuireError) and not isinstance(error, InvariantError):
            return  # no defect: the command ends with it, and says so
        if error is not None:
            self.note(error, record.getMessage())
        else:
            output.warn(f"quire: {record.getMessage()}")

    def note(self, error: BaseException, about: str = "") -> None:
        """Write down an error with its traceback, and say where; the first one in a line of its own."""
        self._noted += 1
        if self._noted > NOTED_MAX:
            return
        told = not self.file
        text = "".join(traceback.format_exception(error))
        self._write(f"{about}\n{text}\n")
        if told:
            what = traceback.format_exception_only(error)[-1].strip()
            output.warn(f"quire: a defect of quire: {what}\n  please report it with {self.file}")

    def _write(self, text: str) -> None:
        """Append to the file; where none can be made, the text itself is the last resort."""
        try:
            if not self.file:
                descriptor, self.file = tempfile.mkstemp(prefix="quire-defect-", suffix=".txt", text=True)
                os.close(descriptor)
            with open(self.file, "a", encoding="utf-8", errors="backslashreplace") as stream:  # noqa: PTH123
                stream.write(text)
        except OSError:
            self.file = self.file or "the lines above"
            output.warn(text)


DEFECTS = Defects()
"""The one place that they all go to."""


def listen() -> None:
    """Let everything that is logged in this process come here, and nothing to the terminal."""
    root = logging.getLogger()
    if DEFECTS not in root.handlers:
        root.addHandler(DEFECTS)
