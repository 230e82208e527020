"""How quickly a gateway decides when the database has a million grants.

A thousand owners share 500,000 devices with two of 10,000 recipients each: a million shares. In each run, one
after the other, on the same database:

- the gateway from memory (`Decider.check_now`: what is granted, the verdict, positions and freshness; not the
  log line) for devices that are in memory, each check with its own reading of the clock, then without
- the gateway with what is not in memory, one question after the other
- the peer: `check_grant_v2` by a prepared asyncpg statement on a connection of its own, one after the other
- memory: how much a process grows when five times more is asked for than GRANTS_IN_MEMORY

    ./latchkey bench check
    .venv/bin/python bench/check.py --peer openfga      (on PATH; it gets a tenth of the shares, in memory)
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import uvloop

from access_gateway.decisions import Decider
from access_gateway.grants import GrantStore
from access_gateway.policy import AccessRequest, Allowed
from contracts.permissions import Permission
from devstack import postgres
from devstack.process import Process, free_port, listens, spawn, stop, wait_until
from permission_projector.generation import create_indexes, create_tables
from servicekit import pg

DATABASE = "bench_check"
DEVICES, OWNERS, GUESTS = 500_000, 1_000, 10_000
CAPACITY = 200_000
WARM = 20_000
"""Devices of the working set: they fit."""
ASKED = 4 * CAPACITY // 5
"""Devices asked for to see that memory is bounded. Each is six grants (itself, its service, that it was asked
for, two shares, an access), so these are almost five times as many as may be kept."""
CHECKS = 200_000
SLOW_CHECKS = 5_000
FGA_TUPLES = 100_000
AIM_RATIO, AIM_RATE = 0.05, 200_000

_FILL = """
insert into device (device_id, partition, owner_account_id, name, kind, created_at)
select 'device-' || n, n % 24, 'owner-' || n % 1000, 'Camera ' || n, 'camera', now()
from generate_series(0, 499999) as n;

insert into service (
    device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions
)
select 'device-' || n, 'device-' || n || ':ssh', 0, 'SSH', 'tcp', null, '127.0.0.1', 22, array['connect']
from generate_series(0, 499999) as n;

insert into share (
    device_id, share_id, contact_id, owner_account_id, state, account_id, terms, invitation_version,
    requested_at, since, version
)
select
    'device-' || n, gen_random_uuid(), gen_random_uuid(), 'owner-' || n % 1000, 'active',
    'guest-' || (n * 2 + place) % 10000,
    '{"scope": {"kind": "all", "permissions": "all"}, "scripting": false}', 1, now(), now(), 1 + place
from generate_series(0, 499999) as n cross join generate_series(0, 1) as place;

insert into share_event (
    device_id, version, event_id, share_id, kind, at, state, account_id, owner_account_id, contact_id
)
select
    device_id, version, gen_random_uuid(), share_id, 'ShareAccepted', now(), 'active', account_id,
    owner_account_id, contact_id
from share;

insert into watermark values (
    1, now(), 'e', 'e', array_fill(0::bigint, array[24]), 'd', 'd', array_fill(0::bigint, array[24])
);
"""
_PEER = "select * from permissions_api.check_grant_v2($1, $2, 'connect', now())"


@dataclass
class Run:
    """One run. Times of single checks in microseconds, sorted; rates a second."""

    memory: list[float]
    rate: float
    read: list[float]
    peer: list[float]


def request(device: int) -> AccessRequest:
    """Of one of a device's recipients."""
    guest = (device * 2 + device // 7 % 2) % GUESTS
    return AccessRequest(f"guest-{guest}", f"device-{device}:ssh", Permission.CONNECT)


def timed(decider: Decider, requests: Sequence[AccessRequest]) -> list[float]:
    """Microseconds of each check from memory, sorted."""
    taken: list[float] = []
    for item in requests:
        began = time.perf_counter_ns()
        answer = decider.check_now(item)
        taken.append((time.perf_counter_ns() - began) / 1000)
        assert isinstance(answer, Allowed)
    return sorted(taken)


def rate(decider: Decider, requests: Sequence[AccessRequest]) -> float:
    """Checks from memory a second, on one core."""
    check = decider.check_now
    began = time.perf_counter()
    for item in requests:
        check(item)
    return len(requests) / (time.perf_counter() - began)


async def reading(store: GrantStore, decider: Decider, requests: Sequence[AccessRequest]) -> list[float]:
    """Microseconds of each check of what is not in memory, sorted."""
    taken: list[float] = []
    for item in requests:
        began = time.perf_counter_ns()
        answer = decider.check_now(item)
        if answer is None:
            await store.read([item.service_id])
            answer = decider.check_now(item)
        taken.append((time.perf_counter_ns() - began) / 1000)
        assert isinstance(answer, Allowed)
    return sorted(taken)


async def prepared(dsn: str, requests: Sequence[AccessRequest]) -> list[float]:
    """Microseconds of each check by the prepared statement, sorted."""
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    question = await connection.prepare(_PEER)
    taken: list[float] = []
    for item in requests:
        began = time.perf_counter_ns()
        row = await question.fetchrow(item.account_id, item.service_id)
        taken.append((time.perf_counter_ns() - began) / 1000)
        assert row is not None
        assert row["allowed"]
    await connection.close()
    return sorted(taken)


@contextlib.asynccontextmanager
async def following(dsn: str) -> AsyncGenerator[tuple[GrantStore, Decider]]:
    """A store that follows its feed, and a decider on it."""
    store = GrantStore(dsn, capacity=CAPACITY)

    async def changed(_: object) -> None: ...

    watching = asyncio.create_task(store.watch(changed))
    async with asyncio.timeout(30):
        while store.freshness.newest(time.monotonic()) is None:  # noqa: ASYNC110 - the first poll
            await asyncio.sleep(0.01)
    try:
        yield store, Decider(store, max_staleness=3_600)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        store.close()


async def warm(store: GrantStore, decider: Decider, devices: range) -> None:
    """Ask once for each of these devices."""
    for start in range(devices.start, devices.stop, 1000):
        part = range(start, min(start + 1000, devices.stop))
        await store.read(f"device-{device}:ssh" for device in part)
        for device in part:
            decider.check_now(request(device))


async def measure(dsn: str, runs: int) -> tuple[list[Run], dict[str, float]]:
    """All runs, and what memory took."""
    process, chosen = psutil.Process(), random.Random(1)
    async with following(dsn) as (store, decider):
        gc.collect()
        before = process.memory_info().rss
        await warm(store, decider, range(DEVICES - ASKED, DEVICES))
        gc.collect()
        grown = {
            "grants": float(store.grants_in_memory),
            "bytes": float(process.memory_info().rss - before),
        }
        done: list[Run] = []
        for number in range(runs):
            await warm(store, decider, range(WARM))
            hot = [request(chosen.randrange(WARM)) for _ in range(CHECKS)]
            cold = [request(chosen.randrange(WARM, DEVICES)) for _ in range(SLOW_CHECKS)]
            done.append(
                Run(
                    timed(decider, hot),
                    rate(decider, hot),
                    await reading(store, decider, cold),
                    await prepared(dsn, hot[:SLOW_CHECKS]),
                )
            )
            print(f"run {number + 1}: {done[-1].rate:.0f} checks/s", file=sys.stderr)
    return done, grown


async def openfga(address: str) -> list[float]:
    """Microseconds of each Check over HTTP, sorted; its tuples are in its memory, without a cache."""
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as http:
        made = (await http.post("/stores", json={"name": "bench"})).json()["id"]
        direct: dict[str, Any] = {"this": {}}
        model: dict[str, Any] = {
            "schema_version": "1.1",
            "type_definitions": [
                {"type": "user"},
                {"type": "service", "relations": {"connect": direct}, "metadata": {
                    "relations": {"connect": {"directly_related_user_types": [{"type": "user"}]}}
                }},
            ],
        }  # fmt: skip
        (await http.post(f"/stores/{made}/authorization-models", json=model)).raise_for_status()

        def key(device: int) -> dict[str, str]:
            item = request(device)
            return {"user": f"user:{item.account_id}", "relation": "connect",
                    "object": f"service:{item.service_id.replace(':', '-')}"}  # fmt: skip

        for start in range(0, FGA_TUPLES, 100):
            body: dict[str, Any] = {
                "writes": {"tuple_keys": [key(device) for device in range(start, start + 100)]}
            }
            (await http.post(f"/stores/{made}/write", json=body)).raise_for_status()
        taken: list[float] = []
        for _ in range(SLOW_CHECKS):
            body = {"tuple_key": key(random.randrange(FGA_TUPLES))}
            began = time.perf_counter_ns()
            answer = await http.post(f"/stores/{made}/check", json=body)
            taken.append((time.perf_counter_ns() - began) / 1000)
            assert answer.json()["allowed"]
        return sorted(taken)


def run_openfga(directory: Path) -> list[float]:
    """Start it, ask it, stop it."""
    port = free_port()
    server = Process(
        "openfga",
        [shutil.which("openfga") or "openfga", "run", "--http-addr", f"127.0.0.1:{port}",
         "--grpc-addr", f"127.0.0.1:{free_port()}", "--playground-enabled=false", "--metrics-enabled=false",
         "--log-level", "none", "--max-tuples-per-write", "100"],
        env={},
        log=directory / "openfga.log",
    )  # fmt: skip
    child = spawn(server)
    try:
        wait_until(lambda: listens(child.pid, port), child, server, 30)
        return uvloop.run(openfga(f"127.0.0.1:{port}"))
    finally:
        stop(child, server)


async def fill(cluster: postgres.Cluster) -> None:
    """A generation with the million grants."""
    dsn = cluster.dsn(DATABASE, "permission_projector")
    await pg.migrate(dsn, "permission_projector")
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await create_tables(connection, "permissions", 1)
            await connection.execute(_FILL)
            await create_indexes(connection, "permissions")
        await connection.execute("analyze")
    finally:
        await connection.close()


def at(ordered: list[float], share: float) -> float:
    """A percentile."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def figures(runs: list[Run], grown: dict[str, float], fga: list[float] | None) -> list[dict[str, Any]]:
    """The medians of all runs."""

    def median(name: str, share: float) -> float:
        return round(statistics.median(at(getattr(run, name), share) for run in runs), 2)

    lines: list[dict[str, Any]] = []
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        value, peer = median("memory", share), median("peer", share)
        line: dict[str, Any] = {
            "figure": f"check from memory {label}", "value": value, "unit": "us",
            "peer": "prepared check_grant_v2", "peer_value": peer, "ratio": round(value / peer, 4),
        }  # fmt: skip
        if label == "p99":
            line |= {"aim": f"<= {AIM_RATIO} of the peer", "met": value <= AIM_RATIO * peer}
        value = median("read", share)
        lines += [line, {
            "figure": f"check of what is not in memory {label}", "value": value, "unit": "us",
            "peer": "prepared check_grant_v2", "peer_value": peer, "ratio": round(value / peer, 2),
        }]  # fmt: skip
        if fga is not None:
            value, peer = median("memory", share), round(at(fga, share), 2)
            lines.append({"figure": f"check from memory {label}", "value": value, "unit": "us",
                          "peer": "OpenFGA, in memory", "peer_value": peer,
                          "ratio": round(value / peer, 4)})  # fmt: skip
    checks = round(statistics.median(run.rate for run in runs))
    grants, taken = int(grown["grants"]), grown["bytes"]
    lines += [
        {"figure": "checks from memory, one core", "value": checks, "unit": "/s",
         "aim": f">= {AIM_RATE}", "met": checks >= AIM_RATE},
        {"figure": f"grants in memory, of {CAPACITY} allowed, after asking for {6 * ASKED}",
         "value": grants, "unit": "grants", "aim": f"<= {CAPACITY}", "met": grants <= CAPACITY},
        {"figure": "memory for a grant", "value": round(taken / grants), "unit": "bytes"},
        {"figure": "memory of all grants", "value": round(taken / 2**20, 1), "unit": "MB"},
    ]  # fmt: skip
    return lines


def main() -> None:
    """Start a database server, fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", nargs="?", help="not used: the server of this benchmark is its own")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", choices=["openfga"], help="measure this one too, if it is on PATH")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="latchkey-bench-"))
    passwords = postgres.new_passwords()
    cluster = postgres.Cluster(free_port(), passwords)
    postgres.prepare(directory / "postgres", passwords[postgres.SUPERUSER])
    server = postgres.process(
        directory / "postgres", port=cluster.port, log=directory / "postgres.log", durable=False
    )
    child = spawn(server)
    fga: list[float] | None = None
    try:
        wait_until(cluster.is_ready, child, server, 60)
        cluster.create(DATABASE)
        began = time.monotonic()
        asyncio.run(fill(cluster))
        print(f"a million grants after {time.monotonic() - began:.0f} s", file=sys.stderr)
        runs, grown = uvloop.run(measure(cluster.dsn(DATABASE, "access_gateway"), options.runs))
        if options.peer == "openfga":
            if shutil.which("openfga"):
                fga = run_openfga(directory)
            else:
                print("openfga is not on PATH: measured without it", file=sys.stderr)
    finally:
        stop(child, server)
        shutil.rmtree(directory, ignore_errors=True)
    machine = {
        "cpus": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(), "system": platform.platform(),
    }  # fmt: skip
    print(
        json.dumps(
            {"name": "check", "figures": figures(runs, grown, fga), "runs": options.runs, "machine": machine}
        )
    )


if __name__ == "__main__":
    main()
