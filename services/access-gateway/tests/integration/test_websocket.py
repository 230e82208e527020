"""WebSocket as a client sees it, plain and over TLS."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Origin, Subprotocol

if TYPE_CHECKING:
    from conftest import Devices, Doorway, Events, Gateways, World

    from devstack.certificates import Files
    from devstack.issuer import IssuerServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def doorway(gateways: "Gateways", issuer: "IssuerServer", certificates: "Files") -> "Doorway":
    return await gateways.doorway(issuer, certificates)


@contextlib.asynccontextmanager
async def opened(
    doorway: "Doorway",
    service: str,
    token: str,
    *,
    secure: bool = False,
    browser: bool = False,
    origin: str | None = None,
    query: str = "",
) -> AsyncGenerator[ClientConnection]:
    scheme, port = ("wss", doorway.tls) if secure else ("ws", doorway.plain)
    offered = [Subprotocol("latchkey.v1"), Subprotocol(f"bearer.{token}")] if browser else None
    async with connect(
        f"{scheme}://localhost:{port}/v1/connect/{service}{query}",
        ssl=doorway.trust if secure else None,
        subprotocols=offered,
        additional_headers=None if browser or not token else {"Authorization": f"Bearer {token}"},
        origin=Origin(origin) if origin else None,
        compression=None,
        proxy=None,
        open_timeout=20,
        close_timeout=5,
    ) as websocket:
        yield websocket


async def received(websocket: ClientConnection, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(30):
        while len(data) < count:
            part = await websocket.recv()
            assert isinstance(part, bytes)
            data += part
    return data


async def closed(websocket: ClientConnection) -> tuple[int | None, str | None]:
    """The close code and reason, whatever comes before."""
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(30):
            while True:
                await websocket.recv()
    return websocket.close_code, websocket.close_reason


@pytest.mark.parametrize(("secure", "browser"), [(False, False), (True, True)])
async def test_a_recipient_reaches_his_service(
    world: "World", devices: "Devices", doorway: "Doorway", secure: bool, browser: bool
) -> None:
    service = await world.device("dev:1", await devices.echo())
    await world.share("dev:1", "ann")
    async with opened(doorway, service, doorway.token("ann"), secure=secure, browser=browser) as websocket:
        assert websocket.subprotocol == ("latchkey.v1" if browser else None)
        data = random.randbytes(3_000_000)
        parts = [data[i : i + 70_000] for i in range(0, len(data), 70_000)]
        sending = asyncio.create_task(websocket.send(parts))
        assert await received(websocket, len(data)) == data
        await sending
    await doorway.gateway.reaches("gateway_open_connections", 0)


async def test_what_a_device_says_first_and_last_arrives_and_then_its_end(
    world: "World", devices: "Devices", doorway: "Doorway", events: "Events"
) -> None:
    data = random.randbytes(3_000_000)
    service = await world.device("dev-1", await devices.says(data))
    async with opened(doorway, service, doorway.token("owner")) as websocket:
        assert await received(websocket, len(data)) == data
        assert await closed(websocket) == (1000, "")
    told = [each.data.model_dump() for each in await events.take(2)]
    assert (told[0]["way"], told[1]["bytes_from_device"]) == ("websocket", 3_000_000)


async def test_all_that_a_client_sent_before_he_closed_arrives(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.hears())
    data = random.randbytes(5_000_000)
    async with opened(doorway, service, doorway.token("owner")) as websocket:
        await websocket.send(data[:900_000])
        await websocket.send(data[900_000:1_800_000])
    async with asyncio.timeout(20):
        while len(devices.heard) < 1_800_000:  # noqa: ASYNC110 - the other side of a socket
            await asyncio.sleep(0.01)
    assert bytes(devices.heard) == data[:1_800_000]


async def test_why_not_is_told_by_a_close_code(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    dead = await world.device("dev-2", ("127.0.0.1", 1))
    await world.share("dev-1", "ann")
    ann, owner = doorway.token("ann"), doorway.token("owner")
    for name, token, query, expected in (
        (service, "", "", (4401, "UNAUTHENTICATED")),
        (service, doorway.issuer.foreign_token("ann"), "", (4401, "UNAUTHENTICATED")),
        (service, doorway.token("bob"), "", (4403, "ACCESS_DENIED")),
        ("no-such-service", ann, "", (4403, "ACCESS_DENIED")),
        ("%00", ann, "", (4400, "INVALID_REQUEST")),
        (dead, owner, "", (4502, "TARGET_UNREACHABLE")),
        (service, ann, "?position=dev-1@9", (4503, "NOT_YET_VISIBLE")),
        (service, ann, "?position=nonsense", (4400, "INVALID_REQUEST")),
    ):
        async with opened(doorway, name, token, query=query) as websocket:
            assert await closed(websocket) == expected
    assert devices.connections == 0


async def test_pages_of_other_origins_are_kept_out(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    for origin in ("https://evil.example", "null", "https://app.example.evil"):
        with pytest.raises(InvalidStatus) as refused:
            async with opened(doorway, service, doorway.token("owner"), origin=origin):
                pass
        assert refused.value.response.status_code == 403
    async with opened(doorway, service, doorway.token("owner"), origin="https://app.example") as websocket:
        await websocket.send(b"ping")
        assert await received(websocket, 4) == b"ping"


NO_HANDSHAKES = [
    (["GET /v1/elsewhere HTTP/1.1", "Sec-WebSocket-Version: 13"], 404),
    (["GET /v1/connect/dev-1 HTTP/1.1", "Sec-WebSocket-Version: 8"], 400),
    (["GET //[v1/connect/dev-1 HTTP/1.1", "Sec-WebSocket-Version: 13"], 400),
    (["POST /v1/connect/dev-1 HTTP/1.1", "Sec-WebSocket-Version: 13"], 405),
    (["GET /v1/connect/dev-1 HTTP/1.1", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"], 400),
]


async def test_a_handshake_that_is_none_is_answered_in_words(doorway: "Doorway") -> None:
    for lines, status in NO_HANDSHAKES:
        reader, writer = await doorway.connect()
        head = [*lines, "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
        if not any("Key" in line for line in lines):
            head.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        writer.write("\r\n".join([*head, "", ""]).encode())
        async with asyncio.timeout(20):
            answer = await reader.read()
        assert int(answer.split(b" ")[1]) == status, answer
        writer.close()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("flooding", [False, True])
async def test_who_is_cut_is_told_why_and_gets_nothing_more(  # noqa: PLR0917 - fixtures by name
    world: "World", devices: "Devices", doorway: "Doorway", events: "Events", secure: bool, flooding: bool
) -> None:
    service = await world.device("dev-1", await (devices.flood() if flooding else devices.echo()))
    await world.share("dev-1", "ann")
    async with opened(doorway, service, doorway.token("ann"), secure=secure) as websocket:
        if flooding:
            await received(websocket, 1_000_000)
        await doorway.gateway.reaches("gateway_open_connections", 1)
        await world.revoke("dev-1")
        assert await closed(websocket) == (4410, "GRANT_ENDED")
    told = [each.data.model_dump(mode="json") for each in await events.take(2)]
    assert told[1]["reason"] == "grant_ended"
    async with opened(doorway, service, doorway.token("ann")) as websocket:
        assert await closed(websocket) == (4403, "ACCESS_DENIED")


async def test_who_is_cut_and_does_not_read_is_reset(
    world: "World", devices: "Devices", doorway: "Doorway", events: "Events"
) -> None:
    service = await world.device("dev-1", await devices.flood())
    await world.share("dev-1", "ann")
    reader, writer = await doorway.connect()
    head = [
        f"GET /v1/connect/{service} HTTP/1.1",
        f"Authorization: Bearer {doorway.token('ann')}",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode())
    await reader.readuntil(b"\r\n\r\n")
    await doorway.gateway.reaches("gateway_open_connections", 1)
    await world.revoke("dev-1")
    told = [each.data.model_dump(mode="json") for each in await events.take(2)]  # it has ended all the same
    assert told[1]["reason"] == "grant_ended"
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(20):
            while await reader.read(1_000_000):
                pass
            raise ConnectionError
    writer.close()


async def test_the_end_of_the_gateway_is_told(
    world: "World", devices: "Devices", doorway: "Doorway", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    async with opened(doorway, service, doorway.token("owner")) as websocket:
        await websocket.send(b"ping")
        assert await received(websocket, 4) == b"ping"
        await gateways.stop(doorway.gateway)
        assert await closed(websocket) == (1001, "GOING_AWAY")


async def test_what_is_no_binary_frame_ends_it(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    owner = doorway.token("owner")
    async with opened(doorway, service, owner) as websocket:
        await websocket.send("text")
        assert await closed(websocket) == (1003, "BINARY_FRAMES_ONLY")
    async with opened(doorway, service, owner) as websocket:
        await websocket.send(b"x" * 2_000_000)
        assert (await closed(websocket))[0] == 1009
    async with opened(doorway, service, owner) as websocket:
        websocket.transport.write(Frame(Opcode.BINARY, b"not masked").serialize(mask=False))
        assert (await closed(websocket))[0] == 1002
    async with opened(doorway, service, owner) as websocket:
        await websocket.send(b"ping")
        assert await received(websocket, 4) == b"ping"


async def test_an_idle_one_is_ended_and_a_ping_does_not_keep_it(
    world: "World", gateways: "Gateways", devices: "Devices", issuer: "IssuerServer", certificates: "Files"
) -> None:
    doorway = await gateways.doorway(issuer, certificates, connection_idle_seconds=0.5)
    service = await world.device("dev-1", await devices.echo())
    async with opened(doorway, service, doorway.token("owner")) as websocket:
        assert await closed(websocket) == (4408, "IDLE")


async def test_a_service_that_takes_nothing_holds_the_client_back(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.deaf())
    await world.share("dev-1", "ann")
    async with opened(doorway, service, doorway.token("ann")) as websocket:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                for _ in range(400):  # 40 MB: more than all buffers on the way
                    await websocket.send(b"x" * 100_000)
        await world.revoke("dev-1")
        assert await closed(websocket) == (4410, "GRANT_ENDED")
