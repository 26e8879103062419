"""What a session lets in: whatever passes here can be planned, appended and indexed."""

from __future__ import annotations

import re

import msgspec

from ..errors import UsageError
from ..events.work import normal_url
from .outcome import Wanted

PRIORITY_MAX = 2**31 - 1
"""Largest priority of a work, and smallest with a minus."""


def check_list_id(list_id: str) -> None:
    """Let a list id pass.

    Raises:
        UsageError: it is not 16 hex digits.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", list_id):
        raise UsageError(f"{list_id!r} is no list id: give 16 hex digits, such as the start of a SHA-256")


def admitted(wanted: Wanted) -> Wanted:
    """The work, if a job can be made of it.

    Raises:
        UsageError: it names nothing, its URL is none, its priority or its text cannot be kept.
    """
    work = wanted.work
    if not work.work_id:
        raise UsageError(f"a work without identifier and title cannot be planned: {wanted!r}")
    if work.url and normal_url(work.url) is None:
        raise UsageError(f"{work.url!r} is no URL: give an absolute http or https URL")
    if not -PRIORITY_MAX <= wanted.priority <= PRIORITY_MAX:
        raise UsageError(f"priority {wanted.priority} is out of range: -{PRIORITY_MAX} to {PRIORITY_MAX}")
    try:
        msgspec.msgpack.encode(wanted)
    except UnicodeEncodeError:
        raise UsageError(f"{wanted!r:.300} holds text that is no Unicode (a lone surrogate)") from None
    return wanted
