"""The HTTP API: opens a port for a caller and closes it again."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response
from pydantic import Field, TypeAdapter, ValidationError

from access_gateway.errors import (
    AccessDeniedError,
    ConnectionNotFoundError,
    InvalidPositionError,
    UnavailableError,
)
from access_gateway.policy import AccessRequest
from access_gateway.ports import Ports
from access_gateway.protocols.port import LATCH
from access_gateway.protocols.rtsp.framed import PATH
from access_gateway.protocols.rtsp.passwords import LIVES_SECONDS, StreamPasswords
from access_gateway.server import Gateway
from access_gateway.settings import Settings
from contracts.base import AccountId, Fact, Id, Order
from contracts.positions import POSITION_HEADER, Position, format_positions, parse_positions
from servicekit.auth import InternalCallers

_MOST_POSITIONS = 100
_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(AccountId)


class OpenConnection(Order):
    """What to connect to, and from where; the default address latches to the first that connects."""

    service_id: Id
    host_ip: IPv4Address | IPv6Address = Field(default=ip_address(LATCH))


class OpenedConnection(Fact):
    """Where any TCP client can connect. After ``timeout_seconds`` without a connection the port closes."""

    connection_id: UUID
    service_id: str
    device_id: str
    host: str
    port: int
    protocol: str
    created_at: datetime
    timeout_seconds: float


def router(ports: Ports, gateway: Gateway, settings: Settings) -> APIRouter:
    """The calls under ``/v1/connections``, for trusted callers that name the acting account."""
    callers = Depends(InternalCallers(settings.internal_keys, "access-gateway"))
    routes = APIRouter(prefix="/v1/connections")

    async def open_connection(
        body: OpenConnection,
        response: Response,
        account_id: Annotated[str, callers],
        positions: Annotated[str, Header(alias=POSITION_HEADER)] = "",
    ) -> OpenedConnection:
        """Open a port."""
        try:
            _ACCOUNT_ID.validate_python(account_id)
        except ValidationError:
            raise AccessDeniedError from None  # no account has such an id: nothing is granted to it
        request = AccessRequest(account_id, body.service_id, positions=_positions(positions))
        port = await ports.open(request, str(body.host_ip))
        lease = port.lease
        response.headers[POSITION_HEADER] = format_positions(
            (Position(lease.device_id, lease.device_version),)
        )
        return OpenedConnection(
            connection_id=lease.connection_id,
            service_id=lease.request.service_id,
            device_id=lease.device_id,
            host=settings.public_host,
            port=port.number,
            protocol=lease.protocol,
            created_at=lease.created_at,
            timeout_seconds=settings.port_idle_seconds,
        )

    async def close_connection(connection_id: str, account_id: Annotated[str, callers]) -> None:
        """Close one's own port with what runs through it, or cut one connection: see `Gateway.cut`."""
        try:
            known = UUID(connection_id)
        except ValueError:
            raise ConnectionNotFoundError from None
        if not ports.close(account_id, known):
            await gateway.cut(account_id, known)

    routes.add_api_route("", open_connection, methods=["POST"], status_code=201)
    routes.add_api_route("/{connection_id}", close_connection, methods=["DELETE"], status_code=204)
    return routes


class StreamFor(Order):
    """Which camera's stream a password is for."""

    service_id: Id


class StreamPassword(Fact):
    """How a player comes: one of the addresses, any user name, and the password until ``ends_at``.

    ``web_urls`` are for players in a page, which speak RTSP in a WebSocket.
    """

    urls: tuple[str, ...]
    web_urls: tuple[str, ...]
    password: str
    ends_at: datetime


def streams(passwords: StreamPasswords, settings: Settings) -> APIRouter:
    """``POST /v1/stream-passwords``, for trusted callers that name the acting account.

    It is no check: whoever comes with the password is checked as if he had come with a token.
    """
    callers = Depends(InternalCallers(settings.internal_keys, "access-gateway"))
    routes = APIRouter(prefix="/v1/stream-passwords")
    ports = {"rtsps": settings.rtsps_port, "rtsp": settings.rtsp_port}
    web_ports = {"wss": settings.access_tls_port, "ws": settings.access_port} if settings.web_origins else {}
    host = f"[{settings.public_host}]" if ":" in settings.public_host else settings.public_host

    async def give(body: StreamFor, account_id: Annotated[str, callers]) -> StreamPassword:
        """A password for a player that cannot send a token."""
        urls = tuple(f"{scheme}://{host}:{port}/{body.service_id}" for scheme, port in ports.items() if port)
        web_urls = tuple(f"{scheme}://{host}:{port}{PATH}" for scheme, port in web_ports.items() if port)
        if not urls and not web_urls:
            raise UnavailableError("This gateway has no port for RTSP.")
        return StreamPassword(
            urls=urls,
            web_urls=web_urls,
            password=passwords.give(account_id, body.service_id),
            ends_at=datetime.now(UTC) + timedelta(seconds=LIVES_SECONDS),
        )

    routes.add_api_route("", give, methods=["POST"], status_code=201)
    return routes


def _positions(header: str) -> tuple[Position, ...]:
    try:
        found = tuple(parse_positions(header))
    except ValueError as error:
        raise InvalidPositionError(str(error)) from None
    if len(found) > _MOST_POSITIONS:
        raise InvalidPositionError(f"at most {_MOST_POSITIONS} positions are read")
    return found
