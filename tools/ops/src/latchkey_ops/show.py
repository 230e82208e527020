"""Answers for people: tables on the terminal, and JSON for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def as_json(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, default=_plain) + "\n")


def table(rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Rows under the names of their fields; ``empty`` when there are none.

    Where they are wider than the terminal, a line for each field instead: a word that is broken up cannot be
    read, nor searched for.
    """
    if not rows:
        console.print(empty)
        return
    columns = [_Column(name, [_cell(row.get(name)) for row in rows]) for name in rows[0]]
    if sum(column.least + _BESIDE for column in columns) > console.width:
        for row in rows:
            fields(row)
            console.print()
        return
    whole = sum(column.most + _BESIDE for column in columns) <= console.width
    shown = Table(box=None, padding=(0, _BESIDE // 2), header_style="dim")
    for column in columns:
        numeric = all(isinstance(row.get(column.name) or None, int | float | None) for row in rows)
        shown.add_column(
            column.title, justify="right" if numeric else "left", width=None if whole else column.least
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        shown.add_row(*map(escape, cells))
    console.print(shown)


def grouped(rows: Sequence[Mapping[str, Any]], depth: int, *, empty: str) -> None:
    """As `table`; what rows have in common of their first ``depth`` fields is said once, above them."""
    names = list(rows[0])[: depth + 1] if rows else []
    first, shown, last = ", ".join(names), list[dict[str, Any]](), list[Any]()
    for row in rows:
        *common, own = (row[name] for name in names)
        rest = {name: value for name, value in row.items() if name not in names}
        for level, value in enumerate(common):
            if common[: level + 1] != last[: level + 1]:
                shown.append({first: f"{'  ' * level}{value}", **dict.fromkeys(rest, "")})
        shown.append({first: f"{'  ' * depth}{own}", **rest})
        last = common
    table(shown, empty=empty)


_BESIDE: Final = 2
"""Blanks beside a column."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: Sequence[str]

    @property
    def title(self) -> str:
        return self.name.replace("_", " ")

    @property
    def least(self) -> int:
        """How wide it is with a word of its title below the other."""
        return max(map(cell_len, (*self.cells, *self.title.split())))

    @property
    def most(self) -> int:
        """How wide it is with its title in one line."""
        return max(self.least, cell_len(self.title))


def fields(document: Mapping[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    grid = Table.grid(padding=(0, 2))
    for name, value in document.items():
        shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        grid.add_row(f"[dim]{name.replace('_', ' ')}[/dim]", escape(_cell(shown)))
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
            return json.dumps(value, default=_plain)
        case _:
            return str(value)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
