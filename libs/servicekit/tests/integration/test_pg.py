"""What a process that starts does while the database restarts."""

import asyncio

from devstack.pytest_plugin import Database
from servicekit import pg


async def test_who_starts_while_the_database_goes_away_waits_for_it(database: Database) -> None:
    asked = 0

    async def ask(connection: pg.Connection) -> int:
        nonlocal asked
        asked += 1
        if asked < 3:  # the server ends the session, as it does when it shuts down
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return await connection.fetchval("select 42")

    pool = await pg.open_pool(database.dsn(), application="t")
    try:
        async with asyncio.timeout(30):
            assert await pg.when_up(pool, ask) == 42
    finally:
        pool.terminate()
    assert asked == 3
