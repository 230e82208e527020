"""Generations of the read models: each one set of tables in a schema of its own (docs/adr/0014).

The live one is called `permissions`, whatever its number; others are `permissions_<number>`. Whoever writes
into the live generation takes `TURN` first, in a statement of its own: the swap waits for those who have it,
and whoever waits for the swap sees the new generation's tables in his next statement.
"""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Final

import asyncpg

from servicekit import pg

LIVE: Final = "permissions"
"""The schema of the live generation: the search_path of whoever reads or writes it."""

_SQL: Final = pg.load_queries("permission_projector", "generations.sql")

TURN_ALONE: Final = _SQL["turn_alone"]
"""What the swap executes: nobody writes into the live generation until it has committed. Whoever executes it
and commits has waited for those who were writing."""

_FOLDER: Final = resources.files("permission_projector").joinpath("sql/generation")
_TABLES: Final = _FOLDER.joinpath("tables.sql").read_text()
_INDEXES: Final = _FOLDER.joinpath("indexes.sql").read_text()

SHAPE: Final = hashlib.sha256((_TABLES + _INDEXES).encode()).hexdigest()[:12]
"""Names the definition of the tables: a generation of another shape cannot be written by this release."""

TURN: Final = f"select permission_projector.take_turn('{SHAPE}')"
"""What a transaction that writes into the live generation executes first; fails on one of another shape."""


class ShapeError(RuntimeError):
    """The live generation was made by another release: it must be rebuilt (`permission-projector replay`)."""


def schema_of(number: int) -> str:
    """The schema of a generation that is not live."""
    return f"{LIVE}_{number}"


async def create_tables(connection: pg.Connection, schema: str, number: int) -> None:
    """Make an empty generation without constraints and indexes, inside the caller's transaction."""
    await connection.execute(f"create schema {schema}; set local search_path = {schema};{_TABLES}")
    await connection.execute(_SQL["number_generation"], number, SHAPE)


async def create_indexes(connection: pg.Connection, schema: str) -> None:
    """Make what `create_tables` left out."""
    await connection.execute(f"set local search_path = {schema};{_INDEXES}")


async def ensure_live(dsn: str) -> bool:
    """Make the first generation unless there is a live one; whether it was made."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(TURN_ALONE)
            if await connection.fetchval(_SQL["live_exists"]):
                return False
            await create_tables(connection, LIVE, 1)
            await create_indexes(connection, LIVE)
            return True
    finally:
        await connection.close()


async def require_shape(connection: pg.Connection) -> int:
    """The number of the live generation.

    Raises:
        ShapeError: see there.
    """
    row = await connection.fetchrow(_SQL["live_generation"])
    if row is None or row["shape"] != SHAPE:
        raise ShapeError(
            "The live read models were made by another release. Build them anew: permission-projector replay"
        )
    return row["number"]


async def forget_elsewhere(pool: pg.Pool, address_topics: Sequence[str]) -> int:
    """Let the generations beside the live one forget what it does not have of people; how many addresses.

    One that is further than the live one in these topics is left alone: it has forgotten by itself.
    """
    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute(TURN_ALONE)  # whoever writes what is to be forgotten has committed then
        async with connection.transaction():
            await connection.execute(TURN)
            return await connection.fetchval(_SQL["forget_elsewhere"], list(address_topics))
