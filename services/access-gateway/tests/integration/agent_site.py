"""A gateway with a door for agents, real agents and some of our own, and what is told of their presence."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contracts import codec, topics
from contracts.directory import PresenceSnapshot
from servicekit.kafka import Admin, Consumer, Partition

if TYPE_CHECKING:
    from conftest import Gateways, Running  # pyright: ignore[reportMissingImports]

    from devstack.certificates import Files
    from devstack.pytest_plugin import Database

AGENT = Path(__file__).parents[4] / "agent" / "latchkey-agent.py"
PYTHON = os.environ.get("LATCHKEY_TEST_AGENT_PYTHON", sys.executable)
"""Which interpreter runs the agents: it must work with any from 3.9 on."""
LOGIN_WAITS = """
    select count(*) from pg_stat_activity
    where application_name = 'access-gateway agents' and wait_event_type = 'Lock'
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for what is true of this process."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Process:
    """A running agent; `lines` is what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.lines = process, list[str]()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())

    async def says(self, text: str) -> None:
        try:
            await until(lambda: any(text in line for line in self.lines))
        except TimeoutError:
            raise AssertionError(f"never said {text!r}: {self.lines}") from None

    async def exits(self) -> int:
        async with asyncio.timeout(20):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(sign)
        return await self.exits()


class Agents:
    """A gateway with a door for agents, and agents at it."""

    def __init__(self, gateway: "Running", port: int, ca: Path, directory: Path, dsn: str) -> None:
        self.gateway, self.port, self.ca, self.directory, self.dsn = gateway, port, ca, directory, dsn
        self.processes: list[Process] = []

    async def code(self, device_id: str, account_id: str = "owner") -> str:
        answer = await self.ask(device_id, account_id)
        assert answer.status_code == 201, answer.text
        return answer.json()["code"]

    async def ask(self, device_id: str, account_id: str = "owner") -> Any:
        return await self.gateway.http.post(
            "/v1/agent-codes", json={"device_id": device_id}, headers=self.gateway.headers(account_id)
        )

    async def remove(self, device_id: str, account_id: str = "owner") -> int:
        path = f"/v1/agents/{device_id}"
        return (await self.gateway.http.delete(path, headers=self.gateway.headers(account_id))).status_code

    async def start(self, name: str, *arguments: str, gateway: str | None = None) -> Process:
        process = Process(
            await asyncio.create_subprocess_exec(
                PYTHON, str(AGENT), "--verbose", "--ca", str(self.ca),
                "--state", str(self.directory / f"{name}.json"),
                "--gateway", gateway or f"localhost:{self.port}", *arguments,
                stderr=asyncio.subprocess.PIPE,
            )
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def enrolled(self, name: str, device_id: str, *arguments: str) -> Process:
        process = await self.start(name, "--code", await self.code(device_id), *arguments)
        await process.says("Connected")
        return process

    async def end(self) -> None:
        for process in self.processes:
            if process.process.returncode is None:
                await process.stop(signal.SIGKILL)


class Told:
    """What `directory.presence` says, as a reader that keeps the latest ``since``."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.now: dict[str, PresenceSnapshot | None] = {}

    async def until(self, device_id: str, online: bool | None, gateway_id: str | None = None) -> None:
        async with asyncio.timeout(40):
            while not self._is(device_id, online, gateway_id):
                for records in (await self._consumer.getmany(timeout_ms=100, max_records=100)).values():
                    for record in records:
                        self._add((record.key or b"").decode(), record.value)

    def _is(self, device_id: str, online: bool | None, gateway_id: str | None) -> bool:
        if device_id not in self.now:
            return False
        found = self.now[device_id]
        if found is None or online is None:
            return found is None and online is None
        return found.online is online and gateway_id in (None, found.gateway_id)

    def _add(self, device_id: str, value: bytes | None) -> None:
        if value is None:
            self.now[device_id] = None
            return
        snapshot = codec.decode(value).data
        assert isinstance(snapshot, PresenceSnapshot)
        before = self.now.get(device_id)
        if before is None or snapshot.since >= before.since:
            self.now[device_id] = snapshot


@pytest.fixture
async def presence_topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    topic = topics.DIRECTORY_PRESENCE
    await Admin(kafka_bootstrap).provision([(topic_prefix + topic.name, topic.partitions, topic.config)])
    return topic_prefix + topic.name


@pytest.fixture
async def agents(
    gateways: "Gateways",
    presence_topic: str,
    certificates: "Files",
    tmp_path: Path,
    database: "Database",
) -> AsyncIterator[Agents]:
    del presence_topic  # it must be there before
    port = free_port()
    gateway = await gateways.start(
        agent_port=port, tls_cert_file=certificates.certificate, tls_key_file=certificates.key,
        connect_seconds=4.0, target_networks="",
    )  # fmt: skip
    made = Agents(gateway, port, certificates.ca, tmp_path, database.dsn("access_gateway"))
    yield made
    await made.end()


@pytest.fixture
async def told(kafka_bootstrap: str, presence_topic: str) -> AsyncGenerator[Told]:
    async def ignore(_places: set[Partition]) -> None: ...

    async with Consumer(
        kafka_bootstrap, group=f"{presence_topic}.test", topics=[presence_topic],
        assigned=ignore, revoked=ignore,
    ) as consumer:  # fmt: skip
        yield Told(consumer)


async def echoes(agents: Agents, account_id: str, service_id: str, data: bytes = b"ping") -> None:
    opened = await agents.gateway.open(account_id, service_id)
    reader, writer = await agents.gateway.connect(opened["port"])
    try:
        writer.write(data)
        async with asyncio.timeout(15):
            assert await reader.readexactly(len(data)) == data
    finally:
        writer.close()


async def ends(reader: asyncio.StreamReader) -> None:
    """Wait until a stream is cut, whatever was still on its way."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1_000_000):
                pass


async def talk(agents: Agents) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the door, as an agent of our own makes one."""
    trusting = ssl.create_default_context(cafile=agents.ca)
    return await asyncio.open_connection("localhost", agents.port, ssl=trusting)


async def said(reader: asyncio.StreamReader) -> Any:
    async with asyncio.timeout(20):
        line = await reader.readline()
    return json.loads(line) if line else None


async def logged_in(agents: Agents, device_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An agent of our own: it never dials back unless the test does."""
    reader, writer = await talk(agents)
    writer.write(await enrolled(agents, device_id))
    assert (await said(reader))["type"] == "welcome"
    return reader, writer


async def enrolled(agents: Agents, device_id: str) -> bytes:
    """What an agent of our own logs in with."""
    hello = {"protocol": 1, "key": base64.urlsafe_b64encode(os.urandom(32)).decode()[:43], "instance": "test"}
    reader, writer = await talk(agents)
    writer.write(line(type="enrol", code=await agents.code(device_id), **hello))
    assert (await said(reader))["type"] == "welcome"
    writer.close()
    return line(type="login", device_id=device_id, **hello)


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


async def talk_when_there_is_room(
    agents: Agents,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await talk(agents)
            except (OSError, ssl.SSLError):
                await asyncio.sleep(0.1)
