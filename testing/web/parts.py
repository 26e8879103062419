"""Files whose first transfer breaks off, and what their servers then do with a request for the rest.

Each breaks off once, with a strong validator, so that a client may ask for the rest. What it gets is the
whole, another part, a part of another file, or a refusal; one that starts anew gets the file. So all of them
are good fates, and each is a trap for whoever joins two halves without looking.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from . import faults
from .artifacts import Answering, Artifact
from .exchange import Call, Reply

ASIDE = 100
"""Bytes by which a part begins, or a file ends, elsewhere than it should."""
Rest = Callable[[Artifact, Call, int], Reply]


def _broken_once(rest: Rest) -> Answering:
    """Breaks off for the first whole request; every request for a part gets the lie."""

    def answer(it: Artifact, call: Call) -> Reply:
        start = it.range_start(call)
        if start is not None:
            return rest(it, call, start)
        return it.sound(call) if call.number else it.faulty(call, faults.reset(after=it.kept))

    return answer


def _refused(it: Artifact, call: Call, start: int) -> Reply:
    """It said that it takes ranges, and sends the whole."""
    return Reply(headers=it.headers(), body=it.data, did="sound")


def _elsewhere(it: Artifact, call: Call, start: int) -> Reply:
    begin = max(0, start - ASIDE)
    return _span(it, begin, it.size, it.data()[begin:])


def _other_total(it: Artifact, call: Call, start: int) -> Reply:
    return _span(it, start, it.size + ASIDE, it.data()[start:])


def _restarts(it: Artifact, call: Call, start: int) -> Reply:
    """Says the right thing, and sends the beginning of the file again: what comes of it is no PDF."""
    return _span(it, start, it.size, it.data()[: it.size - start])


def _unsatisfied(it: Artifact, call: Call, start: int) -> Reply:
    return Reply(status=416, headers=(("Content-Range", f"bytes */{it.size}"),))


def _span(it: Artifact, begin: int, total: int, data: bytes) -> Reply:
    span = ("Content-Range", f"bytes {begin}-{begin + len(data) - 1}/{total}")
    return Reply(status=206, headers=(*it.headers(), span), body=data)


def _edited(*, joins: bool) -> Answering:
    """The file is another one from the second request on, with an ETag of its own.

    With ``joins`` the rest of the new one is sent although the ETag of the old one was asked for.
    """

    def answer(it: Artifact, call: Call) -> Reply:
        if not call.number:
            return it.first_edition().faulty(call, faults.reset(after=it.kept))
        start = it.range_start(msgspec.structs.replace(call, headers=_without_condition(call)))
        if joins and start is not None:
            return _span(it, start, it.size, it.data()[start:])
        return it.sound(call)

    return answer


def _without_condition(call: Call) -> dict[str, str]:
    return {name: value for name, value in call.headers.items() if name != "if-range"}


PARTS: dict[str, Answering] = {
    "ranges_refused": _broken_once(_refused),
    "range_elsewhere": _broken_once(_elsewhere),
    "range_other_total": _broken_once(_other_total),
    "range_restarts": _broken_once(_restarts),
    "range_416": _broken_once(_unsatisfied),
    "edited": _edited(joins=False),
    "edited_joined": _edited(joins=True),
}
"""Fate → how it answers."""
