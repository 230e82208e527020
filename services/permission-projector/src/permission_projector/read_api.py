"""The read API over HTTP: what an account may see (docs/architecture.md)."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter, ValidationError

from contracts.base import AccountId, Id, Moment
from contracts.positions import MOST_POSITIONS, POSITION_HEADER, Position, parse_positions
from permission_projector import past_api
from permission_projector.answering import TAGGED, Caller, Cursor, Size, answer, answered, found, known_device
from permission_projector.errors import InvalidPositionError
from permission_projector.events import Events
from permission_projector.history import History
from permission_projector.live import Live
from permission_projector.looking_back import PastAccessList
from permission_projector.reader import (
    AccessPage,
    Device,
    DeviceFilter,
    DevicePage,
    InvitationPage,
    Order,
    Person,
    Presence,
    Reader,
    Shared,
)
from permission_projector.waiting import Positions
from servicekit import streams
from servicekit.deleted import LivingCallers
from servicekit.http import ApiError

_ACCOUNT = TypeAdapter[str](AccountId)

_STREAM: Final[Mapping[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `ready`, `devices`, `invitations`, `activity`, `reload`, `alive`.",
        "content": {streams.MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


def build_router(  # noqa: PLR0917 - what it serves from
    callers: LivingCallers,
    positions: Positions,
    reader: Reader,
    history: History,
    events: Events,
    live: Live,
) -> APIRouter:
    """The endpoints; ``callers`` tells whom a request is for."""

    async def fresh_caller(
        request: Request,
        after: Annotated[str, Query(max_length=8000, description="As the header Latchkey-Position.")] = "",
        wait: Annotated[float, Query(ge=0, le=10, description="Seconds to wait for that position.")] = 2.0,
    ) -> str:
        """The account asked for, once everything that it wants to see is applied."""
        account_id = _account(await callers(request))
        wanted = _wanted([*request.headers.getlist(POSITION_HEADER), after])
        await positions.wait_for(account_id, wanted, wait)
        return account_id

    router = APIRouter(prefix="/v1")
    router.include_router(_present(fresh_caller, reader, history))
    router.include_router(past_api.build_router(fresh_caller, history, events))
    router.include_router(_future(fresh_caller, live))
    return router


def _present(caller: Caller, reader: Reader, history: History) -> APIRouter:
    """What is so now, and who had access at a time."""

    async def me(account_id: Annotated[str, Depends(caller)], request: Request) -> Response:
        """The caller himself."""
        return answered(request, await reader.me(account_id))

    async def devices(  # noqa: PLR0917 - the query's parameters
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        start: Annotated[int, Query(alias="from", ge=0, le=1_000_000)] = 0,
        size: Size = 100,
        cursor: Cursor = None,
        name: Annotated[
            str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="A part of the name.")
        ] = None,
        owner: Annotated[bool | None, Query(description="true: own only; false: shared only.")] = None,
        kind: Annotated[list[Id] | None, Query(max_length=100)] = None,
        shared: Annotated[Shared | None, Query(description="As `share_state` of a device.")] = None,
        shared_with: Annotated[
            AccountId | None, Query(description="Own devices of which this account has accepted a share.")
        ] = None,
        shared_with_contact: Annotated[
            UUID | None, Query(description="Own devices that are shared with, or offered to, this contact.")
        ] = None,
        presence: Annotated[
            Presence | None, Query(description="As `online` tells it; unknown: where that is null.")
        ] = None,
        sort: Order = "name",
        ids: Annotated[list[Id] | None, Query(alias="id", max_length=1000)] = None,
        services: Annotated[
            list[Id] | None,
            Query(alias="service", max_length=1000, description="Devices of these services, by their ids."),
        ] = None,
        total: Annotated[
            bool | None,
            Query(description="Whether to count all that match; by default where no cursor is given."),
        ] = None,
    ) -> Response:
        """Own devices and those shared with the caller, in pages by `cursor` or by `from`.

        The answer's header has the positions of all its devices, or is left out when it would be too long.
        """
        asked = DeviceFilter(
            ids=ids, services=services, name=name, owned=owner, kinds=kind, shared=shared,
            account_id=shared_with, contact_id=shared_with_contact, presence=presence, sort=sort, size=size,
            start=0 if cursor else start, cursor=cursor, counted=cursor is None if total is None else total,
        )  # fmt: skip
        return answer(request, await reader.devices(account_id, asked))

    async def device(
        account_id: Annotated[str, Depends(caller)], request: Request, device_id: str
    ) -> Response:
        """One device, with the first entries of its access list."""
        return answer(request, found(await reader.device(account_id, known_device(device_id)), device_id))

    async def access(  # noqa: PLR0917 - the query's parameters
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        device_id: str,
        size: Size = 100,
        cursor: Cursor = None,
        at: Annotated[
            Moment | None, Query(description="Who had access then, all at once; for the owner alone.")
        ] = None,
    ) -> Response:
        """Who has the device or is invited to it: all for the owner, else the caller's own entries."""
        if at is not None:
            then = found(await history.access_at(account_id, known_device(device_id), at), device_id)
            return answered(request, PastAccessList(items=then))
        page = await reader.access(account_id, known_device(device_id), size, cursor)
        return answer(request, found(page, device_id))

    async def invitations(
        account_id: Annotated[str, Depends(caller)], request: Request, size: Size = 100, cursor: Cursor = None
    ) -> Response:
        """Shares that the caller may accept now, the newest first."""
        return answer(request, await reader.invitations(account_id, size, cursor))

    tagged = dict(TAGGED)
    router = APIRouter()
    router.add_api_route("/me", me, response_model=Person, responses=tagged)
    router.add_api_route("/devices", devices, response_model=DevicePage, responses=tagged)
    router.add_api_route("/devices/{device_id}", device, response_model=Device, responses=tagged)
    router.add_api_route(
        "/devices/{device_id}/access", access, response_model=AccessPage | PastAccessList, responses=tagged
    )
    router.add_api_route("/invitations", invitations, response_model=InvitationPage, responses=tagged)
    return router


def _future(caller: Caller, live: Live) -> APIRouter:
    """What happens from now on."""

    async def changes(
        account_id: Annotated[str, Depends(caller)],
        last_event_id: Annotated[str | None, Header(description="The id of the last event.")] = None,
    ) -> Response:
        """What changes for the caller, as it does: Server-Sent Events."""
        live.require_room(account_id)
        return StreamingResponse(
            live.stream(account_id, last_event_id),
            media_type=streams.MEDIA_TYPE,
            headers=streams.HEADERS,
        )

    router = APIRouter()
    router.add_api_route("/changes", changes, response_class=StreamingResponse, responses=dict(_STREAM))
    return router


def _account(subject: str) -> str:
    try:
        return _ACCOUNT.validate_python(subject)
    except ValidationError:
        raise ApiError("UNAUTHENTICATED", 401, "The token names no account.") from None


def _wanted(headers: list[str]) -> list[Position]:
    try:
        wanted = [position for header in headers for position in parse_positions(header)]
    except ValueError as error:
        raise InvalidPositionError(str(error).capitalize()) from None
    if len(wanted) > MOST_POSITIONS:
        raise InvalidPositionError(f"At most {MOST_POSITIONS} positions can be waited for at once")
    return wanted
