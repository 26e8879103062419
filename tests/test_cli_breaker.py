"""``quire breaker``: what is left alone, and the operator's word, in the log for every worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quire.actors.runtime.ports import SystemClock
from quire.cli.breaker import site_of
from quire.errors import UsageError
from quire.events.facts import BreakerChanged, JobWaiting
from quire.events.job import stream_of
from quire.events.keys import job_key
from quire.events.projections import HOSTS, JOBS, job_row_key
from quire.events.record import Batch
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore

sys.path.insert(0, str(Path(__file__).parent))
from command import WAITS, fill, here, lines

DAY_NS = 86_400_000_000_000


@pytest.fixture
def library(tmp_path: Path) -> Path:
    fill(tmp_path / "library")
    return tmp_path / "library"


def opened(library: Path) -> LmdbStore:
    return LmdbStore(library / "events", QUIRE, run_id="r2", clock=SystemClock(), map_size=1 << 30)


def breaker(library: Path, *words: str, code: int = 0) -> str:
    done = here("breaker", *words, "--library", library)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def events_of(library: Path, host: str) -> list[BreakerChanged]:
    store = opened(library)
    found = [one.event for one in store.read_stream(f"host/{host}")]
    store.close()
    return found


def test_open_close_and_list(library: Path) -> None:
    """What is said stands in the log with who said it, and the list shows it in words."""
    assert breaker(library, "list") == "no host is left alone\n"
    said = breaker(library, "open", "arxiv.org", "--for", "3d", "--reason", "they asked us to")
    assert said.startswith("arxiv.org is left alone for 3 d 0 h, until ")
    assert "It was opened by hand: they asked us to." in breaker(library, "list")
    (line,) = lines(breaker(library, "list", "--json"))
    assert list(line) == ["host", "state", "since", "until", "wait_s", "failures", "reason", "why"]
    assert (line["host"], line["state"]) == ("arxiv.org", "open")
    assert 3 * 86_400 - 60 < float(str(line["wait_s"])) <= 3 * 86_400
    assert breaker(library, "close", "arxiv.org").startswith("arxiv.org is asked again")
    assert breaker(library, "list", "--json") == ""
    (line,) = lines(breaker(library, "list", "--all", "--json"))
    assert (line["state"], line["until"], line["reason"]) == ("closed", "", "by hand")
    assert [event.reason for event in events_of(library, "arxiv.org")] == [
        "by hand: they asked us to",
        "by hand",
    ]


def test_open_is_for_as_long_as_the_settings_say(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --for it is web.breaker.open_s."""
    (library / "quire.yaml").write_text("web: {breaker: {open_s: 600}}\n")
    assert "for 10 min 00 s" in breaker(library, "open", "arxiv.org")


def test_close_of_what_is_not_left_alone(library: Path) -> None:
    """It says so, and nothing is written."""
    assert breaker(library, "close", "arxiv.org") == "arxiv.org was not left alone; nothing to do\n"
    assert '"changed":false' in breaker(library, "close", "arxiv.org", "--json")
    assert events_of(library, "arxiv.org") == []


def test_close_lets_the_works_go_that_waited_for_it(library: Path) -> None:
    """On an idle library too: whoever comes next takes them up, days before their time."""
    store = opened(library)
    clock, host = SystemClock(), "arxiv.org"
    until_ns = clock.wall_ns() + 3 * DAY_NS
    stream = stream_of(job_key(WAITS))
    store.append([Batch(f"host/{host}", (BreakerChanged(host, "open", "by hand", 0, until_ns),))])
    store.append([Batch(stream, (JobWaiting("breaker_open", until_ns),), epoch=1)])
    store.close()
    assert "; 1 waiting work may go on" in breaker(library, "close", host)
    store = opened(library)
    (row,) = store.rows(JOBS, [job_row_key(job_key(WAITS))])
    store.close()
    assert (row.not_before_ns, row.reason) == (0, "breaker_closed")
    assert (
        "It need not wait any longer."
        in here("explain", "arxiv:2101.00001", "--all", "--library", library).stdout
    )


def test_open_for_a_shorter_time_lets_them_go_as_well(library: Path) -> None:
    """A rest of days that is cut to a minute holds no work for days; a longer one holds them."""
    breaker(library, "open", "arxiv.org", "--for", "3d")
    store = opened(library)
    waits = JobWaiting("breaker_open", SystemClock().wall_ns() + 3 * DAY_NS)
    store.append([Batch(stream_of(job_key(WAITS)), (waits,), epoch=1)])
    store.close()
    assert '"released":0' in breaker(library, "open", "arxiv.org", "--for", "5d", "--json")
    assert '"released":1' in breaker(library, "open", "arxiv.org", "--for", "1m", "--json")


@pytest.mark.parametrize(
    ("said", "site"),
    [
        ("arxiv.org", "arxiv.org"),
        (" ArXiv.org. ", "arxiv.org"),
        ("https://arxiv.org/pdf/1?x=1", "arxiv.org"),
        ("http://h.org:80/", "h.org"),
        ("arxiv.org/pdf/1", "arxiv.org"),
        ("h.org:8080", "h.org:8080"),
        ("https://b\u00fccher.example/x", "xn--bcher-kva.example"),
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("[::1]", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_may_be_said_as_a_url(said: str, site: str) -> None:
    """A word or a URL names the host as requests to it are counted."""
    assert site_of(said) == site


@pytest.mark.parametrize(
    "said",
    ["", " ", "unpaywall_pdf", "10.1000/x", "a b.org", "ftp://h.org", "https://u:p@h.org/", "h.org:x",
     "-h.org", "doi:10.1000/x", "x" * 300 + ".org", "h..org"],
)  # fmt: skip
def test_what_is_no_host_is_refused(said: str) -> None:
    """A source's name, an identifier, another scheme: a usage error that says what would be right."""
    with pytest.raises(UsageError, match=r"names no host.*such as arxiv\.org") as error:
        site_of(said)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("open", "arxiv"), "names no host"),
        (("open", "h.org", "--for", "0s"), "--for 0s: expected a length of time"),
        (("open", "h.org", "--for", "367d"), "up to 366d"),
        (("open", "h.org", "--for", "soon"), "such as 30s"),
        (("open", "h.org", "--reason", "two\nlines"), "--reason: expected one line"),
        (("close", "/"), "names no host"),
    ],
)
def test_wrong_words_are_usage_errors(library: Path, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, and nothing in the log."""
    assert said in breaker(library, *words, code=2)
    assert events_of(library, "h.org") == []


def test_no_library_is_a_usage_error(tmp_path: Path) -> None:
    """The commands begin no library."""
    for words in (("list",), ("open", "h.org"), ("close", "h.org")):
        assert "there is no library" in breaker(tmp_path / "none", *words, code=2)
    assert not (tmp_path / "none").exists()


def test_reasons_are_shown_in_words(library: Path) -> None:
    """Codes become sentences; a probe that is out is named."""
    store = opened(library)
    for host, state, reason in (
        ("a.org", "open", "http_503"),
        ("b.org", "half_open", "after read_timeout"),
        ("c.org", "closed", "the probe was answered"),
    ):
        store.append([Batch(f"host/{host}", (BreakerChanged(host, state, reason, 5),))])  # type: ignore[arg-type]
    assert store.rows(HOSTS, [b"d.org"]) == [None]
    store.close()
    why = [str(line["why"]) for line in lines(breaker(library, "list", "--all", "--json"))]
    assert "503" in why[0]
    assert why[1].endswith(" A probe is out.")
    assert "_" not in why[1]
    assert why[2] == "The probe was answered."
