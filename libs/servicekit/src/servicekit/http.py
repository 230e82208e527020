"""The HTTP side of every service: health, metrics, correlation id, limits, and errors with a code."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.logging import get_logger
from servicekit.telemetry import CORRELATION_HEADER, correlated

log = get_logger(__name__)

MAX_BODY_BYTES = 1_000_000
_CHECK_SECONDS = 2.0

ReadyCheck = Callable[[], Awaitable[None]]
"""Returns when the dependency answers, raises when it does not."""


class ApiError(Exception):
    """A refusal that reaches the caller: a stable ``code``, an HTTP ``status``, and what to do about it.

    ``details`` are further fields of the answer (``device_id``, ``service_id``, ``recipient``); ``headers``
    are sent along (``Retry-After``).
    """

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.status, self.message = code, status, message
        self.details = dict(details or {})
        self.headers = dict(headers or {})


def error_answer(error: ApiError) -> JSONResponse:
    """The answer that a refusal becomes."""
    body = {"error": {"code": error.code, "message": error.message, **error.details}}
    return JSONResponse(body, error.status, headers=error.headers)


class _Edge:
    """Outermost layer: correlation id, body limit, and a coded answer for what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with correlated(request.headers.get(CORRELATION_HEADER)) as correlation:
            started = False
            received = 0

            async def tagged_send(message: Message) -> None:
                nonlocal started
                if message["type"] == "http.response.start":
                    started = True
                    message["headers"] = [
                        *message["headers"],
                        (CORRELATION_HEADER.lower().encode(), correlation.encode()),
                    ]
                await send(message)

            async def application_send(message: Message) -> None:
                if received <= MAX_BODY_BYTES:
                    await tagged_send(message)
                elif not started:  # whatever the application made of the failed read
                    await error_answer(_too_large())(scope, receive, tagged_send)

            async def limited_receive() -> Message:
                nonlocal received
                message = await receive()
                received += len(message.get("body", b""))
                if received > MAX_BODY_BYTES:
                    raise _too_large()
                return message

            try:
                declared = request.headers.get("content-length", "0")
                if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
                    raise _too_large()
                await self._app(scope, limited_receive, application_send)
            except ApiError as error:
                if started:
                    raise
                await error_answer(error)(scope, receive, tagged_send)
            except Exception:
                log.exception("unexpected_error", route=getattr(scope.get("route"), "path", None))
                if started:
                    raise
                internal = ApiError("INTERNAL", 500, "Something failed here. It is logged; try again later.")
                await error_answer(internal)(scope, receive, tagged_send)


def _too_large() -> ApiError:
    return ApiError(
        "TOO_LARGE", 413, f"The body is larger than {MAX_BODY_BYTES} bytes. Send less in one request."
    )


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_answer(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    )
    return error_answer(ApiError("INVALID_REQUEST", 422, f"The request cannot be used: {problems}"))


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name
    return error_answer(ApiError(code, error.status_code, str(error.detail), headers=error.headers))


def create_app(title: str, checks: Mapping[str, ReadyCheck], *, public: bool = False) -> FastAPI:
    """An application with ``/livez``, ``/readyz`` and ``/metrics``; add the service's routers to it.

    ``/readyz`` runs ``checks`` (each at most 2 s) and names those that failed in a 503. An application that
    is ``public`` does not publish an OpenAPI document of itself.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None if public else "/openapi.json")
    app.add_middleware(_Edge)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)

    async def livez() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    async def readyz() -> JSONResponse:
        """The process and what it depends on can serve."""
        outcomes = await asyncio.gather(*(_passes(name, check) for name, check in checks.items()))
        failing = [name for name, passed in zip(checks, outcomes, strict=True) if not passed]
        return JSONResponse(
            {"status": "failing", "failing": failing} if failing else {"status": "ok"},
            503 if failing else 200,
        )

    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    for path, endpoint in (("/livez", livez), ("/readyz", readyz), ("/metrics", metrics)):
        app.add_api_route(path, endpoint, include_in_schema=False)
    return app


async def _passes(name: str, check: ReadyCheck) -> bool:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check()
    except Exception as error:
        log.warning("not_ready", check=name, error=repr(error))
        return False
    return True
