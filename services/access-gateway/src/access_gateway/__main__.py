"""The command ``access-gateway``: ``serve`` or ``check-config``."""

import argparse
import sys

from access_gateway.app import build
from access_gateway.settings import Settings
from servicekit import logging, runtime
from servicekit.settings import describe, load


def main() -> None:
    """Entry point of the console script."""
    parser = argparse.ArgumentParser(prog="access-gateway", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="open ports, relay, cut, until SIGTERM")
    verbs.add_parser("check-config", help="print the settings in force; exit 2 when they cannot be used")
    verb: str = parser.parse_args().verb
    settings = load(Settings)
    if verb == "check-config":
        sys.stdout.write(describe(settings) + "\n")
    else:
        runtime.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    logging.configure("access-gateway", level=settings.log_level, style=settings.log_format)
    app = build(settings)
    await runtime.serve(app.http, host=settings.http_host, port=settings.http_port, background=[app.run])


if __name__ == "__main__":
    main()
