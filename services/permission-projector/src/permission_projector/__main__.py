"""``permission-projector VERB``; those of who runs the installation are in `operating` and
`rebuilding.verbs`."""

import argparse
import asyncio
import sys

from permission_projector import app, generation, operating
from permission_projector.rebuilding import verbs as rebuild_verbs
from permission_projector.settings import NAME, AllSettings, MigrateSettings, ProjectSettings, ServeSettings
from servicekit import logging, pg, runtime
from servicekit.settings import ServiceSettings, describe, load

_VERBS = {
    "project": "read the topics into the read models",
    "serve": "serve the read API over HTTP",
    "migrate": "bring the database's schema up to date",
    "openapi": "print the OpenAPI document of the read API",
    "check-config": "print the settings in force; exit 2 when they cannot be used",
}


def main() -> None:
    """The console script."""
    parser = argparse.ArgumentParser(NAME, description="Builds the permission read models and serves them.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in _VERBS.items():
        verbs.add_parser(verb, help=text, description=text)
    operating.add_verbs(verbs)
    rebuild_verbs.add_verbs(verbs)
    given = parser.parse_args()
    match given.verb:
        case "project":
            settings = load(ProjectSettings)
            _log(settings)
            runtime.run(app.project(settings))
        case "serve":
            settings = load(ServeSettings)
            _log(settings)
            runtime.run(app.serve(settings))
        case "migrate":
            dsn = load(MigrateSettings).postgres_dsn.get_secret_value()
            for name in asyncio.run(_migrate(dsn)):
                sys.stdout.write(f"applied {name}\n")
        case "openapi":
            sys.stdout.write(app.openapi())
        case "check-config":
            sys.stdout.write(describe(load(AllSettings)) + "\n")
        case _:
            sys.exit(given.run(given))


async def _migrate(dsn: str) -> list[str]:
    applied = await pg.migrate(dsn, "permission_projector")
    return [*applied, "the first generation"] if await generation.ensure_live(dsn) else applied


def _log(settings: ServiceSettings) -> None:
    logging.configure(NAME, level=settings.log_level, style=settings.log_format)


if __name__ == "__main__":
    main()
