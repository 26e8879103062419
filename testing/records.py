"""The hard rehearsal: real records, a web where everything goes wrong, and an account of every word said.

``python -m quire.testing.records --records FILE --works N --seed S --mix hard`` runs quire over them in this
process and exits 1 when something obtainable stayed out, something wrong was kept, or a reason was not true.
Real identifiers and URLs, simulated answers; without a file the records are made up.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ..actors.outcome import Wanted
from ..actors.runtime.ports import NANOSECONDS, SystemClock
from ..actors.session import Session
from ..config.loader import Flag, load
from ..config.settings import Quire
from ..errors import QuireError
from ..events.keys import job_key
from ..events.projections import JOBS, job_row_key
from ..events.work import Work
from ..store.domain import QUIRE
from ..store.lmdb_store import LmdbStore
from ..store.objects import Objects
from .accounts import SHOWN_MAX, events_of
from .web import Ledger, Mix, World, serve
from .web.__main__ import read_records
from .web.papers import Paper
from .web.placing import location, record
from .web.services import SERVICES
from .witness import Witness, is_private

EMAIL = "rehearsal@quire.example"
RUN_S = 600.0
"""Time that a rehearsal may take, in seconds; then it ends as it stands, and what is left is a violation."""
WORKS = 200
"""Made-up records, where there is no file."""
SILENCE_S = 20.0
"""How long a stalled answer is silent, in seconds, unless its client leaves."""
SCALED: dict[tuple[str, ...], object] = {
    ("web", "pacing"): "none",
    ("web", "contact_email"): EMAIL,
    ("web", "read_timeout_ms"): 700,
    ("web", "retry_base_ms"): 50,
    ("web", "retry_after_max_s"): 3,
    ("web", "breaker", "open_s"): 2,
    ("download", "stall_s"): 1,
    ("retry", "backoff_s"): 1,
}
"""Settings of a rehearsal: waits and silences a twentieth of the usual, all else as users have it."""
MADE_UP_HOSTS = 10
"""Few, so that one host fails often enough for its breaker."""
DOI = "doi:"
"""What the work ids of a rehearsal begin with: all of its works are asked for by their DOI."""


class Report(msgspec.Struct, kw_only=True):
    """What a rehearsal came to."""

    works: int = 0
    obtainable: int = 0
    home: int = 0
    """Obtainable works whose true bytes are held."""
    bad: list[str] = []
    """Works for which other bytes are held."""
    missed: list[str] = []
    """Obtainable works that did not come home, with the fates of their URLs."""
    left: list[str] = []
    """Works that had not come to an end when the time was up."""
    untrue: list[str] = []
    """Reasons that do not follow from what the server did."""
    walls_again: list[str] = []
    """Walls that a work asked more than once."""
    private: list[str] = []
    """Requests that went to addresses which must never be asked."""
    walls_named: tuple[int, int] = (0, 0)
    """Walls called by their name, and all walls met."""
    reasons_judged: int = 0
    reasons: dict[str, int] = {}
    """What quire said of single URLs, and how often."""
    requests: int = 0
    requests_per_work: float = 0.0
    requests_by: dict[str, float] = {}
    """Requests per work by what they were for: a service, ``robots.txt``, or the host of a copy."""
    bytes_received: int = 0
    bytes_wasted: int = 0
    """Of bodies that did not become a file in the library."""
    deeds: dict[str, int] = {}
    """What the server did, and how often."""
    elapsed_s: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Broken promises, in words."""
        return [
            *(f"missed: {one}" for one in self.missed),
            *(f"without an end: {one}" for one in self.left),
            *(f"wrong bytes: {one}" for one in self.bad),
            *(f"not true: {one}" for one in self.untrue),
            *(f"asked again: {one}" for one in self.walls_again),
            *(f"must not be asked: {one}" for one in self.private),
        ]

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.problems


def settings_of(library: Path, stand_in: str, changes: Mapping[tuple[str, ...], object] = {}) -> Quire:
    """The settings of a rehearsal: ``SCALED``, then ``changes``; nothing comes from the environment."""
    values = {**SCALED, ("library",): str(library), ("web", "stand_in"): stand_in, **changes}
    flags = [Flag(path, value, "the rehearsal") for path, value in values.items()]
    return load(flags, environ={}).settings


def rehearse(
    world: World,
    folder: Path,
    *,
    changes: Mapping[tuple[str, ...], object] = {},
    within_s: float = RUN_S,
) -> Report:
    """Run quire over all works of a world, in a new library under ``folder``, and judge what came of it."""
    started = SystemClock().boot_ns()
    with serve(world) as served:
        settings = settings_of(folder / "library", served.url, changes)
        work_through(settings, world, within_s=within_s)
        report = judged(world, served.ledger, settings)
    report.elapsed_s = round((SystemClock().boot_ns() - started) / NANOSECONDS, 1)
    return report


def work_through(settings: Quire, world: World, *, within_s: float = RUN_S) -> None:
    """One session over all works of the world, which takes nothing up any more after ``within_s`` seconds."""
    wanted = [Wanted(Work(doi=work.removeprefix(DOI))) for work in world.work_ids()]
    list_id = hashlib.sha256(repr(world.seed).encode()).hexdigest()[:16]
    with Session(settings, inputs=("rehearsal",), list_id=list_id) as session:
        session.plan(wanted, list_id=list_id)
        cancel = session.every(within_s, session.interrupt)
        for _ in session.work(list_id):
            pass
        cancel()


def judged(world: World, ledger: Ledger, settings: Quire) -> Report:
    """The account of a library that worked on a world; only log, files and ledger are believed."""
    library = Path(settings.library)
    store = LmdbStore(library / "events", QUIRE, run_id="", clock=SystemClock(), readonly=True)
    try:
        witness = Witness(world, ledger, settings)
        for recorded in events_of(store):
            witness.tell(recorded)
        report = _told(witness)
        _account_for_works(report, world, store)
    finally:
        store.close()
    _account_for_files(report, world, Objects(library))
    _account_for_requests(report, ledger)
    return report


def _told(witness: Witness) -> Report:
    return Report(
        untrue=sorted({str(one) for one in witness.untrue()}),
        walls_again=witness.walls_again(),
        walls_named=witness.walls_named(),
        reasons_judged=len(witness.claims) + len(witness.turns),
        reasons=dict(Counter(claim.reason for claim in witness.claims if claim.reason).most_common()),
    )


def _account_for_works(report: Report, world: World, store: LmdbStore) -> None:
    for work in world.work_ids():
        truth = world.truth(work)
        key = job_row_key(job_key(Work(doi=work.removeprefix(DOI))))
        row = store.rows(JOBS, [key])[0]
        held = row.artifact.sha256 if row is not None and row.home and row.artifact else ""
        report.works += 1
        report.obtainable += truth.obtainable
        report.home += held in truth.sha256s
        state = f"{row.state}/{row.reason}" if row is not None else "never planned"
        if row is None or not row.finished:
            report.left.append(f"{work} is {state}; {truth.why}")
        elif held and held not in truth.sha256s:
            report.bad.append(f"{work}: {held[:12]}; {truth.why}")
        elif truth.obtainable and not held:
            report.missed.append(f"{work} is {state}; {truth.why}")


def _account_for_files(report: Report, world: World, objects: Objects) -> None:
    """Every file by its own hash, whatever the log says of it."""
    true = {sha256 for work in world.work_ids() for sha256 in world.truth(work).sha256s}
    kept = 0
    for _, path in objects.held():
        data = path.read_bytes()
        kept += len(data)
        if hashlib.sha256(data).hexdigest() not in true:
            report.bad.append(f"the file {path.name} of {len(data)} bytes belongs to no work")
    report.bytes_wasted = -kept


def _account_for_requests(report: Report, ledger: Ledger) -> None:
    entries = ledger.entries()
    report.requests = len(entries)
    report.requests_per_work = round(len(entries) / max(1, report.works), 2)
    by = Counter(_meant_for(entry.url, entry.host) for entry in entries)
    report.requests_by = {name: round(n / max(1, report.works), 2) for name, n in by.most_common()}
    report.bytes_received = ledger.body_bytes()
    report.bytes_wasted += report.bytes_received
    report.deeds = dict(Counter(entry.did for entry in entries).most_common())
    report.private = sorted({entry.url for entry in entries if is_private(entry.url)})


def _meant_for(url: str, host: str) -> str:
    """What a request was for: a service by its host, robots.txt, or a copy somewhere."""
    if url.endswith("/robots.txt"):
        return "robots.txt"
    return host if host in SERVICES else "copies and pages"


def made_up_records(works: int, *, seed: int) -> list[dict[str, Any]]:
    """Records in Unpaywall's form with up to four copies each, on hosts that several works share."""
    return [_made_up(number, seed) for number in range(works)]


def _made_up(number: int, seed: int) -> dict[str, Any]:
    paper = Paper(doi=f"10.5555/rehearsal.{number:05d}", title=f"On rehearsing, part {number}")
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    copies = [
        location(
            f"https://repository-{digest[2 + n] % MADE_UP_HOSTS}.example/{number}/{n}.pdf",
            landing=f"https://www.publisher.example/article/{number}",
            best=n == 0,
        )
        for n in range(digest[0] % 5)
    ]
    return record(paper, copies)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a rehearsal and print its report; 1 when a promise was broken."""
    options = _parser().parse_args(arguments)
    try:
        world = _world(options)
        if options.keep is None:
            with tempfile.TemporaryDirectory() as folder:
                report = rehearse(world, Path(folder))
        else:
            options.keep.mkdir(parents=True)
            report = rehearse(world, options.keep)
    except (QuireError, OSError) as error:
        print(error, file=sys.stderr)
        return error.exit_code if isinstance(error, QuireError) else 4
    print(msgspec.json.format(msgspec.json.encode(report)).decode() if options.json else in_words(report))
    return 0 if report.ok else 1


def _world(options: argparse.Namespace) -> World:
    mix = Mix.hard(stall_s=SILENCE_S) if options.mix == "hard" else Mix()
    if options.records is None:
        records: Iterable[Mapping[str, Any]] = made_up_records(options.works or WORKS, seed=options.seed)
    else:
        records = islice(read_records(options.records), options.works)
    return World.from_unpaywall(records, seed=options.seed, mix=mix)


def in_words(report: Report) -> str:
    """The report for people: the figures, then what is wrong."""
    named, met = report.walls_named
    by = ", ".join(f"{name} {n}" for name, n in report.requests_by.items())
    shown = report.problems[:SHOWN_MAX]
    more = len(report.problems) - len(shown)
    return "\n".join(
        [
            f"works {report.works}, obtainable {report.obtainable}, home {report.home}, "
            f"bad {len(report.bad)}",
            f"reasons judged {report.reasons_judged}, untrue {len(report.untrue)}; "
            f"walls asked again {len(report.walls_again)}, called by name {named} of {met}",
            f"requests {report.requests}, {report.requests_per_work} a work: {by}",
            f"bytes received {report.bytes_received}, wasted {report.bytes_wasted}; {report.elapsed_s} s",
            *shown,
            *([f"and {more} more"] if more else []),
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quire.testing.records",
        description="Rehearse on records, with everything going wrong.",
    )
    parser.add_argument(
        "--records", type=Path, help="Unpaywall records, one a line (.gz too); made up without"
    )
    parser.add_argument("--works", type=int, help="the first so many; all where left out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mix", choices=("hard", "plain"), default="hard")
    parser.add_argument("--json", action="store_true", help="the whole report as one object")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the library there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
