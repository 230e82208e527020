"""``ops dead-letters list | show | retry``."""

from collections import deque
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress

from contracts import topics
from latchkey_ops import letters, show
from latchkey_ops.errors import OpsError
from latchkey_ops.letters import Letter
from latchkey_ops.place import AsJson, DryRun, Place, Reason, Service, run
from servicekit.kafka import Producer

_NAME: Final = "latchkey-ops"

app = typer.Typer(no_args_is_help=True, help="What services could not read.")


def _summary(letter: Letter, retried: dict[str, Any]) -> dict[str, Any]:
    return {
        "letter": letter.name,
        "kept_at": letter.kept_at,
        "code": letter.code,
        "source": f"{letter.source_topic}:{letter.source_partition}:{letter.source_offset}",
        "can_be_retried": letter.refusal() is None,
        "retried_at": retried.get(letter.name),
        "message": letter.message,
    }


async def _retried(place: Place) -> dict[str, Any]:
    return {row["letter"]: row["at"] for row in await place.database.rows("retried_letters")}


@app.command("list")
def list_letters(
    service: Service = None,
    code: Annotated[str | None, typer.Option(help="With this error code only.")] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """What services could not read, and why. Of 14 days, the newest last."""

    async def main() -> None:
        place = Place()
        retried = await _retried(place)
        newest: deque[dict[str, Any]] = deque(maxlen=limit)
        count = 0
        async for letter in letters.read(place.bootstrap, place.prefix, place.admin, service=service):
            if code in {None, letter.code}:
                count += 1
                newest.append(_summary(letter, retried))
        if as_json:
            show.as_json({"total": count, "letters": sorted(newest, key=lambda row: row["kept_at"])})
            return
        show.table(sorted(newest, key=lambda row: row["kept_at"]), empty="There are no dead letters.")
        if count > len(newest):
            show.console.print(f"[dim]{count - len(newest)} older ones are not shown (--limit).[/dim]")

    run(main())


@app.command("show")
def show_letter(
    letter: Annotated[str, typer.Argument(help="SERVICE:PARTITION:OFFSET, as `list` names it.")],
    value: Annotated[
        bool, typer.Option("--value", help="Show the record's bytes too, which may hold addresses.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One dead letter: where it came from, why it could not be read, and what can be done."""

    async def main() -> None:
        place = Place()
        found = await letters.find(place.bootstrap, place.prefix, place.admin, letter)
        answer = {
            **_summary(found, await _retried(place)),
            "key": found.key,
            "headers": {name: text for name, text in found.headers},
            "bytes": len(found.value or b""),
            "kept_whole": found.whole,
            "what_to_do": found.refusal() or f"Mend the cause, then: ops dead-letters retry {found.name}",
            **({"value": found.value} if value else {}),
        }
        if as_json:
            show.as_json(answer)
        else:
            show.fields(answer)

    run(main())


@app.command("retry")
def retry_letters(
    *,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LETTER...", help="As `list` names them.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All commands that have not been sent again yet.")
    ] = False,
    code: Annotated[str | None, typer.Option(help="With --all: with this error code only.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent again before.")] = False,
    dry_run: DryRun = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Send commands again to share.commands, byte for byte. Only commands: they are run once, by their id."""
    if bool(names) == every:
        raise typer.BadParameter("Name letters, or give --all.")

    async def main() -> None:
        place = Place()
        retried = await _retried(place)
        chosen: list[Letter] = []
        if every:
            async for letter in letters.read(place.bootstrap, place.prefix, place.admin):
                unwanted = letter.refusal() or (letter.name in retried and not again)
                if not unwanted and code in {None, letter.code}:
                    chosen.append(letter)
        for name in dict.fromkeys(names or ()):
            chosen.append(await letters.find(place.bootstrap, place.prefix, place.admin, name))
        for letter in chosen:
            why_not = letter.refusal()
            if why_not is not None:
                raise OpsError(f"{letter.name} cannot be sent again; nothing was sent. {why_not}")
            if letter.name in retried and not again:
                raise OpsError(
                    f"{letter.name} was sent again at {retried[letter.name]:%Y-%m-%d %H:%M:%S%z}; nothing "
                    "was sent. Give --again if that is meant."
                )
        if not dry_run:
            await _send_again(place, chosen, reason)
        if as_json:
            show.as_json({"dry_run": dry_run, "sent": [letter.name for letter in chosen]})
        else:
            show.table([_summary(letter, {}) for letter in chosen], empty="There is nothing to send again.")
            if chosen:
                verb = "would be sent" if dry_run else "were sent"
                show.console.print(f"{len(chosen)} {verb} to {topics.SHARE_COMMANDS.name}.")

    run(main())


async def _send_again(place: Place, chosen: list[Letter], reason: str | None) -> None:
    audit = place.audit(reason)
    with Progress(console=show.errors, disable=len(chosen) < 2) as progress:
        async with Producer(place.bootstrap, _NAME) as producer:
            for letter in progress.track(chosen, description="Sending"):
                async with audit.recorded("dead-letters retry", {"letter": letter.name, "code": letter.code}):
                    await letters.send_again(producer, place.prefix, letter)
