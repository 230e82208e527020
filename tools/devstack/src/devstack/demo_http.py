"""The HTTP side of the demo servers: served in process, safe headers, templates, coded errors."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncGenerator, Collection, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files

import jinja2
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devstack.certificates import Files
from servicekit.http import ApiError, create_app, error_answer

PAGE_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
"""Content-Security-Policy of every page: no script at all."""

_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_GRACE_SECONDS = 1

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("devstack"), autoescape=True, undefined=jinja2.StrictUndefined
)
_STYLE = (files("devstack") / "static" / "demo.css").read_text()


def page(
    template: str, status: int = 200, policy: Mapping[str, str] | None = None, /, **values: object
) -> Response:
    """Render a page; ``policy`` changes single directives of `PAGE_POLICY`."""
    directives = {**PAGE_POLICY, **(policy or {})}
    return HTMLResponse(
        _templates.get_template(template).render(values),
        status,
        headers={
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in directives.items())
        },
    )


class _Guard:
    """Keeps other web sites out: only known host names (DNS rebinding), no writing from another origin."""

    def __init__(self, app: ASGIApp, local_only: bool, names: Collection[str]) -> None:
        self._app, self._local_only, self._names = app, local_only, {*_LOCAL_NAMES, *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "same-origin")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error_answer(error)(scope, receive, send_safely)
        else:
            await self._app(scope, receive, send_safely)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._local_only and name.strip("[]") not in self._names:
            raise ApiError("FOREIGN_HOST", 421, "This demo server answers as 127.0.0.1 or localhost only.")
        origin = headers.get("origin")
        if scope["method"] not in _SAFE_METHODS and origin not in {None, f"http://{host}"}:
            raise ApiError(
                "FOREIGN_ORIGIN", 403, "Another web site sent this request. Use this server's own pages."
            )


def demo_app(title: str, *, local_only: bool = True, names: Collection[str] = ()) -> FastAPI:
    """An application with health, metrics, the style sheet, coded errors and the guard above.

    ``names`` are host names by which others reach it, beside those of this machine.
    """
    app = create_app(title, {})
    app.add_middleware(_Guard, local_only=local_only, names=names)

    async def style() -> Response:
        """The style sheet of all demo pages."""
        return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "max-age=60"})

    app.add_api_route("/demo.css", style, include_in_schema=False)
    return app


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to whoever runs this server."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: its port is known, and taken, before the server runs."""
    return socket.create_server((host, port), backlog=256)


def port_of(sock: socket.socket) -> int:
    """The port a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port


def http_url(host: str, port: int) -> str:
    """``http://host:port``, with the brackets that an IPv6 address needs."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(app: FastAPI, sock: socket.socket, tls: Files | None = None) -> AsyncGenerator[None]:
    """Serve ``app`` on ``sock``, over ``tls`` when given, while the block runs.

    A caller that is early waits in the socket's queue.
    """
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


async def until_stopped(server: AbstractAsyncContextManager[object]) -> None:
    """Run ``server`` until SIGTERM or SIGINT: the body of a demo server's process."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopped.set)
    async with server:
        await stopped.wait()
