"""Limits space requests evenly, in order of asking, and hand on what a cancelled waiter leaves."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quire.actors.web.limits import Limiter, Limits
from quire.config.settings import Limits as Settings

S = 1_000_000_000


def limits(**hosts: float) -> Limits:
    named = {name.replace("_", "."): rate for name, rate in hosts.items()}
    return Limits(Settings(metadata_per_s=10, landing_per_s=5, artifact_per_s=2, hosts_per_s=named))


def test_slots_are_an_interval_apart_in_order_of_asking():
    """The first goes at once, the others behind it, none together."""
    limiter = Limiter("h")
    assert [limiter.reserve(100 * S, 3 * S).at_ns // S for _ in range(3)] == [100, 103, 106]
    assert limiter.reserve(200 * S, 3 * S).at_ns == 200 * S


def test_a_returned_slot_moves_up_those_behind():
    """The order stays, everybody comes nearer, and the moved are told."""
    limiter = Limiter("h")
    queue = [limiter.reserve(0, S) for _ in range(4)]
    told = []
    for reservation in queue:
        reservation.moved = lambda reservation=reservation: told.append(reservation)
    limiter.use(queue[0])
    limiter.give_back(queue[1], 0)
    assert [reservation.at_ns for reservation in queue[2:]] == [S, 2 * S]
    assert told == queue[2:]
    assert limiter.reserve(0, S).at_ns == 3 * S


def test_giving_back_after_use_or_twice_changes_nothing():
    """A spent slot cannot be spent again."""
    limiter = Limiter("h")
    first = limiter.reserve(0, S)
    limiter.use(first)
    limiter.give_back(first, 0)
    assert limiter.reserve(0, S).at_ns == S


@given(
    st.lists(
        st.tuples(st.sampled_from(["reserve", "use", "back"]), st.integers(0, 5), st.integers(0, 2 * S)),
        max_size=60,
    )
)
def test_no_two_requests_are_closer_than_the_interval(steps):
    """Whatever is reserved, used and given back in whatever order, the used slots keep their distance."""
    limiter, now_ns, waiting, used = Limiter("h"), 0, [], []
    for step, which, later_ns in steps:
        now_ns += later_ns
        for reservation in [r for r in waiting if r.at_ns <= now_ns]:
            waiting.remove(reservation)
            limiter.use(reservation)
            used.append(reservation.at_ns)
        if step == "reserve":
            waiting.append(limiter.reserve(now_ns, S))
            assert waiting[-1].at_ns >= now_ns
        elif waiting and step == "back":
            limiter.give_back(waiting.pop(which % len(waiting)), now_ns)
    slots = sorted(used + [reservation.at_ns for reservation in waiting])
    assert all(later - earlier >= S for earlier, later in pairwise(slots))


def test_roles_have_limits_of_their_own_and_named_hosts_one_for_all():
    """A named host's rule stands above the roles, a path prefix above its host."""
    ours = limits(arxiv_org=0.5)
    assert ours.reserve("a.example", "/", "metadata", now_ns=0).at_ns == 0
    assert ours.reserve("a.example", "/", "artifact", now_ns=0).at_ns == 0
    assert ours.reserve("a.example", "/", "artifact", now_ns=0).at_ns == S // 2
    ours.reserve("arxiv.org", "/pdf/1", "artifact", now_ns=0)
    assert ours.wait_s("arxiv.org", "/abs/1", "landing", now_ns=0) == 2.0
    assert ours.wait_s("export.arxiv.org", "/abs/1", "landing", now_ns=0) == 0.0
    prefixed = Limits(
        Settings(
            metadata_per_s=1, landing_per_s=1, artifact_per_s=1, hosts_per_s={"h.org": 2, "h.org/cdx": 4}
        )
    )
    assert prefixed.rule("h.org", "/cdx/search", "metadata") == ("h.org/cdx", S // 4)
    assert prefixed.rule("h.org", "/web", "metadata") == ("h.org", S // 2)
    assert prefixed.rule("h.org", "/cdxx", "metadata") == ("h.org", S // 2)


def test_a_crawl_delay_slower_than_the_limit_holds():
    """The host's own wish is a queue of its own, which the gate sees."""
    ours = limits()
    for expected in (0, 7):
        assert ours.reserve("h.org", "/", "landing", now_ns=0, interval_min_s=7).at_ns == expected * S
    assert ours.wait_s("h.org", "/", "landing", now_ns=0) == 14
    assert ours.reserve("h.org", "/", "landing", now_ns=0, interval_min_s=0.001).at_ns == 0


def test_peeking_reserves_nothing():
    """The gate may ask as often as it likes."""
    ours = limits()
    for _ in range(3):
        assert ours.wait_s("h.org", "/", "artifact", now_ns=0) == 0
    reservation = ours.reserve("h.org", "/", "artifact", now_ns=0)
    ours.give_back(reservation, now_ns=0)
    assert ours.wait_s("h.org", "/", "artifact", now_ns=0) == 0
