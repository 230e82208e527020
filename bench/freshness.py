"""How soon what a command decided is visible, at 10, 100 and 1,000 events a second.

Owners send RequestShare by HTTP at a steady rate, whether the last one is answered or not (at the highest
rate each command names ten recipients, which is ten events). From when the sender has the answer:

- visible: a reader that waits for the projector's notification sees the change in the feed, and so the row
- sse: the owner's open `GET /v1/changes` has told of the device, up to that change or further

Peer: what a commit costs a reader of the same database: a row and a NOTIFY, between two bare connections.

    ./latchkey bench freshness
"""

import asyncio
import itertools
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from _load import Bench, Client, Http

from devstack.status import Status

RATES = ((10, 1), (100, 1), (100, 10))
"""Commands a second, and recipients of each: every recipient is an event."""

SECONDS = 20.0
WARM_UP_SECONDS = 2.0
AIMS_MS = {"visible": 15.0, "sse": 30.0}
CONNECTIONS = 32
BARE_LAPS = 500


Place = tuple[int, int]
"""In the change feed: generation and change."""


class Watched:
    """What became of the commands that were sent; seconds on the clock of `time.perf_counter`."""

    def __init__(self) -> None:
        self.accepted: dict[str, float] = {}
        self.visible: dict[str, float] = {}
        self.devices: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self.tellings: dict[str, list[tuple[Place, float]]] = {}
        """By device: how far its owner was told, and when."""

    def told(self) -> dict[str, float]:
        """When each command's owner was told of its change."""
        seen: dict[str, float] = {}
        for key, place in self.places.items():
            of_device = self.tellings.get(self.devices.get(key, ""), [])
            first = next((at for told, at in of_device if told >= place), None)
            if first is not None:
                seen[key] = first
        return seen

    def delays(self, seen: dict[str, float], since: float) -> list[float]:
        """Milliseconds from each answer after ``since`` until it was ``seen``; before the answer is 0."""
        return sorted(
            max(0.0, seen[key] - at) * 1000 for key, at in self.accepted.items() if at > since and key in seen
        )


async def read_feed(dsn: str, watched: Watched, ready: asyncio.Event) -> None:
    """Note when each command's change is in the feed."""
    connection = await asyncpg.connect(dsn)
    news = asyncio.Event()

    def hear(*_: object) -> None:
        news.set()

    await connection.add_listener("permissions_changed", hear)
    question = await connection.prepare(
        "select generation, id, correlation_id from permissions_api.changes_v1($1, $2, 10000)"
    )
    row = await question.fetchrow(0, 0)
    assert row is not None
    cursor: tuple[int, int] = (row["generation"], row["id"])
    ready.set()
    while True:
        await news.wait()
        news.clear()
        for row in await question.fetch(*cursor):
            cursor = (row["generation"], row["id"])
            watched.visible.setdefault(row["correlation_id"], time.perf_counter())
            watched.places.setdefault(row["correlation_id"], cursor)


async def read_stream(bench: Bench, client: Client, watched: Watched, ready: asyncio.Event) -> None:
    """Note when an owner is told of his device, and up to which change."""
    token = bench.internal(client.account, audience="permission-projector")
    async with (
        httpx.AsyncClient(base_url=bench.status.url("permission-reader"), timeout=None) as http,
        http.stream("GET", "/v1/changes", headers={"Authorization": f"Bearer {token}"}) as answer,
    ):
        answer.raise_for_status()
        ready.set()
        event: list[str] = []
        async for line in answer.aiter_lines():
            if line:
                event.append(line)
                continue
            place = next((text.removeprefix("id:").strip() for text in event if text.startswith("id:")), "")
            if place and any(text.startswith("data:") and client.device in text for text in event):
                generation, _, change = place.partition("-")
                told = watched.tellings.setdefault(client.device, [])
                told.append(((int(generation), int(change)), time.perf_counter()))
            event.clear()


async def load(bench: Bench, watched: Watched, rate: int, recipients: int, scripting: set[str]) -> None:
    """Send at a steady rate. ``scripting``: the devices that have it, so that each command is a change."""
    free: asyncio.Queue[Http] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Http.open(bench.status.addresses["share-command"]))
    addresses = [f"r{number}-{bench.run}@bench.test" for number in range(100, 100 + recipients)]

    async def send(client: Client) -> None:
        connection = await free.get()
        key = uuid4().hex
        watched.devices[key] = client.device
        scripting.symmetric_difference_update({client.device})
        body = {"command_id": key, "device_ids": [client.device], "recipients": addresses,
                "scripting": client.device in scripting, "notify": False}  # fmt: skip
        token = bench.internal(client.account)
        await connection.post("/v1/commands/RequestShare", token, body, correlation_id=key)
        watched.accepted[key] = time.perf_counter()
        free.put_nowait(connection)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due = begin + number / rate
            if due > begin + WARM_UP_SECONDS + SECONDS:
                break
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(send(bench.clients[number % len(bench.clients)]))
    while not free.empty():
        free.get_nowait().close()


async def bare(dsn: str) -> list[float]:
    """Milliseconds from a commit's acknowledgement until another connection has read its row."""
    writer, reader = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await writer.execute("drop table if exists public.bench_bare; create table public.bench_bare (id bigint)")
    news = asyncio.Event()

    def hear(*_: object) -> None:
        news.set()

    await reader.add_listener("bench_bare", hear)
    taken: list[float] = []
    for number in range(BARE_LAPS):
        news.clear()
        async with writer.transaction():
            await writer.execute("insert into public.bench_bare values ($1)", number)
            await writer.execute("notify bench_bare")
        committed = time.perf_counter()
        await news.wait()
        assert await reader.fetchval("select max(id) from public.bench_bare") == number
        taken.append((time.perf_counter() - committed) * 1000)
    await writer.execute("drop table public.bench_bare")
    await writer.close()
    await reader.close()
    return sorted(taken)


def _percentile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


async def main(status: Status) -> dict[str, Any]:
    """Measure at each rate; returns the result line."""
    bench = Bench(status)
    await bench.provision()
    peers = await bare(bench.dsn)
    figures: list[dict[str, Any]] = []
    scripting = set[str]()
    for rate, recipients in RATES:
        watched = Watched()
        ready = [asyncio.Event() for _ in range(len(bench.clients) + 1)]
        readers = [asyncio.create_task(read_feed(bench.dsn, watched, ready[0]))]
        readers += [
            asyncio.create_task(read_stream(bench, client, watched, event))
            for client, event in zip(bench.clients, ready[1:], strict=True)
        ]
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*(event.wait() for event in ready))
            begun = time.perf_counter()
            await load(bench, watched, rate, recipients, scripting)
            await bench.settled()
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        sent = len(watched.accepted)
        events = rate * recipients
        told = watched.told()
        for name, seen in (("visible", watched.visible), ("sse", told)):
            ordered = watched.delays(seen, begun + WARM_UP_SECONDS)
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                value, peer = _percentile(ordered, share), _percentile(peers, share)
                figure: dict[str, Any] = {
                    "figure": f"accepted to {name} {label} at {events}/s", "value": value, "unit": "ms",
                    "peer": "bare commit to read", "peer_value": peer, "ratio": round(value / peer, 2),
                }  # fmt: skip
                if (label, events) == ("p99", 100):
                    figure |= {"aim": f"<= {AIMS_MS[name]:g}", "met": value <= AIMS_MS[name]}
                figures.append(figure)
        for words, seen in (("not seen", watched.visible), ("not told", told)):
            missing = len(watched.accepted.keys() - seen.keys())
            figures.append(
                {"figure": f"{words} at {events}/s of {sent}", "value": missing, "unit": "commands",
                 "aim": 0, "met": not missing}
            )  # fmt: skip
        print(f"{events} events/s: {sent} commands", flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"name": "freshness", "figures": figures, "runs": 1, "machine": machine}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Status.model_validate_json(Path(sys.argv[1]).read_text())))))
