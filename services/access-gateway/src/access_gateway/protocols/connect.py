"""HTTP CONNECT (RFC 9110, section 9.3.6): the gateway is the proxy, a service the host behind it."""

from access_gateway.clients import Client
from access_gateway.errors import refusal
from access_gateway.policy import AccessRequest
from access_gateway.protocols.access import Reception, positions_of
from access_gateway.protocols.head import BadRequestError, Head, token_of
from access_gateway.protocols.names import service_of
from access_gateway.refusals import RefusedError
from access_gateway.relay import reset
from access_gateway.server import Gateway
from contracts.positions import POSITION_HEADER
from servicekit.http import ApiError

WAY = "connect"

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Connect:
    """Serves CONNECT requests."""

    def __init__(self, gateway: Gateway, reception: Reception) -> None:
        self._gateway, self._reception = gateway, reception

    async def __call__(self, client: Client, head: Head) -> None:
        """Relay to the service that the target names, until one of the two is done.

        Raises:
            ApiError: it is refused; ``UNAUTHENTICATED`` has the status 407.
        """
        if head.has("transfer-encoding", "chunked") or head.one("content-length") not in {"", "0"}:
            raise BadRequestError("CONNECT has no content; what follows its head is for the service.")
        try:
            account_id = await self._reception.admit(client, token_of(head.one("proxy-authorization")))
        except ApiError as error:
            if error.code == "UNAUTHENTICATED":
                raise ApiError(error.code, 407, error.message) from None
            raise
        try:
            service_id = service_of(head.target)
        except ValueError as error:
            raise BadRequestError(f"This names no service: {error}.") from None
        positions = positions_of(head.one(POSITION_HEADER.lower()))
        request = AccessRequest(account_id, service_id, positions=positions)
        try:
            await self._relay(client, request)
        except RefusedError as error:
            raise refusal(error) from None

    async def _relay(self, client: Client, request: AccessRequest) -> None:
        async with self._gateway.connection(request, way=WAY, source=client.origin) as connection:
            with self._reception.seat(connection):
                await connection.check()
                device = await connection.dial()
                try:
                    await client.send(_ESTABLISHED)
                except BaseException:
                    reset(device)
                    raise
                early = client.early()
                await connection.relay(client.release(), device, early)
