"""How quickly the read API answers "my devices" when the database has a million.

16 clients, each an owner of a thousand devices, ask for the first hundred and their count over HTTP, one
request after the other, and then at a steady rate that leaves the machine room. In the same run, on the same
database:

- the peer: the same statement by a bare asyncpg pool from 16 clients
- the next page by its cursor, one device, and "nothing has changed" (304)

    ./latchkey bench read_api
    .venv/bin/python bench/read_api.py --seconds 6 --runs 3
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import uvloop

from devstack import postgres
from devstack.keys import new_internal_key
from devstack.process import Process, free_port, listens, spawn, stop, wait_until
from permission_projector import generation
from permission_projector.app import SERVE_SESSION
from permission_projector.reader import SHOWN_ENTRIES, Variant, device_statements, load_statements
from permission_projector.settings import NAME
from servicekit import pg
from servicekit.auth import InternalTokens

CLIENTS = 16
RATE = 100
WARM_UP_SECONDS = 2.0
AIM_MS = 20.0
DATABASE = "million"
_SERVICE = str(Path(sys.executable).parent / NAME)
_ROWS = Path(__file__).parents[1] / "services/permission-projector/tests/integration/reading/million.sql"

Ask = Callable[[int], Awaitable[None]]
"""One request of a client, by its number, until it is answered; raises when the answer is none."""


@dataclass
class Run:
    """What one measurement gave: answers a second, and each answer's seconds."""

    rate: float
    taken: list[float]

    def ms(self, share: float) -> float:
        """A percentile in milliseconds."""
        ordered = sorted(self.taken)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class Connection:
    """A bare HTTP/1.1 connection: a client library would take more processor time than what is measured."""

    def __init__(self, port: int, account: str, tokens: InternalTokens) -> None:
        self._port, self._account, self._tokens = port, account, tokens
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._minted, self._token = 0.0, ""

    async def get(self, path: str, *, known: str = "", status: int = 200) -> tuple[str, bytes]:
        """The answer's head and body; raises RuntimeError for another status."""
        if self._streams is None or self._streams[0].at_eof():  # the server closes those that are idle
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        if time.monotonic() - self._minted > 30:
            self._token = self._tokens.mint(audience=NAME, account_id=self._account)
            self._minted = time.monotonic()
        reader, writer = self._streams
        condition = f"If-None-Match: {known}\r\n" if known else ""
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
        writer.write(f"{head}{condition}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].partition("\r\n")[0] or 0)
        body = await reader.readexactly(length)
        if f" {status} " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"{path}: {head.partition(chr(13))[0]}: {body[:500]!r}")
        return head, body


async def measured(ask: Ask, seconds: float, rate: float | None = None) -> Run:
    """Let all clients ask for a while: one request after the other, or so many a second in all.

    With a rate, an answer's time counts from when its request was due.
    """
    taken: list[float] = []
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds

    async def drive(client: int) -> None:
        first = time.perf_counter() + (client / rate if rate else 0)
        for number in itertools.count():
            asked = time.perf_counter()
            if rate:
                due = first + number * CLIENTS / rate
                await asyncio.sleep(max(0.0, due - asked))
                asked = due
            if asked > end:
                return
            await ask(client)
            if asked > begin:
                taken.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as group:
        for client in range(CLIENTS):
            group.create_task(drive(client))
    return Run(len(taken) / seconds, taken)


async def fill(dsn: str) -> None:
    """A live generation with a million devices."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await generation.create_tables(connection, generation.LIVE, 1)
        await connection.execute(_ROWS.read_text())
        await generation.create_indexes(connection, generation.LIVE)
    await connection.execute("vacuum analyze")
    await connection.close()


async def asks(port: int, dsn: str, key: str) -> tuple[dict[str, Ask], Callable[[], Awaitable[None]]]:
    """Everything that is asked, by name, and what ends it."""
    tokens = InternalTokens(key, "bench")
    accounts = [f"owner-{number}" for number in range(CLIENTS)]
    connections = [Connection(port, account, tokens) for account in accounts]
    pages: list[dict[str, Any]] = []
    tags: list[str] = []
    for connection in connections:
        head, body = await connection.get("/v1/devices?size=100")
        pages.append(json.loads(body))
        tags.append(head.partition("etag: ")[2].partition("\r\n")[0])
        if (len(pages[-1]["items"]), pages[-1]["total"]) != (100, 1000):
            raise RuntimeError("An owner must have a thousand devices, and see a hundred of them.")
    pool = await asyncpg.create_pool(
        dsn, min_size=10, max_size=10, server_settings={**SERVE_SESSION, "search_path": generation.LIVE}
    )
    sql = load_statements()
    statement = device_statements(sql)[Variant("name", by=None, filtered=False, goes_on=False)]

    async def list_devices(client: int) -> None:
        await connections[client].get("/v1/devices?size=100")

    async def next_page(client: int) -> None:
        await connections[client].get(f"/v1/devices?size=100&cursor={pages[client]['next']}")

    async def one(client: int) -> None:
        await connections[client].get(f"/v1/devices/{pages[client]['items'][7]['device_id']}")

    async def unchanged(client: int) -> None:
        await connections[client].get("/v1/devices?size=100", known=tags[client], status=304)

    async def bare(client: int) -> None:
        await pool.fetchrow(
            statement, accounts[client], 100, 0, True, None, None, None, None, None, None, None, None, None,
            SHOWN_ENTRIES, None, None,
        )  # fmt: skip

    return {
        "list": list_devices,
        "next": next_page,
        "one": one,
        "unchanged": unchanged,
        "bare": bare,
    }, pool.close


async def measure(port: int, dsn: str, key: str, options: argparse.Namespace) -> dict[str, list[Run]]:
    """All measurements, one after the other, as often as asked."""
    ask, close = await asks(port, dsn, key)
    runs: dict[str, list[Run]] = {}
    for number in range(options.runs):
        for name, what, rate in (
            ("list", "list", None), ("bare", "bare", None), ("list steady", "list", RATE),
            ("bare steady", "bare", RATE), ("next", "next", None), ("one", "one", None),
            ("unchanged", "unchanged", None),
        ):  # fmt: skip
            run = await measured(ask[what], options.seconds, rate)
            runs.setdefault(name, []).append(run)
            percentiles = f"p50 {run.ms(0.5):.1f} ms, p99 {run.ms(0.99):.1f} ms"
            print(f"{number + 1}: {name}: {run.rate:.0f}/s, {percentiles}", file=sys.stderr)
    await close()
    return runs


def figures(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Medians of the runs."""

    def p99(name: str) -> float:
        return round(statistics.median(run.ms(0.99) for run in runs[name]), 2)

    def rate(name: str) -> float:
        return round(statistics.median(run.rate for run in runs[name]), 1)

    def figure(text: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
        return {"figure": text, "value": value, "unit": unit, **more}

    def beside(text: str, name: str, peer: str) -> dict[str, Any]:
        mine, theirs = p99(name), p99(peer)
        return figure(
            text, mine, "ms", peer="the same statement by asyncpg alone", peer_value=theirs,
            ratio=round(mine / theirs, 2), aim=f"< {AIM_MS:g} ms", met=mine < AIM_MS,
        )  # fmt: skip

    return [
        beside(f"my devices, {CLIENTS} clients without a pause, p99", "list", "bare"),
        beside(f"my devices, {CLIENTS} clients, {RATE}/s in all, p99", "list steady", "bare steady"),
        figure(
            "my devices, answers a second", rate("list"), "/s",
            peer="the same statement by asyncpg alone", peer_value=rate("bare"),
            ratio=round(rate("list") / rate("bare"), 2),
        ),
        figure("the next page, p99", p99("next"), "ms"),
        figure("one device, p99", p99("one"), "ms"),
        figure("one device, answers a second", rate("one"), "/s"),
        figure("nothing has changed (304), p99", p99("unchanged"), "ms"),
    ]  # fmt: skip


def main() -> None:
    """Start a database server and the service, fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", nargs="?", help="not used: the servers of this benchmark are its own")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="latchkey-bench-"))
    passwords, (key, public_keys) = postgres.new_passwords(), new_internal_key()
    cluster = postgres.Cluster(free_port(), passwords)
    postgres.prepare(directory / "postgres", passwords[postgres.SUPERUSER])
    server = postgres.process(
        directory / "postgres", port=cluster.port, log=directory / "postgres.log", durable=False
    )
    port = free_port()
    dsn = cluster.dsn(DATABASE, "permission_projector")
    service = Process(
        "permission-projector serve", [_SERVICE, "serve"],
        env={
            "LATCHKEY_POSTGRES_DSN": dsn, "LATCHKEY_HTTP_HOST": "127.0.0.1", "LATCHKEY_HTTP_PORT": str(port),
            "LATCHKEY_INTERNAL_KEYS": public_keys, "LATCHKEY_LOG_LEVEL": "warning",
        },
        log=directory / "serve.log",
    )  # fmt: skip
    children = [(server, spawn(server))]
    try:
        wait_until(cluster.is_ready, children[0][1], server, 60)
        cluster.create(DATABASE)
        began = time.monotonic()
        asyncio.run(pg.migrate(dsn, "permission_projector"))
        asyncio.run(fill(dsn))
        print(f"a million devices after {time.monotonic() - began:.0f} s", file=sys.stderr)
        children.append((service, spawn(service)))
        wait_until(lambda: listens(children[1][1].pid, port), children[1][1], service, 60)
        runs = uvloop.run(measure(port, dsn, key, options))
    finally:
        for process, child in reversed(children):
            stop(child, process)
        shutil.rmtree(directory, ignore_errors=True)
    machine = {
        "cpus": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(), "system": platform.platform(),
    }  # fmt: skip
    print(
        json.dumps({"name": "read_api", "figures": figures(runs), "runs": options.runs, "machine": machine})
    )


if __name__ == "__main__":
    main()
