"""The agent as it runs at a gateway, of which here is no more than what it says to an agent."""

import asyncio
import contextlib
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from devstack.certificates import Files

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "latchkey-agent.py"
SECONDS = 20
_AT_A_HANG_UP = "import os, signal, sys; signal.signal(1, signal.%s); os.execv(sys.argv[1], sys.argv[1:])"
IGNORING_HANGUPS = _AT_A_HANG_UP % "SIG_IGN"
"""As `nohup` starts a program."""

ENDED_BY_HANGUPS = _AT_A_HANG_UP % "SIG_DFL"
"""As a terminal starts a program, also when these tests were started with `nohup`."""


class Gateway:
    """Welcomes whoever logs in, and tells of ``gateways``."""

    def __init__(self) -> None:
        self.gateways: list[str] = []
        self.address = ""
        self._control: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._data: asyncio.Queue[str] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def running(cls, certificates: "Files") -> AsyncGenerator["Gateway"]:
        made = cls()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificates.certificate, certificates.key)
        server = await asyncio.start_server(made._serve, "127.0.0.1", 0, ssl=tls)
        made.address = f"localhost:{server.sockets[0].getsockname()[1]}"
        made.gateways = [made.address]
        try:
            yield made
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            first = json.loads(await reader.readline())
            if first["type"] == "login":
                self._say(writer, {"type": "welcome", "gateways": self.gateways, "ping_seconds": 20})
                self._control.put_nowait(writer)
            else:
                self._data.put_nowait(first["token"])
            await reader.read()
        writer.close()

    @staticmethod
    def _say(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    async def connected(self) -> asyncio.StreamWriter:
        """An agent's control connection."""
        return await asyncio.wait_for(self._control.get(), SECONDS)

    async def is_served(self, control: asyncio.StreamWriter, token: str) -> bool:
        """Whether the agent dials back for a session."""
        self._say(control, {"type": "open", "token": token})
        return await asyncio.wait_for(self._data.get(), SECONDS) == token


@pytest.fixture
async def gateway(certificates: "Files") -> AsyncGenerator[Gateway]:
    async with Gateway.running(certificates) as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An agent's that was enrolled before."""
    path = tmp_path / "agent.json"
    know(path)
    return path


def know(state: Path, *gateways: str) -> None:
    """Make it an agent's that was told of these gateways."""
    fields = {"device_id": "cam-1", "key": "k", "next_key": "", "enrolled_by": "", "gateways": gateways}
    state.write_text(json.dumps(fields))
    state.chmod(0o600)


def known(state: Path) -> list[str]:
    return json.loads(state.read_text())["gateways"]


@asynccontextmanager
async def agent(
    certificates: "Files", state: Path, gateway: str, *before: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A running one, started by the program ``before``, if any."""
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, str(SCRIPT), "--state", str(state), "--ca", str(certificates.ca),
        "--gateway", gateway, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_whoever_starts_it_with_nohup_may_hang_up(
    certificates: "Files", state: Path, gateway: Gateway
) -> None:
    before = (sys.executable, "-c", IGNORING_HANGUPS)
    async with agent(certificates, state, gateway.address, *before) as process:
        control = await gateway.connected()
        assert await gateway.is_served(control, "before the hang-up")
        process.send_signal(signal.SIGHUP)
        for token in ("perhaps before it was heard", "after the hang-up"):
            assert await gateway.is_served(control, token)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), SECONDS) == 0


async def test_a_hang_up_stops_it_otherwise(certificates: "Files", state: Path, gateway: Gateway) -> None:
    before = (sys.executable, "-c", ENDED_BY_HANGUPS)
    async with agent(certificates, state, gateway.address, *before) as process:
        await gateway.connected()
        process.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(process.wait(), SECONDS) == 0


async def test_a_disk_that_is_full_keeps_no_device_offline(
    certificates: "Files", state: Path, gateway: Gateway
) -> None:
    state.with_name("agent.json.new").mkdir()  # as good as a full disk, for whoever writes there
    gateway.gateways = [gateway.address, "localhost:1"]
    async with agent(certificates, state, gateway.address):
        assert await gateway.is_served(await gateway.connected(), "with a new gateway to keep")
    assert known(state) == []


async def test_it_finds_another_gateway_when_the_one_of_its_command_line_is_down(
    certificates: "Files", state: Path, gateway: Gateway
) -> None:
    know(state, "localhost:1", gateway.address)
    async with agent(certificates, state, "localhost:1"):
        assert await gateway.is_served(await gateway.connected(), "at the other one")
