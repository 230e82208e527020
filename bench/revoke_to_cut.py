"""From "revoke accepted" to "socket closed", over 300 revokes one after the other, and where the time goes.

Each lap makes a share, accepts it, opens a connection through the gateway, and revokes while it is open.
The clock starts when the owner has the answer in his hand, and stops when the recipient's socket is closed.
The hops are measured beside it on the same machine's clock, from the moment the revoke was decided:

- outbox: decided → handed to the broker by the relay (the record's own time stamp)
- kafka: → received by a consumer of share.events
- projector: → the read model's notification after its commit
- gateway: → the socket is closed

The peer is the bare chain in the same run, with no decision, no state and no check: one idempotent produce
with acks=all, one consumer, one NOTIFY, one listener that aborts a socket.

Then 1,000 connections are open, with bytes on every one of them in both directions, while 100 revokes a
second end them (`_cutting.under_load`); and ten are, while something between is broken (`_cutting.faults`).

    ./latchkey bench revoke_to_cut
    ./latchkey bench revoke_to_cut --only load
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from _cutting import faults, under_load
from _load import Bench

from contracts.codec import decode
from contracts.events import ShareRevoked
from contracts.topics import SHARE_EVENTS
from devstack import postgres, seed
from devstack.client import Account, until_closed
from devstack.services import DATABASE
from devstack.state import StateDirectory
from devstack.status import Status
from servicekit.kafka import Admin, Consumer, Partition, Producer

RUNS = 300
WARM_UP = 20
AIM_P99_MS = 250
BARE_TOPIC = "bench.bare"


class Hops:
    """When each part of the chain had the newest revoke; wall clock, seconds."""

    def __init__(self) -> None:
        self.decided = self.sent = self.received = self.projected = 0.0
        self.event = asyncio.Event()
        self._notified = asyncio.Event()

    def reset(self) -> None:
        """Forget the last lap."""
        self.event.clear()
        self._notified.clear()
        self.projected = 0.0

    def on_notify(self, *_: object) -> None:
        """The projector has committed a batch."""
        self.projected = self.projected or time.time()
        self._notified.set()

    async def follow(self, bootstrap: str) -> None:
        """Watch share.events."""

        async def changed(_: set[Partition]) -> None: ...

        async with Consumer(
            bootstrap, group=f"bench-{uuid4()}", topics=[SHARE_EVENTS.name], assigned=changed, revoked=changed
        ) as consumer:
            while True:
                for records in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                    now = time.time()
                    for record in records:
                        message = decode(record.value)
                        if isinstance(message.data, ShareRevoked):
                            self.decided, self.sent = message.time.timestamp(), record.timestamp_ms / 1000
                            self.received = now
                            self.event.set()


async def lap(ann: Account, bob: Account, hops: Hops) -> dict[str, float]:
    """One share from invitation to cut; seconds."""
    await ann.share(seed.WORKSHOP_PC, seed.RECIPIENT_EMAIL, notify=False)
    bob.position = ann.position
    await bob.accept(seed.WORKSHOP_PC)
    way = await bob.connect(seed.ECHO)
    reader, writer = await asyncio.open_connection(way["host"], way["port"])
    writer.write(b"x")
    await reader.readexactly(1)

    closed = asyncio.create_task(until_closed(reader))
    hops.reset()
    await ann.share(seed.WORKSHOP_PC, seed.RECIPIENT_EMAIL, action="REMOVE")
    accepted = time.time()
    cut = await asyncio.wait_for(closed, 20)
    await asyncio.wait_for(hops.event.wait(), 20)
    writer.close()
    projected = min(hops.projected or cut, cut)
    return {
        "revoke_to_cut": cut - accepted,
        "decided_to_cut": cut - hops.decided,
        "outbox": hops.sent - hops.decided,
        "kafka": hops.received - hops.sent,
        "projector": projected - hops.received,
        "gateway": cut - projected,
    }


class Bare:
    """The bare chain: produce, consume, NOTIFY, listen, abort."""

    def __init__(self, bootstrap: str, dsn: str) -> None:
        self._bootstrap, self._dsn = bootstrap, dsn
        self._open: list[asyncio.StreamWriter] = []

    async def run(self, laps: int) -> list[float]:
        """Seconds from the produce to the closed socket, for each lap."""
        with contextlib.suppress(Exception):  # another run has made it
            await Admin(self._bootstrap).provision([(BARE_TOPIC, 1, {})])
        notifier, listener = await asyncpg.connect(self._dsn), await asyncpg.connect(self._dsn)
        await listener.add_listener("bench_bare", self._abort)
        server = await asyncio.start_server(lambda _, writer: self._open.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pump = asyncio.create_task(self._pump(notifier))
        taken: list[float] = []
        try:
            async with Producer(self._bootstrap, "bench-bare") as producer:
                while len(taken) < laps:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    closed = asyncio.create_task(until_closed(reader))
                    begun = time.time()
                    await producer.send(BARE_TOPIC, "k", b"x" * 450)
                    taken.append(await asyncio.wait_for(closed, 20) - begun)
                    writer.close()
        finally:
            pump.cancel()
            server.close()
            await listener.close()
            await notifier.close()
        return taken

    def _abort(self, *_: object) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _pump(self, notifier: Any) -> None:
        async def changed(_: set[Partition]) -> None: ...

        async with Consumer(
            self._bootstrap, group=f"bench-{uuid4()}", topics=[BARE_TOPIC], assigned=changed, revoked=changed
        ) as consumer:
            while True:
                if await consumer.getmany(timeout_ms=1000, max_records=100):
                    await notifier.execute("notify bench_bare")


def p(values: list[float], share: float) -> float:
    """A percentile in milliseconds."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)


async def one_by_one(status: Status) -> list[dict[str, Any]]:
    """Run the laps and the bare chain."""
    secrets = StateDirectory(status.state).load_secrets()
    bootstrap = status.addresses["kafka"]
    dsn = postgres.Cluster(int(status.addresses["postgres"].rpartition(":")[2]), secrets.postgres).dsn(
        DATABASE
    )
    hops = Hops()
    listener = await asyncpg.connect(dsn)
    await listener.add_listener("permissions_changed", hops.on_notify)
    follower = asyncio.create_task(hops.follow(bootstrap))
    laps: list[dict[str, float]] = []
    async with httpx.AsyncClient(base_url=status.url("portal"), timeout=20) as http:
        ann = Account(http, await status.token(seed.OWNER_EMAIL))
        bob = Account(http, await status.token(seed.RECIPIENT_EMAIL))
        for number in itertools.count(1 - WARM_UP):
            measured = await lap(ann, bob, hops)
            if number > 0:
                laps.append(measured)
            if number % 50 == 0:
                print(f"{max(number, 0)} of {RUNS} revokes", flush=True)
            if number == RUNS:
                break
    follower.cancel()
    await listener.close()
    bare = (await Bare(bootstrap, dsn).run(RUNS + WARM_UP))[WARM_UP:]
    columns = {name: [item[name] for item in laps] for name in laps[0]}
    figures: list[dict[str, Any]] = []
    for name, values in columns.items():
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            figure: dict[str, Any] = {"figure": f"{name} {label}", "value": p(values, share), "unit": "ms"}
            if name == "decided_to_cut":
                peer = p(bare, share)
                figure |= {
                    "peer": "bare chain",
                    "peer_value": peer,
                    "ratio": round(figure["value"] / peer, 2),
                }
            if name == "revoke_to_cut" and label == "p99":
                figure |= {"aim": f"< {AIM_P99_MS}", "met": figure["value"] < AIM_P99_MS}
            figures.append(figure)
    worst = round(max(columns["revoke_to_cut"]) * 1000, 2)
    figures.append({"figure": "revoke_to_cut max", "value": worst, "unit": "ms"})
    figures.append(
        {
            "figure": "revoke_to_cut mean",
            "value": round(statistics.fmean(columns["revoke_to_cut"]) * 1000, 2),
            "unit": "ms",
        }
    )
    return figures


async def main(status: Status, only: str | None) -> dict[str, Any]:
    """All parts, or one of them; returns the result line."""
    figures: list[dict[str, Any]] = []
    if only in {None, "one-by-one"}:
        figures += await one_by_one(status)
    if only in {None, "load"}:
        figures += await under_load(Bench(status))
    if only in {None, "faults"}:
        figures += await faults(Bench(status))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"name": "revoke_to_cut", "figures": figures, "runs": RUNS, "machine": machine}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", type=Path, help="what the stack says of itself")
    parser.add_argument("--only", choices=["one-by-one", "load", "faults"])
    options = parser.parse_args()
    result = asyncio.run(main(Status.model_validate_json(options.status.read_text()), options.only))
    print(json.dumps(result))
