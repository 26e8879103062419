"""The runs that golden logs are taken from: real commands on real libraries against the simulated web.

Each returns the commits of its log. What would tell of the machine (the boot, process ids, paths of inputs)
is replaced and the chain made anew; all else is as the run wrote it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..actors.runtime.ports import SystemClock
from ..errors import InvariantError
from ..events import facts
from ..events.record import Batch, Recorded
from ..store.codec import CHAIN_BYTES, GENESIS, Commit, CommitCodec, Draft
from ..store.domain import QUIRE
from ..store.interface import READ_LIMIT
from ..store.lmdb_store import LmdbStore
from .crash import Campaign
from .web import Copy, Paper, Served, World, serve

EMAIL = "golden@quire.example"
COMMAND_S = 120.0
"""How long a command may take, in seconds."""
BOOT = "golden-boot"


class Library:
    """A library being made by commands."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.path, self.url = folder, folder / "library", url

    def __repr__(self) -> str:
        return f"<Library {self.path}>"

    def run(self, *words: str, **settings: str) -> None:
        """``quire run`` (or ``resume``) as a rehearsal; settings are ``QUIRE_…`` variables."""
        self.do(*words, "--stand-in", self.url, "--pacing", "none", "--email", EMAIL, **settings)

    def do(self, *words: str, **settings: str) -> None:
        """A command on the library.

        Raises:
            InvariantError: it ended otherwise than with all or some works done.
        """
        bare = {name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")}
        done = subprocess.run(
            [sys.executable, "-m", "quire", *words, "--library", str(self.path)],
            cwd=self.folder, env={**bare, **settings}, capture_output=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise InvariantError(
                f"`quire {' '.join(words)}` ended with {done.returncode}: {done.stderr[-500:]!r}"
            )

    def listed(self, works: Sequence[str], name: str = "works.txt") -> str:
        """Write the list; its name."""
        (self.folder / name).write_text("\n".join(works) + "\n", encoding="utf-8")
        return name

    def commits(self) -> list[Commit]:
        """The commits of its log, without what tells of the machine."""
        clock = SystemClock()
        store = LmdbStore(self.path / "events", QUIRE, run_id="", clock=clock, readonly=True)
        try:
            return scrubbed(_events(store))
        finally:
            store.close()


def _events(store: LmdbStore) -> list[Recorded[Any]]:
    found: list[Recorded[Any]] = []
    while events := store.read(len(found), limit=READ_LIMIT):
        found += events
    return found


def scrubbed(events: Sequence[Recorded[Any]]) -> list[Commit]:
    """The events as commits, chained anew, with neither boot ids nor process ids nor paths.

    Events of the same time and run were one commit, or may be one.
    """
    codec, chain = CommitCodec(QUIRE), GENESIS
    commits: list[Commit] = []
    drafts: list[Draft] = []
    for one in events:
        if not drafts or (drafts[-1].time_ns, drafts[-1].run_id) != (one.time_ns, one.run_id):
            drafts.append(Draft(one.position, time_ns=one.time_ns, run_id=one.run_id))
        drafts[-1].entries.append(
            (one.stream, one.version, one.epoch, one.cause, _without_machine(one.event))
        )
    for draft in drafts:
        value = codec.encode(chain, draft)
        chain = value[:CHAIN_BYTES]
        commits.append((draft.position, value))
    return commits


def _without_machine(event: facts.Event) -> facts.Event:
    if isinstance(event, facts.JobLeased):
        return msgspec.structs.replace(event, boot_id=BOOT)
    if isinstance(event, facts.RunStarted):
        names = tuple(Path(name).name if "/" in name else name for name in event.inputs)
        return msgspec.structs.replace(event, inputs=names, pid=1)
    return event


@contextmanager
def _library(world: World) -> Iterator[tuple[Library, Served]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quire-golden-")))
        served = stack.enter_context(serve(world))
        yield Library(folder, served.url), served


def clean() -> list[Commit]:
    """One list, one run, every kind of source."""
    world = World.demo(24, seed=3)
    with _library(world) as (library, _):
        library.run("run", library.listed(world.inputs()))
        return library.commits()


def kills() -> list[Commit]:
    """Workers killed at any moment; others take over, resume parts, replay results."""
    world = World.demo(30, seed=5)
    with tempfile.TemporaryDirectory(prefix="quire-golden-") as folder, serve(world) as served:
        campaign = Campaign(Path(folder), served, seed=11)
        campaign.run(6)
        return Library(Path(folder), served.url).commits()


def gates() -> list[Commit]:
    """Works wait for the network, for the rollout and for a host's breaker, then come home."""
    world = World.demo(16, seed=7)
    with _library(world) as (library, _):
        name = library.listed(world.inputs())
        library.run("run", name, "--offline")
        library.run("run", name, QUIRE_FALLBACK__ROLLOUT__PERCENT="50")
        library.do("breaker", "open", "arxiv.org", "--reason", "asked to")
        library.run("run", name)
        library.do("breaker", "close", "arxiv.org")
        library.run("resume")
        return library.commits()


def retries() -> list[Commit]:
    """Failures of all sorts, tried again by themselves, by a flag and by hand: several generations."""
    world = World.of(
        *_papers("server_error", 3), *_papers("truncated", 3), *_papers("html", 3), *_papers("good", 2)
    )
    with _library(world) as (library, _):
        name = library.listed(world.inputs())
        library.run("run", name)
        library.run("run", name, "--retry-failed")
        library.do("retry")
        library.run("resume")
        return library.commits()


def breakers() -> list[Commit]:
    """A host that answers 503 until its breaker opens, and one opened and closed by hand."""
    urls = {f"10.5555/busy.{n}": f"https://busy.example.org/{n}.pdf" for n in range(8)}
    shared = [Paper(doi=doi, copies=(Copy(at=at, fate="server_error"),)) for doi, at in urls.items()]
    with _library(World.of(*shared)) as (library, _):
        library.run("run", library.listed(list(urls)))
        library.do("breaker", "open", "wayback.example.org", "--for", "1h", "--reason", "mended on Monday")
        library.do("breaker", "close", "wayback.example.org")
        return library.commits()


def query() -> list[Commit]:
    """A list that a service gave page by page, and once more anew."""
    world = World.demo(30, seed=9)
    with _library(world) as (library, _):
        settings = {"QUIRE_SOURCES__OPENALEX__PER_PAGE": "10"}
        library.run("run", "--openalex", "is_oa:true", **settings)
        library.run("run", "--openalex", "is_oa:true", "--refresh", **settings)
        return library.commits()


def titles() -> list[Commit]:
    """Works known by title alone or named twice, the same bytes for two works, titles held against PDFs."""
    twins = [Paper(doi=f"10.5555/twin.{n}", copies=(Copy(),), content="twin") for n in range(2)]
    names = [f"On the gathering of leaves, part {n}" for n in range(3)]
    titled = [
        Paper(doi=f"10.5555/titled.{n}", title=name, copies=(Copy(),), asked_by="title")
        for n, name in enumerate(names)
    ]
    world = World.of(*twins, *titled, Paper(arxiv_id="2101.00001"), Paper(doi="10.5555/none", copies=()))
    rows = [
        *(f"10.5555/twin.{n},," for n in range(2)),
        "10.5555/TWIN.0,,",
        "10.5555/none,,",
        ",2101.00001v2,",
    ]
    rows += [*(f',,"{name}"' for name in names), ",2101.00001,", ',,"On nothing that anybody wrote down"']
    with _library(world) as (library, _):
        name = library.listed(["doi,arxiv_id,title", *rows], "works.csv")
        library.run("run", name, "--verify-title", "warn")
        library.run("run", name)
        return library.commits()


def every() -> list[Commit]:
    """Every event type with every field set, as no run may ever write it; made by hand."""
    events = [_filled(kind) for kind in sorted(facts.AnyEvent.__args__, key=lambda kind: kind.__name__)]
    draft = Draft(0, time_ns=1_700_000_000_000_000_000, run_id="golden")
    draft.judge([Batch("every/event", tuple(events))], lambda _: (0, 0))
    return [(1, CommitCodec(QUIRE).encode(GENESIS, draft))]


def _filled(kind: Any) -> Any:
    """A struct with a telling value in each field."""
    return kind(*(_value(field.type, field.name) for field in msgspec.structs.fields(kind)))


def _value(kind: Any, name: str) -> Any:
    shape = msgspec.inspect.type_info(kind)
    return _of_shape(shape, name)


def _of_shape(shape: Any, name: str) -> Any:
    inspect = msgspec.inspect
    match shape:
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 1 + sum(name.encode())
        case inspect.StrType():
            return f"{name} ü"
        case inspect.LiteralType():
            return shape.values[0]
        case inspect.VarTupleType():
            return (_of_shape(shape.item_type, name), _of_shape(shape.item_type, name))
        case inspect.DictType():
            return {name: _of_shape(shape.value_type, name)}
        case inspect.StructType():
            return _filled(shape.cls)
        case inspect.UnionType():
            return _of_shape(next(one for one in shape.types if not isinstance(one, inspect.NoneType)), name)
    raise InvariantError(f"no golden value for a field {name} of {shape!r}: say here what it looks like")


def _papers(fate: Any, count: int) -> list[Paper]:
    return [Paper(doi=f"10.5555/{fate}.{n}", copies=(Copy(fate=fate),)) for n in range(count)]


RUNS: Mapping[str, Callable[[], list[Commit]]] = {
    "clean": clean,
    "kills": kills,
    "gates": gates,
    "retries": retries,
    "breakers": breakers,
    "query": query,
    "titles": titles,
    "every": every,
}
"""Name of a golden log → the run that it is taken from."""
