"""The web app's page, at each of its addresses, and the files that `web/` was built to."""

import json
from importlib.resources.abc import Traversable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from portal.rendering import PageRoute, page
from portal.visiting import Visitors, sign_in_address

PATHS: Final = ("/", "/inbox", "/sharing", "/sharing/{part:path}", "/devices/{device_id}", "/account")
"""Where the app lives; the same list stands in web/src/app.tsx."""

_ENTRY: Final = "src/main.tsx"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src {}; media-src 'self' blob:; manifest-src 'self'; worker-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class BuiltFiles(StaticFiles):
    """Files whose names change with what is in them may be kept for ever; the worker that shows pushes may
    act for every page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        if path.startswith("app/assets/") and answer.status_code == 200:
            answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        if path == "push-worker.js":
            answer.headers["Service-Worker-Allowed"] = "/"
        return answer


def router(
    visitors: Visitors, static: Traversable, *, renames: bool, access_urls: tuple[str, ...]
) -> APIRouter:
    """The app's addresses.

    ``renames``: whether a registry is asked to name devices; ``access_urls``: where gateways take HTTP
    CONNECT and, from the app's pages, WebSockets.
    """
    built: dict[str, Any] = json.loads(static.joinpath("app", "manifest.json").read_text())[_ENTRY]
    reached = ["'self'", *(f"ws{address.removeprefix('http')}" for address in access_urls)]
    headers = {
        "Content-Security-Policy": _POLICY.format(" ".join(reached)),
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    }
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)

    async def app(request: Request) -> Response:
        """The app for who is signed in; else what this is, or the way to sign in and back."""
        visitor = await visitors.of(request)
        if visitor is None:
            if request.url.path == "/":
                return page("welcome.html")
            return RedirectResponse(sign_in_address(request.url.path), 303)
        answer = page(
            "app.html",
            visitor=visitor,
            script=built["file"],
            styles=built["css"],
            renames=renames,
            access=next(iter(access_urls), ""),
        )
        answer.headers.update(headers)
        return answer

    for path in PATHS:
        routes.add_api_route(path, app, methods=["GET", "HEAD"])
    return routes
