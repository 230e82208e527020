"""One installation of the projector on a real broker: its topics, its database, its processes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from contracts import topics
from contracts.base import new_id
from contracts.codec import Message, encode, envelope
from contracts.directory import DeviceSnapshot, Service, StreamPaths, Target
from contracts.events import AnyShareEvent
from contracts.permissions import Permission
from contracts.watermarks import TopicEnds, Watermark
from permission_projector.consumer import TOPICS
from servicekit import pg
from servicekit.kafka import Admin, KafkaException, Partition, Producer

THIS_RELEASE = (sys.executable, "-m", "permission_projector")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMPARED = (
    "share_event", "stream_quarantine", "share", "device", "service", "device_quarantine", "account",
    "account_address", "contact", "watermark", "kafka_offset",
)  # fmt: skip


@dataclass
class Ran:
    """A verb that has ended; ``answer`` is the last JSON line."""

    code: int
    lines: list[dict[str, Any]]
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        return self.lines[-1]


@dataclass
class Place:
    """One installation: its topics, its database, its processes."""

    database: Any
    bootstrap: str
    prefix: str
    pool: pg.Pool
    producer: Producer
    admin: Admin
    running: list[asyncio.subprocess.Process] = field(default_factory=list[asyncio.subprocess.Process])
    acknowledged: list[asyncio.Future[object]] = field(default_factory=list[asyncio.Future[object]])

    @property
    def dsn(self) -> str:
        return self.database.dsn("permission_projector")

    async def start(
        self, *arguments: str, release: Sequence[str] = THIS_RELEASE
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *release, *arguments,
            env={
                "PATH": os.environ["PATH"],
                "LATCHKEY_POSTGRES_DSN": self.dsn,
                "LATCHKEY_KAFKA_BOOTSTRAP": self.bootstrap,
                "LATCHKEY_TOPIC_PREFIX": self.prefix,
                "LATCHKEY_LOG_LEVEL": "error",
            },
            stdout=asyncio.subprocess.DEVNULL if arguments == ("project",) else asyncio.subprocess.PIPE,
            stderr=None if arguments == ("project",) else asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.running.append(process)
        return process

    async def end(self, process: asyncio.subprocess.Process, sign: signal.Signals) -> int:
        with suppress(ProcessLookupError):
            process.send_signal(sign)
        self.running.remove(process)
        return await process.wait()

    async def run(self, *arguments: str, release: Sequence[str] = THIS_RELEASE) -> Ran:
        process = await self.start(*arguments, "--json", release=release)
        out, err = await process.communicate()
        self.running.remove(process)
        return Ran(process.returncode or 0, [json.loads(line) for line in out.splitlines()], err.decode())

    async def raw(self, topic: topics.Topic, key: str | None, value: bytes | None) -> None:
        self.acknowledged.append(await self.producer.enqueue(self.prefix + topic.name, key, value))

    async def event(self, data: AnyShareEvent, version: int, event_id: UUID | None = None) -> bytes:
        value = bytes_of(data, version, event_id)
        await self.raw(topics.SHARE_EVENTS, data.device_id, value)
        return value

    async def sent(self) -> None:
        waiting, self.acknowledged = self.acknowledged, []
        await asyncio.gather(*waiting)

    async def watermark(self) -> None:
        names = [self.prefix + topic.name for topic in (topics.SHARE_EVENTS, topics.DIRECTORY_DEVICES)]
        ids = await self.admin.topic_ids(names)
        ends = await self.admin.end_offsets(await self.admin.partitions(names))
        told = Watermark(
            as_of=datetime.now(UTC),
            topics={
                name.removeprefix(self.prefix): TopicEnds(
                    topic_id=ids[name],
                    end_offsets={place.number: end for place, end in ends.items() if place.topic == name},
                )
                for name in names
            },
        )
        await self.raw(topics.WATERMARKS, None, bytes_of(told))
        await self.sent()

    async def led(self) -> bool:
        """Whether the broker serves the topics that were just made."""
        try:
            await self.admin.end_offsets(
                await self.admin.partitions([self.prefix + topic.name for topic in TOPICS])
            )
        except KafkaException:
            return False
        return True

    async def caught_up(self) -> bool:
        places = await self.admin.partitions([self.prefix + topic.name for topic in TOPICS])
        ends = {place: end for place, end in (await self.admin.end_offsets(places)).items() if end}
        rows = await self.pool.fetch("select topic, partition, next_offset from kafka_offset")
        return ends == {Partition(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def rows(self, schema: str) -> dict[str, list[Any]]:
        """Every row of a generation, but the feed."""
        answer: dict[str, list[Any]] = {}
        for table in COMPARED:
            rows = await self.pool.fetch(f"select to_jsonb(t) as row from {schema}.{table} as t")
            answer[table] = sorted((json.loads(row["row"]) for row in rows), key=str)
        return answer

    async def schemas(self) -> set[str]:
        rows = await self.pool.fetch("select nspname from pg_namespace where nspname like 'permissions%'")
        return {row["nspname"] for row in rows} - {"permissions_api"}

    async def live_number(self) -> int:
        return await self.pool.fetchval("select number from permissions.generation")

    async def reason(self, account: str, service: str) -> str:
        connection = await asyncpg.connect(self.database.dsn("access_gateway"))
        try:
            return await connection.fetchval(
                "select reason from permissions_api.check_grant_v2($1, $2, 'connect', now())",
                account,
                service,
            )
        finally:
            await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def bytes_of(data: Message, version: int | None = None, event_id: UUID | None = None) -> bytes:
    message = envelope(data, source="test", time=NOW, version=version, correlationid=f"request-{version}")
    return encode(message.model_copy(update={"id": str(event_id or new_id())}))


def device(device_id: str, owner: str, services: int = 1, name: str = "Camera") -> DeviceSnapshot:
    return DeviceSnapshot(
        device_id=device_id,
        owner_account_id=owner,
        name=name,
        kind="camera",
        services=tuple(
            Service(
                service_id=f"{device_id}-{number}",
                name=f"Service {number}",
                protocol="tcp",
                target=Target(host="10.0.0.1", port=22 + number),
                permissions=frozenset({Permission.CONNECT}),
                stream=StreamPaths(live=f"/{number}", recording="/tracks") if number % 2 else None,
            )
            for number in range(services)
        ),
        created_at=NOW,
    )
