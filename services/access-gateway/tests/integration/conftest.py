"""A gateway on a real database with the projector's own schema, a real broker, and devices to reach."""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

from access_gateway.app import App, build
from access_gateway.settings import Settings
from contracts import codec, topics
from contracts.events import GatewayStarted
from permission_projector.generation import ensure_live
from servicekit import pg
from servicekit.kafka import Admin, Consumer, Partition

if TYPE_CHECKING:
    from rtsp_site import Site

    from devstack.certificates import Files
    from devstack.issuer import IssuerServer
    from devstack.pytest_plugin import Database, InternalTokenMaker

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside, which several tests use

# Fixtures, told apart for their size.
from agent_site import agents, presence_topic, told  # noqa: F401  # pyright: ignore[reportUnusedImport]

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
        service_id = more.get("service_id", f"{device_id}-svc")
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

    async def more_services(self, device_id: str, count: int, permissions: str) -> None:
        """Further services of a device, ``<device_id>-more-0`` and so on."""
        await self.run(
            "insert into permissions.service (device_id, service_id, ordinal, name, protocol, target_host,"
            " target_port, permissions) select $1, $1 || '-more-' || n, n + 1, 'n', 'tcp', '127.0.0.1', 1, $3"
            " from generate_series(0, $2 - 1) as n",
            device_id,
            count,
            permissions.split(","),
        )

    async def share(
        self,
        device_id: str,
        account_id: str,
        permissions: str = '"all"',
        *,
        begins: str | None = None,
        lasts: str | None = None,
    ) -> None:
        """An accepted share of the whole device; its window is told as intervals from now."""
        await self._changed(
            device_id,
            "insert into permissions.share values ($1, gen_random_uuid(), gen_random_uuid(), 'owner',"
            " 'active', $2,"
            " jsonb_build_object('scope', jsonb_build_object('kind', 'all', 'permissions', $3::text::jsonb),"
            " 'starts_at', clock_timestamp() + $4::text::interval,"
            " 'ends_at', clock_timestamp() + $5::text::interval),"
            " 1, now(), now(), null, 1)",
            device_id,
            account_id,
            permissions,
            begins,
            lasts,
        )

    async def ends(self, device_id: str, lasts: str | None) -> None:
        """Give every share of the device another end."""
        await self._changed(
            device_id,
            "update permissions.share set terms = terms"
            " || jsonb_build_object('ends_at', clock_timestamp() + $2::text::interval) where device_id = $1",
            device_id,
            lasts,
        )

    async def comes(self, moment: str, *, after: str = "0 seconds") -> None:
        """Wait until the first start or end of all shares has come, by the database's clock."""
        query = (
            f"select clock_timestamp() - interval '{after}' >= min((terms ->> '{moment}')::timestamptz)"
            " from permissions.share"
        )
        async with asyncio.timeout(15):
            while not await self.value(query):  # noqa: ASYNC110 - asked of the database
                await asyncio.sleep(0.005)

    async def camera(self, device_id: str, address: tuple[str, int], live: str, recording: str | None) -> str:
        """A device that is a camera with all that a camera can do; its service's id is returned."""
        service_id = await self.device(
            device_id, address, protocol="rtsp", permissions="live_view,playback,two_way_audio"
        )
        await self.run(
            "update permissions.service set live_path = $2, recording_path = $3 where service_id = $1",
            service_id,
            live,
            recording,
        )
        return service_id

    async def narrow(self, device_id: str, permissions: str) -> None:
        """Give every share of the device other permissions."""
        await self._changed(
            device_id,
            "update permissions.share set terms = jsonb_set(terms, '{scope,permissions}', $2::text::jsonb)"
            " where device_id = $1",
            device_id,
            permissions,
        )

    async def revoke(self, device_id: str) -> None:
        """End every share of the device."""
        await self._changed(
            device_id, "update permissions.share set state = 'revoked' where device_id = $1", device_id
        )

    async def _changed(self, device_id: str, statement: str, *arguments: str | None) -> None:
        async with self._lock, self._connection.transaction():
            await self._connection.execute(statement, *arguments)
            await self._connection.execute(
                "insert into permissions.share_event (device_id, version, event_id, share_id, kind, at,"
                " state, owner_account_id, contact_id) select $1, coalesce(max(version), 0) + 1,"
                " gen_random_uuid(),"
                " gen_random_uuid(), 'ShareChanged', now(), 'active', 'owner', gen_random_uuid()"
                " from permissions.share_event where device_id = $1",
                device_id,
            )
            await self._connection.execute(
                "insert into permissions.change (device_ids, correlation_ids, account_ids, contact_ids)"
                " values (array[$1], array[null], '{}', '{}')",
                device_id,
            )
            await self._connection.execute("notify permissions_changed")


@pytest.fixture
async def world(database: "Database") -> AsyncGenerator[World]:
    await pg.migrate(database.dsn("permission_projector"), "permission_projector")
    await ensure_live(database.dsn("permission_projector"))
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
        self.heard = bytearray()
        self._closing = asyncio.Event()
        self.ended: list[BaseException | None] = []

    async def echo(self) -> tuple[str, int]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

        return await self._serve(handle)

    async def says(self, data: bytes) -> tuple[str, int]:
        async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()

        return await self._serve(handle)

    async def page(self) -> tuple[str, int]:
        """An empty page, whatever is asked for."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n")
            writer.write(b"Connection: close\r\n\r\n")
            await writer.drain()

        return await self._serve(handle)

    async def hears(self) -> tuple[str, int]:
        async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                self.heard += data

        return await self._serve(handle)

    async def deaf(self) -> tuple[str, int]:
        async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del writer  # the reader holds 128 KiB, then its socket is not read any more
            await self._closing.wait()

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
        self._closing.set()
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

    async def turns_away(self, port: int, source: str) -> bool:
        """Whether a client from there is closed or reset without a byte, maybe while it still connects."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await self.connect(port, source)
                try:
                    return await reader.read(1) == b""
                finally:
                    writer.close()
        except ConnectionError:
            return True

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


@dataclass(frozen=True, slots=True)
class Doorway:
    """A gateway with open doors, and people who may come to them."""

    gateway: Running
    plain: int
    tls: int
    trust: ssl.SSLContext
    issuer: "IssuerServer"

    def token(self, account_id: str) -> str:
        return self.issuer.token(account_id)

    async def connect(
        self, *, secure: bool = False, source: str = "127.0.0.1", receives: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """``receives``: bytes that the client's kernel keeps for it; else it decides."""
        sock = socket.socket()
        if receives is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        sock.bind((source, 0))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.tls if secure else self.plain))
        return await asyncio.open_connection(
            sock=sock,
            ssl=self.trust if secure else None,
            server_hostname="localhost" if secure else None,
        )


class Gateways:
    """Starts gateways; each test's settings differ in what it is about."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, tokens: "InternalTokenMaker", **settings: str
    ) -> None:
        self._stack, self._tokens, self._settings = stack, tokens, settings
        self._running: dict[Running, asyncio.Task[None]] = {}

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
        self._running[gateway] = running
        await gateway.becomes_ready(200)
        return gateway

    async def doorway(self, issuer: "IssuerServer", certificates: "Files", **changes: object) -> Doorway:
        """A gateway whose access doors are open, plain and over TLS."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            plain, tls = one.getsockname()[1], two.getsockname()[1]
        gateway = await self.start(
            access_port=plain,
            access_tls_port=tls,
            tls_cert_file=certificates.certificate,
            tls_key_file=certificates.key,
            oidc_issuer=issuer.url,
            oidc_audience=issuer.audience,
            **{"web_origins": ("https://app.example",), **changes},
        )
        trust = ssl.create_default_context(cafile=certificates.ca)
        return Doorway(gateway, plain, tls, trust, issuer)

    async def stop(self, gateway: Running) -> None:
        """End one gateway as SIGTERM does."""
        running = self._running.pop(gateway)
        running.cancel()
        await asyncio.wait({running})

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
    await pg.migrate(database.dsn("access_gateway"), "access_gateway")
    async with contextlib.AsyncExitStack() as stack:
        yield Gateways(
            stack,
            internal_tokens,
            postgres_dsn=database.dsn("access_gateway"),
            kafka_bootstrap=kafka_bootstrap,
            topic_prefix=topic_prefix,
        )


@pytest.fixture
def free_ports() -> list[int]:
    """Two ports that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return [each.getsockname()[1] for each in (one, two)]


@pytest.fixture
async def site(
    gateways: Gateways, world: World, issuer: "IssuerServer", certificates: "Files", free_ports: list[int]
) -> "AsyncGenerator[Site]":
    gateway = await gateways.start(
        rtsp_port=free_ports[0],
        rtsps_port=free_ports[1],
        tls_cert_file=certificates.certificate,
        tls_key_file=certificates.key,
        oidc_issuer=issuer.url,
        oidc_audience=issuer.audience,
    )
    from rtsp_site import Site

    made = Site(gateway, world, issuer, free_ports[0], free_ports[1])
    yield made
    await made.close()


class Events:
    """What the gateway published, in the order of arrival; that a gateway has started is kept apart."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.keys: list[str | None] = []
        self.started: list[codec.Envelope] = []

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
                    event = codec.decode(record.value)
                    if isinstance(event.data, GatewayStarted):
                        self.started.append(event)
                        continue
                    found.append(event)
                    self.keys.append(None if record.key is None else record.key.decode())
        return found


@pytest.fixture
async def events(kafka_bootstrap: str, events_topic: str) -> AsyncGenerator[Events]:
    async def ignore(_places: set[Partition]) -> None: ...

    async with Consumer(
        kafka_bootstrap, group=f"{events_topic}.test", topics=[events_topic], assigned=ignore, revoked=ignore
    ) as consumer:
        yield Events(consumer)
