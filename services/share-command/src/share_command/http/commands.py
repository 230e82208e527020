"""Commands, bulk and explanations over HTTP."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError, create_model

from contracts import codec
from contracts.base import Order
from contracts.commands import COMMAND_TYPES, AnyCommand, CommandAccepted
from contracts.outcomes import BulkDone, BulkShare, Explanation
from contracts.positions import POSITION_HEADER, format_answer
from servicekit.http import ApiError
from share_command.handlers import Handlers
from share_command.http.limiting import Limited

_O = TypeVar("_O", bound=Order)


def add_routes(router: APIRouter, handlers: Handlers, limited: Limited) -> None:
    """Add the routes."""
    for kind in COMMAND_TYPES:
        _add_command(router, kind, handlers, limited)
    for kind in COMMAND_TYPES:
        _add_explanation(router, kind, handlers, limited)
    _add_bulk(router, handlers, limited)


def _add_command(router: APIRouter, kind: type[AnyCommand], handlers: Handlers, limited: Limited) -> None:
    async def run(
        body: Order, response: Response, actor: Annotated[str, Depends(limited)]
    ) -> CommandAccepted:
        accepted = await handlers.handle(_order(kind, body, actor))
        response.headers[POSITION_HEADER] = format_answer(accepted.positions)
        return accepted

    run.__annotations__["body"] = _body_of(kind)  # FastAPI reads the model from here
    router.add_api_route(
        f"/commands/{kind.__name__}", run, methods=["POST"], name=kind.__name__, **_said(kind)
    )


def _add_explanation(router: APIRouter, kind: type[AnyCommand], handlers: Handlers, limited: Limited) -> None:
    async def explain(body: Order, actor: Annotated[str, Depends(limited)]) -> Explanation:
        return await handlers.explain(_order(kind, body, actor))

    explain.__annotations__["body"] = _body_of(kind)
    router.add_api_route(
        f"/explanations/{kind.__name__}",
        explain,
        methods=["POST"],
        name=f"explain {kind.__name__}",
        summary=f"What {kind.__name__} would do now; does nothing",
    )


def _add_bulk(router: APIRouter, handlers: Handlers, limited: Limited) -> None:
    async def bulk(body: Order, request: Request, response: Response) -> BulkDone:
        actor = limited.caller(request)
        order = _order(BulkShare, body, actor)
        await limited.spend(actor, len(order.device_ids))
        done = await handlers.bulk(order)
        response.headers[POSITION_HEADER] = format_answer(done.positions)
        return done

    bulk.__annotations__["body"] = _body_of(BulkShare)
    router.add_api_route("/bulk-shares", bulk, methods=["POST"], name="BulkShare", **_said(BulkShare))


def _said(kind: type[Order]) -> dict[str, Any]:
    text = kind.__doc__ or ""
    return {"summary": text.split("\n", 1)[0], "description": text}


_BODIES: dict[type[Order], type[Order]] = {}


def _body_of(kind: type[Order]) -> type[Order]:
    """The order without its actor, whom the caller's token names."""
    if kind not in _BODIES:
        fields: dict[str, Any] = {
            name: (field.annotation, field) for name, field in kind.model_fields.items() if name != "actor"
        }
        _BODIES[kind] = create_model(f"{kind.__name__}Body", __base__=Order, __doc__=kind.__doc__, **fields)
    return _BODIES[kind]


def _order(kind: type[_O], body: Order, actor: str) -> _O:
    values = {name: getattr(body, name) for name in type(body).model_fields}
    try:
        return kind.model_validate({**values, "actor": actor})
    except ValidationError as error:
        problems = codec.explain(error)
        raise ApiError("INVALID_REQUEST", 422, f"The request cannot be used: {problems}") from None
