"""docs/testing.md is true: its examples are short, run, and notice the defects they are there for."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import quire.testing

HOUSE = Path(__file__).resolve().parents[1]
PAGE = (HOUSE / "docs" / "testing.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- run: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


def pytest_of(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "test_example.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", ["projection", "adapter"])
def test_an_example_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    """The test on the page is a test, passes, and has less than 30 lines of code."""
    lines = [line for line in EXAMPLES[name].splitlines() if line.strip()]
    assert len(lines) < 30, f"{len(lines)} lines"
    done = pytest_of(EXAMPLES[name], tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "1 passed" in done.stdout


def test_the_example_of_a_projection_finds_a_wrong_fold(tmp_path: Path) -> None:
    """A fold that forgets what was before fails the test of the page, with a script that fails as well."""
    broken = EXAMPLES["projection"].replace("(row or Shelf()).out + ", "")
    done = pytest_of(broken, tmp_path)
    assert done.returncode == 1
    script = re.search(r"(# ---- a script.*?state\.teardown\(\))", done.stdout, re.DOTALL)
    assert script is not None, done.stdout[-2000:]
    file = tmp_path / "again.py"
    file.write_text("\n".join(line.removeprefix("E").strip() for line in script[1].splitlines()))
    again = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 1
    assert "AssertionError" in again.stderr


def test_the_example_of_an_adapter_finds_a_wrong_url(tmp_path: Path) -> None:
    """A finder that asks for another name fails the test of the page."""
    assert pytest_of(EXAMPLES["adapter"].replace("[1]}.pdf", "[1]}.PDF"), tmp_path).returncode == 1


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
