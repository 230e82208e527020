"""Bulk: an outcome for each device with each contact, once, also when the process is killed in the middle."""

import asyncio
import contextlib
import signal
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from contracts.outcomes import BulkDone, BulkShare
from servicekit import pg
from share_command.errors import IdempotencyConflict, LimitReached, ServiceNotOnDevice
from share_command.handlers import Handlers

Start = Callable[[str], tuple[subprocess.Popen[bytes], str]]
PEOPLE = ("ann@x.test", "bob@x.test", "+4915112345678", "no address", "owner@x.test", "contact:nobody")


def bulk(operation_id: str, *devices: str, to: tuple[str, ...] = PEOPLE, **more: Any) -> BulkShare:
    fields = {"actor": "owner", "device_ids": devices, "recipients": to, **more}
    return BulkShare.model_validate({"operation_id": operation_id, **fields})


def told(done: BulkDone) -> dict[tuple[str, str | None], str]:
    assert len({(item.device_id, item.recipient) for item in done.items}) == len(done.items)
    return {(item.device_id, item.recipient): item.code or item.outcome for item in done.items}


async def test_each_pair_has_its_own_outcome(world: Any, pool: pg.Pool) -> None:
    handlers: Handlers = world.with_limits(shares_per_device=2)
    async with world.api("bob") as bob:
        await bob.put("/v1/always-accept/owner")
    await handlers.bulk(bulk("o0", "d1", to=("old@x.test",)))
    done = await handlers.bulk(bulk("o1", "d0", "d1", "d2-ssh", "foreign", "gone"))
    usual = {"ann@x.test": "requested", "bob@x.test": "accepted", "+4915112345678": "LIMIT_REACHED"}
    wrong = {
        "no address": "INVALID_EMAIL",
        "owner@x.test": "SELF_SHARE",
        "contact:nobody": "CONTACT_NOT_FOUND",
    }
    full = usual | {"bob@x.test": "LIMIT_REACHED"}
    absent = dict.fromkeys([*usual, "owner@x.test"], "DEVICE_NOT_FOUND") | {
        name: wrong[name] for name in ("no address", "contact:nobody")
    }
    assert told(done) == {
        (device, recipient): outcome
        for device, outcomes in (
            ("d0", usual | wrong), ("d1", full | wrong), ("d2-ssh", usual | wrong), ("foreign", absent),
            ("gone", absent),
        )
        for recipient, outcome in outcomes.items()
    }  # fmt: skip
    assert sorted(map(str, done.positions)) == ["d0@3", "d1@2", "d2@3"]
    assert {item.message is None for item in done.items if item.code} == {False}
    terms = await pool.fetchval("select terms from share where device_id = 'd2' limit 1")
    assert "d2-ssh" in terms
    assert "d2-web" not in terms


async def test_the_same_operation_again_gives_the_same_and_does_nothing(world: Any, pool: pg.Pool) -> None:
    order = bulk("o1", "d0", "d1", "gone", message="Hello")
    first = await world.handlers.bulk(order)
    before = await world.dump()
    assert await world.handlers.bulk(order) == first
    assert await world.dump() == before
    for other in (
        bulk("o1", "d0", "d1", message="Hello"),
        bulk("o1", "d0", "d1", "gone", message="Hallo"),
        bulk("o1", "d0", "d1", "gone", message="Hello", actor="rival"),
    ):
        with pytest.raises(IdempotencyConflict):
            await world.handlers.bulk(other)
    assert await world.dump() == before
    stored = "".join([row["result"] for row in await pool.fetch("select result from command")])
    for recipient in PEOPLE:
        assert recipient not in stored
    assert "x.test" not in stored
    assert "15112345678" not in stored


async def test_twins_of_an_operation_share_one_outcome(world: Any, pool: pg.Pool) -> None:
    order = bulk("o1", *(f"d{number}" for number in range(8)), to=PEOPLE[:3])
    results = await asyncio.gather(*(world.handlers.bulk(order) for _ in range(4)))
    assert len(set(map(repr, results))) == 1
    assert await pool.fetchval("select count(*) from event") == 24


async def test_what_is_refused_whole_leaves_nothing(world: Any) -> None:
    before = await world.dump()
    done = await world.handlers.bulk(bulk("o1", "gone", "foreign", to=("new@x.test",)))
    assert set(told(done).values()) == {"DEVICE_NOT_FOUND"}
    after = await world.dump()
    del before["command"], after["command"]
    assert after == before, "no contact, no entry in the book"
    with pytest.raises(LimitReached):
        await world.handlers.bulk(
            bulk("o2", *(f"d{n}" for n in range(21)), to=tuple(f"p{n}@x.test" for n in range(1000)))
        )


async def test_a_misspelt_service_is_refused_and_one_of_another_device_is_not(world: Any) -> None:
    before = await world.dump()
    wrong = bulk(
        "o1", "d0", "d1", to=("ann@x.test",), services=[{"service_id": "d0-ssh"}, {"service_id": "typo"}]
    )
    for _ in range(2):
        with pytest.raises(ServiceNotOnDevice) as refused:
            await world.handlers.bulk(wrong)
        assert refused.value.details == {"service_id": "typo"}
    assert await world.dump() == before
    right = bulk("o1", "d0", "d1", "gone", to=("ann@x.test",), services=[{"service_id": "d0-ssh"}])
    assert told(await world.handlers.bulk(right)) == {
        ("d0", "ann@x.test"): "requested",
        ("d1", "ann@x.test"): "SERVICE_NOT_ON_DEVICE",
        ("gone", "ann@x.test"): "DEVICE_NOT_FOUND",
    }


async def test_a_device_whose_terms_are_too_large_does_not_stop_the_others(world: Any, pool: pg.Pool) -> None:
    await pool.execute(
        "insert into device_service select 'd1', rpad('s' || n, 60, 'x'), 's' from generate_series(1, 9000) n"
    )
    devices, ann = ("d0", "d1", "d2"), ("ann@x.test",)
    await world.handlers.bulk(bulk("o1", *devices, to=ann))
    take = [{"service_id": f"d{number}-ssh", "action": "REMOVE"} for number in range(3)]
    done = await world.handlers.bulk(bulk("o2", *devices, to=ann, services=take))
    assert told(done) == {
        ("d0", "ann@x.test"): "changed",
        ("d1", "ann@x.test"): "LIMIT_REACHED",
        ("d2", "ann@x.test"): "changed",
    }
    assert await world.handlers.bulk(bulk("o2", *devices, to=ann, services=take)) == done


async def test_one_correlation_id_for_all_and_for_ever(world: Any) -> None:
    order = bulk("o1", *(f"d{number}" for number in range(5)), to=PEOPLE[:3])
    done = await world.handlers.bulk(order)
    assert len(done.items) == 15
    await world.handlers.bulk(bulk("o2", "d0", to=("eve@x.test",)))
    correlations = Counter(message.correlationid for message in await world.events())
    assert sorted(correlations.values()) == [1, 15]
    rows = await world.pool.fetch("select distinct correlation_id from outbox")
    assert {row["correlation_id"] for row in rows} == set(correlations)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_killed_in_the_middle_it_goes_on_where_it_stopped(
    pool: pg.Pool, start: Start, ready: Callable[[str], Awaitable[None]], world: Any,
    until: Callable[..., Awaitable[None]],
) -> None:  # fmt: skip
    devices = [f"d{number}" for number in range(40)]
    body = {"operation_id": "o1", "device_ids": devices, "recipients": [f"p{n}@x.test" for n in range(40)],
            "message": "Hello"}  # fmt: skip

    async def ask(address: str) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {world.token('owner')}"}
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            with contextlib.suppress(httpx.TransportError):
                return await client.post("/v1/bulk-shares", json=body, headers=headers)
        return None

    partly = 0
    answer = None
    for kill_after in (3, 11, 25):
        process, address = start("serve")
        await ready(address)
        asking = asyncio.create_task(ask(address))

        async def far_enough(least: int = kill_after) -> bool:
            return await pool.fetchval("select count(distinct device_id) from event") >= least

        await until(far_enough)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert await asking is None
        done = await pool.fetchval("select count(*) from event")
        assert done % 40 == 0, "a device whole or not at all"
        partly += partly < done < 1600
    assert partly, "none was killed in the middle"
    _, address = start("serve")
    await ready(address)
    answer = await ask(address)
    assert answer is not None
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert len(items) == 1600
    assert {item["outcome"] for item in items} == {"requested"}
    again = await ask(address)
    assert again is not None
    assert again.json() == answer.json()
    assert again.headers["latchkey-position"] == answer.headers["latchkey-position"]
    counts = await pool.fetch("select device_id, count(*), max(version) from event group by 1")
    assert {(row["count"], row["max"]) for row in counts} == {(40, 40)}
    assert len(counts) == 40
    assert len({message.correlationid for message in await world.events()}) == 1
    assert await pool.fetchval("select count(*) from share where message = 'Hello'") == 1600
    assert "x.test" not in "".join([row["result"] for row in await pool.fetch("select result from command")])
