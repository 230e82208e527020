"""The services behind the demo devices are real ones."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncGenerator

import httpx
import pytest

from devstack import targets
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


@pytest.mark.parametrize(
    ("method", "status"), [("OPTIONS", b"RTSP/1.0 200 OK"), ("DESCRIBE", b"RTSP/1.0 501 Not Implemented")]
)
async def test_the_camera_speaks_as_much_rtsp_as_it_says(
    running: Targets, method: str, status: bytes
) -> None:
    reader, writer = await asyncio.open_connection(running.host, running.camera_port)
    writer.write(f"{method} rtsp://camera/1 RTSP/1.0\r\nCSeq: 7\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(status + b"\r\n")
    assert b"CSeq: 7\r\n" in answer
    writer.close()
    await writer.wait_closed()


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
