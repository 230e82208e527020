"""A connection that an agent has made, once it is known whose it is."""

import asyncio
from collections.abc import Callable
from typing import Final

from access_gateway.agents import protocol
from access_gateway.agents.protocol import Failed, Lines, MalformedError
from access_gateway.clients import TlsClient
from access_gateway.targets import TargetNotAllowedError, TargetUnreachableError

_UNSENT_BYTES: Final = 65_536
"""Whoever does not read what he is told, up to so much, is gone."""


class Peer(asyncio.Protocol):
    """Sends messages and hears lines, until either end closes."""

    def __init__(self, client: TlsClient, lines: Lines) -> None:
        """Take over a client, and what was read of him."""
        lines.feed(client.early())
        self._lines = lines
        self._transport = client.release()
        self._heard: Callable[[bytes], None] | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            # It was lost while it was looked up whose it is: that was told to the protocol before this one.
            self._ended.set_result(None)

    async def run(self, heard: Callable[[bytes], None]) -> None:
        """Give each line to ``heard``, which raises MalformedError to end it, until the end."""
        self._heard = heard
        try:
            self._transport.resume_reading()
            self._hear()
            await asyncio.shield(self._ended)
        except BaseException:
            self._transport.abort()
            raise

    def send(self, message: bytes) -> None:
        """Write a message; a peer that does not read is ended."""
        if self._transport.is_closing():
            return
        self._transport.write(message)
        if self._transport.get_write_buffer_size() > _UNSENT_BYTES:
            self._transport.abort()

    def end(self, last: bytes = b"") -> None:
        """Close, after a last message; without one, at once."""
        if last and not self._transport.is_closing():
            self._transport.write(last)
            self._transport.close()
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._lines.feed(data)
        if self._heard is not None:
            self._hear()

    def _hear(self) -> None:
        try:
            while self._heard is not None and (line := self._lines.next()) is not None:
                self._heard(line)
        except MalformedError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self._ended.done():
            self._ended.set_result(None)


class DataPeer(Peer):
    """A data connection: it waits, is told what to reach, and then carries one session.

    `end_sending` is the half-close that TLS lacks: the agent is told beside the data that the client is done.
    """

    control: Peer
    """Where its agent listens: another one when the agent has logged in again."""

    def __init__(self, client: TlsClient, lines: Lines, control: Peer, token: str) -> None:
        super().__init__(client, lines)
        self.control, self._token = control, token
        self._answer: asyncio.Future[protocol.Answer] = asyncio.get_running_loop().create_future()
        self._dialled = self._taken = False

    @property
    def usable(self) -> bool:
        """Whether it can still be told what to reach."""
        return not (self._dialled or self._ended.done() or self._transport.is_closing())

    @property
    def closed(self) -> bool:
        """Whether it is at its end."""
        return self._transport.is_closing()

    async def dial(self, host: str, port: int) -> None:
        """Have the agent connect it to a service.

        Raises:
            TargetNotAllowedError: the device's owner does not let us.
            TargetUnreachableError: the service, or the agent, does not answer.
        """
        self._dialled = True
        self.send(protocol.dial(host, port))
        answer = await self._answer
        if isinstance(answer, Failed):
            raise TargetNotAllowedError if answer.reason == "not_allowed" else TargetUnreachableError

    def answered(self, line: bytes) -> None:
        """What the agent says to a ``dial``; from then on it says nothing more of its own."""
        if not self._dialled or self._answer.done():
            raise MalformedError
        self._answer.set_result(protocol.read_answer(line))
        # What follows is payload.
        self._heard = None
        self._transport.pause_reading()

    def take(self) -> tuple[asyncio.Transport, bytes]:
        """The connection for the payload, not being read, and the payload that has come with the answer.

        Whoever takes it sets his own protocol before he returns to the loop, and closes it.
        """
        self._taken = True
        if not self._ended.done():
            self._ended.set_result(None)
        return self._transport, self._lines.take()

    def leave(self) -> None:
        """End it, unless somebody has taken it."""
        if not self._taken:
            self.end()

    def end_sending(self, count: int) -> None:
        """The client has sent all it will: ``count`` bytes, which were written to the connection."""
        self.control.send(protocol.end(self._token, count))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        if not self._answer.done():
            self._answer.set_exception(TargetUnreachableError())
            self._answer.exception()  # nobody may be waiting
