"""WebSocket (RFC 6455), for browsers and for networks that let only HTTPS out: ``/v1/connect/<service_id>``.

A browser cannot set headers and learns no status of a handshake that failed. So it sends its token among the
sub-protocols, ``bearer.<token>`` beside ``latchkey.v1``, and the handshake is completed before anything is
decided: why not is told by a close code, 4000 and the HTTP status, with the error's code as its reason.

``/v1/rtsp`` is the door of RTSP in a WebSocket: see `protocols.rtsp.framed`.
"""

from urllib.parse import parse_qs, unquote, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from access_gateway.clients import Client
from access_gateway.doors import Handle
from access_gateway.errors import refusal
from access_gateway.policy import AccessRequest, carried_by
from access_gateway.protocols.access import Reception, positions_of
from access_gateway.protocols.bridge import Bridge, Code, frames, quiet
from access_gateway.protocols.head import BadRequestError, Head, token_of
from access_gateway.protocols.names import service_id
from access_gateway.protocols.rtsp import framed
from access_gateway.refusals import RefusedError
from access_gateway.server import Gateway
from contracts.events import CutReason
from contracts.positions import POSITION_HEADER
from servicekit.http import ApiError

WAY = "websocket"
SUBPROTOCOL = Subprotocol("latchkey.v1")

_PATH = "/v1/connect/"
_TOKEN = "bearer."  # noqa: S105 - what stands before one
_CUT = {
    CutReason.GRANT_ENDED: (Code.GRANT_ENDED, "GRANT_ENDED"),
    CutReason.STALE: (Code.STALE, "STALE"),
    CutReason.BY_HAND: (Code.BY_HAND, "CUT_BY_HAND"),
}


class WebSocket:
    """Serves WebSocket handshakes."""

    def __init__(
        self,
        gateway: Gateway,
        reception: Reception,
        *,
        rtsp: Handle,
        origins: tuple[str, ...],
        idle_seconds: float,
    ) -> None:
        self._gateway, self._reception, self._rtsp = gateway, reception, rtsp
        self._origins, self._idle_seconds = frozenset(origins), idle_seconds

    async def __call__(self, client: Client, head: Head) -> None:
        """Relay to the service that the path names, or serve RTSP, until one of the two is done.

        Raises:
            ApiError: before the handshake is done; after it, the close code tells.
        """
        try:
            target = urlsplit(head.target)
        except ValueError:
            raise BadRequestError("The target of this request is no address.") from None
        if not target.path.startswith(_PATH) and target.path != framed.PATH:
            raise ApiError("NOT_FOUND", 404, f"WebSockets are at {_PATH}<service_id> and {framed.PATH}.")
        origin = head.one("origin")
        if origin and origin not in self._origins:
            raise ApiError("ORIGIN_NOT_ALLOWED", 403, "Pages of this origin may not connect here.")
        if target.path == framed.PATH:
            await client.send(_accepted(head, framed.SUBPROTOCOL))
            await framed.serve(client, self._rtsp)
            return
        await client.send(_accepted(head, SUBPROTOCOL))
        try:
            token = token_of(head.one("authorization")) or _token_among(head.all("sec-websocket-protocol"))
            account_id = await self._reception.admit(client, token)
            query = parse_qs(target.query)
            positions = ",".join([*head.all(POSITION_HEADER.lower()), *query.get("position", ())])
            try:
                service = service_id(unquote(target.path.removeprefix(_PATH)))
            except ValueError as error:
                raise BadRequestError(f"The path names no service: {error}.") from None
            request = AccessRequest(account_id, service, positions=positions_of(positions))
            await self._relay(client, request)
        except RefusedError as error:
            await _close(client, refusal(error))
        except ApiError as error:
            await _close(client, error)

    async def _relay(self, client: Client, request: AccessRequest) -> None:
        bridge = Bridge(idle_seconds=self._idle_seconds)
        connection = self._gateway.connection(
            request, way=WAY, source=client.origin, cut=lambda reason: bridge.cut(*_CUT[reason])
        )
        async with connection:
            with self._reception.seat(connection):
                access = await connection.check()
                device = await connection.dial()
                permission = carried_by(request, access)
                assert permission is not None, "check() has found one"
                connection.opened(permission)
                try:
                    await bridge.run(client, device)
                finally:
                    connection.count(to_device=bridge.bytes_to_device, from_device=bridge.bytes_from_device)


def _accepted(head: Head, spoken: Subprotocol) -> bytes:
    """The response that completes the handshake; raises BadRequestError when it is none."""
    protocol = ServerProtocol(
        subprotocols=[spoken],
        select_subprotocol=lambda _, offered: spoken if spoken in offered else None,
        logger=quiet,
    )
    request = Request(head.target, Headers(list(head.headers)), head.method, f"HTTP/{head.http_version}")
    response = protocol.accept(request)
    if response.status_code != 101:
        raise BadRequestError(
            f"This opens no WebSocket: {protocol.handshake_exc}.",
            response.status_code,
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
        )
    return response.serialize()


def _token_among(values: list[str]) -> str:
    offered = (part.strip() for value in values for part in value.split(","))
    return next((each.removeprefix(_TOKEN) for each in offered if each.startswith(_TOKEN)), "")


async def _close(client: Client, error: ApiError) -> None:
    protocol = frames()
    protocol.send_close(4000 + error.status, error.code)
    await client.send(b"".join(protocol.data_to_send()))
    await client.close()
