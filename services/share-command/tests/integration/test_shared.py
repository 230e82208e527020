"""Commands that come together share a transaction, and nobody notices."""

import asyncio
from typing import Any

import pytest

from contracts.commands import CommandAccepted, RequestShare, RevokeShare
from servicekit import pg
from servicekit.telemetry import correlated
from share_command.errors import DeviceNotFound, IdempotencyConflict, Refused, ShareCommandError
from share_command.handlers import Handlers


def request(command_id: str, device: str, to: str, *, actor: str = "owner", **more: Any) -> RequestShare:
    return RequestShare(
        command_id=command_id, actor=actor, device_ids=(device,), recipients=(f"{to}@x.test",), **more
    )


@pytest.fixture
async def owners(pool: pg.Pool) -> list[str]:
    """Twenty owners, o0 with the device e0 …"""
    names = [f"o{number}" for number in range(20)]
    for number, name in enumerate(names):
        await pool.execute("insert into account (account_id, name) values ($1, $1)", name)
        await pool.execute(
            "insert into device (device_id, owner_account_id, name) values ($1, $2, 'x')", f"e{number}", name
        )
    return names


async def outcomes(handlers: Handlers, *commands: Any) -> list[CommandAccepted | BaseException]:
    """All at once, each under a correlation id of its own."""

    async def one(command: Any) -> CommandAccepted:
        with correlated(f"of-{command.command_id}"):
            return await handlers.handle(command)

    return await asyncio.gather(*(one(command) for command in commands), return_exceptions=True)


async def test_many_at_once_in_few_transactions(pool: pg.Pool, owners: list[str]) -> None:
    commits: list[None] = []
    handlers = Handlers(pool, lambda: commits.append(None))
    commands = [request(f"c{n}", f"e{n}", "ann", actor=name) for n, name in enumerate(owners)]
    answers = await outcomes(handlers, *commands)
    assert [str(answer.positions[0]) for answer in answers if isinstance(answer, CommandAccepted)] == [
        f"e{n}@1" for n in range(20)
    ]
    assert len(commits) < 10, "or nothing was shared"
    rows = await pool.fetch("select command_id, envelope ->> 'correlationid' as correlation from event")
    assert {row["command_id"]: row["correlation"] for row in rows} == {f"c{n}": f"of-c{n}" for n in range(20)}
    assert await pool.fetchval("select count(*) from contact") == 1, "one address, met by all at once"
    outbox = await pool.fetch("select topic, key from outbox order by id")
    told = [row["key"] for row in outbox if row["topic"] == "directory.contacts"]
    assert outbox[0]["topic"] == "directory.contacts", "who is meant is told before any event"
    assert (len(told), len(set(told)), len(outbox)) == (20, 1, 40), "once for each book that it is new in"
    assert await outcomes(handlers, *commands) == answers, "again, the same answers"
    assert await pool.fetchval("select count(*) from event") == 20


async def test_a_refusal_is_nobody_elses(pool: pg.Pool, owners: list[str]) -> None:
    handlers = Handlers(pool, lambda: None)
    commands = [
        request(f"c{n}", "foreign" if n % 5 == 0 else f"e{n}", "ann", actor=name)
        for n, name in enumerate(owners)
    ]
    for answers in (await outcomes(handlers, *commands), await outcomes(handlers, *commands)):
        for number, answer in enumerate(answers):
            assert isinstance(answer, DeviceNotFound if number % 5 == 0 else CommandAccepted)
    assert await pool.fetchval("select count(*) from event") == 16
    assert await pool.fetchval("select count(*) from contact_book") == 16, "a refused one changes nothing"


async def test_a_stored_refusal_that_another_release_knows_holds_up_nobody(
    pool: pg.Pool, owners: list[str]
) -> None:
    """It is given again as it was; those beside it were never answered."""
    handlers = Handlers(pool, lambda: None)
    refused = [request(f"c{n}", "foreign", "ann", actor=name) for n, name in enumerate(owners[:10])]
    await outcomes(handlers, *refused)
    await pool.execute(
        "update command set result = jsonb_set(jsonb_set("
        "result, '{refused,code}', '\"OF_LATER\"'), '{refused,message}', '\"Ask somebody else.\"')"
    )
    others = [request(f"d{n}", f"e{n}", "ann", actor=owners[n]) for n in range(10, 20)]
    commands = [command for both in zip(refused, others, strict=True) for command in both]
    async with asyncio.timeout(20):
        answers = await outcomes(handlers, *commands)
    for again, other in zip(answers[::2], answers[1::2], strict=True):
        assert isinstance(other, CommandAccepted)
        assert isinstance(again, Refused)
        assert (again.code, again.message) == ("OF_LATER", "Ask somebody else.")
        assert again.details["device_id"] == "foreign"


async def test_one_id_twice_at_once(pool: pg.Pool, owners: list[str]) -> None:
    handlers = Handlers(pool, lambda: None)
    others = [request(f"c{n}", f"e{n}", "ann", actor=name) for n, name in enumerate(owners)]
    twins = [request("twin", "d0", "ann"), request("twin", "d0", "ann"), request("twin", "d1", "ann")]
    *_, first, second, third = await outcomes(handlers, *others, *twins)
    assert isinstance(first, CommandAccepted)
    assert second == first
    assert isinstance(third, IdempotencyConflict)


async def test_two_names_of_one_device(pool: pg.Pool, owners: list[str]) -> None:
    """A device and a service of it, named by commands of different accounts: which are one by one."""
    handlers = Handlers(pool, lambda: None)
    await handlers.handle(request("c", "d0", "ann"))
    take = RevokeShare(command_id="r", actor="owner", device_ids=("d0-ssh",), recipients=("ann@x.test",))
    leave = RevokeShare(command_id="l", actor="ann", device_ids=("d0",), recipients=("ann@x.test",))
    others = [request(f"c{n}", f"e{n}", "bob", actor=name) for n, name in enumerate(owners)]
    answers = await outcomes(handlers, *others, take, leave)
    assert not [answer for answer in answers[:-2] if isinstance(answer, BaseException)]
    assert all(isinstance(answer, CommandAccepted | ShareCommandError) for answer in answers)
    versions = await pool.fetch("select version from event where device_id = 'd0' order by version")
    assert [row["version"] for row in versions] == list(range(1, len(versions) + 1))


async def test_a_device_that_somebody_holds_holds_up_its_own_commands_only(
    pool: pg.Pool, owners: list[str]
) -> None:
    handlers = Handlers(pool, lambda: None)
    await handlers.handle(request("c", "e0", "ann", actor="o0"))
    async with pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("set local idle_in_transaction_session_timeout = 0")
        await holder.execute("select from device_stream where device_id = 'e0' for update")
        held = asyncio.create_task(handlers.handle(request("h", "e0", "bob", actor="o0")))
        commands = [request(f"c{n}", f"e{n}", "ann", actor=name) for n, name in enumerate(owners) if n]
        async with asyncio.timeout(20):
            answers = await outcomes(handlers, *commands)
        assert all(isinstance(answer, CommandAccepted) for answer in answers)
        assert not held.done()
        await transaction.rollback()
    assert str((await held).positions[0]) == "e0@2"
