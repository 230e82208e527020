"""The byte pump on real sockets: ``client -> (inner sockets of the session) -> device``."""

import asyncio
import contextlib
import hashlib
import random
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pytest

from access_gateway.relay import End, Engine, Limits, Session, adopt, dial, reset

SMALL = 32 * 1024
MEGABYTE = 1 << 20
PATIENT = Limits(60.0)


def tcp_pair(buffers: int | None = None, receives: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets, non-blocking, with small kernel buffers if wanted; ``receives`` is the first
    one's alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.socket()
        if buffers is not None:
            for sock in (listener, one):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        if receives is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
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


class Between(StrEnum):
    """What the relay has in its hands: of the client a transport, or of both."""

    SOCKETS = "sockets"
    TRANSPORT = "transport"
    TRANSPORTS = "transports"


class _Head(asyncio.Protocol):
    """What a way in does before it hands its transport over: it keeps what has come already."""

    def __init__(self) -> None:
        self.early = b""

    def data_received(self, data: bytes) -> None:  # uvloop delivers also when `connection_made` has paused it
        self.early += data


async def transport_of(sock: socket.socket) -> tuple[asyncio.Transport, bytes]:
    """A transport that does not read, and what it has read so far."""
    head = _Head()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: head, sock)
    transport.pause_reading()
    return transport, head.early


def nothing(_client: socket.socket, _device: socket.socket) -> None:
    """Before the relay has them, the two ends say nothing."""


class Wires:
    """Makes wires and closes what is left of them."""

    def __init__(self, engine: Engine, between: Between) -> None:
        self.engine, self.between = engine, between
        self._sockets: list[socket.socket] = []

    async def make(
        self,
        *,
        buffers: int | None = None,
        receives: int | None = None,
        limits: Limits = PATIENT,
        before: Callable[[socket.socket, socket.socket], None] = nothing,
    ) -> Wire:
        client, inner_client = tcp_pair(buffers, receives)
        device, inner_device = tcp_pair(buffers, receives)
        self._sockets += [client, device]
        before(client, device)
        ends: list[socket.socket | asyncio.Transport] = [inner_client, inner_device]
        early = b""
        if self.between is not Between.SOCKETS:
            ends[0], early = await transport_of(inner_client)
        if self.between is Between.TRANSPORTS and before is nothing:
            ends[1], _ = await transport_of(inner_device)
        session = adopt(self.engine, ends[0], ends[1], limits, early=early)
        return Wire(session, client, device)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()


@pytest.fixture(params=list(Between))
async def wires(request: pytest.FixtureRequest) -> AsyncGenerator[Wires]:
    engine = Engine()
    with engine.running():
        made = Wires(engine, request.param)
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


async def flood(sock: socket.socket) -> None:
    """Send until it fails."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(sock, random.randbytes(65536))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def stands_still(count: Callable[[], int]) -> int:
    """Its value, once that is above 0 and has not changed for a while."""
    seen = 0
    async with asyncio.timeout(20):
        while not seen or seen != count():
            seen = count()
            await asyncio.sleep(0.1)
    return seen


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

    assert 0 < await stands_still(taken) < 2 * MEGABYTE
    assert not sending.done()
    received = await read_all(reader)
    await sending
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


async def test_a_cut_resets_both_ends_with_bytes_in_flight(wires: Wires) -> None:
    wire = await wires.make()
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
    flooding = asyncio.create_task(flood(wire.device))
    at_the_cut = await stands_still(lambda: wire.session.bytes_from_device)
    wire.session.cut()
    assert await ended(wire.session) is End.CUT
    # Nothing was read by the client so far: what the relay still held is never delivered.
    assert await read_until_reset(wire.client) < at_the_cut
    with pytest.raises(ConnectionError):
        await flooding


async def test_a_cut_before_the_first_byte_lets_none_through(wires: Wires) -> None:
    def speak(client: socket.socket, device: socket.socket) -> None:
        client.send(b"hello")
        device.send(b"hello")

    wire = await wires.make(before=speak)
    wire.session.cut()  # in the step in which it was made
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
    wire = await wires.make(limits=Limits(0.1))
    assert await ended(wire.session) is End.IDLE
    assert await read_until_reset(wire.client) == 0


async def test_a_half_closed_connection_is_closed_when_idle(wires: Wires) -> None:
    wire = await wires.make(limits=Limits(0.2))
    await send_and_finish(wire.client, b"x")
    assert await ended(wire.session) is End.IDLE


async def read_slowly(sock: socket.socket) -> int:
    """How many bytes come until the end, to somebody who takes 4 KiB in 30 ms."""
    loop, count = asyncio.get_running_loop(), 0
    async with asyncio.timeout(30):
        while part := await loop.sock_recv(sock, 4096):
            count += len(part)
            await asyncio.sleep(0.03)  # that is how slow he is
    return count


@pytest.mark.parametrize("to_client", [True, False])
async def test_who_reads_slowly_gets_all_of_it_after_the_sender_has_closed(
    wires: Wires, to_client: bool
) -> None:
    """The kernel has it all at once: nothing moves in the relay for much longer than its idle time."""
    wire = await wires.make(limits=Limits(0.6), receives=8 * 1024)
    sender, reader = (wire.device, wire.client) if to_client else (wire.client, wire.device)
    await send_and_finish(sender, bytes(400_000))
    assert await read_slowly(reader) == 400_000
    reader.shutdown(socket.SHUT_WR)
    assert await ended(wire.session) is End.CLOSED


async def test_who_takes_nothing_of_what_is_there_is_idle(wires: Wires) -> None:
    wire = await wires.make(limits=Limits(0.6), receives=8 * 1024)
    began = time.monotonic()
    await send_and_finish(wire.device, bytes(400_000))
    assert await ended(wire.session) is End.IDLE
    assert 0.6 <= time.monotonic() - began < 1.8


async def test_a_connection_that_lasts_too_long_is_closed_although_something_moves(wires: Wires) -> None:
    wire = await wires.make(limits=Limits(60.0, total_seconds=0.3))
    loop = asyncio.get_running_loop()

    async def chat() -> None:
        while True:
            await loop.sock_sendall(wire.client, b"x")
            await loop.sock_recv(wire.device, 100)

    chatting = asyncio.create_task(chat())
    assert await ended(wire.session) is End.OVERTIME
    assert wire.session.bytes_to_device > 1
    with pytest.raises((ConnectionError, asyncio.CancelledError)):
        chatting.cancel()
        await chatting


async def test_what_moves_keeps_a_connection(wires: Wires) -> None:
    wire = await wires.make(limits=Limits(1.0))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while loop.time() < begun + 2.0:
        await loop.sock_sendall(wire.device, b"x")
        assert await loop.sock_recv(wire.client, 100)
        await asyncio.sleep(0.05)
    assert not wire.session.ended
    wire.session.cut()


@pytest.mark.parametrize("up", [True, False])
async def test_a_limit_of_bytes_a_second_holds_and_loses_nothing(wires: Wires, up: bool) -> None:
    wire = await wires.make(limits=Limits(60.0, bytes_per_second=400_000))
    writer, reader = (wire.client, wire.device) if up else (wire.device, wire.client)
    data = random.randbytes(600_000)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    _, received = await asyncio.gather(send_and_finish(writer, data), read_all(reader))
    assert received == data
    assert loop.time() - begun > 1.2  # the last piece is not waited for
    reader.shutdown(socket.SHUT_WR)
    assert await ended(wire.session) is End.CLOSED


async def test_sessions_side_by_side_get_their_own_bytes_only(wires: Wires) -> None:
    made = [await wires.make() for _ in range(12)]
    sent = [(random.randbytes(2 * MEGABYTE), random.randbytes(2 * MEGABYTE)) for _ in made]
    jobs: list[Awaitable[bytes | None]] = []
    for wire, (up, down) in zip(made, sent, strict=True):
        jobs += [send_and_finish(wire.client, up), send_and_finish(wire.device, down)]
        jobs += [read_all(wire.device), read_all(wire.client)]
    got = [each for each in await asyncio.gather(*jobs) if each is not None]
    assert [hashlib.sha256(each).digest() for each in got] == [
        hashlib.sha256(each).digest() for pair in sent for each in pair
    ]
    assert [await ended(wire.session) for wire in made] == [End.CLOSED] * len(made)


async def test_what_was_on_its_way_when_one_was_cut_reaches_no_other(wires: Wires) -> None:
    for _ in range(3):
        cut = await wires.make()
        sending = asyncio.create_task(flood(cut.device))
        await stands_still(lambda: cut.session.bytes_from_device)  # noqa: B023 - awaited here
        cut.session.cut()
        with pytest.raises(ConnectionError):
            await sending
        other = await wires.make()
        data = random.randbytes(8 * MEGABYTE)
        _, received = await asyncio.gather(send_and_finish(other.device, data), read_all(other.client))
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


async def test_one_that_sends_without_end_lets_others_through(wires: Wires) -> None:
    busy, quiet = await wires.make(), await wires.make()
    loop = asyncio.get_running_loop()

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                busy.device.sendall(bytes(MEGABYTE))

    def drain() -> None:
        with contextlib.suppress(OSError):
            while busy.client.recv(MEGABYTE):
                pass

    for sock in (busy.device, busy.client):
        sock.setblocking(True)
    threads = [asyncio.to_thread(send), asyncio.to_thread(drain)]
    running = asyncio.gather(*threads)
    await until(lambda: busy.session.bytes_from_device > 8 * MEGABYTE)
    for _ in range(20):
        await loop.sock_sendall(quiet.client, b"x")
        async with asyncio.timeout(10):
            assert await loop.sock_recv(quiet.device, 10) == b"x"
    busy.session.cut()
    await running


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_thousands_of_connections_leave_no_file_open(wires: Wires) -> None:
    """Some end in peace, some by a reset, some by a cut with bytes on the way; pipes are used by some."""
    count, at_once = 2_000, 100
    before: int | None = None
    for start in range(0, count, at_once):
        made = [await wires.make() for _ in range(at_once)]
        for number, wire in enumerate(made, start):
            match number % 4:
                case 0:
                    for sock in (wire.client, wire.device):
                        sock.shutdown(socket.SHUT_WR)
                case 1:
                    reset(wire.client)
                case 2:
                    wire.device.send(bytes(MEGABYTE))
                    await asyncio.sleep(0)
                    wire.session.cut()
                case _:
                    wire.client.send(b"x")
                    wire.session.cut()
        for wire in made:
            await ended(wire.session)
        wires.close()
        await until(lambda: wires.engine.sessions == 0)
        await asyncio.sleep(0)
        here = open_files()
        before = before or here
        assert here <= before + 32 + 2  # spare pipes, and what a transport closes a turn later
    wires.close()


async def test_a_device_that_closes_after_its_last_word_has_said_it(wires: Wires) -> None:
    """The client ended first; the device answers with much, and is gone before that is taken."""
    loop = asyncio.get_running_loop()
    wire = await wires.make(buffers=SMALL)
    wire.client.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(20):
        assert await loop.sock_recv(wire.device, 1) == b""
        said = random.Random(5).randbytes(2 * MEGABYTE)
        received = bytearray()

        async def read() -> None:
            while part := await loop.sock_recv(wire.client, 4096):
                received.extend(part)
                await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        await loop.sock_sendall(wire.device, said)
        wire.device.close()
        await reading
    assert bytes(received) == said
    assert await wire.session.wait() is End.CLOSED


class Served:
    """Whoever has a session dialled."""

    def __init__(self) -> None:
        self.over: asyncio.Future[End | None] = asyncio.get_running_loop().create_future()

    def on_connected(self) -> None:
        """See `Owner`."""

    def on_end(self, session: Session) -> None:
        """See `Owner`."""
        self.over.set_result(session.end)


async def test_a_device_that_has_closed_before_the_loop_sees_it_connected_is_not_waited_for() -> None:
    """As one does that is full, while the gateway is busy: its word, and its end, are there at once."""
    engine = Engine()
    client, inner = tcp_pair()
    with engine.running(), client, socket.create_server(("127.0.0.1", 0)) as listener:
        owner = Served()
        target = socket.AF_INET, listener.getsockname()
        session = dial(engine, inner, target, PATIENT, seconds=10, owner=owner)
        device, _ = listener.accept()
        device.sendall(b"too many connections")
        device.close()
        assert await read_all(client) == b"too many connections"
        client.close()
        assert await ended(session) is End.CLOSED
        assert await owner.over is End.CLOSED
