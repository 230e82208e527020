"""What comes in by RTSP_PORT and RTSPS_PORT: who it is, which camera he means, and the way there."""

import asyncio
import hmac
from typing import Final

from access_gateway.clients import Client
from access_gateway.errors import refusal
from access_gateway.policy import CAMERA_FUNCTIONS, AccessRequest, Refusal, ServiceAccess
from access_gateway.protocols.access import Reception, positions_of
from access_gateway.protocols.head import token_of
from access_gateway.protocols.rtsp import addresses, rules
from access_gateway.protocols.rtsp.addresses import Address, Camera
from access_gateway.protocols.rtsp.conversation import Conversation, Forward
from access_gateway.protocols.rtsp.messages import Headers, MalformedError, Reader, Request, Response
from access_gateway.protocols.rtsp.passwords import StreamPasswords
from access_gateway.protocols.rtsp.relay import Relay
from access_gateway.protocols.rtsp.rules import METHODS, NotDoneError
from access_gateway.refusals import RefusedError
from access_gateway.server import Gateway
from contracts.positions import POSITION_HEADER, Position
from servicekit.http import ApiError
from servicekit.telemetry import correlated

WAY: Final = "rtsp"

_MOST_REQUESTS: Final = 32
"""What one may ask before he is led to a camera."""
_WAIT_SECONDS: Final = 60.0
_CHALLENGES: Final = (
    ("www-authenticate", 'Basic realm="Latchkey", charset="UTF-8"'),
    ("www-authenticate", 'Bearer realm="Latchkey"'),
)
_STATUSES: Final = {422: 400, 429: 503}
"""Of HTTP, those that RTSP/1.0 has not."""


class RtspDoor:
    """The handler of the two doors."""

    def __init__(
        self, gateway: Gateway, reception: Reception, passwords: StreamPasswords, *, idle_seconds: float
    ) -> None:
        self._gateway, self._reception, self._passwords = gateway, reception, passwords
        self._idle_seconds = idle_seconds

    async def __call__(self, client: Client) -> None:
        """See `doors.Handle`."""
        visit = _Visit(client)
        try:
            for _ in range(_MOST_REQUESTS):
                async with asyncio.timeout(_WAIT_SECONDS):
                    request = await visit.next()
                if request is None:
                    return
                with correlated(None):
                    answer = await self._serve(visit, request)
                if client.released:
                    return
                await client.send(_numbered(request, answer))
        except MalformedError:
            answer = Response(((rules.CODE_HEADER, "INVALID_REQUEST"), ("connection", "close")), status=400)
            await client.send(answer.encode())
        except TimeoutError:
            pass
        if not client.released:
            await client.close()

    async def _serve(self, visit: "_Visit", request: Request) -> Response:
        """Answer a request of somebody who is not led to a camera yet, or lead him there to the end."""
        try:
            rules.screen(request)
            if request.method == "OPTIONS":
                return OPTIONS
            address = _address_of(request)
            account_id = await self._account_of(visit.client, request, address)
            if request.method != "DESCRIBE":
                raise NotDoneError(455 if request.method == "SETUP" else 454)
            await self._lead(visit, account_id, address, request)
        except NotDoneError as refused:
            return refused.answer
        except ApiError as error:
            return told(error)
        return Response(status=200)

    async def _account_of(self, client: Client, request: Request, address: Address) -> str:
        token = token_of(request.one("authorization") or "")
        account_id = self._passwords.account_of(token, address.service_id)
        if account_id is None:
            return await self._reception.admit(client, token)
        client.admit()
        return account_id

    async def _lead(self, visit: "_Visit", account_id: str, address: Address, first: Request) -> None:
        held = first.one("authorization") or ""

        async def judge(request: Request) -> Forward | Response:
            rules.screen(request)
            if request.method == "OPTIONS" and not request.all("session"):
                return OPTIONS
            wanted = _address_of(request)
            if wanted.service_id != address.service_id:
                raise NotDoneError(403, "ACCESS_DENIED")  # a connection leads to one camera
            shown = request.one("authorization")
            if shown is not None and not hmac.compare_digest(shown.encode("latin-1"), held.encode("latin-1")):
                try:
                    if await self._account_of(visit.client, request, wanted) != account_id:
                        raise NotDoneError(403, "ACCESS_DENIED")
                except ApiError as error:
                    raise NotDoneError(401, "UNAUTHENTICATED", _CHALLENGES) from error
            assert relay.conversation is not None, "it is judged by what the relay asks"
            return relay.conversation.request(request, wanted)

        relay = Relay(judge, idle_seconds=self._idle_seconds)
        relay.base = address.base
        asked = AccessRequest(account_id, address.service_id, CAMERA_FUNCTIONS, _positions(first))
        try:
            async with self._gateway.connection(
                asked, way=WAY, source=visit.client.origin, cut=relay.cut
            ) as connection:
                with self._reception.seat(connection):
                    access = await connection.check()
                    if access.protocol != "rtsp":
                        raise connection.refused(Refusal.ACCESS_DENIED)
                    device = await connection.dial()
                    conversation = Conversation(_camera(access), access.functions.keys())
                    relay.take([first, *visit.waiting], visit.reader)
                    await relay.run(connection, conversation, visit.client, device)
        except RefusedError as error:
            raise refusal(error) from None


class _Visit:
    """A client, and the requests that he has sent so far."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.reader = Reader(bytearray(256))
        self.waiting: list[Request] = []

    async def next(self) -> Request | None:
        """The next request; None at the end. Raises MalformedError, OSError."""
        while not self.waiting:
            data = await self.client.receive()
            if not data:
                return None
            self.waiting += [item for item in self.reader.feed(data) if isinstance(item, Request)]
        return self.waiting.pop(0)


OPTIONS: Final = Response((("public", ", ".join(METHODS)),), status=200)
"""What anybody is told who asks for OPTIONS."""


def told(error: ApiError) -> Response:
    """A refusal of the gateway as RTSP tells it; the code is that of every way in."""
    headers: Headers = (
        (rules.CODE_HEADER, error.code),
        *((name.lower(), value) for name, value in error.headers.items() if name == "Retry-After"),
        *(_CHALLENGES if error.status == 401 else ()),
    )
    return Response(headers, status=_STATUSES.get(error.status, error.status))


def _numbered(request: Request, answer: Response) -> bytes:
    sequence = "".join(request.all("cseq")[:1])
    return Response(
        ((("cseq", sequence),) if sequence else ()) + answer.headers, answer.body, status=answer.status
    ).encode()


def _address_of(request: Request) -> Address:
    address = addresses.read(request.uri)
    if address is None:
        raise NotDoneError(404)
    return address


def _positions(request: Request) -> tuple[Position, ...]:
    return positions_of(", ".join(request.all(POSITION_HEADER.lower())))


def _camera(access: ServiceAccess) -> Camera:
    host = f"[{access.target_host}]" if ":" in access.target_host else access.target_host
    return Camera(
        authority=f"{host}:{access.target_port}",
        live=access.live_path or "/",
        recording=access.recording_path,
        channel=access.channel,
    )
