"""How long a rebuild takes, and what those notice of it who read meanwhile.

One server and one broker of its own, and a live generation that the projector has filled. Readers ask as
gateways do, before the rebuild and during it; the rebuild compares and swaps. All figures are medians of the
runs, each of which rebuilds what is live then. The peer, Debezium's JDBC sink with as many tasks as the
rebuild has processes, fills empty tables from the same events (see _peer.py for what it is spared).

    ./latchkey bench rebuild
    .venv/bin/python bench/rebuild.py --events 2000000 --runs 3
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _peer
import asyncpg
import psutil
import uvloop
from _servers import Servers, number
from _topic import EVENT_ROWS, PARTITIONS, SHARE_ROWS, SNAPSHOTS, fill, fill_directories

from contracts import topics
from devstack.process import Process, run_tool
from servicekit.kafka import Admin

SEED = 1
BEFORE_SECONDS = 5.0
PAUSE_SECONDS = 0.001
READERS = 2
MEMORY_AIM_MB = 2_000
PROCESSES = 2
"""Of a rebuild, by default; and tasks of the peer."""

_PROJECTOR = str(Path(sys.executable).parent / "permission-projector")
_CHECK = "select reason from permissions_api.check_grant_v2($1, $2, 'live_view', now())"
_ASKED = (
    "select share.account_id, service.service_id"
    " from permissions.share join permissions.service using (device_id)"
    " where share.account_id is not null limit 1000"
)


class Reading:
    """Readers that note how long each answer took, in seconds, and count those that failed."""

    def __init__(self, dsn: str, asked: list[tuple[str, str]]) -> None:
        self._dsn, self._asked = dsn, asked
        self.seconds: list[float] = []
        self.failures = 0

    async def run(self) -> None:
        """Ask until cancelled."""
        connection = await asyncpg.connect(self._dsn)
        check = await connection.prepare(_CHECK)
        try:
            while True:
                for account, service in self._asked:
                    begun = time.perf_counter()
                    try:
                        await check.fetchval(account, service)
                    except asyncpg.PostgresError:
                        self.failures += 1
                    self.seconds.append(time.perf_counter() - begun)
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await connection.close()

    def taken(self) -> list[float]:
        """What was noted since the last time."""
        seconds, self.seconds = self.seconds, []
        return seconds


def p99_ms(seconds: list[float]) -> float:
    """The 99th percentile in milliseconds."""
    return sorted(seconds)[int(len(seconds) * 0.99)] * 1000


class Memory:
    """The most that a process and its children have had resident together."""

    def __init__(self, pid: int) -> None:
        self._process, self.peak_mb = psutil.Process(pid), 0.0

    async def watch(self) -> None:
        """Look until the process has ended."""
        while True:
            try:
                family = [self._process, *self._process.children(recursive=True)]
                used = sum(member.memory_info().rss for member in family)
            except psutil.NoSuchProcess:
                return
            self.peak_mb = max(self.peak_mb, used / 2**20)
            await asyncio.sleep(0.05)


async def rebuild(env: dict[str, str], reading: Reading, events: int, rate: int | None) -> dict[str, float]:
    """One rebuild: its figures by name."""
    await asyncio.sleep(BEFORE_SECONDS)
    before = reading.taken()
    begun = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        _PROJECTOR, "replay", "--json", *(["--rate", str(rate)] if rate else []),
        env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    memory = Memory(child.pid)
    watching = asyncio.create_task(memory.watch())
    phases: dict[str, float] = {}
    line: dict[str, Any] = {}
    ready: list[float] | None = None
    async for text in child.stdout:
        line = json.loads(text)
        phase = line.get("phase", "")
        phases.setdefault(phase, time.perf_counter() - begun)
        if phase == "swapping" and ready is None:
            ready = reading.taken()
    code = await child.wait()
    await watching
    await asyncio.sleep(0.5)
    swap = reading.taken()
    if code or not line["equal"]:
        raise RuntimeError(f"The rebuild ended with {code}.")
    run_tool("drop-generation", [_PROJECTOR, "drop-generation", str(line["former"])], env=env)
    assert ready is not None
    built = phases.get("catching_up", phases["comparing"])
    return {
        "events a second until it is ready": events / built,
        "seconds until it is ready": built,
        "seconds of reading": phases["watermarks"] - phases["reading"],
        "seconds of indexing": built - phases["indexing"],
        "seconds of comparing": phases["swapping"] - phases["comparing"],
        "memory": memory.peak_mb,
        "p99 of reads before": p99_ms(before),
        "p99 of reads during": p99_ms(ready),
        "slowest read at the swap": max(swap) * 1000,
        "writers wait at the swap": line["waited"] * 1000,
    }


_UNITS = {
    "events a second until it is ready": "events/s",
    "memory": "MB",
    **dict.fromkeys(
        (
            "p99 of reads before",
            "p99 of reads during",
            "slowest read at the swap",
            "writers wait at the swap",
        ),
        "ms",
    ),
}


async def main(
    events: int, runs: int, rate: int | None, servers: Servers, *, with_peer: bool
) -> dict[str, Any]:
    """Fill the topics and the live generation, and measure; returns the result line."""
    wanted = [(topic.name, topic.partitions, topic.config) for topic in topics.TOPICS]
    if with_peer:
        wanted += [(name, PARTITIONS, {}) for name in (SHARE_ROWS, EVENT_ROWS)]
    await Admin(servers.bootstrap).provision(wanted)
    fill_directories(servers.bootstrap)
    filled = fill(servers.bootstrap, topics.SHARE_EVENTS.name, events, SEED, with_rows=with_peer)
    print(f"{events:,} events of {filled.mean_bytes:.0f} bytes in {PARTITIONS} partitions", flush=True)
    async with servers.database(tables=False) as (name, connection):
        env = {
            "LATCHKEY_POSTGRES_DSN": servers.cluster.dsn(name, "permission_projector"),
            "LATCHKEY_KAFKA_BOOTSTRAP": servers.bootstrap,
            "LATCHKEY_LOG_LEVEL": "warning",
        }
        run_tool("permission-projector migrate", [_PROJECTOR, "migrate"], env=env)
        log = servers.new_directory("projector") / "project.log"
        child = servers.run(Process(name="projector", argv=[_PROJECTOR, "project"], env=env, log=log))
        applied = "select coalesce(sum(next_offset), 0) from permissions.kafka_offset"
        while await number(connection, applied) < events + 2 * SNAPSHOTS:
            if child.poll() is not None:
                raise RuntimeError(f"The projector has ended: look into {log}.")
            await asyncio.sleep(0.2)
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
        asked = [(row[0], row[1]) for row in await connection.fetch(_ASKED)]
        reading = Reading(servers.cluster.dsn(name, "access_gateway"), asked)
        readers = [asyncio.create_task(reading.run()) for _ in range(READERS)]
        taken: list[dict[str, float]] = []
        for _ in range(runs):
            taken.append(await rebuild(env, reading, events, rate))
            print(json.dumps({key: round(value, 3) for key, value in taken[-1].items()}), flush=True)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        servers.end(child)
        await servers.check(connection, filled.totals, "permissions", history=True)
    medians = {key: statistics.median(one[key] for one in taken) for key in taken[0]}
    peers: list[float] = []
    for _ in range(runs if with_peer else 0):
        span = await _peer.sink(servers, filled.totals, PROCESSES, history=True)
        peers.append(span.rate)
        print(f"the peer: {span.rate:,.0f} events/s", flush=True)
    slower = medians["p99 of reads during"] / medians["p99 of reads before"]
    figures: list[dict[str, Any]] = [
        {"figure": key, "value": round(value, 2), "unit": _UNITS.get(key, "s")}
        for key, value in medians.items()
    ]
    figures[list(medians).index("memory")] |= {
        "aim": f"<= {MEMORY_AIM_MB}",
        "met": medians["memory"] <= MEMORY_AIM_MB,
    }
    figures.append(
        {
            "figure": "p99 of reads during / before",
            "value": round(slower, 2),
            "unit": "ratio",
            "aim": "<= 2",
            "met": slower <= 2,
        }
    )
    if peers:
        ratio = medians["events a second until it is ready"] / statistics.median(peers)
        figures.append(
            {
                "figure": "events a second until it is ready / JDBC sink",
                "value": round(ratio, 2),
                "unit": "ratio",
                "peer": f"JDBC sink, {PROCESSES} tasks",
                "peer_value": round(statistics.median(peers)),
                "ratio": round(ratio, 2),
                "aim": ">= 3",
                "met": ratio >= 3,
            }
        )
    failures = reading.failures
    figures.append(
        {"figure": "reads that failed", "value": failures, "unit": "", "aim": "<= 0", "met": not failures}
    )
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"name": "rebuild", "figures": figures, "runs": runs, "machine": machine, "events": events}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "status", nargs="?", help="the stack's status file; this one starts servers of its own"
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=int, help="records a second that the rebuild may read at most")
    parser.add_argument("--no-peer", action="store_true", help="leave the peer out")
    parser.add_argument("--keep", action="store_true", help="leave the directory with the logs")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="latchkey-bench-"))
    own = Servers(place)
    try:
        own.start()
        result = uvloop.run(main(given.events, given.runs, given.rate, own, with_peer=not given.no_peer))
    finally:
        own.end()
        if not given.keep:
            shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(result))
