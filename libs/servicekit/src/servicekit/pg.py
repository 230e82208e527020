"""PostgreSQL: pools, named queries from ``.sql`` files, migrations."""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from servicekit.logging import get_logger

if TYPE_CHECKING:  # the stubs make these generic; at run time they are not
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

log = get_logger(__name__)

TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises when a session that was ended while idle is used
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,  # too many connections
    asyncpg.InvalidAuthorizationSpecificationError,  # a running service whose role may not log in just now
    OSError,
    TimeoutError,
)
"""The database or the way to it is gone for a while: retry, do not alarm."""

_MIGRATION_LOCK = 0x1A7C
_START_SECONDS = 30.0
_START_RETRY_SECONDS = 0.5
_AWAY = (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
_Answer = TypeVar("_Answer")
_NAME = re.compile(r"^--\s*name:\s*(\w+)\s*$", re.MULTILINE)


async def open_pool(
    dsn: str,
    *,
    application: str,
    search_path: str | None = None,
    min_size: int = 1,
    max_size: int = 10,
    settings: Mapping[str, str] | None = None,
    stateless: bool = False,
    on_connect: str | None = None,
) -> Pool:
    """A pool whose sessions hold no lock when they stall (5 s), waiting up to 30 s for a server that starts.

    ``stateless``: whoever uses a session changes nothing in it that outlives his transaction (no settings, no
    LISTEN, no session locks), so that it need not be cleaned, which is one more round trip, after each use.
    ``on_connect`` is executed once in each new session.

    Raises:
        OSError, asyncpg.PostgresError: the server cannot be reached or refuses the role.
    """
    server_settings = {
        "application_name": application,
        "idle_in_transaction_session_timeout": "5s",
        "statement_timeout": "30s",
        **({"search_path": search_path} if search_path else {}),
        **(settings or {}),
    }

    async def prepare(connection: Connection) -> None:
        await connection.execute(on_connect or "")

    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                server_settings=server_settings,
                reset=_leave_as_it_is if stateless else None,
                init=None if on_connect is None else prepare,
            )
        except _AWAY as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database_not_yet_up", error=repr(error))
            await asyncio.sleep(_START_RETRY_SECONDS)


async def when_up(pool: Pool, ask: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
    """What ``ask`` returns, asked again for as long as the database is away: a process that starts while the
    database restarts waits for it, and does not end."""
    while True:
        try:
            async with pool.acquire() as connection:
                return await ask(connection)
        except TRANSIENT as error:
            log.warning("database_not_yet_up", error=repr(error))
            await asyncio.sleep(_START_RETRY_SECONDS)


async def _leave_as_it_is(_connection: object) -> None: ...


def parse_queries(text: str) -> dict[str, str]:
    """The statements of an SQL file by name: each begins with a line ``-- name: <name>``.

    Raises:
        ValueError: a name stands twice.
    """
    parts = _NAME.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError("a query name stands twice")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}


def load_queries(package: str, file: str = "queries.sql") -> dict[str, str]:
    """The statements of ``<package>/sql/<file>``; see `parse_queries`."""
    return parse_queries(resources.files(package).joinpath("sql", file).read_text())


async def migrate(dsn: str, package: str) -> list[str]:
    """Apply the migrations in ``<package>/sql/migrations`` that this database lacks; returns their names.

    One process at a time (advisory lock); each file is one transaction with a lock timeout, so that a
    migration never queues behind, and then blocks, live traffic. Files are applied by name
    (``NNNN_pre_*.sql`` before the code that needs them, ``NNNN_post_*.sql`` after).

    Raises:
        ValueError: a file that was applied has been edited since.
    """
    folder = resources.files(package).joinpath("sql/migrations")
    files = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name
    )
    connection = await asyncpg.connect(
        dsn, server_settings={"lock_timeout": "5s", "statement_timeout": "60s"}
    )
    try:
        await connection.execute("select pg_advisory_lock($1)", _MIGRATION_LOCK)
        await connection.execute(
            "create table if not exists schema_migration ("
            " name text constraint a_migration_runs_once primary key,"
            " sha256 text not null, applied_at timestamptz not null default now())"
        )
        rows = await connection.fetch("select name, sha256 from schema_migration")
        applied: dict[str, str] = {row["name"]: row["sha256"] for row in rows}
        done: list[str] = []
        for file in files:
            text = file.read_text()
            digest = hashlib.sha256(text.encode()).hexdigest()
            if file.name in applied:
                if applied[file.name] != digest:
                    raise ValueError(
                        f"{file.name} was applied and then edited; write a new migration instead"
                    )
                continue
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute(
                    "insert into schema_migration (name, sha256) values ($1, $2)", file.name, digest
                )
            done.append(file.name)
        return done
    finally:
        await connection.close()
