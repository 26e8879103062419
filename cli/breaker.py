"""The hosts that are left alone: ``breaker list``, ``breaker open`` and ``breaker close``.

What is said here stands in the log as an event of the host; workers that run learn it within about a second.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from ..actors.runtime.ports import NANOSECONDS
from ..actors.shared_breakers import EARLY_S, left_s
from ..actors.waking import woken
from ..actors.web.breaker import AFTER, BY_HAND
from ..actors.web.guard import BadUrl, place
from ..errors import UsageError
from ..events.facts import BreakerChanged
from ..events.projections import HOST_PREFIX, HOSTS, HOSTS_TROUBLED, HostRow
from ..events.record import Appended, Batch
from . import output
from .library import Opened, opened, scanned
from .moments import span_s
from .words import words_for

FOR_S_MAX = 366 * 86_400
"""Longest time for which a breaker is opened by hand, in seconds."""
REASON_CHARS_MAX = 200
WAKE_BATCH = 500
"""Waiting jobs that are let go in one commit."""
_HEADER = ("HOST", "STATE", "SINCE", "UNTIL", "FAILURES", "WHY")
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+(?!\d+$)[a-z0-9-]{2,63}")


def breaker(args: argparse.Namespace) -> int:
    """``quire breaker list|open|close``."""
    actions = {"list": _list, "open": _open, "close": _close}
    return actions[args.action](args)


def site_of(text: str) -> str:
    """The host that a word or a URL names, as breakers call it: with its port where that is unusual.

    Raises:
        UsageError: it names none.
    """
    url = text.strip() if "://" in text else f"https://{text.strip()}"
    try:
        found = place(url)
    except BadUrl as error:
        raise _no_host(text, f": {error}") from None
    if found.host != "localhost" and not _NAME.fullmatch(found.host) and not _is_address(found.host):
        raise _no_host(text, "")
    return found.site


def _no_host(text: str, why: str) -> UsageError:
    return UsageError(f"{text[:200]!r} names no host{why}; give one such as arxiv.org, or a URL there")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# -- list


def _list(args: argparse.Namespace) -> int:
    with opened(args) as library:
        now_ns = library.clock.wall_ns()
        lines = [as_line(row, wall_ns=now_ns) for row in _rows(library, everything=args.all)]
    for line in lines if args.json else ():
        output.say_json(line)
    if not args.json:
        columns = ("host", "state", "since", "until", "failures", "why")
        rows = [[line[name] for name in columns] for line in lines]
        output.say(output.table(rows, header=_HEADER) if rows else "no host is left alone")
    return 0


def as_line(row: HostRow, *, wall_ns: int) -> dict[str, Any]:
    """A host as ``quire breaker list --json`` gives it; the names are a promise to scripts."""
    return {
        "host": row.host,
        "state": row.state,
        "since": output.iso_time(row.changed_ns),
        "until": output.iso_time(row.until_ns),
        "wait_s": round(left_s(row, wall_ns=wall_ns), 3),
        "failures": row.failures,
        "reason": row.reason,
        "why": _in_words(row),
    }


def _rows(library: Opened, *, everything: bool) -> Iterator[HostRow]:
    if everything:
        yield from (row for _, row in scanned(library.store, HOSTS))
        return
    for _, key in scanned(library.store, HOSTS_TROUBLED):
        yield from (row for row in library.store.rows(HOSTS, [key]) if row is not None)


def _in_words(row: HostRow) -> str:
    reason = row.reason.removeprefix(AFTER)
    if reason.startswith(BY_HAND):
        why = f"It was {'closed' if row.state == 'closed' else 'opened'} {reason}."
    elif " " in reason:  # no code but words
        why = f"{reason[0].upper()}{reason[1:]}."
    else:
        why = words_for(reason)[0]
    return f"{why} A probe is out.".lstrip() if row.state == "half_open" else why


# -- open and close


def _open(args: argparse.Namespace) -> int:
    site, reason = site_of(args.host), _said(args.reason)
    with opened(args, readonly=False) as library:
        for_s = _for_s(args.span, library)
        row = _row(library, site)
        now_ns = library.clock.wall_ns()
        until_ns = now_ns + round(for_s * NANOSECONDS)
        failures = row.failures if row is not None else 0
        _append(library, BreakerChanged(site, "open", reason, failures, until_ns))
        before_s = left_s(row, wall_ns=now_ns) if row is not None else 0.0
        released = _wake(library) if before_s - for_s > EARLY_S else 0
    until = output.iso_time(until_ns)
    if args.json:
        output.say_json({"host": site, "state": "open", "until": until, "released": released})
        return 0
    output.say(f"{site} is left alone for {output.human_time(for_s)}, until {until}, by every worker here")
    return 0


def _close(args: argparse.Namespace) -> int:
    site = site_of(args.host)
    with opened(args, readonly=False) as library:
        row = _row(library, site)
        closes = row is not None and row.state != "closed"
        if closes:
            _append(library, BreakerChanged(site, "closed", BY_HAND, 0))
        released = _wake(library) if closes else 0
    if args.json:
        output.say_json({"host": site, "state": "closed", "changed": closes, "released": released})
    elif not closes:
        output.say(f"{site} was not left alone; nothing to do")
    else:
        go_on = f"; {output.many(released, 'waiting work')} may go on" * bool(released)
        output.say(f"{site} is asked again, by every worker here{go_on}")
    return 0


def _said(text: str) -> str:
    text = text.strip()
    if len(text) > REASON_CHARS_MAX or not text.isprintable():
        raise UsageError(f"--reason: expected one line of at most {REASON_CHARS_MAX} characters")
    return f"{BY_HAND}: {text}" if text else BY_HAND


def _for_s(span: str | None, library: Opened) -> float:
    if span is None:
        return library.settings.web.breaker.open_s
    for_s = span_s(span)
    if not for_s or for_s > FOR_S_MAX:
        raise UsageError(f"--for {span}: expected a length of time up to 366d, such as 30s, 10m, 1h or 3d")
    return for_s


def _row(library: Opened, site: str) -> HostRow | None:
    row: HostRow | None = library.store.rows(HOSTS, [site.encode()])[0]
    return row


def _append(library: Opened, event: BreakerChanged) -> None:
    """Without a version: whatever a worker says at the same moment, the operator's word stands."""
    library.store.append([Batch(HOST_PREFIX + event.host, (event,))])


def _wake(library: Opened) -> int:
    """Let go the works that wait for a breaker; how many."""
    released = 0
    for batches in _chunks(woken(library.store, wall_ns=library.clock.wall_ns())):
        released += sum(isinstance(result, Appended) for result in library.store.append(batches))
    return released


def _chunks(batches: Iterable[Batch[Any]]) -> Iterator[list[Batch[Any]]]:
    rest = iter(batches)
    while chunk := list(islice(rest, WAKE_BATCH)):
        yield chunk
