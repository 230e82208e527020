"""The byte pump: two sockets become one connection, until both ends are done or it is cut.

Each direction is closed by itself (half-close), reads stop while the other side cannot take more, and a cut
resets both sockets at once: nothing that waits in a buffer is delivered any more.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import cast

_HIGH_WATER = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends RST and drops what is buffered
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class End(StrEnum):
    """How a session ended."""

    CLOSED = "closed"
    BROKEN = "broken"
    IDLE = "idle"
    CUT = "cut"


class _Side(asyncio.Protocol):
    """One of the two sockets. What it reads is written to ``other``."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.other: _Side
        self.transport: asyncio.Transport | None = None
        self.received = 0
        self.eof = False
        self.lost = False
        self._full = False
        self._early: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._session.ended:
            return  # `Session.attach` resets it: uvloop owns the socket only after this callback
        while self._early:
            self.transport.write(self._early.popleft())
        if self.other.eof:
            self._write_eof()
        if self.other.transport is not None and not self._full:
            self.other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._session.ended:
            return
        self.received += len(data)
        self._session.moved()
        self.other.write(data, self)

    def write(self, data: bytes, source: "_Side") -> None:
        if self.transport is not None:
            self.transport.write(data)
            return
        # The other socket was attached first and its data is here already: hold it, and read no more.
        self._early.append(data)
        if source.transport is not None:
            source.transport.pause_reading()

    def pause_writing(self) -> None:
        self._full = True
        if self.other.transport is not None and not self.other.lost:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        self._session.moved()
        if self.other.transport is not None and not self.other.lost and not self._session.ended:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.eof = True
        self._session.moved()
        self.other._write_eof()
        if self.other.eof:
            # Both directions are done; close() still delivers what is buffered.
            self._session.close()
        return True

    def _write_eof(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        if self.transport is not None and not self.lost:
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._session.lost(orderly=exc is None and self.eof and self.other.eof)


class Session:
    """One relayed connection. Made by `adopt`; it must be cut or awaited to its end."""

    def __init__(self, *, idle_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_seconds = idle_seconds
        self._client, self._target = _Side(self), _Side(self)
        self._client.other, self._target.other = self._target, self._client
        self._end: End | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._moved_at = self._loop.time()
        self._timer = self._loop.call_later(idle_seconds, self._check_idle)

    @property
    def bytes_to_device(self) -> int:
        """Payload bytes that were read from the client."""
        return self._client.received

    @property
    def bytes_from_device(self) -> int:
        """Payload bytes that were read from the target."""
        return self._target.received

    @property
    def ended(self) -> bool:
        """Whether nothing may be relayed any more."""
        return self._end is not None

    def cut(self) -> None:
        """Reset both sockets now; what is buffered is dropped. May be called at any time, and again."""
        self._abort(End.CUT)

    async def wait(self) -> End:
        """How it ended, once both sockets are closed."""
        await asyncio.shield(self._over)
        return self._end or End.CLOSED

    async def attach(self, client: socket.socket, target: socket.socket) -> None:
        """Start relaying between two connected sockets; they are the session's from now on."""
        try:
            for sock in (client, target):
                tune(sock)
            await self._loop.create_connection(lambda: self._target, sock=target)
            await self._loop.connect_accepted_socket(lambda: self._client, client)
            if self._end is not None:
                self._reset()
        except OSError:
            self._abort(End.BROKEN)
            for sock in (client, target):
                if sock.fileno() >= 0:
                    sock.close()
            self._finish()

    def moved(self) -> None:
        """Something moved: the idle time starts again."""
        self._moved_at = self._loop.time()

    def close(self) -> None:
        """Both directions are at their end: deliver what is buffered and close."""
        self._client.close()
        self._target.close()

    def lost(self, *, orderly: bool) -> None:
        """One socket is gone. Unless both directions had ended before, the other goes with it."""
        if not orderly:
            self._abort(End.BROKEN)
        if self._client.lost and self._target.lost:
            self._finish()

    def _abort(self, end: End) -> None:
        if self._end is None:
            self._end = end
            self._reset()

    def _reset(self) -> None:
        self._client.reset()
        self._target.reset()

    def _finish(self) -> None:
        self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    def _check_idle(self) -> None:
        left = self._moved_at + self._idle_seconds - self._loop.time()
        if left <= 0:
            self._abort(End.IDLE)
        else:
            self._timer = self._loop.call_later(left, self._check_idle)


async def adopt(
    client: socket.socket,
    target: socket.socket,
    *,
    idle_seconds: float,
    attached: Callable[[Session], None],
) -> Session:
    """Relay between two connected, non-blocking sockets, of which nothing has been read.

    The one way in for every protocol. ``attached`` gets the session before its first byte, so that whoever
    may cut it already can. Neither socket may be used by the caller afterwards.
    """
    session = Session(idle_seconds=idle_seconds)
    attached(session)
    await session.attach(client, target)
    return session


def tune(sock: socket.socket) -> None:
    """No delay for small writes, and notice when the other end has vanished."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def reset(sock: socket.socket) -> None:
    """Close a socket that is no session's yet, with a reset."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()
