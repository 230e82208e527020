"""The read API over HTTP: what an account may see (docs/architecture.md)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from contracts.base import AccountId, Id
from contracts.positions import POSITION_HEADER, Position, format_positions, parse_positions
from permission_projector.errors import DeviceNotFoundError, InvalidPositionError
from permission_projector.reader import Device, DeviceFilter, DevicePage, Invitation, Order, Person, Reader
from permission_projector.waiting import Positions
from servicekit.auth import InternalCallers
from servicekit.http import ApiError

_MOST_POSITIONS = 100
_MOST_HEADER_BYTES = 4096
_ACCOUNT = TypeAdapter[str](AccountId)
_DEVICE = TypeAdapter[str](Id)


class InvitationList(BaseModel):
    """The invitations that the caller may accept now."""

    items: list[Invitation]


def build_router(callers: InternalCallers, positions: Positions, reader: Reader) -> APIRouter:
    """The endpoints; ``callers`` tells whom a request is for."""
    router = APIRouter(prefix="/v1")

    async def fresh_caller(
        request: Request,
        after: Annotated[str, Query(max_length=8000, description="As the header Latchkey-Position.")] = "",
        wait: Annotated[float, Query(ge=0, le=10, description="Seconds to wait for that position.")] = 2.0,
    ) -> str:
        """The account asked for, once everything that it wants to see is applied."""
        account_id = _account(callers(request))
        wanted = _wanted([*request.headers.getlist(POSITION_HEADER), after])
        await positions.wait_for(account_id, wanted, wait)
        return account_id

    async def me(account_id: Annotated[str, Depends(fresh_caller)]) -> Person:
        """The caller himself."""
        return await reader.me(account_id)

    async def devices(  # noqa: PLR0917 - the query's parameters
        account_id: Annotated[str, Depends(fresh_caller)],
        response: Response,
        start: Annotated[int, Query(alias="from", ge=0, le=1_000_000)] = 0,
        size: Annotated[int, Query(ge=1, le=1000)] = 100,
        name: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
        owner: Annotated[bool | None, Query(description="true: own only; false: shared only.")] = None,
        sort: Order = "name",
        ids: Annotated[list[Id] | None, Query(alias="id", max_length=1000)] = None,
    ) -> DevicePage:
        """Own devices and those shared with the caller.

        The answer's header has the positions of all its devices, or is left out when it would be too long.
        """
        asked = DeviceFilter(ids=ids, name=name, owned=owner, sort=sort, size=size, start=start)
        page, known = await reader.devices(account_id, asked)
        _tell(response, known)
        return page

    async def device(
        account_id: Annotated[str, Depends(fresh_caller)], device_id: str, response: Response
    ) -> Device:
        """One device, with its access list."""
        try:
            _DEVICE.validate_python(device_id)
        except ValidationError:
            raise DeviceNotFoundError(device_id) from None
        page, known = await reader.devices(account_id, DeviceFilter(ids=[device_id]))
        if not page.items:
            raise DeviceNotFoundError(device_id)
        _tell(response, known)
        return page.items[0]

    async def invitations(
        account_id: Annotated[str, Depends(fresh_caller)], response: Response
    ) -> InvitationList:
        """Shares that the caller may accept now."""
        items, known = await reader.invitations(account_id)
        _tell(response, known)
        return InvitationList(items=items)

    router.add_api_route("/me", me)
    router.add_api_route("/devices", devices)
    router.add_api_route("/devices/{device_id}", device)
    router.add_api_route("/invitations", invitations)
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
    if len(wanted) > _MOST_POSITIONS:
        raise InvalidPositionError(f"At most {_MOST_POSITIONS} positions can be waited for at once")
    return wanted


def _tell(response: Response, known: list[Position]) -> None:
    header = format_positions(known)
    if header and len(header) <= _MOST_HEADER_BYTES:
        response.headers[POSITION_HEADER] = header
