"""Commands from Kafka against a real broker: answers, order, dead letters, offsets, rebalances."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import confluent_kafka
import httpx
import pytest
from faststream.kafka import KafkaBroker

from contracts import codec
from contracts.commands import (
    ChangeShare,
    CommandAccepted,
    CommandRefused,
    RequestShare,
    ResendInvitation,
)
from contracts.topics import TOPICS
from servicekit import pg
from servicekit.kafka import Admin, KafkaError, Producer, Record, partition_of
from share_command.consumer import CommandConsumer
from share_command.handlers import Handlers
from share_command.publisher import Publisher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Start = Callable[[str], tuple[Any, str]]
ReadTopic = Callable[[str], Awaitable[list[Record]]]
ReadRecords = Callable[[str, str], list[Record]]
Until = Callable[..., Awaitable[None]]
Ready = Callable[[str], Awaitable[None]]


def request(command_id: str, *devices: str, actor: str = "owner", **more: Any) -> RequestShare:
    return RequestShare.model_validate(
        {
            "command_id": command_id,
            "actor": actor,
            "device_ids": devices,
            "recipients": ("ann@x.test",),
            **more,
        }
    )


def message(command: codec.Message, **attributes: str) -> bytes:
    return codec.encode(
        codec.envelope(
            command, source="test", time=datetime.now(UTC), correlationid=attributes.get("correlation")
        )
    )


async def answers(read_topic: ReadTopic) -> dict[str | None, list[codec.Envelope]]:
    found: dict[str | None, list[codec.Envelope]] = {}
    for record in await read_topic("share.command-results"):
        envelope = codec.decode(record.value)
        assert isinstance(envelope.data, CommandAccepted | CommandRefused)
        found.setdefault(envelope.data.command_id, []).append(envelope)
    return found


@contextlib.asynccontextmanager
async def serving(pool: pg.Pool, bootstrap: str, prefix: str) -> AsyncGenerator[None]:
    """Commands from Kafka are served in this process."""
    consumer = CommandConsumer(
        broker=KafkaBroker(bootstrap, consumer_only=True, logger=None),
        topic_prefix=prefix,
        handlers=Handlers(pool, lambda: None),
        answers=Publisher(bootstrap, prefix),
        dead_letters=Publisher(bootstrap, prefix),
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_commands_from_kafka(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, producer: Producer,
    prefix: str, internal_tokens: Any,
) -> None:  # fmt: skip
    _, address = start("serve")
    await ready(address)
    topic = prefix + "share.commands"
    await producer.send(topic, "d0", b"\xff not json", [("odd", None), ("binary", b"\xff")])
    known = b'{"specversion":"1.0","id":"m1","type":"latchkey.RequestShare.v1","source":"t",'
    await producer.send(
        topic, "d0", known + b'"time":"2026-01-01T00:00:00Z","data":{"command_id":"bad1","x":1}}'
    )
    await producer.send(topic, "d0", message(request("k1", "d0"), correlation="corr-k1"), [("odd", None)])
    await producer.send(topic, "d0", message(request("k1", "d0"), correlation="corr-k1b"))
    await producer.send(topic, "d0", message(request("k1", "d0", scripting=True)))
    await producer.send(topic, "foreign", message(request("k2", "foreign")))
    await producer.send(topic, "d0", None)
    await producer.send(topic, "d0", message(request("k3", "d0", scripting=True)))

    async def all_answered() -> bool:
        return {"bad1", "k1", "k2", "k3"} <= (await answers(read_topic)).keys()

    await until(all_answered)
    found = await answers(read_topic)
    assert set(found) == {"bad1", "k1", "k2", "k3"}
    kinds = [type(envelope.data).__name__ for envelope in found["k1"]]
    assert kinds == ["CommandAccepted", "CommandAccepted", "CommandRefused"]
    assert [envelope.correlationid for envelope in found["k1"][:2]] == ["corr-k1", "corr-k1b"]
    assert all(envelope.causationid for envelope in found["k1"])
    conflict, unreadable, foreign = found["k1"][2].data, found["bad1"][0], found["k2"][0].data
    assert isinstance(conflict, CommandRefused)
    assert conflict.code == "IDEMPOTENCY_CONFLICT"
    assert isinstance(unreadable.data, CommandRefused)
    assert (unreadable.data.code, unreadable.causationid) == ("INVALID_DATA", "m1")
    assert isinstance(foreign, CommandRefused)
    assert (foreign.code, foreign.device_id) == ("DEVICE_NOT_FOUND", "foreign")
    assert {record.key for record in await read_topic("share.command-results")} == {b"d0", b"foreign"}
    correlations = await pool.fetch("select envelope ->> 'correlationid' as id from event order by version")
    assert correlations[0]["id"] == "corr-k1"

    letters = await read_topic("share-command.dead-letters")
    assert [dict(item.headers)["latchkey-error-code"] for item in letters] == [
        b"MALFORMED", b"INVALID_DATA", b"MALFORMED",
    ]  # fmt: skip
    assert letters[0].value == b"\xff not json"
    assert dict(letters[0].headers)["binary"] == b"\xff"
    assert dict(letters[0].headers)["latchkey-source-topic"] == topic.encode()
    assert letters[2].value is None

    async with httpx.AsyncClient(base_url=address) as client:  # the same command over the other way in
        headers = {"Authorization": f"Bearer {internal_tokens.token('share-command', 'owner')}"}
        body = {"command_id": "k1", "device_ids": ["d0"], "recipients": ["ann@x.test"]}
        answer = await client.post("/v1/commands/RequestShare", json=body, headers=headers)
        first = found["k1"][0].data
        assert isinstance(first, CommandAccepted)
        assert answer.json() == json.loads(first.model_dump_json())
    assert await pool.fetchval("select count(*) from event") == 2


async def test_a_refusal_tells_what_the_sender_needs_to_go_on(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, kafka_bootstrap: str, prefix: str, producer: Producer, until: Until, read_topic: ReadTopic
) -> None:
    handlers = Handlers(pool, lambda: None)
    await handlers.handle(request("k1", "d0"))
    share_id = await pool.fetchval("select share_id from share")
    named: dict[str, Any] = {"actor": "owner", "device_id": "d0", "share_id": share_id}
    async with serving(pool, kafka_bootstrap, prefix):
        topic = prefix + "share.commands"
        await producer.send(topic, "d0", message(ResendInvitation(command_id="k2", **named)))
        change = {"command_id": "k3", "expected_version": 7, "terms": {"scope": {"kind": "all"}}, **named}
        await producer.send(topic, "d0", message(ChangeShare.model_validate(change)))

        async def answered() -> bool:
            return {"k2", "k3"} <= (await answers(read_topic)).keys()

        await until(answered)
    found = await answers(read_topic)
    early, changed = found["k2"][0].data, found["k3"][0].data
    assert isinstance(early, CommandRefused)
    assert early.code == "RATE_LIMITED"
    assert 0 < (early.retry_after_seconds or 0) <= 60
    assert isinstance(changed, CommandRefused)
    assert (changed.code, changed.state, changed.version) == ("CONFLICT", "requested", 1)
    assert changed.terms is not None
    assert not [record for record in await read_topic("share-command.dead-letters")]


async def test_commands_wait_for_the_database(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, database: Any, start: Start, ready: Ready, until: Until, read_topic: ReadTopic,
    producer: Producer, prefix: str,
) -> None:  # fmt: skip
    """While nobody may log in nothing is answered, lost or put aside; then all is, in order."""
    _, address = start("serve")
    await ready(address)
    admin = await asyncpg.connect(database.dsn())
    try:
        await admin.execute("alter role share_command nologin")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'share_command'"
        )
        for number in range(5):
            command = request(f"w{number}", "d0", scripting=bool(number % 2))
            await producer.send(prefix + "share.commands", "d0", message(command))

        async def waits() -> bool:
            async with httpx.AsyncClient() as client:
                text = (await client.get(f"{address}/metrics")).text
            return "\nshare_command_retries_total 0.0" not in text

        await until(waits)
        assert await answers(read_topic) == {}
    finally:
        await admin.execute("alter role share_command login")
        await admin.close()

    async def all_answered() -> bool:
        return len(await answers(read_topic)) == 5

    await until(all_answered)
    found = await answers(read_topic)
    assert list(found) == [f"w{number}" for number in range(5)]
    positions = [
        item[0].data.positions for item in found.values() if isinstance(item[0].data, CommandAccepted)
    ]
    assert [str(position) for (position,) in positions] == [f"d0@{number}" for number in range(1, 6)]
    assert await read_topic("share-command.dead-letters") == []


async def test_a_dead_letter_that_the_broker_refuses_for_good_holds_nothing_up(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, producer: Producer, kafka_bootstrap: str, topic_prefix: str, until: Until,
    read_records: Callable[[str, str], list[Record]],
) -> None:  # fmt: skip
    small = {"max.message.bytes": "1000"}
    await Admin(kafka_bootstrap).provision(
        [
            (topic_prefix + topic.name, 1, small if topic.name == "share-command.dead-letters" else {})
            for topic in TOPICS
        ]
    )
    await producer.send(topic_prefix + "share.commands", "d0", b"x" * 5000)
    await producer.send(topic_prefix + "share.commands", "d0", message(request("k1", "d0")))

    async def answered() -> bool:
        return bool(
            await asyncio.to_thread(read_records, kafka_bootstrap, topic_prefix + "share.command-results")
        )

    async with serving(pool, kafka_bootstrap, topic_prefix):
        await until(answered)


async def test_a_command_ended_for_its_length_holds_nothing_up(  # noqa: PLR0917 - fixtures
    dsn: str, pool: pg.Pool, until: Until, read_topic: ReadTopic, producer: Producer, prefix: str,
    kafka_bootstrap: str,
) -> None:  # fmt: skip
    impatient = await pg.open_pool(
        dsn, application="test", settings={"idle_in_transaction_session_timeout": "8ms"}
    )
    many = tuple(f"p{number}@x.test" for number in range(1000))
    topic = prefix + "share.commands"
    await producer.send(topic, "d0", message(request("long", "d0", recipients=many)))
    await producer.send(topic, "d0", message(request("short", "foreign")))

    async def all_answered() -> bool:
        return {"long", "short"} <= (await answers(read_topic)).keys()

    try:
        async with serving(impatient, kafka_bootstrap, prefix):
            await until(all_answered)
    finally:
        impatient.terminate()
    (long,), (short,) = (await answers(read_topic)).values()
    assert isinstance(long.data, CommandRefused)
    assert isinstance(short.data, CommandRefused)
    assert (long.data.code, short.data.code) == ("TIMED_OUT", "DEVICE_NOT_FOUND")
    letters = await read_topic("share-command.dead-letters")
    assert [dict(item.headers)["latchkey-error-code"] for item in letters] == [b"TIMED_OUT"]
    assert await pool.fetchval("select count(*) from event") == 0


async def test_keys_of_one_partition_do_not_wait_for_each_other(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, producer: Producer, kafka_bootstrap: str, topic_prefix: str, until: Until,
    read_records: ReadRecords,
) -> None:  # fmt: skip
    """A device that somebody holds locked: others go on, and nothing behind it is committed."""
    await Admin(kafka_bootstrap).provision([(topic_prefix + topic.name, 1, {}) for topic in TOPICS])
    topic = topic_prefix + "share.commands"

    async def ids() -> list[str | None]:
        records = await asyncio.to_thread(
            read_records, kafka_bootstrap, topic_prefix + "share.command-results"
        )
        found = [codec.decode(record.value).data for record in records]
        return [item.command_id for item in found if isinstance(item, CommandAccepted | CommandRefused)]

    async def has(*wanted: str) -> bool:
        return set(wanted) <= set(await ids())

    async with serving(pool, kafka_bootstrap, topic_prefix):
        await producer.send(topic, "d0", message(request("first", "d0")))
        await until(lambda: has("first"))
        async with pool.acquire() as holder:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("set local idle_in_transaction_session_timeout = 0")
            await holder.execute("select from device_stream where device_id = 'd0' for update")
            for number in range(3):
                await producer.send(
                    topic,
                    "d0",
                    message(request(f"held{number}", "d0", recipients=("bob@x.test",), scripting=True)),
                )
                free = request(f"free{number}", "foreign", actor="rival", scripting=True)
                await producer.send(topic, "foreign", message(free))
            await until(lambda: has("free0", "free1", "free2"))
            assert await ids() == ["first", "free0", "free1", "free2"], "none of the held device's"
            assert await committed(kafka_bootstrap, topic_prefix) <= 1
            await transaction.rollback()
        await until(lambda: has("held0", "held1", "held2"))
        assert (await ids())[-3:] == ["held0", "held1", "held2"]

        async def all_committed() -> bool:
            return await committed(kafka_bootstrap, topic_prefix) == 7

        await until(all_committed)


async def committed(bootstrap: str, prefix: str, partition: int = 0) -> int:
    """The group's offset."""
    group = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"{prefix}share-command", "log_level": 0}
    )
    try:
        asked = [confluent_kafka.TopicPartition(prefix + "share.commands", partition)]
        found = await asyncio.to_thread(group.committed, asked, 10)
        return found[0].offset
    finally:
        group.close()


async def test_a_dead_letter_topic_that_is_away_holds_up_its_partition_only(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, producer: Producer, kafka_bootstrap: str, topic_prefix: str, until: Until,
    read_records: ReadRecords,
) -> None:  # fmt: skip
    letters = topic_prefix + "share-command.dead-letters"
    await Admin(kafka_bootstrap).provision(
        [(topic_prefix + topic.name, 2, {}) for topic in TOPICS if topic_prefix + topic.name != letters]
    )
    topic = topic_prefix + "share.commands"
    bad = partition_of(b"d0", 2)
    good = next(f"d{number}" for number in range(40) if partition_of(f"d{number}".encode(), 2) != bad)
    await producer.send(topic, "d0", b"poison")
    await producer.send(topic, "d0", message(request("behind", "d0")))
    for number in range(5):
        await producer.send(topic, good, message(request(f"g{number}", good, scripting=bool(number % 2))))

    async def others_go_on() -> bool:
        return await committed(kafka_bootstrap, topic_prefix, 1 - bad) == 5

    async def all_done() -> bool:
        return await committed(kafka_bootstrap, topic_prefix, bad) == 2

    async with serving(pool, kafka_bootstrap, topic_prefix):
        await until(others_go_on)
        assert await committed(kafka_bootstrap, topic_prefix, bad) < 1
        await Admin(kafka_bootstrap).provision([(letters, 1, {})])
        await until(all_done)
    (letter,) = await asyncio.to_thread(read_records, kafka_bootstrap, letters)
    assert letter.value == b"poison"


async def test_a_second_member_takes_over_partitions_in_the_middle(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, until: Until, read_topic: ReadTopic, producer: Producer, prefix: str, kafka_bootstrap: str
) -> None:
    """Each command ran once, in the order of its key, whoever served it."""
    rounds = 25
    async with serving(pool, kafka_bootstrap, prefix):
        for number in range(rounds):
            for device in range(8):
                command = request(f"c{device}-{number}", f"d{device}", scripting=bool(number % 2))
                await producer.enqueue(prefix + "share.commands", f"d{device}", message(command))

        async def some_answered() -> bool:
            return len(await answers(read_topic)) > 10

        await until(some_answered)
        async with serving(pool, kafka_bootstrap, prefix):

            async def all_answered() -> bool:
                return len(await answers(read_topic)) == rounds * 8

            await until(all_answered)
    found = await answers(read_topic)
    for device in range(8):
        mine = [name for name in found if name and name.startswith(f"c{device}-")]
        assert mine == [f"c{device}-{number}" for number in range(rounds)]
    assert await pool.fetchval("select count(*) from event") == rounds * 8


async def test_an_answer_that_the_broker_refuses_for_good_takes_no_other_with_it(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    await Admin(kafka_bootstrap).provision(
        [(topic_prefix + "share.command-results", 1, {"max.message.bytes": "2000"})]
    )
    publisher = Publisher(kafka_bootstrap, topic_prefix)

    def answer(text: str) -> asyncio.Future[None]:
        result = CommandRefused(command_id="c", code="X", message=text)
        return publisher.answer("d0", codec.envelope(result, source="test", time=datetime.now(UTC)))

    try:
        given = [answer("a"), answer("b" * 5000), answer("c")]
        done = await asyncio.wait_for(asyncio.gather(*given, return_exceptions=True), 30)
    finally:
        await publisher.close()
    assert [type(item) for item in (done[0], done[2])] == [type(None)] * 2
    assert isinstance(done[1], KafkaError)
