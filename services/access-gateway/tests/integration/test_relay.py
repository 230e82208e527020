"""The byte pump on real sockets: ``client -> (inner sockets of the session) -> device``."""

import asyncio
import hashlib
import random
import socket
from collections.abc import Callable, Generator
from typing import NamedTuple

import pytest

from access_gateway.relay import End, Session, adopt, reset

SMALL = 32 * 1024
MEGABYTE = 1 << 20


def tcp_pair(buffers: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets, non-blocking, with small kernel buffers if wanted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.socket()
        if buffers is not None:
            for sock in (listener, one):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


class Wire(NamedTuple):
    """A session and its two outer ends."""

    session: Session
    client: socket.socket
    device: socket.socket


class Wires:
    """Makes wires and closes what is left of them."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    async def make(
        self,
        *,
        buffers: int | None = None,
        idle_seconds: float = 60.0,
        before: Callable[[socket.socket, socket.socket], None] = lambda client, device: None,
        attached: Callable[[Session], None] = lambda session: None,
    ) -> Wire:
        client, inner_client = tcp_pair(buffers)
        device, inner_device = tcp_pair(buffers)
        self._sockets += [client, device]
        before(client, device)
        session = await adopt(inner_client, inner_device, idle_seconds=idle_seconds, attached=attached)
        return Wire(session, client, device)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def wires() -> Generator[Wires]:
    made = Wires()
    yield made
    made.close()


async def ended(session: Session) -> End:
    """How it ended; fails when it does not."""
    async with asyncio.timeout(20):
        return await session.wait()


async def read_all(sock: socket.socket) -> bytes:
    """Everything until the other end says that it is done."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    async with asyncio.timeout(30):
        while part := await loop.sock_recv(sock, 65536):
            parts.append(part)
    return b"".join(parts)


async def read_until_reset(sock: socket.socket) -> int:
    """How many bytes came before the reset; anything but a reset fails the test."""
    loop = asyncio.get_running_loop()
    count = 0
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(20):
            while part := await loop.sock_recv(sock, 65536):
                count += len(part)
        pytest.fail("the connection was closed in peace")
    return count


async def send_and_finish(sock: socket.socket, data: bytes) -> None:
    """Send in pieces of random size, then say that this direction is done."""
    loop = asyncio.get_running_loop()
    view, at = memoryview(data), 0
    while at < len(data):
        size = random.randint(1, 200_000)
        await loop.sock_sendall(sock, view[at : at + size])
        at += size
    sock.shutdown(socket.SHUT_WR)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("buffers", [None, SMALL])
async def test_what_goes_in_comes_out_both_ways_at_once(wires: Wires, buffers: int | None) -> None:
    wire = await wires.make(buffers=buffers)
    up, down = random.randbytes(6 * MEGABYTE), random.randbytes(6 * MEGABYTE + 17)
    _, _, at_device, at_client = await asyncio.gather(
        send_and_finish(wire.client, up),
        send_and_finish(wire.device, down),
        read_all(wire.device),
        read_all(wire.client),
    )
    assert hashlib.sha256(at_device).digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(at_client).digest() == hashlib.sha256(down).digest()
    assert await ended(wire.session) is End.CLOSED
    assert (wire.session.bytes_to_device, wire.session.bytes_from_device) == (len(up), len(down))


@pytest.mark.parametrize("first_is_client", [True, False])
async def test_one_direction_may_end_long_before_the_other(wires: Wires, first_is_client: bool) -> None:
    wire = await wires.make()
    first, second = (wire.client, wire.device) if first_is_client else (wire.device, wire.client)
    await send_and_finish(first, b"question")
    assert await read_all(second) == b"question"
    assert not wire.session.ended
    await send_and_finish(second, b"answer" * 100_000)
    assert await read_all(first) == b"answer" * 100_000
    assert await ended(wire.session) is End.CLOSED


async def test_what_the_device_says_first_arrives_although_the_client_was_not_attached(wires: Wires) -> None:
    def greet(_client: socket.socket, device: socket.socket) -> None:
        device.send(b"220 ready\r\n")
        device.shutdown(socket.SHUT_WR)

    wire = await wires.make(before=greet)
    assert await read_all(wire.client) == b"220 ready\r\n"
    await send_and_finish(wire.client, b"bye")
    assert await read_all(wire.device) == b"bye"
    assert await ended(wire.session) is End.CLOSED


@pytest.mark.parametrize("reader_is_device", [True, False])
async def test_a_reader_that_stops_stops_the_writer_and_loses_nothing(
    wires: Wires, reader_is_device: bool
) -> None:
    wire = await wires.make(buffers=SMALL)
    writer, reader = (wire.client, wire.device) if reader_is_device else (wire.device, wire.client)
    data = random.randbytes(24 * MEGABYTE)
    sending = asyncio.create_task(send_and_finish(writer, data))

    def taken() -> int:
        return wire.session.bytes_to_device if reader_is_device else wire.session.bytes_from_device

    seen = -1
    while seen != taken():  # until it stands still for a while
        seen = taken()
        await asyncio.sleep(0.1)
    assert 0 < seen < 2 * MEGABYTE
    assert not sending.done()
    received = await read_all(reader)
    await sending
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


async def test_a_cut_resets_both_ends_with_bytes_in_flight(wires: Wires) -> None:
    wire = await wires.make()
    loop = asyncio.get_running_loop()

    async def flood(sock: socket.socket) -> None:
        while True:
            await loop.sock_sendall(sock, random.randbytes(65536))

    floods = [asyncio.create_task(flood(sock)) for sock in (wire.client, wire.device)]
    readers = [asyncio.create_task(read_until_reset(sock)) for sock in (wire.device, wire.client)]
    await until(lambda: min(wire.session.bytes_to_device, wire.session.bytes_from_device) > 4 * MEGABYTE)
    wire.session.cut()
    at_the_cut = (wire.session.bytes_to_device, wire.session.bytes_from_device)
    assert await ended(wire.session) is End.CUT
    got = await asyncio.gather(*readers, return_exceptions=True)
    sent = await asyncio.gather(*floods, return_exceptions=True)
    # One of reader and writer of a socket sees the reset, the other a broken pipe or the end.
    assert all(isinstance(each, ConnectionError) for each in sent)
    assert at_the_cut == (wire.session.bytes_to_device, wire.session.bytes_from_device)
    for count, limit in zip(got, at_the_cut, strict=True):
        assert not isinstance(count, int) or count <= limit


async def test_a_client_that_only_reads_sees_a_reset_and_not_one_byte_more(wires: Wires) -> None:
    wire = await wires.make(buffers=SMALL)
    loop = asyncio.get_running_loop()

    async def flood() -> None:
        while True:
            await loop.sock_sendall(wire.device, random.randbytes(65536))

    flooding = asyncio.create_task(flood())
    await until(lambda: wire.session.bytes_from_device > 200_000)
    wire.session.cut()
    at_the_cut = wire.session.bytes_from_device
    assert await ended(wire.session) is End.CUT
    # Nothing was read by the client so far: what the relay still held is never delivered.
    assert await read_until_reset(wire.client) < at_the_cut
    with pytest.raises(ConnectionError):
        await flooding


async def test_a_cut_before_the_first_byte_lets_none_through(wires: Wires) -> None:
    def speak(client: socket.socket, device: socket.socket) -> None:
        client.send(b"hello")
        device.send(b"hello")

    wire = await wires.make(before=speak, attached=Session.cut)
    assert await ended(wire.session) is End.CUT
    assert await read_until_reset(wire.client) == 0
    assert await read_until_reset(wire.device) == 0
    assert (wire.session.bytes_to_device, wire.session.bytes_from_device) == (0, 0)


async def test_a_cut_after_the_end_changes_nothing(wires: Wires) -> None:
    wire = await wires.make()
    await asyncio.gather(send_and_finish(wire.client, b"x"), send_and_finish(wire.device, b"y"))
    assert await ended(wire.session) is End.CLOSED
    wire.session.cut()
    assert await read_all(wire.client) == b"y"


@pytest.mark.parametrize("client_breaks", [True, False])
async def test_an_end_that_breaks_breaks_the_other(wires: Wires, client_breaks: bool) -> None:
    wire = await wires.make()
    broken, other = (wire.client, wire.device) if client_breaks else (wire.device, wire.client)
    reset(broken)
    assert await read_until_reset(other) == 0
    assert await ended(wire.session) is End.BROKEN


async def test_a_connection_on_which_nothing_moves_is_closed(wires: Wires) -> None:
    wire = await wires.make(idle_seconds=0.1)
    assert await ended(wire.session) is End.IDLE
    assert await read_until_reset(wire.client) == 0


async def test_a_half_closed_connection_is_closed_when_idle(wires: Wires) -> None:
    wire = await wires.make(idle_seconds=0.2)
    await send_and_finish(wire.client, b"x")
    assert await ended(wire.session) is End.IDLE
