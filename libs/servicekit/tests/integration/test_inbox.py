"""The inbox on a real broker and database: each record has its effect once, whatever breaks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import confluent_kafka
import confluent_kafka.admin
import pytest

from devstack.pytest_plugin import Database
from servicekit import pg
from servicekit.inbox import Inbox, TopicReplacedError
from servicekit.kafka import Admin, Consumer, DeadLetters, Partition, Producer, Record

SCHEMA = """
create table kafka_offset (topic text, partition int, topic_id text not null, next_offset bigint not null,
    constraint one_offset_a_partition primary key (topic, partition));
create table seen (id bigserial, worker text, value text);
"""


@dataclass
class World:
    """One topic of two partitions, one database."""

    bootstrap: str
    topic: str
    pool: pg.Pool
    admin: Admin
    producer: Producer

    def inbox(
        self,
        *,
        worker: str = "w",
        group: str | None = None,
        broken: Callable[[Record], bool] | None = None,
        whole: bool = False,
        at_once: int = 1,
    ) -> Inbox:
        async def handle(connection: pg.Connection, records: list[Record]) -> None:
            for record in records:
                value = (record.value or b"").decode()
                await connection.execute("insert into seen (worker, value) values ($1, $2)", worker, value)
                if broken is not None and broken(record):
                    raise RuntimeError("broken on purpose")

        return Inbox(
            bootstrap=self.bootstrap, group=group or f"{self.topic}-group", topics=[self.topic],
            pool=self.pool, handle=handle, admin=self.admin, whole=[self.topic] if whole else [],
            at_once=at_once,
        )  # fmt: skip

    async def send(self, *values: str, partition: int | None = None) -> None:
        keys = {0: "b", 1: "d"}  # murmur2 over two partitions
        for value in values:
            await self.producer.send(
                self.topic, value if partition is None else keys[partition], value.encode()
            )

    async def seen(self) -> list[str]:
        return [row["value"] for row in await self.pool.fetch("select value from seen order by id")]


@pytest.fixture
async def world(kafka_bootstrap: str, topic_prefix: str, database: Database) -> AsyncIterator[World]:
    admin = Admin(kafka_bootstrap)
    topic = f"{topic_prefix}things"
    await admin.provision([(topic, 2, {})])
    pool = await pg.open_pool(database.dsn("portal"), application="test")
    await pool.execute(SCHEMA)
    async with Producer(kafka_bootstrap, "test") as producer:
        yield World(kafka_bootstrap, topic, pool, admin, producer)
    await pool.close()


@asynccontextmanager
async def running(*inboxes: Inbox) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(inbox.run()) for inbox in inboxes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is in the database
            await asyncio.sleep(0.02)


async def test_records_from_before_and_after_the_start_are_applied_once_over_restarts(world: World) -> None:
    expected: list[str] = []
    for lap in range(3):
        values = [f"{lap}-{n}" for n in range(50)]
        expected += values
        await world.send(*values[:25])
        async with running(world.inbox()):
            await world.send(*values[25:])
            await until(arrived(world, expected))
    assert sorted(await world.seen()) == sorted(expected)


def arrived(world: World, expected: list[str]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return len(await world.seen()) >= len(expected)

    return check


async def test_a_batch_that_fails_holds_up_its_own_partition_only_and_leaves_no_trace(world: World) -> None:
    bad = True
    inbox = world.inbox(broken=lambda record: bad and record.value == b"bad")
    async with running(inbox):
        await world.send("first", "second", "bad", "after", partition=0)
        await world.send("other-1", "other-2", partition=1)

        async def others_served() -> bool:
            return {"first", "second", "other-1", "other-2"} <= set(await world.seen())

        async def held_up() -> bool:
            try:
                await inbox.healthy()
            except RuntimeError as error:
                return "held up" in str(error)
            return False

        await until(others_served)
        await until(held_up)
        assert not {"bad", "after"} & set(await world.seen())
        bad = False

        async def mended() -> bool:
            return "after" in await world.seen()

        await until(mended)
        await inbox.healthy()
    assert sorted(await world.seen()) == sorted(["first", "second", "bad", "after", "other-1", "other-2"])


async def test_two_workers_that_believe_in_the_same_partition_write_it_once(world: World) -> None:
    # Different groups: both are assigned everything, as a fenced-off worker believes it still is.
    async with running(world.inbox(worker="a", group="g1"), world.inbox(worker="b", group="g2")):
        values = [str(n) for n in range(300)]
        await world.send(*values)
        await until(arrived(world, values))
    assert sorted(await world.seen()) == sorted(values)


async def test_members_of_one_group_share_the_work_and_take_over(world: World) -> None:
    values = [str(n) for n in range(100)]
    async with running(world.inbox(worker="a")):
        async with running(world.inbox(worker="b")):
            await world.send(*values[:50])
            await until(arrived(world, values[:50]))
        await world.send(*values[50:])
        await until(arrived(world, values))
    assert sorted(await world.seen()) == sorted(values)


async def test_a_backlog_is_worked_off_in_order_while_members_come_and_go(world: World) -> None:
    """Two transactions at once, and partitions that change hands while one of them is under way."""
    values = {partition: [f"{partition}-{n:05}" for n in range(5_000)] for partition in range(2)}
    for partition, key in enumerate(("b", "d")):
        for value in values[partition]:
            await world.producer.enqueue(world.topic, key, value.encode())
    total = sum(map(len, values.values()))

    async def done(part: float) -> bool:
        return await world.pool.fetchval("select count(*) from seen") >= total * part

    async with running(world.inbox(worker="a", at_once=2)):
        await until(lambda: done(0.1), 60)
        async with running(world.inbox(worker="b", at_once=2)):
            await until(lambda: done(0.4), 60)
        await until(lambda: done(0.5), 60)
        async with running(world.inbox(worker="c", at_once=2)):
            await until(lambda: done(1), 60)
    seen = await world.seen()
    for partition, expected in values.items():
        assert [value for value in seen if value.startswith(f"{partition}-")] == expected


async def test_the_database_away_for_a_moment_loses_and_doubles_nothing(
    world: World, database: Database
) -> None:
    values = [str(n) for n in range(60)]
    other = await asyncpg.connect(database.dsn())
    async with running(world.inbox()):
        await world.send(*values[:20])
        await until(arrived(world, values[:20]))
        for n in range(20, 60, 10):
            await other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test'"
            )
            await world.send(*values[n : n + 10])
        await until(arrived(world, values))
    await other.close()
    assert sorted(await world.seen()) == sorted(values)


async def test_a_topic_that_was_made_anew_is_noticed(world: World) -> None:
    await world.send("x")
    async with running(world.inbox()):
        await until(arrived(world, ["x"]))
    await world.pool.execute("update kafka_offset set topic_id = 'another'")
    with pytest.raises(TopicReplacedError):
        await asyncio.wait_for(world.inbox().run(), 20)


async def test_end_offsets_and_provisioning(world: World) -> None:
    await world.send("x", "y", partition=0)
    places = await world.admin.partitions([world.topic])
    assert await world.admin.end_offsets(places) == {
        Partition(world.topic, 0): 2,
        Partition(world.topic, 1): 0,
    }
    assert await world.admin.provision([(world.topic, 2, {})]) == []


async def test_a_transactional_producer_is_followed_to_its_end_and_only_where_it_committed(
    world: World,
) -> None:
    def produce() -> None:
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": world.bootstrap, "transactional.id": world.topic, "log_level": 0}
        )
        producer.init_transactions()
        for value, commit in (("kept", True), ("aborted", False), ("kept too", True), ("aborted too", False)):
            producer.begin_transaction()
            producer.produce(world.topic, value, partition=0)
            producer.flush()
            producer.commit_transaction() if commit else producer.abort_transaction()

    await asyncio.to_thread(produce)

    async def at_the_end() -> bool:
        # Asked each time: what ends a transaction may be written after its producer has its answer.
        ends = await world.admin.end_offsets([Partition(world.topic, 0)])
        row = await world.pool.fetchval("select next_offset from kafka_offset where partition = 0")
        return row == ends[Partition(world.topic, 0)]

    async with running(world.inbox()):
        await until(at_the_end)
    assert await world.seen() == ["kept", "kept too"]


async def test_of_a_topic_that_must_be_whole_nothing_is_skipped(world: World) -> None:
    await world.send("1", "2", "3", "4", partition=0)
    admin: Any = confluent_kafka.admin.AdminClient({"bootstrap.servers": world.bootstrap})
    below = confluent_kafka.TopicPartition(world.topic, 0, 2)
    await asyncio.gather(*(asyncio.wrap_future(item) for item in admin.delete_records([below]).values()))
    await world.send("other", partition=1)
    inbox = world.inbox(whole=True)

    async def held() -> bool:
        try:
            await inbox.healthy()
        except RuntimeError as error:
            return "held up" in str(error)
        return False

    async with running(inbox):
        await until(arrived(world, ["other"]))
        await until(held)
    assert await world.seen() == ["other"]
    async with running(world.inbox(group="another")):  # where gaps are normal, it goes on
        await until(arrived(world, ["other", "3", "4"]))


async def test_a_dead_letter_that_is_too_large_is_kept_in_part(world: World) -> None:
    letters = DeadLetters(world.producer, world.topic)
    value = b"x" * 2_000_000
    await letters.put(
        Record("source", 3, 7, b"k" * 20_000, value, [("h", b"y")], 0), "TOO_LARGE", "Too large."
    )
    await letters.put(Record("source", 3, 8, None, b"small", [("h", None)], 0), "MALFORMED", "No JSON.")
    received: list[Record] = []

    async def changed(_: set[Partition]) -> None: ...

    async with Consumer(
        world.bootstrap, group="letters", topics=[world.topic], assigned=changed, revoked=changed
    ) as consumer:
        async with asyncio.timeout(20):
            while len(received) < 2:
                for records in (await consumer.getmany(timeout_ms=200, max_records=10)).values():
                    received += records
    large, small = sorted(received, key=lambda record: len(record.value or b""), reverse=True)
    headers = dict(large.headers)
    assert headers["latchkey-original-bytes"] == b"2000000"
    assert headers["latchkey-source-offset"] == b"7"
    assert value.startswith(large.value or b"?")
    assert (small.value, small.key, dict(small.headers)["h"]) == (b"small", None, None)
