"""All targets by name, and the bodies that each begins with."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from ...errors import UsageError
from . import files, pages, records, services, wire
from .message import DEFAULT_URL, packed
from .target import Target

TARGETS: dict[str, Target] = {
    target.name: target for room in (services, pages, wire, files, records) for target in room.TARGETS
}
"""Every parser of quire that reads bytes which others wrote."""
RECORDED_BYTES_MAX = 260_000
"""A longer recorded body is cut."""
RECORDED_MAX = 250
"""Recorded bodies of one target."""


def target_of(name: str) -> Target:
    """The target of a name.

    Raises:
        UsageError: there is none.
    """
    try:
        return TARGETS[name]
    except KeyError:
        raise UsageError(f"no parser {name!r}; there are {', '.join(TARGETS)}") from None


def default_corpus() -> Path | None:
    """The recorded bodies beside the repository, where they are."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return folder if folder.is_dir() else None


def corpus_of(target: Target, folder: Path | None) -> list[bytes]:
    """The bodies of our own, then the recorded ones of a folder."""
    recorded = islice(_recorded(target, folder), RECORDED_MAX) if folder is not None else ()
    return [*target.made(), *recorded]


def _recorded(target: Target, folder: Path) -> Iterator[bytes]:
    urls = _page_urls(folder) if target.framed else {}
    for pattern in target.recorded:
        for path in sorted(folder.glob(pattern)):
            for body in _bodies(path):
                url = urls.get(path.relative_to(folder).as_posix(), DEFAULT_URL)
                yield packed(body, url=url) if target.framed else body


def _bodies(path: Path) -> Iterator[bytes]:
    if path.name.endswith(".jsonl.gz"):
        with gzip.open(path) as lines:
            yield from islice((line[:RECORDED_BYTES_MAX] for line in lines), RECORDED_MAX)
    elif path.is_file():
        with path.open("rb") as file:
            yield file.read(RECORDED_BYTES_MAX)


def _page_urls(folder: Path) -> dict[str, str]:
    """Page → the URL that it was saved from."""
    urls: dict[str, str] = {}
    for index in sorted((folder / "landing").glob("*.jsonl")):
        for line in index.read_bytes().splitlines():
            said = msgspec.json.decode(line)
            if said.get("html") and said.get("page_url"):
                urls[f"landing/{said['html']}"] = said["page_url"]
    return urls
