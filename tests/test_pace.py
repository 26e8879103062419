"""Jobs that a rate holds back stand in one line, whichever worker has them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from quire.actors.pace import Pace
from quire.actors.runtime.ports import SystemClock
from quire.actors.web.slot_table import SlotTable
from quire.config import settings as s
from quire.testing.crash import Campaign
from quire.testing.web import Paper, World, serve

ARXIV = "https://arxiv.org/pdf/2101.00001"
LIMITS = msgspec.convert(
    {"metadata_per_s": 10, "landing_per_s": 5, "artifact_per_s": 2, "hosts_per_s": {"arxiv.org": 0.5}},
    s.Limits,
)


def table(path: Path) -> SlotTable:
    return SlotTable(path, boot_id=SystemClock().boot_id)


def test_two_workers_line_up_once(tmp_path: Path) -> None:
    """Two on one table get slots an interval apart, in the order of asking, apart from the requests' own."""
    slots = [table(tmp_path / "limits") for _ in range(2)]
    one, other = (Pace(LIMITS, each) for each in slots)
    now_ms = 5_000_000
    waits = [
        pace.slot_ms(ARXIV, "artifact", now_ms=now_ms, wait_ms=7_000) for pace in (one, other, other, one)
    ]
    assert waits == [7_000, 9_000, 11_000, 13_000]
    assert slots[0].peek("arxiv.org", now_ms * 1_000_000) == now_ms * 1_000_000


def test_a_run_lines_its_jobs_up_in_the_table_of_the_library(tmp_path: Path) -> None:
    """The jobs of a run that a rate holds back have taken their slots where other workers see them."""
    config = tmp_path / "c.yaml"
    config.write_text("web: {limits: {hosts_per_s: {arxiv.org: 5}}}\n")
    environ = {"QUIRE_FALLBACK__GATES__SKIP_IF_RATE_WAIT_EXCEEDS_MS": "300"}
    with serve(World.of(*(Paper(arxiv_id=f"2101.{n:05}") for n in range(1, 7)))) as served:
        campaign = Campaign(tmp_path, served, seed=1, environ=environ)
        assert campaign.finish(campaign.start("--pacing", "polite", "--config", str(config))) == 0
        assert campaign.account()[0].states == {"INDEXED": 6}
    assert table(campaign.library / "workers" / "limits").peek("arxiv.org jobs", 0) > 0
