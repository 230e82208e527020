"""``ops replay | verify | swap | generations | drop-generation``: with progress for people."""

import contextlib
from collections.abc import Generator, Mapping
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contracts import topics
from latchkey_ops import lag, scripts, show
from latchkey_ops.errors import Exit, OpsError
from latchkey_ops.place import AsJson, DryRun, Place, Reason, run
from latchkey_ops.scripts import OnProgress

_PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
_PHASES: Final = {
    "reading": "Reading the topics",
    "watermarks": "Reading the newest watermarks",
    "indexing": "Making the indexes",
    "catching_up": "Catching up with the live generation",
    "comparing": "Comparing",
    "swapping": "Swapping",
    "swap_put_off": "Not swapped yet",
    "dropping": "Dropping what was made",
}
_OUTCOMES: Final = {True: "[green]equal[/green]", False: "[red]different[/red]"}

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Of the generation, see `generations`.")]


def add_to(app: typer.Typer) -> None:
    """Give ``app`` the verbs."""
    app.command(context_settings=_PASSED_ON)(replay)
    app.command(context_settings=_PASSED_ON)(verify)
    app.command()(swap)
    app.command()(generations)
    app.command("drop-generation")(drop_generation)


def replay(
    context: typer.Context, dry_run: DryRun = False, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Build the read models anew from the topics beside the live ones, compare, and swap them in.

    Further options are those of permission-projector replay: --no-swap, --force, --most, --rate, --processes.
    """

    async def main() -> None:
        place = Place()
        if dry_run:
            rows = await _to_read(place)
            if as_json:
                show.as_json({"dry_run": True, "topics": rows})
            else:
                show.table(rows, empty="")
                show.console.print("So many records, at most, would be read into a new generation.")
            return
        async with place.audit(reason).recorded("replay", {"options": context.args}):
            await _built(as_json, "replay", *context.args)

    run(main())


async def _to_read(place: Place) -> list[dict[str, Any]]:
    names = [topic.name for topic in lag.READS[0].topics if topic is not topics.WATERMARKS]
    places = await place.admin.partitions([place.prefix + name for name in names])
    firsts, ends = await place.admin.first_offsets(places), await place.admin.end_offsets(places)
    return [
        {
            "topic": name,
            "records": sum(ends[at] - firsts[at] for at in places if at.topic == place.prefix + name),
        }
        for name in names
    ]


def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Compare the live read models with a fold of the topics; changes nothing. Exit code 1 when they differ.

    Further options are those of permission-projector verify: --most, --rate, --processes.
    """

    async def main() -> None:
        Place()
        await _built(as_json, "verify", *context.args)

    run(main())


def swap(
    *,
    number: Number,
    force: Annotated[
        bool, typer.Option("--force", help="Swap although the comparison found differences.")
    ] = False,
    most: Annotated[int | None, typer.Option(help="Differences that are shown (20).", min=1)] = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Put another generation in the live one's place, after catching up: also the way back after a replay."""
    options = [*(["--force"] if force else []), *([] if most is None else ["--most", str(most)])]

    async def main() -> None:
        place = Place()
        if dry_run:
            await _would(as_json, number, "would catch up, be compared with the live one, and become live")
            return
        async with place.audit(reason).recorded("swap", {"number": number, "options": options}):
            await _built(as_json, "swap", str(number), *options)

    run(main())


def generations(as_json: AsJson = False) -> None:
    """The generations of the read models: which is live, and which are kept for going back."""

    async def main() -> None:
        Place()
        _, answer = await scripts.ask("generations")
        if as_json:
            show.as_json(answer)
        else:
            show.table(answer["generations"], empty="There is none. Run: permission-projector migrate")

    run(main())


def drop_generation(
    number: Number, dry_run: DryRun = False, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Drop a generation that is not live: there is no going back to it then."""

    async def main() -> None:
        place = Place()
        if dry_run:
            await _would(as_json, number, "would be dropped")
            return
        async with place.audit(reason).recorded("drop-generation", {"number": number}):
            _, answer = await scripts.ask("drop-generation", str(number))
        if as_json:
            show.as_json(answer)
        else:
            show.console.print(f"Generation {number} is gone.")

    run(main())


async def _would(as_json: bool, number: int, what: str) -> None:
    _, answer = await scripts.ask("generations")
    found = [item for item in answer["generations"] if item["number"] == number]
    if not found:
        raise OpsError(f"There is no generation {number}. See: ops generations", Exit.USAGE)
    if found[0]["live"]:
        raise OpsError(f"Generation {number} is the live one.")
    if as_json:
        show.as_json({"dry_run": True, "generation": found[0]})
    else:
        show.table(found, empty="")
        show.console.print(f"Generation {number} {what}.")


async def _built(as_json: bool, *arguments: str) -> None:
    """Run a verb that fills or compares generations, and show its answer; raises when they differ."""
    with _progress() as told:
        code, answer = await scripts.ask(*arguments, progress=told)
    if as_json:
        show.as_json(answer)
    else:
        _show(answer)
    if code:
        live = "" if answer.get("former") is None else " Generation {live} is live all the same (--force)."
        raise OpsError("They differ." + live.format_map(answer), Exit.NOT_WELL)


@contextlib.contextmanager
def _progress() -> Generator[OnProgress]:
    """A bar for each phase on a terminal; else a line on stderr when a phase begins."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[more]}"),
    )  # fmt: skip
    with Progress(*columns, console=show.errors, disable=not show.errors.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def told(progress: Mapping[str, Any]) -> None:
            phase = str(progress["phase"])
            title = _PHASES.get(phase, phase)
            if phase not in tasks:
                tasks[phase] = bars.add_task(title, total=None, more="")
                if not show.errors.is_terminal:
                    show.errors.print(f"{title} …")
            bars.update(
                tasks[phase],
                completed=progress.get("records"),
                total=progress.get("of"),
                more=_more(progress),
            )

        yield told


def _more(progress: Mapping[str, Any]) -> str:
    rate, left = progress.get("rate"), progress.get("seconds_left")
    parts = [
        *([f"{rate:,}/s"] if rate else []),
        *([f"{left:,.0f} s left"] if left is not None else []),
        *(str(progress[name]) for name in ("table", "reason") if name in progress),
    ]
    return ", ".join(parts)


def _show(answer: Mapping[str, Any]) -> None:
    comparison = answer["comparison"]
    if comparison is not None:
        rows = [
            {
                "table": table["table"],
                "rows": table["rows"][0],
                "other_rows": table["rows"][1],
                "hash": table["hashes"][0],
                "other_hash": table["hashes"][1],
                "same": table["rows"][0] == table["rows"][1] and table["hashes"][0] == table["hashes"][1],
            }
            for table in comparison["tables"]
        ]
        show.table(rows, empty="Nothing was compared.")
        if comparison["differences"]:
            show.console.print("The first differences:")
            show.table(comparison["differences"], empty="")
        for name in comparison["not_compared"]:
            show.console.print(f"{name}: only one of them has it, so it was not compared.", markup=False)
        show.console.print(f"They are {_OUTCOMES[answer['equal']]}.")
    if answer["former"] is not None:
        show.console.print(
            "Generation {live} is live. Generation {former} is kept: ops swap {former} goes back, "
            "ops drop-generation {former} ends it. Writers waited {waited:.3f} s.".format_map(answer),
            soft_wrap=True,
        )
    elif answer["number"] is not None:
        show.console.print(
            f"Generation {answer['number']} is ready and not live. See: ops swap {answer['number']}"
        )
