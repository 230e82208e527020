"""Runs one benchmark and shows its figures."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from devstack.process import StackError
from devstack.status import Status

_HERE = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
"""What is measured is on this machine, whatever proxy leads out of it."""


class Figure(BaseModel):
    """One measured figure; ``peer`` is what it is compared with, ``aim`` what it should reach."""

    figure: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    aim: str | float | None = None
    met: bool | None = None


class Result(BaseModel):
    """The last line of a benchmark."""

    name: str
    figures: list[Figure]
    runs: int
    machine: str | dict[str, object]


def run_bench(script: Path, stack: Status, arguments: Sequence[str], console: Console) -> int:
    """Run ``script`` with the path of a status file and these arguments; what it prints is shown as it comes.

    A person at a terminal sees the figures as a table too, before the last line.

    Raises:
        StackError: it succeeded without a usable last line.
    """
    status = stack.state / "status.json"
    last = ""
    with subprocess.Popen(
        [sys.executable, str(script), str(status), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **_HERE},
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if last:
                print(last, flush=True)
            last = line.rstrip("\n")
    if child.returncode:
        print(last)
        return child.returncode
    try:
        result = Result.model_validate_json(last)
    except ValidationError:
        print(last)
        raise StackError(f"{script.name} did not end with a line of figures.") from None
    if console.is_terminal:
        console.print(_table(result))
    print(last)
    return 0


def _table(result: Result) -> Table:
    table = Table(title=f"{result.name}, {result.runs} runs", box=None, padding=(0, 2), header_style="dim")
    for column in ("figure", "value", "unit", "compared with", "its value", "ratio", "aim", "met"):
        table.add_column(column, justify="left" if column in {"figure", "unit", "compared with"} else "right")
    for item in result.figures:
        met = "-" if item.met is None else "[green]yes[/green]" if item.met else "[red]no[/red]"
        table.add_row(
            f"[bold]{item.figure}[/bold]",
            f"{item.value:g}",
            item.unit,
            item.peer or "-",
            "-" if item.peer_value is None else f"{item.peer_value:g}",
            "-" if item.ratio is None else f"{item.ratio:.2f}",
            "-" if item.aim is None else str(item.aim),
            met,
        )
    return table
