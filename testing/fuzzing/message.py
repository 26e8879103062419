"""An answer of the web as one run of bytes, so that URL, status and headers are damaged like the body.

The form: ``STATUS URL``, a line for each header, an empty line, the body. Reading never raises: what is no
message is the body of one.
"""

from __future__ import annotations

from typing import NamedTuple

from ...actors.web.exchange import Answer

DEFAULT_URL = "https://journal.example/article/10.1000/x"
_LINES_MAX = 64


class Message(NamedTuple):
    """Status, URL, headers and body of an answer."""

    status: int
    url: str
    headers: tuple[tuple[str, str], ...]
    """Names and values as they came, in order."""
    body: bytes

    def answer(self, *, url: str = "") -> Answer:
        """As the web client hands it on, under another URL where one is given."""
        headers = {name.lower(): value for name, value in self.headers}
        return Answer(url=url or self.url, status=self.status, headers=headers, body=self.body)


def packed(body: bytes, *, status: int = 200, url: str = DEFAULT_URL, **headers: str) -> bytes:
    """A message; names of headers are written with ``_`` for ``-``."""
    lines = [f"{status} {url}", *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items())]
    return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n\n" + body


def parted(raw: bytes) -> tuple[bytes, bytes]:
    """The head of a message with the empty line behind it, and its body."""
    head, mark, body = raw.partition(b"\n\n")
    return (head + mark, body) if mark else (b"", raw)


def unpacked(raw: bytes) -> Message:
    """The message that some bytes hold."""
    head, body = parted(raw)
    first, *lines = head.decode("latin-1").split("\n")[:_LINES_MAX]
    status, _, url = first.partition(" ")
    pairs = (line.partition(":") for line in lines if line)
    headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    sound = len(status) == 3 and status.isascii() and status.isdigit() and status >= "100"
    return Message(int(status) if sound else 200, url.strip() or DEFAULT_URL, headers, body)
