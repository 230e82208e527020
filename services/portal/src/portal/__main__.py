"""The command ``portal``: serve, migrate, check-config."""

import argparse
import asyncio
import sys
from typing import Final

from portal.app import NAME, build
from portal.schema import sdl
from portal.settings import Settings
from servicekit import pg
from servicekit.logging import configure, get_logger
from servicekit.runtime import run, serve
from servicekit.settings import describe, load

log = get_logger(__name__)

_VERBS: Final = {
    "serve": "serve GraphQL, sign-in and pages",
    "migrate": "bring the portal's tables up to date",
    "sdl": "print the GraphQL schema",
    "check-config": "print the settings in force; exit 2 when they cannot be used",
}


async def _serve(settings: Settings) -> None:
    async with build(settings) as app:
        await serve(app, host=settings.http_host, port=settings.http_port)


def main() -> None:
    """Run one verb."""
    parser = argparse.ArgumentParser(prog=NAME, description="The one address that frontends talk to.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in _VERBS.items():
        verbs.add_parser(verb, help=text)
    verb: str = parser.parse_args().verb
    if verb == "sdl":
        sys.stdout.write(sdl())
        return
    settings = load(Settings)
    if verb == "check-config":
        sys.stdout.write(f"{describe(settings)}\n")
        return
    configure(NAME, level=settings.log_level, style=settings.log_format)
    if verb == "migrate":
        applied = asyncio.run(pg.migrate(settings.postgres_dsn.get_secret_value(), "portal"))
        log.info("migrated", applied=applied)
        return
    run(_serve(settings))


if __name__ == "__main__":
    main()
