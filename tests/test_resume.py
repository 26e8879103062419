"""Going on from a part: after a broken stream, in the real session against the simulated web."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import msgspec
import pytest

from quire import Session, Wanted, Work
from quire.actors.outcome import Outcome
from quire.actors.runtime.ports import SystemClock
from quire.actors.sources.resuming import Held
from quire.config.loader import Flag, load
from quire.events.facts import JobStateChanged, OperationStarted
from quire.events.keys import job_key
from quire.store.library import Library
from quire.testing.web import Paper, Served, World, serve

SIZE = 3_000_000
DOI = "10.5555/resume.1"
LIST = "c" * 16


def brought_home(world: World, library: Path) -> tuple[Outcome, Served, list[object]]:
    with serve(world) as served:
        flags = [
            Flag(("library",), str(library), "--library"),
            Flag(("web", "stand_in"), served.url, "--stand-in"),
            Flag(("web", "pacing"), "none", "--pacing"),
            Flag(("web", "contact_email"), "t@quire.test", "--email"),
        ]
        with Session(load(flags).settings) as session:
            session.plan([Wanted(Work(doi=DOI))], list_id=LIST)
            (outcome,) = session.work(LIST)
            events = [recorded.event for recorded in session.store.read()]
        return outcome, served, events


@pytest.mark.parametrize("fate", ["reset_once", "stall_once"])
def test_a_broken_stream_goes_on_where_it_broke(tmp_path: Path, fate: str) -> None:
    """The second request asks for the rest alone, and the bytes on disk are right."""
    world = World.of(Paper(doi=DOI, size=SIZE, fate=fate))  # type: ignore[arg-type]
    outcome, served, events = brought_home(world, tmp_path / "library")
    assert outcome.ok, outcome
    assert outcome.sha256 in world.truth(DOI).sha256s
    streams = [e for e in events if isinstance(e, OperationStarted) and e.kind == "STREAM"]
    assert [bool(e.about["range_start"]) for e in streams] == [False, True]
    assert "RESUME_OK" not in {e.state for e in events if isinstance(e, JobStateChanged)}  # it was past it
    (url,) = world.truth(DOI).good_urls
    sent = sum(entry.bytes for entry in served.ledger.entries() if entry.url == url)
    assert sent < SIZE * 1.5, f"{sent} bytes were sent for {SIZE}"


def test_nothing_is_left_in_staging(tmp_path: Path) -> None:
    """When the paper is home, its part and the note beside it are gone."""
    world = World.of(Paper(doi=DOI, size=SIZE, fate="reset_once"))
    outcome, _, _ = brought_home(world, tmp_path / "library")
    assert outcome.ok
    assert list((tmp_path / "library" / "staging").iterdir()) == []


@pytest.mark.parametrize(("total", "asked"), [(SIZE, 1), (0, 2)])
def test_a_part_that_is_whole_already_starts_over_once(tmp_path: Path, total: int, asked: int) -> None:
    """A worker died between the last byte and its word: one fresh start (after a 416 without a length)."""
    world = World.of(Paper(doi=DOI, size=SIZE))
    (url,) = world.truth(DOI).good_urls
    objects = Library.open(tmp_path / "library").objects
    part = objects.open_part(job_key(Work(doi=DOI)), 1)
    assert part is not None
    with serve(world) as served:
        answer = httpx.get(served.url, headers={"X-Original-URL": url})
    part.write(answer.content)
    held = Held(
        hashlib.sha256(url.encode()).hexdigest(), answer.headers["etag"], SystemClock().boot_id, total
    )
    part.note(msgspec.json.encode(held).decode())
    part.close()
    outcome, served, _ = brought_home(world, tmp_path / "library")
    assert outcome.ok, outcome
    assert outcome.sha256 in world.truth(DOI).sha256s
    assert served.ledger.asked(url) == asked
