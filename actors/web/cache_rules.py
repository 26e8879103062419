"""The rules of RFC 9111 (HTTP Caching) as the cache follows them: pure, by way of the library hishel.

hishel (2.0) says what may be stored, which fields go with it, what may be used without asking, how to ask
whether it still holds, and what a 304 changes. Two things are our own:

- **Time.** hishel reads the wall clock itself and passes over the ``Age`` field. So age and lifetime (4.2)
  are reckoned here, from a given time, and hishel is shown what is left of the lifetime.
- **No heuristic freshness** (4.2.2). A paper that is not there today may be there tomorrow: what does not say
  how long it holds is asked for again, with its validator. ``ttl_max_s`` bounds what is said.

Loading hishel takes a twentieth of a second: call these functions aside, never on the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from ..runtime.ports import NANOSECONDS
from .cache_store import Kept
from .cookies import http_date_s

if TYPE_CHECKING:
    import hishel
    from hishel._core._headers import CacheControl

OK = 200
NOT_MODIFIED = 304
AGE_DIGITS_MAX = 9
"""An ``Age`` with more digits than this is none."""
Pairs = tuple[tuple[str, str], ...]


class Rules(msgspec.Struct, frozen=True):
    """How the cache judges."""

    ttl_max_s: float
    """An answer is fresh no longer than this, whatever it says, in seconds."""
    disconnected: bool
    """Stale answers are used as well, where their server does not forbid it (4.2.4)."""

    def conditions(self, kept: Kept, sent: dict[str, str], *, now_ns: int) -> dict[str, str] | None:
        """The fields to confirm a kept answer with, ``{}`` where it cannot be; None to use it as it is (4).

        Args:
            kept: an answer whose ``vary`` fits the request.
            sent: the fields that the request is sent with.
            now_ns: the time, on the wall clock.
        """
        import hishel

        request = hishel.Request("GET", kept.name, hishel.Headers(sent))
        shown = self._shown(kept, now_ns)
        entry = hishel.Entry(_id(kept), request, hishel.Response(kept.status, _fields(shown)))
        state = hishel.IdleClient(options=self._options()).next(request, [entry])
        if isinstance(state, hishel.FromCache):
            return None
        asked = state.request.headers
        return {name: asked[name] for name in ("if-none-match", "if-modified-since") if name in asked}

    def confirmed(self, kept: Kept, fresh: Kept) -> Kept | None:
        """A kept answer with what a 304 (``fresh``) says of it; None where that confirms another (4.3.4)."""
        import hishel

        request = hishel.Request("GET", kept.name)
        entry = hishel.Entry(_id(kept), request, hishel.Response(kept.status, _fields(kept.headers)))
        asking = hishel.NeedRevalidation(
            options=self._options(), request=request, original_request=request, revalidating_entries=[entry]
        )
        state: hishel.AnyState = asking.next(hishel.Response(NOT_MODIFIED, _fields(fresh.headers)))
        if isinstance(state, hishel.InvalidateEntries):
            state = state.next()
        if not isinstance(state, hishel.NeedToBeUpdated):
            return None
        headers = _pairs(state.updating_entries[-1].response.headers)
        # What it varies by may be said anew, and then it is for requests such as the one just sent (3.2).
        alike = fresh if any(name == "vary" for name, _ in fresh.headers) else kept
        return msgspec.structs.replace(
            kept,
            name=alike.name,
            vary=alike.vary,
            headers=headers,
            age_s=fresh.age_s,
            received_ns=fresh.received_ns,
        )

    def storable(self, kept: Kept) -> Kept | None:
        """As much of an answer that has just come as may be kept, and is of use; None for nothing (3)."""
        import hishel

        response = hishel.Response(kept.status, _fields(kept.headers))
        request = hishel.Request("GET", kept.name)
        judged = hishel.CacheMiss(options=self._options(), request=request).next(response)
        if not isinstance(judged, hishel.StoreAndUse):
            return None
        headers = _pairs(judged.response.headers)
        lives = self._lifetime_s(headers) > kept.age_s
        confirmable = kept.status == OK and any(name in ("etag", "last-modified") for name, _ in headers)
        return msgspec.structs.replace(kept, headers=headers) if lives or confirmable else None

    def _options(self) -> hishel.CacheOptions:
        return {"shared": True, "supported_methods": ["GET"], "allow_stale": self.disconnected}

    def _shown(self, kept: Kept, now_ns: int) -> list[tuple[str, str]]:
        """The fields as hishel is shown them: without a Date it takes the age for 0."""
        left_s = self._lifetime_s(kept.headers) - _age_s(kept, now_ns)
        said = _directives(kept.headers)
        # Both bind a shared cache like must-revalidate (5.2.2.8, 5.2.2.10), and hishel knows that alone.
        strictly = ", must-revalidate" if said.proxy_revalidate or said.s_maxage is not None else ""
        left = f"s-maxage={math.ceil(left_s) if left_s > 0 else 0}"  # of two, hishel takes the last
        kept_fields = [(name, value) for name, value in kept.headers if name not in ("date", "expires")]
        return [*kept_fields, ("cache-control", left + strictly)]

    def _lifetime_s(self, headers: Pairs) -> float:
        """freshness_lifetime (4.2.1) within our bound; 0 where the answer does not say."""
        said, by_name = _directives(headers), dict(headers)
        lifetime_s: float = 0.0
        if said.s_maxage is not None:
            lifetime_s = said.s_maxage
        elif said.max_age is not None:
            lifetime_s = said.max_age
        elif "expires" in by_name:
            expires, date = http_date_s(by_name["expires"]), http_date_s(by_name.get("date", ""))
            lifetime_s = 0.0 if expires is None or date is None else expires - date
        return min(lifetime_s, self.ttl_max_s)


def initial_age_s(headers: Iterable[tuple[str, str]], *, asked_ns: int, received_ns: int) -> float:
    """corrected_initial_age (4.2.3) of an answer, in seconds."""
    by_name = dict(headers)
    text = by_name.get("age", "").split(",")[0].strip()
    known = text.isascii() and text.isdigit() and len(text) <= AGE_DIGITS_MAX
    delay_s = max(0.0, (received_ns - asked_ns) / NANOSECONDS)
    date_s = http_date_s(by_name.get("date", ""))
    apparent_s = 0.0 if date_s is None else max(0.0, received_ns / NANOSECONDS - date_s)
    return max(apparent_s, (int(text) if known else 0) + delay_s)


def _age_s(kept: Kept, now_ns: int) -> float:
    """current_age (4.2.3); without end where the clock was set back since."""
    resident_s = (now_ns - kept.received_ns) / NANOSECONDS
    return kept.age_s + resident_s if resident_s >= 0 else math.inf


def _directives(headers: Pairs) -> CacheControl:
    # Not exported by hishel; tests/test_web_cache.py notices when it moves.
    from hishel._core._headers import parse_cache_control

    return parse_cache_control(", ".join(value for name, value in headers if name == "cache-control"))


def _id(kept: Kept) -> UUID:
    return UUID(hex=kept.name[:32])


def _fields(pairs: Iterable[tuple[str, str]]) -> hishel.Headers:
    import hishel

    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return hishel.Headers(dict(values))


def _pairs(fields: hishel.Headers) -> Pairs:
    return tuple((name, value) for name in fields for value in fields.get_list(name) or ())
