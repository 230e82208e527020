"""The installation that a verb is about, and how a verb ends."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Annotated, Any

import asyncpg
import typer

from latchkey_ops import show
from latchkey_ops.audit import Audit
from latchkey_ops.database import Database
from latchkey_ops.errors import Exit, OpsError
from latchkey_ops.settings import OpsSettings
from servicekit.kafka import Admin, KafkaError, KafkaException
from servicekit.settings import load

AsJson = Annotated[bool, typer.Option("--json", help="For scripts: one JSON document on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record of operations.")]
Service = Annotated[str | None, typer.Option("--service", help="Of this service only.")]


class Place:
    """The installation that the settings name."""

    def __init__(self) -> None:
        self.settings = load(OpsSettings)
        self.prefix = self.settings.topic_prefix
        self.bootstrap = self.settings.kafka_bootstrap
        self.database = Database(self.settings.postgres_dsn)
        self.admin = Admin(self.bootstrap)

    def audit(self, reason: str | None) -> Audit:
        """Records changes."""
        return Audit(self.database, reason)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a verb; what went wrong is one line on stderr and an exit code."""

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await main

    try:
        asyncio.run(stoppable())
    except (asyncio.CancelledError, KeyboardInterrupt):
        show.failure("Stopped by a signal.")
        raise typer.Exit(Exit.NOT_WELL) from None
    except OpsError as error:
        show.failure(str(error))
        raise typer.Exit(error.code) from None
    except (KafkaError, KafkaException) as error:
        show.failure(
            f"The broker does not answer: {_said(error)}. See whether it runs, and LATCHKEY_KAFKA_BOOTSTRAP."
        )
        raise typer.Exit(Exit.UNREACHABLE) from None
    except (
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedFunctionError,
        asyncpg.InvalidSchemaNameError,
    ) as error:
        show.failure(
            f"The database lacks tables ({error}). Bring it up to date: permission-projector migrate"
        )
        raise typer.Exit(Exit.UNREACHABLE) from None
    except asyncpg.InsufficientPrivilegeError as error:
        show.failure(f"{error}. LATCHKEY_POSTGRES_DSN must be that of the role permission_projector.")
        raise typer.Exit(Exit.USAGE) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        show.failure(
            f"The database does not answer: {error or type(error).__name__}. See LATCHKEY_POSTGRES_DSN."
        )
        raise typer.Exit(Exit.UNREACHABLE) from None


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
