"""A migrated database with devices and accounts, provisioned topics, and real processes."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts import codec, topics
from contracts.commands import AcceptShare, AnyCommand, CommandAccepted
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from devstack.records import read_all
from servicekit import pg
from servicekit.auth import InternalCallers
from servicekit.http import create_app
from servicekit.kafka import Admin, Producer, Record
from share_command import http
from share_command.directory import Directory
from share_command.domain import Rules
from share_command.handlers import Expiry, Handlers, Limits, system_clock
from share_command.settings import Settings

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

    directory = Directory("", refuse, committed=lambda: None, clock=system_clock)
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


@pytest.fixture
def read_records() -> Callable[[str, str], list[Record]]:
    """All records so far of a topic of a broker (bootstrap, topic), partition by partition; blocks."""
    return read_all


@pytest.fixture
def read_topic(kafka_bootstrap: str, prefix: str) -> Callable[[str], Awaitable[list[Record]]]:
    """All records so far of a topic (named without prefix), partition by partition."""

    async def read(topic: str) -> list[Record]:
        return await asyncio.to_thread(read_all, kafka_bootstrap, prefix + topic)

    return read


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


class World:
    """The deciding side on a real database, with a clock that stands until it is moved."""

    def __init__(self, pool: pg.Pool, public_jwks: str, token: Callable[[str, str], str]) -> None:
        self.pool, self._public_jwks, self._token = pool, public_jwks, token
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        self.handlers = self.with_limits()

    def clock(self) -> datetime:
        """The time."""
        return self.now

    def later(self, **units: float) -> datetime:
        """Move the clock on."""
        self.now += timedelta(**units)
        return self.now

    def token(self, account: str) -> str:
        """An internal token for the account."""
        return self._token("share-command", account)

    def with_limits(self, **limits: int) -> Handlers:
        """Handlers with limits of their own."""
        return Handlers(
            self.pool, lambda: None, clock=self.clock, rules=Rules(), limits=Limits(**limits)
        )  # fmt: skip

    def expiry(self) -> Expiry:
        """One instance of those that end what is overdue."""
        return Expiry(self.pool, lambda: None, self.clock)

    async def handle(
        self, kind: type[AnyCommand], command_id: str, actor: str, **fields: Any
    ) -> CommandAccepted:
        """Run a command."""
        command = kind.model_validate({"command_id": command_id, "actor": actor, **fields})
        return await self.handlers.handle(command)

    async def invitation(self, device_id: str, actor: str = "ann") -> dict[str, Any]:
        """What is accepted of the one open invitation to the device that names the actor's address."""
        row = await self.pool.fetchrow(
            "select share_id, invitation_version from share join contact using (contact_id)"
            " where device_id = $1 and state = 'requested' and address = $2",
            device_id, f"mailto:{actor}@x.test",
        )  # fmt: skip
        assert row is not None
        named = {
            "command_id": f"accept-{row['share_id']}-{row['invitation_version']}",
            "device_id": device_id,
        }
        return {**named, **dict(row)}

    async def accept(self, device_id: str, actor: str = "ann") -> CommandAccepted:
        """The actor accepts that invitation."""
        invitation = await self.invitation(device_id, actor)
        return await self.handle(AcceptShare, invitation.pop("command_id"), actor, **invitation)

    async def directory(self, *changes: DeviceSnapshot | AccountSnapshot | tuple[str, str]) -> None:
        """Apply snapshots in one batch; a pair of "device" or "account" and an id deletes."""
        records: list[Record] = []
        for offset, change in enumerate(changes):
            if isinstance(change, tuple):
                topic = topics.DIRECTORY_DEVICES if change[0] == "device" else topics.DIRECTORY_ACCOUNTS
                records.append(Record(topic.name, 0, offset, change[1].encode(), None, (), 0))
            elif isinstance(change, DeviceSnapshot):
                records.append(_snapshot(topics.DIRECTORY_DEVICES.name, change.device_id, change))
            else:
                records.append(_snapshot(topics.DIRECTORY_ACCOUNTS.name, change.account_id, change))

        async def refuse(_record: Record, code: str, message: str) -> None:
            raise AssertionError(f"{code}: {message}")

        applier = Directory("", refuse, committed=lambda: None, clock=self.clock)
        async with self.pool.acquire() as connection, connection.transaction():
            await applier.apply(connection, records)

    @staticmethod
    def device(name: str, *services: str, owner: str = "owner") -> DeviceSnapshot:
        """A snapshot: a device with the services ``<name>-<service>``."""
        target = Target(host="127.0.0.1", port=22)
        return DeviceSnapshot(
            device_id=name, owner_account_id=owner, name=f"Device {name}", kind="camera",
            services=tuple(
                Service(service_id=f"{name}-{service}", name=service, protocol="tcp", target=target)
                for service in services
            ),
        )  # fmt: skip

    async def events(self, device_id: str | None = None) -> list[codec.Envelope]:
        """Every event, device by device."""
        rows = await self.pool.fetch(
            "select envelope from event where $1::text is null or device_id = $1 order by device_id, version",
            device_id,
        )
        return [codec.decode(row["envelope"].encode()) for row in rows]

    async def said(self, device_id: str | None = None) -> list[str]:
        """The events in short: a name, and the reason if it has one."""
        return [
            ":".join([type(message.data).__name__, *filter(None, [getattr(message.data, "reason", None)])])
            for message in await self.events(device_id)
        ]

    async def dump(self) -> dict[str, list[str]]:
        """Every row of every table."""
        tables = await self.pool.fetch("select table_name from information_schema.tables"
                                       " where table_schema = 'share_command'")  # fmt: skip
        assert len(tables) > 10
        return {
            row["table_name"]: sorted(
                str(item["row"])
                for item in await self.pool.fetch(f"select t::text as row from {row['table_name']} t")
            )
            for row in tables
        }

    async def live(self) -> list[tuple[str, str]]:
        """Device and state of each live share."""
        rows = await self.pool.fetch(
            "select device_id, state from share where state in ('requested', 'active') order by 1, 2"
        )
        return [(row["device_id"], row["state"]) for row in rows]

    @asynccontextmanager
    async def api(
        self, account: str, *, handlers: Handlers | None = None, **settings: Any
    ) -> AsyncGenerator[httpx.AsyncClient]:
        """The HTTP API as an account's caller sees it."""
        app = create_app("share-command", {})
        http.add_routes(
            app,
            handlers=handlers or self.handlers,
            caller=InternalCallers(self._public_jwks, "share-command"),
            settings=Settings.model_validate(
                {
                    "postgres_dsn": "postgresql://unused@127.0.0.1/x",
                    "kafka_bootstrap": "127.0.0.1:1",
                    "internal_keys": self._public_jwks,
                    "link_secret": "s" * 32,
                    **settings,
                }
            ),
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://test",
            headers={"Authorization": f"Bearer {self.token(account)}"},
        ) as client:
            yield client


@pytest.fixture
def world(pool: pg.Pool, internal_tokens: Any) -> World:
    """The deciding side, and what a test asks of it."""
    return World(pool, internal_tokens.public_jwks, internal_tokens.token)
