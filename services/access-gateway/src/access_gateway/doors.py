"""The ports that are the same for everybody: who comes in, how many, and how long a stranger may stay.

A door accepts, does the TLS handshake, and gives the client to its handler. Until the handler admits him, he
is a stranger: of these only so many come from one address and altogether, and each has only so long.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from access_gateway import metrics
from access_gateway.clients import Client, PlainClient, TlsClient
from access_gateway.relay import reset, tune
from access_gateway.targets import Address, origin, plain_address
from access_gateway.tls import Certificate
from servicekit.logging import get_logger

log = get_logger(__name__)

_BACKLOG = 1024
_ACCEPTS_AT_ONCE = 64
_ACCEPT_RETRY_SECONDS = 0.1

Handle = Callable[[Client], Awaitable[None]]
"""Serves a client to his end, or releases him; `Client.admit` says that he has shown who he is."""


class TurnedAway(StrEnum):
    """Why a door did not let somebody come to its handler's decision."""

    FULL = "full"
    TOO_MANY_FROM_SOURCE = "too_many_from_source"
    HANDSHAKE = "handshake"
    SLOW = "slow"


@dataclass(slots=True)
class Crowd:
    """Who is at the doors of this process. Strangers get a tenth of the room, of it each source its share."""

    most: int
    strangers_per_source: int
    _inside: int = 0
    _strangers: int = 0
    _by_source: Counter[str] = field(default_factory=Counter[str])

    @property
    def inside(self) -> int:
        """Clients that are connected, strangers too."""
        return self._inside

    def enter(self, source: str) -> TurnedAway | None:
        """Count one more stranger, or say why not."""
        if self._inside >= self.most or self._strangers >= max(1, self.most // 10):
            return TurnedAway.FULL
        if self._by_source[source] >= self.strangers_per_source:
            return TurnedAway.TOO_MANY_FROM_SOURCE
        self._inside += 1
        self._strangers += 1
        self._by_source[source] += 1
        return None

    def admit(self, source: str) -> None:
        """He is no stranger any more."""
        self._strangers -= 1
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]

    def leave(self) -> None:
        """One whom `admit` was called for is gone."""
        self._inside -= 1


class Listener:
    """Accepts clients of a listening, non-blocking socket until it is closed."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket, Address], None]) -> None:
        self._sock, self._accepted = sock, accepted
        self._loop = asyncio.get_running_loop()
        self._open = True
        # Not `loop.sock_accept`: cancelled at the wrong moment, it drops a client that it has accepted.
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept nobody any more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):  # then others have their turn; the loop calls again
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no more files: wait, then go on
                log.warning("accept_failed", error=type(error).__name__)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_ACCEPT_RETRY_SECONDS, self._accept_again)
                return
            client.setblocking(False)
            self._accepted(client, plain_address(str(address[0])))

    def _accept_again(self) -> None:
        if self._open:
            self._loop.add_reader(self._sock, self._accept)


class Door:
    """One port, open until `close`."""

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        handle: Handle,
        *,
        crowd: Crowd,
        hello_seconds: float,
        certificate: Certificate | None = None,
        closing_seconds: float | None = None,
    ) -> None:
        """Open it; ``name`` is for metrics and logs, ``closing_seconds`` as for `TlsClient.accept`.

        Raises:
            OSError: the port is taken, or this process may not have it.
        """
        self._name, self._handle, self._crowd = name, handle, crowd
        self._hello_seconds, self._certificate = hello_seconds, certificate
        self._closing_seconds = closing_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        for reason in TurnedAway:
            metrics.TURNED_AWAY.labels(door=name, reason=reason.value)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.create_server(address, family=family, backlog=_BACKLOG)
        sock.setblocking(False)
        self.port: int = sock.getsockname()[1]
        self._listener = Listener(sock, self._enter)
        log.info("door_opened", door=name, port=self.port, tls=certificate is not None)

    async def close(self) -> None:
        """Accept nobody any more, and end those who are served."""
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _enter(self, sock: socket.socket, source: Address) -> None:
        key = origin(source)
        why = self._crowd.enter(key)
        if why is not None:
            self._turned_away(why)
            reset(sock)
            return
        visit = _Visit(self._crowd, key)
        task = asyncio.create_task(self._serve(sock, source, visit))
        self._tasks.add(task)
        # Not in the task's own clean-up: a task that is cancelled before its first step has none.
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: visit.end(sock))

    async def _serve(self, sock: socket.socket, source: Address, visit: "_Visit") -> None:
        client: Client | None = None
        limit = asyncio.timeout(self._hello_seconds)
        try:
            async with limit:
                client = await self._greet(sock, source, visit)
                if client is None:
                    return

                def admitted() -> None:
                    visit.admit()
                    limit.reschedule(None)

                client.when_admitted(admitted)
                await self._handle(client)
        except TimeoutError:
            if not limit.expired():
                raise
            self._turned_away(TurnedAway.SLOW)
        except OSError:
            pass  # he is gone
        except Exception:
            log.exception("client_failed", door=self._name)
        finally:
            if client is not None:
                client.reset()

    async def _greet(self, sock: socket.socket, source: Address, visit: "_Visit") -> Client | None:
        tune(sock)
        visit.owned = True  # by the client; and the handshake closes the socket however it ends
        if self._certificate is None:
            return PlainClient(sock, source)
        try:
            return await TlsClient.accept(
                sock, source, self._certificate.context, closing_seconds=self._closing_seconds
            )
        except OSError:
            self._turned_away(TurnedAway.HANDSHAKE)
            return None

    def _turned_away(self, why: TurnedAway) -> None:
        metrics.TURNED_AWAY.labels(door=self._name, reason=why.value).inc()


class _Visit:
    """One client's place in the crowd."""

    def __init__(self, crowd: Crowd, key: str) -> None:
        self._crowd, self._key = crowd, key
        self._stranger = True
        self.owned = False

    def admit(self) -> None:
        if self._stranger:
            self._stranger = False
            self._crowd.admit(self._key)

    def end(self, sock: socket.socket) -> None:
        self.admit()
        self._crowd.leave()
        if not self.owned:
            reset(sock)
