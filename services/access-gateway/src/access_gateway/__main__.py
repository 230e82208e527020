"""The command ``access-gateway``: ``serve``, ``migrate`` or ``check-config``."""

import argparse
import asyncio
import sys

from access_gateway.app import build
from access_gateway.settings import Settings
from servicekit import logging, pg, runtime
from servicekit.settings import describe, load


def main() -> None:
    """Entry point of the console script."""
    parser = argparse.ArgumentParser(prog="access-gateway", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="open ports, relay, cut, until SIGTERM")
    verbs.add_parser("migrate", help="bring the gateway's tables up to date")
    verbs.add_parser("check-config", help="print the settings in force; exit 2 when they cannot be used")
    verb: str = parser.parse_args().verb
    settings = load(Settings)
    if verb == "check-config":
        sys.stdout.write(describe(settings) + "\n")
        return
    logging.configure("access-gateway", level=settings.log_level, style=settings.log_format)
    if verb == "migrate":
        applied = asyncio.run(pg.migrate(settings.postgres_dsn.get_secret_value(), "access_gateway"))
        logging.get_logger(__name__).info("migrated", applied=applied)
        return
    runtime.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    app = build(settings)
    await runtime.serve(app.http, host=settings.http_host, port=settings.http_port, background=[app.run])


if __name__ == "__main__":
    main()
