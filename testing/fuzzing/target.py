"""What is fuzzed: a parser as a function of bytes, the bodies to begin with, and what must be reached."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

import msgspec

from ...actors.sources.finding import SEEN_MAX, Found, explained
from ...actors.web.guard import BadUrl, Guard, place
from ...errors import InvariantError
from ...events.keys import canonical_url, job_key
from ...events.work import Work, normal_arxiv, normal_doi, normal_pmcid, normal_pmid
from .message import Message, packed, unpacked
from .mutations import Kind

GUARD = Guard()
_MD5_CHARS = 32


class Broken(Exception):
    """A parser answered, and its answer breaks a promise; the message says which."""


class Seen(NamedTuple):
    """How a parser answered."""

    outcome: str
    """A short word or reason code, for the account of what was reached."""
    result: Any = None
    """What it said, to be compared with what it says of the same body again."""


class Target(NamedTuple):
    """One parser."""

    name: str
    read: Callable[[bytes], Seen]
    """Runs it on a body; raises ``Broken``, or whatever the parser lets out."""
    made: Callable[[], list[bytes]]
    """Bodies of our own, so that a campaign needs no data; together they reach all of ``reach``."""
    reach: frozenset[str]
    """Outcomes without which a campaign proves little."""
    kind: Kind = "bytes"
    framed: bool = False
    """The bodies are messages, with status, URL and headers."""
    recorded: tuple[str, ...] = ()
    """Patterns of files in the folder of recorded bodies, and ``name.jsonl.gz`` for one body a line."""


def check(holds: object, promise: str) -> None:
    """Raise ``Broken`` unless the promise is kept."""
    if not holds:
        raise Broken(promise)


def ran(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise InvariantError("a fuzzed coroutine waits for something: its web must answer at once")


def framed(bodies: list[bytes]) -> list[bytes]:
    """Bodies as messages of status 200."""
    return [packed(body) for body in bodies]


def message_of(raw: bytes) -> Message:
    """The message of a framed body, at a URL that the web client can have come to."""
    message = unpacked(raw)
    try:
        asked = place(message.url)
        GUARD.check(asked)
        return message._replace(url=asked.url)
    except BadUrl:
        return message._replace(url="https://journal.example/article/10.1000/x")


# -- promises that several parsers share


def check_found(found: Found, *, candidates_max: int) -> None:
    """What every source promises of its answer."""
    check(isinstance(found, Found), "an answer is a Found")
    check(len(found.candidates) <= candidates_max, f"at most {candidates_max} candidates")
    check(len(found.seen) <= SEEN_MAX, f"at most {SEEN_MAX} URLs handed on")
    check(found.candidates or explained(found.reason), f"no candidates: {found.reason!r} is in the table")
    for candidate in found.candidates:
        check_url(candidate.url)
        check(0 < len(candidate.rule) <= 80 and candidate.rule.isprintable(), "a rule has a short name")
        check(candidate.md5 == "" or len(candidate.md5) == _MD5_CHARS, "an MD5 is one")
        check(len(candidate.version) <= 40, "a version is short")
    for url in found.seen:
        check_url(url)
    if found.identified is not None:
        check_work(found.identified)
    check_loggable(found)
    check_loggable(dict(found.meta))


def check_url(url: str) -> None:
    """A URL can be brought to its identity, and the guard takes or refuses it."""
    try:
        canonical_url(url)
    except ValueError as error:
        raise Broken(f"a URL has a canonical form: {url[:200]!r}") from error
    check(url.lower().startswith(("http://", "https://")), f"a URL is of the web: {url[:80]!r}")
    try:
        GUARD.check(place(url))
    except BadUrl as refused:
        check(explained(refused.reason), "a refusal has a reason of the table")


def check_work(work: Work) -> None:
    """Whatever was learned of a work is in its normal form, and makes an identity."""
    check(normal_doi(work.doi) == work.doi if work.doi else True, f"a DOI is one: {work.doi[:80]!r}")
    check(normal_pmcid(work.pmcid) == work.pmcid if work.pmcid else True, f"a PMCID is one: {work.pmcid!r}")
    check(normal_pmid(work.pmid) == work.pmid if work.pmid else True, f"a PubMed id is one: {work.pmid!r}")
    arxiv = normal_arxiv(work.arxiv_id) if work.arxiv_id else ("", "")
    check(arxiv is not None and arxiv[0] == work.arxiv_id, f"an arXiv id is one: {work.arxiv_id!r}")
    check(len(work.title) <= 1_000, "a title is bounded")
    if work.work_id:
        job_key(work)


def check_loggable(value: Any) -> None:
    """A record can be written to the log and read back as it was: no surrogates, no endless numbers."""
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))
    check(again == value, "a record is read back as it was written")


def outcome_of(found: Found) -> Seen:
    """``found`` or the reason."""
    return Seen("found" if found.candidates else found.reason, found)


def plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as a dict, to be compared."""
    return dict(mapping)
