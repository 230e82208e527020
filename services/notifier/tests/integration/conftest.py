"""A notifier of real processes on a real broker, database and mail server."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from contracts import codec, topics
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot, Service, Target
from contracts.events import AnyShareEvent, ConnectionOpened, ShareRequested
from contracts.permissions import AllServices, Permission, Terms
from devstack.process import free_port
from devstack.pytest_plugin import Database, InternalTokenMaker
from devstack.smtp import Mail, Mailbox
from servicekit import pg
from servicekit.kafka import Admin, Producer

sys.path.insert(0, str(Path(__file__).parent))  # `providers`, which several tests use

SECRET = "a-secret-for-tests-of-forty-characters-xx"
PUBLIC_URL = "http://127.0.0.1:8080"


class Gate:
    """A way to the mail server that holds, cuts or lets pass.

    ``hold_at`` is (a part of) the command before which a connection waits until `open` (empty: at its start);
    ``drop`` so many connections are closed at once; ``lose_answers`` so many answers to a whole mail never
    reach the client.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._opened, self.reached = asyncio.Event(), asyncio.Event()
        self._opened.set()
        self._hold_at = b""
        self.drop, self.lose_answers = 0, 0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Gate"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._opened.set()
            server.close()

    def close(self, hold_at: bytes = b"") -> None:
        self._hold_at = hold_at
        self._opened.clear()
        self.reached.clear()

    def open(self) -> None:
        self._opened.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.drop:
                self.drop -= 1
                return
            await self._hold(b"")
            inner_reader, inner_writer = await asyncio.open_connection(
                self._mailbox.smtp_host, self._mailbox.smtp_port
            )
            answers = asyncio.create_task(self._answers(inner_reader, writer))
            try:
                while line := await reader.readline():
                    await self._hold(line.strip())
                    inner_writer.write(line)
            finally:
                inner_writer.close()
                await answers
        except OSError:
            pass  # the client was killed
        finally:
            writer.close()

    async def _hold(self, command: bytes) -> None:
        holds = self._hold_at in command if self._hold_at else not command
        if holds and not self._opened.is_set():
            self.reached.set()
            await self._opened.wait()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if b"Kept as" in line and self.lose_answers:
                    self.lose_answers -= 1
                    writer.transport.abort()
                    return
                writer.write(line)
        except OSError:
            pass  # the client was killed


@dataclass
class Running:
    """One notifier process and its log."""

    process: asyncio.subprocess.Process
    log: Path
    url: str

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    async def metric(self, name: str) -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics")).text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@dataclass
class World:
    """Everything around the notifier, and the acts of those who use it."""

    bootstrap: str
    prefix: str
    database: Database
    mailbox: Mailbox
    gate: Gate
    producer: Producer
    admin: Admin
    pool: "asyncpg.Pool[asyncpg.Record]"
    directory: Path
    tokens: InternalTokenMaker
    running: list[Running] = field(default_factory=list[Running])
    versions: dict[str, int] = field(default_factory=dict[str, int])

    def env(self, **settings: object) -> dict[str, str]:
        chosen: dict[str, object] = {
            "postgres_dsn": self.database.dsn("notifier"),
            "kafka_bootstrap": self.bootstrap,
            "topic_prefix": self.prefix,
            "public_url": PUBLIC_URL,
            "link_secret": SECRET,
            "mail_from": "Latchkey <no-reply@example.com>",
            "smtp_host": "127.0.0.1",
            "smtp_port": self.gate.port,
            "smtp_tls": "none",
            "internal_keys": self.tokens.public_jwks,
            "digest_seconds": 0,
            "delivery_poll_seconds": 0.1,
            "claim_seconds": 2,
            "retry_first_seconds": 0.1,
            "facts_retry_seconds": 0.1,
            **settings,
        }
        return {
            "PATH": os.environ["PATH"],
            **{f"LATCHKEY_{name.upper()}": str(value) for name, value in chosen.items()},
        }

    async def start(self, **settings: object) -> Running:
        """Start a process and wait until it is ready."""
        port = free_port()
        log = self.directory / f"notifier-{len(self.running)}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "notifier", "serve",
                env=self.env(http_port=port, **settings), stdout=out, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        one = Running(process, log, f"http://127.0.0.1:{port}")
        self.running.append(one)

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()
            async with httpx.AsyncClient() as client:
                try:
                    return (await client.get(f"{one.url}/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

        await self.until(ready)
        return one

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 - what is waited for is outside this process
                await asyncio.sleep(0.02)

    async def publish(self, topic: topics.Topic, key: str, value: bytes | None) -> None:
        await self.producer.send(self.prefix + topic.name, key, value)

    async def device(self, device_id: str, name: str, **services: str) -> None:
        snapshot = DeviceSnapshot(
            device_id=device_id,
            owner_account_id="ann",
            name=name,
            kind="camera",
            services=tuple(
                Service(service_id=item, name=said, protocol="tcp", target=Target(host="127.0.0.1", port=1))
                for item, said in services.items()
            ),
        )
        await self.publish(topics.DIRECTORY_DEVICES, device_id, _bytes(snapshot))

    async def account(
        self, account_id: str, name: str, *addresses: str, phones: tuple[str, ...] = ()
    ) -> None:
        snapshot = AccountSnapshot(
            account_id=account_id, name=name, verified_emails=addresses, verified_phones=phones
        )
        await self.publish(topics.DIRECTORY_ACCOUNTS, account_id, _bytes(snapshot))

    async def contact(self, address: str, contact_id: UUID | None = None) -> UUID:
        canonical = address if address.startswith("tel:") else f"mailto:{address}"
        snapshot = ContactSnapshot(contact_id=contact_id or uuid4(), address=canonical)
        await self.publish(topics.DIRECTORY_CONTACTS, str(snapshot.contact_id), _bytes(snapshot))
        return snapshot.contact_id

    async def event(
        self, event: AnyShareEvent, *, correlation: str | None = None, causation: str | None = None
    ) -> bytes:
        """Publish the next event of a device."""
        version = self.versions[event.device_id] = self.versions.get(event.device_id, 0) + 1
        value = _bytes(event, version=version, correlationid=correlation, causationid=causation)
        await self.publish(topics.SHARE_EVENTS, event.device_id, value)
        return value

    async def invite(
        self,
        contact_id: UUID,
        *,
        device_id: str = "cam-1",
        notify: bool = True,
        terms: Terms | None = None,
        correlation: str | None = None,
        expires_at: datetime | None = None,
        causation: str | None = None,
    ) -> ShareRequested:
        event = ShareRequested(
            share_id=uuid4(),
            device_id=device_id,
            contact_id=contact_id,
            owner_account_id="ann",
            terms=terms or Terms(scope=AllServices()),
            notify=notify,
            expires_at=expires_at,
        )
        await self.event(event, correlation=correlation, causation=causation)
        return event

    async def opened(self, event: ShareRequested, account_id: str) -> None:
        """The gateway tells of a connection by a share."""
        told = ConnectionOpened(
            connection_id=uuid4(), gateway_id="g", account_id=account_id, service_id="s1",
            device_id=event.device_id, permission=Permission.CONNECT, share_id=event.share_id,
        )  # fmt: skip
        await self.publish(topics.ACCESS_EVENTS, event.device_id, _bytes(told))

    async def ask(self, one: Running, account_id: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask a process's HTTP API for an account."""
        headers = {"Authorization": f"Bearer {self.tokens.token('notifier', account_id)}"}
        async with httpx.AsyncClient() as client:
            return await client.request(method, f"{one.url}/v1/{path}", headers=headers, **more)

    async def inbox(self, one: Running, account_id: str) -> list[str]:
        """The kinds in an inbox, the newest first."""
        answer = (await self.ask(one, account_id, "GET", "inbox")).raise_for_status()
        return [item["kind"] for item in answer.json()["items"]]

    async def marker(self, device_id: str = "cam-1") -> None:
        """Invite somebody else, later, to the same device, and wait for that mail."""
        address = f"marker-{uuid4().hex[:8]}@example.com"
        await self.invite(await self.contact(address), device_id=device_id)
        await self.mails(address)

    async def mails(self, address: str, count: int = 1) -> list[Mail]:
        return await self.mailbox.wait_for(address, count, timeout=30)

    async def deliveries(self, contact_id: UUID) -> list[asyncpg.Record]:
        """What became of the notices to a contact: of each delivery, or of the notice that has none."""
        return await self.pool.fetch(
            "select coalesce(d.state, n.outcome, 'waits') as state, coalesce(d.code, n.code) as code,"
            " coalesce(d.attempts, 0) as attempts, coalesce(d.due_at, n.route_at) as due_at, n.waits,"
            " n.template, d.channel, n.outside"
            " from notifier.notice as n left join notifier.delivery as d using (notice_id)"
            " where n.contact_id = $1 and n.account_id is null order by n.version, d.channel",
            contact_id,
        )

    async def settled(self, contact_id: UUID, state: str) -> asyncpg.Record:
        """Wait until the one notice to a contact has come to ``state``."""

        async def there() -> bool:
            return [row["state"] for row in await self.deliveries(contact_id)] == [state]

        await self.until(there)
        return (await self.deliveries(contact_id))[0]


def _bytes(
    data: codec.Message,
    *,
    version: int | None = None,
    correlationid: str | None = None,
    causationid: str | None = None,
) -> bytes:
    return codec.encode(
        codec.envelope(
            data, source="test", time=datetime.now(UTC), version=version, correlationid=correlationid,
            causationid=causationid,
        )
    )  # fmt: skip


@pytest.fixture
async def world(  # noqa: PLR0917 - fixtures
    kafka_bootstrap: str,
    topic_prefix: str,
    database: Database,
    mailbox: Mailbox,
    tmp_path: Path,
    internal_tokens: InternalTokenMaker,
) -> AsyncGenerator[World]:
    """Topics, migrated tables, one device `cam-1` of Ann's, and a mail server behind a gate."""
    mailbox.clear()
    admin = Admin(kafka_bootstrap)
    wanted = (
        topics.SHARE_EVENTS,
        topics.DIRECTORY_DEVICES,
        topics.DIRECTORY_ACCOUNTS,
        topics.DIRECTORY_CONTACTS,
        topics.ACCESS_EVENTS,
        topics.dead_letters("notifier"),
    )
    await admin.provision(
        [(topic_prefix + item.name, min(item.partitions, 4), item.config) for item in wanted]
    )
    pool = await asyncpg.create_pool(database.dsn(), min_size=1, max_size=2)
    async with Gate(mailbox).running() as gate, Producer(kafka_bootstrap, "test") as producer:
        world = World(
            kafka_bootstrap, topic_prefix, database, mailbox, gate, producer, admin, pool, tmp_path,
            internal_tokens,
        )  # fmt: skip
        await pg.migrate(database.dsn("notifier"), "notifier")
        await world.account("ann", "Ann Example", "ann@example.com")
        await world.device("cam-1", "Front door", s1="Porch", s2="SSH")
        try:
            yield world
        finally:
            for one in world.running:
                if one.process.returncode is None:
                    one.kill()
                await one.process.wait()
            await pool.close()
