"""What a new user met who had the README alone: each thing that was told wrongly, too late or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import lmdb
import pytest

from quire.actors.runtime.ports import SystemClock
from quire.actors.seen import SeenKeys
from quire.errors import EnvironmentFault
from quire.events.facts import JobPlanned
from quire.events.work import Work
from quire.store.domain import QUIRE
from quire.store.library import Library
from quire.store.lmdb_store import LmdbStore
from quire.testing.web import Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import HOME, LIST, append, fill, here, quire, rehearsal, rehearsed

NOBODY = 65534


@pytest.fixture
def library(tmp_path) -> Path:
    """A library with one job of each kind: home, failed, waiting, never taken up."""
    fill(tmp_path / "lib")
    return tmp_path / "lib"


def list_file(folder: Path, *lines: str, name: str = "a.txt") -> Path:
    file = folder / name
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


# -- A log that is gone


@pytest.mark.parametrize("folder_too", [False, True])
def test_papers_without_their_log_are_left_alone(library, tmp_path, folder_too):
    """Where papers are and the log is not, every command refuses with 3, and begins no new log over them."""
    paper = library / "objects" / "ab" / f"{'ab' * 32}.pdf"
    paper.parent.mkdir(parents=True)
    paper.write_bytes(b"%PDF")
    if folder_too:
        shutil.rmtree(library / "events")
    else:
        (library / "events" / "data.mdb").unlink()
    file = list_file(tmp_path, "10.1000/new")
    for words in (("run", file, "--offline"), ("resume", "--offline"), ("status",), ("audit",)):
        done = here(*words, "--library", library)
        assert done.returncode == 3, (words, done.stderr)
        assert "the log is gone while papers are there" in done.stderr
        assert "put events/ back from a backup, or name a new library" in done.stderr
    assert not (library / "events" / "data.mdb").exists()
    paper.unlink()
    assert here("run", file, "--offline", "--library", library).returncode == 1  # waits for the network


# -- A library of somebody else


def as_nobody(*words: object) -> tuple[int, str]:
    """The exit code and the words of a command that another user gives, who may only read."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:  # a fork, since the interpreter itself may be out of reach for that user
            code = 99
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                done = here(*words)
                said.write(done.stderr)
                said.flush()
                code = done.returncode
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
def test_who_may_only_read_is_told_what_reading_needs():
    """Exit 4, and that LMDB's file of readers must be written, or that a backup helps; never 'failed'."""
    folder = Path(tempfile.mkdtemp())  # not pytest's, which is closed to others
    try:
        folder.chmod(0o755)
        fill(folder / "lib")
        for words in (("status",), ("list",), ("explain", HOME.doi)):
            code, said = as_nobody(*words, "--library", folder / "lib")
            assert code == 4, said
            assert f"must be able to write to {folder}/lib/events/lock.mdb" in said
            assert "quire backup" in said
        code, said = as_nobody("retry", "--library", folder / "lib")
        assert (code, "cannot be written (Permission denied): mend its permissions" in said) == (4, True), (
            said
        )
    finally:
        shutil.rmtree(folder)


def test_a_read_only_disk_is_told_in_the_words_of_run(library, monkeypatch):
    """``retry`` and ``rebuild`` say what cannot be written; a disk that fails later is another thing."""

    def refused(*_given, **_named):
        error = lmdb.Error("Read-only file system")
        error.code = 30
        raise error

    monkeypatch.setattr(lmdb, "open", refused)
    for words in (("retry",), ("rebuild",)):
        done = here(*words, "--library", library)
        assert done.returncode == EnvironmentFault.exit_code
        assert (
            "cannot be written (Read-only file system): mend its permissions, or use another" in done.stderr
        )


# -- Counts


def test_a_second_run_counts_like_the_first(tmp_path):
    """Works named twice far apart, home by then: each job counts once, and the parts add up to the works."""
    world = World.of(*(Paper(doi=f"10.5555/n.{n}") for n in range(3)))
    others = [f"10.5555/absent.{n}" for n in range(600)]
    dois = [f"10.5555/n.{n}" for n in range(3)]
    file = list_file(tmp_path, *dois, *others, *dois, "42", others[0])
    with serve(world) as served:
        brought = list_file(tmp_path, *dois, name="b.txt")
        assert rehearsed(served.url, tmp_path / "lib", brought).returncode == 0
        offline = [*rehearsal(served.url, tmp_path / "lib"), "--offline"]
        first, second = (quire("run", file, *offline) for _ in range(2))
    told = [json.loads(done.stdout) for done in (first, second)]
    for found in told:
        assert (found["works"], found["jobs"], found["named_twice"], found["home_before"]) == (607, 603, 4, 3)
        assert found["bad_lines"] == 1
    assert "607 works: 600 new, 3 home already, 4 named twice" in first.stderr
    assert "607 works: 0 new, 600 unfinished, 3 home already, 4 named twice" in second.stderr


def test_seen_keys_are_exact():
    """Each of many keys is new once, also when the table grew and where they share their slot."""
    seen = SeenKeys()
    keys = [f"{n << 20 | 7:016x}" + "0" * 48 for n in range(3_000)]
    assert all(seen.is_new(key) for key in keys)
    assert not any(seen.is_new(key) for key in keys)
    assert seen.is_new("0" * 64)
    assert not seen.is_new("0" * 64)


def test_the_summary_names_refused_lines(tmp_path):
    """How many lines named no work stands in the summary, where the lines themselves have scrolled away."""
    file = list_file(tmp_path, "10.5555/a", "42", "43")
    done = here("run", file, "--offline", "--library", tmp_path / "lib")
    assert "2 lines refused, named above" in done.stdout


# -- Inputs


def test_a_wrong_cell_is_told_whatever_its_column(tmp_path):
    """A PMCID, PMID or arXiv id that is none is told with its line, though the DOI names the work."""
    file = list_file(
        tmp_path,
        "doi,pmcid,pmid,arxiv",
        "10.5555/a,PMCabc,,",
        "10.5555/b,,12x,",
        "10.5555/c,,,about 7",
        "10.5555/d,PMC7,8,2101.00001",
        "10.5555/e,n/a,-,",
        name="a.csv",
    )
    done = here("run", file, "--dry-run", "--library", tmp_path / "lib")
    assert done.returncode == 0
    assert "5 works" in done.stdout
    told = done.stderr.splitlines()
    for line, cell in ((2, "pmcid 'PMCabc'"), (3, "pmid '12x'"), (4, "arxiv_id 'about 7'")):
        assert [said for said in told if said.startswith(f"{file}:{line}: {cell} is none; passed over")]
    assert len(told) == 3


# -- What single commands say


def test_a_title_that_no_job_has_is_planned_as_one(library):
    """``fallback plan`` takes a title, as its help says, also where the library knows nothing of it."""
    done = here("fallback", "plan", "Some title of a paper", "--library", library)
    assert (done.returncode, done.stderr) == (0, "")
    assert "title:some title of a paper" in done.stdout
    assert HOME.doi in here("fallback", "plan", "l-home", "--library", library).stdout
    assert "expected a DOI" in here("fallback", "plan", "nonsense", "--library", library).stderr


def test_a_title_of_several_jobs_is_no_new_work(library):
    """Where several jobs are named so the user chooses; a plan for none of them would mislead."""
    store = LmdbStore(Library.open(library).events, QUIRE, run_id="r", clock=SystemClock(), map_size=1 << 30)
    for doi in ("10.1000/one", "10.1000/two"):
        work = Work(doi=doi, title="The same title")
        append(store, work, JobPlanned(work, "pdf", work.resolver_url, LIST))
    store.close()
    done = here("fallback", "plan", "The same title", "--library", library)
    assert (done.returncode, "names 2 jobs" in done.stderr) == (2, True)


def test_retry_of_nothing_sends_nobody_on(library):
    """Only where something will be tried again it says how to go on."""
    assert (
        "1 work will be tried again; go on with: quire resume" in here("retry", "--library", library).stdout
    )
    assert here("retry", "--library", library).stdout == "0 works will be tried again\n"


def test_an_empty_seal_is_called_empty(library, tmp_path):
    """A seal of nothing, as a failed redirection leaves it, is named as what it is."""
    done = here("audit", "--against", list_file(tmp_path, name="s"), "--library", library)
    assert (done.returncode, "that file is empty" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web:\n\tcontact_email: a@b.org\n", "q.yaml:2: not YAML: a tab stands where YAML wants spaces"),
        ("sources:\n  candidates:\n    versions: [publisher]\n", "one of: published, accepted, submitted"),
        ("sources:\n  candidates:\n    versions: 7\n", "a list of: published, accepted, submitted"),
    ],
)
def test_wrong_settings_say_what_is_right(tmp_path, text, said):
    """A tab is called a tab, and a list of choices names them."""
    file = tmp_path / "q.yaml"
    file.write_text(text)
    assert said in here("config", "show", "--config", file).stderr


def test_help_says_what_paths_and_times_mean():
    """Paths are relative to the library in every form of export, and a time without zone is UTC."""
    assert "relative to the library" in " ".join(here("export", "--help").stdout.split())
    assert "UTC where it names no zone" in " ".join(here("replay", "--help").stdout.split())
