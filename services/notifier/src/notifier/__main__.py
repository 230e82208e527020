"""The console script ``notifier``."""

import argparse
import asyncio
import sys

from notifier import app
from notifier.settings import Settings
from servicekit import logging, pg, runtime, settings


def main() -> None:
    """Run one verb; settings come from ``LATCHKEY_*``."""
    parser = argparse.ArgumentParser(
        prog="notifier", description="Tells people what happened to their shares."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="plan and send notices until SIGTERM")
    verbs.add_parser("migrate", help="bring the tables of this service's schema up to date")
    verbs.add_parser("openapi", help="print the OpenAPI document of the HTTP API")
    verbs.add_parser("check-config", help="print the settings in force, secrets hidden; 2 when unusable")
    redriving = verbs.add_parser("redrive", help="have deliveries that have failed for good tried again")
    redriving.add_argument("--code", help="only those that failed with this code (docs/errors.md)")
    redriving.add_argument("--dry-run", action="store_true", help="only say how many it would be")
    arguments = parser.parse_args()
    verb: str = arguments.verb

    if verb == "openapi":
        sys.stdout.write(app.openapi())
        return
    chosen = settings.load(Settings)
    if verb == "check-config":
        sys.stdout.write(settings.describe(chosen) + "\n")
        return
    if verb == "redrive":
        lines = asyncio.run(app.redrive(chosen, arguments.code, dry_run=arguments.dry_run))
        sys.stdout.write("\n".join(lines) + "\n")
        return
    logging.configure(app.NAME, level=chosen.log_level, style=chosen.log_format)
    if verb == "migrate":
        applied = asyncio.run(pg.migrate(chosen.postgres_dsn.get_secret_value(), "notifier"))
        logging.get_logger(__name__).info("migrated", applied=applied)
        return
    runtime.run(app.serve(chosen))


if __name__ == "__main__":
    main()
