"""What is killed: processes of two services, on a broker and a database of their own."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from contracts import codec, topics
from contracts.commands import AnyCommand
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from devstack import kafka, postgres
from devstack.process import Process, free_port, listens, spawn, stop, wait_until
from devstack.pytest_plugin import InternalTokenMaker
from permission_projector.generation import ensure_live
from servicekit import pg
from servicekit.kafka import Admin, Producer

DEVICES, OWNERS = 12, 2
RECIPIENTS = ("ravi", "tess", "eve")
DATABASE = "crashes"

PROCESSES = (
    ("share-command", "serve", 2),
    ("share-command", "relay", 2),
    ("permission-projector", "project", 2),
)
"""Service, verb, and how many of it."""


@dataclass
class Server:
    """A broker or a database that can be stopped and started again."""

    process: Process
    child: "subprocess.Popen[bytes]"

    def signal(self, sign: signal.Signals) -> None:
        """To all of its processes."""
        os.killpg(self.child.pid, sign)

    async def restart(self, seconds: float) -> None:
        """Stop it as an operator would, and start it after that time: connections are refused meanwhile."""
        await asyncio.to_thread(stop, self.child, self.process)
        await asyncio.sleep(seconds)
        self.child = spawn(self.process)


@dataclass
class Slot:
    """One of the processes, whichever its incarnation is."""

    service: str
    verb: str
    port: int
    log: Path
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    ready: bool = False
    kills: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.ready = False
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.service.replace("-", "_"), self.verb],
                env=self.environment, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended by itself: {self.log.read_text()[-3000:]}"
        self.process.kill()
        self.process.wait()
        self.kills += 1


@dataclass
class World:
    """All that is killed, and what was asked of it."""

    database: Server
    broker: Server
    bootstrap: str
    cluster: postgres.Cluster
    slots: list[Slot]
    tokens: InternalTokenMaker
    answers: dict[str, tuple[AnyCommand, "tuple[int, object] | None"]] = field(
        default_factory=dict[str, tuple[AnyCommand, "tuple[int, object] | None"]]
    )
    """Command id → the command, and the answer over HTTP: status, and positions or code."""
    by_kafka: set[str] = field(default_factory=set[str])
    attempts: int = 0
    stopping: bool = False

    def of(self, verb: str) -> list[Slot]:
        """The processes of a verb."""
        return [slot for slot in self.slots if slot.verb == verb]

    @asynccontextmanager
    async def connect(self, role: str = "share_command") -> AsyncGenerator[Any]:
        """A connection of a service's role."""
        connection = await asyncpg.connect(self.cluster.dsn(DATABASE, role))
        try:
            yield connection
        finally:
            await connection.close()

    async def projector(self, *arguments: str) -> int:
        """Run a verb of the projector; its exit code."""
        environment = self.of("project")[0].environment
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "permission_projector", *arguments,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        if process.returncode:
            print(out.decode()[-3000:])  # noqa: T201 - what differs
        return process.returncode or 0


@contextlib.contextmanager
def _server(process: Process, port: int, ready: Any) -> Any:
    child = spawn(process)
    wait_until(lambda: listens(child.pid, port) and ready(), child, process, 60)
    server = Server(process, child)
    try:
        yield server
    finally:
        server.signal(signal.SIGCONT)
        stop(server.child, process)


@asynccontextmanager
async def crash_world(directory: Path, tokens: InternalTokenMaker) -> AsyncGenerator[World]:
    """Everything runs, and the directories are known."""
    kafka_port, postgres_port = free_port(), free_port()
    bootstrap = f"127.0.0.1:{kafka_port}"
    kafka.prepare(directory / "kafka", port=kafka_port, controller_port=free_port())
    passwords = postgres.new_passwords()
    data = directory / "postgres" / "data"
    postgres.prepare(data, passwords[postgres.SUPERUSER])
    cluster = postgres.Cluster(postgres_port, passwords)
    broker = _server(
        kafka.process(directory / "kafka", directory / "kafka.log"),
        kafka_port,
        lambda: kafka.is_ready(bootstrap),
    )
    database = _server(
        postgres.process(data, port=postgres_port, log=directory / "postgres.log"),
        postgres_port,
        cluster.is_ready,
    )
    with broker as kafka_server, database as postgres_server:
        world = World(postgres_server, kafka_server, bootstrap, cluster, [], tokens)
        cluster.create(DATABASE)
        await pg.migrate(cluster.dsn(DATABASE, "share_command"), "share_command")
        await pg.migrate(cluster.dsn(DATABASE, "permission_projector"), "permission_projector")
        await ensure_live(cluster.dsn(DATABASE, "permission_projector"))
        await Admin(bootstrap).provision(
            [(topic.name, topic.partitions, topic.config) for topic in topics.TOPICS]
        )
        await _fill_directories(bootstrap)
        link_secret = secrets.token_hex(20)
        for service, verb, count in PROCESSES:
            for number in range(count):
                port = free_port()
                environment = {
                    "PATH": os.environ["PATH"],
                    "LATCHKEY_POSTGRES_DSN": cluster.dsn(DATABASE, service.replace("-", "_")),
                    "LATCHKEY_KAFKA_BOOTSTRAP": bootstrap,
                    "LATCHKEY_INTERNAL_KEYS": tokens.public_jwks,
                    "LATCHKEY_LINK_SECRET": link_secret,
                    "LATCHKEY_COMMANDS_PER_MINUTE": "1000000",
                    "LATCHKEY_HTTP_PORT": str(port),
                }
                slot = Slot(service, verb, port, directory / f"{verb}-{number}.log", environment)
                slot.start()
                world.slots.append(slot)
        try:
            yield world
        finally:
            for slot in world.slots:
                if slot.process is not None and slot.process.poll() is None:
                    slot.process.kill()
                    slot.process.wait()


def device(number: int, owner: int, services: str = "ab") -> DeviceSnapshot:
    """One of the devices as its registry tells of it."""
    return DeviceSnapshot(
        device_id=f"d{number}", owner_account_id=f"owner{owner}", name=f"Device {number}", kind="computer",
        services=tuple(
            Service(
                service_id=f"d{number}-{name}", name=name, protocol="tcp",
                target=Target(host="127.0.0.1", port=9),
            )
            for name in services
        ),
    )  # fmt: skip


async def _fill_directories(bootstrap: str) -> None:
    people = [*(f"owner{number}" for number in range(OWNERS)), *RECIPIENTS]
    async with Producer(bootstrap, "registry") as producer:
        for person in people:
            snapshot = AccountSnapshot(
                account_id=person, name=person.title(), verified_emails=(f"{person}@x.test",)
            )
            await producer.send(topics.DIRECTORY_ACCOUNTS.name, person, encoded(snapshot))
        for number in range(DEVICES):
            snapshot = device(number, number % OWNERS)
            await producer.send(topics.DIRECTORY_DEVICES.name, snapshot.device_id, encoded(snapshot))


def encoded(data: codec.Message) -> bytes:
    """As an upstream service writes it."""
    return codec.encode(codec.envelope(data, source="test", time="2026-01-01T00:00:00Z"))  # pyright: ignore[reportArgumentType] - pydantic reads it
