"""``ops erase``: a person's address, out of everything. The record of operations has the contact id only."""

from typing import Annotated

import typer

from latchkey_ops import scripts, show
from latchkey_ops.errors import Exit, OpsError
from latchkey_ops.place import AsJson, DryRun, Place, Reason, run


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(erase)


def erase(
    address: Annotated[
        str, typer.Argument(help="An e-mail address, or a telephone number with its country code.")
    ],
    dry_run: DryRun = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person's address: ends what is shared with it, and takes it out of all contact books."""

    async def main() -> None:
        place = Place()
        dsn = place.settings.share_command_dsn
        if dsn is None:
            raise OpsError(
                "LATCHKEY_SHARE_COMMAND_DSN must be set: share-command keeps the addresses.", Exit.USAGE
            )
        environment = {"LATCHKEY_POSTGRES_DSN": dsn.get_secret_value()}

        async def ask(*more: str) -> dict[str, object]:
            _, answer = await scripts.ask(
                "erase", address, *more, script=scripts.SHARE_COMMAND, environment=environment
            )
            return answer

        answer = await ask("--dry-run")
        if answer["contact_id"] is not None and not dry_run:
            async with place.audit(reason).recorded("erase", {"contact_id": answer["contact_id"]}):
                answer = await ask()
        if as_json:
            show.as_json(answer)
        elif answer["contact_id"] is None:
            show.console.print("This address is not known here: nothing to erase.")
        else:
            would = "would be " if dry_run else ""
            show.console.print(
                f"Contact {answer['contact_id']}: {would}erased from {answer['books']} contact books; "
                f"{answer['shares_ended']} shares {would}ended."
            )

    run(main())
