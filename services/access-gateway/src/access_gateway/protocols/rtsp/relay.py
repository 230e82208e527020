"""Carries one person's RTSP to one camera and back: requests one after the other, frames in big pieces.

Frames are written as they were read, whole ones only, so that a message or the end of a function always falls
between two of them. Reading from one side stops while the other cannot take more.
"""

import array
import asyncio
import contextlib
import fcntl
import socket
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, cast

from access_gateway import metrics
from access_gateway.clients import Client
from access_gateway.connections import Connection
from access_gateway.policy import ServiceAccess
from access_gateway.protocols.rtsp.conversation import Conversation, Forward
from access_gateway.protocols.rtsp.messages import MalformedError, Reader, Request, Response
from access_gateway.protocols.rtsp.rules import CODE_HEADER, NotDoneError
from access_gateway.relay import reset_transport, tune
from contracts.events import CutReason
from servicekit.logging import get_logger

log = get_logger(__name__)

Judge = Callable[[Request], Awaitable[Forward | Response]]
"""Looks at a request before the camera sees anything of it; raises NotDoneError."""

_SAID_OF_A_CUT: Final = {
    CutReason.GRANT_ENDED: (403, "ACCESS_DENIED"),
    CutReason.STALE: (503, "UNAVAILABLE"),
    CutReason.BY_HAND: (403, "CUT_BY_HAND"),
}
_HIGH_WATER: Final = 128 * 1024
_MOST_WAITING: Final = 32
_CAMERA_SECONDS: Final = 20.0
"""How long a camera may take for an answer."""
_LAST_WORDS_SECONDS: Final = 0.5
_STALLED_BYTES: Final = 64 * 1024
"""Of what was sent to the person and not taken: beyond it last words would come late, so his end is reset."""


class _Side(asyncio.Protocol):
    """One of the two connections. Reading pauses while ``other`` is full, or while ``held``."""

    def __init__(self, relay: "Relay", reader: Reader) -> None:
        self._relay, self.reader = relay, reader
        self.other: _Side
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self.bytes = 0
        self._full = False
        self._held = False
        self._unsent = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._unsent:
            self.write(self._unsent)

    def data_received(self, data: bytes) -> None:
        self._relay.read(self, data)

    def write(self, data: bytes) -> None:
        if self.transport is None:
            self._unsent += data  # last words, if the other side is gone before this one is there
        elif not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:
        self._full = True
        self.other.regulate()

    def resume_writing(self) -> None:
        self._full = False
        self.other.regulate()

    def hold(self, held: bool) -> None:
        """Read no more for now, or again."""
        if held is not self._held:
            self._held = held
            self.regulate()

    def regulate(self) -> None:
        """Read if it is of use."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._held or self.other._full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        return False  # RTSP ends in both directions at once

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._relay.lost()

    def close(self) -> None:
        """Deliver what is written, within a moment, and close."""
        if self.transport is None or self.lost:
            return
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
                self.transport.resume_reading()  # a close with unread input would overtake the last words
            else:
                self.transport.close()
        asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self.transport.abort)

    def reset(self) -> None:
        """Close at once; what is not delivered is dropped."""
        if self.transport is not None and not self.lost:
            reset_transport(self.transport)

    @property
    def stalled(self) -> bool:
        """Whether so much waits to be taken that what is written now would come late."""
        if self.transport is None or self.lost:
            return False
        if self.transport.get_write_buffer_size():
            return True
        sock: socket.socket | None = self.transport.get_extra_info("socket")
        if sock is None:  # lost, in TLS a step before it is told
            return False
        waiting = array.array("i", [0])
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, waiting)
        return waiting[0] > _STALLED_BYTES


class Relay:
    """One relayed RTSP connection. `cut` may be called at any time, also before `run`."""

    def __init__(self, judge: Judge, *, idle_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._judge, self._idle_seconds = judge, idle_seconds
        self._person = _Side(self, Reader(bytearray(256)))
        self._camera = _Side(self, Reader(bytearray(256)))
        self._person.other, self._camera.other = self._camera, self._person
        self._requests: deque[Request] = deque()
        self._current: Request | None = None
        self._answers: dict[str, asyncio.Future[Response]] = {}
        self._sequence = 0
        self._news = asyncio.Event()
        self._over = False
        self._moved_at = self._loop.time()
        self.conversation: Conversation | None = None
        self.base = ""
        """The person's address of what he watches, for the server's own request to him."""

    def take(self, requests: list[Request], reader: Reader) -> None:
        """What the person has asked already, at least one request, and what has read it."""
        self._requests.extend(requests)
        self._person.reader = reader

    def cut(self, reason: CutReason) -> None:
        """From now on not one frame goes on, and the person is told why if he listens.

        The answer to the request that the camera has in hand says so; else a server's TEARDOWN (as RFC 7826,
        section 13.7.2, has it) before the connection closes.
        """
        self._finish(NotDoneError(*_SAID_OF_A_CUT[reason]).answer)

    def changed(self, access: ServiceAccess) -> None:
        """Other functions are granted than before."""
        if self.conversation is not None and not self._over:
            self.conversation.granted(access.functions.keys())
            self._send_orders()

    async def run(
        self,
        connection: Connection,
        conversation: Conversation,
        client: Client,
        device: socket.socket,
    ) -> None:
        """Carry on until one side ends; `take` comes before."""
        self.conversation = conversation
        self._person.reader.gates = conversation.to_device
        self._camera.reader.gates = conversation.from_device
        connection.on_change = self.changed
        timer = self._loop.create_task(self._watch_idle())
        try:
            self._current = self._requests[0]
            await self._attach(client, device)
            conversation.granted(connection.access.functions.keys())  # what changed while it was attached
            while (request := await self._next()) is not None:
                self._current = request
                await self._do(request)
                for permission in sorted(conversation.set_up):
                    connection.opened(permission)
        finally:
            timer.cancel()
            self._finish(None)
            connection.count(to_device=self._person.bytes, from_device=self._camera.bytes)
            metrics.RTSP_DROPPED.labels(direction="to_device").inc(self._person.reader.dropped_frames)
            metrics.RTSP_DROPPED.labels(direction="from_device").inc(self._camera.reader.dropped_frames)
            await self._closed()

    async def _attach(self, client: Client, device: socket.socket) -> None:
        tune(device)
        await self._loop.create_connection(lambda: self._camera, sock=device)
        early, released = client.early(), client.release()
        if isinstance(released, socket.socket):
            await self._loop.connect_accepted_socket(lambda: self._person, released)
        elif released.is_closing():
            raise ConnectionResetError("the client is gone")
        else:
            self._person.connection_made(released)
            released.set_protocol(self._person)
        if early:
            self.read(self._person, early)
        self._person.regulate()
        if self._over:  # before there was anybody to tell
            self._person.close()
            self._camera.close()

    # -- what comes in --------------------------------------------------------------------------------------

    def read(self, side: _Side, data: bytes) -> None:
        """One side has sent something."""
        if self._over:
            return
        self._moved_at = self._loop.time()
        other = side.other
        try:
            for item in side.reader.feed(data):
                if isinstance(item, bytes):
                    side.bytes += len(item)
                    other.write(item)
                elif side is self._person:
                    self._asked(item)
                else:
                    self._answered(item)
        except MalformedError:
            self._garbled(side)

    def _asked(self, message: Request | Response) -> None:
        if isinstance(message, Request):
            self._requests.append(message)
            self._person.hold(len(self._requests) >= _MOST_WAITING)
            self._news.set()

    def _answered(self, message: Request | Response) -> None:
        sequence = "".join(message.all("cseq")[:1])
        if isinstance(message, Request):
            # A camera's own requests are not for the person: they could name it, or lead elsewhere.
            self._camera.write(Response((("cseq", sequence),), status=501).encode())
            return
        waiting = self._answers.pop(sequence, None)
        if waiting is not None and not waiting.done() and message.status >= 200:
            waiting.set_result(message)

    def _garbled(self, side: _Side) -> None:
        if side is self._person:
            answer = Response(((CODE_HEADER, "INVALID_REQUEST"), ("connection", "close")), status=400)
            self._person.write(answer.encode())
            self._finish(None)
        else:
            self._finish(NotDoneError(502).answer)

    def lost(self) -> None:
        """One side is gone: the other goes too."""
        self._news.set()
        self._finish(NotDoneError(502).answer)

    # -- requests -------------------------------------------------------------------------------------------

    async def _next(self) -> Request | None:
        while not self._requests and not self._over:
            self._news.clear()
            await self._news.wait()
        if self._over:
            return None
        request = self._requests.popleft()
        self._person.hold(len(self._requests) >= _MOST_WAITING)
        return request

    async def _do(self, request: Request) -> None:
        try:
            found = await self._judge(request)
            answer = found if isinstance(found, Response) else found.told(await self._ask(found.request))
        except NotDoneError as refused:
            answer = refused.answer
        except TimeoutError:
            answer = NotDoneError(504).answer
        if not self._over:
            self._current = None
            self._tell(request, answer)
            self._send_orders()

    async def _ask(self, request: Request) -> Response:
        """The camera's answer; raises TimeoutError, and NotDoneError when the connection ends."""
        waiting: asyncio.Future[Response] = self._loop.create_future()
        sequence = self._send(request)
        self._answers[sequence] = waiting
        try:
            async with asyncio.timeout(_CAMERA_SECONDS):
                return await waiting
        except asyncio.CancelledError:
            if waiting.cancelled() and self._over:
                raise NotDoneError(502) from None
            raise
        finally:
            self._answers.pop(sequence, None)

    def _send(self, request: Request) -> str:
        self._sequence += 1
        headers = (("cseq", str(self._sequence)), *request.headers, ("user-agent", "Latchkey"))
        self._camera.write(Request(headers, method=request.method, uri=request.uri).encode())
        return str(self._sequence)

    def _send_orders(self) -> None:
        if self.conversation is not None:
            for order in self.conversation.orders():
                self._send(order)

    def _tell(self, request: Request, answer: Response) -> None:
        sequence = "".join(request.all("cseq")[:1])
        headers = ((("cseq", sequence),) if sequence else ()) + answer.headers
        self._person.write(Response(headers, answer.body, status=answer.status).encode())

    # -- the end --------------------------------------------------------------------------------------------

    def _finish(self, why: Response | None) -> None:
        """End everything at once; the person is told why, unless he has long stopped to listen."""
        self._news.set()
        if self._over:
            return
        self._over = True
        session = None
        if self.conversation is not None:
            session = next((each.session_id for each in self.conversation.sessions), None)
            self.conversation.end()
            self._send_orders()
        for waiting in self._answers.values():
            waiting.cancel()
        if why is not None and self._person.stalled:
            self._person.reset()
        elif why is not None and self._current is not None:
            self._tell(self._current, why)
        elif why is not None and session is not None:
            code = next(value for name, value in why.headers if name == CODE_HEADER)
            headers = (("cseq", "1"), ("session", session), (CODE_HEADER, code))
            self._person.write(Request(headers, method="TEARDOWN", uri=self.base).encode())
        self._person.close()
        self._camera.close()

    async def _closed(self) -> None:
        sides = [each for each in (self._person, self._camera) if each.transport is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(4 * _LAST_WORDS_SECONDS):
                while not all(each.lost for each in sides):
                    self._news.clear()
                    await self._news.wait()

    async def _watch_idle(self) -> None:
        left = self._idle_seconds
        while left > 0:
            await asyncio.sleep(left)
            left = self._moved_at + self._idle_seconds - self._loop.time()
        self._finish(None)
