"""How the demo tells what it does: chapters, steps with their measured time, and where it went wrong."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devstack.process import StackError
from servicekit.kafka import KafkaError, KafkaException

_WIDTH = 96
_SECOND = 1.0


class Unexpected(Exception):
    """A step saw something else than it should; the message says what was expected and what was seen."""


class StoryEnded(Exception):
    """A step failed and was told; nothing comes after it."""


_FAILURES = (
    Unexpected,
    StackError,
    KafkaError,
    KafkaException,
    httpx.HTTPError,
    OSError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a stack that is not well, or an answer that is not as agreed, raises in a step."""


class Step:
    """One step while it runs. What is noted is shown under it when it is done."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.seconds: float | None = None

    def note(self, text: str) -> None:
        """Show ``text`` under the step."""
        self.notes.append(text)

    def took(self, seconds: float) -> None:
        """Show this time instead of the whole step's."""
        self.seconds = max(0.0, seconds)


class Story:
    """Writes to ``console``; counts steps and time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps = 0
        self.began = time.monotonic()

    def title(self, text: str, under: str) -> None:
        """The head of it all."""
        self.console.print(f"\n[bold]{escape(text)}[/bold]\n[dim]{escape(under)}[/dim]", soft_wrap=True)

    def chapter(self, text: str) -> None:
        """What the next steps are about."""
        self.console.print(f"\n[bold cyan]{escape(text)}[/bold cyan]")

    @contextmanager
    def step(self, text: str) -> Generator[Step]:
        """Run one step and tell it.

        Raises:
            StoryEnded: it failed; what was seen instead has been told.
        """
        step = Step()
        began = time.monotonic()
        try:
            with self.console.status(escape(text)):
                yield step
        except _FAILURES as error:
            self._line("[red bold]✗[/red bold]", f"[bold]{escape(text)}[/bold]", time.monotonic() - began)
            why = escape(_seen(error))
            self.console.print(f"\n[red bold]Stopped here.[/red bold] {why}\n", soft_wrap=True)
            raise StoryEnded from error
        self.steps += 1
        seconds = time.monotonic() - began if step.seconds is None else step.seconds
        self._line("[green]✓[/green]", escape(text), seconds)
        for note in step.notes:
            self._line("", f"[dim]{escape(note)}[/dim]", None)

    def left_out(self, why: str) -> None:
        """Say why the steps of this chapter are not played."""
        self.console.print(f"[yellow]-[/yellow] {escape(why)}", soft_wrap=True)

    def end(self, *lines: str) -> None:
        """Say how it went; the lines may hold markup."""
        seconds = time.monotonic() - self.began
        self.console.print(
            f"\n[green bold]All {self.steps} steps did what they say, in {seconds:.1f} s.[/green bold]"
        )
        for line in lines:
            self.console.print(line, soft_wrap=True)
        self.console.print()

    def _line(self, mark: str, text: str, seconds: float | None) -> None:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        table.add_row(mark, text, "" if seconds is None else f"[bold]{_time(seconds)}[/bold]")
        self.console.print(table, width=min(self.console.width, _WIDTH))


def _time(seconds: float) -> str:
    if seconds >= _SECOND:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _seen(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "It did not happen in time. ./latchkey status says what is not well."
        case httpx.HTTPError():
            return f"No usable answer came ({type(error).__name__}). ./latchkey status says what is not well."
        case LookupError() | TypeError() | ValueError():
            return f"What came has another form than agreed ({type(error).__name__}: {error})."
        case _:
            return str(error)
