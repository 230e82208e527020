"""`./latchkey test` on small projects with planted faults."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from devstack.checks import check_types, run_checks

SETTINGS = """\
[tool.basedpyright]
include = ["{root}"]
typeCheckingMode = "strict"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one module and one test, known to git."""
    (tmp_path / "pyproject.toml").write_text(SETTINGS.format(root="code"))
    code = tmp_path / "code"
    code.mkdir()
    (code / "module.py").write_text('"""Something."""\n\nVALUE: int = 1\n')
    (code / "test_module.py").write_text('"""A test."""\n\n\ndef test_it() -> None:\n    """Passes."""\n')
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.slow
def test_types_pass_and_the_count_is_told(project: Path) -> None:
    outcome = check_types(project)
    assert (outcome.code, outcome.note) == (0, "2 files")


@pytest.mark.slow
def test_a_pattern_that_checks_nothing_is_a_failure(project: Path) -> None:
    (project / "pyproject.toml").write_text(SETTINGS.format(root="c*/x"))
    (project / "c1").mkdir()
    (project / "c1" / "x").mkdir()
    for name in ("c1/x/a.py", "c1/x/b.py"):
        (project / name).write_text("VALUE: int = 'wrong'\n")
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    outcome = check_types(project)
    assert outcome.code != 0
    assert "but git tracks 2 under c*/x" in outcome.output


@pytest.mark.slow
def test_a_wrong_type_is_shown_with_its_place(project: Path) -> None:
    (project / "code" / "module.py").write_text('"""Something."""\n\nVALUE: int = "wrong"\n')
    outcome = check_types(project)
    assert outcome.code == 1
    assert "module.py:3: error: " in outcome.output


@pytest.mark.slow
def test_all_stages_run_after_a_failure_and_pytest_speaks_last(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "code" / "module.py").write_text('"""Something."""\n\nimport os\n')
    console = Console(file=sys.stdout, width=100)
    assert run_checks(project, ["-q", "code"], gates=True, console=console) == 1
    printed = capfd.readouterr().out.rstrip().splitlines()
    stages = [line.split()[0] for line in printed if line.split()[:1] and line.split()[0] in MARKS]
    assert stages == ["failed", "ok", "failed", "skipped", "running"]
    assert "`os` imported but unused" in "\n".join(printed)
    assert printed[-1].startswith("1 passed in ")


MARKS = {"failed", "ok", "skipped", "running"}


def test_gates_that_are_left_out_are_named(project: Path) -> None:
    output = io.StringIO()
    assert run_checks(project, ["-q", "code"], gates=False, console=Console(file=output, width=200)) == 0
    assert (
        "skipped  the gates (--no-gates): ruff check, ruff format --check, basedpyright" in output.getvalue()
    )


@pytest.mark.slow
def test_a_failing_test_is_the_exit_code(project: Path) -> None:
    (project / "code" / "test_module.py").write_text("def test_it():\n    raise ValueError\n")
    assert run_checks(project, ["-q"], gates=False, console=Console(file=io.StringIO())) == 1


FAILS_AT_FIRST = """
import pathlib

def test_a_race():
    been = pathlib.Path("been")
    if not been.exists():
        been.touch()
        raise ValueError
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("", 0, ["passed alone  code/test_race.py::test_a_race"]),
        (
            "def test_it():\n    raise ValueError\n",
            1,
            ["failed twice  code/test_more.py::test_it", "passed alone  code/test_race.py::test_a_race"],
        ),
        ("".join(f"def test_{n}():\n    raise ValueError\n" for n in range(3)), 1, []),
    ],
    ids=["passes then", "fails again", "too many"],
)
def test_of_all_tests_a_few_that_fail_run_again_alone_and_are_named(
    project: Path, capfd: pytest.CaptureFixture[str], more: str, code: int, said: list[str]
) -> None:
    (project / "code" / "test_race.py").write_text(FAILS_AT_FIRST)
    (project / "code" / "test_more.py").write_text(more)
    console = Console(file=sys.stdout, width=100)
    assert run_checks(project, [], gates=False, console=console) == code
    printed = capfd.readouterr().out.rstrip().splitlines()
    assert sorted(line for line in printed if line.startswith(("failed twice", "passed alone"))) == said
    assert sum(line.startswith("running") for line in printed) == (2 if said else 1)
    assert any("ValueError" in line for line in printed)


@pytest.mark.slow
def test_chosen_tests_that_fail_do_not_run_again(project: Path) -> None:
    (project / "code" / "test_race.py").write_text(FAILS_AT_FIRST)
    assert run_checks(project, ["-q"], gates=False, console=Console(file=io.StringIO())) == 1
