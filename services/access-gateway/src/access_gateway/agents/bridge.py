"""Makes a plain socket of an agent's data connection, so that every protocol reaches every service alike.

Between the TLS connection and whoever relays stands a local pair of sockets. What one end does is done at the
other: the end of sending, closing, and a reset. Only the device's half-close is more than TLS can say: what a
client still sends after it is thrown away.
"""

import asyncio
import select
import socket
from typing import Final, cast

from access_gateway.agents.peer import DataPeer
from access_gateway.relay import reset_transport

_HIGH_WATER: Final = 256 * 1024
_LOOK_SECONDS: Final = 1.0


async def join(peer: DataPeer) -> socket.socket:
    """A connected, non-blocking socket to the service that ``peer`` has been dialled to; raises OSError."""
    near, far = local_pair()
    try:
        bridge = _Bridge(peer)
        await asyncio.get_running_loop().create_connection(lambda: bridge.inner, sock=far)
    except BaseException:
        near.close()
        far.close()
        peer.end()
        raise
    return near


def local_pair() -> tuple[socket.socket, socket.socket]:
    """Two non-blocking TCP sockets that are connected to each other.

    TCP, unlike ``socket.socketpair``, tells a reset from an end, and takes the options that relays set.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        while True:
            far, address = listener.accept()
            if address == near.getsockname():
                break
            far.close()  # somebody else on this machine was quicker
    near.setblocking(False)
    far.setblocking(False)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


class _Bridge:
    """The TLS side (``outer``) and the local side (``inner``) of one session."""

    def __init__(self, peer: DataPeer) -> None:
        self.peer = peer
        self.outer, self.inner = _Outer(self), _Inner(self)
        transport, self.early = peer.take()
        self.outer.transport = transport
        transport.set_protocol(self.outer)
        transport.set_write_buffer_limits(high=_HIGH_WATER)

    def finish(self) -> None:
        """Both sides have ended: deliver what is buffered and close."""
        self.outer.transport.close()
        self.inner.close()

    def abort(self) -> None:
        """One side broke: so does the other."""
        self.outer.transport.abort()
        self.inner.reset()


class _Outer(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self._bridge.inner.write(data)

    def pause_writing(self) -> None:
        self._bridge.inner.pause_reading()

    def resume_writing(self) -> None:
        self._bridge.inner.resume_reading()

    def eof_received(self) -> None:
        self.ended = True
        if self._bridge.inner.ended:
            self._bridge.finish()
        else:
            self._bridge.inner.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            self._bridge.abort()
        else:
            self._bridge.inner.resume_reading()


class _Inner(asyncio.Protocol):
    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge
        self._transport: asyncio.Transport | None = None
        self._count = 0
        self._lost = False
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._bridge.early:
            self._transport.write(self._bridge.early)
            self._bridge.early = b""
        if self._bridge.outer.ended:
            self._transport.write_eof()
        elif self._bridge.outer.transport.is_closing():
            asyncio.get_running_loop().call_soon(self._bridge.abort)
        else:
            self._bridge.outer.transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._bridge.early += data
        else:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        if self._transport is not None and not self._lost:
            reset_transport(self._transport)

    def data_received(self, data: bytes) -> None:
        if not self._bridge.outer.ended:
            self._count += len(data)
            self._bridge.outer.transport.write(data)

    def pause_writing(self) -> None:
        if not self._bridge.outer.transport.is_closing():
            self._bridge.outer.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._bridge.outer.transport.is_closing():
            self._bridge.outer.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        if self._bridge.outer.ended:
            self._bridge.finish()
        else:
            self._bridge.peer.end_sending(self._count)
            self._look()
        return True

    def _look(self) -> None:
        """After the end of what is read nobody tells of a reset any more: look for one now and then."""
        if self._transport is None or self._transport.is_closing():
            return
        sock: socket.socket = self._transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), 0)  # errors and hang-ups are always told
        if poll.poll(0):
            self._bridge.abort()
        else:
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if not (self.ended and self._bridge.outer.ended):
            self._bridge.abort()
