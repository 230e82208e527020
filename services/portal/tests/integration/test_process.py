"""The command `portal` as a process."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Final

import httpx
import pytest

from devstack.process import free_port

PORTAL: Final = (sys.executable, "-m", "portal")


def run(verb: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [*PORTAL, verb], env=variables, capture_output=True, text=True, check=False, timeout=30
    )


async def test_check_config_hides_secrets(environment: dict[str, str]) -> None:
    done = await asyncio.to_thread(run, "check-config", environment)
    assert done.returncode == 0, done.stderr
    assert "LATCHKEY_PUBLIC_URL=https://portal.example.test" in done.stdout
    for name in (
        "LATCHKEY_INTERNAL_KEY",
        "LATCHKEY_OIDC_CLIENT_SECRET",
        "LATCHKEY_POSTGRES_DSN",
        "LATCHKEY_ACCESS_KEY_SECRET",
    ):
        assert environment[name] not in done.stdout


@pytest.mark.parametrize("verb", ["check-config", "serve", "migrate"])
async def test_settings_that_are_unsafe_end_every_verb(environment: dict[str, str], verb: str) -> None:
    unsafe = {**environment, "LATCHKEY_PUBLIC_URL": "http://portal.example.test"}
    done = await asyncio.to_thread(run, verb, unsafe)
    assert done.returncode == 2
    assert "LATCHKEY_PUBLIC_URL: " in done.stderr
    assert "must be https" in done.stderr


async def test_migrate_may_run_again(environment: dict[str, str]) -> None:
    done = await asyncio.to_thread(run, "migrate", environment)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.slow
async def test_serve_answers_until_it_is_told_to_stop(environment: dict[str, str]) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *PORTAL,
        "serve",
        env={**os.environ, **environment, "LATCHKEY_HTTP_PORT": str(port)},
        stdout=subprocess.PIPE,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with asyncio.timeout(20):
                while True:
                    try:
                        ready = await client.get("/readyz")
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.05)
            assert ready.json() == {"status": "ok"}
            assert (await client.get("/")).status_code == 200
            metrics = (await client.get("/metrics")).text
            assert 'portal_graphql_requests_total{outcome="ok"} 0.0' in metrics
            assert (await client.post("/graphql/v1", json={})).status_code == 401
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert b'"event":"stopping"' in out
