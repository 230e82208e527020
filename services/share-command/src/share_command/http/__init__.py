"""The HTTP API of share-command: commands, bulk, explanations, contact book, what people look at."""

from typing import Final

from fastapi import APIRouter, FastAPI, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from servicekit.http import ApiError, error_answer
from share_command.errors import RateLimited, ShareCommandError, Unavailable
from share_command.handlers import Handlers
from share_command.http import commands, contacts, views
from share_command.http.limiting import Limited
from share_command.http.models import Caller, ErrorAnswer
from share_command.settings import Settings

__all__ = ["VERSION", "add_routes"]


VERSION: Final = "1.0.0"
"""Of the interface. Only optional things are ever added, and raise the second number."""

_TOKEN = HTTPBearer(
    scheme_name="internal-token",
    bearerFormat="JWT",
    description="ES256, 60 s, of a caller that is trusted to name the acting account (`sub`).",
    auto_error=False,  # described here; `caller` judges it
)


def add_routes(app: FastAPI, *, handlers: Handlers, caller: Caller, settings: Settings) -> None:
    """Add the API to the application, and its version."""
    app.version = VERSION
    router = APIRouter(
        prefix="/v1",
        dependencies=[Security(_TOKEN)],
        responses={
            status: {"model": ErrorAnswer, "description": "Refused; see `error.code`."}
            for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
        },
    )
    limited = Limited(caller, settings.commands_per_minute)
    commands.add_routes(router, handlers, limited)
    contacts.add_routes(router, handlers, caller=caller, limited=limited, settings=settings)
    views.add_routes(router, handlers, caller, settings.link_secret.get_secret_value())
    app.include_router(router)
    app.add_exception_handler(ShareCommandError, _on_refusal)


async def _on_refusal(_request: object, error: Exception) -> JSONResponse:
    assert isinstance(error, ShareCommandError)
    headers = {"Retry-After": "1"} if isinstance(error, Unavailable) else {}
    if isinstance(error, RateLimited):
        headers = {"Retry-After": str(error.details["retry_after_seconds"])}
    return error_answer(
        ApiError(error.code, error.status, error.message, details=error.details, headers=headers)
    )
