"""One client of a door: a plain socket, or a TLS stream, read and answered in the same way.

Client
├── PlainClient        released as its socket, of which nothing further has been read
└── TransportClient    released as its transport, which is not being read
    └── TlsClient
"""

import asyncio
import contextlib
import socket
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import cast

from access_gateway.relay import reset, reset_transport
from access_gateway.targets import Address, origin

CHUNK = 64 * 1024
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1_000_000


class Client(ABC):
    """Somebody who has connected. He is a stranger, whose time runs, until `admit`."""

    secure: bool
    """Whether nobody on the way can read what is sent."""

    def __init__(self, source: Address) -> None:
        self.source = source
        self._unread: deque[bytes] = deque()
        self._on_admit: Callable[[], None] | None = None
        self._released = False

    @property
    def origin(self) -> str:
        """By what he is known where refusals are limited."""
        return origin(self.source)

    @property
    def released(self) -> bool:
        """Whether somebody else reads, writes and closes it now."""
        return self._released

    def when_admitted(self, call: Callable[[], None]) -> None:
        """What `admit` tells."""
        self._on_admit = call

    def admit(self) -> None:
        """He has shown who he is: his time runs no longer."""
        if self._on_admit is not None:
            self._on_admit()
            self._on_admit = None

    def unread(self, data: bytes) -> None:
        """Give back what was read too much: `receive` returns it next."""
        if data:
            self._unread.appendleft(data)

    def early(self) -> bytes:
        """What has been read of him and nobody has taken yet; empty when there is nothing."""
        found = b"".join(self._unread)
        self._unread.clear()
        return found

    @abstractmethod
    async def receive(self) -> bytes:
        """The next bytes, at most 64 KiB of a plain client; empty at the end.

        Raises:
            OSError: the connection broke.
        """

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send all of it, at the pace of the client; raises OSError when the connection broke."""

    @abstractmethod
    def release(self) -> socket.socket | asyncio.Transport:
        """Hand him over, reading paused; what `early` returns is not in it any more, so take that before."""

    @abstractmethod
    def reset(self) -> None:
        """Close at once; what is not sent yet is dropped. Nothing happens when he is released."""

    @abstractmethod
    async def end_sending(self) -> None:
        """Nothing more is sent."""

    async def close(self) -> None:
        """Close so that what was sent arrives: what still comes is read for a second, and thrown away."""
        if self._released:
            return
        left = _LINGER_BYTES  # a close with unread input would be a reset, which overtakes the answer
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self.end_sending()
                while left > 0 and (data := await self.receive()):
                    left -= len(data)
        self.reset()


class PlainClient(Client):
    """A client without TLS."""

    secure = False

    def __init__(self, sock: socket.socket, source: Address) -> None:
        super().__init__(source)
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> bytes:
        if self._unread:
            return self._unread.popleft()
        return await self._loop.sock_recv(self._sock, CHUNK)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    def release(self) -> socket.socket:
        self._released = True
        return self._sock

    def reset(self) -> None:
        if not self._released:
            reset(self._sock)

    async def end_sending(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)


class TransportClient(Client):
    """A client that is read and written by a transport, whose protocol is ``inflow``."""

    def __init__(self, source: Address, transport: asyncio.Transport, inflow: "Inflow") -> None:
        super().__init__(source)
        self._transport, self._stream = transport, inflow

    async def receive(self) -> bytes:
        if self._unread:
            return self._unread.popleft()
        return await self._stream.receive()

    async def send(self, data: bytes) -> None:
        if self._transport.is_closing():  # uvloop's would raise another error
            raise ConnectionResetError("the connection is closed")
        self._transport.write(data)
        await self._stream.drained()

    def early(self) -> bytes:
        return super().early() + self._stream.take()

    def release(self) -> asyncio.Transport:
        self._released = True
        return self._transport

    def reset(self) -> None:
        if not self._released:
            reset_transport(self._transport)

    async def end_sending(self) -> None:
        # TLS as asyncio has it knows no half-close: after `close` nothing is read any more.
        self._transport.close()
        await self._stream.closed()


class TlsClient(TransportClient):
    """A client whose TLS is established."""

    secure = True

    @classmethod
    async def accept(
        cls,
        sock: socket.socket,
        source: Address,
        context: ssl.SSLContext,
        *,
        closing_seconds: float | None = None,
    ) -> "TlsClient":
        """Do the handshake; however it ends, the socket is taken care of.

        Once it is closed, what the client has not taken after ``closing_seconds`` (None: 30) is dropped.

        Raises:
            OSError: it failed (`ssl.SSLError` is one).
        """
        loop, inflow = asyncio.get_running_loop(), Inflow()
        # What it returns as the protocol is, under uvloop, its own.
        transport, _ = await loop.connect_accepted_socket(
            lambda: inflow, sock, ssl=context, ssl_shutdown_timeout=closing_seconds
        )
        return cls(source, transport, inflow)


class Inflow(asyncio.Protocol):
    """What a transport delivers, asked for piece by piece."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)  # also while paused: what the loop had read already
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self) -> None:
        if self._transport is not None and not self._ended:
            self._transport.pause_reading()
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def receive(self) -> bytes:
        """As `Client.receive`."""
        while not self._chunks:
            if self._ended:
                if self._error is not None:
                    raise ConnectionResetError("the connection broke") from self._error
                return b""
            assert self._transport is not None
            self._news = self._loop.create_future()
            self._transport.resume_reading()
            await self._news
        return self._chunks.popleft()

    def take(self) -> bytes:
        """What has come and was not asked for."""
        found = b"".join(self._chunks)
        self._chunks.clear()
        return found

    async def drained(self) -> None:
        """Return when more may be written; raises ConnectionResetError when nothing can be any more."""
        if self._writable is not None:
            await asyncio.shield(self._writable)
        if self._lost.done():
            raise ConnectionResetError("the connection broke") from self._error

    async def closed(self) -> None:
        """Return when the transport is closed."""
        await asyncio.shield(self._lost)
