"""A host that somebody leaves alone is not said to have failed; commands take the flags that they read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import msgspec
import pytest

from quire.actors.runtime.ports import SystemClock
from quire.cli.rests import by_hand
from quire.events.facts import BreakerChanged, FallbackAttempt
from quire.events.record import Batch, Recorded
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore
from quire.testing.web import Copy, Paper, World, serve

sys.path.insert(0, str(Path(__file__).parent))
from command import fill, here, lines, rehearsal, started, wait_until

HOST = "copies.example"
FAILED_REPEATEDLY = "failed repeatedly"
DOI = "10.5555/rests"


@contextmanager
def waiting(url: str, library: Path, *words: object) -> Iterator[Popen[str]]:
    """A run that has come to wait for the breaker: it stands by until that is closed, or it is killed."""
    with started("run", *rehearsal(url, library), *words) as process:
        wait_until(lambda: here("list", "--reason", "breaker_open", "--library", library).stdout)
        yield process


def said(library: Path, *words: object) -> str:
    done = here(*words, "--library", library)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def world() -> World:
    """One work, whose one copy stands on a host of its own; it comes home as soon as that is asked."""
    return World.of(Paper(doi=DOI, copies=(Copy(at=f"https://{HOST}/paper.pdf"),)))


def given(folder: Path) -> Path:
    file = folder / "list.txt"
    file.write_text(f"{DOI}\n")
    return file


# -- explain


def test_explain_says_who_leaves_a_host_alone_since_when_and_until(tmp_path: Path, world: World) -> None:
    """A turn that met a breaker opened by hand says so in the story, in every event and as plan; what is
    advised ends it."""
    library = tmp_path / "lib"
    fill(library)
    here("breaker", "open", HOST, "--for", "3d", "--reason", "they asked us to", "--library", library)
    (row,) = lines(said(library, "breaker", "list", "--json"))
    sentence = (
        f"Somebody opened the breaker of {HOST} by hand at {row['since']}: the host is left alone until "
        f"{row['until']} (they asked us to)."
    )
    with serve(world) as served:
        with waiting(served.url, library, given(tmp_path)) as process:
            assert not [entry for entry in served.ledger.entries() if entry.host == HOST]
            story = said(library, "explain", DOI)
            every = said(library, "explain", DOI, "--all")
            for text in (story, every, said(library, "fallback", "explain", DOI)):
                assert sentence in text
                assert FAILED_REPEATEDLY not in text
            assert every.count(sentence) >= 4  # the turn, the search, the wait and the verdict
            assert f"say `quire breaker close {HOST}` before" in story
            told = json.loads(said(library, "explain", DOI, "--json"))
            assert sentence in told["because"]
            assert FAILED_REPEATEDLY not in json.dumps(told)
            here("breaker", "close", HOST, "--library", library)
            assert process.wait(timeout=20) == 0
        assert [entry for entry in served.ledger.entries() if entry.host == HOST]
    after = said(library, "explain", DOI)
    assert "INDEXED: " in after
    assert sentence in after  # it was so at the time


def test_a_host_that_failed_is_still_said_to_have_failed(tmp_path: Path) -> None:
    """What was opened by hand and closed before, or what failed by itself, is not laid on anybody."""
    library = tmp_path / "lib"
    dead = World.of(
        Paper(
            doi=DOI, copies=tuple(Copy(at=f"https://{HOST}/{n}.pdf", fate="server_error") for n in range(8))
        )
    )
    with serve(dead) as served:
        fill(library)
        here("breaker", "open", HOST, "--for", "3d", "--library", library)
        here("breaker", "close", HOST, "--library", library)
        settings = tmp_path / "settings.yaml"
        settings.write_text("web: {retry_base_ms: 1, breaker: {failures_to_open: 2, open_s: 600}}")
        with waiting(served.url, library, given(tmp_path), "--config", settings):
            text = said(library, "explain", DOI, "--all")
    assert FAILED_REPEATEDLY in text
    assert "Somebody opened" not in text


def test_what_counts_is_the_log_as_it_stood(tmp_path: Path) -> None:
    """Opened by hand, half open, opened again by its failures, closed by hand: each look as of its place."""
    changes = (
        BreakerChanged(HOST, "open", "by hand: quiet", 0, 10**18),
        BreakerChanged(HOST, "half_open", "after by hand: quiet", 0),
        BreakerChanged(HOST, "open", "http_503", 5, 10**18),
        BreakerChanged(HOST, "open", "by hand", 5, 10**18),
        BreakerChanged(HOST, "closed", "by hand", 0),
    )
    library = tmp_path / "lib"
    fill(library)
    store = LmdbStore(library / "events", QUIRE, run_id="r2", clock=SystemClock(), map_size=1 << 30)
    try:
        for change in changes:
            store.append([Batch(f"host/{HOST}", (change,))])
        places = [recorded.position for recorded in store.read_stream(f"host/{HOST}")]
        met = FallbackAttempt("t", "unpaywall_pdf", 1, "skipped", "breaker_open", "doi:x", "pdf", host=HOST)
        elsewhere = msgspec.structs.replace(met, host="other.example")
        events = [Recorded(place, "job/x", 1, 1, 0, "r", 0, met) for place in places]
        events += [Recorded(places[-1] + 1, "job/x", 2, 1, 0, "r", 0, met)]
        found = by_hand(store, events)
        assert by_hand(store, [Recorded(places[1], "job/x", 1, 1, 0, "r", 0, elsewhere)]) == {}
    finally:
        store.close()
    # A place sees what stands before it: the first one nothing, the last but one the opening by hand.
    assert sorted(found) == [places[1], places[2], places[4]]
    assert "(quiet)" in found[places[2]].means
    assert found[places[4]].means.endswith("Z.")


# -- list --reason


def test_list_says_which_codes_it_takes(tmp_path: Path) -> None:
    """A code that only a turn has finds no job: the codes of the jobs here are named, and where to count."""
    library = tmp_path / "lib"
    fill(library)
    done = here("list", "--reason", "no_oa_location", "--library", library)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no job matches --reason no_oa_location" in done.stderr
    assert "takes the codes that jobs have (here: exhausted, rate_wait)" in done.stderr
    assert "`quire fallback stats --by reason`" in done.stderr
    counted = lines(said(library, "fallback", "stats", "--by", "reason", "--json"))[0]["groups"]
    assert "no_oa_location" in [group["name"] for group in counted]
    found = here("list", "--reason", "exhausted", "--library", library)
    assert found.stdout.count("\n") == 1
    assert found.stderr == ""
    none = here("list", "--reason", "exhausted", "--state", "PLANNED", "--library", library)
    assert "takes the codes" not in none.stderr


# -- what is not read is not taken


@pytest.mark.parametrize(
    "flag", ["--email=a@home.example", "--verify-title=fail", "--profile=fast", "--offline"]
)
def test_statistics_take_no_settings_of_a_plan(tmp_path: Path, flag: str) -> None:
    """What would change nothing is a usage error; config show takes them all."""
    library = tmp_path / "lib"
    fill(library)
    refused = here("fallback", "stats", flag, "--library", library)
    assert refused.returncode == 2
    assert "unrecognized arguments" in refused.stderr
    assert said(library, "fallback", "stats", "--by", "host", "--since", "2001-01-01T00:00:00Z", "--json")
    assert said(library, "config", "show", flag)


def test_each_action_takes_what_it_reads(tmp_path: Path) -> None:
    """A flag that is taken changes what is said: the plan of plan, config and dryrun, the mail of plan."""
    library = tmp_path / "lib"
    fill(library)
    file = given(tmp_path)
    for words in (("config",), ("plan", DOI), ("dryrun", file)):
        plain, fewer = (
            said(library, "fallback", *words, "--json", *more)
            for more in ((), ("--fallback-max-attempts", "1"))
        )
        assert plain != fewer, words
    for flag in ("--email=reader@quire.example", "--offline"):
        assert said(library, "fallback", "plan", DOI) != said(library, "fallback", "plan", DOI, flag)
    for action, flag in (
        ("config", "--email=a@b.example"),
        ("tune", "--offline"),
        ("plan", "--verify-title=off"),
    ):
        assert here("fallback", action, *([DOI] * (action == "plan")), flag).returncode == 2


def test_the_store_is_left_as_it_was(tmp_path: Path) -> None:
    """To explain is to read: not one event more."""
    library = tmp_path / "lib"
    fill(library)

    def head() -> object:
        store = LmdbStore(library / "events", QUIRE, run_id="r2", clock=SystemClock(), readonly=True)
        try:
            return store.head()
        finally:
            store.close()

    before = head()
    said(library, "explain", "10.1000/lost", "--all")
    assert head() == before
