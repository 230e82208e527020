"""Real processes of the services, each with a log of its own, ended with the block that started them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from devstack.process import free_port

_READY_SECONDS = 40.0
_STOP_SECONDS = 10.0


class Processes:
    """Starts ``python -m <module> <verb>`` with settings; made by `running`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory, self._environment = directory, dict(environment)
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, module: str, verb: str, settings: Mapping[str, object]
    ) -> tuple[subprocess.Popen[bytes], str, Path]:
        """The process, where it serves HTTP, and its log."""
        port = free_port()
        log = self._directory / f"{module}-{verb}-{len(self._running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, verb],
                env={
                    "PATH": os.environ["PATH"],
                    **self._environment,
                    "LATCHKEY_HTTP_PORT": str(port),
                    **{f"LATCHKEY_{name.upper()}": str(value) for name, value in settings.items()},
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)
        return process, f"http://127.0.0.1:{port}", log

    async def ready(self, module: str, verb: str, settings: Mapping[str, object]) -> str:
        """Start it and wait until it is ready; where it serves HTTP."""
        process, url, log = self.start(module, verb, settings)
        await until_ready(process, url, log)
        return url

    def stop(self) -> None:
        """End all."""
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@asynccontextmanager
async def running(directory: Path, environment: Mapping[str, str]) -> AsyncGenerator[Processes]:
    """Processes that end with the block."""
    processes = Processes(directory, environment)
    try:
        yield processes
    finally:
        await asyncio.to_thread(processes.stop)


async def until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until a process says that it is ready."""
    async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert process.poll() is None, log.read_text()[-4000:]  # noqa: ASYNC240 - it has failed by then
            try:
                if (await client.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
