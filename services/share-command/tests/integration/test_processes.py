"""Real processes against a real broker: HTTP, commands from Kafka, directories, the relay; and kill -9."""

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from faststream.kafka import KafkaBroker

from contracts import codec
from contracts.commands import CommandAccepted, CommandRefused, RequestShare, RevokeShare
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.events import ShareEvent
from contracts.links import InvitationLink, sign_link
from contracts.topics import TOPICS
from contracts.watermarks import Watermark
from devstack import kafka
from devstack.process import free_port, spawn, stop
from servicekit import pg
from servicekit.kafka import Admin, Producer, Record
from share_command.consumer import CommandConsumer, Publisher
from share_command.handlers import Handlers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Start = Callable[[str], tuple[subprocess.Popen[bytes], str]]
ReadTopic = Callable[[str], Awaitable[list[Record]]]
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


async def sent_events(read_topic: ReadTopic) -> list[codec.Envelope]:
    return [codec.decode(record.value) for record in await read_topic("share.events")]


async def outbox_is_empty(pool: pg.Pool) -> bool:
    return not await pool.fetchval("select exists (select from outbox)")


async def assert_whole_and_in_order(pool: pg.Pool, read_topic: ReadTopic) -> None:
    """Each stored event was sent at least once, and for each device the first sendings are in order."""
    versions: dict[str, list[int]] = {}
    ids: set[str] = set()
    for envelope in await sent_events(read_topic):
        assert isinstance(envelope.data, ShareEvent)
        assert envelope.version is not None
        known = versions.setdefault(envelope.data.device_id, [])
        if envelope.version not in known:
            known.append(envelope.version)
        ids.add(envelope.id)
    stored = await pool.fetch("select device_id, version, event_id from event order by device_id, version")
    assert ids == {str(row["event_id"]) for row in stored}
    expected: dict[str, list[int]] = {}
    for row in stored:
        expected.setdefault(row["device_id"], []).append(row["version"])
    assert versions == expected


async def toggle(client: httpx.AsyncClient, internal_tokens: Any, device: str, rounds: int, run: str) -> int:
    """Share and revoke, over and over, with fixed command ids; the same id again until it is answered."""
    done = 0
    for number in range(rounds):
        for name in ("RequestShare", "RevokeShare"):
            body = {"command_id": f"{run}-{device}-{number}-{name}", "device_ids": [device],
                    "recipients": ["ann@x.test"]}  # fmt: skip
            headers = {"Authorization": f"Bearer {internal_tokens.token('share-command', 'owner')}"}
            while True:
                try:
                    answer = await client.post(f"/v1/commands/{name}", json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                assert answer.status_code == 200, answer.text
                done += 1
                break
    return done


async def test_http(
    pool: pg.Pool, start: Start, ready: Ready, internal_tokens: Any, read_topic: ReadTopic
) -> None:
    _, address = start("serve")
    await ready(address)

    def token(account: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {internal_tokens.token('share-command', account)}"}

    async with httpx.AsyncClient(base_url=address) as client:
        body = {"command_id": "h1", "device_ids": ["d0"], "recipients": ["Ann@x.test"]}
        answer = await client.post("/v1/commands/RequestShare", json=body, headers=token("owner"))
        assert (answer.status_code, answer.json()) == (200, {"command_id": "h1", "positions": ["d0@1"]})
        assert answer.headers["latchkey-position"] == "d0@1"
        assert answer.headers["x-correlation-id"]

        for wrong, status, code in (
            (body | {"scripting": True}, 409, "IDEMPOTENCY_CONFLICT"),
            (body | {"command_id": "h2", "servces": []}, 422, "INVALID_REQUEST"),
            (body | {"command_id": "h2", "actor": "rival"}, 422, "INVALID_REQUEST"),
            (body | {"command_id": "h2", "device_ids": ["foreign"]}, 404, "DEVICE_NOT_FOUND"),
            (body | {"command_id": "h3", "recipients": ["nonsense"]}, 422, "INVALID_EMAIL"),
        ):
            answer = await client.post("/v1/commands/RequestShare", json=wrong, headers=token("owner"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["recipient"] == "nonsense"
        for headers in ({}, {"Authorization": "Bearer x.y.z"}):
            answer = await client.post("/v1/commands/RequestShare", json=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
        answer = await client.post("/v1/commands/RequestShare", content=b"{", headers=token("owner"))
        assert answer.json()["error"]["code"] == "INVALID_REQUEST"

        body = {"command_id": "h4", "device_ids": ["d1"], "recipients": ["bob@x.test"]}
        await client.post("/v1/commands/RequestShare", json=body, headers=token("owner"))
        book = (await client.get("/v1/contacts", headers=token("owner"))).json()["contacts"]
        assert [entry["address"] for entry in book] == ["bob@x.test", "ann@x.test"]
        assert (await client.get("/v1/contacts", headers=token("ann"))).json() == {"contacts": []}

        row = await pool.fetchrow("select share_id, contact_id from share where device_id = 'd0'")
        assert row is not None
        link = InvitationLink(
            share_id=row["share_id"], device_id="d0", contact_id=row["contact_id"], invitation_version=1,
            purpose="accept", ends_at=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip

        async def follow(account: str, link: InvitationLink, secret: str = "s" * 32) -> httpx.Response:
            return await client.post(
                "/v1/invitation-links", json={"token": sign_link(link, secret)}, headers=token(account)
            )

        answer = await follow("ann", link)
        assert answer.json() == {
            "share_id": str(row["share_id"]), "device_id": "d0", "device_name": "Device d0",
            "owner_name": "Owner", "state": "requested", "invitation_version": 1, "purpose": "accept",
            "terms": {"scope": {"kind": "all", "permissions": "all"}, "scripting": False},
            "service_names": {}, "changed_since_link": False,
        }  # fmt: skip
        listed = {"command_id": "h6", "device_ids": ["d2"], "recipients": ["ann@x.test"]}
        listed |= {"services": [{"service_id": "d2-web"}]}
        await client.post("/v1/commands/RequestShare", json=listed, headers=token("owner"))
        share_id = await pool.fetchval("select share_id from share where device_id = 'd2'")
        answer = await follow("ann", link.model_copy(update={"share_id": share_id, "device_id": "d2"}))
        assert answer.json()["service_names"] == {"d2-web": "web"}

        older = link.model_copy(update={"ends_at": datetime.now(UTC) - timedelta(seconds=1)})
        other = link.model_copy(update={"device_id": "d1"})
        refused = [
            await follow("eve", link), await follow("owner", link), await follow("ann", older),
            await follow("ann", other), await follow("ann", link, "x" * 32),
        ]  # fmt: skip
        assert {item.status_code for item in refused} == {404}
        assert len({item.text for item in refused}) == 1, "each the same answer"

        accept = {"command_id": "h5", "device_id": "d0", "share_id": str(row["share_id"])}
        answer = await client.post(
            "/v1/commands/AcceptShare", json=accept | {"invitation_version": 7}, headers=token("ann")
        )
        assert answer.status_code == 409
        assert answer.json()["error"]["invitation_version"] == 1
        assert answer.json()["error"]["terms"]["scope"] == {"kind": "all", "permissions": "all"}
        schema = (await client.get("/openapi.json")).json()
        properties = schema["components"]["schemas"]["RequestShareBody"]["properties"]
        assert "services" in properties
        assert "actor" not in properties
        assert "share_commands_total" in (await client.get("/metrics")).text


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
        dsn, application="test", settings={"idle_in_transaction_session_timeout": "20ms"}
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


async def test_directories(  # noqa: PLR0917 - fixtures
    dsn: str, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, producer: Producer, prefix: str
) -> None:
    devices, accounts = prefix + "directory.devices", prefix + "directory.accounts"
    pool = await pg.open_pool(dsn, application="test")
    device = DeviceSnapshot(device_id="x1", owner_account_id="owner", name="X", kind="computer")
    await producer.send(devices, "x0", message(device.model_copy(update={"device_id": "x0"})))
    await producer.send(devices, "x1", b"poison")
    await producer.send(devices, "other-key", message(device))
    await producer.send(devices, "x1", message(device))
    await producer.send(devices, "x0", None)
    await producer.send(devices, "x\0", None)
    await producer.send(devices, "x 1", None)
    await producer.send(accounts, "ann/eve", None)
    account = AccountSnapshot(
        account_id="ann", name="Ann", verified_emails=("Ann@X.test", "old@x.test", "no")
    )
    await producer.send(accounts, "ann", message(account))
    await producer.send(
        accounts, "ann", message(account.model_copy(update={"verified_emails": ("ann@x.test",)}))
    )
    start("serve")

    async def tables() -> tuple[set[str], set[str]]:
        return (
            {row["device_id"] for row in await pool.fetch("select device_id from device")},
            {row["address"] for row in await pool.fetch("select address from account_address")},
        )

    async def applied() -> bool:
        ends = await pool.fetchval("select sum(next_offset) from kafka_offset")
        return ends == 10 and await tables() == ({"x1"}, {"mailto:ann@x.test"})

    await until(applied)
    letters = await read_topic("share-command.dead-letters")
    codes = sorted(dict(item.headers)["latchkey-error-code"] or b"" for item in letters)
    assert codes == [*[b"INVALID_DATA"] * 4, b"MALFORMED"]
    await pool.close()


async def test_relay_killed_under_load(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, internal_tokens: Any
) -> None:
    """Two relays; the active one is killed, the next one hangs. Nothing lost, nothing out of order."""
    _, address = start("serve")
    relays = [start("relay"), start("relay")]
    for _, relay_address in relays:
        await ready(relay_address)
    await ready(address)

    async def active() -> subprocess.Popen[bytes] | None:
        async with httpx.AsyncClient() as client:
            for process, relay_address in relays:
                with contextlib.suppress(httpx.TransportError):  # killed, or not yet up
                    text = (await client.get(f"{relay_address}/metrics")).text
                    if "outbox_relay_active 1.0" in text:
                        return process
        return None

    async def sends() -> bool:
        return bool(await sent_events(read_topic))

    async with httpx.AsyncClient(base_url=address) as client:
        load = asyncio.gather(
            *(toggle(client, internal_tokens, f"d{number}", 15, "load") for number in range(8))
        )
        await until(active)
        await until(sends)
        killed = await active()
        assert killed is not None
        killed.kill()
        killed.wait(10)
        relays.append(start("relay"))
        await load

    async def empty() -> bool:
        return await outbox_is_empty(pool)

    await until(empty)
    await assert_whole_and_in_order(pool, read_topic)
    assert await pool.fetchval("select count(*) from event") == 8 * 15 * 2

    await ready(relays[-1][1])
    stopped = await active()  # one that hangs must not keep the lock
    assert stopped is not None
    stopped.send_signal(signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=address) as client:
            await toggle(client, internal_tokens, "d9", 3, "after")
        await until(empty)
    finally:
        stopped.send_signal(signal.SIGCONT)
    await assert_whole_and_in_order(pool, read_topic)


async def test_service_killed_under_load(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, internal_tokens: Any,
    producer: Producer, prefix: str,
) -> None:  # fmt: skip
    """The same command ids again after kill -9, over HTTP and Kafka: each ran once."""
    process, address = start("serve")
    await ready(address)
    names = [f"k{number}" for number in range(40)]
    for number, name in enumerate(names):
        device = f"d{20 + number % 10}"
        kind = RequestShare if number // 10 % 2 == 0 else RevokeShare
        command = kind(command_id=name, actor="owner", device_ids=(device,), recipients=("ann@x.test",))
        await (await producer.enqueue(prefix + "share.commands", device, message(command)))

    async def begun(least: int) -> bool:
        return await pool.fetchval("select count(*) from event") >= least

    async with httpx.AsyncClient(base_url=address) as client:
        load = [
            asyncio.create_task(toggle(client, internal_tokens, f"d{number}", 8, "run"))
            for number in range(5)
        ]
        await until(lambda: begun(30))
        process.kill()
        process.wait(10)
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    _, address = start("serve")
    _, relay = start("relay")
    await ready(address)
    await ready(relay)
    async with httpx.AsyncClient(base_url=address) as client:
        await asyncio.gather(
            *(toggle(client, internal_tokens, f"d{number}", 8, "run") for number in range(5))
        )

    async def answered() -> bool:
        return set(names) <= (await answers(read_topic)).keys() and await outbox_is_empty(pool)

    await until(answered)
    assert await pool.fetchval("select count(*) from event") == 5 * 8 * 2 + 40
    per_command = "select count(distinct command_id) from event"
    assert await pool.fetchval(per_command) == 5 * 8 * 2 + 40, "no command gave two events"
    await assert_whole_and_in_order(pool, read_topic)


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
