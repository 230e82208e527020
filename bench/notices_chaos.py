"""Invitations while everything breaks: kills of the notifier, restarts of the broker, redeliveries,
duplicates, and a mail server that says "later" to each tenth recipient. None may be lost; each repeat must be
one of the stated window: the mail server had said 250, and the process was killed before it had marked that.

    .venv/bin/python bench/notices_chaos.py [--mails 5000] [--kills 200] [--broker-restarts 3]
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from subprocess import Popen
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import httpx
from _servers import Servers
from aiosmtpd.smtp import SMTP, Envelope, Session

from contracts import codec, topics
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import ShareRequested
from contracts.permissions import AllServices, Terms
from devstack import kafka, mailpit
from devstack.keys import new_internal_key
from devstack.process import Process, free_port, listens, run_tool
from servicekit.kafka import Admin, KafkaError, Producer

INSTANCES = 3
LATER_PERCENT = 10
WINDOW_SECONDS = 2.0
"""Between the server's 250 and a kill, on a machine that is busy."""

_NOTIFIER = str(Path(sys.executable).parent / "notifier")


@dataclass(frozen=True)
class Received:
    """A mail at the server."""

    message_id: str
    recipient: str
    at: float


@dataclass
class Outcome:
    """What came of it. ``outside`` are repeats that no kill explains."""

    mails: int
    lost: int
    repeats: int
    outside: int
    kills: int
    restarts: int
    seconds: float


class MailServer(Protocol):
    """What keeps mails and sometimes says "later"."""

    port: int

    async def received(self) -> list[Received]:
        """All mails that were taken."""
        ...


@dataclass
class Embedded:
    """aiosmtpd in this process."""

    port: int = 0
    mails: list[Received] = field(default_factory=list[Received])

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(self, loop=loop), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if random.randrange(100) < LATER_PERCENT:
            return "451 4.3.0 later"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.original_content or b"")
        self.mails.append(Received(str(message["Message-ID"]), str(envelope.rcpt_tos[0]), time.time()))
        return "250 ok"

    async def received(self) -> list[Received]:
        return self.mails


@dataclass
class Mailpit:
    """The real server with its chaos mode."""

    port: int
    http: int

    async def begin(self) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http}") as client:
            chaos = {"Recipient": {"ErrorCode": 451, "Probability": LATER_PERCENT}}
            (await client.put("/api/v1/chaos", json=chaos)).raise_for_status()

    async def received(self) -> list[Received]:
        found: list[Received] = []
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http}", timeout=60) as client:
            while True:
                params = {"start": len(found), "limit": 1000}
                answer = await client.get("/api/v1/messages", params=params)
                page: list[dict[str, Any]] = answer.json()["messages"]
                found += [
                    Received(
                        item["MessageID"],
                        item["To"][0]["Address"],
                        datetime.fromisoformat(item["Created"]).timestamp(),
                    )
                    for item in page
                ]
                if len(page) < 1000:
                    return found


class Chaos:
    """One run."""

    def __init__(self, servers: Servers, dsn: str, mail: MailServer, directory: Path) -> None:
        self._servers, self._dsn, self._mail, self._directory = servers, dsn, mail, directory
        self._keys = new_internal_key()[1]
        self._running: list[Popen[bytes]] = []
        self.kill_times: list[float] = []
        self._started = 0

    def env(self, port: int) -> dict[str, str]:
        settings = {
            "POSTGRES_DSN": self._dsn, "KAFKA_BOOTSTRAP": self._servers.bootstrap,
            "INTERNAL_KEYS": self._keys,
            "PUBLIC_URL": "https://share.example.com", "LINK_SECRET": "s" * 40, "HTTP_PORT": str(port),
            "MAIL_FROM": "Latchkey <no-reply@example.com>", "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self._mail.port), "SMTP_TLS": "none", "CLAIM_SECONDS": "3",
            "RETRY_FIRST_SECONDS": "0.2", "DELIVERY_POLL_SECONDS": "0.2", "LOG_LEVEL": "warning",
        }  # fmt: skip
        return {f"LATCHKEY_{name}": value for name, value in settings.items()}

    def migrate(self) -> None:
        run_tool("notifier migrate", [_NOTIFIER, "migrate"], env=self.env(0))

    def start(self) -> None:
        self._started += 1
        log = self._directory / f"notifier-{self._started}.log"
        process = Process(name="notifier", argv=[_NOTIFIER, "serve"], env=self.env(free_port()), log=log)
        self._running.append(self._servers.run(process))

    def kill_one(self) -> None:
        """Kill one of them, in the middle of whatever it does, and start another."""
        child = self._running.pop(random.randrange(len(self._running)))
        self.kill_times.append(time.time())
        child.kill()
        self._servers.end(child)
        self.start()

    async def publish(self, producer: Producer, mails: int, pause: float) -> None:
        """Invitations to as many contacts; each tenth event twice."""
        for number in range(mails):
            address = f"mailto:r{number}@d{number % 20}.chaos.test"
            contact = ContactSnapshot(contact_id=uuid4(), address=address)
            event = ShareRequested(
                share_id=uuid4(), device_id=f"d{number % 50}", contact_id=contact.contact_id,
                owner_account_id="ann", terms=Terms(scope=AllServices()),
            )  # fmt: skip
            value = encoded(event, number // 50 + 1)
            await self._send(
                producer, topics.DIRECTORY_CONTACTS.name, str(contact.contact_id), encoded(contact)
            )
            for _ in range(2 if number % 10 == 0 else 1):
                await self._send(producer, topics.SHARE_EVENTS.name, event.device_id, value)
            await asyncio.sleep(pause)

    async def _send(self, producer: Producer, topic: str, key: str, value: bytes) -> None:
        while True:
            try:
                await producer.send(topic, key, value)
            except KafkaError:
                await asyncio.sleep(0.5)  # the broker is being restarted
            else:
                return


def encoded(data: codec.Message, version: int | None = None) -> bytes:
    """On the wire."""
    return codec.encode(codec.envelope(data, source="chaos", time=datetime.now(UTC), version=version))


async def run(mails: int, kills: int, restarts: int, *, real: bool) -> Outcome:
    """Break everything while ``mails`` invitations are told; what came of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="latchkey-chaos-") as name:
        directory = Path(name)
        servers = Servers(directory)
        servers.start()
        try:
            mail = await _mail_server(servers, directory, real=real)
            async with servers.database(tables=False) as (database, connection):
                chaos = Chaos(servers, servers.cluster.dsn(database, "notifier"), mail, directory)
                chaos.migrate()
                admin = Admin(servers.bootstrap)
                await admin.provision([(item.name, item.partitions, item.config) for item in topics.TOPICS])
                async with Producer(servers.bootstrap, "chaos") as producer:
                    await _known(producer)
                    for _ in range(INSTANCES):
                        chaos.start()
                    publishing = asyncio.create_task(chaos.publish(producer, mails, kills * 0.5 / mails))
                    await _break(servers, chaos, connection, kills, restarts)
                    await publishing
                await _finished(connection, mails)
                outcome = _judged(await mail.received(), mails, chaos.kill_times)
        finally:
            servers.end()
    return Outcome(
        mails, *outcome, kills=kills, restarts=restarts, seconds=round(time.monotonic() - began, 1)
    )


async def _mail_server(servers: Servers, directory: Path, *, real: bool) -> MailServer:
    program = mailpit.built() if real else None
    if program is None:
        embedded = Embedded()
        await embedded.start()
        return embedded
    process, smtp, http = mailpit.process(program, directory / "mailpit.log", chaos=True)
    servers.run(process, lambda pid: listens(pid, http))
    server = Mailpit(smtp, http)
    await server.begin()
    return server


async def _known(producer: Producer) -> None:
    ann = AccountSnapshot(account_id="ann", name="Ann Example", verified_emails=("ann@example.com",))
    await producer.send(topics.DIRECTORY_ACCOUNTS.name, "ann", encoded(ann))
    for number in range(50):
        device = DeviceSnapshot(device_id=f"d{number}", owner_account_id="ann", name="Camera", kind="camera")
        await producer.send(topics.DIRECTORY_DEVICES.name, device.device_id, encoded(device))


async def _break(
    servers: Servers,
    chaos: Chaos,
    connection: asyncpg.Connection,
    kills: int,
    restarts: int,
) -> None:
    """Kill, restart, and have everything read again, while the invitations come."""
    restart_at = {round((number + 1) * kills / (restarts + 1)) for number in range(restarts)}
    for number in range(kills):
        await asyncio.sleep(random.uniform(0.1, 0.9))
        chaos.kill_one()
        if number in restart_at:
            _restart_broker(servers)
        if number % 10 == 5:
            await connection.execute("delete from notifier.kafka_offset")  # all is delivered again


def _restart_broker(servers: Servers) -> None:
    process, child = servers.broker
    servers.end(child)
    port = int(servers.bootstrap.rpartition(":")[2])
    servers.broker = (
        process,
        servers.run(process, lambda pid: listens(pid, port) and kafka.is_ready(servers.bootstrap)),
    )


async def _finished(connection: asyncpg.Connection, mails: int) -> None:
    async with asyncio.timeout(300):
        while True:
            row = await connection.fetchrow(
                "select (select count(*) from notifier.notice where outcome is not null) as routed,"
                " (select count(*) from notifier.delivery where state = 'due') as due"
            )
            assert row is not None
            if row["routed"] >= mails and row["due"] == 0:
                return
            await asyncio.sleep(0.5)


def _judged(received: list[Received], mails: int, kills: list[float]) -> tuple[int, int, int]:
    """Lost, repeats, and repeats that no kill explains."""
    invited = {f"r{number}@d{number % 20}.chaos.test" for number in range(mails)}
    lost = len(invited - {item.recipient for item in received})
    by_id: dict[str, list[float]] = {}
    for item in received:
        by_id.setdefault(item.message_id, []).append(item.at)
    repeats = sum(len(times) - 1 for times in by_id.values())
    outside = sum(
        not any(0 <= kill - at <= WINDOW_SECONDS for kill in kills)
        for times in by_id.values()
        for at in sorted(times)[:-1]
    )
    # The same person told twice under two ids would be a notice planned twice.
    distinct = {(item.message_id, item.recipient) for item in received}
    outside += sum(count - 1 for count in Counter(recipient for _, recipient in distinct).values())
    return lost, repeats, outside


def main() -> None:
    """Run it; 1 when a mail was lost or a repeat was outside the window."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--broker-restarts", type=int, default=3)
    parser.add_argument("--embedded", action="store_true", help="aiosmtpd in this process, not Mailpit")
    chosen = parser.parse_args()
    outcome = asyncio.run(run(chosen.mails, chosen.kills, chosen.broker_restarts, real=not chosen.embedded))
    print(json.dumps(outcome.__dict__))
    sys.exit(1 if outcome.lost or outcome.outside else 0)


if __name__ == "__main__":
    main()
