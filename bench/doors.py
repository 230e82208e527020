"""Idle, slow and half-open clients at a door: what each costs, and whether others still come in.

It needs no servers: a door as the gateway opens it, in a process of its own, and clients in this one. It
tells how much memory of the door's process an idle client takes, plain and over TLS; and how long a newcomer
waits for his answer (the median of fifty) while nobody else is there, while so many are idle, and while all
places for strangers of another address are taken by clients that say a byte a second, or stop in their
handshake.

    ./latchkey bench doors
    .venv/bin/python bench/doors.py --clients 1000
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import uvloop

from access_gateway.clients import Client
from access_gateway.doors import Crowd, Door
from access_gateway.tls import Certificate
from devstack.certificates import Files, files, make

CLIENTS = 5_000
STRANGERS = 100
HELLO_SECONDS = 5.0
NEWCOMERS = 50


async def _serve(client: Client) -> None:
    said = b""
    while len(said) < 5:
        more = await client.receive()
        if not more:
            return
        said += more
    client.admit()
    await client.send(said)
    while data := await client.receive():
        await client.send(data)


async def _doors(told: Connection, made: Files) -> None:
    crowd = Crowd(4 * CLIENTS, STRANGERS)
    certificate = Certificate(made.certificate, made.key)
    address = ("127.0.0.1", 0)
    doors = [
        Door("plain", address, _serve, crowd=crowd, hello_seconds=HELLO_SECONDS),
        Door("tls", address, _serve, crowd=crowd, hello_seconds=HELLO_SECONDS, certificate=certificate),
    ]
    told.send([door.port for door in doors])
    await asyncio.Event().wait()


def _process(told: Connection, directory: str) -> None:
    uvloop.run(_doors(told, files(Path(directory))))


async def _come(port: int, source: str, tls: ssl.SSLContext | None) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(source, 0), ssl=tls, server_hostname="localhost" if tls else None
    )
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return writer


async def _newcomer_ms(port: int, tls: ssl.SSLContext | None) -> float:
    waited: list[float] = []
    for _ in range(NEWCOMERS):
        began = time.perf_counter()
        (await _come(port, "127.0.0.200", tls)).close()
        waited.append(time.perf_counter() - began)
    return round(statistics.median(waited) * 1000, 2)


@contextlib.asynccontextmanager
async def _idle(port: int, count: int, tls: ssl.SSLContext | None) -> AsyncGenerator[None]:
    there: list[asyncio.StreamWriter] = []
    for first in range(0, count, 50):
        source = f"127.0.1.{1 + first // 50 % 200}"
        there += await asyncio.gather(*(_come(port, source, tls) for _ in range(50)))
    yield
    for writer in there:
        writer.close()


async def _slow(port: int, byte: bytes) -> None:
    """One that is thrown out, and comes again, for ever."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.66", 0))
            while not writer.is_closing():
                writer.write(byte)
                await asyncio.sleep(1.0)


async def _measure(
    ports: list[int], trust: ssl.SSLContext, door: psutil.Process, count: int
) -> list[dict[str, Any]]:
    plain, secure = ports
    found: list[dict[str, Any]] = []
    for name, port, tls in (("plain", plain, None), ("TLS", secure, trust)):
        alone = await _newcomer_ms(port, tls)
        before = door.memory_info().rss
        async with _idle(port, count, tls):
            each = round((door.memory_info().rss - before) / count)
            among_idle = await _newcomer_ms(port, tls)
        slow = [asyncio.create_task(_slow(port, b"\x16")) for _ in range(2 * STRANGERS)]
        await asyncio.sleep(2.0)
        among_slow = await _newcomer_ms(port, tls)
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)
        found += [
            {"figure": f"memory per idle client, {name}", "value": each, "unit": "B"},
            {"figure": f"a newcomer's answer, {name}, alone", "value": alone, "unit": "ms"},
        ]
        for others, value in ((f"among {count:,} idle", among_idle), ("among slow ones", among_slow)):
            found.append(
                {
                    "figure": f"a newcomer's answer, {name}, {others}", "value": value, "unit": "ms",
                    "peer": "alone", "peer_value": alone, "ratio": round(value / alone, 2),
                }
            )  # fmt: skip
    return found


def main() -> None:
    """Run it; the last line is the result as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("status", nargs="?", help="of a running stack; not used")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="that are idle")
    count = parser.parse_args().clients
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory))
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_process, args=(there, directory))
        process.start()
        try:
            ports: list[int] = here.recv()
            trust = ssl.create_default_context(cafile=files(Path(directory)).ca)
            figures = uvloop.run(_measure(ports, trust, psutil.Process(process.pid), count))
        finally:
            process.kill()
            process.join()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"name": "doors", "figures": figures, "runs": 1, "machine": machine}))


if __name__ == "__main__":
    main()
