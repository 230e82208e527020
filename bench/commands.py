"""How many commands a second each way in takes, beside the rate at which bare asyncpg commits the same rows.

Each client has accounts, devices and recipients of its own, and sends its next RequestShare (which turns
scripting on or off, so that each makes an event) when the last one is answered. The peers, in the same run:

- commands: asyncpg with prepared statements, one transaction for each command's rows, into tables that are
  copies of share-command's, with their indexes, from the same number of clients
- the relay on a backlog: aiokafka's producer (idempotent, acks=all), the same bytes and keys
- a bulk of 5,000 shares: single commands beside it, which must not wait for it

What limits a way in is told by the processor time that each process took during it.

Whoever follows what was decided (projector, notifier, gateway) is held still while HTTP, Kafka, the bare rows
and the relay are measured, since nobody follows the bare rows either: the two cores are for those compared.
"beside all others" are the same figures with everything running; GraphQL is always so.

    ./latchkey bench commands
"""

import asyncio
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import uvloop
from _load import BULK_DEVICES, CLIENTS, Bench, Client, Http, Run, Send

from devstack.status import Status
from servicekit.kafka import Admin, Producer

BACKLOG = 40_000
BACKLOG_KEYS = 1_000
BULK_RECIPIENTS = 50
RELAY_TOPIC = "bench.relay"
BARE_SCHEMA = "bench_bare"


class BareRows:
    """Commits what one command writes, and nothing else: it reads, decides and locks nothing."""

    # Table, what it does with a row, and the columns that differ from command to command.
    _WRITES = (
        ("command", "insert", ("command_id",)),
        ("contact_book", "update", ("owner_account_id", "contact_id")),
        ("device_stream", "update", ("device_id",)),
        ("share", "update", ("share_id",)),
        ("event", "insert", ("device_id", "version", "event_id")),
        ("outbox", "insert", ()),
    )

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._open: dict[str, tuple[Any, list[tuple[Any, dict[str, Any]]]]] = {}

    async def prepare(self) -> None:
        """Make the copies, with the rows that each client's first command would have found there."""
        connection = await asyncpg.connect(self._bench.dsn)
        await connection.execute(f"drop schema if exists {BARE_SCHEMA} cascade; create schema {BARE_SCHEMA}")
        for table, does, _ in self._WRITES:
            await connection.execute(
                f"create table {BARE_SCHEMA}.{table} (like share_command.{table} including all)"
            )
            if does == "update":
                await connection.execute(
                    f"insert into {BARE_SCHEMA}.{table} select * from share_command.{table}"
                )
        await connection.close()

    async def open(self, client: Client) -> None:
        """A connection of the client's own, with prepared statements and the rows of its last command."""
        connection = await asyncpg.connect(self._bench.dsn, server_settings={"search_path": "share_command"})
        event = await connection.fetchrow(
            "select * from event where device_id = $1 order by version desc limit 1", client.device
        )
        share = await connection.fetchrow("select * from share where device_id = $1", client.device)
        assert event is not None, "the client's commands come first"
        assert share is not None
        value = json.loads(event["envelope"])
        rows: dict[str, Any] = {
            "command": await connection.fetchrow(
                "select * from command where command_id = $1", event["command_id"]
            ),
            "contact_book": await connection.fetchrow(
                "select * from contact_book where owner_account_id = $1", client.account
            ),
            "device_stream": await connection.fetchrow(
                "select * from device_stream where device_id = $1", client.device
            ),
            "share": share,
            "event": event,
            "outbox": {"topic": RELAY_TOPIC, "key": client.device, "value": json.dumps(value).encode(),
                       "correlation_id": uuid4().hex},
        }  # fmt: skip
        statements: list[tuple[Any, dict[str, Any]]] = []
        for table, does, keys in self._WRITES:
            row = dict(rows[table])
            marks = {name: f"${place}" for place, name in enumerate(row, 1)}
            if does == "insert":
                values = ", ".join(marks.values())
                text = f"insert into {BARE_SCHEMA}.{table} ({', '.join(row)}) values ({values})"
            else:
                changed = ", ".join(f"{name} = {mark}" for name, mark in marks.items() if name not in keys)
                found = " and ".join(f"{name} = {marks[name]}" for name in keys)
                text = f"update {BARE_SCHEMA}.{table} set {changed} where {found}"
            statements.append((await connection.prepare(text), row))
        self._open[client.device] = connection, statements

    async def close(self) -> None:
        """Let the connections go."""
        for connection, _ in self._open.values():
            await connection.close()

    async def commit(self, client: Client, number: int) -> None:
        """One transaction."""
        connection, statements = self._open[client.device]
        async with connection.transaction():
            for statement, row in statements:
                if "event_id" in row:
                    row |= {"event_id": uuid4(), "version": row["version"] + 1}
                elif "received_at" in row:
                    row["command_id"] = str(uuid4())
                elif "version" in row:
                    row["version"] += 1
                await statement.fetch(*row.values())


async def backlog(bench: Bench) -> tuple[float, float, float]:
    """Events a second of the relay on a backlog, and of a bare producer with small and with large batches."""
    await Admin(bench.bootstrap).provision([(RELAY_TOPIC, 24, {}), (f"{RELAY_TOPIC}.bare", 24, {})])
    connection = await asyncpg.connect(bench.dsn)
    value = await connection.fetchval("select envelope::text from share_command.event limit 1")
    rows = [
        (RELAY_TOPIC, f"bench-{number % BACKLOG_KEYS:05}", value.encode(), uuid4().hex)
        for number in range(BACKLOG)
    ]

    async def relayed() -> float:
        async with connection.transaction():
            await connection.copy_records_to_table(
                "outbox", schema_name="share_command", records=rows,
                columns=("topic", "key", "value", "correlation_id"),
            )  # fmt: skip
        begin = time.perf_counter()
        await connection.execute("notify share_command_outbox")
        while await connection.fetchval(  # noqa: ASYNC110 - the relay is another process
            "select exists (select from share_command.outbox where topic = $1)", RELAY_TOPIC
        ):
            await asyncio.sleep(0.02)
        return BACKLOG / (time.perf_counter() - begin)

    async def bare(batch_bytes: int) -> float:
        async with Producer(bench.bootstrap, "bench", batch_bytes=batch_bytes) as producer:
            await producer.send(f"{RELAY_TOPIC}.bare", "k", b"")
            begin = time.perf_counter()
            acks = [
                await producer.enqueue(f"{RELAY_TOPIC}.bare", key, value, [("correlation_id", text.encode())])
                for _, key, value, text in rows
            ]
            await asyncio.gather(*acks)
            return BACKLOG / (time.perf_counter() - begin)

    laps = [(await relayed(), await bare(16_384), await bare(131_072)) for _ in range(3)]
    await connection.close()
    ours, small, large = (statistics.median(lap[place] for lap in laps) for place in range(3))
    return ours, small, large


async def bulk(bench: Bench, name: str) -> tuple[float, Run]:
    """Seconds of 5,000 shares in one bulk with people of its own, and the single commands beside it."""
    body = {
        "operation_id": f"bench-{bench.run}-{name}",
        "device_ids": [f"bench-{bench.run}-b{number}" for number in range(BULK_DEVICES)],
        "recipients": [f"b{number}-{name}-{bench.run}@bench.test" for number in range(BULK_RECIPIENTS)],
        "permissions": "all",
        "notify": False,
    }
    connection = await Http.open(bench.status.addresses["share-command"])
    client = bench.clients[0]
    done = asyncio.Event()
    taken: list[float] = []

    async def singles() -> None:
        for number in itertools.count():
            asked = time.perf_counter()
            await bench.by_http(client, number)
            if done.is_set():
                return
            taken.append(time.perf_counter() - asked)
            await asyncio.sleep(0.01)

    beside = asyncio.create_task(singles())
    begin = time.perf_counter()
    before = bench.processes()
    try:
        answer = await connection.post("/v1/bulk-shares", bench.internal(f"bench-{bench.run}-bulk"), body)
    finally:
        done.set()
        await beside
    seconds = time.perf_counter() - begin
    after = bench.processes()
    if len(answer["positions"]) != BULK_DEVICES:
        raise RuntimeError(f"The bulk did {len(answer['positions'])} of {BULK_DEVICES} devices.")
    return seconds, Run(0, taken, {name: (after[name] - before.get(name, 0)) / seconds for name in after})


def figure(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """One figure of the last line."""
    return {"figure": name, "value": round(value, 2), "unit": unit, **more}


def limits(name: str, run: Run) -> list[dict[str, Any]]:
    """The processor time of the processes that took most, which is what limits a measurement."""
    print(f"{name}: cores taken: {run.busiest()}", flush=True)
    ordered = sorted(run.cores.items(), key=lambda item: -item[1])[:4]
    return [figure(f"{name}: processor of {process}", share, "cores") for process, share in ordered]


async def main(status: Status) -> dict[str, Any]:
    """Run all; returns the result line."""
    bench = Bench(status)
    await bench.provision()
    figures: list[dict[str, Any]] = []
    runs: dict[tuple[str, int], Run] = {}

    async def take(
        way: str, send: Send, clients: Sequence[Client] = bench.clients, counts: Sequence[int] = CLIENTS
    ) -> None:
        for count in counts:
            runs[way, count] = await bench.measured(count, clients, send)
            await bench.settled()

    async with bench.http("portal"):
        await take("GraphQL", bench.by_graphql)
    async with bench.http("share-command"):
        await take("HTTP beside all others", bench.by_http, counts=CLIENTS[-1:])
    async with bench.kafka() as send:
        await take("Kafka beside all others", send, counts=CLIENTS[-1:])
    with bench.without_followers():
        async with bench.http("share-command"):
            await take("HTTP", bench.by_http)
        async with bench.kafka() as send:
            await take("Kafka", send)
        bare = BareRows(bench)
        await bare.prepare()
        few = bench.clients[: max(CLIENTS)]
        for client in few:
            await bare.open(client)
        await take("bare rows", bare.commit, few)
        await bare.close()
        ours, small, large = await backlog(bench)
        async with bench.http("share-command"):
            seconds, beside = await bulk(bench, "alone")
    async with bench.http("share-command"):
        seconds_beside_all, beside_all = await bulk(bench, "beside")
    for (way, count), run in runs.items():
        name = f"{way}, {count} clients" if count > 1 else f"{way}, 1 client"
        peer = runs["bare rows", count].rate
        aim = {"HTTP": 0.25, "Kafka": 0.5}.get(way) if count > 1 else None
        more: dict[str, Any] = {
            "peer": "bare asyncpg",
            "peer_value": round(peer, 1),
            "ratio": run.rate / peer,
        }
        if aim is not None:
            more |= {"aim": f"ratio >= {aim}", "met": run.rate / peer >= aim}
        figures.append(figure(name, run.rate, "commands/s", **(more if way != "bare rows" else {})))
        figures += [
            figure(f"{name} {label}", run.ms(share), "ms") for label, share in (("p50", 0.5), ("p99", 0.99))
        ]
        figures += limits(name, run)
    peer = max(small, large)
    figures.append(
        figure("relay, backlog", ours, "events/s", peer="bare aiokafka", peer_value=round(peer),
               ratio=ours / peer, aim="ratio >= 0.8", met=ours / peer >= 0.8)
    )  # fmt: skip
    figures.append(figure("bare aiokafka, batches of 16 KiB", small, "events/s"))
    figures.append(figure("bare aiokafka, batches of 128 KiB", large, "events/s"))
    figures.append(figure("bulk of 5,000 shares beside all others", seconds_beside_all, "s"))
    figures.append(figure("single commands beside that p99", beside_all.ms(0.99), "ms"))
    figures.append(figure("bulk of 5,000 shares", seconds, "s", aim="< 3", met=seconds < 3))
    figures.append(
        figure("single commands beside it p99", beside.ms(0.99), "ms", aim="< 100", met=beside.ms(0.99) < 100)
    )
    figures += limits("bulk", beside)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"name": "commands", "figures": figures, "runs": 1, "machine": machine}


if __name__ == "__main__":
    result = uvloop.run(main(Status.model_validate_json(Path(sys.argv[1]).read_text())))
    print(json.dumps(result))
