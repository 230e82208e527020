"""Many connections through the gateway on which bytes flow, and revokes while they do; also when something in
between is broken."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from _load import Bench, Http, message

from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from contracts.topics import DIRECTORY_ACCOUNTS, DIRECTORY_DEVICES
from servicekit.kafka import Producer

OPEN, REVOKES_PER_SECOND = 1_000, 100
EACH = 50
"""Devices of one owner, all for one recipient, who may have so many ports open."""
BEAT_SECONDS = 0.25
"""So often each service sends, and each client."""
PARTS = 50
AIM_MS = 50.0
MAX_STALENESS = 15.0
_NOT_YET = 503
WATCH = 0.2
"""What the bound is allowed on top: the gateway looks at it ten times a second."""


@dataclass(eq=False)
class Line(asyncio.Protocol):
    """One connection of a recipient. Times are of `time.monotonic`."""

    number: int
    transport: asyncio.Transport | None = None
    received: int = 0
    last_byte: float = 0.0
    closed: float = 0.0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.last_byte = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = time.monotonic()
        self.gone.set()


class ServiceEnd(asyncio.Protocol):
    """One connection at a service: the other end of a line, once it has said which."""

    def __init__(self, services: "Services") -> None:
        self._services = services
        self.last_byte = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._services.open.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.last_byte:
            self._services.by_line[int(data[:8])] = self
        self.last_byte = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self._services.open.discard(self)


class Services:
    """What all devices of this benchmark lead to: it sends, on every connection, again and again."""

    def __init__(self) -> None:
        self.open: set[ServiceEnd] = set()
        self.by_line: dict[int, ServiceEnd] = {}

    async def talk(self, lines: list[Line]) -> None:
        """Send on every connection that is open, from both ends, for ever.

        Each has its own moment in the beat. Sent all at once, two thousand times, this process would be busy
        with nothing else for a good part of it, and measure itself.
        """
        for part in itertools.cycle(range(PARTS)):
            for service in list(self.open)[part::PARTS]:
                service.transport.write(b"x" * 32)
            for line in lines[part::PARTS]:
                if line.transport is not None and not line.closed:
                    line.transport.write(b"y" * 32)
            await asyncio.sleep(BEAT_SECONDS / PARTS)


class Cutting:
    """The accounts, devices, shares and lines of one measurement."""

    def __init__(self, bench: Bench, count: int) -> None:
        self._bench, self._count = bench, count
        self._services = Services()
        self.run = bench.run + uuid4().hex[:4]
        self.lines: list[Line] = []

    def owner(self, number: int) -> str:
        """Who shares this device."""
        return f"cut-{self.run}-o{number // EACH}"

    def recipient(self, number: int) -> str:
        """With whom."""
        return f"cut-{self.run}-r{number // EACH}"

    def device(self, number: int) -> str:
        """Its id."""
        return f"cut-{self.run}-d{number}"

    def email(self, number: int) -> str:
        """The recipient's."""
        return f"{self.recipient(number)}@bench.test"

    @asynccontextmanager
    async def prepared(self) -> AsyncGenerator[None]:
        """With everything shared, accepted, connected, and talking."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: ServiceEnd(self._services), "127.0.0.1", 0)
        await self._provision(server.sockets[0].getsockname()[1])
        positions = await self._share()
        await self._connect(positions)
        talking = asyncio.create_task(self._services.talk(self.lines))
        try:
            await asyncio.sleep(1)
            yield
        finally:
            talking.cancel()
            for line in self.lines:
                if line.transport is not None:
                    line.transport.abort()
            server.close()

    async def _provision(self, port: int) -> None:
        async with Producer(self._bench.bootstrap, "bench") as producer:
            for number in range(0, self._count, EACH):
                both = {self.owner(number): (), self.recipient(number): (self.email(number),)}
                for account, verified in both.items():
                    snapshot = AccountSnapshot(account_id=account, name="Bench", verified_emails=verified)
                    await producer.send(DIRECTORY_ACCOUNTS.name, account, message(snapshot))
            for number in range(self._count):
                target = Target(host="127.0.0.1", port=port)
                service = Service(service_id=self.device(number), name="S", protocol="tcp", target=target)
                device = DeviceSnapshot(
                    device_id=self.device(number), owner_account_id=self.owner(number), name="Bench",
                    kind="computer", services=(service,),
                )  # fmt: skip
                await producer.send(DIRECTORY_DEVICES.name, self.device(number), message(device))
        await self._bench.until(
            "select (select count(*) from share_command.device where device_id like $1) = $2"
            " and (select count(*) from permissions.device where device_id like $1) = $2",
            f"cut-{self.run}-%", self._count,
        )  # fmt: skip

    async def _share(self) -> dict[int, str]:
        """Each device with its recipient, who accepts by rule; the positions."""
        positions: dict[int, str] = {}
        async with httpx.AsyncClient(base_url=self._bench.status.url("share-command"), timeout=30) as http:
            for number in range(0, self._count, EACH):
                headers = {"Authorization": f"Bearer {self._bench.internal(self.recipient(number))}"}
                rule = await http.put(f"/v1/always-accept/{self.owner(number)}", headers=headers)
                rule.raise_for_status()
        connection = await Http.open(self._bench.status.addresses["share-command"])
        for number in range(self._count):
            body = {"command_id": str(uuid4()), "device_ids": [self.device(number)],
                    "recipients": [self.email(number)], "notify": False}  # fmt: skip
            answer = await connection.post(
                "/v1/commands/RequestShare", self._bench.internal(self.owner(number)), body
            )
            positions[number] = answer["positions"][0]
        connection.close()
        return positions

    async def _connect(self, positions: dict[int, str]) -> None:
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(base_url=self._bench.status.url("access-gateway"), timeout=30) as http:
            for number in range(self._count):
                token = self._bench.internal(self.recipient(number), audience="access-gateway")
                headers = {"Authorization": f"Bearer {token}", "Latchkey-Position": positions[number]}
                while True:
                    answer = await http.post(
                        "/v1/connections", json={"service_id": self.device(number)}, headers=headers
                    )
                    if answer.status_code != _NOT_YET:
                        break
                    await asyncio.sleep(0.05)
                answer.raise_for_status()
                way = answer.json()
                line = Line(number)
                await loop.create_connection(lambda line=line: line, way["host"], way["port"])
                assert line.transport is not None
                line.transport.write(b"%08d" % number)
                self.lines.append(line)

    async def revoke(self, numbers: list[int], rate: float) -> dict[int, float]:
        """Revoke these at a steady rate, whether the last one is answered or not; when each was accepted."""
        accepted: dict[int, float] = {}
        free: asyncio.Queue[Http] = asyncio.Queue()
        for _ in range(8):
            free.put_nowait(await Http.open(self._bench.status.addresses["share-command"]))

        async def send(number: int) -> None:
            connection = await free.get()
            body = {"command_id": str(uuid4()), "device_ids": [self.device(number)],
                    "recipients": [self.email(number)]}  # fmt: skip
            await connection.post("/v1/commands/RevokeShare", self._bench.internal(self.owner(number)), body)
            accepted[number] = time.monotonic()
            free.put_nowait(connection)

        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for place, number in enumerate(numbers):
                await asyncio.sleep(begin + place / rate - time.monotonic())
                group.create_task(send(number))
        while not free.empty():
            free.get_nowait().close()
        return accepted

    async def cut(self, numbers: list[int], seconds: float) -> int:
        """Wait until these lines are closed; how many are not after so long."""
        waiting = [asyncio.create_task(self.lines[number].gone.wait()) for number in numbers]
        _, left = await asyncio.wait(waiting, timeout=seconds)
        for task in left:
            task.cancel()
        return len(left)

    def last_bytes(self, number: int) -> float:
        """When the last byte of a line arrived at either end."""
        service = self._services.by_line.get(number)
        return max(self.lines[number].last_byte, service.last_byte if service else 0.0)


async def under_load(bench: Bench) -> list[dict[str, Any]]:
    """Revoke all of a thousand open connections, a hundred a second."""
    cutting = Cutting(bench, OPEN)
    async with cutting.prepared():
        numbers = list(range(OPEN))
        print(f"{OPEN} connections are open", flush=True)
        accepted = await cutting.revoke(numbers, REVOKES_PER_SECOND)
        left = await cutting.cut(numbers, 5)
        await asyncio.sleep(0.5)  # a byte that comes late would be seen
        closed = sorted(max(0.0, cutting.lines[n].closed - accepted[n]) * 1000 for n in numbers if not left)
        bytes_ = sorted(max(0.0, cutting.last_bytes(n) - accepted[n]) * 1000 for n in numbers)
        # This process reads both ends, in turns: a byte of the turn in which it saw the end is no late one.
        late = sum(cutting.last_bytes(n) > cutting.lines[n].closed + BEAT_SECONDS for n in numbers)
    name = f"with {OPEN} open and {REVOKES_PER_SECOND} revokes/s"

    def at(ordered: list[float], share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2) if ordered else -1.0

    p99 = at(bytes_, 0.99)
    return [
        {"figure": f"accepted to last byte {name} p50", "value": at(bytes_, 0.5), "unit": "ms"},
        {"figure": f"accepted to last byte {name} p99", "value": p99, "unit": "ms",
         "aim": f"<= {AIM_MS:g}", "met": p99 <= AIM_MS},
        {"figure": f"accepted to socket closed {name} p50", "value": at(closed, 0.5), "unit": "ms"},
        {"figure": f"accepted to socket closed {name} p99", "value": at(closed, 0.99), "unit": "ms"},
        {"figure": f"still open after them, {name}", "value": left, "unit": "connections", "aim": 0,
         "met": left == 0},
        {"figure": f"a byte after the cut, {name}", "value": late, "unit": "connections", "aim": 0,
         "met": late == 0},
    ]  # fmt: skip


async def broken(
    bench: Bench, name: str, breaks: Callable[[], Awaitable[Callable[[], None]]]
) -> dict[str, Any]:
    """Break something, revoke, and see when the last of ten connections is cut."""
    cutting = Cutting(bench, 10)
    async with cutting.prepared():
        numbers = list(range(10))
        mend = await breaks()
        try:
            accepted = await cutting.revoke(numbers, 100)
            left = await cutting.cut(numbers, MAX_STALENESS + 10)
        finally:
            mend()
        worst = max(max(0.0, cutting.lines[n].closed - accepted[n]) for n in numbers) if not left else -1.0
    bound = MAX_STALENESS + WATCH
    return {
        "figure": f"accepted to last cut, {name}", "value": round(worst, 3), "unit": "s",
        "aim": f"<= {bound:g}", "met": not left and worst <= bound,
    }  # fmt: skip


async def faults(bench: Bench) -> list[dict[str, Any]]:
    """With the projector stopped, the broker stopped, and the gateway killed."""
    pids = {item.name: item.pid for item in bench.status.processes}

    def pid(name: str) -> int:
        found = pids[name]
        assert found is not None
        return found

    def nothing() -> None: ...

    async def stop_projector() -> Callable[[], None]:
        os.kill(pid("permission-projector"), signal.SIGSTOP)
        return lambda: os.kill(pid("permission-projector"), signal.SIGCONT)

    async def stop_broker() -> Callable[[], None]:
        os.kill(pid("kafka"), signal.SIGSTOP)
        return lambda: os.kill(pid("kafka"), signal.SIGCONT)

    async def kill_gateway() -> Callable[[], None]:
        os.kill(pid("access-gateway"), signal.SIGKILL)
        return nothing

    return [
        await broken(bench, "projector stopped", stop_projector),
        await broken(bench, "broker stopped", stop_broker),
        await broken(bench, "gateway killed", kill_gateway),
    ]
