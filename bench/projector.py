"""How many share events a second the projector takes, beside what others do with the same events.

In one run, on one server and broker of its own, each in a fresh database:

- the projector as a process, with one instance and with two: history, shares, feed, offsets
- the peer, Debezium's JDBC sink, with one task and with two: history and shares, and the shares alone
  (see _peer.py for what it is spared)
- a plain FastStream handler with one upsert for each message: the rows of the shares alone
- the bare cost: history and shares written by asyncpg in batches from memory, by COPY and by unnest

The clock runs from the first rows that are visible, which do not count, until the last event of every
partition is; then all must have the same rows. Processor time is that of the same span. All figures are
medians of the runs.

    ./latchkey bench projector
    .venv/bin/python bench/projector.py --events 2000000 --runs 3 --skip plain,bare
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import _peer
import asyncpg
import uvloop
from _servers import Servers, Span, number
from _simple import bare, plain
from _topic import EVENT_ROWS, PARTITIONS, SHARE_ROWS, SNAPSHOTS, Totals, fill, fill_directories

from contracts import topics
from devstack.process import Process, run_tool
from servicekit.kafka import Admin

SEED = 1
PARTS = ("projector", "peer", "plain", "bare")
_PROJECTOR = str(Path(sys.executable).parent / "permission-projector")


async def project(servers: Servers, totals: Totals, instances: int) -> Span:
    """The projector."""
    async with servers.database(tables=False) as (name, connection):
        directory = servers.new_directory("projector")
        env = {
            "LATCHKEY_POSTGRES_DSN": servers.cluster.dsn(name, "permission_projector"),
            "LATCHKEY_KAFKA_BOOTSTRAP": servers.bootstrap,
            "LATCHKEY_LOG_LEVEL": "warning",
        }
        run_tool("permission-projector migrate", [_PROJECTOR, "migrate"], env=env)
        total = totals.events + 2 * SNAPSHOTS
        applied = "select coalesce(sum(next_offset), 0) from permissions.kafka_offset"

        async def left(connection: asyncpg.Connection) -> int:
            return total - await number(connection, applied)

        children = [
            servers.run(
                Process(
                    name="projector",
                    argv=[_PROJECTOR, "project"],
                    env=env,
                    log=directory / f"{instance}.log",
                )
            )
            for instance in range(instances)
        ]
        span = await servers.watch(
            connection, total, children, seen=lambda asked: number(asked, applied), left=left
        )
        servers.end(*children)
        await servers.check(connection, totals, "permissions", history=True)
        return span


class Taken:
    """What the runs measured, by what it was."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        self.rates: dict[str, list[float]] = {}

    def add(self, name: str, measured: Span | float) -> None:
        """Keep and show one measurement."""
        if isinstance(measured, Span):
            self.spans.setdefault(name, []).append(measured)
            self.rates.setdefault(name, []).append(measured.rate)
            more = f", processor {measured.cpu:.1f} s and database {measured.database_cpu:.1f} s a million"
            more += f", {measured.peak_mb:.0f} MB"
        else:
            self.rates.setdefault(name, []).append(measured)
            more = ""
        print(f"{name}: {self.rates[name][-1]:,.0f} events/s{more}", flush=True)

    def figures(self) -> list[dict[str, Any]]:
        """Medians, and the ratios that are aimed at."""
        medians = {name: statistics.median(rates) for name, rates in self.rates.items()}
        copied, unnested = medians.get(COPIED), medians.get(UNNESTED)
        if copied and unnested:
            medians[BARE] = max(copied, unnested)
        result: list[dict[str, Any]] = []
        for name, rate in medians.items():
            result.append({"figure": name, "value": round(rate), "unit": "events/s"})
            if name in self.spans:
                span = Span.median(self.spans[name])
                result += [
                    {"figure": f"{name}: {what}", "value": round(value, 2), "unit": unit}
                    for what, value, unit in (
                        ("processor", span.cpu, "s per million"),
                        ("database's processor", span.database_cpu, "s per million"),
                        ("memory", span.peak_mb, "MB"),
                    )
                ]
        for one, other, least in AIMS:
            if one in medians and other in medians:
                result.append(_compared(f"{one} / {other}", medians[one], medians[other], least=least))
        for one, other in CPU_AIMS:
            if one in self.spans and other in self.spans:
                cpu, peer = (Span.median(self.spans[name]).cpu for name in (one, other))
                result.append(_compared(f"processor: {one} / {other}", cpu, peer, most=0.5))
        return result


OURS, OURS_TWO = "projector, 1 instance", "projector, 2 instances"
PEER, PEER_TWO = "JDBC sink, 1 task", "JDBC sink, 2 tasks"
PEER_ROWS, PEER_ROWS_TWO = "JDBC sink without history, 1 task", "JDBC sink without history, 2 tasks"
PLAIN, BARE, COPIED, UNNESTED = "plain handler", "bare rows", "bare rows by COPY", "bare rows by unnest"
AIMS = (
    (OURS, PEER, 1.6),
    (OURS_TWO, PEER_TWO, 1.6),
    (OURS, PEER_ROWS, None),
    (OURS_TWO, PEER_ROWS_TWO, None),
    (OURS, PLAIN, 20),
    (OURS, BARE, 0.8),
    (OURS_TWO, OURS, 1.5),
)
CPU_AIMS = ((OURS, PEER), (OURS_TWO, PEER_TWO))


def _compared(
    name: str, value: float, peer: float, *, least: float | None = None, most: float | None = None
) -> dict[str, Any]:
    ratio = value / peer
    result: dict[str, Any] = {"figure": name, "value": round(ratio, 3), "unit": "ratio"}
    result |= {"peer": name.partition(" / ")[2], "peer_value": round(peer, 1), "ratio": round(ratio, 3)}
    if least is not None:
        result |= {"aim": f">= {least}", "met": ratio >= least}
    if most is not None:
        result |= {"aim": f"<= {most}", "met": ratio <= most}
    return result


async def main(count: int, runs: int, skip: set[str], servers: Servers) -> dict[str, Any]:
    """Fill the topics and measure; returns the result line."""
    load = os.getloadavg()[0]
    wanted = [(topic.name, topic.partitions, topic.config) for topic in topics.TOPICS]
    if "peer" not in skip:
        wanted += [(name, PARTITIONS, {}) for name in (SHARE_ROWS, EVENT_ROWS)]
    await Admin(servers.bootstrap).provision(wanted)
    fill_directories(servers.bootstrap)
    filled = fill(servers.bootstrap, topics.SHARE_EVENTS.name, count, SEED, with_rows="peer" not in skip)
    totals = filled.totals
    size, seconds = filled.mean_bytes, filled.seconds
    print(f"{count:,} events of {size:.0f} bytes, {totals.shares:,} shares: {seconds:.0f} s", flush=True)
    print(f"The machine's load before: {load:.1f}; above 0.5, others take part in what follows.", flush=True)
    taken = Taken()
    for run in range(runs):
        if "projector" not in skip:
            taken.add(OURS, await project(servers, totals, 1))
            taken.add(OURS_TWO, await project(servers, totals, 2))
        if "peer" not in skip:
            taken.add(PEER, await _peer.sink(servers, totals, 1, history=True))
            taken.add(PEER_TWO, await _peer.sink(servers, totals, 2, history=True))
            taken.add(PEER_ROWS, await _peer.sink(servers, totals, 1, history=False))
            taken.add(PEER_ROWS_TWO, await _peer.sink(servers, totals, 2, history=False))
        if "bare" not in skip:
            taken.add(COPIED, await bare(servers, count, SEED, by_copy=True))
            taken.add(UNNESTED, await bare(servers, count, SEED, by_copy=False))
        if "plain" not in skip:
            taken.add(PLAIN, await plain(servers, run, SEED))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {
        "name": "projector",
        "figures": taken.figures(),
        "runs": runs,
        "machine": machine,
        "events": count,
    }


def _parts(text: str) -> set[str]:
    parts = set(filter(None, text.split(",")))
    if unknown := parts - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "status", nargs="?", help="the stack's status file; this one starts servers of its own"
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--skip", type=_parts, default=set[str](), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--keep", action="store_true", help="leave the directory with the logs")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="latchkey-bench-"))
    own = Servers(place)
    try:
        own.start()
        result = uvloop.run(main(given.events, given.runs, given.skip, own))
    finally:
        own.end()
    # After an error it stays, for its logs.
    if given.keep:
        print(f"Logs: {place}")
    else:
        shutil.rmtree(place)
    print(json.dumps(result))
