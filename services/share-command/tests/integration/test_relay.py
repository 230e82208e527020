"""The relay against a real broker: watermarks, rows that cannot be sent, late commits, a killed broker."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts import codec
from contracts.topics import TOPICS
from contracts.watermarks import Watermark
from devstack import kafka
from devstack.process import free_port, spawn, stop
from servicekit import pg
from servicekit.kafka import Admin, Producer, Record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Start = Callable[[str], tuple[Any, str]]
ReadTopic = Callable[[str], Awaitable[list[Record]]]
Until = Callable[..., Awaitable[None]]
Ready = Callable[[str], Awaitable[None]]


async def outbox_is_empty(pool: pg.Pool) -> bool:
    return not await pool.fetchval("select exists (select from outbox)")


async def test_watermarks(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, producer: Producer,
    prefix: str, kafka_bootstrap: str,
) -> None:  # fmt: skip
    async def marks() -> list[Watermark]:
        found = [codec.decode(record.value).data for record in await read_topic("share.watermarks")]
        return [item for item in found if isinstance(item, Watermark)]

    before = await pool.fetchval("select clock_timestamp()")
    _, relay = start("relay")
    await ready(relay)
    await producer.send(prefix + "directory.devices", "d0", b"{}")

    async def newest_ends() -> int:
        return sum((await marks())[-1].topics["directory.devices"].end_offsets.values())

    async def proves_the_record() -> bool:
        return len(await marks()) >= 2 and await newest_ends() == 1

    await until(proves_the_record)
    assert all(
        before < earlier.as_of < later.as_of
        for earlier, later in zip(await marks(), (await marks())[1:], strict=False)
    )
    mark = (await marks())[-1]
    assert set(mark.topics) == {
        "share.events",
        "directory.devices",
        "directory.accounts",
        "directory.contacts",
    }
    assert len(mark.topics["share.events"].end_offsets) == 24
    # A row that cannot be sent, because its topic does not exist: time stands still from then on.
    await pool.execute("insert into outbox (topic, key, value) values ('late-topic', 'k', 'v')")
    stuck_at = await pool.fetchval("select clock_timestamp()")

    async def relay_fails() -> bool:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{relay}/metrics")).text
        return "\noutbox_relay_restarts_total 0.0" not in text

    await until(relay_fails, 30)
    assert all(item.as_of < stuck_at for item in await marks())
    await Admin(kafka_bootstrap).provision([(prefix + "late-topic", 1, {})])

    async def moves_on() -> bool:
        return (await marks())[-1].as_of > stuck_at

    await until(moves_on, 30)
    assert [record.value for record in await read_topic("late-topic")] == [b"v"]


async def test_a_row_too_large_for_the_broker_holds_its_own_key_only(
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic
) -> None:
    async def put(key: str, value: bytes) -> None:
        await pool.execute(
            "insert into outbox (topic, key, value) values ('share.events', $1, $2)", key, value
        )

    async def sent() -> set[tuple[bytes | None, bytes | None]]:
        return {(record.key, record.value) for record in await read_topic("share.events")}

    async def marks() -> list[Watermark]:
        found = [codec.decode(record.value).data for record in await read_topic("share.watermarks")]
        return [item for item in found if isinstance(item, Watermark)]

    stuck_at = await pool.fetchval("select clock_timestamp()")
    for key, value in (("big", b"1"), ("ok", b"1"), ("big", b"x" * 2_000_000), ("big", b"3"), ("ok", b"2")):
        await put(key, value)
    _, relay = start("relay")
    await ready(relay)

    async def others_went_on() -> bool:
        return {(b"big", b"1"), (b"ok", b"1"), (b"ok", b"2")} <= await sent()

    await until(others_went_on)
    await put("ok", b"3")

    async def later_ones_too() -> bool:
        return (b"ok", b"3") in await sent()

    await until(later_ones_too)
    async with httpx.AsyncClient() as client:
        assert "\noutbox_held_keys 1.0" in (await client.get(f"{relay}/metrics")).text
    assert (b"big", b"3") not in await sent(), "nothing overtakes it"
    assert await pool.fetchval("select count(*) from outbox") == 2
    assert await marks() == [], "what is not sent is not proved"
    await pool.execute("delete from outbox where octet_length(value) = 2000000")

    async def moves_on() -> bool:
        found = await marks()
        return (b"big", b"3") in await sent() and bool(found) and found[-1].as_of > stuck_at

    await until(moves_on)


async def test_broker_away_and_back(  # noqa: PLR0917 - fixtures
    pool: pg.Pool,
    environment: dict[str, str],
    start: Start,
    ready: Ready,
    until: Until,
    tmp_path: Path,
    read_records: Callable[[str, str], list[Record]],
) -> None:
    """A broker of its own is killed and started again under one relay: all is sent, in order, by itself."""
    port = free_port()
    kafka.prepare(tmp_path / "kafka", port=port, controller_port=free_port())
    server = kafka.process(tmp_path / "kafka", tmp_path / "kafka.log")
    bootstrap = f"127.0.0.1:{port}"

    async def broker_up() -> bool:
        return await asyncio.to_thread(kafka.is_ready, bootstrap)

    async def fill(versions: range) -> None:
        for version in versions:
            await pool.execute(
                "insert into outbox (topic, key, value) select 'share.events', 'd' || n, $1"
                " from generate_series(1, 20) n", str(version).encode(),
            )  # fmt: skip

    async def empty() -> bool:
        return await outbox_is_empty(pool)

    broker = spawn(server)
    try:
        await until(broker_up, 40)
        await Admin(bootstrap).provision(
            [(environment["LATCHKEY_TOPIC_PREFIX"] + topic.name, topic.partitions, {}) for topic in TOPICS]
        )
        environment["LATCHKEY_KAFKA_BOOTSTRAP"] = bootstrap
        _, relay = start("relay")
        await ready(relay)
        await fill(range(10))
        await until(empty)
        await fill(range(10, 20))
        broker.kill()
        broker.wait(10)
        await fill(range(20, 30))
        assert await pool.fetchval("select count(*) from outbox") >= 200, "nothing is dropped meanwhile"
        broker = spawn(server)
        await until(empty, 45)
        found = await asyncio.to_thread(
            read_records, bootstrap, environment["LATCHKEY_TOPIC_PREFIX"] + "share.events"
        )
        for number in range(1, 21):
            values = [int(record.value or b"") for record in found if record.key == f"d{number}".encode()]
            assert list(dict.fromkeys(values)) == list(range(30))
    finally:
        stop(broker, server)


async def test_a_lower_id_that_commits_late_is_sent(
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic
) -> None:
    put = "insert into outbox (topic, key, value) values ('share.events', $1, $2)"
    _, relay = start("relay")
    await ready(relay)

    async def sent() -> set[bytes | None]:
        return {record.value for record in await read_topic("share.events")}

    async def marks() -> list[Watermark]:
        found = [codec.decode(record.value).data for record in await read_topic("share.watermarks")]
        return [item for item in found if isinstance(item, Watermark)]

    async def sent_higher() -> bool:
        return {b"%d" % number for number in range(3000)} <= await sent()

    async def sent_lower() -> bool:
        return b"lower" in await sent()

    async with pool.acquire() as late:
        transaction = late.transaction()
        await transaction.start()
        await late.execute(put, "a", b"lower")
        async with pool.acquire() as connection, connection.transaction():  # more than one batch
            await connection.executemany(put, [(f"k{number % 50}", b"%d" % number) for number in range(3000)])
        await until(sent_higher)
        assert not await sent_lower()
        await transaction.commit()
    await until(sent_lower)
    committed_at = await pool.fetchval("select clock_timestamp()")

    async def proved() -> bool:
        found = await marks()
        return bool(found) and found[-1].as_of > committed_at

    await until(proved)
    order: dict[bytes | None, list[int]] = {}
    for record in await read_topic("share.events"):
        if record.key != b"a":
            order.setdefault(record.key, []).append(int(record.value or b""))
    assert all(values == sorted(values) for values in order.values())
