"""``quire run``: works in, papers home, the summary, the failures, and every flag and variable of it."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from quire.cli.progress import Progress
from quire.testing.web import Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import RUN_NAMES, dois_of, fill, here, lines, list_of, quire, rehearsal, rehearsed


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A library with one job of each kind: home, failed, waiting, never taken up."""
    path = tmp_path_factory.mktemp("cli") / "lib"
    fill(path)
    return path


def test_dry_run_plans_nothing_and_names_bad_lines(library, tmp_path):
    """What would be new, home, unfinished, failed, and where the bad lines are; the log stays as it is."""
    file = tmp_path / "a.txt"
    file.write_text("10.1000/home\n10.1000/lost\n10.1000/new\n10.1000/new\n42\n10.1000/fresh\n")
    before = here("log", "--json", "--library", library).stdout
    done = quire("run", file, "--dry-run", "--json", "--library", library)
    found = json.loads(done.stdout)
    expected = {"works": 5, "doubled": 1, "new": 1, "unfinished": 1, "home": 1, "failed": 1, "bad_lines": 1}
    assert {name: found[name] for name in expected} == expected
    assert f"{file}:5: the bare number 42" in done.stderr
    assert here("log", "--json", "--library", library).stdout == before
    assert not (tmp_path / "fresh").exists()
    assert quire("run", file, "--dry-run", "--library", tmp_path / "fresh").returncode == 1
    assert not (tmp_path / "fresh").exists()


def test_a_run_says_what_it_did_and_gives_the_failures_back(tmp_path):
    """The promised object; failures come back as rows of the input with its header; again is free."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(5)))
    file = tmp_path / "papers.csv"
    rows = "".join(f"n{n},{doi}\n" for n, doi in enumerate(dois_of(world)))
    file.write_text("key,doi\n" + rows + "gone,10.5555/never.was\n")
    with serve(world) as served:
        first = rehearsed(served.url, tmp_path / "lib", file)
        asked = len(served.ledger.entries())
        second = rehearsed(served.url, tmp_path / "lib", file)
        assert len(served.ledger.entries()) == asked
    found = json.loads(first.stdout)
    assert list(found) == RUN_NAMES
    assert first.returncode == 1
    assert (
        found["jobs"] == found["finalized"] + found["deduped"] + found["skipped_duplicate"] + found["failed"]
    )
    assert found["failed"] == 1
    assert found["finalized"] == 5
    assert found["requests"] > 0
    failures = Path(found["failures_file"]).read_text()
    assert failures.startswith("key,doi\n")
    assert "gone,10.5555/never.was\n" in failures
    assert failures.count("\n") == found["failed"] + 1
    again = json.loads(second.stdout)
    assert (again["planned_before"], again["requests"]) == (found["jobs"], 0)


def test_the_summary_tells_what_was_home_before_from_what_the_run_brought(tmp_path):
    """A second run of a list with one new work: the past is told as the past, in text; JSON stays whole."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(3)), Paper(doi="10.5555/no", copies=()))
    few, all_ = tmp_path / "few.txt", tmp_path / "all.txt"
    few.write_text("10.5555/good.0\n10.5555/good.1\n10.5555/no\n")
    all_.write_text(few.read_text() + "10.5555/good.2\n")
    with serve(world) as served:
        flags = [flag for flag in rehearsal(served.url, tmp_path / "lib") if flag != "--json"]
        first, second = (quire("run", file, *flags).stdout for file in (few, all_))
        found = json.loads(rehearsed(served.url, tmp_path / "lib", all_).stdout)
    assert "s: 2 finalized, 0 deduped, 0 held already, 1 failed, 0 waiting" in first
    assert "2 home and 1 failed before; this run: 1 finalized, 0 deduped, 0 held already, 0 failed" in second
    assert "with --retry-failed" in second
    assert (found["finalized"], found["failed"], found["planned_before"]) == (3, 1, 4)


def test_a_forgotten_address_is_told_before_the_start(tmp_path):
    """One line on stderr, also in a rehearsal; none with an address, offline, or without Unpaywall."""
    world = World.of(Paper(doi="10.5555/good.1"))
    file = list_of(world, tmp_path / "a.txt")
    off = {"QUIRE_FALLBACK__DISABLED": "unpaywall_pdf"}
    with serve(world) as served:
        flags = ["--stand-in", served.url, "--pacing", "none", "--library", tmp_path / "lib"]
        for words, env, told in (
            (("run", file), None, True),
            (("resume",), None, True),
            (("run", file, "--email", "reader@quire.example"), None, False),
            (("run", file, "--offline"), None, False),
            (("run", file), off, False),
        ):
            done = quire(*words, *flags, env=env)
            assert done.stderr.startswith("no contact address: Unpaywall will be skipped") is told, words


def test_a_list_whose_name_is_no_utf_8_is_run(tmp_path):
    """The log gets the name with what cannot be decoded replaced."""
    world = World.of(Paper(doi="10.5555/good.1"))
    file = list_of(world, tmp_path / os.fsdecode(b"caf\xe9.txt"))
    with serve(world) as served:
        done = rehearsed(served.url, tmp_path / "lib", file)
    assert done.returncode == 0, done.stderr
    run = next(
        line
        for line in lines(here("log", "--json", "--library", tmp_path / "lib").stdout)
        if line["type"] == "run_started"
    )
    assert run["data"]["inputs"] == [f"{tmp_path}/caf\ufffd.txt"]


def test_a_sample_is_the_same_for_the_same_seed(tmp_path):
    """--sample draws N works, the same ones for a seed, others for another."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(40)))
    file = tmp_path / "a.txt"
    file.write_text("\n".join(dois_of(world)))
    drawn = []
    with serve(world) as served:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            flags = ("--sample", 3, "--seed", seed)
            done = rehearsed(served.url, tmp_path / name, file, *flags)
            assert json.loads(done.stdout)["works"] == 3
            found = lines(here("list", "--json", "--library", tmp_path / name).stdout)
            drawn.append({line["doi"] for line in found})
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_workers_share_a_list(tmp_path):
    """--workers 2: the works are done once between two processes, and the summary counts both."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(60)))
    file = tmp_path / "a.txt"
    file.write_text("\n".join(dois_of(world)))
    with serve(world) as served:
        few = {"QUIRE_WORKS_IN_HAND": "1"}
        done = rehearsed(served.url, tmp_path / "lib", file, "--workers", 2, env=few)
        found = json.loads(done.stdout)
    leased = [
        line["data"]["worker"]
        for line in lines(here("log", "--json", "--library", tmp_path / "lib").stdout)
        if line["type"] == "job_leased"
    ]
    assert (len(leased), len(set(leased))) == (60, 2), done.stderr
    assert found["requests"] == len(served.ledger.entries())
    assert (found["waiting"], found["finalized"], done.returncode) == (0, 60, 0)


def test_a_rehearsal_and_a_real_library_refuse_each_other(tmp_path):
    """A library of a rehearsal is refused by a real run, with exit code 2 and the reason."""
    file = tmp_path / "a.txt"
    file.write_text("10.5555/x.1\n")
    with serve(World.of(Paper(doi="10.5555/x.1"))) as served:
        rehearsed(served.url, tmp_path / "lib", file)
    done = quire("run", file, "--offline", "--library", tmp_path / "lib")
    assert done.returncode == 2
    assert "rehearsal" in done.stderr


def test_a_stand_in_that_is_down_or_a_list_without_works_is_told(tmp_path):
    """Nothing usable in a list is a usage error; standard input serves as a list."""
    done = quire("run", "-", "--offline", "--library", tmp_path / "lib", given=b"42\n")
    assert done.returncode == 2
    assert "standard input:1: the bare number 42" in done.stderr
    assert "there is no work in it" in done.stderr


def test_demo_compares_with_the_truth(tmp_path):
    """A small demo ends with the comparison, and its library is replaced only if it is one of a rehearsal."""
    done = quire("demo", "--works", 12, "--library", tmp_path / "demo", "--json")
    assert list(json.loads(done.stdout)) == RUN_NAMES
    assert "works that can be had" in done.stderr
    assert done.returncode in (0, 1)
    fill(tmp_path / "real")
    refused = quire("demo", "--works", 12, "--library", tmp_path / "real")
    assert refused.returncode == 2
    assert "not the library of a rehearsal" in refused.stderr


# -- each flag of a run and each variable takes effect

NOWHERE = Paper(doi="10.5555/no.where", arxiv_id="2101.00001", pmcid="PMC7000001", copies=())
"""All seven sources have their turn at it, and none has it."""
WIDE = {
    "QUIRE_FALLBACK__TIERS__DIRECT_OA__PARALLEL": "3",
    "QUIRE_FALLBACK__BUDGETS__MAX_CONCURRENT": "3",
}


class Seen(NamedTuple):
    """What a run on one work without a PDF did, by the log and by the stand-in."""

    turns: int
    at_once: int
    """The most turns in flight."""
    reason: str
    archive: int
    """Requests to the Wayback Machine."""
    hosts: frozenset[str]
    emails: frozenset[str]
    state: str


def seen_of(folder: Path, *words: object, env: dict[str, str] | None = None) -> Seen:
    file = folder / "a.csv"
    file.write_text("doi,arxiv_id,pmcid\n10.5555/no.where,2101.00001,PMC7000001\n")
    with serve(World.of(NOWHERE)) as served:
        done = rehearsed(served.url, folder / "lib", file, *words, env=env)
        asked = served.ledger.entries()
    assert done.returncode == 1, done.stderr
    (job,) = lines(here("list", "--json", "--library", folder / "lib").stdout)
    running = most = 0
    for line in lines(here("log", "--json", "--library", folder / "lib").stdout):
        if line["data"].get("kind") == "FALLBACK":
            running += 1 if line["type"] == "operation_started" else -1
            most = max(most, running)
    emails = {found for entry in asked for found in re.findall(r"email=([^&]+)", entry.url)}
    archive = sum(entry.host.endswith("archive.org") for entry in asked)
    hosts = frozenset(entry.host for entry in asked)
    return Seen(job["attempts"], most, job["reason"], archive, hosts, frozenset(emails), job["state"])


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Seen:
    """The same run with nothing said."""
    return seen_of(tmp_path_factory.mktemp("usual"))


def test_a_run_with_nothing_said_gives_every_source_its_turn(usual):
    """Seven sources, two at once, the archive last: what the settings below change."""
    assert (usual.turns, usual.at_once, usual.reason, usual.state) == (7, 2, "exhausted", "FAILED")
    assert usual.archive > 0
    assert usual.emails == {"reader@quire.example"}


ONE_BY_ONE = "{direct_oa: {parallel: 1}, landing_scrape: {parallel: 1}}"


@pytest.mark.parametrize(
    ("flags", "env", "changed"),
    [
        ("--fallback-total-timeout-ms 1", {}, {"reason": "budget_exhausted"}),
        ("", {"QUIRE_FALLBACK__BUDGETS__TOTAL_TIMEOUT_MS": "1"}, {"reason": "budget_exhausted"}),
        ("--fallback-max-attempts 3", {}, {"turns": 3, "reason": "budget_exhausted"}),
        ("", {"QUIRE_FALLBACK__BUDGETS__TOTAL_ATTEMPTS": "3"}, {"turns": 3, "reason": "budget_exhausted"}),
        ("--fallback-max-concurrent 1", {}, {"at_once": 1, "turns": 7}),
        ("", {"QUIRE_FALLBACK__BUDGETS__MAX_CONCURRENT": "1"}, {"at_once": 1, "turns": 7}),
        ("--fallback-tier direct_oa:parallel=3", {}, {"at_once": 3, "turns": 7}),
        ("", {"QUIRE_FALLBACK__TIERS": ONE_BY_ONE}, {"at_once": 1, "turns": 7}),
        ("--fallback-max-concurrent 2", WIDE, {"at_once": 2}),
        ("--disable-wayback-fallback", {}, {"turns": 6, "archive": 0, "reason": "exhausted"}),
        ("", {"QUIRE_FALLBACK__DISABLED": "wayback_pdf"}, {"turns": 6, "archive": 0}),
        ("", {"QUIRE_FALLBACK__DISABLED": "wayback_pdf,pmc_pdf,arxiv_pdf"}, {"turns": 4, "archive": 0}),
        ("--email other@quire.example", {}, {"emails": {"other@quire.example"}}),
        (
            "",
            {"QUIRE_FALLBACK__ROLLOUT__PERCENT": "0"},
            {"turns": 0, "state": "PLANNED", "reason": "rollout"},
        ),
        (
            "--offline",
            {"QUIRE_FALLBACK__GATES__OFFLINE_BEHAVIOR": "block_all"},
            {"turns": 0, "hosts": set(), "reason": "offline", "state": "LEASED"},
        ),
        (
            "",
            {"QUIRE_WEB__OFFLINE": "true", "QUIRE_FALLBACK__GATES__OFFLINE_BEHAVIOR": "block_all"},
            {"turns": 0, "hosts": set(), "reason": "offline"},
        ),
    ],
)
def test_each_flag_and_variable_of_a_run_takes_effect(tmp_path, usual, flags, env, changed):
    """What it names is done differently from a run with nothing said, by the log and by the stand-in."""
    seen = seen_of(tmp_path, *flags.split(), env=env)._asdict()
    assert {name: seen[name] for name in changed} == changed
    assert any(usual._asdict()[name] != value for name, value in changed.items()) or env == WIDE


def test_a_profile_and_a_settings_file_take_effect(tmp_path):
    """``--profile fast`` allows two turns at once where the tier would have three; a file is read."""
    file = tmp_path / "q.yaml"
    file.write_text("fallback:\n  disabled: [wayback_pdf]\n  tiers: {direct_oa: {parallel: 3}}\n")
    for name, flags, at_once in (("a", "", 3), ("b", "--profile fast", 2)):
        (tmp_path / name).mkdir()
        seen = seen_of(tmp_path / name, "--config", file, *flags.split())
        assert (seen.turns, seen.at_once, seen.archive) == (6, at_once, 0)


def test_offline_asks_for_metadata_and_for_no_paper(tmp_path):
    """The default of ``--offline``: no artifact and no landing page is asked for, and the work waits."""
    world = World.of(Paper(doi="10.5555/good.1"))
    with serve(world) as served:
        file = list_of(world, tmp_path / "a.txt")
        done = rehearsed(served.url, tmp_path / "lib", file, "--offline")
        assert (done.returncode, json.loads(done.stdout)["waiting"]) == (1, 1)
        assert not [host for host in served.ledger.hosts() if host.endswith(".example")]
        again = rehearsed(served.url, tmp_path / "lib", file)
    assert json.loads(again.stdout)["finalized"] == 1, again.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file"),
        ("", "there is no work in it: it is empty"),
        ("42\nnonsense\n", "there is no work in it; 2 bad lines, named above"),
    ],
)
def test_an_input_without_works_exits_2_and_says_what_is_wrong(tmp_path, text, said):
    """No file, an empty one, one of bad lines: what, where, and no traceback."""
    file = tmp_path / "a.txt"
    if text is not None:
        file.write_text(text)
    done = quire("run", file, "--offline", "--library", tmp_path / "lib")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}: {said}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_as_input_exits_2(tmp_path):
    """A folder is no list, and is said to be none."""
    done = quire("run", tmp_path, "--library", tmp_path / "lib")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


# -- progress


class Told:
    """Counts that a test sets."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def scan(self, _table: str, prefix: bytes = b"", *, after: bytes = b"", limit: int = 10_000):
        return [(prefix + name.encode(), count) for name, count in self.counts.items()]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def boot_ns(self) -> int:
        return int(self.now_s * 1e9)


def test_the_rate_is_that_of_the_last_half_minute():
    """Counts by state, the rate over 30 s whatever was before, and the time left by it."""
    tables, clock, stream = Told(), Clock(), io.StringIO()
    progress = Progress(tables, "0" * 16, clock, stream=stream)
    for second, done in ((0, 0), (10, 100), (20, 100), (30, 100), (40, 130)):
        clock.now_s = second
        tables.counts = {"state:INDEXED": done, "state:FAILED": 5, "unfinished": 500 - done, "leased": 3}
        progress.show()
    first, *_, standing, last = stream.getvalue().splitlines()
    assert first == "0 home · 5 failed · 500 to go (3 in hand)"
    assert standing.endswith("3.3/s · about 2 min 00 s left")
    assert last.endswith("130 home · 5 failed · 370 to go (3 in hand) · 1.0/s · about 6 min 10 s left")
    progress.end()
    progress.show()
    assert stream.getvalue().count("\n") == 5
