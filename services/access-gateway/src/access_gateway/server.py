"""The gateway: ports that accounts have open, and the connections through them."""

import asyncio
import socket
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from access_gateway import metrics
from access_gateway.audit import Audit
from access_gateway.decisions import Decider
from access_gateway.errors import (
    AccessDeniedError,
    ConnectionNotFoundError,
    NotYetVisibleError,
    RateLimitedError,
    UnavailableError,
)
from access_gateway.grants import GrantStore, StoreUnavailableError
from access_gateway.holdings import Holdings
from access_gateway.limits import RefusalLimiter
from access_gateway.metrics import PortRefusal
from access_gateway.policy import AccessRequest, Allowed, Refusal, Refused
from access_gateway.protocols.port import Lease, Port, PortRange
from access_gateway.relay import End, Session, adopt, reset
from access_gateway.settings import Settings
from access_gateway.targets import (
    Address,
    TargetNotAllowedError,
    TargetUnreachableError,
    dial,
)
from contracts.base import new_id
from contracts.events import (
    ConnectionClosed,
    ConnectionCut,
    ConnectionOpened,
    ConnectionRefused,
    CutReason,
)
from contracts.permissions import Permission
from servicekit.http import ApiError
from servicekit.logging import get_logger
from servicekit.telemetry import correlated, correlation_id

log = get_logger(__name__)

_FULL_SECONDS = 60.0


class _NotOpenedError(Exception):
    """A client was turned away; ``code`` is the reason in its event."""

    def __init__(self, code: Refusal | PortRefusal) -> None:
        super().__init__(code)
        self.code = code


@dataclass(eq=False, slots=True)
class Connection:
    """One client of a port: registered before it is checked, so that no end of its grant is missed."""

    connection_id: UUID
    port: Port
    client: socket.socket
    session: Session | None = None
    ended: CutReason | None = None
    cause: str | None = None

    @property
    def account_id(self) -> str:
        """See `Held`."""
        return self.port.account_id

    @property
    def service_id(self) -> str:
        """See `Held`."""
        return self.port.service_id

    @property
    def device_id(self) -> str:
        """See `Held`."""
        return self.port.device_id

    @property
    def partition(self) -> int:
        """See `Held`."""
        return self.port.partition

    def end(self, reason: CutReason, cause: str | None = None) -> None:
        """See `Held`."""
        if self.ended is None:
            self.ended, self.cause = reason, cause
        self.abort()

    def abort(self) -> None:
        """Reset what is open of it."""
        if self.session is None:
            reset(self.client)
        else:
            self.session.cut()


class Gateway:
    """Opens ports, serves their clients, and closes what must not be open any more."""

    def __init__(self, settings: Settings, *, store: GrantStore, holdings: Holdings, audit: Audit) -> None:
        self._settings = settings
        self._networks = settings.networks
        self._holdings, self._audit = holdings, audit
        self._decider = Decider(store, max_staleness=settings.max_staleness_seconds)
        self._range = PortRange(settings.relay_host, settings.ports)
        self._limiter = RefusalLimiter()
        self._ports: dict[UUID, Port] = {}
        self._by_account: Counter[str] = Counter()
        self._connections: set[Connection] = set()

    async def open(self, request: AccessRequest, host_ip: str) -> Port:
        """A port for the account to the service.

        Raises:
            ApiError: ``ACCESS_DENIED``, ``NOT_YET_VISIBLE``, ``RATE_LIMITED``, ``UNAVAILABLE``.
        """
        if wait := self._limiter.blocked_for(f"account {request.account_id}", time.monotonic()):
            raise RateLimitedError("You were refused too often. Wait before you try again.", wait)
        if self._by_account[request.account_id] >= self._settings.ports_per_account:
            raise RateLimitedError("You have too many open connections. Close one of them.", _FULL_SECONDS)
        # Counted before the first await: requests that come together must not pass the limit together.
        self._by_account[request.account_id] += 1
        try:
            port = await self._make(request, host_ip)
        except BaseException:
            self._release(request.account_id)
            raise
        await self._check_again(port)
        return port

    async def _make(self, request: AccessRequest, host_ip: str) -> Port:
        connection_id = new_id()
        answer = await self._decider.decide(request, connection_id)
        if isinstance(answer, Refused):
            raise await self._refused(request, connection_id, answer.code)
        listener = self._range.listen()
        if listener is None:
            raise UnavailableError("No port is free for your connection.")
        lease = Lease(
            connection_id=connection_id,
            account_id=request.account_id,
            service_id=request.service_id,
            device_id=answer.device_id,
            device_version=answer.device_version,
            partition=answer.partition,
            protocol=answer.protocol,
            created_at=datetime.now(UTC),
        )
        port = Port(
            lease,
            listener,
            host_ip=host_ip,
            idle_seconds=self._settings.port_idle_seconds,
            serve=self._serve,
            stranger=self._on_stranger,
            closed=self._on_closed,
        )
        self._ports[connection_id] = port
        self._holdings.add(port)
        metrics.OPEN_PORTS.inc()
        log.info("port_opened", connection_id=str(connection_id), account_id=request.account_id)
        return port

    async def _check_again(self, port: Port) -> None:
        """Which device it is was known only after the check: a change before it was registered was missed."""
        try:
            await self._holdings.recheck({port.device_id: None})
        except StoreUnavailableError:
            port.close()
            raise UnavailableError("It cannot be proved now what you may connect to.") from None
        if not port.open:
            raise AccessDeniedError

    def close(self, account_id: str, connection_id: UUID) -> None:
        """Close an account's own port and end what runs through it; raises ``CONNECTION_NOT_FOUND``."""
        port = self._ports.get(connection_id)
        if port is None or port.account_id != account_id:
            raise ConnectionNotFoundError
        self._close(port)

    async def shut_down(self) -> None:
        """Close every port and connection; returns when their last events are in the queue."""
        ports = list(self._ports.values())
        for port in ports:
            self._close(port)
        await asyncio.gather(*(port.wait_closed() for port in ports))

    def _close(self, port: Port) -> None:
        port.close()
        for connection in [each for each in self._connections if each.port is port]:
            connection.abort()

    async def _refused(self, request: AccessRequest, connection_id: UUID, code: Refusal) -> ApiError:
        metrics.REFUSED.labels(reason=code.value).inc()
        if code is Refusal.NOT_YET_VISIBLE:
            return NotYetVisibleError()
        self._audit.emit(
            ConnectionRefused(
                connection_id=connection_id,
                gateway_id=self._settings.gateway_id,
                account_id=request.account_id,
                service_id=request.service_id,
                permission=Permission.CONNECT,
                reason=code.value,
            )
        )
        if code is Refusal.ACCESS_DENIED:
            delay = self._limiter.refused(f"account {request.account_id}", time.monotonic())
            await asyncio.sleep(delay)
            return AccessDeniedError()
        return UnavailableError("It cannot be proved now what you may connect to.")

    def _on_closed(self, port: Port, reason: CutReason | None) -> None:
        del self._ports[port.lease.connection_id]
        self._holdings.remove(port)
        self._release(port.account_id)
        metrics.OPEN_PORTS.dec()
        log.info("port_closed", connection_id=str(port.lease.connection_id), reason=reason and reason.value)

    def _release(self, account_id: str) -> None:
        self._by_account[account_id] -= 1
        if not self._by_account[account_id]:
            del self._by_account[account_id]

    def _on_stranger(self, port: Port, source: Address) -> None:
        self._turned_away(port, new_id(), PortRefusal.WRONG_SOURCE, f"source {source}")

    async def _serve(self, port: Port, client: socket.socket) -> None:
        connection = Connection(new_id(), port, client)
        self._connections.add(connection)
        self._holdings.add(connection)
        try:
            access = await self._check(connection)
            target = await self._dial(connection, access)
            await self._relay(connection, access, target)
        except _NotOpenedError as error:
            self._turned_away(port, connection.connection_id, error.code)
        finally:
            connection.abort()
            self._holdings.remove(connection)
            self._connections.discard(connection)

    async def _check(self, connection: Connection) -> Allowed:
        port = connection.port
        if port.clients > self._settings.connections_per_port:
            raise _NotOpenedError(PortRefusal.TOO_MANY_CONNECTIONS)
        request = AccessRequest(port.account_id, port.service_id)
        answer = await self._decider.decide(request, connection.connection_id)
        # A service that has moved is denied: this connection is registered for the device it was on.
        if isinstance(answer, Allowed) and answer.device_id == port.device_id:
            return answer
        code = answer.code if isinstance(answer, Refused) else Refusal.ACCESS_DENIED
        if code is Refusal.ACCESS_DENIED:
            port.end(CutReason.GRANT_ENDED)
        raise _NotOpenedError(code)

    async def _dial(self, connection: Connection, access: Allowed) -> socket.socket:
        try:
            target = await dial(
                access.target_host,
                access.target_port,
                networks=self._networks,
                seconds=self._settings.connect_seconds,
            )
        except TargetNotAllowedError:
            log.warning(
                "target_not_allowed", service_id=connection.service_id, device_id=connection.device_id
            )
            raise _NotOpenedError(PortRefusal.TARGET_NOT_ALLOWED) from None
        except TargetUnreachableError:
            raise _NotOpenedError(PortRefusal.TARGET_UNREACHABLE) from None
        if connection.client.fileno() < 0:
            # Its grant, or its port, ended while it was checked and dialled.
            reset(target)
            stale = connection.ended is CutReason.STALE
            raise _NotOpenedError(Refusal.STALE if stale else Refusal.ACCESS_DENIED)
        return target

    async def _relay(self, connection: Connection, access: Allowed, target: socket.socket) -> None:
        began = time.monotonic()
        opened = ConnectionOpened(
            connection_id=connection.connection_id,
            gateway_id=self._settings.gateway_id,
            account_id=connection.account_id,
            service_id=connection.service_id,
            device_id=connection.device_id,
            permission=access.permission,
            share_id=access.share_id,
            device_version=access.device_version,
        )

        def attached(session: Session) -> None:
            connection.session = session

        self._audit.emit(opened)
        metrics.OPENED.inc()
        with metrics.OPEN_CONNECTIONS.track_inprogress():
            session = await adopt(
                connection.client,
                target,
                idle_seconds=self._settings.connection_idle_seconds,
                attached=attached,
            )
            end = await session.wait()
        with correlated(connection.cause or correlation_id()):  # a cut belongs to what took the grant away
            self._on_end(connection, opened, session, end, time.monotonic() - began)

    def _on_end(
        self, connection: Connection, opened: ConnectionOpened, session: Session, end: End, seconds: float
    ) -> None:
        metrics.BYTES.labels(direction="to_device").inc(session.bytes_to_device)
        metrics.BYTES.labels(direction="from_device").inc(session.bytes_from_device)
        figures: dict[str, Any] = {
            **opened.model_dump(),
            "bytes_to_device": session.bytes_to_device,
            "bytes_from_device": session.bytes_from_device,
            "seconds": round(seconds, 6),
        }
        if connection.ended is not None and end is End.CUT:
            metrics.CUT.labels(reason=connection.ended.value).inc()
            self._audit.emit(ConnectionCut(**figures, reason=connection.ended))
        else:
            self._audit.emit(ConnectionClosed(**figures))
        log.info(
            "connection_ended",
            connection_id=str(connection.connection_id),
            device_id=connection.device_id,
            service_id=connection.service_id,
            end=end.value,
            reason=connection.ended and connection.ended.value,
            seconds=round(seconds, 3),
        )

    def _turned_away(self, port: Port, connection_id: UUID, code: Refusal | PortRefusal, *who: str) -> None:
        metrics.REFUSED.labels(reason=code.value).inc()
        # A flood of refusals must not drive other events out of the queue: those beyond are only counted.
        now = time.monotonic()
        keys = (f"port {port.lease.connection_id}", *who)
        if any(self._limiter.blocked_for(key, now) for key in keys):
            return
        for key in keys:
            self._limiter.refused(key, now)
        self._audit.emit(
            ConnectionRefused(
                connection_id=connection_id,
                gateway_id=self._settings.gateway_id,
                account_id=port.account_id,
                service_id=port.service_id,
                device_id=port.device_id,
                permission=Permission.CONNECT,
                reason=code.value,
            )
        )
