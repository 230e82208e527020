"""The HTTP API (docs/architecture.md): commands, the contact book, what an invitation link shows."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError, create_model

from contracts import codec
from contracts.base import Order
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    Command,
    CommandAccepted,
    LeaveShare,
    RejectShare,
    RequestShare,
    RevokeShare,
)
from contracts.contacts import display_address
from contracts.links import InvalidLinkError, read_link
from contracts.permissions import Terms
from contracts.positions import POSITION_HEADER, format_positions
from servicekit.http import ApiError, error_answer
from share_command.errors import InvalidLink, ShareCommandError, Unavailable
from share_command.handlers import Handlers

Caller = Callable[[Request], str]
"""Knows the acting account of a request; raises ApiError ``UNAUTHENTICATED``."""

_COMMANDS: tuple[type[AnyCommand], ...] = (RequestShare, AcceptShare, RejectShare, RevokeShare, LeaveShare)


class ErrorBody(BaseModel):
    """A refusal: a stable code, and what to do. The other fields name what was refused."""

    code: str
    message: str
    device_id: str | None = None
    service_id: str | None = None
    recipient: str | None = None
    invitation_version: int | None = None
    terms: Terms | None = None
    state: str | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


class ContactEntry(BaseModel):
    """A contact of the caller's book."""

    contact_id: UUID
    address: str


class Contacts(BaseModel):
    """The caller's contact book, the last used first."""

    contacts: list[ContactEntry]


class LinkToken(Order):
    """The token of an accept or reject link."""

    token: Annotated[str, Field(min_length=1, max_length=2000)]


class Invitation(BaseModel):
    """The invitation behind a link, as it stands now; for the account that has verified its address."""

    share_id: UUID
    device_id: str
    device_name: str
    """The id instead once the share has ended."""
    owner_name: str | None
    state: Literal["requested", "active", "rejected", "revoked", "left"]
    invitation_version: int
    purpose: Literal["accept", "reject"]
    terms: Terms
    service_names: dict[str, str]
    """Names of the services that the terms list; none once the share has ended."""
    changed_since_link: bool


_C = TypeVar("_C", bound=Command)


def add_routes(app: FastAPI, *, handlers: Handlers, caller: Caller, link_secret: str) -> None:
    """Add the API to the application."""
    router = APIRouter(
        prefix="/v1",
        responses={
            status: {"model": ErrorAnswer, "description": "Refused; see `error.code`."}
            for status in (401, 403, 404, 409, 413, 422, 503)
        },
    )
    for kind in _COMMANDS:
        _add_command(router, kind, handlers, caller)

    async def contacts(actor: Annotated[str, Depends(caller)]) -> Contacts:
        book = await handlers.read(lambda store: store.contact_book(actor))
        return Contacts(
            contacts=[ContactEntry(contact_id=item, address=display_address(text)) for item, text in book]
        )

    async def invitation(body: LinkToken, actor: Annotated[str, Depends(caller)]) -> Invitation:
        try:
            link = read_link(body.token, link_secret, datetime.now(UTC))
        except InvalidLinkError:
            raise InvalidLink from None
        found = await handlers.read(
            lambda store: store.invitation(link.share_id, link.device_id, link.contact_id, actor)
        )
        if found is None:
            raise InvalidLink
        return Invitation.model_validate(
            {
                **found,
                "purpose": link.purpose,
                "changed_since_link": found["invitation_version"] != link.invitation_version,
            }
        )

    router.add_api_route("/contacts", contacts, methods=["GET"], summary="Contact book")
    router.add_api_route(
        "/invitation-links", invitation, methods=["POST"], summary="What an invitation link shows"
    )
    app.include_router(router)
    app.add_exception_handler(ShareCommandError, _on_refusal)


def _add_command(router: APIRouter, kind: type[_C], handlers: Handlers, caller: Caller) -> None:
    async def run(body: Order, response: Response, actor: Annotated[str, Depends(caller)]) -> CommandAccepted:
        command = _command(kind, body, actor)
        accepted = await handlers.handle(command)  # pyright: ignore[reportArgumentType] - kind is one of AnyCommand
        response.headers[POSITION_HEADER] = format_positions(accepted.positions)
        return accepted

    run.__annotations__["body"] = _body_of(kind)  # FastAPI reads the model from here
    router.add_api_route(
        f"/commands/{kind.__name__}",
        run,
        methods=["POST"],
        name=kind.__name__,
        summary=(kind.__doc__ or "").split("\n", 1)[0],
        description=kind.__doc__,
    )


def _body_of(kind: type[Command]) -> type[Order]:
    """The command without its actor, whom the caller's token names."""
    fields: dict[str, Any] = {
        name: (field.annotation, field) for name, field in kind.model_fields.items() if name != "actor"
    }
    return create_model(f"{kind.__name__}Body", __base__=Order, __doc__=kind.__doc__, **fields)


def _command(kind: type[_C], body: Order, actor: str) -> _C:
    values = {name: getattr(body, name) for name in type(body).model_fields}
    try:
        return kind.model_validate({**values, "actor": actor})
    except ValidationError as error:
        problems = codec.explain(error)
        raise ApiError("INVALID_REQUEST", 422, f"The request cannot be used: {problems}") from None


async def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ShareCommandError)
    headers = {"Retry-After": "1"} if isinstance(error, Unavailable) else {}
    return error_answer(
        ApiError(error.code, error.status, error.message, details=error.details, headers=headers)
    )
