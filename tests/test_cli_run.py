"""``quire run``: works in, papers home, the summary, the failures, and every flag and variable of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from quire.testing.web import Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import RUN_NAMES, dois_of, fill, lines, quire, rehearsed


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
    before = quire("log", "--json", "--library", library).stdout
    done = quire("run", file, "--dry-run", "--json", "--library", library)
    found = json.loads(done.stdout)
    expected = {"works": 5, "doubled": 1, "new": 1, "unfinished": 1, "home": 1, "failed": 1, "bad_lines": 1}
    assert {name: found[name] for name in expected} == expected
    assert f"{file}:5: the bare number 42" in done.stderr
    assert quire("log", "--json", "--library", library).stdout == before
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
            found = lines(quire("list", "--json", "--library", tmp_path / name).stdout)
            drawn.append({line["doi"] for line in found})
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_workers_share_a_list(tmp_path):
    """--workers 2: the works are done once between two processes, and the summary counts both."""
    world = World.of(*(Paper(doi=f"10.5555/good.{n}") for n in range(150)))
    file = tmp_path / "a.txt"
    file.write_text("\n".join(dois_of(world)))
    with serve(world) as served:
        few = {"QUIRE_WORKS_IN_HAND": "1"}
        done = rehearsed(served.url, tmp_path / "lib", file, "--workers", 2, env=few)
        found = json.loads(done.stdout)
    leased = [
        line["data"]["worker"]
        for line in lines(quire("log", "--json", "--library", tmp_path / "lib").stdout)
        if line["type"] == "job_leased"
    ]
    assert (len(leased), len(set(leased))) == (150, 2), done.stderr
    assert found["requests"] == len(served.ledger.entries())
    assert (found["waiting"], found["finalized"], done.returncode) == (0, 150, 0)


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
