"""Answers for people: tables on the terminal, and JSON for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def as_json(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, default=_plain) + "\n")


def table(rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Rows under the names of their fields; ``empty`` when there are none."""
    if not rows:
        console.print(empty)
        return
    shown = Table(box=None, padding=(0, 2), header_style="dim")
    for name in rows[0]:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        shown.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(row.get(name)) for name in rows[0]))
    console.print(shown)


def fields(document: Mapping[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    grid = Table.grid(padding=(0, 2))
    for name, value in document.items():
        shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        grid.add_row(f"[dim]{name.replace('_', ' ')}[/dim]", _cell(shown))
    console.print(grid)


def problems(lines: Sequence[str]) -> None:
    """What is not as it should be."""
    for line in lines:
        console.print(f"[red]![/red] {escape(line)}", soft_wrap=True)


def failure(message: str) -> None:
    """The one line of a verb that could not answer."""
    errors.print(f"[red bold]latchkey ops:[/red bold] {escape(message)}", soft_wrap=True)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value.astimezone():%Y-%m-%d %H:%M:%S%z}"
        case dict() | list() | tuple():
            return escape(json.dumps(value, default=_plain))
        case _:
            return escape(str(value))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
