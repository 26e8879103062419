"""The session, embedded: in five lines, by priority, refusing what cannot be, ending early in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import quire
from quire import Session, UsageError, Wanted, Work
from quire.config.loader import Flag, load
from quire.events.facts import JobLeased
from quire.events.job import HOME
from quire.events.projections import JOBS, LEASED
from quire.testing.web import Paper, World, serve

LIST = "d" * 16


def dois(count: int) -> list[str]:
    return [f"10.5555/session.{n}" for n in range(count)]


def world_of(count: int, **more: object) -> World:
    return World.of(*(Paper(doi=doi, **more) for doi in dois(count)))  # type: ignore[arg-type]


def flags(library: Path, url: str) -> list[Flag]:
    return [
        Flag(("library",), str(library), "--library"),
        Flag(("web", "stand_in"), url, "--stand-in"),
        Flag(("web", "pacing"), "none", "--pacing"),
        Flag(("web", "contact_email"), "t@quire.test", "--email"),
    ]


def test_five_lines_fetch_a_list(tmp_path: Path) -> None:
    """``quire.fetch`` gives an outcome for each work; the file is where the outcome says."""
    world = world_of(5)
    library = tmp_path / "papers"
    with serve(world) as served:
        found = list(quire.fetch(dois(5), library=str(library), email="t@quire.test", stand_in=served.url))
        again = list(quire.fetch(dois(5), library=str(library), email="t@quire.test", stand_in=served.url))
    assert sorted(paper.work_id for paper in found) == sorted(f"doi:{doi}" for doi in dois(5))
    assert all((library / paper.path).is_file() for paper in found)
    assert sorted(again, key=work_id_of) == sorted(found, key=work_id_of)  # home, and told again
    assert all(served.ledger.asked(url) == 1 for doi in dois(5) for url in world.truth(doi).good_urls)


def work_id_of(outcome: quire.Outcome) -> str:
    return outcome.work_id


def test_what_names_no_work_is_refused(tmp_path: Path) -> None:
    """A text that names no work is a usage error before anything is asked of the network."""
    with pytest.raises(UsageError, match="names no work"):
        list(quire.fetch(["not a work"], library=str(tmp_path / "papers")))
    assert not (tmp_path / "papers").exists()


@pytest.mark.parametrize(
    ("works", "said"),
    [
        ("10.5555/x", "takes a list of works, not '10.5555/x'"),
        (Work(doi="10.5555/x"), "takes a list of works"),
        (None, "takes a list of works, not None"),
        ([None], "None names no work"),
    ],
)
def test_what_is_no_list_of_works_is_refused(tmp_path: Path, works: Any, said: str) -> None:
    """A single text is not taken letter by letter, and nothing foreign ends in an AttributeError."""
    with pytest.raises(UsageError, match=said):
        list(quire.fetch(works, library=str(tmp_path / "papers")))
    assert not (tmp_path / "papers").exists()


def test_a_work_without_any_name_is_refused_and_the_session_lives(tmp_path: Path) -> None:
    """An empty work cannot be planned; the session goes on with the next list."""
    with serve(world_of(1)) as served, Session(load(flags(tmp_path / "l", served.url)).settings) as session:
        with pytest.raises(UsageError, match="without identifier"):
            session.plan([Wanted(Work())], list_id=LIST)
        with pytest.raises(UsageError, match="no URL"):
            session.plan([Wanted(Work(url="nonsense"))], list_id=LIST)
        session.plan([Wanted(Work(doi=dois(1)[0]))], list_id=LIST)
        assert [outcome.ok for outcome in session.work(LIST)] == [True]


def test_priority_goes_before_age(tmp_path: Path) -> None:
    """With one work in hand, the smaller priority is leased first although it was planned last."""
    with serve(world_of(3)) as served:
        more = [*flags(tmp_path / "l", served.url), Flag(("works_in_hand",), 1, "-")]
        with Session(load(more).settings) as session:
            wanted = [Wanted(Work(doi=doi), priority=-n) for n, doi in enumerate(dois(3))]
            session.plan(wanted, list_id=LIST)
            list(session.work(LIST))
            events = session.store.read()
            leased = [e.stream for e in events if isinstance(e.event, JobLeased)]
            by_priority = [quire_stream(session, doi) for doi in reversed(dois(3))]
    assert leased == by_priority


def quire_stream(session: Session, doi: str) -> str:
    from quire.events.job import stream_of
    from quire.events.keys import job_key

    return stream_of(job_key(Work(doi=doi)))


def test_leaving_early_lets_the_jobs_go(tmp_path: Path) -> None:
    """Who stops iterating leaves no lease behind, and the next session brings the rest home."""
    world = world_of(40, size=60_000)
    with serve(world) as served:
        settings = load(flags(tmp_path / "l", served.url)).settings
        with Session(settings) as session:
            session.plan([Wanted(Work(doi=doi)) for doi in dois(40)], list_id=LIST)
            next(session.work(LIST))
        with Session(settings) as session:
            assert session.store.scan(LEASED) == []
            list(session.work(LIST))
            rows = [row for _, row in session.store.scan(JOBS)]
    assert len(rows) == 40
    assert all(row.state in HOME for row in rows)


def test_interrupt_finishes_what_is_in_hand(tmp_path: Path) -> None:
    """After ``interrupt`` the iteration ends by itself, with no lease held and nothing half done."""
    with serve(world_of(60, size=60_000)) as served:
        more = [*flags(tmp_path / "l", served.url), Flag(("works_in_hand",), 4, "-")]
        with Session(load(more).settings) as session:
            session.plan([Wanted(Work(doi=doi)) for doi in dois(60)], list_id=LIST)
            done = 0
            for _ in session.work(LIST):
                done += 1
                session.interrupt()
            assert 1 <= done < 60
            assert session.store.scan(LEASED) == []


def test_a_real_library_is_never_rehearsed_in(tmp_path: Path) -> None:
    """Real and rehearsal runs refuse each other's libraries, and say what to do."""
    with serve(world_of(1)) as served:
        with Session(load(flags(tmp_path / "l", served.url)).settings):
            pass
        real = load([Flag(("library",), str(tmp_path / "l"), "--library")]).settings
        with pytest.raises(UsageError, match="rehearsal"):
            Session(real)


def test_an_iteration_left_early_does_not_leak_into_the_next(tmp_path: Path) -> None:
    """Outcomes and the end of one list are never taken for another's; planning in between loses none."""
    other = "e" * 16
    with serve(world_of(30, size=60_000)) as served:
        with Session(load(flags(tmp_path / "l", served.url)).settings) as session:
            session.plan([Wanted(Work(doi=doi)) for doi in dois(20)], list_id=LIST)
            next(session.work(LIST))
            session.plan([Wanted(Work(doi=doi)) for doi in dois(30)[20:]], list_id=other)
            second = sorted(outcome.work_id for outcome in session.work(other))
            assert second == sorted(f"doi:{doi}" for doi in dois(30)[20:])
            third = []
            for outcome in session.work(LIST):
                third.append(outcome)
                planned = session.plan([Wanted(Work(doi=dois(30)[0]))], list_id=LIST)
                assert planned.works == 1
            rows = [row for _, row in session.store.scan(JOBS)]
    assert len(rows) == 30
    assert all(row.state in HOME for row in rows)


def test_an_interrupt_before_the_work_holds(tmp_path: Path) -> None:
    """Ctrl-C while the list is being planned: nothing is taken up afterwards."""
    with serve(world_of(5)) as served:
        with Session(load(flags(tmp_path / "l", served.url)).settings) as session:
            session.plan([Wanted(Work(doi=doi)) for doi in dois(5)], list_id=LIST)
            session.interrupt()
            assert list(session.work(LIST)) == []
        assert served.ledger.entries() == []


@pytest.mark.parametrize(
    "wrong",
    [
        Wanted(Work(doi=dois(1)[0]), priority=2**31),
        Wanted(Work(doi=dois(1)[0], title="\ud800")),
    ],
)
def test_arguments_that_cannot_be_kept_are_refused_at_the_door(tmp_path: Path, wrong: Wanted) -> None:
    """An odd argument is a usage error for its caller, not the end of the session."""
    with serve(world_of(1)) as served:
        with Session(load(flags(tmp_path / "l", served.url)).settings) as session:
            with pytest.raises(UsageError):
                session.plan([wrong], list_id=LIST)
            with pytest.raises(UsageError, match="16 hex digits"):
                session.plan([], list_id="mylist")
            with pytest.raises(UsageError, match="16 hex digits"):
                next(session.work("aa"))
            session.plan([Wanted(Work(doi=dois(1)[0]))], list_id=LIST)
            assert [outcome.ok for outcome in session.work(LIST)] == [True]


def test_a_clean_close_leaves_no_lease_behind(tmp_path: Path) -> None:
    """Closing with works in hand releases every lease: the next session takes nothing over from the dead."""
    with serve(world_of(200, size=60_000)) as served:
        settings = load(flags(tmp_path / "l", served.url)).settings
        for _ in range(3):
            with Session(settings) as session:
                session.plan([Wanted(Work(doi=doi)) for doi in dois(200)], list_id=LIST)
                next(session.work(LIST))
            with Session(settings) as session:
                assert session.store.scan(LEASED) == []
        with Session(settings) as session:
            leases = [e.event for e in session.store.read() if isinstance(e.event, JobLeased)]
    assert leases
    assert not any(lease.takeover for lease in leases)


def test_a_failing_adapter_hangs_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that fails on a message is replaced; its turns end as errors, and the works go on."""
    from quire.actors.sources.adapter import SourceAdapter

    real, failures = SourceAdapter._save, iter([True])

    def failing(self: SourceAdapter, message: object) -> None:
        if next(failures, False):
            raise RuntimeError("a defect")
        real(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(SourceAdapter, "_save", failing)
    with serve(world_of(6)) as served:
        more = [*flags(tmp_path / "l", served.url), Flag(("works_in_hand",), 2, "-")]
        with Session(load(more).settings) as session:
            session.plan([Wanted(Work(doi=doi)) for doi in dois(6)], list_id=LIST)
            ended = list(session.work(LIST))
    assert len(ended) == 6
    assert sum(outcome.ok for outcome in ended) >= 4


def test_a_failing_resolver_ends_the_session_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An actor whose state stands in no log is not replaced: the session says so, and the next goes on."""
    from quire.actors.storing import Storing

    with serve(world_of(6)) as served:
        settings = load(flags(tmp_path / "l", served.url)).settings
        with monkeypatch.context() as patch:
            patch.setattr(Storing, "stored", lambda _self, _message: 1 / 0)
            with Session(settings) as session:
                session.plan([Wanted(Work(doi=doi)) for doi in dois(6)], list_id=LIST)
                for _ in range(2):  # whoever asks again hears it again
                    with pytest.raises(quire.InvariantError, match="resolver"):
                        list(session.work(LIST))
        with Session(settings) as session:
            assert len(list(session.work(LIST))) == 6
