"""``./latchkey ops VERB``: what the people who run an installation ask and mend."""

import json
import logging
from dataclasses import asdict
from typing import Annotated, Final

import typer

from contracts import topics
from latchkey_ops import erasing, generation_verbs, letter_verbs, past, scripts, show
from latchkey_ops import lag as lags
from latchkey_ops.errors import Exit, OpsError
from latchkey_ops.place import AsJson, DryRun, Place, Reason, run
from servicekit.kafka import Admin
from servicekit.settings import KafkaSettings, load

_NO_LIMIT: Final = 10**9

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask and mend a running installation. Its addresses are those of the embedded stack that runs "
    "here, or the LATCHKEY_* variables. Exit codes: 0 well or done, 1 not well or not done, 2 wrong "
    "arguments, 3 the broker or the database does not answer.",
)
quarantine = typer.Typer(
    no_args_is_help=True, help="Devices whose shares give no access until someone mends it."
)
app.add_typer(letter_verbs.app, name="dead-letters")
app.add_typer(quarantine, name="quarantine")


@app.command()
def lag(
    max_seconds: Annotated[
        float | None, typer.Option(help="Exit with 1 when a device partition is older than this.", min=0)
    ] = None,
    max_records: Annotated[
        int | None, typer.Option(help="Exit with 1 when a partition is further behind than this.", min=0)
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show each partition, not sums for each topic.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How far each service is behind the broker, and how fresh the permissions are."""

    async def main() -> None:
        place = Place()
        found = await lags.measure(place.settings, place.admin)
        problems = found.problems(max_seconds, max_records)
        if as_json:
            show.as_json(
                {
                    "ok": not problems,
                    "problems": problems,
                    "oldest_seconds": found.oldest(),
                    "freshness": [
                        {"partition": number, "age_seconds": age} for number, age in found.ages.items()
                    ],
                    "partitions": found.lags,
                    "not_asked": found.not_asked,
                }
            )
        else:
            rows = [asdict(item) for item in found.lags] if every else found.by_topic()
            show.grouped(rows, 2 if every else 1, empty="Nothing is read yet.")
            oldest = found.oldest()
            show.console.print(
                "Permissions: a device partition was never proved fresh."
                if oldest is None
                else f"Permissions: the stalest device partition is {oldest:.1f} s old."
            )
            for service in found.not_asked:
                variable = f"LATCHKEY_{service.upper().replace('-', '_')}_DSN"
                show.console.print(f"[dim]{service} was not asked: {variable} is not set.[/dim]")
            show.problems(problems)
        if problems:
            raise typer.Exit(Exit.NOT_WELL)

    run(main())


_WHAT_TO_DO: Final = {
    topics.SHARE_EVENTS.name: "mend the cause, then: ops quarantine release {device_id}",
    topics.DIRECTORY_DEVICES.name: "have the registry publish the device again, which ends it by itself",
}


@quarantine.command("list")
def list_quarantine(as_json: AsJson = False) -> None:
    """Devices to which nobody has access by a share, since when in which topic, and what to do."""

    async def main() -> None:
        rows = [
            {**row, "what_to_do": _WHAT_TO_DO[row["topic"]].format_map(row)}
            for row in await Place().database.rows("quarantine", None)
        ]
        if as_json:
            show.as_json({"devices": rows})
        else:
            show.table(rows, empty="No device is in quarantine.")

    run(main())


@quarantine.command("release")
def release(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    dry_run: DryRun = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Read a device again from the log; when it is whole, its shares give access again."""

    async def main() -> None:
        place = Place()
        rows = await place.database.rows("quarantine", device)
        if not rows:
            raise OpsError(f"{device} is not in quarantine, so there is nothing to release.")
        if dry_run:
            if as_json:
                show.as_json({"dry_run": True, "devices": rows})
            else:
                show.table(rows, empty="")
                show.console.print(f"The history of {device} would be read again from the log.")
            return
        async with place.audit(reason).recorded("quarantine release", {"device_id": device}):
            code, answer = await scripts.ask("release", device)
            if as_json:
                show.as_json(answer)
            if code:
                raise OpsError(answer["message"])
        if not as_json:
            show.console.print(answer["message"], markup=False, soft_wrap=True)

    run(main())


@app.command("who-had-access")
def who_had_access(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    at: Annotated[str, typer.Option(help="A time with its zone: 2026-03-01T12:00:00Z.")],
    service: Annotated[str | None, typer.Option(help="To this service of it only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Who had access to a device or one of its services at a time, and by which event."""

    async def main() -> None:
        Place()  # whose settings the script reads again: here it is said once what is wrong with them
        only = () if service is None else ("--service", service)
        _, answer = await scripts.ask("who-had-access", device, "--at", at, *only)
        show.as_json(answer) if as_json else past.show_access(answer)

    run(main())


@app.command()
def why(
    *,
    account: Annotated[str, typer.Argument(help="The account's id.")],
    device: Annotated[str, typer.Argument(help="The device's id.")],
    service: Annotated[str, typer.Argument(help="The service's id.")],
    permission: Annotated[str, typer.Argument(help="connect, live_view, playback, …")],
    at: Annotated[str | None, typer.Option(help="A time with its zone; now, unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Why an account may do something with a service, or may not: by which share and which event."""

    async def main() -> None:
        Place()
        when = () if at is None else ("--at", at)
        _, answer = await scripts.ask("why", account, device, service, permission, *when)
        show.as_json(answer) if as_json else past.show_why(device, answer)

    run(main())


@app.command("topics")
def make_topics(
    replication: Annotated[
        int, typer.Option(help="Brokers that keep each record of a topic made now.", min=1)
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Make the topics that are not there yet; those that are there stay as they are."""

    async def main() -> None:
        settings = load(KafkaSettings)
        wanted = [
            (settings.topic_prefix + name, partitions, config) for name, partitions, config in topics.TOPICS
        ]
        made = await Admin(settings.kafka_bootstrap).provision(wanted, replication=replication)
        if as_json:
            show.as_json({"made": made})
        else:
            show.table([{"made": name} for name in made], empty="All topics are there.")

    run(main())


generation_verbs.add_to(app)
erasing.add_to(app)


@app.command()
def operations(
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1, max=_NO_LIMIT)] = 50,
    as_json: AsJson = False,
) -> None:
    """What was changed by these verbs: when, by whom, why, and how it ended. The newest first."""

    async def main() -> None:
        rows = [
            {**row, "arguments": json.loads(row["arguments"])}
            for row in await Place().database.rows("operations", limit)
        ]
        if as_json:
            show.as_json({"operations": rows})
        else:
            show.table(rows, empty="Nothing was changed by these verbs yet.")

    run(main())


def main() -> None:
    """The console script."""
    for name in ("aiokafka", "asyncio"):  # what they have to say is said by the one line of the verb
        logging.getLogger(name).setLevel(logging.CRITICAL)
    app(prog_name="./latchkey ops")


if __name__ == "__main__":
    main()
