"""A migrated database with devices and accounts, provisioned topics, and real processes."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from contracts import codec, topics
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from servicekit import pg
from servicekit.kafka import Admin, Producer, Record
from share_command.directory import Directory

DEVICES = 40


@pytest.fixture
async def dsn(database: Any) -> str:
    """A migrated database."""
    text: str = database.dsn("share_command")
    await pg.migrate(text, "share_command")
    return text


@pytest.fixture
async def pool(dsn: str) -> AsyncGenerator[pg.Pool]:
    """Where owner has the devices d0 … d39 with services d0-ssh and d0-web …, and rival has foreign."""
    pool = await pg.open_pool(dsn, application="test", max_size=20)
    records = [
        _snapshot(
            topics.DIRECTORY_DEVICES.name,
            name,
            DeviceSnapshot(
                device_id=name,
                owner_account_id=owner,
                name=f"Device {name}",
                kind="camera",
                services=tuple(
                    Service(
                        service_id=f"{name}-{service}",
                        name=service,
                        protocol="tcp",
                        target=Target(host="127.0.0.1", port=22),
                    )
                    for service in ("ssh", "web")
                ),
            ),
        )
        for name, owner in [*((f"d{n}", "owner") for n in range(DEVICES)), ("foreign", "rival")]
    ] + [
        _snapshot(
            topics.DIRECTORY_ACCOUNTS.name,
            name,
            AccountSnapshot(account_id=name, name=name.title(), verified_emails=(f"{name}@x.test",)),
        )
        for name in ("owner", "rival", "ann", "bob", "eve")
    ]

    async def refuse(_record: Record, code: str, message: str) -> None:
        raise AssertionError(f"{code}: {message}")

    directory = Directory("", refuse)
    async with pool.acquire() as connection, connection.transaction():
        await directory.apply(connection, records)
    yield pool
    await pool.close()


def _snapshot(topic: str, key: str, data: DeviceSnapshot | AccountSnapshot) -> Record:
    message = codec.Envelope.model_validate(
        {
            "id": key,
            "type": codec.type_name(type(data)),
            "source": "registry",
            "time": "2026-01-01T00:00:00Z",
            "data": data,
        }
    )
    return Record(topic, 0, 0, key.encode(), codec.encode(message), (), 0)


@pytest.fixture
async def prefix(kafka_bootstrap: str, topic_prefix: str) -> str:
    """Prefix of provisioned topics."""
    await Admin(kafka_bootstrap).provision(
        [(topic_prefix + topic.name, topic.partitions, topic.config) for topic in topics.TOPICS]
    )
    return topic_prefix


@pytest.fixture
async def producer(kafka_bootstrap: str) -> AsyncGenerator[Producer]:
    """For messages of the test's own."""
    async with Producer(kafka_bootstrap, "test") as producer:
        yield producer


def _read(bootstrap: str, topic: str) -> list[Record]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.partition.eof": True,
         "enable.auto.commit": False, "log_level": 0}
    )  # fmt: skip
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        ended: set[int | None] = set()
        records: list[Record] = []
        while len(ended) < len(partitions):
            message = consumer.poll(10)
            assert message is not None, "the broker does not answer"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error  # pyright: ignore[reportPrivateUsage] - its public name
                ended.add(message.partition())
                continue
            key, value = message.key(), message.value()
            records.append(
                Record(
                    topic,
                    message.partition() or 0,
                    message.offset() or 0,
                    key.encode() if isinstance(key, str) else key,
                    value.encode() if isinstance(value, str) else value,
                    tuple(_headers(message)),
                    message.timestamp()[1],
                )
            )
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


@pytest.fixture
def read_records() -> Callable[[str, str], list[Record]]:
    """All records so far of a topic of a broker (bootstrap, topic), partition by partition; blocks."""
    return _read


@pytest.fixture
def read_topic(kafka_bootstrap: str, prefix: str) -> Callable[[str], Awaitable[list[Record]]]:
    """All records so far of a topic (named without prefix), partition by partition."""

    async def read(topic: str) -> list[Record]:
        return await asyncio.to_thread(_read, kafka_bootstrap, prefix + topic)

    return read


def _headers(message: Any) -> list[tuple[str, bytes | None]]:
    return list(message.headers() or [])


@pytest.fixture
def environment(dsn: str, kafka_bootstrap: str, prefix: str, internal_tokens: Any) -> dict[str, str]:
    """Settings of real processes."""
    return {
        "PATH": os.environ["PATH"],
        "LATCHKEY_POSTGRES_DSN": dsn,
        "LATCHKEY_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "LATCHKEY_TOPIC_PREFIX": prefix,
        "LATCHKEY_INTERNAL_KEYS": internal_tokens.public_jwks,
        "LATCHKEY_LINK_SECRET": "s" * 32,
    }


@pytest.fixture
def start(
    environment: dict[str, str], tmp_path: Path
) -> Generator[Callable[[str], tuple[subprocess.Popen[bytes], str]]]:
    """Start ``share-command <verb>``: the process, and its address once it is alive."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(verb: str) -> tuple[subprocess.Popen[bytes], str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        with (tmp_path / f"{verb}-{len(running)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "share_command", verb],
                env={**environment, "LATCHKEY_HTTP_PORT": str(port)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        running.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until a question is answered with yes, at most 40 s."""

    async def wait(question: Callable[[], Awaitable[object]], seconds: float = 40) -> None:
        async with asyncio.timeout(seconds):
            while not await question():  # noqa: ASYNC110 - what is asked happens in other processes
                await asyncio.sleep(0.05)

    return wait


@pytest.fixture
def ready(until: Callable[..., Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
    """Wait until the process at an address is ready."""

    async def wait(address: str) -> None:
        async with httpx.AsyncClient() as client:

            async def asks() -> bool:
                try:
                    return (await client.get(f"{address}/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(asks)

    return wait
