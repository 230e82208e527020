"""``POST /graphql/v1``: one document in, one answer out.

| what | status | answer |
|---|---|---|
| done | 200 | ``data``, the header ``Latchkey-Position``, ``extensions.warnings`` if there are any |
| refused | 200 | ``data`` and ``errors`` with ``extensions.code``: clients take any other status as fatal |
| asked too often | 429 | as refused, and the header ``Retry-After``: clients back off |
| syntax, validation, variables | 200 | ``errors`` without ``data`` |
| body is no JSON request | 400 | ``errors`` |
| no valid token, signature or session | 401 | ``errors``; clients get a new token, or stop |
| a session without its CSRF token | 403 | ``errors`` |
"""

import json
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from graphql import GraphQLError, GraphQLSyntaxError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from strawberry import Schema
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types.execution import ExecutionResult, PreExecutionError

from contracts.positions import MOST_POSITIONS, POSITION_HEADER, parse_positions
from portal.access_keys import AccessKeys
from portal.aliases import Aliases
from portal.authentication import Authentication
from portal.context import Context, Peers, error_extensions
from portal.errors import AskedTooOften, InvalidJson, InvalidPosition, InvalidRequest, MethodNotAllowed
from portal.metrics import GRAPHQL_REQUESTS, GRAPHQL_SECONDS
from portal.own_changes import OwnChanges
from servicekit.http import ApiError
from servicekit.limiting import Frequency
from servicekit.logging import get_logger

log = get_logger(__name__)

IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"^[\x21-\x7e]{1,128}$")
_OUTCOMES: Final = {401: "unauthenticated", 403: "unauthenticated", 429: "refused"}
_SEPARATORS: Final = (",", ":")


class _Document(BaseModel):
    """The body of a request; what else clients put into it is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    query: Annotated[str, Field(min_length=1)]
    variables: dict[str, Any] | None = None
    operationName: str | None = None


def router(
    schema: Schema,
    authentication: Authentication,
    peers: Peers,
    *,
    access_keys: AccessKeys,
    aliases: Aliases,
    own_changes: OwnChanges,
    frequency: Frequency,
) -> APIRouter:
    """The GraphQL endpoint."""
    routes = APIRouter()

    @routes.get("/graphql/v1", include_in_schema=False)
    async def not_by_get() -> Response:
        """Say how it is done."""
        error = MethodNotAllowed()
        return _answer({"errors": [_coded(error)]}, error.status, {"Allow": "POST"})

    @routes.post("/graphql/v1")
    async def graphql(request: Request) -> Response:
        """Run one GraphQL document as the account that its token, signature or session names."""
        with GRAPHQL_SECONDS.time():
            try:
                account_id = await authentication.account_of(request)
                context = Context(
                    account_id=account_id,
                    peers=peers,
                    access_keys=access_keys,
                    aliases=aliases,
                    own_changes=own_changes,
                    position=_position(request),
                    idempotency_key=_idempotency_key(request),
                )
                seconds = await frequency.spend(context.account_id)
                if seconds:
                    raise AskedTooOften(seconds)
                document = await _document(request)
            except ApiError as error:
                GRAPHQL_REQUESTS.labels(outcome=_OUTCOMES.get(error.status, "malformed")).inc()
                return _answer({"errors": [_coded(error)]}, error.status, error.headers)
            return await _run(schema, document, context)

    return routes


def _position(request: Request) -> str | None:
    position = request.headers.get(POSITION_HEADER)
    if position is not None:
        try:
            parse_positions(position)
        except ValueError as error:
            raise InvalidPosition(f"{POSITION_HEADER}: {error}") from None
    return position


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is not None and not _KEY.match(key):
        raise InvalidRequest(f"{IDEMPOTENCY_HEADER} must be 1 to 128 visible ASCII characters.")
    return key


async def _document(request: Request) -> _Document:
    body = await request.body()
    try:
        return _Document.model_validate_json(body)
    except ValidationError:
        raise InvalidJson from None


async def _run(schema: Schema, document: _Document, context: Context) -> Response:
    began = time.monotonic()
    try:
        result = await schema.execute(
            document.query,
            variable_values=document.variables,
            context_value=context,
            operation_name=document.operationName,
        )
    except CannotGetOperationTypeError as error:
        result = PreExecutionError(data=None, errors=[GraphQLError(error.as_http_error_reason())])
    errors = [_formatted(error, result) for error in result.errors or []] + context.refusals
    malformed = result.data is None and not any("path" in error for error in errors)
    codes = sorted({str(error["extensions"]["code"]) for error in errors})
    outcome = "malformed" if malformed else "failed" if "INTERNAL" in codes else "refused" if codes else "ok"
    GRAPHQL_REQUESTS.labels(outcome=outcome).inc()
    log.info(
        "graphql_answered",
        outcome=outcome,
        codes=codes,
        account_id=context.account_id,
        milliseconds=round((time.monotonic() - began) * 1000, 1),
    )
    body: dict[str, Any] = {} if malformed else {"data": result.data}
    if errors:
        body["errors"] = errors
    if context.warnings:
        body["extensions"] = {"warnings": context.warnings}
    positions = [position for text in context.positions for position in text.split(", ")]
    headers = {POSITION_HEADER: ", ".join(positions[-MOST_POSITIONS:])} if positions else {}
    waits = [error["extensions"].get("retryAfterSeconds", 1) for error in errors if _is_limit(error)]
    if waits:
        return _answer(body, 429, {**headers, "Retry-After": str(max(waits))})
    return _answer(body, 200, headers)


def _is_limit(error: Mapping[str, Any]) -> bool:
    return error["extensions"].get("code") == "RATE_LIMITED"


def _formatted(error: GraphQLError, result: ExecutionResult) -> dict[str, Any]:
    """An error as the client sees it: coded, and nothing of our insides."""
    cause = error.original_error
    answer: dict[str, Any]
    if isinstance(cause, ApiError):
        answer = _coded(cause)
    elif isinstance(cause, RecursionError) and not error.path:
        answer = {
            "message": "The document is nested too deeply.",
            "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"},
        }
    elif cause is not None and not isinstance(cause, GraphQLError):
        answer = {
            "message": "Something failed here. It is logged; try again later.",
            "extensions": {"code": "INTERNAL"},
        }
    else:
        answer = {"message": error.message, "extensions": {"code": _document_code(error, result)}}
    if error.locations:
        answer["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        answer["path"] = error.path
    return answer


def _document_code(error: GraphQLError, result: ExecutionResult) -> str:
    """What is wrong with a document, in the codes that GraphQL clients know."""
    if isinstance(error, GraphQLSyntaxError):
        return "GRAPHQL_PARSE_FAILED"
    return "GRAPHQL_VALIDATION_FAILED" if isinstance(result, PreExecutionError) else "BAD_USER_INPUT"


def _coded(error: ApiError) -> dict[str, Any]:
    return {"message": error.message, "extensions": error_extensions(error)}


def _answer(body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    text = json.dumps(body, separators=_SEPARATORS, ensure_ascii=False)
    return Response(text, status, {**headers, "Cache-Control": "no-store"}, "application/json")
