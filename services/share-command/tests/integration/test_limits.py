"""How many shares a device may have and an owner may give: exact, also when all come at once."""

import asyncio
from typing import Any

import pytest

from contracts.commands import RequestShare, RevokeShare, ServiceChange
from servicekit import pg
from share_command.errors import LimitReached
from share_command.handlers import Handlers


def request(command_id: str, *devices: str, to: tuple[str, ...], **more: Any) -> RequestShare:
    return RequestShare(
        command_id=command_id, actor="owner", device_ids=devices, recipients=to, **more
    )  # fmt: skip


def people(first: int, count: int) -> tuple[str, ...]:
    return tuple(f"p{number}@x.test" for number in range(first, first + count))


async def live(pool: pg.Pool) -> dict[str, int]:
    rows = await pool.fetch(
        "select device_id, count(*) from share where state in ('requested', 'active') group by 1"
    )
    return {row["device_id"]: row["count"] for row in rows}


async def test_a_device_has_no_more_than_it_may(world: Any, pool: pg.Pool) -> None:
    handlers: Handlers = world.with_limits(shares_per_device=7)
    results = await asyncio.gather(
        *(
            handlers.handle(request(f"c{number}", "d0", "d1", to=people(number * 2, 2)))
            for number in range(10)
        ),
        return_exceptions=True,
    )
    refused = [item for item in results if isinstance(item, LimitReached)]
    assert len(refused) == 7
    assert "A device may have 7" in refused[0].message
    assert refused[0].details.keys() == {"device_id", "recipient"}
    assert await live(pool) == {"d0": 6, "d1": 6}
    await handlers.handle(request("last", "d0", to=("last@x.test",)))
    with pytest.raises(LimitReached):
        await handlers.handle(request("more", "d0", to=("more@x.test",)))
    assert await live(pool) == {"d0": 7, "d1": 6}


async def test_an_owner_gives_no_more_than_he_may(world: Any, pool: pg.Pool) -> None:
    handlers: Handlers = world.with_limits(shares_per_owner=20)
    results = await asyncio.gather(
        *(
            handlers.handle(request(f"c{number}", f"d{number}", to=people(number * 3, 3)))
            for number in range(12)
        ),
        return_exceptions=True,
    )
    refused = [item for item in results if isinstance(item, LimitReached)]
    assert len(refused) == 6
    assert "An owner may have 20" in refused[0].message
    assert sum((await live(pool)).values()) == 18
    await handlers.handle(
        RequestShare(command_id="r", actor="rival", device_ids=("foreign",), recipients=people(0, 9))
    )
    with pytest.raises(LimitReached):
        await handlers.handle(request("c20", "d20", to=people(0, 3)))
    await handlers.handle(request("c21", "d21", to=people(0, 2)))


async def test_at_the_limit_what_is_there_can_be_changed_ended_and_replaced(
    world: Any, pool: pg.Pool
) -> None:
    handlers: Handlers = world.with_limits(shares_per_device=2, shares_per_owner=2)
    await handlers.handle(request("c1", "d0", to=("ann@x.test", "bob@x.test")))
    await world.accept("d0")
    await handlers.handle(request("c2", "d0", to=("ann@x.test",), scripting=True))
    with pytest.raises(LimitReached):
        await handlers.handle(request("c3", "d0", to=("eve@x.test",)))
    await handlers.handle(
        RevokeShare(command_id="c4", actor="owner", device_ids=("d0",), recipients=("ann@x.test",))
    )
    await handlers.handle(request("c5", "d0", to=("eve@x.test",)))
    with pytest.raises(LimitReached):
        await handlers.handle(request("c6", "d0", to=("ann@x.test",)))
    take = (ServiceChange(service_id="d0-ssh", action="REMOVE"),)
    await handlers.handle(request("c7", "d0", to=("bob@x.test",), services=take))
    world.later(days=31)
    await handlers.handle(request("c8", "d0", to=("eve@x.test",)))  # overdue, and invited anew in its place
    assert await live(pool) == {"d0": 2}


async def test_a_refusal_for_a_limit_is_the_answer_for_ever_and_holds_no_address(
    world: Any, pool: pg.Pool
) -> None:
    handlers: Handlers = world.with_limits(shares_per_device=1)
    command = request("c1", "d0", to=("ann@x.test", "bob@x.test"))
    answers: list[Any] = []
    for again in (handlers, world.with_limits()):
        with pytest.raises(LimitReached) as refused:
            await again.handle(command)
        answers.append((refused.value.message, refused.value.details))
    assert answers[0] == answers[1]
    assert answers[0][1] == {"device_id": "d0", "recipient": "bob@x.test"}
    assert "x.test" not in await pool.fetchval("select result from command")
    assert await live(pool) == {}
