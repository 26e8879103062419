"""A paper's file that rotted: nobody trusts it, whoever has its bytes heals it, and a user can ask for it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import quire.store.objects as objects_module
from quire import Session, Wanted, Work
from quire.actors.desk import Desk
from quire.actors.finalizer import Finalizer
from quire.actors.holdings import Holdings
from quire.actors.job_in_hand import JobInHand
from quire.actors.messages import Finalize, NotStored, Stored
from quire.actors.runtime.ports import SystemClock
from quire.actors.storing import Storing
from quire.actors.turns import Turns
from quire.config.loader import Flag, load
from quire.errors import StoreFailedError
from quire.events.facts import (
    Artifact,
    JobLeased,
    JobPlanned,
    JobStateChanged,
    OperationCompleted,
    OperationStarted,
)
from quire.events.job import stream_of
from quire.events.keys import job_key
from quire.events.record import Batch
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.store.objects import Objects, Part
from quire.testing.web import Copy, Paper, Served, World, make_pdf, serve

sys.path.insert(0, str(Path(__file__).parent))
from boxes import SECOND, SETTINGS, AtOnce, Bench, Box, leased_by
from command import clean, here, lines, rehearsal

LIST = "d" * 16
ONE, TWO = Work(doi="10.5555/one"), Work(doi="10.5555/two")
SHARED = "https://repository.example/shared.pdf"
HERE = Path(__file__).parent

KILLER = """
import os, signal, sys
from quire.actors.finalizer import Finalizer
from quire.cli.main import main

Finalizer._confirm = lambda self, placed: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main(sys.argv[1:]))
"""
"""A worker that dies when the paper has its name, and before anybody hears of it."""


# Damage, as disks do it


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lose(path: Path) -> None:
    path.unlink()


DAMAGE: dict[str, Callable[[Path], None]] = {"hash": flip, "size": cut, "missing": lose}


def unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad sector: this file cannot be read, and what is put in its place can."""
    bad, plain = path.stat().st_ino, objects_module.hash_file

    def hash_file(wanted: Path) -> str:
        if wanted.stat().st_ino == bad:
            raise StoreFailedError("the disk failed") from OSError(errno.EIO, "a bad sector")
        return plain(wanted)

    monkeypatch.setattr(objects_module, "hash_file", hash_file)


# A library and its log


def ran(
    served: Served, library: Path, *works: Work, verify: str = "warn", budget_ms: int = 60_000
) -> list[Any]:
    """The outcomes of a session; of one like `quire resume` where it is given no works."""
    flags = [
        Flag(("library",), str(library), "--library"),
        Flag(("web", "stand_in"), served.url, "--stand-in"),
        Flag(("web", "pacing"), "none", "--pacing"),
        Flag(("web", "contact_email"), "t@quire.test", "--email"),
        Flag(("verify", "title"), verify, "--verify-title"),
        Flag(("fallback", "budgets", "total_timeout_ms"), budget_ms, "--fallback-total-timeout-ms"),
    ]
    with Session(load(flags).settings) as session:
        session.plan([Wanted(work) for work in works], list_id=LIST)
        return list(session.work())


def object_of(library: Path, sha256: str) -> Path:
    return library / Objects.relative_path(sha256)


def is_whole(library: Path, sha256: str) -> bool:
    return hashlib.sha256(object_of(library, sha256).read_bytes()).hexdigest() == sha256


def ends_of_finalize(library: Path, job_id: str) -> list[tuple[str, str, str]]:
    """Code, reason and what was healed, of each end of a job's FINALIZE."""
    events = (
        line["data"]
        for line in lines(here("log", "--json", "--stream", f"job/{job_id}", "--library", library).stdout)
        if line["type"] == "operation_completed"
    )
    return [
        (data["code"], data["result"].get("reason", ""), data["result"].get("healed", ""))
        for data in events
        if data["kind"] == "FINALIZE"
    ]


def audited(library: Path) -> dict[str, Any]:
    return json.loads(here("audit", "--json", "--library", library).stdout)


def listed(library: Path) -> dict[str, dict[str, Any]]:
    found = lines(here("list", "--json", "--library", library).stdout)
    return {str(line["doi"] or line["url"] or line["pmid"]): line for line in found}


def by_one_url() -> World:
    """Two works whose records lead to one URL."""
    copies = (Copy(at=SHARED),)
    return World.of(*(Paper(doi=work.doi, copies=copies, content="same") for work in (ONE, TWO)))


def by_one_identifier() -> World:
    """One paper, which the second work names by another identifier."""
    return World.of(Paper(doi=ONE.doi, pmid="77", copies=(Copy(source="europe_pmc_pdf", at=SHARED),)))


def by_same_bytes() -> World:
    """Two works whose own URLs serve the same bytes."""
    return World.of(*(Paper(doi=work.doi, content="same") for work in (ONE, TWO)))


ROUTES: dict[str, tuple[Callable[[], World], Work, Work]] = {
    "url": (by_one_url, ONE, TWO),
    "identifier": (by_one_identifier, Work(doi=ONE.doi, pmid="77"), Work(pmid="77")),
    "bytes": (by_same_bytes, ONE, TWO),
}


# Whoever comes second


@pytest.mark.parametrize("kind", [*DAMAGE, "unreadable"])
@pytest.mark.parametrize(
    ("route", "verify"), [("url", "warn"), ("url", "off"), ("identifier", "warn"), ("bytes", "warn")]
)
def test_a_second_work_heals_what_rotted(tmp_path, monkeypatch, route, kind, verify):
    """By URL, by identifier or by its bytes: it comes home, the file is whole again, the audit is clean for
    both works, and the log of the one that healed it says so."""
    world, first_work, second_work = ROUTES[route]
    library = tmp_path / "l"
    with serve(world()) as served:
        (first,) = ran(served, library, first_work, verify=verify)
        path = object_of(library, first.sha256)
        if kind == "unreadable":
            unreadable(path, monkeypatch)
        else:
            DAMAGE[kind](path)
        assert audited(library)["ok"] is False
        (second,) = ran(served, library, second_work, verify=verify)
        asked = served.ledger.asked(SHARED)
    assert (second.state, second.sha256) == ("DEDUPED", first.sha256)
    assert asked == (0 if route == "bytes" else 2)
    assert is_whole(library, first.sha256)
    assert audited(library)["problems"] == []
    *before, last = ends_of_finalize(library, second.job_id)
    assert last == ("OK", "", "" if kind == "missing" else kind)
    looked = route == "url" and kind in ("hash", "unreadable")
    assert before == ([("RETRYABLE", "object_damaged", "")] if looked else [])
    if kind != "missing":
        told = here("explain", second.job_id, "--all", "--library", library).stdout
        assert f"It replaced a damaged file of these bytes ({kind})." in told


@pytest.mark.parametrize("route", ["url", "identifier"])
def test_a_sound_file_is_read_and_no_paper_asked_for(tmp_path, route):
    """What is whole counts as before: the second work is a duplicate and costs one request less."""
    world, first_work, second_work = ROUTES[route]
    with serve(world()) as served:
        (first,) = ran(served, tmp_path / "l", first_work)
        (second,) = ran(served, tmp_path / "l", second_work)
        assert served.ledger.asked(SHARED) == 1
    assert (second.state, second.sha256) == ("SKIPPED_DUPLICATE", first.sha256)


def test_reading_a_held_file_costs_no_time_of_the_search(tmp_path, monkeypatch):
    """A disk that takes longer for a held file than the whole search may take: the work is a duplicate, and
    does not fail for want of time."""
    plain = objects_module.hash_file

    def slow(path: Path) -> str:
        time.sleep(1.0)
        return plain(path)

    with serve(by_one_identifier()) as served:
        ran(served, tmp_path / "l", ROUTES["identifier"][1])
        monkeypatch.setattr(objects_module, "hash_file", slow)
        (second,) = ran(served, tmp_path / "l", Work(pmid="77"), budget_ms=300)
    assert second.state == "SKIPPED_DUPLICATE"


def test_a_look_that_was_lost_is_asked_for_again_and_nothing_is_written(tmp_path):
    """The finalizer never answers: after the time of a stale effect it is asked again; no op is made up."""
    bench = Bench(tmp_path)
    pdf = make_pdf("held", size=3_000)
    artifact = Artifact(hashlib.sha256(pdf).hexdigest(), len(pdf), "arxiv_pdf", SHARED, "page")
    path = bench.library.objects.path(artifact.sha256)
    path.parent.mkdir()
    path.write_bytes(pdf)
    steps = pairwise(["PLANNED", "LEASED", "HEAD_DONE", "STREAMING", "FINALIZED", "INDEXED"])
    changes = [JobStateChanged(a, b, artifact=artifact) for a, b in steps]
    bench.plan(1, leased_by("me", bench), *changes, epoch=1)
    job_id = bench.plan(2, leased_by("me", bench), epoch=1)
    row = msgspec.structs.replace(bench.row(job_id), work=Work(doi="10.1000/1"))
    desk = Desk(
        me=Box, directory=bench.to, settings=bench.settings, finders={}, web=SimpleNamespace(),
        holdings=Holdings(bench.store, bench.library.objects), clock=bench.clock, slots=SimpleNamespace(),
    )  # fmt: skip
    job = desk.jobs[job_id] = JobInHand(job_id, row, desk.plan_of(row), now_ms=desk.now_ms())
    storing = Storing(desk, Turns(desk))
    storing.take_up(job, None)
    for passed_s, times in ((0, 1), (bench.settings.ops.stale_after_s + 1, 2)):
        bench.clock.boot += int(passed_s * SECOND)
        storing.ask_again_for_stale(desk.now_ms())
        assert [one.held for one in bench.to.finalizer.told] == [True] * times
    assert bench.to.journal.told == []
    bench.close()


def test_another_sound_file_of_the_work_still_counts(tmp_path):
    """Of two files that an identifier leads to the first is damaged, the second whole: nothing is asked."""
    library = tmp_path / "l"
    works = [Work(doi=work.doi, pmid="77") for work in (ONE, TWO)]
    with serve(World.of(Paper(doi=ONE.doi), Paper(doi=TWO.doi))) as served:
        (one,) = ran(served, library, works[0])
        kept = object_of(library, one.sha256).read_bytes()
        lose(object_of(library, one.sha256))  # else the second would be a duplicate of it
        (two,) = ran(served, library, works[1])
        object_of(library, one.sha256).write_bytes(kept)
        first, second = sorted([one, two], key=lambda outcome: outcome.job_id)  # as the index has them
        flip(object_of(library, first.sha256))
        before = len(served.ledger)
        (third,) = ran(served, library, Work(pmid="77"))
        assert len(served.ledger) == before
    assert (two.state, third.state, third.sha256) == ("INDEXED", "SKIPPED_DUPLICATE", second.sha256)


# Whoever takes over


@pytest.mark.parametrize("kind", [*DAMAGE, "none"])
def test_a_takeover_that_finds_a_rotted_object_downloads_again(tmp_path, kind):
    """A worker is killed when the paper has its name; the file rots; who takes over brings it home all the
    same. A sound one is used as it is, and not asked for again."""
    library, file = tmp_path / "l", tmp_path / "list.txt"
    file.write_text(f"{ONE.doi}\n")
    world = World.of(Paper(doi=ONE.doi, at=SHARED))
    (sha256,) = world.truth(ONE.doi).sha256s
    with serve(world) as served:
        words = ["run", str(file), *map(str, rehearsal(served.url, library))]
        killed = subprocess.run(
            [sys.executable, "-c", KILLER, *words], cwd=HERE, env=clean(), timeout=60, capture_output=True
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert is_whole(library, sha256)
        DAMAGE.get(kind, lambda _path: None)(object_of(library, sha256))
        ran(served, library)
        assert served.ledger.asked(SHARED) == (1 if kind == "none" else 2)
    (line,) = listed(library).values()
    assert (line["state"], line["sha256"], line["generation"]) == ("INDEXED", sha256, 1)
    assert is_whole(library, sha256)
    assert audited(library)["problems"] == []
    ends = ends_of_finalize(library, line["job_id"])
    assert ends[-1] == ("OK", "", "" if kind in ("none", "missing") else kind)
    assert ("NON_RETRYABLE", "empty", "") not in ends


def test_a_takeover_that_gets_other_bytes_points_to_those(tmp_path):
    """The log says FINALIZED with bytes that rotted, and the URL serves others by now: the work's artifact is
    what is on the disk, not what was."""
    library, old = tmp_path / "l", make_pdf("as it was", size=3_000)
    sha256, url = hashlib.sha256(old).hexdigest(), "https://repository.example/one.pdf"
    seed_finalized(library, sha256, len(old), url)
    path = object_of(library, sha256)
    path.parent.mkdir()
    path.write_bytes(b"r" * len(old))
    with serve(World.of(Paper(doi=ONE.doi, at=url))) as served:
        (outcome,) = ran(served, library, ONE)
        assert outcome.sha256 in served.world.truth(ONE.doi).sha256s
    line = listed(library)[ONE.doi]
    assert (line["state"], line["sha256"], line["bytes"]) == ("INDEXED", outcome.sha256, outcome.bytes)
    assert audited(library)["problems"] == []


def seed_finalized(library: Path, sha256: str, size: int, url: str) -> None:
    """A rehearsal's library whose only job was left by a dead owner, its paper FINALIZED."""
    with serve(World.of(Paper(doi=TWO.doi, copies=()))) as served:
        ran(served, library)
    store = LmdbStore(Library.open(library).events, QUIRE, run_id="r", clock=SystemClock(), map_size=1 << 30)
    planned = JobPlanned(ONE, "pdf", ONE.resolver_url, LIST)
    about = {"url": url, "generation": 1, "range_start": 0, "source": "unpaywall_pdf", "epoch": 1, "md5": ""}
    streamed = OperationCompleted("5" * 64, "STREAM", "OK", {"sha256": sha256, "bytes": size})
    artifact = Artifact(sha256, size, "unpaywall_pdf", url, "page")
    steps = ["PLANNED", "LEASED", "HEAD_DONE", "STREAMING"]
    changes = [JobStateChanged(a, b) for a, b in pairwise(steps)]
    leased = [JobLeased("a dead one", 1, "an earlier boot"), *changes]
    effects = [OperationStarted("5" * 64, "STREAM", about), streamed]
    done = JobStateChanged("STREAMING", "FINALIZED", "", artifact)
    stream = stream_of(job_key(ONE))
    store.append([Batch(stream, (planned,), expected_version=0)])
    store.append([Batch(stream, (*leased, *effects, done), epoch=1, opens_epoch=True)])
    store.close()


# The finalizer alone


class FinalizerAlone:
    """A finalizer that does all at once."""

    def __init__(self, folder: Path, objects: type[Objects] = Objects) -> None:
        Library.open(folder)
        self.objects = objects(folder)
        self.placing = Finalizer(
            directory=(to := _Directory()), objects=self.objects, bounds=SETTINGS.download, scheduler=AtOnce()
        )
        self.placing.me, self.told = Box(), to.resolver.told

    def ask(self, data: bytes, **more: Any) -> Stored | NotStored:
        self.placing.handle_all(
            [Finalize("ab" * 32, 1, 1, hashlib.sha256(data).hexdigest(), len(data), **more)]
        )
        self.placing.handle_all([self.placing.me.told.pop()])
        return self.told[-1]


class _Directory:
    def __init__(self) -> None:
        self.resolver = Box()


class LateOwner(Objects):
    """The owner before gives its bytes their name just when the part is opened here."""

    late = b""

    def open_part(self, job_id: str, epoch: int) -> Part | None:
        if self.late:
            path = self.path(hashlib.sha256(self.late).hexdigest())
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self.late)
        return super().open_part(job_id, epoch)


def test_bytes_that_get_their_name_meanwhile_are_taken(tmp_path):
    """Between the look for the object and the look for the part a late owner renames one to the other."""
    alone, data = FinalizerAlone(tmp_path, LateOwner), make_pdf("late", size=3_000)
    alone.objects.late = data
    assert isinstance(alone.ask(data), Stored)


def test_what_has_no_bytes_of_its_own_is_told_what_is_wrong(tmp_path):
    """Neither object nor part: the part is not what was streamed. A rotted object: that, and how; it stays
    for whoever brings its bytes. Never ``empty``, which would speak of what the server sent."""
    alone, data = FinalizerAlone(tmp_path), make_pdf("gone", size=3_000)
    answer = alone.ask(data)
    assert (answer.reason, answer.damage) == ("part_changed", "")
    path = alone.objects.path(hashlib.sha256(data).hexdigest())
    path.parent.mkdir()
    path.write_bytes(b"r" * len(data))
    for more in ({}, {"held": True}):
        answer = alone.ask(data, **more)
        assert (answer.reason, answer.damage) == ("object_damaged", "hash")
    assert path.exists()
    assert alone.objects.parts() == []


def test_a_process_without_room_for_a_file_calls_none_damaged(tmp_path, monkeypatch):
    """EMFILE says nothing of the file: the fault goes up, and no sound object is replaced or given up."""
    objects = FinalizerAlone(tmp_path).objects
    path = objects.path("ab" * 32)
    path.parent.mkdir()
    path.write_bytes(b"x")

    def full(_path: Path) -> str:
        raise StoreFailedError("no room") from OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(objects_module, "hash_file", full)
    with pytest.raises(StoreFailedError):
        objects.damage("ab" * 32, 1)


# What a user can do


@pytest.fixture
def shared(tmp_path):
    """Two works with one file, a third with its own, and the web that they came from."""
    papers = [Paper(doi=work.doi, content="same") for work in (ONE, TWO)]
    with serve(World.of(*papers, Paper(doi="10.5555/sound"))) as served:
        ran(served, tmp_path / "l", ONE, TWO, Work(doi="10.5555/sound"))
        yield served, tmp_path / "l"


def retried(library: Path, *words: str) -> tuple[int, str]:
    done = here("retry", *words, "--json", "--library", library)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["requeued"], done.stderr


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_audit_names_the_command_that_brings_the_paper_back(shared, kind):
    """audit: 3 and the command; the command and `quire resume`: the file is whole, all works are home, the
    sound one was left alone, the audit is clean."""
    served, library = shared
    before = listed(library)
    DAMAGE[kind](library / before[ONE.doi]["path"])
    done = here("audit", "--library", library)
    assert done.returncode == 3
    assert "1 paper gone or damaged" in done.stdout
    assert "quire retry --damaged, then quire resume" in done.stdout
    assert retried(library, "--damaged") == (2, "")
    planned = listed(library)
    assert {line["state"] for line in planned.values() if line["doi"] in (ONE.doi, TWO.doi)} == {"PLANNED"}
    requests = served.ledger.asked(before["10.5555/sound"]["pdf_url"])
    ran(served, library)
    after = listed(library)
    assert {doi: line["sha256"] for doi, line in after.items()} == {
        doi: line["sha256"] for doi, line in before.items()
    }
    assert {doi: line["generation"] for doi, line in after.items()} == {
        ONE.doi: 2, TWO.doi: 2, "10.5555/sound": 1,
    }  # fmt: skip
    assert served.ledger.asked(before["10.5555/sound"]["pdf_url"]) == requests
    assert audited(library)["problems"] == []
    assert "was found gone or damaged" in here("explain", ONE.doi, "--library", library).stdout
    assert retried(library, "--damaged") == (0, "")


def test_one_named_work_heals_the_file_for_all(shared):
    """`quire retry --damaged WORK` takes that one alone; without the flag it says that the flag would do; of
    a whole paper and of a work that is not home it says so."""
    served, library = shared
    before = listed(library)
    flip(library / before[ONE.doi]["path"])
    count, said = retried(library, ONE.doi)
    assert count == 0
    assert "not FAILED; left as it is; its paper is gone or damaged: quire retry --damaged" in said
    count, said = retried(library, "--damaged", ONE.doi, "10.5555/sound")
    assert count == 1
    assert "10.5555/sound: its paper is whole; left as it is\n" in said
    assert "is PLANNED, not at home" in retried(library, "--damaged", ONE.doi)[1]
    ran(served, library)
    assert audited(library)["problems"] == []
    assert listed(library)[TWO.doi] == before[TWO.doi]


def test_a_paper_that_is_gone_from_the_web_too_is_told_as_a_failure(shared):
    """The new generation is an honest one: where nobody serves the paper any more the work fails."""
    _, library = shared
    lose(library / listed(library)["10.5555/sound"]["path"])
    assert retried(library, "--damaged")[0] == 1
    with serve(World.of(Paper(doi="10.5555/sound", copies=()))) as gone:
        (outcome,) = ran(gone, library)
    assert (outcome.state, outcome.reason) == ("FAILED", "exhausted")
    line = listed(library)["10.5555/sound"]
    assert (line["state"], line["generation"], line["path"]) == ("FAILED", 2, "")
    assert audited(library)["problems"] == []


def test_a_long_name_that_the_row_has_no_room_for_is_asked_for_whole(tmp_path):
    """A finished job's row has its long texts cut; the new generation has them from the log."""
    url = f"https://repository.example/{'long-' * 150}one.pdf"
    library = tmp_path / "l"
    with serve(World.of(Paper(url=url))) as served:
        (first,) = ran(served, library, Work(url=url))
        (line,) = lines(here("list", "--json", "--library", library).stdout)
        assert "…" in str(line["url"])
        flip(object_of(library, first.sha256))
        assert retried(library, "--damaged")[0] == 1
        (outcome,) = ran(served, library, Work(url=url))
        assert served.ledger.asked(url) == 2
    assert (outcome.state, outcome.sha256, outcome.generation) == ("INDEXED", first.sha256, 2)
    assert audited(library)["problems"] == []


def test_a_log_that_is_damaged_is_no_matter_of_papers(shared):
    """Where more than papers is wrong the audit does not speak of downloading."""
    _, library = shared
    flip(library / listed(library)[ONE.doi]["path"])
    log = library / "events" / "data.mdb"
    log.write_bytes(log.read_bytes().replace(b"10.5555/sound", b"10.5555/found"))
    done = here("audit", "--library", library)
    assert done.returncode == 3
    assert "the library is damaged; keep it as it is" in done.stdout
    assert "retry" not in done.stdout
