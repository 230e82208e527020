"""What the people of the demo use: the portal's GraphQL, the mailbox, plain TCP, and Kafka."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import takewhile
from typing import Any

import httpx

from contracts.base import new_id
from contracts.codec import decode, encode, envelope
from contracts.commands import AnyCommand, AnyCommandResult, CommandAccepted, CommandRefused
from contracts.directory import AccountSnapshot
from contracts.positions import POSITION_HEADER
from contracts.topics import COMMAND_RESULTS, SHARE_COMMANDS
from devstack.demo_browser import Page
from devstack.demo_story import Unexpected
from servicekit.kafka import Admin, Consumer, Partition, Producer

PATIENCE_SECONDS = 10.0
RETRY_SECONDS = 0.02
_CHUNK_BYTES = 65_536

SHARE = """mutation share($deviceId: String, $email: [String!]!, $action: SharingAction) {
  share(deviceId: $deviceId, email: $email, action: $action)
}"""
DEVICES = "query { login { devices(size: 1000) { items { id name services { id name } } } } }"
INVITATIONS = "query { login { invitations { device { id } } } }"
CONNECT = "mutation connect($serviceId: String!) { connect(serviceId: $serviceId) { id host port } }"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the portal answered. ``position`` is where the effects of a command stand, else None."""

    text: str
    body: Mapping[str, Any]
    position: str | None

    def get(self, *path: str | int) -> Any:
        """What stands at ``path`` in the body; None when it is not there."""
        found: Any = self.body
        for name in path:
            try:
                found = found[name]
            except (LookupError, TypeError):
                return None
        return found

    @property
    def code(self) -> str | None:
        """Code of the first error, if there is one."""
        return self.get("errors", 0, "extensions", "code")


class Person:
    """One account's program: asks the portal with its bearer token."""

    def __init__(self, account: AccountSnapshot, token: str, portal: str, client: httpx.AsyncClient) -> None:
        self.account_id = account.account_id
        self.name = account.name.partition(" ")[0]
        self.email = account.verified_emails[0]
        self._url = f"{portal}/graphql/v1"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._client = client

    async def ask(self, query: str, at: str | None = None, **variables: Any) -> Answer:
        """Ask, for an answer at least as fresh as the position ``at``; again while that is not to be had.

        Raises:
            Unexpected: no GraphQL answer came.
            TimeoutError: ``at`` does not become visible.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self._ask_once(query, at, variables)
                if answer.code != "NOT_YET_VISIBLE":
                    return answer
                await asyncio.sleep(RETRY_SECONDS)

    async def _ask_once(self, query: str, at: str | None, variables: Mapping[str, Any]) -> Answer:
        headers = self._headers if at is None else {**self._headers, POSITION_HEADER: at}
        answer = await self._client.post(
            self._url, json={"query": query, "variables": variables}, headers=headers
        )
        try:
            body: dict[str, Any] = answer.json()
        except json.JSONDecodeError:
            raise Unexpected(f"The portal answered HTTP {answer.status_code} and no JSON.") from None
        return Answer(answer.text, body, answer.headers.get(POSITION_HEADER))

    async def share(self, device_id: str, email: str, action: str = "ADD") -> str | None:
        """Share, revoke or leave; the position of it, None when nothing had to change."""
        answer = await self.ask(SHARE, deviceId=device_id, email=[email], action=action)
        if answer.text != '{"data":{"share":true}}':
            raise Unexpected(f'{{"data":{{"share":true}}}} was expected, this came: {answer.text[:400]}')
        return answer.position

    async def device_ids(self, at: str | None) -> set[str]:
        """The ids in his list of devices."""
        return {device["id"] for device in await self._items(DEVICES, at, "devices", "items")}

    async def invited_to(self, at: str | None) -> set[str]:
        """The devices that he may accept now."""
        return {
            invitation["device"]["id"] for invitation in await self._items(INVITATIONS, at, "invitations")
        }

    async def _items(self, query: str, at: str | None, *path: str) -> list[dict[str, Any]]:
        answer = await self.ask(query, at)
        found = answer.get("data", "login", *path)
        if not isinstance(found, list):
            raise Unexpected(f"A list of {path[0]} was expected, this came: {answer.text[:400]}")
        return found  # pyright: ignore[reportUnknownVariableType] - as the portal's schema says

    async def connect(self, service_id: str, at: str | None) -> Answer:
        """Ask for a port."""
        return await self.ask(CONNECT, at, serviceId=service_id)


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as its reader has it."""

    id: str
    subject: str
    page: Page


class Post:
    """The mailbox of one address, from now on."""

    def __init__(self, mailbox: str, address: str, client: httpx.AsyncClient) -> None:
        self._url, self._address, self._client = f"{mailbox}/api/v1/messages", address, client
        self._seen: str | None = None

    async def catch_up(self) -> None:
        """Pass over all mails that are there."""
        mails = await self._list(wait=0)
        self._seen = mails[-1]["id"] if mails else self._seen

    async def next(self) -> Letter:
        """The next invitation, when it comes, past other mails; raises `Unexpected` when none does."""
        while True:
            mails = await self._list(wait=PATIENCE_SECONDS)
            if not mails:
                raise Unexpected(
                    f"A mail to {self._address} was expected; none came in {PATIENCE_SECONDS:.0f} s."
                )
            self._seen = mails[0]["id"]
            letter = await self._read(mails[0]["id"])
            if " wants to share " in letter.subject:
                return letter

    async def _read(self, mail_id: str) -> Letter:
        mail = (await self._client.get(f"{self._url}/{mail_id}")).raise_for_status().json()
        return Letter(mail["id"], mail["subject"], Page(mail["html"] or ""))

    async def _list(self, wait: float) -> list[dict[str, Any]]:
        params: dict[str, str] = {"to": self._address, "wait": str(wait)}
        if self._seen is not None:
            params["after"] = self._seen
        answer = await self._client.get(self._url, params=params)
        return answer.raise_for_status().json()["messages"]


class MailpitPost(Post):
    """The same by Mailpit's API, the mailbox of docker-compose.yml, whose answers do not wait for mail."""

    async def _read(self, mail_id: str) -> Letter:
        url = self._url.removesuffix("s")
        mail = (await self._client.get(f"{url}/{mail_id}")).raise_for_status().json()
        return Letter(mail["ID"], mail["Subject"], Page(mail["HTML"]))

    async def _list(self, wait: float) -> list[dict[str, Any]]:
        deadline = time.monotonic() + wait
        while True:
            params = {"query": f'to:"{self._address}"', "limit": "200"}
            answer = await self._client.get(f"{self._url.removesuffix('messages')}search", params=params)
            newest_first = [{"id": mail["ID"]} for mail in answer.raise_for_status().json()["messages"]]
            unseen = list(takewhile(lambda mail: mail["id"] != self._seen, newest_first))
            if unseen or time.monotonic() >= deadline:
                return unseen[::-1]
            await asyncio.sleep(RETRY_SECONDS * 5)


async def post_at(mailbox: str, address: str, client: httpx.AsyncClient) -> Post:
    """The mailbox of an address on a server of either kind: `devstack.smtp`, or Mailpit."""
    is_mailpit = (await client.get(f"{mailbox}/api/v1/info")).status_code == HTTPStatus.OK
    return (MailpitPost if is_mailpit else Post)(mailbox, address, client)


class Connection:
    """An open TCP connection to a port that the gateway gave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ended: asyncio.Task[float] | None = None

    async def echo(self, size: int) -> str:
        """Send random bytes and read them back; the SHA-256 that both have, or `Unexpected`."""
        sent = secrets.token_bytes(size)
        sending = asyncio.create_task(self._send(sent))
        received = hashlib.sha256()
        left = size
        async with asyncio.timeout(PATIENCE_SECONDS):
            while left and (data := await self._reader.read(min(left, _CHUNK_BYTES))):
                received.update(data)
                left -= len(data)
            await sending
        if left or received.digest() != hashlib.sha256(sent).digest():
            raise Unexpected(f"{size} bytes were sent; {size - left} came back, not the same.")
        return received.hexdigest()

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def watch(self) -> None:
        """Note from now on when the connection ends."""
        self._ended = asyncio.create_task(self._end())

    async def ended_at(self) -> float:
        """When it ended, on the monotonic clock; waits for it."""
        assert self._ended is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._ended

    async def _end(self) -> float:
        try:
            data = await self._reader.read(1)
        except ConnectionError:
            data = b""
        if data:
            raise Unexpected("The connection was to be cut; it brought data that nobody sent.")
        return time.monotonic()

    def close(self) -> None:
        """Close it."""
        if self._ended is not None:
            self._ended.cancel()
        self._writer.transport.abort()


@asynccontextmanager
async def open_tcp(host: str, port: int) -> AsyncGenerator[Connection]:
    """Connect; closed when the block ends."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        connection = Connection(*await asyncio.open_connection(host, port))
    try:
        yield connection
    finally:
        connection.close()


class Upstream:
    """A trusted service of the company: sends commands by Kafka and reads their results."""

    def __init__(self, producer: Producer, consumer: Consumer) -> None:
        self._producer, self._consumer = producer, consumer

    @classmethod
    @asynccontextmanager
    async def start(cls, bootstrap: str) -> "AsyncGenerator[Upstream]":
        """Ready when entered: results from now on will be seen."""
        admin = Admin(bootstrap)
        ends = await admin.end_offsets(await admin.partitions([COMMAND_RESULTS.name]))
        ready = asyncio.Event()

        async def assigned(places: set[Partition]) -> None:
            for place in places:
                consumer.seek(place, ends[place])
            if places:
                ready.set()

        async def revoked(_: set[Partition]) -> None:
            """Nothing is kept for a partition."""

        consumer = Consumer(
            bootstrap,
            group=f"latchkey-demo-{new_id()}",
            topics=[COMMAND_RESULTS.name],
            assigned=assigned,
            revoked=revoked,
        )
        async with Producer(bootstrap, "latchkey-demo") as producer, consumer:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not ready.is_set():
                    await consumer.getmany(timeout_ms=50, max_records=1)
            yield cls(producer, consumer)

    async def send(self, command: AnyCommand, key: str) -> None:
        """Send a command; returns when the broker has it."""
        message = envelope(command, source="demo-upstream", subject=key, time=datetime.now(UTC))
        await self._producer.send(SHARE_COMMANDS.name, key, encode(message))

    async def result(self, command_id: str) -> AnyCommandResult:
        """What became of a command; raises TimeoutError when nobody says."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                batches = await self._consumer.getmany(timeout_ms=200, max_records=100)
                for record in (record for records in batches.values() for record in records):
                    data = decode(record.value).data
                    if isinstance(data, CommandAccepted | CommandRefused) and data.command_id == command_id:
                        return data
