"""Migrated databases, provisioned topics, and the verbs."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from contracts import topics
from permission_projector.generation import ensure_live
from servicekit import pg
from servicekit.kafka import Admin, DeadLetters, KafkaException, Producer, Reader, Record


@dataclass
class Answer:
    """What a verb printed, and its exit code."""

    out: str
    err: str
    code: int

    @property
    def document(self) -> Any:
        assert self.out and not self.err, f"exit code {self.code}: {self.err}"
        return json.loads(self.out)


async def _run(*arguments: str, env: dict[str, str]) -> Answer:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments,
        env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    return Answer(out.decode(), err.decode(), await child.wait())


class Installation:
    """Migrated databases, provisioned topics, and the verbs."""

    def __init__(self, database: Any, bootstrap: str, prefix: str, producer: Producer) -> None:
        self.database, self.bootstrap, self.prefix, self.producer = database, bootstrap, prefix, producer
        self.admin = Admin(bootstrap)
        self.env = {
            "PATH": os.environ["PATH"],
            "COLUMNS": "400",
            "LATCHKEY_KAFKA_BOOTSTRAP": bootstrap,
            "LATCHKEY_TOPIC_PREFIX": prefix,
            "LATCHKEY_POSTGRES_DSN": database.dsn("permission_projector"),
            "LATCHKEY_SHARE_COMMAND_DSN": database.dsn("share_command"),
            "LATCHKEY_NOTIFIER_DSN": database.dsn("notifier"),
        }

    async def ops(self, *arguments: str, **others: str | None) -> Answer:
        """Run ``latchkey ops``; an environment variable of None is taken away."""
        merged = {**self.env, **others}
        env = {name: value for name, value in merged.items() if value is not None}
        return await _run("latchkey_ops", *arguments, env=env)

    async def eventually(self, condition: Callable[[], Awaitable[bool]], within: float = 40) -> None:
        deadline = time.monotonic() + within
        while not await condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.05)

    async def execute(self, statement: str, *arguments: object, role: str = "permission_projector") -> Any:
        connection = await asyncpg.connect(self.database.dsn(role))
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def keep(self, service: str, record: Record, code: str) -> None:
        topic = self.prefix + topics.dead_letters(service).name
        await DeadLetters(self.producer, topic).put(record, code, f"It was {code}.")

    async def sent(self, topic: topics.Topic) -> list[Record]:
        """All records of a topic."""
        places = await self.admin.partitions([self.prefix + topic.name])
        ends = {place: end for place, end in (await self.admin.end_offsets(places)).items() if end}
        found: list[Record] = []
        if not ends:
            return found
        async with Reader(self.bootstrap, ends) as reader, asyncio.timeout(20):
            while len(found) < sum(ends.values()):
                for records in (await reader.getmany(timeout_ms=200, max_records=100)).values():
                    found += records
        return found


@pytest.fixture
async def place(database: Any, kafka_bootstrap: str, topic_prefix: str) -> AsyncGenerator[Installation]:
    for service in ("share_command", "permission_projector", "notifier"):
        await pg.migrate(database.dsn(service), service)
    await ensure_live(database.dsn("permission_projector"))
    async with Producer(kafka_bootstrap, "test") as producer:
        made = Installation(database, kafka_bootstrap, topic_prefix, producer)
        await made.admin.provision(
            [(topic_prefix + topic.name, topic.partitions, topic.config) for topic in topics.TOPICS]
        )
        names = {topic_prefix + topic.name for topic in topics.TOPICS}

        async def led() -> bool:
            try:
                places = await made.admin.partitions(names)
                return len(await made.admin.end_offsets(places)) == len(places)
            except (KafkaException, KeyError):
                return False

        await made.eventually(led)
        yield made


@pytest.fixture
def launch() -> Callable[..., Awaitable[Answer]]:
    """Runs ``./latchkey ops`` with the environment variables given and no others."""

    async def run(*arguments: str, **env: str) -> Answer:
        return await _run("devstack", "ops", *arguments, env={"PATH": os.environ["PATH"], **env})

    return run
