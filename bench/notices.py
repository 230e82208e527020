"""Invitations a second from the event to the mail server's 250, and how soon a mail is there.

In one run, on servers of its own and against one SMTP server (Mailpit, when Go can build it; else aiosmtpd in
a process of its own):

- bare: mails that are ready made, by aiosmtplib over as many connections as the notifier uses
- notifier: one process that finds a full topic; from the first mail that is marked to the last
- latency: 10 invitations a second; from when an event is given to the broker until its mail is at the server

    .venv/bin/python bench/notices.py [--mails 3000] [--runs 3]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosmtplib
import asyncpg
import httpx
import uvloop
from _servers import Servers

from contracts import codec, topics
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import ShareRequested
from contracts.permissions import AllServices, Terms
from devstack import mailpit
from devstack.keys import new_internal_key
from devstack.process import Process, free_port, listens, run_tool
from notifier.channels.email import build_message, recipient_address
from notifier.letters import Renderer
from notifier.planner import Invitation, Notice, Template
from notifier.settings import parse_sender
from notifier.texts import Told
from servicekit.kafka import Admin, Producer

CONNECTIONS = 8
RATE, SECONDS = 10, 20
SECRET = "s" * 40
FROM = "Latchkey <no-reply@example.com>"
_NOTIFIER = str(Path(sys.executable).parent / "notifier")
_AIOSMTPD = """
import asyncio, sys
from aiosmtpd.smtp import SMTP
class Handler:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        return "250 ok"
async def main():
    loop = asyncio.get_running_loop()
    handler = Handler()
    server = await loop.create_server(lambda: SMTP(handler, loop=loop), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


def _bytes(data: codec.Message, version: int | None = None) -> bytes:
    return codec.encode(codec.envelope(data, source="bench", time=datetime.now(UTC), version=version))


def mail() -> bytes:
    """The very mail that the notifier sends."""
    share = UUID(int=1)
    invitation = Invitation(
        share, "d", UUID(int=2), "ann", "requested", 1, 1, None, Terms(scope=AllServices())
    )
    notice = Notice(
        UUID(int=3), UUID(int=2), None, Template.INVITATION, share, "d", "ann", 1, datetime.now(UTC)
    )
    told = Told(
        notice, invitation, "Ann Example", "mailto:ann@example.com", "mailto:r@bench.test", "Camera", {}
    )
    letter = Renderer(public_url="https://share.example.com", link_secret=SECRET).letter(
        [told], address="mailto:r@bench.test", language=None, key="k", correlation_id="c"
    )
    to = recipient_address(letter.recipient)
    return build_message(letter, parse_sender(FROM), to, datetime.now(UTC))


async def bare(port: int, count: int) -> float:
    """Mails a second by aiosmtplib alone."""
    message, left = mail(), iter(range(count))

    async def work() -> None:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False)
        await client.connect()
        for number in left:
            await client.mail("no-reply@example.com")
            await client.rcpt(f"bare-{number}@bench.test")
            await client.data(message)
        await client.quit()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - began)


class World:
    """The servers and one notifier's database."""

    def __init__(self, servers: Servers, smtp: int, dsn: str, prefix: str, directory: Path) -> None:
        self.servers, self.smtp, self.dsn, self.prefix = servers, smtp, dsn, prefix
        self._directory = directory

    async def fill(self, producer: Producer, count: int) -> None:
        """Contacts, devices, and an invitation of each contact to a device; each device has one sharer's."""
        await producer.send(
            self.prefix + "directory.accounts", "ann",
            _bytes(
                AccountSnapshot(account_id="ann", name="Ann Example", verified_emails=("ann@example.com",))
            ),
        )  # fmt: skip
        for number in range(100):
            device = DeviceSnapshot(
                device_id=f"d{number}", owner_account_id="ann", name="Camera", kind="camera"
            )
            await producer.send(self.prefix + "directory.devices", device.device_id, _bytes(device))
        sending: list[asyncio.Future[Any]] = []
        for number in range(count):
            contact = ContactSnapshot(
                contact_id=uuid4(), address=f"mailto:r{number}@d{number % 50}.bench.test"
            )
            sending.append(
                await producer.enqueue(
                    self.prefix + "directory.contacts", str(contact.contact_id), _bytes(contact)
                )
            )
            event = invitation(f"d{number % 100}", contact.contact_id)
            sending.append(
                await producer.enqueue(
                    self.prefix + "share.events", event.device_id, _bytes(event, number // 100 + 1)
                )
            )
        await asyncio.gather(*sending)

    @asynccontextmanager
    async def notifier(self) -> AsyncGenerator[None]:
        """One process."""
        port = free_port()
        env = {
            "POSTGRES_DSN": self.dsn, "KAFKA_BOOTSTRAP": self.servers.bootstrap, "TOPIC_PREFIX": self.prefix,
            "PUBLIC_URL": "https://share.example.com", "LINK_SECRET": SECRET, "MAIL_FROM": FROM,
            "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(self.smtp), "SMTP_TLS": "none",
            "INTERNAL_KEYS": new_internal_key()[1], "LOG_LEVEL": "warning", "HTTP_PORT": str(port),
            "DELIVERY_CONCURRENCY": str(CONNECTIONS),
        }  # fmt: skip
        settings = {f"LATCHKEY_{name}": value for name, value in env.items()}
        run_tool("notifier migrate", [_NOTIFIER, "migrate"], env=settings)
        process = Process(
            name="notifier", argv=[_NOTIFIER, "serve"], env=settings, log=self._directory / "notifier.log"
        )
        child = self.servers.run(process, lambda pid: listens(pid, port))
        try:
            yield
        finally:
            self.servers.end(child)


def invitation(device_id: str, contact_id: UUID) -> ShareRequested:
    """An event."""
    return ShareRequested(
        share_id=uuid4(), device_id=device_id, contact_id=contact_id, owner_account_id="ann",
        terms=Terms(scope=AllServices()),
    )  # fmt: skip


async def throughput(world: World, count: int) -> float:
    """Invitations a second, from the first mail that is marked to the last."""
    connection = await asyncpg.connect(world.dsn)
    async with Producer(world.servers.bootstrap, "bench") as producer:
        await world.fill(producer, count)
    async with world.notifier():
        while True:
            row = await connection.fetchrow(
                "select count(*) as sent,"
                " extract(epoch from max(finished_at) - min(finished_at))::float8 as took"
                " from notifier.delivery where state = 'sent'"
            )
            assert row is not None  # an aggregate always gives one
            if row["sent"] == count:
                break
            await asyncio.sleep(0.2)
    await connection.close()
    return (count - 1) / row["took"]


async def latency(world: World) -> list[float]:
    """Milliseconds from the event's send to the mark after the server's 250, at a steady rate."""
    connection = await asyncpg.connect(world.dsn)
    began: dict[UUID, float] = {}
    async with Producer(world.servers.bootstrap, "bench") as producer:
        await world.fill(producer, 1)
        async with world.notifier():
            warm = "select count(*) from notifier.delivery where state = 'sent'"
            while not await connection.fetchval(warm):  # noqa: ASYNC110 - another process's table
                await asyncio.sleep(0.1)
            start = time.perf_counter()
            for number in range(RATE * SECONDS):
                await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
                contact = ContactSnapshot(contact_id=uuid4(), address=f"mailto:l{number}@bench.test")
                event = invitation(f"d{1 + number % 99}", contact.contact_id)
                began[event.share_id] = time.time()
                await producer.send(
                    world.prefix + "directory.contacts", str(contact.contact_id), _bytes(contact)
                )
                await producer.send(
                    world.prefix + "share.events", event.device_id, _bytes(event, number // 99 + 1)
                )
            rows: list[Any] = []
            while len(rows) < len(began):
                await asyncio.sleep(0.2)
                rows = await connection.fetch(
                    "select share_id, extract(epoch from finished_at)::float8 as at from notifier.delivery"
                    " join notifier.notice using (notice_id) where state = 'sent' and share_id = any($1)"
                    " order by finished_at",
                    list(began),
                )
    await connection.close()
    return sorted((row["at"] - began[row["share_id"]]) * 1000 for row in rows[RATE:])


async def run(mails: int, runs: int) -> dict[str, Any]:
    """All measurements; the medians of the runs."""
    bare_rates: list[float] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="latchkey-notices-") as name:
        directory = Path(name)
        servers = Servers(directory)
        servers.start()
        program = mailpit.built()
        if program is not None:
            process, smtp, http = mailpit.process(program, directory / "mailpit.log")
            ready = http
        else:
            smtp = ready = free_port()
            process = Process(
                name="aiosmtpd", argv=[sys.executable, "-c", _AIOSMTPD, str(smtp)], env={},
                log=directory / "smtp.log",
            )  # fmt: skip
        try:
            servers.run(process, lambda pid: listens(pid, ready))
            admin = Admin(servers.bootstrap)
            for number in range(runs):
                bare_rates.append(await bare(smtp, mails))
                async with _world(servers, admin, smtp, directory, f"t{number}.") as world:
                    rates.append(await throughput(world, mails))
                print(f"bare {bare_rates[-1]:.0f}/s, notifier {rates[-1]:.0f}/s", flush=True)
                if program is not None:
                    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ready}") as client:
                        await client.delete("/api/v1/messages")
            async with _world(servers, admin, smtp, directory, "latency.") as world:
                delays = await latency(world)
        finally:
            servers.end()
    ratio = statistics.median(rates) / statistics.median(bare_rates)
    p50, p99 = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    server = "Mailpit" if program is not None else "aiosmtpd"
    machine = f"{os.cpu_count()} cores, {platform.release()}, Python {platform.python_version()}, {server}"
    return {
        "name": "notices",
        "runs": runs,
        "machine": machine,
        "figures": [
            {
                "figure": "invitations from event to 250", "value": round(statistics.median(rates), 1),
                "unit": "1/s", "peer": f"bare aiosmtplib, {CONNECTIONS} connections",
                "peer_value": round(statistics.median(bare_rates), 1), "ratio": round(ratio, 3),
                "aim": "ratio at least 0.7", "met": ratio >= 0.7,
            },
            {"figure": f"event to mail, {RATE}/s, p50", "value": round(p50, 1), "unit": "ms"},
            {
                "figure": f"event to mail, {RATE}/s, p99", "value": round(p99, 1), "unit": "ms",
                "aim": "under 100", "met": p99 < 100,
            },
        ],
    }  # fmt: skip


@asynccontextmanager
async def _world(
    servers: Servers, admin: Admin, smtp: int, directory: Path, prefix: str
) -> AsyncGenerator[World]:
    await admin.provision([(prefix + item.name, item.partitions, item.config) for item in topics.TOPICS])
    async with servers.database(tables=False) as (name, _):
        yield World(servers, smtp, servers.cluster.dsn(name, "notifier"), prefix, directory)


def main() -> None:
    """Run it; the last line is the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", nargs="?", help="not used: it has servers of its own")
    parser.add_argument("--mails", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    print(json.dumps(uvloop.run(run(chosen.mails, chosen.runs))))


if __name__ == "__main__":
    main()
