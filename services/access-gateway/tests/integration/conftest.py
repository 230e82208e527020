"""A gateway on a real database with the projector's own schema, a real broker, and devices to reach."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

from access_gateway.app import App, build
from access_gateway.settings import Settings
from contracts import codec, topics
from servicekit import pg
from servicekit.kafka import Admin, Consumer, Partition

if TYPE_CHECKING:
    from devstack.pytest_plugin import Database, InternalTokenMaker

TICK_SECONDS = 0.2


class World:
    """The read models as the projector would write them, and its heartbeat, which can be stopped."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self.beating = True

    async def run(self, statement: str, *arguments: object) -> None:
        async with self._lock:
            await self._connection.execute(statement, *arguments)

    async def value(self, query: str) -> object:
        async with self._lock:
            return await self._connection.fetchval(query)

    async def beat(self) -> None:
        """Prove, again and again, that everything is applied."""
        while True:
            if self.beating:
                await self.watermark("0 seconds")
            await asyncio.sleep(TICK_SECONDS)

    async def watermark(self, ahead: str) -> None:
        await self.run(
            "with gone as (delete from permissions.watermark) insert into permissions.watermark values"
            " ((extract(epoch from clock_timestamp()) * 1e6)::bigint, clock_timestamp() + $1::text::interval,"
            " 'e', 'e', array_fill(0::bigint, array[24]), 'd', 'd', array_fill(0::bigint, array[24]))",
            ahead,
        )

    async def device(self, device_id: str, address: tuple[str, int], **more: str) -> str:
        """A device of account ``owner`` with one service, whose id is returned."""
        service_id = f"{device_id}-svc"
        await self.run(
            "insert into permissions.device values ($1, 5, 'owner', 'n', 'computer', now())", device_id
        )
        await self.run(
            "insert into permissions.service values ($1, $2, 0, 'n', $5, null, $3, $4, $6)",
            device_id,
            service_id,
            *address,
            more.get("protocol", "tcp"),
            more.get("permissions", "connect").split(","),
        )
        return service_id

    async def share(self, device_id: str, account_id: str, permissions: str = '"all"') -> None:
        """An accepted share of the whole device."""
        await self._changed(
            device_id,
            "insert into permissions.share values ($1, gen_random_uuid(), gen_random_uuid(), 'owner',"
            " 'active', $2,"
            " jsonb_build_object('scope', jsonb_build_object('kind', 'all', 'permissions', $3::text::jsonb)),"
            " 1, now(), now())",
            device_id,
            account_id,
            permissions,
        )

    async def revoke(self, device_id: str) -> None:
        """End every share of the device."""
        await self._changed(
            device_id, "update permissions.share set state = 'revoked' where device_id = $1", device_id
        )

    async def _changed(self, device_id: str, statement: str, *arguments: object) -> None:
        async with self._lock, self._connection.transaction():
            await self._connection.execute(statement, *arguments)
            await self._connection.execute(
                "insert into permissions.device_stream values ($1, 1)"
                " on conflict (device_id) do update set version = permissions.device_stream.version + 1",
                device_id,
            )
            await self._connection.execute(
                "insert into permissions.change (generation, topic, partition, record_offset, device_id)"
                " select number, 'e', 5, 0, $1 from permissions.generation",
                device_id,
            )
            await self._connection.execute("notify permissions_changed")


@pytest.fixture
async def world(database: "Database") -> AsyncGenerator[World]:
    await pg.migrate(database.dsn("permission_projector"), "permission_projector")
    connection = await asyncpg.connect(database.dsn("permission_projector"))
    made = World(connection)
    beating = asyncio.create_task(made.beat())
    yield made
    beating.cancel()
    await asyncio.wait({beating})
    await connection.close()


class Devices:
    """Services to connect to: one repeats what it hears, one talks without end, one never answers."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self.connections = 0
        self.ended: list[BaseException | None] = []

    async def echo(self) -> tuple[str, int]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

        return await self._serve(handle)

    async def flood(self) -> tuple[str, int]:
        async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        return await self._serve(handle)

    async def _serve(
        self, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
    ) -> tuple[str, int]:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            error: BaseException | None = None
            try:
                await handle(reader, writer)
            except (ConnectionError, asyncio.CancelledError) as reason:
                error = reason
            finally:
                self.ended.append(error)
                writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()

    async def close(self) -> None:
        for server in self._servers:
            server.close()


@pytest.fixture
async def devices() -> AsyncGenerator[Devices]:
    made = Devices()
    yield made
    await made.close()


class Running:
    """A running gateway and a caller that it trusts."""

    def __init__(self, app: App, http: httpx.AsyncClient, tokens: "InternalTokenMaker") -> None:
        self.app, self.http, self._tokens = app, http, tokens

    def headers(self, account_id: str, **more: str) -> dict[str, str]:
        token = self._tokens.token("access-gateway", account_id)
        return {"Authorization": f"Bearer {token}", **{k.replace("_", "-"): v for k, v in more.items()}}

    async def post(
        self, account_id: str, service_id: str, host_ip: str | None = None, **headers: str
    ) -> httpx.Response:
        body = {"service_id": service_id, **({"host_ip": host_ip} if host_ip else {})}
        return await self.http.post("/v1/connections", json=body, headers=self.headers(account_id, **headers))

    async def open(self, account_id: str, service_id: str, host_ip: str | None = None) -> dict[str, Any]:
        answer = await self.post(account_id, service_id, host_ip)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def connect(
        self, port: int, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))

    async def ready(self) -> int:
        return (await self.http.get("/readyz")).status_code

    async def metric(self, line: str) -> float:
        """The value of one line of the metrics."""
        text = (await self.http.get("/metrics")).text
        return next(
            float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line + " ")
        )

    async def reaches(self, line: str, value: float) -> None:
        """Wait until a metric has a value."""
        async with asyncio.timeout(15):
            while await self.metric(line) != value:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.02)

    async def becomes_ready(self, status: int) -> None:
        """Wait until readiness is answered with a status."""
        async with asyncio.timeout(15):
            while await self.ready() != status:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.02)


class Gateways:
    """Starts gateways; each test's settings differ in what it is about."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, tokens: "InternalTokenMaker", **settings: str
    ) -> None:
        self._stack, self._tokens, self._settings = stack, tokens, settings

    async def start(self, **changes: object) -> Running:
        with socket.create_server(("127.0.0.1", 0)) as probe:  # a range near a port that was free
            first = min(probe.getsockname()[1], 65000)
        values: dict[str, object] = {
            "internal_keys": self._tokens.public_jwks,
            "gateway_id": "gw-1",
            "relay_ports": f"{first}-{first + 300}",
            "target_networks": "127.0.0.0/8",
            **self._settings,
            **changes,
        }
        app = build(Settings.model_validate(values))
        running = asyncio.create_task(app.run())
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app.http), base_url="http://gateway")
        self._stack.push_async_callback(self._stop, running, http)
        gateway = Running(app, http, self._tokens)
        await gateway.becomes_ready(200)
        return gateway

    async def _stop(self, running: asyncio.Task[None], http: httpx.AsyncClient) -> None:
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled(), running.exception()
        await http.aclose()


@pytest.fixture
async def events_topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    topic = topics.ACCESS_EVENTS
    await Admin(kafka_bootstrap).provision([(topic_prefix + topic.name, topic.partitions, topic.config)])
    return topic_prefix + topic.name


@pytest.fixture
async def gateways(  # noqa: PLR0917 - pytest passes fixtures by name
    world: World,
    database: "Database",
    kafka_bootstrap: str,
    topic_prefix: str,
    events_topic: str,
    internal_tokens: "InternalTokenMaker",
) -> AsyncGenerator[Gateways]:
    del world, events_topic  # they must be there before
    async with contextlib.AsyncExitStack() as stack:
        yield Gateways(
            stack,
            internal_tokens,
            postgres_dsn=database.dsn("access_gateway"),
            kafka_bootstrap=kafka_bootstrap,
            topic_prefix=topic_prefix,
        )


class Events:
    """What the gateway published, in the order of arrival."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.keys: list[str | None] = []

    async def take(self, count: int) -> list[codec.Envelope]:
        """The next ``count`` events; fails when they do not come."""
        found: list[codec.Envelope] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                batches = await self._consumer.getmany(timeout_ms=200, max_records=100)
                for record in sorted(
                    (each for records in batches.values() for each in records),
                    key=lambda each: each.timestamp_ms,
                ):
                    found.append(codec.decode(record.value))
                    self.keys.append(None if record.key is None else record.key.decode())
        return found


@pytest.fixture
async def events(kafka_bootstrap: str, events_topic: str) -> AsyncGenerator[Events]:
    async def ignore(_places: set[Partition]) -> None: ...

    async with Consumer(
        kafka_bootstrap, group=f"{events_topic}.test", topics=[events_topic], assigned=ignore, revoked=ignore
    ) as consumer:
        yield Events(consumer)
