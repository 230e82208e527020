"""The ports that accounts have open, and the connections through them."""

import asyncio
import socket
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from access_gateway import metrics
from access_gateway.connections import Connection
from access_gateway.errors import (
    AccessDeniedError,
    NotYetVisibleError,
    RateLimitedError,
    UnavailableError,
)
from access_gateway.holdings import Holdings
from access_gateway.policy import AccessRequest, Refusal, Refused
from access_gateway.protocols.port import Lease, Port, PortRange
from access_gateway.refusals import RefusedError
from access_gateway.relay import reset
from access_gateway.server import Gateway
from access_gateway.settings import Settings
from access_gateway.targets import Address
from access_gateway.warrants import Warrant
from contracts.base import new_id
from contracts.events import CutReason
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

WAY = "port"
_FULL_SECONDS = 60.0


class Ports:
    """Opens ports for accounts, and closes them."""

    def __init__(self, settings: Settings, *, gateway: Gateway, holdings: Holdings) -> None:
        self._settings, self._gateway, self._holdings = settings, gateway, holdings
        self._range = PortRange(settings.relay_host, settings.ports)
        self._ports: dict[UUID, Port] = {}
        self._by_account: Counter[str] = Counter()
        self._connections: dict[Connection, Port] = {}

    async def open(self, request: AccessRequest, host_ip: str) -> Port:
        """A port for the account to the service.

        Raises:
            ApiError: ``ACCESS_DENIED``, ``NOT_YET_VISIBLE``, ``RATE_LIMITED``, ``UNAVAILABLE``.
        """
        if wait := self._gateway.refusals.blocked_for(request.account_id, None):
            raise RateLimitedError("You were refused too often. Wait before you try again.", wait)
        if self._by_account[request.account_id] >= self._settings.ports_per_account:
            raise RateLimitedError("You have too many open connections. Close one of them.", _FULL_SECONDS)
        # Counted before the first await: requests that come together must not pass the limit together.
        self._by_account[request.account_id] += 1
        try:
            return await self._make(request, host_ip)
        except BaseException:
            self._release(request.account_id)
            raise

    async def _make(self, request: AccessRequest, host_ip: str) -> Port:
        arrived, connection_id = time.monotonic(), new_id()
        answer = await self._gateway.decider.decide(request, connection_id)
        if isinstance(answer, Refused):
            raise await self._refused(request, connection_id, answer, arrived)
        listener = self._range.listen()
        if listener is None:
            raise UnavailableError("No port is free for your connection.")
        access = answer.access
        lease = Lease(
            connection_id=connection_id,
            request=AccessRequest(request.account_id, request.service_id),
            device_id=access.device_id,
            device_version=access.device_version,
            partition=access.partition,
            protocol=access.protocol,
            created_at=datetime.now(UTC),
        )
        warrant = self._gateway.warrant(lease.request, lease.device_id, way=WAY)
        port = Port(
            lease,
            listener,
            host_ip=host_ip,
            idle_seconds=self._settings.port_idle_seconds,
            serve=self._serve,
            serve_now=partial(self._serve_now, warrant),
            engine=self._gateway.engine,
            stranger=self._on_stranger,
            closed=self._on_closed,
        )
        self._ports[connection_id] = port
        self._holdings.add(port)
        self._holdings.lasts(port, access.until)
        metrics.OPEN_PORTS.inc()
        log.info("port_opened", connection_id=str(connection_id), account_id=request.account_id)
        return port

    def close(self, account_id: str, connection_id: UUID) -> bool:
        """Close an account's own port and end what runs through it; false: he has no port of this id."""
        port = self._ports.get(connection_id)
        if port is None or port.request.account_id != account_id:
            return False
        self._close(port)
        return True

    async def shut_down(self) -> None:
        """Close every port and connection; returns when their last events are in the queue."""
        ports = list(self._ports.values())
        for port in ports:
            self._close(port)
        await asyncio.gather(*(port.wait_closed() for port in ports))

    def _close(self, port: Port) -> None:
        port.close()
        for connection in [each for each, its_port in self._connections.items() if its_port is port]:
            connection.hang_up()

    async def _refused(
        self, request: AccessRequest, connection_id: UUID, answer: Refused, arrived: float
    ) -> ApiError:
        code = answer.code
        self._gateway.refusals.tell(
            request, connection_id, code, way=WAY, version=answer.version, age=answer.age
        )
        if code is Refusal.NOT_YET_VISIBLE:
            return NotYetVisibleError()
        if code is Refusal.ACCESS_DENIED:
            await self._gateway.refusals.slow_down(request.account_id, None, arrived)
            return AccessDeniedError()
        return UnavailableError("It cannot be proved now what you may connect to.")

    def _on_closed(self, port: Port, reason: CutReason | None) -> None:
        del self._ports[port.lease.connection_id]
        self._holdings.remove(port)
        self._release(port.request.account_id)
        metrics.OPEN_PORTS.dec()
        log.info("port_closed", connection_id=str(port.lease.connection_id), reason=reason and reason.value)

    def _release(self, account_id: str) -> None:
        self._by_account[account_id] -= 1
        if not self._by_account[account_id]:
            del self._by_account[account_id]

    def _on_stranger(self, port: Port, source: Address) -> None:
        self._gateway.refusals.tell(
            port.request,
            new_id(),
            Refusal.WRONG_SOURCE,
            way=WAY,
            device_id=port.device_id,
            flood=(f"port {port.lease.connection_id}", f"source {source}"),
        )

    def _serve_now(self, warrant: Warrant, port: Port, client: socket.socket) -> bool:
        if port.clients >= self._settings.connections_per_port:
            return False
        connection = self._gateway.connection(port.request, way=WAY)
        if not connection.serve_now(client, warrant, self._over):
            return False
        self._connections[connection] = port
        return True

    def _over(self, connection: Connection, refused: Refusal | None) -> None:
        port = self._connections.pop(connection)
        if refused is Refusal.ACCESS_DENIED:
            port.end(CutReason.GRANT_ENDED)
        port.left()

    async def _serve(self, port: Port, client: socket.socket) -> None:
        connection = self._gateway.connection(port.request, way=WAY, cut=lambda _: reset(client))
        self._connections[connection] = port
        try:
            async with connection:
                if port.clients > self._settings.connections_per_port:
                    raise connection.refused(Refusal.TOO_MANY_CONNECTIONS)
                access = await connection.check()
                if access.device_id != port.device_id:  # a service that has moved is not what was opened
                    raise connection.refused(Refusal.ACCESS_DENIED)
                device = await connection.dial()
                await connection.relay(client, device)
        except RefusedError as error:
            reset(client)
            if error.code is Refusal.ACCESS_DENIED:
                port.end(CutReason.GRANT_ENDED)
        finally:
            del self._connections[connection]
