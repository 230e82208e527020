"""How pages leave the portal: templates, headers that keep them to themselves, errors as pages."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import jinja2
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from servicekit.http import ApiError

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_templates: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("portal"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, status: int = 200, **values: object) -> HTMLResponse:
    """An HTML page; ``values`` are what the template names."""
    return HTMLResponse(_templates.get_template(template).render(**values), status)


class PageRoute(APIRoute):
    """A route for people: every answer carries the headers of a page, and a refusal is a page too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                answer = await handler(request)
            except ApiError as error:
                answer = _error_page(error)
            except RequestValidationError:
                answer = _error_page(
                    ApiError("INVALID_REQUEST", HTTPStatus.BAD_REQUEST, "This form cannot be used.")
                )
            for name, value in _HEADERS.items():
                answer.headers.setdefault(name, value)
            return answer

        return handle


def _error_page(error: ApiError) -> Response:
    title = "Not available right now" if error.status >= 500 else "That did not work"
    answer = page(
        "message.html", error.status, title=title, message=error.message, code=error.code, tone="problem"
    )
    answer.headers.update(error.headers)
    return answer
