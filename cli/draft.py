"""Files that are there whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from ..errors import UsageError


@contextmanager
def draft_of(file: Path) -> Iterator[IO[bytes]]:
    """A draft beside the file that takes its place when the block ends well, and goes when it does not.

    Raises:
        UsageError: nothing can be written there.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        stream = draft.open("xb")
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
    try:
        with stream:
            yield stream
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def text_draft_of(file: Path) -> Iterator[TextIO]:
    """``draft_of`` for UTF-8 text; line ends are written as they are given."""
    with draft_of(file) as stream, io.TextIOWrapper(stream, "utf-8", newline="") as text:
        yield text
