"""The real ``project`` process on a real broker: crashes, two workers, poison, freshness."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from contracts import topics
from contracts.base import new_id
from contracts.codec import encode, envelope
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import (
    AnyShareEvent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, Terms
from contracts.watermarks import TopicEnds, Watermark
from permission_projector.consumer import TOPICS
from permission_projector.generation import LIVE, ensure_live
from permission_projector.projection import Stream, VersionedEvent, project
from permission_projector.settings import NAME
from servicekit import pg
from servicekit.kafka import Admin, Consumer, Headers, KafkaException, Partition, Producer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Workers:
    """Starts and kills workers of one installation, and sees their tables."""

    def __init__(self, bootstrap: str, prefix: str, dsn: str, pool: pg.Pool, producer: Producer) -> None:
        self.bootstrap, self.prefix, self.pool, self.producer = bootstrap, prefix, pool, producer
        self._env = {
            "PATH": os.environ["PATH"],
            "LATCHKEY_POSTGRES_DSN": dsn,
            "LATCHKEY_KAFKA_BOOTSTRAP": bootstrap,
            "LATCHKEY_TOPIC_PREFIX": prefix,
            "LATCHKEY_LOG_LEVEL": "error",
        }
        self.running: list[asyncio.subprocess.Process] = []
        self.admin = Admin(bootstrap)

    async def start(self) -> asyncio.subprocess.Process:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "permission_projector", "project",
            env=self._env, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.running.append(worker)
        return worker

    async def end(self, worker: asyncio.subprocess.Process, sign: signal.Signals) -> int:
        with suppress(ProcessLookupError):
            worker.send_signal(sign)
        self.running.remove(worker)
        return await worker.wait()

    async def send(
        self, topic: topics.Topic, key: str | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        await self.producer.send(self.prefix + topic.name, key, value, headers)

    async def led(self) -> bool:
        """Whether the broker serves the topics that were just made."""
        places = await self.admin.partitions([self.prefix + topic.name for topic in TOPICS])
        try:
            await self.admin.end_offsets(places)
        except KafkaException:
            return False
        return True

    async def caught_up(self) -> bool:
        places = await self.admin.partitions([self.prefix + topic.name for topic in TOPICS])
        ends = {place: end for place, end in (await self.admin.end_offsets(places)).items() if end}
        rows = await self.pool.fetch("select topic, partition, next_offset from kafka_offset")
        return ends == {Partition(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


@pytest.fixture
async def workers(database: Any, kafka_bootstrap: str, topic_prefix: str) -> AsyncGenerator[Workers]:
    dsn = database.dsn("permission_projector")
    await pg.migrate(dsn, "permission_projector")
    await ensure_live(dsn)
    wanted = [*TOPICS, topics.dead_letters("permission-projector")]
    await Admin(kafka_bootstrap).provision(
        [(topic_prefix + topic.name, topic.partitions, topic.config) for topic in wanted]
    )
    async with (
        await pg.open_pool(dsn, application="test", search_path=LIVE) as pool,
        Producer(kafka_bootstrap, "test") as producer,
    ):
        group = Workers(kafka_bootstrap, topic_prefix, dsn, pool, producer)
        await eventually(group.led)
        yield group
        for worker in list(group.running):
            await group.end(worker, signal.SIGKILL)


def _bytes(data: AnyShareEvent, version: int, event_id: UUID) -> bytes:
    message = envelope(data, source="test", time=NOW, version=version)
    return encode(message.model_copy(update={"id": str(event_id)}))


def _life(device: str, rounds: int) -> list[AnyShareEvent]:
    who: dict[str, Any] = {
        "share_id": new_id(), "device_id": device, "contact_id": new_id(), "owner_account_id": "olga",
    }  # fmt: skip
    terms = Terms(scope=AllServices())
    events: list[AnyShareEvent] = []
    for number in range(rounds):
        events += [
            ShareRequested(**who, terms=terms),
            ShareAccepted(**who, account_id=f"account-{number}"),
            ShareChanged(**who, state="active", terms=Terms(scope=AllServices(), scripting=True)),
            ShareRevoked(**who, reason=RevokeReason.BY_OWNER),
        ]
    return events[: -1 if rounds % 2 else None]


async def test_killed_workers_lose_nothing_and_apply_nothing_twice(workers: Workers) -> None:
    """Two workers, each killed in the middle of the load, while a relay repeats what it had sent before."""
    dice = random.Random(7)
    lives = {f"device-{number}": _life(f"device-{number}", 3 + number % 4) for number in range(60)}
    sent: defaultdict[str, list[bytes]] = defaultdict(list)
    expected: dict[str, Stream] = {}
    for device, events in lives.items():
        expected[device] = Stream()
        for event in events:
            entry = VersionedEvent(new_id(), expected[device].version + 1, NOW, event)
            expected[device].advance(project(entry, expected[device]))
            sent[device].append(_bytes(event, entry.version, entry.event_id))
    total = sum(len(values) for values in sent.values())

    async def load() -> None:
        for place in range(max(len(values) for values in sent.values())):
            for device, values in sent.items():
                for again in values[max(0, place - dice.randrange(3)) : place + 1]:
                    await workers.send(topics.SHARE_EVENTS, device, again)

    async def applied(part: float) -> bool:
        return await workers.pool.fetchval("select count(*) from share_event") >= total * part

    first, second = await workers.start(), await workers.start()
    loading = asyncio.create_task(load())
    await eventually(lambda: applied(0.1))
    await workers.end(first, signal.SIGKILL)
    third = await workers.start()
    await eventually(lambda: applied(0.2))
    await workers.end(second, signal.SIGKILL)
    await workers.start()
    await loading
    await eventually(workers.caught_up)
    assert third.returncode is None

    rows = await workers.pool.fetch(
        "select device_id, max(version) as version from share_event group by device_id"
    )
    assert {row["device_id"]: row["version"] for row in rows} == {
        device: stream.version for device, stream in expected.items()
    }
    assert await workers.pool.fetchval("select count(*) from stream_quarantine") == 0
    rows = await workers.pool.fetch("select share_id, state, account_id, invitation_version from share")
    assert {tuple(row) for row in rows} == {
        (share.share_id, share.state, share.account_id, share.invitation_version)
        for stream in expected.values()
        for share in stream.shares.values()
    }
    assert await workers.pool.fetchval("select count(*) from share_event") == total


async def test_a_restarted_worker_goes_on_where_it_was(workers: Workers) -> None:
    async def feed() -> list[Any]:
        return await workers.pool.fetch("select * from change order by id")

    worker = await workers.start()
    for version, event in enumerate(_life("cam-1", 1), start=1):
        await workers.send(topics.SHARE_EVENTS, "cam-1", _bytes(event, version, new_id()))
    await eventually(workers.caught_up)
    before = await feed()
    assert await workers.end(worker, signal.SIGTERM) == 0
    await workers.start()
    await workers.send(topics.DIRECTORY_DEVICES, "pc-2", None)
    await eventually(workers.caught_up)
    assert [row["device_ids"] for row in await feed()] == [*(row["device_ids"] for row in before), ["pc-2"]]


async def _dead_letters(workers: Workers, count: int) -> list[Any]:
    async def nothing(_places: set[Partition]) -> None: ...

    found: list[Any] = []
    async with Consumer(
        workers.bootstrap,
        group=workers.prefix + "reader",
        topics=[workers.prefix + topics.dead_letters("permission-projector").name],
        assigned=nothing,
        revoked=nothing,
    ) as consumer:

        async def read() -> bool:
            for records in (await consumer.getmany(timeout_ms=200, max_records=100)).values():
                found.extend(records)
            return len(found) >= count

        await eventually(read)
    return found


async def test_headers_without_a_value_change_nothing(workers: Workers) -> None:
    """Each topic's records come with them, and one that is poison keeps them."""
    null: Headers = (("trace", None), ("empty", b""))
    await workers.start()
    contact = ContactSnapshot(contact_id=new_id(), address="mailto:ann@example.com")
    device = DeviceSnapshot(
        device_id="cam-1", owner_account_id="olga", name="Camera", kind="camera", services=()
    )
    account = AccountSnapshot(account_id="ann", name="Ann", verified_emails=("ann@example.com",))
    for topic, key, snapshot in (
        (topics.DIRECTORY_CONTACTS, str(contact.contact_id), contact),
        (topics.DIRECTORY_DEVICES, "cam-1", device),
        (topics.DIRECTORY_ACCOUNTS, "ann", account),
    ):
        await workers.send(topic, key, encode(envelope(snapshot, source="test", time=NOW)), null)
    for version, event in enumerate(_life("cam-1", 1), start=1):
        await workers.send(topics.SHARE_EVENTS, "cam-1", _bytes(event, version, new_id()), null)
    ends = {
        topic.name: TopicEnds(topic_id="one", end_offsets=dict.fromkeys(range(topic.partitions), 0))
        for topic in (topics.SHARE_EVENTS, topics.DIRECTORY_DEVICES)
    }
    mark = encode(envelope(Watermark(as_of=NOW, topics=ends), source="test", time=NOW))
    await workers.send(topics.WATERMARKS, None, mark, null)
    await workers.send(topics.DIRECTORY_ACCOUNTS, "bob", b"null", null)
    await eventually(workers.caught_up)
    counts = await workers.pool.fetchrow(
        "select (select count(*) from contact) as contacts, (select count(*) from device) as devices,"
        " (select count(*) from account) as accounts, (select max(version) from share_event) as version,"
        " (select count(*) from watermark) as watermarks, (select count(*) from stream_quarantine) as bad"
    )
    assert counts is not None
    assert tuple(counts) == (1, 1, 1, len(_life("cam-1", 1)), 1, 0)
    (letter,) = await _dead_letters(workers, 1)
    assert tuple(letter.headers[:2]) == null


async def test_poison_is_put_aside_and_holds_up_nobody(workers: Workers) -> None:
    await workers.start()
    await workers.send(topics.SHARE_EVENTS, "cam-1", b'{"half":')
    await workers.send(topics.DIRECTORY_ACCOUNTS, "ann", b"null")
    for version, event in enumerate(_life("cam-1", 1), start=1):
        await workers.send(topics.SHARE_EVENTS, "cam-1", _bytes(event, version, new_id()))
        other = event.model_copy(update={"device_id": "cam-2"})
        await workers.send(topics.SHARE_EVENTS, "cam-2", _bytes(other, version, new_id()))
    await eventually(workers.caught_up)
    rows = await workers.pool.fetch("select device_id, code from stream_quarantine")
    assert [tuple(row) for row in rows] == [("cam-1", "MALFORMED")]
    rows = await workers.pool.fetch("select device_id, max(version) from share_event group by 1")
    assert [tuple(row) for row in rows] == [("cam-2", 3)]
    letters = {letter.value: dict(letter.headers) for letter in await _dead_letters(workers, 2)}
    assert set(letters) == {b'{"half":', b"null"}
    headers = letters[b'{"half":']
    assert headers["latchkey-error-code"] == b"MALFORMED"
    assert headers["latchkey-source-topic"].decode() == workers.prefix + "share.events"


async def test_a_record_without_a_readable_key_stops_its_partition_and_its_freshness(
    workers: Workers,
) -> None:
    await workers.start()

    async def watermark() -> None:
        names = [workers.prefix + topic.name for topic in (topics.SHARE_EVENTS, topics.DIRECTORY_DEVICES)]
        ids = await workers.admin.topic_ids(names)
        ends = await workers.admin.end_offsets(await workers.admin.partitions(names))
        told = Watermark(
            as_of=datetime.now(UTC),
            topics={
                name.removeprefix(workers.prefix): TopicEnds(
                    topic_id=ids[name],
                    end_offsets={place.number: end for place, end in ends.items() if place.topic == name},
                )
                for name in names
            },
        )
        value = encode(envelope(told, source="test", time=NOW))
        await workers.send(topics.WATERMARKS, None, value)

    async def stale() -> set[int]:
        rows = await workers.pool.fetch(
            "select partition from permissions_api.freshness_v1()"
            " where as_of is distinct from (select max(as_of) from watermark)"
        )
        return {row["partition"] for row in rows}

    async def fresh_everywhere() -> bool:
        return await workers.pool.fetchval("select count(*) from watermark") == 1 and not await stale()

    await workers.send(topics.SHARE_EVENTS, "cam-1", _bytes(_life("cam-1", 1)[0], 1, new_id()))
    await watermark()
    await eventually(fresh_everywhere)
    await workers.send(topics.SHARE_EVENTS, None, b"{}")
    for number in range(60):
        device = f"device-{number}"
        await workers.send(topics.SHARE_EVENTS, device, _bytes(_life(device, 1)[0], 1, new_id()))
    ends = await workers.admin.end_offsets(
        [Partition(workers.prefix + topics.SHARE_EVENTS.name, number) for number in range(24)]
    )
    await watermark()

    async def one_is_stale() -> bool:
        return len(await stale()) == 1 and await workers.pool.fetchval("select count(*) from watermark") == 2

    await eventually(one_is_stale)
    (held,) = await stale()
    assert sum(ends.values()) == 62
    rows = await workers.pool.fetch(
        "select partition, next_offset from kafka_offset where topic like '%share.events'"
    )
    reached = {row["partition"]: row["next_offset"] for row in rows}
    behind = [place.number for place, end in ends.items() if reached.get(place.number, 0) < end]
    assert behind == [held]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_the_read_api_serves_and_stops_on_a_signal(
    database: Any, internal_tokens: Any, unused_port: int
) -> None:
    dsn = database.dsn("permission_projector")
    await pg.migrate(dsn, "permission_projector")
    await ensure_live(dsn)
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "permission_projector", "serve",
        env={
            "PATH": os.environ["PATH"],
            "LATCHKEY_POSTGRES_DSN": dsn,
            "LATCHKEY_HTTP_PORT": str(unused_port),
            "LATCHKEY_INTERNAL_KEYS": internal_tokens.public_jwks,
        },
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready)
            headers = {"Authorization": f"Bearer {internal_tokens.token(NAME, 'olga')}"}
            answer = await client.get("/v1/devices", headers=headers)
            assert answer.json() == {"items": [], "total": 0, "hasMore": False, "next": None}
        server.send_signal(signal.SIGTERM)
        assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
