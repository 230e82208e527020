"""The HTTPS binding of AuthZEN (Authorization API 1.0, section 10), for callers that are trusted to ask."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from access_gateway.authzen.answers import Answers, Positions
from access_gateway.authzen.messages import (
    ActionSearch,
    Decision,
    Decisions,
    Evaluation,
    Evaluations,
    ResourceSearch,
    Results,
    SubjectSearch,
)
from access_gateway.errors import UnusableRequestError
from contracts.positions import POSITION_HEADER, parse_positions
from servicekit.auth import InternalCallers
from servicekit.http import ApiError, error_answer

REQUEST_ID_HEADER = "X-Request-ID"

_MOST_POSITIONS = 100
_PATHS = {
    "access_evaluation_endpoint": "/access/v1/evaluation",
    "access_evaluations_endpoint": "/access/v1/evaluations",
    "search_subject_endpoint": "/access/v1/search/subject",
    "search_resource_endpoint": "/access/v1/search/resource",
    "search_action_endpoint": "/access/v1/search/action",
}

M = TypeVar("M", bound=BaseModel)


def router(answers: Answers, internal_keys: str) -> APIRouter:
    """The five calls, and the description of where they are.

    The ``sub`` of a caller's token is its own name: whoever has a trusted key may ask about anybody.
    """
    routes = APIRouter(route_class=_Echoing)
    callers = [Depends(InternalCallers(internal_keys, "access-gateway"))]

    async def evaluation(request: Request, positions: _Positions) -> Decision:
        """May he?"""
        return await answers.evaluate(await _body(request, Evaluation), positions)

    async def evaluations(request: Request, positions: _Positions) -> Decision | Decisions:
        """May he, several times."""
        return await answers.evaluate_all(await _body(request, Evaluations), positions)

    async def search_subject(request: Request, positions: _Positions) -> Results:
        """Who may?"""
        return await answers.subjects(await _body(request, SubjectSearch), positions)

    async def search_resource(request: Request, positions: _Positions) -> Results:
        """With what may he?"""
        return await answers.resources(await _body(request, ResourceSearch), positions)

    async def search_action(request: Request, positions: _Positions) -> Results:
        """What may he?"""
        return await answers.actions(await _body(request, ActionSearch), positions)

    def configuration(request: Request) -> dict[str, str]:
        """Where the calls are, as the caller sees this service."""
        here = str(request.base_url).rstrip("/")
        return {"policy_decision_point": here, **{name: here + path for name, path in _PATHS.items()}}

    for path, call in zip(
        _PATHS.values(),
        (evaluation, evaluations, search_subject, search_resource, search_action),
        strict=True,
    ):
        routes.add_api_route(path, call, methods=["POST"], dependencies=callers)
    routes.add_api_route("/.well-known/authzen-configuration", configuration, methods=["GET"])
    return routes


class _Echoing(APIRoute):
    """Sends the caller's id of the request back, also with an error."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def echoing(request: Request) -> Response:
            try:
                response = await handle(request)
            except ApiError as error:
                response = error_answer(error)
            request_id = request.headers.get(REQUEST_ID_HEADER)
            if request_id is not None:
                response.headers[REQUEST_ID_HEADER] = request_id
            return response

        return echoing


def _positions(header: Annotated[str, Header(alias=POSITION_HEADER)] = "") -> Positions:
    try:
        found = tuple(parse_positions(header))
    except ValueError as error:
        raise UnusableRequestError(f"The header {POSITION_HEADER} cannot be used: {error}.") from None
    if len(found) > _MOST_POSITIONS:
        raise UnusableRequestError(f"At most {_MOST_POSITIONS} positions are read.")
    return found


_Positions = Annotated[Positions, Depends(_positions)]


async def _body(request: Request, kind: type[M]) -> M:
    """The body; the specification wants 400 where others of our calls say 422."""
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UnusableRequestError(f"The request cannot be used: {problems[:1000]}.") from None
