"""RTSP in a WebSocket, for players in a page: the same door, in frames."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
from rtsp_client import LIVE, SPEAKER, Person
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from contracts import events as told
from devstack.camera import Camera

if TYPE_CHECKING:
    from conftest import Doorway, Events, Gateways, World

    from devstack.certificates import Files
    from devstack.issuer import IssuerServer

pytestmark = pytest.mark.slow

PAGE = "https://app.example"


@pytest.fixture
async def doorway(gateways: "Gateways", issuer: "IssuerServer", certificates: "Files") -> "Doorway":
    return await gateways.doorway(issuer, certificates)


@pytest.fixture
async def camera(world: "World") -> AsyncGenerator[Camera]:
    """A camera ``cam`` whose picture, and nothing else, Ann may see."""
    made = Camera()
    server = await asyncio.start_server(made, "127.0.0.1", 0)
    await world.camera("cam", server.sockets[0].getsockname(), "/ch1/live", "/ch1/recording")
    await world.share("cam", "ann", json.dumps(["live_view"]))
    yield made
    server.close()


class Frames:
    """A stream's writer, as far as `Person` uses one: each write is a frame."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._task = asyncio.create_task(self._send())

    def write(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    def close(self) -> None:
        self._task.cancel()

    async def _send(self) -> None:
        while True:
            await self._websocket.send(await self._queue.get())


@asynccontextmanager
async def opened(doorway: "Doorway", *, secure: bool, origin: str = PAGE) -> AsyncGenerator[ClientConnection]:
    scheme, port = ("wss", doorway.tls) if secure else ("ws", doorway.plain)
    async with connect(
        f"{scheme}://localhost:{port}/v1/rtsp",
        ssl=doorway.trust if secure else None,
        subprotocols=[Subprotocol("rtsp.onvif.org")],
        origin=Origin(origin),
        compression=None,
        proxy=None,
        open_timeout=20,
        close_timeout=5,
    ) as websocket:
        yield websocket


@asynccontextmanager
async def player(websocket: ClientConnection, password: str) -> AsyncGenerator[Person]:
    stream = asyncio.StreamReader()

    async def read() -> None:
        try:
            async for data in websocket:
                stream.feed_data(cast("bytes", data))
        except ConnectionClosed:
            pass
        stream.feed_eof()

    reading = asyncio.create_task(read())
    basic = base64.b64encode(f"viewer:{password}".encode()).decode()
    writer = cast("asyncio.StreamWriter", Frames(websocket))
    person = Person(stream, writer, "rtsp://gateway/cam-svc", f"Basic {basic}" if password else "")
    try:
        yield person
    finally:
        await person.leave()
        reading.cancel()


async def password(doorway: "Doorway") -> str:
    answer = await doorway.gateway.http.post(
        "/v1/stream-passwords", json={"service_id": "cam-svc"}, headers=doorway.gateway.headers("ann")
    )
    assert answer.status_code == 201
    given = answer.json()
    assert [url.partition(":")[0] for url in given["web_urls"]] == ["wss", "ws"]
    assert all(url.endswith("/v1/rtsp") for url in given["web_urls"])
    return given["password"]


@pytest.mark.parametrize("secure", [False, True])
async def test_a_page_sees_what_is_granted_until_it_is_not(
    world: "World", doorway: "Doorway", camera: Camera, secure: bool
) -> None:
    async with opened(doorway, secure=secure) as websocket:
        assert websocket.subprotocol == "rtsp.onvif.org"
        async with player(websocket, await password(doorway)) as person:
            assert await person.play("live", LIVE) == 200
            await person.sees(LIVE, 50)
            assert await person.play("speaker", SPEAKER) == 403
            await world.revoke("cam")
            await person.ended()
            assert [request.method for request in person.told] == ["TEARDOWN"]
            assert person.told[0].one("latchkey-code") == "ACCESS_DENIED"
            await websocket.wait_closed()
            assert websocket.close_code == 1000


async def test_who_is_cut_by_hand_is_told_so_and_may_come_again(
    doorway: "Doorway", camera: Camera, events: "Events"
) -> None:
    async with opened(doorway, secure=False) as first, player(first, await password(doorway)) as person:
        assert await person.play("live", LIVE) == 200
        await person.sees(LIVE, 5)
        (began,) = [item.data for item in await events.take(1)]
        assert isinstance(began, told.ConnectionOpened)
        gateway = doorway.gateway
        path = f"/v1/connections/{began.connection_id}"
        assert (await gateway.http.delete(path, headers=gateway.headers("owner"))).status_code == 204
        await person.ended()
        assert [request.one("latchkey-code") for request in person.told] == ["CUT_BY_HAND"]
    async with opened(doorway, secure=False) as again, player(again, await password(doorway)) as person:
        assert await person.play("live", LIVE) == 200


async def test_without_a_password_nothing_is_told(doorway: "Doorway", camera: Camera) -> None:
    async with opened(doorway, secure=False) as websocket, player(websocket, "") as person:
        assert await person.play("live", LIVE) == 401
    assert not camera.watched


async def test_pages_of_other_origins_and_text_are_refused(doorway: "Doorway") -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(doorway, secure=False, origin="https://elsewhere.example"):
            pass
    assert refused.value.response.status_code == 403
    async with opened(doorway, secure=False) as websocket:
        await websocket.send("OPTIONS * RTSP/1.0")
        await websocket.wait_closed()
        assert websocket.close_code == 1003


async def test_without_origins_no_address_for_pages_is_told(
    gateways: "Gateways", issuer: "IssuerServer", certificates: "Files", camera: Camera
) -> None:
    doorway = await gateways.doorway(issuer, certificates, web_origins=())
    answer = await doorway.gateway.http.post(
        "/v1/stream-passwords", json={"service_id": "cam-svc"}, headers=doorway.gateway.headers("ann")
    )
    assert answer.json()["error"]["code"] == "UNAVAILABLE"


async def test_a_stranger_who_does_not_answer_the_end_is_not_kept(doorway: "Doorway") -> None:
    reader, writer = await doorway.connect()
    writer.write(
        b"GET /v1/rtsp HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n"
    )
    said = b"no request\r\n\r\n"
    writer.write(bytes([0x82, 0x80 | len(said)]) + bytes(4) + said)  # one binary frame, masked by zeros
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            answered = await reader.read()
            assert b"RTSP/1.0 400" in answered
    writer.close()


async def test_who_says_that_he_closes_and_reads_no_more_keeps_no_camera(
    doorway: "Doorway", camera: Camera, events: "Events"
) -> None:
    async with (
        opened(doorway, secure=True) as websocket,
        player(websocket, await password(doorway)) as person,
    ):
        assert await person.play("live", LIVE) == 200
        await person.sees(LIVE, 5)
        websocket.transport.pause_reading()
        websocket.protocol.send_close(1000)
        for data in websocket.protocol.data_to_send():
            websocket.transport.write(data)
        async with asyncio.timeout(10):
            began, ended = await events.take(2)
        assert isinstance(began.data, told.ConnectionOpened)
        assert isinstance(ended.data, told.ConnectionClosed)
        websocket.transport.abort()
