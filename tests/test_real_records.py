"""The hard rehearsal: everything goes wrong, all that can be had comes home, and every reason is true."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from quire.actors import finalizer
from quire.actors.sources import turn_web, unpaywall
from quire.actors.web.guard import Guard
from quire.events import fallback
from quire.store.proof import Proof
from quire.testing import records as rehearsal
from quire.testing.records import Report, judged, made_up_records, rehearse, settings_of, work_through
from quire.testing.web import FATES, GOOD_FATES, Copy, Fate, Mix, Paper, World, serve
from quire.testing.web.__main__ import read_records
from quire.testing.web.deeds import NAMED, TRUE
from quire.testing.web.wall_shapes import SHAPES

RECORDS = (
    Path(__file__).resolve().parents[1].parent / "shared" / "data" / "api" / "unpaywall_records.jsonl.gz"
)
WORKS = 140
"""Of the real records, for the time that a test may take; the command takes all of them."""
NOT_ALONE = ("refused", "other_article", "needs_cookie", "needs_referer")
"""Fates that need a page of their own, or are nothing that a server does to a request."""
CALM: dict[tuple[str, ...], object] = {("web", "breaker", "failures_to_open"): 1_000}
"""Breakers that stay closed, where a test is about something else."""


def paper(name: str, *fates: Fate, shape: int = 0) -> Paper:
    """A work with copies on hosts of its own."""
    copies = (Copy(fate=fate, shape=shape, stall_s=6.0) for fate in fates)
    return Paper(doi=f"10.5555/{name}", copies=tuple(copies))


def run(folder: Path, *papers: Paper) -> Report:
    """A rehearsal of a few works."""
    return rehearse(World.of(*papers), folder, changes=CALM)


# --- everything at once


def test_all_that_can_be_had_comes_home_and_every_reason_is_true(tmp_path: Path) -> None:
    """Real records, hard mix: 100 % of the obtainable, no wrong byte kept, every word of the log true of
    what the server did, no private address asked, no wall asked twice by a work."""
    if not RECORDS.exists():
        pytest.skip("../shared/data is not here: the made-up records of the next test stand in")
    records = islice(read_records(RECORDS), WORKS)
    mix = Mix.hard(stall_s=8.0)
    check(rehearse(World.from_unpaywall(records, seed=1, mix=mix), tmp_path))


def test_made_up_records_stand_in_for_real_ones(tmp_path: Path) -> None:
    """The same holds where the data are absent."""
    records = made_up_records(80, seed=3)
    mix = Mix.hard(stall_s=8.0)
    check(rehearse(World.from_unpaywall(records, seed=3, mix=mix), tmp_path))


def check(report: Report) -> None:
    assert report.problems == []
    assert report.home == report.obtainable > report.works // 4
    assert len(report.deeds) > 30, "hardly anything went wrong: look at Mix.hard"
    assert report.reasons_judged > 5 * report.works
    assert report.requests_per_work < 12
    assert 0 < report.bytes_wasted < report.bytes_received


def test_the_plain_mix_wastes_less(tmp_path: Path) -> None:
    """Where only the plain faults are, nothing is untrue, and a work takes fewer requests."""
    world = World.from_unpaywall(made_up_records(60, seed=1), seed=1)
    report = rehearse(world, tmp_path)
    assert report.problems == []
    assert report.requests_per_work < 8


# --- one by one


def test_of_each_fate_the_truth_is_told(tmp_path: Path) -> None:
    """Each fate in all its shapes, alone on a host: what can be had comes home, what is said is true."""
    alone = [fate for fate in FATES if fate not in NOT_ALONE]
    papers = [paper(f"{fate}.{n}", fate, shape=n) for fate in alone for n in range(shapes_of(fate))]
    report = run(tmp_path, *papers)
    assert report.problems == []
    assert report.obtainable == sum(fate in GOOD_FATES for fate in alone) == report.home
    named, met = report.walls_named
    assert met > 30
    assert named >= 0.8 * met


def shapes_of(fate: str) -> int:
    if fate == "redirect_private":
        return 10
    statuses, pages = SHAPES.get(fate, ((), ()))
    return max(1, len(statuses) * (len(pages) + 1))


def test_every_bad_fate_has_its_truth() -> None:
    """There is no fault of which nothing would be true: its name or its status says what may be said."""
    by_status = {
        "missing",
        "gone",
        "forbidden",
        "server_error",
        "busy",
        "busy_for_long",
        "unavailable_for_long",
    }
    no_fault = {"refused", "other_article"}
    assert {fate for fate in FATES if fate not in GOOD_FATES} - by_status - no_fault <= set(TRUE)
    assert set(TRUE) <= {*FATES, "page"}
    assert set(NAMED) <= set(TRUE)


def test_a_silent_copy_leaves_time_for_the_sound_one(tmp_path: Path) -> None:
    """With the timeouts that users have (a turn of 6 s, a read of 20 s), here a third of it each, a copy that
    never answers does not cost the work the copy after it."""
    turn = {("fallback", "policies", "unpaywall_pdf", "timeout_ms"): 2_000, ("web", "read_timeout_ms"): 6_700}
    stall = {("download", "stall_s"): 10}
    world = World.of(paper("one", "silent", "good"), paper("two", "silent", "silent", "good"))
    report = rehearse(world, tmp_path, changes={**CALM, **turn, **stall})
    assert report.missed == []


TOUCHY: dict[tuple[str, ...], object] = {
    ("web", "breaker", "failures_to_open"): 2,
    ("web", "breaker", "open_s"): 1,
}
DEAD = "https://dead.example"


def test_a_host_that_is_left_alone_had_failed(tmp_path: Path) -> None:
    """Two works on a dead host: the second waits for the breaker, and what is said of it is true."""
    papers = (
        Paper(doi=f"10.5555/{name}", copies=(Copy(at=f"{DEAD}/{name}.pdf", fate="reset_early"),))
        for name in ("one", "two")
    )
    one_by_one = {**TOUCHY, ("works_in_hand",): 1}
    report = rehearse(World.of(*papers), tmp_path, changes=one_by_one, within_s=20)
    assert report.problems == []
    assert report.reasons["breaker_open"] >= 1


def test_two_copies_on_a_dead_host_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first copy opens the breaker before the second, again and again: there must be a bound."""
    monkeypatch.setattr(fallback, "MET_GATE_MS", 100)
    copies = tuple(Copy(at=f"{DEAD}/{n}.pdf", fate="reset_early") for n in range(2))
    world = World.of(Paper(doi="10.5555/one", copies=copies))
    assert rehearse(world, tmp_path, changes=TOUCHY, within_s=20).left == []


def test_json_is_not_said_to_be_a_page(tmp_path: Path) -> None:
    """A service that answers with JSON where a PDF should be has not said that no such article is."""
    assert run(tmp_path, paper("one", "json_error")).untrue == []


def test_a_replay_names_the_host_that_answered(tmp_path: Path) -> None:
    """A DOI link that Unpaywall calls a PDF: the second source to meet it says who really answered."""
    record = made_up_records(1, seed=1)[0]
    copy = {"url_for_pdf": f"https://doi.org/{record['doi']}", "host_type": "publisher", "evidence": ""}
    record |= {"best_oa_location": copy, "oa_locations": [copy]}
    world = World.from_unpaywall([record], mix=Mix(good=0, missing=1, html=0, truncated=0))
    assert rehearse(world, tmp_path).untrue == []


# --- the check itself can fail


def test_a_wrong_word_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A captcha that is called a login: URL, deed and word are in the report; a login so called is not."""
    monkeypatch.setattr(turn_web, "wall_reason", lambda answer, asked="": "blocked_login")
    report = run(tmp_path, paper("one", "captcha"), paper("two", "login"))
    assert any("blocked_login at https://" in one and "captcha (200)" in one for one in report.untrue)
    assert not any("login (200)" in one for one in report.untrue)
    assert not report.ok


def test_a_kept_cut_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the proof to let everything pass, the cut file would be found by its hash."""
    monkeypatch.setattr(finalizer, "prove", lambda path, **_: Proof("page", True, "", 1, 1))
    report = run(tmp_path, paper("one", "truncated"), paper("two", "good"))
    assert report.bad[0].startswith("doi:10.5555/one: ")
    assert len(report.bad) == 2, "the work that it is held for, and the file itself"
    assert any("FINALIZE OK" in one for one in report.untrue)


def test_a_missed_work_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a source to look at its first candidate alone, the work behind the second would be missed."""
    monkeypatch.setattr(unpaywall, "distinct", lambda found, **_: tuple(found)[:1])
    report = run(tmp_path, paper("one", "missing", "good"))
    assert [one.partition(" is ")[0] for one in report.missed] == ["doi:10.5555/one"]


def test_a_private_address_that_was_asked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the guard asleep, the request would be seen where it arrived, and the word for it missed."""
    monkeypatch.setattr(Guard, "check", lambda self, asked: None)
    report = run(tmp_path, paper("one", "redirect_private"))
    assert report.private == ["http://169.254.169.254/latest/meta-data/paper.pdf"]


def test_a_wall_asked_again_is_named(tmp_path: Path) -> None:
    """One request too many for a wall is found in the ledger."""
    world = World.of(paper("one", "paywall"))
    with serve(world) as served:
        settings = settings_of(tmp_path / "library", served.url, CALM)
        work_through(settings, world)
        assert judged(world, served.ledger, settings).walls_again == []
        (wall,) = [entry for entry in served.ledger if entry.did == "paywall"]
        served.ledger.begin(wall.url, "GET").did = "paywall"
        assert "2 times for 1 works" in judged(world, served.ledger, settings).walls_again[0]


# --- the command


def test_the_command_prints_its_report_and_ends_with_1_on_a_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--json is the whole report; a broken promise is exit code 1 and stands in the words."""
    assert rehearsal.main(["--works", "12", "--mix", "plain", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["works"] == 12
    assert report["home"] == report["obtainable"]
    monkeypatch.setattr(unpaywall, "distinct", lambda found, **_: ())
    assert rehearsal.main(["--works", "12", "--mix", "plain"]) == 1
    assert "missed: doi:10.5555/rehearsal" in capsys.readouterr().out


def test_the_command_refuses_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file ends with 2 and its name."""
    assert rehearsal.main(["--records", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
