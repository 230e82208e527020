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
    verbs.add_parser("check-config", help="print the settings in force, secrets hidden; 2 when unusable")
    verb: str = parser.parse_args().verb

    chosen = settings.load(Settings)
    if verb == "check-config":
        sys.stdout.write(settings.describe(chosen) + "\n")
        return
    logging.configure(app.NAME, level=chosen.log_level, style=chosen.log_format)
    if verb == "migrate":
        applied = asyncio.run(pg.migrate(chosen.postgres_dsn.get_secret_value(), "notifier"))
        logging.get_logger(__name__).info("migrated", applied=applied)
        return
    runtime.run(app.serve(chosen))


if __name__ == "__main__":
    main()
