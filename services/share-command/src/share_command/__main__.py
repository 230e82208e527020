"""Console script ``share-command``: serve, relay, migrate, erase, check-config, openapi, asyncapi."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping

import asyncpg

from contracts.contacts import InvalidAddressError, canonical_address
from servicekit import pg, runtime
from servicekit.logging import configure
from servicekit.settings import ServiceSettings, describe, load
from share_command import app, documents, erasing
from share_command.handlers import system_clock
from share_command.settings import MigrateSettings, RelaySettings, Settings
from share_command.store import SOURCE


def _logs(settings: ServiceSettings) -> None:
    configure(SOURCE, level=settings.log_level, style=settings.log_format)


def serve() -> None:
    """Decide commands that come over HTTP and Kafka."""
    settings = load(Settings)
    _logs(settings)

    async def main() -> None:
        pool = await pg.open_pool(
            settings.postgres_dsn.get_secret_value(),
            application=SOURCE,
            settings={"lock_timeout": "5s"},
            stateless=True,
        )
        try:
            built = app.build(settings, pool)
            await runtime.serve(
                built.web, host=settings.http_host, port=settings.http_port, background=built.background
            )
        finally:
            pool.terminate()

    runtime.run(main())


def relay() -> None:
    """Send what was decided to Kafka."""
    settings = load(RelaySettings)
    _logs(settings)
    built = app.build_relay(settings)
    runtime.run(
        runtime.serve(
            built.web, host=settings.http_host, port=settings.http_port, background=built.background
        )
    )


def migrate() -> None:
    """Bring the database schema up to date."""
    settings = load(MigrateSettings)
    done = asyncio.run(pg.migrate(settings.postgres_dsn.get_secret_value(), "share_command"))
    sys.stdout.write("".join(f"applied {name}\n" for name in done) or "nothing to do\n")


def erase(address: str, *, dry_run: bool, as_json: bool) -> int:
    """Erase a person's address, and end what is shared with it."""
    settings = load(MigrateSettings)
    _logs(settings)
    try:
        canonical = canonical_address(address)
    except InvalidAddressError as error:
        sys.stderr.write(f"That is no address: {error}\n")
        return 2

    async def main() -> erasing.Erased:
        connection = await asyncpg.connect(settings.postgres_dsn.get_secret_value())
        try:
            return await erasing.erase(connection, canonical, clock=system_clock, dry_run=dry_run)
        finally:
            await connection.close()

    try:
        erased = asyncio.run(main())
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        why = type(error).__name__
        sys.stderr.write(f"The database does not answer ({why}): see LATCHKEY_POSTGRES_DSN.\n")
        return 3
    if as_json:
        contact_id = erased.contact_id and str(erased.contact_id)
        sys.stdout.write(
            json.dumps(
                {
                    "dry_run": dry_run,
                    "contact_id": contact_id,
                    "shares_ended": erased.shares_ended,
                    "books": erased.books,
                }
            )
            + "\n"
        )
    elif erased.contact_id is None:
        sys.stdout.write("This address is not known here: nothing to erase.\n")
    else:
        would = "would be " if dry_run else ""
        sys.stdout.write(
            f"Contact {erased.contact_id}: {would}erased from {erased.books} contact books; "
            f"{erased.shares_ended} shares {would}ended.\n"
        )
    return 0


def check_config() -> None:
    """Print the settings in force, secrets hidden."""
    sys.stdout.write(describe(load(Settings)) + "\n")


def openapi() -> None:
    """Print the OpenAPI document of the HTTP API."""
    sys.stdout.write(documents.openapi())


def asyncapi() -> None:
    """Print the AsyncAPI document of the Kafka topics."""
    sys.stdout.write(documents.asyncapi())


_VERBS: Mapping[str, Callable[[], None]] = {
    "serve": serve,
    "relay": relay,
    "migrate": migrate,
    "check-config": check_config,
    "openapi": openapi,
    "asyncapi": asyncapi,
}


def main() -> None:
    """Run the verb named on the command line."""
    parser = argparse.ArgumentParser(prog="share-command")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in _VERBS.items():
        verbs.add_parser(name, help=verb.__doc__)
    erasing_parser = verbs.add_parser("erase", help=erase.__doc__)
    erasing_parser.add_argument("address", help="e-mail address, or telephone number with country code")
    erasing_parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    erasing_parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    chosen = parser.parse_args()
    if chosen.verb == "erase":
        sys.exit(erase(chosen.address, dry_run=chosen.dry_run, as_json=chosen.json))
    _VERBS[chosen.verb]()


if __name__ == "__main__":
    main()
