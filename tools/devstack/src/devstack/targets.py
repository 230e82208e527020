"""The real services behind the demo devices: an echo, a status page, and a camera."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from weakref import WeakSet

import typer
from fastapi import FastAPI, Response

from devstack.camera import Camera
from devstack.demo_files import replace_file
from devstack.demo_http import demo_app, listen, page, port_of, serving, until_stopped
from devstack.seed import Targets
from servicekit.logging import configure

_CHUNK_BYTES = 65_536
_MAX_REQUEST_BYTES = 8_192

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back every byte; when the other side ends its sending, end ours."""
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def _tcp(talk: Talk, sock: socket.socket) -> AsyncGenerator[None]:
    """Serve ``talk`` on ``sock``; leaving ends the connections that are open."""
    writers: WeakSet[asyncio.StreamWriter] = WeakSet()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()

    async with await asyncio.start_server(connection, sock=sock, limit=_MAX_REQUEST_BYTES):
        try:
            yield
        finally:
            for writer in writers:
                writer.transport.abort()


def _status_app(targets: Targets) -> FastAPI:
    # People come here through the gateway, so under whatever name the gateway has.
    app = demo_app("targets", local_only=False)
    started = datetime.now(UTC)

    @app.get("/", include_in_schema=False)
    async def status_page() -> Response:
        now = datetime.now(UTC)
        return page("target_status.html", now=now, up=str(now - started).partition(".")[0])

    @app.get("/targets")
    async def ports() -> dict[str, Any]:
        """Where the demo services listen."""
        return {
            "host": targets.host,
            "echo_port": targets.echo_port,
            "status_port": targets.status_port,
            "camera_port": targets.camera_port,
        }

    return app


@asynccontextmanager
async def start(
    host: str = "127.0.0.1", *, echo_port: int = 0, status_port: int = 0, camera_port: int = 0
) -> AsyncGenerator[Targets]:
    """Serve all of them while the block runs; port 0 takes a free one."""
    async with AsyncExitStack() as stack:
        echo, status, camera = (
            stack.enter_context(listen(host, port)) for port in (echo_port, status_port, camera_port)
        )
        targets = Targets(
            host=host, echo_port=port_of(echo), status_port=port_of(status), camera_port=port_of(camera)
        )
        await stack.enter_async_context(_tcp(_echo, echo))
        await stack.enter_async_context(_tcp(Camera(), camera))
        await stack.enter_async_context(serving(_status_app(targets), status))
        yield targets


@asynccontextmanager
async def _start_where_before(directory: Path, host: str, port: int) -> AsyncGenerator[None]:
    """Serve on the ports of last time, so that devices need no change; on others when those are taken."""
    memory = directory / "ports.json"
    last: dict[str, int] = json.loads(memory.read_text()) if memory.exists() else {}
    async with AsyncExitStack() as stack:
        try:
            targets = await stack.enter_async_context(start(host, status_port=port, **last))
        except OSError:
            targets = await stack.enter_async_context(start(host, status_port=port))
        now = {"echo_port": targets.echo_port, "camera_port": targets.camera_port}
        replace_file(memory, json.dumps(now).encode())
        yield


def main(
    directory: Annotated[Path, typer.Option(help="Where the ports are remembered.")],
    port: Annotated[int, typer.Option(help="Port of the status page.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run the demo services until SIGTERM or SIGINT; ``GET /targets`` says where they are."""
    configure("targets")
    asyncio.run(until_stopped(_start_where_before(directory, host, port)))
