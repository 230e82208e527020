"""The services behind the demo devices are real ones."""

import asyncio
import contextlib
import hashlib
import itertools
import re
import secrets
from collections.abc import AsyncGenerator

import av
import httpx
import pytest

from devstack import targets
from devstack.camera import BACKCHANNEL, Camera
from devstack.seed import Targets


@pytest.fixture
async def running() -> AsyncGenerator[Targets]:
    async with targets.start() as found:
        yield found


async def test_the_echo_gives_back_every_byte_and_ends_when_its_client_does(running: Targets) -> None:
    reader, writer = await asyncio.open_connection(running.host, running.echo_port)
    sent = secrets.token_bytes(3_000_000)
    writer.write(sent)
    writer.write_eof()
    received = await reader.read(-1)
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()
    writer.close()
    await writer.wait_closed()


async def test_the_status_page_is_served_under_any_name(running: Targets) -> None:
    async with httpx.AsyncClient(base_url=f"http://{running.host}:{running.status_port}") as client:
        answer = await client.get("/", headers={"Host": "gateway.example.test:20001"})
        assert answer.status_code == 200
        assert "Demo device" in answer.text
        assert (await client.get("/targets")).json()["echo_port"] == running.echo_port


def look(url: str, pictures: int = 3) -> list[int]:
    """The brightness of the middle of some pictures, as a player of real RTSP gets them."""
    with av.open(url, options={"rtsp_transport": "tcp", "analyzeduration": "300000"}, timeout=20) as stream:
        frames = itertools.islice(stream.decode(video=0), pictures)
        return [bytes(frame.planes[0])[frame.planes[0].line_size * 120 + 300] for frame in frames]


async def ask(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], method: str, url: str, *headers: str
) -> str:
    reader, writer = streams
    writer.write("\r\n".join([f"{method} {url} RTSP/1.0", "CSeq: 7", *headers, "", ""]).encode())
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", head)
        return head + (await reader.readexactly(int(length[1]))).decode() if length else head


async def test_the_camera_shows_each_channel_its_own_picture(running: Targets) -> None:
    camera = f"rtsp://{running.host}:{running.camera_port}"
    async with asyncio.timeout(40):
        one, two = [await asyncio.to_thread(look, f"{camera}/ch{channel}/live") for channel in (1, 2)]
    assert len(one) == len(two) == 3
    assert abs(one[0] - two[0]) > 20


async def test_the_camera_plays_recordings_of_a_time_and_has_a_loudspeaker() -> None:
    camera = Camera()
    server = await asyncio.start_server(camera, "127.0.0.1", 0)
    url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/ch1"
    connection = reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
    head = await ask(connection, "SETUP", f"{url}/recording/video", transport)
    session = f"Session: {head.partition('Session: ')[2].partition(';')[0]}"
    assert (await ask(connection, "PLAY", f"{url}/recording", session)).startswith("RTSP/1.0 457 ")
    assert (await ask(connection, "RECORD", url)).startswith("RTSP/1.0 501 ")
    assert "sendonly" not in await ask(connection, "DESCRIBE", f"{url}/live")
    assert "a=sendonly" in await ask(connection, "DESCRIBE", f"{url}/live", f"Require: {BACKCHANNEL}")
    await ask(connection, "SETUP", f"{url}/live/speaker", transport.replace("0-1", "2-3"))
    writer.write(b"$\x02\x00\x03abc" + b"$\x05\x00\x02no")
    played = await ask(connection, "PLAY", f"{url}/recording", session, "Range: clock=20260301T100000Z-")
    assert played.startswith("RTSP/1.0 200 ")
    async with asyncio.timeout(20):
        assert await reader.readexactly(2) == b"$\0"
    assert camera.heard == 3
    writer.close()
    server.close()


async def test_a_flood_without_an_end_is_cut_off(running: Targets) -> None:
    reader, writer = await asyncio.open_connection(running.host, running.camera_port)
    writer.write(b"x" * 100_000)
    with contextlib.suppress(ConnectionError):  # or a reset, as the camera has not read it all
        assert await reader.read() == b""
    writer.close()


async def test_stopping_ends_open_connections() -> None:
    async with targets.start() as found:
        reader, writer = await asyncio.open_connection(found.host, found.echo_port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    assert await reader.read() == b""
    writer.close()
