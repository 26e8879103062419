"""The title check of a run: told under ``warn``, refused under ``fail``, not looked at under ``off``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import quire.actors.finalizer as finalizer_module
from quire import Session, Wanted, Work
from quire.config.loader import Flag, load
from quire.events.facts import Artifact
from quire.events.job import JobRow
from quire.testing.web import Copy, Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import here, lines, quire

LIST = "e" * 16
DOI = "10.5555/wrong.best"
TITLE = "Watermarks of the lower valley: a survey of paper mills"


def paper(**more: Any) -> Paper:
    """Its best location serves another article's PDF, its second the right one."""
    copies = (Copy(fate="other_article"), Copy())
    return Paper(**{"doi": DOI, "title": TITLE, "copies": copies, **more})


def ran(world: World, library: Path, verify: str, *works: Work) -> list[Any]:
    """The outcomes of a session, one work after the other."""
    with serve(world) as served:
        flags = [
            Flag(("library",), str(library), "--library"),
            Flag(("web", "stand_in"), served.url, "--stand-in"),
            Flag(("web", "pacing"), "none", "--pacing"),
            Flag(("web", "contact_email"), "t@quire.test", "--email"),
            Flag(("verify", "title"), verify, "--verify-title"),
        ]
        outcomes = []
        with Session(load(flags).settings) as session:
            for work in works:
                session.plan([Wanted(work)], list_id=LIST)
                outcomes += list(session.work(LIST))
        return outcomes


def reasons(library: Path) -> list[str]:
    """The reasons of the finalizer's refusals."""
    events = (line["data"] for line in lines(here("log", "--json", "--library", library).stdout))
    ends = (data for data in events if data.get("kind") == "FINALIZE" and "code" in data)
    return [data["result"].get("reason", "") for data in ends if data["code"] == "NON_RETRYABLE"]


def test_fail_refuses_the_other_article_and_brings_the_right_one(tmp_path: Path) -> None:
    """The turn goes on with the second location; nothing of the refused bytes stays on the disk."""
    world = World.of(paper())
    (outcome,) = ran(world, tmp_path / "l", "fail", Work(doi=DOI))
    assert outcome.sha256 in world.truth(DOI).sha256s
    assert (outcome.state, outcome.title_check) == ("INDEXED", "title")
    assert reasons(tmp_path / "l") == ["other_article"]
    assert [file.stem for file in (tmp_path / "l" / "objects").rglob("*.pdf")] == [outcome.sha256]
    told = here("explain", DOI, "--library", tmp_path / "l").stdout
    assert "its text shows neither the work's DOI nor its title" in told
    assert "Its text shows the work's title." in told


def test_fail_ends_without_a_pdf_where_there_is_no_other(tmp_path: Path) -> None:
    """Better none than a wrong one: the work fails, and the reason stands at the turn."""
    world = World.of(paper(copies=(Copy(fate="other_article"),)))
    (outcome,) = ran(world, tmp_path / "l", "fail", Work(doi=DOI))
    assert (outcome.state, outcome.reason) == ("FAILED", "exhausted")
    attempts = [
        line["data"]
        for line in lines(here("log", "--json", "--library", tmp_path / "l").stdout)
        if line["type"] == "fallback_attempt" and line["data"]["source"] == "unpaywall_pdf"
    ]
    assert [attempt["reason"] for attempt in attempts] == ["other_article"]


def test_off_takes_the_first_and_reads_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is extracted, nothing is recorded."""

    def never(*_: object) -> str:
        raise AssertionError("the text was read")

    monkeypatch.setattr(finalizer_module, "check_title", never)
    (outcome,) = ran(World.of(paper()), tmp_path / "l", "off", Work(doi=DOI))
    assert (outcome.state, outcome.title_check) == ("INDEXED", "")
    (line,) = lines(here("list", "--json", "--library", tmp_path / "l").stdout)
    assert line["title_check"] == ""


def test_warn_stores_it_and_tells_everywhere(tmp_path: Path) -> None:
    """In the summary, ``list`` and its filter, ``explain`` and ``export``; the sound one is not named."""
    world = World.of(paper(), Paper(doi="10.5555/right", title="Deckle edges and what made them so"))
    file, library = tmp_path / "a.txt", tmp_path / "l"
    file.write_text(f"{DOI}\n10.5555/right\n")
    with serve(world) as served:
        words = ["--stand-in", served.url, "--pacing", "none", "--email", "r@quire.example"]
        done = quire("run", file, "--library", library, *words)
    assert done.returncode == 0
    assert "1 paper whose text does not show the work's title: quire list" in done.stdout
    (line,) = lines(here("list", "--title-check", "mismatch", "--json", "--library", library).stdout)
    assert (line["doi"], line["title_check"]) == (DOI, "mismatch")
    assert line["sha256"] not in world.truth(DOI).sha256s
    (other,) = lines(here("list", "--title-check", "title", "--json", "--library", library).stdout)
    assert other["doi"] == "10.5555/right"
    told = here("explain", DOI, "--library", library).stdout
    assert "it may be another article" in told
    assert "--verify-title fail" in told
    exported = lines(here("export", "--format", "jsonl", "--library", library).stdout)
    assert {row["doi"]: row["title_check"] for row in exported} == {DOI: "mismatch", "10.5555/right": "title"}
    assert here("list", "--title-check", "no_text", "--library", library).stderr.count("no job matches") == 1
    assert here("audit", "--library", library).returncode == 0


def test_the_flag_and_a_bare_off_in_a_file_are_the_setting(tmp_path: Path) -> None:
    """``title: off`` in YAML is the word and no boolean; the variable too; anything else is refused."""
    file = tmp_path / "quire.yaml"
    file.write_text("verify: {title: off}\n")
    assert load((), config=file, environ={}).settings.verify.title == "off"
    assert load((), environ={"QUIRE_VERIFY__TITLE": "off"}).settings.verify.title == "off"
    assert load((), environ={}).settings.verify.title == "warn"
    shown = json.loads(here("config", "show", "--json", "--verify-title", "fail").stdout)
    assert shown["verify"] == {"title": "fail"}
    file.write_text("verify: {title: no way}\n")
    assert here("config", "show", "--config", file).returncode == 2


SHARED_URL = "https://repository.example/shared.pdf"


def two_works(other_title: str) -> World:
    """Two works whose records lead to one URL; the second has a good copy of its own behind it."""
    second = (Copy(at=SHARED_URL), Copy())
    return World.of(
        Paper(doi="10.5555/one", title=TITLE, copies=(Copy(at=SHARED_URL),)),
        Paper(doi="10.5555/two", title=other_title, copies=second),
    )


def test_bytes_held_for_another_work_are_looked_at_for_this_one(tmp_path: Path) -> None:
    """A URL that another work's PDF came from needs no network, but its text must be this work's as well."""
    world = two_works("Laid lines and chain lines in early printed books")
    works = Work(doi="10.5555/one"), Work(doi="10.5555/two")
    first, second = ran(world, tmp_path / "warn", "warn", *works)
    assert (first.state, first.title_check) == ("INDEXED", "title")
    assert (second.state, second.title_check) == ("SKIPPED_DUPLICATE", "mismatch")
    first, second = ran(world, tmp_path / "fail", "fail", *works)
    assert (second.state, second.title_check) == ("INDEXED", "title")
    assert second.sha256 != first.sha256
    assert reasons(tmp_path / "fail") == ["other_article"]


@pytest.mark.parametrize(("verify", "shown"), [("off", ""), ("warn", "title"), ("fail", "title")])
def test_one_paper_under_two_names_is_still_asked_for_once(tmp_path: Path, verify: str, shown: str) -> None:
    """Where the text is right for both works the second is a duplicate, and no PDF is asked for again."""
    world = two_works(TITLE)
    works = Work(doi="10.5555/one"), Work(doi="10.5555/two")
    first, second = ran(world, tmp_path / "l", verify, *works)
    assert (second.state, second.sha256, second.title_check) == ("SKIPPED_DUPLICATE", first.sha256, shown)
    heads = [
        line["data"]["about"]["url"]
        for line in lines(here("log", "--json", "--library", tmp_path / "l").stdout)
        if line["type"] == "operation_started" and line["data"]["kind"] == "HEAD"
    ]
    assert heads == [SHARED_URL]


def test_what_a_run_was_warned_of_is_no_duplicate_under_fail(tmp_path: Path) -> None:
    """A PDF stored as another article's does not stand for the same work under another of its names."""
    copies = (Copy(fate="other_article"), Copy(source="europe_pmc_pdf"))
    world, pmid = World.of(paper(pmid="77", copies=copies)), Work(pmid="77")
    (first,) = ran(world, tmp_path / "l", "warn", Work(doi=DOI, pmid="77"))
    (second,) = ran(world, tmp_path / "l", "fail", pmid)
    assert (first.state, first.title_check) == ("INDEXED", "mismatch")
    assert (second.state, second.title_check) == ("INDEXED", "title")
    assert second.sha256 in world.truth(DOI).sha256s


def test_a_log_of_before_is_read(tmp_path: Path) -> None:
    """An artifact without the field, as every log of before has it, is one that nobody looked at."""
    old = msgspec.msgpack.encode(["ab" * 32, 7, "arxiv_pdf", "https://x.org/a.pdf", "page"])
    assert msgspec.msgpack.decode(old, type=Artifact) == Artifact(
        "ab" * 32, 7, "arxiv_pdf", "https://x.org/a.pdf", "page", ""
    )
    row = JobRow(work=Work(doi=DOI), planned_at=1, lists=(LIST,), artifact=Artifact("ab" * 32, 7))
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(row))
    where = raw.index(["ab" * 32, 7, "", "", "", ""])
    raw[where] = raw[where][:5]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=JobRow) == row
