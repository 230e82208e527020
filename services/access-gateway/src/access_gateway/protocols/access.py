"""What comes in by ACCESS_PORT and ACCESS_TLS_PORT: the head is read, and the request served."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

from access_gateway.clients import Client
from access_gateway.connections import Connection
from access_gateway.errors import RateLimitedError
from access_gateway.people import People
from access_gateway.policy import Refusal
from access_gateway.protocols.head import BadRequestError, Head, HeadReader, answer
from access_gateway.refusals import Refusals
from contracts.positions import POSITION_HEADER, Position, parse_positions
from servicekit.http import ApiError
from servicekit.telemetry import CORRELATION_HEADER, correlated

_MOST_POSITIONS = 100

Serve = Callable[[Client, Head], Awaitable[None]]
"""Serves a request to its end; an ApiError that it raises is sent, if the client is still here."""


class AccessDoor:
    """The handler of the two doors: HTTP CONNECT and WebSocket."""

    def __init__(self, *, connect: Serve, websocket: Serve) -> None:
        self._connect, self._websocket = connect, websocket

    async def __call__(self, client: Client) -> None:
        """See `doors.Handle`."""
        with correlated(None):
            try:
                head = await _read(client)
                if head is not None:
                    with correlated(head.one(CORRELATION_HEADER.lower()) or None):
                        await self._serve(client, head)
            except ApiError as error:
                if not client.released:
                    await client.send(answer(error))
                    await client.close()

    async def _serve(self, client: Client, head: Head) -> None:
        if head.method == "CONNECT":
            await self._connect(client, head)
        elif head.has("upgrade", "websocket"):
            await self._websocket(client, head)
        else:
            raise ApiError(
                "METHOD_NOT_ALLOWED",
                405,
                "Use CONNECT with a service's name, or open a WebSocket.",
                headers={"Allow": "CONNECT"},
            )


async def _read(client: Client) -> Head | None:
    reader = HeadReader()
    while True:
        data = await client.receive()
        head = reader.feed(data)
        if head is not None:
            client.unread(reader.rest)
            return head
        if not data:
            return None


def positions_of(text: str) -> tuple[Position, ...]:
    """The positions of the header, or the query parameter; raises BadRequestError."""
    try:
        found = tuple(parse_positions(text))
    except ValueError as error:
        raise BadRequestError(f"The header {POSITION_HEADER} cannot be used: {error}.") from None
    if len(found) > _MOST_POSITIONS:
        raise BadRequestError(f"At most {_MOST_POSITIONS} positions are read.")
    return found


class Reception:
    """Knows who comes in at a door, and how much room his account has there."""

    def __init__(self, people: People, refusals: Refusals, *, connections_per_account: int) -> None:
        self._people, self._refusals, self._most = people, refusals, connections_per_account
        self._by_account: Counter[str] = Counter()

    async def admit(self, client: Client, token: str) -> str:
        """The account of a token, whose bearer is no stranger any more.

        Raises:
            ApiError: ``UNAUTHENTICATED``, after a pause if there was a token; ``RATE_LIMITED`` when too many
                from this address were refused, and ``UNAVAILABLE``.
        """
        arrived, source = time.monotonic(), client.origin
        if wait := self._refusals.blocked_for(None, source):
            raise RateLimitedError("Too many from your address were refused. Wait, then try again.", wait)
        if not token:
            raise ApiError("UNAUTHENTICATED", 401, "Send a bearer token; `Basic` takes it as the password.")
        try:
            account_id = await self._people.account_of(token)
        except ApiError as error:
            if error.code == "UNAUTHENTICATED":
                await self._refusals.slow_down(None, source, arrived)
            raise
        client.admit()
        return account_id

    @contextmanager
    def seat(self, connection: Connection) -> Generator[None]:
        """A place for one more connection of its account; raises RefusedError when it has none."""
        account_id = connection.request.account_id
        if self._by_account[account_id] >= self._most:
            raise connection.refused(Refusal.TOO_MANY_CONNECTIONS)
        self._by_account[account_id] += 1
        try:
            yield
        finally:
            self._by_account[account_id] -= 1
            if not self._by_account[account_id]:
                del self._by_account[account_id]
