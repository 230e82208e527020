"""What bench/relay.py sets up: the load, HAProxy, a gateway on real servers, and the relay of TLS alone."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from _servers import Servers

from contracts import topics
from devstack.keys import new_internal_key
from devstack.process import free_port
from permission_projector.generation import ensure_live
from servicekit import pg
from servicekit.auth import InternalTokens
from servicekit.kafka import Admin

HERE = Path(__file__).parent
RELAY_CORE, LOAD_CORE = "0", "1"
SERVICES = ("echo", "source", "camera")
SPLICE, BUFFER = "haproxy splice", "haproxy 256k"
_NOBODY = 65534
_TUNED = {
    SPLICE: ("  tune.pipesize 1048576", "  option splice-request\n  option splice-response"),
    BUFFER: ("  tune.bufsize 262144", ""),
}
_DROP = "import os; os.setgroups([]); os.setgid({0}); os.setuid({0})"
# Imported first: the interpreter may lie where that user cannot read.
_GATEWAY = """
import sys
from access_gateway.__main__ import main
{drop}
sys.argv = ["access-gateway", "serve"]
main()
"""


class Missing(Exception):
    """A program that this benchmark needs is not there."""


def pinned(core: str, *command: str) -> list[str]:
    """The command on one core only."""
    return ["taskset", "-c", core, *command]


def cpu(pid: int) -> float:
    """Processor seconds of a process and all its threads so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


class Load:
    """The program of _relay_load.c, compiled and running."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or shutil.which("taskset") is None:
            raise Missing("The load generator needs a C compiler and taskset: apt-get install gcc util-linux")
        program = directory / "load"
        subprocess.run([compiler, "-O2", "-o", program, HERE / "_relay_load.c"], check=True)
        self._child = subprocess.Popen(
            pinned(LOAD_CORE, str(program)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ports: dict[str, int] = self._answer()

    def __call__(self, command: str, port: int = 0, width: int = 0, seconds: float = 0.0) -> dict[str, float]:
        """Obey one command, see there."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{command} {port} {width} {seconds}\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        return json.loads(self._child.stdout.readline())

    def end(self) -> None:
        """Stop it."""
        self._child.terminate()
        self._child.wait()


def haproxy(
    name: str, targets: Mapping[str, int], directory: Path, certificate: Path | None = None
) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """HAProxy on one core, tuned in one of two ways; its ports by service."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise Missing("The peer is missing, so nothing is compared: apt-get install haproxy")
    overall, each = _TUNED[name]
    ports = {service: free_port() for service in targets}
    tls = f" ssl crt {certificate} ssl-min-ver TLSv1.3" if certificate else ""
    text = f"global\n  nbthread 1\n  maxconn 6000\n{overall}\ndefaults\n  mode tcp\n  timeout connect 5s\n"
    text += f"  timeout client 1h\n  timeout server 1h\n{each}\n"
    for service, target in targets.items():
        text += (
            f"frontend f-{service}\n  bind 127.0.0.1:{ports[service]}{tls}\n  default_backend b-{service}\n"
        )
        text += f"backend b-{service}\n  server s 127.0.0.1:{target}\n"
    config = directory / f"{name.replace(' ', '-')}{'-tls' if tls else ''}.cfg"
    config.write_text(text)
    child = subprocess.Popen(pinned(RELAY_CORE, program, "-db", "-f", str(config)), stderr=subprocess.DEVNULL)
    wait_for(ports)
    return child, ports


def tls_relay(target: int, certificate: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The gateway's pump with a TLS client, and nothing else of a gateway."""
    port = free_port()
    child = subprocess.Popen(
        pinned(
            RELAY_CORE,
            sys.executable,
            str(HERE / "_relay_tls.py"),
            "serve",
            str(port),
            str(target),
            str(certificate),
        )
    )
    wait_for({"tls": port})
    return child, port


def read_tls(port: int, seconds: float) -> dict[str, float]:
    """Read a stream over TLS 1.3 for some seconds."""
    command = pinned(LOAD_CORE, sys.executable, str(HERE / "_relay_tls.py"), "read", str(port), str(seconds))
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def wait_for(ports: Mapping[str, int]) -> None:
    """Return when all of them are listened on."""
    for port in ports.values():
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextlib.asynccontextmanager
async def gateway(
    servers: Servers, targets: Mapping[str, int], *, nobody: bool
) -> AsyncGenerator[tuple[int, dict[str, int]]]:
    """A gateway with checks, events and logs on real servers: its process id, and a port for each service."""
    name = f"bench_relay_{'nobody' if nobody else 'user'}"
    servers.cluster.create(name)
    projector = servers.cluster.dsn(name, "permission_projector")
    await pg.migrate(projector, "permission_projector")
    await ensure_live(projector)
    await pg.migrate(servers.cluster.dsn(name, "access_gateway"), "access_gateway")
    events = topics.ACCESS_EVENTS
    await Admin(servers.bootstrap).provision([(events.name, events.partitions, events.config)])
    connection = await asyncpg.connect(projector)
    for service, target in targets.items():
        await connection.execute(_DEVICE, service, target)
    beating = asyncio.create_task(_beat(connection))
    private, public = new_internal_key()
    http, first = free_port(), 21_000
    child = subprocess.Popen(  # noqa: ASYNC220 - nothing else is served here
        pinned(
            RELAY_CORE,
            sys.executable,
            "-c",
            _GATEWAY.format(drop=_DROP.format(_NOBODY) if nobody else ""),
        ),
        stdout=(servers.directory / f"{name}.log").open("wb"),
        env={
            "PATH": os.environ["PATH"],
            "LATCHKEY_POSTGRES_DSN": servers.cluster.dsn(name, "access_gateway"),
            "LATCHKEY_KAFKA_BOOTSTRAP": servers.bootstrap,
            "LATCHKEY_INTERNAL_KEYS": public,
            "LATCHKEY_GATEWAY_ID": "bench",
            "LATCHKEY_HTTP_PORT": str(http),
            "LATCHKEY_RELAY_PORTS": f"{first}-{first + 2000}",
            "LATCHKEY_TARGET_NETWORKS": "127.0.0.0/8",
            "LATCHKEY_CONNECTIONS_PER_PORT": "100000",
            "LATCHKEY_AUDIT_BACKLOG": "1000000",
        },
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}", timeout=20) as client:
            await _ready(client)
            token = InternalTokens(private, "portal").mint(audience="access-gateway", account_id="guest")
            ports: dict[str, int] = {}
            for service in targets:
                answer = await client.post(
                    "/v1/connections",
                    json={"service_id": f"{service}-svc", "host_ip": "127.0.0.1"},
                    headers={"Authorization": f"Bearer {token}"},
                )
                answer.raise_for_status()
                ports[service] = answer.json()["port"]
        yield child.pid, ports
    finally:
        child.send_signal(signal.SIGTERM)
        beating.cancel()
        await asyncio.to_thread(child.wait)
        await asyncio.wait({beating})
        await connection.close()


async def _ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.1)


async def _beat(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    while True:
        await connection.execute(_WATERMARK)
        await asyncio.sleep(0.5)


_DEVICE = """
with device as (
    insert into permissions.device values ($1, 5, 'owner', 'n', 'computer', now())
), service as (
    insert into permissions.service (
        device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions
    ) values ($1, $1 || '-svc', 0, 'n', 'tcp', null, '127.0.0.1', $2, array['connect'])
)
insert into permissions.share values (
    $1, gen_random_uuid(), gen_random_uuid(), 'owner', 'active', 'guest',
    '{"scope": {"kind": "all", "permissions": "all"}}', 1, now(), now(), null, 1
)
"""
_WATERMARK = """
with gone as (delete from permissions.watermark)
insert into permissions.watermark values (
    (extract(epoch from clock_timestamp()) * 1e6)::bigint, clock_timestamp(),
    'e', 'e', array_fill(0::bigint, array[24]), 'd', 'd', array_fill(0::bigint, array[24])
)
"""
