"""Two ends, at least one a transport of the loop, such as TLS: what is read is copied and handed on."""

import asyncio
import contextlib
import socket
import time
from abc import ABC, abstractmethod

from access_gateway.relay.engine import HANGUP, READABLE, WRITABLE, Engine
from access_gateway.relay.session import End, Limits, Session
from access_gateway.relay.sockets import keep_alive, no_delay, reset, reset_transport, taken

_HIGH_WATER = 256 * 1024
# A gigabyte over TLS costs 2.0 s of the processor in pieces of 256 KiB, and 1.5 s in these.
_PIECE = 128 * 1024
_ROUNDS = 2


class _Side(ABC):
    """One end. What it reads it gives to its session; what it is to write it keeps until that is taken."""

    def __init__(self, session: "StreamSession") -> None:
        self.session = session
        self.other: _Side
        self.received = 0
        self.eof = False
        """Nothing more will be read of it."""
        self.full = False
        """It takes no more: the other side stops reading."""
        self.held = False
        """It has read as much as it may for now."""
        self.ending = False
        self.gone = False

    @abstractmethod
    def start(self) -> None:
        """Begin to read."""

    @abstractmethod
    def write(self, data: bytes | memoryview) -> None:
        """Send, or keep; ``data`` may be overwritten afterwards unless it is bytes."""

    @abstractmethod
    def pause(self) -> None:
        """Read no more until `resume`."""

    @abstractmethod
    def resume(self) -> None:
        """Read again."""

    @abstractmethod
    def write_eof(self) -> None:
        """Say, after all that was written, that no more will come."""

    @abstractmethod
    def close(self) -> None:
        """Deliver what was written, then close."""

    @abstractmethod
    def reset(self) -> None:
        """Close now, and deliver nothing more."""

    @abstractmethod
    def taken(self) -> int:
        """See `Session`."""

    @abstractmethod
    def keep_alive(self) -> None:
        """See `Session`."""


class _SocketSide(_Side):
    """A plain socket, watched by the engine."""

    def __init__(self, session: "StreamSession", sock: socket.socket) -> None:
        super().__init__(session)
        self._socket = sock
        self._paused = self._readable = self._queued = self._hangup = False
        self._rest: memoryview | None = None
        self._finishing = False

    def start(self) -> None:
        no_delay(self._socket)
        self.session.engine.watch(self._socket, self)

    def on_events(self, events: int) -> None:
        """See `Watcher`."""
        try:
            if events & WRITABLE and self._rest is not None:
                self._flush()
            if events & READABLE:
                self._readable = True
                self._hangup = self._hangup or bool(events & HANGUP)
                self._read()
        except OSError:
            self.session.lost(self, broken=True)

    def go_on(self) -> None:
        """See `Work`."""
        self._queued = False
        try:
            self._read()
        except OSError:
            self.session.lost(self, broken=True)

    def _read(self) -> None:
        session = self.session
        for _ in range(_ROUNDS):
            if not self._readable or self._paused or self._queued or self.gone or self.eof:
                return
            room = _PIECE if session.throttle is None else min(_PIECE, session.throttle.piece)
            try:
                # Not into the shared buffer: a transport keeps what it cannot send at once.
                data = self._socket.recv(room)
            except BlockingIOError:
                self._readable = False
                return
            self._readable = len(data) == room or self._hangup
            if data:
                session.read(self, data)
            else:
                session.read_eof(self)
        if self._readable and not self._paused and not self.gone:
            self._queued = True
            session.engine.soon(self)

    def write(self, data: bytes | memoryview) -> None:
        if self.gone:
            return
        sent = 0
        if self._rest is None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.session.lost(self, broken=True)
                return
            if sent == len(data):
                return
        waiting = b"" if self._rest is None else self._rest
        self._rest = memoryview(bytes(waiting) + bytes(data[sent:]))
        if not self.full:
            self.full = True
            self.other.pause()

    def _flush(self) -> None:
        while self._rest is not None:
            try:
                self._rest = self._rest[self._socket.send(self._rest) :] or None
            except BlockingIOError:
                return
        self.full = False
        if self.ending:
            with contextlib.suppress(OSError):  # it has closed already; what it said is still delivered
                self._socket.shutdown(socket.SHUT_WR)
        if self._finishing:
            self._close()
        else:
            self.session.drained(self)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if not self._queued and not self.gone:
            self._queued = True
            self.session.engine.soon(self)

    def write_eof(self) -> None:
        self.ending = True
        if self._rest is None and not self.gone:
            with contextlib.suppress(OSError):  # it has closed already; what it said is still delivered
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._finishing = True
        if self._rest is None:
            self._close()

    def _close(self) -> None:
        if not self.gone:
            self.gone = True
            self.session.engine.forget(self._socket)
            self._socket.close()
            self.session.lost(self, broken=False)

    def reset(self) -> None:
        self._rest = None
        if not self.gone:
            self.gone = True
            self.session.engine.forget(self._socket)
            reset(self._socket)

    def taken(self) -> int:
        return taken(self._socket)

    def keep_alive(self) -> None:
        keep_alive(self._socket)


class _TransportSide(_Side, asyncio.BufferedProtocol):
    """An established transport, whose protocol this becomes."""

    def __init__(self, session: "StreamSession", transport: asyncio.Transport) -> None:
        super().__init__(session)
        self._transport = transport

    def start(self) -> None:
        if self._transport.is_closing():  # while its protocol was another
            raise ConnectionResetError
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._transport.set_protocol(self)
        if not self.other.full:
            self.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`. What is read into it is handed on before anybody else gets it."""
        del sizehint
        return self.session.engine.view

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if not self.gone:
            self.session.read(self, self.session.engine.view[:nbytes])

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`: true keeps a plain transport open; TLS closes in any case."""
        self.session.read_eof(self)
        return True

    def pause_writing(self) -> None:
        self.full = True
        self.other.pause()

    def resume_writing(self) -> None:
        self.full = False
        self.session.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if not self.gone:
            self.gone = True
            self.session.lost(self, broken=exc is not None or not (self.eof or self.ending))

    def write(self, data: bytes | memoryview) -> None:
        if not self.gone and not self._transport.is_closing():
            # uvloop keeps a memoryview that it cannot send at once, and the shared buffer is overwritten.
            self._transport.write(data if isinstance(data, bytes) else bytes(data))

    def pause(self) -> None:
        if not self.gone and not self._transport.is_closing() and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.gone and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def write_eof(self) -> None:
        self.ending = True
        if self.gone or self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS has no half-close: the end of what it is told is its end

    def close(self) -> None:
        self.ending = True
        self._transport.close()

    def reset(self) -> None:
        if not self.gone:
            self.gone = True
            reset_transport(self._transport)

    def taken(self) -> int:
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        return 0 if self.gone or sock is None else taken(sock)

    def keep_alive(self) -> None:
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if not self.gone and sock is not None and sock.fileno() >= 0:
            keep_alive(sock)


class StreamSession(Session):
    """See `Session`; at least one end is a transport."""

    __slots__ = ("_client", "_early", "_target", "engine")

    def __init__(
        self,
        engine: Engine,
        client: socket.socket | asyncio.Transport,
        target: socket.socket | asyncio.Transport,
        limits: Limits,
        early: bytes,
    ) -> None:
        super().__init__(limits)
        self.engine = engine
        self._early = early
        self._client, self._target = self._side(client), self._side(target)
        self._client.other, self._target.other = self._target, self._client
        engine.add(self)
        engine.loop.call_soon(self._start)

    @property
    def bytes_to_device(self) -> int:
        """See `Session`."""
        return self._client.received

    @property
    def bytes_from_device(self) -> int:
        """See `Session`."""
        return self._target.received

    def finish(self, end: End) -> None:
        """See `Session`."""
        if self.end is None:
            self.end = end
            self.engine.remove(self)
            if end is not End.CLOSED:
                self._client.reset()
                self._target.reset()
            self.tell()

    def taken(self) -> int:
        """See `Session`."""
        return self._client.taken() + self._target.taken()

    def keep_alive(self) -> None:
        """See `Session`."""
        self._client.keep_alive()
        self._target.keep_alive()

    def read(self, side: _Side, data: bytes | memoryview) -> None:
        """``side`` has read this."""
        if self.end is not None:
            return
        side.received += len(data)
        self.moved_at = time.monotonic()
        if self.throttle is not None:
            self.throttle.spend(len(data))
            if not side.held:
                side.held = True
                side.pause()
                self.engine.loop.call_later(self.throttle.wait(), self._release, side)
        side.other.write(data)

    def read_eof(self, side: _Side) -> None:
        """``side`` will read nothing more."""
        if self.end is not None or side.eof:
            return
        side.eof = True
        self.moved_at = time.monotonic()
        side.other.write_eof()
        if side.other.eof:
            # Both are delivered first; until they are, it can still be cut.
            self._client.close()
            self._target.close()

    def drained(self, side: _Side) -> None:
        """``side`` takes more again."""
        self.moved_at = time.monotonic()
        if self.end is None and not side.other.held:
            side.other.resume()

    def lost(self, side: _Side, *, broken: bool) -> None:
        """``side`` is closed."""
        if broken:
            self.finish(End.BROKEN)
        elif side.other.gone:
            self.finish(End.CLOSED)
        elif self.end is None:
            side.other.close()

    def _side(self, end: socket.socket | asyncio.Transport) -> _Side:
        return _SocketSide(self, end) if isinstance(end, socket.socket) else _TransportSide(self, end)

    def _start(self) -> None:
        if self.end is not None:
            return
        try:
            if self._early:
                self.read(self._client, self._early)
            self._target.start()
            self._client.start()
        except OSError:
            self.finish(End.BROKEN)

    def _release(self, side: _Side) -> None:
        side.held = False
        if self.end is None and not side.other.full:
            side.resume()
