"""Runs a service: its HTTP server and its background tasks, until a signal or a failure."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI

from servicekit.logging import get_logger

log = get_logger(__name__)

Background = Callable[[], Coroutine[Any, Any, None]]
"""A task that runs until it is cancelled. If it returns or raises, the process ends with an error."""

_GRACE_SECONDS = 3


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to `serve`, which stops the background tasks too."""
        yield


async def serve(
    app: FastAPI,
    *,
    host: str,
    port: int,
    background: Sequence[Background] = (),
) -> None:
    """Serve ``app`` and run ``background`` until SIGTERM or SIGINT; then stop both and return.

    Raises:
        ExceptionGroup: a background task ended by itself.
    """
    server = _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        )
    )

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop)

    async def never_ends(task: Background) -> None:
        await task()
        raise RuntimeError(f"background task {task!r} ended by itself")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(never_ends(task)) for task in background]
        # What a process has imported stays: to look through it again and again costs more than what it finds.
        gc.collect()
        gc.freeze()
        log.info("started", host=host, port=port)
        await server.serve()
        log.info("stopping")
        for task in tasks:
            task.cancel()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's main coroutine on uvloop."""
    uvloop.run(main)
