"""The documentation is true: tables are those of the code, named tests and files exist, examples run."""

import ast
import importlib.util
import re
import shlex
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from quire.actors.sources.finding import REASONS
from quire.cli.main import build_parser
from quire.config.loader import load
from quire.config.settings import SOURCES
from quire.events.record import Appended, Conflict
from quire.testing.web import Paper, World, serve

HOUSE = Path(__file__).resolve().parents[1]
DOCS = [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", HOUSE / "benchmarks" / "README.md"]
DOCS += sorted((HOUSE / "docs").glob("*.md"))
SOURCES_PAGE = (HOUSE / "docs" / "sources.md").read_text()
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"`((?:tests|testing)/\w+\.py)::(\w+)`")
RUN = re.compile(r"<!-- run: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
CODE = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", HOUSE / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# sources.md


def test_the_tables_are_those_of_the_code() -> None:
    """What stands between the markers is what the code and the defaults say now."""
    assert tables().filled(SOURCES_PAGE) == SOURCES_PAGE, "run: python docs/tables.py"


def test_every_source_has_its_section_and_its_numbers() -> None:
    """Each source, each of its settings and each number of its policy stand on the page."""
    settings = load([], environ={}).settings
    for name in SOURCES:
        assert f"\n## {name}\n" in SOURCES_PAGE
        policy = settings.fallback.policies[name]
        row = next(line for line in SOURCES_PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        robots = "yes" if policy.robots_respect else "no"
        assert row.endswith(f"| {policy.timeout_ms} | {policy.retries_max} | {robots} |")
    for source, values in msgspec.to_builtins(settings.sources).items():
        for name, value in values.items():
            assert f"| `sources.{source}.{name}` | `{value}` |" in SOURCES_PAGE


def test_every_reason_stands_on_the_page_and_no_other() -> None:
    """Each code of REASONS stands there with its sentence, and no code that does not exist."""
    for code, reason in REASONS.items():
        assert f"| `{code}` | {reason.means} |" in SOURCES_PAGE
    assert set(CODE.findall(SOURCES_PAGE)) == REASONS.keys() | set(SOURCES)


def test_each_request_that_a_page_names_has_its_endpoint() -> None:
    """The placeholders in the requests of a section are settings of its source, or parts of the question."""
    parts = {"doi", "contact", "id", "version", "pmcid", "pmid or doi", "url", "timestamp", "title"}
    settings = msgspec.to_builtins(load([], environ={}).settings.sources)
    for name, values in settings.items():
        section = SOURCES_PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
        named = set(re.findall(r"\{([\w ]+)\}", section))
        assert named - parts <= values.keys(), name
        addresses = {key for key, value in values.items() if "://" in str(value)}
        assert addresses <= named, name


# links, commands, tests


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_every_linked_file_exists(page: Path) -> None:
    """A link inside the repository leads somewhere."""
    targets = LINK.findall(page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_front_pages_have_links() -> None:
    """The check above is worth something: the links of README.md are found."""
    assert {"docs/guarantees.md", "docs/sources.md"} <= set(LINK.findall((HOUSE / "README.md").read_text()))


def commands(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    added = next(action for action in parser._actions if isinstance(action, _SubParsersAction))
    return dict(added.choices)


def flags(parser: ArgumentParser) -> set[str]:
    own = set(parser._option_string_actions)
    inner = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    return own.union(*(flags(one) for action in inner for one in action.choices.values()))


def command_lines(text: str) -> list[list[str]]:
    """The lines that begin with ``quire`` in consoles and in code between words, without comments."""
    found = re.findall(r"^\$ (quire .*)$|`(quire [^`\n]+)`", text, re.MULTILINE)
    return [shlex.split(re.sub(r"\s#.*", "", one or other)) for one, other in found]


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_every_command_and_flag_is_one(page: Path) -> None:
    """What a page tells people to type is what the parser takes."""
    known = commands(build_parser())
    for words in command_lines(page.read_text()):
        if words[1].startswith("--"):
            assert set(words[1:]) <= flags(build_parser())
            continue
        assert words[1] in known, words
        assert {word for word in words if word.startswith("--")} <= flags(known[words[1]]), words


def test_the_table_of_commands_is_that_of_the_parser() -> None:
    """Each command and flag in README's table exists, with the flag in the command of its row."""
    known = commands(build_parser())
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", (HOUSE / "README.md").read_text(), re.MULTILINE)
    assert len(rows) >= 6
    for names, about in rows:
        listed = [name.split()[0] for name in re.findall(r"`([^`]+)`", names)]
        assert set(listed) <= known.keys()
        said = set(re.findall(r"`(--[\w-]+)", f"{names} {about}")) | set(re.findall(r"(--[\w-]+)", names))
        assert said <= set().union(*(flags(known[name]) for name in listed))


def test_every_flag_that_a_page_mentions_exists() -> None:
    """Flags in running text are flags of some command, or of the test kit's own."""
    kit = {"--kills", "--works", "--records", "--keep", "--seed", "--inputs", "--kit"}
    every = flags(build_parser()) | kit
    for page in DOCS:
        mentioned = set(re.findall(r"(?<![\w-])(--[a-z][\w-]+)", page.read_text()))
        assert mentioned <= every, page


def test_every_named_test_exists() -> None:
    """A promise names tests that are there."""
    named = TEST.findall((HOUSE / "docs" / "guarantees.md").read_text())
    assert len(named) >= 50
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"def {test}\(", (HOUSE / file).read_text() if (HOUSE / file).exists() else "")
    ]
    assert missing == []


def test_every_named_benchmark_exists() -> None:
    """The table of figures names files that are there, and every one of them."""
    text = (HOUSE / "benchmarks" / "README.md").read_text()
    named = set(re.findall(r"benchmarks/(\w+\.py)", text))
    assert named == {path.name for path in (HOUSE / "benchmarks").glob("*.py")}


# embedding.md


def example(name: str) -> str:
    return dict(RUN.findall((HOUSE / "docs" / "embedding.md").read_text()))[name]


def test_a_domain_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example keeps a log with a projection in less than 40 lines, and says what it claims."""
    monkeypatch.chdir(tmp_path)
    code = example("domain")
    assert len(code.splitlines()) < 40
    done: dict[str, object] = {"__name__": "example"}
    exec(code, done)
    assert done["first"] == [Appended(1, 2)]
    assert isinstance(done["again"][0], Conflict)
    assert done["ann"].balance == 700
    assert done["history"] == [500, 200]


def test_a_session_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example brings home what can be had, and says why not of the rest."""
    monkeypatch.chdir(tmp_path)
    world = World.of(Paper(doi="10.1234/one"), Paper(doi="10.1234/closed", copies=()))
    with serve(world) as served:
        done: dict[str, object] = {"stand_in": served.url}
        exec(example("session"), done)
    outcomes = done["outcomes"]
    assert done["planned"].new == 2
    assert (Path("papers") / outcomes["10.1234/one"].path).read_bytes().startswith(b"%PDF-")
    assert (outcomes["10.1234/closed"].ok, outcomes["10.1234/closed"].reason) == (False, "exhausted")


def test_testing_against_a_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's own assertions hold, and it saw every work of its world."""
    monkeypatch.chdir(tmp_path)
    done: dict[str, object] = {}
    exec(example("world"), done)
    assert done["got"].keys() == set(done["world"].work_ids())


def first_example(page: str) -> str:
    return re.search(r"```python\n(import quire\n.*?)```", (HOUSE / page).read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("page", ["README.md", "docs/embedding.md"])
def test_the_first_example_brings_papers_home(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The call on the front page, word for word, against a simulated web that variables put in its place."""
    monkeypatch.chdir(tmp_path)
    world = World.of(Paper(doi="10.1371/journal.pone.0000217"), Paper(arxiv_id="1706.03762"))
    with serve(world) as served:
        monkeypatch.setenv("QUIRE_WEB__STAND_IN", served.url)
        monkeypatch.setenv("QUIRE_WEB__PACING", "none")
        exec(first_example(page), {})
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert told.keys() == set(world.work_ids())
    assert all((Path("papers") / path).is_file() for path in told.values())


def test_both_pages_show_the_same_first_example() -> None:
    """README.md and docs/embedding.md differ in line breaks at most."""
    one, other = (ast.dump(ast.parse(first_example(page))) for page in ("README.md", "docs/embedding.md"))
    assert one == other
