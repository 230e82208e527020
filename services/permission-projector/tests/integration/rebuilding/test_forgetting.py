"""What the live read models forget of people, the generation before them forgets too."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from contracts import topics
from permission_projector import consumer
from permission_projector.generation import TURN, create_indexes, create_tables, forget_elsewhere
from servicekit import pg

WAITS = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


async def test_an_account_that_is_deleted_while_somebody_looks_is_forgotten(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look is due as the record is handled, before its transaction has ended."""
    looks: list[str] = []

    async def look(pool: pg.Pool, address_topics: Sequence[str]) -> int:
        looks.append("begun")
        gone = await forget_elsewhere(pool, address_topics)
        looks.append("ended")
        return gone

    monkeypatch.setattr(consumer, "forget_elsewhere", look)
    monkeypatch.setattr(consumer, "_FORGET_SECONDS", 0)
    await world.apply(world.account("ravi"))
    async with world.pool.acquire() as connection, connection.transaction():
        await create_tables(connection, "permissions_2", 2)
        await create_indexes(connection, "permissions_2")
        for table in ("account", "account_address"):
            await connection.execute(f"insert into permissions_2.{table} select * from permissions.{table}")

    async def quiet() -> bool:
        return looks[-1:] == ["ended"]

    async def looked_or_waits() -> bool:
        return looks[-2:] == ["begun", "ended"] or await world.pool.fetchval(WAITS)

    async def forgotten() -> bool:
        return await world.pool.fetchval("select count(*) from permissions_2.account_address") == 0

    forgetting = asyncio.create_task(world.projector.forget(world.pool))
    await until(quiet)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(TURN)
        looks.clear()
        await world.projector.handle(connection, [world.raw(topics.DIRECTORY_ACCOUNTS, b"ravi", None)])
        await until(looked_or_waits)
    await until(forgotten)
    forgetting.cancel()
