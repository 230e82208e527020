"""``permission-projector project | serve | migrate | check-config``."""

import argparse
import asyncio
import sys

from permission_projector import app
from permission_projector.settings import NAME, AllSettings, MigrateSettings, ProjectSettings, ServeSettings
from servicekit import logging, pg, runtime
from servicekit.settings import ServiceSettings, describe, load

_VERBS = {
    "project": "read the topics into the read models",
    "serve": "serve the read API over HTTP",
    "migrate": "bring the database's schema up to date",
    "check-config": "print the settings in force; exit 2 when they cannot be used",
}


def main() -> None:
    """The console script."""
    parser = argparse.ArgumentParser(NAME, description="Builds the permission read models and serves them.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in _VERBS.items():
        verbs.add_parser(verb, help=text, description=text)
    match parser.parse_args().verb:
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
            for name in asyncio.run(pg.migrate(dsn, "permission_projector")):
                sys.stdout.write(f"applied {name}\n")
        case _:
            sys.stdout.write(describe(load(AllSettings)) + "\n")


def _log(settings: ServiceSettings) -> None:
    logging.configure(NAME, level=settings.log_level, style=settings.log_format)


if __name__ == "__main__":
    main()
