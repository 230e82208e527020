"""A TCP port of its own for one account and one service, open for any TCP client of one source address."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from access_gateway.policy import AccessRequest, ServiceAccess
from access_gateway.relay import Engine, Listener, no_delay, reset
from access_gateway.targets import Address, plain_address
from contracts.events import CutReason
from servicekit.logging import get_logger
from servicekit.telemetry import correlated, correlation_id

log = get_logger(__name__)

LATCH = "255.255.255.255"
"""As ``host_ip``: only the first address that connects, whichever it is."""

_BACKLOG = 128
_ACCEPT_RETRY_SECONDS = 0.1
_AT_ONCE = 16
_GRACE_SECONDS = 1.0


class SourceRule:
    """Which source address may use a port."""

    def __init__(self, host_ip: str) -> None:
        self._only: Address | None = None if host_ip == LATCH else plain_address(host_ip)

    def admits(self, source: Address) -> bool:
        """Whether this address may; an open latch closes on it."""
        if self._only is None:
            self._only = source
        return source == self._only


class PortRange:
    """Hands out listening sockets on one address.

    In an order of its own that nobody can foresee, and each port again only after all the others: whoever
    still knows a closed port must not meet the next one's service there.
    """

    def __init__(self, host: str, ports: range) -> None:
        self._host = host
        self._order = list(ports)
        random.SystemRandom().shuffle(self._order)
        self._next = 0

    def listen(self) -> Listener | None:
        """A listening socket; None when no port of the range is free."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        for _ in self._order:
            port = self._order[self._next]
            self._next = (self._next + 1) % len(self._order)
            sock = Listener(family)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                no_delay(sock)
                sock.bind((self._host, port))
                sock.listen(_BACKLOG)
            except OSError:  # taken by another process, or reserved
                sock.close()
            else:
                return sock
        return None


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose port it is and what it leads to."""

    connection_id: UUID
    request: AccessRequest
    device_id: str
    device_version: int
    partition: int
    protocol: str
    created_at: datetime


Serve = Callable[["Port", socket.socket], Awaitable[None]]
"""Takes over a client that the source rule admits; returns when the client is gone."""

ServeNow = Callable[["Port", socket.socket], bool]
"""The same, if nothing has to be waited for; `Port.left` tells when the client is gone. False: not taken."""


class Port:
    """A listening port. It ends by `close`, when nobody uses it for a while, or with its grant."""

    def __init__(
        self,
        lease: Lease,
        listener: Listener,
        *,
        host_ip: str,
        idle_seconds: float,
        serve: Serve,
        serve_now: ServeNow,
        engine: Engine,
        stranger: Callable[["Port", Address], None],
        closed: Callable[["Port", CutReason | None], None],
    ) -> None:
        self.lease = lease
        self.number: int = listener.getsockname()[1]
        self._listener = listener
        self._rule = SourceRule(host_ip)
        self._idle_seconds = idle_seconds
        self._serve, self._serve_now, self._stranger, self._closed = serve, serve_now, stranger, closed
        self._admitted: str | None = None
        self._engine = engine
        self._context = copy_context()  # what clients leave belongs to the request that opened the port
        self._loop = asyncio.get_running_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._without_task = 0
        self._all_left: asyncio.Future[None] | None = None
        self._left_at = self._loop.time()
        self._timer = self._loop.call_later(idle_seconds, self._close_if_idle)
        self._open = True
        # Not `loop.sock_accept`: cancelled at the wrong moment, it drops a client that it has accepted.
        engine.listen(listener, self)

    @property
    def request(self) -> AccessRequest:
        """See `Held`."""
        return self.lease.request

    @property
    def device_id(self) -> str:
        """See `Held`."""
        return self.lease.device_id

    @property
    def partition(self) -> int:
        """See `Held`."""
        return self.lease.partition

    @property
    def open(self) -> bool:
        """Whether clients are accepted."""
        return self._open

    @property
    def clients(self) -> int:
        """Clients that are connected now."""
        return len(self._clients) + self._without_task

    def judged(self, access: ServiceAccess) -> None:
        """See `Held`. Each client is checked anew."""

    def end(self, reason: CutReason, cause: str | None = None) -> None:
        """See `Held`. A port outlives staleness: it carries nothing, and each client is checked anew."""
        if reason is CutReason.GRANT_ENDED:
            with correlated(cause or correlation_id()):
                self._shut(reason)

    def close(self) -> None:
        """Accept nobody any more."""
        self._shut(None)

    async def wait_closed(self) -> None:
        """Return when the socket is closed and every client is gone, which is made so after a second."""
        if self._without_task:
            self._all_left = self._loop.create_future()
            await asyncio.wait({self._all_left}, timeout=_GRACE_SECONDS)
        tasks = set(self._clients)
        if not tasks:
            return
        _, waiting = await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        for task in waiting:  # one that still dials
            task.cancel()
        await asyncio.wait(tasks)

    def _shut(self, reason: CutReason | None) -> None:
        if self._open:
            self._open = False
            self._timer.cancel()
            self._engine.forget(self._listener)
            self._listener.close()
            self._closed(self, reason)

    def on_events(self, events: int) -> None:
        """See `Watcher`. Some clients that wait; it is called again while more do."""
        del events
        for _ in range(_AT_ONCE):
            if not self._open:
                return
            try:
                client, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no more files: wait, then go on
                log.warning("accept_failed", error=type(error).__name__)
                self._engine.pause(self._listener)
                self._loop.call_later(_ACCEPT_RETRY_SECONDS, self._accept_again)
                return
            client.setblocking(False)
            if address[0] == self._admitted or self._admits(address[0]):
                self._take(client)
            else:
                reset(client)
                self._context.run(self._stranger, self, plain_address(address[0]))

    def _admits(self, source: str) -> bool:
        if not self._rule.admits(plain_address(source)):
            return False
        self._admitted = source  # of one port there is only one, and reading an address takes long
        return True

    def _accept_again(self) -> None:
        if self._open:
            self._engine.listen(self._listener, self)

    def _take(self, client: socket.socket) -> None:
        if self._serve_now(self, client):
            self._without_task += 1
            return
        task = self._loop.create_task(self._run(client), context=self._context.copy())
        self._clients.add(task)
        # Not in the task's own clean-up: a task that is cancelled before its first step has none.
        task.add_done_callback(lambda _: client.close())
        task.add_done_callback(self._gone)

    async def _run(self, client: socket.socket) -> None:
        await self._serve(self, client)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("client_failed", exc_info=task.exception())
        self._left_at = self._loop.time()

    def left(self) -> None:
        """A client is gone that was served without a task."""
        self._without_task -= 1
        self._left_at = self._loop.time()
        if not self._without_task and self._all_left is not None and not self._all_left.done():
            self._all_left.set_result(None)

    def _close_if_idle(self) -> None:
        # One timer that looks, instead of one that every client stops and starts.
        left = self._left_at + self._idle_seconds - self._loop.time()
        if self.clients:
            left = self._idle_seconds
        if left <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(left, self._close_if_idle)
