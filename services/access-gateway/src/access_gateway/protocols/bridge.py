"""Between a WebSocket and a service: what its frames hold goes to the service, what that says into frames.

Only binary frames, whose bounds mean nothing: both sides are streams of bytes. Reads stop while the other
side cannot take more. A cut is told by a close code; see `Bridge.cut`.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from access_gateway.clients import Client
from access_gateway.relay import reset_transport, tune

MOST_FRAME_BYTES = 1024 * 1024
PING_SECONDS = 20.0

_HIGH_WATER = 64 * 1024
_MOST_WAITING = 1024 * 1024
_DRAIN_SECONDS = 0.02
_LINGER_SECONDS = 0.5
_FLUSH_SECONDS = 10.0

# At its level debug, the library logs headers, and with them tokens, and what is relayed.
quiet = logging.getLogger("access_gateway.websocket.frames")
quiet.setLevel(logging.ERROR)


class Code:
    """Close codes (RFC 6455, section 7.4); those of refusals are 4000 and their HTTP status."""

    DONE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    IDLE = 4408
    GRANT_ENDED = 4410
    BY_HAND = 4411
    STALE = 4503


def frames() -> Protocol:
    """The state of one WebSocket after its handshake."""
    return Protocol(Side.SERVER, state=State.OPEN, max_size=(None, MOST_FRAME_BYTES), logger=quiet)


class Bridge:
    """One WebSocket and one service, from `run` on; both are closed when that returns."""

    def __init__(self, *, idle_seconds: float) -> None:
        self.bytes_to_device = 0
        self.bytes_from_device = 0
        self._loop = asyncio.get_running_loop()
        self._frames = frames()
        self._client, self._device = _Browser(self), _Service(self)
        self._early = b""
        self._idle_seconds = idle_seconds
        self._heard = self._moved = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._ended: tuple[int, str] | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()

    async def run(self, client: Client, device: socket.socket) -> None:
        """Relay until one of the two ends, or `cut`.

        Raises:
            OSError: one of them was gone already.
        """
        try:
            tune(device)
            await self._loop.create_connection(lambda: self._device, sock=device)
            self._early, released = client.early(), client.release()
            if isinstance(released, socket.socket):
                await self._loop.connect_accepted_socket(lambda: self._client, released)
            elif released.is_closing():
                raise ConnectionResetError("the client is gone")
            else:
                self._client.connection_made(released)
                released.set_protocol(self._client)
                released.resume_reading()
            self._tick()
            await asyncio.shield(self._over)
        except BaseException:
            self.cut(Code.GOING_AWAY, "GOING_AWAY")
            raise
        finally:
            for timer in self._timers:
                timer.cancel()

    def cut(self, code: int, reason: str) -> None:
        """Relay nothing more, and tell why.

        Nothing is taken from the service any more. What was taken before has 20 ms to get on its way, as a
        frame cannot be left in its middle. Then the client is told, or reset if he does not read; and reset
        in any case when he has not closed half a second later.
        """
        if self._ended is None:
            self._ended = code, reason
            self._device.abort()
            if self._client.transport is not None:  # else `client_ready` comes to it
                self._tell_or_wait()

    def client_ready(self) -> None:
        """The client's transport is there."""
        if self._ended is None:
            self.from_client(self._early)
            self._flush()
            self._device.read(True)
        else:
            self._device.abort()
            self._tell_or_wait()

    def _tell_or_wait(self) -> None:
        self._client.read(True)  # to see that he closes
        if self._client.full:
            self._later(_DRAIN_SECONDS, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        if self._ended is None or self._frames.state is not State.OPEN:
            return
        if self._client.full:
            self._client.abort()
            return
        self._frames.send_close(*self._ended)
        self._flush()
        self._later(_LINGER_SECONDS, self._client.abort)

    def from_client(self, data: bytes) -> None:
        """What came of the client."""
        self._heard = self._loop.time()
        if not data or self._frames.eof_sent:
            return
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if self._ended is None and isinstance(event, Frame):
                self._take(event)
        self._flush()
        if self._frames.state is not State.OPEN and self._ended is None:
            # He closes, or broke the protocol, and has his answer; the service gets what came before.
            self._ended = Code.DONE, ""
            self._device.close()
            self._later(_FLUSH_SECONDS, self._device.abort)
            self._later(_LINGER_SECONDS, self._client.abort)

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            self._moved = self._heard
            self.bytes_to_device += len(frame.data)
            self._device.write(frame.data)
        elif frame.opcode is Opcode.TEXT:
            self.cut(Code.UNSUPPORTED, "BINARY_FRAMES_ONLY")

    def from_device(self, data: bytes) -> None:
        """What came of the service."""
        if self._ended is None:
            self._moved = self._loop.time()
            self.bytes_from_device += len(data)
            self._frames.send_binary(data)
            self._flush()

    def _flush(self) -> None:
        if self._client.transport is None:
            self._device.read(False)  # it speaks first: that waits for the client
            return
        for data in self._frames.data_to_send():
            if data:
                self._client.write(data)
            else:  # both have said that they close
                self._client.close()
        if self._client.waiting > _MOST_WAITING:  # he asks without reading the answers
            self._client.abort()

    def device_lost(self) -> None:
        """The service has ended: the client gets all that it said, at his pace, and then the end."""
        if self._ended is None:
            self._ended = Code.DONE, ""
            self._client.read(True)
            if self._client.transport is not None and self._frames.state is State.OPEN:
                self._frames.send_close(Code.DONE)
                self._flush()
            self._later(self._idle_seconds, self._client.abort)
        self._lost()

    def client_lost(self) -> None:
        """The client is gone: the service gets what he said."""
        if self._ended is None:
            self._ended = Code.DONE, ""
            self._device.close()
            self._later(_FLUSH_SECONDS, self._device.abort)
        self._lost()

    def _lost(self) -> None:
        if self._client.lost and self._device.lost and not self._over.done():
            self._over.set_result(None)

    def client_full(self, full: bool) -> None:
        """Whether he can take no more now."""
        self._device.read(not full)
        if not full:
            self._tell()

    def device_full(self, full: bool) -> None:
        """Whether the service can take no more now."""
        if self._ended is None:
            self._client.read(not full)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._ended is not None:
            return
        if now - self._moved >= self._idle_seconds:
            self.cut(Code.IDLE, "IDLE")
        elif now - self._heard > 2 * PING_SECONDS and not self._device.full:
            self._client.abort()  # two pings without an answer
        else:
            self._frames.send_ping(b"")
            self._flush()
            self._timers.clear()  # of an open one, this is the only one
            self._later(min(PING_SECONDS, self._idle_seconds), self._tick)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, call))


class _End(asyncio.Protocol):
    """One of the two transports."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.transport: asyncio.Transport | None = None
        self.full = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def write(self, data: Any) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def read(self, on: bool) -> None:
        if self.transport is not None and not self.transport.is_closing():
            if on:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Reset; what waits is dropped."""
        if self.transport is not None and not self.lost:
            reset_transport(self.transport)


class _Browser(_End):
    """The client's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.bridge.client_ready()

    def data_received(self, data: bytes) -> None:
        self.bridge.from_client(data)

    def eof_received(self) -> None:
        pass  # without a close frame before it: the transport closes

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.bridge.client_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.bridge.client_full(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.bridge.client_full(False)


class _Service(_End):
    """The service's."""

    def data_received(self, data: bytes) -> None:
        self.bridge.from_device(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.bridge.device_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.bridge.device_full(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.bridge.device_full(False)
