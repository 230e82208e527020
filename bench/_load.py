"""What a load on the stack's commands needs: clients, the three ways in, and who took the processors."""

import asyncio
import itertools
import json
import math
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import psutil
from pydantic_core import from_json

from contracts import codec
from contracts.commands import RequestShare
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.topics import COMMAND_RESULTS, DIRECTORY_ACCOUNTS, DIRECTORY_DEVICES, SHARE_COMMANDS
from devstack import postgres
from devstack.issuer import Keys
from devstack.services import AUDIENCE, DATABASE
from devstack.state import StateDirectory
from devstack.status import Status
from servicekit.auth import InternalTokens
from servicekit.kafka import Consumer, Partition, Producer

SECONDS = 6.0
WARM_UP_SECONDS = 1.0
CLIENTS = (1, 16)
ACCOUNTS = 64
FOLLOWERS = frozenset({"permission-projector", "notifier", "access-gateway"})
"""Dealt out to the clients, who take turns with theirs: an account may send only so much in a minute."""

BULK_DEVICES = 100
SHARE = """
mutation($device: String!, $email: [String!]!, $scripting: Boolean) {
  share(deviceId: $device, email: $email, scripting: $scripting, notify: false)
}
"""

Send = Callable[["Client", int], Awaitable[None]]
"""The command with this number of a client, until it is answered; raises when it is refused."""


@dataclass
class Client:
    """An account that sends commands, with a device and a recipient of its own."""

    account: str
    device: str
    email: str
    connection: "Http | None" = None


@dataclass
class Run:
    """What one measurement gave: rate a second, each answer's seconds, processors' shares by process."""

    rate: float
    taken: list[float]
    cores: dict[str, float] = field(default_factory=dict[str, float])

    def ms(self, share: float) -> float:
        """A percentile in milliseconds."""
        ordered = sorted(self.taken)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)

    def busiest(self) -> str:
        """The processes that took most, as cores."""
        ordered = sorted(self.cores.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {share:.2f}" for name, share in ordered[:4])


class Http:
    """A bare HTTP/1.1 connection: a client library would take more processor time than what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str) -> "Http":
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def post(self, path: str, token: str, document: object, *, correlation_id: str = "bench") -> Any:
        """The answer's JSON; raises RuntimeError for another status than 200."""
        body = json.dumps(document).encode()
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"X-Correlation-Id: {correlation_id}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        answer = await self._reader.readexactly(length)
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"{path}: {head.partition(chr(13))[0]}: {answer[:500]!r}")
        return from_json(answer)


class Bench:
    """The stack under measurement."""

    def __init__(self, status: Status) -> None:
        state = StateDirectory(status.state)
        known = state.load_secrets()
        self.status, self.bootstrap = status, status.addresses["kafka"]
        self.dsn = postgres.Cluster(int(status.addresses["postgres"].rpartition(":")[2]), known.postgres).dsn(
            DATABASE
        )
        self._internal = InternalTokens(known.internal_key, "bench")
        self._issuer = Keys.at(state.path / "issuer" / "issuer-key.pem")
        self._tokens: dict[str, tuple[float, str]] = {}
        self.run = secrets.token_hex(3)
        self.clients = [
            Client(f"bench-{self.run}-a{n}", f"bench-{self.run}-d{n}", f"r{n}-{self.run}@bench.test")
            for n in range(ACCOUNTS)
        ]

    def internal(self, account: str, audience: str = "share-command") -> str:
        """A token of another service, made anew before it ends."""
        made, token = self._tokens.get(f"{audience} {account}", (-math.inf, ""))
        if time.monotonic() - made > 30:
            token = self._internal.mint(audience=audience, account_id=account)
            self._tokens[f"{audience} {account}"] = time.monotonic(), token
        return token

    def bearer(self, account: str) -> str:
        """A token of the demo issuer."""
        now = int(time.time())
        claims = {"iss": self.status.url("issuer"), "sub": account, "aud": AUDIENCE, "iat": now}
        return self._issuer.sign("at+jwt", {**claims, "exp": now + 3600, "jti": secrets.token_urlsafe(12)})

    async def provision(self) -> None:
        """Make accounts and devices known, and wait until they are."""
        devices = [(client.device, client.account) for client in self.clients]
        devices += [(f"bench-{self.run}-b{n}", f"bench-{self.run}-bulk") for n in range(BULK_DEVICES)]
        async with Producer(self.bootstrap, "bench") as producer:
            for account in {owner for _, owner in devices}:
                snapshot = AccountSnapshot(account_id=account, name="Bench", verified_emails=())
                await producer.send(DIRECTORY_ACCOUNTS.name, account, message(snapshot))
            for device, owner in devices:
                known = DeviceSnapshot(
                    device_id=device, owner_account_id=owner, name="Bench", kind="computer"
                )
                await producer.send(DIRECTORY_DEVICES.name, device, message(known))
        await self.until(
            "select count(*) = $2 from share_command.device where device_id like $1",
            f"bench-{self.run}-%", len(devices),
        )  # fmt: skip

    async def settled(self) -> None:
        """Wait until nothing is on its way to Kafka, so that one measurement is not another's burden."""
        await self.until("select not exists (select from share_command.outbox)")
        await asyncio.sleep(1)

    async def until(self, question: str, *arguments: object) -> None:
        """Wait until Postgres answers yes, for at most a minute."""
        connection = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(60):
                while not await connection.fetchval(question, *arguments):  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(0.01)
        finally:
            await connection.close()

    def processes(self) -> dict[str, float]:
        """Processor seconds of each process so far, its children's included."""
        seconds = {"bench": sum(psutil.Process().cpu_times()[:2])}
        for item in self.status.processes:
            if item.pid is not None:
                family = [psutil.Process(item.pid), *psutil.Process(item.pid).children(recursive=True)]
                seconds[item.name] = sum(sum(member.cpu_times()[:2]) for member in family)
        return seconds

    @contextmanager
    def without_followers(self) -> Generator[None]:
        """Hold still whoever works on what was decided: read models, notices, gateway."""
        pids = [item.pid for item in self.status.processes if item.name in FOLLOWERS and item.pid is not None]
        held = [member for pid in pids for member in (psutil.Process(pid), *psutil.Process(pid).children())]
        for process in held:
            process.suspend()
        try:
            yield
        finally:
            for process in held:
                process.resume()

    async def measured(self, count: int, clients: Sequence[Client], send: Send) -> Run:
        """Let so many send one command after the other for a while, each as some of ``clients``."""
        taken: list[float] = []
        begin = time.perf_counter() + WARM_UP_SECONDS
        end = begin + SECONDS

        async def drive(mine: Sequence[Client]) -> None:
            for number in itertools.count():
                asked = time.perf_counter()
                if asked > end:
                    return
                await send(mine[number % len(mine)], number // len(mine))
                if begin < asked and time.perf_counter() < end:
                    taken.append(time.perf_counter() - asked)

        async with asyncio.TaskGroup() as group:
            for place in range(count):
                group.create_task(drive(clients[place::count]))
            await asyncio.sleep(WARM_UP_SECONDS)
            before = self.processes()
            await asyncio.sleep(SECONDS)
            after = self.processes()
        cores = {name: (after[name] - before.get(name, 0)) / SECONDS for name in after}
        return Run(len(taken) / SECONDS, taken, cores)

    @asynccontextmanager
    async def http(self, service: str) -> AsyncGenerator[None]:
        """A connection for each client to ``service``."""
        for client in self.clients:
            client.connection = await Http.open(self.status.addresses[service])
        try:
            yield
        finally:
            for client in self.clients:
                if client.connection is not None:
                    client.connection.close()

    async def by_http(self, client: Client, number: int) -> None:
        """HTTP of share-command."""
        assert client.connection is not None
        body = {"command_id": str(uuid4()), "device_ids": [client.device], "recipients": [client.email],
                "scripting": number % 2 == 0, "notify": False}  # fmt: skip
        await client.connection.post("/v1/commands/RequestShare", self.internal(client.account), body)

    async def by_graphql(self, client: Client, number: int) -> None:
        """GraphQL of the portal."""
        assert client.connection is not None
        variables = {"device": client.device, "email": [client.email], "scripting": number % 2 == 0}
        made, token = self._tokens.get(f"bearer {client.account}", (-math.inf, ""))
        if time.monotonic() - made > 600:
            token = self.bearer(client.account)
            self._tokens[f"bearer {client.account}"] = time.monotonic(), token
        answer = await client.connection.post("/graphql/v1", token, {"query": SHARE, "variables": variables})
        if answer.get("errors"):
            raise RuntimeError(f"GraphQL: {answer['errors']}")

    @asynccontextmanager
    async def kafka(self) -> AsyncGenerator[Send]:
        """Sends by share.commands, answered by share.command-results."""
        waiting: dict[str, asyncio.Future[Any]] = {}
        assigned = asyncio.Event()

        async def got(_: set[Partition]) -> None:
            assigned.set()

        async def follow(consumer: Consumer) -> None:
            while True:
                for records in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                    for record in records:
                        document = from_json(record.value or b"null")
                        future = waiting.pop(document["data"].get("command_id"), None)
                        if future is not None:
                            future.set_result(document)

        async with (
            Producer(self.bootstrap, "bench") as producer,
            Consumer(self.bootstrap, group=f"bench-{uuid4()}", topics=[COMMAND_RESULTS.name],
                     assigned=got, revoked=got) as consumer,
        ):  # fmt: skip
            following = asyncio.create_task(follow(consumer))
            await assigned.wait()

            async def send(client: Client, number: int) -> None:
                command = RequestShare(
                    command_id=str(uuid4()), actor=client.account, device_ids=(client.device,),
                    recipients=(client.email,), scripting=number % 2 == 0, notify=False,
                )  # fmt: skip
                answer = waiting[command.command_id] = asyncio.get_running_loop().create_future()
                await producer.enqueue(SHARE_COMMANDS.name, client.device, message(command))
                async with asyncio.timeout(60):
                    result = await answer
                if result["type"] != "latchkey.CommandAccepted.v1":
                    raise RuntimeError(f"Kafka: {result['data']}")

            yield send
            following.cancel()


def message(data: codec.Message) -> bytes:
    """A message of the bench's own."""
    return codec.encode(codec.envelope(data, source="bench", time=datetime.now(UTC)))
