"""The plain text that arXiv mails to its subscribers: a block for each paper, with its id and title.

A block is a head (``arXiv:2401.12345``, ``Title:``, ``DOI:`` …) between two lines of two backslashes, then
the abstract up to a line that begins with them: https://info.arxiv.org/help/subscribe.html. Replacements
have no abstract. What stands around the blocks (greetings, section names, the mail's head) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..actors.outcome import Wanted
from .fields import Entry, entry_of, wanted

BLOCK_LINES_MAX = 500
"""Lines of a head that are kept; the longest real ones have a few dozen."""

_QUOTED = re.compile(r"^(?:> ?)+")
"""What a mail program puts before the lines of a message that is passed on."""
_FIRST = re.compile(r"^(?:arXiv:|Paper:[ \t]*)(?P<id>\S+)")
_FIELD = re.compile(r"^(?P<name>[A-Z][A-Za-z-]{1,20}):(?:[ \t]+(?P<value>.*))?$")
_RULE = re.compile(r"^-{20,}\s*$|^%[-%\s]*%\s*$|^\\\\ \(")
"""The line between two papers, or the last one of an abstract."""
_SLASHES = "\\\\"
LISTING = re.compile(
    r"^(?:> ?)*(?:\\\\|-{20,})[ \t]*\r?\n(?:> ?)*(?:arXiv:|Paper:[ \t]*)[a-z0-9.-]+[/.]?[0-9]",
    re.MULTILINE | re.IGNORECASE,
)
"""What shows that a text is such a mail."""


class _Block:
    """A paper on its way."""

    def __init__(self, line: int, identifier: str) -> None:
        self.line = line
        self.fields = {"arxiv_id": identifier}
        self._raw: list[str] = []
        self._last = ""

    def take(self, line: str) -> None:
        """One more line of its head; one that is set in goes on with the field before."""
        if len(self._raw) >= BLOCK_LINES_MAX:
            return
        self._raw.append(line)
        field = _FIELD.match(line)
        if field:
            self._last = field["name"].lower()
            if self._last in ("title", "doi"):
                self.fields[self._last] = (field["value"] or "").strip()
        elif line[:1] in (" ", "\t") and self._last in self.fields:
            self.fields[self._last] += " " + line.strip()

    def entry(self, file: str) -> Entry:
        """What it says."""
        return entry_of(file, self.line, "".join(self._raw), _from_block, self.fields)


def read_mail(file: str, lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
    """One work per block, in the order of the mail; a paper listed twice comes twice."""
    block: _Block | None = None
    within_abstract = False
    for number, given in lines:
        line = _QUOTED.sub("", given)
        first = None if within_abstract else _FIRST.match(line)
        if block and (first or _RULE.match(line)):
            yield block.entry(file)
            block, within_abstract = None, False
        if first:
            block = _Block(number, first["id"])
        if block and line.strip() == _SLASHES:
            within_abstract = True
        elif block and not within_abstract:
            block.take(line)
    if block:
        yield block.entry(file)


def _from_block(fields: dict[str, str]) -> Wanted:
    # A DOI field may name several, with spaces between; the first that can be read counts.
    return wanted({**fields, "doi": fields.get("doi", "").split()})
