"""RTSP in the binary frames of a WebSocket, for players in a page: ``/v1/rtsp``.

As ONVIF's Streaming Specification has it (RTSP over WebSockets, sub-protocol ``rtsp.onvif.org``): messages
and interleaved frames as in a connection of RTSP itself. The bounds of the WebSocket's frames mean nothing.
What is asked and answered in it is `door.RtspDoor`'s, so that nothing of what it decides is decided twice.
"""

import asyncio
import socket
from typing import Any, Final, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol

from access_gateway.clients import Client, Inflow, TransportClient
from access_gateway.doors import Handle
from access_gateway.protocols.bridge import Code, frames

PATH: Final = "/v1/rtsp"
SUBPROTOCOL: Final = Subprotocol("rtsp.onvif.org")

_MOST_WAITING: Final = 1024 * 1024
_LINGER_SECONDS: Final = 0.5
"""For what was said last to get on its way; TLS would wait for the other end to close too."""


async def serve(client: Client, handle: Handle) -> None:
    """Have a client whose handshake is done served by ``handle``, to his end."""
    inflow = Inflow()
    transport = FramedTransport(inflow)
    early, released = client.early(), client.release()
    if isinstance(released, socket.socket):
        await asyncio.get_running_loop().connect_accepted_socket(lambda: transport, released)
    elif released.is_closing():
        raise ConnectionResetError("the client is gone")
    else:
        transport.connection_made(released)
        released.set_protocol(transport)
    if early:
        transport.data_received(early)
    framed = TransportClient(client.source, transport, inflow)
    framed.when_admitted(client.admit)
    try:
        await handle(framed)
    finally:
        framed.reset()


class FramedTransport(asyncio.Transport, asyncio.Protocol):
    """A transport whose bytes travel in the frames of a WebSocket, over another whose protocol it is."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._frames = frames()
        self._below: asyncio.Transport

    # -- as the protocol of the transport below -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast("asyncio.Transport", transport)
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.BINARY or event.opcode is Opcode.CONT:
                if event.data:
                    self._protocol.data_received(bytes(event.data))
            elif event.opcode is Opcode.TEXT and self._frames.state is State.OPEN:
                self._frames.send_close(Code.UNSUPPORTED, "BINARY_FRAMES_ONLY")
        self._flush()
        if self._below.get_write_buffer_size() > _MOST_WAITING:  # he asks without reading the answers
            self._below.abort()
        elif self._frames.state is not State.OPEN:  # he closes, or broke the protocol, and has his answer
            self._protocol.eof_received()
            self._below.close()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._below.abort)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    # -- as a transport -------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_binary(bytes(data))
            self._flush()

    def close(self) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_close(Code.DONE)
            self._flush()
            self._below.resume_reading()  # he closes in turn; a close with unread input would overtake ours

    def abort(self) -> None:
        self._below.abort()

    def is_closing(self) -> bool:
        return self._below.is_closing() or self._frames.state is not State.OPEN

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def _flush(self) -> None:
        if not self._below.is_closing():
            for data in self._frames.data_to_send():
                if data:
                    self._below.write(data)
