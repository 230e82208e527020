"""Console script ``share-command``: serve, relay, migrate, check-config."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping

from servicekit import pg, runtime
from servicekit.logging import configure
from servicekit.settings import ServiceSettings, describe, load
from share_command import app
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


def check_config() -> None:
    """Print the settings in force, secrets hidden."""
    sys.stdout.write(describe(load(Settings)) + "\n")


_VERBS: Mapping[str, Callable[[], None]] = {
    "serve": serve,
    "relay": relay,
    "migrate": migrate,
    "check-config": check_config,
}


def main() -> None:
    """Run the verb named on the command line."""
    parser = argparse.ArgumentParser(prog="share-command")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in _VERBS.items():
        verbs.add_parser(name, help=verb.__doc__)
    _VERBS[parser.parse_args().verb]()


if __name__ == "__main__":
    main()
