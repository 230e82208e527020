"""Connections and presence: the same rows whatever order the news came in, and nothing that holds them up."""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import confluent_kafka.admin
import pytest

from contracts import topics
from contracts.base import new_id
from contracts.codec import Message, encode, envelope
from contracts.directory import PresenceSnapshot
from contracts.events import (
    ConnectionClosed,
    ConnectionCut,
    ConnectionOpened,
    ConnectionRefused,
    CutReason,
    GatewayStarted,
)
from contracts.permissions import Permission
from permission_projector import activity
from permission_projector.generation import ensure_live
from permission_projector.records import UnreadableError
from permission_projector.settings import ProjectSettings
from servicekit import pg
from servicekit.kafka import Admin, Consumer, DeadLetters, KafkaException, Partition, Producer, Record

NOW = datetime.now(UTC).replace(microsecond=0)


class World:
    """The tables of one installation, and records as the broker would give them."""

    def __init__(self, pool: pg.Pool, dead_letters: DeadLetters, bootstrap: str, prefix: str) -> None:
        self.pool, self.prefix = pool, prefix
        self.store = activity.ActivityStore(dead_letters, prefix)
        self.admin = Admin(bootstrap)
        settings = ProjectSettings.model_validate(
            {"postgres_dsn": "unused", "kafka_bootstrap": bootstrap, "topic_prefix": prefix}
        )
        self.inbox = lambda: activity.build_inbox(settings, pool, dead_letters, self.admin)

    def record(self, data: Message, at: datetime = NOW, key: bytes | None = None) -> Record:
        topic = topics.DIRECTORY_PRESENCE if isinstance(data, PresenceSnapshot) else topics.ACCESS_EVENTS
        device_id = getattr(data, "device_id", None)
        value = encode(envelope(data, source="access-gateway/gw-1", time=at))
        return Record(self.prefix + topic.name, 0, 0, key or (device_id and device_id.encode()), value, (), 0)

    async def apply(self, *records: Record) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await self.store.handle(connection, records)

    async def rows(self, table: str) -> list[Any]:
        return [tuple(row) for row in await self.pool.fetch(f"select * from {table} order by 1")]

    async def tables(self) -> list[list[Any]]:
        return [await self.rows(table) for table in ("connection", "presence", "gateway")]

    async def one(self, connection_id: UUID) -> dict[str, Any]:
        row = await self.pool.fetchrow(
            "select * from connection_status where connection_id = $1", connection_id
        )
        assert row is not None
        return dict(row)


@pytest.fixture
async def world(
    database: Any, dead_letters: DeadLetters, kafka_bootstrap: str, topic_prefix: str
) -> AsyncGenerator[World]:
    dsn = database.dsn("permission_projector")
    await pg.migrate(dsn, "permission_projector")
    await ensure_live(dsn)
    async with await pg.open_pool(dsn, application="test", search_path=activity.SCHEMA, max_size=4) as pool:
        yield World(pool, dead_letters, kafka_bootstrap, topic_prefix)


def who(device_id: str | None = "cam-1", **others: Any) -> dict[str, Any]:
    return {
        "connection_id": new_id(), "gateway_id": "gw-1", "account_id": "ravi", "service_id": "cam-1-ssh",
        "device_id": device_id, "permission": Permission.CONNECT, **others,
    }  # fmt: skip


def figures(number: int = 1) -> dict[str, Any]:
    return {"bytes_to_device": number, "bytes_from_device": 2 * number, "seconds": 1.5 * number}


def seconds(number: float) -> datetime:
    return NOW + timedelta(seconds=number - 600)


async def test_a_connection_is_told_from_its_opening_to_its_end(world: World) -> None:
    share_id = new_id()
    it = who(share_id=share_id)
    await world.apply(world.record(ConnectionOpened(**it), seconds(0)))
    told = await world.one(it["connection_id"])
    assert (told["outcome"], told["opened_at"], told["ended_at"]) == ("open", seconds(0), None)
    assert (told["account_id"], told["share_id"], told["device_id"]) == ("ravi", share_id, "cam-1")
    await world.apply(
        world.record(ConnectionCut(**it, **figures(7), reason=CutReason.GRANT_ENDED), seconds(9))
    )
    told = await world.one(it["connection_id"])
    assert (told["outcome"], told["reason"], told["ended_at"]) == ("cut", "grant_ended", seconds(9))
    assert (told["bytes_to_device"], told["bytes_from_device"], told["seconds"]) == (7, 14, 10.5)
    assert told["at"] == told["opened_at"] == seconds(0)


async def test_what_was_refused_is_told_also_when_nobody_knows_of_which_device(world: World) -> None:
    it = who(None)
    await world.apply(world.record(ConnectionRefused(**it, reason="ACCESS_DENIED"), seconds(3)))
    told = await world.one(it["connection_id"])
    assert (told["outcome"], told["reason"], told["device_id"]) == ("refused", "ACCESS_DENIED", None)
    assert (told["opened_at"], told["at"]) == (None, seconds(3))


async def test_what_a_gateway_had_open_ends_when_it_starts_again(world: World) -> None:
    lost, late, new, ended = who(), who(), who(), who()
    elsewhere = who(gateway_id="gw-2")
    opened = [
        world.record(ConnectionOpened(**it), seconds(at))
        for it, at in ((lost, 1), (late, 2), (new, 9), (ended, 3), (elsewhere, 1))
    ]
    await world.apply(opened[0], *opened[3:])
    await world.apply(world.record(GatewayStarted(gateway_id="gw-1"), seconds(5)))
    await world.apply(*opened[1:3])  # of another partition, whose news came later
    outcomes = {
        name: (told["outcome"], told["reason"], told["ended_at"])
        for name, it in {"lost": lost, "late": late, "new": new, "elsewhere": elsewhere}.items()
        for told in [await world.one(it["connection_id"])]
    }
    closed, still_open = ("closed", "gateway_started", seconds(5)), ("open", None, None)
    assert outcomes == {"lost": closed, "late": closed, "new": still_open, "elsewhere": still_open}
    # Its end was on its way when the gateway was killed.
    await world.apply(world.record(ConnectionClosed(**ended, **figures(7)), seconds(4)))
    told = await world.one(ended["connection_id"])
    assert (told["outcome"], told["reason"], told["ended_at"]) == ("closed", None, seconds(4))
    await world.apply(world.record(GatewayStarted(gateway_id="gw-1"), seconds(2)))  # told late, or again
    assert (await world.one(new["connection_id"]))["outcome"] == "open"


def _history(world: World, dice: random.Random) -> list[Record]:
    """Connections that go on, end, end twice (a gateway that told of both), or whose opening was dropped."""
    records: list[Record] = []
    for number in range(12):
        it = who(f"cam-{number % 3}", gateway_id=f"gw-{number % 2}")
        opened = world.record(ConnectionOpened(**it), seconds(number))
        closed = world.record(ConnectionClosed(**it, **figures(number)), seconds(number + dice.randrange(3)))
        cut = world.record(ConnectionCut(**it, **figures(9), reason=CutReason.STALE), seconds(number + 1))
        refused = world.record(ConnectionRefused(**it, reason="STALE"), seconds(number))
        records += dice.choice([[opened], [opened, closed], [opened, closed, cut], [closed], [refused]])
    records += [
        world.record(GatewayStarted(gateway_id="gw-1"), seconds(dice.randrange(12))) for _ in range(2)
    ]
    for number in range(9):
        since = seconds(number)
        snapshot = PresenceSnapshot(
            device_id=f"cam-{number % 3}", online=number % 2 == 0, since=since, gateway_id=f"gw-{number % 2}"
        )
        records.append(world.record(snapshot, since + timedelta(seconds=dice.randrange(5))))
    return records


@pytest.mark.slow
async def test_doubled_and_reordered_news_in_any_batches_give_the_same_rows(world: World) -> None:
    for seed in range(40):
        dice = random.Random(seed)
        history = _history(world, dice)
        await world.pool.execute("truncate connection, presence, gateway")
        await world.apply(*history)
        expected = await world.tables()
        assert expected[0]
        await world.pool.execute("truncate connection, presence, gateway")
        told = [*history, *dice.sample(history, 8)]
        dice.shuffle(told)
        while told:
            size = dice.randrange(1, 9)
            await world.apply(*told[:size])
            told = told[size:]
        assert await world.tables() == expected, f"seed {seed}"


async def test_a_device_that_is_gone_has_no_presence(world: World) -> None:
    def snapshot(gateway: str, online: bool, since: float) -> Record:
        return world.record(
            PresenceSnapshot(device_id="cam-1", online=online, since=seconds(since), gateway_id=gateway)
        )

    gone = Record(world.prefix + "directory.presence", 0, 0, b"cam-1", None, (), 0)
    await world.apply(snapshot("gw-2", True, 5))
    await world.apply(snapshot("gw-1", False, 4))  # it had gone from there to gw-2, which told it first
    assert await world.rows("presence") == [("cam-1", True, seconds(5), "gw-2")]
    await world.apply(gone)
    assert await world.rows("presence") == []
    await world.apply(snapshot("gw-2", True, 5), gone, snapshot("gw-1", True, 3))
    assert await world.rows("presence") == [("cam-1", True, seconds(3), "gw-1")]


async def test_what_a_silent_gateway_told_last_is_in_doubt(world: World) -> None:
    quiet, heard = who(gateway_id="gw-quiet"), who(gateway_id="gw-heard")
    long_ago = NOW - timedelta(hours=2)
    await world.apply(
        world.record(ConnectionOpened(**quiet), long_ago),
        world.record(
            PresenceSnapshot(device_id="cam-1", online=True, since=long_ago, gateway_id="gw-quiet"), long_ago
        ),
        world.record(ConnectionOpened(**heard), long_ago),
        world.record(ConnectionRefused(**who(gateway_id="gw-heard"), reason="STALE"), NOW),
    )
    told = await world.one(quiet["connection_id"])
    assert (told["outcome"], told["in_doubt"], told["gateway_heard_at"]) == ("open", True, long_ago)
    told = await world.one(heard["connection_id"])
    assert (told["outcome"], told["in_doubt"], told["gateway_heard_at"]) == ("open", False, NOW)
    presence = await world.pool.fetchrow("select * from presence_status")
    assert presence is not None
    assert (presence["online"], presence["in_doubt"]) == (True, True)
    await world.apply(world.record(ConnectionClosed(**quiet, **figures()), long_ago))
    assert not (await world.one(quiet["connection_id"]))["in_doubt"], "an end is an end"


async def test_a_gateway_whose_clock_is_ahead_is_not_heard_for_ever(world: World) -> None:
    it = who()
    await world.apply(world.record(ConnectionOpened(**it), datetime(9999, 1, 1, tzinfo=UTC)))
    assert (await world.one(it["connection_id"]))["gateway_heard_at"] < NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bytes_to_device": 2**63}, "NOT_STORABLE"),
        ({"bytes_from_device": -1}, "NOT_STORABLE"),
        ({"bytes_from_device": 10**400}, "NOT_STORABLE"),
        ({"seconds": float("nan")}, "NOT_STORABLE"),
        ({"seconds": float("inf")}, "NOT_STORABLE"),
        ({"gateway_id": "g" * 10_000}, "NOT_STORABLE"),
    ],
)
async def test_what_cannot_be_stored_is_refused_when_it_is_read(change: dict[str, Any], code: str) -> None:
    event = ConnectionClosed.model_construct(**{**who(), **figures(), **change})
    text = envelope(ConnectionClosed(**who(), **figures()), source="test", time=NOW)
    with pytest.raises(UnreadableError) as refusal:
        activity.read_access_event(b"cam-1", _json(text.model_copy(update={"data": event})))
    assert refusal.value.code == code


def _json(message: Any) -> bytes:
    return json.dumps(message.model_dump(mode="python"), default=str).encode()


@pytest.mark.parametrize("key", [None, b"cam-2", b"\xff"])
def test_an_event_under_the_key_of_another_device_is_refused(key: bytes | None) -> None:
    value = encode(envelope(ConnectionOpened(**who("cam-1")), source="test", time=NOW))
    with pytest.raises(UnreadableError) as refusal:
        activity.read_access_event(key, value)
    assert refusal.value.code == "KEY_MISMATCH"


def test_a_time_that_utc_does_not_have_is_refused() -> None:
    value = encode(envelope(ConnectionOpened(**who()), source="test", time=NOW))
    value = value.replace(NOW.isoformat().replace("+00:00", "Z").encode(), b"9999-12-31T23:59:59-05:00")
    with pytest.raises(UnreadableError) as refusal:
        activity.read_access_event(b"cam-1", value)
    assert refusal.value.code == "NOT_STORABLE"


async def test_what_is_older_than_ninety_days_goes_in_portions(world: World) -> None:
    await world.pool.execute(
        "insert into connection (connection_id, service_id, account_id, permission, gateway_id, opened_at,"
        " ended_at, outcome) select gen_random_uuid(), 's', 'a', 'connect', 'g', now() - interval '200 days',"
        " now() - make_interval(days => days), 'closed' from generate_series(1, 1300) n,"
        " lateral (select case when n % 13 = 0 then 89 else 91 end as days)"
    )
    inbox = world.inbox()
    assert [await inbox.forget() for _ in range(3)] == [1000, 200, 0]
    assert await world.pool.fetchval("select count(*) from connection") == 100


async def test_lists_are_read_from_an_index(world: World) -> None:
    await world.pool.execute(
        "insert into connection (connection_id, device_id, service_id, account_id, permission, gateway_id,"
        " opened_at, ended_at, outcome) select gen_random_uuid(), 'd' || n % 500, 's', 'a' || n % 500,"
        " 'connect', 'g', now() - n * interval '1 s', case when n % 100 > 0 then now() end,"
        " case when n % 100 > 0 then 'closed' else 'open' end from generate_series(1, 20000) n"
    )
    await world.pool.execute("analyze connection")
    for condition, index in (
        ("device_id = 'd7'", "connection_by_device"),
        ("account_id = 'a7'", "connection_by_account"),
        ("device_id = 'd0' and without_end and outcome = 'open'", "connection_open_by_device"),
        ("account_id = 'a0' and without_end and outcome = 'open'", "connection_open_by_account"),
    ):
        rows = await world.pool.fetch(
            f"explain (costs off) select * from connection_status where {condition}"
            " and (at, connection_id) < (now(), '00000000-0000-0000-0000-000000000000')"
            " order by at desc, connection_id desc limit 20"
        )
        plan = "\n".join(row[0] for row in rows)
        assert f"using {index} on connection" in plan, plan
        assert "Sort" not in plan, plan


async def eventually(condition: Callable[[], Awaitable[bool]], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running(*inboxes: activity.ActivityInbox) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(inbox.run()) for inbox in inboxes]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _provision(world: World) -> None:
    """Make both topics, and wait until the broker serves them."""
    await world.admin.provision(
        [(world.prefix + topic.name, topic.partitions, topic.config) for topic in activity.TOPICS]
    )

    async def led() -> bool:
        try:
            places = await world.admin.partitions([world.prefix + topic.name for topic in activity.TOPICS])
            return len(await world.admin.end_offsets(places)) == 48
        except (KafkaException, KeyError):
            return False

    await eventually(led)


NULL_HEADERS = (("trace", None), ("empty", b""))


async def _send(producer: Producer, *records: Record) -> None:
    """With headers whose values are null and empty, as other producers write them."""
    for record in records:
        key = None if record.key is None else record.key.decode()
        await producer.send(record.topic, key, record.value, NULL_HEADERS)


async def _dead_letters(bootstrap: str, topic: str, count: int) -> dict[bytes | None, bytes | None]:
    async def nothing(_places: set[Partition]) -> None: ...

    found: dict[bytes | None, bytes | None] = {}
    async with Consumer(
        bootstrap, group=f"{topic}-test", topics=[topic], assigned=nothing, revoked=nothing
    ) as consumer:

        async def read() -> bool:
            for records in (await consumer.getmany(timeout_ms=200, max_records=100)).values():
                found.update({item.value: dict(item.headers)["latchkey-error-code"] for item in records})
                assert all(tuple(item.headers[:2]) == NULL_HEADERS for item in records)
            return len(found) >= count

        await eventually(read)
    return found


@pytest.mark.slow
async def test_from_the_topics_poison_goes_aside_and_holds_up_nobody(
    world: World, kafka_bootstrap: str
) -> None:
    await _provision(world)
    refused, used = who(None), who()
    events, presence = (world.prefix + topic.name for topic in activity.TOPICS)
    poison = [
        Record(events, 0, 0, b"cam-1", b'{"half":', (), 0),
        Record(presence, 0, 0, b"not an id", b"other", (), 0),
        world.record(ConnectionOpened(**who("cam-9")), key=b"cam-1"),
        Record(presence, 0, 0, b"cam-1", b"{}", (), 0),
    ]
    closed = world.record(ConnectionClosed(**used, **figures(4)), seconds(8))
    snapshot = world.record(
        PresenceSnapshot(device_id="cam-1", online=True, since=seconds(1), gateway_id="gw-1")
    )
    async with Producer(kafka_bootstrap, "test") as producer:
        await _send(producer, closed, *poison)

        async def told(count: int) -> bool:
            return await world.pool.fetchval("select count(*) from connection") == count

        async with running(world.inbox(), world.inbox()):
            await eventually(lambda: told(1))
            await _send(
                producer, closed, snapshot, world.record(ConnectionRefused(**refused, reason="STALE"))
            )
            await _send(producer, world.record(ConnectionOpened(**used), seconds(2)))
            await eventually(lambda: told(2))

            async def opened() -> bool:
                return (await world.one(used["connection_id"]))["opened_at"] == seconds(2)

            await eventually(opened)
        letters = await _dead_letters(
            kafka_bootstrap, world.prefix + topics.dead_letters("permission-projector").name, 4
        )
        assert letters == {
            b'{"half":': b"MALFORMED",
            b"other": b"UNREADABLE_KEY",
            poison[2].value: b"KEY_MISMATCH",
            b"{}": b"MALFORMED",
        }
        before = await world.tables()
        last = world.record(ConnectionOpened(**who("cam-2")), seconds(5))
        async with running(world.inbox()):
            await _send(producer, last)
            await eventually(lambda: told(3))
    after = await world.tables()
    assert after[1] == before[1] == [("cam-1", True, seconds(1), "gw-1")]
    assert [row for row in after[0] if row in before[0]] == before[0]


@pytest.mark.slow
async def test_topics_that_were_made_anew_are_read_from_their_beginning(
    world: World, kafka_bootstrap: str
) -> None:
    await _provision(world)
    first, second = who("cam-1"), who("cam-1")
    presence = PresenceSnapshot(device_id="cam-1", online=True, since=seconds(1), gateway_id="gw-1")
    names = [world.prefix + topic.name for topic in activity.TOPICS]

    async def told(connections: int, devices: list[str]) -> bool:
        rows = await world.pool.fetch("select device_id from presence")
        count = await world.pool.fetchval("select count(*) from connection")
        return (count, [row["device_id"] for row in rows]) == (connections, devices)

    async with Producer(kafka_bootstrap, "test") as producer:
        await _send(producer, world.record(ConnectionOpened(**first)), world.record(presence))
        async with running(world.inbox()):
            await eventually(lambda: told(1, ["cam-1"]))
    raw: Any = confluent_kafka.admin.AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in raw.delete_topics(names, operation_timeout=10).values():
        await asyncio.wrap_future(future)

    async def gone() -> bool:
        return not set(names) & set((await asyncio.to_thread(raw.list_topics, timeout=10)).topics)

    await eventually(gone)
    await _provision(world)
    async with Producer(kafka_bootstrap, "test") as producer:
        await _send(producer, world.record(ConnectionOpened(**second)))
        await _send(producer, world.record(presence.model_copy(update={"device_id": "cam-2"})))
    async with running(world.inbox()):
        await eventually(lambda: told(2, ["cam-2"]))
