"""Breakers open after failures, let one probe through after a while, and tell of every change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from quire.actors.web.breaker import PROBE_S_MAX, Breakers, News, Permit, Refusal
from quire.config.settings import Breaker as Settings

S = 1_000_000_000


class Clock:
    boot_id = "test"

    def __init__(self) -> None:
        self.now_s = 1000.0

    def boot_ns(self) -> int:
        return round(self.now_s * S)

    def wall_ns(self) -> int:
        return self.boot_ns() + 5_000_000 * S


@pytest.fixture
def world():
    clock, changes = Clock(), []
    breakers = Breakers(Settings(failures_to_open=5, open_s=60), clock=clock, on_change=changes.append)
    return SimpleNamespace(clock=clock, changes=changes, breakers=breakers)


def end(world, verdict, **more) -> None:
    permit = world.breakers.ask("h")
    assert isinstance(permit, Permit)
    world.breakers.report(permit, verdict, **more)


def opened(world, **more) -> None:
    for _ in range(5):
        end(world, "failure", reason="http_503", **more)


def test_the_fifth_failure_opens_for_a_minute(world):
    """Four do not; another host is not concerned; the change is told with its wall-clock end."""
    for _ in range(4):
        end(world, "failure", reason="http_503")
    assert world.breakers.wait_s("h") == 0
    end(world, "failure", reason="http_503")
    assert world.breakers.ask("h") == Refusal(60.0)
    assert isinstance(world.breakers.ask("other"), Permit)
    (change,) = world.changes
    assert (change.host, change.state, change.reason, change.failures) == ("h", "open", "http_503", 5)
    assert change.until_ns == world.clock.wall_ns() + 60 * S


def test_success_forgets_failures_and_4xx_says_nothing(world):
    """Neutral answers neither heal nor harm a closed breaker."""
    for _ in range(4):
        end(world, "failure")
    end(world, "neutral")
    end(world, "success")
    for _ in range(4):
        end(world, "failure")
    end(world, "neutral")
    assert world.changes == []
    end(world, "failure")
    assert [change.state for change in world.changes] == ["open"]


@pytest.mark.parametrize(
    ("verdict", "then"), [("success", "closed"), ("neutral", "closed"), ("failure", "open")]
)
def test_half_open_lets_one_probe_through(world, verdict, then):
    """While it is out nobody else goes; its end decides."""
    opened(world)
    world.clock.now_s += 60
    probe = world.breakers.ask("h")
    assert isinstance(probe, Permit)
    assert isinstance(world.breakers.ask("h"), Refusal)
    world.breakers.report(probe, verdict, reason="again")
    assert [change.state for change in world.changes] == ["open", "half_open", then]
    assert (world.breakers.wait_s("h") == 60) == (then == "open")


def test_a_probe_that_never_went_out_leaves_room_for_another(world):
    """A cancelled probe does not shut the host for ever."""
    opened(world)
    world.clock.now_s += 61
    probe = world.breakers.ask("h")
    world.breakers.report(probe, "unused")
    assert isinstance(world.breakers.ask("h"), Permit)


def test_retry_after_lengthens_the_rest(world):
    """A host that names its own time gets it, when it is longer than ours."""
    opened(world, retry_after_s=300)
    assert world.breakers.wait_s("h") == 300


def test_late_reports_of_an_earlier_turn_do_not_matter(world):
    """Requests in flight when it opened neither close it nor open it anew."""
    early = world.breakers.ask("h")
    opened(world)
    world.breakers.report(early, "success")
    assert world.breakers.wait_s("h") == 60
    world.clock.now_s += 60
    probe = world.breakers.ask("h")
    world.breakers.report(early, "failure")
    world.breakers.report(probe, "success")
    assert world.breakers.not_closed() == ()


def test_a_probe_that_never_went_out_is_told(world):
    """Others, who wait for its answer, hear that there is none to come."""
    opened(world)
    world.clock.now_s += 61
    world.breakers.report(world.breakers.ask("h"), "unused")
    assert [change.state for change in world.changes] == ["open", "half_open", "open"]
    assert world.changes[-1].until_ns == world.clock.wall_ns()
    world.breakers.ask("h")
    assert world.changes[-1].reason == "after http_503"


def test_a_lost_probe_is_followed_by_one_other(world):
    """A probe that is never reported blocks the host for a bounded time, and the next one is told."""
    opened(world)
    world.clock.now_s += 60
    lost = world.breakers.ask("h")
    world.clock.now_s += PROBE_S_MAX
    assert isinstance(world.breakers.ask("h"), Permit)
    assert isinstance(world.breakers.ask("h"), Refusal)
    world.breakers.report(lost, "success")
    assert [change.state for change in world.changes] == ["open", "half_open", "half_open"]


def test_what_others_said_is_taken_over_in_silence(world):
    """It is not told again; requests that were in flight before it say nothing any more."""
    early = world.breakers.ask("h")
    assert world.breakers.learn(News("h", "open", "by hand", 0, 300.0)) == 0
    assert world.breakers.is_told("h")
    world.breakers.report(early, "success")
    assert world.breakers.ask("h") == Refusal(300.0)
    assert world.breakers.learn(News("h", "closed", "by hand")) == 300
    assert isinstance(world.breakers.ask("h"), Permit)
    assert world.changes == []
    for _ in range(5):
        end(world, "failure")
    assert not world.breakers.is_told("h")


def test_of_two_openings_the_longer_rest_is_kept_unless_a_hand_says_otherwise(world):
    """What this worker saw itself may ask for more than others know; the operator's time is exact."""
    opened(world, retry_after_s=300)
    world.breakers.learn(News("h", "open", "http_503", 5, 60.0))
    assert world.breakers.wait_s("h") == 300
    world.breakers.learn(News("h", "open", "http_503", 5, 60.0))
    assert world.breakers.wait_s("h") == 60, "what was only told is replaced"
    opened_again = News("h", "open", "by hand: soon", 5, 10.0)
    world.breakers.learn(opened_again)
    assert world.breakers.wait_s("h") == 10


def test_hands_may_open_and_close(world):
    """What ``quire breaker`` says is done and told."""
    world.breakers.open("h", reason="by hand", for_s=10)
    assert world.breakers.not_closed() == (("h", "open", 10.0),)
    world.breakers.close("h", reason="by hand")
    assert world.breakers.wait_s("h") == 0
    assert [change.state for change in world.changes] == ["open", "closed"]
