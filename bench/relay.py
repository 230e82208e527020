"""What the gateway's relay costs, against HAProxy, which checks nothing, and a direct connection.

All in one run, one after the other in each round, medians over the rounds. The relay has one core, the load
(clients and services in one C program, _relay_load.c) the other; database and broker share both. The gateway
is a whole one: grants from Postgres, events to Kafka, logs. The peer is, figure by figure, the better of
two HAProxy configurations: forced splice with pipes of 1 MiB, and buffers of 256 KiB.

- throughput: download over 1 and over 8 connections, and processor seconds of the relay for a gigabyte
- connections: connect, 64 bytes there and back, close, 32 at a time; and one at a time for the latency
- tls: download by TLS 1.3 (the gateway's pump alone)
- cameras: processor for 100 streams of 4 Mbit/s
- idle: memory for each of 2,000 open connections
- files: after 100,000 connections as many files are open as before (not part of the default run)

    ./latchkey bench relay
    .venv/bin/python bench/relay.py --only throughput --runs 7 --nobody
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from _relay_peers import BUFFER, SPLICE, Load, Missing, cpu, gateway, haproxy, read_tls, resident, tls_relay
from _servers import Servers

from devstack.certificates import files, make

PARTS = ("throughput", "connections", "tls", "cameras", "idle")
EXTRA = ("files",)
OURS, DIRECT = "gateway", "direct"
SECONDS = 2.0
WARM_SECONDS = 0.3
IDLE, CAMERAS, MANY = 2_000, 100, 100_000
PICTURE_SECONDS = 4.0

# figure: unit, whether more is better, aim, whether the aim is a ratio to the peer
AIMS: dict[str, tuple[str, bool, float | None, bool]] = {
    "throughput, 1 connection": ("GB/s", True, 0.95, True),
    "throughput, 8 connections": ("GB/s", True, 0.95, True),
    "processor per GB, 1 connection": ("s", False, 1.1, True),
    "processor per GB, 8 connections": ("s", False, 1.1, True),
    "connections": ("1/s", True, 0.8, True),
    "processor per connection": ("µs", False, 1.25, True),
    "first byte p50": ("µs", False, None, True),
    "first byte p99": ("µs", False, None, True),
    "TLS throughput": ("GB/s", True, 1.0, True),
    "TLS processor per GB": ("s", False, None, True),
    "processor for 100 cameras": ("%", False, None, True),
    "memory per idle connection": ("B", False, 3400.0, False),
}
ADDED_US = 60.0


class Taken:
    """Figures by what was measured, each once a round."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, who: str, figure: str, value: float) -> None:
        """One more."""
        self._values[who, figure].append(value)

    def median(self, who: str, figure: str) -> float | None:
        """None when it was not measured."""
        values = self._values.get((who, figure))
        return statistics.median(values) if values else None

    def figures(self) -> list[dict[str, Any]]:
        """Ours beside the better peer's, and a direct connection's."""
        result: list[dict[str, Any]] = []
        for name, (unit, more, aim, relative) in AIMS.items():
            ours = self.median(OURS, name)
            if ours is None:
                continue
            figure: dict[str, Any] = {"figure": name, "value": round(ours, 4), "unit": unit}
            peers = {who: value for who in (SPLICE, BUFFER) if (value := self.median(who, name)) is not None}
            if peers:
                best = (max if more else min)(peers, key=lambda who: peers[who])
                figure |= {"peer": best, "peer_value": round(peers[best], 4)}
                figure["ratio"] = round(ours / peers[best], 3)
            measured = figure.get("ratio") if relative else ours
            if aim is not None and measured is not None:
                figure |= {
                    "aim": f"{'≥' if more else '≤'} {aim}",
                    "met": measured >= aim if more else measured <= aim,
                }
            if name.startswith("first byte") and peers:
                added = ours - figure["peer_value"]
                figure |= {"aim": f"≤ +{ADDED_US:.0f} µs", "met": added <= ADDED_US}
            result.append(figure)
            if (direct := self.median(DIRECT, name)) is not None:
                result.append({"figure": f"{name}, direct", "value": round(direct, 4), "unit": unit})
        return result


class Relays:
    """Those that are compared: process id (None: there is none) and ports."""

    def __init__(self, load: Load, taken: Taken) -> None:
        self.load, self.taken = load, taken
        self.all: dict[str, tuple[int | None, dict[str, int]]] = {DIRECT: (None, load.ports)}

    def _cpu(self, pid: int | None) -> float:
        return 0.0 if pid is None else cpu(pid)

    def throughput(self, who: str) -> None:
        """Download."""
        pid, ports = self.all[who]
        for width, words in ((1, "1 connection"), (8, "8 connections")):
            before, begun = self._cpu(pid), time.monotonic()
            got = self.load("get", ports["source"], width, SECONDS)
            used, took = self._cpu(pid) - before, time.monotonic() - begun
            rate = got["bytes"] / got["seconds"] / 1e9
            self.taken.add(who, f"throughput, {words}", rate)
            if pid is not None:
                self.taken.add(who, f"processor per GB, {words}", used / (rate * took))

    def connections(self, who: str) -> None:
        """Short connections."""
        pid, ports = self.all[who]
        before = self._cpu(pid)
        got = self.load("conns", ports["echo"], 32, SECONDS)
        time.sleep(0.5)  # events and logs that are still to be written belong to them
        used = self._cpu(pid) - before
        if got["failed"]:
            raise RuntimeError(f"{who}: {got['failed']:.0f} connections failed")
        self.taken.add(who, "connections", got["count"] / got["seconds"])
        if pid is not None:
            self.taken.add(who, "processor per connection", used / got["count"] * 1e6)
        got = self.load("conns", ports["echo"], 1, SECONDS / 2)
        self.taken.add(who, "first byte p50", got["p50_us"])
        self.taken.add(who, "first byte p99", got["p99_us"])

    def cameras(self, who: str) -> None:
        """Many slow streams."""
        pid, ports = self.all[who]
        before, begun = self._cpu(pid), time.monotonic()
        got = self.load("cameras", ports["camera"], CAMERAS, PICTURE_SECONDS)
        used, took = self._cpu(pid) - before, time.monotonic() - begun
        if got["bytes"] * 8 / got["seconds"] < CAMERAS * 3.9e6:
            raise RuntimeError(f"{who}: pictures were lost")
        if pid is not None:
            self.taken.add(who, "processor for 100 cameras", used / took * 100)

    def idle(self, who: str) -> None:
        """Open connections. What a process has had it does not give back: only the first time counts."""
        pid, ports = self.all[who]
        if pid is None:
            return
        before = resident(pid)
        got = self.load("hold", ports["echo"], IDLE)
        if got["failed"] or got["count"] != IDLE:
            raise RuntimeError(f"{who}: not all connections could be held: {got}")
        if self.taken.median(who, "memory per idle connection") is None:
            self.taken.add(who, "memory per idle connection", (resident(pid) - before) / IDLE)
        self.load("drop")

    def files(self, who: str) -> None:
        """No file is left open."""
        pid, ports = self.all[who]
        if who != OURS or pid is None:
            return
        place, done = Path(f"/proc/{pid}/fd"), 0
        self.load("conns", ports["echo"], 32, 0.5)
        before = len(list(place.iterdir()))
        while done < MANY:
            got = self.load("conns", ports["echo"], 32, 5.0)
            done += int(got["count"])
        time.sleep(1.0)
        after = len(list(place.iterdir()))
        print(f"{done:,} connections: {before} files open before, {after} after", flush=True)
        if after > before:
            raise RuntimeError(f"{after - before} files are left open")


def tls(load: Load, taken: Taken, runs: int, directory: Path) -> None:
    """Download over TLS."""
    make(directory / "tls")
    made = files(directory / "tls")
    both = directory / "both.pem"
    both.write_text(made.certificate.read_text() + made.key.read_text())
    target = {"source": load.ports["source"]}
    children: dict[str, tuple[subprocess.Popen[bytes], int]] = {OURS: tls_relay(target["source"], both)}
    try:
        for name in (SPLICE, BUFFER):
            child, ports = haproxy(name, target, directory, both)
            children[name] = child, ports["source"]
        for _ in range(runs):
            for who, (child, port) in children.items():
                before = cpu(child.pid)
                got = read_tls(port, SECONDS)
                used = cpu(child.pid) - before
                rate = got["bytes"] / got["seconds"] / 1e9
                taken.add(who, "TLS throughput", rate)
                taken.add(who, "TLS processor per GB", used / (rate * (got["seconds"] + got["warm_seconds"])))
    finally:
        for child, _ in children.values():
            child.terminate()
            child.wait()


async def compare(
    load: Load, taken: Taken, parts: list[str], given: argparse.Namespace, servers: Servers
) -> None:
    """All but TLS."""
    relays = Relays(load, taken)
    children: list[subprocess.Popen[bytes]] = []
    try:
        async with gateway(servers, load.ports, nobody=given.nobody) as (pid, ports):
            relays.all[OURS] = pid, ports
            for name in (SPLICE, BUFFER):
                child, its_ports = haproxy(name, load.ports, servers.directory)
                children.append(child)
                relays.all[name] = child.pid, its_ports
            for _ in range(given.runs):
                for part in parts:
                    measure: Callable[[str], None] = getattr(relays, part)
                    for who in relays.all:
                        await asyncio.to_thread(measure, who)
    finally:
        for child in children:
            child.terminate()
            child.wait()


def main(given: argparse.Namespace) -> dict[str, Any]:
    """Measure; the result line."""
    parts = given.only or list(PARTS)
    directory = Path(tempfile.mkdtemp(prefix="latchkey-bench-"))
    taken = Taken()
    load = Load(directory)
    servers = Servers(directory)
    try:
        if "tls" in parts:
            tls(load, taken, given.runs, directory)
        if rest := [part for part in parts if part != "tls"]:
            try:
                servers.start()
                uvloop.run(compare(load, taken, rest, given, servers))
            finally:
                servers.end()
    finally:
        load.end()
    shutil.rmtree(directory)
    user = "unprivileged" if given.nobody else "as started"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {user}"
    return {"name": "relay", "figures": taken.figures(), "runs": given.runs, "machine": machine}


def _parts(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := set(wanted) - {*PARTS, *EXTRA}:
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS + EXTRA)}"
        )
    return wanted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "status", nargs="?", help="the stack's status file; this one starts servers of its own"
    )
    parser.add_argument("--only", type=_parts, help=f"some of {','.join(PARTS + EXTRA)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nobody", action="store_true", help="the gateway as an unprivileged user")
    try:
        print(json.dumps(main(parser.parse_args())))
    except Missing as error:
        raise SystemExit(str(error)) from None
