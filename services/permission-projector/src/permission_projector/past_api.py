"""The read API over HTTP, its part about what happened (docs/architecture.md)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from contracts.base import Id, Moment
from permission_projector.answering import TAGGED, Caller, Cursor, Size, answered, found, known_device
from permission_projector.events import EventFilter, EventPage, Events, EventsOfDevices, Kind
from permission_projector.history import ConnectionPage, DeviceHistory, History, ShareHistory

_Kinds = Annotated[list[Kind] | None, Query(alias="type", max_length=2, description="By default both.")]
_Since = Annotated[Moment | None, Query(description="The earliest, itself included.")]
_Until = Annotated[Moment | None, Query(description="The latest, itself included.")]
_Place = Annotated[str | None, Query(max_length=4000, description="`next` or `last` of the page before.")]
_Start = Annotated[int, Query(alias="from", ge=0, le=1_000_000)]
_Total = Annotated[bool, Query(description="Whether to count all that match.")]


def build_router(caller: Caller, history: History, events: Events) -> APIRouter:
    """The endpoints; ``caller`` tells whom a request is for."""
    router = APIRouter()
    router.include_router(_lists(caller, history))
    router.include_router(_events(caller, events))
    return router


def _lists(caller: Caller, history: History) -> APIRouter:
    """Histories of shares and of connections."""

    async def device_history(
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        device_id: str,
        size: Size = 100,
        cursor: Cursor = None,
    ) -> Response:
        """What happened to the shares of a device that the caller gave or had, the newest first."""
        page = await history.of_device(account_id, known_device(device_id), size, cursor)
        return answered(request, found(page, device_id))

    async def device_connections(
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        device_id: str,
        size: Size = 100,
        cursor: Cursor = None,
    ) -> Response:
        """Connections to a device: all for the owner, else the caller's own, the newest first."""
        page = await history.connections_of_device(account_id, known_device(device_id), size, cursor)
        return answered(request, found(page, device_id))

    async def share_history(
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        size: Size = 100,
        cursor: Cursor = None,
        given: Annotated[bool | None, Query(description="true: given only; false: had only.")] = None,
    ) -> Response:
        """Shares that the caller gave and had, as they are now, those that have ended included."""
        return answered(request, await history.of_account(account_id, size, cursor, given))

    async def connections(  # noqa: PLR0917 - the query's parameters
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        size: Annotated[int, Query(ge=1, le=200)] = 100,
        cursor: Cursor = None,
        only_open: Annotated[bool, Query(alias="open", description="Those that are open now.")] = False,
        devices: Annotated[
            list[Id] | None,
            Query(alias="device", max_length=200, description="With open: to these devices alone."),
        ] = None,
    ) -> Response:
        """Connections of the caller, and of others to his devices, the newest first."""
        page = (
            await history.open_connections(account_id, size, cursor, devices)
            if only_open
            else await history.connections(account_id, size, cursor)
        )
        return answered(request, page)

    tagged = dict(TAGGED)
    router = APIRouter()
    router.add_api_route(
        "/devices/{device_id}/history", device_history, response_model=DeviceHistory, responses=tagged
    )
    router.add_api_route(
        "/devices/{device_id}/connections",
        device_connections,
        response_model=ConnectionPage,
        responses=tagged,
    )
    router.add_api_route("/history", share_history, response_model=ShareHistory, responses=tagged)
    router.add_api_route("/connections", connections, response_model=ConnectionPage, responses=tagged)
    return router


def _events(caller: Caller, events: Events) -> APIRouter:
    """What happened, of shares and of connections in one list."""

    async def account_events(  # noqa: PLR0917 - the query's parameters
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        kinds: _Kinds = None,
        since: _Since = None,
        until: _Until = None,
        size: Size = 100,
        start: _Start = 0,
        cursor: _Place = None,
        total: _Total = False,
    ) -> Response:
        """What happened to shares that the caller gave or had, on his connections, and to his devices."""
        asked = EventFilter(kinds, since, until, size, start, cursor, total)
        return answered(request, await events.of_account(account_id, asked))

    async def device_events(  # noqa: PLR0917 - the query's parameters
        account_id: Annotated[str, Depends(caller)],
        request: Request,
        devices: Annotated[list[Id], Query(alias="id", max_length=200)],
        kinds: _Kinds = None,
        since: _Since = None,
        until: _Until = None,
        size: Size = 100,
        start: _Start = 0,
        cursor: _Place = None,
        total: _Total = False,
    ) -> Response:
        """The same of each of some devices: a page of each, begun after the same cursor.

        Devices without any are left out: that the caller never had anything to do with, as those that there
        are not.
        """
        asked = EventFilter(kinds, since, until, size, start, cursor, total)
        return answered(request, await events.of_devices(account_id, devices, asked))

    tagged = dict(TAGGED)
    router = APIRouter()
    router.add_api_route("/events", account_events, response_model=EventPage, responses=tagged)
    router.add_api_route("/device-events", device_events, response_model=EventsOfDevices, responses=tagged)
    return router
