"""A whole running stack as a test sees it: people at the portal, devices, and faults on purpose."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

import httpx

from contracts.codec import Message, encode, envelope
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from devstack import seed
from devstack.client import Account, RefusedError, until_closed
from devstack.registry import fetch_targets
from devstack.stack import running
from devstack.state import StateDirectory
from devstack.status import Status
from servicekit.kafka import Producer


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """The first true answer of ``condition``; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        await asyncio.sleep(0.05)


@dataclass
class Connection:
    """A client's connection through the gateway, echoing at the far end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def echo(self, data: bytes) -> bytes:
        """Send and read back as many bytes."""
        self.writer.write(data)
        await self.writer.drain()
        return await asyncio.wait_for(self.reader.readexactly(len(data)), 20)

    async def until_closed(self, seconds: float) -> float:
        """When the other side ended it; fails after ``seconds``. It is over on this side too then."""
        try:
            return await asyncio.wait_for(until_closed(self.reader), seconds)
        finally:
            self.writer.close()


@dataclass
class World:
    """The running stack, and people at its portal. Each test has a device of its own."""

    state: StateDirectory
    portal: httpx.AsyncClient
    mailbox: httpx.AsyncClient
    producer: Producer
    targets: seed.Targets
    _tokens: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    @asynccontextmanager
    async def at(cls, state: StateDirectory) -> AsyncGenerator[Self]:
        """A stack that runs, with people at its portal."""
        status = running(state)
        async with (
            httpx.AsyncClient(base_url=status.url("portal"), timeout=30, trust_env=False) as portal,
            httpx.AsyncClient(base_url=status.url("mailbox"), timeout=30, trust_env=False) as mailbox,
            Producer(status.addresses["kafka"], "e2e") as producer,
        ):
            yield cls(state, portal, mailbox, producer, await fetch_targets(status.url("targets")))

    @property
    def status(self) -> Status:
        """What the stack says of itself now."""
        return running(self.state)

    async def token(self, email: str) -> str:
        """A bearer token, made once."""
        if email not in self._tokens:
            self._tokens[email] = await self.status.token(email)
        return self._tokens[email]

    async def account(self, email: str) -> Account:
        """Somebody who has just come to the portal."""
        return Account(self.portal, await self.token(email))

    async def publish(self, topic: str, key: str, data: Message, **attributes: Any) -> None:
        """Write a message to Kafka as an upstream service would."""
        message = envelope(data, source="upstream-test", time=datetime.now(UTC), subject=key, **attributes)
        await self.producer.send(topic, key, encode(message))

    async def device(self, *, owner: str = "ann", services: int = 2, device_id: str | None = None) -> str:
        """A new device whose services (``<id>.1``, …) are echo servers; returns its id when it is known."""
        made = device_id or f"d-{uuid4().hex[:12]}"
        target = Target(host=self.targets.host, port=self.targets.echo_port)
        snapshot = DeviceSnapshot(
            device_id=made,
            owner_account_id=owner,
            name=f"Device {made}",
            kind="computer",
            services=tuple(
                Service(service_id=f"{made}.{n}", name=f"Echo {n}", protocol="tcp", target=target)
                for n in range(1, services + 1)
            ),
        )
        await self.add_device(snapshot)
        return made

    async def add_device(self, snapshot: DeviceSnapshot) -> None:
        """Publish a device and wait until its owner sees it (projected) and may share it (share-command)."""
        await self.publish("directory.devices", snapshot.device_id, snapshot)
        email = next(a.verified_emails[0] for a in seed.ACCOUNTS if a.account_id == snapshot.owner_account_id)
        owner = await self.account(email)

        async def known() -> bool:
            query = "query($id: [String!]) { login { devices(id: $id) { total } } }"
            data = await owner.ask(query, id=[snapshot.device_id])
            return data["login"]["devices"]["total"] == 1

        await until(known)

        async def shareable() -> bool:
            # Taking away what is not there is a success, once the deciding side knows the device.
            try:
                await owner.share(snapshot.device_id, "nobody@example.test", action="REMOVE")
            except RefusedError:
                return False
            return True

        await until(shareable)

    async def add_account(self, snapshot: AccountSnapshot) -> None:
        """Publish an account."""
        await self.publish("directory.accounts", snapshot.account_id, snapshot)

    async def shared(
        self, device: str, *, email: str = seed.RECIPIENT_EMAIL, **options: Any
    ) -> tuple[Account, Account]:
        """Share ``device`` and accept; returns owner and recipient, who both have seen it."""
        owner, recipient = await self.account(seed.OWNER_EMAIL), await self.account(email)
        await owner.share(device, email, **{"notify": False, **options})
        recipient.position = owner.position
        await recipient.accept(device)
        return owner, recipient

    async def open(self, account: Account, service: str) -> Connection:
        """Connect to ``service`` through the gateway and see it echo."""
        way = await account.connect(service)
        connection = Connection(*await asyncio.open_connection(way["host"], way["port"]))
        assert await connection.echo(b"ping") == b"ping"
        return connection

    async def mails(self, to: str, holding: str) -> list[dict[str, Any]]:
        """The invitations to an address whose text names ``holding``."""
        listing = (await self.mailbox.get("/api/v1/messages", params={"to": to})).json()["messages"]
        found = [(await self.mailbox.get(f"/api/v1/messages/{item['id']}")).json() for item in listing]
        inviting = (" wants to share ", " changed what is shared with you")
        return [
            mail
            for mail in found
            if holding in mail["text"] and any(words in mail["subject"] for words in inviting)
        ]

    async def ops(self, *words: str) -> tuple[int, Any]:
        """``./latchkey ops`` on this stack: the exit code, and its answer, or what it says of a failure."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "devstack", "ops", "--state", str(self.state.path), *words, "--json"],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    def pid(self, name: str) -> int:
        """The process id of one process of the stack."""
        pid = next(item.pid for item in self.status.processes if item.name == name)
        assert pid is not None
        return pid

    async def kill(self, name: str) -> None:
        """kill -9 one process and wait until the stack has started another in its place."""
        gone = self.pid(name)
        os.kill(gone, signal.SIGKILL)

        async def back() -> bool:
            item = next(item for item in self.status.processes if item.name == name)
            return item.pid not in (None, gone) and item.state == "ready"

        await until(back, 40)

    @contextmanager
    def frozen(self, name: str) -> Generator[None]:
        """Stop one process where it stands while the block runs."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def log_lines(self, name: str) -> list[str]:
        """The log of one process."""
        return (self.state.logs / f"{name}.log").read_text().splitlines()
