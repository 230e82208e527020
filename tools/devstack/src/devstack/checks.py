"""``./latchkey test``: the gates, then the tests."""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape

_BIN = Path(sys.executable).parent

_ALL_TESTS = (
    f"--numprocesses={min(4, os.cpu_count() or 1)}",
    "--dist=loadscope",
    "--no-loadscope-reorder",
    "--cache-clear",
)
"""pytest's arguments for all tests: side by side, as most of them mostly wait. See `pytest_plugin`."""

_MOST_AGAIN = 3
"""So many failures among all tests may be the machine's; more are a fault. See ADR 0027."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended: ``code`` 0 is good; ``note`` is for its line, also why it was ``skipped``."""

    code: int
    output: str = ""
    note: str = ""
    skipped: bool = False


def run_checks(project: Path, pytest_arguments: Sequence[str], *, gates: bool, console: Console) -> int:
    """Run every stage, also after a failure; returns the exit code of the first that failed.

    pytest comes last, with all tests when there are no arguments. Up to three that fail beside the others
    then run again alone; their names close what is printed (ADR 0027). Else pytest's closing line does.
    """
    codes: list[int] = []
    stages: dict[str, Callable[[], Outcome]] = {
        "ruff check": lambda: _tool(project, "ruff", "check", "."),
        "ruff format --check": lambda: _tool(project, "ruff", "format", "--check", "."),
        "basedpyright": lambda: check_types(project),
        "lint-imports": lambda: check_imports(project),
    }
    if not gates:
        console.print("[yellow]skipped[/yellow]  the gates (--no-gates): " + ", ".join(stages))
        stages = {}
    for name, stage in stages.items():
        began = time.monotonic()
        outcome = stage()
        codes.append(outcome.code)
        mark = "[red]failed[/red] " if outcome.code else "[green]ok[/green]     "
        if outcome.skipped:
            mark = "[yellow]skipped[/yellow]"
        seconds = time.monotonic() - began
        console.print(f"{mark}  [bold]{name}[/bold]  {escape(outcome.note)} [dim]{seconds:.1f} s[/dim]")
        if outcome.code:
            console.print(escape(outcome.output.rstrip()), soft_wrap=True)
    codes.append(_pytest(project, pytest_arguments or _ALL_TESTS, console))
    if codes[-1] == _TESTS_FAILED and not pytest_arguments:
        failed = _last_failed(project)
        if 0 < len(failed) <= _MOST_AGAIN:
            codes[-1] = _pytest(project, ["--last-failed", "--last-failed-no-failures=none"], console)
            still = _last_failed(project)
            for test in failed:
                told = "[red]failed twice[/red]" if test in still else "[yellow]passed alone[/yellow]"
                console.print(f"{told}  {escape(test)}", soft_wrap=True)
    return next((code for code in codes if code), 0)


_TESTS_FAILED = 1
"""What pytest exits with then (its `ExitCode.TESTS_FAILED`)."""


def _last_failed(project: Path) -> list[str]:
    """The tests that failed in the run before; none when something else made it fail."""
    written = project / ".pytest_cache" / "v" / "cache" / "lastfailed"
    return list(json.loads(written.read_text())) if written.is_file() else []


def _tool(project: Path, name: str, *arguments: str) -> Outcome:
    done = subprocess.run(
        [str(_BIN / name), *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout)


def _pytest(project: Path, arguments: Sequence[str], console: Console) -> int:
    console.print(f"[dim]running[/dim]  [bold]pytest[/bold] {escape(' '.join(arguments))}")
    with subprocess.Popen([sys.executable, "-m", "pytest", *arguments], cwd=project) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # pytest got it too and is closing its fixtures
                continue


def check_types(project: Path) -> Outcome:
    """basedpyright, and that it looked at no fewer files than git tracks under its roots.

    A wrong pattern in its settings makes it check nothing and succeed.
    """
    found = _tool(project, "basedpyright", "--outputjson")
    try:
        report = _TypeReport.model_validate_json(found.output)
    except ValidationError:
        return Outcome(found.code or 1, found.output)
    lines = [str(diagnostic) for diagnostic in report.generalDiagnostics]
    settings = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["basedpyright"]
    tracked = _tracked(project, settings["include"])
    analyzed = report.summary.filesAnalyzed
    if tracked is None:
        return Outcome(
            found.code, "\n".join(lines), note="its files were not counted: this is no git checkout"
        )
    if analyzed < tracked:
        lines.append(
            f"It analysed {analyzed} files, but git tracks {tracked} under {', '.join(settings['include'])}. "
            "See [tool.basedpyright] in pyproject.toml."
        )
        return Outcome(found.code or 1, "\n".join(lines))
    return Outcome(found.code, "\n".join(lines), note=f"{analyzed} files")


def _tracked(project: Path, roots: Sequence[str]) -> int | None:
    """How many Python files git tracks (and has not seen deleted) under the roots; None without git."""
    git = shutil.which("git")
    if git is None:
        return None
    listed = subprocess.run(
        [git, "ls-files", "-z", "--", *(f"{root}/*.py" for root in roots)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if listed.returncode:
        return None
    return sum((project / name).is_file() for name in listed.stdout.split("\0") if name)


class _Position(BaseModel):
    line: int = 0


class _Range(BaseModel):
    start: _Position = _Position()


class _Diagnostic(BaseModel):
    file: str
    severity: str
    message: str
    rule: str = ""
    range: _Range = _Range()

    def __str__(self) -> str:
        where = f"{self.file}:{self.range.start.line + 1}"
        return f"{where}: {self.severity}: {self.message} {f'({self.rule})' if self.rule else ''}"


class _Summary(BaseModel):
    filesAnalyzed: int


class _TypeReport(BaseModel):
    """The part of basedpyright's JSON report that is used here, with its own names."""

    generalDiagnostics: list[_Diagnostic]
    summary: _Summary


def check_imports(project: Path) -> Outcome:
    """The import rules, when there are any."""
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    if "importlinter" not in settings["tool"] and not (project / ".importlinter").is_file():
        return Outcome(0, note="no import rules are configured", skipped=True)
    return _tool(project, "lint-imports")
