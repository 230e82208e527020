"""The real process: its command, its settings from the environment, its end by a signal."""

import asyncio
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Devices, Events, World

    from devstack.pytest_plugin import Database, InternalTokenMaker

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def test_the_process_serves_until_sigterm_and_says_nothing_private(  # noqa: PLR0917 - fixtures by name
    world: "World",
    devices: "Devices",
    database: "Database",
    kafka_bootstrap: str,
    topic_prefix: str,
    events: "Events",
    internal_tokens: "InternalTokenMaker",
) -> None:
    host, target = await devices.echo()
    service = await world.device("dev-1", (host, target))
    await world.share("dev-1", "ann")
    http_port, relay_port = free_port(), min(free_port(), 65000)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "access_gateway",
        "serve",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "LATCHKEY_HTTP_PORT": str(http_port),
            "LATCHKEY_POSTGRES_DSN": database.dsn("access_gateway"),
            "LATCHKEY_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "LATCHKEY_TOPIC_PREFIX": topic_prefix,
            "LATCHKEY_INTERNAL_KEYS": internal_tokens.public_jwks,
            "LATCHKEY_GATEWAY_ID": "gw-1",
            "LATCHKEY_RELAY_PORTS": f"{relay_port}-{relay_port + 300}",
            "LATCHKEY_TARGET_NETWORKS": "127.0.0.0/8",
        },
    )
    token = internal_tokens.token("access-gateway", "ann")
    headers = {"Authorization": f"Bearer {token}", "X-Correlation-Id": "request-1"}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}") as http:
            async with asyncio.timeout(20):
                while not await ready(http):  # noqa: ASYNC110 - asked over HTTP
                    await asyncio.sleep(0.05)
            opened = (
                await http.post("/v1/connections", json={"service_id": service}, headers=headers)
            ).json()
            too_large = await http.post("/v1/connections", content=b"x" * 1_000_001, headers=headers)
            assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "TOO_LARGE")
        reader, writer = await asyncio.open_connection("127.0.0.1", opened["port"])
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    # The end is told although the process was told to go.
    kinds = [each.type for each in await events.take(2)]
    assert kinds == ["latchkey.ConnectionOpened.v1", "latchkey.ConnectionClosed.v1"]
    lines = [json.loads(line) for line in output.decode().splitlines()]
    ended = next(line for line in lines if line["event"] == "connection_ended")
    assert (ended["correlation_id"], ended["service"]) == ("request-1", "access-gateway")
    text = output.decode()
    for private in (token, database.dsn("access_gateway"), f":{target}"):
        assert private not in text


async def ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False
