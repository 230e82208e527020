"""Ends by time, on a real database with a clock that is moved by hand."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.commands import ChangeShare, RequestShare, ResendInvitation, RevokeShare
from devstack.world import until
from servicekit import pg
from share_command.errors import Conflict, RateLimited
from share_command.handlers import Expiry

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def invite(
    world: Any, command_id: str, *devices: str, to: tuple[str, ...] = ("ann@x.test",), **more: Any
) -> None:
    await world.handle(RequestShare, command_id, "owner", device_ids=devices, recipients=to, **more)


async def test_an_invitation_ends_when_nobody_accepts_it_in_time(world: Any) -> None:
    await invite(world, "c1", "d0")
    world.later(days=30, seconds=-1)
    assert await world.expiry().end_overdue() == 0
    world.later(seconds=1)
    assert await world.expiry().end_overdue() == 1
    assert await world.expiry().end_overdue() == 0
    assert await world.said() == ["ShareRequested", "ShareExpired"]
    assert await world.live() == []
    expired = (await world.events())[-1]
    assert (expired.causationid, expired.version, expired.time) == ("clock", 2, world.now)
    assert await world.pool.fetchval("select count(*) from outbox where topic = 'share.events'") == 2


async def test_a_grant_ends_at_its_end_and_not_with_its_invitation(world: Any) -> None:
    await invite(world, "c1", "d0", ends_at=world.now + 40 * DAY)
    await world.accept("d0")
    world.later(days=39)
    assert await world.expiry().end_overdue() == 0
    world.later(days=1)
    assert await world.expiry().end_overdue() == 1
    assert (await world.events())[-1].data.account_id == "ann"
    assert await world.live() == []


async def test_an_acceptance_that_comes_before_the_clock_is_noticed_is_too_late(world: Any) -> None:
    await invite(world, "c1", "d0")
    world.later(days=31)
    with pytest.raises(Conflict) as refused:
        await world.accept("d0")
    assert refused.value.details["state"] == "expired"
    await world.expiry().end_overdue()
    assert await world.said() == ["ShareRequested", "ShareExpired"]


async def test_many_instances_end_each_once(world: Any, pool: pg.Pool) -> None:
    """Beside commands on the same devices; each end is one event, whoever writes it."""
    people = tuple(f"p{number}@x.test" for number in range(20))
    devices = tuple(f"d{number}" for number in range(20))
    await invite(world, "c1", *devices, to=people, expires_at=world.now + HOUR)
    world.later(hours=2)

    async def look() -> None:
        while await world.expiry().end_overdue():
            pass

    async def command(number: int) -> None:
        """An overdue share ends in this command's transaction."""
        await world.handle(
            RevokeShare, f"r{number}", "owner", device_ids=(f"d{number}",), recipients=people[:5]
        )

    await asyncio.gather(*(look() for _ in range(4)), *(command(number) for number in range(20)))
    said = await world.said()
    assert sorted(set(said)) == ["ShareExpired", "ShareRequested"]
    assert said.count("ShareExpired") == 400
    rows = await pool.fetch(
        "select share_id from event where envelope ->> 'type' like '%ShareExpired%'"
        " group by 1 having count(*) > 1"
    )
    assert rows == []
    assert await pool.fetchval("select count(*) from outbox where topic = 'share.events'") == 800
    versions = await pool.fetch("select device_id, count(*), max(version) from event group by 1")
    assert all(row["count"] == row["max"] == 40 for row in versions)


async def test_a_device_that_is_held_does_not_hold_up_others(world: Any, pool: pg.Pool) -> None:
    await invite(world, "c1", "d0", "d1", expires_at=world.now + HOUR)
    world.later(hours=2)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from device_stream where device_id = 'd0' for update")
        await world.expiry().end_overdue()
        assert await world.live() == [("d0", "requested")]
    await world.expiry().end_overdue()
    assert await world.live() == []


async def test_a_device_with_many_does_not_hide_the_others(world: Any, pool: pg.Pool) -> None:
    people = tuple(f"p{number}@x.test" for number in range(600))
    await invite(world, "c1", "d0", to=people, expires_at=world.now + HOUR)
    await invite(world, "c2", "d1", expires_at=world.now + 2 * HOUR)
    world.later(hours=3)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from device_stream where device_id = 'd0' for update")
        assert await world.expiry().end_overdue() == 2
        assert {device for device, _ in await world.live()} == {"d0"}
    await world.expiry().end_overdue()
    assert await world.live() == []


async def test_it_rests_while_all_that_it_finds_is_held(
    world: Any, pool: pg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as one look takes: it looked again at once, as fast as the database answered."""
    monkeypatch.setattr("share_command.handlers.expiry._BATCH", 2)
    await invite(world, "c1", "d0", "d1", "d2", expires_at=world.now + HOUR)
    world.later(hours=2)
    looks = asyncio.Semaphore(0)

    async def nothing_is_live() -> bool:
        return await world.live() == []

    def clock() -> datetime:
        looks.release()
        return world.now

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from device_stream for update")
        running = asyncio.create_task(Expiry(pool, lambda: None, clock).run())
        async with asyncio.timeout(10):
            await looks.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):  # the next look is due in half a second
                await looks.acquire()
                await looks.acquire()
    await until(nothing_is_live)
    running.cancel()


async def test_what_time_ended_can_be_shared_again_without_anything_of_before(world: Any) -> None:
    await invite(world, "c1", "d0", message="Words of before", scripting=True, ends_at=world.now + HOUR)
    await world.accept("d0")
    world.later(hours=2)
    await invite(world, "c2", "d0")  # nobody has noticed the end yet
    assert await world.said() == ["ShareRequested", "ShareAccepted", "ShareExpired", "ShareRequested"]
    row = await world.pool.fetchrow("select state, message, account_id, terms, due_at from share")
    assert (row["state"], row["message"], row["account_id"]) == ("requested", None, None)
    assert row["due_at"] == world.now + 30 * DAY
    assert "true" not in row["terms"]


async def test_an_invitation_is_sent_again_at_most_once_a_minute(world: Any, pool: pg.Pool) -> None:
    await invite(world, "c1", "d0")
    share_id = await pool.fetchval("select share_id from share")

    async def resend(command_id: str) -> Any:
        return await world.handle(ResendInvitation, command_id, "owner", device_id="d0", share_id=share_id)

    before = await world.dump()
    with pytest.raises(RateLimited) as refused:
        await resend("c2")
    assert refused.value.details == {"retry_after_seconds": 60}
    assert await world.dump() == before, "nothing is kept, not even the command id"
    world.later(minutes=1)
    results = await asyncio.gather(*(resend(f"r{number}") for number in range(6)), return_exceptions=True)
    assert sorted(type(item).__name__ for item in results) == ["CommandAccepted", *["RateLimited"] * 5]
    world.later(minutes=1)
    await resend("c2")
    assert await world.said() == ["ShareRequested", "InvitationResent", "InvitationResent"]
    assert await pool.fetchval("select expires_at from share") == world.now + 30 * DAY
    await world.accept("d0")
    with pytest.raises(Conflict):
        await resend("c3")


async def test_of_two_edits_of_one_version_one_is_made(world: Any, pool: pg.Pool) -> None:
    await invite(world, "c1", "d0")
    row = await pool.fetchrow("select share_id, version from share")
    assert row is not None

    async def edit(number: int) -> Any:
        terms = {"scope": {"kind": "all"}, "ends_at": world.now + timedelta(hours=number + 1)}
        return await world.handle(
            ChangeShare, f"e{number}", "owner", device_id="d0", share_id=row["share_id"],
            expected_version=row["version"], terms=terms,
        )  # fmt: skip

    results = await asyncio.gather(*(edit(number) for number in range(8)), return_exceptions=True)
    conflicts = [item for item in results if isinstance(item, Conflict)]
    assert len(conflicts) == 7
    stored = await pool.fetchval("select terms::jsonb from share")
    for conflict in conflicts:
        assert conflict.details["terms"] == json.loads(stored)
        assert (conflict.details["version"], conflict.details["state"]) == (2, "requested")
    assert await world.said() == ["ShareRequested", "ShareChanged:by_owner"]
