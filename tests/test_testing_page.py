"""docs/testing.md is true: its examples are short, run, and notice the defects they are there for."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis.errors import Flaky

import quire.testing
from quire import Domain, Projection, UsageError, Work
from quire.actors.sources.finding import Candidate, Found, Lookup
from quire.actors.web.exchange import Role, Web
from quire.events.record import Batch, Recorded
from quire.testing import (
    Copy,
    Paper,
    ScriptedMachine,
    World,
    budget,
    rule,
    serve,
    try_finder,
    try_resolver,
)
from quire.testing.log_model import LogModel
from quire.testing.web import FATES, Call, Reply

HOUSE = Path(__file__).resolve().parents[1]
PAGE = (HOUSE / "docs" / "testing.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- run: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


def pytest_of(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "test_example.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def script_in(output: str) -> str:
    """The script that a failing machine prints, as pytest shows it."""
    found = re.search(r"(# ---- a script.*?state\.teardown\(\))", output, re.DOTALL)
    assert found is not None, output[-2000:]
    return "\n".join(line.removeprefix("E").strip() for line in found[1].splitlines())


def ran(script: str, file: Path) -> subprocess.CompletedProcess[str]:
    file.parent.mkdir(exist_ok=True)
    file.write_text(script)
    command = [sys.executable, str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def run_here(code: str) -> None:
    """Run the tests of an example that needs no pytest, in this process."""
    names: dict[str, Any] = {"__name__": "test_example"}
    exec(code, names)
    tests = [name for name in names if name.startswith("test_")]
    assert tests
    for name in tests:
        names[name]()


def test_the_page_has_short_examples() -> None:
    """Each is a test of less than 30 lines of code."""
    assert set(EXAMPLES) == {"projection", "adapter", "service", "resolver"}
    for name, code in EXAMPLES.items():
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) < 30, f"{name} has {len(lines)} lines"


def test_the_example_of_a_projection_runs_as_it_stands(tmp_path: Path) -> None:
    """The test on the page is a test, and passes."""
    done = pytest_of(EXAMPLES["projection"], tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("name", ["adapter", "service", "resolver"])
def test_an_example_runs_as_it_stands(name: str) -> None:
    """The test on the page passes."""
    run_here(EXAMPLES[name])


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("adapter", "[1]}.pdf", "[1]}.PDF"),
        ("service", "for one in files)", "for one in files[:1])"),
        ("resolver", ".files.url", ".files.uri"),
    ],
)
def test_an_example_finds_a_wrong_source(name: str, right: str, wrong: str) -> None:
    """A source that asks for another name, drops a file or looks elsewhere fails the test of the page."""
    assert right in EXAMPLES[name]
    with pytest.raises(AssertionError):
        run_here(EXAMPLES[name].replace(right, wrong))


@pytest.mark.parametrize("package", [False, True], ids=["a file", "a package"])
def test_the_script_fails_as_the_test_did(package: bool, tmp_path: Path) -> None:
    """Events and machine of the script are of one run of the test's file: it fails for the same reason.

    It once had them of two runs: the store refused the events of the other run's class. And what the script
    itself prints is a script that runs.
    """
    folder = tmp_path / "shelves"
    folder.mkdir()
    if package:
        (folder / "__init__.py").touch()
    wrong = "(row or Shelf()).out + max(recorded.event.copies, 0)" if package else "recorded.event.copies"
    broken = EXAMPLES["projection"].replace("(row or Shelf()).out + recorded.event.copies", wrong)
    script = script_in(pytest_of(broken, folder).stdout)
    assert "nothing_is_lost()" in script
    for place in ("first", "second"):
        again = ran(script, tmp_path / place / "again.py")
        assert again.returncode == 1
        assert "in nothing_is_lost" in again.stderr, again.stderr[-2000:]
        assert again.stderr.count("AssertionError") == 1, again.stderr[-2000:]
        script = script_in(again.stderr)


class Lent(msgspec.Struct, frozen=True, array_like=True, tag="lent"):
    copies: int


class Shelf(msgspec.Struct, array_like=True):
    out: int = 0


SEEN: list[int] = []


def looks_at_a_global(row: Shelf | None, recorded: Recorded[Lent]) -> Shelf:
    SEEN.append(recorded.position)
    return Shelf(len(SEEN))


def changes_its_row(row: Shelf | None, recorded: Recorded[Lent]) -> Shelf:
    row = row or Shelf()
    row.out += recorded.event.copies
    return row


@pytest.mark.parametrize(
    ("fold", "said"), [(looks_at_a_global, "is not pure: Shelf"), (changes_its_row, "changes its row, from")]
)
def test_a_fold_that_is_not_pure_is_told_so(fold: Any, said: str) -> None:
    """A fold that looks at a global, or changes its row in place (it is not written then), is named so."""
    shelves = Projection(name="shelves", version=1, row=Shelf, key=lambda one: b"all", fold=fold)
    model = LogModel(Domain(events=Lent, projections=(shelves,)), "run-1")
    with pytest.raises(AssertionError, match=f"fold of shelves {said}"):
        model.append([Batch("a", (Lent(1), Lent(2)))], 1)


class Moody(ScriptedMachine):
    """It fails the seventh time, whatever is done."""

    times = 0

    @rule()
    def step(self) -> None:
        Moody.times += 1
        assert Moody.times != 7


def test_a_failure_that_does_not_repeat_is_explained() -> None:
    """What hypothesis calls flaky is said in words: a fold, or something else, is not pure."""
    case = Moody.TestCase()
    case.settings = type(case).settings = budget(20)
    with pytest.raises(Flaky) as failure:
        case.runTest()
    assert "Your fold is not pure" in "".join(failure.value.__notes__)


class Institute:
    """A finder whose ``first_request`` is what a test says."""

    name = "institute_pdf"
    home = "https://papers.institute.example/one.pdf"

    def __init__(self, says: Any) -> None:
        self._says = says

    def lacks(self, lookup: Lookup) -> str | None:
        return None

    def first_request(self, lookup: Lookup) -> tuple[str, Role]:
        return self._says  # type: ignore[no-any-return]

    async def find(self, web: Web, lookup: Lookup) -> Found:
        return Found(candidates=(Candidate(url=self.home, rule="institute"),))


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ((Institute.home, "artifact"), ""),
        (("https://elsewhere.example/one.pdf", "artifact"), "what it asked first was"),
        ((Institute.home, "pdf"), "give a URL and a role"),
        (Institute.home, "give a URL and a role"),
        (None, "give a URL and a role"),
    ],
    ids=["right", "another host", "no role", "a URL alone", "nothing"],
)
def test_first_request_is_held_to_what_was_asked(says: Any, said: str) -> None:
    """A finder that names another first request than its own is refused: the wrong breaker would be asked."""
    with serve(World.of(Paper(doi="10.1234/one", at=Institute.home))) as served:
        if not said:
            assert try_finder(Institute(says), Work(doi="10.1234/one"), served).pdfs == [Institute.home]
            return
        with pytest.raises(UsageError, match=said):
            try_finder(Institute(says), Work(doi="10.1234/one"), served)


def test_a_resolver_from_a_file_a_list_or_alone(tmp_path: Path) -> None:
    """``try_resolver`` takes settings, a list, one alone and a file, and names what there is."""
    alone = '{name: %s, url: "https://api.example/{doi}", mode: json, selector: .url}'
    file = tmp_path / "mine.yaml"
    file.write_text(f"- {alone % 'One'}\n- {alone % 'Two'}\n")
    pdf = "https://repository.example/1.pdf"
    world = World.of(
        Paper(doi="10.1234/one", at=pdf), answers={"https://api.example/10.1234/one": {"url": pdf}}
    )
    work = Work(doi="10.1234/one")
    with serve(world) as served:
        assert try_resolver(alone % "One", work, served).pdfs == [pdf]
        assert try_resolver(file, work, served, name="Two").pdfs == [pdf]
        with pytest.raises(UsageError, match="custom:one, custom:two"):
            try_resolver(file, work, served, name="Three")
        file.write_text(f"- {alone.replace('selector', 'selektor') % 'One'}\n")
        with pytest.raises(UsageError, match=r"mine\.yaml:1.*selektor"):
            try_resolver(file, work, served)


def test_the_table_of_fates_is_true() -> None:
    """Each fate in a row of the page comes to the reason of that row."""
    table = PAGE[PAGE.index("| `opened` | fates |") :].splitlines()[2:9]
    said: dict[str, set[str]] = {}
    for row in table:
        _, reasons, fates, _ = row.split("|")
        for fate in re.findall(r"`(\w+)`", fates):
            said.setdefault(fate, set()).update(re.findall(r'`([\w"]+)`', reasons))
    assert len(said) > 30
    assert set(said) <= set(FATES)
    papers = {fate: f"https://p.example/{fate}.pdf" for fate in said}
    made = (Paper(doi=f"10.1234/{fate}", at=url, fate=cast(Any, fate)) for fate, url in papers.items())
    with serve(World.of(*made)) as served:
        for fate, url in papers.items():
            finder = Institute((url, "artifact"))
            finder.home = url
            [reason] = try_finder(finder, Work(doi="10.1234/x"), served).opened.values()
            assert (reason or '""') in said[fate], fate


def test_a_fate_that_is_none_is_refused() -> None:
    """A slip of the pen would be served as a sound PDF: it is refused, with what there is."""
    with pytest.raises(UsageError, match=r"'payall'.*did you mean 'paywall'"):
        Copy(fate="payall")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there are good, chunked"):
        Paper(doi="10.1234/one", fate="?")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="in each Copy"):
        Paper(doi="10.1234/one", at="https://a.example/1.pdf", copies=(Copy(),))
    with pytest.raises(UsageError, match="in each Copy"):
        Paper(doi="10.1234/one", fate="missing", copies=(Copy(),))


def test_answers_of_ones_own() -> None:
    """JSON, pages, bytes and replies are served at their URLs, and in place of what a paper puts there."""
    urls = [f"https://a.example/x?n={n}" for n in range(4)]
    answers = dict(zip(urls, ({"a": [1]}, "<p>page</p>", b"%PDF-", Reply(status=402)), strict=True))
    world = World.of(Paper(doi="10.1234/one", at=urls[2]), answers=answers)
    replies = [world.answer(Call(url=url)) for url in urls]
    assert [reply.status for reply in replies] == [200, 200, 200, 402]
    assert [reply.content() for reply in replies] == [b'{"a":[1]}', b"<p>page</p>", b"%PDF-", b""]
    types = ["application/json", "text/html; charset=utf-8", "application/pdf", ""]
    assert [reply.header("content-type") for reply in replies] == types
    with pytest.raises(UsageError, match="no URL"):
        World.of(answers={"/x": 1})
    with pytest.raises(UsageError, match="as JSON"):
        World.of(answers={"https://a.example/": object()})


def test_every_command_of_the_page_is_there() -> None:
    """A campaign that is named can be started, and says what it takes."""
    commands = re.findall(r"^\| `python -m (quire\.testing\.\w+)` ", PAGE, re.MULTILINE)
    assert len(commands) >= 9
    for name in commands:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        if spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{name}.__main__")
            assert spec is not None, f"{name} is no command"
        else:
            assert 'if __name__ == "__main__":' in Path(str(spec.origin)).read_text(), name


def test_every_public_name_is_there_and_on_the_page() -> None:
    """What the package promises can be had, and each name that the page takes from it is promised."""
    for name in quire.testing.__all__:
        assert getattr(quire.testing, name) is not None
    taken = re.findall(r"from quire\.testing import (.*)", PAGE)
    named = {name.strip() for line in taken for name in line.split(",")}
    assert named <= set(quire.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        _ = quire.testing.nobody


def test_the_simulated_web_loads_no_hypothesis() -> None:
    """Names are loaded when they are used."""
    code = "import sys; from quire.testing import serve; print({'hypothesis', 'pytest'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["set()"]
