"""A command runs once, on a real database that may end it or stay away."""

import asyncio
import json
from importlib.resources import files
from typing import Any

import asyncpg
import pytest

from contracts.commands import (
    RequestShare,
)
from servicekit import pg
from share_command.errors import (
    DeviceNotFound,
    IdempotencyConflict,
    Refused,
    TimedOut,
    Unavailable,
)
from share_command.handlers import Handlers

TABLES = ("share", "event", "outbox", "contact", "contact_book", "device_stream")


@pytest.fixture
def handlers(pool: pg.Pool) -> Handlers:
    return Handlers(pool, lambda: None)


def request(
    command_id: str, *devices: str, to: tuple[str, ...] = ("ann@x.test",), **more: Any
) -> RequestShare:
    fields = {"actor": "owner", "device_ids": devices or ("d0",), "recipients": to, **more}
    return RequestShare.model_validate({"command_id": command_id, **fields})


async def dump(pool: pg.Pool) -> dict[str, list[tuple[Any, ...]]]:
    return {table: [tuple(row) for row in await pool.fetch(f"select * from {table} order by 1, 2")]
            for table in TABLES}  # fmt: skip


async def test_the_same_command_again(handlers: Handlers, pool: pg.Pool) -> None:
    first = await handlers.handle(request("c1"))
    before = await dump(pool)
    assert await handlers.handle(request("c1")) == first
    with pytest.raises(IdempotencyConflict):
        await handlers.handle(request("c1", scripting=True))
    with pytest.raises(IdempotencyConflict):
        await handlers.handle(request("c1", actor="rival"))
    assert await dump(pool) == before


async def test_a_refusal_is_the_answer_for_ever(handlers: Handlers, pool: pg.Pool) -> None:
    command = request("c1", "d0", "gone")
    with pytest.raises(DeviceNotFound) as first:
        await handlers.handle(command)
    await pool.execute("insert into device (device_id, owner_account_id, name) values ('gone', 'owner', 'x')")
    with pytest.raises(DeviceNotFound) as second:
        await handlers.handle(command)
    assert (first.value.details, first.value.message) == (second.value.details, second.value.message)
    assert first.value.details == {"device_id": "gone"}
    with pytest.raises(IdempotencyConflict):
        await handlers.handle(request("c1"))


@pytest.mark.parametrize(
    "to",
    [("ann@x.test", "Private.Person@"), ("ann@x.test", "private.person@x.test\u0000"), ("Owner@x.test",)],
)
async def test_a_stored_refusal_holds_no_address(
    handlers: Handlers, pool: pg.Pool, to: tuple[str, ...]
) -> None:
    answers: list[tuple[str, str, Any]] = []
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await handlers.handle(request("c1", to=to))
        answers.append((refused.value.code, refused.value.message, refused.value.details))
    assert answers[0] == answers[1]
    assert answers[0][2]["recipient"] == to[-1]
    stored = await pool.fetchval("select result from command")
    assert "x.test" not in stored
    assert "rivate" not in stored


async def test_answers_of_before_lose_their_addresses(database: Any) -> None:
    dsn: str = database.dsn("share_command")
    folder = files("share_command").joinpath("sql/migrations")
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(folder.joinpath("0001_pre_share_command.sql").read_text())
        for code in ("INVALID_EMAIL", "SELF_SHARE"):
            refused = {"code": code, "message": "m", "details": {"recipient": "ann@x.test"}}
            await connection.execute(
                "insert into command (command_id, body_sha256, result) values ($1, '', $2)",
                code, json.dumps({"refused": refused}),
            )  # fmt: skip
        await connection.execute(folder.joinpath("0002_pre_no_address_in_answers.sql").read_text())
        rows = await connection.fetch("select result from command order by command_id")
        assert [json.loads(row["result"])["refused"] for row in rows] == [
            {"code": "INVALID_EMAIL", "message": None, "details": {}},
            {"code": "SELF_SHARE", "message": "m", "details": {}},
        ]
    finally:
        await connection.close()


def people(count: int) -> tuple[str, ...]:
    return tuple(f"p{number}@x.test" for number in range(count))


async def test_a_command_that_the_database_ends_for_its_length(
    handlers: Handlers, dsn: str, pool: pg.Pool
) -> None:
    impatient = await pg.open_pool(
        dsn, application="test", settings={"idle_in_transaction_session_timeout": "5ms"}
    )
    try:
        command = request("c1", to=people(1000))
        with pytest.raises(TimedOut):
            await Handlers(impatient, lambda: None).handle(command)
        assert await pool.fetchval("select count(*) from command") == 0
        await handlers.handle(command)
    finally:
        await impatient.close()


async def test_twins_run_once(handlers: Handlers, pool: pg.Pool) -> None:
    answers = await asyncio.gather(*(handlers.handle(request("c1", "d0", "d1")) for _ in range(12)))
    assert len(set(map(repr, answers))) == 1
    assert await pool.fetchval("select count(*) from event") == 2
    refused = await asyncio.gather(
        *(handlers.handle(request("c2", "foreign")) for _ in range(8)), return_exceptions=True
    )
    assert {type(item) for item in refused} == {DeviceNotFound}


async def test_a_database_that_ends_the_attempt_is_tried_again(
    handlers: Handlers, pool: pg.Pool, database: Any
) -> None:
    await handlers.handle(request("c1"))
    admin = await asyncpg.connect(database.dsn())
    try:
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert str((await handlers.handle(request("c2", scripting=True))).positions[0]) == "d0@2"
    finally:
        await admin.close()


async def test_a_database_that_stays_away_is_unavailable(dsn: str, pool: pg.Pool) -> None:
    waiting = await pg.open_pool(dsn, application="test", settings={"lock_timeout": "50ms"})
    try:
        handlers = Handlers(waiting, lambda: None)
        await handlers.handle(request("c1"))
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select from device_stream for update")
            with pytest.raises(Unavailable):
                await handlers.handle(request("c2", scripting=True))
        assert str((await handlers.handle(request("c2", scripting=True))).positions[0]) == "d0@2"
    finally:
        await waiting.close()
